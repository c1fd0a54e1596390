/* Text encodings: RFC 4648 vectors, strictness, and the UTF-8 boundaries of Unicode table 3-7. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/text.h"

static const char id_hex[] = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6";
static const char id_base32[] = "vzmp7cbteqnmqllp65qrarxnm62qoliufrmi2add5fbntj2vak3a";

static void hex_reads_what_it_wrote(void **state)
{
    (void)state;
    uint8_t id[ID_BYTES];
    char text[ID_TEXT_MAX];
    assert_true(hex_decode(slice_of_text(id_hex), HEX_LOWER_ONLY, id, sizeof id));
    assert_string_equal(id_format(id, text), id_hex);
    hex_encode(slice_of(NULL, 0), text);
    assert_string_equal(text, "");
}

static void hex_refuses_other_lengths_letters_and_case(void **state)
{
    (void)state;
    uint8_t out[2];
    assert_true(hex_decode(slice_of_text("00fF"), HEX_ANY_CASE, out, 2));
    assert_int_equal(out[1], 0xff);
    static const char *const bad[] = {"00fF", "00f", "00ff0", "00ff00", "", "00fg", "0 ff", "0x00", "00f\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(hex_decode(slice_of_text(bad[i]), HEX_LOWER_ONLY, out, 2));
}

struct pair {
    const char *bytes;
    const char *text;
};

static void base32_agrees_with_rfc_4648(void **state)
{
    (void)state;
    static const struct pair vectors[] = {{"", ""},
                                          {"f", "my"},
                                          {"fo", "mzxq"},
                                          {"foo", "mzxw6"},
                                          {"foob", "mzxw6yq"},
                                          {"fooba", "mzxw6ytb"},
                                          {"foobar", "mzxw6ytboi"}};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct buf text = {0}, bytes = {0};
        assert_int_equal(base32_encode(slice_of_text(vectors[i].bytes), &text), HKV_OK);
        assert_true(slice_equal(buf_slice(&text), slice_of_text(vectors[i].text)));
        assert_int_equal(base32_decode(buf_slice(&text), &bytes), HKV_OK);
        assert_true(slice_equal(buf_slice(&bytes), slice_of_text(vectors[i].bytes)));
        buf_fini(&text);
        buf_fini(&bytes);
    }
}

static void base32_reads_either_case(void **state)
{
    (void)state;
    struct buf bytes = {0};
    assert_int_equal(base32_decode(slice_of_text("MzXw6YtBoI"), &bytes), HKV_OK);
    assert_true(slice_equal(buf_slice(&bytes), slice_of_text("foobar")));
    buf_fini(&bytes);
}

/* Refuses `text` and leaves what stood in the buffer alone. */
static void assert_refused(enum hkv_err (*decode)(struct slice, struct buf *), const char *text)
{
    struct buf out = {0};
    assert_int_equal(buf_append(&out, "kept", 4), HKV_OK);
    if (decode(slice_of_text(text), &out) != HKV_E_INVALID) fail_msg("accepted: %s", text);
    assert_true(slice_equal(buf_slice(&out), slice_of_text("kept")));
    buf_fini(&out);
}

static void base32_refuses_impossible_lengths_stray_bits_and_characters(void **state)
{
    (void)state;
    static const char *const bad[] = {"m",  "mzx",  "mzxw6y", "mz",         "mzxr", "mzxw7", "mzxw6yr",
                                      "m1", "my==", " my",    "my\xc3\xa4", "m0",   "m8",    "my "};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_refused(base32_decode, bad[i]);
}

static void base64_agrees_with_rfc_4648(void **state)
{
    (void)state;
    static const struct pair vectors[] = {{"", ""},
                                          {"f", "Zg=="},
                                          {"fo", "Zm8="},
                                          {"foo", "Zm9v"},
                                          {"foob", "Zm9vYg=="},
                                          {"fooba", "Zm9vYmE="},
                                          {"foobar", "Zm9vYmFy"},
                                          {"\xfb\xff\xfe", "+//+"}};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct buf text = {0}, bytes = {0};
        assert_int_equal(base64_encode(slice_of_text(vectors[i].bytes), &text), HKV_OK);
        assert_true(slice_equal(buf_slice(&text), slice_of_text(vectors[i].text)));
        assert_int_equal(base64_decode(buf_slice(&text), &bytes), HKV_OK);
        assert_true(slice_equal(buf_slice(&bytes), slice_of_text(vectors[i].bytes)));
        buf_fini(&text);
        buf_fini(&bytes);
    }
}

static void base64_refuses_all_but_the_canonical_form(void **state)
{
    (void)state;
    static const char *const bad[] = {"Zg",     "Zg=",  "Zh==", "Zm9=", "====",     "=g==", "Z===",        "Zg==Zg==",
                                      "Zm9v\n", "Zm-_", "Zm9 ", "Zg=a", "Zm9vZg=a", "A",    "Zm9v\xff+++", "Zm9vY"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_refused(base64_decode, bad[i]);
}

static void a_secret_is_hex_or_base32_in_either_case(void **state)
{
    (void)state;
    static const char *const good[] = {id_hex, id_base32,
                                       "AE58FF8833241AC82D6FF7611046ED67B5072D142C588D0063E942D9A75502B6",
                                       "VZMP7CBTEQNMQLLP65QRARXNM62QOLIUFRMI2ADD5FBNTJ2VAK3A"};
    uint8_t id[ID_BYTES];
    assert_true(hex_decode(slice_of_text(id_hex), HEX_LOWER_ONLY, id, sizeof id));
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct secret_key secret;
        assert_int_equal(secret_key_parse("--author-secret", slice_of_text(good[i]), &secret), HKV_OK);
        assert_memory_equal(secret.bytes, id, ID_BYTES);
    }
}

static void a_bad_secret_is_named_and_not_shown(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "ae58",
                                      "vzmp7cbteqnmqllp65qrarxnm62qoliufrmi2add5fbntj2vak3b", /* stray bit */
                                      "ge58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6",
                                      " vzmp7cbteqnmqllp65qrarxnm62qoliufrmi2add5fbntj2vak3a"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct secret_key secret;
        assert_int_equal(secret_key_parse("keys/node.secret", slice_of_text(bad[i]), &secret), HKV_E_INVALID);
        assert_non_null(strstr(error_last(), "keys/node.secret: "));
        if (bad[i][0] != '\0') assert_null(strstr(error_last(), bad[i]));
    }
}

static void utf8_accepts_every_well_formed_boundary(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "plain",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) assert_true(utf8_is_valid(slice_of_text(good[i])));
    assert_true(utf8_is_valid(slice_of("a\0b", 3)));
    assert_true(utf8_is_valid(slice_of(NULL, 0)));
}

static void utf8_refuses_every_ill_formed_boundary(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2\x7f",
                                      "\xc2\xc0",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xe1\x80",
                                      "\xe1\x80\x7f",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xf1\x80\x80",
                                      "\xf1\x80\x80\xc0",
                                      "\xff",
                                      "ok\xfe"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(utf8_is_valid(slice_of_text(bad[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hex_reads_what_it_wrote),
        cmocka_unit_test(hex_refuses_other_lengths_letters_and_case),
        cmocka_unit_test(base32_agrees_with_rfc_4648),
        cmocka_unit_test(base32_reads_either_case),
        cmocka_unit_test(base32_refuses_impossible_lengths_stray_bits_and_characters),
        cmocka_unit_test(base64_agrees_with_rfc_4648),
        cmocka_unit_test(base64_refuses_all_but_the_canonical_form),
        cmocka_unit_test(a_secret_is_hex_or_base32_in_either_case),
        cmocka_unit_test(a_bad_secret_is_named_and_not_shown),
        cmocka_unit_test(utf8_accepts_every_well_formed_boundary),
        cmocka_unit_test(utf8_refuses_every_ill_formed_boundary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
