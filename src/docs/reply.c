#include "docs/reply.h"

#include "docs/message.h"

/* Content status of a value on the wire (docs.md 2.5). */
enum {
    STATUS_COMPLETE = 0,
    STATUS_MISSING = 2,
};

void docs_reply_init(struct docs_reply *reply, const struct docs_frame_limits *limits, uint64_t seed)
{
    *reply = (struct docs_reply){.limits = *limits};
    docs_set_init(&reply->sent, seed);
    docs_set_init(&reply->given, seed);
}

void docs_reply_fini(struct docs_reply *reply)
{
    buf_fini(&reply->parts);
    buf_fini(&reply->pull_x);
    buf_fini(&reply->pull_y);
    buf_fini(&reply->item_values);
    buf_fini(&reply->item_first_id);
    docs_front_fini(&reply->front);
    docs_front_fini(&reply->item_front);
    docs_set_fini(&reply->sent);
    docs_set_fini(&reply->given);
    for (size_t i = 0; i < 2; i++) {
        buf_fini(&reply->rests[i].x);
        buf_fini(&reply->rests[i].y);
    }
}

void docs_reply_clear(struct docs_reply *reply)
{
    buf_clear(&reply->parts);
    docs_front_restart(&reply->front);
    buf_clear(&reply->pull_x);
    buf_clear(&reply->pull_y);
    docs_reply_drop_item(reply);
    docs_set_clear(&reply->sent);
    reply->part_count = reply->pull_count = 0;
    reply->value_count = 0;
    reply->rests[0].is_set = reply->rests[1].is_set = false;
}

bool docs_reply_has_room(const struct docs_reply *reply, uint32_t parts, uint32_t values)
{
    return reply->part_count + parts + 2 <= reply->limits.parts &&
           reply->value_count + reply->item_value_count + values <= reply->limits.values &&
           reply->parts.len + reply->item_values.len + reply->item_first_id.len < reply->limits.bytes;
}

static enum hkv_err write_bounds(struct docs_reply *reply, enum docs_part_kind kind, struct docs_range range)
{
    bool is_compact = reply->encoding == DOCS_ENCODING_COMPACT;
    return docs_write_bounds(&reply->parts, is_compact ? &reply->front : NULL, kind, range);
}

enum hkv_err docs_reply_fingerprint(struct docs_reply *reply, struct docs_range range, const struct fingerprint *fp)
{
    TRY(write_bounds(reply, DOCS_PART_FINGERPRINT, range));
    TRY(buf_append(&reply->parts, fp->bytes, ID_BYTES));
    reply->part_count++;
    return HKV_OK;
}

/* Where the id of an item's first value belongs in `item_values`. */
#define FIRST_ID_AT (2 * SIGNATURE_BYTES)

/* A SignedEntry whose id is what differs from the one before it in the item; that of the first is left out. */
static enum hkv_err write_compact_entry(struct docs_reply *reply, const struct entry *e)
{
    struct buf *out = &reply->item_values, id = {0};
    enum hkv_err err = entry_id_append(e, &id);
    if (err == HKV_OK) err = buf_append(out, e->author_signature.bytes, SIGNATURE_BYTES);
    if (err == HKV_OK) err = buf_append(out, e->namespace_signature.bytes, SIGNATURE_BYTES);
    if (err == HKV_OK && reply->item_value_count > 0) {
        err = docs_front_write_id(&reply->item_front, buf_slice(&id), out);
    } else if (err == HKV_OK) {
        err = buf_assign(&reply->item_first_id, buf_slice(&id));
        if (err == HKV_OK) err = buf_assign(&reply->item_front.last, buf_slice(&id));
    }
    if (err == HKV_OK) err = postcard_write_varint(out, e->record.length_bytes);
    if (err == HKV_OK) err = buf_append(out, e->record.hash.bytes, ID_BYTES);
    if (err == HKV_OK) err = postcard_write_varint(out, e->record.stamp_us);
    buf_fini(&id);
    return err;
}

enum hkv_err docs_reply_value(struct docs_reply *reply, const struct entry *e, bool has_content)
{
    struct fingerprint fp;
    bool added;
    bool is_complete = has_content && !record_is_empty(&e->record); /* an older peer would fetch the empty blob */
    entry_fingerprint(e, &fp);
    TRY(docs_set_add(&reply->sent, &fp, &added));
    if (reply->given.count < DOCS_GIVEN_MAX) TRY(docs_set_add(&reply->given, &fp, &added));
    TRY(reply->encoding == DOCS_ENCODING_COMPACT ? write_compact_entry(reply, e)
                                                 : entry_encode(e, &reply->item_values));
    TRY(buf_append_byte(&reply->item_values, is_complete ? STATUS_COMPLETE : STATUS_MISSING));
    reply->item_value_count++;
    return HKV_OK;
}

/* The values of the item, whose head has just been written. */
static enum hkv_err append_values(struct docs_reply *reply)
{
    struct slice values = buf_slice(&reply->item_values);
    if (reply->encoding == DOCS_ENCODING_COMPACT && reply->item_value_count > 0) {
        TRY(buf_append_slice(&reply->parts, slice_part(values, 0, FIRST_ID_AT)));
        TRY(docs_front_write_id(&reply->front, buf_slice(&reply->item_first_id), &reply->parts));
        TRY(buf_assign(&reply->front.last, buf_slice(&reply->item_front.last)));
        values = slice_part(values, FIRST_ID_AT, SIZE_MAX);
    }
    return buf_append_slice(&reply->parts, values);
}

enum hkv_err docs_reply_item(struct docs_reply *reply, struct docs_range range, bool have_local)
{
    TRY(write_bounds(reply, DOCS_PART_ITEM, range));
    TRY(postcard_write_varint(&reply->parts, reply->item_value_count));
    TRY(append_values(reply));
    TRY(postcard_write_bool(&reply->parts, have_local));
    reply->part_count++;
    reply->value_count += reply->item_value_count;
    if (reply->item_value_count == 0 && !have_local) {
        reply->pull_count++;
        TRY(buf_assign(&reply->pull_x, range.x));
        TRY(buf_assign(&reply->pull_y, range.y));
    }
    docs_reply_drop_item(reply);
    return HKV_OK;
}

void docs_reply_drop_item(struct docs_reply *reply)
{
    buf_clear(&reply->item_values);
    buf_clear(&reply->item_first_id);
    reply->item_value_count = 0;
}

/* Order of two bounds on the way up from `origin`, over the end and on from the start: < 0, 0, > 0. `*_ends`: the bound
 * ends a range, so that `origin` itself comes last, not first. */
static int order_from(struct slice origin, struct slice a, bool a_ends, struct slice b, bool b_ends)
{
    int a_side = slice_compare(a, origin), b_side = slice_compare(b, origin);
    int a_lap = a_side < 0 || (a_side == 0 && a_ends) ? 1 + (a_side == 0) : 0;
    int b_lap = b_side < 0 || (b_side == 0 && b_ends) ? 1 + (b_side == 0) : 0;
    return a_lap != b_lap ? a_lap - b_lap : slice_compare(a, b);
}

/* Joins two ranges, neither of them all, into one from `from.x` up that holds both. False: there is none but all. */
static bool join(struct docs_range from, struct docs_range with, struct docs_range *out)
{
    if (order_from(from.x, with.x, false, with.y, true) >= 0) return false; /* it reaches over from.x */
    bool with_ends_later = order_from(from.x, with.y, true, from.y, true) > 0;
    *out = (struct docs_range){from.x, with_ends_later ? with.y : from.y};
    return true;
}

/* Ranges come in the order of going up, so joining them that way takes in nothing that was answered already. */
enum hkv_err docs_reply_put_off(struct docs_reply *reply, enum docs_rest_slot slot, struct docs_range range)
{
    struct docs_rest *rest = &reply->rests[slot];
    struct docs_range old = {buf_slice(&rest->x), buf_slice(&rest->y)}, joined = range;
    if (rest->is_set && docs_range_is_all(old)) return HKV_OK;
    if (rest->is_set && !docs_range_is_all(range)) {
        bool is_joined = join(old, range, &joined) || join(range, old, &joined);
        if (!is_joined) joined = (struct docs_range){old.x, old.x};
    }
    struct buf x = {0}; /* the joined bounds may be the rest's own */
    TRY(buf_append_slice(&x, joined.x));
    enum hkv_err err = buf_assign(&rest->y, joined.y);
    buf_fini(&rest->x);
    rest->x = buf_take(&x);
    rest->is_set = true;
    return err;
}
