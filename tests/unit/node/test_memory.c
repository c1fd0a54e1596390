/* Stores in memory: what a store in a directory does, and nothing of it is left behind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit/node/fixture.h"

#define LARGE_BYTES ((size_t)3 << 20)

struct two {
    struct hkv_store *store[2];
};

static struct hkv_options memory_options(void)
{
    static const struct node_dir none = {"memory"}; /* for the log's lines only */
    struct hkv_options options = node_options(&none);
    options.data_dir = NULL;
    return options;
}

static struct hkv_store *open_memory(const char *namespace_secret)
{
    struct hkv_options options = memory_options();
    struct hkv_store *store;
    options.namespace_secret = namespace_secret;
    assert_ok(hkv_open(&options, &store));
    return store;
}

static int setup(void **state)
{
    struct two *two = calloc(1, sizeof *two);
    for (int i = 0; i < 2; i++) two->store[i] = open_memory(NAMESPACE_SECRET);
    *state = two;
    return 0;
}

static int teardown(void **state)
{
    struct two *two = *state;
    for (int i = 0; i < 2; i++) hkv_close(two->store[i]);
    free(two);
    return 0;
}

static uint8_t *pattern(size_t bytes, uint8_t seed)
{
    uint8_t *out = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) out[i] = (uint8_t)(i * 7 + i / 4096 + seed);
    return out;
}

static void what_is_written_is_read_listed_and_deleted(void **state)
{
    struct hkv_store *store = ((struct two *)*state)->store[0];
    struct hkv_page *page;
    node_put(store, "a", "1");
    node_put(store, "b", "2");
    node_put(store, "a", "3");
    node_delete(store, "b");
    node_expect(store, "a", "3");
    node_expect(store, "b", NULL);
    assert_ok(hkv_list(store, NULL, 0, 0, NULL, &page));
    assert_int_equal(page->count, 1);
    assert_string_equal(page->entries[0].key, "a");
    hkv_page_free(page);
}

static void a_large_value_streams_in_and_out(void **state)
{
    struct hkv_store *store = ((struct two *)*state)->store[0];
    uint8_t *bytes = pattern(LARGE_BYTES, 1), *back = malloc(LARGE_BYTES + 1);
    FILE *in = tmpfile(), *out = tmpfile();
    assert_int_equal(fwrite(bytes, 1, LARGE_BYTES, in), LARGE_BYTES);
    rewind(in);
    assert_ok(hkv_put_fd(store, HKV_TEXT("large"), fileno(in), UINT64_MAX, NULL, NULL));
    assert_ok(hkv_get_fd(store, HKV_TEXT("large"), fileno(out), NULL));
    rewind(out);
    assert_int_equal(fread(back, 1, LARGE_BYTES + 1, out), LARGE_BYTES);
    assert_memory_equal(bytes, back, LARGE_BYTES);
    (void)fclose(in);
    (void)fclose(out);
    free(bytes);
    free(back);
}

static void two_of_them_sync_small_and_large_values(void **state)
{
    struct two *two = *state;
    uint8_t *bytes = pattern(LARGE_BYTES, 2);
    struct hkv_value got;
    node_connect(two->store[0], two->store[1]);
    node_put(two->store[1], "small", "from 1");
    assert_ok(hkv_put(two->store[0], HKV_TEXT("large"), bytes, LARGE_BYTES, NULL, NULL));
    node_await(two->store[0], "small", "from 1");
    node_await_equal(two->store[0], two->store[1]);
    assert_ok(hkv_get(two->store[1], HKV_TEXT("large"), &got));
    assert_int_equal(got.length, LARGE_BYTES);
    assert_memory_equal(got.data, bytes, LARGE_BYTES);
    hkv_value_free(&got);
    free(bytes);
}

static void it_joins_by_ticket(void **state)
{
    struct two *two = *state;
    char *ticket;
    hkv_close(two->store[1]);
    two->store[1] = open_memory(NULL);
    node_put(two->store[0], "k", "v");
    assert_ok(hkv_ticket(two->store[0], HKV_TICKET_WRITE, &ticket));
    assert_ok(hkv_join(two->store[1], ticket, HKV_FORMAT_AUTO));
    hkv_text_free(ticket);
    node_await(two->store[1], "k", "v");
    node_await_writable(two->store[1]);
}

static void opened_again_it_is_another_store(void **state)
{
    struct two *two = *state;
    struct hkv_info before, after;
    hkv_close(two->store[0]);
    two->store[0] = open_memory(NULL);
    node_put(two->store[0], "k", "v");
    assert_ok(hkv_info(two->store[0], &before));
    hkv_close(two->store[0]);
    two->store[0] = open_memory(NULL);
    assert_ok(hkv_info(two->store[0], &after));
    node_expect(two->store[0], "k", NULL);
    assert_string_not_equal(before.namespace_id, after.namespace_id);
    assert_string_not_equal(before.author_id, after.author_id);
    assert_string_not_equal(before.endpoint_id, after.endpoint_id);
    assert_string_equal(after.data_dir, "");
    hkv_info_fini(&before);
    hkv_info_fini(&after);
}

static void given_secrets_give_the_same_ids(void **state)
{
    struct hkv_info info[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct hkv_options options = memory_options();
        struct hkv_store *store;
        options.namespace_secret = NAMESPACE_SECRET;
        options.endpoint_secret = options.author_secret = NODE_SECRET_1;
        assert_ok(hkv_open(&options, &store));
        assert_ok(hkv_info(store, &info[i]));
        hkv_close(store);
    }
    assert_string_equal(info[0].endpoint_id, info[1].endpoint_id);
    assert_string_equal(info[0].author_id, info[1].author_id);
    assert_string_equal(info[0].namespace_id, info[1].namespace_id);
    for (int i = 0; i < 2; i++) hkv_info_fini(&info[i]);
}

static void a_full_one_refuses_writes_and_goes_on_reading(void **state)
{
    struct hkv_options options = memory_options();
    struct hkv_store *store;
    char key[16];
    int stored = 0;
    enum hkv_err err;
    (void)state;
    options.disk_bytes = 4 << 20;
    assert_ok(hkv_open(&options, &store));
    uint8_t *bytes = pattern(256 << 10, 3);
    do {
        (void)snprintf(key, sizeof key, "k%d", stored);
        bytes[0] = (uint8_t)stored;
        err = hkv_put(store, key, strlen(key), bytes, 256 << 10, NULL, NULL);
    } while (err == HKV_OK && ++stored < 100);
    assert_err(HKV_E_LIMIT, err);
    assert_in_range(stored, 8, 16);
    struct hkv_value got;
    assert_ok(hkv_get(store, HKV_TEXT("k0"), &got));
    assert_int_equal(got.length, 256 << 10);
    hkv_value_free(&got);
    hkv_close(store);
    free(bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_is_read_listed_and_deleted),
        TEST(a_large_value_streams_in_and_out),
        TEST(two_of_them_sync_small_and_large_values),
        TEST(it_joins_by_ticket),
        TEST(opened_again_it_is_another_store),
        cmocka_unit_test(given_secrets_give_the_same_ids),
        cmocka_unit_test(a_full_one_refuses_writes_and_goes_on_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
