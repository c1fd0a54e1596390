/* What must hold: at any moment, after each start, and when all is calm. A broken rule ends the run (sim_fail). */
#ifndef HKV_SIM_CHECK_H
#define HKV_SIM_CHECK_H

#include "sim/cluster.h"

/* At any moment: healthy only when complete, counts that agree. */
void sim_check_node(struct sim_node *node);

/* After a start: what was acknowledged here is here. */
void sim_check_durable(struct sim_node *node);

/* Whether all nodes hold the same entries and all values; `why` says in a sentence why not. */
bool sim_converged(struct sim_cluster *c, char *why, size_t size);

/* Prints in what entries the nodes differ from the first. */
void sim_tell_differences(struct sim_cluster *c);

/* When they do: everything acknowledged anywhere is there, nothing is that nobody wrote, and each node shows what the
 * model says, with the right bytes. */
void sim_check_end(struct sim_cluster *c);

#endif
