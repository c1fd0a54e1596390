#include "store/values.h"

#include "crypto/blake3.h"

static void bind_hash(sqlite3_stmt *s, int index, const struct hash *hash)
{
    db_bind_slice(s, index, slice_of(hash->bytes, VALUE_HASH_PREFIX));
    db_bind_id(s, index + 1, hash->bytes);
}

static void bind_u64_or_null(sqlite3_stmt *s, int index, uint64_t number, bool present)
{
    if (present)
        db_bind_u64(s, index, number);
    else
        sqlite3_bind_null(s, index);
}

static void bind_slice_or_null(sqlite3_stmt *s, int index, struct slice bytes, bool present)
{
    if (present)
        db_bind_slice(s, index, bytes);
    else
        sqlite3_bind_null(s, index);
}

enum hkv_err values_add(struct db *db, const struct value_row *row, const struct value_body *body)
{
    sqlite3_stmt *s;
    bool present = row->state == VALUE_PRESENT;
    TRY(db_statement(db, SQL_VALUE_ADD, &s));
    db_bind_u64(s, 1, row->id);
    db_bind_id(s, 2, row->hash.bytes);
    db_bind_u64(s, 3, row->length);
    sqlite3_bind_int64(s, 4, row->refs);
    sqlite3_bind_int(s, 5, (int)row->state);
    bind_u64_or_null(s, 6, (uint64_t)row->kind, present);
    bind_u64_or_null(s, 7, row->skip, present);
    bind_u64_or_null(s, 8, row->expires_us, present && row->expires_us);
    bind_u64_or_null(s, 9, body->next_try_us, row->state == VALUE_MISSING);
    bind_u64_or_null(s, 10, row->file, row->file != 0);
    bind_slice_or_null(s, 11, body->providers, body->providers.len > 0);
    bind_slice_or_null(s, 12, body->outboard, row->file != 0);
    bind_slice_or_null(s, 13, body->bytes, present && !row->file);
    bind_u64_or_null(s, 14, body->since_us, !present);
    return db_run(db, s);
}

enum hkv_err values_fill(struct db *db, const struct value_row *row, const struct value_body *body)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_VALUE_FILL, &s));
    db_bind_u64(s, 1, row->id);
    db_bind_u64(s, 2, row->length);
    sqlite3_bind_int64(s, 3, row->refs);
    sqlite3_bind_int(s, 4, row->kind);
    db_bind_u64(s, 5, row->skip);
    bind_u64_or_null(s, 6, row->expires_us, row->expires_us != 0);
    bind_u64_or_null(s, 7, row->file, row->file != 0);
    bind_slice_or_null(s, 8, body->outboard, row->file != 0);
    bind_slice_or_null(s, 9, body->bytes, !row->file);
    return db_run(db, s);
}

enum hkv_err values_read(struct db *db, sqlite3_stmt *s, struct value_row *out)
{
    *out = (struct value_row){
        .id = db_column_u64(s, 0),
        .length = db_column_u64(s, 2),
        .refs = sqlite3_column_int64(s, 3),
        .state = (enum value_state)sqlite3_column_int(s, 4),
        .kind = sqlite3_column_int(s, 5),
        .skip = (uint32_t)sqlite3_column_int(s, 6),
        .expires_us = db_column_u64(s, 7),
        .file = db_column_u64(s, 8),
    };
    return db_column_id(db, s, 1, out->hash.bytes);
}

static enum hkv_err read_row(struct db *db, sqlite3_stmt *s, struct value_row *out, bool *found)
{
    TRY(db_row(db, s, found));
    if (!*found) return HKV_OK;
    enum hkv_err err = values_read(db, s, out);
    sqlite3_reset(s);
    return err;
}

enum hkv_err values_scan(struct db *db, uint64_t from, sqlite3_stmt **out)
{
    TRY(db_statement(db, SQL_VALUE_SCAN, out));
    db_bind_u64(*out, 1, from);
    return HKV_OK;
}

enum hkv_err values_find(struct db *db, const struct hash *hash, struct value_row *out, bool *found)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_VALUE_FIND, &s));
    bind_hash(s, 1, hash);
    return read_row(db, s, out, found);
}

enum hkv_err values_get(struct db *db, uint64_t id, struct value_row *out, bool *found)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_VALUE_GET, &s));
    db_bind_u64(s, 1, id);
    return read_row(db, s, out, found);
}

enum hkv_err values_set_refs(struct db *db, uint64_t id, int64_t refs, uint64_t freed_us)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_VALUE_REFS, &s));
    db_bind_u64(s, 1, id);
    sqlite3_bind_int64(s, 2, refs);
    bind_u64_or_null(s, 3, freed_us, refs == 0);
    return db_run(db, s);
}

enum hkv_err values_set_label(struct db *db, const struct value_row *row)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_VALUE_LABEL, &s));
    db_bind_u64(s, 1, row->id);
    db_bind_u64(s, 2, row->length);
    sqlite3_bind_int(s, 3, row->kind);
    db_bind_u64(s, 4, row->skip);
    bind_u64_or_null(s, 5, row->expires_us, row->expires_us != 0);
    return db_run(db, s);
}

enum hkv_err values_set_bad(struct db *db, uint64_t id, uint64_t next_try_us, uint64_t since_us)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_VALUE_BAD, &s));
    db_bind_u64(s, 1, id);
    bind_u64_or_null(s, 2, next_try_us, next_try_us != 0);
    db_bind_u64(s, 3, since_us);
    return db_run(db, s);
}

enum hkv_err values_set_good(struct db *db, uint64_t id)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_VALUE_GOOD, &s));
    db_bind_u64(s, 1, id);
    return db_run(db, s);
}

enum hkv_err values_remove(struct db *db, uint64_t id)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_VALUE_REMOVE, &s));
    db_bind_u64(s, 1, id);
    return db_run(db, s);
}

enum hkv_err values_create_constants(struct db *db)
{
    static const uint8_t marked[2][5] = {{0xf1, 0x68, 0x6b, 0x76, 0x00}, {0xf1, 0x68, 0x6b, 0x76, 0x01}};
    const struct {
        struct value_row row;
        struct slice content;
    } constants[] = {
        {{.id = VALUE_NOTHING, .kind = 1}, {NULL, 0}},
        {{.id = VALUE_TOMBSTONE, .kind = 1, .skip = 5}, {marked[0], 5}},
        {{.id = VALUE_EMPTY, .kind = 0, .skip = 5}, {marked[1], 5}},
    };
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        struct value_row row = constants[i].row;
        row.length = constants[i].content.len;
        row.refs = 1; /* never counted, never freed */
        row.state = VALUE_PRESENT;
        blake3_hash(constants[i].content, &row.hash);
        TRY(values_add(db, &row, &(struct value_body){.bytes = constants[i].content}));
    }
    return HKV_OK;
}
