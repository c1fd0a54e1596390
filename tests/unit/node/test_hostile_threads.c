/* Many threads on one store while it syncs, and a close in the middle of it: every call returns, with success, a
 * refusal that its documentation names, or HKV_E_CLOSED. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit/node/fixture.h"

#define THREADS 16

struct rig {
    struct node_dir dir[2];
    struct hkv_store *store[2];
    char *ticket; /* of store 1 */
    char *doc_ticket;
    char peer[65];
    atomic_uint calls; /* that returned */
    atomic_bool stop;
    atomic_uint wrong; /* results that no call may have */
};

struct worker {
    pthread_t thread;
    struct rig *rig;
    int number;
    enum hkv_err last;
};

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    struct hkv_info info;
    for (int i = 0; i < 2; i++) {
        node_dir_make(&rig->dir[i]);
        rig->store[i] = node_open(&rig->dir[i], NAMESPACE_SECRET);
    }
    assert_ok(hkv_info(rig->store[1], &info));
    rig->ticket = strdup(info.endpoint_ticket);
    strcpy(rig->peer, info.endpoint_id);
    hkv_info_fini(&info);
    assert_ok(hkv_ticket(rig->store[0], HKV_TICKET_WRITE, &rig->doc_ticket));
    node_connect(rig->store[0], rig->store[1]);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    for (int i = 0; i < 2; i++) {
        hkv_close(rig->store[i]);
        node_dir_remove(&rig->dir[i]);
    }
    free(rig->ticket);
    hkv_text_free(rig->doc_ticket);
    free(rig);
    return 0;
}

static void on_event(void *arg, const struct hkv_event *event)
{
    (void)event;
    atomic_fetch_add((atomic_uint *)arg, 0);
}

static enum hkv_err put_large(struct hkv_store *store)
{
    static const uint8_t value[50000] = {1};
    return hkv_put(store, HKV_TEXT("large"), value, sizeof value, NULL, NULL);
}

/* The write may find the queue full: another thread fills it. */
static enum hkv_err watch_some(struct rig *rig)
{
    struct hkv_watch *watch;
    enum hkv_err err = hkv_watch(rig->store[0], HKV_TEXT("k"), on_event, &rig->calls, &watch);
    if (err != HKV_OK) return err;
    err = put_large(rig->store[0]);
    hkv_watch_close(watch);
    return err == HKV_E_BUSY ? HKV_OK : err;
}

static enum hkv_err one_call(struct rig *rig, int number, unsigned round)
{
    struct hkv_store *store = rig->store[0];
    struct hkv_value value;
    struct hkv_page *page;
    struct hkv_peers *peers;
    struct hkv_status status;
    struct hkv_info info;
    struct hkv_write_options once = {.expect = HKV_EXPECT_ABSENT};
    char key[16];
    (void)snprintf(key, sizeof key, "k/%u", round % 20);
    enum hkv_err err;
    switch (number % 13) {
    case 0:
        return hkv_put(store, key, strlen(key), "v", 1, NULL, NULL);
    case 1:
        return hkv_delete(store, key, strlen(key), NULL, NULL);
    case 2:
        err = hkv_get(store, key, strlen(key), &value);
        if (err == HKV_OK) hkv_value_free(&value);
        return err;
    case 3:
        err = hkv_list(store, "k", 1, 10, NULL, &page);
        if (err == HKV_OK) hkv_page_free(page);
        return err;
    case 4:
        return hkv_put_async(store, key, strlen(key), "a", 1, NULL, node_ignore_write, NULL);
    case 5:
        return hkv_peer_add(store, rig->ticket);
    case 6:
        return hkv_peer_remove(store, rig->peer);
    case 7:
        return hkv_sync_once(store, 2000, NULL);
    case 8:
        return hkv_status(store, &status);
    case 9:
        err = hkv_info(store, &info);
        if (err == HKV_OK) hkv_info_fini(&info);
        return err;
    case 10:
        err = hkv_peers(store, &peers);
        if (err == HKV_OK) hkv_peers_free(peers);
        return err;
    case 11:
        return hkv_wait_converged(store, NULL, 0, 500, NULL);
    default:
        return round % 2 == 0 ? put_large(store) : hkv_put(store, key, strlen(key), "once", 4, &once, NULL);
    }
}

static bool may_be(enum hkv_err err)
{
    return err == HKV_OK || err == HKV_E_CLOSED || err == HKV_E_NOT_FOUND || err == HKV_E_CONFLICT ||
           err == HKV_E_TIMEOUT || err == HKV_E_NOT_CONVERGED || err == HKV_E_PEER_UNREACHABLE || err == HKV_E_BUSY;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    for (unsigned round = 0; !atomic_load(&w->rig->stop) && w->last != HKV_E_CLOSED; round++) {
        w->last = one_call(w->rig, w->number, round);
        if (!may_be(w->last)) {
            fprintf(stderr, "call %d: %s: %s\n", w->number % 13, hkv_error_name(w->last), hkv_last_error());
            atomic_fetch_add(&w->rig->wrong, 1);
        }
        atomic_fetch_add(&w->rig->calls, 1);
    }
    return NULL;
}

static void begin(struct rig *rig, struct worker workers[THREADS])
{
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.rig = rig, .number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
}

static void end(struct worker workers[THREADS])
{
    for (int i = 0; i < THREADS; i++) (void)pthread_join(workers[i].thread, NULL);
}

static void await_calls(struct rig *rig, unsigned count)
{
    while (atomic_load(&rig->calls) < count) node_put(rig->store[1], "other/side", "v");
}

static void sixteen_threads_share_a_store(void **state)
{
    struct rig *rig = *state;
    struct worker workers[THREADS];
    begin(rig, workers);
    await_calls(rig, 2000);
    for (int i = 0; i < 10; i++)
        if (!may_be(watch_some(rig))) atomic_fetch_add(&rig->wrong, 1);
    atomic_store(&rig->stop, true);
    end(workers);
    assert_int_equal(atomic_load(&rig->wrong), 0);
    node_connect(rig->store[0], rig->store[1]);
    node_connect(rig->store[1], rig->store[0]);
    node_await_equal(rig->store[0], rig->store[1]);
}

static void wait_ended(void *arg, enum hkv_err err, const char *error, uint64_t waited_ms)
{
    (void)error, (void)waited_ms;
    *(enum hkv_err *)arg = err;
}

static void put_ended(void *arg, enum hkv_err err, const char *error, const struct hkv_write_result *result)
{
    (void)error, (void)result;
    if (err == HKV_OK || err == HKV_E_CLOSED) atomic_fetch_add((atomic_uint *)arg, 1);
}

/* Calls that were begun before the close, blocking or not, end once each. */
static void close_ends_what_waits(void **state)
{
    struct rig *rig = *state;
    enum hkv_err waited[8];
    atomic_uint ended = 0;
    enum { PUTS = 500 };
    hkv_close(rig->store[1]); /* so that nothing converges */
    rig->store[1] = NULL;
    for (int i = 0; i < 8; i++) {
        waited[i] = HKV_OK;
        assert_ok(hkv_wait_converged_async(rig->store[0], NULL, 0, HKV_FOREVER, wait_ended, &waited[i]));
    }
    for (int i = 0; i < PUTS; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "p/%d", i);
        assert_ok(hkv_put_async(rig->store[0], key, strlen(key), "v", 1, NULL, put_ended, &ended));
    }
    hkv_close(rig->store[0]);
    rig->store[0] = NULL;
    assert_int_equal(atomic_load(&ended), PUTS);
    for (int i = 0; i < 8; i++) assert_int_equal(waited[i], HKV_E_CLOSED);
}

static void *wait_forever(void *arg)
{
    struct worker *w = arg;
    w->last = hkv_wait_converged(w->rig->store[0], NULL, 0, HKV_FOREVER, NULL);
    return NULL;
}

/* The store ends calls that block while it is being closed; only the handle must not be used afterwards, so the threads
 * make one last call each. */
static void close_ends_blocking_calls(void **state)
{
    struct rig *rig = *state;
    struct worker waiting = {.rig = rig};
    struct hkv_peers *peers;
    hkv_close(rig->store[1]);
    rig->store[1] = NULL;
    assert_int_equal(pthread_create(&waiting.thread, NULL, wait_forever, &waiting), 0);
    /* It has begun when it has woken the dial that fails. */
    for (bool failed = false; !failed;) {
        assert_ok(hkv_peers(rig->store[0], &peers));
        for (size_t i = 0; i < peers->count; i++) failed = failed || peers->peers[i].failures > 1;
        hkv_peers_free(peers);
    }
    hkv_close(rig->store[0]);
    rig->store[0] = NULL;
    (void)pthread_join(waiting.thread, NULL);
    assert_int_equal(waiting.last, HKV_E_CLOSED);
}

/* A flood of local writes does not keep what other work there is for the store from being done. */
static void a_flood_of_writes_lets_others_through(void **state)
{
    struct rig *rig = *state;
    atomic_uint ended = 0;
    unsigned begun = 0;
    struct worker flood = {.rig = rig, .number = 4};
    node_put(rig->store[1], "from/1", "one");
    assert_int_equal(pthread_create(&flood.thread, NULL, work, &flood), 0);
    for (; begun < 20000; begun++) {
        enum hkv_err err = hkv_put_async(rig->store[0], "f", 1, "v", 1, NULL, put_ended, &ended);
        if (err == HKV_E_BUSY) break;
        assert_ok(err);
    }
    node_await(rig->store[0], "from/1", "one");
    assert_ok(hkv_peer_add(rig->store[0], rig->ticket));
    atomic_store(&rig->stop, true);
    (void)pthread_join(flood.thread, NULL);
    hkv_close(rig->store[0]);
    rig->store[0] = NULL;
    assert_int_equal(atomic_load(&ended), begun);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sixteen_threads_share_a_store),
        TEST(close_ends_what_waits),
        TEST(close_ends_blocking_calls),
        TEST(a_flood_of_writes_lets_others_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
