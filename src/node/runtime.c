#include "node/runtime.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define THREAD_STACK_BYTES ((size_t)2 << 20)

static uint64_t clock_us(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t real_wall_us(struct env *env)
{
    (void)env;
    return clock_us(CLOCK_REALTIME);
}

static uint64_t real_mono_us(struct env *env)
{
    (void)env;
    return clock_us(CLOCK_MONOTONIC);
}

static void real_random(struct env *env, void *out, size_t len)
{
    (void)env;
    uint8_t *at = out;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0) {
            assert(errno == EINTR);
            continue;
        }
        at += n;
        len -= (size_t)n;
    }
}

/* ------------------------------------------------------------------------------------------ timers (network thread) */

static bool timer_before(const struct env_timer *a, const struct env_timer *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->sequence < b->sequence;
}

static void timer_place(struct runtime *r, struct env_timer *timer, size_t slot)
{
    r->timers[slot] = timer;
    timer->slot = slot;
}

static void timer_sift(struct runtime *r, struct env_timer *timer, size_t slot)
{
    while (slot > 0 && timer_before(timer, r->timers[(slot - 1) / 2])) {
        timer_place(r, r->timers[(slot - 1) / 2], slot);
        slot = (slot - 1) / 2;
    }
    for (;;) {
        size_t child = slot * 2 + 1;
        if (child >= r->timer_count) break;
        if (child + 1 < r->timer_count && timer_before(r->timers[child + 1], r->timers[child])) child++;
        if (!timer_before(r->timers[child], timer)) break;
        timer_place(r, r->timers[child], slot);
        slot = child;
    }
    timer_place(r, timer, slot);
}

static void timer_remove(struct runtime *r, struct env_timer *timer)
{
    size_t slot = timer->slot;
    struct env_timer *last = r->timers[--r->timer_count];
    timer->due_us = 0;
    if (last != timer) timer_sift(r, last, slot);
}

static void clock_fired(uv_timer_t *clock);

static void clock_arm(struct runtime *r)
{
    if (r->timer_count == 0) {
        if (r->clock_due_us != 0) (void)uv_timer_stop(&r->clock);
        r->clock_due_us = 0;
        return;
    }
    uint64_t due = r->timers[0]->due_us;
    if (due == r->clock_due_us) return;
    uint64_t now = clock_us(CLOCK_MONOTONIC);
    uv_update_time(&r->loop);
    (void)uv_timer_start(&r->clock, clock_fired, due > now ? (due - now + 999) / 1000 : 0, 0);
    r->clock_due_us = due;
}

static void clock_fired(uv_timer_t *clock)
{
    struct runtime *r = clock->data;
    uint64_t now = clock_us(CLOCK_MONOTONIC), sequence_end = r->timer_sequence;
    r->clock_due_us = 0;
    /* Timers that are set while these run wait for the next turn, even when they are due at once. */
    while (r->timer_count > 0 && r->timers[0]->due_us <= now && r->timers[0]->sequence < sequence_end) {
        struct env_timer *timer = r->timers[0];
        timer_remove(r, timer);
        timer->fire(timer);
    }
    clock_arm(r);
}

static void real_timer_cancel(struct env *env, struct env_timer *timer)
{
    struct runtime *r = (struct runtime *)(void *)env;
    if (timer->due_us == 0) return;
    timer_remove(r, timer);
    clock_arm(r);
}

static void real_timer_set(struct env *env, struct env_timer *timer, uint64_t due_us)
{
    struct runtime *r = (struct runtime *)(void *)env;
    if (timer->due_us != 0) timer_remove(r, timer);
    if (r->timer_count == r->timer_cap) {
        size_t cap = r->timer_cap == 0 ? 64 : r->timer_cap * 2;
        struct env_timer **timers = realloc(r->timers, cap * sizeof(struct env_timer *));
        if (timers == NULL) abort(); /* a lost timer is a hang; 8 bytes a timer do not fail in practice */
        r->timers = timers;
        r->timer_cap = cap;
    }
    timer->due_us = due_us == 0 ? 1 : due_us;
    timer->sequence = r->timer_sequence++;
    timer_sift(r, timer, r->timer_count++);
    clock_arm(r);
}

/* ------------------------------------------------------------------------------------------ queues */

static void queue_init(struct job_queue *q)
{
    (void)pthread_mutex_init(&q->lock, NULL);
    (void)pthread_cond_init(&q->some, NULL);
    q->first = NULL;
    q->last = &q->first;
    q->stopping = false;
}

static void queue_fini(struct job_queue *q)
{
    assert(q->first == NULL);
    (void)pthread_cond_destroy(&q->some);
    (void)pthread_mutex_destroy(&q->lock);
}

/* True when the queue was empty before. */
static bool queue_push(struct job_queue *q, struct job *job)
{
    job->next = NULL;
    (void)pthread_mutex_lock(&q->lock);
    bool was_empty = q->first == NULL;
    *q->last = job;
    q->last = &job->next;
    (void)pthread_mutex_unlock(&q->lock);
    (void)pthread_cond_signal(&q->some); /* who wakes finds the lock free */
    return was_empty;
}

/* The next job; NULL when the queue is empty and is being stopped. */
static struct job *queue_pop_wait(struct job_queue *q)
{
    (void)pthread_mutex_lock(&q->lock);
    while (q->first == NULL && !q->stopping) (void)pthread_cond_wait(&q->some, &q->lock);
    struct job *job = q->first;
    if (job != NULL) {
        q->first = job->next;
        if (q->first == NULL) q->last = &q->first;
    }
    (void)pthread_mutex_unlock(&q->lock);
    return job;
}

static struct job *queue_take_all(struct job_queue *q)
{
    (void)pthread_mutex_lock(&q->lock);
    struct job *jobs = q->first;
    q->first = NULL;
    q->last = &q->first;
    (void)pthread_mutex_unlock(&q->lock);
    return jobs;
}

static void queue_stop(struct job_queue *q)
{
    (void)pthread_mutex_lock(&q->lock);
    q->stopping = true;
    (void)pthread_cond_broadcast(&q->some);
    (void)pthread_mutex_unlock(&q->lock);
}

static void *queue_thread(void *arg)
{
    struct job_queue *q = arg;
    struct job *job;
    while ((job = queue_pop_wait(q)) != NULL) job->run(job);
    return NULL;
}

static void network_wake(uv_async_t *wake)
{
    struct runtime *r = wake->data;
    struct job *job = queue_take_all(&r->network), *next;
    for (; job != NULL; job = next) {
        next = job->next;
        job->run(job);
    }
    (void)pthread_mutex_lock(&r->network.lock);
    bool end = r->network.stopping && r->network.first == NULL;
    (void)pthread_mutex_unlock(&r->network.lock);
    if (end) {
        if (!uv_is_closing((uv_handle_t *)&r->wake)) uv_close((uv_handle_t *)&r->wake, NULL);
        if (!uv_is_closing((uv_handle_t *)&r->clock)) uv_close((uv_handle_t *)&r->clock, NULL);
    }
}

static void *network_thread(void *arg)
{
    struct runtime *r = arg;
    (void)uv_run(&r->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void real_run_on(struct env *env, enum env_thread thread, struct job *job)
{
    struct runtime *r = (struct runtime *)(void *)env;
    switch (thread) {
    case ENV_REPLICA:
        (void)queue_push(&r->replica, job);
        return;
    case ENV_WORKER:
        (void)queue_push(&r->worker, job);
        return;
    case ENV_CALLBACK:
        (void)queue_push(&r->callback, job);
        return;
    case ENV_NETWORK:
        if (queue_push(&r->network, job)) (void)uv_async_send(&r->wake);
        return;
    }
}

static const struct env_ops real_ops = {
    .wall_us = real_wall_us,
    .mono_us = real_mono_us,
    .random = real_random,
    .timer_set = real_timer_set,
    .timer_cancel = real_timer_cancel,
    .run_on = real_run_on,
};

/* ------------------------------------------------------------------------------------------ life cycle */

enum hkv_err runtime_init(struct runtime *r)
{
    memset(r, 0, sizeof *r);
    r->env.ops = &real_ops;
    int rc = uv_loop_init(&r->loop);
    if (rc != 0) return error_set(HKV_E_INTERNAL, "no event loop: %s", uv_strerror(rc));
    rc = uv_async_init(&r->loop, &r->wake, network_wake);
    if (rc != 0) {
        (void)uv_loop_close(&r->loop);
        return error_set(HKV_E_INTERNAL, "no event loop: %s", uv_strerror(rc));
    }
    (void)uv_timer_init(&r->loop, &r->clock);
    r->wake.data = r;
    r->clock.data = r;
    queue_init(&r->replica);
    queue_init(&r->worker);
    queue_init(&r->callback);
    queue_init(&r->network);
    return HKV_OK;
}

enum hkv_err runtime_start(struct runtime *r)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned wanted = cores < RUNTIME_WORKERS_MIN   ? RUNTIME_WORKERS_MIN
                      : cores > RUNTIME_WORKERS_MAX ? RUNTIME_WORKERS_MAX
                                                    : (unsigned)cores;
    pthread_attr_t small;
    (void)pthread_attr_init(&small);
    (void)pthread_attr_setstacksize(&small, THREAD_STACK_BYTES);
    unsigned started = 0;
    int rc = pthread_create(&r->callback_thread, &small, queue_thread, &r->callback);
    if (rc == 0 && ++started) rc = pthread_create(&r->replica_thread, &small, queue_thread, &r->replica);
    if (rc == 0 && ++started) rc = pthread_create(&r->network_thread, &small, network_thread, r);
    if (rc == 0) started++;
    while (rc == 0 && r->worker_count < wanted) {
        rc = pthread_create(&r->workers[r->worker_count], &small, queue_thread, &r->worker);
        if (rc == 0) r->worker_count++;
    }
    (void)pthread_attr_destroy(&small);
    if (rc == 0) return HKV_OK;
    queue_stop(&r->callback);
    queue_stop(&r->replica);
    queue_stop(&r->worker);
    queue_stop(&r->network);
    (void)uv_async_send(&r->wake);
    if (started > 0) (void)pthread_join(r->callback_thread, NULL);
    if (started > 1) (void)pthread_join(r->replica_thread, NULL);
    if (started > 2) (void)pthread_join(r->network_thread, NULL);
    for (unsigned i = 0; i < r->worker_count; i++) (void)pthread_join(r->workers[i], NULL);
    r->worker_count = 0;
    return error_set(HKV_E_NOMEM, "no thread could be started: %s", strerror(rc));
}

void runtime_stop(struct runtime *r)
{
    if (r->worker_count == 0) return;
    /* Workers and replica answer to the network thread, so they are drained first; what they still post to it runs
     * before it ends. */
    queue_stop(&r->worker);
    for (unsigned i = 0; i < r->worker_count; i++) (void)pthread_join(r->workers[i], NULL);
    queue_stop(&r->replica);
    (void)pthread_join(r->replica_thread, NULL);
    queue_stop(&r->network);
    (void)uv_async_send(&r->wake);
    (void)pthread_join(r->network_thread, NULL);
    queue_stop(&r->callback);
    (void)pthread_join(r->callback_thread, NULL);
    r->worker_count = 0;
}

void runtime_fini(struct runtime *r)
{
    if (!uv_is_closing((uv_handle_t *)&r->wake)) uv_close((uv_handle_t *)&r->wake, NULL);
    if (!uv_is_closing((uv_handle_t *)&r->clock)) uv_close((uv_handle_t *)&r->clock, NULL);
    (void)uv_run(&r->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&r->loop);
    assert(rc == 0);
    free(r->timers);
    queue_fini(&r->replica);
    queue_fini(&r->worker);
    queue_fini(&r->callback);
    queue_fini(&r->network);
}

bool runtime_on_callback_thread(const struct runtime *r)
{
    return r->worker_count > 0 && pthread_equal(pthread_self(), r->callback_thread);
}
