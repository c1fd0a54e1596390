/* Postcard primitives: what is written is minimal, what is read is bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "wire/postcard.h"

static const struct {
    uint64_t value;
    const char *bytes;
    size_t len;
} minimal[] = {
    {0, "\x00", 1},
    {1, "\x01", 1},
    {127, "\x7f", 1},
    {128, "\x80\x01", 2},
    {300, "\xac\x02", 2},
    {16383, "\xff\x7f", 2},
    {16384, "\x80\x80\x01", 3},
    {0xa5c7, "\xc7\xcb\x02", 3},
    {65535, "\xff\xff\x03", 3},
    {0xcdab3412, "\x92\xe8\xac\xed\x0c", 5},
    {UINT32_MAX, "\xff\xff\xff\xff\x0f", 5},
    {1700000000000000, "\x80\x80\xf9\xc0\xc1\xc4\x82\x03", 8},
    {0x1234567890abcdef, "\xef\x9b\xaf\x85\x89\xcf\x95\x9a\x12", 9},
    {(uint64_t)1 << 63, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 10},
    {UINT64_MAX, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10},
};

#define MINIMAL_COUNT (sizeof minimal / sizeof minimal[0])

static void numbers_are_written_in_their_shortest_form(void **state)
{
    (void)state;
    for (size_t i = 0; i < MINIMAL_COUNT; i++) {
        struct buf out = {0};
        assert_int_equal(postcard_write_varint(&out, minimal[i].value), HKV_OK);
        assert_int_equal(out.len, minimal[i].len);
        assert_memory_equal(out.data, minimal[i].bytes, out.len);
        assert_int_equal(postcard_varint_bytes(minimal[i].value), minimal[i].len);
        buf_fini(&out);
    }
}

static void numbers_read_back_and_leave_what_follows(void **state)
{
    (void)state;
    for (size_t i = 0; i < MINIMAL_COUNT; i++) {
        uint8_t bytes[16];
        memcpy(bytes, minimal[i].bytes, minimal[i].len);
        bytes[minimal[i].len] = 0xee;
        struct postcard_reader r = postcard_reader_of(slice_of(bytes, minimal[i].len + 1));
        uint64_t v;
        assert_int_equal(postcard_read_u64(&r, &v), HKV_OK);
        assert_true(v == minimal[i].value);
        assert_int_equal(r.in.len, 1);
        assert_int_equal(r.in.data[0], 0xee);
    }
}

static void every_cut_of_a_number_is_truncated(void **state)
{
    (void)state;
    for (size_t i = 0; i < MINIMAL_COUNT; i++) {
        for (size_t len = 0; len < minimal[i].len; len++) {
            struct postcard_reader r = postcard_reader_of(slice_of(minimal[i].bytes, len));
            uint64_t v;
            assert_int_equal(postcard_read_u64(&r, &v), HKV_E_PEER_PROTOCOL);
            assert_true(r.truncated);
        }
    }
}

/* Which width takes which bytes: u64, u32, u16. */
static const struct {
    const char *bytes;
    size_t len;
    bool u64, u32, u16;
} widths[] = {
    {"\x80\x00", 2, true, true, true},                                         /* over-long zero */
    {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 10, true, false, false},      /* as long as u64 allows */
    {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 11, false, false, false}, /* one too long */
    {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, false, false, false},     /* 2^64 and more */
    {"\xff\xff\xff\xff\x0f", 5, true, true, false},                            /* greatest u32 */
    {"\xff\xff\xff\xff\x10", 5, true, false, false},                           /* 2^32 and more */
    {"\xff\xff\x03", 3, true, true, true},                                     /* greatest u16 */
    {"\x80\x80\x04", 3, true, true, false},                                    /* 2^16 */
    {"\x80\x80\x80\x00", 4, true, true, false},                                /* four bytes are too many for u16 */
};

static void each_width_refuses_what_does_not_fit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        struct slice in = slice_of(widths[i].bytes, widths[i].len);
        uint64_t v64;
        uint32_t v32;
        uint16_t v16;
        struct postcard_reader r = postcard_reader_of(in);
        assert_int_equal(postcard_read_u64(&r, &v64) == HKV_OK, widths[i].u64);
        r = postcard_reader_of(in);
        assert_int_equal(postcard_read_u32(&r, &v32) == HKV_OK, widths[i].u32);
        r = postcard_reader_of(in);
        assert_int_equal(postcard_read_u16(&r, &v16) == HKV_OK, widths[i].u16);
        assert_false(r.truncated);
    }
}

static void a_bool_is_zero_or_one(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t in = (uint8_t)byte;
        struct postcard_reader r = postcard_reader_of(slice_of(&in, 1));
        bool v = false;
        enum hkv_err err = postcard_read_bool(&r, &v);
        assert_int_equal(err, byte < 2 ? HKV_OK : HKV_E_PEER_PROTOCOL);
        if (byte < 2) assert_int_equal(v, byte);
    }
}

static void a_variant_is_below_the_count(void **state)
{
    (void)state;
    uint32_t v;
    struct postcard_reader r = postcard_reader_of(slice_of("\x02", 1));
    assert_int_equal(postcard_read_variant(&r, 3, &v), HKV_OK);
    assert_int_equal(v, 2);
    r = postcard_reader_of(slice_of("\x03", 1));
    assert_int_equal(postcard_read_variant(&r, 3, &v), HKV_E_PEER_PROTOCOL);
}

static void bytes_respect_the_limit_and_the_input(void **state)
{
    (void)state;
    struct slice out;
    struct postcard_reader r = postcard_reader_of(slice_of("\x03"
                                                           "abcd",
                                                           5));
    assert_int_equal(postcard_read_bytes(&r, 3, &out), HKV_OK);
    assert_true(slice_equal(out, slice_of_text("abc")));
    assert_int_equal(r.in.len, 1);

    r = postcard_reader_of(slice_of("\x03"
                                    "abcd",
                                    5));
    assert_int_equal(postcard_read_bytes(&r, 2, &out), HKV_E_PEER_PROTOCOL);
    assert_false(r.truncated);

    r = postcard_reader_of(slice_of("\x05"
                                    "abcd",
                                    5));
    assert_int_equal(postcard_read_bytes(&r, 9, &out), HKV_E_PEER_PROTOCOL);
    assert_true(r.truncated);

    r = postcard_reader_of(slice_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10));
    assert_int_equal(postcard_read_bytes(&r, SIZE_MAX, &out), HKV_E_PEER_PROTOCOL);
}

static void raw_bytes_are_copied_whole_or_not_at_all(void **state)
{
    (void)state;
    uint8_t out[4] = {0};
    struct postcard_reader r = postcard_reader_of(slice_of("abcde", 5));
    assert_int_equal(postcard_read_raw(&r, out, 4), HKV_OK);
    assert_memory_equal(out, "abcd", 4);
    assert_int_equal(postcard_read_raw(&r, out, 2), HKV_E_PEER_PROTOCOL);
    assert_memory_equal(out, "abcd", 4);
    assert_true(r.truncated);
}

static void bytes_and_bools_are_written_as_rust_does(void **state)
{
    (void)state;
    struct buf out = {0};
    assert_int_equal(postcard_write_bytes(&out, slice_of_text("foo")), HKV_OK);
    assert_int_equal(postcard_write_bool(&out, true), HKV_OK);
    assert_int_equal(postcard_write_bytes(&out, (struct slice){0}), HKV_OK);
    assert_int_equal(postcard_write_bool(&out, false), HKV_OK);
    assert_int_equal(out.len, 7);
    assert_memory_equal(out.data,
                        "\x03"
                        "foo"
                        "\x01\x00\x00",
                        7);
    buf_fini(&out);
}

/* The composite values of postcard's own tests (src/ser/mod.rs, tests/loopback.rs), read field by field. */
static void composites_of_postcard_itself_are_read(void **state)
{
    (void)state;
    uint32_t variant, u32;
    uint16_t u16;
    uint8_t byte;
    size_t count;
    struct slice text;

    /* enum variants: 1, a unit; 3, a struct of u8 and u16; 5, a tuple of u16 and u8 */
    struct postcard_reader r = postcard_reader_of(slice_of("\x01\x03\xf0\xac\xd9\x02\x05\xe9\xd2\x01\x07", 11));
    assert_int_equal(postcard_read_variant(&r, 6, &variant), HKV_OK);
    assert_int_equal(variant, 1);
    assert_int_equal(postcard_read_variant(&r, 6, &variant), HKV_OK);
    assert_int_equal(postcard_read_byte(&r, &byte), HKV_OK);
    assert_int_equal(postcard_read_u16(&r, &u16), HKV_OK);
    assert_true(variant == 3 && byte == 0xf0 && u16 == 0xacac);
    assert_int_equal(postcard_read_variant(&r, 6, &variant), HKV_OK);
    assert_int_equal(postcard_read_u16(&r, &u16), HKV_OK);
    assert_int_equal(postcard_read_byte(&r, &byte), HKV_OK);
    assert_true(variant == 5 && u16 == 0x6969 && byte == 7);
    assert_int_equal(r.in.len, 0);

    /* (1u8, 10u32, "Hello!") */
    r = postcard_reader_of(slice_of("\x01\x0a\x06Hello!", 9));
    assert_int_equal(postcard_read_byte(&r, &byte), HKV_OK);
    assert_int_equal(postcard_read_u32(&r, &u32), HKV_OK);
    assert_int_equal(postcard_read_bytes(&r, 6, &text), HKV_OK);
    assert_true(byte == 1 && u32 == 10 && slice_equal(text, slice_of_text("Hello!")) && r.in.len == 0);

    /* the map {1: 5, 2: 6, 3: 7, 4: 8} of u8 */
    r = postcard_reader_of(slice_of("\x04\x01\x05\x02\x06\x03\x07\x04\x08", 9));
    assert_int_equal(postcard_read_length(&r, 4, &count), HKV_OK);
    assert_int_equal(count, 4);
    for (uint8_t key = 1; key <= 4; key++) {
        assert_int_equal(postcard_read_byte(&r, &byte), HKV_OK);
        assert_int_equal(byte, key);
        assert_int_equal(postcard_read_byte(&r, &byte), HKV_OK);
        assert_int_equal(byte, key + 4);
    }
    assert_int_equal(r.in.len, 0);
}

/* Strings and byte slices of the same tests: what stands before the bytes. */
static void lengths_stand_before_strings_and_slices(void **state)
{
    (void)state;
    static const uint8_t zeros[1024];
    static const struct {
        struct slice bytes;
        const char *head;
        size_t head_len;
    } rows[] = {
        {{(const uint8_t *)"hElLo", 5}, "\x05", 1},
        {{(const uint8_t *)"\x01\x10\x02\x20", 4}, "\x04", 1},
        {{zeros, 32}, "\x20", 1},
        {{zeros, 1024}, "\x80\x08", 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf out = {0};
        struct slice read;
        assert_int_equal(postcard_write_bytes(&out, rows[i].bytes), HKV_OK);
        assert_int_equal(out.len, rows[i].head_len + rows[i].bytes.len);
        assert_memory_equal(out.data, rows[i].head, rows[i].head_len);
        struct postcard_reader r = postcard_reader_of(buf_slice(&out));
        assert_int_equal(postcard_read_bytes(&r, 1024, &read), HKV_OK);
        assert_true(slice_equal(read, rows[i].bytes) && r.in.len == 0);
        buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_written_in_their_shortest_form),
        cmocka_unit_test(numbers_read_back_and_leave_what_follows),
        cmocka_unit_test(every_cut_of_a_number_is_truncated),
        cmocka_unit_test(each_width_refuses_what_does_not_fit),
        cmocka_unit_test(a_bool_is_zero_or_one),
        cmocka_unit_test(a_variant_is_below_the_count),
        cmocka_unit_test(bytes_respect_the_limit_and_the_input),
        cmocka_unit_test(raw_bytes_are_copied_whole_or_not_at_all),
        cmocka_unit_test(bytes_and_bools_are_written_as_rust_does),
        cmocka_unit_test(composites_of_postcard_itself_are_read),
        cmocka_unit_test(lengths_stand_before_strings_and_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
