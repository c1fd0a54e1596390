/* server/tasks.h in one thread: what would run on a worker runs when the queue is drained, in order. For the fuzz
 * target. */
#include "server/tasks.h"

#include <stddef.h>

int tasks_init(struct tasks *tasks, uv_loop_t *loop)
{
    (void)loop;
    *tasks = (struct tasks){0};
    tasks->finished.tail = &tasks->finished.head;
    return 0;
}

void tasks_post(struct tasks *tasks, struct task *task)
{
    task->next = NULL;
    *tasks->finished.tail = task;
    tasks->finished.tail = &task->next;
}

void tasks_work(struct tasks *tasks, struct task *task)
{
    tasks_post(tasks, task);
}

void tasks_drain(struct tasks *tasks)
{
    struct task *task;
    while ((task = tasks->finished.head)) {
        tasks->finished.head = task->next;
        if (!tasks->finished.head) tasks->finished.tail = &tasks->finished.head;
        if (task->run) task->run(task);
        task->done(task);
    }
}

void tasks_fini(struct tasks *tasks)
{
    (void)tasks;
}
