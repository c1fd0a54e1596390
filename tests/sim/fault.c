/* Faults, by chance: each lasts for a while and is then mended, also when another of its kind has begun meanwhile. */
#include <stdio.h>

#include "kv/internal.h"
#include "node/node.h"
#include "sim/check.h"
#include "sim/twin.h"
#include "sim/workload.h"

#define MINUTE_US ((uint64_t)60000000)

static struct sim_node *any_node(struct sim_cluster *c)
{
    return &c->nodes[sim_below(&c->queue, c->count)];
}

static uint64_t some_time_us(struct sim_cluster *c)
{
    return 10000 + sim_skewed(&c->queue, MINUTE_US);
}

/* ---- network ---- */

static void unblock(void *owner, void *arg)
{
    struct sim_cluster *c = owner;
    unsigned pair = (unsigned)(uintptr_t)arg;
    sim_net_block(&c->net, pair / SIM_NODES_MAX, pair % SIM_NODES_MAX, false);
}

static void block(struct sim_cluster *c, unsigned from, unsigned to, uint64_t us)
{
    sim_net_block(&c->net, from, to, true);
    sim_at(&c->queue, sim_now(&c->queue) + us, unblock, c, (void *)(uintptr_t)(from * SIM_NODES_MAX + to), NULL);
}

/* Some of the nodes on one side, the others on the other; now and then in one direction only. */
static void partition(struct sim_cluster *c)
{
    uint64_t side = sim_random(&c->queue), us = some_time_us(c);
    bool one_way = sim_chance(&c->queue, 300000);
    sim_say(c, "partition for %.3f s%s", (double)us / 1e6, one_way ? ", in one direction" : "");
    for (unsigned a = 0; a < c->count; a++)
        for (unsigned b = 0; b < c->count; b++)
            if (a != b && (side >> a & 1) != (side >> b & 1) && (!one_way || (side >> a & 1) != 0)) block(c, a, b, us);
}

static void fast_again(void *owner, void *arg)
{
    struct sim_cluster *c = owner;
    (void)arg;
    c->net.config.lost_per_million = 0;
    memset(c->net.slower_us, 0, sizeof c->net.slower_us);
}

static void slow_net(struct sim_cluster *c)
{
    unsigned a = any_node(c)->index, b = any_node(c)->index;
    c->net.slower_us[a][b] = sim_skewed(&c->queue, 3000000);
    c->net.config.lost_per_million = (uint32_t)sim_skewed(&c->queue, 300000);
    sim_say(c, "slow path from %u to %u, %u of a million messages are repeated", a, b, c->net.config.lost_per_million);
    sim_at(&c->queue, sim_now(&c->queue) + some_time_us(c), fast_again, c, NULL, NULL);
}

/* ---- machines ---- */

static void restart(struct sim_cluster *c)
{
    struct sim_node *node = any_node(c);
    if (node->store == NULL) return;
    sim_node_close(node);
    node->down_until_us = sim_now(&c->queue) + sim_skewed(&c->queue, MINUTE_US / 2);
}

static void crash(struct sim_cluster *c)
{
    struct sim_node *node = any_node(c);
    if (node->store == NULL || node->crash_after != 0) return;
    if (sim_chance(&c->queue, 700000)) {
        sim_node_disk_faults(node, NULL);
        sim_node_crash_after(node, 1 + sim_skewed(&c->queue, 60));
        sim_say(c, "node %u: the power will go after %llu changes of its disk", node->index,
                (unsigned long long)node->crash_after);
        return;
    }
    sim_node_crash(node);
    node->down_until_us = sim_now(&c->queue) + sim_skewed(&c->queue, MINUTE_US / 2);
}

static void move(struct sim_cluster *c)
{
    struct sim_node *node = any_node(c);
    if (node->index == 0 || node->store == NULL) return; /* the first stays where others look for it */
    restart(c);
    if (node->store == NULL) node->world.address.port++;
}

/* ---- disks ---- */

static void disk_mended(void *owner, void *arg)
{
    struct sim_node *node = owner;
    unsigned life = (unsigned)(uintptr_t)arg;
    if (node->crash_after == 0 && life == node->life) sim_node_disk_faults(node, NULL);
}

static void disk_faults(struct sim_node *node, const struct memdisk_faults *faults)
{
    struct sim_cluster *c = node->cluster;
    sim_node_disk_faults(node, faults);
    sim_at(&c->queue, sim_now(&c->queue) + some_time_us(c), disk_mended, node, (void *)(uintptr_t)node->life, NULL);
}

static void io_errors(struct sim_node *node)
{
    struct sim_cluster *c = node->cluster;
    struct memdisk_faults faults = {0};
    uint32_t each = (uint32_t)sim_skewed(&c->queue, 100000);
    uint64_t which = sim_below(&c->queue, 8);
    for (int i = 0; i < MEMDISK_OPERATIONS; i++)
        if (which == 0 || (which >> i & 1) != 0) faults.of[i].errors_per_million = each;
    faults.sync_error_forgets = sim_chance(&c->queue, 500000);
    sim_say(c, "node %u: %u of a million disk operations fail", node->index, each);
    disk_faults(node, &faults);
}

static void full_disk(struct sim_node *node)
{
    uint64_t room = sim_skewed(&node->cluster->queue, 200 * 1024);
    struct memdisk_faults faults = {.budget_bytes = memdisk_used_bytes(node->disk) + room};
    sim_say(node->cluster, "node %u: its disk has room for %llu bytes", node->index, (unsigned long long)room);
    disk_faults(node, &faults);
}

static void slow_disk(struct sim_node *node)
{
    struct memdisk_faults faults = {0};
    uint64_t us = sim_skewed(&node->cluster->queue, 20000);
    for (int i = 0; i < MEMDISK_OPERATIONS; i++) faults.of[i].cost_us = i == MEMDISK_SYNC ? us : us / 20;
    sim_say(node->cluster, "node %u: its disk takes %llu us for a sync", node->index, (unsigned long long)us);
    disk_faults(node, &faults);
}

/* The file of a value as the node has it, if it has. */
static bool find_file(struct sim_node *node, const struct hash *hash, char name[FILES_NAME_MAX])
{
    struct value_row row;
    bool found;
    if (node->store == NULL || node->died || node->env.frozen) return false;
    if (values_find(&node->store->kv->db, hash, &row, &found) != HKV_OK) return false;
    if (!found || row.state != VALUE_PRESENT || row.file == 0) return false;
    kv_file_name(&row.hash, row.file, name);
    return true;
}

/* A bit of one value file: of a content that only this attempt has, so that no later write counts on the file, and that
 * another node has too, whose file stays as it is. */
static bool flip_value(struct sim_node *node, struct sim_write *w)
{
    struct sim_cluster *c = node->cluster;
    char name[FILES_NAME_MAX], path[FILES_NAME_MAX + 16], other[FILES_NAME_MAX];
    unsigned holders = 0;
    uint64_t bit;
    if (w->flipped || w->value_number != w->number + SIM_VALUE_POOL || !find_file(node, &w->hash, name)) return false;
    for (unsigned i = 0; i < c->count; i++) holders += find_file(&c->nodes[i], &w->hash, other);
    (void)snprintf(path, sizeof path, "node/blobs/%s", name);
    if (holders < 2 || memdisk_flip_any_bit(node->disk, path, &bit) != HKV_OK) return false;
    w->flipped = node->damaged = true;
    sim_say(c, "node %u: bit %llu of the value of write %zu flips", node->index, (unsigned long long)bit, w->number);
    if (sim_chance(&c->queue, 500000)) sim_check_read(node, (const char *)w->key);
    return true;
}

static void flip(struct sim_node *node)
{
    struct sim_cluster *c = node->cluster;
    if (node->ever_opened && (node->store == NULL || sim_chance(&c->queue, 200000))) {
        if (node->store != NULL) sim_node_close(node);
        sim_twin_check(node);
        node->down_until_us = sim_now(&c->queue) + sim_skewed(&c->queue, MINUTE_US / 2);
        return;
    }
    uint64_t first = c->model.count > 0 ? sim_below(&c->queue, c->model.count) : 0;
    for (size_t i = 0; i < c->model.count; i++)
        if (flip_value(node, c->model.writes[(first + i) % c->model.count])) return;
}

/* ---- clocks ---- */

static void clock_mended(void *owner, void *arg)
{
    (void)arg;
    sim_clock_right(&((struct sim_node *)owner)->env);
}

static void bad_clock(struct sim_cluster *c)
{
    struct sim_node *node = any_node(c);
    uint64_t kind = sim_below(&c->queue, 6);
    if (kind == 0)
        sim_clock_step(&node->env, 20 * (int64_t)MINUTE_US);
    else if (kind == 1)
        sim_clock_step(&node->env, -20 * (int64_t)MINUTE_US);
    else if (kind == 2)
        sim_clock_set(&node->env, sim_below(&c->queue, MINUTE_US)); /* 1970 */
    else if (kind == 3)
        sim_clock_stop(&node->env);
    else if (kind == 4)
        sim_clock_drift(&node->env, (int32_t)sim_between(&c->queue, 0, 200000) - 100000);
    else
        sim_clock_step(&node->env, (int64_t)sim_skewed(&c->queue, 10000000) - 5000000);
    sim_say(c, "node %u: its clock is wrong now (kind %llu)", node->index, (unsigned long long)kind);
    sim_at(&c->queue, sim_now(&c->queue) + some_time_us(c), clock_mended, node, NULL, NULL);
}

/* ---- all ---- */

void sim_fault_step(struct sim_cluster *c)
{
    enum sim_fault fault = (enum sim_fault)sim_below(&c->queue, SIM_FAULT_COUNT);
    if ((c->options->faults >> fault & 1) == 0 || c->fault_count >= c->options->fault_count_max) return;
    struct sim_node *node = any_node(c);
    bool disk_free = node->store != NULL && node->crash_after == 0;
    c->fault_count++;
    sim_trace(&c->queue, sim_fault_name(fault), node->index, 0);
    switch (fault) {
    case SIM_FAULT_PARTITION:
        partition(c);
        return;
    case SIM_FAULT_LOSE:
        (void)sim_net_lose_any(&c->net);
        return;
    case SIM_FAULT_SLOW_NET:
        slow_net(c);
        return;
    case SIM_FAULT_RESTART:
        restart(c);
        return;
    case SIM_FAULT_CRASH:
        crash(c);
        return;
    case SIM_FAULT_MOVE:
        move(c);
        return;
    case SIM_FAULT_IO:
        if (disk_free) io_errors(node);
        return;
    case SIM_FAULT_FULL:
        if (disk_free) full_disk(node);
        return;
    case SIM_FAULT_SLOW_DISK:
        if (disk_free) slow_disk(node);
        return;
    case SIM_FAULT_CLOCK:
        bad_clock(c);
        return;
    case SIM_FAULT_FLIP:
        if (node->crash_after == 0) flip(node);
        return;
    case SIM_FAULT_LIAR:
    case SIM_FAULT_COUNT:
        return;
    }
}

void sim_restart_due(struct sim_cluster *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        struct sim_node *node = &c->nodes[i];
        if (node->store != NULL || sim_now(&c->queue) < node->down_until_us) continue;
        if (sim_node_open(node)) {
            sim_check_durable(node);
            sim_watch_begin(node);
        } else {
            node->down_until_us = sim_now(&c->queue) + 1000000;
        }
    }
}

void sim_fault_end(struct sim_cluster *c)
{
    c->calm = true;
    fast_again(c, NULL);
    for (unsigned a = 0; a < c->count; a++) {
        struct sim_node *node = &c->nodes[a];
        for (unsigned b = 0; b < c->count; b++) sim_net_block(&c->net, a, b, false);
        sim_clock_right(&node->env);
        if (node->crash_after != 0) node->crash_after = 0;
        sim_node_disk_faults(node, NULL);
        node->down_until_us = 0;
    }
    while (true) {
        bool all = true;
        sim_restart_due(c);
        for (unsigned i = 0; i < c->count; i++) all = all && c->nodes[i].store != NULL;
        if (all) return;
        sim_cluster_pass(c, 1000000);
    }
}
