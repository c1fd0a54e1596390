/* Values that are missing: which are due, who may have them, and what happens when one comes.
 *
 *   due order   (next try, number)   the index value_wanted
 *   taken       handed out, not heard of since; in memory, so a restart forgets it and everything is due again
 *   wake        a peer that may have everything: one pass over all values that were not tried since
 *
 * Two positions in the due order keep a call from looking again at what is taken or was woken already. */
#include <assert.h>
#include <stdlib.h>

#include "kv/internal.h"

/* ------------------------------------------------------------------------------------------ taken */

static size_t taken_place(const struct kv_wanted_state *w, uint64_t id)
{
    size_t low = 0, high = w->taken_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (w->taken[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_taken(const struct kv_wanted_state *w, uint64_t id)
{
    size_t at = taken_place(w, id);
    return at < w->taken_count && w->taken[at] == id;
}

/* A list of `cap` items with room for one more than `count`. NULL: no memory, and the list is as it was. */
static void *with_room(void *list, size_t item_bytes, size_t count, size_t *cap)
{
    if (count < *cap) return list;
    size_t more = *cap ? *cap * 2 : 64;
    void *grown = realloc(list, more * item_bytes);
    if (grown) *cap = more;
    return grown;
}

static enum hkv_err reserve_taken(struct kv_wanted_state *w)
{
    uint64_t *taken = with_room(w->taken, sizeof *taken, w->taken_count, &w->taken_cap);
    if (!taken) return error_set(HKV_E_NOMEM, "list of values being fetched");
    w->taken = taken;
    return HKV_OK;
}

static enum hkv_err note_undo(struct kv_wanted_state *w, uint64_t id, bool was_taken)
{
    struct kv_wanted_undo *undo = with_room(w->undo, sizeof *undo, w->undo_count, &w->undo_cap);
    if (!undo) return error_set(HKV_E_NOMEM, "list of values being fetched");
    w->undo = undo;
    w->undo[w->undo_count++] = (struct kv_wanted_undo){id, was_taken};
    return HKV_OK;
}

/* There is room. */
static void insert_taken(struct kv_wanted_state *w, uint64_t id)
{
    assert(w->taken_count < w->taken_cap);
    size_t at = taken_place(w, id);
    memmove(w->taken + at + 1, w->taken + at, (w->taken_count - at) * sizeof *w->taken);
    w->taken[at] = id;
    w->taken_count++;
}

static enum hkv_err take(struct kv_wanted_state *w, uint64_t id)
{
    TRY(reserve_taken(w));
    TRY(note_undo(w, id, false));
    insert_taken(w, id);
    return HKV_OK;
}

static void untake(struct kv_wanted_state *w, uint64_t id)
{
    if (!is_taken(w, id)) return;
    size_t at = taken_place(w, id);
    w->taken_count--;
    memmove(w->taken + at, w->taken + at + 1, (w->taken_count - at) * sizeof *w->taken);
}

/* Its holder has done with it, unless the transaction is taken back: then the holder reports again. */
static enum hkv_err end(struct kv_wanted_state *w, uint64_t id)
{
    if (!is_taken(w, id)) return HKV_OK;
    TRY(note_undo(w, id, true));
    untake(w, id);
    return HKV_OK;
}

static void look_again_from(struct kv_wanted_state *w, uint64_t next_try_us)
{
    if (next_try_us > w->from_next_us) return;
    w->from_next_us = next_try_us;
    w->from_id = 0;
}

void kv_wanted_noticed(struct kv *kv, uint64_t next_try_us)
{
    look_again_from(&kv->wanted, next_try_us);
}

enum hkv_err kv_wanted_forget(struct kv *kv, uint64_t id)
{
    return end(&kv->wanted, id);
}

void kv_wanted_committed(struct kv *kv)
{
    kv->wanted.undo_count = 0;
}

/* Backwards, so that each finds the list as it left it, and room where it took something out. */
void kv_wanted_rolled_back(struct kv *kv, size_t undo_count)
{
    struct kv_wanted_state *w = &kv->wanted;
    while (w->undo_count > undo_count) {
        const struct kv_wanted_undo *undo = &w->undo[--w->undo_count];
        if (undo->was_taken)
            insert_taken(w, undo->id);
        else
            untake(w, undo->id);
    }
    look_again_from(w, 0);
}

/* ------------------------------------------------------------------------------------------ providers */

enum hkv_err kv_wanted_init(struct kv *kv)
{
    struct buf bytes = {0};
    enum hkv_err err = kv_meta_get(kv, KV_META_WAKERS, &bytes);
    for (size_t i = 0; err == HKV_OK && i < KV_PROVIDERS_MAX && (i + 1) * ID_BYTES <= bytes.len; i++) {
        memcpy(kv->wanted.wakers[i].bytes, bytes.data + i * ID_BYTES, ID_BYTES);
        kv->wanted.waker_count = i + 1;
    }
    buf_fini(&bytes);
    return err == HKV_E_NOT_FOUND ? HKV_OK : err;
}

/* Lengths above INT64_MAX are negative in the table; no limit comes near. */
static enum hkv_err apply_limit(struct kv *kv, enum sql_id sql, uint64_t *from, uint64_t *to)
{
    sqlite3_stmt *s;
    uint64_t limit = kv->config.max_value_bytes;
    TRY(db_statement(&kv->db, sql, &s));
    db_bind_u64(s, 1, limit <= INT64_MAX ? limit : INT64_MAX);
    TRY(db_run(&kv->db, s));
    uint64_t moved = (uint64_t)sqlite3_changes64(kv->db.handle);
    *from -= moved;
    *to += moved;
    return HKV_OK;
}

static enum hkv_err apply_new_limit(struct kv *kv, const uint8_t limit[8])
{
    struct kv_counters *c = &kv->counters;
    if (c->missing > 0) TRY(apply_limit(kv, SQL_VALUE_LIMIT_LOWERED, &c->missing, &c->too_large));
    if (c->too_large > 0) TRY(apply_limit(kv, SQL_VALUE_LIMIT_RAISED, &c->too_large, &c->missing));
    if (c->bad > 0) {
        uint64_t unmoved = 0;
        TRY(apply_limit(kv, SQL_VALUE_LIMIT_BAD, &unmoved, &unmoved));
    }
    return kv_meta_set(kv, KV_META_LIMIT, slice_of(limit, 8));
}

enum hkv_err kv_wanted_settle_limit(struct kv *kv)
{
    struct buf stored = {0};
    uint8_t limit[8];
    be64_store(limit, kv->config.max_value_bytes);
    enum hkv_err err = kv_meta_get(kv, KV_META_LIMIT, &stored);
    bool same = err == HKV_OK && slice_equal(buf_slice(&stored), slice_of(limit, sizeof limit));
    buf_fini(&stored);
    if (same || (err != HKV_OK && err != HKV_E_NOT_FOUND)) return err;
    TRY(kv_begin(kv));
    err = apply_new_limit(kv, limit);
    if (err == HKV_OK) return kv_commit(kv);
    kv_rollback(kv);
    return err;
}

void kv_wanted_fini(struct kv *kv)
{
    free(kv->wanted.taken);
    free(kv->wanted.undo);
}

static bool ids_contain(const struct endpoint_id *ids, size_t count, const struct endpoint_id *id)
{
    for (size_t i = 0; i < count; i++)
        if (endpoint_id_equal(&ids[i], id)) return true;
    return false;
}

enum hkv_err kv_wanted_wake(struct kv *kv, const struct endpoint_id *peer)
{
    struct kv_wanted_state *w = &kv->wanted;
    w->wake_us = kv->steady_us;
    w->wake_next_us = w->wake_id = 0;
    if (ids_contain(w->wakers, w->waker_count, peer)) return HKV_OK;
    /* The newest takes the place of the oldest. */
    if (w->waker_count == KV_PROVIDERS_MAX) {
        memmove(w->wakers, w->wakers + 1, (KV_PROVIDERS_MAX - 1) * sizeof *w->wakers);
        w->waker_count--;
    }
    w->wakers[w->waker_count++] = *peer;
    return kv_meta_set(kv, KV_META_WAKERS, slice_of(w->wakers, w->waker_count * sizeof *w->wakers));
}

static void fill_providers(const struct kv_wanted_state *w, struct slice stored, struct kv_wanted *out)
{
    for (size_t i = 0; i + ID_BYTES <= stored.len && out->provider_count < KV_PROVIDERS_MAX; i += ID_BYTES)
        memcpy(out->providers[out->provider_count++].bytes, stored.data + i, ID_BYTES);
    for (size_t i = w->waker_count; i > 0 && out->provider_count < KV_PROVIDERS_MAX; i--)
        if (!ids_contain(out->providers, out->provider_count, &w->wakers[i - 1]))
            out->providers[out->provider_count++] = w->wakers[i - 1];
}

/* ------------------------------------------------------------------------------------------ taking */

struct candidate {
    uint64_t id, next_us, tried_us;
};

static enum hkv_err read_wanted(struct kv *kv, sqlite3_stmt *s, struct candidate *c, struct kv_wanted *out)
{
    *c = (struct candidate){db_column_u64(s, 0), db_column_u64(s, 1), db_column_u64(s, 2)};
    *out = (struct kv_wanted){.attempts = (uint32_t)sqlite3_column_int(s, 3), .length = db_column_u64(s, 4)};
    fill_providers(&kv->wanted, db_column_slice(s, 6), out);
    return db_column_id(&kv->db, s, 5, out->hash.bytes);
}

static enum hkv_err wanted_after(struct kv *kv, uint64_t next_us, uint64_t id, sqlite3_stmt **s)
{
    TRY(db_statement(&kv->db, SQL_VALUE_WANTED, s));
    db_bind_u64(*s, 1, next_us);
    db_bind_u64(*s, 2, id);
    return HKV_OK;
}

/* Hands out what is due by its time. `*next_due_us`: when the first that is not due will be. */
static enum hkv_err take_due(struct kv *kv, uint64_t now_us, size_t max, struct kv_wanted *out, size_t *count,
                             uint64_t *next_due_us)
{
    struct kv_wanted_state *w = &kv->wanted;
    sqlite3_stmt *s;
    TRY(wanted_after(kv, w->from_next_us, w->from_id, &s));
    enum hkv_err err = HKV_OK;
    for (bool found;;) {
        struct candidate c;
        struct kv_wanted wanted;
        err = db_row(&kv->db, s, &found);
        if (err == HKV_OK && found) err = read_wanted(kv, s, &c, &wanted);
        if (err != HKV_OK || !found) break;
        bool taken = is_taken(w, c.id);
        if (!taken && (c.next_us > now_us || *count == max)) {
            *next_due_us = c.next_us > now_us ? c.next_us : now_us;
            break;
        }
        if (!taken) {
            err = take(w, c.id);
            if (err != HKV_OK) break;
            out[(*count)++] = wanted;
        }
        if (c.next_us <= now_us) {
            w->from_next_us = c.next_us;
            w->from_id = c.id;
        }
    }
    sqlite3_reset(s);
    return err;
}

/* Hands out what was not tried since the last wake, whatever its time. */
static enum hkv_err take_woken(struct kv *kv, uint64_t now_us, size_t max, struct kv_wanted *out, size_t *count,
                               uint64_t *next_due_us)
{
    struct kv_wanted_state *w = &kv->wanted;
    sqlite3_stmt *s;
    TRY(wanted_after(kv, w->wake_next_us, w->wake_id, &s));
    enum hkv_err err = HKV_OK;
    for (bool found;;) {
        struct candidate c;
        struct kv_wanted wanted;
        err = db_row(&kv->db, s, &found);
        if (err == HKV_OK && found) err = read_wanted(kv, s, &c, &wanted);
        if (err != HKV_OK) break;
        if (!found) {
            w->wake_us = 0;
            break;
        }
        if (!is_taken(w, c.id) && c.tried_us <= w->wake_us) {
            if (*count == max) {
                *next_due_us = now_us;
                break;
            }
            err = take(w, c.id);
            if (err != HKV_OK) break;
            out[(*count)++] = wanted;
        }
        w->wake_next_us = c.next_us;
        w->wake_id = c.id;
    }
    sqlite3_reset(s);
    return err;
}

enum hkv_err kv_wanted_take(struct kv *kv, uint64_t now_us, size_t max, struct kv_wanted *out, size_t *count,
                            uint64_t *next_due_us)
{
    *count = 0;
    *next_due_us = 0;
    if (kv->wanted.taken_count >= KV_TAKEN_MAX) max = 0;
    if (max > KV_TAKEN_MAX - kv->wanted.taken_count && max > 0) max = KV_TAKEN_MAX - kv->wanted.taken_count;
    TRY(take_due(kv, now_us, max, out, count, next_due_us));
    return kv->wanted.wake_us ? take_woken(kv, now_us, max, out, count, next_due_us) : HKV_OK;
}

/* ------------------------------------------------------------------------------------------ arrival, failure */

static enum hkv_err fill(struct kv_op *op, struct slice content, struct kv_file *file)
{
    struct kv_content parsed;
    struct slice head = file ? slice_of(file->head, file->head_len) : content;
    op->step = KV_VALUE_FILL;
    op->filled = op->value;
    op->value.file = 0;
    op->value.state = VALUE_PRESENT;
    op->value.length = file ? file->length : content.len;
    kv_content_parse(head, op->value.length, &parsed);
    op->value.kind = (int)parsed.kind;
    op->value.skip = parsed.skip;
    op->value.expires_us = parsed.expires_us;
    op->body.bytes = content;
    if (file) {
        op->value.file = file->number;
        op->body.outboard = buf_slice(&file->outboard);
        TRY(kv_file_stored(op->kv, file));
    }
    TRY(kv_shown_arrived(op));
    return kv_op_finish(op);
}

enum hkv_err kv_value_arrived(struct kv *kv, const struct hash *hash, struct slice content, struct kv_file *file)
{
    struct kv_op op = {.kv = kv};
    bool found;
    assert(kv_in_transaction(kv));
    assert(file || content.len <= KV_VALUE_INLINE_MAX);
    TRY(values_find(&kv->db, hash, &op.value, &found));
    if (!found || op.value.state == VALUE_PRESENT) return HKV_OK;
    if (!kv_budget_allows(kv, content.len, KV_ROOM_REPLACE)) return kv_budget_refusal(kv);
    kv_budget_take(kv, content.len);
    enum hkv_err err = fill(&op, content, file);
    kv_op_fini(&op);
    return err;
}

static uint64_t backoff_us(uint32_t attempts)
{
    uint64_t us = KV_BACKOFF_FIRST_US;
    for (uint32_t i = 1; i < attempts && us < KV_VALUE_BACKOFF_MAX_US; i++) us *= 2;
    return us < KV_VALUE_BACKOFF_MAX_US ? us : KV_VALUE_BACKOFF_MAX_US;
}

enum hkv_err kv_value_failed(struct kv *kv, const struct hash *hash, uint64_t now_us)
{
    struct value_row v;
    sqlite3_stmt *s;
    bool found;
    TRY(values_find(&kv->db, hash, &v, &found));
    if (!found || !value_is_wanted(v.state)) return HKV_OK;
    TRY(end(&kv->wanted, v.id));
    TRY(db_statement(&kv->db, SQL_VALUE_PROVIDERS, &s));
    db_bind_u64(s, 1, v.id);
    TRY(db_row(&kv->db, s, &found));
    if (!found) return HKV_OK;
    uint32_t attempts = (uint32_t)sqlite3_column_int(s, 2) + 1;
    sqlite3_reset(s);
    uint64_t next_us = now_us + backoff_us(attempts);
    TRY(db_statement(&kv->db, SQL_VALUE_TRIED, &s));
    db_bind_u64(s, 1, v.id);
    db_bind_u64(s, 2, next_us);
    db_bind_u64(s, 3, now_us);
    sqlite3_bind_int(s, 4, (int)(attempts < 1000 ? attempts : 1000));
    look_again_from(&kv->wanted, next_us);
    return db_run(&kv->db, s);
}

enum hkv_err kv_wanted_hint(struct kv_op *op, const struct record *record, const struct docs_origin *origin)
{
    struct kv *kv = op->kv;
    struct value_row *v = &op->value;
    sqlite3_stmt *s;
    bool found;
    /* The length of a bad value is known: its content was here. */
    bool shorter = v->state != VALUE_BAD && record->length_bytes < v->length;
    bool knows_peer = !origin || !origin->provides_content;
    if (!shorter && knows_peer) return HKV_OK;
    TRY(db_statement(&kv->db, SQL_VALUE_PROVIDERS, &s));
    db_bind_u64(s, 1, v->id);
    TRY(db_row(&kv->db, s, &found));
    assert(found);
    struct slice stored = db_column_slice(s, 0);
    uint64_t next_us = db_column_u64(s, 1);
    for (size_t i = 0; !knows_peer && i + ID_BYTES <= stored.len; i += ID_BYTES)
        knows_peer = memcmp(stored.data + i, origin->peer.bytes, ID_BYTES) == 0;
    enum hkv_err err = buf_assign(&op->providers, stored);
    sqlite3_reset(s);
    if (err == HKV_OK && !knows_peer && stored.len < (size_t)KV_PROVIDERS_MAX * ID_BYTES)
        err = buf_append(&op->providers, origin->peer.bytes, ID_BYTES);
    if (err != HKV_OK) return err;
    if (shorter) v->length = record->length_bytes;
    if (v->state == VALUE_TOO_LARGE && v->length <= kv->config.max_value_bytes) {
        v->state = VALUE_MISSING;
        next_us = kv->steady_us;
        kv->counters.too_large--;
        kv->counters.missing++;
    }
    /* A new provider is a reason to try at once. */
    bool fetched = value_is_wanted(v->state) && v->length <= kv->config.max_value_bytes;
    if (fetched && !knows_peer && next_us > kv->steady_us) next_us = kv->steady_us;
    TRY(db_statement(&kv->db, SQL_VALUE_HINT, &s));
    db_bind_u64(s, 1, v->id);
    db_bind_u64(s, 2, v->length);
    sqlite3_bind_int(s, 3, (int)v->state);
    if (fetched)
        db_bind_u64(s, 4, next_us);
    else
        sqlite3_bind_null(s, 4);
    db_bind_slice(s, 5, buf_slice(&op->providers));
    if (fetched) look_again_from(&kv->wanted, next_us);
    return db_run(&kv->db, s);
}

/* ------------------------------------------------------------------------------------------ marks */

enum hkv_err kv_value_mark(struct kv *kv, uint64_t *mark)
{
    sqlite3_stmt *s;
    bool found;
    TRY(db_statement(&kv->db, SQL_VALUE_NEWEST, &s));
    enum hkv_err err = db_row(&kv->db, s, &found);
    if (err == HKV_OK) *mark = found ? db_column_u64(s, 0) : 0;
    sqlite3_reset(s);
    return err;
}

enum hkv_err kv_value_missing(struct kv *kv, uint64_t mark, bool *missing)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, SQL_VALUE_MISSING, &s));
    db_bind_u64(s, 1, mark);
    enum hkv_err err = db_row(&kv->db, s, missing);
    sqlite3_reset(s);
    return err;
}
