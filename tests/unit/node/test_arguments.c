/* Arguments that are missing: each function says which one, and does nothing. */
#include <string.h>

#include "unit/node/fixture.h"

struct one {
    struct node_dir dir;
    struct hkv_store *store;
};

static int setup(void **state)
{
    static struct one one;
    node_dir_make(&one.dir);
    one.store = node_open(&one.dir, NULL);
    node_put(one.store, "key", "value");
    *state = &one;
    return 0;
}

/* Closing ends: no refused call is counted as under way. */
static int teardown(void **state)
{
    struct one *one = *state;
    node_expect(one->store, "key", "value");
    hkv_close(one->store);
    node_dir_remove(&one->dir);
    return 0;
}

#define EXPECT_NAMED(name, call)                                                                                       \
    do {                                                                                                               \
        assert_err(HKV_E_INVALID, call);                                                                               \
        assert_non_null(strstr(hkv_last_error(), name));                                                               \
    } while (0)

static void callbacks_must_be_given(void **state)
{
    struct hkv_store *store = ((struct one *)*state)->store;
    struct hkv_watch *watch;
    EXPECT_NAMED("done", hkv_put_async(store, HKV_TEXT("key"), HKV_TEXT("other"), NULL, NULL, NULL));
    EXPECT_NAMED("done", hkv_delete_async(store, HKV_TEXT("key"), NULL, NULL, NULL));
    EXPECT_NAMED("done", hkv_sync_once_async(store, 1000, NULL, NULL));
    EXPECT_NAMED("done", hkv_wait_converged_async(store, NULL, 0, 1000, NULL, NULL));
    EXPECT_NAMED("done", hkv_verify_async(store, NULL, NULL, NULL));
    EXPECT_NAMED("event", hkv_watch(store, NULL, 0, NULL, NULL, &watch));
}

static void results_need_a_place(void **state)
{
    struct hkv_store *store = ((struct one *)*state)->store;
    struct hkv_options options = {0};
    EXPECT_NAMED("out", hkv_open(&options, NULL));
    EXPECT_NAMED("out", hkv_get(store, HKV_TEXT("key"), NULL));
    EXPECT_NAMED("out", hkv_list(store, NULL, 0, 0, NULL, NULL));
    EXPECT_NAMED("out", hkv_history(store, HKV_TEXT("key"), NULL));
    EXPECT_NAMED("out", hkv_watch_with(store, NULL, NULL, NULL, NULL));
    EXPECT_NAMED("out", hkv_peers(store, NULL));
    EXPECT_NAMED("out", hkv_ticket(store, HKV_TICKET_READ, NULL));
    EXPECT_NAMED("out", hkv_status(store, NULL));
    EXPECT_NAMED("out", hkv_refused(store, NULL));
    EXPECT_NAMED("out", hkv_problems(store, NULL));
    EXPECT_NAMED("out", hkv_info(store, NULL));
    EXPECT_NAMED("out", hkv_verify(store, NULL, NULL));
    EXPECT_NAMED("out", hkv_verify_dir("/nowhere", NULL, NULL));
    EXPECT_NAMED("out", hkv_version_parse("1-00", NULL));
    EXPECT_NAMED("out", hkv_position_parse("1-1", NULL));
}

static void bytes_that_are_missing_are_not_read(void **state)
{
    struct hkv_store *store = ((struct one *)*state)->store;
    struct hkv_watch_options watch = {.prefix_bytes = 1};
    struct hkv_value value;
    struct hkv_page *page;
    struct hkv_history *history;
    struct hkv_watch *opened;
    EXPECT_NAMED("key", hkv_put(store, NULL, 3, HKV_TEXT("other"), NULL, NULL));
    EXPECT_NAMED("value", hkv_put(store, HKV_TEXT("key"), NULL, 3, NULL, NULL));
    EXPECT_NAMED("key", hkv_put_fd(store, NULL, 3, 0, 0, NULL, NULL));
    EXPECT_NAMED("key", hkv_delete(store, NULL, 3, NULL, NULL));
    EXPECT_NAMED("key", hkv_get(store, NULL, 3, &value));
    EXPECT_NAMED("key", hkv_get_fd(store, NULL, 3, 1, NULL));
    EXPECT_NAMED("prefix", hkv_list_keys(store, NULL, 3, 0, NULL, &page));
    EXPECT_NAMED("key", hkv_history(store, NULL, 3, &history));
    EXPECT_NAMED("prefix", hkv_watch_with(store, &watch, (hkv_event_fn)0x1, NULL, &opened));
    assert_err(HKV_E_KEY, hkv_get(store, NULL, 0, &value));
    assert_err(HKV_E_KEY, hkv_get(store, "k", SIZE_MAX, &value));
    assert_err(HKV_E_VALUE_TOO_LARGE, hkv_put(store, HKV_TEXT("key"), "v", SIZE_MAX, NULL, NULL));
}

static void texts_and_lists_must_be_given(void **state)
{
    struct hkv_store *store = ((struct one *)*state)->store;
    struct hkv_version version;
    struct hkv_position position;
    struct hkv_watch *watch;
    const char *const none[] = {NULL};
    EXPECT_NAMED("text", hkv_version_parse(NULL, &version));
    EXPECT_NAMED("text", hkv_position_parse(NULL, &position));
    EXPECT_NAMED("options", hkv_watch_with(store, NULL, NULL, NULL, &watch));
    EXPECT_NAMED("peers", hkv_wait_converged(store, NULL, 1, 1000, NULL));
    EXPECT_NAMED("format", hkv_join(store, "doc", (enum hkv_format)7));
    assert_err(HKV_E_TICKET, hkv_wait_converged(store, none, 1, 1000, NULL));
    assert_err(HKV_E_TICKET, hkv_peer_add(store, NULL));
    assert_err(HKV_E_TICKET, hkv_peer_remove(store, NULL));
    assert_err(HKV_E_TICKET, hkv_join(store, NULL, HKV_FORMAT_AUTO));
}

static void nothing_is_done_to_nothing(void **state)
{
    (void)state;
    hkv_options_init(NULL);
    hkv_close(NULL);
    hkv_value_free(NULL);
    hkv_page_free(NULL);
    hkv_history_free(NULL);
    hkv_peers_free(NULL);
    hkv_sync_result_free(NULL);
    hkv_text_free(NULL);
    hkv_refused_free(NULL);
    hkv_problems_free(NULL);
    hkv_info_fini(NULL);
    hkv_watch_pause(NULL);
    hkv_watch_resume(NULL);
    hkv_watch_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks_must_be_given),
        cmocka_unit_test(results_need_a_place),
        cmocka_unit_test(bytes_that_are_missing_are_not_read),
        cmocka_unit_test(texts_and_lists_must_be_given),
        cmocka_unit_test(nothing_is_done_to_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
