#include "sim/env.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FROZEN_RETRY_US 1000

static struct sim_env *of(struct env *env)
{
    return (struct sim_env *)(void *)env;
}

/* ---- clocks ---- */

static uint64_t wall_now_us(const struct sim_env *env)
{
    if (env->wall_stopped_us != 0) return env->wall_stopped_us;
    uint64_t now_us = sim_now(env->queue);
    int64_t drifted = (int64_t)(now_us - env->wall_drift_from_us) / 1000000 * env->wall_drift_ppm;
    int64_t us = (int64_t)sim_true_wall_us(env->queue) + drifted + env->wall_offset_us;
    return us > 0 ? (uint64_t)us : 1; /* nothing shows a time before 1970 */
}

static uint64_t mono_begin_us(const struct sim_env *env)
{
    return 3600000000u + (uint64_t)env->node * 1000003u;
}

static uint64_t wall_us(struct env *e)
{
    struct sim_env *env = of(e);
    uint64_t us = wall_now_us(env);
    if (us > env->wall_max_us) env->wall_max_us = us;
    return us;
}

/* What one event spends ends before another node's begins: the floor keeps this clock from stepping back then. */
static uint64_t mono_us(struct env *e)
{
    struct sim_env *env = of(e);
    uint64_t us = mono_begin_us(env) + sim_now(env->queue);
    if (us > env->mono_floor_us) env->mono_floor_us = us;
    return env->mono_floor_us;
}

/* Folds what the drift did so far into the offset. */
static void clock_settle(struct sim_env *env)
{
    uint64_t shown = wall_now_us(env);
    env->wall_stopped_us = 0;
    env->wall_drift_ppm = 0;
    env->wall_drift_from_us = sim_now(env->queue);
    env->wall_offset_us = (int64_t)(shown - sim_true_wall_us(env->queue));
}

void sim_clock_right(struct sim_env *env)
{
    clock_settle(env);
    env->wall_offset_us = 0;
}

void sim_clock_step(struct sim_env *env, int64_t by_us)
{
    clock_settle(env);
    env->wall_offset_us += by_us;
}

void sim_clock_set(struct sim_env *env, uint64_t us)
{
    clock_settle(env);
    env->wall_offset_us = (int64_t)(us - sim_true_wall_us(env->queue));
}

void sim_clock_stop(struct sim_env *env)
{
    clock_settle(env);
    env->wall_stopped_us = wall_now_us(env);
}

void sim_clock_drift(struct sim_env *env, int32_t ppm)
{
    clock_settle(env);
    env->wall_drift_ppm = ppm;
}

static void env_draw(struct env *e, void *out, size_t len)
{
    random_fill(&of(e)->random, out, len);
}

/* ---- turns ---- */

struct turn {
    struct turn *next; /* of its thread */
    struct sim_env *env;
    enum env_thread thread;
    uint64_t due_us;
    sim_run_fn run; /* on the network thread; NULL: a job */
    void *owner;
    void *arg; /* or the job */
};

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* When a thread can go on; 0: now. */
static uint64_t wait_until_us(const struct sim_env *env, enum env_thread thread)
{
    uint64_t now_us = sim_now(env->queue);
    if (env->frozen) return now_us + FROZEN_RETRY_US;
    return env->busy_until_us[thread] > now_us ? env->busy_until_us[thread] : 0;
}

/* Runs it and frees it. What it takes keeps its thread busy; workers are many. */
static void turn_take(struct turn *turn)
{
    struct turn t = *turn;
    struct sim_env *env = t.env;
    free(turn);
    sim_trace(env->queue, "turn", env->node, t.thread);
    if (t.run != NULL) {
        t.run(t.owner, t.arg);
    } else {
        struct job *job = t.arg;
        env->on_callback_thread = t.thread == ENV_CALLBACK;
        job->run(job);
        env->on_callback_thread = false;
        env->jobs_waiting--;
    }
    if (t.thread != ENV_WORKER) env->busy_until_us[t.thread] = later(env->busy_until_us[t.thread], sim_now(env->queue));
}

/* One of its own: a worker's job, or something that happens on the network thread. */
static void turn_alone(void *owner, void *arg)
{
    struct turn *turn = owner;
    uint64_t until_us = wait_until_us(turn->env, turn->thread);
    (void)arg;
    if (until_us != 0)
        sim_at(turn->env->queue, until_us, turn_alone, turn, NULL, NULL);
    else
        turn_take(turn);
}

/* The next job of a thread that keeps their order. */
static void turn_of_thread(void *owner, void *arg)
{
    struct sim_env *env = owner;
    struct sim_thread *thread = arg;
    struct turn *turn = thread->first;
    uint64_t until_us = wait_until_us(env, turn->thread);
    if (until_us == 0) {
        thread->first = turn->next;
        if (thread->first == NULL) thread->last = &thread->first;
        turn_take(turn);
        if (thread->first == NULL) {
            thread->armed = false;
            return;
        }
        until_us = thread->first->due_us;
    }
    sim_at(env->queue, until_us, turn_of_thread, env, thread, NULL);
}

static struct turn *turn_new(struct sim_env *env, enum env_thread thread)
{
    struct turn *turn = calloc(1, sizeof *turn);
    if (turn == NULL) abort();
    turn->env = env;
    turn->thread = thread;
    return turn;
}

void sim_env_network_at(struct sim_env *env, uint64_t due_us, sim_run_fn run, void *owner, void *arg)
{
    struct turn *turn = turn_new(env, ENV_NETWORK);
    turn->run = run;
    turn->owner = owner;
    turn->arg = arg;
    sim_at(env->queue, due_us, turn_alone, turn, NULL, NULL);
}

static void run_on(struct env *e, enum env_thread which, struct job *job)
{
    struct sim_env *env = of(e);
    struct sim_thread *thread = &env->threads[which];
    struct turn *turn = turn_new(env, which);
    turn->arg = job;
    turn->due_us = sim_now(env->queue) + sim_skewed(env->queue, env->job_delay_us);
    env->jobs_waiting++;
    if (which == ENV_WORKER) {
        sim_at(env->queue, turn->due_us, turn_alone, turn, NULL, NULL);
        return;
    }
    *thread->last = turn;
    thread->last = &turn->next;
    if (!thread->armed) sim_at(env->queue, turn->due_us, turn_of_thread, env, thread, NULL);
    thread->armed = true;
}

/* ---- timers: `slot` of an unset one is not looked at ---- */

static void timer_fired(void *owner, void *arg)
{
    struct env_timer *timer = arg;
    struct sim_env *env = owner;
    uint64_t until_us = wait_until_us(env, ENV_NETWORK);
    if (until_us != 0) {
        sim_at(env->queue, until_us, timer_fired, env, timer, &timer->slot);
        return;
    }
    timer->due_us = 0;
    sim_trace(env->queue, "timer", env->node, 0);
    timer->fire(timer);
    env->busy_until_us[ENV_NETWORK] = later(env->busy_until_us[ENV_NETWORK], sim_now(env->queue));
}

static void timer_cancel(struct env *e, struct env_timer *timer)
{
    if (timer->due_us == 0) return;
    sim_cancel(of(e)->queue, timer->slot);
    timer->due_us = 0;
}

static void timer_set(struct env *e, struct env_timer *timer, uint64_t due_us)
{
    struct sim_env *env = of(e);
    timer_cancel(e, timer);
    timer->due_us = due_us == 0 ? 1 : due_us;
    uint64_t begin_us = mono_begin_us(env); /* what the clock showed at virtual time 0 */
    sim_at(env->queue, due_us > begin_us ? due_us - begin_us : 0, timer_fired, env, timer, &timer->slot);
}

/* ---- the whole ---- */

void sim_env_freeze(struct sim_env *env)
{
    env->frozen = true;
}

void sim_env_thaw(struct sim_env *env)
{
    env->frozen = false;
}

void sim_env_init(struct sim_env *env, struct sim_queue *queue, unsigned node)
{
    static const struct env_ops ops = {
        .wall_us = wall_us,
        .mono_us = mono_us,
        .random = env_draw,
        .timer_set = timer_set,
        .timer_cancel = timer_cancel,
        .run_on = run_on,
    };
    memset(env, 0, sizeof *env);
    env->env.ops = &ops;
    env->queue = queue;
    env->node = node;
    env->job_delay_us = 200;
    env->random.state = sim_random(queue);
    for (int i = 0; i < SIM_THREADS; i++) env->threads[i].last = &env->threads[i].first;
}
