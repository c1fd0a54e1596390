#include "store/schema.h"

#include <inttypes.h>
#include <stdio.h>

#include "store/values.h"

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

/* `bytes` and `outboard` are last in `value`: what follows a long column can only be read by walking its overflow
 * pages. The index on hashes takes their first VALUE_HASH_PREFIX bytes: hashes arrive in random order, and a third of
 * the size keeps the index in the cache three times longer. */
static const char content_tables[] =
    "CREATE TABLE entry (number INTEGER PRIMARY KEY, signed BLOB NOT NULL);"
    "CREATE TABLE place (author INTEGER NOT NULL, key BLOB NOT NULL, stamp_us INTEGER NOT NULL, value INTEGER NOT NULL,"
    " entry INTEGER NOT NULL, PRIMARY KEY (author, key)) WITHOUT ROWID;"
    "CREATE TABLE span (first BLOB PRIMARY KEY, count INTEGER NOT NULL, fingerprints BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE key (key BLOB PRIMARY KEY, stamp_us INTEGER, author INTEGER, value INTEGER, kind INTEGER,"
    " expires_us INTEGER, awaited INTEGER) WITHOUT ROWID;"
    "CREATE INDEX key_expires ON key (expires_us) WHERE expires_us > 0 AND kind = 0;"
    "CREATE INDEX key_expired ON key (expires_us) WHERE kind = 3;"
    "CREATE TABLE waiting (value INTEGER NOT NULL, key BLOB NOT NULL, top_us INTEGER NOT NULL,"
    " top_author INTEGER NOT NULL, PRIMARY KEY (value, key)) WITHOUT ROWID;"
    "CREATE TABLE value (id INTEGER PRIMARY KEY, hash BLOB NOT NULL, length INTEGER NOT NULL, refs INTEGER NOT NULL,"
    " state INTEGER NOT NULL, kind INTEGER, skip INTEGER, expires_us INTEGER, freed_us INTEGER, next_try_us INTEGER,"
    " since_us INTEGER, tried_us INTEGER, attempts INTEGER, file INTEGER, providers BLOB, outboard BLOB, bytes BLOB);"
    "CREATE INDEX value_hash ON value (" SQL_HASH_PREFIX ");"
    "CREATE INDEX value_wanted ON value (next_try_us) WHERE state IN (0, 3);"
    "CREATE INDEX value_bad ON value (since_us) WHERE state = 3;"
    "CREATE INDEX value_too_large ON value (length) WHERE state = 2;"
    "CREATE INDEX value_file ON value (length) WHERE file > 0;"
    "CREATE INDEX value_freed ON value (freed_us) WHERE refs = 0;"
    "CREATE TABLE change (position INTEGER PRIMARY KEY, key BLOB NOT NULL, kind INTEGER NOT NULL,"
    " stamp_us INTEGER NOT NULL, author INTEGER NOT NULL, peer INTEGER);"
    "CREATE TABLE party (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, newest_us INTEGER NOT NULL);"
    "CREATE TABLE refused (id BLOB PRIMARY KEY, due_us INTEGER NOT NULL, peer BLOB NOT NULL, provides INTEGER NOT NULL,"
    " entry BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX refused_due ON refused (due_us);"
    "CREATE INDEX refused_peer ON refused (peer, due_us);";

static const char lasting_tables[] =
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE peer (id BLOB PRIMARY KEY, source INTEGER NOT NULL, last_sync_us INTEGER NOT NULL,"
    " addrs TEXT NOT NULL) WITHOUT ROWID;";

static const char version_marks[] =
    "PRAGMA application_id = " STRING(SCHEMA_APPLICATION) ";"
                                                          "PRAGMA user_version = " STRING(SCHEMA_VERSION) ";";

static enum hkv_err schema_create(struct db *db)
{
    TRY(db_exec(db, lasting_tables));
    TRY(db_exec(db, content_tables));
    TRY(values_create_constants(db));
    return db_exec(db, version_marks);
}

enum hkv_err schema_empty(struct db *db)
{
    TRY(db_exec(db, "DELETE FROM entry; DELETE FROM place; DELETE FROM span; DELETE FROM key; DELETE FROM waiting;"
                    "DELETE FROM value; DELETE FROM change; DELETE FROM party; DELETE FROM refused"));
    return values_create_constants(db);
}

enum hkv_err schema_open(struct db *db, bool *created)
{
    int64_t application = 0;
    int64_t version = 0;
    int64_t tables = 0;
    TRY(db_integer(db, "PRAGMA application_id", &application));
    TRY(db_integer(db, "PRAGMA user_version", &version));
    TRY(db_integer(db, "SELECT count(*) FROM sqlite_schema", &tables));
    *created = application == 0 && tables == 0;
    if (*created) {
        TRY(db_exec(db, "BEGIN IMMEDIATE"));
        enum hkv_err err = schema_create(db);
        if (err == HKV_OK) err = db_exec(db, "COMMIT");
        if (err != HKV_OK && !sqlite3_get_autocommit(db->handle))
            sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
        return err;
    }
    if (application != SCHEMA_APPLICATION)
        return error_set(HKV_E_CORRUPT,
                         "%s: not a store of this program (application id %" PRId64 "); give another data directory",
                         db->path, application);
    if (version < SCHEMA_VERSION)
        return error_set(HKV_E_VERSION,
                         "%s: written in form %" PRId64
                         " by a development version, this program reads form %d; " DB_REMEDY,
                         db->path, version, SCHEMA_VERSION);
    if (version > SCHEMA_VERSION)
        return error_set(HKV_E_VERSION, "%s: written in form %" PRId64 ", this program reads form %d; update it",
                         db->path, version, SCHEMA_VERSION);
    return HKV_OK;
}
