/* What must hold: at any moment, after each start, and when all is calm. A broken rule ends the run (sim_fail). */
#ifndef HKV_SIM_CHECK_H
#define HKV_SIM_CHECK_H

#include "sim/cluster.h"

/* At any moment: healthy only when complete, counts that agree. */
void sim_check_node(struct sim_node *node);

/* At any moment: a read of this key tells what somebody wrote, byte by byte, or refuses for a reason. */
void sim_check_read(struct sim_node *node, const char *key);

/* Everything that is stored is read again: entries and what follows from them are sound, and of the values only those
 * are bad whose files were damaged on purpose. `mended`: none is. */
void sim_check_stored(struct sim_node *node, bool mended);

/* Waits until the node calls itself converged with its peers: then what it held before is with them, and what they held
 * is here. `must`: it does within minutes. No fault happens any more. */
void sim_check_wait(struct sim_node *node, bool must);

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
