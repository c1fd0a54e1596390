/* The tables of docs/store.db and the version of their form.
 *
 *   table    key → columns
 *   place    author, document key → stamp, value, number of the row in `entry`
 *   entry    number → `signed`: both signatures as received, then the length
 *   span     first id of a run of entries → count, xor of fingerprints (store/spans.h)
 *   key      document key → what it shows (NULL: nothing): stamp, author, value, its kind and expiry; `awaited`: value
 *            of the winning entry when that is another one, whose value is not here
 *   waiting  value, document key → stamp and author of that entry
 *   value    number → hash, length, counted references, state, form, then bytes or a file's number (store/values.h)
 *   change   position → document key, kind, version, peer
 *   party    number ↔ id of an author or peer; newest stamp accepted from the author
 *   peer     endpoint id → where it was reached
 *   refused  id → an entry from the future, kept until it is due
 *   meta     name → small values: format, namespace, counters, epoch
 *
 * What is long stands in `entry` and `value`, whose rows are appended and fill their pages; the two tables in the order
 * of keys, whose pages are five sixths full whatever the order of arrival, hold a key and some numbers. What can be
 * computed is not stored: the hash of an entry is that of its value, its fingerprint is hashed when it is asked for.
 *
 * Columns that hold an author, a peer or a value hold its number: 32 bytes for each would be a third of the file.
 * Numbers are never seen outside the store.
 *
 * The file is SQLite's with application_id SCHEMA_APPLICATION and user_version SCHEMA_VERSION; each page ends with 8
 * bytes of checksum (store/checked_vfs.h). A file of a newer version is refused, not guessed at. */
#ifndef HKV_STORE_SCHEMA_H
#define HKV_STORE_SCHEMA_H

#include "store/db.h"

#define SCHEMA_APPLICATION 0x686b7673 /* "hkvs" */
#define SCHEMA_VERSION     2          /* 1: before the first release */

/* Creates the tables in a new file, or checks those of an old one. `*created`: the file was new. One transaction.
 * Errors: HKV_E_VERSION (a newer or older file), HKV_E_CORRUPT (another program's file), and those of db.h. */
HKV_CHECK enum hkv_err schema_open(struct db *db, bool *created);

/* Empties every table but `meta` and `peer`, within the open transaction. */
HKV_CHECK enum hkv_err schema_empty(struct db *db);

#endif
