#include "sim/workload.h"

#include <stdio.h>
#include <stdlib.h>

#include "crypto/blake3.h"
#include "node/node.h"
#include "sim/check.h"

#define VALUE_MAX      ((size_t)100 * 1024)
#define FUTURE_STEP_US ((uint64_t)620000000) /* beyond KV_FUTURE_US */

/* Keys of which some are prefixes of others, so that raw ones of the foreign program remove several. */
static const char *const keys[] = {"a", "ab", "abc", "b", "ba", "a/1", "a/10", "b/x", "c", "ab/1", "abd", "d"};

#define KEYS_MAX (sizeof keys / sizeof keys[0])

static const char *some_key(struct sim_cluster *c)
{
    size_t count = c->key_count < KEYS_MAX ? c->key_count : KEYS_MAX;
    return keys[sim_below(&c->queue, count)];
}

static struct sim_node *some_node(struct sim_cluster *c)
{
    for (unsigned tries = 0; tries < 8; tries++) {
        struct sim_node *node = &c->nodes[sim_below(&c->queue, c->count)];
        if (node->store != NULL && !node->died && !node->env.frozen) return node;
    }
    return NULL;
}

/* ---- local writes ---- */

struct pending {
    struct sim_node *node;
    unsigned life;
    struct sim_write *write;
    bool large;
};

/* Errors that promise that nothing was changed. Those of the disk do not: what is in the log may count later. */
static bool changed_nothing(enum hkv_err err)
{
    return err == HKV_E_CONFLICT || err == HKV_E_KEY || err == HKV_E_READ_ONLY || err == HKV_E_CLOCK ||
           err == HKV_E_STAMP_AHEAD || err == HKV_E_BUSY || err == HKV_E_VALUE_TOO_LARGE || err == HKV_E_INVALID ||
           err == HKV_E_LIMIT || err == HKV_E_FORMAT_UNKNOWN;
}

static void mark_error(struct sim_cluster *c, enum hkv_err err)
{
    if (err == HKV_E_DISK_FULL) sim_mark(c, SIM_MARK_FULL_DISK_IN_COMMIT);
    if (err == HKV_E_DISK) sim_mark(c, SIM_MARK_IO_ERROR_IN_COMMIT);
    if (err == HKV_E_CLOCK) sim_mark(c, SIM_MARK_BAD_CLOCK_REFUSED);
    if (err == HKV_E_CONFLICT) sim_mark(c, SIM_MARK_CONDITION_LOST);
    if (err == HKV_E_STAMP_AHEAD) sim_mark(c, SIM_MARK_REFUSED_STAMP);
}

/* An error that nothing in this world explains. */
static void check_excused(struct sim_node *node, enum hkv_err err, const char *why)
{
    bool disk = err == HKV_E_DISK || err == HKV_E_DISK_FULL || err == HKV_E_CORRUPT;
    if (changed_nothing(err) || err == HKV_E_CLOSED || node->died || node->env.frozen) return;
    if (disk && (node->disk_faults || node->crash_after != 0)) return;
    sim_fail(node->cluster, "node %u: a write fails without a reason: %s", node->index, why);
}

static void write_done(void *arg, enum hkv_err err, const char *error, const struct hkv_write_result *result)
{
    struct pending *p = arg;
    struct sim_cluster *c = p->node->cluster;
    bool alive = !p->node->died && !p->node->env.frozen && p->node->life == p->life;
    sim_trace(&c->queue, "write done", p->write->number, (uint64_t)err);
    if (p->large) p->node->large_pending--;
    if (alive && err == HKV_OK) {
        p->write->outcome = SIM_ACKED;
        p->write->stamp_us = result->version.stamp_us;
        sim_say(c, "node %u: write %zu is acknowledged, stamp …%llu", p->node->index, p->write->number,
                (unsigned long long)(p->write->stamp_us % 10000000000));
    } else if (err != HKV_OK) {
        if (changed_nothing(err)) p->write->outcome = SIM_FAILED;
        mark_error(c, err);
        check_excused(p->node, err, error);
        sim_say(c, "node %u: write %zu fails: %s", p->node->index, p->write->number, error);
    }
    free(p);
}

static struct sim_write *write_new(struct sim_cluster *c, struct sim_node *node, const char *key)
{
    struct sim_write *w = sim_model_add(&c->model);
    w->node = node->index;
    w->life = node->life;
    w->author = node->author;
    w->key_len = strlen(key) + 1;
    memcpy(w->key, key, w->key_len);
    return w;
}

static size_t some_length(struct sim_cluster *c)
{
    uint64_t kind = sim_below(&c->queue, 10);
    if (kind == 0) return 0;
    if (kind < 8) return (size_t)sim_below(&c->queue, 300);
    return (size_t)sim_skewed(&c->queue, VALUE_MAX);
}

static void some_value(struct sim_cluster *c, struct sim_write *w)
{
    w->value_number = w->number + SIM_VALUE_POOL;
    w->value_length = some_length(c);
    if (!sim_chance(&c->queue, 200000)) return;
    w->value_number = (size_t)sim_below(&c->queue, SIM_VALUE_POOL);
    w->value_length = w->value_number * 7000;
}

static void local_write(struct sim_node *node, const char *key, bool put, const struct hkv_write_options *options)
{
    struct sim_cluster *c = node->cluster;
    struct sim_write *w = write_new(c, node, key);
    struct pending *p = malloc(sizeof *p);
    if (p == NULL) abort();
    w->kind = put ? KV_VALUE : KV_TOMBSTONE;
    if (put) some_value(c, w);
    if (options->ttl_ms != 0) w->expires_us = env_wall_us(&node->env.env) + options->ttl_ms * 1000;
    sim_write_content(w);
    *p = (struct pending){node, node->life, w, w->content_length > KV_VALUE_INLINE_MAX};
    if (p->large) node->large_pending++;
    sim_say(c, "node %u: write %zu: %s %s, %zu bytes", node->index, w->number, put ? "put" : "delete", key,
            w->value_length);
    enum hkv_err err;
    if (put) {
        uint8_t *value = sim_value(w->value_number, w->value_length);
        err = hkv_put_async(node->store, key, strlen(key), value, w->value_length, options, write_done, p);
        free(value);
    } else {
        err = hkv_delete_async(node->store, key, strlen(key), options, write_done, p);
    }
    bool accident = p->large && err == HKV_OK && !c->calm && (c->options->faults >> SIM_FAULT_CRASH & 1) != 0 &&
                    sim_chance(&c->queue, 50000);
    if (err != HKV_OK) write_done(p, err, hkv_last_error(), NULL);
    if (!accident) return;
    sim_node_crash(node); /* the value's file is there, the entry is not */
    node->down_until_us = sim_now(&c->queue) + sim_skewed(&c->queue, 10000000);
}

/* Waits for the outcome, and reads its own write. */
static void blocking_write(struct sim_node *node, const char *key)
{
    struct sim_cluster *c = node->cluster;
    struct sim_write *w = write_new(c, node, key);
    struct hkv_write_result result = {0};
    struct hkv_value value = {0};
    w->kind = KV_VALUE;
    some_value(c, w);
    sim_write_content(w);
    sim_say(c, "node %u: write %zu: put %s and wait", node->index, w->number, key);
    uint8_t *bytes = sim_value(w->value_number, w->value_length);
    enum hkv_err err = hkv_put(node->store, key, strlen(key), bytes, w->value_length, NULL, &result);
    free(bytes);
    mark_error(c, err);
    if (changed_nothing(err)) w->outcome = SIM_FAILED;
    if (err != HKV_OK) check_excused(node, err, hkv_last_error());
    if (err != HKV_OK || node->died || node->env.frozen) return;
    w->outcome = SIM_ACKED;
    w->stamp_us = result.version.stamp_us;
    err = hkv_get_upto(node->store, key, strlen(key), 0, &value);
    bool older = err == HKV_OK && value.version.stamp_us < w->stamp_us;
    if (older || (err != HKV_OK && err != HKV_E_NOT_FOUND && !node->disk_faults && node->crash_after == 0))
        sim_fail(c, "node %u: write %zu is acknowledged, and a read then tells: %s", node->index, w->number,
                 older ? "an older version" : hkv_last_error());
    if (err == HKV_OK) hkv_value_free(&value);
}

static void conditional_write(struct sim_node *node, const char *key)
{
    struct hkv_write_options options = {.expect = HKV_EXPECT_ABSENT};
    struct hkv_value value = {0};
    if (hkv_get_upto(node->store, key, strlen(key), 0, &value) == HKV_OK) {
        options.expect = HKV_EXPECT_VERSION;
        options.version = value.version;
        hkv_value_free(&value);
    }
    uint64_t writers = 1 + sim_below(&node->cluster->queue, 2); /* the second finds another version */
    for (uint64_t i = 0; i < writers; i++) local_write(node, key, true, &options);
}

/* Two nodes whose clocks stand still at the same moment write the same key. */
static void twin_write(struct sim_cluster *c)
{
    struct sim_node *a = some_node(c), *b = some_node(c);
    struct hkv_write_options options = {0};
    if (a == NULL || b == NULL || a == b) return;
    const char *key = some_key(c);
    struct sim_env before[2] = {a->env, b->env};
    uint64_t wall_us = sim_true_wall_us(&c->queue) + 1000000;
    a->env.wall_stopped_us = b->env.wall_stopped_us = wall_us;
    local_write(a, key, true, &options);
    local_write(b, key, true, &options);
    a->env.wall_stopped_us = before[0].wall_stopped_us;
    b->env.wall_stopped_us = before[1].wall_stopped_us;
}

/* ---- the foreign program: entries as a Rust peer would send them, keys of any shape ---- */

struct injection {
    struct commit_task task; /* first */
    struct sim_node *node;
    unsigned life;
    struct sim_write *write;
    struct entry entry;
    struct buf content;
    enum docs_insert insert;
};

static enum hkv_err inject_apply(struct commit_task *task, struct kv *kv)
{
    struct injection *in = (struct injection *)(void *)task;
    struct docs_replica *r = kv_docs(kv);
    struct docs_origin origin = {.peer = {{0xfe}}};
    struct entry parent;
    struct buf parent_key = {0};
    enum hkv_err err = r->ops->insert(r, &in->entry, &origin, &in->insert, &parent, &parent_key);
    buf_fini(&parent_key);
    if (err != HKV_OK || in->write->empty) return err;
    /* Remembered for later: the content would be nowhere then, unless every node knows it. */
    if (in->insert == DOCS_FUTURE && in->write->value_length > 0)
        return error_set(HKV_E_CLOCK, "the foreign program tries no more");
    return kv_value_arrived(kv, &in->write->hash, buf_slice(&in->content), NULL);
}

static void inject_complete(struct commit_task *task, enum hkv_err err)
{
    struct injection *in = (struct injection *)(void *)task;
    bool alive = !in->node->died && !in->node->env.frozen && in->node->life == in->life;
    bool taken = in->insert != DOCS_FUTURE && in->insert != DOCS_REFUSED;
    sim_trace(&in->node->cluster->queue, "injected", in->write->number, (uint64_t)in->insert);
    if (alive && err == HKV_OK && taken) in->write->outcome = SIM_ACKED;
    if (alive && err == HKV_OK && in->insert == DOCS_FUTURE) sim_mark(in->node->cluster, SIM_MARK_REFUSED_STAMP);
    if (err == HKV_E_CLOCK) in->write->outcome = SIM_FAILED;
    if (err != HKV_OK) check_excused(in->node, err, error_last());
    buf_fini(&in->content);
    free(in);
}

static void foreign_shape(struct sim_cluster *c, struct sim_write *w)
{
    bool raw = sim_chance(&c->queue, 400000);
    if (raw) w->key_len = sim_chance(&c->queue, 50000) ? 0 : w->key_len - 1;
    w->empty = sim_chance(&c->queue, raw ? 600000 : 200000);
    w->kind = w->empty ? KV_TOMBSTONE : KV_VALUE;
    w->value_number = w->number + SIM_VALUE_POOL;
    w->value_length = w->empty ? 0 : 1 + (size_t)sim_below(&c->queue, 200);
}

static void foreign_stamp(struct sim_cluster *c, struct sim_write *w)
{
    uint64_t kind = sim_below(&c->queue, 20);
    w->stamp_us = sim_true_wall_us(&c->queue);
    if (kind == 0) { /* it is stored much later: with a content that every node knows */
        w->stamp_us += FUTURE_STEP_US;
        w->value_length = 0;
    } else if (kind == 1) {
        w->stamp_us -= sim_below(&c->queue, 60000000);
    } else if (kind == 2) {
        w->stamp_us += sim_below(&c->queue, 5000000);
    }
}

static void foreign_write(struct sim_node *node)
{
    struct sim_cluster *c = node->cluster;
    size_t author = (size_t)sim_below(&c->queue, SIM_FOREIGN_MAX);
    struct sim_write *w = write_new(c, node, some_key(c));
    struct injection *in = calloc(1, sizeof *in);
    if (in == NULL) abort();
    w->foreign = true;
    w->author = c->foreign[author];
    foreign_shape(c, w);
    foreign_stamp(c, w);
    sim_write_content(w);
    sim_write_content_bytes(w, &in->content);
    in->task = (struct commit_task){.apply = inject_apply, .complete = inject_complete};
    in->node = node;
    in->life = node->life;
    in->write = w;
    in->entry = (struct entry){
        .namespace = c->namespace,
        .author = w->author,
        .key = slice_of(w->key, w->key_len),
        .record = {.length_bytes = w->content_length, .stamp_us = w->stamp_us, .hash = w->hash},
    };
    if (entry_sign(&in->entry, &c->namespace_secret, &c->foreign_secret[author]) != HKV_OK) abort();
    sim_say(c, "node %u: write %zu: a foreign %sentry at %.*s%s", node->index, w->number, w->empty ? "empty " : "",
            (int)w->key_len, (const char *)w->key, w->key_len > 0 && w->key[w->key_len - 1] == 0 ? "" : " (raw)");
    committer_submit(&node->store->committer, &in->task);
}

/* ---- all ---- */

void sim_workload_step(struct sim_cluster *c)
{
    struct sim_node *node = some_node(c);
    if (node == NULL) return;
    struct hkv_write_options options = {0};
    uint64_t kind = sim_below(&c->queue, 100);
    if (kind < 12) {
        foreign_write(node);
    } else if (kind < 16) {
        twin_write(c);
    } else if (kind < 24) {
        sim_check_node(node);
        sim_check_read(node, some_key(c));
    } else if (kind < 34) {
        conditional_write(node, some_key(c));
    } else if (kind < 44) {
        local_write(node, some_key(c), false, &options);
    } else if (kind < 54) {
        blocking_write(node, some_key(c));
    } else {
        if (kind < 62) options.ttl_ms = sim_between(&c->queue, 1, 60000);
        local_write(node, some_key(c), true, &options);
    }
}
