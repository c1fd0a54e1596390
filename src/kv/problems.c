/* Which values are not whole, and whose they are.
 *
 *   bad, too large, missing ──▶ key and author   by `waiting`, where a key's winner waits for the value
 *                                                else by one walk over all entries, which ends with the last one found
 */
#include <stdlib.h>

#include "kv/internal.h"

struct search {
    struct kv_problem *items;
    uint64_t *values; /* numbers */
    size_t count, max;
    size_t open; /* without a key so far */
};

static enum hkv_err add_problem(struct db *db, sqlite3_stmt *s, enum kv_problem_kind kind, struct search *search)
{
    struct kv_problem *p = &search->items[search->count];
    *p = (struct kv_problem){
        .kind = kind,
        .length = db_column_u64(s, 2),
        .since_us = db_column_u64(s, 3),
        .attempts = (uint32_t)sqlite3_column_int(s, 4),
        .next_try_us = db_column_u64(s, 5),
    };
    search->values[search->count] = db_column_u64(s, 0);
    TRY(db_column_id(db, s, 1, p->hash.bytes));
    search->count++;
    search->open++;
    return HKV_OK;
}

static enum hkv_err list_kind(struct db *db, enum sql_id sql, enum kv_problem_kind kind, struct search *search)
{
    sqlite3_stmt *s;
    enum hkv_err err = HKV_OK;
    TRY(db_statement(db, sql, &s));
    for (bool found; err == HKV_OK && search->count < search->max;) {
        err = db_row(db, s, &found);
        if (err != HKV_OK || !found) break;
        err = add_problem(db, s, kind, search);
    }
    sqlite3_reset(s);
    return err;
}

static enum hkv_err set_owner(struct search *search, size_t i, const uint8_t author[ID_BYTES], struct slice key)
{
    struct kv_problem *p = &search->items[i];
    if (p->has_owner) return HKV_OK;
    p->has_owner = true;
    memcpy(p->author.bytes, author, ID_BYTES);
    search->open--;
    return buf_assign(&p->key, key);
}

/* By the first key whose winner waits for the value. */
static enum hkv_err find_waiting(struct db *db, struct search *search, size_t i)
{
    sqlite3_stmt *s;
    bool found;
    struct buf key = {0};
    struct author_id author;
    TRY(db_statement(db, SQL_WAITING_NEXT, &s));
    db_bind_u64(s, 1, search->values[i]);
    TRY(db_row(db, s, &found));
    if (!found) return HKV_OK;
    enum hkv_err err = buf_assign(&key, db_column_slice(s, 0));
    sqlite3_reset(s);
    if (err == HKV_OK) err = db_statement(db, SQL_KEY_TOP, &s);
    if (err == HKV_OK) {
        db_bind_slice(s, 1, buf_slice(&key));
        err = db_row(db, s, &found);
        if (err == HKV_OK && found) {
            err = db_column_id(db, s, 1, author.bytes);
            sqlite3_reset(s);
            if (err == HKV_OK) err = set_owner(search, i, author.bytes, buf_slice(&key));
        }
    }
    buf_fini(&key);
    return err;
}

static enum hkv_err offer_owner(struct db *db, sqlite3_stmt *s, struct search *search)
{
    struct author_id author;
    uint64_t value = db_column_u64(s, 0);
    for (size_t i = 0; i < search->count; i++) {
        if (search->values[i] != value) continue;
        TRY(db_column_id(db, s, 1, author.bytes));
        return set_owner(search, i, author.bytes, db_column_slice(s, 2));
    }
    return HKV_OK;
}

static enum hkv_err walk_entries(struct db *db, struct search *search)
{
    sqlite3_stmt *s;
    enum hkv_err err = HKV_OK;
    TRY(db_statement(db, SQL_SUM_OWNERS, &s));
    for (bool found; err == HKV_OK && search->open > 0;) {
        err = db_row(db, s, &found);
        if (err != HKV_OK || !found) break;
        err = offer_owner(db, s, search);
    }
    sqlite3_reset(s);
    return err;
}

static enum hkv_err collect(struct db *db, struct search *search)
{
    TRY(list_kind(db, SQL_VALUES_BAD, KV_PROBLEM_BAD, search));
    TRY(list_kind(db, SQL_VALUES_TOO_LARGE, KV_PROBLEM_TOO_LARGE, search));
    TRY(list_kind(db, SQL_VALUES_MISSING, KV_PROBLEM_MISSING, search));
    for (size_t i = 0; i < search->count; i++) TRY(find_waiting(db, search, i));
    return search->open > 0 ? walk_entries(db, search) : HKV_OK;
}

enum hkv_err kv_problems(struct kv *kv, struct kv_problem *out, size_t max, size_t *count)
{
    struct kv_reader *reader;
    struct search search = {.items = out, .max = max, .values = calloc(max, sizeof *search.values)};
    *count = 0;
    if (!search.values) return error_set(HKV_E_NOMEM, "no memory to list values");
    enum hkv_err err = kv_reader_take(kv, &reader);
    if (err == HKV_OK) {
        err = db_exec(&reader->db, "BEGIN");
        if (err == HKV_OK) err = collect(&reader->db, &search);
        if (!sqlite3_get_autocommit(reader->db.handle))
            (void)sqlite3_exec(reader->db.handle, "COMMIT", NULL, NULL, NULL);
        kv_reader_give(kv, reader);
    }
    free(search.values);
    *count = search.count;
    if (err == HKV_OK) return HKV_OK;
    kv_problems_fini(out, search.count);
    *count = 0;
    return err;
}

void kv_problems_fini(struct kv_problem *problems, size_t count)
{
    for (size_t i = 0; i < count; i++) buf_fini(&problems[i].key);
}
