/* Rows of the table `entry`: one signed entry for each (author, document key), in iroh-docs' order.
 *
 * An id here is author ‖ document key; the namespace is the store's. A row's key borrows from the statement that read
 * it. Threads and errors: as the connection's (store/db.h). */
#ifndef HKV_STORE_ENTRIES_H
#define HKV_STORE_ENTRIES_H

#include "store/db.h"
#include "wire/entry.h"

struct entry_row {
    struct author_id author;
    struct slice key;
    struct record record;
    struct signature author_signature;
    struct signature namespace_signature;
    struct fingerprint print;
    uint64_t value; /* its number, store/values.h */
};

/* Replaces `id` by author ‖ key. */
HKV_CHECK enum hkv_err entries_id(struct buf *id, const struct author_id *author, struct slice key);

/* Reads the current row of a statement that selects SQL_ENTRY_COLUMNS. Errors: HKV_E_CORRUPT. */
HKV_CHECK enum hkv_err entries_read(struct db *db, sqlite3_stmt *s, struct entry_row *out);

/* `out->key` is empty: the caller knows it. */
HKV_CHECK enum hkv_err entries_find(struct db *db, struct slice id, struct entry_row *out, bool *found);

/* Adds the row, or changes the one of the same id. */
HKV_CHECK enum hkv_err entries_add(struct db *db, struct slice id, const struct entry_row *row);
HKV_CHECK enum hkv_err entries_change(struct db *db, struct slice id, const struct entry_row *row);
HKV_CHECK enum hkv_err entries_remove(struct db *db, struct slice id);

/* The statement that yields from <= id < to, or to the end for an empty `to`; stepped with db_row. The bounds stay in
 * place. The column ENTRY_SCAN_STATE is the state of the entry's value. */
#define ENTRY_SCAN_STATE 7
HKV_CHECK enum hkv_err entries_scan(struct db *db, struct slice from, struct slice to, sqlite3_stmt **out);

/* The entry of the same author at the longest prefix of `id`'s key that is shorter than `*key_len`, which becomes its
 * length (wire/docs.md 8.3: a reverse walk, one step for each parent or shortening). `out->key` is empty. */
HKV_CHECK enum hkv_err entries_parent(struct db *db, struct slice id, size_t *key_len, struct entry_row *out,
                                      bool *found);

#endif
