/* What status, peers, problems and wait_converged say of a node that lacks something. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unit/node/fixture.h"

#define AWAIT_S 30

struct pair {
    struct node_dir dirs[2];
    struct hkv_store *a;
    struct hkv_store *b;
};

static struct hkv_store *open_limited(const struct node_dir *dir, uint64_t max_value_bytes)
{
    struct hkv_options options = node_options(dir);
    struct hkv_store *store;
    options.namespace_secret = NAMESPACE_SECRET;
    if (max_value_bytes) options.max_value_bytes = max_value_bytes;
    assert_ok(hkv_open(&options, &store));
    return store;
}

static int setup(void **state)
{
    struct pair *p = calloc(1, sizeof *p);
    node_dir_make(&p->dirs[0]);
    node_dir_make(&p->dirs[1]);
    p->a = open_limited(&p->dirs[0], 0);
    p->b = open_limited(&p->dirs[1], 1000);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct pair *p = *state;
    hkv_close(p->a);
    hkv_close(p->b);
    node_dir_remove(&p->dirs[0]);
    node_dir_remove(&p->dirs[1]);
    free(p);
    return 0;
}

static struct hkv_status status_of(struct hkv_store *store)
{
    struct hkv_status status;
    assert_ok(hkv_status(store, &status));
    return status;
}

static void pause_a_little(void)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    (void)nanosleep(&pause, NULL);
}

/* Member records may lack their values for a moment. */
static void await_none_missing(struct hkv_store *store)
{
    time_t end = time(NULL) + AWAIT_S;
    while (status_of(store).values_missing > 0) {
        if (time(NULL) > end) fail_msg("values are missing for %d s", AWAIT_S);
        pause_a_little();
    }
}

static void await_too_large(struct hkv_store *store, uint64_t count)
{
    time_t end = time(NULL) + AWAIT_S;
    while (status_of(store).values_too_large != count) {
        if (time(NULL) > end) fail_msg("not %d values too large in %d s", (int)count, AWAIT_S);
        pause_a_little();
    }
}

/* The list, with that many values too large at its front; the peers' records may be missing for a moment. */
static struct hkv_problems *listed(struct hkv_store *store, size_t too_large)
{
    struct hkv_problems *problems;
    size_t count = 0;
    assert_ok(hkv_problems(store, &problems));
    while (count < problems->count && problems->items[count].kind == HKV_PROBLEM_TOO_LARGE) count++;
    assert_int_equal(count, too_large);
    return problems;
}

static char *id_of(struct hkv_store *store)
{
    struct hkv_info info;
    assert_ok(hkv_info(store, &info));
    char *id = strdup(info.endpoint_id);
    hkv_info_fini(&info);
    return id;
}

static void a_value_too_large_keeps_the_old_one_shown_and_is_listed(void **state)
{
    struct pair *p = *state;
    char large[5000];
    struct hkv_problems *problems;
    memset(large, 'x', sizeof large);
    node_connect(p->b, p->a);
    node_put(p->a, "k", "small");
    node_await(p->b, "k", "small");
    assert_ok(hkv_put(p->a, HKV_TEXT("k"), large, sizeof large, NULL, NULL));
    await_too_large(p->b, 1);
    node_expect(p->b, "k", "small");
    await_none_missing(p->b);
    struct hkv_status status = status_of(p->b);
    assert_false(status.conditions[HKV_CONDITION_VALUES_COMPLETE]);
    assert_false(status.healthy);
    problems = listed(p->b, 1);
    const struct hkv_problem *problem = &problems->items[0];
    struct hkv_history *history;
    assert_ok(hkv_history(p->a, HKV_TEXT("k"), &history));
    assert_int_equal(problem->kind, HKV_PROBLEM_TOO_LARGE);
    assert_string_equal(problem->key, "k");
    assert_true(problem->is_user_key);
    assert_memory_equal(problem->author, history->entries[0].version.author, 32);
    assert_int_equal(problem->length, sizeof large);
    assert_true(problem->since_us > 0);
    assert_non_null(strstr(problem->why, "max_value_bytes (1000)"));
    hkv_history_free(history);
    hkv_problems_free(problems);
    /* Too large is not missing: nothing is waited for. */
    assert_ok(hkv_wait_converged(p->b, NULL, 0, AWAIT_S * 1000, NULL));
    node_put(p->a, "k", "small again");
    node_await(p->b, "k", "small again");
    await_too_large(p->b, 0);
    hkv_problems_free(listed(p->b, 0));
}

static void a_loser_that_is_too_large_is_listed_too(void **state)
{
    struct pair *p = *state;
    char large[5000];
    memset(large, 'x', sizeof large);
    assert_ok(hkv_put(p->a, HKV_TEXT("k"), large, sizeof large, NULL, NULL));
    node_put(p->b, "k", "winner");
    node_connect(p->b, p->a);
    await_too_large(p->b, 1);
    node_expect(p->b, "k", "winner");
    struct hkv_problems *problems = listed(p->b, 1);
    assert_string_equal(problems->items[0].key, "k");
    hkv_problems_free(problems);
}

static const struct hkv_peer *only_peer(struct hkv_store *store, struct hkv_peers **peers)
{
    assert_ok(hkv_peers(store, peers));
    assert_int_equal((*peers)->count, 1);
    return (*peers)->peers;
}

static void a_peer_says_since_when_it_is_gone_and_why(void **state)
{
    struct pair *p = *state;
    struct hkv_peers *peers;
    node_connect(p->a, p->b);
    node_put(p->a, "k", "v");
    assert_ok(hkv_wait_converged(p->a, NULL, 0, AWAIT_S * 1000, NULL));
    const struct hkv_peer *peer = only_peer(p->a, &peers);
    assert_true(peer->connected);
    assert_int_equal(peer->disconnected_us, 0);
    assert_int_equal(peer->path, HKV_PATH_DIRECT);
    uint64_t last_us = peer->last_sync_us;
    hkv_peers_free(peers);
    assert_true(status_of(p->a).conditions[HKV_CONDITION_PEER_IN_SYNC]);
    hkv_close(p->b);
    p->b = NULL;
    time_t end = time(NULL) + AWAIT_S;
    for (;;) {
        peer = only_peer(p->a, &peers);
        if (!peer->connected) break;
        if (time(NULL) > end) fail_msg("a closed peer counts as connected after %d s", AWAIT_S);
        hkv_peers_free(peers);
        pause_a_little();
    }
    assert_true(peer->disconnected_us >= last_us);
    assert_int_equal(peer->path, HKV_PATH_NONE);
    assert_non_null(strstr(peer->why, "no good session for"));
    hkv_peers_free(peers);
    end = time(NULL) + AWAIT_S;
    while (status_of(p->a).conditions[HKV_CONDITION_PEER_IN_SYNC]) {
        if (time(NULL) > end) fail_msg("peer_in_sync holds %d s after the only peer closed", AWAIT_S);
        pause_a_little();
    }
    assert_false(status_of(p->a).healthy);
}

static void waiting_in_vain_names_the_peer_and_the_reason(void **state)
{
    struct pair *p = *state;
    char *id = id_of(p->b);
    uint64_t waited_ms;
    node_connect(p->a, p->b);
    assert_ok(hkv_wait_converged(p->a, NULL, 0, AWAIT_S * 1000, &waited_ms));
    hkv_close(p->b);
    p->b = NULL;
    assert_err(HKV_E_NOT_CONVERGED, hkv_wait_converged(p->a, NULL, 0, 300, NULL));
    char head[11];
    snprintf(head, sizeof head, "%.10s", id);
    assert_non_null(strstr(hkv_last_error(), head));
    free(id);
}

struct waiting {
    struct hkv_store *store;
    enum hkv_err err;
};

static void *wait_converged(void *arg)
{
    struct waiting *w = arg;
    w->err = hkv_wait_converged(w->store, NULL, 0, AWAIT_S * 1000, NULL);
    return NULL;
}

static void removing_the_peer_that_is_waited_for_ends_the_wait(void **state)
{
    struct pair *p = *state;
    char *id = id_of(p->b);
    struct waiting waiting = {.store = p->a};
    struct hkv_peers *peers;
    pthread_t thread;
    node_connect(p->a, p->b);
    assert_ok(hkv_wait_converged(p->a, NULL, 0, AWAIT_S * 1000, NULL)); /* no value is left that only the peer has */
    hkv_close(p->b);
    p->b = NULL;
    hkv_peers_free((only_peer(p->a, &peers), peers));
    assert_int_equal(pthread_create(&thread, NULL, wait_converged, &waiting), 0);
    /* Whether the wait has begun or not: a removed peer is not waited for. */
    for (int i = 0; i < 10; i++) pause_a_little();
    assert_ok(hkv_peer_remove(p->a, id));
    (void)pthread_join(thread, NULL);
    assert_int_equal(waiting.err, HKV_OK);
    assert_true(status_of(p->a).single_node);
    free(id);
}

static void a_node_alone_is_healthy_and_converged(void **state)
{
    struct pair *p = *state;
    struct hkv_status status = status_of(p->a);
    for (int i = 0; i < HKV_CONDITION_COUNT; i++) assert_true(status.conditions[i]);
    assert_true(status.healthy);
    assert_true(status.single_node);
    assert_ok(hkv_wait_converged(p->a, NULL, 0, 1000, NULL));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_value_too_large_keeps_the_old_one_shown_and_is_listed),
        TEST(a_loser_that_is_too_large_is_listed_too),
        TEST(a_peer_says_since_when_it_is_gone_and_why),
        TEST(waiting_in_vain_names_the_peer_and_the_reason),
        TEST(removing_the_peer_that_is_waited_for_ends_the_wait),
        TEST(a_node_alone_is_healthy_and_converged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
