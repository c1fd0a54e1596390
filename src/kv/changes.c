/* The change log as its readers see it, and its bounds.
 *
 *      1 … first-1  trimmed      first … last  rows of the table `change`      last+1 …  to come
 *
 * A position is drawn with the change itself and in its transaction: one that is rolled back gives its number back, so
 * the numbers have no gaps. Of the rows, KV_CHANGES_KEPT are kept, and none for much longer than KV_CHANGES_AGE_US.
 * Rows carry no time: now and then the newest position is noted with the time (an age mark), which costs one small row
 * of `meta` in a few hours instead of 8 bytes in each change. */
#include <assert.h>
#include <stdlib.h>

#include "kv/internal.h"

/* ------------------------------------------------------------------------------------------ bounds */

static uint64_t kept_count(const struct kv *kv)
{
    return kv->config.changes_kept ? kv->config.changes_kept : KV_CHANGES_KEPT;
}

static uint64_t kept_us(const struct kv *kv)
{
    return kv->config.changes_age_us ? kv->config.changes_age_us : KV_CHANGES_AGE_US;
}

static uint64_t first_of(uint64_t oldest_position)
{
    return oldest_position ? oldest_position : 1;
}

enum hkv_err kv_ages_load(struct kv *kv)
{
    struct buf bytes = {0};
    struct kv_ages *ages = &kv->ages;
    enum hkv_err err = kv_meta_get(kv, KV_META_AGES, &bytes);
    ages->count = 0;
    for (size_t at = 0; at + 16 <= bytes.len && ages->count < KV_AGES_MAX; at += 16)
        ages->marks[ages->count++] = (struct kv_age_mark){be64_load(bytes.data + at), be64_load(bytes.data + at + 8)};
    buf_fini(&bytes);
    kv->ages_committed = *ages;
    return err == HKV_E_NOT_FOUND ? HKV_OK : err;
}

static enum hkv_err ages_save(struct kv *kv)
{
    uint8_t bytes[KV_AGES_MAX * 16];
    for (size_t i = 0; i < kv->ages.count; i++) {
        be64_store(bytes + 16 * i, kv->ages.marks[i].at_us);
        be64_store(bytes + 16 * i + 8, kv->ages.marks[i].position);
    }
    return kv_meta_set(kv, KV_META_AGES, slice_of(bytes, 16 * kv->ages.count));
}

static void drop_oldest_marks(struct kv_ages *ages, size_t count)
{
    ages->count -= count;
    memmove(ages->marks, ages->marks + count, ages->count * sizeof *ages->marks);
}

/* Notes how old the newest change is, by kv_steady_us(), when the last note is old enough. A mark from ahead of now, of
 * a crash after which the clock was set back, becomes one of now: rows may then stay longer, but never go too early. */
static enum hkv_err note_age(struct kv *kv)
{
    struct kv_ages *ages = &kv->ages;
    uint64_t step_us = kept_us(kv) / (KV_AGES_MAX - 1);
    bool changed = false;
    for (size_t i = 0; i < ages->count; i++) {
        if (ages->marks[i].at_us <= kv->steady_us) continue;
        ages->marks[i].at_us = kv->steady_us;
        changed = true;
    }
    const struct kv_age_mark *newest = ages->count ? &ages->marks[ages->count - 1] : NULL;
    if (kv->counters.position > (newest ? newest->position : 0) &&
        (!newest || kv->steady_us - newest->at_us >= step_us)) {
        if (ages->count == KV_AGES_MAX) drop_oldest_marks(ages, 1);
        ages->marks[ages->count++] = (struct kv_age_mark){kv->steady_us, kv->counters.position};
        changed = true;
    }
    return changed ? ages_save(kv) : HKV_OK;
}

/* The first position that both limits let stay. */
static uint64_t keep_from(struct kv *kv)
{
    const struct kv_counters *c = &kv->counters;
    uint64_t from = c->position > kept_count(kv) ? c->position - kept_count(kv) + 1 : 1;
    size_t expired = 0;
    while (expired < kv->ages.count && kv->steady_us - kv->ages.marks[expired].at_us >= kept_us(kv)) expired++;
    if (expired > 0 && kv->ages.marks[expired - 1].position >= from) from = kv->ages.marks[expired - 1].position + 1;
    return from;
}

enum hkv_err kv_changes_trim(struct kv *kv, uint64_t max)
{
    struct kv_counters *c = &kv->counters;
    sqlite3_stmt *s;
    assert(kv_in_transaction(kv));
    TRY(note_age(kv));
    uint64_t from = keep_from(kv);
    uint64_t first = first_of(c->oldest_position);
    if (from > first + max) from = first + max;
    if (from <= first) return HKV_OK;
    TRY(db_statement(&kv->db, SQL_CHANGE_TRIM, &s));
    db_bind_u64(s, 1, from);
    c->oldest_position = from;
    return db_run(&kv->db, s);
}

enum hkv_err kv_epoch_renew(struct kv *kv)
{
    uint8_t epoch[8];
    assert(kv_in_transaction(kv));
    kv_epoch_draw(kv, epoch);
    TRY(kv_meta_set(kv, KV_META_EPOCH, slice_of(epoch, sizeof epoch)));
    kv->next_epoch = be64_load(epoch);
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ reading */

struct page_builder {
    struct kv *kv;
    struct db *db;
    const struct kv_changes_query *query;
    struct kv_changes_page *page;
    size_t cap;
    size_t key_bytes;
};

static bool is_full(const struct page_builder *b)
{
    size_t max = b->query->changes_max;
    if (max == 0 || max > KV_PAGE_CHANGES_MAX) max = KV_PAGE_CHANGES_MAX;
    return b->page->changes.count >= max || b->key_bytes >= KV_PAGE_BYTES_MAX;
}

static enum hkv_err add(struct page_builder *b, struct slice name, const struct kv_change *change)
{
    struct kv_changes *all = &b->page->changes;
    if (all->count == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        struct kv_change *grown = realloc(all->items, cap * sizeof *grown);
        if (!grown) return error_set(HKV_E_NOMEM, "a page of the change log");
        all->items = grown;
        b->cap = cap;
    }
    all->items[all->count] = *change;
    TRY(buf_assign(&all->items[all->count].key, name));
    all->count++;
    b->key_bytes += name.len;
    return HKV_OK;
}

/* What the log holds in this snapshot. */
static enum hkv_err read_bounds(struct db *db, struct kv_changes_page *page)
{
    sqlite3_stmt *s;
    bool found;
    struct kv_counters counters = {0};
    TRY(db_statement(db, SQL_META_GET, &s));
    sqlite3_bind_text(s, 1, KV_META_COUNTERS, -1, SQLITE_STATIC);
    TRY(db_row(db, s, &found));
    if (found) kv_counters_decode(db_column_slice(s, 0), &counters);
    sqlite3_reset(s);
    sqlite3_bind_text(s, 1, KV_META_EPOCH, -1, SQLITE_STATIC);
    TRY(db_row(db, s, &found));
    if (!found || db_column_slice(s, 0).len != 8) {
        sqlite3_reset(s);
        return error_set(HKV_E_CORRUPT, "%s: the store has no epoch", db->path);
    }
    page->epoch = be64_load(db_column_slice(s, 0).data);
    sqlite3_reset(s);
    page->first = first_of(counters.oldest_position);
    page->last = counters.position;
    return HKV_OK;
}

static enum hkv_err decode_row(struct db *db, sqlite3_stmt *s, struct kv_change *out)
{
    int kind = sqlite3_column_int(s, 2);
    *out = (struct kv_change){
        .position = db_column_u64(s, 0),
        .kind = (enum kv_change_kind)(kind & 0xff),
        .by_prefix = (kind & KV_CHANGE_BY_PREFIX) != 0,
        .has_peer = sqlite3_column_type(s, 5) != SQLITE_NULL,
        .version.stamp_us = db_column_u64(s, 3),
    };
    if (out->kind > KV_EXPIRED)
        return error_set(HKV_E_CORRUPT, "%s: change %ju is of the unknown kind %d", db->path, (uintmax_t)out->position,
                         kind);
    if (out->has_peer) TRY(db_column_id(db, s, 5, out->peer.bytes));
    return db_column_id(db, s, 4, out->version.author.bytes);
}

/* Whether the reader is to see a change of this key: it begins with the prefix, and while keys are being listed it was
 * listed already (those that were not will be, as they are by then). */
static bool is_wanted(const struct kv_changes_query *q, struct slice name)
{
    if (!slice_starts_with(name, q->prefix)) return false;
    return !q->listing || (q->listed.len > 0 && slice_compare(name, q->listed) <= 0);
}

/* Rows behind the query's position, until the page is full or the log ends. */
static enum hkv_err read_rows(struct page_builder *b)
{
    struct kv_changes_page *page = b->page;
    sqlite3_stmt *s;
    enum hkv_err err = HKV_OK;
    page->position = b->query->position;
    if (page->position == page->last) return HKV_OK;
    TRY(db_statement(b->db, SQL_CHANGE_SCAN, &s));
    db_bind_u64(s, 1, page->position + 1);
    for (size_t rows = 0; rows < KV_PAGE_ROWS_MAX && !is_full(b); rows++) {
        struct kv_change change;
        struct slice name;
        bool found;
        err = db_row(b->db, s, &found);
        if (err != HKV_OK || !found) break;
        err = decode_row(b->db, s, &change);
        if (err == HKV_OK && change.position != page->position + 1)
            err = error_set(HKV_E_CORRUPT, "%s: the change log lacks position %ju", b->db->path,
                            (uintmax_t)page->position + 1);
        if (err == HKV_OK && kv_key_classify(db_column_slice(s, 1), &name) == KV_KEY_USER && is_wanted(b->query, name))
            err = add(b, name, &change);
        if (err != HKV_OK) break;
        page->position = change.position;
    }
    sqlite3_reset(s);
    return err;
}

static enum hkv_err read_listed(struct page_builder *b)
{
    const struct kv_changes_query *q = b->query;
    struct kv_list_bounds bounds = {0};
    uint64_t now_us = env_wall_us(b->kv->config.env);
    sqlite3_stmt *s;
    enum hkv_err err = kv_list_bounds(KV_KEY_USER, q->prefix, q->listed, &bounds);
    if (err == HKV_OK) err = db_statement(b->db, SQL_KEY_LIST_META, &s);
    if (err != HKV_OK) goto out;
    db_bind_slice(s, 1, buf_slice(&bounds.from));
    db_bind_slice(s, 2, buf_slice(&bounds.to));
    for (bool found = true; err == HKV_OK && !is_full(b);) {
        struct kv_change listed = {.kind = KV_LISTED};
        struct slice name;
        uint64_t expires_us;
        err = db_row(b->db, s, &found);
        b->page->listed_all = err == HKV_OK && !found;
        if (err != HKV_OK || !found) break;
        err = kv_list_row(b->db, s, &name, &listed.version, &expires_us);
        if (err != HKV_OK || (expires_us && expires_us <= now_us)) continue;
        err = add(b, name, &listed);
    }
    sqlite3_reset(s);
out:
    kv_list_bounds_fini(&bounds);
    return err;
}

static enum hkv_err read_page(struct page_builder *b)
{
    const struct kv_changes_query *q = b->query;
    struct kv_changes_page *page = b->page;
    TRY(read_bounds(b->db, page));
    /* A position beyond the newest is of a history that this store has lost. */
    page->lost = q->epoch != page->epoch || q->position + 1 < page->first || q->position > page->last;
    if (page->lost) return HKV_OK;
    TRY(read_rows(b));
    return q->listing && page->position == page->last ? read_listed(b) : HKV_OK;
}

enum hkv_err kv_changes_read(struct kv *kv, const struct kv_changes_query *query, struct kv_changes_page *out)
{
    struct kv_reader *reader;
    *out = (struct kv_changes_page){0};
    TRY(kv_reader_take(kv, &reader));
    struct page_builder builder = {.kv = kv, .db = &reader->db, .query = query, .page = out};
    enum hkv_err err = kv_reader_begin(reader);
    if (err == HKV_OK) err = read_page(&builder);
    kv_reader_end(reader);
    kv_reader_give(kv, reader);
    if (err != HKV_OK) kv_changes_fini(&out->changes);
    return err;
}
