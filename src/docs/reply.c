#include "docs/reply.h"

#include "docs/batch.h"

/* Content status of a value on the wire (docs.md 2.5). */
enum {
    STATUS_COMPLETE = 0,
    STATUS_MISSING = 2,
};

void docs_reply_init(struct docs_reply *reply, const struct docs_frame_limits *limits, uint64_t seed)
{
    *reply = (struct docs_reply){.limits = *limits};
    docs_set_init(&reply->sent, seed);
}

void docs_reply_fini(struct docs_reply *reply)
{
    buf_fini(&reply->parts);
    buf_fini(&reply->pull_y);
    buf_fini(&reply->item_values);
    docs_set_fini(&reply->sent);
    for (size_t i = 0; i < 2; i++) {
        buf_fini(&reply->rests[i].x);
        buf_fini(&reply->rests[i].y);
    }
}

void docs_reply_clear(struct docs_reply *reply)
{
    buf_clear(&reply->parts);
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
           reply->parts.len + reply->item_values.len < reply->limits.bytes;
}

static enum hkv_err write_bounds(struct buf *out, enum docs_part_kind kind, struct docs_range range)
{
    TRY(postcard_write_varint(out, (uint64_t)kind));
    TRY(postcard_write_bytes(out, range.x));
    return postcard_write_bytes(out, range.y);
}

enum hkv_err docs_reply_fingerprint(struct docs_reply *reply, struct docs_range range, const struct fingerprint *fp)
{
    TRY(write_bounds(&reply->parts, DOCS_PART_FINGERPRINT, range));
    TRY(buf_append(&reply->parts, fp->bytes, ID_BYTES));
    reply->part_count++;
    return HKV_OK;
}

enum hkv_err docs_reply_value(struct docs_reply *reply, const struct entry *e, bool has_content)
{
    struct fingerprint fp;
    bool added;
    bool is_complete = has_content && !record_is_empty(&e->record); /* an older peer would fetch the empty blob */
    entry_fingerprint(e, &fp);
    TRY(docs_set_add(&reply->sent, &fp, &added));
    TRY(entry_encode(e, &reply->item_values));
    TRY(buf_append_byte(&reply->item_values, is_complete ? STATUS_COMPLETE : STATUS_MISSING));
    reply->item_value_count++;
    return HKV_OK;
}

enum hkv_err docs_reply_item(struct docs_reply *reply, struct docs_range range, bool have_local)
{
    TRY(write_bounds(&reply->parts, DOCS_PART_ITEM, range));
    TRY(postcard_write_varint(&reply->parts, reply->item_value_count));
    TRY(buf_append_slice(&reply->parts, buf_slice(&reply->item_values)));
    TRY(postcard_write_bool(&reply->parts, have_local));
    reply->part_count++;
    reply->value_count += reply->item_value_count;
    if (reply->item_value_count == 0 && !have_local) {
        reply->pull_count++;
        TRY(buf_assign(&reply->pull_y, range.y));
    }
    docs_reply_drop_item(reply);
    return HKV_OK;
}

void docs_reply_drop_item(struct docs_reply *reply)
{
    buf_clear(&reply->item_values);
    reply->item_value_count = 0;
}

/* Joins two ranges into the smallest one we can name that holds both; all of the ids when in doubt. */
enum hkv_err docs_reply_put_off(struct docs_reply *reply, enum docs_rest_slot slot, struct docs_range range)
{
    struct docs_rest *rest = &reply->rests[slot];
    struct slice x = buf_slice(&rest->x), y = buf_slice(&rest->y);
    if (!rest->is_set) {
        rest->is_set = true;
        TRY(buf_assign(&rest->x, range.x));
        return buf_assign(&rest->y, range.y);
    }
    if (slice_equal(x, y)) return HKV_OK;                              /* all of them already */
    if (slice_equal(y, range.x)) return buf_assign(&rest->y, range.y); /* one goes on where the other ends */
    if (slice_compare(x, y) < 0 && slice_compare(range.x, range.y) < 0) {
        if (slice_compare(range.x, x) < 0) TRY(buf_assign(&rest->x, range.x));
        return slice_compare(range.y, y) > 0 ? buf_assign(&rest->y, range.y) : HKV_OK;
    }
    return buf_assign(&rest->y, x);
}
