#include "sim/cluster.h"

#include <assert.h>
#include <malloc.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "fixture/simulated_signatures.h"
#include "kv/internal.h"
#include "node/fetch.h"
#include "node/node.h"
#include "node/sync_parts.h"

#define PORT                 24376
#define REAL_SIGNATURES_EACH 8
#define MEMORY_BYTES         ((uint64_t)8 << 20) /* budget of a node */
#define MEMORY_SPARE_BYTES   ((uint64_t)48 << 20)
#define CHANGES_FEW          20 /* kept in the change log of a node that forgets them */

/* ---- talking ---- */

void sim_say(struct sim_cluster *c, const char *format, ...)
{
    va_list args;
    if (!c->options->verbose) return;
    printf("%12.6f  ", (double)sim_now(&c->queue) / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

_Noreturn void sim_fail(struct sim_cluster *c, const char *format, ...)
{
    char command[256];
    va_list args;
    sim_options_format(c->options, command, sizeof command);
    printf("seed %llu FAILED at %.6f s: ", (unsigned long long)c->options->seed, (double)sim_now(&c->queue) / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n  again: %s --verbose\n", command);
    (void)fflush(stdout);
    _exit(1);
}

static void stuck(void *arg)
{
    struct sim_node *node = arg;
    sim_fail(node->cluster, "node %u waits for something that does not happen", node->index);
}

static void node_log_line(void *arg, enum hkv_log_level level, const char *module, const char *message)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    struct sim_node *node = arg;
    bool transfer_ended = level == HKV_LOG_WARN && strncmp(message, "transfer from ", 14) == 0;
    if (transfer_ended) sim_mark(node->cluster, SIM_MARK_LIAR_CAUGHT);
    if (node->cluster->options->verbose)
        sim_say(node->cluster, "node %u: %s %s: %s", node->index, levels[level], module, message);
}

/* ---- machines ---- */

static void disk_changed(void *arg)
{
    struct sim_node *node = arg;
    if (node->crash_after == 0 || --node->crash_after > 0) return;
    sim_env_freeze(&node->env);
    sim_queue_interrupt(&node->cluster->queue);
}

static void disk_spent(void *arg, uint64_t us)
{
    sim_spend(&((struct sim_node *)arg)->cluster->queue, us);
}

static void draw(struct sim_queue *q, void *out, size_t len)
{
    random_fill(&q->random, out, len);
}

static void tamper(void *arg, unsigned from, unsigned to, struct slice alpn, bool dialled, uint8_t *bytes, size_t len)
{
    struct sim_cluster *c = arg;
    (void)to;
    bool provides = !dialled && slice_equal(alpn, slice_of_text(FETCH_ALPN));
    bool syncs = !slice_equal(alpn, slice_of_text(FETCH_ALPN));
    if (!c->nodes[from].liar || c->calm || len == 0 || (!provides && !syncs)) return;
    if (!sim_chance(&c->queue, provides ? 300000 : 50000)) return;
    if (syncs) sim_mark(c, SIM_MARK_GARBAGE_IN_SYNC);
    bytes[sim_below(&c->queue, len)] ^= (uint8_t)(1u << sim_below(&c->queue, 8));
}

static void node_init(struct sim_cluster *c, unsigned index)
{
    struct sim_node *node = &c->nodes[index];
    node->cluster = c;
    node->index = index;
    sim_env_init(&node->env, &c->queue, index);
    node->forgets_changes = sim_chance(&c->queue, 200000);
    if (sim_chance(&c->queue, 200000)) node->env.job_delay_us = (uint32_t)sim_between(&c->queue, 500, 5000);
    struct memdisk_config config = {.capacity_bytes = SIM_DISK_BYTES,
                                    .seed = sim_random(&c->queue),
                                    .forgetful = true,
                                    .spent = disk_spent,
                                    .changed = disk_changed,
                                    .arg = node};
    if (memdisk_new(&config, &node->disk) != HKV_OK) abort();
    draw(&c->queue, node->secret.bytes, ID_BYTES);
    draw(&c->queue, node->author_secret.bytes, ID_BYTES);
    ed25519_public_key(&node->secret, node->id.bytes);
    ed25519_public_key(&node->author_secret, node->author.bytes);
    (void)id_format(node->secret.bytes, node->secret_text);
    (void)id_format(node->author_secret.bytes, node->author_text);
    node->world = (struct sim_world){
        .env = &node->env,
        .net = &c->net,
        .disk = node->disk,
        .address = {.ip = {10, 0, 0, (uint8_t)(index + 1)}, .port = PORT},
        .stuck = stuck,
        .arg = node,
    };
    char id[ID_TEXT_MAX];
    (void)snprintf(c->seed_text[index], sizeof c->seed_text[index], "%s@10.0.0.%u:%u", id_format(node->id.bytes, id),
                   index + 1, PORT);
}

void sim_cluster_init(struct sim_cluster *c, const struct sim_options *o)
{
    memset(c, 0, sizeof *c);
    c->options = o;
    sim_queue_init(&c->queue, o->seed);
    if (crypto_init() != HKV_OK) abort();
    simulated_signatures_set(!o->real_signatures && o->seed % REAL_SIGNATURES_EACH != 0);
    (void)sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)(o->seed % 0x7fffffff) + 1, NULL);
    struct sim_net_config net;
    sim_net_config_default(&net);
    net.jitter_us = sim_between(&c->queue, 100, 20000);
    net.piece_bytes_max = sim_between(&c->queue, 200, 32 * 1024);
    net.stream_window_bytes = sim_between(&c->queue, 4096, 1280 * 1024);
    net.idle_timeout_us = sim_between(&c->queue, 5, 30) * 1000000;
    net.keep_alive_us = net.idle_timeout_us / 5;
    sim_net_init(&c->net, &c->queue, &net);
    c->net.tamper = tamper;
    c->net.tamper_arg = c;
    /* The less of two draws: what a life costs grows with the square of the nodes. */
    uint64_t nodes = sim_between(&c->queue, 3, 9), fewer = sim_between(&c->queue, 3, 9);
    uint64_t keys = sim_between(&c->queue, 2, 12);
    if (fewer < nodes) nodes = fewer;
    c->count = o->nodes != 0 ? o->nodes : (unsigned)nodes;
    c->key_count = o->keys != 0 ? o->keys : (unsigned)keys;
    c->anti_entropy_ms = (uint32_t)sim_between(&c->queue, 1000, 30000);
    draw(&c->queue, c->namespace_secret.bytes, ID_BYTES);
    ed25519_public_key(&c->namespace_secret, c->namespace.bytes);
    (void)id_format(c->namespace_secret.bytes, c->namespace_text);
    (void)id_format(c->namespace.bytes, c->namespace_id_text);
    for (int i = 0; i < SIM_FOREIGN_MAX; i++) {
        draw(&c->queue, c->foreign_secret[i].bytes, ID_BYTES);
        ed25519_public_key(&c->foreign_secret[i], c->foreign[i].bytes);
    }
    for (unsigned i = 0; i < c->count; i++) node_init(c, i);
    if (c->count > 3 && sim_chance(&c->queue, 200000)) c->nodes[c->count - 1].read_only = true;
    if (o->faults >> SIM_FAULT_LIAR & 1) c->nodes[sim_below(&c->queue, c->count)].liar = sim_chance(&c->queue, 500000);
}

void sim_cluster_fini(struct sim_cluster *c)
{
    while (c->queue.count > 0) (void)sim_step(&c->queue, UINT64_MAX); /* what the network still had under way */
    sim_net_fini(&c->net);
    for (unsigned i = 0; i < c->count; i++) memdisk_free(c->nodes[i].disk);
    sim_model_fini(&c->model);
    sim_queue_fini(&c->queue);
}

/* ---- lives ---- */

/* The machine is dead; its disk is what the power cut left. What holds on to it gets errors from now on. */
static void die(void *arg)
{
    struct sim_node *node = arg;
    struct sim_cluster *c = node->cluster;
    if (node->died) return;
    node->died = true;
    node->crash_after = 0;
    node->world.dead = true;
    if (node->world.endpoint != NULL) sim_endpoint_cut(node->world.endpoint);
    struct memdisk_cut cut = {.seed = sim_random(&c->queue), .keep_percent = (unsigned)sim_below(&c->queue, 101)};
    cut.tear_percent = (unsigned)sim_below(&c->queue, 101 - cut.keep_percent);
    sim_say(c, "node %u: power cut, %u %% of what was not synced is kept", node->index, cut.keep_percent);
    if (memdisk_crash(node->disk, &cut) != HKV_OK) abort();
    memdisk_faults_set(node->disk, &(struct memdisk_faults){0});
    node->disk_faults = false;
    sim_env_thaw(&node->env);
}

static void note_file(void *arg, const char *name)
{
    struct sim_node *node = arg;
    const struct sim_model *model = &node->cluster->model;
    char hash[ID_TEXT_MAX];
    for (size_t i = 0; i < model->count; i++) {
        struct sim_write *w = model->writes[i];
        bool is_large = w->content_length > KV_VALUE_INLINE_MAX;
        if (w->node != node->index || w->outcome != SIM_UNKNOWN || !is_large) continue;
        if (strncmp(name, id_format(w->hash.bytes, hash), 2 * ID_BYTES) == 0) w->file_seen = true;
    }
}

/* Value files of writes whose outcome nobody knows. */
static void note_files(struct sim_node *node)
{
    bool end = false;
    while (!end)
        if (node->world.values->ops->list(node->world.values, 64, note_file, node, &end) != HKV_OK) return;
}

void sim_node_options(struct sim_node *node, struct hkv_options *out, const char *seeds[SIM_NODES_MAX])
{
    struct sim_cluster *c = node->cluster;
    hkv_options_init(out);
    if (node->read_only)
        out->namespace_id = c->namespace_id_text;
    else
        out->namespace_secret = c->namespace_text;
    out->endpoint_secret = node->secret_text;
    out->author_secret = node->author_text;
    out->name = "sim";
    out->memory_bytes = MEMORY_BYTES;
    out->anti_entropy_ms = c->anti_entropy_ms;
    out->log = node_log_line;
    out->log_arg = node;
    out->seeds = seeds;
    for (unsigned i = 0; i < c->count; i++) /* the first, and the one before: every node can be found */
        if (i != node->index && (i == 0 || i + 1 == node->index)) seeds[out->seed_count++] = c->seed_text[i];
}

bool sim_node_open(struct sim_node *node)
{
    struct sim_cluster *c = node->cluster;
    struct hkv_options o;
    const char *seeds[SIM_NODES_MAX];
    sim_node_options(node, &o, seeds);
    node->world.crash = die;
    if (sim_world_ready(&node->world) != HKV_OK) abort();
    if (node->died) note_files(node);
    node->died = false;
    node->life++;
    sim_say(c, "node %u: opens, life %u", node->index, node->life);
    enum hkv_err err = node_open_in(&o, &node->world.base, &node->store);
    if (err != HKV_OK) {
        node->store = NULL;
        sim_say(c, "node %u: cannot open: %s", node->index, hkv_last_error());
        if (!node->disk_faults && !node->died && !node->env.frozen)
            sim_fail(c, "node %u does not open: %s", node->index, hkv_last_error());
        if (node->env.frozen) die(node);
        return false;
    }
    if (node->died || node->env.frozen) {
        sim_node_crash(node);
        return false;
    }
    node->ever_opened = true;
    if (node->forgets_changes) node->store->kv->config.changes_kept = CHANGES_FEW;
    return true;
}

/* Which sessions a crash or a close cuts off. */
static void mark_sessions(struct sim_node *node)
{
    static const enum sim_mark marks[] = {
        [DOCS_OPENING] = SIM_MARK_SYNC_CUT_BEFORE_INIT,       [DOCS_WAIT_INIT] = SIM_MARK_SYNC_CUT_BEFORE_INIT,
        [DOCS_WAIT_DECISION] = SIM_MARK_SYNC_CUT_BEFORE_INIT, [DOCS_RECONCILE] = SIM_MARK_SYNC_CUT_IN_RECONCILE,
        [DOCS_CLOSING] = SIM_MARK_SYNC_CUT_IN_CLOSING,
    };
    for (const struct sync_session *s = node->store->sync->sessions; s != NULL; s = s->next)
        if (s->docs.state != DOCS_ENDED) sim_mark(node->cluster, marks[s->docs.state]);
}

void sim_node_close(struct sim_node *node)
{
    if (node->store == NULL) return;
    mark_sessions(node);
    sim_say(node->cluster, "node %u: closes", node->index);
    hkv_close(node->store);
    node->store = NULL;
    node->watcher.watch = NULL;
    if (node->env.frozen) die(node);
}

void sim_node_crash(struct sim_node *node)
{
    if (node->store != NULL) mark_sessions(node);
    die(node);
    if (node->store != NULL) {
        hkv_close(node->store);
        node->store = NULL;
        node->watcher.watch = NULL;
    }
}

void sim_node_crash_after(struct sim_node *node, uint64_t changes)
{
    node->crash_after = changes;
    memdisk_faults_set(node->disk, &(struct memdisk_faults){.off_after_changes = changes});
}

void sim_node_disk_faults(struct sim_node *node, const struct memdisk_faults *faults)
{
    node->disk_faults = faults != NULL;
    memdisk_faults_set(node->disk, faults != NULL ? faults : &(struct memdisk_faults){0});
}

/* What the nodes hold besides their disks: their budgets, and room for what the simulation itself keeps. */
static void check_memory(struct sim_cluster *c)
{
    struct mallinfo2 heap = mallinfo2();
    uint64_t disks = 0, nodes = 0;
    for (unsigned i = 0; i < c->count; i++) {
        disks += memdisk_used_bytes(c->nodes[i].disk);
        nodes += c->nodes[i].store != NULL;
    }
    uint64_t limit = nodes * MEMORY_BYTES + 4 * disks + MEMORY_SPARE_BYTES;
    if (heap.uordblks > limit)
        sim_fail(c, "%llu nodes use %zu bytes of memory, their budgets and disks allow %llu", (unsigned long long)nodes,
                 heap.uordblks, (unsigned long long)limit);
    if ((uint64_t)sqlite3_memory_used() > nodes * MEMORY_BYTES)
        sim_fail(c, "SQLite uses %lld bytes for %llu nodes of %llu bytes each", (long long)sqlite3_memory_used(),
                 (unsigned long long)nodes, (unsigned long long)MEMORY_BYTES);
}

void sim_cluster_pass(struct sim_cluster *c, uint64_t us)
{
    uint64_t until_us = sim_now(&c->queue) + us;
    check_memory(c);
    for (;;) {
        sim_queue_run(&c->queue, until_us);
        bool again = c->queue.interrupted;
        for (unsigned i = 0; i < c->count; i++) {
            struct sim_node *node = &c->nodes[i];
            if (!node->env.frozen && !(node->died && node->store != NULL)) continue;
            sim_mark(c, SIM_MARK_CRASH_IN_COMMIT);
            sim_node_crash(node);
            node->down_until_us = sim_now(&c->queue) + sim_skewed(&c->queue, 30000000);
            again = true;
        }
        if (!again) return;
    }
}
