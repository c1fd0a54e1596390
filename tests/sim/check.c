#include "sim/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "node/node.h"
#include "node/peers.h"

#define WAIT_MS 120000 /* for a node to call itself converged */

static int key_chars(struct slice key)
{
    return (int)(key.len > 0 && key.data[key.len - 1] == 0 ? key.len - 1 : key.len);
}

static bool holds(const struct sim_entries *entries, const struct entry *e)
{
    for (size_t i = 0; i < entries->count; i++) {
        const struct entry *other = &entries->items[i].entry;
        if (author_id_equal(&other->author, &e->author) && slice_equal(other->key, e->key) &&
            record_compare(&other->record, &e->record) == 0)
            return true;
    }
    return false;
}

/* ---- at any moment ---- */

/* A disk that fails or a crash that is due excuse every error. */
static bool excused(const struct sim_node *node)
{
    return node->disk_faults || node->crash_after != 0 || node->died || node->env.frozen;
}

void sim_check_node(struct sim_node *node)
{
    struct sim_cluster *c = node->cluster;
    struct hkv_status status;
    struct sim_entries entries;
    if (hkv_status(node->store, &status) != HKV_OK) {
        if (!excused(node)) sim_fail(c, "node %u has no status: %s", node->index, hkv_last_error());
        return;
    }
    if (sim_entries_read(node->store->kv, &entries) != HKV_OK) {
        if (!excused(node)) sim_fail(c, "node %u: entries cannot be read: %s", node->index, hkv_last_error());
        return;
    }
    size_t missing = 0;
    for (size_t i = 0; i < entries.count; i++) missing += !entries.items[i].has_content;
    if (missing > 0 && status.healthy)
        sim_fail(c, "node %u calls itself healthy while the values of %zu entries are missing", node->index, missing);
    if (missing > 0 && !status.conditions[HKV_CONDITION_VALUES_COMPLETE]) sim_mark(c, SIM_MARK_UNHEALTHY_WHILE_MISSING);
    if (status.entries != entries.count)
        sim_fail(c, "node %u counts %llu entries and holds %zu", node->index, (unsigned long long)status.entries,
                 entries.count);
    if (status.entries_refused > 0) sim_mark(c, SIM_MARK_REFUSED_STAMP);
    sim_entries_fini(&entries);
}

void sim_check_read(struct sim_node *node, const char *key)
{
    struct sim_cluster *c = node->cluster;
    struct hkv_value value = {0};
    enum hkv_err err = hkv_get(node->store, key, strlen(key), &value);
    /* Found by this read, or by a check before it. */
    const char *why = hkv_last_error();
    bool is_value = strstr(why, "blobs/") != NULL || strstr(why, "value was damaged on this node's disk") != NULL;
    if (err == HKV_E_CORRUPT && node->damaged && is_value) {
        sim_mark(c, SIM_MARK_DAMAGED_VALUE_REFUSED);
        return;
    }
    if (err == HKV_E_NOT_FOUND || (err != HKV_OK && excused(node))) return;
    if (err != HKV_OK) sim_fail(c, "node %u: %s cannot be read: %s", node->index, key, hkv_last_error());
    if (!sim_model_explains(&c->model, slice_of(key, strlen(key) + 1), &value))
        sim_fail(c, "node %u: %s shows %llu bytes of stamp %llu, as nobody wrote them", node->index, key,
                 (unsigned long long)value.length, (unsigned long long)value.version.stamp_us);
    hkv_value_free(&value);
}

void sim_check_stored(struct sim_node *node, bool mended)
{
    struct hkv_verify_result r;
    enum hkv_err err = hkv_verify(node->store, NULL, &r);
    if (err != HKV_OK && excused(node)) return;
    if (err != HKV_OK)
        sim_fail(node->cluster, "node %u cannot verify what it stores: %s", node->index, hkv_last_error());
    uint64_t values_bad = r.kinds[HKV_VERIFY_VALUES].bad;
    uint64_t bad = r.kinds[HKV_VERIFY_ENTRIES].bad + r.kinds[HKV_VERIFY_SPANS].bad + r.kinds[HKV_VERIFY_INDEX].bad;
    if (bad > 0 || (values_bad > 0 && (mended || !node->damaged)) || r.unreadable)
        sim_fail(node->cluster, "node %u verifies what it stores: %s", node->index, r.first);
    if (values_bad > 0) sim_mark(node->cluster, SIM_MARK_DAMAGED_VALUE_FETCHED);
}

/* ---- durability ---- */

static void fail_lost(struct sim_node *node, const struct sim_write *w, const char *when)
{
    struct slice key = slice_of(w->key, w->key_len);
    sim_fail(node->cluster, "node %u: %s, write %zu is lost: key %.*s, stamp %llu, acknowledged by node %u in life %u",
             node->index, when, w->number, key_chars(key), (const char *)w->key, (unsigned long long)w->stamp_us,
             w->node, w->life);
}

static void mark_orphan(struct sim_node *node, const struct sim_entries *entries, struct sim_write *w)
{
    bool found = false;
    for (size_t i = 0; i < entries->count; i++)
        found = found || hash_equal(&entries->items[i].entry.record.hash, &w->hash);
    if (!found) sim_mark(node->cluster, SIM_MARK_CRASH_BETWEEN_VALUE_AND_ENTRY);
    w->file_seen = false;
}

void sim_check_durable(struct sim_node *node)
{
    struct sim_cluster *c = node->cluster;
    struct sim_entries entries;
    if (sim_entries_read(node->store->kv, &entries) != HKV_OK) {
        if (!excused(node)) sim_fail(c, "node %u: entries cannot be read: %s", node->index, hkv_last_error());
        return;
    }
    for (size_t i = 0; i < c->model.count; i++) {
        struct sim_write *w = c->model.writes[i];
        if (w->node == node->index && w->outcome == SIM_ACKED && !sim_entries_cover(&entries, w))
            fail_lost(node, w, "after a start");
        if (w->node == node->index && w->file_seen) mark_orphan(node, &entries, w);
    }
    sim_entries_fini(&entries);
}

/* ---- waiting for convergence ---- */

static void read_entries(struct sim_node *node, struct sim_entries *out)
{
    if (sim_entries_read(node->store->kv, out) != HKV_OK)
        sim_fail(node->cluster, "node %u: entries cannot be read: %s", node->index, hkv_last_error());
}

/* Everything that `from` held before is at `to` now. */
static void check_moved(struct sim_node *waiter, struct sim_node *from, const struct sim_entries *before,
                        struct sim_node *to)
{
    struct sim_entries now;
    read_entries(to, &now);
    for (size_t i = 0; i < before->count; i++) {
        const struct entry *e = &before->items[i].entry;
        if (!sim_entries_cover_entry(&now, e))
            sim_fail(waiter->cluster, "node %u calls itself converged, and an entry of node %u is not at node %u: %.*s",
                     waiter->index, from->index, to->index, key_chars(e->key), (const char *)e->key.data);
    }
    sim_entries_fini(&now);
}

static void check_waited(struct sim_node *node, struct sim_node *peer, const struct sim_entries *here,
                         const struct sim_entries *there)
{
    struct hkv_status status;
    check_moved(node, peer, there, node);
    /* What the peer refuses for its stamp is not there, and only the peer knows. */
    if (hkv_status(peer->store, &status) == HKV_OK && status.entries_refused == 0) check_moved(node, node, here, peer);
}

/* Of the entries that it held before, those that are still there have their values. */
static void check_values(struct sim_node *node, const struct sim_entries *before)
{
    struct sim_entries now;
    read_entries(node, &now);
    for (size_t i = 0; i < now.count; i++)
        if (!now.items[i].has_content && holds(before, &now.items[i].entry))
            sim_fail(node->cluster, "node %u calls itself converged without the value of %.*s", node->index,
                     key_chars(now.items[i].entry.key), (const char *)now.items[i].entry.key.data);
    sim_entries_fini(&now);
}

void sim_check_wait(struct sim_node *node, bool must)
{
    struct sim_cluster *c = node->cluster;
    struct sim_entries before[SIM_NODES_MAX] = {0};
    bool selected[SIM_NODES_MAX] = {0};
    for (unsigned i = 0; i < c->count; i++) /* a crash that was due may come only now */
        if (c->nodes[i].store == NULL || c->nodes[i].died || c->nodes[i].env.frozen) return;
    for (unsigned i = 0; i < c->count; i++) {
        const struct peer *peer = peers_find(&node->store->peers, &c->nodes[i].id);
        selected[i] = i != node->index && peer != NULL && peer_is_selected(peer);
        read_entries(&c->nodes[i], &before[i]);
    }
    enum hkv_err err = hkv_wait_converged(node->store, NULL, 0, WAIT_MS, NULL);
    if (err != HKV_OK && must) sim_fail(c, "node %u does not converge: %s", node->index, hkv_last_error());
    if (err == HKV_OK) check_values(node, &before[node->index]);
    for (unsigned i = 0; i < c->count; i++)
        if (err == HKV_OK && selected[i]) check_waited(node, &c->nodes[i], &before[node->index], &before[i]);
    for (unsigned i = 0; i < c->count; i++) sim_entries_fini(&before[i]);
}

/* ---- the end ---- */

/* Prints the entries of one node that the other lacks. */
static void tell_difference(struct sim_node *node, struct sim_node *other)
{
    struct sim_entries have, lack;
    if (sim_entries_read(node->store->kv, &have) != HKV_OK) return;
    if (sim_entries_read(other->store->kv, &lack) == HKV_OK) {
        for (size_t i = 0; i < have.count; i++) {
            const struct entry *e = &have.items[i].entry;
            const struct sim_write *w = sim_model_find(&node->cluster->model, e);
            if (holds(&lack, e)) continue;
            printf(
                "  node %u has and node %u has not: key %.*s%s, author %02x%02x, stamp %llu, %llu bytes, write %zd\n",
                node->index, other->index, key_chars(e->key), (const char *)e->key.data,
                e->key.len > 0 && e->key.data[e->key.len - 1] == 0 ? "" : " (raw)", e->author.bytes[0],
                e->author.bytes[1], (unsigned long long)e->record.stamp_us, (unsigned long long)e->record.length_bytes,
                w == NULL ? (ssize_t)-1 : (ssize_t)w->number);
        }
        sim_entries_fini(&lack);
    }
    sim_entries_fini(&have);
}

void sim_tell_differences(struct sim_cluster *c)
{
    for (unsigned i = 1; i < c->count; i++) {
        tell_difference(&c->nodes[0], &c->nodes[i]);
        tell_difference(&c->nodes[i], &c->nodes[0]);
    }
}

/* Names the first entry whose value is missing. */
static void tell_missing(struct sim_node *node, uint64_t count, char *why, size_t size)
{
    struct sim_entries entries;
    int at = snprintf(why, size, "node %u lacks %llu values", node->index, (unsigned long long)count);
    if (sim_entries_read(node->store->kv, &entries) != HKV_OK) return;
    for (size_t i = 0; i < entries.count; i++) {
        const struct sim_write *w = sim_model_find(&node->cluster->model, &entries.items[i].entry);
        if (entries.items[i].has_content || w == NULL) continue;
        (void)snprintf(why + at, size - (size_t)at, ", one of them that of write %zu (%llu bytes, made on node %u)",
                       w->number, (unsigned long long)w->content_length, w->node);
        break;
    }
    sim_entries_fini(&entries);
}

bool sim_converged(struct sim_cluster *c, char *why, size_t size)
{
    struct hkv_status first = {0};
    for (unsigned i = 0; i < c->count; i++) {
        struct hkv_status s;
        if (c->nodes[i].store == NULL) { /* a crash that was due came only now */
            (void)snprintf(why, size, "node %u is down", i);
            return false;
        }
        if (hkv_status(c->nodes[i].store, &s) != HKV_OK) sim_fail(c, "node %u has no status: %s", i, hkv_last_error());
        if (i == 0) first = s;
        if (s.values_missing + s.values_bad > 0) {
            tell_missing(&c->nodes[i], s.values_missing + s.values_bad, why, size);
            return false;
        }
        if (strcmp(s.fingerprint, first.fingerprint) != 0 || s.entries != first.entries) {
            (void)snprintf(why, size, "node %u has %llu entries, fingerprint %.8s; node 0 %llu, %.8s", i,
                           (unsigned long long)s.entries, s.fingerprint, (unsigned long long)first.entries,
                           first.fingerprint);
            return false;
        }
        if (s.entries_refused > 0) {
            (void)snprintf(why, size, "node %u still refuses %llu entries", i, (unsigned long long)s.entries_refused);
            return false;
        }
    }
    return true;
}

static bool is_user_key(struct slice key, struct slice *name)
{
    return kv_key_classify(key, name) == KV_KEY_USER;
}

/* What the node must answer for one key. */
static void check_key(struct sim_node *node, const struct sim_entries *entries, struct slice key, struct slice name)
{
    struct sim_cluster *c = node->cluster;
    const struct entry *e = &sim_entries_winner(entries, key)->entry;
    const struct sim_write *w = sim_model_find(&c->model, e);
    struct hkv_value value = {0};
    if (w == NULL)
        sim_fail(c, "node %u holds an entry that nobody wrote: key %.*s, stamp %llu", node->index, (int)name.len,
                 (const char *)name.data, (unsigned long long)e->record.stamp_us);
    bool expired = w->expires_us != 0 && w->expires_us <= env_wall_us(&node->env.env);
    bool present = w->kind == KV_VALUE && !expired;
    enum hkv_err err = hkv_get(node->store, name.data, name.len, &value);
    /* Expired for good on a node whose clock was ahead; the others still show it for a while. */
    bool seen_expired = w->expires_us != 0 && w->expires_us <= node->env.wall_max_us;
    if (err == HKV_E_NOT_FOUND && seen_expired) return;
    if ((err == HKV_OK) != present || (err != HKV_OK && err != HKV_E_NOT_FOUND))
        sim_fail(c, "node %u: %.*s should be %s by write %zu, and is %s", node->index, (int)name.len,
                 (const char *)name.data, present ? "present" : "absent", w->number,
                 err == HKV_OK ? "present" : hkv_last_error());
    if (!present) return;
    uint8_t *expected = sim_value(w->value_number, w->value_length);
    bool same = value.length == w->value_length && memcmp(value.data, expected, w->value_length) == 0;
    if (!same || value.version.stamp_us != e->record.stamp_us || value.expires_us != w->expires_us)
        sim_fail(c, "node %u: %.*s should show write %zu with %zu bytes, and shows %llu %s bytes", node->index,
                 (int)name.len, (const char *)name.data, w->number, w->value_length, (unsigned long long)value.length,
                 same ? "right" : "wrong");
    free(expected);
    hkv_value_free(&value);
}

static void mark_keys(struct sim_cluster *c, const struct sim_entries *entries, struct slice key)
{
    size_t authors = 0;
    for (size_t i = 0; i < entries->count; i++) {
        const struct entry *e = &entries->items[i].entry;
        if (!slice_equal(e->key, key)) continue;
        authors++;
        for (size_t k = 0; k < i; k++)
            if (slice_equal(entries->items[k].entry.key, key) &&
                entries->items[k].entry.record.stamp_us == e->record.stamp_us)
                sim_mark(c, SIM_MARK_EQUAL_STAMPS);
    }
    if (authors >= 3) sim_mark(c, SIM_MARK_THREE_AUTHORS);
}

static void check_map(struct sim_node *node, const struct sim_entries *entries)
{
    struct sim_cluster *c = node->cluster;
    struct hkv_status status;
    struct hkv_page *page;
    size_t present = 0;
    for (size_t i = 0; i < entries->count; i++) {
        struct slice name, key = entries->items[i].entry.key;
        /* Nodes that just started write records about themselves, whose values may still be on their way. */
        if (!entries->items[i].has_content && sim_model_find(&c->model, &entries->items[i].entry) != NULL)
            sim_fail(c, "node %u has not the value of entry %zu, which it had", node->index, i);
        if (&entries->items[i] != sim_entries_winner(entries, key) || !is_user_key(key, &name)) continue;
        check_key(node, entries, key, name);
        struct hkv_value value;
        if (hkv_get_upto(node->store, name.data, name.len, 0, &value) == HKV_OK) {
            present++;
            hkv_value_free(&value);
        }
        if (node->index == 0) mark_keys(c, entries, key);
    }
    if (hkv_list(node->store, "", 0, 0, NULL, &page) != HKV_OK || hkv_status(node->store, &status) != HKV_OK)
        sim_fail(c, "node %u cannot be listed: %s", node->index, hkv_last_error());
    if (page->count != present)
        sim_fail(c, "node %u lists %zu keys, %zu are present", node->index, page->count, present);
    hkv_page_free(page);
}

void sim_check_end(struct sim_cluster *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        struct sim_node *node = &c->nodes[i];
        struct sim_entries entries;
        if (sim_entries_read(node->store->kv, &entries) != HKV_OK)
            sim_fail(c, "node %u: entries cannot be read: %s", i, hkv_last_error());
        for (size_t k = 0; k < c->model.count; k++) {
            const struct sim_write *w = c->model.writes[k];
            if (w->outcome == SIM_ACKED && !sim_entries_cover(&entries, w)) fail_lost(node, w, "in the end");
        }
        check_map(node, &entries);
        sim_entries_fini(&entries);
        sim_watch_check(node);
        sim_check_node(node);
        sim_check_stored(node, true);
    }
}
