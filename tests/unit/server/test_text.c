/* The encodings of server/text.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/text.h"

/* RFC 4648, section 10. */
static const char *const base64_vectors[][2] = {
    {"", ""},
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
};

static void test_base64_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof base64_vectors / sizeof *base64_vectors; i++) {
        const char *bytes = base64_vectors[i][0], *chars = base64_vectors[i][1];
        struct text out = {0};
        base64_append(&out, bytes, strlen(bytes));
        text_append(&out, "", 1);
        assert_string_equal(out.bytes, chars);
        text_fini(&out);

        uint8_t back[16];
        size_t len;
        assert_true(base64_read(chars, strlen(chars), back, &len));
        assert_int_equal(len, strlen(bytes));
        assert_memory_equal(back, bytes, len);
    }
}

static void test_base64_has_one_text_for_each_value(void **state)
{
    (void)state;
    static const char *const wrong[] = {"Z",        "Zg",   "Zg=",  "Zh==", "Zm9=", "Z===", "====",   "Zg==Zg==",
                                        "Zm8=Zg==", "Zm_v", "Zm-v", "Zm 9", "=Zg=", "Zg=v", "Zm9v\n", "\nZm9"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint8_t out[16];
        size_t len;
        if (base64_read(wrong[i], strlen(wrong[i]), out, &len)) fail_msg("%s was accepted", wrong[i]);
    }
}

static void test_base64_of_every_byte_and_length(void **state)
{
    (void)state;
    uint8_t bytes[512];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t len = 0; len <= sizeof bytes; len++) {
        struct text out = {0};
        base64_append(&out, bytes, len);
        uint8_t back[BASE64_BYTES_MAX(BASE64_CHARS(sizeof bytes))];
        size_t back_len;
        assert_true(base64_read(out.bytes, out.len, back, &back_len));
        assert_int_equal(back_len, len);
        assert_memory_equal(back, bytes, len);
        text_fini(&out);
    }
}

static void test_percent_encoding_is_undone(void **state)
{
    (void)state;
    char bytes[256];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)i;
    struct text encoded = {0}, decoded = {0};
    percent_append(&encoded, bytes, sizeof bytes);
    for (size_t i = 0; i < encoded.len; i++)
        assert_true(encoded.bytes[i] > ' ' && encoded.bytes[i] < 0x7f && !strchr("?#&+\"", encoded.bytes[i]));
    assert_true(percent_read(encoded.bytes, encoded.len, &decoded));
    assert_int_equal(decoded.len, sizeof bytes);
    assert_memory_equal(decoded.bytes, bytes, sizeof bytes);
    text_fini(&encoded);
    text_fini(&decoded);
}

static void test_broken_percent_encoding_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"%", "a%", "%a", "%ag", "%g0", "%%41", "% 1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct text out = {0};
        if (percent_read(wrong[i], strlen(wrong[i]), &out)) fail_msg("%s was accepted", wrong[i]);
        text_fini(&out);
    }
}

static void test_a_text_grows_and_shrinks(void **state)
{
    (void)state;
    struct text text = {0};
    for (int i = 0; i < 1000; i++) text_printf(&text, "%d,", i);
    assert_false(text_failed(&text));
    assert_memory_equal(text.bytes, "0,1,2,3,", 8);
    text_drop_front(&text, 4);
    assert_memory_equal(text.bytes, "2,3,", 4);
    text_drop_front(&text, text.len);
    assert_int_equal(text.len, 0);
    assert_null(text_reserve(&text, SIZE_MAX));
    text_append(&text, "x", 1);
    assert_true(text_failed(&text));
    text_fini(&text);
    assert_false(text_failed(&text));
}

static void test_characters_of_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t count;
    } cases[] = {
        {"a", 1},
        {"\x7f", 1},
        {"\xc2\x80", 2},
        {"\xdf\xbfx", 2},
        {"\xe0\xa0\x80", 3},
        {"\xed\x9f\xbf", 3},
        {"\xef\xbf\xbf", 3},
        {"\xf0\x90\x80\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"", 0},
        {"\x80", 0},
        {"\xc1\xbf", 0},
        {"\xc2", 0},
        {"\xc2 ", 0},
        {"\xe0\x9f\xbf", 0},
        {"\xed\xa0\x80", 0},
        {"\xe2\x82", 0},
        {"\xf0\x8f\xbf\xbf", 0},
        {"\xf4\x90\x80\x80", 0},
        {"\xf5\x80\x80\x80", 0},
        {"\xff", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(utf8_character(cases[i].bytes, strlen(cases[i].bytes)), cases[i].count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64_vectors),
        cmocka_unit_test(test_base64_has_one_text_for_each_value),
        cmocka_unit_test(test_base64_of_every_byte_and_length),
        cmocka_unit_test(test_percent_encoding_is_undone),
        cmocka_unit_test(test_broken_percent_encoding_is_refused),
        cmocka_unit_test(test_a_text_grows_and_shrinks),
        cmocka_unit_test(test_characters_of_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
