/* What clients and a foreign program do, one operation at a time, by chance. Driver only. */
#ifndef HKV_SIM_WORKLOAD_H
#define HKV_SIM_WORKLOAD_H

#include "sim/cluster.h"

/* One operation on some node that is up. */
void sim_workload_step(struct sim_cluster *c);

/* One fault of the enabled kinds. */
void sim_fault_step(struct sim_cluster *c);

/* Everything is mended: paths, disks, clocks, nodes that are down. */
void sim_fault_end(struct sim_cluster *c);

/* Nodes whose time has come are opened again. */
void sim_restart_due(struct sim_cluster *c);

#endif
