/* Frames and messages of `/iroh-sync/1` (docs.md 4.3, 5.2, 5.3) and `/hkv-sync/1`, written whole and read as a stream.
 *
 *   frame    length u32 big-endian, at most 2^30, then that many bytes of postcard
 *   message  00 Init { namespace[32], parts } | 01 Sync (parts) | 02 Abort { reason }
 *            | 03 Greeting { varint wall_us, … }     compact encoding only
 *   parts    varint n, n × ( 00 x y fingerprint[32] | 01 x y varint m, m × (SignedEntry, status) have_local )
 *
 * A Greeting says what the sender's wall clock shows, in microseconds since 1970. What follows in its frame is for
 * later versions and not looked at.
 *
 * x, y and the ids of entries are bytes with their length; in the compact encoding they are written as front.h says, in
 * the order in which they stand in the frame, and all else stays the same.
 *
 * A frame may hold a million entries, so the decoder keeps no frame: it hands out batches as the bytes come in, and
 * holds no more than one element and one batch itself. It checks form and limits, the namespace of entries and the
 * empty rule; nothing else is judged here. Network thread. */
#ifndef HKV_DOCS_MESSAGE_H
#define HKV_DOCS_MESSAGE_H

#include "docs/batch.h"
#include "docs/front.h"

enum docs_message_kind {
    DOCS_MESSAGE_INIT,
    DOCS_MESSAGE_SYNC,
    DOCS_MESSAGE_ABORT,
    DOCS_MESSAGE_GREETING,
};

enum docs_abort_reason {
    DOCS_ABORT_NOT_FOUND,
    DOCS_ABORT_ALREADY_SYNCING,
    DOCS_ABORT_INTERNAL,
};

#define DOCS_ABORT_REASONS 3

enum docs_decoded_kind {
    DOCS_DECODED_NOTHING, /* more bytes are needed */
    DOCS_DECODED_MESSAGE, /* a message begins: kind, namespace (Init), reason (Abort), clock (Greeting); the last two
                           * have no batches */
    DOCS_DECODED_BATCH,   /* a part of the message; the last one has ends_frame */
};

struct docs_decoded {
    enum docs_decoded_kind kind;
    enum docs_message_kind message;
    struct namespace_id namespace;
    enum docs_abort_reason reason;
    uint64_t wall_us;         /* Greeting */
    struct docs_batch *batch; /* the receiver's */
};

enum docs_decoder_state {
    DOCS_AT_LENGTH,
    DOCS_AT_MESSAGE,
    DOCS_AT_PART_COUNT,
    DOCS_AT_PART,
    DOCS_AT_VALUE,
    DOCS_AT_HAVE_LOCAL,
    DOCS_AT_END, /* of the parts */
    DOCS_AT_SLACK,
};

struct docs_decoder {
    enum docs_encoding encoding;   /* set before the first byte */
    struct namespace_id namespace; /* entries of another are marked malformed; of an Init, the one it names */
    struct buf in;                 /* bytes fed and not yet decoded */
    size_t consumed;               /* bytes decoded since the last docs_decoder_consumed() */

    enum docs_decoder_state state;
    uint32_t frame_left; /* bytes of the frame not yet decoded */
    size_t parts_left, values_left;
    size_t frame_bounds;     /* bytes of bounds of fingerprints in this frame */
    struct buf x, y;         /* bounds of the part that is being read */
    struct docs_front front; /* compact: the ids of this frame */
    struct docs_batch *batch;
    uint64_t frame_values;
    uint32_t frame_fingerprints, frame_pulls;
};

void docs_decoder_init(struct docs_decoder *d);
void docs_decoder_fini(struct docs_decoder *d);

/* Takes the next bytes of the stream, all of them. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_decoder_feed(struct docs_decoder *d, struct slice bytes);

/* Decodes up to the next message or full batch. Errors: HKV_E_PEER_PROTOCOL (the stream is unusable), HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_decoder_next(struct docs_decoder *d, struct docs_decoded *out);

/* Bytes that were decoded since the last call: what the peer may send anew. */
size_t docs_decoder_consumed(struct docs_decoder *d);

/* Whether the stream may end here: between frames, with nothing left over. */
bool docs_decoder_is_between_frames(const struct docs_decoder *d);

/* Whether the message is complete and only bytes without meaning are left of its frame. */
bool docs_decoder_is_in_slack(const struct docs_decoder *d);

/* Append a whole frame. `parts` are encoded parts. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_write_init(struct buf *out, const struct namespace_id *namespace, uint32_t part_count,
                                       struct slice parts);
HKV_CHECK enum hkv_err docs_write_sync(struct buf *out, uint32_t part_count, struct slice parts);
HKV_CHECK enum hkv_err docs_write_abort(struct buf *out, enum docs_abort_reason reason);
HKV_CHECK enum hkv_err docs_write_greeting(struct buf *out, uint64_t wall_us);

/* Appends what each part begins with. `front`: of the frame in the compact encoding; NULL in iroh's.
 * Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_write_bounds(struct buf *out, struct docs_front *front, enum docs_part_kind kind,
                                         struct docs_range range);

/* Appends the part that asks for everything in a range, having nothing there. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_write_pull(struct buf *out, struct docs_front *front, struct docs_range range);

#endif
