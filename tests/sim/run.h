/* One run: nodes, workload and faults for a while, then calm, then the checks. */
#ifndef HKV_SIM_RUN_H
#define HKV_SIM_RUN_H

#include "base/ids.h"
#include "sim/mark.h"
#include "sim/options.h"

struct sim_result {
    struct sim_marks marks;
    struct hash trace;
    uint64_t events;
    uint64_t virtual_us;
    uint64_t settled_us; /* virtual time from the end of the faults to equal nodes */
    uint64_t writes;
    uint64_t faults;
};

/* Returns when all went well; a broken rule ends the process with status 1. */
void sim_run(const struct sim_options *options, struct sim_result *result);

#endif
