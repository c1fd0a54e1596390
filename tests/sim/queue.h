/* Virtual time: a heap of events ordered by (time, sequence), the seeded generator and the trace of one run.
 *
 * An event is due at a time and runs once: run(owner, arg). While it runs, sim_spend() adds what it takes; sim_now()
 * includes that. One thread, no global state: two queues are two worlds. */
#ifndef HKV_SIM_QUEUE_H
#define HKV_SIM_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/blake3.h"
#include "random.h"

#define SIM_NO_SLOT SIZE_MAX

typedef void (*sim_run_fn)(void *owner, void *arg);

struct sim_event {
    uint64_t due_us;
    uint64_t sequence;
    sim_run_fn run;
    void *owner;
    void *arg;
    size_t *slot; /* told where in the heap the event is, SIM_NO_SLOT once it is out; may be NULL */
};

struct sim_queue {
    uint64_t now_us;   /* when the present event began */
    uint64_t spent_us; /* by it */
    uint64_t sequence;
    uint64_t events_run;
    uint64_t wall_leap_us; /* the true wall clock has leapt so far ahead (sim_wall_leap) */
    struct sim_event *heap;
    size_t count;
    size_t cap;
    struct random random;
    struct blake3 trace;
    bool interrupted; /* sim_queue_interrupt() was called since sim_queue_run() began */
};

void sim_queue_init(struct sim_queue *q, uint64_t seed);
void sim_queue_fini(struct sim_queue *q);

static inline uint64_t sim_now(const struct sim_queue *q)
{
    return q->now_us + q->spent_us;
}

static inline void sim_spend(struct sim_queue *q, uint64_t us)
{
    q->spent_us += us;
}

/* Queues an event for a time; one in the past is due at once. No memory ends the program. */
void sim_at(struct sim_queue *q, uint64_t due_us, sim_run_fn run, void *owner, void *arg, size_t *slot);

/* Takes the event at a slot out, which becomes SIM_NO_SLOT. */
void sim_cancel(struct sim_queue *q, size_t slot);

/* Runs the next event, when there is one due by `until_us`. */
bool sim_step(struct sim_queue *q, uint64_t until_us);

/* Runs all events due by `until_us`, which is the time afterwards unless an event called sim_queue_interrupt(). What
 * the caller itself spent before counts as passed. */
void sim_queue_run(struct sim_queue *q, uint64_t until_us);
void sim_queue_interrupt(struct sim_queue *q);

/* Chance. below: 0 <= result < bound. between: both ends included. chance: true in `per_million` of a million. */
uint64_t sim_random(struct sim_queue *q);
uint64_t sim_below(struct sim_queue *q, uint64_t bound);
uint64_t sim_between(struct sim_queue *q, uint64_t from, uint64_t to);
bool sim_chance(struct sim_queue *q, uint32_t per_million);

/* Many small values and, rarely, one up to `max`: delays, sizes. */
uint64_t sim_skewed(struct sim_queue *q, uint64_t max);

/* The trace: what happened so far, as one hash. */
void sim_trace(struct sim_queue *q, const char *what, uint64_t a, uint64_t b);
void sim_trace_bytes(struct sim_queue *q, const char *what, struct slice bytes);
void sim_trace_hash(const struct sim_queue *q, struct hash *out);

#endif
