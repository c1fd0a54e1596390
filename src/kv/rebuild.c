/* Makes everything anew that follows from entries and values, and takes out the entries that cannot be what was stored.
 * It writes only what differs, so that a rebuild for one wrong row costs reads, and a commit of a page or two.
 *
 *   indexes ─▶ entries ─▶ runs ─▶ keys ─▶ references ─▶ counters
 *
 * An entry that was removed is gone from the fingerprint; peers that hold it see the difference in the next session and
 * send it. Where no peer holds it, it is lost, and its key shows what the other entries say: a value that nobody signed
 * must not be shown (product.md 1.1). */
#include <assert.h>
#include <stdlib.h>

#include "base/log.h"
#include "kv/check_parts.h"

#define BATCH_BYTES 65536 /* ids or keys that are to be written, collected before any is */

struct rebuild {
    struct kv *kv;
    const struct kv_check *check; /* NULL: nothing was found by signature */
    size_t removed;
    size_t keys, references;
};

/* ------------------------------------------------------------------------------------------ entries */

static bool is_listed(const struct kv_check *c, const struct entry_row *row)
{
    if (c->entries_overflow) return true;
    for (size_t at = 0; at < c->entries.len;) {
        size_t len = (size_t)be64_load(c->entries.data + at);
        if (entries_id_compare(&row->author, row->key, slice_of(c->entries.data + at + 8, len)) == 0) return true;
        at += 8 + len;
    }
    return false;
}

/* Whether the row cannot be read, was found bad, or is newer than its author is known to be. */
static enum hkv_err entry_needs_work(struct rebuild *r, sqlite3_stmt *s, bool *out)
{
    struct kv *kv = r->kv;
    struct entry_row row;
    uint64_t number, newest_us;
    *out = true;
    if (entries_read(&kv->db, s, &row) != HKV_OK || (r->check && is_listed(r->check, &row))) return HKV_OK;
    TRY(kv_party_number(kv, row.author.bytes, false, &number, &newest_us));
    *out = newest_us < row.record.stamp_us;
    return HKV_OK;
}

static enum hkv_err is_bad(struct kv *kv, const struct entry_row *row, bool *bad)
{
    struct entry e = {
        .namespace = kv->config.namespace,
        .author = row->author,
        .key = row->key,
        .record = row->record,
        .author_signature = row->author_signature,
        .namespace_signature = row->namespace_signature,
    };
    *bad = e.key.len > ENTRY_KEY_MAX || !record_is_consistent(&e.record);
    if (*bad) return HKV_OK;
    enum hkv_err err = kv->config.verify(&e);
    *bad = err == HKV_E_BAD_SIGNATURE;
    return *bad ? HKV_OK : err;
}

static enum hkv_err mend_entry(struct rebuild *r, struct slice id)
{
    struct kv *kv = r->kv;
    struct entry_row row = {0};
    bool found = false, bad = true;
    enum hkv_err err = entries_find(&kv->db, id, &row, &found);
    if (err == HKV_OK && found) err = is_bad(kv, &row, &bad);
    if (err == HKV_OK && !found) return HKV_OK;
    if (err == HKV_E_CORRUPT && row.number == 0) return err;
    if (err != HKV_OK && err != HKV_E_CORRUPT) return err;
    if (!bad && err == HKV_OK) return kv_party_saw(kv, row.author.bytes, row.record.stamp_us);
    r->removed++;
    return entries_remove(&kv->db, &row);
}

/* ------------------------------------------------------------------------------------------ batches of ids or keys */

static enum hkv_err batch_add(struct buf *batch, struct slice item)
{
    uint8_t len[8];
    be64_store(len, item.len);
    TRY(buf_append(batch, len, sizeof len));
    return buf_append_slice(batch, item);
}

static enum hkv_err batch_run(struct rebuild *r, const struct buf *batch,
                              enum hkv_err (*mend)(struct rebuild *r, struct slice item))
{
    for (size_t at = 0; at < batch->len;) {
        size_t len = (size_t)be64_load(batch->data + at);
        TRY(mend(r, slice_of(batch->data + at + 8, len)));
        at += 8 + len;
    }
    return HKV_OK;
}

/* Goes through the entries behind `after`, collecting what `needs_work` says, until the batch is full. */
static enum hkv_err collect_entries(struct rebuild *r, struct buf *after,
                                    enum hkv_err (*needs_work)(struct rebuild *r, sqlite3_stmt *s, bool *out),
                                    struct buf *batch, bool *end)
{
    sqlite3_stmt *s;
    enum hkv_err err = HKV_OK;
    *end = false;
    buf_clear(batch);
    struct buf id = {0};
    TRY(entries_scan(&r->kv->db, SQL_ENTRY_SCAN, buf_slice(after), &s));
    while (err == HKV_OK && batch->len < BATCH_BYTES) {
        bool found, work;
        struct author_id author;
        struct slice key;
        err = db_row(&r->kv->db, s, &found);
        *end = !found;
        if (err != HKV_OK || !found) break;
        err = entries_read_id(&r->kv->db, s, &author, &key);
        if (err == HKV_OK) err = entries_id(&id, &author, key);
        if (err == HKV_OK) err = needs_work(r, s, &work);
        if (err == HKV_OK && work) err = batch_add(batch, buf_slice(&id));
        if (err == HKV_OK && batch->len >= BATCH_BYTES) {
            err = buf_assign(after, buf_slice(&id));
            if (err == HKV_OK) err = buf_append_byte(after, 0); /* the first id behind it */
        }
    }
    sqlite3_reset(s);
    buf_fini(&id);
    return err;
}

static enum hkv_err for_entries(struct rebuild *r,
                                enum hkv_err (*needs_work)(struct rebuild *r, sqlite3_stmt *s, bool *out),
                                enum hkv_err (*mend)(struct rebuild *r, struct slice id))
{
    struct buf after = {0}, batch = {0};
    enum hkv_err err = HKV_OK;
    for (bool end = false; err == HKV_OK && !end;) {
        err = collect_entries(r, &after, needs_work, &batch, &end);
        if (err == HKV_OK) err = batch_run(r, &batch, mend);
    }
    buf_fini(&after);
    buf_fini(&batch);
    return err;
}

/* ------------------------------------------------------------------------------------------ keys */

static enum hkv_err mend_key(struct rebuild *r, struct slice document_key)
{
    struct kv *kv = r->kv;
    struct kv_key_row actual, expected;
    TRY(kv_key_read(&kv->db, document_key, &actual));
    TRY(kv_key_expected(&kv->db, document_key, &actual, &expected));
    if (actual.exists && expected.has_top && kv_key_rows_equal(&actual, &expected)) return HKV_OK;
    r->keys++;
    return kv_key_save(kv, document_key, &expected);
}

static enum hkv_err mend_keys(struct rebuild *r)
{
    struct buf key = {0};
    enum hkv_err err = HKV_OK;
    for (bool found; err == HKV_OK;) {
        sqlite3_stmt *s;
        err = db_statement(&r->kv->db, SQL_KEY_AFTER, &s);
        if (err != HKV_OK) break;
        struct buf after = buf_take(&key);
        db_bind_slice(s, 1, buf_slice(&after));
        err = db_row(&r->kv->db, s, &found);
        if (err == HKV_OK && found) {
            err = buf_assign(&key, db_column_slice(s, 0));
            sqlite3_reset(s);
            if (err == HKV_OK) err = mend_key(r, buf_slice(&key));
        }
        buf_fini(&after);
        if (err == HKV_OK && !found) break;
    }
    buf_fini(&key);
    return err;
}

static enum hkv_err key_is_absent(struct rebuild *r, sqlite3_stmt *s, bool *out)
{
    struct slice name;
    struct kv_key_row row;
    struct author_id author;
    struct slice key;
    *out = false;
    TRY(entries_read_id(&r->kv->db, s, &author, &key));
    if (kv_key_classify(key, &name) == KV_KEY_FOREIGN) return HKV_OK;
    TRY(kv_key_read(&r->kv->db, key, &row));
    *out = !row.exists;
    return HKV_OK;
}

static enum hkv_err add_key(struct rebuild *r, struct slice id)
{
    return mend_key(r, slice_part(id, ID_BYTES, id.len));
}

/* ------------------------------------------------------------------------------------------ values */

static enum hkv_err run(struct kv *kv, enum sql_id sql)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, sql, &s));
    return db_run(&kv->db, s);
}

static enum hkv_err mend_refs_of(struct rebuild *r, uint64_t id, int64_t refs, int64_t stored, int state, bool freed)
{
    struct kv *kv = r->kv;
    bool right = refs == stored && freed == (refs == 0);
    if (value_is_constant(id) || (right && (refs > 0 || state == VALUE_PRESENT))) return HKV_OK;
    r->references++;
    if (refs == 0 && state != VALUE_PRESENT) {
        TRY(kv_wanted_forget(kv, id));
        return values_remove(&kv->db, id);
    }
    if (refs == 0) kv->freed_due_us = 0;
    return values_set_refs(&kv->db, id, refs, kv->steady_us);
}

static enum hkv_err mend_refs(struct rebuild *r, uint64_t low, const uint32_t *counts)
{
    sqlite3_stmt *s;
    enum hkv_err err = HKV_OK;
    TRY(db_statement(&r->kv->db, SQL_SUM_REFS, &s));
    db_bind_u64(s, 1, low);
    db_bind_u64(s, 2, low + KV_REFS_WINDOW);
    for (bool found; err == HKV_OK;) {
        err = db_row(&r->kv->db, s, &found);
        if (err != HKV_OK || !found) break;
        uint64_t id = db_column_u64(s, 0);
        err = mend_refs_of(r, id, counts[id - low], sqlite3_column_int64(s, 1), sqlite3_column_int(s, 2),
                           sqlite3_column_int(s, 3) != 0);
    }
    sqlite3_reset(s);
    return err;
}

static enum hkv_err mend_all_refs(struct rebuild *r)
{
    uint32_t *counts = malloc(KV_REFS_WINDOW * sizeof *counts);
    if (!counts) return error_set(HKV_E_NOMEM, "no memory to count references");
    enum hkv_err err = HKV_OK;
    for (uint64_t low = 0; err == HKV_OK && low < atomic_load(&r->kv->next_value); low += KV_REFS_WINDOW) {
        err = kv_refs_count(&r->kv->db, low, counts);
        if (err == HKV_OK) err = mend_refs(r, low, counts);
    }
    free(counts);
    return err;
}

/* ------------------------------------------------------------------------------------------ altogether */

/* Rows that lead to nothing, or that nothing leads to. */
static enum hkv_err remove_astray(struct rebuild *r)
{
    static const enum sql_id steps[] = {SQL_MEND_ENTRIES, SQL_MEND_PLACES};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        TRY(run(r->kv, steps[i]));
        r->removed += (size_t)sqlite3_changes64(r->kv->db.handle);
    }
    return run(r->kv, SQL_MEND_ENTRIES); /* of the places that were removed */
}

static enum hkv_err mend_tables(struct rebuild *r, struct spans **spans)
{
    struct kv *kv = r->kv;
    uint64_t astray;
    TRY(db_exec(&kv->db, "REINDEX"));
    TRY(run(kv, SQL_MEND_STATES));
    TRY(run(kv, SQL_MEND_CONSTANTS));
    TRY(values_create_constants(&kv->db));
    TRY(run(kv, SQL_MEND_VALUES));
    TRY(remove_astray(r));
    TRY(for_entries(r, entry_needs_work, mend_entry));
    TRY(remove_astray(r)); /* two places may have led to one entry */
    TRY(kv_parties_flush(kv));
    TRY(spans_rebuild(&kv->db, &kv->config.namespace, spans));
    TRY(run(kv, SQL_MEND_WAITING));
    TRY(mend_keys(r));
    TRY(for_entries(r, key_is_absent, add_key));
    TRY(mend_all_refs(r));
    TRY(kv_own_stamp_load(kv));
    /* The runs no longer tell which entries were damaged before: the next pass looks at every signature. */
    TRY(kv_check_forget(kv));
    return kv_counters_expected(&kv->db, &kv->counters, &astray);
}

enum hkv_err kv_rebuild(struct kv *kv, struct kv_check *c, size_t *removed)
{
    struct rebuild r = {.kv = kv, .check = c};
    struct spans *fresh = NULL;
    *removed = 0;
    log_warn("kv", "%s: what follows from the entries is made anew; writes wait meanwhile", kv->db_path);
    TRY(kv_begin(kv));
    enum hkv_err err = mend_tables(&r, &fresh);
    if (err != HKV_OK) {
        kv_rollback(kv);
        spans_free(fresh);
        return err;
    }
    struct spans *old = kv->spans;
    kv->spans = fresh;
    err = kv_commit(kv);
    if (err != HKV_OK) {
        kv->spans = old;
        spans_free(fresh);
        return err;
    }
    spans_free(old);
    kv_wanted_noticed(kv, 0); /* looks at all that is wanted anew */
    log_warn("kv", "%s: made anew: %zu entries removed, %zu keys and %zu counts of references written", kv->db_path,
             r.removed, r.keys, r.references);
    *removed = r.removed;
    if (!c) return HKV_OK;
    struct kv_check_tally *kinds = c->report.kinds;
    kinds[KV_CHECK_ENTRY].repaired = kinds[KV_CHECK_ENTRY].bad;
    kinds[KV_CHECK_SPAN].repaired = kinds[KV_CHECK_SPAN].bad;
    kinds[KV_CHECK_INDEX].repaired = kinds[KV_CHECK_INDEX].bad;
    buf_clear(&c->entries);
    c->every_signature_next = true;
    c->rebuild = c->entries_overflow = false;
    return HKV_OK;
}
