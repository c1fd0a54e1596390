#include "unit/blobs/fixture_blobs.h"

/* wire/blobs.md 10.6: the roots of six patterns, in this order. */
#define SEQUENCE_HASH "2a4a5b69a15ae6ba59572dbfd7aa14d85c6f9b5439813c4b76321b6757236a14"

static struct fixture_source source;
static struct hash children[6];
static struct hash sequence;

static int setup(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 1025, 16385, 0, 100000, 1025};
    fixture_source_init(&source);
    for (size_t i = 0; i < 6; i++) children[i] = fixture_source_add_pattern(&source, sizes[i]);
    sequence = fixture_source_add(&source, children, sizeof children);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_source_fini(&source);
    return 0;
}

static size_t get_request(const struct hash *hash, const char *ranges_hex, uint8_t *out, size_t max)
{
    out[0] = 0;
    memcpy(out + 1, hash->bytes, 32);
    return 33 + from_hex(ranges_hex, out + 33, max - 33);
}

static void sequences_are_answered_like_the_vectors(void **state)
{
    (void)state;
    static const struct {
        const char *ranges;
        size_t len;
        const char *hash;
    } rows[] = {
        {"01000100", 119132, "d5179a905e489b138c15ae14c2ad2a93484769f0d68cc635b7d02dffa7a247e1"},
        {"020001000100", 200, "efa9f6f39750fc7d7472c1b8542bcca228b55cd99fe19c4759cdf8e4d6281531"},
        {"020001000101ffffffffffffffffff01", 1308, "9a3d7277342e595066615ed28439eebf0eda47e2ff364b18f5ca7e5670c3dc26"},
        {"0200010001020001", 5241, "8931b709aaf003b8c29c9f71b21585b94e312b5bb2567172b9f41ca3339f34cc"},
        {"020301000100", 16457, "0c6fa6b6ec04fc36a32daebfed66120764b0877410b5fe1931c247027bb206a3"},
        {"020801000100", 0, NULL},
        {"01 808080808080808010 0100", 0, NULL}, /* all children from 2^60 on: no walk over the gap */
        {"00", 0, NULL},
    };
    assert_hash(&sequence, SEQUENCE_HASH);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static const size_t steps[] = {1, 1000, 20000, 1000000};
        for (size_t j = 0; j < 4; j++) {
            uint8_t request[128];
            struct buf out = {0};
            struct hash h;
            size_t len = get_request(&sequence, rows[i].ranges, request, sizeof request);
            source.outboard_by_reads = j % 2 == 1;
            assert_int_equal(fixture_respond(&source, slice_of(request, len), steps[j], &out), BLOBS_PROVIDE_DONE);
            assert_int_equal(out.len, rows[i].len);
            blake3_hash(buf_slice(&out), &h);
            if (rows[i].hash != NULL) assert_hash(&h, rows[i].hash);
            buf_fini(&out);
        }
    }
    source.outboard_by_reads = false;
}

static void get_many_answers_in_the_order_of_the_list(void **state)
{
    (void)state;
    struct hash wanted[3] = {children[2], children[0], children[1]};
    struct buf request = {0}, out = {0};
    struct hash h;
    assert_int_equal(blobs_request_encode_get_many(wanted, 3, &request), HKV_OK);
    assert_hex(request.data + 2 + 96, request.len - 98, "020001000300");
    assert_int_equal(fixture_respond(&source, buf_slice(&request), 4096, &out), BLOBS_PROVIDE_DONE);
    assert_int_equal(out.len, 17499);
    blake3_hash(buf_slice(&out), &h);
    assert_hash(&h, "3258ed8a5de3ac592dbd6b8494bcb1a4d59af1fa2f069ce3b745c0c004ec349c");
    buf_fini(&request);
    buf_fini(&out);
}

static void an_unknown_hash_is_not_found_before_any_byte(void **state)
{
    (void)state;
    struct hash unknown[2] = {{{1}}, children[0]};
    struct buf request = {0}, out = {0};
    assert_int_equal(blobs_request_encode_get(&unknown[0], bao_ranges_all, &request), HKV_OK);
    assert_int_equal(fixture_respond(&source, buf_slice(&request), 4096, &out), BLOBS_PROVIDE_NOT_FOUND);
    assert_int_equal(out.len, 0);
    buf_clear(&request);
    assert_int_equal(blobs_request_encode_get_many(unknown, 2, &request), HKV_OK);
    assert_int_equal(fixture_respond(&source, buf_slice(&request), 4096, &out), BLOBS_PROVIDE_NOT_FOUND);
    assert_int_equal(out.len, 0);
    buf_fini(&request);
    buf_fini(&out);
}

static void an_unknown_hash_later_ends_the_response_cleanly(void **state)
{
    (void)state;
    struct hash wanted[3] = {children[1], {{1}}, children[0]};
    struct buf request = {0}, out = {0};
    assert_int_equal(blobs_request_encode_get_many(wanted, 3, &request), HKV_OK);
    assert_int_equal(fixture_respond(&source, buf_slice(&request), 4096, &out), BLOBS_PROVIDE_BROKEN);
    assert_int_equal(out.len, 1033);
    buf_fini(&request);
    buf_fini(&out);
}

static void the_empty_blob_is_served_without_being_stored(void **state)
{
    (void)state;
    static struct fixture_source nothing;
    struct buf out = {0};
    fixture_source_init(&nothing);
    fixture_respond_one(&nothing, &hash_empty, bao_ranges_all, &out);
    assert_hex(out.data, out.len, "0000000000000000");
    fixture_source_fini(&nothing);
    buf_fini(&out);
}

static void a_value_of_odd_length_is_no_sequence(void **state)
{
    (void)state;
    uint8_t request[128];
    struct buf out = {0};
    size_t len = get_request(&children[4], "0101 0100", request, sizeof request); /* 100000 = 3125 * 32 */
    assert_int_equal(fixture_respond(&source, slice_of(request, len), 4096, &out), BLOBS_PROVIDE_NOT_FOUND);
    len = get_request(&children[1], "01 01 0100", request, sizeof request);
    assert_int_equal(fixture_respond(&source, slice_of(request, len), 4096, &out), BLOBS_PROVIDE_NOT_FOUND);
    assert_int_equal(out.len, 0);
    len = get_request(&children[1], "01 00 0100", request, sizeof request);
    assert_int_equal(fixture_respond(&source, slice_of(request, len), 4096, &out), BLOBS_PROVIDE_BROKEN);
    assert_int_equal(out.len, 1033);
    buf_fini(&out);
}

/* Only the length is wrong: the first 32 bytes would be a good hash. */
static void a_hash_and_a_byte_more_are_no_sequence(void **state)
{
    (void)state;
    static struct fixture_source odd;
    uint8_t request[128], bytes[33];
    struct buf out = {0};
    fixture_source_init(&odd);
    struct hash one = fixture_source_add(&odd, "one", 3);
    memcpy(bytes, one.bytes, 32);
    bytes[32] = 0;
    struct hash root = fixture_source_add(&odd, bytes, 33);
    size_t len = get_request(&root, "01 01 0100", request, sizeof request);
    assert_int_equal(fixture_respond(&odd, slice_of(request, len), 4096, &out), BLOBS_PROVIDE_NOT_FOUND);
    assert_int_equal(out.len, 0);
    fixture_source_fini(&odd);
    buf_fini(&out);
}

/* Pairs inside a group are made from that value's data, not from what the value before left behind. */
static void parts_of_groups_of_several_values_do_not_mix(void **state)
{
    (void)state;
    static struct fixture_source two;
    uint8_t request[128] = {BLOBS_GET_MANY, 2}, *data[2];
    struct fixture_random r = random_seeded();
    struct buf out = {0}, slow = {0};
    fixture_source_init(&two);
    for (size_t i = 0; i < 2; i++) {
        data[i] = malloc(5000);
        assert_non_null(data[i]);
        random_bytes(&r, data[i], 5000);
        struct hash hash = fixture_source_add(&two, data[i], 5000);
        memcpy(request + 2 + 32 * i, hash.bytes, 32);
        slow_encode(data[i], 5000, (uint64_t[]){0, 1}, 2, &slow);
        free(data[i]);
    }
    size_t len = 66 + from_hex("0200020001 02 00", request + 66, 62); /* chunk 0 of both, then nothing */
    assert_int_equal(fixture_respond(&two, slice_of(request, len), 4096, &out), BLOBS_PROVIDE_DONE);
    assert_true(slice_equal(buf_slice(&out), buf_slice(&slow)));
    fixture_source_fini(&two);
    buf_fini(&out);
    buf_fini(&slow);
}

/* 2,000 children: more than a group of hashes, so the sequence itself is read and verified in pieces. */
static void children_of_a_long_sequence_are_found(void **state)
{
    (void)state;
    static struct fixture_source long_source;
    static struct hash hashes[2000];
    uint8_t request[128];
    struct buf out = {0};
    fixture_source_init(&long_source);
    struct hash one = fixture_source_add(&long_source, "one", 3), two = fixture_source_add(&long_source, "two", 3);
    for (size_t i = 0; i < 2000; i++) hashes[i] = i == 1999 ? two : one;
    struct hash root = fixture_source_add(&long_source, hashes, sizeof hashes);
    size_t len = get_request(&root, "01 8d0f 0100", request, sizeof request); /* from index 1933 = child 1932 on */
    assert_int_equal(fixture_respond(&long_source, slice_of(request, len), 64, &out), BLOBS_PROVIDE_DONE);
    assert_int_equal(out.len, 68 * 11);
    assert_memory_equal(out.data + 8, "one", 3);
    assert_memory_equal(out.data + out.len - 3, "two", 3);
    buf_clear(&out);
    long_source.values[2].data[1999 * 32] ^= 1; /* a damaged sequence gives no child */
    assert_int_equal(fixture_respond(&long_source, slice_of(request, len), 64, &out), BLOBS_PROVIDE_NOT_FOUND);
    assert_int_equal(out.len, 0);
    fixture_source_fini(&long_source);
    buf_fini(&out);
}

/* Whatever byte of the store is damaged, what was sent up to there is a prefix of the right response. */
static void a_damaged_value_never_yields_a_wrong_byte(void **state)
{
    (void)state;
    static const uint64_t sets[][2] = {{0, UINT64_MAX}, {1, 30}, {15, 17}, {90, UINT64_MAX}};
    struct fixture_value *v = &source.values[4];
    struct fixture_random r = random_seeded();
    for (size_t i = 0; i < 4; i++) {
        struct buf good = {0}, request = {0};
        struct bao_ranges set = {sets[i], 2};
        fixture_respond_one(&source, &v->hash, set, &good);
        assert_int_equal(blobs_request_encode_get(&v->hash, set, &request), HKV_OK);
        for (int round = 0; round < 40; round++) {
            struct buf out = {0};
            uint8_t *byte =
                round % 2 ? &v->data[random_below(&r, v->len)] : &v->outboard.data[random_below(&r, v->outboard.len)];
            *byte ^= 0x10;
            enum blobs_provide_state end = fixture_respond(&source, buf_slice(&request), 65536, &out);
            *byte ^= 0x10;
            assert_true(end == BLOBS_PROVIDE_DONE || end == BLOBS_PROVIDE_BROKEN);
            assert_true(slice_starts_with(buf_slice(&good), buf_slice(&out)));
            if (i == 0) assert_int_equal(end, BLOBS_PROVIDE_BROKEN); /* everything was asked for */
            assert_int_equal(end == BLOBS_PROVIDE_DONE, out.len == good.len);
            buf_fini(&out);
        }
        buf_fini(&good);
        buf_fini(&request);
    }
}

static void a_cause_names_the_value_and_the_error(void **state)
{
    (void)state;
    struct buf request = {0}, out = {0};
    struct blobs_request parsed;
    static struct blobs_provide p;
    enum blobs_provide_state end = BLOBS_PROVIDE_MORE;
    assert_int_equal(blobs_request_encode_get(&children[4], bao_ranges_all, &request), HKV_OK);
    assert_int_equal(blobs_request_decode(buf_slice(&request), &parsed, NULL), HKV_OK);
    blobs_provide_init(&p, &parsed);
    assert_null(parsed.hashes);
    source.read_error = HKV_E_DISK;
    assert_int_equal(blobs_provide_step(&p, &source.base, 65536, &out, &end), HKV_OK);
    source.read_error = HKV_OK;
    assert_int_equal(end, BLOBS_PROVIDE_BROKEN);
    assert_int_equal(p.cause, HKV_E_DISK);
    assert_true(hash_equal(&p.cause_hash, &children[4]));
    assert_int_equal(out.len, 8 + 3 * 64); /* up to the first leaf */
    blobs_provide_fini(&p, &source.base);
    buf_fini(&request);
    buf_fini(&out);
}

static void a_truncated_outboard_ends_the_response(void **state)
{
    (void)state;
    struct fixture_value *v = &source.values[4];
    struct buf request = {0}, out = {0};
    assert_int_equal(blobs_request_encode_get(&v->hash, bao_ranges_all, &request), HKV_OK);
    v->outboard.len = 64;
    assert_int_equal(fixture_respond(&source, buf_slice(&request), 65536, &out), BLOBS_PROVIDE_BROKEN);
    assert_int_equal(out.len, 8 + 64);
    v->outboard.len = 384;
    buf_fini(&request);
    buf_fini(&out);
}

static void observe_tells_what_is_there_and_ends(void **state)
{
    (void)state;
    static const struct {
        int child; /* -1: unknown, -2: the empty blob */
        const char *hex;
    } rows[] = {{4, "05a08d060100"}, {-1, "020000"}, {-2, "03000100"}};
    for (size_t i = 0; i < 3; i++) {
        uint8_t request[64] = {1};
        struct hash hash = rows[i].child >= 0    ? children[rows[i].child]
                           : rows[i].child == -2 ? hash_empty
                                                 : (struct hash){{1}};
        struct buf out = {0};
        memcpy(request + 1, hash.bytes, 32);
        request[33] = 1;
        assert_int_equal(fixture_respond(&source, slice_of(request, 35), 10, &out), BLOBS_PROVIDE_DONE);
        assert_hex(out.data, out.len, rows[i].hex);
        buf_fini(&out);
    }
}

static void push_is_refused(void **state)
{
    (void)state;
    uint8_t request[64] = {8, 0x26};
    struct buf out = {0};
    memcpy(request + 2, children[0].bytes, 32);
    size_t len = 34 + from_hex("020001000100", request + 34, 30);
    assert_int_equal(fixture_respond(&source, slice_of(request, len), 10, &out), BLOBS_PROVIDE_REFUSED);
    assert_int_equal(out.len, 0);
    buf_fini(&out);
}

static void a_response_can_be_given_up_in_the_middle(void **state)
{
    (void)state;
    uint8_t request[128];
    struct blobs_request parsed;
    static struct blobs_provide p;
    enum blobs_provide_state end;
    struct buf out = {0};
    size_t len = get_request(&sequence, "0105 0100", request, sizeof request);
    assert_int_equal(blobs_request_decode(slice_of(request, len), &parsed, NULL), HKV_OK);
    blobs_provide_init(&p, &parsed);
    assert_int_equal(blobs_provide_step(&p, &source.base, 1000, &out, &end), HKV_OK);
    assert_int_equal(end, BLOBS_PROVIDE_MORE);
    assert_int_equal(source.open, 2); /* the sequence and a child */
    blobs_provide_fini(&p, &source.base);
    assert_int_equal(source.open, 0);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_are_answered_like_the_vectors),
        cmocka_unit_test(get_many_answers_in_the_order_of_the_list),
        cmocka_unit_test(an_unknown_hash_is_not_found_before_any_byte),
        cmocka_unit_test(an_unknown_hash_later_ends_the_response_cleanly),
        cmocka_unit_test(the_empty_blob_is_served_without_being_stored),
        cmocka_unit_test(a_value_of_odd_length_is_no_sequence),
        cmocka_unit_test(a_hash_and_a_byte_more_are_no_sequence),
        cmocka_unit_test(parts_of_groups_of_several_values_do_not_mix),
        cmocka_unit_test(children_of_a_long_sequence_are_found),
        cmocka_unit_test(a_damaged_value_never_yields_a_wrong_byte),
        cmocka_unit_test(a_cause_names_the_value_and_the_error),
        cmocka_unit_test(a_truncated_outboard_ends_the_response),
        cmocka_unit_test(observe_tells_what_is_there_and_ends),
        cmocka_unit_test(push_is_refused),
        cmocka_unit_test(a_response_can_be_given_up_in_the_middle),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
