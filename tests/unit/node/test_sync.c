/* Stores in one process that sync over real QUIC on loopback. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit/node/fixture.h"

struct two {
    struct node_dir dir[3];
    struct hkv_store *store[3];
};

static int setup(void **state)
{
    struct two *two = calloc(1, sizeof *two);
    for (int i = 0; i < 3; i++) node_dir_make(&two->dir[i]);
    for (int i = 0; i < 2; i++) two->store[i] = node_open(&two->dir[i], NAMESPACE_SECRET);
    *state = two;
    return 0;
}

static int teardown(void **state)
{
    struct two *two = *state;
    for (int i = 0; i < 3; i++) {
        hkv_close(two->store[i]);
        node_dir_remove(&two->dir[i]);
    }
    free(two);
    return 0;
}

static void writes_of_either_side_reach_the_other(void **state)
{
    struct two *two = *state;
    node_connect(two->store[0], two->store[1]);
    node_put(two->store[0], "from/0", "zero");
    node_put(two->store[1], "from/1", "one");
    node_await(two->store[1], "from/0", "zero");
    node_await(two->store[0], "from/1", "one");
    node_await_equal(two->store[0], two->store[1]);
}

static void an_overwrite_and_a_delete_win_on_the_other_side(void **state)
{
    struct two *two = *state;
    node_connect(two->store[0], two->store[1]);
    node_put(two->store[0], "k", "first");
    node_await(two->store[1], "k", "first");
    node_put(two->store[1], "k", "second");
    node_await(two->store[0], "k", "second");
    node_delete(two->store[0], "k");
    node_await(two->store[1], "k", NULL);
}

static void conflicting_keys_end_the_same_everywhere(void **state)
{
    struct two *two = *state;
    char key[16];
    for (int i = 0; i < 300; i++) {
        (void)snprintf(key, sizeof key, "k/%d", i);
        node_put(two->store[0], key, "zero");
        node_put(two->store[1], key, "one");
    }
    node_connect(two->store[0], two->store[1]);
    node_await_equal(two->store[0], two->store[1]);
    for (int i = 0; i < 300; i++) {
        struct hkv_value a, b;
        (void)snprintf(key, sizeof key, "k/%d", i);
        assert_ok(hkv_get(two->store[0], key, strlen(key), &a));
        assert_ok(hkv_get(two->store[1], key, strlen(key), &b));
        assert_int_equal(a.length, b.length);
        assert_memory_equal(a.data, b.data, a.length);
        assert_memory_equal(&a.version, &b.version, sizeof a.version);
        hkv_value_free(&a);
        hkv_value_free(&b);
    }
}

static void values_of_every_size_arrive_whole(void **state)
{
    static const size_t sizes[] = {0, 1, 1024, 16384, 16385, 1 << 20, 20 << 20};
    struct two *two = *state;
    char key[16];
    node_connect(two->store[1], two->store[0]);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *bytes = malloc(sizes[i] + 1);
        for (size_t j = 0; j < sizes[i]; j++) bytes[j] = (uint8_t)(j * 11 % 253 + i);
        (void)snprintf(key, sizeof key, "size/%zu", sizes[i]);
        assert_ok(hkv_put(two->store[0], key, strlen(key), bytes, sizes[i], NULL, NULL));
        node_await_equal(two->store[0], two->store[1]);
        struct hkv_value got;
        assert_ok(hkv_get(two->store[1], key, strlen(key), &got));
        assert_int_equal(got.length, sizes[i]);
        assert_memory_equal(got.data, bytes, sizes[i]);
        hkv_value_free(&got);
        free(bytes);
    }
}

static void many_keys_reach_an_empty_store(void **state)
{
    struct two *two = *state;
    char key[16];
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(key, sizeof key, "n/%05d", i);
        if (i % 100 == 99)
            node_put(two->store[0], key, key);
        else
            assert_ok(hkv_put_async(two->store[0], key, strlen(key), key, strlen(key), NULL, node_ignore_write, NULL));
    }
    node_connect(two->store[1], two->store[0]);
    node_await(two->store[1], "n/04999", "n/04999");
    node_await_equal(two->store[0], two->store[1]);
}

static void a_chain_of_three_comes_to_the_same(void **state)
{
    struct two *two = *state;
    two->store[2] = node_open(&two->dir[2], NAMESPACE_SECRET);
    node_connect(two->store[0], two->store[1]);
    node_connect(two->store[1], two->store[2]);
    node_put(two->store[0], "a", "1");
    node_put(two->store[2], "c", "3");
    node_await(two->store[2], "a", "1");
    node_await(two->store[0], "c", "3");
}

static void wait_converged_returns_when_both_hold_the_same(void **state)
{
    struct two *two = *state;
    uint64_t waited_ms;
    node_put(two->store[0], "a", "1");
    node_connect(two->store[1], two->store[0]);
    assert_ok(hkv_wait_converged(two->store[1], NULL, 0, 30000, &waited_ms));
    node_expect(two->store[1], "a", "1");
}

static void wait_converged_names_the_peer_that_cannot_be_reached(void **state)
{
    struct two *two = *state;
    struct hkv_info info;
    assert_ok(hkv_info(two->store[1], &info));
    hkv_close(two->store[1]);
    two->store[1] = NULL;
    assert_ok(hkv_peer_add(two->store[0], info.endpoint_ticket));
    assert_err(HKV_E_NOT_CONVERGED, hkv_wait_converged(two->store[0], NULL, 0, 300, NULL));
    char start[11] = "";
    memcpy(start, info.endpoint_id, 10);
    assert_non_null(strstr(hkv_last_error(), start));
    hkv_info_fini(&info);
}

static void sync_once_reports_each_peer(void **state)
{
    struct two *two = *state;
    struct hkv_sync_result *result;
    node_put(two->store[1], "a", "1");
    node_connect(two->store[0], two->store[1]);
    assert_ok(hkv_sync_once(two->store[0], 30000, &result));
    assert_int_equal(result->count, 1);
    assert_int_equal(result->peers[0].err, HKV_OK);
    hkv_sync_result_free(result);
}

static void a_store_that_was_away_catches_up(void **state)
{
    struct two *two = *state;
    node_connect(two->store[0], two->store[1]);
    node_put(two->store[0], "before", "1");
    node_await(two->store[1], "before", "1");
    hkv_close(two->store[1]);
    node_put(two->store[0], "meanwhile", "2");
    two->store[1] = node_open(&two->dir[1], NULL);
    node_await(two->store[1], "meanwhile", "2");
    node_await_equal(two->store[0], two->store[1]);
}

static void a_read_ticket_replicates_everything_and_writes_nothing(void **state)
{
    struct two *two = *state;
    char *ticket;
    node_put(two->store[0], "a", "1");
    two->store[2] = node_open(&two->dir[2], NULL);
    assert_ok(hkv_ticket(two->store[0], HKV_TICKET_READ, &ticket));
    assert_ok(hkv_join(two->store[2], ticket, HKV_FORMAT_AUTO));
    node_await(two->store[2], "a", "1");
    assert_err(HKV_E_READ_ONLY, hkv_put(two->store[2], HKV_TEXT("b"), HKV_TEXT("2"), NULL, NULL));
    hkv_text_free(ticket);
    assert_err(HKV_E_READ_ONLY, hkv_ticket(two->store[2], HKV_TICKET_WRITE, &ticket));
    hkv_close(two->store[2]);
    two->store[2] = node_open(&two->dir[2], NULL);
    node_expect(two->store[2], "a", "1");
}

static void a_write_ticket_opens_writes_once_the_format_is_seen(void **state)
{
    struct two *two = *state;
    char *ticket;
    two->store[2] = node_open(&two->dir[2], NULL);
    node_put(two->store[0], "a", "1");
    assert_ok(hkv_ticket(two->store[0], HKV_TICKET_WRITE, &ticket));
    assert_ok(hkv_join(two->store[2], ticket, HKV_FORMAT_AUTO));
    hkv_text_free(ticket);
    node_await(two->store[2], "a", "1");
    assert_ok(hkv_wait_converged(two->store[2], NULL, 0, 30000, NULL));
    node_await_writable(two->store[2]);
    node_put(two->store[2], "b", "2");
    node_await(two->store[0], "b", "2");
}

static void joining_is_refused_while_there_are_keys(void **state)
{
    struct two *two = *state;
    char *ticket;
    two->store[2] = node_open(&two->dir[2], NULL);
    node_put(two->store[2], "mine", "1");
    assert_ok(hkv_ticket(two->store[0], HKV_TICKET_WRITE, &ticket));
    assert_err(HKV_E_NAMESPACE, hkv_join(two->store[2], ticket, HKV_FORMAT_AUTO));
    hkv_text_free(ticket);
    node_expect(two->store[2], "mine", "1");
    node_put(two->store[2], "still", "writable");
}

/* Opens the third store, which knows the first one only because that one dialled it. */
static void open_third_met_by_first(struct two *two)
{
    two->store[2] = node_open(&two->dir[2], NAMESPACE_SECRET);
    node_connect(two->store[0], two->store[2]);
    assert_ok(hkv_sync_once(two->store[0], 30000, NULL));
}

static void expect_only_peer(struct hkv_store *store, const char *endpoint_id)
{
    struct hkv_peers *peers;
    assert_ok(hkv_peers(store, &peers));
    assert_int_equal(peers->count, 1);
    assert_string_equal(peers->peers[0].endpoint_id, endpoint_id);
    hkv_peers_free(peers);
}

static void peers_of_the_namespace_before_are_left_alone(void **state)
{
    struct two *two = *state;
    struct hkv_info info;
    struct hkv_status status;
    char *ticket;
    hkv_close(two->store[1]);
    node_dir_remove(&two->dir[1]);
    node_dir_make(&two->dir[1]);
    two->store[1] = node_open(&two->dir[1], NULL);
    assert_ok(hkv_info(two->store[1], &info));
    open_third_met_by_first(two);
    assert_ok(hkv_ticket(two->store[1], HKV_TICKET_WRITE, &ticket));
    hkv_close(two->store[1]);
    two->store[1] = NULL;
    assert_ok(hkv_join(two->store[2], ticket, HKV_FORMAT_NATIVE));
    hkv_text_free(ticket);
    expect_only_peer(two->store[2], info.endpoint_id);
    assert_ok(hkv_status(two->store[2], &status)); /* what was in sync with the old peers is no more */
    assert_false(status.conditions[HKV_CONDITION_PEER_IN_SYNC]);
    hkv_close(two->store[2]);
    two->store[2] = node_open(&two->dir[2], NULL);
    expect_only_peer(two->store[2], info.endpoint_id);
    hkv_info_fini(&info);
}

/* In a namespace of another format a record of ours would be rubbish. */
static void nothing_is_written_before_the_format_is_known(void **state)
{
    struct two *two = *state;
    struct hkv_status status;
    char *ticket;
    assert_ok(hkv_ticket(two->store[0], HKV_TICKET_WRITE, &ticket));
    hkv_close(two->store[0]);
    two->store[0] = NULL;
    two->store[2] = node_open(&two->dir[2], NULL);
    assert_ok(hkv_join(two->store[2], ticket, HKV_FORMAT_AUTO));
    assert_ok(hkv_status(two->store[2], &status));
    assert_int_equal(status.entries, 0);
    assert_ok(hkv_join(two->store[2], ticket, HKV_FORMAT_NATIVE));
    assert_ok(hkv_status(two->store[2], &status));
    assert_int_equal(status.entries, 1);
    hkv_text_free(ticket);
}

struct joining {
    pthread_barrier_t *begin;
    struct hkv_store *store;
    char *ticket;
    enum hkv_err err;
};

static void *join_thread(void *arg)
{
    struct joining *joining = arg;
    (void)pthread_barrier_wait(joining->begin);
    joining->err = hkv_join(joining->store, joining->ticket, HKV_FORMAT_AUTO);
    return NULL;
}

#define JOINS 8

/* Whichever joins last, key files and database are of one namespace. */
static void joins_at_once_leave_a_store_that_opens(void **state)
{
    struct two *two = *state;
    struct joining joining[JOINS];
    pthread_barrier_t begin;
    pthread_t threads[JOINS];
    (void)pthread_barrier_init(&begin, NULL, JOINS);
    hkv_close(two->store[1]);
    node_dir_remove(&two->dir[1]);
    node_dir_make(&two->dir[1]);
    two->store[1] = node_open(&two->dir[1], NULL);
    two->store[2] = node_open(&two->dir[2], NULL);
    for (int i = 0; i < JOINS; i++) {
        joining[i] = (struct joining){.begin = &begin, .store = two->store[2]};
        assert_ok(hkv_ticket(two->store[i % 2], HKV_TICKET_WRITE, &joining[i].ticket));
        assert_int_equal(pthread_create(&threads[i], NULL, join_thread, &joining[i]), 0);
    }
    for (int i = 0; i < JOINS; i++) {
        (void)pthread_join(threads[i], NULL);
        hkv_text_free(joining[i].ticket);
        assert_int_equal(joining[i].err, HKV_OK);
    }
    hkv_close(two->store[2]);
    two->store[2] = node_open(&two->dir[2], NULL);
    (void)pthread_barrier_destroy(&begin);
}

static void another_namespace_is_not_synced(void **state)
{
    struct two *two = *state;
    struct hkv_sync_result *result;
    two->store[2] = node_open(&two->dir[2], NULL);
    node_put(two->store[2], "secret", "1");
    node_connect(two->store[0], two->store[2]);
    assert_err(HKV_E_PEER_UNREACHABLE, hkv_sync_once(two->store[0], 30000, &result));
    assert_int_equal(result->peers[0].err, HKV_E_PEER_REFUSED);
    hkv_sync_result_free(result);
    node_expect(two->store[0], "secret", NULL);
}

static void a_peer_that_is_not_trusted_stays_out(void **state)
{
    struct two *two = *state;
    struct hkv_options options = node_options(&two->dir[2]);
    struct hkv_info info;
    struct hkv_sync_result *result;
    assert_ok(hkv_info(two->store[0], &info));
    options.namespace_secret = NAMESPACE_SECRET;
    options.trusted = (const char *const[]){info.endpoint_id};
    options.trusted_count = 1;
    assert_ok(hkv_open(&options, &two->store[2]));
    node_connect(two->store[1], two->store[2]);
    assert_err(HKV_E_PEER_UNREACHABLE, hkv_sync_once(two->store[1], 30000, &result));
    hkv_sync_result_free(result);
    node_connect(two->store[0], two->store[2]);
    assert_ok(hkv_sync_once(two->store[0], 30000, NULL));
    hkv_info_fini(&info);
}

static void a_removed_peer_is_left_alone(void **state)
{
    struct two *two = *state;
    struct hkv_info info;
    struct hkv_peers *peers;
    assert_ok(hkv_info(two->store[1], &info));
    node_connect(two->store[0], two->store[1]);
    assert_ok(hkv_sync_once(two->store[0], 30000, NULL));
    assert_ok(hkv_peer_remove(two->store[0], info.endpoint_id));
    assert_err(HKV_E_NOT_FOUND, hkv_peer_remove(two->store[0], info.endpoint_id));
    assert_ok(hkv_peers(two->store[0], &peers));
    assert_int_equal(peers->count, 0);
    hkv_peers_free(peers);
    hkv_info_fini(&info);
}

static void keep_result(void *arg, enum hkv_err err, const char *error, uint64_t waited_ms)
{
    (void)error, (void)waited_ms;
    *(enum hkv_err *)arg = err;
}

static void close_ends_a_waiting_call(void **state)
{
    struct two *two = *state;
    struct hkv_info info;
    enum hkv_err result = HKV_OK;
    assert_ok(hkv_info(two->store[1], &info));
    hkv_close(two->store[1]);
    two->store[1] = NULL;
    assert_ok(hkv_peer_add(two->store[0], info.endpoint_ticket));
    hkv_info_fini(&info);
    assert_ok(hkv_wait_converged_async(two->store[0], NULL, 0, HKV_FOREVER, keep_result, &result));
    hkv_close(two->store[0]);
    two->store[0] = NULL;
    assert_int_equal(result, HKV_E_CLOSED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(writes_of_either_side_reach_the_other),
        TEST(an_overwrite_and_a_delete_win_on_the_other_side),
        TEST(conflicting_keys_end_the_same_everywhere),
        TEST(values_of_every_size_arrive_whole),
        TEST(many_keys_reach_an_empty_store),
        TEST(a_chain_of_three_comes_to_the_same),
        TEST(wait_converged_returns_when_both_hold_the_same),
        TEST(wait_converged_names_the_peer_that_cannot_be_reached),
        TEST(sync_once_reports_each_peer),
        TEST(a_store_that_was_away_catches_up),
        TEST(a_read_ticket_replicates_everything_and_writes_nothing),
        TEST(a_write_ticket_opens_writes_once_the_format_is_seen),
        TEST(joining_is_refused_while_there_are_keys),
        TEST(peers_of_the_namespace_before_are_left_alone),
        TEST(nothing_is_written_before_the_format_is_known),
        TEST(joins_at_once_leave_a_store_that_opens),
        TEST(another_namespace_is_not_synced),
        TEST(a_peer_that_is_not_trusted_stays_out),
        TEST(a_removed_peer_is_left_alone),
        TEST(close_ends_a_waiting_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
