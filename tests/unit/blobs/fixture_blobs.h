/* For the tests of blobs: a source of values in memory, a whole response in one call, and the encoding of a blob as
 * wire/blobs.md 3 words it, slow and apart from src/. */
#ifndef TESTS_FIXTURE_BLOBS_H
#define TESTS_FIXTURE_BLOBS_H

#include "blobs/fetch.h"
#include "blobs/provide.h"
#include "blobs/request.h"
#include "unit/crypto/fixture_bytes.h"

/* ---- a source in memory ---- */

#define FIXTURE_VALUES_MAX 32

struct fixture_value {
    struct hash hash;
    uint8_t *data;
    size_t len;
    struct buf outboard;
};

struct fixture_source {
    struct blobs_source base;
    struct fixture_value values[FIXTURE_VALUES_MAX];
    size_t count;
    size_t open;             /* looked up and not released */
    enum hkv_err read_error; /* of every read, unless HKV_OK */
    bool outboard_by_reads;
};

static enum hkv_err fixture_lookup(struct blobs_source *base, const struct hash *hash, struct blobs_value *out)
{
    struct fixture_source *s = (struct fixture_source *)base;
    for (size_t i = 0; i < s->count; i++) {
        if (!hash_equal(&s->values[i].hash, hash)) continue;
        out->size_bytes = s->values[i].len;
        if (!s->outboard_by_reads) out->outboard = buf_slice(&s->values[i].outboard);
        out->opaque = &s->values[i];
        s->open++;
        return HKV_OK;
    }
    return HKV_E_NOT_FOUND;
}

static enum hkv_err fixture_read_at(struct blobs_source *base, struct blobs_value *value, uint64_t offset, uint8_t *out,
                                    size_t len)
{
    const struct fixture_source *s = (struct fixture_source *)base;
    const struct fixture_value *v = value->opaque;
    if (s->read_error != HKV_OK) return s->read_error;
    assert_true(offset <= v->len && len <= v->len - offset);
    memcpy(out, v->data + offset, len);
    return HKV_OK;
}

static enum hkv_err fixture_outboard_at(struct blobs_source *base, struct blobs_value *value, uint64_t offset,
                                        uint8_t *out, size_t len)
{
    (void)base;
    const struct fixture_value *v = value->opaque;
    assert_true(offset <= v->outboard.len && len <= v->outboard.len - offset);
    memcpy(out, v->outboard.data + offset, len);
    return HKV_OK;
}

static void fixture_release(struct blobs_source *base, struct blobs_value *value)
{
    struct fixture_source *s = (struct fixture_source *)base;
    assert_non_null(value->opaque);
    assert_true(s->open > 0);
    s->open--;
}

static const struct blobs_source_ops fixture_source_ops = {
    .lookup = fixture_lookup,
    .read_at = fixture_read_at,
    .outboard_at = fixture_outboard_at,
    .release = fixture_release,
};

static inline void fixture_source_init(struct fixture_source *s)
{
    memset(s, 0, sizeof *s);
    s->base.ops = &fixture_source_ops;
}

static inline void fixture_source_fini(struct fixture_source *s)
{
    assert_int_equal(s->open, 0);
    for (size_t i = 0; i < s->count; i++) {
        free(s->values[i].data);
        buf_fini(&s->values[i].outboard);
    }
}

/* Stores a copy and gives its hash. */
static inline struct hash fixture_source_add(struct fixture_source *s, const void *data, size_t len)
{
    struct bao_builder b;
    assert_true(s->count < FIXTURE_VALUES_MAX);
    struct fixture_value *v = &s->values[s->count++];
    *v = (struct fixture_value){.data = malloc(len + 1), .len = len};
    assert_non_null(v->data);
    if (len > 0) memcpy(v->data, data, len);
    bao_builder_init(&b);
    assert_int_equal(bao_builder_update(&b, slice_of(data, len)), HKV_OK);
    assert_int_equal(bao_builder_finish(&b, &v->hash, &v->outboard), HKV_OK);
    bao_builder_fini(&b);
    return v->hash;
}

static inline struct hash fixture_source_add_pattern(struct fixture_source *s, size_t len)
{
    uint8_t *data = pattern_new(len);
    struct hash h = fixture_source_add(s, data, len);
    free(data);
    return h;
}

/* The whole response to an encoded request, in steps of `step_bytes`. */
static inline enum blobs_provide_state fixture_respond(struct fixture_source *s, struct slice request,
                                                       size_t step_bytes, struct buf *out)
{
    struct blobs_request r;
    static struct blobs_provide p;
    enum blobs_provide_state state = BLOBS_PROVIDE_MORE;
    assert_int_equal(blobs_request_decode(request, &r, NULL), HKV_OK);
    blobs_provide_init(&p, &r);
    while (state == BLOBS_PROVIDE_MORE) {
        size_t before = out->len;
        assert_int_equal(blobs_provide_step(&p, &s->base, step_bytes, out, &state), HKV_OK);
        assert_true(out->len - before < step_bytes + BAO_GROUP_BYTES);
    }
    assert_true(p.sent_bytes == out->len);
    blobs_provide_fini(&p, &s->base);
    assert_int_equal(s->open, 0);
    return state;
}

static inline void fixture_respond_one(struct fixture_source *s, const struct hash *hash, struct bao_ranges ranges,
                                       struct buf *out)
{
    struct buf request = {0};
    assert_int_equal(blobs_request_encode_get(hash, ranges, &request), HKV_OK);
    assert_int_equal(fixture_respond(s, buf_slice(&request), 65536, out), BLOBS_PROVIDE_DONE);
    buf_fini(&request);
}

/* ---- the slow encoder ----
 *
 * A chunk below the last counts when the set has it, the last one when the set has anything from there on. A subtree is
 * sent when a chunk of it counts, and is full when all do. */

struct slow_encoder {
    const uint8_t *data;
    size_t size;
    bool *counts; /* by chunk */
    struct buf *out;
};

static inline void slow_emit(struct slow_encoder *e, size_t chunk, size_t bytes)
{
    size_t chunks = bytes == 0 ? 1 : (bytes + 1023) / 1024, counting = 0;
    for (size_t i = 0; i < chunks; i++) counting += e->counts[chunk + i];
    if (counting == 0) return;
    if (bytes <= 1024 || (counting == chunks && bytes <= 16384)) {
        assert_int_equal(buf_append(e->out, e->data + chunk * 1024, bytes), HKV_OK);
        return;
    }
    size_t left = 1024;
    while (2 * left < bytes) left *= 2;
    struct hash cv;
    blake3_subtree(slice_of(e->data + chunk * 1024, left), chunk, false, &cv);
    assert_int_equal(buf_append(e->out, cv.bytes, 32), HKV_OK);
    blake3_subtree(slice_of(e->data + chunk * 1024 + left, bytes - left), chunk + left / 1024, false, &cv);
    assert_int_equal(buf_append(e->out, cv.bytes, 32), HKV_OK);
    slow_emit(e, chunk, left);
    slow_emit(e, chunk + left / 1024, bytes - left);
}

static inline void slow_encode(const uint8_t *data, size_t size, const uint64_t *bounds, size_t bound_count,
                               struct buf *out)
{
    size_t chunks = size == 0 ? 1 : (size + 1023) / 1024;
    struct slow_encoder e = {data, size, calloc(chunks, sizeof(bool)), out};
    assert_non_null(e.counts);
    for (size_t x = 0; x < chunks; x++) {
        size_t passed = 0;
        for (size_t i = 0; i < bound_count; i++) passed += bounds[i] <= x;
        e.counts[x] = passed % 2 == 1;
        if (x + 1 == chunks && passed < bound_count && passed % 2 == 0) e.counts[x] = true;
    }
    uint8_t header[8];
    for (int i = 0; i < 8; i++) header[i] = (uint8_t)((uint64_t)size >> 8 * i);
    assert_int_equal(buf_append(out, header, sizeof header), HKV_OK);
    slow_emit(&e, 0, size);
    free(e.counts);
}

#endif
