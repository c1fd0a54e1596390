/* The half of a reconciliation session that works on the replica: it stores what a peer sent and finds the answer.
 *
 *   message of the peer              what we do                                              docs.md
 *   item with values                 store them; a stored parent that beats one is sent back  3.3 (healing)
 *   item, have_local = 0             … then send what we have there and it did not send       4.9 (D')
 *   fingerprint, equal to ours       nothing
 *   fingerprint, other; few of ours  send those, ask for the peer's                           4.6
 *   … all of few that we began with  the same, each of ours once in the session
 *   fingerprint, other; many         split into sub-ranges of equal count                     4.6, 8.5
 *   what the frame has no room for   our fingerprint of it, so that it comes up again         4.9
 *
 * Items of a frame are answered before its fingerprints, whatever their order. No answer at all ends the session.
 *
 * It is created by the owner with the session and lives as long: batches arrive here one at a time and in order
 * (session.h, effect APPLY). All functions on the replica thread, inside a transaction that may be any other's
 * too; init and fini on any thread while no batch is out. When the transaction of a step is rolled back, the session
 * must be failed: its set of received values and its counters have moved on. */
#ifndef HKV_DOCS_RECONCILE_H
#define HKV_DOCS_RECONCILE_H

#include "docs/batch.h"
#include "docs/reply.h"

struct docs_config {
    enum docs_encoding encoding;
    uint32_t split_ways;   /* ≥ 2, ≤ DOCS_SPLIT_WAYS_MAX */
    uint32_t split_values; /* ≥ 1, ≤ DOCS_SPLIT_VALUES_MAX */
    uint32_t few_values;   /* a store of no more does not divide ranges of its own entries (limits.h); 0: all do */
    bool late_values;      /* sub-ranges go as fingerprints even when they hold as few as `split_values` */
    bool exact_bounds;     /* split at existing ids, as upstream does; else at shortest separators */
    struct docs_frame_limits frame;
    size_t received_max; /* ≥ any peer's split_values and few_values, or the two never come to an end */
    uint64_t seed;       /* random */
};

#define DOCS_SPLIT_WAYS_MAX   32
#define DOCS_SPLIT_VALUES_MAX 32

/* What we use with every peer of iroh's encoding: limits.h. */
struct docs_config docs_config_default(uint64_t seed);

/* Sets the encoding, and what costs least with it: ways to split, few and late values, parts of a frame. */
void docs_config_set_encoding(struct docs_config *config, enum docs_encoding encoding);

struct docs_head {
    struct author_id author;
    uint64_t stamp_us;
};

/* The newest accepted stamp of each author, ascending by author (for a SyncReport, docs.md 6.2 and H14). */
struct docs_heads {
    struct docs_head *items;
    size_t count;
};

/* A stored entry that beat a received one from a prefix of its key; sent back so that the peer drops its stale
 * children. */
struct docs_healer {
    struct entry entry; /* its key is `key` */
    struct fingerprint fingerprint;
    struct buf key;
};

/* A fingerprint of the peer's frame that waits for its end. */
struct docs_asked {
    size_t x_at, x_len, y_at, y_len; /* in `asked_bytes` */
    struct fingerprint fingerprint;
};

enum docs_phase {
    DOCS_PHASE_PARTS,
    DOCS_PHASE_ITEM_ANSWER,
    DOCS_PHASE_FINGERPRINTS,
    DOCS_PHASE_CLOSE,
};

/* A walk over our entries of a range that sends those the peer lacks; it can stop anywhere and go on in a later step.
 */
struct docs_walk {
    bool is_active;
    bool skip_received;    /* leave out what the peer sent in this item */
    bool chunk_have_local; /* have_local of the item when the frame is full before the walk's end, and … */
    bool end_have_local;   /* … when it gets there; an empty item is sent only to ask (have_local = 0) */
    enum docs_rest_slot slot;
    struct docs_range range; /* borrowed from the batch or from `asked_bytes` */
    struct buf last_id;      /* last entry looked at; empty at the start */
    size_t piece;            /* of the range, the one that holds last_id */
};

struct docs_reconcile {
    struct docs_config config;
    struct docs_origin origin;
    struct docs_reply reply;
    struct docs_heads heads; /* result; read it when no batch is out */

    /* This frame. */
    struct docs_asked *asked;
    size_t asked_count, asked_cap;
    struct buf asked_bytes;
    struct docs_healer healers[DOCS_HEALERS_MAX];
    size_t healer_count;
    uint64_t frame_inserted;

    /* The item that is being received: its values in range that are stored now. */
    struct docs_set received;
    struct docs_summary received_sum;
    bool received_is_cut; /* more than `received_max` */

    /* Where the work on the batch stands. */
    enum docs_phase phase;
    size_t part_at, value_at, asked_at;
    struct docs_walk walk;
    uint32_t units; /* of this step, what is left */

    /* The whole session. */
    bool has_begun;
    struct docs_set own; /* all that we had when it began, if that was at most `few_values` */
    bool had_frame;
    uint64_t received_count, inserted_count, sent_count, bad_count, future_count, over_limit_count;
    uint64_t vain_count; /* received and not stored, up to the last frame */
    uint64_t idle_frames;
};

void docs_reconcile_init(struct docs_reconcile *rec, const struct docs_config *config, const struct endpoint_id *peer);
void docs_reconcile_fini(struct docs_reconcile *rec);

/* How replies are written and split, when it is known only after docs_reconcile_init(): docs_config_set_encoding() on
 * the session's configuration. Before the first batch, on any thread. */
void docs_reconcile_set_encoding(struct docs_reconcile *rec, enum docs_encoding encoding);

/* Works on the batch for about 5 ms. `*done`: the answer is complete (failed steps too: see answer.err); otherwise call
 * it again, in a later job and another transaction if you like. */
void docs_reconcile_step(struct docs_reconcile *rec, struct docs_replica *replica, struct docs_batch *batch,
                         bool *done);

/* Summary of a range: the sum over its pieces. Errors: those of the replica. */
HKV_CHECK enum hkv_err docs_range_summarize(struct docs_replica *replica, struct docs_range range,
                                            struct docs_summary *out);

/* The fingerprint that goes on the wire: EMPTY is xored in once (docs.md 4.2). */
void docs_summary_fingerprint(const struct docs_summary *sum, struct fingerprint *out);

/* Appends the parts that answer a differing fingerprint over `sum->count` ≥ 2 entries (split.c). Errors: the replica's,
 * HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_reply_split(struct docs_reply *reply, const struct docs_config *config,
                                        struct docs_replica *replica, struct docs_range range, uint64_t count);

#endif
