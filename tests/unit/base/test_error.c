/* Error codes, their table, and the sentence with particulars. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void every_code_has_a_name_a_sentence_and_a_class(void **state)
{
    (void)state;
#define ROW(code, name, text, class)                                                                                   \
    assert_int_equal(name, code);                                                                                      \
    assert_string_equal(error_name(name), #name);                                                                      \
    assert_string_equal(error_sentence(name), text);                                                                   \
    assert_int_equal(error_class_of(name), ERROR_CLASS_##class);
    HKV_ERROR_TABLE(ROW)
#undef ROW
    assert_string_equal(error_name((enum hkv_err)9999), "HKV_E_INTERNAL");
    assert_string_equal(error_name((enum hkv_err) - 1), "HKV_E_INTERNAL");
}

static void context_goes_in_front(void **state)
{
    (void)state;
    assert_int_equal(error_set(HKV_E_DISK, "%s: %d bytes missing", "store.db", 7), HKV_E_DISK);
    assert_int_equal(error_wrap(HKV_E_CORRUPT, "opening %s", "/data"), HKV_E_CORRUPT);
    assert_string_equal(error_last(), "opening /data: store.db: 7 bytes missing");
    assert_int_equal(error_set(HKV_E_DISK, "again: %s", error_last()), HKV_E_DISK);
    assert_string_equal(error_last(), "again: opening /data: store.db: 7 bytes missing");
}

static void a_long_sentence_is_cut_and_stays_a_string(void **state)
{
    (void)state;
    char x[2 * ERROR_TEXT_MAX];
    memset(x, 'x', sizeof x);
    x[sizeof x - 1] = '\0';
    (void)error_set(HKV_E_INVALID, "%s", x);
    assert_int_equal(strlen(error_last()), ERROR_TEXT_MAX - 1);
    (void)error_wrap(HKV_E_INVALID, "front");
    assert_int_equal(strlen(error_last()), ERROR_TEXT_MAX - 1);
    assert_memory_equal(error_last(), "front: xxx", 10);
    (void)error_wrap(HKV_E_INVALID, "%s", x);
    assert_int_equal(strlen(error_last()), ERROR_TEXT_MAX - 1);
}

static void *fail_elsewhere(void *carried)
{
    (void)error_set(HKV_E_DISK, "on another thread");
    error_save(carried);
    return NULL;
}

static void a_sentence_belongs_to_its_thread_until_it_is_carried_over(void **state)
{
    (void)state;
    pthread_t thread;
    struct error_text carried;
    (void)error_set(HKV_E_INVALID, "here");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, &carried), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(error_last(), "here");
    error_restore(&carried);
    assert_string_equal(error_last(), "on another thread");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_name_a_sentence_and_a_class),
        cmocka_unit_test(context_goes_in_front),
        cmocka_unit_test(a_long_sentence_is_cut_and_stays_a_string),
        cmocka_unit_test(a_sentence_belongs_to_its_thread_until_it_is_carried_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
