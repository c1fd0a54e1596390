/* The real world behind struct env: the threads of an open store, their job queues, the clocks, and the timers of the
 * network thread.
 *
 *   callers ──jobs──▶ replica thread (1)     ENV_REPLICA
 *                     network thread (1)     ENV_NETWORK    a libuv loop: sockets, timers, jobs by uv_async
 *                     workers (2 to 8)       ENV_WORKER
 *                     callback thread (1)    ENV_CALLBACK
 *
 * Jobs of one thread run in the order they were queued (workers: begin in that order). runtime_stop() lets every job
 * that is queued run, including those that they queue themselves, before the threads end. */
#ifndef HKV_NODE_RUNTIME_H
#define HKV_NODE_RUNTIME_H

#include <pthread.h>
#include <uv.h>

#include "base/env.h"
#include "base/error.h"

#define RUNTIME_WORKERS_MIN 2
#define RUNTIME_WORKERS_MAX 8

struct job_queue {
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct job *first;
    struct job **last;
    bool stopping;
};

struct runtime {
    struct env env; /* first: the env pointer is the runtime pointer */
    struct job_queue replica;
    struct job_queue worker;
    struct job_queue callback;
    struct job_queue network; /* drained by `wake` on the loop */
    pthread_t replica_thread;
    pthread_t network_thread;
    pthread_t callback_thread;
    pthread_t workers[RUNTIME_WORKERS_MAX];
    unsigned worker_count;
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t clock;          /* due with the first of `timers` */
    struct env_timer **timers; /* binary heap by (due, sequence) */
    size_t timer_count;
    size_t timer_cap;
    uint64_t timer_sequence;
    uint64_t clock_due_us;
};

/* Sets up queues and loop; no thread runs yet, jobs may be queued. Errors: HKV_E_NOMEM, HKV_E_INTERNAL. */
HKV_CHECK enum hkv_err runtime_init(struct runtime *r);

/* Starts the threads. On error none runs. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err runtime_start(struct runtime *r);

/* Ends the threads one kind after the other: network (its loop must have no active handle but the runtime's own),
 * workers and replica, callbacks. Not from one of them. Fine when never started. */
void runtime_stop(struct runtime *r);

void runtime_fini(struct runtime *r);

/* Whether the calling thread is the callback thread. */
bool runtime_on_callback_thread(const struct runtime *r);

#endif
