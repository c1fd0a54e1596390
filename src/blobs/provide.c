#include "blobs/provide.h"

#include <assert.h>

void blobs_provide_init(struct blobs_provide *p, struct blobs_request *request_take)
{
    p->request = *request_take;
    *request_take = (struct blobs_request){0};
    p->state = BLOBS_PROVIDE_MORE;
    p->next_index = 0;
    p->sent_bytes = 0;
    p->payload_bytes = 0;
    p->cause = HKV_OK;
    p->value_open = false;
    p->sequence_open = false;
    p->group_owner = BLOBS_GROUP_NONE;
}

static void close_value(struct blobs_provide *p, struct blobs_source *source)
{
    if (!p->value_open) return;
    p->value_open = false;
    source->ops->release(source, &p->value);
    if (p->group_owner == BLOBS_GROUP_VALUE) p->group_owner = BLOBS_GROUP_NONE;
}

void blobs_provide_fini(struct blobs_provide *p, struct blobs_source *source)
{
    if (p == NULL) return;
    close_value(p, source);
    if (p->sequence_open) source->ops->release(source, &p->sequence);
    p->sequence_open = false;
    blobs_request_fini(&p->request);
}

/* ---- reading values ---- */

static enum hkv_err lookup(struct blobs_source *source, const struct hash *hash, struct blobs_value *out)
{
    *out = (struct blobs_value){.present = bao_ranges_all};
    TRY(source->ops->lookup(source, hash, out));
    if (out->size_bytes <= BAO_SIZE_MAX) return HKV_OK;
    source->ops->release(source, out);
    return error_set(HKV_E_CORRUPT, "a stored value claims %llu bytes, more than any can have",
                     (unsigned long long)out->size_bytes);
}

static enum hkv_err read_pair(struct blobs_source *source, struct blobs_value *value, uint64_t offset,
                              uint8_t out[BAO_PAIR_BYTES])
{
    if (value->outboard.len >= BAO_PAIR_BYTES && offset <= value->outboard.len - BAO_PAIR_BYTES) {
        memcpy(out, value->outboard.data + offset, BAO_PAIR_BYTES);
        return HKV_OK;
    }
    if (value->outboard.len > 0 || source->ops->outboard_at == NULL)
        return error_set(HKV_E_CORRUPT, "the stored outboard of a value of %llu bytes has only %zu bytes",
                         (unsigned long long)value->size_bytes, value->outboard.len);
    return source->ops->outboard_at(source, value, offset, out, BAO_PAIR_BYTES);
}

static enum hkv_err mismatch(void)
{
    return error_set(HKV_E_CORRUPT, "a stored value does not match its hash");
}

/* Brings one group of a value into p->group, unverified. */
static enum hkv_err load_group(struct blobs_provide *p, struct blobs_source *source, enum blobs_group_owner owner,
                               struct blobs_value *value, uint64_t index)
{
    if (p->group_owner == owner && p->group_index == index) return HKV_OK;
    uint64_t offset = index * BAO_GROUP_BYTES, left = value->size_bytes - offset;
    size_t len = left < BAO_GROUP_BYTES ? (size_t)left : BAO_GROUP_BYTES;
    p->group_owner = BLOBS_GROUP_NONE;
    TRY(source->ops->read_at(source, value, offset, p->group, len));
    p->group_owner = owner;
    p->group_index = index;
    p->group_len = len;
    return HKV_OK;
}

/* The part of p->group that a node covers. */
static struct slice group_part(const struct blobs_provide *p, const struct bao_item *item)
{
    return slice_of(p->group + item->chunk % BAO_GROUP_CHUNKS * BLAKE3_CHUNK_BYTES, (size_t)item->bytes);
}

/* ---- one value ---- */

static enum hkv_err send_pair(struct blobs_provide *p, struct blobs_source *source, const struct bao_item *item,
                              struct buf *out)
{
    uint8_t pair[BAO_PAIR_BYTES];
    TRY(buf_reserve(out, sizeof pair));
    if (item->in_outboard) {
        TRY(read_pair(source, &p->value, item->outboard_offset, pair));
    } else {
        TRY(load_group(p, source, BLOBS_GROUP_VALUE, &p->value, item->chunk / BAO_GROUP_CHUNKS));
        bao_pair_of(group_part(p, item), item->chunk, pair);
    }
    if (!bao_walk_pair(&p->walk, pair)) return mismatch();
    return buf_append(out, pair, sizeof pair);
}

/* Reads straight into `out`, unless pairs inside the group have brought the data already. */
static enum hkv_err send_leaf(struct blobs_provide *p, struct blobs_source *source, const struct bao_item *item,
                              struct buf *out)
{
    size_t len = (size_t)item->bytes;
    if (len > 0) {
        TRY(buf_reserve(out, len));
        if (p->group_owner == BLOBS_GROUP_VALUE && p->group_index == item->chunk / BAO_GROUP_CHUNKS)
            memcpy(out->data + out->len, group_part(p, item).data, len);
        else
            TRY(source->ops->read_at(source, &p->value, item->chunk * BLAKE3_CHUNK_BYTES, out->data + out->len, len));
    }
    if (!bao_walk_leaf(&p->walk, slice_of(len > 0 ? out->data + out->len : NULL, len))) return mismatch();
    out->len += len;
    p->payload_bytes += len;
    return HKV_OK;
}

/* Appends one item of the open value, or closes it. */
static enum hkv_err send_item(struct blobs_provide *p, struct blobs_source *source, struct buf *out)
{
    struct bao_item item;
    if (!bao_walk_next(&p->walk, &item)) {
        close_value(p, source);
        return HKV_OK;
    }
    return item.kind == BAO_PAIR ? send_pair(p, source, &item, out) : send_leaf(p, source, &item, out);
}

/* Opens a value and appends its header. The empty blob is always there, whether stored or not, as at upstream. */
static enum hkv_err open_value(struct blobs_provide *p, struct blobs_source *source, const struct hash *hash,
                               struct bao_ranges ranges, struct buf *out)
{
    uint8_t header[BAO_HEADER_BYTES] = {0};
    p->value_hash = *hash;
    if (hash_equal(hash, &hash_empty)) return buf_append(out, header, sizeof header);
    TRY(buf_reserve(out, sizeof header));
    TRY(lookup(source, hash, &p->value));
    p->value_open = true;
    bao_walk_init(&p->walk, hash, p->value.size_bytes, ranges);
    le64_store(header, p->value.size_bytes);
    return buf_append(out, header, sizeof header);
}

/* ---- children of a sequence ---- */

/* Brings the group of the sequence that holds `child`, verified against the sequence's hash. */
static enum hkv_err load_sequence_group(struct blobs_provide *p, struct blobs_source *source, uint64_t child)
{
    uint64_t group = child * ID_BYTES / BAO_GROUP_BYTES;
    if (p->group_owner == BLOBS_GROUP_SEQUENCE && p->group_index == group) return HKV_OK;
    uint64_t bounds[] = {group * BAO_GROUP_CHUNKS, (group + 1) * BAO_GROUP_CHUNKS};
    struct bao_item item;
    bao_walk_init(&p->walk, &p->request.hashes[0], p->sequence.size_bytes, (struct bao_ranges){bounds, 2});
    while (bao_walk_next(&p->walk, &item) && item.kind == BAO_PAIR) {
        uint8_t pair[BAO_PAIR_BYTES];
        TRY(read_pair(source, &p->sequence, item.outboard_offset, pair));
        if (!bao_walk_pair(&p->walk, pair)) return mismatch();
    }
    TRY(load_group(p, source, BLOBS_GROUP_SEQUENCE, &p->sequence, group));
    if (bao_walk_leaf(&p->walk, slice_of(p->group, p->group_len))) return HKV_OK;
    p->group_owner = BLOBS_GROUP_NONE;
    return mismatch();
}

/* The hash at an index of a Get; `*past_end` when the sequence is shorter. */
static enum hkv_err child_hash(struct blobs_provide *p, struct blobs_source *source, uint64_t index, struct hash *out,
                               bool *past_end)
{
    *past_end = false;
    p->value_hash = p->request.hashes[0];
    if (hash_equal(&p->value_hash, &hash_empty)) {
        *past_end = true;
        return HKV_OK;
    }
    if (!p->sequence_open) {
        TRY(lookup(source, &p->value_hash, &p->sequence));
        p->sequence_open = true;
    }
    if (p->sequence.size_bytes % ID_BYTES != 0)
        return error_set(HKV_E_NOT_FOUND,
                         "a value of %llu bytes is no sequence of hashes, whose length is a multiple of 32",
                         (unsigned long long)p->sequence.size_bytes);
    *past_end = index - 1 >= p->sequence.size_bytes / ID_BYTES;
    if (*past_end) return HKV_OK;
    TRY(load_sequence_group(p, source, index - 1));
    memcpy(out->bytes, p->group + (index - 1) * ID_BYTES % BAO_GROUP_BYTES, ID_BYTES);
    return HKV_OK;
}

/* ---- the response ---- */

static enum hkv_err send_observe_item(struct blobs_provide *p, struct blobs_source *source, struct buf *out)
{
    p->state = BLOBS_PROVIDE_DONE;
    p->value_hash = p->request.hashes[0];
    if (hash_equal(&p->value_hash, &hash_empty)) return blobs_observe_item_encode(0, bao_ranges_all, out);
    struct blobs_value value;
    enum hkv_err err = lookup(source, &p->value_hash, &value);
    if (err == HKV_E_NOT_FOUND) return blobs_observe_item_encode(0, (struct bao_ranges){NULL, 0}, out);
    if (err != HKV_OK) return err;
    err = blobs_observe_item_encode(value.size_bytes, value.present, out);
    source->ops->release(source, &value);
    return err;
}

/* Begins the next index that is asked for; DONE when there is none. */
static enum hkv_err begin_next(struct blobs_provide *p, struct blobs_source *source, struct buf *out)
{
    uint64_t index;
    struct bao_ranges ranges;
    struct hash hash;
    bool past_end = !blobs_request_next(&p->request, p->next_index, &index, &ranges);
    if (!past_end && p->request.kind == BLOBS_GET_MANY) {
        past_end = index >= p->request.hash_count;
        if (!past_end) hash = p->request.hashes[index];
    } else if (!past_end && index == 0) {
        hash = p->request.hashes[0];
    } else if (!past_end) {
        TRY(child_hash(p, source, index, &hash, &past_end));
    }
    if (past_end) {
        p->state = BLOBS_PROVIDE_DONE;
        return HKV_OK;
    }
    TRY(open_value(p, source, &hash, ranges, out));
    p->next_index = index + 1;
    return HKV_OK;
}

static enum hkv_err advance(struct blobs_provide *p, struct blobs_source *source, struct buf *out)
{
    switch (p->request.kind) {
    case BLOBS_PUSH:
        p->state = BLOBS_PROVIDE_REFUSED;
        return HKV_OK;
    case BLOBS_OBSERVE:
        return send_observe_item(p, source, out);
    case BLOBS_GET:
    case BLOBS_GET_MANY:
        break;
    }
    return p->value_open ? send_item(p, source, out) : begin_next(p, source, out);
}

enum hkv_err blobs_provide_step(struct blobs_provide *p, struct blobs_source *source, size_t max_bytes, struct buf *out,
                                enum blobs_provide_state *state)
{
    assert(p->state == BLOBS_PROVIDE_MORE && max_bytes > 0);
    size_t begin = out->len;
    enum hkv_err err = HKV_OK;
    while (err == HKV_OK && p->state == BLOBS_PROVIDE_MORE && out->len - begin < max_bytes)
        err = advance(p, source, out);
    p->sent_bytes += out->len - begin;
    if (err == HKV_E_NOMEM) return err;
    if (err != HKV_OK) {
        p->cause = err;
        p->cause_hash = p->value_hash;
        p->state = p->sent_bytes == 0 ? BLOBS_PROVIDE_NOT_FOUND : BLOBS_PROVIDE_BROKEN;
    }
    *state = p->state;
    return HKV_OK;
}
