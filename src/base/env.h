/* The outside world as the cores see it: clocks, random bytes, timers, and the threads that run jobs. A test or the
 * simulator puts its own in place (docs: architecture.md 3). src/node implements the real one.
 *
 * Jobs are intrusive: whoever queues one owns its memory until `run` is called, and `run` may free it. A job runs
 * exactly once. Queueing never fails and never waits. */
#ifndef HKV_BASE_ENV_H
#define HKV_BASE_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct env;

struct job {
    void (*run)(struct job *job);
    struct job *next; /* of the queue that holds it */
};

/* A timer of the network thread. `heap` fields belong to the implementation. */
struct env_timer {
    void (*fire)(struct env_timer *timer);
    uint64_t due_us; /* monotonic; 0 while not set */
    uint64_t sequence;
    size_t slot;
};

enum env_thread {
    ENV_NETWORK,  /* protocol sessions, timers; never touches the disk, never waits */
    ENV_REPLICA,  /* owner of the store's write connection */
    ENV_WORKER,   /* any of the workers: signatures, hashing, value files */
    ENV_CALLBACK, /* the one thread that runs callbacks of the application */
};

struct env_ops {
    uint64_t (*wall_us)(struct env *env);                   /* microseconds since the Unix epoch; may step */
    uint64_t (*mono_us)(struct env *env);                   /* microseconds, never steps back; any thread */
    void (*random)(struct env *env, void *out, size_t len); /* unpredictable bytes; any thread */
    void (*timer_set)(struct env *env, struct env_timer *timer, uint64_t due_us); /* network thread; moves a set one */
    void (*timer_cancel)(struct env *env, struct env_timer *timer);           /* network thread; fine when not set */
    void (*run_on)(struct env *env, enum env_thread thread, struct job *job); /* any thread */
};

struct env {
    const struct env_ops *ops;
};

static inline uint64_t env_wall_us(struct env *env)
{
    return env->ops->wall_us(env);
}

static inline uint64_t env_mono_us(struct env *env)
{
    return env->ops->mono_us(env);
}

static inline void env_random(struct env *env, void *out, size_t len)
{
    env->ops->random(env, out, len);
}

static inline void env_timer_set(struct env *env, struct env_timer *timer, uint64_t due_us)
{
    env->ops->timer_set(env, timer, due_us);
}

static inline void env_timer_cancel(struct env *env, struct env_timer *timer)
{
    env->ops->timer_cancel(env, timer);
}

static inline void env_run_on(struct env *env, enum env_thread thread, struct job *job)
{
    env->ops->run_on(env, thread, job);
}

#endif
