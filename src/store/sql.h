/* Every statement of the store in one table: name, text. Connections prepare them when first used (store/db.h).
 *
 * Blobs compare as bytes, so the order of (`party.id`, `place.key`) is iroh-docs' order within one namespace and that
 * of `key.key` is the order of keys. The columns are explained in store/schema.h. */
#ifndef HKV_STORE_SQL_H
#define HKV_STORE_SQL_H

/* An entry with the author and key of its place and the hash of its value. CROSS JOIN fixes the order of the loops:
 * authors by id, then keys. */
#define SQL_ENTRY_COLUMNS "p.id, l.key, l.entry, l.stamp_us, l.value, v.hash, v.state, e.signed"
#define SQL_ENTRY_TABLES  "CROSS JOIN entry e ON e.number = l.entry CROSS JOIN value v ON v.id = l.value "

/* The places from the id ?1 ‖ ?2 on. */
#define SQL_PLACES_FROM                                                                                                \
    "party p CROSS JOIN place l ON l.author = p.number AND l.key >= CASE WHEN p.id = ?1 THEN ?2 ELSE x'' END "
#define SQL_PLACES_ORDER "WHERE p.id >= ?1 ORDER BY p.id, l.key"

#define SQL_VALUE_COLUMNS "id, hash, length, refs, state, kind, skip, expires_us, file"

/* What keys show. */
#define SQL_SHOWN_COLUMNS "k.key, k.stamp_us, p.id, k.kind, k.expires_us, v.hash, v.length, v.skip, v.file, v.state"
#define SQL_SHOWN_TABLES  "key k CROSS JOIN value v ON v.id = k.value CROSS JOIN party p ON p.number = k.author "

/* The part of a hash that is indexed, VALUE_HASH_PREFIX bytes. */
#define SQL_HASH_PREFIX "substr(hash, 1, 5)"

#define SQL_TABLE(X)                                                                                                   \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                                        \
    X(BEGIN_READ, "BEGIN")                                                                                             \
    X(COMMIT, "COMMIT")                                                                                                \
    X(ROLLBACK, "ROLLBACK")                                                                                            \
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
    /* entries */                                                                                                      \
    X(ENTRY_FIND,                                                                                                      \
      "SELECT " SQL_ENTRY_COLUMNS " FROM party p CROSS JOIN place l ON l.author = p.number " SQL_ENTRY_TABLES          \
      "WHERE p.id = ?1 AND l.key = ?2")                                                                                \
    X(ENTRY_ADD, "INSERT INTO entry (signed) VALUES (?1)")                                                             \
    X(ENTRY_CHANGE, "UPDATE entry SET signed = ?2 WHERE number = ?1")                                                  \
    X(ENTRY_REMOVE, "DELETE FROM entry WHERE number = ?1")                                                             \
    X(ENTRY_SCAN, "SELECT " SQL_ENTRY_COLUMNS " FROM " SQL_PLACES_FROM SQL_ENTRY_TABLES SQL_PLACES_ORDER)              \
    X(ENTRY_PRINTS, "SELECT p.id, l.key, l.stamp_us, v.hash FROM " SQL_PLACES_FROM                                     \
                    "CROSS JOIN value v ON v.id = l.value " SQL_PLACES_ORDER)                                          \
    X(ENTRY_LAST,                                                                                                      \
      "SELECT " SQL_ENTRY_COLUMNS " FROM party p CROSS JOIN place l ON l.author = p.number " SQL_ENTRY_TABLES          \
      "WHERE p.id = ?1 AND l.key < ?2 ORDER BY l.key DESC LIMIT 1")                                                    \
    X(PLACE_ADD, "INSERT INTO place (author, key, stamp_us, value, entry) VALUES (?1, ?2, ?3, ?4, ?5)")                \
    X(PLACE_CHANGE,                                                                                                    \
      "UPDATE place SET stamp_us = ?3, value = ?4 WHERE author = (SELECT number FROM party WHERE id = ?1) "            \
      "AND key = ?2")                                                                                                  \
    X(PLACE_REMOVE, "DELETE FROM place WHERE author = (SELECT number FROM party WHERE id = ?1) AND key = ?2")          \
    X(PLACE_SCAN, "SELECT p.id, l.key FROM " SQL_PLACES_FROM SQL_PLACES_ORDER)                                         \
    X(PLACE_BEFORE, "SELECT ?1, key FROM place WHERE author = (SELECT number FROM party WHERE id = ?1) "               \
                    "AND key < ?2 ORDER BY key DESC LIMIT 1")                                                          \
    X(PLACE_OF_AUTHORS_BEFORE, "SELECT p.id, l.key FROM party p CROSS JOIN place l ON l.author = p.number "            \
                               "WHERE p.id < ?1 ORDER BY p.id DESC, l.key DESC LIMIT 1")                               \
    /* spans */                                                                                                        \
    X(SPAN_LIST, "SELECT first, count, fingerprints FROM span ORDER BY first")                                         \
    X(SPAN_PUT, "INSERT INTO span (first, count, fingerprints) VALUES (?1, ?2, ?3) "                                   \
                "ON CONFLICT DO UPDATE SET count = ?2, fingerprints = ?3")                                             \
    X(SPAN_AT, "SELECT first, count, fingerprints FROM span WHERE first <= ?1 ORDER BY first DESC LIMIT 1")            \
    X(SPAN_AFTER, "SELECT first FROM span WHERE first > ?1 ORDER BY first LIMIT 1")                                    \
    X(SPAN_CLEAR, "DELETE FROM span")                                                                                  \
    X(SPAN_REMOVE, "DELETE FROM span WHERE first = ?1")                                                                \
    /* keys */                                                                                                         \
    X(KEY_FIND,                                                                                                        \
      "SELECT k.stamp_us, k.author, k.value, k.kind, k.expires_us, k.awaited, w.top_us, w.top_author FROM key k "      \
      "LEFT JOIN waiting w ON w.value = k.awaited AND w.key = k.key WHERE k.key = ?1")                                 \
    X(KEY_ADD, "INSERT INTO key (key, stamp_us, author, value, kind, expires_us, awaited) "                            \
               "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")                                                                  \
    X(KEY_CHANGE, "UPDATE key SET stamp_us = ?2, author = ?3, value = ?4, kind = ?5, expires_us = ?6, awaited = ?7 "   \
                  "WHERE key = ?1")                                                                                    \
    X(KEY_REMOVE, "DELETE FROM key WHERE key = ?1")                                                                    \
    X(KEY_AFTER, "SELECT key FROM key WHERE key > ?1 ORDER BY key LIMIT 1")                                            \
    X(KEY_EXPIRING, "SELECT key, expires_us FROM key WHERE expires_us > 0 AND kind = 0 ORDER BY expires_us LIMIT 1")   \
    X(KEY_EXPIRED_LAST, "SELECT key, expires_us FROM key WHERE kind = 3 ORDER BY expires_us DESC LIMIT 1")             \
    X(KEY_TOP, "SELECT CASE WHEN k.awaited IS NULL THEN k.stamp_us ELSE w.top_us END, p.id FROM key k "                \
               "LEFT JOIN waiting w ON w.value = k.awaited AND w.key = k.key CROSS JOIN party p "                      \
               "ON p.number = CASE WHEN k.awaited IS NULL THEN k.author ELSE w.top_author END WHERE k.key = ?1")       \
    X(KEY_ENTRIES, "SELECT l.stamp_us, l.author, l.value, p.id FROM party p CROSS JOIN place l "                       \
                   "ON l.author = p.number AND l.key = ?1")                                                            \
    X(KEY_SHOWN, "SELECT " SQL_SHOWN_COLUMNS ", v.outboard, v.bytes FROM " SQL_SHOWN_TABLES "WHERE k.key = ?1")        \
    X(KEY_SHOWN_META, "SELECT " SQL_SHOWN_COLUMNS " FROM " SQL_SHOWN_TABLES "WHERE k.key = ?1")                        \
    X(KEY_LIST, "SELECT " SQL_SHOWN_COLUMNS ", v.outboard, v.bytes FROM " SQL_SHOWN_TABLES                             \
                "WHERE k.key >= ?1 AND k.key < ?2 AND k.kind = 0 ORDER BY k.key")                                      \
    X(KEY_LIST_META, "SELECT " SQL_SHOWN_COLUMNS " FROM " SQL_SHOWN_TABLES                                             \
                     "WHERE k.key >= ?1 AND k.key < ?2 AND k.kind = 0 ORDER BY k.key")                                 \
    X(KEY_SHOWN_VERSION,                                                                                               \
      "SELECT k.stamp_us, p.id FROM key k CROSS JOIN party p ON p.number = k.author WHERE k.key = ?1")                 \
    X(KEY_HISTORY, "SELECT " SQL_ENTRY_COLUMNS ", v.kind, v.length FROM party p CROSS JOIN place l "                   \
                   "ON l.author = p.number AND l.key = ?1 " SQL_ENTRY_TABLES)                                          \
    X(WAITING_PUT, "INSERT OR REPLACE INTO waiting (value, key, top_us, top_author) VALUES (?1, ?2, ?3, ?4)")          \
    X(WAITING_REMOVE, "DELETE FROM waiting WHERE value = ?1 AND key = ?2")                                             \
    X(WAITING_NEXT, "SELECT key FROM waiting WHERE value = ?1 LIMIT 1")                                                \
    /* values */                                                                                                       \
    X(VALUE_FIND, "SELECT " SQL_VALUE_COLUMNS " FROM value WHERE " SQL_HASH_PREFIX " = ?1 AND hash = ?2")              \
    X(VALUE_GET, "SELECT " SQL_VALUE_COLUMNS " FROM value WHERE id = ?1")                                              \
    X(VALUE_SCAN, "SELECT " SQL_VALUE_COLUMNS ", bytes FROM value WHERE id >= ?1 ORDER BY id")                         \
    X(VALUE_LABEL, "UPDATE value SET length = ?2, kind = ?3, skip = ?4, expires_us = ?5 WHERE id = ?1")                \
    X(VALUE_OPEN, "SELECT length, state, file, outboard, bytes FROM value WHERE " SQL_HASH_PREFIX " = ?1 "             \
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
    X(VALUE_LIMIT_RAISED, "UPDATE value INDEXED BY value_too_large SET state = 0, next_try_us = id WHERE state = 2 "   \
                          "AND length BETWEEN 0 AND ?1")                                                               \
    X(VALUE_BAD, "UPDATE value SET state = 3, next_try_us = ?2, since_us = ?3, tried_us = NULL, attempts = NULL "      \
                 "WHERE id = ?1")                                                                                      \
    X(VALUE_GOOD, "UPDATE value SET state = 1, next_try_us = NULL, since_us = NULL, tried_us = NULL, "                 \
                  "attempts = NULL, providers = NULL WHERE id = ?1")                                                   \
    X(VALUE_LIMIT_BAD, "UPDATE value INDEXED BY value_bad SET next_try_us = CASE WHEN length <= ?1 THEN id END "       \
                       "WHERE state = 3")                                                                              \
    X(VALUES_BAD, "SELECT id, hash, length, since_us, attempts, next_try_us FROM value INDEXED BY value_bad "          \
                  "WHERE state = 3")                                                                                   \
    X(VALUES_TOO_LARGE, "SELECT id, hash, length, since_us, attempts, next_try_us FROM value "                         \
                        "INDEXED BY value_too_large WHERE state = 2")                                                  \
    X(VALUES_MISSING, "SELECT id, hash, length, since_us, attempts, next_try_us FROM value "                           \
                      "INDEXED BY value_wanted WHERE state IN (0, 3) AND state = 0")                                   \
    X(VALUE_NEWEST, "SELECT max(id) FROM value")                                                                       \
    X(VALUE_NEWEST_FILE, "SELECT max(file) FROM value INDEXED BY value_file WHERE file > 0")                           \
    X(VALUE_FILE_USED, "SELECT 1 FROM value WHERE " SQL_HASH_PREFIX " = ?1 AND hash = ?2 AND file = ?3")               \
    /* what a check adds up and a rebuild puts right; each reads a whole table once */                                 \
    X(SUM_ENTRY_REFS, "SELECT value FROM place WHERE value >= ?1 AND value < ?2")                                      \
    X(SUM_KEY_REFS, "SELECT value FROM key WHERE value >= ?1 AND value < ?2")                                          \
    X(SUM_REFS, "SELECT id, refs, state, freed_us IS NOT NULL FROM value WHERE id >= ?1 AND id < ?2 ORDER BY id")      \
    X(SUM_OWNERS, "SELECT l.value, p.id, l.key FROM place l CROSS JOIN party p ON p.number = l.author")                \
    X(SUM_KEYS,                                                                                                        \
      "SELECT total(kind = 0 AND key >= x'01'), total(kind = 1 AND key >= x'01'), (SELECT count(*) FROM place l "      \
      "WHERE NOT EXISTS (SELECT 1 FROM key k WHERE k.key = l.key)) FROM key")                                          \
    X(SUM_VALUES, "SELECT (SELECT count(*) FROM value WHERE state IN (0, 3) AND state = 0), "                          \
                  "(SELECT count(*) FROM value WHERE state = 2), (SELECT count(*) FROM value WHERE state = 3), "       \
                  "(SELECT total(length) FROM value WHERE file > 0), (SELECT count(*) FROM refused), "                 \
                  "(SELECT coalesce(max(position), 0) FROM change), (SELECT total(count) FROM span)")                  \
    X(SUM_ASTRAY,                                                                                                      \
      "SELECT abs((SELECT count(*) FROM entry) - (SELECT count(*) FROM place)) + "                                     \
      "(SELECT count(*) FROM waiting w WHERE value IS NOT (SELECT awaited FROM key k WHERE k.key = w.key))")           \
    X(MEND_STATES, "UPDATE value SET state = (bytes IS NOT NULL OR file > 0) WHERE state NOT IN (0, 1, 2, 3)")         \
    X(MEND_CONSTANTS, "DELETE FROM value WHERE id < 3")                                                                \
    X(MEND_VALUES, "DELETE FROM value WHERE length(hash) <> 32")                                                       \
    X(MEND_PLACES, "DELETE FROM place WHERE entry NOT IN (SELECT number FROM entry) "                                  \
                   "OR author NOT IN (SELECT number FROM party) OR value NOT IN (SELECT id FROM value)")               \
    X(MEND_ENTRIES, "DELETE FROM entry WHERE number NOT IN (SELECT entry FROM place)")                                 \
    X(MEND_WAITING, "DELETE FROM waiting WHERE value IS NOT (SELECT awaited FROM key k WHERE k.key = waiting.key)")    \
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
