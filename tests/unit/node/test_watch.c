/* Watches of a real store with all its threads, through the public functions. tests/prop/node/test_watch.c has the
 * interleavings one by one. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unit/node/fixture.h"

#define WRITERS    2
#define WATCHERS   6
#define PUTS       600 /* of each writer */
#define DEADLINE_S 60

struct one {
    struct node_dir dir;
    struct hkv_store *store;
};

static int setup(void **state)
{
    struct one *one = calloc(1, sizeof *one);
    node_dir_make(&one->dir);
    struct hkv_options options = node_options(&one->dir);
    options.durability = HKV_DURABILITY_PROCESS;
    assert_ok(hkv_open(&options, &one->store));
    *state = one;
    return 0;
}

static int teardown(void **state)
{
    struct one *one = *state;
    hkv_close(one->store);
    node_dir_remove(&one->dir);
    free(one);
    return 0;
}

/* ------------------------------------------------------------------------------------------ a watcher */

struct watcher {
    struct hkv_watch *watch;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct hkv_position position; /* of the last event that has one */
    size_t keys;                  /* events about keys */
    size_t overruns, overruns_awaited;
    const char *wrong; /* what broke, since a callback cannot fail the test */
    size_t pause_every;
    bool paused;
    char text[256]; /* "TYPE key" of the first events about keys */
};

static void watcher_init(struct watcher *w)
{
    *w = (struct watcher){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
}

static void check_position(struct watcher *w, const struct hkv_event *event)
{
    if (event->position.epoch != w->position.epoch) w->wrong = "an event is of another epoch";
    if (event->key != NULL && event->position.number != w->position.number + 1)
        w->wrong = "a change is not the one behind the last";
    if (event->position.number < w->position.number) w->wrong = "a position steps back";
}

static void on_event(void *arg, const struct hkv_event *event)
{
    struct watcher *w = arg;
    (void)pthread_mutex_lock(&w->lock);
    if (event->type == HKV_EVENT_OVERRUN) {
        w->overruns++;
        w->position.epoch = 0;
    }
    if (event->position.epoch != 0) {
        if (w->position.epoch != 0) check_position(w, event);
        w->position = event->position;
    }
    if (event->key != NULL && strlen(w->text) + 32 < sizeof w->text)
        (void)snprintf(w->text + strlen(w->text), 32, "%s%s", w->text[0] ? " " : "", event->key);
    w->keys += event->key != NULL;
    if (w->pause_every > 0 && event->key != NULL && w->keys % w->pause_every == 0) {
        hkv_watch_pause(w->watch);
        w->paused = true;
    }
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
}

/* Waits until the watcher's position is `number`, resuming it when it has paused. */
static void await_position(struct watcher *w, uint64_t number)
{
    struct timespec end;
    (void)clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += DEADLINE_S;
    (void)pthread_mutex_lock(&w->lock);
    int late = 0;
    while (late == 0 && w->wrong == NULL &&
           (w->position.epoch == 0 || w->position.number < number || w->overruns < w->overruns_awaited)) {
        if (w->paused) {
            w->paused = false;
            (void)pthread_mutex_unlock(&w->lock);
            hkv_watch_resume(w->watch);
            (void)pthread_mutex_lock(&w->lock);
            continue;
        }
        late = pthread_cond_timedwait(&w->changed, &w->lock, &end);
    }
    uint64_t seen = w->position.number;
    const char *wrong = w->wrong;
    (void)pthread_mutex_unlock(&w->lock);
    if (wrong != NULL) fail_msg("%s", wrong);
    if (late != 0)
        fail_msg("position %llu of %llu within %d s", (unsigned long long)seen, (unsigned long long)number, DEADLINE_S);
}

static uint64_t newest(struct hkv_store *store)
{
    struct hkv_status status;
    assert_ok(hkv_status(store, &status));
    return status.position.number;
}

/* ------------------------------------------------------------------------------------------ under load */

struct load {
    struct hkv_store *store;
    pthread_t threads[WRITERS];
    atomic_uint failed;
};

static void *write_keys(void *arg)
{
    struct load *load = arg;
    for (int i = 0; i < PUTS; i++) {
        char key[16];
        int len = snprintf(key, sizeof key, "k%d", i % 100);
        if (hkv_put(load->store, key, (size_t)len, HKV_TEXT("v"), NULL, NULL) != HKV_OK)
            atomic_fetch_add(&load->failed, 1);
    }
    return NULL;
}

static void load_begin(struct load *load, struct hkv_store *store)
{
    load->store = store;
    atomic_init(&load->failed, 0);
    for (int i = 0; i < WRITERS; i++) assert_int_equal(pthread_create(&load->threads[i], NULL, write_keys, load), 0);
}

static void load_end(struct load *load)
{
    for (int i = 0; i < WRITERS; i++) (void)pthread_join(load->threads[i], NULL);
    assert_int_equal(atomic_load(&load->failed), 0);
}

static void watchers_of_any_pace_see_each_change_once_under_load(void **state)
{
    struct one *one = *state;
    struct load load;
    struct watcher watchers[WATCHERS];
    struct hkv_status status;
    assert_ok(hkv_status(one->store, &status));
    load_begin(&load, one->store);
    for (size_t i = 0; i < WATCHERS; i++) {
        struct watcher *w = &watchers[i];
        watcher_init(w);
        w->pause_every = i * 7; /* the first never does */
        w->position = status.position;
        if (i > 0) await_position(&watchers[i - 1], (uint64_t)i * 50);
        assert_ok(
            hkv_watch_with(one->store, &(struct hkv_watch_options){.from = &status.position}, on_event, w, &w->watch));
    }
    load_end(&load);
    for (size_t i = 0; i < WATCHERS; i++) {
        await_position(&watchers[i], newest(one->store));
        hkv_watch_close(watchers[i].watch);
        assert_int_equal(watchers[i].keys, WRITERS * PUTS);
        assert_int_equal(watchers[i].overruns, 0);
    }
}

static void watches_come_and_go_while_the_store_is_written(void **state)
{
    struct one *one = *state;
    struct load load;
    struct watcher w;
    watcher_init(&w);
    load_begin(&load, one->store);
    for (uint64_t goal = 100; goal <= WRITERS * PUTS; goal += 100) {
        struct hkv_watch_options options = {.from = w.position.epoch == 0 ? NULL : &w.position};
        assert_ok(hkv_watch_with(one->store, &options, on_event, &w, &w.watch));
        await_position(&w, goal);
        hkv_watch_close(w.watch); /* nothing comes after this: `position` is read without the lock above */
    }
    load_end(&load);
    assert_int_equal(w.overruns, 0);
}

/* ------------------------------------------------------------------------------------------ over restarts */

static void a_mirror_goes_on_over_a_restart(void **state)
{
    struct one *one = *state;
    struct watcher w;
    watcher_init(&w);
    node_put(one->store, "a", "1");
    node_put(one->store, "b", "1");
    assert_ok(hkv_watch_with(one->store, &(struct hkv_watch_options){.list = true}, on_event, &w, &w.watch));
    await_position(&w, 2);
    node_put(one->store, "c", "1");
    await_position(&w, 3);
    hkv_close(one->store); /* ends the watch */
    one->store = node_open(&one->dir, NULL);
    node_put(one->store, "d", "1");
    struct hkv_watch_options options = {.list = true, .from = &w.position};
    assert_ok(hkv_watch_with(one->store, &options, on_event, &w, &w.watch));
    await_position(&w, 4);
    hkv_watch_close(w.watch);
    assert_string_equal(w.text, "a b c d");
    assert_int_equal(w.overruns, 0);
}

static void joining_another_namespace_overruns_with_another_epoch(void **state)
{
    struct one *one = *state;
    struct node_dir dir;
    struct watcher w;
    char *ticket;
    watcher_init(&w);
    node_dir_make(&dir);
    struct hkv_store *other = node_open(&dir, NULL);
    node_put(other, "theirs", "1");
    assert_ok(hkv_ticket(other, HKV_TICKET_WRITE, &ticket));
    node_put(one->store, "nodes/own", "1"); /* the daemon's own records do not hinder a join */
    assert_ok(hkv_watch_with(one->store, &(struct hkv_watch_options){.list = true}, on_event, &w, &w.watch));
    await_position(&w, 1);
    uint64_t epoch = w.position.epoch;
    w.overruns_awaited = 1;
    assert_ok(hkv_join(one->store, ticket, HKV_FORMAT_AUTO));
    node_await(one->store, "theirs", "1");
    await_position(&w, 1);
    hkv_watch_close(w.watch);
    assert_int_equal(w.overruns, 1);
    assert_true(w.position.epoch != epoch);
    assert_string_equal(w.text, "nodes/own theirs");
    hkv_text_free(ticket);
    hkv_close(other);
    node_dir_remove(&dir);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(watchers_of_any_pace_see_each_change_once_under_load),
        TEST(watches_come_and_go_while_the_store_is_written),
        TEST(a_mirror_goes_on_over_a_restart),
        TEST(joining_another_namespace_overruns_with_another_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
