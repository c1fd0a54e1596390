#include "unit/blobs/fixture_blobs.h"

#define NO_CAP UINT64_MAX

static struct fixture_source source;
static struct hash hashes[5];
static const size_t sizes[5] = {0, 5, 1025, 16385, 100000};
static struct blobs_fetch f;

static int setup(void **state)
{
    (void)state;
    fixture_source_init(&source);
    for (size_t i = 0; i < 5; i++) hashes[i] = fixture_source_add_pattern(&source, sizes[i]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_source_fini(&source);
    return 0;
}

static void want_all(struct blobs_want wants[5])
{
    for (size_t i = 0; i < 5; i++) wants[i] = (struct blobs_want){hashes[i], sizes[i]};
}

/* Feeds `stream` in pieces and writes what happens as text: B0(0) = blob 0 of 0 bytes, P64 = pair at 64, L0+5 = leaf of
 * 5 bytes at 0, D0 = done, D0! = done and its size proven, END. Stops at an error and returns it. */
static enum hkv_err trace(struct slice stream, size_t piece, char *out, size_t max)
{
    size_t n = 0;
    out[0] = '\0';
    for (size_t at = 0; at < stream.len; at += piece) {
        struct slice in = slice_part(stream, at, piece);
        struct blobs_fetch_event e;
        do {
            size_t consumed;
            enum hkv_err err = blobs_fetch_feed(&f, in, &consumed, &e);
            if (err != HKV_OK) return err;
            in = slice_part(in, consumed, SIZE_MAX);
            assert_true(n + 64 < max);
            unsigned long long offset = e.offset, size = e.size_bytes;
            switch (e.kind) {
            case BLOBS_FETCH_NEED_MORE:
                break;
            case BLOBS_FETCH_BLOB:
                n += (size_t)snprintf(out + n, max - n, "B%zu(%llu) ", e.index, size);
                break;
            case BLOBS_FETCH_PAIR:
                n += (size_t)snprintf(out + n, max - n, "P%llu ", offset);
                break;
            case BLOBS_FETCH_LEAF:
                n += (size_t)snprintf(out + n, max - n, "L%llu+%zu ", offset, e.data.len);
                break;
            case BLOBS_FETCH_BLOB_DONE:
                n += (size_t)snprintf(out + n, max - n, "D%zu%s ", e.index, e.size_proven ? "!" : "");
                break;
            case BLOBS_FETCH_DONE:
                n += (size_t)snprintf(out + n, max - n, "END");
                break;
            }
        } while (e.kind != BLOBS_FETCH_NEED_MORE);
        assert_int_equal(in.len, 0);
    }
    return HKV_OK;
}

static void respond(struct buf *out)
{
    assert_int_equal(fixture_respond(&source, buf_slice(&f.request_bytes), 65536, out), BLOBS_PROVIDE_DONE);
}

static void many_values_come_in_the_order_they_were_asked_for(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 7, 64, 1000, 1000000};
    struct blobs_want wants[5];
    struct buf stream = {0};
    char text[1024];
    want_all(wants);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(blobs_fetch_init_many(&f, wants, 5, NO_CAP), HKV_OK);
        buf_clear(&stream);
        respond(&stream);
        assert_int_equal(trace(buf_slice(&stream), pieces[i], text, sizeof text), HKV_OK);
        assert_string_equal(text,
                            "B0(0) D0! B1(5) L0+5 D1! B2(1025) L0+1025 D2! B3(16385) P0 L0+16384 L16384+1 D3! "
                            "B4(100000) P0 P64 P128 L0+16384 L16384+16384 P192 L32768+16384 L49152+16384 P256 P320 "
                            "L65536+16384 L81920+16384 L98304+1696 D4! END");
        assert_int_equal(blobs_fetch_end(&f), BLOBS_FETCH_COMPLETE);
        blobs_fetch_fini(&f);
    }
    buf_fini(&stream);
}

static void one_value_is_asked_for_with_a_plain_get(void **state)
{
    (void)state;
    struct blobs_want want = {hashes[1], 5};
    assert_int_equal(blobs_fetch_init_many(&f, &want, 1, NO_CAP), HKV_OK);
    assert_int_equal(f.request_bytes.data[0], BLOBS_GET);
    assert_int_equal(f.request_bytes.len, 39);
    blobs_fetch_fini(&f);
}

static void missing_chunks_are_fetched_with_their_pairs(void **state)
{
    (void)state;
    struct blobs_want want = {hashes[4], BLOBS_SIZE_UNKNOWN};
    struct bao_set present = {0}, missing = {0};
    struct buf stream = {0};
    char text[1024];
    assert_int_equal(bao_set_add(&present, 0, 16), HKV_OK);
    assert_int_equal(bao_set_add(&present, 32, 64), HKV_OK);
    assert_int_equal(bao_set_add(&present, 80, 98), HKV_OK);
    assert_int_equal(bao_set_missing(bao_set_ranges(&present), 100000, &missing), HKV_OK);
    assert_int_equal(blobs_fetch_init_one(&f, &want, bao_set_ranges(&missing), NO_CAP), HKV_OK);
    respond(&stream);
    assert_int_equal(trace(buf_slice(&stream), 1000000, text, sizeof text), HKV_OK);
    assert_string_equal(text, "B0(100000) P0 P64 P128 L16384+16384 P256 P320 L65536+16384 D0 END");
    blobs_fetch_fini(&f);
    bao_set_fini(&present);
    bao_set_fini(&missing);
    buf_fini(&stream);
}

/* Pairs inside a group prove its chunks but belong to no outboard. */
static void part_of_a_group_gives_no_pair_for_the_outboard(void **state)
{
    (void)state;
    struct blobs_want want = {hashes[3], 16385};
    struct buf stream = {0};
    char text[1024];
    assert_int_equal(blobs_fetch_init_one(&f, &want, (struct bao_ranges){(uint64_t[]){15}, 1}, NO_CAP), HKV_OK);
    respond(&stream);
    assert_int_equal(stream.len, 1353);
    assert_int_equal(trace(buf_slice(&stream), 100, text, sizeof text), HKV_OK);
    assert_string_equal(text, "B0(16385) P0 L15360+1024 L16384+1 D0! END");
    blobs_fetch_fini(&f);
    buf_fini(&stream);
}

/* One flipped bit in any byte: an error, and all that was handed out before is right. */
static void a_flipped_bit_anywhere_is_noticed(void **state)
{
    (void)state;
    struct blobs_want want = {hashes[3], BLOBS_SIZE_UNKNOWN};
    uint8_t *data = pattern_new(16385);
    struct buf stream = {0};
    assert_int_equal(blobs_fetch_init_one(&f, &want, bao_ranges_all, NO_CAP), HKV_OK);
    respond(&stream);
    blobs_fetch_fini(&f);
    for (size_t i = 0; i < stream.len; i += i < 200 || i > 16440 ? 1 : 97) {
        for (size_t piece = 50; piece <= stream.len; piece += stream.len - 50) {
            struct blobs_fetch_event e = {.kind = BLOBS_FETCH_NEED_MORE};
            enum hkv_err err = HKV_OK;
            bool done = false;
            stream.data[i] ^= (uint8_t)(1 << i % 8);
            assert_int_equal(blobs_fetch_init_one(&f, &want, bao_ranges_all, NO_CAP), HKV_OK);
            for (size_t at = 0; at < stream.len && err == HKV_OK; at += piece) {
                struct slice in = slice_part(buf_slice(&stream), at, piece);
                do {
                    size_t consumed;
                    err = blobs_fetch_feed(&f, in, &consumed, &e);
                    in = slice_part(in, consumed, SIZE_MAX);
                    if (err == HKV_OK && e.kind == BLOBS_FETCH_LEAF)
                        assert_memory_equal(e.data.data, data + e.offset, e.data.len);
                    done |= err == HKV_OK && e.kind == BLOBS_FETCH_BLOB_DONE;
                } while (err == HKV_OK && e.kind != BLOBS_FETCH_NEED_MORE);
            }
            assert_false(done);
            /* A size that only grew may still wait for bytes that never come. */
            if (err == HKV_OK) assert_true(i < 8 && blobs_fetch_end(&f) == BLOBS_FETCH_CUT);
            if (err != HKV_OK) {
                size_t consumed;
                assert_int_equal(err, HKV_E_PEER_PROTOCOL);
                assert_int_equal(blobs_fetch_feed(&f, buf_slice(&stream), &consumed, &e), HKV_E_PEER_PROTOCOL);
                assert_int_equal(consumed, 0);
            }
            blobs_fetch_fini(&f);
            stream.data[i] ^= (uint8_t)(1 << i % 8);
        }
    }
    free(data);
    buf_fini(&stream);
}

static void a_stream_that_ends_early_is_told_from_not_found(void **state)
{
    (void)state;
    struct blobs_want wants[5];
    struct buf stream = {0};
    char text[1024];
    want_all(wants);
    static const struct {
        size_t len;
        enum blobs_fetch_end end;
        size_t index;
    } rows[] = {
        {0, BLOBS_FETCH_NOT_FOUND, 0},  {7, BLOBS_FETCH_CUT, 0},          {8, BLOBS_FETCH_NOT_FOUND, 1},
        {9, BLOBS_FETCH_CUT, 1},        {16, BLOBS_FETCH_CUT, 1},         {20, BLOBS_FETCH_CUT, 1},
        {21, BLOBS_FETCH_NOT_FOUND, 2}, {1054, BLOBS_FETCH_NOT_FOUND, 3}, {1062 + 64, BLOBS_FETCH_CUT, 3},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(blobs_fetch_init_many(&f, wants, 5, NO_CAP), HKV_OK);
        buf_clear(&stream);
        respond(&stream);
        assert_int_equal(trace(slice_of(stream.data, rows[i].len), 5, text, sizeof text), HKV_OK);
        assert_int_equal(blobs_fetch_end(&f), rows[i].end);
        assert_int_equal(f.index, rows[i].index);
        blobs_fetch_fini(&f);
    }
    buf_fini(&stream);
}

static void a_size_other_than_expected_is_refused_at_once(void **state)
{
    (void)state;
    struct blobs_want want = {hashes[4], 99999};
    struct buf stream = {0};
    char text[256];
    assert_int_equal(blobs_fetch_init_one(&f, &want, bao_ranges_all, NO_CAP), HKV_OK);
    respond(&stream);
    assert_int_equal(trace(slice_of(stream.data, 8), 8, text, sizeof text), HKV_E_PEER_PROTOCOL);
    assert_int_equal(f.failure, BLOBS_FETCH_FAILURE_SIZE);
    assert_non_null(strstr(error_last(), "99999"));
    blobs_fetch_fini(&f);
    buf_fini(&stream);
}

static void a_size_over_the_cap_is_refused_at_once(void **state)
{
    (void)state;
    static const struct {
        uint64_t size, cap;
        bool refused;
    } rows[] = {{100000, 100000, false},
                {100000, 99999, true},
                {UINT64_MAX, NO_CAP, true},
                {BAO_SIZE_MAX + 1, NO_CAP, true},
                {BAO_SIZE_MAX, NO_CAP, false}};
    struct blobs_want want = {hashes[4], BLOBS_SIZE_UNKNOWN};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t header[8];
        char text[256];
        le64_store(header, rows[i].size);
        assert_int_equal(blobs_fetch_init_one(&f, &want, bao_ranges_all, rows[i].cap), HKV_OK);
        assert_int_equal(trace(slice_of(header, 8), 8, text, sizeof text),
                         rows[i].refused ? HKV_E_PEER_PROTOCOL : HKV_OK);
        if (rows[i].refused) assert_int_equal(f.failure, BLOBS_FETCH_FAILURE_TOO_LARGE);
        blobs_fetch_fini(&f);
    }
}

static void nothing_is_taken_for_the_empty_blob_but_the_empty_blob(void **state)
{
    (void)state;
    struct blobs_want want = {hashes[1], BLOBS_SIZE_UNKNOWN};
    uint8_t header[8] = {0};
    char text[256];
    assert_int_equal(blobs_fetch_init_one(&f, &want, bao_ranges_all, NO_CAP), HKV_OK);
    assert_int_equal(trace(slice_of(header, 8), 8, text, sizeof text), HKV_E_PEER_PROTOCOL);
    assert_int_equal(f.failure, BLOBS_FETCH_FAILURE_MISMATCH);
    blobs_fetch_fini(&f);
}

static void bytes_after_the_end_are_an_error_that_spares_the_values(void **state)
{
    (void)state;
    struct blobs_want want = {hashes[1], 5};
    struct buf stream = {0};
    char text[256];
    assert_int_equal(blobs_fetch_init_one(&f, &want, bao_ranges_all, NO_CAP), HKV_OK);
    respond(&stream);
    assert_int_equal(buf_append_byte(&stream, 0), HKV_OK);
    assert_int_equal(trace(buf_slice(&stream), 100, text, sizeof text), HKV_E_PEER_PROTOCOL);
    assert_string_equal(text, "B0(5) L0+5 D0! END");
    assert_int_equal(f.failure, BLOBS_FETCH_FAILURE_EXTRA);
    assert_int_equal(blobs_fetch_end(&f), BLOBS_FETCH_COMPLETE);
    blobs_fetch_fini(&f);
    buf_fini(&stream);
}

static void a_leaf_that_lies_whole_in_the_input_is_not_copied(void **state)
{
    (void)state;
    struct blobs_want want = {hashes[3], 16385};
    struct buf stream = {0};
    struct blobs_fetch_event e;
    size_t consumed;
    assert_int_equal(blobs_fetch_init_one(&f, &want, bao_ranges_all, NO_CAP), HKV_OK);
    respond(&stream);
    struct slice in = buf_slice(&stream);
    do {
        assert_int_equal(blobs_fetch_feed(&f, in, &consumed, &e), HKV_OK);
        if (e.kind == BLOBS_FETCH_LEAF) assert_ptr_equal(e.data.data, stream.data + 8 + 64 + e.offset);
        in = slice_part(in, consumed, SIZE_MAX);
    } while (e.kind != BLOBS_FETCH_NEED_MORE);
    blobs_fetch_fini(&f);
    buf_fini(&stream);
}

static void a_fetch_has_limits(void **state)
{
    (void)state;
    struct blobs_want *wants = calloc(BLOBS_FETCH_MANY_MAX + 1, sizeof *wants);
    uint64_t *bounds = calloc(BLOBS_BOUNDS_MAX + 1, sizeof *bounds);
    assert_true(wants != NULL && bounds != NULL);
    for (size_t i = 0; i <= BLOBS_BOUNDS_MAX; i++) bounds[i] = i;
    assert_int_equal(blobs_fetch_init_many(&f, wants, 0, NO_CAP), HKV_E_INVALID);
    assert_int_equal(blobs_fetch_init_many(&f, wants, BLOBS_FETCH_MANY_MAX + 1, NO_CAP), HKV_E_LIMIT);
    assert_int_equal(blobs_fetch_init_many(&f, wants, BLOBS_FETCH_MANY_MAX, NO_CAP), HKV_OK);
    assert_true(f.request_bytes.len <= 1 + BLOBS_MESSAGE_MAX);
    blobs_fetch_fini(&f);
    assert_int_equal(blobs_fetch_init_one(&f, wants, (struct bao_ranges){NULL, 0}, NO_CAP), HKV_E_INVALID);
    assert_int_equal(blobs_fetch_init_one(&f, wants, (struct bao_ranges){(uint64_t[]){3, 3}, 2}, NO_CAP),
                     HKV_E_INVALID);
    assert_int_equal(blobs_fetch_init_one(&f, wants, (struct bao_ranges){bounds, BLOBS_BOUNDS_MAX + 1}, NO_CAP),
                     HKV_E_LIMIT);
    free(wants);
    free(bounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_values_come_in_the_order_they_were_asked_for),
        cmocka_unit_test(one_value_is_asked_for_with_a_plain_get),
        cmocka_unit_test(missing_chunks_are_fetched_with_their_pairs),
        cmocka_unit_test(part_of_a_group_gives_no_pair_for_the_outboard),
        cmocka_unit_test(a_flipped_bit_anywhere_is_noticed),
        cmocka_unit_test(a_stream_that_ends_early_is_told_from_not_found),
        cmocka_unit_test(a_size_other_than_expected_is_refused_at_once),
        cmocka_unit_test(a_size_over_the_cap_is_refused_at_once),
        cmocka_unit_test(nothing_is_taken_for_the_empty_blob_but_the_empty_blob),
        cmocka_unit_test(bytes_after_the_end_are_an_error_that_spares_the_values),
        cmocka_unit_test(a_leaf_that_lies_whole_in_the_input_is_not_copied),
        cmocka_unit_test(a_fetch_has_limits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
