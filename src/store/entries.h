/* Rows of the tables `entry` and `place`: one signed entry for each (author, document key), in iroh-docs' order.
 *
 * An id here is author ‖ document key; the namespace is the store's. The hash of an entry is that of its value's row.
 * Whoever adds an entry has given its author a number and stored its value. Threads and errors: as the connection's
 * (store/db.h). */
#ifndef HKV_STORE_ENTRIES_H
#define HKV_STORE_ENTRIES_H

#include "store/db.h"
#include "store/values.h"
#include "wire/entry.h"

struct entry_row {
    uint64_t number; /* of its signatures */
    struct author_id author;
    struct slice key; /* borrowed from the statement or the id that it was found by */
    struct record record;
    struct signature author_signature;
    struct signature namespace_signature;
    uint64_t value; /* its number, store/values.h */
    enum value_state state;
};

/* Replaces `id` by author ‖ key. */
HKV_CHECK enum hkv_err entries_id(struct buf *id, const struct author_id *author, struct slice key);

/* Byte order of author ‖ key against a string of bytes that may be any bound: < 0, 0, > 0. */
int entries_id_compare(const struct author_id *author, struct slice key, struct slice id);

/* What wire/entry.h calls the fingerprint; it is not stored. */
void entries_fingerprint(const struct namespace_id *namespace, const struct entry_row *row, struct fingerprint *out);

/* Reads the current row of a statement that selects SQL_ENTRY_COLUMNS. Errors: HKV_E_CORRUPT. */
HKV_CHECK enum hkv_err entries_read(struct db *db, sqlite3_stmt *s, struct entry_row *out);

HKV_CHECK enum hkv_err entries_find(struct db *db, struct slice id, struct entry_row *out, bool *found);

/* Adds the row, which gets its number; `author` is the number of its author. Or changes the row of the same id, whose
 * number is known. */
HKV_CHECK enum hkv_err entries_add(struct db *db, uint64_t author, struct entry_row *row);
HKV_CHECK enum hkv_err entries_change(struct db *db, const struct entry_row *row);
HKV_CHECK enum hkv_err entries_remove(struct db *db, const struct entry_row *row);

/* A statement that begins at the id `from` and ends with the table: SQL_ENTRY_SCAN or another with SQL_PLACES_FROM.
 * Stepped with db_row; the bound stays in place. */
HKV_CHECK enum hkv_err entries_scan(struct db *db, enum sql_id sql, struct slice from, sqlite3_stmt **out);

/* The author and key in the first two columns of such a statement. Errors: HKV_E_CORRUPT. */
HKV_CHECK enum hkv_err entries_read_id(struct db *db, sqlite3_stmt *s, struct author_id *author, struct slice *key);

/* Replaces `out` by the id after or before `id`, which need not be there. */
HKV_CHECK enum hkv_err entries_id_after(struct db *db, struct slice id, struct buf *out, bool *found);
HKV_CHECK enum hkv_err entries_id_before(struct db *db, struct slice id, struct buf *out, bool *found);

/* The entry of the same author at the longest prefix of `id`'s key that is shorter than `*key_len`, which becomes its
 * length (wire/docs.md 8.3: a reverse walk, one step for each parent or shortening). */
HKV_CHECK enum hkv_err entries_parent(struct db *db, struct slice id, size_t *key_len, struct entry_row *out,
                                      bool *found);

#endif
