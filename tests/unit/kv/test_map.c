/* What a key shows, and what the change log says about it. */
#include "fixture.h"

#include <stdio.h>

static void a_put_is_read_back(void **state)
{
    struct fixture *f = *state;
    OK(fixture_put(f, "a", "one"));
    assert_string_equal(fixture_get(f, "a"), "one");
    assert_null(fixture_get(f, "b"));
    fixture_check(f);
}

static void an_overwrite_and_a_delete_win(void **state)
{
    struct fixture *f = *state;
    OK(fixture_put(f, "a", "one"));
    OK(fixture_put(f, "a", "two"));
    assert_string_equal(fixture_get(f, "a"), "two");
    OK(fixture_put(f, "a", NULL));
    assert_null(fixture_get(f, "a"));
    fixture_check(f);
}

static void everything_is_there_after_opening_again(void **state)
{
    struct fixture *f = *state;
    struct kv_counts before, after;
    for (int i = 0; i < 500; i++) {
        char key[32];
        snprintf(key, sizeof key, "key-%d", i);
        OK(fixture_put(f, key, key));
    }
    kv_counts(f->kv, &before);
    fixture_reopen(f);
    kv_counts(f->kv, &after);
    assert_int_equal(after.entries, 500);
    assert_int_equal(after.visible_keys, 500);
    assert_int_equal(after.position, before.position);
    assert_memory_equal(after.fingerprint.bytes, before.fingerprint.bytes, ID_BYTES);
    assert_string_equal(fixture_get(f, "key-77"), "key-77");
    fixture_check(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_put_is_read_back, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(an_overwrite_and_a_delete_win, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(everything_is_there_after_opening_again, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
