/* Re-reads everything that is stored, in small steps, and says what is not as it was written.
 *
 *   phase     looks at
 *   ------------------------------------------------------------------------------------------------
 *   RUNS      each run of entries: shape, signatures; its count and fingerprint; the author's row in `party`
 *   KEYS      each key's row: its top, what it shows
 *   VALUES    each content: bytes or file against the hash, and what the row tells about them
 *   REFS      counted references, a window of value numbers at a step
 *   COUNTERS  the counters against the tables
 *
 * A pass goes through the phases in this order; where it stands is kept in `meta`, so that a restart goes on. Steps
 * read one committed snapshot on a pooled connection and never wait for the writer, nor it for them: a step of the
 * first three phases looks at some hundred rows or a MiB (a few milliseconds), one of the last two reads a table once
 * (half a second for a million entries; it comes once a pass). What a step found is kept until the replica thread has
 * dealt with it:
 *
 *   a bad value      quarantine (kv_value_bad)                                 kv_check_apply()
 *   a bad entry      removed: the fingerprint changes, so peers send it again  kv_rebuild()
 *   anything else    follows from entries and values, and is made anew         kv_rebuild()
 *
 * Signatures cost 80 µs an entry, ten times the rest: a pass verifies one of KV_CHECK_SIGNATURES entries, another
 * part each time, unless it is told to verify every one. In between, the fingerprint (over author, key, stamp and hash)
 * tells a damaged entry; what it does not cover, the length and the signatures, only matters to peers.
 *
 * A page that SQLite or its checksum finds damaged ends its phase: `unreadable` says which file. Nothing here can mend
 * that.
 *
 * Threads: one at a time; apply, save and kv_rebuild are for the replica thread. */
#ifndef HKV_KV_CHECK_H
#define HKV_KV_CHECK_H

#include "base/error.h"
#include "kv/kv.h"

#define KV_CHECK_SIGNATURES 16                /* one of so many is verified in a pass */
#define KV_CHECK_KEYS       64                /* in a step */
#define KV_CHECK_VALUES     64                /* in a step */
#define KV_CHECK_BYTES      ((size_t)1 << 20) /* of contents in a step */
#define KV_CHECK_RUN_MAX    1024              /* entries in a step, should a run be longer than it may be */
#define KV_CHECK_FOUND_MAX  64 /* of each kind, kept for one round of repairs; the next pass finds the others */

struct kv_check;

enum kv_check_kind { KV_CHECK_ENTRY, KV_CHECK_SPAN, KV_CHECK_INDEX, KV_CHECK_VALUE, KV_CHECK_KINDS };

struct kv_check_tally {
    uint64_t checked;
    uint64_t bad;
    uint64_t repaired;
};

struct kv_check_report {
    struct kv_check_tally kinds[KV_CHECK_KINDS];
    uint64_t passes;         /* ended, since the store was made */
    uint64_t pass_begun_us;  /* wall clock */
    bool unreadable;         /* some phase could not read on */
    struct error_text first; /* the first damaged page, else the first thing that was found bad; "" when none */
};

/* A check at the place where the last one stopped (`fresh`: from the beginning, with every signature verified).
 * Start-up thread or replica; a fresh one any. */
HKV_CHECK enum hkv_err kv_check_new(struct kv *kv, bool fresh, struct kv_check **out);
void kv_check_free(struct kv_check *c);

/* The next step. `*end`: it was the last of the pass; the next begins another one. Any error leaves the check where it
 * was: try again later. worker */
HKV_CHECK enum hkv_err kv_check_step(struct kv_check *c, bool *end);

/* Whether something was found that waits for kv_check_apply(), and for kv_rebuild() behind it. */
bool kv_check_found(const struct kv_check *c);
bool kv_check_wants_rebuild(const struct kv_check *c);

/* Quarantines the bad values, lets those show again that read well after all, and writes anew what rows say of their
 * contents. `kv_check_applied` after the commit. replica */
HKV_CHECK enum hkv_err kv_check_apply(struct kv_check *c);
void kv_check_applied(struct kv_check *c);

/* Removes the entries that were found bad, and makes everything anew that follows from entries and values. One
 * transaction of its own, which writes only what differs; writers wait for about thirteen seconds for a million
 * entries. `c` may be NULL. `*removed`: entries. replica, outside a transaction */
HKV_CHECK enum hkv_err kv_rebuild(struct kv *kv, struct kv_check *c, size_t *removed);

/* Keeps the place. replica */
HKV_CHECK enum hkv_err kv_check_save(struct kv_check *c);

void kv_check_report(const struct kv_check *c, struct kv_check_report *out);

/* How far the pass is, 0 to 1000: by phase and by place within it, so not even. */
unsigned kv_check_permille(const struct kv_check *c);

#endif
