/* The tables `key` and `waiting`: what each key's top is and what it shows (formats.md 3), and the change log that
 * follows from it.
 *
 *   top      the entry with the greatest (stamp, author)
 *   shown    the top, as soon as its content is here; until then what it was (`waiting`)
 *
 * A row of `key` says what the key shows, which mostly is its top. A key that waits has a row in `waiting` too, with
 * the top's stamp and author, found by the value that has to come.
 *
 * A key is visible when what it shows is a value that has not expired. Each change of a user key's visible state, or of
 * a visible value, is one row of the change log. Foreign entries have no row here. */
#include <assert.h>
#include <stdlib.h>

#include "kv/internal.h"

static struct kv_winner column_winner(sqlite3_stmt *s, int column)
{
    return (struct kv_winner){db_column_u64(s, column), db_column_u64(s, column + 1), db_column_u64(s, column + 2)};
}

static void read_key(sqlite3_stmt *s, struct kv_key_row *out)
{
    int kind = sqlite3_column_int(s, 3);
    out->has_shown = sqlite3_column_type(s, 3) != SQLITE_NULL;
    out->shown = column_winner(s, 0);
    out->expired = kind == KV_KIND_EXPIRED;
    out->kind = out->expired ? KV_VALUE : (enum kv_kind)kind;
    out->expires_us = db_column_u64(s, 4);
    out->awaited = db_column_u64(s, 5);
    out->waiting = out->awaited != 0;
    out->top = out->shown;
    if (out->waiting) out->top = (struct kv_winner){db_column_u64(s, 6), db_column_u64(s, 7), out->awaited};
}

enum hkv_err kv_key_read(struct db *db, struct slice document_key, struct kv_key_row *out)
{
    sqlite3_stmt *s;
    *out = (struct kv_key_row){0};
    TRY(db_statement(db, SQL_KEY_FIND, &s));
    db_bind_slice(s, 1, document_key);
    TRY(db_row(db, s, &out->exists));
    if (!out->exists) return HKV_OK;
    read_key(s, out);
    out->has_top = !out->waiting || sqlite3_column_type(s, 7) != SQLITE_NULL;
    sqlite3_reset(s);
    return HKV_OK;
}

enum hkv_err kv_key_load(struct kv *kv, struct slice document_key, struct kv_key_row *out)
{
    TRY(kv_key_read(&kv->db, document_key, out));
    if (!out->exists || out->has_top) return HKV_OK;
    return error_set(HKV_E_CORRUPT, "%s: the table waiting lacks a key that waits", kv->db_path);
}

static bool winners_equal(const struct kv_winner *a, const struct kv_winner *b)
{
    return a->stamp_us == b->stamp_us && a->author == b->author && a->value == b->value;
}

static void bind_number_or_null(sqlite3_stmt *s, int index, uint64_t number, bool present)
{
    if (present)
        db_bind_u64(s, index, number);
    else
        sqlite3_bind_null(s, index);
}

/* Takes the row out of `waiting` that was read, and puts the one there that is to be. */
static enum hkv_err waiting_save(struct kv *kv, struct slice document_key, const struct kv_key_row *row)
{
    uint64_t awaited = row->waiting ? row->top.value : 0;
    sqlite3_stmt *s;
    if (row->awaited && row->awaited != awaited) {
        TRY(db_statement(&kv->db, SQL_WAITING_REMOVE, &s));
        db_bind_u64(s, 1, row->awaited);
        db_bind_slice(s, 2, document_key);
        TRY(db_run(&kv->db, s));
    }
    if (!awaited) return HKV_OK;
    TRY(db_statement(&kv->db, SQL_WAITING_PUT, &s));
    db_bind_u64(s, 1, awaited);
    db_bind_slice(s, 2, document_key);
    db_bind_u64(s, 3, row->top.stamp_us);
    db_bind_u64(s, 4, row->top.author);
    return db_run(&kv->db, s);
}

enum hkv_err kv_key_save(struct kv *kv, struct slice document_key, const struct kv_key_row *row)
{
    sqlite3_stmt *s;
    TRY(waiting_save(kv, document_key, row));
    if (!row->has_top) {
        if (!row->exists) return HKV_OK;
        TRY(db_statement(&kv->db, SQL_KEY_REMOVE, &s));
        db_bind_slice(s, 1, document_key);
        return db_run(&kv->db, s);
    }
    assert(row->waiting || (row->has_shown && winners_equal(&row->shown, &row->top)));
    TRY(db_statement(&kv->db, row->exists ? SQL_KEY_CHANGE : SQL_KEY_ADD, &s));
    db_bind_slice(s, 1, document_key);
    bind_number_or_null(s, 2, row->shown.stamp_us, row->has_shown);
    bind_number_or_null(s, 3, row->shown.author, row->has_shown);
    bind_number_or_null(s, 4, row->shown.value, row->has_shown);
    bind_number_or_null(s, 5, row->expired ? KV_KIND_EXPIRED : (uint64_t)row->kind, row->has_shown);
    bind_number_or_null(s, 6, row->expires_us, row->has_shown && row->expires_us);
    bind_number_or_null(s, 7, row->top.value, row->waiting);
    return db_run(&kv->db, s);
}

/* ------------------------------------------------------------------------------------------ change log */

static enum hkv_err keep_change(struct kv *kv, struct slice name, struct kv_change *change)
{
    if (kv->change_count == KV_CHANGES_AT_HAND) return HKV_OK;
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

/* ------------------------------------------------------------------------------------------ shown */

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
    bool shown_already = row->has_shown && winners_equal(&row->shown, top);
    row->waiting = v->state != VALUE_PRESENT && !shown_already; /* what is shown may have become bad */
    return row->waiting || shown_already ? HKV_OK : show_top(op, document_key, row, v);
}

enum hkv_err kv_shown_stored(struct kv_op *op, const struct entry *e)
{
    struct kv *kv = op->kv;
    struct kv_key_row row;
    struct kv_winner winner = {.stamp_us = e->record.stamp_us, .value = op->value.id};
    bool wins;
    TRY(kv_party_number(kv, e->author.bytes, true, &winner.author, NULL));
    TRY(kv_key_load(kv, e->key, &row));
    TRY(beats_top(kv, &row, winner.stamp_us, winner.author, &e->author, &wins));
    if (!wins) return HKV_OK;
    TRY(set_top(op, e->key, &row, &winner, &op->value));
    return kv_key_save(kv, e->key, &row);
}

/* Takes the entry of the current row as winner if it beats the one found so far, whose author is `holder`. */
static enum hkv_err take_winner(struct kv *kv, sqlite3_stmt *s, struct kv_winner *top, struct author_id *holder,
                                bool *any)
{
    struct kv_winner next = column_winner(s, 0);
    struct author_id author;
    TRY(db_column_id(&kv->db, s, 3, author.bytes));
    if (*any && next.stamp_us < top->stamp_us) return HKV_OK;
    if (*any && next.stamp_us == top->stamp_us && ID_COMPARE(&author, holder) < 0) return HKV_OK;
    *top = next;
    *holder = author;
    *any = true;
    return HKV_OK;
}

/* The winner among the entries that the key still has. Every author is asked: that happens only when a prefix removed
 * the winner of a key. */
static enum hkv_err find_top(struct kv *kv, struct slice document_key, struct kv_winner *top, bool *any)
{
    sqlite3_stmt *s;
    struct author_id holder;
    enum hkv_err err = HKV_OK;
    *any = false;
    TRY(db_statement(&kv->db, SQL_KEY_ENTRIES, &s));
    db_bind_slice(s, 1, document_key);
    for (bool found; err == HKV_OK;) {
        err = db_row(&kv->db, s, &found);
        if (err != HKV_OK || !found) break;
        err = take_winner(kv, s, top, &holder, any);
    }
    sqlite3_reset(s);
    return err;
}

/* The winner is gone. */
static enum hkv_err show_next(struct kv_op *op, struct slice document_key, struct kv_key_row *row)
{
    struct kv *kv = op->kv;
    struct kv_winner top;
    struct value_row v;
    bool any, found;
    TRY(find_top(kv, document_key, &top, &any));
    if (!any) {
        row->has_top = row->waiting = false;
        return show_nothing(op, document_key, row);
    }
    TRY(values_get(&kv->db, top.value, &v, &found));
    if (!found) return error_set(HKV_E_CORRUPT, "%s: the table value lacks an entry's value", kv->db_path);
    return set_top(op, document_key, row, &top, &v);
}

enum hkv_err kv_shown_removed(struct kv_op *op, const struct entry_row *removed)
{
    struct kv *kv = op->kv;
    struct kv_key_row row;
    uint64_t number;
    TRY(kv_party_number(kv, removed->author.bytes, true, &number, NULL));
    TRY(kv_key_load(kv, removed->key, &row));
    if (!row.exists) return error_set(HKV_E_CORRUPT, "%s: the table key lacks an entry's key", kv->db_path);
    if (row.top.author != number) return HKV_OK;
    TRY(show_next(op, removed->key, &row));
    return kv_key_save(kv, removed->key, &row);
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

/* ------------------------------------------------------------------------------------------ expiry */

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
    struct author_id self = kv_author(kv), author = {{0}};
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
