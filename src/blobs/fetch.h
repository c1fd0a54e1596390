/* The getter's side of one blobs stream: what to send, and what comes back, verified (wire/blobs.md 3.5, 5.1).
 *
 *     blobs_fetch_init_one / _many ─▶ f->request_bytes, then FIN, go onto the stream
 *     bytes from the stream ─▶ blobs_fetch_feed ─▶ one event at a time:
 *
 *         BLOB i ─▶ PAIR* / LEAF* in pre-order ─▶ BLOB_DONE i ─▶ BLOB i + 1 ... ─▶ DONE
 *
 *     FIN or RESET from the peer ─▶ blobs_fetch_end: complete, not found, or cut, and at which blob
 *
 * Nothing is handed out that has not been verified against the wanted hash; the claimed size in BLOB is the exception,
 * and is held against the expected size and a cap before it is. A wrong byte ends the fetch with HKV_E_PEER_PROTOCOL:
 * the provider is at fault (`failure` says how), what was handed out before stays good.
 *
 * Memory: one walk and one leaf, whatever the sizes. Where a pair or leaf lies whole in the bytes fed, it is hashed
 * there and not copied. No thread of its own: one call at a time, from any. */
#ifndef HKV_BLOBS_FETCH_H
#define HKV_BLOBS_FETCH_H

#include "base/bytes.h"
#include "base/ids.h"
#include "blobs/limits.h"
#include "crypto/bao.h"

/* The length is not known beforehand. */
#define BLOBS_SIZE_UNKNOWN UINT64_MAX

struct blobs_want {
    struct hash hash;
    uint64_t size_bytes; /* what its entry says, or BLOBS_SIZE_UNKNOWN */
};

enum blobs_fetch_event_kind {
    BLOBS_FETCH_NEED_MORE, /* all input is consumed */
    BLOBS_FETCH_BLOB,      /* a blob begins: its claimed size */
    BLOBS_FETCH_PAIR,      /* a pair of the outboard: 64 bytes for `offset` of it */
    BLOBS_FETCH_LEAF,      /* 1 to 16384 bytes of the blob, for `offset` of it */
    BLOBS_FETCH_BLOB_DONE, /* everything that was asked of the blob has come */
    BLOBS_FETCH_DONE,      /* of all blobs; only the FIN may follow */
};

struct blobs_fetch_event {
    enum blobs_fetch_event_kind kind;
    size_t index;        /* of the want */
    uint64_t size_bytes; /* of BLOB and BLOB_DONE */
    bool size_proven;    /* of BLOB_DONE: the last chunk was among what came, so the size is right */
    uint64_t offset;     /* of PAIR and LEAF, in bytes */
    struct slice
        data; /* of PAIR and LEAF; valid until the next call or as long as the bytes fed are, whichever is less */
};

/* Why a provider is at fault. */
enum blobs_fetch_failure {
    BLOBS_FETCH_FAILURE_NONE,
    BLOBS_FETCH_FAILURE_SIZE,      /* not the expected size */
    BLOBS_FETCH_FAILURE_TOO_LARGE, /* over the cap, or beyond any size */
    BLOBS_FETCH_FAILURE_MISMATCH,  /* a pair or leaf that the hash does not commit to */
    BLOBS_FETCH_FAILURE_EXTRA,     /* bytes after the end; all blobs are good */
};

/* What the end of the stream means. */
enum blobs_fetch_end {
    BLOBS_FETCH_COMPLETE,
    BLOBS_FETCH_NOT_FOUND, /* it came where a blob would begin: the provider does not have `index` */
    BLOBS_FETCH_CUT,       /* it came inside blob `index`: the provider has no more of it, or the connection was cut */
};

struct blobs_fetch {
    struct buf request_bytes; /* to be sent before FIN; may be taken by the caller */
    struct blobs_want *wants;
    size_t want_count;
    size_t index; /* of the want that is being received */
    uint64_t size_cap;
    struct bao_set ranges; /* of each want */
    enum blobs_fetch_failure failure;
    uint64_t payload_bytes; /* verified data */
    uint64_t other_bytes;   /* headers and pairs */

    enum blobs_fetch_phase {
        BLOBS_PHASE_HEADER,
        BLOBS_PHASE_BODY,
        BLOBS_PHASE_END,
        BLOBS_PHASE_FAILED,
    } phase;
    bool done_reported;
    uint64_t size_bytes; /* of the blob in BODY */
    bool size_proven;
    struct bao_walk walk;
    size_t pending_len; /* of an item whose bytes are not all there */
    uint8_t pending[BAO_GROUP_BYTES];
};

/* A fetch of some chunks of one blob; `ranges` (copied, not empty) as in bao_set_missing. A size above `size_cap_bytes`
 * is refused when it is claimed. Errors: HKV_E_NOMEM, HKV_E_INVALID (ranges), HKV_E_LIMIT (too many ranges). On error
 * there is nothing to free. */
HKV_CHECK enum hkv_err blobs_fetch_init_one(struct blobs_fetch *f, const struct blobs_want *want,
                                            struct bao_ranges ranges, uint64_t size_cap_bytes);

/* A fetch of `count` whole blobs in their order: a GetMany, or a Get when it is one (old peers know nothing else).
 * Errors: HKV_E_NOMEM, HKV_E_INVALID (none), HKV_E_LIMIT (more than BLOBS_FETCH_MANY_MAX). On error there is nothing to
 * free. */
HKV_CHECK enum hkv_err blobs_fetch_init_many(struct blobs_fetch *f, const struct blobs_want *wants, size_t count,
                                             uint64_t size_cap_bytes);

void blobs_fetch_fini(struct blobs_fetch *f);

/* Consumes bytes up to the next event. Call it again with what is left until it says NEED_MORE; events that need no
 * bytes are given with empty input too. Errors: HKV_E_PEER_PROTOCOL, and again at every later call. */
HKV_CHECK enum hkv_err blobs_fetch_feed(struct blobs_fetch *f, struct slice in, size_t *consumed,
                                        struct blobs_fetch_event *event);

/* The stream ended, by FIN or RESET, and all its bytes were fed: what that means, with `f->index`. */
enum blobs_fetch_end blobs_fetch_end(const struct blobs_fetch *f);

#endif
