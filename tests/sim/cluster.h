/* The nodes of one run: their machines (clock, disk, place in the network), which last, and their lives as open stores,
 * which end by closing or by a crash. Driver only, but for what says otherwise. */
#ifndef HKV_SIM_CLUSTER_H
#define HKV_SIM_CLUSTER_H

#include <hero_kvs.h>

#include "sim/mark.h"
#include "sim/model.h"
#include "sim/options.h"
#include "sim/world.h"

#define SIM_DISK_BYTES  ((uint64_t)64 << 20)
#define SIM_FOREIGN_MAX 2 /* authors that are no nodes */
#define SIM_SHADOW_MAX  64

/* What a watcher made of the events it got: must always be what the store shows. */
struct sim_shadow_key {
    char key[SIM_KEY_MAX];
    struct hkv_version version;
};

struct sim_watcher {
    struct hkv_watch *watch;
    struct sim_shadow_key keys[SIM_SHADOW_MAX];
    size_t count;
    struct hkv_position position; /* of the last event that had one */
    bool right;                   /* the shadow is what was shown at that position */
    bool paused;
};

struct sim_node {
    struct sim_cluster *cluster;
    unsigned index;
    struct sim_env env;
    struct sim_world world;
    struct memdisk *disk;
    struct hkv_store *store; /* NULL: down */
    unsigned life;           /* number of the present or last one */
    bool died;               /* in a crash: what is left has to be closed */
    uint64_t crash_after;    /* changes of the disk; 0: no crash is due */
    bool ever_opened;
    uint64_t down_until_us;
    bool disk_faults;
    bool damaged; /* a bit of a value file was flipped at some time */
    bool read_only;
    bool liar;
    bool forgets_changes; /* its change log is short */
    struct endpoint_id id;
    struct author_id author;
    struct secret_key secret;
    struct secret_key author_secret;
    char secret_text[65];
    char author_text[65];
    struct sim_watcher watcher;
    size_t large_pending; /* writes of large values on their way */
};

struct sim_cluster {
    const struct sim_options *options;
    struct sim_queue queue;
    struct sim_net net;
    struct sim_model model;
    struct sim_marks marks;
    struct sim_node nodes[SIM_NODES_MAX];
    unsigned count;
    unsigned key_count;
    uint32_t anti_entropy_ms;
    struct secret_key namespace_secret;
    struct namespace_id namespace;
    char namespace_text[65];
    char namespace_id_text[65];
    struct secret_key foreign_secret[SIM_FOREIGN_MAX];
    struct author_id foreign[SIM_FOREIGN_MAX];
    char seed_text[SIM_NODES_MAX][160]; /* of each node, as a seed of others */
    uint64_t fault_count;
    bool calm; /* no fault happens any more */
};

/* Makes machines; no node is up. */
void sim_cluster_init(struct sim_cluster *c, const struct sim_options *options);
void sim_cluster_fini(struct sim_cluster *c);

/* What its store is opened with. `seeds` has room for what the options point to. */
void sim_node_options(struct sim_node *node, struct hkv_options *out, const char *seeds[SIM_NODES_MAX]);

/* Opens the node's store on its disk. False: it could not be opened, which only a faulty disk or a crash excuses. */
bool sim_node_open(struct sim_node *node);

/* Closes it in order. */
void sim_node_close(struct sim_node *node);

/* Power cut now, or what is left of one that happened: the store is closed, the disk is as a power cut leaves it. */
void sim_node_crash(struct sim_node *node);

/* The power goes after the n-th change of the disk from now on. */
void sim_node_crash_after(struct sim_node *node, uint64_t changes);

/* Disk faults from now on; NULL: none. */
void sim_node_disk_faults(struct sim_node *node, const struct memdisk_faults *faults);

/* Lets time pass; crashes that become due are carried out. */
void sim_cluster_pass(struct sim_cluster *c, uint64_t us);

static inline void sim_mark(struct sim_cluster *c, enum sim_mark mark)
{
    c->marks.of[mark]++;
}

/* Says what was broken and how to repeat it, and ends the process. */
_Noreturn void sim_fail(struct sim_cluster *c, const char *format, ...) HKV_PRINTF(2, 3);

/* Tells what happens, with --verbose. */
void sim_say(struct sim_cluster *c, const char *format, ...) HKV_PRINTF(2, 3);

/* ---- watch.c: the shadow ---- */

/* Begins to watch, or goes on after a restart. */
void sim_watch_begin(struct sim_node *node);

/* A paused watcher goes on. */
void sim_watch_resume(struct sim_node *node);

/* Fails the run when the shadow is not what the store shows. All events have been delivered. */
void sim_watch_check(struct sim_node *node);

#endif
