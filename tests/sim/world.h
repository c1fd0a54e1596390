/* One node's struct node_world (src/node/world.h): what a store needs of the world, over one node's env, disk and place
 * in the network. It lasts for one life of the store; disk, env and identity last over all of them. */
#ifndef HKV_SIM_WORLD_H
#define HKV_SIM_WORLD_H

#include "crypto/ed25519.h"
#include "node/world.h"
#include "sim/net.h"
#include "store/memdisk.h"

struct sim_world {
    struct node_world base; /* first */
    struct sim_env *env;
    struct sim_net *net;
    struct memdisk *disk;
    struct socket_address address; /* where its endpoint listens */
    struct sim_endpoint *endpoint;
    struct files *values;
    struct files *keys;
    bool dead; /* the machine crashed: what is left of the store reaches nothing any more */
    void (*closed_done)(void *user);
    void *closed_user;
    /* A wait found that its node is frozen, which only a crash ends. */
    void (*crash)(void *arg);
    /* A wait that nothing can end. Does not return. */
    void (*stuck)(void *arg);
    void *arg;
};

/* Readies a world for node_open_in(). env, net, disk, address and the callbacks are set. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err sim_world_ready(struct sim_world *world);

#endif
