/* What is done between transactions, in bounded steps: the log is checkpointed and kept short, values that nothing
 * refers to are removed, then their files, and files that no row came to refer to. */
#include <assert.h>

#include "kv/internal.h"

/* ------------------------------------------------------------------------------------------ the log */

enum hkv_err kv_log_mend(struct kv *kv)
{
    if (!kv->log_is_suspect) return HKV_OK;
    /* What begins again holds nothing that the database lacks, and may have a new head and no frame yet. */
    TRY(db_log_rewrite(&kv->db, kv->log_is_used_again ? 0 : (uint64_t)kv->wal_pages));
    kv->log_is_suspect = false;
    return HKV_OK;
}

enum hkv_err kv_log_settle(struct kv *kv)
{
    if (kv->config.sync_every_commit) return HKV_OK;
    TRY(kv_log_mend(kv));
    enum hkv_err err = db_log_sync(&kv->db);
    if (err != HKV_OK) kv->log_is_suspect = true;
    return err;
}

/* What the log held is in the database now. */
static enum hkv_err measure(struct kv *kv)
{
    enum hkv_err err = kv_budget_measure(kv);
    kv_counts_publish(kv);
    return err;
}

static enum hkv_err checkpoint(struct kv *kv, bool *more)
{
    (void)more;
    if (kv->wal_pages < kv->checkpoint_at) return HKV_OK;
    TRY(kv_log_mend(kv));
    int pages, done;
    int code = sqlite3_wal_checkpoint_v2(kv->db.handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &done);
    if (code != SQLITE_OK && code != SQLITE_BUSY) {
        kv->log_is_suspect = true;
        return db_error(&kv->db, code, "checkpoint");
    }
    /* The next commit begins at the start of the log again, unless a reader still needs it: then it is tried after as
     * many pages more. */
    kv->checkpoint_at = kv->wal_pages + kv_checkpoint_pages(kv);
    kv->log_is_used_again = code == SQLITE_OK && done == pages;
    return measure(kv);
}

/* The log keeps its length while it is written, so that most syncs need no change of it; on a quiet store it only takes
 * up the disk. A reader that is in the way is not waited for. */
static enum hkv_err shorten_log(struct kv *kv, bool *more)
{
    (void)more;
    uint64_t now_us = kv_steady_us(kv);
    if (kv->log_file_pages <= KV_LOG_KEPT_PAGES || now_us < kv->log_written_us + KV_LOG_QUIET_US) return HKV_OK;
    kv->log_written_us = now_us; /* tried again after as long */
    TRY(kv_log_mend(kv));
    sqlite3_busy_timeout(kv->db.handle, 0);
    int code = sqlite3_wal_checkpoint_v2(kv->db.handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite3_busy_timeout(kv->db.handle, DB_BUSY_MS);
    if (code == SQLITE_BUSY) return HKV_OK;
    if (code != SQLITE_OK) {
        kv->log_is_suspect = true;
        return db_error(&kv->db, code, "checkpoint");
    }
    kv->wal_pages = kv->log_file_pages = 0;
    kv->checkpoint_at = kv_checkpoint_pages(kv);
    kv->log_is_used_again = true;
    return measure(kv);
}

/* ------------------------------------------------------------------------------------------ unused values, orphans */

struct freed {
    uint64_t id;
    uint64_t file;
    uint64_t length;
    struct hash hash;
};

static enum hkv_err list_freed(struct kv *kv, struct freed *out, size_t *count)
{
    sqlite3_stmt *s;
    *count = 0;
    TRY(db_statement(&kv->db, SQL_VALUE_FREED, &s));
    db_bind_u64(s, 1, kv->steady_us > VALUE_GRACE_US ? kv->steady_us - VALUE_GRACE_US : 0);
    db_bind_u64(s, 2, KV_MAINTAIN_FREED_MAX);
    for (bool found;;) {
        TRY(db_row(&kv->db, s, &found));
        if (!found) return HKV_OK;
        struct freed *f = &out[(*count)++];
        *f = (struct freed){db_column_u64(s, 0), db_column_u64(s, 1), db_column_u64(s, 2), {{0}}};
        enum hkv_err err = db_column_id(&kv->db, s, 3, f->hash.bytes);
        if (err != HKV_OK) {
            sqlite3_reset(s);
            return err;
        }
    }
}

static enum hkv_err remove_rows(struct kv *kv, const struct freed *freed, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        TRY(values_remove(&kv->db, freed[i].id));
        if (freed[i].file) kv->counters.file_bytes -= freed[i].length;
    }
    return HKV_OK;
}

/* When the first value without references is due. */
static enum hkv_err next_freed(struct kv *kv)
{
    sqlite3_stmt *s;
    bool found;
    TRY(db_statement(&kv->db, SQL_VALUE_FREED_NEXT, &s));
    TRY(db_row(&kv->db, s, &found));
    kv->freed_due_us = found ? db_column_u64(s, 0) + VALUE_GRACE_US : UINT64_MAX;
    sqlite3_reset(s);
    return HKV_OK;
}

/* Removes values without references whose grace time is over: the rows, then, once that is committed, their files. */
static enum hkv_err remove_freed(struct kv *kv, bool *more)
{
    struct freed freed[KV_MAINTAIN_FREED_MAX];
    size_t count;
    kv->steady_us = kv_steady_us(kv);
    if (kv->steady_us < kv->freed_due_us) return HKV_OK;
    TRY(list_freed(kv, freed, &count));
    *more = count == KV_MAINTAIN_FREED_MAX;
    if (count == 0) return next_freed(kv);
    struct kv_changes kept;
    kv_take_changes(kv, &kept);
    enum hkv_err err = kv_begin(kv);
    /* Listed again inside the transaction: only what is still without references goes. */
    if (err == HKV_OK) err = list_freed(kv, freed, &count);
    if (err == HKV_OK) err = remove_rows(kv, freed, count);
    if (err == HKV_OK)
        err = kv_commit(kv);
    else
        kv_rollback(kv);
    kv->committed_changes = kept.items;
    kv->committed_change_count = kept.count;
    bool has_file = false;
    for (size_t i = 0; i < count; i++) has_file |= freed[i].file != 0;
    if (err == HKV_OK && has_file) err = kv_log_settle(kv);
    for (size_t i = 0; i < count && err == HKV_OK; i++) {
        char name[FILES_NAME_MAX];
        if (!freed[i].file) continue;
        kv_file_name(&freed[i].hash, freed[i].file, name);
        err = kv->files->ops->unlink(kv->files, name);
    }
    return err;
}

static enum hkv_err sweep(struct kv *kv, bool *more)
{
    if (kv->sweeping) TRY(kv_log_settle(kv));
    TRY(kv_sweep_orphans(kv));
    *more = *more || kv->sweeping;
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ all of it */

static enum hkv_err tidy_up(struct kv *kv, bool *more)
{
    enum hkv_err (*const parts[])(struct kv * kv, bool *more) = {remove_freed, sweep, checkpoint, shorten_log};
    enum hkv_err first = HKV_OK;
    struct error_text why;
    /* Each is tried: one may make the room that another lacks. */
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        enum hkv_err err = parts[i](kv, more);
        if (err == HKV_OK || first != HKV_OK) continue;
        first = err;
        error_save(&why);
    }
    if (first != HKV_OK) error_restore(&why);
    return first;
}

bool kv_maintain(struct kv *kv)
{
    bool more = false;
    assert(!kv_in_transaction(kv));
    kv_trouble_probe(kv);
    if (!kv_trouble_is_due(kv, KV_TROUBLE_UPKEEP)) return false;
    enum hkv_err err = tidy_up(kv, &more);
    kv_trouble_note(kv, KV_TROUBLE_UPKEEP, err);
    return err == HKV_OK && more;
}
