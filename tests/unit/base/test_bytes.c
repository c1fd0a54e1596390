/* Slices, buffers and the integers in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"

static void a_part_stays_inside_its_slice(void **state)
{
    (void)state;
    struct slice s = slice_of_text("abcdef");
    assert_true(slice_equal(slice_part(s, 2, 3), slice_of_text("cde")));
    assert_true(slice_equal(slice_part(s, 4, SIZE_MAX), slice_of_text("ef")));
    assert_int_equal(slice_part(s, 6, 1).len, 0);
    assert_int_equal(slice_part(s, SIZE_MAX, SIZE_MAX).len, 0);
}

static void order_is_by_bytes_and_prefixes_come_first(void **state)
{
    (void)state;
    static const char *const sorted[] = {"", "a", "aa", "ab", "b", "\x7f", "\x80", "\xff"};
    for (size_t i = 0; i < sizeof sorted / sizeof sorted[0]; i++)
        for (size_t j = 0; j < sizeof sorted / sizeof sorted[0]; j++) {
            int order = slice_compare(slice_of_text(sorted[i]), slice_of_text(sorted[j]));
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
            assert_int_equal(slice_equal(slice_of_text(sorted[i]), slice_of_text(sorted[j])), i == j);
        }
    assert_true(slice_starts_with(slice_of_text("abc"), slice_of_text("ab")));
    assert_true(slice_starts_with(slice_of_text("abc"), slice_of(NULL, 0)));
    assert_false(slice_starts_with(slice_of_text("ab"), slice_of_text("abc")));
}

static void a_buffer_keeps_what_is_appended_while_it_grows(void **state)
{
    (void)state;
    struct buf b = {0};
    for (unsigned i = 0; i < 10000; i++) assert_int_equal(buf_append_byte(&b, (uint8_t)i), HKV_OK);
    assert_int_equal(b.len, 10000);
    for (unsigned i = 0; i < 10000; i++) assert_int_equal(b.data[i], (uint8_t)i);
    buf_consume(&b, 9990);
    assert_int_equal(b.len, 10);
    assert_int_equal(b.data[0], (uint8_t)9990);
    buf_consume(&b, 11);
    assert_int_equal(b.len, 0);
    buf_fini(&b);
}

static void an_impossible_reservation_fails_and_changes_nothing(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_int_equal(buf_append(&b, "x", 1), HKV_OK);
    struct buf before = b;
    assert_int_equal(buf_reserve(&b, SIZE_MAX - 8), HKV_E_NOMEM);
    assert_memory_equal(&b, &before, sizeof b);
    buf_fini(&b);
}

static void assigning_replaces_and_may_take_a_part_of_itself(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_int_equal(buf_assign(&b, slice_of_text("first content")), HKV_OK);
    assert_int_equal(buf_assign(&b, slice_part(buf_slice(&b), 6, 7)), HKV_OK);
    assert_true(slice_equal(buf_slice(&b), slice_of_text("content")));
    struct buf taken = buf_take(&b);
    assert_null(b.data);
    assert_true(slice_equal(buf_slice(&taken), slice_of_text("content")));
    buf_fini(&taken);
    buf_fini(NULL);
}

static void integers_keep_their_byte_order(void **state)
{
    (void)state;
    uint8_t out[8];
    be64_store(out, 0x0102030405060708);
    assert_memory_equal(out, "\1\2\3\4\5\6\7\10", 8);
    assert_int_equal(be64_load(out), 0x0102030405060708);
    le64_store(out, 0x0102030405060708);
    assert_memory_equal(out, "\10\7\6\5\4\3\2\1", 8);
    assert_int_equal(le64_load(out), 0x0102030405060708);
    be32_store(out, 0xfffefdfc);
    assert_memory_equal(out, "\xff\xfe\xfd\xfc", 4);
    assert_int_equal(be32_load(out), 0xfffefdfc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_stays_inside_its_slice),
        cmocka_unit_test(order_is_by_bytes_and_prefixes_come_first),
        cmocka_unit_test(a_buffer_keeps_what_is_appended_while_it_grows),
        cmocka_unit_test(an_impossible_reservation_fails_and_changes_nothing),
        cmocka_unit_test(assigning_replaces_and_may_take_a_part_of_itself),
        cmocka_unit_test(integers_keep_their_byte_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
