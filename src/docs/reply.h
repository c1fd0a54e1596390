/* The reply to one message while it is built: encoded parts within the limits of a frame, and what did not fit.
 *
 *   parts   item replies, fingerprint replies, healing parts, in this order
 *   rests   what is put off: a range that the frame has no room for
 *
 * What is put off is answered by our fingerprint of it. That surely differs from the peer's as long as there is work,
 * so the peer replies and the range comes up again. Ranges next to each other are put off as one. Nothing is remembered
 * between frames (docs.md 4.7, 4.9).
 *
 * Replica thread, one reconciliation each. */
#ifndef HKV_DOCS_REPLY_H
#define HKV_DOCS_REPLY_H

#include "docs/front.h"
#include "docs/limits.h"
#include "docs/range.h"
#include "docs/set.h"

/* A range that was put off, with bounds of its own. */
struct docs_rest {
    bool is_set;
    struct buf x, y;
};

/* How much one frame may hold. */
struct docs_frame_limits {
    uint32_t parts;
    uint32_t values;
    size_t bytes;
};

struct docs_reply {
    struct docs_frame_limits limits;
    enum docs_encoding encoding; /* DOCS_ENCODING_IROH, or set before the first part with `front.namespace` */
    struct docs_front front;     /* compact: the ids in `parts` */
    struct buf parts;            /* encoded */
    uint32_t part_count;
    uint64_t value_count;
    struct docs_set sent;      /* fingerprints of the values in it */
    struct docs_set given;     /* … and of the session's first DOCS_GIVEN_MAX: docs_reply_clear() keeps it */
    struct docs_rest rests[2]; /* put off while answering items, while answering fingerprints */

    uint32_t pull_count;       /* items that ask for everything in a range of which we hold nothing */
    struct buf pull_x, pull_y; /* bounds of the last one */

    /* The item that is being filled; its head is written when its end is known. Compact: the id of its first value
     * comes after the head's, so that it is kept aside until then. */
    struct buf item_values;
    uint64_t item_value_count;
    struct buf item_first_id;
    struct docs_front item_front; /* the ids in `item_values` */
};

enum docs_rest_slot {
    DOCS_REST_ITEMS,
    DOCS_REST_FINGERPRINTS,
};

void docs_reply_init(struct docs_reply *reply, const struct docs_frame_limits *limits, uint64_t seed);
void docs_reply_fini(struct docs_reply *reply);
void docs_reply_clear(struct docs_reply *reply);

/* Whether another `parts` parts and `values` values fit, with room kept for the rests. */
bool docs_reply_has_room(const struct docs_reply *reply, uint32_t parts, uint32_t values);

/* Appends a fingerprint part. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_reply_fingerprint(struct docs_reply *reply, struct docs_range range,
                                              const struct fingerprint *fp);

/* Adds a value to the item that is being filled. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_reply_value(struct docs_reply *reply, const struct entry *e, bool has_content);

/* Ends that item: a part for `range` with the values since the last one, possibly none. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_reply_item(struct docs_reply *reply, struct docs_range range, bool have_local);

/* Drops the values of an item that was begun. */
void docs_reply_drop_item(struct docs_reply *reply);

/* Puts a range off. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_reply_put_off(struct docs_reply *reply, enum docs_rest_slot slot, struct docs_range range);

#endif
