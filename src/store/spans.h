/* Counts and fingerprints of ranges of entries in O(log n) (wire/docs.md 8.2, 8.3 option A).
 *
 * The entries, in the order of their ids, are cut into runs of about 64 to 192. The table `span` has one row a run, and
 * memory has a balanced tree (a treap) of the same runs in which each node also knows the sums of its subtree:
 *
 *      id    |""........|k\x13.......|k\x9a....|m.......|         runs: first id, count, xor of fingerprints
 *                         ┌──────── k\x9a ────────┐
 *                    ┌─ k\x13 ─┐                  m            each node: own sums and those below it
 *                   ""
 *      range [a, b)      ^a.....................^b
 *
 * P(x), the sums of all entries before x, is one way down the tree plus a walk over at most one run in the tables
 * `place` and `entry`; a range is P(b) - P(a), or a walk from a to b when both lie in one run. Xor takes itself back, so
 * adding and removing an entry are the same operation on the sums.
 *
 * The first run begins at the empty id, and a run's first id is only as long as it takes to tell it from what comes
 * before. A run above SPAN_RUN_MAX is cut in two (behind its end when entries arrive in order: no walk, full runs), one
 * below SPAN_RUN_MIN joins a neighbour when something was removed from it.
 *
 * Fingerprints of single entries are not stored: the walk hashes what an entry says, 0.3 µs each.
 *
 * Ids here are author ‖ document key: one namespace a store. Changes keep an undo list; rows are written once a commit.
 * Replica thread. Errors: HKV_E_NOMEM and those of db.h. */
#ifndef HKV_STORE_SPANS_H
#define HKV_STORE_SPANS_H

#include "base/bytes.h"
#include "base/ids.h"
#include "store/db.h"

#define SPAN_RUN_MIN     64
#define SPAN_RUN_MAX     192
#define SPAN_RUN_JOINED  160 /* most entries of a run made by joining two */
#define SPAN_RUN_REBUILT 128

struct spans;

struct span_sum {
    uint64_t count;
    struct fingerprint xored;
};

/* Reads the runs. `db` stays the caller's and open. */
HKV_CHECK enum hkv_err spans_open(struct db *db, const struct namespace_id *namespace, struct spans **out);
void spans_free(struct spans *s);

/* Makes the runs and their rows anew from the table `entry`, inside a transaction of the caller's. For a store whose
 * table `span` is damaged: it reads every entry once. */
HKV_CHECK enum hkv_err spans_rebuild(struct db *db, const struct namespace_id *namespace, struct spans **out);

/* An entry was added (+1), replaced (0; `change` is the xor of both fingerprints) or removed (-1) in the tables. */
HKV_CHECK enum hkv_err spans_change(struct spans *s, struct slice id, int count, const struct fingerprint *change);

/* Sums of from <= id < to; an empty `to` is the end. */
HKV_CHECK enum hkv_err spans_sum(struct spans *s, struct slice from, struct slice to, struct span_sum *out);
void spans_total(const struct spans *s, struct span_sum *out);

/* Appends the id with rank `n` from 0 among those >= from. Errors: HKV_E_NOT_FOUND past the end (quiet). */
HKV_CHECK enum hkv_err spans_select(struct spans *s, struct slice from, uint64_t n, struct buf *id);

/* How many runs there are. */
size_t spans_runs(const struct spans *s);

/* Where the undo list ends now, and taking back everything after that point. */
size_t spans_mark(struct spans *s);
void spans_undo(struct spans *s, size_t mark);

/* Whether the runs in memory are those of the table, which should be so always. True without a look while there are
 * changes that are not written. Reads every row. */
HKV_CHECK enum hkv_err spans_agree(struct spans *s, bool *agree);

/* Writes the changed runs' rows; before COMMIT. */
HKV_CHECK enum hkv_err spans_flush(struct spans *s);

/* The transaction was committed: forgets how to undo it. */
void spans_committed(struct spans *s);

/* The transaction is gone: takes everything back. */
void spans_rolled_back(struct spans *s);

#endif
