/* A damaged page of a database. What it holds is refused for good, and the remedy is an operator's (docs/store.md), so
 * it is not done to the nodes themselves: a copy of a stopped node's disk gets the flipped bit and lives for a moment
 * without a network. What it answers is what a sound copy answers, or a refusal that names the file. Driver only. */
#ifndef HKV_SIM_TWIN_H
#define HKV_SIM_TWIN_H

#include "sim/cluster.h"

/* The node is closed. */
void sim_twin_check(struct sim_node *node);

#endif
