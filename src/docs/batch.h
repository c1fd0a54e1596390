/* A batch: a run of decoded message parts and values on its way from the network thread over a worker to the replica
 * thread and back, with the answer it got there. Self-contained: keys and bounds are copies, nothing is shared while it
 * travels.
 *
 *   docs_session (network)       filled in the order of the wire, then sealed: not changed while it is out
 *      │ SCREEN(batch), at times   replica: docs_batch_screen()    marks values that are known already
 *      │ VERIFY(batch)             worker:  docs_batch_verify()    marks bad values, computes fingerprints
 *      │ APPLY(batch)              replica: docs_reconcile_step()  stores values, fills `answer`
 *      ▼
 *   docs_session (network)       takes the answer, frees the batch
 *
 * A part may reach over several batches: a million values can stand in one. Then it begins in one (`begins`), goes on
 * in others, and ends in the last (`ends`). The session owns all batches; whoever handles an effect borrows one until
 * it reports it back. `job` and `user` are for that handler. */
#ifndef HKV_DOCS_BATCH_H
#define HKV_DOCS_BATCH_H

#include "base/env.h"
#include "docs/limits.h"
#include "docs/range.h"

enum docs_value_state {
    DOCS_VALUE_NEW,       /* nothing known yet, or: signatures are valid (after docs_batch_verify) */
    DOCS_VALUE_KNOWN,     /* present or older than what we have: signatures don't matter */
    DOCS_VALUE_BAD,       /* a signature is wrong */
    DOCS_VALUE_MALFORMED, /* of another namespace, or empty hash and length 0 do not come together */
};

struct docs_value {
    struct entry entry;
    struct fingerprint fingerprint; /* filled by docs_batch_verify */
    enum docs_value_state state;
    bool provides_content; /* the sender said Complete, of a value that isn't an empty entry */
    size_t key_at;         /* of the key in the batch's bytes; `entry.key` is set when the batch is sealed */
};

enum docs_part_kind {
    DOCS_PART_FINGERPRINT,
    DOCS_PART_ITEM,
};

struct docs_part {
    enum docs_part_kind kind;
    struct docs_range range;
    struct fingerprint fingerprint; /* DOCS_PART_FINGERPRINT */
    size_t first, count;            /* DOCS_PART_ITEM: its values in this batch */
    bool begins, ends;              /* DOCS_PART_ITEM: whether its first, its last value is in this batch */
    bool have_local;                /* DOCS_PART_ITEM: known when it ends */
    size_t x_at, y_at;              /* of the bounds in the batch's bytes */
    size_t x_len, y_len;
};

/* What the replica made of a batch, and, after the last one of a frame, the parts to reply with. The counts are of the
 * values in this batch. */
struct docs_answer {
    enum hkv_err err; /* the session is over: the store failed (its sentence in `why`), or a limit was passed */
    struct error_text why;
    bool is_offence;  /* with err: the peer sent too much that is wrong; what was stored before that stays */
    struct buf parts; /* encoded message parts */
    uint32_t part_count;
    struct buf pull_x, pull_y; /* the one range of which the reply asks for all, with nothing unsent of ours in it */
    bool is_equal;             /* the frame was the peer's fingerprint of everything, and ours is the same */
    uint64_t checked;          /* signatures were verified */
    uint64_t inserted;         /* stored */
    uint64_t refused;          /* bad, malformed, future, over a limit: a node should hold them, and we don't */
    uint64_t future;           /* of these, the ones from the future */
    uint64_t newest_stamp_us;  /* of the values with good signatures */
    uint64_t sent;             /* values in `parts` */
};

/* Where a batch is, as the session sees it. */
enum docs_stage {
    DOCS_STAGE_DECODED,
    DOCS_STAGE_AT_SCREEN,
    DOCS_STAGE_SCREENED,
    DOCS_STAGE_AT_VERIFY,
    DOCS_STAGE_READY,
    DOCS_STAGE_AT_APPLY,
    DOCS_STAGE_DROPPED, /* out when the session ended; freed when it comes back */
};

struct docs_batch {
    struct job job; /* the handler's, to send the batch through threads without an allocation */
    void *user;     /* the handler's */

    struct docs_value *values; /* DOCS_BATCH_VALUES_MAX of them fit */
    size_t value_count;
    struct docs_part *parts; /* in the order of the wire; DOCS_BATCH_PARTS_MAX fit */
    size_t part_count;
    struct buf bytes; /* keys and bounds */
    bool is_opening;  /* no peer's message: make the dialler's first one */
    bool ends_frame;
    bool answered_early; /* with ends_frame: its fingerprints have their answer already (session.h, early pull) */
    struct docs_answer answer;

    /* Of the whole frame, set with ends_frame. */
    uint64_t frame_values;
    uint32_t frame_fingerprints; /* fingerprint parts */
    uint32_t frame_pulls;        /* items that ask for ours (have_local = 0) */

    struct docs_batch *next; /* in the session's queue */
    enum docs_stage stage;
};

/* An empty batch, or NULL without memory. */
struct docs_batch *docs_batch_new(void);
void docs_batch_free(struct docs_batch *b);

/* Verifies the signatures of all new values with `verify` (entry_verify, or a simulation's), and computes fingerprints.
 * Any thread; nothing of the session is touched. Running out of memory fails the batch's answer. */
void docs_batch_verify(struct docs_batch *b, enum hkv_err (*verify)(const struct entry *e));

/* Marks the values that would not be stored anyway. Replica thread. A failing store fails the batch's answer. */
void docs_batch_screen(struct docs_batch *b, struct docs_replica *replica);

/* For the decoder: the batch can take one more value and one more part. */
bool docs_batch_has_room(const struct docs_batch *b);

/* For the decoder: appends a part with copies of its bounds, a value with a copy of its key; room was asked for before.
 * Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_batch_add_part(struct docs_batch *b, enum docs_part_kind kind, struct docs_range range,
                                           struct docs_part **out);
HKV_CHECK enum hkv_err docs_batch_add_value(struct docs_batch *b, const struct entry *e, struct docs_value **out);

/* For the decoder: sets all slices into `bytes`; nothing may be added afterwards. */
void docs_batch_seal(struct docs_batch *b);

#endif
