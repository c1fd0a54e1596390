#include "store/entries.h"

#include <assert.h>

enum hkv_err entries_id(struct buf *id, const struct author_id *author, struct slice key)
{
    buf_clear(id);
    TRY(buf_append(id, author->bytes, ID_BYTES));
    return buf_append_slice(id, key);
}

enum hkv_err entries_read(struct db *db, sqlite3_stmt *s, struct entry_row *out)
{
    struct slice id = db_column_slice(s, 0);
    struct slice signatures = db_column_slice(s, 5);
    if (id.len < ID_BYTES || signatures.len != (size_t)2 * SIGNATURE_BYTES)
        return error_set(HKV_E_CORRUPT, "%s: a row of the table entry has an id of %zu and signatures of %zu bytes",
                         db->path, id.len, signatures.len);
    memcpy(out->author.bytes, id.data, ID_BYTES);
    out->key = slice_part(id, ID_BYTES, id.len);
    out->record.stamp_us = db_column_u64(s, 1);
    out->record.length_bytes = db_column_u64(s, 2);
    TRY(db_column_id(db, s, 3, out->record.hash.bytes));
    out->value = db_column_u64(s, 4);
    memcpy(out->author_signature.bytes, signatures.data, SIGNATURE_BYTES);
    memcpy(out->namespace_signature.bytes, signatures.data + SIGNATURE_BYTES, SIGNATURE_BYTES);
    return db_column_id(db, s, 6, out->print.bytes);
}

enum hkv_err entries_find(struct db *db, struct slice id, struct entry_row *out, bool *found)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_ENTRY_FIND, &s));
    db_bind_slice(s, 1, id);
    TRY(db_row(db, s, found));
    if (!*found) return HKV_OK;
    enum hkv_err err = entries_read(db, s, out);
    out->key = (struct slice){0};
    sqlite3_reset(s);
    return err;
}

static enum hkv_err write_row(struct db *db, enum sql_id sql, struct slice id, const struct entry_row *row)
{
    uint8_t signatures[2 * SIGNATURE_BYTES];
    sqlite3_stmt *s;
    memcpy(signatures, row->author_signature.bytes, SIGNATURE_BYTES);
    memcpy(signatures + SIGNATURE_BYTES, row->namespace_signature.bytes, SIGNATURE_BYTES);
    TRY(db_statement(db, sql, &s));
    db_bind_slice(s, 1, id);
    db_bind_u64(s, 2, row->record.stamp_us);
    db_bind_u64(s, 3, row->record.length_bytes);
    db_bind_id(s, 4, row->record.hash.bytes);
    db_bind_u64(s, 5, row->value);
    db_bind_slice(s, 6, slice_of(signatures, sizeof signatures));
    db_bind_id(s, 7, row->print.bytes);
    return db_run(db, s);
}

enum hkv_err entries_add(struct db *db, struct slice id, const struct entry_row *row)
{
    return write_row(db, SQL_ENTRY_ADD, id, row);
}

enum hkv_err entries_change(struct db *db, struct slice id, const struct entry_row *row)
{
    return write_row(db, SQL_ENTRY_CHANGE, id, row);
}

enum hkv_err entries_remove(struct db *db, struct slice id)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_ENTRY_REMOVE, &s));
    db_bind_slice(s, 1, id);
    return db_run(db, s);
}

enum hkv_err entries_scan(struct db *db, struct slice from, struct slice to, sqlite3_stmt **out)
{
    TRY(db_statement(db, to.len ? SQL_ENTRY_SCAN : SQL_ENTRY_SCAN_END, out));
    db_bind_slice(*out, 1, from);
    if (to.len) db_bind_slice(*out, 2, to);
    return HKV_OK;
}

/* The last entry of the author at or before the key's first `len` bytes: whether it is exactly there, else how much of
 * the key it has in common. */
static enum hkv_err last_at_or_before(struct db *db, struct slice id, size_t len, struct entry_row *out, bool *found,
                                      bool *exact, size_t *common)
{
    struct buf bound = {0};
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_ENTRY_LAST, &s));
    TRY(buf_append_slice(&bound, slice_part(id, 0, ID_BYTES + len)));
    enum hkv_err err = buf_append_byte(&bound, 0); /* the smallest id behind the prefix itself */
    if (err == HKV_OK) {
        db_bind_slice(s, 1, slice_part(id, 0, ID_BYTES));
        db_bind_slice(s, 2, buf_slice(&bound));
        err = db_row(db, s, found);
    }
    if (err == HKV_OK && *found) {
        struct slice p = db_column_slice(s, 0);
        size_t n = ID_BYTES;
        while (n < p.len && n < ID_BYTES + len && p.data[n] == id.data[n]) n++;
        *common = n - ID_BYTES;
        *exact = n == p.len;
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
            out->key = (struct slice){0};
            return HKV_OK;
        }
        len = common + 1;
    }
    return HKV_OK;
}
