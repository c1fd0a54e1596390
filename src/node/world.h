/* The world that one open store lives in: its clocks, threads, waits, network and disk. The real one is world_real.c
 * (libuv, threads, src/net, the system's files); the simulator and tests give their own, in which whole nodes run in
 * one thread on virtual time (docs/layers.md).
 *
 *   hkv_open(options)                 node_open_in(options, world)
 *          │ makes a real world                 │
 *          └──────────────▶ struct hkv_store ◀──┘
 *                                 │ knows nothing but
 *               struct env   struct transport   struct node_disk   wait()
 *
 * Life of a world, for one store:
 *
 *   start ─▶ endpoint_open ─▶ jobs, timers, connections, waits ─▶ endpoint_close … done ─▶ stop ─▶ release
 *
 * start fails: release follows at once. endpoint_open fails: stop and release follow. The store makes no thread and
 * asks no clock behind the world's back.
 *
 * A world in one thread
 *   - queues what env_run_on() gets and runs it later, never from inside that call; jobs of one enum env_thread run in
 *     the order they were queued, those of different ones in any order.
 *   - wait() is the only place where a public call blocks: it runs the queue until the signal is set. It is called by
 *     the caller of a public function (hkv_open, hkv_close, hkv_put, …), never by a job, so the forms that end in a
 *     callback are for those who are inside of a job themselves.
 *   - on_callback_thread() is true while it runs a job of ENV_CALLBACK of this store. */
#ifndef HKV_NODE_WORLD_H
#define HKV_NODE_WORLD_H

#include <hero_kvs.h>
#include <pthread.h>

#include "base/env.h"
#include "store/files.h"
#include "wire/transport.h"

struct node_world;

#define NODE_WAIT_FOREVER UINT64_MAX

/* A wait that another thread, or a job, ends: set once, waited for by one. */
struct node_signal {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool set;
};

void node_signal_init(struct node_signal *signal);
void node_signal_fini(struct node_signal *signal);
void node_signal_set(struct node_signal *signal);
bool node_signal_is_set(struct node_signal *signal);

/* Where a store keeps its files. */
struct node_disk {
    const char *vfs;      /* SQLite VFS by name; NULL: the folder options.data_dir of the system, and the rest unused */
    const char *path;     /* folder of docs/store.db on that VFS; may be "" */
    struct files *values; /* folder of value files */
    struct files *keys;   /* folder of key files */
};

struct node_endpoint_config {
    const struct hkv_options *options; /* bind_…; borrowed for the call */
    const struct secret_key *secret;   /* borrowed for the call */
    const struct slice *alpns;         /* in order of preference; borrowed for the call */
    size_t alpn_count;
    uint16_t last_port; /* of the run before; 0: none */
    struct transport_owner owner;
};

struct node_world_ops {
    /* From here on jobs run. Errors: HKV_E_NOMEM; nothing runs. */
    enum hkv_err (*start)(struct node_world *world);

    /* Returns when every job has run that is queued, and those that they queue themselves. Nothing comes after. */
    void (*stop)(struct node_world *world);

    /* The store is gone and needs nothing of the world any more. */
    void (*release)(struct node_world *world);

    /* Returns when the signal is set (true), or after `timeout_us` of mono time; NODE_WAIT_FOREVER: without limit. */
    bool (*wait)(struct node_world *world, struct node_signal *signal, uint64_t timeout_us);

    bool (*on_callback_thread)(struct node_world *world);

    /* Begins to listen. Network thread. Errors: those of net_endpoint_open(). */
    enum hkv_err (*endpoint_open)(struct node_world *world, const struct node_endpoint_config *config,
                                  struct transport **out);

    /* Adds the addresses to advertise now; the bound ports, 0 for a family that is not used. Network thread, while the
     * endpoint is open. */
    enum hkv_err (*endpoint_addresses)(struct node_world *world, struct address_set *out);
    void (*endpoint_ports)(struct node_world *world, uint16_t *ipv4, uint16_t *ipv6);

    /* Closes every connection (their `closed` follows), then calls `done` on the network thread. The transport is not
     * touched any more. Network thread. */
    void (*endpoint_close)(struct node_world *world, void (*done)(void *user), void *user);
};

struct node_world {
    const struct node_world_ops *ops;
    struct env *env;
    struct node_disk disk;  /* what it points to outlives the store */
    uint64_t built_wall_us; /* a wall clock that shows less is wrong (condition clock_sane) */
};

/* hkv_open() in a world of the caller's, which outlives the store (until `release`). A failed open releases it too.
 * options->data_dir is not looked at when the world has a disk. */
HKV_CHECK enum hkv_err node_open_in(const struct hkv_options *options, struct node_world *world,
                                    struct hkv_store **out);

/* Waits as the world does; HKV_FOREVER and 0 wait without limit. False when `timeout_ms` passed first. Not from the
 * library's threads. */
static inline bool node_signal_wait(struct node_world *world, struct node_signal *signal, uint32_t timeout_ms)
{
    bool forever = timeout_ms == 0 || timeout_ms == HKV_FOREVER;
    return world->ops->wait(world, signal, forever ? NODE_WAIT_FOREVER : (uint64_t)timeout_ms * 1000);
}

#endif
