/* Work that leaves the loop thread and comes back to it.
 *
 *   loop thread                      worker thread          thread of the store
 *   tasks_work(t) ──────────────────▶ t->run(t)
 *         t->done(t) ◀──────────────────┘
 *         t->done(t) ◀──────────────────────────────────────── tasks_post(t)
 *
 * The loop never waits: what can block is a task. A task is embedded in what it works for and belongs to this module
 * from the call until `done`. There are TASKS_WORKERS_MAX worker threads, started when first needed. Their queue needs
 * no limit of its own: each connection has a bounded number of requests running (CONN_CALLS_MAX). */
#ifndef SERVER_TASKS_H
#define SERVER_TASKS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#define TASKS_WORKERS_MAX 4

struct task {
    struct task *next;
    void (*run)(struct task *task);  /* on a worker */
    void (*done)(struct task *task); /* on the loop thread; may free the task */
};

struct task_list {
    struct task *head;
    struct task **tail;
};

struct tasks {
    uv_async_t wake;
    pthread_mutex_t lock;
    pthread_cond_t work_waits;
    struct task_list work;     /* under lock */
    struct task_list finished; /* under lock */
    pthread_t workers[TASKS_WORKERS_MAX];
    size_t worker_count;
    size_t idle_count;   /* under lock */
    size_t queued_count; /* under lock */
    bool stopping;       /* under lock */
    size_t working;      /* tasks given to tasks_work whose `done` has not run; loop thread */
};

/* 0, or a negative libuv error. */
int tasks_init(struct tasks *tasks, uv_loop_t *loop);

/* Runs task->run on a worker, then task->done on the loop thread. Loop thread only. */
void tasks_work(struct tasks *tasks, struct task *task);

/* Runs task->done on the loop thread, from any thread. */
void tasks_post(struct tasks *tasks, struct task *task);

/* Runs what waits for the loop thread now. Loop thread only, not from a `done`. */
void tasks_drain(struct tasks *tasks);

/* Joins the workers and closes the wake-up handle; nothing may be working any more. Call uv_run afterwards, so that the
 * handle closes. */
void tasks_fini(struct tasks *tasks);

#endif
