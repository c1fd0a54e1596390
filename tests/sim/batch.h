/* Runs in processes of their own, so that a crash or an assertion is one seed's failure and nothing leaks from one run
 * into the next. */
#ifndef HKV_SIM_BATCH_H
#define HKV_SIM_BATCH_H

#include "sim/run.h"

struct sim_batch {
    struct sim_options options; /* of each run, but for the seed */
    uint64_t first;
    uint64_t last;
    unsigned jobs;      /* at a time */
    bool check_replay;  /* each seed twice */
    bool require_marks; /* a mark that no seed reached is a failure */
};

/* Prints a line for each failing seed, a table of marks, and "N passed, N failed" as the last line. The exit status. */
int sim_batch_run(const struct sim_batch *batch);

/* Makes a failing run smaller: fewer kinds of faults, fewer faults, nodes, keys and operations, as long as it fails.
 * Prints the command that repeats the smallest. The exit status. */
int sim_shrink(const struct sim_options *options);

#endif
