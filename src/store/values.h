/* Rows of the table `value`: each content once, however many entries point to its hash.
 *
 *                        references: one for each entry with this hash, one for each key that shows it
 *   MISSING ──arrived──▶ PRESENT ──references 0──▶ freed_us set ──grace time──▶ removed, and its file with it
 *      │ ▲                  bytes in the row up to 16 KiB, else the file <hash>-<number> in blobs/
 *      ▼ │ a shorter length claimed, or a greater limit
 *   TOO_LARGE               a MISSING, TOO_LARGE or BAD row without references goes at once
 *
 *   PRESENT ──read back with a wrong hash──▶ BAD ──arrived, or read back well after all──▶ PRESENT
 *              BAD keeps the damaged bytes where they are until good ones take their place, and is never read from
 *
 * Three contents are always there under fixed numbers and are not counted: nothing, our tombstone, the empty value.
 *
 * An entry's length is outside its fingerprint (wire/docs.md 2.7), so two nodes can hold entries that differ in it
 * alone (H19). What a key shows must not depend on that: the hash decides, the stated length is a hint for fetching
 * until the content has come, and of several hints the smallest counts.
 *
 * Threads and errors: as the connection's (store/db.h). */
#ifndef HKV_STORE_VALUES_H
#define HKV_STORE_VALUES_H

#include "store/db.h"

#define VALUE_NOTHING     0 /* iroh-docs' empty entry */
#define VALUE_TOMBSTONE   1
#define VALUE_EMPTY       2
#define VALUE_FIRST       3
#define VALUE_GRACE_US    ((uint64_t)60000000) /* between the last reference and removal */
#define VALUE_HASH_PREFIX 5                    /* bytes of the hash in the index */

enum value_state {
    VALUE_MISSING,
    VALUE_PRESENT,
    VALUE_TOO_LARGE,
    VALUE_BAD,
};

/* Whether it is to be fetched: its content is not here, or not as it was written. */
static inline bool value_is_wanted(enum value_state state)
{
    return state == VALUE_MISSING || state == VALUE_BAD;
}

/* Kinds as in kv.h: 0 value, 1 tombstone, 2 unreadable. */
struct value_row {
    uint64_t id;
    struct hash hash;
    uint64_t length; /* of the content; what was claimed while it is not here */
    int64_t refs;
    enum value_state state;
    int kind;            /* PRESENT, BAD */
    uint32_t skip;       /* PRESENT, BAD: bytes before the value */
    uint64_t expires_us; /* PRESENT, BAD; 0: does not expire */
    uint64_t file;       /* number in the file's name; 0: bytes are in the row */
};

/* What goes into a row beside that. */
struct value_body {
    struct slice bytes;
    struct slice outboard;
    struct slice providers;
    uint64_t next_try_us;
    uint64_t since_us; /* when it was first not here */
};

static inline bool value_is_constant(uint64_t id)
{
    return id < VALUE_FIRST;
}

HKV_CHECK enum hkv_err values_create_constants(struct db *db);

/* The row of a hash; the constants are found like any other. */
HKV_CHECK enum hkv_err values_find(struct db *db, const struct hash *hash, struct value_row *out, bool *found);
HKV_CHECK enum hkv_err values_get(struct db *db, uint64_t id, struct value_row *out, bool *found);

/* The statement that yields the rows from number `from` on, stepped with db_row and read with values_read. The column
 * VALUE_SCAN_BYTES has the bytes of those without a file. */
#define VALUE_SCAN_BYTES 9
HKV_CHECK enum hkv_err values_scan(struct db *db, uint64_t from, sqlite3_stmt **out);
HKV_CHECK enum hkv_err values_read(struct db *db, sqlite3_stmt *s, struct value_row *out);

HKV_CHECK enum hkv_err values_add(struct db *db, const struct value_row *row, const struct value_body *body);

/* A missing row becomes the present one `row`, with its references. */
HKV_CHECK enum hkv_err values_fill(struct db *db, const struct value_row *row, const struct value_body *body);

/* Sets the references, and when they became 0. */
HKV_CHECK enum hkv_err values_set_refs(struct db *db, uint64_t id, int64_t refs, uint64_t freed_us);

/* Writes anew what the row tells about its content: length, kind, skip, expires_us. */
HKV_CHECK enum hkv_err values_set_label(struct db *db, const struct value_row *row);

/* A present row becomes a bad one, wanted from `next_try_us` on (0: never); a bad row the present one it was. */
HKV_CHECK enum hkv_err values_set_bad(struct db *db, uint64_t id, uint64_t next_try_us, uint64_t since_us);
HKV_CHECK enum hkv_err values_set_good(struct db *db, uint64_t id);

HKV_CHECK enum hkv_err values_remove(struct db *db, uint64_t id);

#endif
