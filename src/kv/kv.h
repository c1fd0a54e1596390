/* The replicated map of one namespace over the store: what is written, received, shown, wanted and counted.
 *
 *   local write ─┐                      ┌─▶ shown map, change log ─▶ kv_take_changes() after the commit
 *   remote entry ┼▶ one transaction ────┤
 *   value bytes ─┘                      └─▶ spans (fingerprints), counted values, wanted values
 *
 * Ownership and threads
 *   - Functions whose comment says "replica" change things: only the replica thread calls them, between kv_begin() and
 *     kv_commit(), except where said. They see their own uncommitted changes.
 *   - Functions whose comment says "any" read a committed snapshot on a pooled connection and may be called from any
 *     thread; each ends its read transaction before it returns. They never wait for the writer.
 *   - In-memory trees (spans, counts) belong to the replica thread and keep an undo list for kv_rollback().
 *
 * Errors of all functions: HKV_E_NOMEM, HKV_E_DISK, HKV_E_DISK_FULL, HKV_E_CORRUPT. After an SQL error of the kind that
 * ends the whole transaction, kv_in_transaction() is false. Formats: shared design formats.md; insert rules:
 * wire/docs.md 3.3. */
#ifndef HKV_KV_KV_H
#define HKV_KV_KV_H

#include "base/bytes.h"
#include "base/env.h"
#include "base/ids.h"
#include "crypto/bao.h"
#include "docs/replica.h"
#include "wire/address.h"
#include "wire/entry.h"

#define KV_CONTENT_HEAD_BYTES   13                    /* of a content, enough for kv_content_parse() */
#define KV_VALUE_INLINE_MAX     16384                 /* bytes; longer contents are files of their own */
#define KV_FUTURE_US            ((uint64_t)600000000) /* remote stamps further ahead are refused (docs.md 2.6) */
#define KV_LOCAL_AHEAD_US       ((uint64_t)300000000) /* local stamps are never further ahead */
#define KV_READERS_MAX          16
#define KV_REFUSED_MAX          10000
#define KV_REFUSED_OF_PEER_MAX  1000                                /* … from one peer */
#define KV_CHANGES_KEPT         ((uint64_t)65536)                   /* rows of the change log */
#define KV_CHANGES_AGE_US       ((uint64_t)7 * 24 * 3600 * 1000000) /* no row is kept for much longer */
#define KV_CHANGES_AT_HAND      4096 /* of one transaction; the others are read from the log */
#define KV_PAGE_CHANGES_MAX     1024
#define KV_CHANGES_TRIM_MAX     ((uint64_t)2048)      /* rows that one step of housekeeping removes */
#define KV_VALUE_BACKOFF_MAX_US ((uint64_t)300000000) /* between two tries of a missing value */
#define KV_PROVIDERS_MAX        8                     /* remembered for one missing value */

struct kv;
struct files;

/* ------------------------------------------------------------------------------------------ open, transactions */

struct kv_config {
    const char *data_dir; /* holds docs/store.db and blobs/ ; exists */
    struct namespace_id namespace;
    struct author_id author; /* ours; changes with kv_set_author */
    uint64_t cache_bytes;    /* page cache of all connections together */
    uint64_t max_value_bytes;
    uint64_t disk_bytes;    /* 0: no limit */
    bool sync_every_commit; /* HKV_DURABILITY_POWER */
    struct env *env;        /* clocks and random bytes */
    bool read_only; /* for a check alone: nothing is written, and nothing but kv_check_* and reads may be called */
    enum hkv_err (*verify)(const struct entry *e); /* of signatures; NULL: entry_verify */
    const char *vfs;                               /* SQLite VFS by name; NULL: the system's files */
    struct files *files;                           /* folder of value files, the caller's; NULL: data_dir/blobs */
    uint64_t changes_kept;                         /* 0: KV_CHANGES_KEPT */
    uint64_t changes_age_us;                       /* 0: KV_CHANGES_AGE_US */
};

/* The namespace of the store that is there, whatever config->namespace is. `*named` is false when there is none, also
 * when it was cut off before it got its name. Start-up thread. */
HKV_CHECK enum hkv_err kv_stored_namespace(const struct kv_config *config, struct namespace_id *out, bool *named);

/* Opens or creates. Reads spans and counters, nothing else that grows. `*created`: there was no store.
 * `*other_namespace` is set when the stored namespace is not config->namespace; the store is then not opened and the
 * stored one is returned there. Errors: HKV_E_VERSION, HKV_E_NAMESPACE. Start-up thread, before the replica thread
 * runs. */
HKV_CHECK enum hkv_err kv_open(const struct kv_config *config, struct kv **out, bool *created,
                               struct namespace_id *other_namespace);
void kv_close(struct kv *kv);

HKV_CHECK enum hkv_err kv_begin(struct kv *kv);  /* replica */
HKV_CHECK enum hkv_err kv_commit(struct kv *kv); /* replica; on error the transaction is rolled back */
void kv_rollback(struct kv *kv);                 /* replica; fine when the transaction is gone already */
bool kv_in_transaction(const struct kv *kv);     /* replica; sqlite3_get_autocommit() == 0 */

/* A part of the transaction that can be undone alone, with its in-memory changes and change-log rows. Not nested.
 * replica */
HKV_CHECK enum hkv_err kv_savepoint(struct kv *kv);
HKV_CHECK enum hkv_err kv_savepoint_release(struct kv *kv);
void kv_savepoint_rollback(struct kv *kv);

/* A transaction, or a part of one, failed with this thread's sentence: when it was for the disk, the store counts as
 * not writable until a write succeeds, and kv_maintain() tries one every second. kv_commit() notes its own failures
 * itself. replica */
void kv_write_failed(struct kv *kv, enum hkv_err err);

/* Whether writes are taken now, as far as is known: the disk took the last one, and the disk budget has room for new
 * keys. False: `why` has the sentence. any */
bool kv_writable(struct kv *kv, struct error_text *why);

/* Outside a transaction: checkpoints the write-ahead log when it has grown, removes values that nothing refers to any
 * more, and sweeps orphaned value files after a start; bounded work, called after commits and now and then on a quiet
 * store. Failures are logged (the same not more than once a minute) and tried again by a later call, a second later at
 * the earliest. True: there is more to do now. replica */
bool kv_maintain(struct kv *kv);

/* ------------------------------------------------------------------------------------------ keys and contents */

/* What a content says (formats.md 1). */
enum kv_kind {
    KV_VALUE,
    KV_TOMBSTONE,
    KV_UNREADABLE,
};

struct kv_content {
    enum kv_kind kind;
    uint64_t expires_us; /* 0: does not expire */
    uint32_t skip;       /* bytes before the value in the content */
};

/* Reads the form from the first bytes (up to 13 are needed) and the whole length of a content. Pure. */
void kv_content_parse(struct slice head, uint64_t length, struct kv_content *out);

/* Appends what goes before the value: nothing, the expiry form, or the escape. `head` is the value's first up to 4
 * bytes. For an empty value without expiry it appends the whole constant content. Pure. */
HKV_CHECK enum hkv_err kv_content_prefix(struct slice head, uint64_t value_length, uint64_t expires_us,
                                         struct buf *out);

extern const uint8_t kv_tombstone_content[5];
extern const struct hash kv_tombstone_hash;
extern const struct hash kv_empty_value_hash;

/* Checks a user key: 1 to 1,024 bytes of UTF-8, no NUL. Errors: HKV_E_KEY, naming the rule. Pure. */
HKV_CHECK enum hkv_err kv_key_check(struct slice key);

/* Appends the document key of a user key, or of a system record's name. Pure. */
HKV_CHECK enum hkv_err kv_key_encode(struct slice key, struct buf *out);
HKV_CHECK enum hkv_err kv_system_key_encode(const char *name, struct buf *out);

enum kv_key_class { KV_KEY_USER, KV_KEY_SYSTEM, KV_KEY_FOREIGN };

/* Class of a document key; `name` borrows the user key or record name from it. Pure. */
enum kv_key_class kv_key_classify(struct slice document_key, struct slice *name);

/* ------------------------------------------------------------------------------------------ local writes */

/* A large content already on disk: written by the caller's thread through kv_file_*. */
struct kv_file;

struct kv_signer {
    struct secret_key namespace_secret;
    struct namespace_id namespace;
    struct secret_key author_secret;
    struct author_id author;
};

enum kv_expect { KV_EXPECT_ANY, KV_EXPECT_ABSENT, KV_EXPECT_VERSION };

struct kv_version {
    uint64_t stamp_us;
    struct author_id author;
};

struct kv_write {
    struct entry entry;   /* signed on the caller's thread with a stamp of kv_propose_stamp(); key borrowed */
    struct slice content; /* the whole content, when it is at most KV_VALUE_INLINE_MAX */
    struct kv_file *file; /* else */
    struct kv_content parsed;
    enum kv_expect expect;
    struct kv_version version; /* KV_EXPECT_VERSION */
};

/* The stamp a write of this document key should carry (formats.md 1), from a committed snapshot and the atomic counter.
 * Errors: HKV_E_STAMP_AHEAD (names the author). any */
HKV_CHECK enum hkv_err kv_propose_stamp(struct kv *kv, struct slice document_key, uint64_t *stamp_us);

/* Stores a local write. When the key moved on since the stamp was proposed, the entry is stamped and signed again with
 * `signer`. `w->entry` is as stored afterwards. The write is part of the open transaction: durable after kv_commit().
 * Errors: HKV_E_CONFLICT, HKV_E_STAMP_AHEAD, HKV_E_LIMIT (disk budget), HKV_E_NAMESPACE (the file was sealed before a
 * kv_reset). replica */
HKV_CHECK enum hkv_err kv_write(struct kv *kv, struct kv_write *w, const struct kv_signer *signer);

/* ------------------------------------------------------------------------------------------ value files */

/* A value file being written: temporary file, then sync, rename, sync of the folder. Offsets may come in any order.
 * One thread at a time, any thread but network and replica. */
HKV_CHECK enum hkv_err kv_file_create(struct kv *kv, struct kv_file **out);
HKV_CHECK enum hkv_err kv_file_write(struct kv_file *file, uint64_t offset, struct slice bytes);

/* Makes it durable under its final name. `outboard` (64-byte pairs in pre-order) is kept with the value's row later.
 * Errors: HKV_E_DISK, HKV_E_DISK_FULL. */
HKV_CHECK enum hkv_err kv_file_seal(struct kv_file *file, const struct hash *hash, uint64_t length,
                                    struct buf *outboard_take);

/* Frees the handle; a file that no committed transaction refers to is removed. NULL is fine. Any thread; the replica
 * thread alone between the write that stored it and the end of that transaction. */
void kv_file_free(struct kv_file *file);

/* ------------------------------------------------------------------------------------------ remote entries, values */

/* The entries as reconciliation sees them (docs/replica.h). `now_us` for the future rule is read once a transaction.
 * replica */
struct docs_replica *kv_docs(struct kv *kv);

/* Full range: count, and the fingerprint as on the wire (EMPTY included). replica */
void kv_fingerprint(struct kv *kv, uint64_t *count, struct fingerprint *out);

struct kv_wanted {
    struct hash hash;
    uint64_t length; /* as the entry says */
    struct endpoint_id providers[KV_PROVIDERS_MAX];
    size_t provider_count;
    uint32_t attempts;
};

/* The time that back-offs and grace times are kept in: as the wall clock at the first start, and since then only
 * forward, at the pace of the monotonic clock, whatever is done to the wall clock. any */
uint64_t kv_steady_us(const struct kv *kv);

/* Missing values that are due for a fetch, oldest first, at most `max`; those longer than max_value_bytes are never
 * among them. They are marked as taken until a commit with kv_value_arrived or kv_value_failed (one that is lost leaves
 * them taken; their holder reports again), or a restart. `now_us` and `next_due_us` are times of kv_steady_us(); the
 * second: when to ask again, 0 when nothing waits. replica */
HKV_CHECK enum hkv_err kv_wanted_take(struct kv *kv, uint64_t now_us, size_t max, struct kv_wanted *out, size_t *count,
                                      uint64_t *next_due_us);

/* The verified content of a hash is here: small bytes, or a sealed file (taken over when stored; NULL otherwise). What
 * it lets keys show becomes visible in this transaction. Unwanted contents are ignored. replica */
HKV_CHECK enum hkv_err kv_value_arrived(struct kv *kv, const struct hash *hash, struct slice content,
                                        struct kv_file *file);

/* No provider had it: tried again with back-off (1 s doubling to 5 minutes) from `now_us` of kv_steady_us(). replica */
HKV_CHECK enum hkv_err kv_value_failed(struct kv *kv, const struct hash *hash, uint64_t now_us);

/* This peer may have what is missing (a sync with it ended well): makes missing values due now and adds it as provider
 * where there is room. Bounded: it stores one row, not one for each value. replica */
HKV_CHECK enum hkv_err kv_wanted_wake(struct kv *kv, const struct endpoint_id *peer);

/* A reader found that the stored bytes of this content are not its own (or cannot be read): the value is reported as
 * bad, and kv_quarantine() deals with it. The oldest KV_SUSPECTS_MAX reports are kept; the background check finds what
 * is dropped. any */
void kv_value_bad(struct kv *kv, const struct hash *hash);

/* Puts the values reported by kv_value_bad() into quarantine: never read, shown or served again, counted as bad, wanted
 * from any peer. Good bytes end that, fetched or written here, and so does a check that reads the old ones back well.
 * `*count`: how many. replica */
HKV_CHECK enum hkv_err kv_quarantine(struct kv *kv, size_t *count);

/* A value in quarantine was read back with its own hash after all (the disk had refused to read it). replica */
HKV_CHECK enum hkv_err kv_value_good(struct kv *kv, const struct hash *hash);

enum kv_problem_kind { KV_PROBLEM_BAD, KV_PROBLEM_TOO_LARGE, KV_PROBLEM_MISSING };

/* A value that is not whole, and one of the entries that point to it. */
struct kv_problem {
    enum kv_problem_kind kind;
    bool has_owner; /* an entry was found: key and author are set */
    struct buf key; /* document key */
    struct author_id author;
    struct hash hash;
    uint64_t length;   /* of the content, as the entry says */
    uint64_t since_us; /* wall clock */
    uint32_t attempts;
    uint64_t next_try_us; /* of kv_steady_us(); 0: never */
};

/* At most `max` of them, the bad ones first. A value that no key waits for costs a walk over all entries, about a
 * second for a million. Released by kv_problems_fini(). any */
HKV_CHECK enum hkv_err kv_problems(struct kv *kv, struct kv_problem *out, size_t max, size_t *count);
void kv_problems_fini(struct kv_problem *problems, size_t count);

/* Number of the newest value, present or not: what is noticed later has a greater one. replica */
HKV_CHECK enum hkv_err kv_value_mark(struct kv *kv, uint64_t *mark);

/* Whether a value of at most that number is missing or bad (too large ones are not). replica */
HKV_CHECK enum hkv_err kv_value_missing(struct kv *kv, uint64_t mark, bool *missing);

/* Opens a verified content for serving. `head` is the whole content when it is inline; else `fd` ≥ 0 is the file. The
 * two constant contents and the empty content are always there. Errors: HKV_E_NOT_FOUND (quiet). any; the result is
 * independent of kv. */
struct kv_blob {
    struct hash hash;
    uint64_t length;
    struct buf bytes;    /* inline */
    struct buf outboard; /* of a file */
    uint64_t file;       /* its number */
    int fd;              /* -1 for inline */
};

HKV_CHECK enum hkv_err kv_blob_open(struct kv *kv, const struct hash *hash, struct kv_blob *out);
void kv_blob_close(struct kv_blob *blob);

/* Reads a content from its file, each group of chunks checked against the hash before its bytes are handed out. Kv and
 * blob outlive it; nothing to free. */
struct kv_blob_reader {
    struct kv *kv;
    const struct kv_blob *blob;
    struct bao_walk walk;
    uint8_t group[BAO_GROUP_BYTES];
};

void kv_blob_reader_init(struct kv_blob_reader *r, struct kv *kv, const struct kv_blob *blob);

/* The next bytes, borrowed until the next call; none at the end. Errors: HKV_E_CORRUPT (names the file; the value is
 * reported by kv_value_bad), HKV_E_DISK. any */
HKV_CHECK enum hkv_err kv_blob_reader_next(struct kv_blob_reader *r, struct slice *out);

/* Entries that were refused because their stamp was too far ahead and are due now (by the transaction's clock): inserts
 * at most `max` of them as received from the peer that sent them. `next_due_us`: when to ask again, 0 when none waits.
 * replica */
HKV_CHECK enum hkv_err kv_refused_retry(struct kv *kv, size_t max, size_t *inserted, uint64_t *next_due_us);

/* What is kept of the refused entries of one author from one peer. */
struct kv_refused {
    struct author_id author;
    struct endpoint_id peer;
    uint64_t count;
    uint64_t first_stamp_us; /* the least and the greatest of their stamps */
    uint64_t last_stamp_us;
};

/* The refused entries that wait, by peer and author, at most `max` lines, most entries first. any */
HKV_CHECK enum hkv_err kv_refused_list(struct kv *kv, size_t max, bool (*visit)(void *arg, const struct kv_refused *of),
                                       void *arg);

/* Shown values that expired by `now_us` of the wall clock: at most `max` become EXPIRED in the change log (reads hide
 * them without it). Those that did so by a clock that was set back since show again, with an event as of a put.
 * `next_due_us`: when to ask again, 0 when nothing shown expires. replica */
HKV_CHECK enum hkv_err kv_expire_due(struct kv *kv, uint64_t now_us, size_t max, uint64_t *next_due_us);

/* ------------------------------------------------------------------------------------------ reads */

struct kv_item {
    struct buf key; /* user key, or the record name of a system record */
    struct kv_version version;
    struct hash hash;
    uint64_t length; /* of the value, without content prefix */
    uint64_t expires_us;
    struct buf value;    /* filled when asked for and inline */
    struct kv_blob blob; /* opened when asked for and in a file; fd -1 otherwise */
    bool bad;            /* the value is in quarantine: neither `value` nor `blob` is filled */
    uint32_t skip;       /* content bytes before the value in `blob` */
};

void kv_item_fini(struct kv_item *item);

enum kv_want { KV_WANT_META, KV_WANT_VALUE };

/* What a document key shows now. Errors: HKV_E_NOT_FOUND (absent, tombstone, expired; quiet), HKV_E_FORMAT,
 * HKV_E_CORRUPT (the value was asked for and is in quarantine). any */
HKV_CHECK enum hkv_err kv_get(struct kv *kv, struct slice document_key, enum kv_want want, struct kv_item *out);

/* Shown keys of one class in byte order: those beginning with `prefix` (a user-key or record-name prefix), after
 * `after` (a key; empty: from the start). Calls `visit` until it returns false; values longer than `value_max` are not
 * loaded. One snapshot, on a connection that is taken meanwhile: `visit` must not call back into kv. any */
HKV_CHECK enum hkv_err kv_list(struct kv *kv, enum kv_key_class class, struct slice prefix, struct slice after,
                               enum kv_want want, uint64_t value_max, bool (*visit)(void *arg, struct kv_item *item),
                               void *arg);

struct kv_history_item {
    struct kv_version version;
    struct hash hash;
    uint64_t content_length;
    enum kv_kind kind;
    bool present; /* content is here; `kind` is known only then */
    bool shown;
};

/* The entries that one author has at document keys beginning with `prefix`, in byte order. `visit` must not call back
 * into kv. any */
HKV_CHECK enum hkv_err
kv_author_entries(struct kv *kv, const struct author_id *author, struct slice prefix,
                  bool (*visit)(void *arg, struct slice document_key, uint64_t stamp_us, bool has_content), void *arg);

/* Every author's entry of a document key, winner first. any */
HKV_CHECK enum hkv_err kv_history(struct kv *kv, struct slice document_key,
                                  bool (*visit)(void *arg, const struct kv_history_item *item), void *arg);

/* ------------------------------------------------------------------------------------------ changes */

enum kv_change_kind {
    KV_PUT_LOCAL,
    KV_DELETE_LOCAL,
    KV_PUT_REMOTE,
    KV_DELETE_REMOTE,
    KV_EXPIRED,
    KV_LISTED, /* no change: a key that is present (kv_changes_read only) */
};

struct kv_change {
    uint64_t position; /* from 1 on, without gaps */
    enum kv_change_kind kind;
    bool by_prefix; /* reason "prefix" */
    bool has_peer;
    struct endpoint_id peer;
    struct kv_version version; /* that the key has now; with by_prefix that of the removing entry */
    struct buf key;            /* user key */
};

struct kv_changes {
    struct kv_change *items;
    size_t count;
    uint64_t last; /* kv_take_changes: the newest position. That of the last item, or the rest is in the log alone */
};

/* The change-log rows of the transaction that was committed last, moved to the caller. replica, after kv_commit() */
void kv_take_changes(struct kv *kv, struct kv_changes *out);
void kv_changes_fini(struct kv_changes *changes);

/* Names the numbering of positions; another one after kv_reset() and kv_epoch_renew(). */
uint64_t kv_epoch(const struct kv *kv);

/* From the commit on, positions of before are of another epoch: for a store that turns out to be a copy, whose numbers
 * mean other changes than those of the original. What the log holds stays, under the new epoch. replica */
HKV_CHECK enum hkv_err kv_epoch_renew(struct kv *kv);

/* Removes rows of the change log that are beyond the limits of count and age, at most `max` of the oldest. Commits do
 * it too, for twice as many rows as they add. replica, within a transaction */
HKV_CHECK enum hkv_err kv_changes_trim(struct kv *kv, uint64_t max);

/* Where a reader of changes stands: it has seen what was up to `position` of `epoch`. With `listing` it is being told
 * which keys are present, in byte order, and has been told those up to `listed` (empty: none yet). */
struct kv_changes_query {
    uint64_t epoch;
    uint64_t position;
    struct slice prefix; /* of user keys; other changes are passed over */
    bool listing;
    struct slice listed;
    size_t changes_max; /* in the page; 0 and more than KV_PAGE_CHANGES_MAX count as that */
};

struct kv_changes_page {
    struct kv_changes changes; /* what comes next for this reader, in order */
    uint64_t position;         /* where it stands after them */
    bool listed_all;           /* after them the listing is complete */
    bool lost;                 /* the log does not reach back to the query's position: none of the above */
    uint64_t epoch; /* the log in this snapshot: positions first … last; first is last + 1 when it is empty */
    uint64_t first;
    uint64_t last;
};

/* Reads on, in one snapshot and bounded. Without `listing`: the changes behind the position. With it: those changes
 * whose keys were listed already, and once the log is read to its end, the next keys as KV_LISTED. Whoever follows both
 * in the order given holds at each moment exactly what one snapshot shows of the keys up to the last one listed, and
 * after `listed_all` of all: nothing is missed between listing and changes, and nothing comes twice. any */
HKV_CHECK enum hkv_err kv_changes_read(struct kv *kv, const struct kv_changes_query *query,
                                       struct kv_changes_page *out);

/* ------------------------------------------------------------------------------------------ counts, peers, meta */

struct kv_counts {
    uint64_t entries;
    uint64_t visible_keys;
    uint64_t tombstones;
    uint64_t values_missing;
    uint64_t values_bad;
    uint64_t values_too_large;
    uint64_t entries_refused;
    uint64_t foreign_entries;
    uint64_t position;        /* newest change */
    uint64_t newest_stamp_us; /* among our own entries */
    uint64_t disk_bytes;
    uint64_t wal_bytes;
    uint64_t wal_overruns;          /* since the opening: how often the log grew beyond 64 MiB */
    struct fingerprint fingerprint; /* full range, as on the wire */
};

/* As of the last commit. any */
void kv_counts(struct kv *kv, struct kv_counts *out);

enum kv_peer_source { KV_PEER_SEED, KV_PEER_SYNCED, KV_PEER_REMOVED };

struct kv_peer {
    struct endpoint_id id;
    enum kv_peer_source source;
    struct address_set addrs;
    uint64_t last_sync_us; /* wall; 0: never */
};

/* Remembered peers. put replaces the row. replica (list: start-up thread or replica) */
HKV_CHECK enum hkv_err kv_peer_put(struct kv *kv, const struct kv_peer *peer);
HKV_CHECK enum hkv_err kv_peer_delete(struct kv *kv, const struct endpoint_id *id);
HKV_CHECK enum hkv_err kv_peer_list(struct kv *kv, bool (*visit)(void *arg, const struct kv_peer *peer), void *arg);

/* Small named values (`meta` table). get: HKV_E_NOT_FOUND (quiet). replica, or start-up thread */
HKV_CHECK enum hkv_err kv_meta_get(struct kv *kv, const char *name, struct buf *out);
HKV_CHECK enum hkv_err kv_meta_set(struct kv *kv, const char *name, struct slice value);

/* Whether another node's shown keys exist besides system records and the reserved `daemon` prefixes: counts visible
 * user keys quickly (0 or more). any */
HKV_CHECK enum hkv_err kv_has_user_keys(struct kv *kv, bool *out);

/* Empties the store for another namespace: entries, keys, values, changes (new epoch), refused; keeps
 * identity-independent meta and peers. Its own transaction; value files go afterwards. replica, outside of one */
HKV_CHECK enum hkv_err kv_reset(struct kv *kv, const struct namespace_id *namespace);

/* Our author changed. replica */
void kv_set_author(struct kv *kv, const struct author_id *author);

#endif
