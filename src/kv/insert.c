/* One accepted entry, or one arrived value, into every table. */
#include <assert.h>
#include <stdlib.h>

#include "kv/internal.h"

#define CHILDREN_BATCH_BYTES 65536 /* ids of entries to remove, read before they are removed */

enum hkv_err kv_op_ref(struct kv_op *op, uint64_t value, int64_t delta)
{
    if (value_is_constant(value)) return HKV_OK;
    for (size_t i = op->ref_count; i > 0 && op->ref_count - i < 8; i--) {
        if (op->refs[i - 1].id != value) continue;
        op->refs[i - 1].delta += delta;
        return HKV_OK;
    }
    if (op->ref_count == op->ref_cap) {
        size_t cap = op->ref_cap ? op->ref_cap * 2 : 8;
        struct kv_ref_delta *grown = realloc(op->refs, cap * sizeof *grown);
        if (!grown) return error_set(HKV_E_NOMEM, "references of an entry");
        op->refs = grown;
        op->ref_cap = cap;
    }
    op->refs[op->ref_count++] = (struct kv_ref_delta){value, delta};
    return HKV_OK;
}

void kv_op_fini(struct kv_op *op)
{
    free(op->refs);
    buf_fini(&op->providers);
}

/* What was collected for one value, taken out of the list. */
static int64_t take_refs(struct kv_op *op, uint64_t value)
{
    int64_t sum = 0;
    for (size_t i = 0; i < op->ref_count; i++) {
        if (op->refs[i].id != value) continue;
        sum += op->refs[i].delta;
        op->refs[i].delta = 0;
    }
    return sum;
}

/* A value that is not present is removed, or becomes present. */
static enum hkv_err leave_state(struct kv *kv, const struct value_row *old)
{
    TRY(kv_wanted_forget(kv, old->id));
    if (old->state == VALUE_MISSING) kv->counters.missing--;
    if (old->state == VALUE_TOO_LARGE) kv->counters.too_large--;
    if (old->state != VALUE_BAD) return HKV_OK;
    kv->counters.bad--;
    if (!old->file) return HKV_OK;
    kv->counters.file_bytes -= old->length;
    return kv_file_doomed(kv, &old->hash, old->file);
}

static enum hkv_err change_refs(struct kv *kv, uint64_t id, int64_t delta)
{
    struct value_row v;
    bool found;
    TRY(values_get(&kv->db, id, &v, &found));
    if (!found || v.refs + delta < 0)
        return error_set(HKV_E_CORRUPT, "%s: references of value %ju are miscounted", kv->db_path, (uintmax_t)id);
    v.refs += delta;
    uint64_t due_us = kv->steady_us + VALUE_GRACE_US;
    if (v.refs == 0 && kv->freed_due_us > due_us) kv->freed_due_us = due_us;
    if (v.refs > 0 || v.state == VALUE_PRESENT) return values_set_refs(&kv->db, id, v.refs, kv->steady_us);
    TRY(leave_state(kv, &v));
    return values_remove(&kv->db, id);
}

static enum hkv_err store_value(struct kv_op *op)
{
    struct kv *kv = op->kv;
    op->value.refs += take_refs(op, op->value.id);
    if (op->step == KV_VALUE_FILL) {
        TRY(leave_state(kv, &op->filled));
        if (op->value.file) kv->counters.file_bytes += op->value.length;
        return values_fill(&kv->db, &op->value, &op->body);
    }
    assert(op->value.refs > 0);
    if (op->value.state == VALUE_MISSING) {
        kv->counters.missing++;
        kv_wanted_noticed(kv, op->body.next_try_us);
    }
    if (op->value.state == VALUE_TOO_LARGE) kv->counters.too_large++;
    if (op->value.file) kv->counters.file_bytes += op->value.length;
    return values_add(&kv->db, &op->value, &op->body);
}

static enum hkv_err apply_refs(struct kv_op *op)
{
    /* Additions first, so that nothing that is still in use looks free in between. */
    for (size_t i = 0; i < op->ref_count; i++)
        if (op->refs[i].delta > 0) TRY(change_refs(op->kv, op->refs[i].id, op->refs[i].delta));
    for (size_t i = 0; i < op->ref_count; i++)
        if (op->refs[i].delta < 0) TRY(change_refs(op->kv, op->refs[i].id, op->refs[i].delta));
    op->ref_count = 0;
    return HKV_OK;
}

enum hkv_err kv_op_finish(struct kv_op *op)
{
    if (op->step != KV_VALUE_KEEP) TRY(store_value(op));
    return apply_refs(op);
}

/* Applies what was collected so far, lest it be as much as entries are removed. The entry's own value waits: it is not
 * free, though nothing may refer to it yet. */
static enum hkv_err apply_refs_of_others(struct kv_op *op)
{
    int64_t own = take_refs(op, op->value.id);
    TRY(apply_refs(op));
    return own ? kv_op_ref(op, op->value.id, own) : HKV_OK;
}

/* ------------------------------------------------------------------------------------------ removal by prefix */

static enum hkv_err remove_child(struct kv_op *op, struct slice id)
{
    struct kv *kv = op->kv;
    struct entry_row row;
    struct fingerprint print;
    struct slice name;
    bool found;
    TRY(entries_find(&kv->db, id, &row, &found));
    assert(found);
    entries_fingerprint(&kv->config.namespace, &row, &print);
    TRY(entries_remove(&kv->db, &row));
    TRY(spans_change(kv->spans, id, -1, &print));
    kv->counters.entries--;
    TRY(kv_op_ref(op, row.value, -1));
    if (kv_key_classify(row.key, &name) != KV_KEY_FOREIGN) return kv_shown_removed(op, &row);
    kv->counters.foreign--;
    return HKV_OK;
}

/* Collects ids below the prefix `id`, after `after`, whose record is not greater than `limit`, as length and bytes
 * each. */
static enum hkv_err collect_children(struct kv *kv, struct slice id, const struct record *limit, struct buf *after,
                                     struct buf *out, bool *end)
{
    sqlite3_stmt *s;
    struct buf child = {0};
    enum hkv_err err = HKV_OK;
    *end = false;
    buf_clear(out);
    TRY(entries_scan(&kv->db, SQL_ENTRY_SCAN, buf_slice(after), &s));
    while (err == HKV_OK && out->len < CHILDREN_BATCH_BYTES) {
        bool found;
        struct entry_row row = {0};
        err = db_row(&kv->db, s, &found);
        if (err == HKV_OK && found) err = entries_read(&kv->db, s, &row);
        if (err == HKV_OK && found) err = entries_id(&child, &row.author, row.key);
        if (err != HKV_OK) break;
        if (!found || !slice_starts_with(buf_slice(&child), id)) {
            *end = true;
            break;
        }
        if (child.len == id.len || record_compare(&row.record, limit) > 0) continue;
        uint8_t len[8];
        be64_store(len, child.len);
        err = buf_append(out, len, sizeof len);
        if (err == HKV_OK) err = buf_append_slice(out, buf_slice(&child));
        if (err == HKV_OK) err = buf_assign(after, buf_slice(&child));
    }
    sqlite3_reset(s);
    buf_fini(&child);
    return err;
}

static enum hkv_err remove_children(struct kv_op *op, struct slice id, const struct record *limit)
{
    struct buf batch = {0};
    struct buf after = {0};
    struct kv_cause cause = op->cause;
    bool end = false;
    enum hkv_err err = buf_assign(&after, id);
    op->cause.by_prefix = true;
    while (err == HKV_OK && !end) {
        err = collect_children(op->kv, id, limit, &after, &batch, &end);
        for (size_t at = 0; err == HKV_OK && at < batch.len;) {
            size_t len = (size_t)be64_load(batch.data + at);
            err = remove_child(op, slice_of(batch.data + at + 8, len));
            at += 8 + len;
        }
        if (err == HKV_OK) err = apply_refs_of_others(op);
    }
    op->cause = cause;
    buf_fini(&batch);
    buf_fini(&after);
    return err;
}

/* ------------------------------------------------------------------------------------------ storing an entry */

/* Native keys are no prefixes of each other: below or above one, only a foreign key can lie. */
static bool may_have_children(const struct kv *kv, enum kv_key_class class)
{
    return class == KV_KEY_FOREIGN || kv->counters.foreign > 0;
}

/* Adds the entry's row, or changes the one it replaces. */
static enum hkv_err store_row(struct kv_op *op, const struct entry *e, const struct entry_row *old)
{
    struct entry_row row = {
        .number = old ? old->number : 0,
        .author = e->author,
        .key = e->key,
        .record = e->record,
        .author_signature = e->author_signature,
        .namespace_signature = e->namespace_signature,
        .value = op->value.id,
    };
    uint64_t author;
    TRY(kv_party_number(op->kv, e->author.bytes, true, &author, NULL));
    return old ? entries_change(&op->kv->db, &row) : entries_add(&op->kv->db, author, &row);
}

static enum hkv_err change_spans(struct kv *kv, const struct entry *e, const struct entry_row *old)
{
    struct fingerprint change, before;
    entry_fingerprint(e, &change);
    if (old) {
        entries_fingerprint(&kv->config.namespace, old, &before);
        fingerprint_xor(&change, &before);
    }
    return spans_change(kv->spans, buf_slice(&kv->id), old ? 0 : 1, &change);
}

enum hkv_err kv_op_store(struct kv_op *op, const struct entry *e, const struct entry_row *old)
{
    struct kv *kv = op->kv;
    struct slice name;
    enum kv_key_class class = kv_key_classify(e->key, &name);
    op->cause.version = (struct kv_version){e->record.stamp_us, e->author};
    if (may_have_children(kv, class)) TRY(remove_children(op, buf_slice(&kv->id), &e->record));
    TRY(store_row(op, e, old));
    if (!old) {
        kv->counters.entries++;
        if (class == KV_KEY_FOREIGN) kv->counters.foreign++;
    }
    TRY(kv_op_ref(op, op->value.id, 1));
    if (old) TRY(kv_op_ref(op, old->value, -1));
    TRY(kv_party_saw(kv, e->author.bytes, e->record.stamp_us));
    if (author_id_equal(&e->author, &kv->config.author) && e->record.stamp_us > kv->counters.newest_own_us)
        kv->counters.newest_own_us = e->record.stamp_us;
    if (class != KV_KEY_FOREIGN) TRY(kv_shown_stored(op, e));
    TRY(kv_op_finish(op));
    /* Last: a walk over a run reads hashes, which stand in the values' rows. */
    return change_spans(kv, e, old);
}
