#include "blobs/request.h"

#include <assert.h>
#include <stdlib.h>

#include "wire/postcard.h"

void blobs_request_fini(struct blobs_request *r)
{
    if (r == NULL) return;
    free(r->hashes);
    free(r->runs);
    free(r->bounds);
    *r = (struct blobs_request){0};
}

/* ---- reading ---- */

static enum hkv_err unknown_type(uint8_t type)
{
    return error_set(HKV_E_PEER_PROTOCOL, "type %u is none of Get 0, Observe 1, Push 8, GetMany 9", type);
}

enum hkv_err blobs_request_check(struct slice so_far)
{
    if (so_far.len == 0) return HKV_OK;
    switch (so_far.data[0]) {
    case BLOBS_GET:
    case BLOBS_OBSERVE:
    case BLOBS_GET_MANY:
        break;
    case BLOBS_PUSH:
        return error_set(HKV_E_PEER_REFUSED, "blobs request: Push is not accepted here");
    default:
        return unknown_type(so_far.data[0]);
    }
    if (so_far.len - 1 > BLOBS_MESSAGE_MAX)
        return error_set(HKV_E_PEER_PROTOCOL, "blobs request longer than %zu bytes", BLOBS_MESSAGE_MAX);
    return HKV_OK;
}

static enum hkv_err bounds_append(struct blobs_request *r, uint64_t bound)
{
    if (r->bounds_count == BLOBS_BOUNDS_MAX)
        return error_set(HKV_E_LIMIT, "more than %d range boundaries", BLOBS_BOUNDS_MAX);
    if (r->bounds_count == r->bounds_cap) {
        size_t cap = r->bounds_cap == 0 ? 8 : 2 * r->bounds_cap;
        uint64_t *bounds = reallocarray(r->bounds, cap, sizeof *bounds);
        if (bounds == NULL) return error_set(HKV_E_NOMEM, "no memory for %zu range boundaries of a blobs request", cap);
        r->bounds = bounds;
        r->bounds_cap = cap;
    }
    r->bounds[r->bounds_count++] = bound;
    return HKV_OK;
}

/* A RangeSpec: count, then span widths. Its boundaries are appended to `r`. */
static enum hkv_err read_ranges(struct postcard_reader *in, struct blobs_request *r)
{
    size_t count;
    uint64_t bound = 0;
    TRY(postcard_read_length(in, in->in.len, &count)); /* a width is a byte at least */
    for (size_t i = 0; i < count; i++) {
        uint64_t width;
        TRY(postcard_read_u64(in, &width));
        if (i > 0 && width == 0) return error_set(HKV_E_PEER_PROTOCOL, "a range set with a span of no chunks");
        if (__builtin_add_overflow(bound, width, &bound))
            return error_set(HKV_E_PEER_PROTOCOL, "a range set beyond 2^64 chunks");
        TRY(bounds_append(r, bound));
    }
    return HKV_OK;
}

static struct bao_ranges run_ranges(const struct blobs_request *r, const struct blobs_run *run)
{
    return (struct bao_ranges){run->bounds_count > 0 ? r->bounds + run->bounds_start : NULL, run->bounds_count};
}

static enum hkv_err read_run(struct postcard_reader *in, struct blobs_request *r)
{
    uint64_t index = 0, delta;
    struct bao_ranges before = {NULL, 0};
    TRY(postcard_read_u64(in, &delta));
    if (r->run_count > 0) {
        const struct blobs_run *last = &r->runs[r->run_count - 1];
        index = last->first_index;
        if (delta == 0)
            return error_set(HKV_E_PEER_PROTOCOL, "ranges by index: two sets for index %llu",
                             (unsigned long long)index);
    }
    if (__builtin_add_overflow(index, delta, &index))
        return error_set(HKV_E_PEER_PROTOCOL, "ranges by index: an index beyond 2^64");
    struct blobs_run run = {.first_index = index, .bounds_start = r->bounds_count};
    TRY(read_ranges(in, r));
    run.bounds_count = r->bounds_count - run.bounds_start;
    if (r->run_count > 0) before = run_ranges(r, &r->runs[r->run_count - 1]);
    if (bao_ranges_equal(before, run_ranges(r, &run)))
        return error_set(HKV_E_PEER_PROTOCOL, "ranges by index: index %llu repeats the set before it",
                         (unsigned long long)index);
    r->runs[r->run_count++] = run;
    return HKV_OK;
}

/* A ChunkRangesSeq: count, then runs of at least 2 bytes each. */
static enum hkv_err read_runs(struct postcard_reader *in, struct blobs_request *r)
{
    size_t count;
    TRY(postcard_read_length(in, in->in.len / 2, &count));
    if (count > BLOBS_RUNS_MAX)
        return error_set(HKV_E_LIMIT, "%zu sets by index; at most %d are taken", count, BLOBS_RUNS_MAX);
    if (count == 0) return HKV_OK;
    r->runs = calloc(count, sizeof *r->runs);
    if (r->runs == NULL) return error_set(HKV_E_NOMEM, "no memory for %zu sets by index of a blobs request", count);
    for (size_t i = 0; i < count; i++) TRY(read_run(in, r));
    return HKV_OK;
}

static enum hkv_err read_hashes(struct postcard_reader *in, size_t count, struct blobs_request *r)
{
    if (count == 0) return HKV_OK;
    r->hashes = calloc(count, sizeof *r->hashes);
    if (r->hashes == NULL) return error_set(HKV_E_NOMEM, "no memory for %zu hashes of a blobs request", count);
    r->hash_count = count;
    return postcard_read_raw(in, r->hashes, count * sizeof *r->hashes);
}

static enum hkv_err read_get_many(struct postcard_reader *in, struct blobs_request *r)
{
    size_t count;
    TRY(postcard_read_length(in, in->in.len / ID_BYTES, &count));
    TRY(read_hashes(in, count, r));
    return read_runs(in, r);
}

static enum hkv_err read_get(struct postcard_reader *in, struct blobs_request *r)
{
    TRY(read_hashes(in, 1, r));
    return read_runs(in, r);
}

static enum hkv_err read_observe(struct postcard_reader *in, struct blobs_request *r)
{
    TRY(read_hashes(in, 1, r));
    return read_ranges(in, r);
}

/* The message lies inside its length prefix; what follows the prefixed bytes is the pushed data. */
static enum hkv_err read_push(struct postcard_reader *in, struct blobs_request *r)
{
    struct slice message;
    TRY(postcard_read_bytes(in, BLOBS_MESSAGE_MAX, &message));
    struct postcard_reader inner = postcard_reader_of(message);
    return read_get(&inner, r);
}

static enum hkv_err read_request(struct postcard_reader *in, struct blobs_request *r)
{
    uint8_t type;
    TRY(postcard_read_byte(in, &type));
    switch (type) {
    case BLOBS_GET:
        r->kind = BLOBS_GET;
        return read_get(in, r);
    case BLOBS_OBSERVE:
        r->kind = BLOBS_OBSERVE;
        return read_observe(in, r);
    case BLOBS_PUSH:
        r->kind = BLOBS_PUSH;
        return read_push(in, r);
    case BLOBS_GET_MANY:
        r->kind = BLOBS_GET_MANY;
        return read_get_many(in, r);
    default:
        return unknown_type(type);
    }
}

enum hkv_err blobs_request_decode(struct slice in, struct blobs_request *out, size_t *end)
{
    *out = (struct blobs_request){0};
    if (in.len > 1 && in.data[0] != BLOBS_PUSH && in.len - 1 > BLOBS_MESSAGE_MAX)
        return error_set(HKV_E_PEER_PROTOCOL, "blobs request of %zu bytes; at most %zu are read", in.len - 1,
                         BLOBS_MESSAGE_MAX);
    struct postcard_reader reader = postcard_reader_of(in);
    enum hkv_err err = read_request(&reader, out);
    if (err != HKV_OK) {
        blobs_request_fini(out);
        return error_wrap(err, "blobs request");
    }
    if (end != NULL) *end = in.len - reader.in.len;
    return HKV_OK;
}

/* ---- writing ---- */

static enum hkv_err write_ranges(struct bao_ranges ranges, struct buf *out)
{
    uint64_t before = 0;
    TRY(postcard_write_varint(out, ranges.count));
    for (size_t i = 0; i < ranges.count; i++) {
        TRY(postcard_write_varint(out, ranges.bounds[i] - before));
        before = ranges.bounds[i];
    }
    return HKV_OK;
}

static enum hkv_err write_runs(const struct blobs_request *r, struct buf *out)
{
    uint64_t before = 0;
    TRY(postcard_write_varint(out, r->run_count));
    for (size_t i = 0; i < r->run_count; i++) {
        TRY(postcard_write_varint(out, r->runs[i].first_index - before));
        TRY(write_ranges(run_ranges(r, &r->runs[i]), out));
        before = r->runs[i].first_index;
    }
    return HKV_OK;
}

/* The part of a Get that a Push prefixes with its length. */
static enum hkv_err write_get(const struct blobs_request *r, struct buf *out)
{
    TRY(buf_append(out, r->hashes[0].bytes, ID_BYTES));
    return write_runs(r, out);
}

static enum hkv_err write_push(const struct blobs_request *r, struct buf *out)
{
    struct buf message = {0};
    enum hkv_err err = write_get(r, &message);
    if (err == HKV_OK) err = postcard_write_bytes(out, buf_slice(&message));
    buf_fini(&message);
    return err;
}

static enum hkv_err write_get_many(const struct blobs_request *r, struct buf *out)
{
    TRY(postcard_write_varint(out, r->hash_count));
    TRY(buf_append(out, r->hashes, r->hash_count * sizeof *r->hashes));
    return write_runs(r, out);
}

static enum hkv_err write_observe(const struct blobs_request *r, struct buf *out)
{
    TRY(buf_append(out, r->hashes[0].bytes, ID_BYTES));
    return write_ranges((struct bao_ranges){r->bounds, r->bounds_count}, out);
}

enum hkv_err blobs_request_encode(const struct blobs_request *r, struct buf *out)
{
    assert(r->kind == BLOBS_GET_MANY || r->hash_count == 1);
    TRY(buf_append_byte(out, (uint8_t)r->kind));
    switch (r->kind) {
    case BLOBS_GET:
        return write_get(r, out);
    case BLOBS_OBSERVE:
        return write_observe(r, out);
    case BLOBS_PUSH:
        return write_push(r, out);
    case BLOBS_GET_MANY:
        return write_get_many(r, out);
    }
    return error_set(HKV_E_INTERNAL, "blobs request of unknown kind %d", (int)r->kind);
}

/* Index 0 with its set, then nothing for ever: `02 00 <set> 01 00`. */
enum hkv_err blobs_request_encode_get(const struct hash *hash, struct bao_ranges ranges, struct buf *out)
{
    assert(ranges.count > 0 && bao_ranges_are_valid(ranges));
    static const uint8_t head[] = {2, 0}, tail[] = {1, 0};
    TRY(buf_append_byte(out, BLOBS_GET));
    TRY(buf_append(out, hash->bytes, ID_BYTES));
    TRY(buf_append(out, head, sizeof head));
    TRY(write_ranges(ranges, out));
    return buf_append(out, tail, sizeof tail);
}

/* Everything of the indexes 0 to count - 1, then nothing: `02 00 0100 <count> 00`. */
enum hkv_err blobs_request_encode_get_many(const struct hash *hashes, size_t count, struct buf *out)
{
    assert(count > 0);
    static const uint8_t head[] = {2, 0, 1, 0};
    TRY(buf_append_byte(out, BLOBS_GET_MANY));
    TRY(postcard_write_varint(out, count));
    TRY(buf_append(out, hashes, count * sizeof *hashes));
    TRY(buf_append(out, head, sizeof head));
    TRY(postcard_write_varint(out, count));
    return buf_append_byte(out, 0);
}

/* ---- use ---- */

bool blobs_request_next(const struct blobs_request *r, uint64_t from, uint64_t *index, struct bao_ranges *ranges)
{
    size_t low = 0, high = r->run_count; /* runs that begin at or before `from` */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->runs[middle].first_index <= from)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low > 0 ? low - 1 : 0; i < r->run_count; i++) {
        if (r->runs[i].bounds_count == 0) continue;
        *index = r->runs[i].first_index > from ? r->runs[i].first_index : from;
        *ranges = run_ranges(r, &r->runs[i]);
        return true;
    }
    return false;
}

enum hkv_err blobs_observe_item_encode(uint64_t size_bytes, struct bao_ranges present, struct buf *out)
{
    size_t len = postcard_varint_bytes(size_bytes) + postcard_varint_bytes(present.count);
    for (size_t i = 0; i < present.count; i++) len += postcard_varint_bytes(present.bounds[i]);
    if (len > BLOBS_MESSAGE_MAX)
        return error_set(HKV_E_LIMIT, "an observe item of %zu bytes; at most %zu are sent", len, BLOBS_MESSAGE_MAX);
    TRY(postcard_write_varint(out, len));
    TRY(postcard_write_varint(out, size_bytes));
    TRY(postcard_write_varint(out, present.count));
    for (size_t i = 0; i < present.count; i++) TRY(postcard_write_varint(out, present.bounds[i]));
    return HKV_OK;
}
