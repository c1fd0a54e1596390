/* The real world of a store (node/world.h): threads, the system's clocks and files, QUIC over UDP. */
#ifndef HKV_NODE_WORLD_REAL_H
#define HKV_NODE_WORLD_REAL_H

#include "node/world.h"

struct net_endpoint;

/* A world for one store, freed by its `release`. Errors: HKV_E_NOMEM, HKV_E_INTERNAL. */
HKV_CHECK enum hkv_err node_world_real(struct node_world **out);

/* Its endpoint, for tests that look at its counts; NULL while not open. Network thread. */
struct net_endpoint *node_world_real_endpoint(struct node_world *world);

#endif
