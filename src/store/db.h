/* One SQLite connection and its prepared statements.
 *
 * Every statement of the store is listed in store/sql.h; a connection prepares each once, when it is first used. A
 * result row is borrowed from its statement until sqlite3_reset(). Statements end with the call that ran them: an open
 * read transaction would pin the snapshot and let the write-ahead log grow.
 *
 *   sqlite3_stmt *s;
 *   TRY(db_statement(db, SQL_META_GET, &s));
 *   db_bind_slice(s, 1, name);
 *   bool found;
 *   TRY(db_row(db, s, &found));        no row: the statement is reset already
 *   ... read columns ...
 *   sqlite3_reset(s);
 *
 * Threads: one at a time for each connection (SQLite's multi-thread mode). Errors of all functions: HKV_E_NOMEM,
 * HKV_E_DISK, HKV_E_DISK_FULL, HKV_E_CORRUPT, HKV_E_INTERNAL. */
#ifndef HKV_STORE_DB_H
#define HKV_STORE_DB_H

#include <sqlite3.h>

#include "base/bytes.h"
#include "base/ids.h"
#include "store/sql.h"

#define DB_PAGE_BYTES     4096
#define DB_RESERVED_BYTES 8 /* of each page, for its checksum (store/checked_vfs.h) */
#define DB_BUSY_MS        10000

/* The write-ahead log: a head, then frames of a head and a page (sqlite.org/walformat.html). */
#define DB_LOG_HEAD_BYTES       32
#define DB_LOG_FRAME_HEAD_BYTES 24
#define DB_LOG_FRAME_BYTES      (DB_LOG_FRAME_HEAD_BYTES + DB_PAGE_BYTES)
#define DB_LOG_HEAD_SALTS       16 /* their offset; a frame with other ones is not of this log */
#define DB_LOG_FRAME_SALTS      8
#define DB_LOG_SALTS_BYTES      8

/* What to do about a damaged store; the end of a sentence. */
#define DB_REMEDY                                                                                                      \
    "restore a backup, or move the folders docs and blobs of the data directory away (keys stays) and let the node "   \
    "fetch everything from its peers"

/* The system's files, locked for this process as a whole: its connections share the index of the write-ahead log in
 * memory and take turns there, where the default takes and drops a file lock for every read (half of a get's time).
 * Checked by store/checked_vfs.h. */
#define DB_VFS_SYSTEM "unix-excl"

struct db_config {
    const char *path;
    const char *vfs;      /* NULL: the system's files, checked */
    uint64_t cache_bytes; /* of this connection */
    bool writer;          /* creates the file when there is none; the others only read */
    bool full_sync;       /* a commit survives power loss, not only the death of the process */
};

struct db {
    sqlite3 *handle;
    const char *path; /* borrowed from the configuration; stands in errors */
    sqlite3_stmt *statements[SQL_COUNT];
};

/* Whether there is such a file. */
HKV_CHECK enum hkv_err db_exists(const char *vfs, const char *path, bool *exists);

/* Opens a connection in WAL mode. The db is unusable, but may be closed, after an error. */
HKV_CHECK enum hkv_err db_open(const struct db_config *config, struct db *out);
void db_close(struct db *db);

/* Changes the page cache of an open connection. */
HKV_CHECK enum hkv_err db_cache_resize(struct db *db, uint64_t cache_bytes);

/* Writes the write-ahead log once more, as far as it goes, and syncs it. Needed after a sync of the log has failed: the
 * system may have marked what it could not write as written, and a checkpoint would then change the database while the
 * log that could mend it after a power cut has holes. `frames_known` of this run are in it: when the file shows fewer,
 * that is HKV_E_CORRUPT, and no end of the log. Only the writer, outside a transaction; readers may go on. */
HKV_CHECK enum hkv_err db_log_rewrite(struct db *db, uint64_t frames_known);

/* Syncs the write-ahead log: what was committed so far survives power loss. The writer. */
HKV_CHECK enum hkv_err db_log_sync(struct db *db);

/* Runs SQL text whose rows nobody reads. */
HKV_CHECK enum hkv_err db_exec(struct db *db, const char *text);

/* Runs a query of one integer, such as a PRAGMA. */
HKV_CHECK enum hkv_err db_integer(struct db *db, const char *text, int64_t *out);

/* The prepared statement, reset and ready to bind. It must not be in use. */
HKV_CHECK enum hkv_err db_statement(struct db *db, enum sql_id id, sqlite3_stmt **out);

/* Steps to the next row; at the end, and on error, the statement is reset. */
HKV_CHECK enum hkv_err db_row(struct db *db, sqlite3_stmt *s, bool *found);

/* Runs a statement that returns no row, and resets it. */
HKV_CHECK enum hkv_err db_run(struct db *db, sqlite3_stmt *s);

/* Turns the connection's last failure into an error with a sentence; `what` says what was tried. */
enum hkv_err db_error(struct db *db, int code, const char *what);

/* Binds bytes that stay in place until the statement is reset; no bytes are an empty blob, not NULL. */
void db_bind_slice(sqlite3_stmt *s, int index, struct slice bytes);
void db_bind_id(sqlite3_stmt *s, int index, const uint8_t id[ID_BYTES]);

/* An unsigned number in SQLite's signed one, bit for bit. */
void db_bind_u64(sqlite3_stmt *s, int index, uint64_t number);

struct slice db_column_slice(sqlite3_stmt *s, int column);
uint64_t db_column_u64(sqlite3_stmt *s, int column);

/* A column of exactly 32 bytes. Errors: HKV_E_CORRUPT. */
HKV_CHECK enum hkv_err db_column_id(struct db *db, sqlite3_stmt *s, int column, uint8_t out[ID_BYTES]);

#endif
