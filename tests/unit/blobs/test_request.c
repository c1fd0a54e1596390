#include "blobs/request.h"

#include "unit/crypto/fixture_bytes.h"

#define DA   "dadadadadadadadadadadadadadadadadadadadadadadadadadadadadadadada "
#define ZERO "0000000000000000000000000000000000000000000000000000000000000000 "
#define TWOS "0202020202020202020202020202020202020202020202020202020202020202 "

/* wire/blobs.md 10.5 and the table of 4.3, with what each means: runs as "index:boundaries". */
static const struct {
    const char *hex;
    enum blobs_request_kind kind;
    size_t hash_count;
    const char *meaning;
} vectors[] = {
    {"00" DA "020001000100", BLOBS_GET, 1, "0:0 1:"},
    {"00" DA "01000100", BLOBS_GET, 1, "0:0"},
    {"00" DA "00", BLOBS_GET, 1, ""},
    {"00" DA "03 00 020102 01 020706 01 00", BLOBS_GET, 1, "0:1,3 1:7,13 2:"},
    {"00" DA "02 03 0107 01 0100", BLOBS_GET, 1, "3:7 4:0"},
    {"00" DA "02 00 04000a5a0a 01 00", BLOBS_GET, 1, "0:0,10,100,110 1:"},
    {"00" DA "02 00 01ffffffffffffffffff01 01 00", BLOBS_GET, 1, "0:18446744073709551615 1:"},
    {"00" DA "02 00 0100 01 01ffffffffffffffffff01", BLOBS_GET, 1, "0:0 1:18446744073709551615"},
    {"00" DA "02 03 0100 01 00", BLOBS_GET, 1, "3:0 4:"},
    {"00" DA "02 02 0100 03 00", BLOBS_GET, 1, "2:0 5:"},
    {"00" DA "02 00 01a005 01 00", BLOBS_GET, 1, "0:672 1:"},
    {"00" DA "01 01 0100", BLOBS_GET, 1, "1:0"},
    {"00" DA "01 02 0100", BLOBS_GET, 1, "2:0"},
    {"00" DA "02 00 0140 01 00", BLOBS_GET, 1, "0:64 1:"},
    {"00" DA "02 00 0402050301 01 00", BLOBS_GET, 1, "0:2,7,10,11 1:"},
    {"00" DA "02 00 0401020604 01 00", BLOBS_GET, 1, "0:1,3,9,13 1:"},
    {"00" DA "02 00 01904e 01 00", BLOBS_GET, 1, "0:10000 1:"},
    {"00" DA "02 00 020040 01 00", BLOBS_GET, 1, "0:0,64 1:"},
    {"01" DA "0100", BLOBS_OBSERVE, 1, "0"},
    {"08 26" DA "020001000100", BLOBS_PUSH, 1, "0:0 1:"},
    {"09 02" ZERO TWOS "03 00 0100 01 020001 01 00", BLOBS_GET_MANY, 2, "0:0 1:0,1 2:"},
    {"09 00 00", BLOBS_GET_MANY, 0, ""},
};

static void describe(const struct blobs_request *r, char *out, size_t max)
{
    size_t n = 0;
    out[0] = '\0';
    if (r->kind == BLOBS_OBSERVE)
        for (size_t i = 0; i < r->bounds_count; i++)
            n += (size_t)snprintf(out + n, max - n, "%s%llu", i ? "," : "", (unsigned long long)r->bounds[i]);
    for (size_t i = 0; i < r->run_count; i++) {
        const struct blobs_run *run = &r->runs[i];
        n += (size_t)snprintf(out + n, max - n, "%s%llu:", i ? " " : "", (unsigned long long)run->first_index);
        for (size_t j = 0; j < run->bounds_count; j++)
            n += (size_t)snprintf(out + n, max - n, "%s%llu", j ? "," : "",
                                  (unsigned long long)r->bounds[run->bounds_start + j]);
    }
}

static void every_vector_is_read_and_written_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint8_t bytes[256];
        char meaning[256];
        size_t len = from_hex(vectors[i].hex, bytes, sizeof bytes), end = 0;
        struct blobs_request r;
        struct buf out = {0};
        assert_int_equal(blobs_request_decode(slice_of(bytes, len), &r, &end), HKV_OK);
        assert_int_equal(end, len);
        assert_int_equal(r.kind, vectors[i].kind);
        assert_int_equal(r.hash_count, vectors[i].hash_count);
        describe(&r, meaning, sizeof meaning);
        assert_string_equal(meaning, vectors[i].meaning);
        assert_int_equal(blobs_request_encode(&r, &out), HKV_OK);
        assert_hex(out.data, out.len, vectors[i].hex);
        blobs_request_fini(&r);
        buf_fini(&out);
    }
}

static void every_cut_of_a_vector_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint8_t bytes[256];
        size_t len = from_hex(vectors[i].hex, bytes, sizeof bytes);
        for (size_t cut = 0; cut < len; cut++) {
            struct blobs_request r;
            assert_int_equal(blobs_request_decode(slice_of(bytes, cut), &r, NULL), HKV_E_PEER_PROTOCOL);
        }
    }
}

static void what_is_not_canonical_is_refused_as_by_upstream(void **state)
{
    (void)state;
    static const struct {
        const char *what, *hex;
    } rows[] = {
        {"a width of 0 after the first", "00" DA "02 00 020000 01 00"},
        {"a width of 0 after a first of 1", "00" DA "02 00 020100 01 00"},
        {"a width of 0 in a set for all", "00" DA "01 00 020100"},
        {"a boundary beyond 2^64 in a set for all", "00" DA "01 00 02ffffffffffffffffff0101"},
        {"a width of 0 inside", "00" DA "02 00 03010002 01 00"},
        {"a difference of 0 after the first", "00" DA "02 00 0100 00 00"},
        {"an empty first set", "00" DA "01 00 00"},
        {"an empty first set at a later index", "00" DA "02 03 00 01 0100"},
        {"a repeated set", "00" DA "02 00 0100 01 0100"},
        {"two empty sets", "00" DA "03 00 0100 01 00 01 00"},
        {"boundaries beyond 2^64", "00" DA "02 00 02ffffffffffffffffff0101 01 00"},
        {"indexes beyond 2^64", "00" DA "02 ffffffffffffffffff01 0100 01 00"},
        {"a width beyond 64 bits", "00" DA "02 00 01ffffffffffffffffff03 01 00"},
        {"an observed set that is not canonical", "01" DA "020000"},
        {"a reserved type", "02" DA "020001000100"},
        {"an unknown type", "0a" DA "020001000100"},
        {"more hashes than bytes", "09 ffffffff0f" ZERO "00"},
        {"more sets than bytes", "00" DA "ffffffff0f 00 0100"},
        {"more widths than bytes", "00" DA "01 00 ffffffff0f 00"},
        {"a Push longer than its message", "08 25" DA "020001000100"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[256];
        size_t len = from_hex(rows[i].hex, bytes, sizeof bytes);
        struct blobs_request r;
        if (blobs_request_decode(slice_of(bytes, len), &r, NULL) != HKV_E_PEER_PROTOCOL)
            fail_msg("%s must be refused", rows[i].what);
        assert_null(r.hashes);
        assert_null(r.runs);
        assert_null(r.bounds);
    }
}

static void slack_and_long_varints_are_accepted(void **state)
{
    (void)state;
    uint8_t bytes[256];
    struct blobs_request r;
    size_t end, len = from_hex("00" DA "020001000100 ff", bytes, sizeof bytes);
    assert_int_equal(blobs_request_decode(slice_of(bytes, len), &r, &end), HKV_OK);
    assert_int_equal(end, len - 1);
    blobs_request_fini(&r);
    len = from_hex("00" DA "8200 00 0100 01 00", bytes, sizeof bytes);
    assert_int_equal(blobs_request_decode(slice_of(bytes, len), &r, &end), HKV_OK);
    assert_int_equal(r.run_count, 2);
    blobs_request_fini(&r);
    len = from_hex("08 27" DA "020001000100 ff 0104", bytes, sizeof bytes); /* the slack is inside, data follows */
    assert_int_equal(blobs_request_decode(slice_of(bytes, len), &r, &end), HKV_OK);
    assert_int_equal(end, len - 2);
    blobs_request_fini(&r);
}

/* `sets` sets of `widths` widths each at indexes 0, 1, ... */
static void build(struct buf *out, size_t sets, size_t widths)
{
    uint8_t head[33] = {0};
    buf_clear(out);
    assert_int_equal(buf_append(out, head, sizeof head), HKV_OK);
    for (size_t n = sets;; n >>= 7) {
        assert_int_equal(buf_append_byte(out, (uint8_t)(n < 128 ? n : (n & 127) | 128)), HKV_OK);
        if (n < 128) break;
    }
    for (size_t i = 0; i < sets; i++) {
        assert_int_equal(buf_append_byte(out, i > 0), HKV_OK);
        for (size_t n = widths;; n >>= 7) {
            assert_int_equal(buf_append_byte(out, (uint8_t)(n < 128 ? n : (n & 127) | 128)), HKV_OK);
            if (n < 128) break;
        }
        for (size_t j = 0; j < widths; j++)
            assert_int_equal(buf_append_byte(out, (uint8_t)(1 + (j == 0 && i % 2))), HKV_OK);
    }
}

static void counts_above_the_limits_are_refused(void **state)
{
    (void)state;
    struct buf in = {0};
    struct blobs_request r;
    build(&in, 1, BLOBS_BOUNDS_MAX);
    assert_int_equal(blobs_request_decode(buf_slice(&in), &r, NULL), HKV_OK);
    assert_int_equal(r.bounds_count, BLOBS_BOUNDS_MAX);
    blobs_request_fini(&r);
    build(&in, 1, BLOBS_BOUNDS_MAX + 1);
    assert_int_equal(blobs_request_decode(buf_slice(&in), &r, NULL), HKV_E_LIMIT);
    build(&in, 2, BLOBS_BOUNDS_MAX / 2 + 1);
    assert_int_equal(blobs_request_decode(buf_slice(&in), &r, NULL), HKV_E_LIMIT);
    build(&in, BLOBS_RUNS_MAX, 1);
    assert_int_equal(blobs_request_decode(buf_slice(&in), &r, NULL), HKV_OK);
    blobs_request_fini(&r);
    build(&in, BLOBS_RUNS_MAX + 1, 1);
    assert_int_equal(blobs_request_decode(buf_slice(&in), &r, NULL), HKV_E_LIMIT);
    buf_fini(&in);
}

static void a_request_longer_than_a_message_is_refused_early(void **state)
{
    (void)state;
    uint8_t *bytes = calloc(BLOBS_MESSAGE_MAX + 2, 1);
    struct blobs_request r;
    assert_non_null(bytes);
    assert_int_equal(blobs_request_check(slice_of(bytes, BLOBS_MESSAGE_MAX + 1)), HKV_OK);
    assert_int_equal(blobs_request_check(slice_of(bytes, BLOBS_MESSAGE_MAX + 2)), HKV_E_PEER_PROTOCOL);
    assert_int_equal(blobs_request_decode(slice_of(bytes, BLOBS_MESSAGE_MAX + 2), &r, NULL), HKV_E_PEER_PROTOCOL);
    free(bytes);
}

static void the_first_byte_tells_whether_to_read_on(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        uint8_t byte = (uint8_t)type;
        enum hkv_err want = type == 0 || type == 1 || type == 9 ? HKV_OK
                            : type == 8                         ? HKV_E_PEER_REFUSED
                                                                : HKV_E_PEER_PROTOCOL;
        assert_int_equal(blobs_request_check(slice_of(&byte, 1)), want);
    }
    assert_int_equal(blobs_request_check((struct slice){NULL, 0}), HKV_OK);
}

static void the_next_index_is_found_across_any_gap(void **state)
{
    (void)state;
    uint8_t bytes[256];
    struct blobs_request r;
    struct bao_ranges ranges;
    uint64_t index;
    /* nothing before 2^60, then chunk 1.. of two of them, nothing of one, all from there on */
    size_t len = from_hex("00" DA "03 808080808080808010 0101 02 00 01 0100", bytes, sizeof bytes);
    assert_int_equal(blobs_request_decode(slice_of(bytes, len), &r, NULL), HKV_OK);
    uint64_t first = (uint64_t)1 << 60;
    assert_true(blobs_request_next(&r, 0, &index, &ranges) && index == first && ranges.count == 1 &&
                ranges.bounds[0] == 1);
    assert_true(blobs_request_next(&r, first + 1, &index, &ranges) && index == first + 1 && ranges.bounds[0] == 1);
    assert_true(blobs_request_next(&r, first + 2, &index, &ranges) && index == first + 3 && ranges.bounds[0] == 0);
    assert_true(blobs_request_next(&r, UINT64_MAX, &index, &ranges) && index == UINT64_MAX);
    blobs_request_fini(&r);
    len = from_hex("00" DA "020001000100", bytes, sizeof bytes);
    assert_int_equal(blobs_request_decode(slice_of(bytes, len), &r, NULL), HKV_OK);
    assert_true(blobs_request_next(&r, 0, &index, &ranges) && index == 0);
    assert_false(blobs_request_next(&r, 1, &index, &ranges));
    blobs_request_fini(&r);
}

static void our_requests_are_the_ones_of_upstream(void **state)
{
    (void)state;
    struct hash hashes[2];
    struct buf out = {0};
    memset(hashes[0].bytes, 0xda, 32);
    memset(hashes[1].bytes, 2, 32);
    assert_int_equal(blobs_request_encode_get(&hashes[0], bao_ranges_all, &out), HKV_OK);
    assert_hex(out.data, out.len, "00" DA "020001000100");
    buf_clear(&out);
    assert_int_equal(blobs_request_encode_get(&hashes[0], (struct bao_ranges){(uint64_t[]){672}, 1}, &out), HKV_OK);
    assert_hex(out.data, out.len, "00" DA "020001a0050100");
    buf_clear(&out);
    assert_int_equal(blobs_request_encode_get_many(hashes, 2, &out), HKV_OK);
    assert_hex(out.data, out.len, "0902" DA TWOS "020001000200");
    buf_fini(&out);
}

/* wire/blobs.md 10.5 */
static void observe_items_are_those_of_the_vectors(void **state)
{
    (void)state;
    static const struct {
        uint64_t size, bounds[3];
        size_t count;
        const char *hex;
    } rows[] = {
        {0, {0}, 0, "020000"},
        {100000, {0}, 1, "05a08d060100"},
        {100000, {0, 16}, 2, "06a08d06020010"},
        {8388609, {0, 16, 512}, 3, "09818080040300108004"},
        {0, {0}, 1, "03000100"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf out = {0};
        assert_int_equal(
            blobs_observe_item_encode(rows[i].size, (struct bao_ranges){rows[i].bounds, rows[i].count}, &out), HKV_OK);
        assert_hex(out.data, out.len, rows[i].hex);
        buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vector_is_read_and_written_back),
        cmocka_unit_test(every_cut_of_a_vector_is_refused),
        cmocka_unit_test(what_is_not_canonical_is_refused_as_by_upstream),
        cmocka_unit_test(slack_and_long_varints_are_accepted),
        cmocka_unit_test(counts_above_the_limits_are_refused),
        cmocka_unit_test(a_request_longer_than_a_message_is_refused_early),
        cmocka_unit_test(the_first_byte_tells_whether_to_read_on),
        cmocka_unit_test(the_next_index_is_found_across_any_gap),
        cmocka_unit_test(our_requests_are_the_ones_of_upstream),
        cmocka_unit_test(observe_items_are_those_of_the_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
