/* Nodes with wrong clocks: what they and their peers see, say, refuse and keep. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "node/node.h"
#include "node/records.h"
#include "unit/node/fixture_clock.h"

#define NODES_MAX 3
#define AWAIT_S   60

struct nodes {
    atomic_int warnings[NODES_MAX]; /* about the clocks of peers */
    struct node_dir dir[NODES_MAX];
    struct test_clock clock[NODES_MAX];
    struct hkv_store *store[NODES_MAX];
};

static int setup(void **state)
{
    struct nodes *nodes = calloc(1, sizeof *nodes);
    for (int i = 0; i < NODES_MAX; i++) node_dir_make(&nodes->dir[i]);
    *state = nodes;
    return 0;
}

static int teardown(void **state)
{
    struct nodes *nodes = *state;
    for (int i = 0; i < NODES_MAX; i++) {
        hkv_close(nodes->store[i]);
        node_dir_remove(&nodes->dir[i]);
    }
    free(nodes);
    return 0;
}

static void count_warning(void *arg, enum hkv_log_level level, const char *module, const char *message)
{
    if (level == HKV_LOG_WARN && strcmp(module, "clock") == 0 && strncmp(message, "the clock of", 12) == 0)
        atomic_fetch_add((atomic_int *)arg, 1);
}

static void open_one(struct nodes *nodes, int i, int64_t ahead_us)
{
    struct hkv_options options = node_options(&nodes->dir[i]);
    options.namespace_secret = NAMESPACE_SECRET;
    options.anti_entropy_ms = 200;
    options.log = count_warning;
    options.log_arg = &nodes->warnings[i];
    atomic_store(&nodes->clock[i].ahead_us, ahead_us);
    nodes->store[i] = clock_open(&options, &nodes->clock[i]);
}

static enum hkv_err try_put(struct hkv_store *store, const char *key)
{
    return hkv_put(store, key, strlen(key), "v", 1, NULL, NULL);
}

/* Calls `holds` until it does, or fails with what was waited for. */
static void await(bool (*holds)(struct nodes *nodes), struct nodes *nodes, const char *what)
{
    time_t end = time(NULL) + AWAIT_S;
    while (!holds(nodes)) {
        if (time(NULL) > end) fail_msg("did not come to hold: %s", what);
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

#define AWAIT(holds) await(holds, nodes, #holds)

/* What `store` says of its only peer's clock, as `*skew_us`. */
static enum hkv_skew skew_seen(struct hkv_store *store, int64_t *skew_us)
{
    struct hkv_peers *peers;
    assert_ok(hkv_peers(store, &peers));
    enum hkv_skew kind = peers->count == 0 ? HKV_SKEW_UNKNOWN : peers->peers[0].clock_skew;
    *skew_us = peers->count == 0 ? 0 : peers->peers[0].clock_skew_us;
    hkv_peers_free(peers);
    return kind;
}

static bool both_measured(struct nodes *nodes)
{
    int64_t unused;
    return skew_seen(nodes->store[0], &unused) == HKV_SKEW_MEASURED &&
           skew_seen(nodes->store[1], &unused) == HKV_SKEW_MEASURED;
}

static void skew_is_measured_on_both_sides_and_follows_our_own_clock(void **state)
{
    struct nodes *nodes = *state;
    int64_t skew_us;
    open_one(nodes, 0, 0);
    open_one(nodes, 1, 20 * SECOND_US);
    node_connect(nodes->store[0], nodes->store[1]);
    AWAIT(both_measured);
    (void)skew_seen(nodes->store[0], &skew_us);
    assert_in_range(skew_us, 15 * SECOND_US, 21 * SECOND_US); /* 5 s for a machine that is very busy */
    (void)skew_seen(nodes->store[1], &skew_us);
    assert_in_range(-skew_us, 15 * SECOND_US, 25 * SECOND_US);
    atomic_store(&nodes->clock[0].ahead_us, 20 * SECOND_US);
    (void)skew_seen(nodes->store[0], &skew_us);
    assert_in_range(skew_us + 5 * SECOND_US, 0, 6 * SECOND_US);
}

static uint64_t sessions_of_first(struct nodes *nodes)
{
    struct hkv_status status;
    assert_ok(hkv_status(nodes->store[0], &status));
    return status.sessions_ok;
}

static uint64_t sessions_before;

static bool first_had_five_sessions_more(struct nodes *nodes)
{
    return sessions_of_first(nodes) >= sessions_before + 5;
}

static void await_five_sessions(struct nodes *nodes)
{
    sessions_before = sessions_of_first(nodes);
    AWAIT(first_had_five_sessions_more);
}

static void a_skew_of_a_second_is_warned_of_once_for_each_change(void **state)
{
    struct nodes *nodes = *state;
    open_one(nodes, 0, 0);
    open_one(nodes, 1, 0);
    node_connect(nodes->store[0], nodes->store[1]);
    AWAIT(both_measured);
    await_five_sessions(nodes);
    assert_int_equal(atomic_load(&nodes->warnings[0]), 0);
    atomic_store(&nodes->clock[1].ahead_us, 100 * SECOND_US);
    await_five_sessions(nodes);
    assert_int_equal(atomic_load(&nodes->warnings[0]), 1);
    atomic_store(&nodes->clock[1].ahead_us, -200 * SECOND_US);
    await_five_sessions(nodes);
    assert_int_equal(atomic_load(&nodes->warnings[0]), 2);
}

static void a_clock_from_the_end_of_time_is_shown_and_harms_nobody(void **state)
{
    struct nodes *nodes = *state;
    int64_t skew_us;
    open_one(nodes, 0, 0);
    open_one(nodes, 1, INT64_MAX / 2);
    node_connect(nodes->store[0], nodes->store[1]);
    AWAIT(both_measured);
    (void)skew_seen(nodes->store[0], &skew_us);
    assert_true(skew_us > (int64_t)365 * 24 * 3600 * SECOND_US);
    assert_ok(try_put(nodes->store[0], "k"));
    node_await(nodes->store[1], "k", "v");
}

static bool first_is_sane(struct nodes *nodes)
{
    struct hkv_status status;
    assert_ok(hkv_status(nodes->store[0], &status));
    assert_int_equal(status.conditions[HKV_CONDITION_CLOCK_SANE], status.clock_why[0] == '\0');
    return status.conditions[HKV_CONDITION_CLOCK_SANE];
}

static bool first_is_not_sane(struct nodes *nodes)
{
    return !first_is_sane(nodes);
}

static void two_peers_and_no_fewer_stop_the_writes_of_a_node_that_is_behind(void **state)
{
    struct nodes *nodes = *state;
    struct hkv_status status;
    open_one(nodes, 0, -6 * MINUTE_US);
    open_one(nodes, 1, 0);
    open_one(nodes, 2, 0);
    node_connect(nodes->store[0], nodes->store[1]);
    AWAIT(both_measured);
    assert_ok(try_put(nodes->store[0], "one"));
    assert_true(first_is_sane(nodes));
    node_connect(nodes->store[0], nodes->store[2]);
    AWAIT(first_is_not_sane);
    assert_err(HKV_E_CLOCK, try_put(nodes->store[0], "two"));
    assert_non_null(strstr(hkv_last_error(), "behind those of at least two peers"));
    assert_non_null(strstr(hkv_last_error(), "allow_bad_clock"));
    assert_ok(hkv_status(nodes->store[0], &status));
    assert_false(status.healthy);
    assert_ok(try_put(nodes->store[1], "theirs"));
    node_await(nodes->store[0], "theirs", "v"); /* it reads and replicates all the same */
    atomic_store(&nodes->clock[0].ahead_us, 0);
    assert_ok(try_put(nodes->store[0], "three")); /* at once, before the next session */
    assert_true(first_is_sane(nodes));
}

static void who_allows_a_bad_clock_writes_and_is_not_healthy(void **state)
{
    struct nodes *nodes = *state;
    struct hkv_options options = node_options(&nodes->dir[0]);
    options.namespace_secret = NAMESPACE_SECRET;
    options.allow_bad_clock = true;
    clock_to_1970(&nodes->clock[0]);
    nodes->store[0] = clock_open(&options, &nodes->clock[0]);
    assert_ok(try_put(nodes->store[0], "k"));
    assert_false(first_is_sane(nodes));
}

static void a_node_that_is_far_ahead_of_two_peers_says_so(void **state)
{
    struct nodes *nodes = *state;
    struct hkv_status status;
    open_one(nodes, 0, 20 * MINUTE_US);
    open_one(nodes, 1, 0);
    open_one(nodes, 2, 0);
    node_connect(nodes->store[0], nodes->store[1]);
    node_connect(nodes->store[0], nodes->store[2]);
    AWAIT(first_is_not_sane);
    assert_ok(hkv_status(nodes->store[0], &status));
    assert_non_null(strstr(status.clock_why, "ahead of those of at least two peers"));
    atomic_store(&nodes->clock[0].ahead_us, 0);
    assert_true(first_is_sane(nodes));
}

static bool second_has_refused_some(struct nodes *nodes)
{
    struct hkv_status status;
    assert_ok(hkv_status(nodes->store[1], &status));
    return status.entries_refused > 0;
}

/* Ahead for a while, then right again: what was written meanwhile is there in the end, and says so until then. */
static void a_clock_that_jumps_ahead_and_back_loses_nothing(void **state)
{
    struct nodes *nodes = *state;
    open_one(nodes, 0, 0);
    open_one(nodes, 1, 0);
    node_connect(nodes->store[0], nodes->store[1]);
    node_put(nodes->store[0], "a", "before");
    node_await(nodes->store[1], "a", "before");
    atomic_store(&nodes->clock[0].ahead_us, 20 * MINUTE_US);
    node_put(nodes->store[0], "ahead", "v");
    node_put(nodes->store[0], "a", "ahead");
    AWAIT(second_has_refused_some);
    atomic_store(&nodes->clock[0].ahead_us, 0);
    assert_err(HKV_E_STAMP_AHEAD, try_put(nodes->store[0], "other"));
    assert_non_null(strstr(hkv_last_error(), "this node's own last stamp"));
    node_put(nodes->store[1], "b", "meanwhile"); /* the other writes on, and is heard */
    node_await(nodes->store[0], "b", "meanwhile");
    for (int i = 0; i < 2; i++) atomic_store(&nodes->clock[i].ahead_us, 16 * MINUTE_US); /* time passes */
    node_await(nodes->store[1], "ahead", "v");
    node_await(nodes->store[1], "a", "ahead");
    node_put(nodes->store[0], "a", "after"); /* four minutes ahead of the clock */
    node_await(nodes->store[1], "a", "after");
    node_await_equal(nodes->store[0], nodes->store[1]);
}

#define KEYS 150

static bool first_has_all_keys(struct nodes *nodes)
{
    struct hkv_status status;
    assert_ok(hkv_status(nodes->store[0], &status));
    return status.visible_keys == KEYS && status.entries_refused == 0 && status.values_missing == 0;
}

static void a_flood_from_the_future_ends_the_session_and_is_stored_when_the_clock_is_set(void **state)
{
    struct nodes *nodes = *state;
    struct hkv_status status;
    struct hkv_info other;
    struct hkv_refused *refused;
    open_one(nodes, 0, 0);
    open_one(nodes, 1, 20 * MINUTE_US);
    for (int i = 0; i < KEYS; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "key/%d", i);
        assert_ok(try_put(nodes->store[1], key));
    }
    node_connect(nodes->store[0], nodes->store[1]);
    AWAIT(first_is_not_sane);
    assert_ok(hkv_status(nodes->store[0], &status));
    assert_non_null(strstr(status.clock_why, "seem to come from the future"));
    assert_int_equal(status.visible_keys, 0);
    assert_true(status.entries_refused >= 100);
    assert_ok(hkv_info(nodes->store[1], &other));
    char prefix[HKV_ID_TEXT_BYTES];
    (void)snprintf(prefix, sizeof prefix, "%.10s", other.endpoint_id);
    assert_non_null(strstr(status.clock_why, prefix));
    assert_ok(hkv_refused(nodes->store[0], &refused));
    assert_int_equal(refused->count, 1);
    assert_string_equal(refused->items[0].author, other.author_id);
    assert_string_equal(refused->items[0].peer, other.endpoint_id);
    assert_true(refused->items[0].entries >= 100);
    assert_in_range(refused->items[0].ahead_us, 15 * MINUTE_US, 20 * MINUTE_US);
    hkv_refused_free(refused);
    hkv_info_fini(&other);
    assert_ok(try_put(nodes->store[0], "ours")); /* a single peer does not stop our writes */
    assert_ok(hkv_delete(nodes->store[0], "ours", 4, NULL, NULL));
    hkv_close(nodes->store[0]);
    open_one(nodes, 0, 20 * MINUTE_US); /* theirs was right */
    AWAIT(first_has_all_keys);
    AWAIT(first_is_sane);
}

static bool first_has_refused_some(struct nodes *nodes)
{
    struct hkv_status status;
    assert_ok(hkv_status(nodes->store[0], &status));
    return status.entries_refused > 0;
}

static bool first_has_its_records(struct nodes *nodes)
{
    struct hkv_status status;
    assert_ok(hkv_status(nodes->store[0], &status));
    return status.entries >= 2; /* format and member */
}

static void check_often(struct hkv_store *store, void *arg)
{
    (void)arg;
    store->patience.records_check_us = 100000;
    records_begin(store->records);
}

static void a_start_in_1970_writes_nothing_until_the_clock_is_set(void **state)
{
    struct nodes *nodes = *state;
    struct hkv_options options = node_options(&nodes->dir[0]);
    struct hkv_status status;
    options.namespace_secret = NAMESPACE_SECRET;
    clock_to_1970(&nodes->clock[0]);
    nodes->store[0] = clock_open(&options, &nodes->clock[0]);
    node_on_network(nodes->store[0], check_often, NULL);
    assert_err(HKV_E_CLOCK, try_put(nodes->store[0], "k"));
    assert_non_null(strstr(hkv_last_error(), "1970-01-01"));
    open_one(nodes, 1, 0);
    node_put(nodes->store[1], "theirs", "v");
    node_connect(nodes->store[0], nodes->store[1]);
    AWAIT(first_has_refused_some); /* what the other wrote is from the future, by this clock */
    assert_ok(hkv_status(nodes->store[0], &status));
    assert_int_equal(status.entries, 0);
    assert_false(status.conditions[HKV_CONDITION_CLOCK_SANE]);
    atomic_store(&nodes->clock[0].ahead_us, 0);
    AWAIT(first_has_its_records);
    node_await(nodes->store[0], "theirs", "v");
    assert_ok(try_put(nodes->store[0], "k"));
    node_await(nodes->store[1], "k", "v");
    AWAIT(first_is_sane);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(skew_is_measured_on_both_sides_and_follows_our_own_clock),
        TEST(two_peers_and_no_fewer_stop_the_writes_of_a_node_that_is_behind),
        TEST(who_allows_a_bad_clock_writes_and_is_not_healthy),
        TEST(a_node_that_is_far_ahead_of_two_peers_says_so),
        TEST(a_skew_of_a_second_is_warned_of_once_for_each_change),
        TEST(a_clock_from_the_end_of_time_is_shown_and_harms_nobody),
        TEST(a_clock_that_jumps_ahead_and_back_loses_nothing),
        TEST(a_start_in_1970_writes_nothing_until_the_clock_is_set),
        TEST(a_flood_from_the_future_ends_the_session_and_is_stored_when_the_clock_is_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
