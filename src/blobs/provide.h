/* The provider's side of one blobs stream: a parsed request in, the response out, in pieces of any size.
 *
 *     blobs_request_decode ─▶ blobs_provide_init ─▶ blobs_provide_step ──▶ bytes for the stream, and one of
 *                                                     ▲         │
 *                                                     └── MORE ─┤   MORE       call again when the stream takes more
 *                                                               │   DONE       finish the stream
 *                                                               │   NOT_FOUND  reset it with BLOBS_CODE_INTERNAL
 *                                                               │   BROKEN     finish it: what follows cannot be proven
 *                                                               └── REFUSED    reset it with BLOBS_CODE_PERMISSION
 *
 * Every pair and every leaf is checked against the hash before it goes out: a damaged or partly present value ends the
 * response where the proof ends, and never produces a wrong byte. Values come from a `struct blobs_source`.
 *
 * Steps read the disk: they run on a worker. An object may move between threads, but one call at a time. It owns its
 * request and, between steps, the value it is in the middle of; blobs_provide_fini gives both back. Memory: one group
 * and one walk, plus what the caller lets a step append. */
#ifndef HKV_BLOBS_PROVIDE_H
#define HKV_BLOBS_PROVIDE_H

#include "base/bytes.h"
#include "base/ids.h"
#include "blobs/request.h"
#include "crypto/bao.h"

/* ---- where values come from ---- */

/* A value that lookup found. */
struct blobs_value {
    uint64_t size_bytes;
    struct bao_ranges present; /* chunks that can be read, preset to all; only Observe reports it */
    struct slice outboard;     /* pre-order; empty: outboard_at is asked for each pair */
    void *opaque;              /* the source's own */
};

struct blobs_source;

struct blobs_source_ops {
    /* Finds a value, which stays readable until its release. Errors: HKV_E_NOT_FOUND (also for one of unknown size),
     * others. */
    enum hkv_err (*lookup)(struct blobs_source *source, const struct hash *hash, struct blobs_value *out);
    /* Reads exactly `len` bytes. Any error ends the response. What is absent may also read as zeros: it will not
     * verify. */
    enum hkv_err (*read_at)(struct blobs_source *source, struct blobs_value *value, uint64_t offset, uint8_t *out,
                            size_t len);
    /* The same for the outboard; may be NULL when every value larger than a group comes with its outboard. */
    enum hkv_err (*outboard_at)(struct blobs_source *source, struct blobs_value *value, uint64_t offset, uint8_t *out,
                                size_t len);
    void (*release)(struct blobs_source *source, struct blobs_value *value);
};

struct blobs_source {
    const struct blobs_source_ops *ops;
};

/* ---- a response ---- */

enum blobs_provide_state {
    BLOBS_PROVIDE_MORE,
    BLOBS_PROVIDE_DONE,
    BLOBS_PROVIDE_NOT_FOUND, /* nothing was sent */
    BLOBS_PROVIDE_BROKEN,    /* something was sent, all of it right */
    BLOBS_PROVIDE_REFUSED,
};

struct blobs_provide {
    struct blobs_request request;
    enum blobs_provide_state state;
    uint64_t next_index;    /* first index not yet begun */
    uint64_t sent_bytes;    /* of the whole response, headers and pairs included */
    uint64_t payload_bytes; /* of these, data */
    enum hkv_err cause;     /* of NOT_FOUND and BROKEN: HKV_E_CORRUPT when stored bytes do not match the hash, ... */
    struct hash cause_hash; /* ... of this value, so that the owner can have it checked and fetched again */

    /* The value being sent. */
    bool value_open;
    struct hash value_hash;
    struct blobs_value value;
    struct bao_walk walk;

    /* The sequence whose children are asked for: the value of index 0, opened when the first child is. */
    bool sequence_open;
    struct blobs_value sequence;

    /* One group of data: of the value while pairs inside it are made, or of the sequence. */
    enum blobs_group_owner {
        BLOBS_GROUP_NONE,
        BLOBS_GROUP_VALUE,
        BLOBS_GROUP_SEQUENCE,
    } group_owner;
    uint64_t group_index;
    size_t group_len;
    uint8_t group[BAO_GROUP_BYTES];
};

/* Takes over the request (emptied). */
void blobs_provide_init(struct blobs_provide *p, struct blobs_request *request_take);

/* Frees the request and releases open values. `source` as in the steps; may be NULL when no step was made. */
void blobs_provide_fini(struct blobs_provide *p, struct blobs_source *source);

/* Appends the next at most about `max_bytes` > 0 (over by less than a group) to `out` and tells what is next. After any
 * state but MORE it must not be called again. Errors: HKV_E_NOMEM; the stream should be reset with BLOBS_CODE_INTERNAL
 * then. */
HKV_CHECK enum hkv_err blobs_provide_step(struct blobs_provide *p, struct blobs_source *source, size_t max_bytes,
                                          struct buf *out, enum blobs_provide_state *state);

#endif
