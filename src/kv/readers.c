/* The pool of read connections. The one given back last is taken first: its page cache is warm. The budget for page
 * caches is divided among those that are open; a store that is read from one thread gets all of it. */
#include <stdlib.h>

#include "kv/internal.h"

enum hkv_err kv_readers_init(struct kv *kv)
{
    kv->readers.cache_bytes = kv->config.cache_bytes - kv->config.cache_bytes / 2;
    kv->readers.path = kv->db_path;
    kv->readers.vfs = kv->config.vfs;
    struct kv_reader *first;
    TRY(kv_reader_take(kv, &first));
    kv_reader_give(kv, first);
    return HKV_OK;
}

void kv_readers_fini(struct kv *kv)
{
    while (kv->readers.idle) {
        struct kv_reader *r = kv->readers.idle;
        kv->readers.idle = r->next;
        db_close(&r->db);
        free(r);
    }
}

/* The share of one connection when `open` are open, rounded so that it changes rarely. */
static uint64_t share(const struct kv_readers *all, size_t open)
{
    size_t parts = 1;
    while (parts < open) parts *= 2;
    return all->cache_bytes / parts;
}

static enum hkv_err reader_new(const struct kv_readers *all, uint64_t cache_bytes, struct kv_reader **out)
{
    struct kv_reader *r = calloc(1, sizeof *r);
    if (!r) return error_set(HKV_E_NOMEM, "opening a read connection");
    struct db_config config = {.path = all->path, .vfs = all->vfs, .cache_bytes = cache_bytes};
    enum hkv_err err = db_open(&config, &r->db);
    if (err != HKV_OK) {
        db_close(&r->db);
        free(r);
        return err;
    }
    r->cache_bytes = cache_bytes;
    *out = r;
    return HKV_OK;
}

enum hkv_err kv_reader_take(struct kv *kv, struct kv_reader **out)
{
    struct kv_readers *all = &kv->readers;
    (void)pthread_mutex_lock(&all->lock);
    while (!all->idle && all->open == KV_READERS_MAX) (void)pthread_cond_wait(&all->returned, &all->lock);
    struct kv_reader *r = all->idle;
    if (r)
        all->idle = r->next;
    else
        all->open++;
    uint64_t cache_bytes = share(all, all->open);
    (void)pthread_mutex_unlock(&all->lock);
    enum hkv_err err = HKV_OK;
    if (!r) {
        err = reader_new(all, cache_bytes, &r);
    } else if (r->cache_bytes != cache_bytes) {
        err = db_cache_resize(&r->db, cache_bytes);
        if (err == HKV_OK) r->cache_bytes = cache_bytes;
    }
    if (err == HKV_OK) {
        *out = r;
        return HKV_OK;
    }
    if (r) {
        kv_reader_give(kv, r);
        return err;
    }
    (void)pthread_mutex_lock(&all->lock);
    all->open--;
    (void)pthread_cond_signal(&all->returned);
    (void)pthread_mutex_unlock(&all->lock);
    return err;
}

void kv_reader_give(struct kv *kv, struct kv_reader *reader)
{
    struct kv_readers *all = &kv->readers;
    (void)pthread_mutex_lock(&all->lock);
    reader->next = all->idle;
    all->idle = reader;
    (void)pthread_cond_signal(&all->returned);
    (void)pthread_mutex_unlock(&all->lock);
}

enum hkv_err kv_reader_begin(struct kv_reader *reader)
{
    sqlite3_stmt *begin, *rollback;
    TRY(db_statement(&reader->db, SQL_BEGIN_READ, &begin));
    TRY(db_statement(&reader->db, SQL_ROLLBACK, &rollback));
    return db_run(&reader->db, begin);
}

void kv_reader_end(struct kv_reader *reader)
{
    sqlite3_stmt *rollback;
    if (sqlite3_get_autocommit(reader->db.handle)) return;
    struct error_text why; /* of what failed before */
    error_save(&why);
    if (db_statement(&reader->db, SQL_ROLLBACK, &rollback) == HKV_OK) (void)!db_run(&reader->db, rollback);
    error_restore(&why);
}
