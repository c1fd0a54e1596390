#include "blobs/fetch.h"

#include <assert.h>
#include <stdlib.h>

#include "base/text.h"
#include "blobs/request.h"

static enum hkv_err init(struct blobs_fetch *f, const struct blobs_want *wants, size_t count, struct bao_ranges ranges,
                         uint64_t size_cap_bytes)
{
    f->request_bytes = (struct buf){0};
    f->ranges = (struct bao_set){0};
    f->wants = calloc(count, sizeof *f->wants);
    if (f->wants == NULL) return error_set(HKV_E_NOMEM, "no memory for a fetch of %zu values", count);
    memcpy(f->wants, wants, count * sizeof *wants);
    f->want_count = count;
    f->index = 0;
    f->size_cap = size_cap_bytes < BAO_SIZE_MAX ? size_cap_bytes : BAO_SIZE_MAX;
    f->failure = BLOBS_FETCH_FAILURE_NONE;
    f->payload_bytes = 0;
    f->other_bytes = 0;
    f->phase = BLOBS_PHASE_HEADER;
    f->done_reported = false;
    f->walk.depth = 0;
    f->pending_len = 0;
    return bao_set_assign(&f->ranges, ranges);
}

static enum hkv_err write_many(const struct blobs_want *wants, size_t count, struct buf *out)
{
    struct hash *hashes = calloc(count, sizeof *hashes);
    if (hashes == NULL) return error_set(HKV_E_NOMEM, "no memory for a request of %zu values", count);
    for (size_t i = 0; i < count; i++) hashes[i] = wants[i].hash;
    enum hkv_err err = blobs_request_encode_get_many(hashes, count, out);
    free(hashes);
    return err;
}

enum hkv_err blobs_fetch_init_one(struct blobs_fetch *f, const struct blobs_want *want, struct bao_ranges ranges,
                                  uint64_t size_cap_bytes)
{
    if (ranges.count == 0 || !bao_ranges_are_valid(ranges))
        return error_set(HKV_E_INVALID, "a fetch needs chunk ranges in increasing order, and at least one");
    if (ranges.count > BLOBS_BOUNDS_MAX)
        return error_set(HKV_E_LIMIT, "a fetch of %zu range boundaries; ask for at most %d at once", ranges.count,
                         BLOBS_BOUNDS_MAX);
    enum hkv_err err = init(f, want, 1, ranges, size_cap_bytes);
    if (err == HKV_OK) err = blobs_request_encode_get(&want->hash, ranges, &f->request_bytes);
    if (err != HKV_OK) blobs_fetch_fini(f);
    return err;
}

enum hkv_err blobs_fetch_init_many(struct blobs_fetch *f, const struct blobs_want *wants, size_t count,
                                   uint64_t size_cap_bytes)
{
    if (count == 0) return error_set(HKV_E_INVALID, "a fetch of no values");
    if (count > BLOBS_FETCH_MANY_MAX)
        return error_set(HKV_E_LIMIT, "a fetch of %zu values; ask for at most %d at once", count, BLOBS_FETCH_MANY_MAX);
    if (count == 1) return blobs_fetch_init_one(f, wants, bao_ranges_all, size_cap_bytes);
    enum hkv_err err = init(f, wants, count, bao_ranges_all, size_cap_bytes);
    if (err == HKV_OK) err = write_many(wants, count, &f->request_bytes);
    if (err != HKV_OK) blobs_fetch_fini(f);
    return err;
}

void blobs_fetch_fini(struct blobs_fetch *f)
{
    if (f == NULL) return;
    buf_fini(&f->request_bytes);
    free(f->wants);
    f->wants = NULL;
    bao_set_fini(&f->ranges);
}

/* Takes the next `need` bytes off the front of `in`: where they lie when they lie there whole, else by way of
 * `pending`. False while some are missing; then all of `in` has been taken. */
static bool take(struct blobs_fetch *f, size_t need, struct slice *in, struct slice *out)
{
    if (f->pending_len == 0 && in->len >= need) {
        *out = slice_of(in->data, need);
        *in = slice_part(*in, need, SIZE_MAX);
        return true;
    }
    struct slice part = slice_part(*in, 0, need - f->pending_len);
    if (part.len > 0) memcpy(f->pending + f->pending_len, part.data, part.len);
    f->pending_len += part.len;
    *in = slice_part(*in, part.len, SIZE_MAX);
    if (f->pending_len < need) return false;
    *out = slice_of(f->pending, need);
    f->pending_len = 0;
    return true;
}

static enum hkv_err fail(struct blobs_fetch *f, enum blobs_fetch_failure failure)
{
    f->failure = failure;
    f->phase = BLOBS_PHASE_FAILED;
    const struct blobs_want *want = &f->wants[f->index < f->want_count ? f->index : f->want_count - 1];
    char hash[ID_TEXT_MAX];
    unsigned long long size = f->size_bytes, wanted = want->size_bytes, cap = f->size_cap;
    id_format(want->hash.bytes, hash);
    switch (failure) {
    case BLOBS_FETCH_FAILURE_SIZE:
        return error_set(HKV_E_PEER_PROTOCOL, "value %s: the provider gives it %llu bytes, its entry %llu", hash, size,
                         wanted);
    case BLOBS_FETCH_FAILURE_TOO_LARGE:
        return error_set(HKV_E_PEER_PROTOCOL, "value %s: the provider gives it %llu bytes, over the limit of %llu",
                         hash, size, cap);
    case BLOBS_FETCH_FAILURE_MISMATCH:
        return error_set(HKV_E_PEER_PROTOCOL, "value %s: the provider sent bytes that do not match the hash", hash);
    case BLOBS_FETCH_FAILURE_EXTRA:
        return error_set(HKV_E_PEER_PROTOCOL, "the provider sent bytes after the end of its response");
    case BLOBS_FETCH_FAILURE_NONE:
        break;
    }
    return error_set(HKV_E_INTERNAL, "a fetch failed without a reason");
}

static enum hkv_err take_header(struct blobs_fetch *f, struct slice *in, struct blobs_fetch_event *event)
{
    struct slice header;
    const struct blobs_want *want = &f->wants[f->index];
    if (!take(f, BAO_HEADER_BYTES, in, &header)) return HKV_OK;
    f->other_bytes += BAO_HEADER_BYTES;
    f->size_bytes = le64_load(header.data);
    if (want->size_bytes != BLOBS_SIZE_UNKNOWN && f->size_bytes != want->size_bytes)
        return fail(f, BLOBS_FETCH_FAILURE_SIZE);
    if (f->size_bytes > f->size_cap) return fail(f, BLOBS_FETCH_FAILURE_TOO_LARGE);
    bao_walk_init(&f->walk, &want->hash, f->size_bytes, bao_set_ranges(&f->ranges));
    f->phase = BLOBS_PHASE_BODY;
    f->size_proven = false;
    *event = (struct blobs_fetch_event){.kind = BLOBS_FETCH_BLOB, .index = f->index, .size_bytes = f->size_bytes};
    return HKV_OK;
}

static void finish_blob(struct blobs_fetch *f, struct blobs_fetch_event *event)
{
    *event = (struct blobs_fetch_event){
        .kind = BLOBS_FETCH_BLOB_DONE, .index = f->index, .size_bytes = f->size_bytes, .size_proven = f->size_proven};
    f->index++;
    f->phase = f->index < f->want_count ? BLOBS_PHASE_HEADER : BLOBS_PHASE_END;
}

static enum hkv_err take_pair(struct blobs_fetch *f, const struct bao_item *item, struct slice *in,
                              struct blobs_fetch_event *event)
{
    struct slice pair;
    if (!take(f, BAO_PAIR_BYTES, in, &pair)) return HKV_OK;
    if (!bao_walk_pair(&f->walk, pair.data)) return fail(f, BLOBS_FETCH_FAILURE_MISMATCH);
    f->other_bytes += BAO_PAIR_BYTES;
    if (item->in_outboard)
        *event = (struct blobs_fetch_event){
            .kind = BLOBS_FETCH_PAIR, .index = f->index, .offset = item->outboard_offset, .data = pair};
    return HKV_OK;
}

static enum hkv_err take_leaf(struct blobs_fetch *f, const struct bao_item *item, struct slice *in,
                              struct blobs_fetch_event *event)
{
    struct slice data;
    if (!take(f, (size_t)item->bytes, in, &data)) return HKV_OK;
    if (!bao_walk_leaf(&f->walk, data)) return fail(f, BLOBS_FETCH_FAILURE_MISMATCH);
    uint64_t offset = item->chunk * BLAKE3_CHUNK_BYTES;
    f->payload_bytes += data.len;
    if (offset + data.len == f->size_bytes) f->size_proven = true;
    if (data.len > 0)
        *event =
            (struct blobs_fetch_event){.kind = BLOBS_FETCH_LEAF, .index = f->index, .offset = offset, .data = data};
    return HKV_OK;
}

static enum hkv_err take_item(struct blobs_fetch *f, struct slice *in, struct blobs_fetch_event *event)
{
    struct bao_item item;
    if (!bao_walk_next(&f->walk, &item)) {
        finish_blob(f, event);
        return HKV_OK;
    }
    return item.kind == BAO_PAIR ? take_pair(f, &item, in, event) : take_leaf(f, &item, in, event);
}

static enum hkv_err take_end(struct blobs_fetch *f, struct slice *in, struct blobs_fetch_event *event)
{
    if (!f->done_reported) {
        f->done_reported = true;
        event->kind = BLOBS_FETCH_DONE;
        return HKV_OK;
    }
    return in->len > 0 ? fail(f, BLOBS_FETCH_FAILURE_EXTRA) : HKV_OK;
}

/* Items without an event of their own (pairs inside groups, the empty leaf) are passed over in the loop. It ends
 * because each turn takes bytes, gives an event, or moves the walk on. */
enum hkv_err blobs_fetch_feed(struct blobs_fetch *f, struct slice in, size_t *consumed, struct blobs_fetch_event *event)
{
    struct slice left = in;
    enum hkv_err err = HKV_OK;
    *event = (struct blobs_fetch_event){.kind = BLOBS_FETCH_NEED_MORE};
    bool moved = true;
    while (err == HKV_OK && event->kind == BLOBS_FETCH_NEED_MORE && moved) {
        size_t before = left.len;
        unsigned depth = f->walk.depth;
        enum blobs_fetch_phase phase = f->phase;
        switch (f->phase) {
        case BLOBS_PHASE_HEADER:
            err = take_header(f, &left, event);
            break;
        case BLOBS_PHASE_BODY:
            err = take_item(f, &left, event);
            break;
        case BLOBS_PHASE_END:
            err = take_end(f, &left, event);
            break;
        case BLOBS_PHASE_FAILED:
            err = fail(f, f->failure);
            break;
        }
        moved = left.len != before || f->walk.depth != depth || f->phase != phase;
    }
    *consumed = in.len - left.len;
    return err;
}

enum blobs_fetch_end blobs_fetch_end(const struct blobs_fetch *f)
{
    if (f->index == f->want_count) return BLOBS_FETCH_COMPLETE;
    return f->phase == BLOBS_PHASE_HEADER && f->pending_len == 0 ? BLOBS_FETCH_NOT_FOUND : BLOBS_FETCH_CUT;
}
