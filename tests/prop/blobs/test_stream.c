/* Random ranges of random sizes, random pieces, random damage: the encoder against the slow one, the decoder against
 * truth. */
#include "unit/blobs/fixture_blobs.h"

#define SIZE_MAX_BYTES ((size_t)200 * 1024)

static size_t random_size(struct fixture_random *r)
{
    static const size_t units[] = {1, 1024, 16384, 32768};
    size_t unit = units[random_below(r, 4)], size = unit * (size_t)random_below(r, SIZE_MAX_BYTES / unit);
    size += (size_t)random_below(r, 3);
    if (size > 0) size--;
    return unit == 1 ? size % 5000 : size;
}

/* Up to 8 boundaries, most inside the blob, some far behind it. */
static size_t random_bounds(struct fixture_random *r, size_t size, uint64_t *bounds)
{
    size_t chunks = size / 1024 + 1, count = 1 + (size_t)random_below(r, 8), n = 0;
    uint64_t at = random_below(r, 2) ? 0 : random_below(r, chunks + 4);
    while (n < count) {
        bounds[n++] = at;
        uint64_t step = 1 + random_below(r, random_below(r, 2) ? 3 : chunks / 2 + 2);
        if (random_below(r, 20) == 0) step = UINT64_MAX - at;
        if (step == 0 || step > UINT64_MAX - at) break;
        at += step;
    }
    return n;
}

/* Receives `stream` in random pieces into `got`. Everything handed out must equal `data`. */
static enum hkv_err receive(struct fixture_random *r, struct blobs_fetch *f, const uint8_t *data, size_t size,
                            struct slice stream, struct bao_set *got, bool *done)
{
    *done = false;
    size_t piece_max = random_below(r, 2) ? 100 : 60000;
    while (stream.len > 0) {
        struct slice in = slice_part(stream, 0, 1 + (size_t)random_below(r, piece_max));
        stream = slice_part(stream, in.len, SIZE_MAX);
        struct blobs_fetch_event e;
        do {
            size_t consumed;
            enum hkv_err err = blobs_fetch_feed(f, in, &consumed, &e);
            if (err != HKV_OK) return err;
            assert_true(consumed <= in.len);
            in = slice_part(in, consumed, SIZE_MAX);
            if (e.kind == BLOBS_FETCH_BLOB_DONE) *done = true;
            if (e.kind == BLOBS_FETCH_BLOB_DONE && e.size_proven) assert_true(e.size_bytes == size);
            if (e.kind != BLOBS_FETCH_LEAF) continue;
            assert_true(e.offset % 1024 == 0 && e.data.len > 0 && e.offset + e.data.len <= size);
            assert_memory_equal(e.data.data, data + e.offset, e.data.len);
            assert_int_equal(bao_set_add(got, e.offset / 1024, bao_chunks(e.offset + e.data.len)), HKV_OK);
        } while (e.kind != BLOBS_FETCH_NEED_MORE);
        assert_int_equal(in.len, 0);
    }
    return HKV_OK;
}

struct world {
    struct fixture_source source;
    struct blobs_fetch fetch;
    struct hash hash;
    size_t size;
    uint8_t *data;
    uint64_t bounds[8];
    struct bao_ranges ranges;
    struct buf stream;
};

static void world_init(struct world *w, struct fixture_random *r)
{
    fixture_source_init(&w->source);
    w->size = random_size(r);
    w->data = malloc(w->size + 1);
    assert_non_null(w->data);
    random_bytes(r, w->data, w->size);
    w->hash = fixture_source_add(&w->source, w->data, w->size);
    w->ranges = (struct bao_ranges){w->bounds, random_bounds(r, w->size, w->bounds)};
    w->stream = (struct buf){0};
    struct buf request = {0};
    assert_int_equal(blobs_request_encode_get(&w->hash, w->ranges, &request), HKV_OK);
    size_t step = random_below(r, 2) ? 1 + (size_t)random_below(r, 1000) : 100000;
    assert_int_equal(fixture_respond(&w->source, buf_slice(&request), step, &w->stream), BLOBS_PROVIDE_DONE);
    buf_fini(&request);
    struct blobs_want want = {w->hash, random_below(r, 2) ? w->size : BLOBS_SIZE_UNKNOWN};
    assert_int_equal(blobs_fetch_init_one(&w->fetch, &want, w->ranges, UINT64_MAX), HKV_OK);
}

static void world_fini(struct world *w)
{
    blobs_fetch_fini(&w->fetch);
    fixture_source_fini(&w->source);
    free(w->data);
    buf_fini(&w->stream);
}

static void describe_and_fail(const struct world *w, int round, const char *what)
{
    for (size_t i = 0; i < w->ranges.count; i++) print_message("boundary %llu\n", (unsigned long long)w->bounds[i]);
    fail_msg("round %d, %zu bytes: %s", round, w->size, what);
}

static void encoding_agrees_with_the_slow_one_and_decodes_to_the_chunks_asked_for(void **state)
{
    (void)state;
    struct fixture_random r = random_seeded();
    static struct world w;
    for (int round = 0; round < 400; round++) {
        struct buf slow = {0};
        struct bao_set got = {0};
        bool done;
        world_init(&w, &r);
        slow_encode(w.data, w.size, w.bounds, w.ranges.count, &slow);
        if (!slice_equal(buf_slice(&w.stream), buf_slice(&slow))) describe_and_fail(&w, round, "not the slow encoding");
        assert_int_equal(receive(&r, &w.fetch, w.data, w.size, buf_slice(&w.stream), &got, &done), HKV_OK);
        if (!done || blobs_fetch_end(&w.fetch) != BLOBS_FETCH_COMPLETE) describe_and_fail(&w, round, "not complete");
        uint64_t chunks = bao_chunks(w.size);
        for (uint64_t x = 0; x < chunks; x++) {
            bool asked = bao_ranges_contain(w.ranges, x);
            if (x + 1 == chunks && w.bounds[w.ranges.count - 1] > x) asked |= true;
            if (x + 1 < chunks || asked)
                if (bao_ranges_contain(bao_set_ranges(&got), x) != asked) describe_and_fail(&w, round, "other chunks");
        }
        bao_set_fini(&got);
        buf_fini(&slow);
        world_fini(&w);
    }
}

static void one_wrong_byte_is_always_noticed(void **state)
{
    (void)state;
    struct fixture_random r = random_seeded();
    static struct world w;
    for (int round = 0; round < 600; round++) {
        struct bao_set got = {0};
        bool done;
        world_init(&w, &r);
        size_t at = (size_t)random_below(&r, round % 3 ? w.stream.len : w.stream.len < 300 ? w.stream.len : 300);
        w.stream.data[at] ^= (uint8_t)(1 + random_below(&r, 255));
        enum hkv_err err = receive(&r, &w.fetch, w.data, w.size, buf_slice(&w.stream), &got, &done);
        bool size_lie = at < 8; /* it may show only as bytes that never come, or leave the size unproven */
        if (err == HKV_OK && !size_lie) describe_and_fail(&w, round, "a wrong byte was taken");
        if (err == HKV_OK && done && w.fetch.size_proven) describe_and_fail(&w, round, "a wrong size was proven");
        if (err != HKV_OK) assert_int_equal(err, HKV_E_PEER_PROTOCOL);
        bao_set_fini(&got);
        world_fini(&w);
    }
}

static void a_stream_cut_anywhere_is_never_complete(void **state)
{
    (void)state;
    struct fixture_random r = random_seeded();
    static struct world w;
    for (int round = 0; round < 300; round++) {
        struct bao_set got = {0};
        bool done;
        world_init(&w, &r);
        size_t len = (size_t)random_below(&r, w.stream.len);
        assert_int_equal(receive(&r, &w.fetch, w.data, w.size, slice_of(w.stream.data, len), &got, &done), HKV_OK);
        if (done || blobs_fetch_end(&w.fetch) != (len == 0 ? BLOBS_FETCH_NOT_FOUND : BLOBS_FETCH_CUT))
            describe_and_fail(&w, round, "a cut stream counts as complete");
        bao_set_fini(&got);
        world_fini(&w);
    }
}

/* Cut, keep what came, ask for what is missing, until all is there. */
static void cut_and_resumed_fetches_bring_the_whole_value(void **state)
{
    (void)state;
    struct fixture_random r = random_seeded();
    static struct world w;
    for (int round = 0; round < 60; round++) {
        struct bao_set got = {0}, missing = {0};
        bool done;
        world_init(&w, &r);
        for (int tries = 0;; tries++) {
            struct buf stream = {0};
            assert_int_equal(bao_set_missing(bao_set_ranges(&got), w.size, &missing), HKV_OK);
            if (missing.count == 0 || (w.size == 0 && tries > 0)) break;
            blobs_fetch_fini(&w.fetch);
            struct blobs_want want = {w.hash, w.size};
            assert_int_equal(blobs_fetch_init_one(&w.fetch, &want, bao_set_ranges(&missing), w.size), HKV_OK);
            fixture_respond_one(&w.source, &w.hash, bao_set_ranges(&missing), &stream);
            if (tries < 4) stream.len = (size_t)random_below(&r, stream.len + 1);
            assert_true(tries <= 4);
            assert_int_equal(receive(&r, &w.fetch, w.data, w.size, buf_slice(&stream), &got, &done), HKV_OK);
            buf_fini(&stream);
        }
        bao_set_fini(&got);
        bao_set_fini(&missing);
        world_fini(&w);
    }
}

/* A set of chunks against an array of flags. */
static void sets_of_chunks_agree_with_flags(void **state)
{
    (void)state;
    struct fixture_random r = random_seeded();
    for (int round = 0; round < 300; round++) {
        bool flags[60] = {false};
        struct bao_set set = {0}, missing = {0};
        size_t adds = 1 + (size_t)random_below(&r, 12), chunks = 1 + (size_t)random_below(&r, 60);
        for (size_t i = 0; i < adds; i++) {
            uint64_t start = random_below(&r, 60), end = start + random_below(&r, 12);
            if (random_below(&r, 30) == 0) end = UINT64_MAX;
            assert_int_equal(bao_set_add(&set, start, end), HKV_OK);
            for (uint64_t x = start; x < end && x < 60; x++) flags[x] = true;
            assert_true(bao_ranges_are_valid(bao_set_ranges(&set)));
        }
        assert_int_equal(bao_set_missing(bao_set_ranges(&set), chunks * 1024, &missing), HKV_OK);
        bool any = false;
        for (uint64_t x = 0; x < 60; x++) {
            assert_int_equal(bao_ranges_contain(bao_set_ranges(&set), x), flags[x]);
            if (x < chunks) assert_int_equal(bao_ranges_contain(bao_set_ranges(&missing), x), !flags[x]);
            any |= x < chunks && !flags[x];
        }
        assert_int_equal(missing.count > 0, any);
        bao_set_fini(&set);
        bao_set_fini(&missing);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding_agrees_with_the_slow_one_and_decodes_to_the_chunks_asked_for),
        cmocka_unit_test(one_wrong_byte_is_always_noticed),
        cmocka_unit_test(a_stream_cut_anywhere_is_never_complete),
        cmocka_unit_test(cut_and_resumed_fetches_bring_the_whole_value),
        cmocka_unit_test(sets_of_chunks_agree_with_flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
