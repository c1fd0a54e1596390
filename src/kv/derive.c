#include <stdlib.h>

#include "kv/internal.h"

/* ------------------------------------------------------------------------------------------ a key's row */

/* An entry of the key, when there is any. */
struct contender {
    bool exists;
    struct kv_winner winner;
    struct author_id author;
};

static void contend(struct contender *best, const struct contender *c)
{
    bool newer = !best->exists || c->winner.stamp_us > best->winner.stamp_us ||
                 (c->winner.stamp_us == best->winner.stamp_us && ID_COMPARE(&c->author, &best->author) > 0);
    if (newer) *best = *c;
}

/* Whether the value's content may be shown, or could be before it became bad. */
static enum hkv_err can_show(struct db *db, uint64_t value, struct value_row *v, bool *out)
{
    bool found;
    TRY(values_get(db, value, v, &found));
    *out = found && (v->state == VALUE_PRESENT || v->state == VALUE_BAD);
    return HKV_OK;
}

static void show(struct kv_key_row *row, const struct kv_winner *shown, const struct value_row *v, bool expired)
{
    row->has_shown = true;
    row->shown = *shown;
    row->kind = (enum kv_kind)v->kind;
    row->expires_us = v->expires_us;
    row->expired = expired && v->expires_us > 0;
}

static bool winners_equal(const struct kv_winner *a, const struct kv_winner *b)
{
    return a->stamp_us == b->stamp_us && a->author == b->author && a->value == b->value;
}

static enum hkv_err contender_of(struct db *db, sqlite3_stmt *s, struct contender *top, struct contender *here)
{
    struct value_row v;
    bool shows;
    struct contender c = {
        .exists = true,
        .winner = {db_column_u64(s, 0), db_column_u64(s, 1), db_column_u64(s, 2)},
    };
    TRY(db_column_id(db, s, 3, c.author.bytes));
    contend(top, &c);
    TRY(can_show(db, c.winner.value, &v, &shows));
    if (shows) contend(here, &c);
    return HKV_OK;
}

/* The entries of a key: the greatest, and the greatest whose content is here. */
static enum hkv_err contenders(struct db *db, struct slice document_key, struct contender *top, struct contender *here)
{
    sqlite3_stmt *s;
    enum hkv_err err = HKV_OK;
    TRY(db_statement(db, SQL_KEY_ENTRIES, &s));
    db_bind_slice(s, 1, document_key);
    for (bool found; err == HKV_OK;) {
        err = db_row(db, s, &found);
        if (err != HKV_OK || !found) break;
        err = contender_of(db, s, top, here);
    }
    sqlite3_reset(s);
    return err;
}

static enum hkv_err author_exists(struct db *db, uint64_t number, bool *out)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_PARTY_ID, &s));
    db_bind_u64(s, 1, number);
    TRY(db_row(db, s, out));
    sqlite3_reset(s);
    return HKV_OK;
}

/* What a key shows whose top has not come. */
static enum hkv_err expect_waiting(struct db *db, const struct contender *here, const struct kv_key_row *actual,
                                   struct kv_key_row *out)
{
    struct value_row v;
    bool shows, known;
    out->waiting = true;
    if (actual->has_shown) {
        TRY(author_exists(db, actual->shown.author, &known));
        TRY(can_show(db, actual->shown.value, &v, &shows));
        if (known && shows) {
            show(out, &actual->shown, &v, actual->expired);
            return HKV_OK;
        }
    }
    bool never_did = actual->has_top && !actual->has_shown;
    if (never_did || !here->exists) return HKV_OK;
    TRY(can_show(db, here->winner.value, &v, &shows));
    show(out, &here->winner, &v, false);
    return HKV_OK;
}

enum hkv_err kv_key_expected(struct db *db, struct slice document_key, const struct kv_key_row *actual,
                             struct kv_key_row *out)
{
    struct contender top = {0}, here = {0};
    struct value_row v;
    bool shows;
    *out = (struct kv_key_row){.exists = actual->exists, .awaited = actual->awaited};
    TRY(contenders(db, document_key, &top, &here));
    if (!top.exists) return HKV_OK;
    out->has_top = true;
    out->top = top.winner;
    bool shows_top = actual->has_shown && winners_equal(&actual->shown, &top.winner);
    TRY(can_show(db, top.winner.value, &v, &shows));
    if (!shows || (v.state == VALUE_BAD && !shows_top)) return expect_waiting(db, &here, actual, out);
    show(out, &top.winner, &v, shows_top && actual->expired);
    return HKV_OK;
}

bool kv_key_rows_equal(const struct kv_key_row *a, const struct kv_key_row *b)
{
    if (a->has_top != b->has_top || a->waiting != b->waiting || a->has_shown != b->has_shown) return false;
    if (a->has_top && !winners_equal(&a->top, &b->top)) return false;
    return !a->has_shown || (winners_equal(&a->shown, &b->shown) && a->kind == b->kind &&
                             a->expires_us == b->expires_us && a->expired == b->expired);
}

/* ------------------------------------------------------------------------------------------ references, counters */

static enum hkv_err count_column(struct db *db, enum sql_id sql, uint64_t low, uint32_t *counts)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, sql, &s));
    db_bind_u64(s, 1, low);
    db_bind_u64(s, 2, low + KV_REFS_WINDOW);
    for (bool found;;) {
        TRY(db_row(db, s, &found));
        if (!found) return HKV_OK;
        counts[db_column_u64(s, 0) - low]++;
    }
}

enum hkv_err kv_refs_count(struct db *db, uint64_t low, uint32_t *counts)
{
    memset(counts, 0, KV_REFS_WINDOW * sizeof *counts);
    TRY(count_column(db, SQL_SUM_ENTRY_REFS, low, counts));
    return count_column(db, SQL_SUM_KEY_REFS, low, counts);
}

static enum hkv_err sums(struct db *db, enum sql_id sql, uint64_t *out, int count)
{
    sqlite3_stmt *s;
    bool found;
    TRY(db_statement(db, sql, &s));
    TRY(db_row(db, s, &found));
    for (int i = 0; i < count; i++) out[i] = db_column_u64(s, i);
    sqlite3_reset(s);
    return HKV_OK;
}

enum hkv_err kv_counters_expected(struct db *db, struct kv_counters *out, uint64_t *astray)
{
    uint64_t keys[3], values[7];
    TRY(sums(db, SQL_SUM_KEYS, keys, 3));
    TRY(sums(db, SQL_SUM_VALUES, values, 7));
    TRY(sums(db, SQL_SUM_ASTRAY, astray, 1));
    out->visible = keys[0];
    out->tombstones = keys[1];
    out->missing = values[0];
    out->too_large = values[1];
    out->bad = values[2];
    out->file_bytes = values[3];
    out->refused = values[4];
    if (out->position < values[5]) out->position = values[5];
    out->entries = values[6];
    out->foreign = keys[2];
    return HKV_OK;
}
