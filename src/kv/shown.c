/* The table `key`: what each key's top is and what it shows (formats.md 3), and the change log that follows from it.
 *
 *   top      the entry with the greatest (stamp, author)
 *   shown    the top, as soon as its content is here; until then what it was (`waiting`)
 *
 * A key is visible when what it shows is a value that has not expired. Each change of a user key's visible state, or of
 * a visible value, is one row of the change log. Foreign entries have no row here. */
#include <assert.h>
#include <stdlib.h>

#include "kv/internal.h"

enum hkv_err kv_key_load(struct kv *kv, struct slice document_key, struct kv_key_row *out)
{
    sqlite3_stmt *s;
    *out = (struct kv_key_row){0};
    TRY(db_statement(&kv->db, SQL_KEY_FIND, &s));
    db_bind_slice(s, 1, document_key);
    TRY(db_row(&kv->db, s, &out->exists));
    if (!out->exists) return HKV_OK;
    out->entries = db_column_u64(s, 0);
    out->has_top = sqlite3_column_type(s, 2) != SQLITE_NULL;
    out->top = (struct kv_winner){db_column_u64(s, 1), db_column_u64(s, 2), db_column_u64(s, 3)};
    out->waiting = sqlite3_column_int(s, 4) != 0;
    out->has_shown = sqlite3_column_type(s, 6) != SQLITE_NULL;
    out->shown = (struct kv_winner){db_column_u64(s, 5), db_column_u64(s, 6), db_column_u64(s, 7)};
    out->kind = (enum kv_kind)sqlite3_column_int(s, 8);
    out->expires_us = db_column_u64(s, 9);
    out->expired = sqlite3_column_int(s, 10) != 0;
    sqlite3_reset(s);
    return HKV_OK;
}

static void bind_winner(sqlite3_stmt *s, int index, const struct kv_winner *w, bool present)
{
    if (present) {
        db_bind_u64(s, index, w->stamp_us);
        db_bind_u64(s, index + 1, w->author);
    } else {
        sqlite3_bind_null(s, index);
        sqlite3_bind_null(s, index + 1);
    }
}

static void bind_value(sqlite3_stmt *s, int index, const struct kv_winner *w, bool present)
{
    if (present)
        db_bind_u64(s, index, w->value);
    else
        sqlite3_bind_null(s, index);
}

static enum hkv_err key_save(struct kv *kv, struct slice document_key, const struct kv_key_row *row)
{
    sqlite3_stmt *s;
    if (!row->has_shown && row->entries == 0) {
        if (!row->exists) return HKV_OK;
        TRY(db_statement(&kv->db, SQL_KEY_REMOVE, &s));
        db_bind_slice(s, 1, document_key);
        return db_run(&kv->db, s);
    }
    TRY(db_statement(&kv->db, row->exists ? SQL_KEY_CHANGE : SQL_KEY_ADD, &s));
    db_bind_slice(s, 1, document_key);
    db_bind_u64(s, 2, row->entries);
    bind_winner(s, 3, &row->top, row->has_top);
    bind_value(s, 5, &row->top, row->has_top);
    sqlite3_bind_int(s, 6, row->waiting);
    bind_winner(s, 7, &row->shown, row->has_shown);
    bind_value(s, 9, &row->shown, row->has_shown);
    sqlite3_bind_int(s, 10, (int)row->kind);
    if (row->has_shown && row->expires_us)
        db_bind_u64(s, 11, row->expires_us);
    else
        sqlite3_bind_null(s, 11);
    sqlite3_bind_int(s, 12, row->expired);
    return db_run(&kv->db, s);
}

/* --------------------------------------------------------------------------------------------------------- change log
 */

static enum hkv_err keep_change(struct kv *kv, struct slice name, struct kv_change *change)
{
    if (kv->change_count == kv->change_cap) {
        size_t cap = kv->change_cap ? kv->change_cap * 2 : 64;
        struct kv_change *grown = realloc(kv->changes, cap * sizeof *grown);
        if (!grown) return error_set(HKV_E_NOMEM, "changes of a transaction");
        kv->changes = grown;
        kv->change_cap = cap;
    }
    TRY(buf_assign(&change->key, name));
    kv->changes[kv->change_count++] = *change;
    return HKV_OK;
}

static enum hkv_err log_change(struct kv *kv, const struct kv_cause *cause, struct slice document_key,
                               struct slice name, enum kv_change_kind kind, const struct kv_winner *now)
{
    struct kv_change change = {
        .position = kv->counters.position + 1,
        .kind = kind,
        .by_prefix = cause->by_prefix,
        .has_peer = cause->has_peer,
        .peer = cause->peer,
        .version = cause->version,
    };
    uint64_t author = now->author;
    uint64_t peer = 0;
    sqlite3_stmt *s;
    if (cause->by_prefix) {
        TRY(kv_party_number(kv, cause->version.author.bytes, true, &author, NULL));
    } else {
        change.version.stamp_us = now->stamp_us;
        TRY(kv_party_id(kv, author, change.version.author.bytes));
    }
    if (cause->has_peer) TRY(kv_party_number(kv, cause->peer.bytes, true, &peer, NULL));
    TRY(db_statement(&kv->db, SQL_CHANGE_ADD, &s));
    db_bind_u64(s, 1, change.position);
    db_bind_slice(s, 2, document_key);
    sqlite3_bind_int(s, 3, (int)kind | (cause->by_prefix ? KV_CHANGE_BY_PREFIX : 0));
    db_bind_u64(s, 4, change.version.stamp_us);
    db_bind_u64(s, 5, author);
    if (peer)
        db_bind_u64(s, 6, peer);
    else
        sqlite3_bind_null(s, 6);
    TRY(db_run(&kv->db, s));
    TRY(keep_change(kv, name, &change));
    kv->counters.position++;
    return HKV_OK;
}

/* -------------------------------------------------------------------------------------------------------------- shown
 */

static bool visible(const struct kv_key_row *row)
{
    return row->has_shown && row->kind == KV_VALUE && !row->expired;
}

static bool shows_tombstone(const struct kv_key_row *row)
{
    return row->has_shown && row->kind == KV_TOMBSTONE;
}

/* Counts and logs the step from `old` to `row`. */
static enum hkv_err announce(struct kv *kv, const struct kv_cause *cause, struct slice document_key,
                             const struct kv_key_row *old, const struct kv_key_row *row)
{
    struct slice name;
    if (kv_key_classify(document_key, &name) != KV_KEY_USER) return HKV_OK;
    kv->counters.visible += (uint64_t)visible(row) - (uint64_t)visible(old);
    kv->counters.tombstones += (uint64_t)shows_tombstone(row) - (uint64_t)shows_tombstone(old);
    if (!visible(old) && !visible(row)) return HKV_OK;
    enum kv_change_kind kind = cause->local ? KV_PUT_LOCAL : KV_PUT_REMOTE;
    if (row->has_shown && row->expired)
        kind = KV_EXPIRED;
    else if (!visible(row))
        kind = cause->local ? KV_DELETE_LOCAL : KV_DELETE_REMOTE;
    return log_change(kv, cause, document_key, name, kind, &row->shown);
}

/* Makes the key show its top, whose content `v` is here. */
static enum hkv_err show_top(struct kv_op *op, struct slice document_key, struct kv_key_row *row,
                             const struct value_row *v)
{
    struct kv_key_row old = *row;
    assert(v->state == VALUE_PRESENT);
    TRY(kv_op_ref(op, v->id, 1));
    if (row->has_shown) TRY(kv_op_ref(op, row->shown.value, -1));
    row->has_shown = true;
    row->waiting = false;
    row->shown = row->top;
    row->kind = (enum kv_kind)v->kind;
    row->expires_us = v->expires_us;
    row->expired = v->kind == KV_VALUE && v->expires_us && v->expires_us <= op->kv->now_us;
    return announce(op->kv, &op->cause, document_key, &old, row);
}

static enum hkv_err show_nothing(struct kv_op *op, struct slice document_key, struct kv_key_row *row)
{
    struct kv_key_row old = *row;
    row->has_top = row->waiting = false;
    if (row->has_shown) TRY(kv_op_ref(op, row->shown.value, -1));
    row->has_shown = false;
    return announce(op->kv, &op->cause, document_key, &old, row);
}

static enum hkv_err beats_top(struct kv *kv, const struct kv_key_row *row, uint64_t stamp_us, uint64_t author,
                              const struct author_id *id, bool *out)
{
    *out =
        !row->has_top || stamp_us > row->top.stamp_us || (stamp_us == row->top.stamp_us && author == row->top.author);
    if (*out || stamp_us < row->top.stamp_us) return HKV_OK;
    struct author_id holder;
    TRY(kv_party_id(kv, row->top.author, holder.bytes));
    *out = ID_COMPARE(id, &holder) > 0;
    return HKV_OK;
}

static enum hkv_err set_top(struct kv_op *op, struct slice document_key, struct kv_key_row *row,
                            const struct kv_winner *top, const struct value_row *v)
{
    row->has_top = true;
    row->top = *top;
    bool shown_already = row->has_shown && memcmp(&row->shown, top, sizeof *top) == 0;
    row->waiting = v->state != VALUE_PRESENT && !shown_already; /* what is shown may have become bad */
    return row->waiting || shown_already ? HKV_OK : show_top(op, document_key, row, v);
}

enum hkv_err kv_shown_stored(struct kv_op *op, const struct entry *e, bool replaced)
{
    struct kv *kv = op->kv;
    struct kv_key_row row;
    struct kv_winner winner = {.stamp_us = e->record.stamp_us, .value = op->value.id};
    bool wins;
    TRY(kv_party_number(kv, e->author.bytes, true, &winner.author, NULL));
    TRY(kv_key_load(kv, e->key, &row));
    if (!replaced) row.entries++;
    TRY(beats_top(kv, &row, winner.stamp_us, winner.author, &e->author, &wins));
    if (wins) TRY(set_top(op, e->key, &row, &winner, &op->value));
    return key_save(kv, e->key, &row);
}

/* The winner among the `entries` entries that the key still has. Authors are asked one by one: that happens only when a
 * prefix removed one of several entries of a key. */
static enum hkv_err find_top(struct kv *kv, struct slice document_key, uint64_t entries, struct author_id *author,
                             struct entry_row *top, bool *any)
{
    sqlite3_stmt *s;
    struct buf id = {0};
    *any = false;
    TRY(db_statement(&kv->db, SQL_PARTY_LIST, &s));
    enum hkv_err err = HKV_OK;
    for (bool more; entries > 0 && err == HKV_OK;) {
        struct author_id candidate;
        struct entry_row row;
        bool found = false;
        err = db_row(&kv->db, s, &more);
        if (err != HKV_OK || !more) break;
        err = db_column_id(&kv->db, s, 0, candidate.bytes);
        if (err == HKV_OK) err = entries_id(&id, &candidate, document_key);
        if (err == HKV_OK) err = entries_find(&kv->db, buf_slice(&id), &row, &found);
        if (err != HKV_OK || !found) continue;
        entries--;
        if (!*any || row.record.stamp_us > top->record.stamp_us ||
            (row.record.stamp_us == top->record.stamp_us && ID_COMPARE(&candidate, author) > 0)) {
            *any = true;
            *top = row;
            *author = candidate;
        }
    }
    sqlite3_reset(s);
    buf_fini(&id);
    return err;
}

enum hkv_err kv_shown_removed(struct kv_op *op, const struct entry_row *removed)
{
    struct kv *kv = op->kv;
    struct kv_key_row row;
    uint64_t number;
    TRY(kv_party_number(kv, removed->author.bytes, true, &number, NULL));
    TRY(kv_key_load(kv, removed->key, &row));
    if (!row.exists || row.entries == 0)
        return error_set(HKV_E_CORRUPT, "%s: the table key lacks an entry's key", kv->db_path);
    row.entries--;
    if (row.has_top && row.top.author == number) {
        struct author_id author;
        struct entry_row top;
        bool any;
        TRY(find_top(kv, removed->key, row.entries, &author, &top, &any));
        if (any) {
            struct kv_winner winner = {.stamp_us = top.record.stamp_us, .value = top.value};
            struct value_row v;
            bool found;
            TRY(kv_party_number(kv, author.bytes, true, &winner.author, NULL));
            TRY(values_get(&kv->db, top.value, &v, &found));
            if (!found) return error_set(HKV_E_CORRUPT, "%s: the table value lacks an entry's value", kv->db_path);
            TRY(set_top(op, removed->key, &row, &winner, &v));
        } else {
            TRY(show_nothing(op, removed->key, &row));
        }
    }
    return key_save(kv, removed->key, &row);
}

enum hkv_err kv_shown_arrived(struct kv_op *op)
{
    struct kv *kv = op->kv;
    struct buf key = {0};
    enum hkv_err err = HKV_OK;
    for (bool found; err == HKV_OK;) {
        sqlite3_stmt *s;
        struct kv_key_row row;
        err = db_statement(&kv->db, SQL_KEY_WAITING, &s);
        if (err != HKV_OK) break;
        db_bind_u64(s, 1, op->value.id);
        err = db_row(&kv->db, s, &found);
        if (err != HKV_OK || !found) break;
        err = buf_assign(&key, db_column_slice(s, 0));
        sqlite3_reset(s);
        if (err == HKV_OK) err = kv_key_load(kv, buf_slice(&key), &row);
        if (err == HKV_OK) err = show_top(op, buf_slice(&key), &row, &op->value);
        if (err == HKV_OK) err = key_save(kv, buf_slice(&key), &row);
    }
    buf_fini(&key);
    return err;
}

/* ------------------------------------------------------------------------------------------------------------- expiry
 */

static enum hkv_err next_expiring(struct kv *kv, enum sql_id which, struct buf *key, uint64_t *expires_us, bool *found)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, which, &s));
    TRY(db_row(&kv->db, s, found));
    if (!*found) return HKV_OK;
    *expires_us = db_column_u64(s, 1);
    enum hkv_err err = buf_assign(key, db_column_slice(s, 0));
    sqlite3_reset(s);
    return err;
}

static enum hkv_err set_expired(struct kv *kv, struct slice document_key, bool expired)
{
    struct kv_key_row row;
    TRY(kv_key_load(kv, document_key, &row));
    struct kv_key_row old = row;
    struct author_id self = kv_author(kv), author;
    TRY(kv_party_id(kv, row.shown.author, author.bytes));
    struct kv_cause cause = {.local = author_id_equal(&self, &author)};
    row.expired = expired;
    TRY(announce(kv, &cause, document_key, &old, &row));
    return key_save(kv, document_key, &row);
}

/* The clock went back: what expired only by the time it had shown is visible again. */
static enum hkv_err revive(struct kv *kv, uint64_t now_us, size_t max)
{
    struct buf key = {0};
    enum hkv_err err = HKV_OK;
    for (size_t done = 0; err == HKV_OK && done < max; done++) {
        bool found;
        uint64_t expires_us;
        err = next_expiring(kv, SQL_KEY_EXPIRED_LAST, &key, &expires_us, &found);
        if (err != HKV_OK || !found || expires_us <= now_us) break;
        err = set_expired(kv, buf_slice(&key), false);
    }
    buf_fini(&key);
    return err;
}

enum hkv_err kv_expire_due(struct kv *kv, uint64_t now_us, size_t max, uint64_t *next_due_us)
{
    struct buf key = {0};
    enum hkv_err err = revive(kv, now_us, max);
    *next_due_us = 0;
    for (size_t done = 0; err == HKV_OK; done++) {
        bool found;
        uint64_t expires_us;
        err = next_expiring(kv, SQL_KEY_EXPIRING, &key, &expires_us, &found);
        if (err != HKV_OK || !found) break;
        *next_due_us = expires_us;
        if (expires_us > now_us || done == max) break;
        *next_due_us = 0;
        err = set_expired(kv, buf_slice(&key), true);
    }
    buf_fini(&key);
    return err;
}
