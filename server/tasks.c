#include "server/tasks.h"

#include <assert.h>

static void list_init(struct task_list *list)
{
    list->head = NULL;
    list->tail = &list->head;
}

static void list_push(struct task_list *list, struct task *task)
{
    task->next = NULL;
    *list->tail = task;
    list->tail = &task->next;
}

static struct task *list_pop(struct task_list *list)
{
    struct task *task = list->head;
    if (!task) return NULL;
    list->head = task->next;
    if (!list->head) list->tail = &list->head;
    return task;
}

static void *worker_main(void *arg)
{
    struct tasks *tasks = arg;
    pthread_mutex_lock(&tasks->lock);
    for (;;) {
        struct task *task = list_pop(&tasks->work);
        if (task) {
            tasks->queued_count--;
            pthread_mutex_unlock(&tasks->lock);
            task->run(task);
            tasks_post(tasks, task);
            pthread_mutex_lock(&tasks->lock);
            continue;
        }
        if (tasks->stopping) break;
        tasks->idle_count++;
        pthread_cond_wait(&tasks->work_waits, &tasks->lock);
        tasks->idle_count--;
    }
    pthread_mutex_unlock(&tasks->lock);
    return NULL;
}

void tasks_drain(struct tasks *tasks)
{
    pthread_mutex_lock(&tasks->lock);
    struct task *task = tasks->finished.head;
    list_init(&tasks->finished);
    pthread_mutex_unlock(&tasks->lock);
    while (task) {
        struct task *next = task->next;
        if (task->run) tasks->working--;
        task->done(task);
        task = next;
    }
}

static void on_wake(uv_async_t *wake)
{
    tasks_drain(wake->data);
}

int tasks_init(struct tasks *tasks, uv_loop_t *loop)
{
    *tasks = (struct tasks){0};
    int status = uv_async_init(loop, &tasks->wake, on_wake);
    if (status < 0) return status;
    tasks->wake.data = tasks;
    pthread_mutex_init(&tasks->lock, NULL);
    pthread_cond_init(&tasks->work_waits, NULL);
    list_init(&tasks->work);
    list_init(&tasks->finished);
    return 0;
}

void tasks_work(struct tasks *tasks, struct task *task)
{
    assert(task->run && task->done);
    tasks->working++;
    pthread_mutex_lock(&tasks->lock);
    list_push(&tasks->work, task);
    tasks->queued_count++;
    bool start_worker = tasks->idle_count < tasks->queued_count && tasks->worker_count < TASKS_WORKERS_MAX;
    pthread_cond_signal(&tasks->work_waits);
    pthread_mutex_unlock(&tasks->lock);
    if (start_worker && pthread_create(&tasks->workers[tasks->worker_count], NULL, worker_main, tasks) == 0)
        tasks->worker_count++;
    if (tasks->worker_count > 0) return;

    /* Not a single thread could be made: better slow than never. */
    pthread_mutex_lock(&tasks->lock);
    struct task *queued = list_pop(&tasks->work);
    tasks->queued_count--;
    pthread_mutex_unlock(&tasks->lock);
    queued->run(queued);
    tasks_post(tasks, queued);
}

void tasks_post(struct tasks *tasks, struct task *task)
{
    pthread_mutex_lock(&tasks->lock);
    list_push(&tasks->finished, task);
    pthread_mutex_unlock(&tasks->lock);
    uv_async_send(&tasks->wake);
}

void tasks_fini(struct tasks *tasks)
{
    assert(tasks->working == 0);
    pthread_mutex_lock(&tasks->lock);
    tasks->stopping = true;
    pthread_cond_broadcast(&tasks->work_waits);
    pthread_mutex_unlock(&tasks->lock);
    for (size_t i = 0; i < tasks->worker_count; i++) pthread_join(tasks->workers[i], NULL);
    uv_close((uv_handle_t *)&tasks->wake, NULL);
    pthread_cond_destroy(&tasks->work_waits);
    pthread_mutex_destroy(&tasks->lock);
}
