/* The forms of keys and contents, with the vectors of formats.md 1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/text.h"
#include "crypto/blake3.h"
#include "kv/kv.h"

static struct slice from_hex(const char *text, uint8_t *room)
{
    size_t len = strlen(text) / 2;
    assert_true(hex_decode(slice_of_text(text), HEX_LOWER_ONLY, room, len));
    return slice_of(room, len);
}

static void assert_hash(struct slice content, const char *expected)
{
    char text[ID_TEXT_MAX];
    struct hash hash;
    blake3_hash(content, &hash);
    assert_string_equal(id_format(hash.bytes, text), expected);
}

static void the_constant_contents_have_their_hashes(void **state)
{
    (void)state;
    struct hash hash;
    struct buf empty = {0};
    blake3_hash(slice_of(kv_tombstone_content, sizeof kv_tombstone_content), &hash);
    assert_memory_equal(&hash, &kv_tombstone_hash, sizeof hash);
    assert_hash(slice_of(kv_tombstone_content, 5), "183d0bd8ba096ed4b88a62d8e24db4bcaaf67af728ac81b52e1621610defb8b7");
    assert_int_equal(kv_content_prefix((struct slice){0}, 0, 0, &empty), HKV_OK);
    assert_hash(buf_slice(&empty), "8974497ec5affdd09ba3c0b87b24b8e3ac73c1caa34681840b9dfa405b3dae4d");
    blake3_hash(buf_slice(&empty), &hash);
    assert_memory_equal(&hash, &kv_empty_value_hash, sizeof hash);
    buf_fini(&empty);
}

static void an_expiring_value_is_its_stamp_and_the_value(void **state)
{
    (void)state;
    struct buf content = {0};
    struct kv_content parsed;
    assert_int_equal(kv_content_prefix(slice_of_text("worl"), 5, 1700000000000000, &content), HKV_OK);
    assert_int_equal(buf_append_slice(&content, slice_of_text("world")), HKV_OK);
    assert_hash(buf_slice(&content), "c9e3c52d7d32fa4227b9b9cb3dffc7ffe1b01cd58f2a648a7ac5eaae392c3da9");
    kv_content_parse(slice_part(buf_slice(&content), 0, KV_CONTENT_HEAD_BYTES), content.len, &parsed);
    assert_int_equal(parsed.kind, KV_VALUE);
    assert_int_equal(parsed.skip, 13);
    assert_int_equal(parsed.expires_us, 1700000000000000);
    buf_fini(&content);
}

static void a_value_that_begins_with_the_mark_is_escaped(void **state)
{
    (void)state;
    uint8_t value[5] = {0xf1, 0x68, 0x6b, 0x76, 0x00};
    struct buf content = {0};
    struct kv_content parsed;
    assert_int_equal(kv_content_prefix(slice_of(value, 4), 5, 0, &content), HKV_OK);
    assert_int_equal(buf_append(&content, value, 5), HKV_OK);
    assert_hash(buf_slice(&content), "7f6867023c32a21899f520ce390b17dfcfadb687f0a5ce3429d31716a8dbd219");
    kv_content_parse(buf_slice(&content), content.len, &parsed);
    assert_int_equal(parsed.kind, KV_VALUE);
    assert_int_equal(parsed.skip, 5);
    buf_fini(&content);
}

static void each_content_is_read_as_its_form_says(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        enum kv_kind kind;
        uint32_t skip;
        uint64_t expires_us;
    } cases[] = {
        {"", KV_TOMBSTONE, 0, 0}, /* iroh-docs' empty entry */
        {"68", KV_VALUE, 0, 0},
        {"f1", KV_VALUE, 0, 0},
        {"f1686b", KV_VALUE, 0, 0},
        {"f1686b77", KV_VALUE, 0, 0},
        {"f1686b76", KV_UNREADABLE, 0, 0},
        {"f1686b7600", KV_TOMBSTONE, 5, 0},
        {"f1686b760000", KV_UNREADABLE, 0, 0},
        {"f1686b7601", KV_VALUE, 5, 0},
        {"f1686b760101", KV_UNREADABLE, 0, 0},
        {"f1686b7602", KV_UNREADABLE, 0, 0},
        {"f1686b7602000000000000", KV_UNREADABLE, 0, 0},
        {"f1686b76020000000000000007", KV_VALUE, 13, 7},
        {"f1686b76020000000000000000", KV_VALUE, 13, 1}, /* expired long ago, not "never" */
        {"f1686b7602ffffffffffffffff68", KV_VALUE, 13, INT64_MAX},
        {"f1686b7603", KV_UNREADABLE, 0, 0},
        {"f1686b7603f1686b76", KV_VALUE, 5, 0},
        {"f1686b7604", KV_UNREADABLE, 0, 0},
        {"f1686b76ff00", KV_UNREADABLE, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t room[64];
        struct slice content = from_hex(cases[i].hex, room);
        struct kv_content parsed;
        kv_content_parse(slice_part(content, 0, KV_CONTENT_HEAD_BYTES), content.len, &parsed);
        if (parsed.kind != cases[i].kind || parsed.expires_us != cases[i].expires_us)
            fail_msg("%s: kind %d, expires %ju", cases[i].hex, (int)parsed.kind, (uintmax_t)parsed.expires_us);
        if (parsed.kind != KV_UNREADABLE) assert_int_equal(parsed.skip, cases[i].skip);
    }
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    static const char *const values[] = {"", "68", "f1", "f1686b76", "f1686b7600", "f1686b7603", "00", "ffff"};
    for (size_t i = 0; i < 2 * sizeof values / sizeof values[0]; i++) {
        uint8_t room[64];
        struct slice value = from_hex(values[i / 2], room);
        uint64_t expires_us = i % 2 ? 1700000000000000 : 0;
        struct buf content = {0};
        struct kv_content parsed;
        assert_int_equal(kv_content_prefix(slice_part(value, 0, 4), value.len, expires_us, &content), HKV_OK);
        assert_int_equal(buf_append_slice(&content, value), HKV_OK);
        kv_content_parse(slice_part(buf_slice(&content), 0, KV_CONTENT_HEAD_BYTES), content.len, &parsed);
        assert_int_equal(parsed.kind, KV_VALUE);
        assert_int_equal(parsed.expires_us, expires_us);
        assert_true(slice_equal(slice_part(buf_slice(&content), parsed.skip, content.len), value));
        buf_fini(&content);
    }
}

static void keys_out_of_the_rule_are_refused_by_name(void **state)
{
    (void)state;
    uint8_t long_key[1025];
    memset(long_key, 'k', sizeof long_key);
    assert_int_equal(kv_key_check(slice_of_text("nodes/10::1")), HKV_OK);
    assert_int_equal(kv_key_check(slice_of(long_key, 1024)), HKV_OK);
    assert_int_equal(kv_key_check(slice_of(long_key, 1025)), HKV_E_KEY);
    assert_non_null(strstr(error_last(), "1025 bytes"));
    assert_int_equal(kv_key_check((struct slice){0}), HKV_E_KEY);
    assert_non_null(strstr(error_last(), "empty"));
    assert_int_equal(kv_key_check(slice_of("a\0b", 3)), HKV_E_KEY);
    assert_non_null(strstr(error_last(), "NUL at byte 1"));
    assert_int_equal(kv_key_check(slice_of("\xff", 1)), HKV_E_KEY);
    assert_non_null(strstr(error_last(), "UTF-8"));
}

static void document_keys_are_classified(void **state)
{
    (void)state;
    uint8_t long_key[1030] = {0};
    memset(long_key, 'k', 1025);
    static const struct {
        const char *bytes;
        size_t len;
        enum kv_key_class class;
        const char *name;
    } cases[] = {
        {"a\0", 2, KV_KEY_USER, "a"},
        {"nodes/\xc3\xa9\0", 9, KV_KEY_USER, "nodes/\xc3\xa9"},
        {"\0format\0", 8, KV_KEY_SYSTEM, "format"},
        {"", 0, KV_KEY_FOREIGN, ""},
        {"\0", 1, KV_KEY_FOREIGN, ""},
        {"\0\0", 2, KV_KEY_FOREIGN, ""},
        {"a", 1, KV_KEY_FOREIGN, ""},
        {"a\0\0", 3, KV_KEY_FOREIGN, ""},
        {"a\0b\0", 4, KV_KEY_FOREIGN, ""},
        {"\xff\0", 2, KV_KEY_FOREIGN, ""},
        {"\0a\0b\0", 5, KV_KEY_FOREIGN, ""},
        {"\0\xc3\xa9\0", 4, KV_KEY_FOREIGN, ""},
    };
    struct slice name;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(kv_key_classify(slice_of(cases[i].bytes, cases[i].len), &name), cases[i].class);
        assert_true(slice_equal(name, slice_of_text(cases[i].name)));
    }
    assert_int_equal(kv_key_classify(slice_of(long_key, 1026), &name), KV_KEY_FOREIGN);
    assert_int_equal(kv_key_classify(slice_of(long_key + 1, 1025), &name), KV_KEY_USER);
}

static void encoded_keys_are_classified_back(void **state)
{
    (void)state;
    struct buf key = {0};
    struct slice name;
    assert_int_equal(kv_key_encode(slice_of_text("a/b"), &key), HKV_OK);
    assert_int_equal(kv_key_classify(buf_slice(&key), &name), KV_KEY_USER);
    assert_true(slice_equal(name, slice_of_text("a/b")));
    buf_clear(&key);
    assert_int_equal(kv_system_key_encode("member/00", &key), HKV_OK);
    assert_int_equal(kv_key_classify(buf_slice(&key), &name), KV_KEY_SYSTEM);
    assert_true(slice_equal(name, slice_of_text("member/00")));
    buf_fini(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_constant_contents_have_their_hashes),
        cmocka_unit_test(an_expiring_value_is_its_stamp_and_the_value),
        cmocka_unit_test(a_value_that_begins_with_the_mark_is_escaped),
        cmocka_unit_test(each_content_is_read_as_its_form_says),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(keys_out_of_the_rule_are_refused_by_name),
        cmocka_unit_test(document_keys_are_classified),
        cmocka_unit_test(encoded_keys_are_classified_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
