/* The disk budget (kv_config.disk_bytes), counted in what the store needs rather than in the lengths of its files:
 *
 *   pages of the database in use   free ones are used again before the file grows
 *   value files                    those that are being written, too
 *   the write-ahead log            its share (KV_LOG_SHARE), or what it takes when that is more
 *
 *   0 ─────────────────────────────────── 95 % ──────────────── 100 %
 *     new keys, entries of other nodes      overwrites, values     deletes of keys that are there
 *                                           of stored entries
 *
 * A delete frees its value a minute later, and takes next to nothing, so it is never refused: a store would stay full
 * for ever. Others are refused with HKV_E_LIMIT, entries of other nodes with DOCS_REFUSED; they come again with the
 * next sync. Nothing has to be reset when there is room again. */
#include <inttypes.h>
#include <stdio.h>

#include "kv/internal.h"

static uint64_t log_share(const struct kv *kv)
{
    uint64_t share = kv->config.disk_bytes / KV_LOG_SHARE;
    uint64_t most = (uint64_t)KV_CHECKPOINT_PAGES * DB_LOG_FRAME_BYTES;
    return share < most ? share : most;
}

int kv_checkpoint_pages(const struct kv *kv)
{
    if (!kv->config.disk_bytes) return KV_CHECKPOINT_PAGES;
    /* A fifth is for the zeros that are written ahead: a quarter of what the log is long. */
    int pages = (int)(log_share(kv) / 5 * 4 / DB_LOG_FRAME_BYTES);
    return pages > 1 ? pages : 1;
}

enum hkv_err kv_budget_limit_log(struct kv *kv)
{
    int64_t set;
    char text[64];
    if (!kv->config.disk_bytes) return HKV_OK;
    snprintf(text, sizeof text, "PRAGMA journal_size_limit=%" PRIu64, log_share(kv));
    return db_integer(&kv->db, text, &set);
}

static uint64_t limit_of(const struct kv *kv, enum kv_room room)
{
    uint64_t limit = kv->config.disk_bytes;
    return room == KV_ROOM_NEW ? limit - limit / 20 : limit;
}

static uint64_t used_bytes(struct kv *kv)
{
    return atomic_load(&kv->used_bytes) + atomic_load(&kv->unstored_bytes);
}

bool kv_budget_allows(struct kv *kv, uint64_t more, enum kv_room room)
{
    if (!kv->config.disk_bytes || room == KV_ROOM_DELETE) return true;
    uint64_t limit = limit_of(kv, room);
    uint64_t used = used_bytes(kv);
    return used < limit && more <= limit - used;
}

enum hkv_err kv_budget_refusal(const struct kv *kv)
{
    return error_set(HKV_E_LIMIT, "the store's disk budget of %" PRIu64 " bytes is used up; delete keys or raise it",
                     kv->config.disk_bytes);
}

void kv_budget_take(struct kv *kv, uint64_t more)
{
    if (kv->config.disk_bytes) atomic_fetch_add(&kv->used_bytes, more + KV_ROW_BYTES);
}

bool kv_budget_has_room(struct kv *kv, struct error_text *why)
{
    if (kv_budget_allows(kv, KV_ROW_BYTES, KV_ROOM_NEW)) return true;
    (void)kv_budget_refusal(kv);
    error_save(why);
    return false;
}

enum hkv_err kv_budget_measure(struct kv *kv)
{
    int64_t pages, unused;
    TRY(db_integer(&kv->db, "PRAGMA page_count", &pages));
    TRY(db_integer(&kv->db, "PRAGMA freelist_count", &unused));
    kv->db_bytes = (uint64_t)(pages - unused) * DB_PAGE_BYTES;
    uint64_t log = kv->log_is_used_again ? 0 : (uint64_t)kv->wal_pages * DB_LOG_FRAME_BYTES;
    if (log < log_share(kv)) log = log_share(kv);
    atomic_store(&kv->used_bytes, kv->db_bytes + kv->counters.file_bytes + log);
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ files being written */

enum hkv_err kv_budget_file_grows(struct kv_file *file, uint64_t length)
{
    struct kv *kv = file->kv;
    if (length <= file->reserved_bytes) return HKV_OK;
    uint64_t more = length - file->reserved_bytes;
    if (!kv_budget_allows(kv, more, KV_ROOM_REPLACE)) return kv_budget_refusal(kv);
    atomic_fetch_add(&kv->unstored_bytes, more);
    file->reserved_bytes = length;
    return HKV_OK;
}

void kv_budget_file_ends(struct kv_file *file)
{
    atomic_fetch_sub(&file->kv->unstored_bytes, file->reserved_bytes);
    file->reserved_bytes = 0;
}
