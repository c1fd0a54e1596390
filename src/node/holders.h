/* Whether another process holds this node's identity: a copy of its data directory, a restored disk, or a second node
 * that was given the same author secret (product: identity_unique).
 *
 * Each start has an incarnation of its own and remembers all it used; this node's member record carries the present
 * one. Another one in it was written by somebody else who has our endpoint secret.
 *
 *   SETTLING ── first good session, our own record's value is here ─┬─ ours, or none ───────────▶ SETTLED
 *      our record stays just above the one we wrote last            └─ unknown, by our author ─▶ ADOPTING ─▶ SETTLED
 *                                                                        (a new author, once a start)
 *   SETTLED ── another's record comes ─▶ identity_unique fails, nobody changes author; ours is written again at
 *              the next check, so that the other sees it too; holds again when nothing has come for three checks
 *
 * Another endpoint that has our author stops the start: hkv_open() fails when its record is stored already; when it
 * comes while SETTLING, writes are refused as long as it is there. Seen later, it makes identity_unique fail.
 *
 * A store that is new with an author of its own, or that knows no peer, is settled from its start. Network thread,
 * except for what says so. */
#ifndef HKV_NODE_HOLDERS_H
#define HKV_NODE_HOLDERS_H

#include <hero_kvs.h>
#include <stdatomic.h>

#include "base/env.h"
#include "kv/kv.h"
#include "node/commit.h"

#define INCARNATION_BYTES     8
#define INCARNATIONS_MAX      1024                 /* of the list of those used before */
#define HOLDERS_VALUE_WAIT_US ((uint64_t)30000000) /* for the value of our own record, after the first session */
#define HOLDERS_CHECKS        3                    /* without another's record, and the identity is unique again */
#define HOLDERS_WHY_MAX       HKV_IDENTITY_WHY_BYTES

struct hkv_store;

enum holders_phase { HOLDERS_SETTLING, HOLDERS_ADOPTING, HOLDERS_SETTLED };

struct holders {
    struct job job; /* worker, then network: a new author */
    struct commit_task task;
    _Atomic(enum holders_phase) phase; /* changed by the network thread */
    bool is_new; /* the store was made by this start: what stood before is of an earlier one with the same secrets */
    bool author_is_given;            /* configured: not ours to replace */
    struct buf used;                 /* incarnations, the present one last; fixed after open */
    uint64_t synced_us;              /* monotonic: the first good session ended; 0: none yet */
    uint64_t written_us;             /* stamp of our record as this run wrote it; 0: not yet. Under identity_lock */
    struct kv_version other;         /* of another's record seen last, and */
    uint64_t other_us;               /* when (monotonic); 0: never */
    struct secret_key author_secret; /* while adopting */
    bool is_shared;
    atomic_bool is_stopped;
    struct endpoint_id sharer; /* under identity_lock */
    void (*closed_done)(void *arg);
    void *closed_arg;
};

/* What the namespace's records say of us; read by a worker (records.c). */
struct holder_facts {
    bool is_awaited; /* a record that may say more is known, and its value not here */
    bool has_own;    /* a valid record of our endpoint is shown: */
    struct kv_version own;
    uint8_t incarnation[INCARNATION_BYTES];
    uint64_t author_stamp_us; /* of our author's entry for our endpoint's record; 0: none */
    bool is_shared;           /* another endpoint's valid record has our author */
    struct endpoint_id sharer;
};

/* Start-up thread, in a transaction: a new incarnation, remembered. `is_new`: the store was made by this start. */
HKV_CHECK enum hkv_err holders_start(struct hkv_store *store, bool is_new);
void holders_fini(struct hkv_store *store);

/* Start-up thread, before the network: HKV_E_IDENTITY when the stored records say that another endpoint has our author.
 */
HKV_CHECK enum hkv_err holders_check_start(struct hkv_store *store, const struct holder_facts *facts);

/* Peers are loaded: with none there is nobody to ask. */
void holders_begin(struct hkv_store *store);

/* A session ended well. */
void holders_synced(struct hkv_store *store);

/* This node's record is being stored with that stamp. Replica thread. */
void holders_written(struct hkv_store *store, uint64_t stamp_us);

/* The records were read. */
void holders_look(struct hkv_store *store, const struct holder_facts *facts);

/* Whether our record may be written. Any thread once holders_begin() was called. */
bool holders_is_settled(struct hkv_store *store);

/* HKV_E_IDENTITY when this start was stopped. Any thread. */
HKV_CHECK enum hkv_err holders_check_write(struct hkv_store *store);

/* Condition identity_unique; if it fails, `why` says what was seen and what to do. */
bool holders_is_unique(struct hkv_store *store, char why[HOLDERS_WHY_MAX]);

/* `done(arg)` once nothing is under way. */
void holders_close(struct hkv_store *store, void (*done)(void *arg), void *arg);

#endif
