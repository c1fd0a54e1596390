#include "store/db.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/checked_vfs.h"

static const char *const sql_texts[SQL_COUNT] = {
#define SQL_TEXT(name, text) [SQL_##name] = text,
    SQL_TABLE(SQL_TEXT)
#undef SQL_TEXT
};

static enum hkv_err class_of(sqlite3 *handle, int code)
{
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return HKV_E_NOMEM;
    case SQLITE_FULL:
        return HKV_E_DISK_FULL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return HKV_E_CORRUPT;
    case SQLITE_IOERR:
        if (code == SQLITE_IOERR_NOMEM) return HKV_E_NOMEM;
        if (code == SQLITE_IOERR_DATA) return HKV_E_CORRUPT;
        return handle && sqlite3_system_errno(handle) == ENOSPC ? HKV_E_DISK_FULL : HKV_E_DISK;
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_BUSY:
        return HKV_E_DISK;
    default:
        return HKV_E_INTERNAL;
    }
}

enum hkv_err db_error(struct db *db, int code, const char *what)
{
    int extended = db->handle ? sqlite3_extended_errcode(db->handle) : code;
    if ((extended & 0xff) != (code & 0xff)) extended = code;
    enum hkv_err err = class_of(db->handle, extended);
    if (extended == SQLITE_IOERR_DATA) return error_set(err, "%s", checked_vfs_damage());
    if (err == HKV_E_CORRUPT)
        return error_set(err, "%s: %s (SQLite %d); " DB_REMEDY, db->path, sqlite3_errstr(extended), extended);
    return error_set(err, "%s: %s: %s (SQLite %d)", db->path, what,
                     db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(code), extended);
}

enum hkv_err db_exec(struct db *db, const char *text)
{
    int code = sqlite3_exec(db->handle, text, NULL, NULL, NULL);
    return code == SQLITE_OK ? HKV_OK : db_error(db, code, text);
}

enum hkv_err db_integer(struct db *db, const char *text, int64_t *out)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(db->handle, text, -1, &s, NULL);
    if (code == SQLITE_OK) code = sqlite3_step(s);
    if (code == SQLITE_ROW) *out = sqlite3_column_int64(s, 0);
    enum hkv_err err = code == SQLITE_ROW ? HKV_OK : db_error(db, code, text);
    sqlite3_finalize(s);
    return err;
}

enum hkv_err db_cache_resize(struct db *db, uint64_t cache_bytes)
{
    char text[64];
    snprintf(text, sizeof text, "PRAGMA cache_size=-%" PRIu64, cache_bytes / 1024 + 64);
    return db_exec(db, text);
}

static enum hkv_err db_configure(struct db *db, const struct db_config *config)
{
    sqlite3_busy_timeout(db->handle, DB_BUSY_MS);
    sqlite3_extended_result_codes(db->handle, 1);
    if (config->writer) {
        int reserved = DB_RESERVED_BYTES;
        int persist = 1;
        int code = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserved);
        if (code != SQLITE_OK) return db_error(db, code, "reserving bytes of each page");
        code = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
        if (code != SQLITE_OK) return db_error(db, code, "keeping the write-ahead log");
        /* SQLite knows nothing of it where the VFS is not a checked one. */
        if (!config->full_sync) (void)sqlite3_file_control(db->handle, "main", CHECKED_VFS_UNSYNCED, NULL);
        /* Checkpoints run between transactions, where they hold up nobody's commit (store_checkpoint). */
        TRY(db_exec(db, "PRAGMA page_size=4096; PRAGMA auto_vacuum=NONE; PRAGMA journal_mode=WAL;"
                        "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=67108864"));
        TRY(db_exec(db, config->full_sync ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"));
    } else {
        TRY(db_exec(db, "PRAGMA query_only=1"));
    }
    /* Some distributions overwrite deleted content by default, which doubles what a commit writes. */
    TRY(db_exec(db, "PRAGMA secure_delete=OFF; PRAGMA temp_store=MEMORY; PRAGMA foreign_keys=OFF"));
    return db_cache_resize(db, config->cache_bytes);
}

/* The VFS of a configuration. */
static enum hkv_err vfs_name(const char *configured, const char **name)
{
    *name = configured;
    return configured ? HKV_OK : checked_vfs_lasting(DB_VFS_SYSTEM, name);
}

enum hkv_err db_exists(const char *configured, const char *path, bool *exists)
{
    int there = 0;
    const char *name;
    TRY(vfs_name(configured, &name));
    sqlite3_vfs *vfs = sqlite3_vfs_find(name);
    if (!vfs) return error_set(HKV_E_INTERNAL, "SQLite has no VFS %s", name);
    int code = vfs->xAccess(vfs, path, SQLITE_ACCESS_EXISTS, &there);
    *exists = there != 0;
    return code == SQLITE_OK ? HKV_OK : error_set(class_of(NULL, code), "%s: %s", path, sqlite3_errstr(code));
}

/* Reads and writes back one piece of the log. */
static int rewrite_piece(sqlite3_file *log, void *room, int len, sqlite3_int64 offset)
{
    int code = log->pMethods->xRead(log, room, len, offset);
    return code == SQLITE_OK ? log->pMethods->xWrite(log, room, len, offset) : code;
}

/* In the pieces in which SQLite itself reads and writes: a VFS may look at them. Up to the first frame with other salts
 * than the head's, where the log ends (walformat.html): what follows is of an earlier log, or not written yet. */
static int rewrite_log(sqlite3_file *log, uint8_t room[DB_PAGE_BYTES], uint64_t *frames)
{
    uint8_t salts[DB_LOG_SALTS_BYTES];
    sqlite3_int64 length = 0;
    int code = log->pMethods->xFileSize(log, &length);
    if (code != SQLITE_OK || length < DB_LOG_HEAD_BYTES) return code;
    code = rewrite_piece(log, room, DB_LOG_HEAD_BYTES, 0);
    memcpy(salts, room + DB_LOG_HEAD_SALTS, sizeof salts);
    for (sqlite3_int64 at = DB_LOG_HEAD_BYTES; code == SQLITE_OK && at + DB_LOG_FRAME_BYTES <= length;
         at += DB_LOG_FRAME_BYTES) {
        code = log->pMethods->xRead(log, room, DB_LOG_FRAME_HEAD_BYTES, at);
        if (code == SQLITE_OK && memcmp(room + DB_LOG_FRAME_SALTS, salts, sizeof salts) != 0) break;
        if (code == SQLITE_OK) code = log->pMethods->xWrite(log, room, DB_LOG_FRAME_HEAD_BYTES, at);
        if (code == SQLITE_OK) code = rewrite_piece(log, room, DB_PAGE_BYTES, at + DB_LOG_FRAME_HEAD_BYTES);
        *frames += code == SQLITE_OK;
    }
    return code == SQLITE_OK ? log->pMethods->xSync(log, SQLITE_SYNC_FULL) : code;
}

enum hkv_err db_log_rewrite(struct db *db, uint64_t frames_known)
{
    sqlite3_file *log = NULL;
    uint64_t frames = 0;
    int code = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (code != SQLITE_OK || !log || !log->pMethods) return HKV_OK; /* no log yet, so nothing in it */
    void *room = malloc(DB_PAGE_BYTES);
    if (!room) return error_set(HKV_E_NOMEM, "%s: writing the log again", db->path);
    code = rewrite_log(log, room, &frames);
    free(room);
    if (code == SQLITE_OK && frames < frames_known)
        return error_set(HKV_E_CORRUPT, "%s-wal: frame %" PRIu64 " is not what was written; " DB_REMEDY, db->path,
                         frames + 1);
    if (code == SQLITE_OK) return HKV_OK;
    if (code == SQLITE_IOERR_DATA) return error_set(HKV_E_CORRUPT, "%s", checked_vfs_damage());
    return error_set(class_of(db->handle, code), "%s-wal: writing the log again after a failed sync: %s (SQLite %d)",
                     db->path, sqlite3_errstr(code), code);
}

enum hkv_err db_log_sync(struct db *db)
{
    sqlite3_file *log = NULL;
    int code = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (code != SQLITE_OK || !log || !log->pMethods) return HKV_OK; /* no log yet */
    code = log->pMethods->xSync(log, SQLITE_SYNC_FULL);
    return code == SQLITE_OK ? HKV_OK
                             : error_set(class_of(db->handle, code), "%s-wal: syncing: %s (SQLite %d)", db->path,
                                         sqlite3_errstr(code), code);
}

enum hkv_err db_open(const struct db_config *config, struct db *out)
{
    *out = (struct db){.path = config->path};
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    if (config->writer) flags |= SQLITE_OPEN_CREATE;
    const char *vfs;
    TRY(vfs_name(config->vfs, &vfs));
    int code = sqlite3_open_v2(config->path, &out->handle, flags, vfs);
    if (code != SQLITE_OK) return db_error(out, code, "opening");
    return db_configure(out, config);
}

void db_close(struct db *db)
{
    for (int i = 0; i < SQL_COUNT; i++) sqlite3_finalize(db->statements[i]);
    int code = sqlite3_close(db->handle);
    assert(code == SQLITE_OK);
    (void)code;
    *db = (struct db){0};
}

enum hkv_err db_statement(struct db *db, enum sql_id id, sqlite3_stmt **out)
{
    sqlite3_stmt **slot = &db->statements[id];
    if (!*slot) {
        int code = sqlite3_prepare_v3(db->handle, sql_texts[id], -1, SQLITE_PREPARE_PERSISTENT, slot, NULL);
        if (code != SQLITE_OK) return db_error(db, code, sql_texts[id]);
    }
    assert(!sqlite3_stmt_busy(*slot));
    *out = *slot;
    return HKV_OK;
}

enum hkv_err db_row(struct db *db, sqlite3_stmt *s, bool *found)
{
    int code = sqlite3_step(s);
    *found = code == SQLITE_ROW;
    if (*found) return HKV_OK;
    enum hkv_err err = code == SQLITE_DONE ? HKV_OK : db_error(db, code, sqlite3_sql(s));
    sqlite3_reset(s);
    return err;
}

enum hkv_err db_run(struct db *db, sqlite3_stmt *s)
{
    bool found;
    TRY(db_row(db, s, &found));
    assert(!found);
    return HKV_OK;
}

void db_bind_slice(sqlite3_stmt *s, int index, struct slice bytes)
{
    int code = sqlite3_bind_blob64(s, index, bytes.len ? (const void *)bytes.data : "", bytes.len, SQLITE_STATIC);
    assert(code == SQLITE_OK);
    (void)code;
}

void db_bind_id(sqlite3_stmt *s, int index, const uint8_t id[ID_BYTES])
{
    db_bind_slice(s, index, slice_of(id, ID_BYTES));
}

void db_bind_u64(sqlite3_stmt *s, int index, uint64_t number)
{
    int code = sqlite3_bind_int64(s, index, (int64_t)number);
    assert(code == SQLITE_OK);
    (void)code;
}

struct slice db_column_slice(sqlite3_stmt *s, int column)
{
    const void *data = sqlite3_column_blob(s, column);
    return slice_of(data, (size_t)sqlite3_column_bytes(s, column));
}

uint64_t db_column_u64(sqlite3_stmt *s, int column)
{
    return (uint64_t)sqlite3_column_int64(s, column);
}

enum hkv_err db_column_id(struct db *db, sqlite3_stmt *s, int column, uint8_t out[ID_BYTES])
{
    struct slice bytes = db_column_slice(s, column);
    if (bytes.len != ID_BYTES)
        return error_set(HKV_E_CORRUPT, "%s: %zu bytes where 32 belong in column %d of: %s", db->path, bytes.len,
                         column, sqlite3_sql(s));
    memcpy(out, bytes.data, ID_BYTES);
    return HKV_OK;
}
