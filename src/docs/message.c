#include "docs/message.h"

#include <assert.h>

#define LENGTH_BYTES    4
#define MESSAGE_KINDS   3 /* one more in the compact encoding */
#define STATUS_COUNT    3 /* Complete, Incomplete, Missing */
#define STATUS_COMPLETE 0

/* Smallest encodings, to refuse a count that the frame cannot hold. */
#define FRONT_BYTES_MIN 2
#define ID_BYTES_MIN(d) ((d)->encoding == DOCS_ENCODING_COMPACT ? FRONT_BYTES_MIN : 1 + ENTRY_ID_MIN)

static uint32_t value_bytes_min(const struct docs_decoder *d)
{
    return 2 * SIGNATURE_BYTES + ID_BYTES_MIN(d) + 1 + ID_BYTES + 1 + 1;
}

static uint32_t part_bytes_min(const struct docs_decoder *d)
{
    return 1 + 2 * ID_BYTES_MIN(d) + 2;
}

void docs_decoder_init(struct docs_decoder *d)
{
    *d = (struct docs_decoder){.state = DOCS_AT_LENGTH};
}

void docs_decoder_fini(struct docs_decoder *d)
{
    buf_fini(&d->in);
    buf_fini(&d->x);
    buf_fini(&d->y);
    docs_front_fini(&d->front);
    docs_batch_free(d->batch);
    *d = (struct docs_decoder){0};
}

enum hkv_err docs_decoder_feed(struct docs_decoder *d, struct slice bytes)
{
    return buf_append_slice(&d->in, bytes);
}

size_t docs_decoder_consumed(struct docs_decoder *d)
{
    size_t consumed = d->consumed;
    d->consumed = 0;
    return consumed;
}

bool docs_decoder_is_between_frames(const struct docs_decoder *d)
{
    return d->in.len == 0 && (d->state == DOCS_AT_LENGTH || (d->state == DOCS_AT_SLACK && d->frame_left == 0));
}

bool docs_decoder_is_in_slack(const struct docs_decoder *d)
{
    return d->state == DOCS_AT_SLACK && d->frame_left > 0;
}

static enum hkv_err begin_frame(struct docs_decoder *d, uint32_t len)
{
    if (len == 0) return error_set(HKV_E_PEER_PROTOCOL, "a sync message of no bytes");
    if (len > DOCS_FRAME_BYTES_MAX)
        return error_set(HKV_E_PEER_PROTOCOL, "a sync message of %u bytes; at most %u are allowed", len,
                         DOCS_FRAME_BYTES_MAX);
    d->frame_left = len;
    d->state = DOCS_AT_MESSAGE;
    d->frame_bounds = 0;
    d->frame_values = 0;
    d->frame_fingerprints = d->frame_pulls = 0;
    return HKV_OK;
}

static enum hkv_err read_message(struct docs_decoder *d, struct postcard_reader *r, struct docs_decoded *out)
{
    uint32_t kind, reason;
    TRY(postcard_read_variant(r, MESSAGE_KINDS + (d->encoding == DOCS_ENCODING_COMPACT ? 1 : 0), &kind));
    out->message = (enum docs_message_kind)kind;
    d->state = DOCS_AT_PART_COUNT;
    if (kind == DOCS_MESSAGE_INIT) {
        TRY(postcard_read_raw(r, out->namespace.bytes, ID_BYTES));
        d->namespace = out->namespace;
    }
    if (kind == DOCS_MESSAGE_ABORT) {
        TRY(postcard_read_variant(r, DOCS_ABORT_REASONS, &reason));
        out->reason = (enum docs_abort_reason)reason;
        d->state = DOCS_AT_SLACK;
    }
    if (kind == DOCS_MESSAGE_GREETING) {
        if (d->frame_left > DOCS_GREETING_BYTES_MAX)
            return error_set(HKV_E_PEER_PROTOCOL, "a greeting of %u bytes; at most %d are allowed", d->frame_left,
                             DOCS_GREETING_BYTES_MAX);
        TRY(postcard_read_u64(r, &out->wall_us));
        d->state = DOCS_AT_SLACK;
    }
    out->kind = DOCS_DECODED_MESSAGE;
    return HKV_OK;
}

static enum hkv_err read_part_count(struct docs_decoder *d, struct postcard_reader *r)
{
    TRY(postcard_read_length(r, DOCS_FRAME_PARTS_MAX, &d->parts_left));
    if (d->parts_left > d->frame_left / part_bytes_min(d) + 1)
        return error_set(HKV_E_PEER_PROTOCOL, "%zu parts do not fit into %u bytes", d->parts_left, d->frame_left);
    d->front.namespace = d->namespace;
    docs_front_restart(&d->front);
    d->state = d->parts_left > 0 ? DOCS_AT_PART : DOCS_AT_END;
    return HKV_OK;
}

static enum hkv_err read_bound(struct postcard_reader *r, struct slice *out)
{
    TRY(postcard_read_bytes(r, ENTRY_ID_MAX, out));
    if (out->len >= ENTRY_ID_MIN) return HKV_OK;
    return error_set(HKV_E_PEER_PROTOCOL, "the bound of a range has %zu bytes; at least %d are needed", out->len,
                     ENTRY_ID_MIN);
}

/* The two bounds of a part in either encoding, before the whole part is known to be here. */
struct bounds {
    struct docs_range range;   /* iroh's: borrowed from the input */
    struct docs_front_id x, y; /* compact */
};

static enum hkv_err read_bounds(const struct docs_decoder *d, struct postcard_reader *r, struct bounds *out)
{
    if (d->encoding == DOCS_ENCODING_COMPACT) {
        TRY(docs_front_read(r, &out->x));
        return docs_front_read(r, &out->y);
    }
    TRY(read_bound(r, &out->range.x));
    return read_bound(r, &out->range.y);
}

/* Keeps them in x and y. */
static enum hkv_err take_bounds(struct docs_decoder *d, const struct bounds *bounds, struct docs_range *out)
{
    if (d->encoding == DOCS_ENCODING_COMPACT) {
        TRY(docs_front_take_bound(&d->front, bounds->x));
        TRY(buf_assign(&d->x, buf_slice(&d->front.last)));
        TRY(docs_front_take_bound(&d->front, bounds->y));
        TRY(buf_assign(&d->y, buf_slice(&d->front.last)));
    } else {
        TRY(buf_assign(&d->x, bounds->range.x));
        TRY(buf_assign(&d->y, bounds->range.y));
    }
    *out = (struct docs_range){buf_slice(&d->x), buf_slice(&d->y)};
    return HKV_OK;
}

static void end_part(struct docs_decoder *d)
{
    d->parts_left--;
    d->state = d->parts_left > 0 ? DOCS_AT_PART : DOCS_AT_END;
}

/* The head of an item, or a whole fingerprint part. */
static enum hkv_err read_part(struct docs_decoder *d, struct postcard_reader *r)
{
    uint32_t kind;
    struct bounds bounds;
    struct docs_range range;
    struct docs_part *part;
    TRY(postcard_read_variant(r, 2, &kind));
    TRY(read_bounds(d, r, &bounds));
    if (kind == DOCS_PART_FINGERPRINT) {
        struct fingerprint fp;
        TRY(postcard_read_raw(r, fp.bytes, ID_BYTES));
        TRY(take_bounds(d, &bounds, &range));
        d->frame_bounds += range.x.len + range.y.len;
        if (d->frame_bounds > DOCS_BOUNDS_BYTES_MAX)
            return error_set(HKV_E_PEER_PROTOCOL, "the ranges of one message take more than %u bytes",
                             DOCS_BOUNDS_BYTES_MAX);
        TRY(docs_batch_add_part(d->batch, DOCS_PART_FINGERPRINT, range, &part));
        part->fingerprint = fp;
        d->frame_fingerprints++;
        end_part(d);
        return HKV_OK;
    }
    TRY(postcard_read_length(r, DOCS_FRAME_BYTES_MAX, &d->values_left));
    if (d->values_left > d->frame_left / value_bytes_min(d))
        return error_set(HKV_E_PEER_PROTOCOL, "%zu entries do not fit into %u bytes", d->values_left, d->frame_left);
    TRY(take_bounds(d, &bounds, &range));
    TRY(docs_batch_add_part(d->batch, DOCS_PART_ITEM, range, &part));
    part->begins = true;
    d->state = d->values_left > 0 ? DOCS_AT_VALUE : DOCS_AT_HAVE_LOCAL;
    return HKV_OK;
}

/* The item goes on in a new batch: a part with the same bounds again. */
static enum hkv_err continue_item(struct docs_decoder *d)
{
    struct docs_part *part;
    if (d->batch->part_count > 0) return HKV_OK;
    return docs_batch_add_part(d->batch, DOCS_PART_ITEM, (struct docs_range){buf_slice(&d->x), buf_slice(&d->y)},
                               &part);
}

/* A SignedEntry with such an id. Namespace, author and key are known after take_entry_id(). */
static enum hkv_err read_compact_entry(struct postcard_reader *r, struct entry *out, struct docs_front_id *id)
{
    TRY(postcard_read_raw(r, out->author_signature.bytes, SIGNATURE_BYTES));
    TRY(postcard_read_raw(r, out->namespace_signature.bytes, SIGNATURE_BYTES));
    TRY(docs_front_read(r, id));
    TRY(postcard_read_u64(r, &out->record.length_bytes));
    TRY(postcard_read_raw(r, out->record.hash.bytes, ID_BYTES));
    return postcard_read_u64(r, &out->record.stamp_us);
}

static enum hkv_err take_entry_id(struct docs_decoder *d, struct docs_front_id id, struct entry *e)
{
    TRY(docs_front_take_id(&d->front, id));
    struct slice whole = buf_slice(&d->front.last);
    memcpy(e->namespace.bytes, whole.data, ID_BYTES);
    memcpy(e->author.bytes, whole.data + ID_BYTES, ID_BYTES);
    e->key = slice_part(whole, ENTRY_ID_MIN, SIZE_MAX);
    return HKV_OK;
}

static enum hkv_err read_value(struct docs_decoder *d, struct postcard_reader *r)
{
    struct entry e;
    struct docs_front_id id;
    bool is_compact = d->encoding == DOCS_ENCODING_COMPACT;
    uint32_t status;
    struct docs_value *value;
    TRY(is_compact ? read_compact_entry(r, &e, &id) : entry_decode(r, &e));
    TRY(postcard_read_variant(r, STATUS_COUNT, &status));
    if (is_compact) TRY(take_entry_id(d, id, &e));
    TRY(continue_item(d));
    TRY(docs_batch_add_value(d->batch, &e, &value));
    if (!namespace_id_equal(&e.namespace, &d->namespace) || !record_is_consistent(&e.record))
        value->state = DOCS_VALUE_MALFORMED;
    value->provides_content = status == STATUS_COMPLETE && !record_is_empty(&e.record);
    d->frame_values++;
    if (--d->values_left == 0) d->state = DOCS_AT_HAVE_LOCAL;
    return HKV_OK;
}

static enum hkv_err read_have_local(struct docs_decoder *d, struct postcard_reader *r)
{
    bool have_local;
    TRY(postcard_read_bool(r, &have_local));
    TRY(continue_item(d));
    struct docs_part *part = &d->batch->parts[d->batch->part_count - 1];
    part->ends = true;
    part->have_local = have_local;
    if (!have_local) d->frame_pulls++;
    end_part(d);
    return HKV_OK;
}

static void hand_out_batch(struct docs_decoder *d, struct docs_decoded *out)
{
    docs_batch_seal(d->batch);
    out->kind = DOCS_DECODED_BATCH;
    out->batch = d->batch;
    d->batch = NULL;
}

/* Reads one element at the reader's front. */
static enum hkv_err read_element(struct docs_decoder *d, struct postcard_reader *r, struct docs_decoded *out)
{
    switch (d->state) {
    case DOCS_AT_MESSAGE:
        return read_message(d, r, out);
    case DOCS_AT_PART_COUNT:
        return read_part_count(d, r);
    case DOCS_AT_PART:
        return read_part(d, r);
    case DOCS_AT_VALUE:
        return read_value(d, r);
    case DOCS_AT_HAVE_LOCAL:
        return read_have_local(d, r);
    case DOCS_AT_LENGTH:
    case DOCS_AT_END:
    case DOCS_AT_SLACK:
        break;
    }
    assert(false);
    return HKV_OK;
}

/* Whether the state needs a batch with room before anything is read; hands out the full one. */
static enum hkv_err ready_batch(struct docs_decoder *d, struct docs_decoded *out)
{
    if (d->state < DOCS_AT_PART || d->state > DOCS_AT_END) return HKV_OK;
    if (d->batch != NULL && d->state != DOCS_AT_END && !docs_batch_has_room(d->batch)) {
        hand_out_batch(d, out);
        return HKV_OK;
    }
    if (d->batch == NULL) d->batch = docs_batch_new();
    if (d->batch == NULL) return error_set(HKV_E_NOMEM, "no memory for a batch of entries");
    if (d->state == DOCS_AT_END) {
        d->batch->ends_frame = true;
        d->batch->frame_values = d->frame_values;
        d->batch->frame_fingerprints = d->frame_fingerprints;
        d->batch->frame_pulls = d->frame_pulls;
        hand_out_batch(d, out);
        d->state = DOCS_AT_SLACK;
    }
    return HKV_OK;
}

/* One element, or a frame's length, or its slack, at `at` of the input. `*used` stays 0 when more bytes are needed. */
static enum hkv_err decode_at(struct docs_decoder *d, size_t at, size_t *used, struct docs_decoded *out)
{
    struct slice rest = slice_part(buf_slice(&d->in), at, SIZE_MAX);
    if (d->state == DOCS_AT_SLACK) {
        *used = rest.len < d->frame_left ? rest.len : d->frame_left;
        d->frame_left -= (uint32_t)*used;
        if (d->frame_left == 0) d->state = DOCS_AT_LENGTH;
        return HKV_OK;
    }
    if (d->state == DOCS_AT_LENGTH) {
        if (rest.len < LENGTH_BYTES) return HKV_OK;
        *used = LENGTH_BYTES;
        return begin_frame(d, be32_load(rest.data));
    }
    struct slice frame = slice_part(rest, 0, d->frame_left);
    struct postcard_reader r = postcard_reader_of(frame);
    enum docs_decoder_state before = d->state;
    enum hkv_err err = read_element(d, &r, out);
    if (err != HKV_OK && r.truncated && frame.len < d->frame_left) {
        d->state = before;
        return HKV_OK;
    }
    if (err != HKV_OK) return error_wrap(err, "sync message");
    *used = frame.len - r.in.len;
    d->frame_left -= (uint32_t)*used;
    return HKV_OK;
}

enum hkv_err docs_decoder_next(struct docs_decoder *d, struct docs_decoded *out)
{
    size_t at = 0;
    enum hkv_err err = HKV_OK;
    *out = (struct docs_decoded){.kind = DOCS_DECODED_NOTHING};
    while (err == HKV_OK && out->kind == DOCS_DECODED_NOTHING) {
        err = ready_batch(d, out);
        if (err != HKV_OK || out->kind != DOCS_DECODED_NOTHING) break;
        size_t used = 0;
        enum docs_decoder_state before = d->state;
        err = decode_at(d, at, &used, out);
        at += used;
        if (used == 0 && d->state == before) break;
    }
    buf_consume(&d->in, at);
    d->consumed += at;
    return err;
}

/* --- Writing --- */

static enum hkv_err write_frame(struct buf *out, struct slice head, struct slice parts)
{
    uint8_t length[LENGTH_BYTES];
    assert(head.len + parts.len <= DOCS_FRAME_BYTES_MAX);
    be32_store(length, (uint32_t)(head.len + parts.len));
    TRY(buf_reserve(out, LENGTH_BYTES + head.len + parts.len));
    TRY(buf_append(out, length, LENGTH_BYTES));
    TRY(buf_append_slice(out, head));
    return buf_append_slice(out, parts);
}

enum hkv_err docs_write_init(struct buf *out, const struct namespace_id *namespace, uint32_t part_count,
                             struct slice parts)
{
    uint8_t head[1 + ID_BYTES + POSTCARD_VARINT_MAX] = {DOCS_MESSAGE_INIT};
    memcpy(head + 1, namespace->bytes, ID_BYTES);
    size_t len = 1 + ID_BYTES + postcard_varint_store(head + 1 + ID_BYTES, part_count);
    return write_frame(out, slice_of(head, len), parts);
}

enum hkv_err docs_write_sync(struct buf *out, uint32_t part_count, struct slice parts)
{
    uint8_t head[1 + POSTCARD_VARINT_MAX] = {DOCS_MESSAGE_SYNC};
    size_t len = 1 + postcard_varint_store(head + 1, part_count);
    return write_frame(out, slice_of(head, len), parts);
}

enum hkv_err docs_write_abort(struct buf *out, enum docs_abort_reason reason)
{
    uint8_t head[] = {DOCS_MESSAGE_ABORT, (uint8_t)reason};
    return write_frame(out, slice_of(head, sizeof head), (struct slice){0});
}

enum hkv_err docs_write_greeting(struct buf *out, uint64_t wall_us)
{
    uint8_t head[1 + POSTCARD_VARINT_MAX] = {DOCS_MESSAGE_GREETING};
    size_t len = 1 + postcard_varint_store(head + 1, wall_us);
    return write_frame(out, slice_of(head, len), (struct slice){0});
}

enum hkv_err docs_write_bounds(struct buf *out, struct docs_front *front, enum docs_part_kind kind,
                               struct docs_range range)
{
    TRY(postcard_write_varint(out, (uint64_t)kind));
    if (front != NULL) {
        TRY(docs_front_write_bound(front, range.x, out));
        return docs_front_write_bound(front, range.y, out);
    }
    TRY(postcard_write_bytes(out, range.x));
    return postcard_write_bytes(out, range.y);
}

enum hkv_err docs_write_pull(struct buf *out, struct docs_front *front, struct docs_range range)
{
    TRY(docs_write_bounds(out, front, DOCS_PART_ITEM, range));
    TRY(postcard_write_varint(out, 0));
    return postcard_write_bool(out, false);
}
