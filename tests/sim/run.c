#include "sim/run.h"

#include <stdlib.h>

#include "sim/check.h"
#include "sim/workload.h"

#define SETTLE_MAX_US  ((uint64_t)3600000000) /* virtual: backed-off fetches and entries from the future included */
#define SETTLE_LOOK_US ((uint64_t)1000000)
#define LEAP_AFTER_US  ((uint64_t)20000000)
#define LEAP_US        ((uint64_t)700000000) /* beyond KV_FUTURE_US, for entries of clocks that were 20 minutes ahead */

static void start_all(struct sim_cluster *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        c->nodes[i].down_until_us = sim_now(&c->queue) + sim_skewed(&c->queue, 5000000);
    }
}

static void work(struct sim_cluster *c)
{
    uint64_t operations = sim_between(&c->queue, 60, 200);
    if (c->options->operations != 0) operations = c->options->operations;
    for (uint64_t i = 0; i < operations; i++) {
        sim_cluster_pass(c, sim_skewed(&c->queue, 2000000));
        sim_restart_due(c);
        if (sim_chance(&c->queue, 300000)) sim_fault_step(c);
        sim_workload_step(c);
    }
}

static bool refuses_entries(const struct sim_cluster *c)
{
    struct hkv_status s;
    for (unsigned i = 0; i < c->count; i++)
        if (c->nodes[i].store != NULL && hkv_status(c->nodes[i].store, &s) == HKV_OK && s.entries_refused > 0)
            return true;
    return false;
}

/* Ten minutes of sessions that wait for an entry to be due are the most expensive part of a life and the dullest: few
 * seeds live through them, in the others the wall clocks leap. */
static void settle(struct sim_cluster *c)
{
    char why[200];
    uint64_t begun_us = sim_now(&c->queue);
    bool may_leap = !sim_chance(&c->queue, 100000);
    for (unsigned i = 0; i < c->count; i++)
        if (c->nodes[i].store != NULL) sim_check_stored(&c->nodes[i], false);
    sim_check_wait(&c->nodes[sim_below(&c->queue, c->count)], false);
    while (sim_cluster_pass(c, SETTLE_LOOK_US), !sim_converged(c, why, sizeof why)) {
        sim_say(c, "not yet: %s", why);
        sim_restart_due(c);
        uint64_t waited_us = sim_now(&c->queue) - begun_us;
        if (may_leap && waited_us > LEAP_AFTER_US && refuses_entries(c)) {
            sim_say(c, "entries wait for their time: all wall clocks leap");
            sim_wall_leap(&c->queue, LEAP_US);
            may_leap = false;
        }
        if (waited_us <= SETTLE_MAX_US) continue;
        sim_tell_differences(c);
        sim_fail(c, "not equal after an hour of calm: %s", why);
    }
}

/* What all have, all have for good. */
static void power_cut_everywhere(struct sim_cluster *c)
{
    if ((c->options->faults >> SIM_FAULT_CRASH & 1) == 0) return;
    for (unsigned i = 0; i < c->count; i++) sim_node_crash(&c->nodes[i]);
    sim_fault_end(c);
    sim_cluster_pass(c, 1000000);
    sim_check_end(c);
}

void sim_run(const struct sim_options *options, struct sim_result *result)
{
    struct sim_cluster *c = calloc(1, sizeof *c);
    if (c == NULL) abort();
    sim_cluster_init(c, options);
    start_all(c);
    work(c);
    uint64_t chaos_us = sim_now(&c->queue);
    sim_say(c, "calm");
    sim_fault_end(c);
    settle(c);
    result->settled_us = sim_now(&c->queue) - chaos_us;
    sim_say(c, "all nodes are equal");
    sim_check_wait(&c->nodes[sim_below(&c->queue, c->count)], true);
    for (unsigned i = 0; i < c->count; i++) sim_watch_resume(&c->nodes[i]);
    sim_cluster_pass(c, 60000000); /* the last expiry, the last event */
    sim_check_end(c);
    power_cut_everywhere(c);
    for (unsigned i = 0; i < c->count; i++) sim_node_close(&c->nodes[i]);
    result->marks = c->marks;
    result->events = c->queue.events_run;
    result->virtual_us = sim_now(&c->queue);
    result->writes = c->model.count;
    result->faults = c->fault_count;
    sim_trace_hash(&c->queue, &result->trace);
    sim_cluster_fini(c);
    free(c);
}
