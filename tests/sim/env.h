/* One node's struct env over the queue: clocks that lie as told, timers, and four "threads" whose jobs keep their
 * order.
 *
 *   env_run_on(thread, job)   due after a small delay from the generator, never before the job queued last on the same
 *                             thread (workers: in any order), never while the thread is busy with what the disk took
 *
 * Frozen: the node does not get a turn; what is due waits. That is how the moment of a crash is held until the driver
 * can act on it, and how a machine that hangs for a while looks to its peers. */
#ifndef HKV_SIM_ENV_H
#define HKV_SIM_ENV_H

#include "base/env.h"
#include "sim/queue.h"

#define SIM_THREADS       4
#define SIM_WALL_START_US ((uint64_t)4102444800000000) /* 2100-01-01: later than any build */

struct turn;

struct sim_thread {
    struct turn *first; /* jobs in order */
    struct turn **last;
    bool armed; /* an event for the first of them is queued */
};

struct sim_env {
    struct env env; /* first */
    struct sim_queue *queue;
    unsigned node;         /* for the trace */
    uint32_t job_delay_us; /* at most, mostly much less */
    bool frozen;
    bool on_callback_thread; /* a job of ENV_CALLBACK runs */
    size_t jobs_waiting;
    struct sim_thread threads[SIM_THREADS];
    uint64_t busy_until_us[SIM_THREADS];
    uint64_t mono_floor_us;
    struct random random; /* what the node itself draws */

    /* Wall clock = virtual time * (1 + drift) + offset, or `stopped_us` while that is not 0. */
    int64_t wall_offset_us;
    int32_t wall_drift_ppm;
    uint64_t wall_drift_from_us; /* virtual time since which it drifts */
    uint64_t wall_stopped_us;
    uint64_t wall_max_us; /* latest time that it ever showed */
};

void sim_env_init(struct sim_env *env, struct sim_queue *queue, unsigned node);

/* What the true wall clock shows. */
static inline uint64_t sim_true_wall_us(const struct sim_queue *q)
{
    return SIM_WALL_START_US + sim_now(q) + q->wall_leap_us;
}

/* All wall clocks but those that stand still show so much more from now on, and no other time passes: what is due by
 * the wall clock is due without the sessions of the time between. */
static inline void sim_wall_leap(struct sim_queue *q, uint64_t by_us)
{
    q->wall_leap_us += by_us;
}

/* Clocks: right again; stepped by so much; standing still; running faster or slower by so many millionths. */
void sim_clock_right(struct sim_env *env);
void sim_clock_step(struct sim_env *env, int64_t by_us);
void sim_clock_set(struct sim_env *env, uint64_t wall_us);
void sim_clock_stop(struct sim_env *env);
void sim_clock_drift(struct sim_env *env, int32_t ppm);

/* Something happens on the node's network thread: run(owner, arg) at `due_us` or as soon as the thread can. */
void sim_env_network_at(struct sim_env *env, uint64_t due_us, sim_run_fn run, void *owner, void *arg);

/* No turn for this node until it is thawed. */
void sim_env_freeze(struct sim_env *env);
void sim_env_thaw(struct sim_env *env);

#endif
