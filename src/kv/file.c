/* Value files: written under a temporary name, sealed under `<hash>-<number>`, referred to by a row, removed after
 * their row.
 *
 *   tmp-<run>-<n> ──sync, rename, sync of the folder──▶ <hash>-<number> ──transaction──▶ stored
 *
 * What is sealed or temporary when the process dies is an orphan; the sweep after the next start removes it. Those of
 * this run are known: temporary ones by their name, sealed ones by the list in struct kv_sealing. A number is never
 * given out again as long as a file may have it, so a name stands for one file only.
 *
 * Files that are sealed at once share the syncs of their folder. One that failed may have dropped any name that was new
 * then, and the next may succeed without having written it (Linux reports an error once); so whoever renamed a file
 * before a failure and has not heard of a sync since has failed, too. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "kv/internal.h"

void kv_file_name(const struct hash *hash, uint64_t number, char out[FILES_NAME_MAX])
{
    char text[ID_TEXT_MAX];
    snprintf(out, FILES_NAME_MAX, "%s-%" PRIu64, id_format(hash->bytes, text), number);
}

/* The store is not writable while value files fail; kv_maintain() finds out when they work again. */
static enum hkv_err noted(struct kv *kv, enum hkv_err err)
{
    if (err != HKV_OK) kv_trouble_note(kv, KV_TROUBLE_FILES, err);
    return err;
}

enum hkv_err kv_file_create(struct kv *kv, struct kv_file **out)
{
    struct kv_file *file = calloc(1, sizeof *file);
    if (!file) return error_set(HKV_E_NOMEM, "a value file");
    file->kv = kv;
    snprintf(file->name, sizeof file->name, "tmp-%016" PRIx64 "-%" PRIu64, kv->run,
             (uint64_t)atomic_fetch_add(&kv->next_temporary, 1));
    enum hkv_err err = kv->files->ops->create(kv->files, file->name, &file->handle);
    if (err != HKV_OK) {
        free(file);
        return noted(kv, err);
    }
    *out = file;
    return HKV_OK;
}

enum hkv_err kv_file_write(struct kv_file *file, uint64_t offset, struct slice bytes)
{
    assert(file->state == KV_FILE_OPEN && file->handle);
    TRY(kv_budget_file_grows(file, offset + bytes.len));
    return noted(file->kv, file->kv->files->ops->write(file->handle, offset, bytes));
}

/* ------------------------------------------------------------------------------------------ sealing */

void kv_files_init(struct kv *kv)
{
    (void)pthread_mutex_init(&kv->sealing.lock, NULL);
    (void)pthread_cond_init(&kv->sealing.synced, NULL);
}

void kv_files_fini(struct kv *kv)
{
    assert(kv->sealing.files == NULL);
    (void)pthread_cond_destroy(&kv->sealing.synced);
    (void)pthread_mutex_destroy(&kv->sealing.lock);
}

/* The file is about to get its final name. `*failures`: syncs of the folder that failed before. */
static void become_new(struct kv_file *file, uint64_t *failures)
{
    struct kv_sealing *s = &file->kv->sealing;
    (void)pthread_mutex_lock(&s->lock);
    file->is_new = true;
    file->next = s->files;
    file->back = &s->files;
    if (file->next) file->next->back = &file->next;
    s->files = file;
    *failures = s->failures;
    (void)pthread_mutex_unlock(&s->lock);
}

static void end_new(struct kv_file *file)
{
    struct kv_sealing *s = &file->kv->sealing;
    if (!file->is_new) return;
    (void)pthread_mutex_lock(&s->lock);
    *file->back = file->next;
    if (file->next) file->next->back = file->back;
    file->is_new = false;
    (void)pthread_mutex_unlock(&s->lock);
}

static bool is_new(struct kv *kv, const struct hash *hash, uint64_t number)
{
    struct kv_sealing *s = &kv->sealing;
    (void)pthread_mutex_lock(&s->lock);
    const struct kv_file *file = s->files;
    while (file && (file->number != number || !hash_equal(&file->hash, hash))) file = file->next;
    (void)pthread_mutex_unlock(&s->lock);
    return file != NULL;
}

/* Syncs the folder for everyone who asked for it until now. The lock is held, but not meanwhile. */
static enum hkv_err sync_for_all(struct kv *kv)
{
    struct kv_sealing *s = &kv->sealing;
    uint64_t covered = s->wanted;
    s->syncing = true;
    (void)pthread_mutex_unlock(&s->lock);
    enum hkv_err err = kv->files->ops->sync_dir(kv->files);
    (void)pthread_mutex_lock(&s->lock);
    s->syncing = false;
    if (err == HKV_OK)
        s->done = covered;
    else
        s->failures++;
    (void)pthread_cond_broadcast(&s->synced);
    return err;
}

/* Makes the names of files durable that were renamed by now, if no sync failed since there were `failures`. */
static enum hkv_err sync_folder(struct kv *kv, uint64_t failures)
{
    struct kv_sealing *s = &kv->sealing;
    enum hkv_err err = HKV_OK;
    (void)pthread_mutex_lock(&s->lock);
    uint64_t mine = ++s->wanted;
    while (err == HKV_OK && s->failures == failures && s->done < mine) {
        if (s->syncing)
            (void)pthread_cond_wait(&s->synced, &s->lock);
        else
            err = sync_for_all(kv);
    }
    bool good = s->failures == failures;
    (void)pthread_mutex_unlock(&s->lock);
    if (err != HKV_OK || good) return err;
    return error_set(HKV_E_DISK, "%s: syncing the folder failed when a value's file was new in it", kv->blobs_path);
}

static enum hkv_err seal(struct kv_file *file, const struct hash *hash, uint64_t length)
{
    struct kv *kv = file->kv;
    const struct files_ops *ops = kv->files->ops;
    uint64_t failures;
    char name[FILES_NAME_MAX];
    assert(file->state == KV_FILE_OPEN && file->handle);
    TRY(ops->read(file->handle, 0, file->head, sizeof file->head, &file->head_len));
    TRY(ops->sync(file->handle));
    ops->close(file->handle);
    file->handle = NULL;
    file->hash = *hash;
    file->length = length;
    file->number = atomic_fetch_add(&kv->next_value, 1);
    kv_file_name(hash, file->number, name);
    become_new(file, &failures);
    TRY(ops->rename(kv->files, file->name, name));
    memcpy(file->name, name, sizeof name);
    return sync_folder(kv, failures);
}

enum hkv_err kv_file_seal(struct kv_file *file, const struct hash *hash, uint64_t length, struct buf *outboard_take)
{
    TRY(noted(file->kv, seal(file, hash, length)));
    file->outboard = buf_take(outboard_take);
    file->state = KV_FILE_SEALED;
    return HKV_OK;
}

static void destroy(struct kv_file *file, bool remove)
{
    if (file->handle) file->kv->files->ops->close(file->handle);
    /* One that cannot be removed now is an orphan for the next sweep. */
    if (remove) (void)!file->kv->files->ops->unlink(file->kv->files, file->name);
    end_new(file);
    kv_budget_file_ends(file);
    buf_fini(&file->outboard);
    free(file);
}

void kv_file_free(struct kv_file *file)
{
    if (!file) return;
    if (file->state == KV_FILE_STORED)
        file->released = true; /* the end of the transaction decides */
    else
        destroy(file, file->state != KV_FILE_KEPT);
}

enum hkv_err kv_file_stored(struct kv *kv, struct kv_file *file)
{
    assert(file->state == KV_FILE_SEALED);
    if (file->number < kv->stale_below)
        return error_set(HKV_E_NAMESPACE, "the store moved to another namespace while the value was written; write it "
                                          "again");
    if (kv->stored_file_count == kv->stored_file_cap) {
        size_t cap = kv->stored_file_cap ? kv->stored_file_cap * 2 : 8;
        struct kv_file **grown = realloc(kv->stored_files, cap * sizeof(struct kv_file *));
        if (!grown) return error_set(HKV_E_NOMEM, "files of a transaction");
        kv->stored_files = grown;
        kv->stored_file_cap = cap;
    }
    kv->stored_files[kv->stored_file_count++] = file;
    file->state = KV_FILE_STORED;
    if (file->number > kv->counters.newest_file) kv->counters.newest_file = file->number;
    return HKV_OK;
}

enum hkv_err kv_file_doomed(struct kv *kv, const struct hash *hash, uint64_t number)
{
    if (kv->doomed_file_count == kv->doomed_file_cap) {
        size_t cap = kv->doomed_file_cap ? kv->doomed_file_cap * 2 : 8;
        struct kv_doomed_file *grown = realloc(kv->doomed_files, cap * sizeof *grown);
        if (!grown) return error_set(HKV_E_NOMEM, "files of a transaction");
        kv->doomed_files = grown;
        kv->doomed_file_cap = cap;
    }
    kv->doomed_files[kv->doomed_file_count++] = (struct kv_doomed_file){*hash, number};
    return HKV_OK;
}

void kv_files_undo(struct kv *kv, size_t stored_mark, size_t doomed_mark)
{
    if (kv->doomed_file_count > doomed_mark) kv->doomed_file_count = doomed_mark;
    while (kv->stored_file_count > stored_mark) {
        struct kv_file *file = kv->stored_files[--kv->stored_file_count];
        file->state = KV_FILE_SEALED;
        if (file->released) destroy(file, true);
    }
}

/* A file that cannot be removed now is an orphan for the sweep after the next start. */
static void remove_doomed(struct kv *kv)
{
    if (kv->doomed_file_count > 0 && kv_log_settle(kv) != HKV_OK) {
        log_warn("kv", "%s", error_last());
        kv->doomed_file_count = 0;
    }
    for (size_t i = 0; i < kv->doomed_file_count; i++) {
        char name[FILES_NAME_MAX];
        kv_file_name(&kv->doomed_files[i].hash, kv->doomed_files[i].number, name);
        if (kv->files->ops->unlink(kv->files, name) != HKV_OK) log_warn("kv", "%s", error_last());
    }
    kv->doomed_file_count = 0;
}

void kv_files_committed(struct kv *kv)
{
    remove_doomed(kv);
    while (kv->stored_file_count > 0) {
        struct kv_file *file = kv->stored_files[--kv->stored_file_count];
        file->state = KV_FILE_KEPT;
        end_new(file);
        kv_budget_file_ends(file); /* the counters have it */
        if (file->released) destroy(file, false);
    }
}

/* ------------------------------------------------------------------------------------------ orphan sweep */

struct sweep {
    struct kv *kv;
    enum hkv_err err;
};

/* Reads `<hash>-<number>`. */
static bool parse_name(const char *name, struct hash *hash, uint64_t *number)
{
    size_t len = strlen(name);
    char *end = NULL;
    if (len < 2 * ID_BYTES + 2 || name[2 * ID_BYTES] != '-') return false;
    if (!hex_decode(slice_of(name, 2 * ID_BYTES), HEX_LOWER_ONLY, hash->bytes, ID_BYTES)) return false;
    if (name[2 * ID_BYTES + 1] < '0' || name[2 * ID_BYTES + 1] > '9') return false;
    *number = strtoull(name + 2 * ID_BYTES + 1, &end, 10);
    return *end == 0;
}

static enum hkv_err is_used(struct kv *kv, const struct hash *hash, uint64_t number, bool *out)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, SQL_VALUE_FILE_USED, &s));
    db_bind_slice(s, 1, slice_of(hash->bytes, VALUE_HASH_PREFIX));
    db_bind_id(s, 2, hash->bytes);
    db_bind_u64(s, 3, number);
    TRY(db_row(&kv->db, s, out));
    sqlite3_reset(s);
    return HKV_OK;
}

static void sweep_name(void *arg, const char *name)
{
    struct sweep *sweep = arg;
    struct kv *kv = sweep->kv;
    char own[FILES_NAME_MAX];
    struct hash hash;
    uint64_t number;
    bool orphan = false;
    if (sweep->err != HKV_OK) return;
    if (strncmp(name, "tmp-", 4) == 0) {
        snprintf(own, sizeof own, "tmp-%016" PRIx64 "-", kv->run);
        orphan = strncmp(name, own, strlen(own)) != 0;
    } else if (parse_name(name, &hash, &number) && !is_new(kv, &hash, number)) {
        bool used = true;
        sweep->err = is_used(kv, &hash, number, &used);
        orphan = !used;
    }
    if (orphan && sweep->err == HKV_OK) sweep->err = kv->files->ops->unlink(kv->files, name);
}

enum hkv_err kv_sweep_orphans(struct kv *kv)
{
    struct sweep sweep = {.kv = kv};
    bool end = false;
    if (!kv->sweeping) return HKV_OK;
    TRY(kv->files->ops->list(kv->files, KV_MAINTAIN_NAMES_MAX, sweep_name, &sweep, &end));
    if (end) kv->sweeping = false;
    return sweep.err;
}
