/* The tables `key` and `waiting`: what each key's top is and what it shows (formats.md 3), and the change log that
 * follows from it.
 *
 *   top      the entry with the greatest (stamp, author)
 *   shown    the top, as soon as its content is here; until then what it was (`waiting`)
 *
 * A key that shows its top has a row in `key` alone, which names the entry; stamp, author and value are those of the
 * entry's row. A key that waits has a row in `waiting` too, found by the value that has to come.
 *
 * A key is visible when what it shows is a value that has not expired. Each change of a user key's visible state, or of
 * a visible value, is one row of the change log. Foreign entries have no row here. */
#include <assert.h>
#include <stdlib.h>

#include "kv/internal.h"

#define KIND_NONE (-1) /* NULL in the column key.kind: nothing is shown */

static struct kv_winner column_winner(sqlite3_stmt *s, int column)
{
    return (struct kv_winner){db_column_u64(s, column), db_column_u64(s, column + 1), db_column_u64(s, column + 2)};
}

static void read_key(sqlite3_stmt *s, struct kv_key_row *out)
{
    bool shows = sqlite3_column_type(s, 2) != SQLITE_NULL;
    out->stored = (struct kv_key_columns){
        .entry = db_column_u64(s, 0),
        .others = db_column_u64(s, 1),
        .kind = shows ? sqlite3_column_int(s, 2) : KIND_NONE,
        .expires_us = db_column_u64(s, 3),
    };
    out->awaited = db_column_u64(s, 7);
    out->waiting = out->awaited != 0;
    out->has_top = true;
    out->has_shown = shows;
    out->entries = out->stored.others + 1;
    out->top_entry = out->stored.entry;
    out->top = column_winner(s, 4);
    out->shown = out->waiting ? column_winner(s, 8) : out->top;
    out->expired = out->stored.kind == KV_KIND_EXPIRED;
    out->kind = out->expired || !shows ? KV_VALUE : (enum kv_kind)out->stored.kind;
    out->expires_us = out->stored.expires_us;
}

enum hkv_err kv_key_read(struct db *db, struct slice document_key, struct kv_key_row *out)
{
    sqlite3_stmt *s;
    *out = (struct kv_key_row){0};
    TRY(db_statement(db, SQL_KEY_FIND, &s));
    db_bind_slice(s, 1, document_key);
    TRY(db_row(db, s, &out->exists));
    if (!out->exists) return HKV_OK;
    if (sqlite3_column_type(s, 4) != SQLITE_NULL) read_key(s, out);
    sqlite3_reset(s);
    return HKV_OK;
}

enum hkv_err kv_key_load(struct kv *kv, struct slice document_key, struct kv_key_row *out)
{
    TRY(kv_key_read(&kv->db, document_key, out));
    if (!out->exists || out->has_top) return HKV_OK;
    return error_set(HKV_E_CORRUPT, "%s: the table entry lacks the winner of a key", kv->db_path);
}

static bool winners_equal(const struct kv_winner *a, const struct kv_winner *b)
{
    return a->stamp_us == b->stamp_us && a->author == b->author && a->value == b->value;
}

static enum hkv_err waiting_remove(struct kv *kv, struct slice document_key, uint64_t value)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, SQL_WAITING_REMOVE, &s));
    db_bind_u64(s, 1, value);
    db_bind_slice(s, 2, document_key);
    return db_run(&kv->db, s);
}

static enum hkv_err waiting_put(struct kv *kv, struct slice document_key, const struct kv_key_row *row)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, SQL_WAITING_PUT, &s));
    db_bind_u64(s, 1, row->top.value);
    db_bind_slice(s, 2, document_key);
    if (row->has_shown) {
        db_bind_u64(s, 3, row->shown.stamp_us);
        db_bind_u64(s, 4, row->shown.author);
        db_bind_u64(s, 5, row->shown.value);
    } else {
        for (int i = 3; i <= 5; i++) sqlite3_bind_null(s, i);
    }
    return db_run(&kv->db, s);
}

static enum hkv_err key_write(struct kv *kv, struct slice document_key, const struct kv_key_row *row)
{
    const struct kv_key_columns now = {
        .entry = row->top_entry,
        .others = row->entries - 1,
        .kind = !row->has_shown ? KIND_NONE
                : row->expired  ? KV_KIND_EXPIRED
                                : (int)row->kind,
        .expires_us = row->has_shown ? row->expires_us : 0,
    };
    const struct kv_key_columns *old = &row->stored;
    sqlite3_stmt *s;
    /* A new version by the same author is mostly a change of the entry's row alone. */
    if (row->exists && now.entry == old->entry && now.others == old->others && now.kind == old->kind &&
        now.expires_us == old->expires_us)
        return HKV_OK;
    TRY(db_statement(&kv->db, row->exists ? SQL_KEY_CHANGE : SQL_KEY_ADD, &s));
    db_bind_slice(s, 1, document_key);
    db_bind_u64(s, 2, now.entry);
    db_bind_u64(s, 3, now.others);
    if (now.kind == KIND_NONE)
        sqlite3_bind_null(s, 4);
    else
        sqlite3_bind_int(s, 4, now.kind);
    if (now.expires_us)
        db_bind_u64(s, 5, now.expires_us);
    else
        sqlite3_bind_null(s, 5);
    return db_run(&kv->db, s);
}

enum hkv_err kv_key_save(struct kv *kv, struct slice document_key, const struct kv_key_row *row)
{
    sqlite3_stmt *s;
    if (row->awaited && (!row->waiting || row->top.value != row->awaited || row->entries == 0))
        TRY(waiting_remove(kv, document_key, row->awaited));
    if (row->entries > 0) {
        assert(row->has_top && (row->waiting || (row->has_shown && winners_equal(&row->shown, &row->top))));
        if (row->waiting) TRY(waiting_put(kv, document_key, row));
        return key_write(kv, document_key, row);
    }
    if (!row->exists) return HKV_OK;
    TRY(db_statement(&kv->db, SQL_KEY_REMOVE, &s));
    db_bind_slice(s, 1, document_key);
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
                            const struct kv_winner *top, uint64_t entry, const struct value_row *v)
{
    row->has_top = true;
    row->top = *top;
    row->top_entry = entry;
    bool shown_already = row->has_shown && winners_equal(&row->shown, top);
    row->waiting = v->state != VALUE_PRESENT && !shown_already; /* what is shown may have become bad */
    return row->waiting || shown_already ? HKV_OK : show_top(op, document_key, row, v);
}

enum hkv_err kv_shown_stored(struct kv_op *op, const struct entry *e, uint64_t entry, bool replaced,
                             struct kv_key_row *row)
{
    struct kv *kv = op->kv;
    struct kv_winner winner = {.stamp_us = e->record.stamp_us, .value = op->value.id};
    bool wins;
    TRY(kv_party_number(kv, e->author.bytes, true, &winner.author, NULL));
    if (!replaced) row->entries++;
    TRY(beats_top(kv, row, winner.stamp_us, winner.author, &e->author, &wins));
    if (wins) TRY(set_top(op, e->key, row, &winner, entry, &op->value));
    return kv_key_save(kv, e->key, row);
}

/* Takes the entry of the current row as winner if it beats the one found so far, whose author is `holder`. */
static enum hkv_err take_winner(struct kv *kv, sqlite3_stmt *s, struct kv_winner *top, struct author_id *holder,
                                uint64_t *entry)
{
    struct kv_winner next = column_winner(s, 1);
    struct author_id author;
    TRY(db_column_id(&kv->db, s, 4, author.bytes));
    bool wins = *entry == 0 || next.stamp_us > top->stamp_us ||
                (next.stamp_us == top->stamp_us && ID_COMPARE(&author, holder) > 0);
    if (!wins) return HKV_OK;
    *top = next;
    *holder = author;
    *entry = db_column_u64(s, 0);
    return HKV_OK;
}

/* The winner among the entries that the key still has. Every author is asked: that happens only when a prefix removed
 * one of several entries of a key. */
static enum hkv_err find_top(struct kv *kv, struct slice document_key, struct kv_winner *top, uint64_t *entry)
{
    sqlite3_stmt *s;
    struct author_id holder;
    enum hkv_err err = HKV_OK;
    *entry = 0;
    TRY(db_statement(&kv->db, SQL_KEY_ENTRIES, &s));
    db_bind_slice(s, 1, document_key);
    for (bool found; err == HKV_OK;) {
        err = db_row(&kv->db, s, &found);
        if (err != HKV_OK || !found) break;
        err = take_winner(kv, s, top, &holder, entry);
    }
    sqlite3_reset(s);
    if (err != HKV_OK || *entry) return err;
    return error_set(HKV_E_CORRUPT, "%s: the table place lacks an entry of a key", kv->db_path);
}

/* Its winner is gone, other entries are left. */
static enum hkv_err show_next(struct kv_op *op, struct slice document_key, struct kv_key_row *row)
{
    struct kv *kv = op->kv;
    struct kv_winner top;
    struct value_row v;
    uint64_t entry;
    bool found;
    TRY(find_top(kv, document_key, &top, &entry));
    TRY(values_get(&kv->db, top.value, &v, &found));
    if (!found) return error_set(HKV_E_CORRUPT, "%s: the table value lacks an entry's value", kv->db_path);
    return set_top(op, document_key, row, &top, entry, &v);
}

enum hkv_err kv_shown_removed(struct kv_op *op, const struct entry_row *removed, struct kv_key_row *row)
{
    struct kv *kv = op->kv;
    if (!row->exists) return error_set(HKV_E_CORRUPT, "%s: the table key lacks an entry's key", kv->db_path);
    row->entries--;
    if (row->entries == 0)
        TRY(show_nothing(op, removed->key, row));
    else if (row->top_entry == removed->number)
        TRY(show_next(op, removed->key, row));
    return kv_key_save(kv, removed->key, row);
}

enum hkv_err kv_shown_arrived(struct kv_op *op)
{
    struct kv *kv = op->kv;
    struct buf key = {0};
    enum hkv_err err = HKV_OK;
    for (bool found; err == HKV_OK;) {
        sqlite3_stmt *s;
        struct kv_key_row row;
        err = db_statement(&kv->db, SQL_WAITING_NEXT, &s);
        if (err != HKV_OK) break;
        db_bind_u64(s, 1, op->value.id);
        err = db_row(&kv->db, s, &found);
        if (err != HKV_OK || !found) break;
        err = buf_assign(&key, db_column_slice(s, 0));
        sqlite3_reset(s);
        if (err == HKV_OK) err = kv_key_load(kv, buf_slice(&key), &row);
        if (err == HKV_OK) err = show_top(op, buf_slice(&key), &row, &op->value);
        if (err == HKV_OK) err = kv_key_save(kv, buf_slice(&key), &row);
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
    return kv_key_save(kv, document_key, &row);
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
