/* What the parts of src/kv share; nobody else includes it.
 *
 *   kv.c        open, close, transactions, counters          readers.c   pool of read connections
 *   local.c     stamps and local writes                      read.c      get, list, history, blobs
 *   remote.c    struct docs_replica: received entries        file.c      value files, orphan sweep
 *   insert.c    one accepted entry into every table          wanted.c    missing values
 *   shown.c     top and shown of a key, change log           meta.c      peers, meta, reset
 *   party.c     numbers of authors and peers                 content.c   keys and contents as bytes
 *   blob.c      verified reads of value files
 *   bad.c       values whose bytes are not their own         changes.c   the change log: bounds, reading
 *   budget.c    the disk budget                              trouble.c   what is wrong with the disk
 *   derive.c    what must follow from the entries            check.c     re-reads what is stored, with check_look.c
 *   rebuild.c   makes it so again                           problems.c  whose the values are that are not whole
 *   upkeep.c    the log, unused values, orphans
 *
 * Everything in memory that a transaction changes can be taken back: counters are copied, spans and parties have undo
 * lists, changes and files of the transaction are lists that are cut. */
#ifndef HKV_KV_INTERNAL_H
#define HKV_KV_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "kv/kv.h"
#include "store/db.h"
#include "store/entries.h"
#include "store/files.h"
#include "store/spans.h"
#include "store/values.h"

#define KV_PATH_MAX           4096
#define KV_PARTY_SLOTS        512 /* authors and peers whose numbers are kept at hand */
#define KV_CHECKPOINT_PAGES   4096
#define KV_MAINTAIN_FREED_MAX 512  /* values removed in one call of kv_maintain */
#define KV_MAINTAIN_NAMES_MAX 128  /* file names looked at in one call */
#define KV_REFUSED_KEY_MAX    4096 /* entries with longer keys are not remembered */
#define KV_TAKEN_MAX          4096 /* missing values handed out at once */
#define KV_SUSPECTS_MAX       256  /* reports of bad values that wait for the replica thread */
#define KV_AGES_MAX           29   /* age marks of the change log: one for each quarter of a day of a week */
#define KV_PAGE_ROWS_MAX      4096 /* looked at for one page of the change log */
#define KV_PAGE_BYTES_MAX     ((size_t)256 << 10)  /* of their keys */
#define KV_CHANGE_BY_PREFIX   0x100                /* in the column change.kind */
#define KV_ROW_BYTES          1024                 /* of one entry in all tables, without its value (docs/store.md) */
#define KV_LOG_SHARE          16                   /* of the disk budget: a part in so many is the write-ahead log's */
#define KV_RETRY_US           ((uint64_t)1000000)  /* what the disk refused is not tried more often */
#define KV_TROUBLE_SAID_US    ((uint64_t)60000000) /* the same failure is not logged more often */
#define KV_TROUBLE_NEWS_US    ((uint64_t)10000000) /* nor one that comes and goes */
#define KV_LOG_KEPT_PAGES     256                  /* a quiet store keeps a log of this length */
#define KV_LOG_QUIET_US       ((uint64_t)10000000) /* without a write makes a store quiet */
#define KV_LOG_BYTES_MAX      ((uint64_t)64 << 20) /* a write-ahead log above this is counted */
#define KV_BACKOFF_FIRST_US   ((uint64_t)1000000)

/* Names in `meta` that are ours; the node's begin otherwise. */
#define KV_META_NAMESPACE "kv/namespace"
#define KV_META_COUNTERS  "kv/counters"
#define KV_META_EPOCH     "kv/epoch"
#define KV_META_WAKERS    "kv/wakers"
#define KV_META_AGES      "kv/change_ages"
#define KV_META_LIMIT     "kv/max_value_bytes"
#define KV_META_CHECK     "kv/check"
#define KV_META_PROBE     "kv/probe"

/* Kept in one row of `meta`, written with each commit that changes them. */
struct kv_counters {
    uint64_t entries;
    uint64_t visible;
    uint64_t tombstones;
    uint64_t missing;
    uint64_t too_large;
    uint64_t refused;
    uint64_t foreign;
    uint64_t position;
    uint64_t oldest_position;
    uint64_t newest_own_us;
    uint64_t file_bytes;
    uint64_t bad;
    uint64_t steady_us;   /* kv_steady_us() when the row was written */
    uint64_t newest_file; /* greatest number of a value file that a row ever referred to */
};

/* Up to `position` the changes were committed at `at_us` or before. */
struct kv_age_mark {
    uint64_t at_us;
    uint64_t position;
};

struct kv_ages {
    struct kv_age_mark marks[KV_AGES_MAX]; /* oldest first */
    size_t count;
};

/* ------------------------------------------------------------------------------------------ parties */

struct kv_party {
    uint64_t number; /* 0: the slot is free */
    uint64_t newest_us;
    bool dirty; /* newest_us is not in the table yet */
    uint8_t id[ID_BYTES];
};

struct kv_party_undo {
    uint64_t number;
    uint64_t newest_us;
    bool added;
};

struct kv_parties {
    struct kv_party slots[KV_PARTY_SLOTS];
    struct kv_party_undo *undo;
    size_t undo_count, undo_cap;
};

/* ------------------------------------------------------------------------------------------ read connections */

struct kv_reader {
    struct db db;
    uint64_t cache_bytes;
    struct kv_reader *next;
};

struct kv_readers {
    pthread_mutex_t lock;
    pthread_cond_t returned;
    struct kv_reader *idle;
    size_t open;
    uint64_t cache_bytes; /* of all together */
    const char *path;
    const char *vfs;
};

/* ------------------------------------------------------------------------------------------ the map */

/* What this transaction did with a value: handed it out, so that nobody has it yet when that is taken back; or ended
 * it, so that its holder reports again then. */
struct kv_wanted_undo {
    uint64_t id;
    bool was_taken;
};

struct kv_wanted_state {
    uint64_t *taken; /* sorted value numbers */
    size_t taken_count, taken_cap;
    struct kv_wanted_undo *undo; /* in order */
    size_t undo_count, undo_cap;
    uint64_t from_next_us, from_id; /* everything up to here is taken */
    uint64_t wake_us;               /* values tried before this moment are due; 0: none */
    uint64_t wake_next_us, wake_id; /* how far that went */
    struct endpoint_id wakers[KV_PROVIDERS_MAX];
    size_t waker_count;
};

/* Values reported as bad by readers, from any thread. */
struct kv_suspects {
    pthread_mutex_t lock;
    struct hash items[KV_SUSPECTS_MAX];
    size_t count;
    size_t settled; /* by the open transaction, from the front */
};

/* What the disk refuses. Under counts_lock. */
enum kv_trouble_kind { KV_TROUBLE_WRITE, KV_TROUBLE_FILES, KV_TROUBLE_UPKEEP, KV_TROUBLE_COUNT };

struct kv_trouble {
    enum hkv_err err; /* HKV_OK: none */
    struct error_text why;
    uint64_t retry_us;
    uint64_t said_us;
    uint64_t unsaid; /* failures since */
    bool said;
};

/* A value file that goes when the open transaction is committed. */
struct kv_doomed_file {
    struct hash hash;
    uint64_t number;
};

/* Value files between their sealing and the commit, and the syncs of their folder (file.c). Any thread. */
struct kv_sealing {
    pthread_mutex_t lock;
    pthread_cond_t synced;
    struct kv_file *files; /* have their final name, or are about to, and no committed row yet */
    uint64_t wanted;       /* syncs asked for so far, ... */
    uint64_t done;         /* ... and how many of them a sync that worked came after */
    uint64_t failures;
    bool syncing;
};

struct kv {
    struct kv_config config;
    char db_path[KV_PATH_MAX];
    char blobs_path[KV_PATH_MAX];
    struct db db; /* the one that writes */
    struct spans *spans;
    struct files *files;
    struct docs_replica docs;
    struct kv_readers readers;
    struct kv_parties parties;
    struct kv_wanted_state wanted;
    struct kv_suspects suspects;
    _Atomic uint64_t epoch;
    uint64_t run; /* random; names this run's temporary files */
    _Atomic uint64_t next_value;
    _Atomic uint64_t next_temporary;
    _Atomic uint64_t last_stamp_us;
    _Atomic uint64_t foreign; /* committed counter, for readers */
    uint64_t stale_below;     /* files of smaller numbers were sealed before the last reset */
    bool sweeping;
    struct kv_sealing sealing;
    int wal_pages;
    int log_file_pages;      /* as long as the log's file came to be */
    uint64_t log_written_us; /* steady */
    uint64_t wal_overruns;   /* how often the log came to be longer than KV_LOG_BYTES_MAX */
    int checkpoint_at;       /* pages in the log */
    bool log_was_written;    /* by the open transaction */
    bool log_is_used_again;  /* all of it is in the database: the next commit may begin at its start */
    bool log_is_suspect;     /* a checkpoint failed, or a run before: what is in the log may not be on the disk */
    uint64_t freed_due_us;   /* when unused values may be due for removal */

    uint64_t steady_base_us; /* of kv_steady_us(): its time at the start, and the monotonic clock's */
    uint64_t steady_mono_us;

    /* the open transaction */
    uint64_t now_us;    /* wall clock */
    uint64_t steady_us; /* kv_steady_us() */
    struct kv_counters counters;
    struct kv_counters counters_committed;
    struct kv_counters counters_saved;
    size_t spans_saved, parties_saved, changes_saved, files_saved, doomed_saved, settled_saved;
    size_t wanted_saved;
    struct kv_ages ages;
    struct kv_ages ages_committed, ages_saved;
    uint64_t next_epoch, next_epoch_saved; /* 0: none */
    struct kv_change *changes;
    size_t change_count, change_cap;
    struct kv_change *committed_changes;
    size_t committed_change_count;
    struct kv_file **stored_files; /* files that rows of this transaction refer to */
    size_t stored_file_count, stored_file_cap;
    struct kv_doomed_file *doomed_files;
    size_t doomed_file_count, doomed_file_cap;
    struct buf id; /* author ‖ key of the entry at work */
    uint64_t db_bytes;
    _Atomic uint64_t used_bytes;     /* of the disk budget, as of the last commit and what was taken since */
    _Atomic uint64_t unstored_bytes; /* in value files that no committed row refers to yet */
    _Atomic bool in_trouble;
    struct kv_trouble trouble[KV_TROUBLE_COUNT];

    pthread_mutex_t counts_lock; /* of what other threads read: counts, config.author */
    struct kv_counts counts;
};

HKV_CHECK enum hkv_err kv_counters_save(struct kv *kv);
HKV_CHECK enum hkv_err kv_counters_load(struct kv *kv);
void kv_counters_decode(struct slice bytes, struct kv_counters *out);
void kv_counts_publish(struct kv *kv);

/* The clock of stamps goes on from the newest stamp of our author. */
HKV_CHECK enum hkv_err kv_own_stamp_load(struct kv *kv);

/* Our author; any thread. */
struct author_id kv_author(struct kv *kv);

/* ------------------------------------------------------------------------------------------ budget.c */

enum kv_room {
    KV_ROOM_NEW,     /* may use 95 % */
    KV_ROOM_REPLACE, /* an overwrite, or the value of an entry that is stored: all of it */
    KV_ROOM_DELETE,  /* of a key that is there: always */
};

/* Whether `more` bytes are within the budget. Any thread. */
bool kv_budget_allows(struct kv *kv, uint64_t more, enum kv_room room);
enum hkv_err kv_budget_refusal(const struct kv *kv);

/* An entry and so many bytes of value were stored; counts until the next measure. */
void kv_budget_take(struct kv *kv, uint64_t more);

/* Whether a new key has room; else why not. Any thread. */
bool kv_budget_has_room(struct kv *kv, struct error_text *why);

/* Counts what is used. Outside a transaction, or in one that changed nothing yet. */
HKV_CHECK enum hkv_err kv_budget_measure(struct kv *kv);

/* The log's file shrinks to its share when it begins again. */
HKV_CHECK enum hkv_err kv_budget_limit_log(struct kv *kv);

/* So many pages of the log are a reason for a checkpoint. */
int kv_checkpoint_pages(const struct kv *kv);

/* A file that is being written has this length now; it counts until kv_budget_file_ends(). Any thread. */
HKV_CHECK enum hkv_err kv_budget_file_grows(struct kv_file *file, uint64_t length);
void kv_budget_file_ends(struct kv_file *file);

/* ------------------------------------------------------------------------------------------ trouble.c */

/* Something failed, with this thread's sentence, or worked (HKV_OK). Any thread. */
void kv_trouble_note(struct kv *kv, enum kv_trouble_kind kind, enum hkv_err err);
void kv_trouble_over(struct kv *kv, enum kv_trouble_kind kind);
bool kv_trouble_is(struct kv *kv, enum kv_trouble_kind kind);

/* Nothing is wrong, or it is time to try again. */
bool kv_trouble_is_due(struct kv *kv, enum kv_trouble_kind kind);

/* Tries whether writing works again, when it is time to. Outside a transaction. */
void kv_trouble_probe(struct kv *kv);

/* ------------------------------------------------------------------------------------------ party.c */

/* The number of an author or peer, added when `add`; 0 when not known and not added. `newest_us` may be NULL. */
HKV_CHECK enum hkv_err kv_party_number(struct kv *kv, const uint8_t id[ID_BYTES], bool add, uint64_t *number,
                                       uint64_t *newest_us);
HKV_CHECK enum hkv_err kv_party_id(struct kv *kv, uint64_t number, uint8_t out[ID_BYTES]);

/* An entry of this author was accepted. */
HKV_CHECK enum hkv_err kv_party_saw(struct kv *kv, const uint8_t id[ID_BYTES], uint64_t stamp_us);
HKV_CHECK enum hkv_err kv_parties_flush(struct kv *kv);
void kv_parties_undo(struct kv *kv, size_t mark);
void kv_parties_committed(struct kv *kv);
void kv_parties_forget(struct kv *kv);

/* ------------------------------------------------------------------------------------------ insert.c */

/* What a change row says about its origin. */
struct kv_cause {
    bool local;
    bool by_prefix;
    bool has_peer;
    struct endpoint_id peer;
    struct kv_version version; /* by_prefix: of the removing entry */
};

struct kv_ref_delta {
    uint64_t id;
    int64_t delta;
};

enum kv_value_step { KV_VALUE_KEEP, KV_VALUE_ADD, KV_VALUE_FILL };

/* One entry or one arrived value on its way into the tables. References are collected and applied at the end, the one
 * value that appears with its final count. */
struct kv_op {
    struct kv *kv;
    struct kv_cause cause;
    enum kv_value_step step;
    struct value_row filled; /* KV_VALUE_FILL: the row as it was */
    struct value_row value;  /* of the entry or the arrival */
    struct value_body body;
    struct buf providers;
    struct kv_ref_delta *refs;
    size_t ref_count, ref_cap;
};

HKV_CHECK enum hkv_err kv_op_ref(struct kv_op *op, uint64_t value, int64_t delta);
HKV_CHECK enum hkv_err kv_op_finish(struct kv_op *op);
void kv_op_fini(struct kv_op *op);

/* Puts an accepted entry and its value (op->value) into every table, and removes what it replaces by prefix. kv->id is
 * its id; `old` the row of the same id, when there is one. */
HKV_CHECK enum hkv_err kv_op_store(struct kv_op *op, const struct entry *e, const struct entry_row *old);

/* ------------------------------------------------------------------------------------------ shown.c */

struct kv_winner {
    uint64_t stamp_us;
    uint64_t author;
    uint64_t value;
};

#define KV_KIND_EXPIRED 3 /* beside enum kv_kind in the column key.kind: a value whose expiry was announced */

struct kv_key_row {
    bool exists;
    bool waiting; /* the top is not shown, because its content is not here */
    bool has_top;
    bool has_shown;
    bool expired;
    enum kv_kind kind;
    uint64_t expires_us;
    uint64_t awaited; /* value of the row in `waiting` that was read; 0: none */
    struct kv_winner top;
    struct kv_winner shown;
};

HKV_CHECK enum hkv_err kv_key_load(struct kv *kv, struct slice document_key, struct kv_key_row *out);

/* As stored, also when the top of a key that waits is not there: then without a top. On any connection. */
HKV_CHECK enum hkv_err kv_key_read(struct db *db, struct slice document_key, struct kv_key_row *out);

/* Writes the row, or removes one without a top; nothing else follows from it. */
HKV_CHECK enum hkv_err kv_key_save(struct kv *kv, struct slice document_key, const struct kv_key_row *row);

/* An entry of `op->value` is stored. */
HKV_CHECK enum hkv_err kv_shown_stored(struct kv_op *op, const struct entry *e);

/* An entry of this key was removed by a prefix. */
HKV_CHECK enum hkv_err kv_shown_removed(struct kv_op *op, const struct entry_row *removed);

/* The value op->value has come: keys whose top waits for it show it. */
HKV_CHECK enum hkv_err kv_shown_arrived(struct kv_op *op);

/* ------------------------------------------------------------------------------------------ file.c */

enum kv_file_state {
    KV_FILE_OPEN,
    KV_FILE_SEALED,
    KV_FILE_STORED, /* by the open transaction */
    KV_FILE_KEPT,   /* by a committed one */
};

struct kv_file {
    struct kv *kv;
    struct files_handle *handle;
    enum kv_file_state state;
    bool released; /* its owner let go of it within the transaction that stored it */
    uint64_t number;
    uint64_t length;
    uint64_t reserved_bytes; /* counted as unstored */
    struct hash hash;
    struct buf outboard;
    uint8_t head[KV_CONTENT_HEAD_BYTES];
    size_t head_len;
    char name[FILES_NAME_MAX];
    bool is_new; /* in kv_sealing.files, by these: */
    struct kv_file *next, **back;
};

void kv_files_init(struct kv *kv);
void kv_files_fini(struct kv *kv);

void kv_file_name(const struct hash *hash, uint64_t number, char out[FILES_NAME_MAX]);

/* A row of the open transaction refers to the file. */
HKV_CHECK enum hkv_err kv_file_stored(struct kv *kv, struct kv_file *file);
/* No row of the open transaction refers to this file any more: it is removed after the commit. */
HKV_CHECK enum hkv_err kv_file_doomed(struct kv *kv, const struct hash *hash, uint64_t number);

/* Takes back what was stored and doomed since the marks. */
void kv_files_undo(struct kv *kv, size_t stored_mark, size_t doomed_mark);
void kv_files_committed(struct kv *kv);
HKV_CHECK enum hkv_err kv_sweep_orphans(struct kv *kv);

/* ------------------------------------------------------------------------------------------ upkeep.c */

/* Writes the log anew when it is suspect: a checkpoint that failed may have failed to sync it. Commits that are synced
 * one by one need no more than that SQLite writes a failed one's frames anew, as long as the store stays open; commits
 * that are not rest on this sync alone. Replica, outside a transaction. */
HKV_CHECK enum hkv_err kv_log_mend(struct kv *kv);

/* Before a file goes: the commit since which no row refers to it is durable. Where commits are not synced one by one, a
 * power cut could else bring the row back without its file. Replica, outside a transaction. */
HKV_CHECK enum hkv_err kv_log_settle(struct kv *kv);

/* ------------------------------------------------------------------------------------------ others */

HKV_CHECK enum hkv_err kv_ages_load(struct kv *kv);

/* A new name for the numbering of positions; never 0, which stands for no position. */
void kv_epoch_draw(struct kv *kv, uint8_t out[8]);

/* Bounds of a listing, as document keys: from … below to. */
struct kv_list_bounds {
    struct buf from;
    struct buf to;
};

HKV_CHECK enum hkv_err kv_list_bounds(enum kv_key_class class, struct slice prefix, struct slice after,
                                      struct kv_list_bounds *out);
void kv_list_bounds_fini(struct kv_list_bounds *b);

/* Reads a row of SQL_KEY_LIST_META. `name` is borrowed from it. */
HKV_CHECK enum hkv_err kv_list_row(struct db *db, sqlite3_stmt *s, struct slice *name, struct kv_version *version,
                                   uint64_t *expires_us);

HKV_CHECK enum hkv_err kv_readers_init(struct kv *kv);
void kv_readers_fini(struct kv *kv);
HKV_CHECK enum hkv_err kv_reader_take(struct kv *kv, struct kv_reader **out);
void kv_reader_give(struct kv *kv, struct kv_reader *reader);

/* One snapshot for several statements. `end` also after a failed begin; it needs no memory, since a snapshot that stays
 * open would keep the log from beginning again. */
HKV_CHECK enum hkv_err kv_reader_begin(struct kv_reader *reader);
void kv_reader_end(struct kv_reader *reader);

HKV_CHECK enum hkv_err kv_wanted_init(struct kv *kv);
void kv_wanted_fini(struct kv *kv);
/* Sorts missing values anew when the limit on values is not that of the last start. Its own transaction. */
HKV_CHECK enum hkv_err kv_wanted_settle_limit(struct kv *kv);
void kv_wanted_committed(struct kv *kv);
/* Takes back what this transaction handed out and ended, but for the first `undo_count` of these. */
void kv_wanted_rolled_back(struct kv *kv, size_t undo_count);
/* A missing value may be due before what was looked at already. */
void kv_wanted_noticed(struct kv *kv, uint64_t next_try_us);
/* The value is wanted no more, whoever has it to fetch. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err kv_wanted_forget(struct kv *kv, uint64_t id);
/* A received entry points to the missing value op->value: one more provider, maybe a shorter length. */
HKV_CHECK enum hkv_err kv_wanted_hint(struct kv_op *op, const struct record *record, const struct docs_origin *origin);

/* ------------------------------------------------------------------------------------------ bad.c */

void kv_suspects_init(struct kv *kv);
void kv_suspects_fini(struct kv *kv);
void kv_suspects_committed(struct kv *kv);
void kv_suspects_forget(struct kv *kv);

/* Reports a value whose file is wrong, and says so: HKV_E_CORRUPT. Any thread. */
enum hkv_err kv_blob_damaged(struct kv *kv, const struct hash *hash, uint64_t file, const char *how);

void kv_docs_init(struct kv *kv);

/* ------------------------------------------------------------------------------------------ derive.c */

/* What must be in the tables besides `entry` and the contents, as a function of both. On any connection. */

/* The row that the table `key` must have instead of `actual`: top as the entries say, shown as the top and its value
 * say. What a key shows whose top has not come is history, and taken from `actual` as long as it can be; else
 * it is the newest entry whose value is here. */
HKV_CHECK enum hkv_err kv_key_expected(struct db *db, struct slice document_key, const struct kv_key_row *actual,
                                       struct kv_key_row *out);
bool kv_key_rows_equal(const struct kv_key_row *a, const struct kv_key_row *b);

/* How often values with numbers in low <= id < low + KV_REFS_WINDOW are referred to. */
#define KV_REFS_WINDOW 1048576
HKV_CHECK enum hkv_err kv_refs_count(struct db *db, uint64_t low, uint32_t *counts);

/* The next pass of the check begins from the start and verifies every signature. replica */
HKV_CHECK enum hkv_err kv_check_forget(struct kv *kv);

/* The counters as the tables say; those that no table tells are left as they are. `*astray`: rows that nothing leads
 * to, or that lead to nothing. */
HKV_CHECK enum hkv_err kv_counters_expected(struct db *db, struct kv_counters *out, uint64_t *astray);

#endif
