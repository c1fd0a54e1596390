/* Open, close, transactions and counters. */
#include "kv/kv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "kv/check.h"
#include "kv/internal.h"
#include "store/schema.h"

/* A restart may find times of rows as far ahead of what it starts from, when the wall clock was set back meanwhile. */
#define STEADY_SAVE_US ((uint64_t)60000000)

/* ------------------------------------------------------------------------------------------ counters */

#define COUNTER_WORDS (sizeof(struct kv_counters) / sizeof(uint64_t))

enum hkv_err kv_counters_save(struct kv *kv)
{
    uint64_t words[COUNTER_WORDS];
    uint8_t bytes[sizeof words];
    memcpy(words, &kv->counters, sizeof words);
    for (size_t i = 0; i < COUNTER_WORDS; i++) be64_store(bytes + 8 * i, words[i]);
    return kv_meta_set(kv, KV_META_COUNTERS, slice_of(bytes, sizeof bytes));
}

void kv_counters_decode(struct slice bytes, struct kv_counters *out)
{
    uint64_t words[COUNTER_WORDS] = {0};
    for (size_t i = 0; i < COUNTER_WORDS && 8 * (i + 1) <= bytes.len; i++) words[i] = be64_load(bytes.data + 8 * i);
    memcpy(out, words, sizeof words);
}

enum hkv_err kv_counters_load(struct kv *kv)
{
    struct buf bytes = {0};
    enum hkv_err err = kv_meta_get(kv, KV_META_COUNTERS, &bytes);
    kv_counters_decode(buf_slice(&bytes), &kv->counters);
    buf_fini(&bytes);
    kv->counters_committed = kv->counters;
    return err == HKV_E_NOT_FOUND ? HKV_OK : err;
}

void kv_counts_publish(struct kv *kv)
{
    const struct kv_counters *c = &kv->counters;
    struct span_sum sum;
    spans_total(kv->spans, &sum);
    struct kv_counts counts = {
        .entries = c->entries,
        .visible_keys = c->visible,
        .tombstones = c->tombstones,
        .values_missing = c->missing,
        .values_bad = c->bad,
        .values_too_large = c->too_large,
        .entries_refused = c->refused,
        .foreign_entries = c->foreign,
        .position = c->position,
        .newest_stamp_us = c->newest_own_us,
        .wal_overruns = kv->wal_overruns,
        .wal_bytes = (uint64_t)kv->wal_pages * DB_LOG_FRAME_BYTES,
        .fingerprint = sum.xored,
    };
    counts.disk_bytes = kv->db_bytes + counts.wal_bytes + c->file_bytes;
    fingerprint_xor(&counts.fingerprint, (const struct fingerprint *)&hash_empty);
    atomic_store(&kv->foreign, c->foreign);
    (void)pthread_mutex_lock(&kv->counts_lock);
    kv->counts = counts;
    (void)pthread_mutex_unlock(&kv->counts_lock);
}

void kv_counts(struct kv *kv, struct kv_counts *out)
{
    (void)pthread_mutex_lock(&kv->counts_lock);
    *out = kv->counts;
    (void)pthread_mutex_unlock(&kv->counts_lock);
}

struct author_id kv_author(struct kv *kv)
{
    (void)pthread_mutex_lock(&kv->counts_lock);
    struct author_id author = kv->config.author;
    (void)pthread_mutex_unlock(&kv->counts_lock);
    return author;
}

void kv_fingerprint(struct kv *kv, uint64_t *count, struct fingerprint *out)
{
    struct span_sum sum;
    spans_total(kv->spans, &sum);
    *count = sum.count;
    *out = sum.xored;
    fingerprint_xor(out, (const struct fingerprint *)&hash_empty);
}

uint64_t kv_steady_us(const struct kv *kv)
{
    uint64_t mono_us = env_mono_us(kv->config.env);
    return kv->steady_base_us + (mono_us > kv->steady_mono_us ? mono_us - kv->steady_mono_us : 0);
}

/* From the wall clock, but never from before a time that a row may hold already. */
static void start_steady(struct kv *kv)
{
    uint64_t wall_us = env_wall_us(kv->config.env);
    kv->steady_mono_us = env_mono_us(kv->config.env);
    kv->steady_base_us = wall_us > kv->counters.steady_us ? wall_us : kv->counters.steady_us;
    kv->steady_us = kv->steady_base_us;
}

/* ------------------------------------------------------------------------------------------ open, close */

static int on_wal_commit(void *arg, sqlite3 *handle, const char *name, int pages)
{
    (void)handle;
    (void)name;
    struct kv *kv = arg;
    bool was_long = (uint64_t)kv->wal_pages * DB_LOG_FRAME_BYTES > KV_LOG_BYTES_MAX;
    if (!was_long && (uint64_t)pages * DB_LOG_FRAME_BYTES > KV_LOG_BYTES_MAX) kv->wal_overruns++;
    kv->log_was_written = true;
    kv->log_is_used_again = false;
    if (pages < kv->wal_pages) kv->checkpoint_at = kv_checkpoint_pages(kv); /* the log began again */
    kv->wal_pages = pages;
    if (pages > kv->log_file_pages) kv->log_file_pages = pages;
    kv->log_written_us = kv->steady_us;
    return SQLITE_OK;
}

static enum hkv_err database_path(const struct kv_config *config, char out[KV_PATH_MAX])
{
    int n = snprintf(out, KV_PATH_MAX, "%s/docs/store.db", config->data_dir);
    if (n >= 0 && n < KV_PATH_MAX) return HKV_OK;
    return error_set(HKV_E_INVALID, "the data directory's path is longer than %d bytes", KV_PATH_MAX - 16);
}

static enum hkv_err make_paths(struct kv *kv)
{
    char docs[KV_PATH_MAX];
    TRY(database_path(&kv->config, kv->db_path));
    (void)snprintf(docs, sizeof docs, "%s/docs", kv->config.data_dir); /* shorter */
    (void)snprintf(kv->blobs_path, sizeof kv->blobs_path, "%s/blobs", kv->config.data_dir);
    return kv->config.vfs ? HKV_OK : files_make_folder(docs); /* another VFS has its own names */
}

void kv_epoch_draw(struct kv *kv, uint8_t out[8])
{
    env_random(kv->config.env, out, 8);
    out[7] |= 1;
}

/* Names a new store. Its tables were made in a transaction before this one: a store that was cut off in between has
 * nothing in `meta` and is still new. On an error kv_close() takes the transaction back. */
static enum hkv_err name_new_store(struct kv *kv, bool *created)
{
    int64_t named;
    uint8_t epoch[8];
    TRY(db_integer(&kv->db, "SELECT EXISTS (SELECT 1 FROM meta)", &named));
    if (named) return HKV_OK;
    *created = true;
    kv_epoch_draw(kv, epoch);
    TRY(db_exec(&kv->db, "BEGIN IMMEDIATE"));
    TRY(kv_meta_set(kv, KV_META_NAMESPACE, slice_of(kv->config.namespace.bytes, ID_BYTES)));
    TRY(kv_meta_set(kv, KV_META_EPOCH, slice_of(epoch, sizeof epoch)));
    return db_exec(&kv->db, "COMMIT");
}

static enum hkv_err settle_namespace(struct kv *kv, struct namespace_id *other)
{
    struct buf stored = {0};
    enum hkv_err err = kv_meta_get(kv, KV_META_NAMESPACE, &stored);
    if (err == HKV_E_NOT_FOUND || (err == HKV_OK && stored.len != ID_BYTES))
        err = error_set(HKV_E_CORRUPT, "%s: the store has no namespace", kv->db_path);
    if (err == HKV_OK && memcmp(stored.data, kv->config.namespace.bytes, ID_BYTES) != 0) {
        char text[ID_TEXT_MAX];
        memcpy(other->bytes, stored.data, ID_BYTES);
        err = error_set(HKV_E_NAMESPACE,
                        "%s: the store belongs to namespace %s; give its secret or another data directory", kv->db_path,
                        id_format(stored.data, text));
    }
    buf_clear(&stored);
    if (err == HKV_OK) err = kv_meta_get(kv, KV_META_EPOCH, &stored);
    if (err == HKV_OK && stored.len == 8) kv->epoch = be64_load(stored.data);
    buf_fini(&stored);
    return err;
}

/* The fingerprint tree and the counters must agree; where they do not, both are made anew from the entries. */
static enum hkv_err load_spans(struct kv *kv)
{
    struct span_sum sum;
    size_t removed;
    enum hkv_err err = spans_open(&kv->db, &kv->config.namespace, &kv->spans);
    if (err != HKV_OK && err != HKV_E_CORRUPT) return err;
    if (err == HKV_OK) {
        spans_total(kv->spans, &sum);
        if (sum.count == kv->counters.entries) return HKV_OK;
    }
    log_warn("kv", "%s: the table span is damaged", kv->db_path);
    return kv_rebuild(kv, NULL, &removed);
}

static enum hkv_err read_number(struct kv *kv, enum sql_id sql, uint64_t *out)
{
    sqlite3_stmt *s;
    bool found;
    TRY(db_statement(&kv->db, sql, &s));
    TRY(db_row(&kv->db, s, &found));
    *out = db_column_u64(s, 0);
    sqlite3_reset(s);
    return HKV_OK;
}

/* Rows and files take their numbers from one counter. The file of a value that had been missing has a greater one than
 * any row may have; given out again, it would name two files of one content, and what removes one removes the other. */
static enum hkv_err load_next_value(struct kv *kv)
{
    struct kv_counters *c = &kv->counters;
    uint64_t newest;
    TRY(read_number(kv, SQL_VALUE_NEWEST, &newest));
    /* Written before there was this counter: looked up once. */
    if (c->newest_file == 0 && c->file_bytes > 0) TRY(read_number(kv, SQL_VALUE_NEWEST_FILE, &c->newest_file));
    kv->counters_committed.newest_file = c->newest_file;
    atomic_store(&kv->next_value, (newest > c->newest_file ? newest : c->newest_file) + 1);
    return HKV_OK;
}

static enum hkv_err load_state(struct kv *kv)
{
    TRY(kv_counters_load(kv));
    start_steady(kv);
    TRY(kv_ages_load(kv));
    TRY(kv_wanted_init(kv));
    TRY(load_next_value(kv));
    kv->sweeping = true;
    TRY(kv_budget_measure(kv));
    return load_spans(kv);
}

/* The newest stamp among our own entries is where the clock of stamps starts. */
enum hkv_err kv_own_stamp_load(struct kv *kv)
{
    uint64_t number, newest_us;
    TRY(kv_party_number(kv, kv->config.author.bytes, false, &number, &newest_us));
    kv->counters.newest_own_us = kv->counters_committed.newest_own_us = newest_us;
    uint64_t last_us = atomic_load(&kv->last_stamp_us);
    while (last_us < newest_us && !atomic_compare_exchange_weak(&kv->last_stamp_us, &last_us, newest_us)) continue;
    return HKV_OK;
}

static enum hkv_err open_database(struct kv *kv, bool *created)
{
    const struct db_config config = {
        .path = kv->db_path,
        .vfs = kv->config.vfs,
        .cache_bytes = kv->config.cache_bytes / 2,
        .writer = true,
        .full_sync = kv->config.sync_every_commit,
    };
    TRY(db_open(&config, &kv->db));
    sqlite3_stmt *rollback;
    enum hkv_err err = schema_open(&kv->db, created);
    /* What is refused stays as it is: its log is not checkpointed when this connection closes. */
    if (err != HKV_OK && kv->db.handle)
        (void)sqlite3_db_config(kv->db.handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    TRY(err);
    TRY(db_statement(&kv->db, SQL_ROLLBACK, &rollback));
    return kv_budget_limit_log(kv);
}

/* Not the fingerprint tree: a damaged one would have to be made anew first. */
static enum hkv_err open_to_read(struct kv *kv)
{
    TRY(load_next_value(kv));
    return kv_readers_init(kv);
}

static enum hkv_err open_parts(struct kv *kv, bool *created, struct namespace_id *other)
{
    TRY(make_paths(kv));
    TRY(open_database(kv, created));
    kv->checkpoint_at = kv_checkpoint_pages(kv);
    kv->log_is_suspect = true; /* the run before may have failed to sync what is in it, and commits build on that */
    if (kv->config.sync_every_commit) TRY(kv_log_mend(kv));
    sqlite3_wal_hook(kv->db.handle, on_wal_commit, kv);
    TRY(name_new_store(kv, created));
    TRY(settle_namespace(kv, other));
    kv->files = kv->config.files;
    if (!kv->files) TRY(files_posix_open(kv->blobs_path, &kv->files));
    if (kv->config.read_only) return open_to_read(kv);
    TRY(load_state(kv));
    TRY(kv_own_stamp_load(kv));
    TRY(kv_wanted_settle_limit(kv));
    TRY(kv_readers_init(kv));
    kv_docs_init(kv);
    kv_counts_publish(kv);
    return HKV_OK;
}

static struct kv *kv_new(const struct kv_config *config)
{
    struct kv *kv = calloc(1, sizeof *kv);
    if (!kv) return NULL;
    kv->config = *config;
    if (!kv->config.verify) kv->config.verify = entry_verify;
    (void)pthread_mutex_init(&kv->counts_lock, NULL);
    (void)pthread_mutex_init(&kv->readers.lock, NULL);
    kv_suspects_init(kv);
    kv_files_init(kv);
    (void)pthread_cond_init(&kv->readers.returned, NULL);
    return kv;
}

static enum hkv_err stored_namespace(struct kv *kv, struct namespace_id *out, bool *named)
{
    struct buf value = {0};
    bool created, there;
    *named = false;
    TRY(database_path(&kv->config, kv->db_path));
    TRY(db_exists(kv->config.vfs, kv->db_path, &there));
    if (!there) return HKV_OK;
    TRY(open_database(kv, &created));
    enum hkv_err err = kv_meta_get(kv, KV_META_NAMESPACE, &value);
    *named = err == HKV_OK && value.len == ID_BYTES;
    if (*named) memcpy(out->bytes, value.data, ID_BYTES);
    buf_fini(&value);
    return err == HKV_E_NOT_FOUND ? HKV_OK : err;
}

enum hkv_err kv_stored_namespace(const struct kv_config *config, struct namespace_id *out, bool *named)
{
    struct kv *kv = kv_new(config);
    if (!kv) return error_set(HKV_E_NOMEM, "opening the store");
    enum hkv_err err = stored_namespace(kv, out, named);
    /* The log is left for kv_open(), which knows whether it can be trusted. */
    if (kv->db.handle) (void)sqlite3_db_config(kv->db.handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    kv_close(kv);
    return err;
}

enum hkv_err kv_open(const struct kv_config *config, struct kv **out, bool *created,
                     struct namespace_id *other_namespace)
{
    struct kv *kv = kv_new(config);
    if (!kv) return error_set(HKV_E_NOMEM, "opening the store");
    env_random(config->env, &kv->run, sizeof kv->run);
    enum hkv_err err = open_parts(kv, created, other_namespace);
    if (err != HKV_OK) {
        kv_close(kv);
        return err;
    }
    *out = kv;
    return HKV_OK;
}

static void free_changes(struct kv_change *changes, size_t from, size_t count)
{
    for (size_t i = from; i < count; i++) buf_fini(&changes[i].key);
}

static void drop_committed_changes(struct kv *kv)
{
    free_changes(kv->committed_changes, 0, kv->committed_change_count);
    free(kv->committed_changes);
    kv->committed_changes = NULL;
    kv->committed_change_count = 0;
}

void kv_close(struct kv *kv)
{
    if (!kv) return;
    if (kv->db.handle) {
        kv_rollback(kv);
        kv_readers_fini(kv);
        if (kv->config.read_only) (void)sqlite3_db_config(kv->db.handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        spans_free(kv->spans);
        /* The last connection to close checkpoints the log, unless that would be done on a log with holes. */
        if (kv_log_mend(kv) != HKV_OK)
            (void)sqlite3_db_config(kv->db.handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        db_close(&kv->db);
    }
    if (kv->files && !kv->config.files) kv->files->ops->free(kv->files);
    kv_wanted_fini(kv);
    drop_committed_changes(kv);
    free(kv->changes);
    free(kv->stored_files);
    free(kv->doomed_files);
    kv_suspects_fini(kv);
    kv_files_fini(kv);
    free(kv->parties.undo);
    buf_fini(&kv->id);
    (void)pthread_mutex_destroy(&kv->counts_lock);
    (void)pthread_mutex_destroy(&kv->readers.lock);
    (void)pthread_cond_destroy(&kv->readers.returned);
    free(kv);
}

/* ------------------------------------------------------------------------------------------ transactions */

static enum hkv_err run(struct kv *kv, enum sql_id sql)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, sql, &s));
    return db_run(&kv->db, s);
}

bool kv_in_transaction(const struct kv *kv)
{
    return sqlite3_get_autocommit(kv->db.handle) == 0;
}

enum hkv_err kv_begin(struct kv *kv)
{
    assert(!kv_in_transaction(kv));
    kv->now_us = env_wall_us(kv->config.env);
    kv->steady_us = kv_steady_us(kv);
    kv->log_was_written = false;
    return run(kv, SQL_BEGIN);
}

/* Forgets what the transaction changed in memory. */
static void take_back(struct kv *kv)
{
    if (kv->spans) spans_rolled_back(kv->spans);
    kv_parties_forget(kv);
    kv->counters = kv->counters_committed;
    kv->ages = kv->ages_committed;
    kv->next_epoch = 0;
    free_changes(kv->changes, 0, kv->change_count);
    kv->change_count = 0;
    kv_files_undo(kv, 0, 0);
    kv->suspects.settled = 0;
    kv_wanted_rolled_back(kv, 0);
}

void kv_rollback(struct kv *kv)
{
    /* Prepared when the store was opened: taking back needs no memory. */
    if (kv_in_transaction(kv) && run(kv, SQL_ROLLBACK) != HKV_OK) log_warn("kv", "%s", error_last());
    take_back(kv);
}

static enum hkv_err commit_rows(struct kv *kv)
{
    TRY(spans_flush(kv->spans));
    TRY(kv_parties_flush(kv));
    /* Some more than were added, so that the log comes down after a lower limit. */
    uint64_t added = kv->counters.position - kv->counters_committed.position;
    if (added > 0) TRY(kv_changes_trim(kv, 2 * added));
    bool changed = memcmp(&kv->counters, &kv->counters_committed, sizeof kv->counters) != 0;
    if (changed || kv->steady_us >= kv->counters.steady_us + STEADY_SAVE_US) {
        kv->counters.steady_us = kv->steady_us;
        TRY(kv_counters_save(kv));
    }
    return run(kv, SQL_COMMIT);
}

enum hkv_err kv_commit(struct kv *kv)
{
    assert(kv_in_transaction(kv));
    enum hkv_err err = commit_rows(kv);
    if (err != HKV_OK) {
        kv_write_failed(kv, err);
        kv_rollback(kv);
        return err;
    }
    if (kv->log_was_written) kv_trouble_over(kv, KV_TROUBLE_WRITE);
    spans_committed(kv->spans);
    kv_parties_committed(kv);
    kv_files_committed(kv);
    kv_suspects_committed(kv);
    kv_wanted_committed(kv);
    kv->counters_committed = kv->counters;
    kv->ages_committed = kv->ages;
    if (kv->next_epoch) kv->epoch = kv->next_epoch;
    kv->next_epoch = 0;
    drop_committed_changes(kv);
    if (kv->change_count > 0) {
        kv->committed_changes = kv->changes;
        kv->committed_change_count = kv->change_count;
        kv->changes = NULL;
        kv->change_count = kv->change_cap = 0;
    }
    if (kv->config.disk_bytes && kv_budget_measure(kv) != HKV_OK) kv_trouble_note(kv, KV_TROUBLE_UPKEEP, HKV_E_DISK);
    kv_counts_publish(kv);
    return HKV_OK;
}

enum hkv_err kv_savepoint(struct kv *kv)
{
    kv->counters_saved = kv->counters;
    kv->ages_saved = kv->ages;
    kv->next_epoch_saved = kv->next_epoch;
    kv->spans_saved = spans_mark(kv->spans);
    kv->parties_saved = kv->parties.undo_count;
    kv->changes_saved = kv->change_count;
    kv->files_saved = kv->stored_file_count;
    kv->doomed_saved = kv->doomed_file_count;
    kv->settled_saved = kv->suspects.settled;
    kv->wanted_saved = kv->wanted.undo_count;
    return run(kv, SQL_SAVEPOINT);
}

enum hkv_err kv_savepoint_release(struct kv *kv)
{
    return run(kv, SQL_RELEASE);
}

void kv_savepoint_rollback(struct kv *kv)
{
    if (!kv_in_transaction(kv)) return; /* kv_rollback takes back everything */
    enum hkv_err err = run(kv, SQL_ROLLBACK_TO);
    if (err == HKV_OK) err = run(kv, SQL_RELEASE);
    if (err != HKV_OK) {
        kv_rollback(kv);
        return;
    }
    spans_undo(kv->spans, kv->spans_saved);
    kv_parties_undo(kv, kv->parties_saved);
    kv->counters = kv->counters_saved;
    kv->ages = kv->ages_saved;
    kv->next_epoch = kv->next_epoch_saved;
    free_changes(kv->changes, kv->changes_saved, kv->change_count);
    kv->change_count = kv->changes_saved;
    kv_files_undo(kv, kv->files_saved, kv->doomed_saved);
    kv->suspects.settled = kv->settled_saved;
    kv_wanted_rolled_back(kv, kv->wanted_saved);
}

void kv_take_changes(struct kv *kv, struct kv_changes *out)
{
    *out = (struct kv_changes){kv->committed_changes, kv->committed_change_count, kv->counters_committed.position};
    kv->committed_changes = NULL;
    kv->committed_change_count = 0;
}

void kv_changes_fini(struct kv_changes *changes)
{
    free_changes(changes->items, 0, changes->count);
    free(changes->items);
    *changes = (struct kv_changes){0};
}

uint64_t kv_epoch(const struct kv *kv)
{
    return kv->epoch;
}

void kv_set_author(struct kv *kv, const struct author_id *author)
{
    (void)pthread_mutex_lock(&kv->counts_lock);
    kv->config.author = *author;
    (void)pthread_mutex_unlock(&kv->counts_lock);
    if (kv_own_stamp_load(kv) != HKV_OK) log_warn("kv", "newest stamp of our author: %s", error_last());
    kv_counts_publish(kv);
}
