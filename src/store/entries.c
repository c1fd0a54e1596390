#include "store/entries.h"

#include <assert.h>

#define SIGNATURES_BYTES ((size_t)2 * SIGNATURE_BYTES)
#define LENGTH_BYTES_MAX 8

/* Columns of SQL_ENTRY_COLUMNS. */
enum { COL_AUTHOR, COL_KEY, COL_NUMBER, COL_STAMP, COL_VALUE, COL_HASH, COL_STATE, COL_SIGNED };

/* ------------------------------------------------------------------------------------------ ids */

static struct slice author_part(struct slice id)
{
    return slice_part(id, 0, id.len < ID_BYTES ? id.len : ID_BYTES);
}

static struct slice key_part(struct slice id)
{
    size_t start = id.len < ID_BYTES ? id.len : ID_BYTES;
    return slice_part(id, start, id.len);
}

enum hkv_err entries_id(struct buf *id, const struct author_id *author, struct slice key)
{
    buf_clear(id);
    TRY(buf_append(id, author->bytes, ID_BYTES));
    return buf_append_slice(id, key);
}

int entries_id_compare(const struct author_id *author, struct slice key, struct slice id)
{
    int order = slice_compare(slice_of(author->bytes, ID_BYTES), author_part(id));
    return order ? order : slice_compare(key, key_part(id));
}

void entries_fingerprint(const struct namespace_id *namespace, const struct entry_row *row, struct fingerprint *out)
{
    struct entry e = {.namespace = *namespace, .author = row->author, .key = row->key, .record = row->record};
    entry_fingerprint(&e, out);
}

/* ------------------------------------------------------------------------------------------ rows */

/* The column `signed`: author's signature, namespace's signature, and the length in as few bytes as it takes, the
 * greatest first. The length is outside the fingerprint, but signed: it is kept as it came (values.h says what it is
 * worth). */
static size_t signed_encode(const struct entry_row *row, uint8_t out[SIGNATURES_BYTES + LENGTH_BYTES_MAX])
{
    size_t n = SIGNATURES_BYTES;
    memcpy(out, row->author_signature.bytes, SIGNATURE_BYTES);
    memcpy(out + SIGNATURE_BYTES, row->namespace_signature.bytes, SIGNATURE_BYTES);
    for (int shift = 8 * (LENGTH_BYTES_MAX - 1); shift >= 0; shift -= 8)
        if (row->record.length_bytes >> shift) out[n++] = (uint8_t)(row->record.length_bytes >> shift);
    return n;
}

static enum hkv_err signed_decode(struct db *db, struct slice bytes, struct entry_row *out)
{
    if (bytes.len < SIGNATURES_BYTES || bytes.len > SIGNATURES_BYTES + LENGTH_BYTES_MAX)
        return error_set(HKV_E_CORRUPT, "%s: signatures and length in a row of the table entry have %zu bytes",
                         db->path, bytes.len);
    memcpy(out->author_signature.bytes, bytes.data, SIGNATURE_BYTES);
    memcpy(out->namespace_signature.bytes, bytes.data + SIGNATURE_BYTES, SIGNATURE_BYTES);
    out->record.length_bytes = 0;
    for (size_t i = SIGNATURES_BYTES; i < bytes.len; i++)
        out->record.length_bytes = out->record.length_bytes << 8 | bytes.data[i];
    return HKV_OK;
}

enum hkv_err entries_read_id(struct db *db, sqlite3_stmt *s, struct author_id *author, struct slice *key)
{
    *key = db_column_slice(s, COL_KEY);
    return db_column_id(db, s, COL_AUTHOR, author->bytes);
}

enum hkv_err entries_read(struct db *db, sqlite3_stmt *s, struct entry_row *out)
{
    TRY(entries_read_id(db, s, &out->author, &out->key));
    out->number = db_column_u64(s, COL_NUMBER);
    out->record.stamp_us = db_column_u64(s, COL_STAMP);
    out->value = db_column_u64(s, COL_VALUE);
    out->state = (enum value_state)sqlite3_column_int(s, COL_STATE);
    TRY(db_column_id(db, s, COL_HASH, out->record.hash.bytes));
    return signed_decode(db, db_column_slice(s, COL_SIGNED), out);
}

enum hkv_err entries_find(struct db *db, struct slice id, struct entry_row *out, bool *found)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_ENTRY_FIND, &s));
    db_bind_slice(s, 1, author_part(id));
    db_bind_slice(s, 2, key_part(id));
    TRY(db_row(db, s, found));
    if (!*found) return HKV_OK;
    enum hkv_err err = entries_read(db, s, out);
    out->key = key_part(id);
    sqlite3_reset(s);
    return err;
}

static enum hkv_err add_signed(struct db *db, struct entry_row *row)
{
    uint8_t room[SIGNATURES_BYTES + LENGTH_BYTES_MAX];
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_ENTRY_ADD, &s));
    db_bind_slice(s, 1, slice_of(room, signed_encode(row, room)));
    TRY(db_run(db, s));
    row->number = (uint64_t)sqlite3_last_insert_rowid(db->handle);
    return HKV_OK;
}

enum hkv_err entries_add(struct db *db, uint64_t author, struct entry_row *row)
{
    sqlite3_stmt *s;
    TRY(add_signed(db, row));
    TRY(db_statement(db, SQL_PLACE_ADD, &s));
    db_bind_u64(s, 1, author);
    db_bind_slice(s, 2, row->key);
    db_bind_u64(s, 3, row->record.stamp_us);
    db_bind_u64(s, 4, row->value);
    db_bind_u64(s, 5, row->number);
    return db_run(db, s);
}

static enum hkv_err change_signed(struct db *db, const struct entry_row *row)
{
    uint8_t room[SIGNATURES_BYTES + LENGTH_BYTES_MAX];
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_ENTRY_CHANGE, &s));
    db_bind_u64(s, 1, row->number);
    db_bind_slice(s, 2, slice_of(room, signed_encode(row, room)));
    return db_run(db, s);
}

enum hkv_err entries_change(struct db *db, const struct entry_row *row)
{
    sqlite3_stmt *s;
    TRY(change_signed(db, row));
    TRY(db_statement(db, SQL_PLACE_CHANGE, &s));
    db_bind_id(s, 1, row->author.bytes);
    db_bind_slice(s, 2, row->key);
    db_bind_u64(s, 3, row->record.stamp_us);
    db_bind_u64(s, 4, row->value);
    return db_run(db, s);
}

enum hkv_err entries_remove(struct db *db, const struct entry_row *row)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_ENTRY_REMOVE, &s));
    db_bind_u64(s, 1, row->number);
    TRY(db_run(db, s));
    TRY(db_statement(db, SQL_PLACE_REMOVE, &s));
    db_bind_id(s, 1, row->author.bytes);
    db_bind_slice(s, 2, row->key);
    return db_run(db, s);
}

/* ------------------------------------------------------------------------------------------ walks */

enum hkv_err entries_scan(struct db *db, enum sql_id sql, struct slice from, sqlite3_stmt **out)
{
    TRY(db_statement(db, sql, out));
    db_bind_slice(*out, 1, author_part(from));
    db_bind_slice(*out, 2, key_part(from));
    return HKV_OK;
}

/* Replaces `out` by the id in the statement's first row. */
static enum hkv_err first_id(struct db *db, sqlite3_stmt *s, struct buf *out, bool *found)
{
    struct author_id author;
    struct slice key;
    TRY(db_row(db, s, found));
    if (!*found) return HKV_OK;
    enum hkv_err err = entries_read_id(db, s, &author, &key);
    if (err == HKV_OK) err = entries_id(out, &author, key);
    sqlite3_reset(s);
    return err;
}

enum hkv_err entries_id_after(struct db *db, struct slice id, struct buf *out, bool *found)
{
    struct buf bound = {0};
    sqlite3_stmt *s;
    enum hkv_err err = buf_assign(&bound, id);
    if (err == HKV_OK) err = buf_append_byte(&bound, 0); /* the smallest id behind it */
    if (err == HKV_OK) err = entries_scan(db, SQL_PLACE_SCAN, buf_slice(&bound), &s);
    if (err == HKV_OK) err = first_id(db, s, out, found);
    buf_fini(&bound);
    return err;
}

enum hkv_err entries_id_before(struct db *db, struct slice id, struct buf *out, bool *found)
{
    sqlite3_stmt *s;
    TRY(entries_scan(db, SQL_PLACE_BEFORE, id, &s));
    TRY(first_id(db, s, out, found));
    if (*found) return HKV_OK;
    TRY(db_statement(db, SQL_PLACE_OF_AUTHORS_BEFORE, &s));
    db_bind_slice(s, 1, author_part(id));
    return first_id(db, s, out, found);
}

/* The last entry of the author at or before the key's first `len` bytes: whether it is exactly there, else how much of
 * the key it has in common. */
static enum hkv_err last_at_or_before(struct db *db, struct slice id, size_t len, struct entry_row *out, bool *found,
                                      bool *exact, size_t *common)
{
    struct buf bound = {0};
    struct slice key = key_part(id);
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_ENTRY_LAST, &s));
    TRY(buf_append_slice(&bound, slice_part(key, 0, len)));
    enum hkv_err err = buf_append_byte(&bound, 0); /* the smallest key behind the prefix itself */
    if (err == HKV_OK) {
        db_bind_slice(s, 1, author_part(id));
        db_bind_slice(s, 2, buf_slice(&bound));
        err = db_row(db, s, found);
    }
    if (err == HKV_OK && *found) {
        struct slice last = db_column_slice(s, COL_KEY);
        size_t n = 0;
        while (n < last.len && n < len && last.data[n] == key.data[n]) n++;
        *common = n;
        *exact = n == last.len;
        if (*exact) err = entries_read(db, s, out);
        sqlite3_reset(s);
    }
    buf_fini(&bound);
    return err;
}

enum hkv_err entries_parent(struct db *db, struct slice id, size_t *key_len, struct entry_row *out, bool *found)
{
    assert(id.len >= ID_BYTES && *key_len <= id.len - ID_BYTES);
    *found = false;
    for (size_t len = *key_len; len > 0;) {
        bool any = false;
        bool exact = false;
        size_t common = 0;
        TRY(last_at_or_before(db, id, len - 1, out, &any, &exact, &common));
        if (!any) return HKV_OK;
        if (exact) {
            *key_len = common;
            *found = true;
            out->key = slice_part(key_part(id), 0, common);
            return HKV_OK;
        }
        len = common + 1;
    }
    return HKV_OK;
}
