/* Every statement of the store in one table: name, text. Connections prepare them when first used (store/db.h).
 *
 * Blobs compare as bytes, so the order of `entry.id` is iroh-docs' order within one namespace and that of `key.key` is
 * the order of keys. The columns are explained in store/schema.h. */
#ifndef HKV_STORE_SQL_H
#define HKV_STORE_SQL_H

#define SQL_ENTRY_COLUMNS "id, stamp_us, length, hash, value, signatures, fingerprint"
#define SQL_VALUE_COLUMNS "id, hash, length, refs, state, kind, skip, expires_us, file"
#define SQL_SHOWN_COLUMNS                                                                                              \
    "k.key, k.shown_us, p.id, k.kind, k.expires_us, k.expired, v.hash, v.length, v.skip, v.file, v.state"

#define SQL_TABLE(X)                                                                                                   \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                                        \
    X(COMMIT, "COMMIT")                                                                                                \
    X(SAVEPOINT, "SAVEPOINT part")                                                                                     \
    X(RELEASE, "RELEASE part")                                                                                         \
    X(ROLLBACK_TO, "ROLLBACK TO part")                                                                                 \
    /* meta, peers, parties */                                                                                         \
    X(META_GET, "SELECT value FROM meta WHERE name = ?1")                                                              \
    X(META_SET, "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2")                 \
    X(PEER_PUT, "INSERT OR REPLACE INTO peer (id, source, last_sync_us, addrs) VALUES (?1, ?2, ?3, ?4)")               \
    X(PEER_DELETE, "DELETE FROM peer WHERE id = ?1")                                                                   \
    X(PEER_LIST, "SELECT id, source, last_sync_us, addrs FROM peer ORDER BY id")                                       \
    X(PARTY_FIND, "SELECT number, newest_us FROM party WHERE id = ?1")                                                 \
    X(PARTY_ID, "SELECT id FROM party WHERE number = ?1")                                                              \
    X(PARTY_ADD, "INSERT INTO party (id, newest_us) VALUES (?1, 0)")                                                   \
    X(PARTY_NEWEST, "UPDATE party SET newest_us = ?2 WHERE number = ?1")                                               \
    X(PARTY_LIST, "SELECT id FROM party")                                                                              \
    /* entries */                                                                                                      \
    X(ENTRY_FIND, "SELECT " SQL_ENTRY_COLUMNS " FROM entry WHERE id = ?1")                                             \
    X(ENTRY_ADD, "INSERT INTO entry (" SQL_ENTRY_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")                      \
    X(ENTRY_CHANGE, "UPDATE entry SET stamp_us = ?2, length = ?3, hash = ?4, value = ?5, signatures = ?6, "            \
                    "fingerprint = ?7 WHERE id = ?1")                                                                  \
    X(ENTRY_REMOVE, "DELETE FROM entry WHERE id = ?1")                                                                 \
    X(ENTRY_SCAN, "SELECT " SQL_ENTRY_COLUMNS ", (SELECT state FROM value v WHERE v.id = entry.value) FROM entry "     \
                  "WHERE id >= ?1 AND id < ?2 ORDER BY id")                                                            \
    X(ENTRY_SCAN_END, "SELECT " SQL_ENTRY_COLUMNS ", (SELECT state FROM value v WHERE v.id = entry.value) FROM entry " \
                      "WHERE id >= ?1 ORDER BY id")                                                                    \
    X(ENTRY_LAST, "SELECT " SQL_ENTRY_COLUMNS " FROM entry WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT 1")       \
    X(ENTRY_NEXT_ID, "SELECT id FROM entry WHERE id > ?1 ORDER BY id LIMIT 1")                                         \
    X(ENTRY_PRINTS, "SELECT id, fingerprint FROM entry WHERE id >= ?1 ORDER BY id")                                    \
    /* spans */                                                                                                        \
    X(SPAN_LIST, "SELECT first, count, fingerprints FROM span ORDER BY first")                                         \
    X(SPAN_PUT, "INSERT INTO span (first, count, fingerprints) VALUES (?1, ?2, ?3) "                                   \
                "ON CONFLICT DO UPDATE SET count = ?2, fingerprints = ?3")                                             \
    X(SPAN_REMOVE, "DELETE FROM span WHERE first = ?1")                                                                \
    /* keys */                                                                                                         \
    X(KEY_FIND, "SELECT entries, top_us, top_author, top_value, waiting, shown_us, shown_author, shown_value, kind, "  \
                "expires_us, expired FROM key WHERE key = ?1")                                                         \
    X(KEY_ADD, "INSERT INTO key (key, entries, top_us, top_author, top_value, waiting, shown_us, shown_author, "       \
               "shown_value, kind, expires_us, expired) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)")   \
    X(KEY_CHANGE, "UPDATE key SET entries = ?2, top_us = ?3, top_author = ?4, top_value = ?5, waiting = ?6, "          \
                  "shown_us = ?7, shown_author = ?8, shown_value = ?9, kind = ?10, expires_us = ?11, expired = ?12 "   \
                  "WHERE key = ?1")                                                                                    \
    X(KEY_REMOVE, "DELETE FROM key WHERE key = ?1")                                                                    \
    X(KEY_WAITING, "SELECT key FROM key WHERE waiting = 1 AND top_value = ?1 LIMIT 1")                                 \
    X(KEY_EXPIRING,                                                                                                    \
      "SELECT key, expires_us FROM key WHERE expires_us > 0 AND expired = 0 ORDER BY expires_us LIMIT 1")              \
    X(KEY_EXPIRED_LAST, "SELECT key, expires_us FROM key WHERE expired = 1 ORDER BY expires_us DESC LIMIT 1")          \
    X(KEY_TOP, "SELECT k.top_us, p.id FROM key k JOIN party p ON p.number = k.top_author WHERE k.key = ?1")            \
    X(KEY_SHOWN, "SELECT " SQL_SHOWN_COLUMNS ", v.outboard, v.bytes FROM key k JOIN value v ON v.id = k.shown_value "  \
                 "JOIN party p ON p.number = k.shown_author WHERE k.key = ?1")                                         \
    X(KEY_SHOWN_META, "SELECT " SQL_SHOWN_COLUMNS " FROM key k JOIN value v ON v.id = k.shown_value "                  \
                      "JOIN party p ON p.number = k.shown_author WHERE k.key = ?1")                                    \
    X(KEY_LIST, "SELECT " SQL_SHOWN_COLUMNS ", v.outboard, v.bytes FROM key k JOIN value v ON v.id = k.shown_value "   \
                "JOIN party p ON p.number = k.shown_author WHERE k.key >= ?1 AND k.key < ?2 "                          \
                "AND k.kind = 0 AND k.expired = 0 ORDER BY k.key")                                                     \
    X(KEY_LIST_META, "SELECT " SQL_SHOWN_COLUMNS " FROM key k JOIN value v ON v.id = k.shown_value "                   \
                     "JOIN party p ON p.number = k.shown_author WHERE k.key >= ?1 AND k.key < ?2 "                     \
                     "AND k.kind = 0 AND k.expired = 0 ORDER BY k.key")                                                \
    X(KEY_SHOWN_VERSION, "SELECT k.shown_us, p.id FROM key k JOIN party p ON p.number = k.shown_author "               \
                         "WHERE k.key = ?1")                                                                           \
    X(HISTORY_ENTRY, "SELECT e.stamp_us, e.hash, e.length, v.state, v.kind, v.length FROM entry e "                    \
                     "JOIN value v ON v.id = e.value WHERE e.id = ?1")                                                 \
    /* values */                                                                                                       \
    X(VALUE_FIND, "SELECT " SQL_VALUE_COLUMNS " FROM value WHERE substr(hash, 1, 8) = ?1 AND hash = ?2")               \
    X(VALUE_GET, "SELECT " SQL_VALUE_COLUMNS " FROM value WHERE id = ?1")                                              \
    X(VALUE_OPEN, "SELECT length, state, file, outboard, bytes FROM value WHERE substr(hash, 1, 8) = ?1 "              \
                  "AND hash = ?2")                                                                                     \
    X(VALUE_ADD, "INSERT INTO value (id, hash, length, refs, state, kind, skip, expires_us, freed_us, next_try_us, "   \
                 "since_us, tried_us, attempts, file, providers, outboard, bytes) "                                    \
                 "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, ?9, ?14, NULL, NULL, ?10, ?11, ?12, ?13)")             \
    X(VALUE_FILL, "UPDATE value SET length = ?2, refs = ?3, state = 1, kind = ?4, skip = ?5, expires_us = ?6, "        \
                  "next_try_us = NULL, since_us = NULL, tried_us = NULL, attempts = NULL, providers = NULL, file = "   \
                  "?7, outboard = ?8, "                                                                                \
                  "bytes = ?9 WHERE id = ?1")                                                                          \
    X(VALUE_REFS, "UPDATE value SET refs = ?2, freed_us = ?3 WHERE id = ?1")                                           \
    X(VALUE_REMOVE, "DELETE FROM value WHERE id = ?1")                                                                 \
    X(VALUE_HINT, "UPDATE value SET length = ?2, state = ?3, next_try_us = ?4, providers = ?5 WHERE id = ?1")          \
    X(VALUE_PROVIDERS, "SELECT providers, next_try_us, attempts FROM value WHERE id = ?1")                             \
    X(VALUE_MISSING, "SELECT 1 FROM value INDEXED BY value_wanted WHERE state IN (0, 3) AND id <= ?1 LIMIT 1")         \
    X(VALUE_WANTED, "SELECT id, next_try_us, tried_us, attempts, length, hash, providers FROM value "                  \
                    "WHERE state IN (0, 3) AND (next_try_us, id) > (?1, ?2) ORDER BY next_try_us, id")                 \
    X(VALUE_TRIED, "UPDATE value SET next_try_us = ?2, tried_us = ?3, attempts = ?4 WHERE id = ?1")                    \
    X(VALUE_FREED, "SELECT id, file, length, hash FROM value WHERE refs = 0 AND freed_us <= ?1 LIMIT ?2")              \
    X(VALUE_FREED_NEXT, "SELECT freed_us FROM value WHERE refs = 0 ORDER BY freed_us LIMIT 1")                         \
    X(VALUE_LIMIT_LOWERED, "UPDATE value INDEXED BY value_wanted SET state = 2, next_try_us = NULL "                   \
                           "WHERE state IN (0, 3) AND state = 0 AND length > ?1")                                      \
    X(VALUE_LIMIT_RAISED, "UPDATE value INDEXED BY value_too_large SET state = 0, next_try_us = 0 WHERE state = 2 "    \
                          "AND length BETWEEN 0 AND ?1")                                                               \
    X(VALUE_BAD, "UPDATE value SET state = 3, next_try_us = ?2, since_us = ?3, tried_us = NULL, attempts = NULL "      \
                 "WHERE id = ?1")                                                                                      \
    X(VALUE_GOOD, "UPDATE value SET state = 1, next_try_us = NULL, since_us = NULL, tried_us = NULL, "                 \
                  "attempts = NULL, providers = NULL WHERE id = ?1")                                                   \
    X(VALUE_LIMIT_BAD, "UPDATE value INDEXED BY value_bad SET next_try_us = CASE WHEN length <= ?1 THEN 0 END "        \
                       "WHERE state = 3")                                                                              \
    X(VALUE_NEWEST, "SELECT max(id) FROM value")                                                                       \
    X(VALUE_FILE_USED, "SELECT 1 FROM value WHERE substr(hash, 1, 8) = ?1 AND hash = ?2 AND file = ?3")                \
    /* changes, refused */                                                                                             \
    X(CHANGE_ADD, "INSERT INTO change (position, key, kind, stamp_us, author, peer) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")  \
    X(CHANGE_TRIM, "DELETE FROM change WHERE position < ?1")                                                           \
    X(CHANGE_SCAN, "SELECT c.position, c.key, c.kind, c.stamp_us, a.id, p.id FROM change c "                           \
                   "JOIN party a ON a.number = c.author LEFT JOIN party p ON p.number = c.peer "                       \
                   "WHERE c.position >= ?1 ORDER BY c.position")                                                       \
    X(REFUSED_PUT, "INSERT OR REPLACE INTO refused (id, due_us, peer, provides, entry) VALUES (?1, ?2, ?3, ?4, ?5)")   \
    X(REFUSED_FIND, "SELECT due_us FROM refused WHERE id = ?1")                                                        \
    X(REFUSED_NEXT, "SELECT id, due_us, peer, provides, entry FROM refused ORDER BY due_us LIMIT 1")                   \
    X(REFUSED_REMOVE, "DELETE FROM refused WHERE id = ?1")                                                             \
    X(REFUSED_COUNT_PEER, "SELECT count(*) FROM (SELECT 1 FROM refused WHERE peer = ?1 LIMIT ?2)")                     \
    X(REFUSED_LAST_OF_PEER, "SELECT id, due_us FROM refused WHERE peer = ?1 ORDER BY due_us DESC LIMIT 1")             \
    X(REFUSED_LAST, "SELECT id, due_us FROM refused ORDER BY due_us DESC LIMIT 1")                                     \
    X(REFUSED_LIST, "SELECT peer, substr(id, 1, 32) AS author, count(*), min(due_us), max(due_us) FROM refused "       \
                    "INDEXED BY refused_peer GROUP BY peer, author ORDER BY 3 DESC, 1, 2 LIMIT ?1")

enum sql_id {
#define SQL_ID(name, text) SQL_##name,
    SQL_TABLE(SQL_ID)
#undef SQL_ID
        SQL_COUNT
};

#endif
