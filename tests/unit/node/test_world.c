/* A whole store in one thread (fixture/node_world.h): it opens, works and closes without a thread, a real clock or the
 * system's disk; and whatever its disk does, hkv_open() and hkv_close() come back and what was acknowledged stays. */
#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture/node_world.h"
#include "unit/node/fixture.h"

#define CAPACITY_BYTES ((uint64_t)64 << 20)
#define LARGE_BYTES    ((size_t)100000)
#define SECOND_US      ((uint64_t)1000000)
#define WRITES         6
#define LARGE_WRITE    3 /* the one with a value in a file */

static int setup(void **state)
{
    *state = lone_world_new(CAPACITY_BYTES);
    return 0;
}

static int teardown(void **state)
{
    lone_world_free(*state);
    return 0;
}

static struct hkv_store *open_life(struct lone_world *world)
{
    struct hkv_options options = lone_world_options();
    struct hkv_store *store;
    options.namespace_secret = NAMESPACE_SECRET;
    assert_ok(node_open_in(&options, lone_world_life(world), &store));
    return store;
}

static size_t threads(void)
{
    size_t count = 0;
    DIR *tasks = opendir("/proc/self/task");
    while (readdir(tasks) != NULL) count++;
    (void)closedir(tasks);
    return count;
}

static void a_store_lives_without_threads(void **state)
{
    struct lone_world *world = *state;
    struct hkv_status status;
    struct hkv_info before, after;
    size_t threads_before = threads();
    struct hkv_store *store = open_life(world);
    node_put(store, "k", "v");
    assert_ok(hkv_status(store, &status));
    assert_true(status.healthy);
    assert_ok(hkv_info(store, &before));
    assert_ok(hkv_sync_once(store, 1000, NULL));
    assert_int_equal(threads(), threads_before);
    hkv_close(store);
    store = open_life(world);
    node_expect(store, "k", "v");
    assert_ok(hkv_info(store, &after));
    assert_string_equal(before.author_id, after.author_id);
    hkv_info_fini(&before);
    hkv_info_fini(&after);
    hkv_close(store);
}

static void note_event(void *arg, const struct hkv_event *event)
{
    if (event->type == HKV_EVENT_PUT_LOCAL) ++*(unsigned *)arg;
}

static void note_write(void *arg, enum hkv_err err, const char *error, const struct hkv_write_result *result)
{
    (void)error, (void)result;
    assert_int_equal(err, HKV_OK);
    ++*(unsigned *)arg;
}

static void callbacks_run_while_time_passes(void **state)
{
    struct lone_world *world = *state;
    struct hkv_store *store = open_life(world);
    struct hkv_watch *watch;
    unsigned events = 0, writes = 0;
    assert_ok(hkv_watch(store, NULL, 0, note_event, &events, &watch));
    assert_ok(hkv_put_async(store, HKV_TEXT("k"), HKV_TEXT("v"), NULL, note_write, &writes));
    assert_int_equal(events + writes, 0);
    lone_world_pass(world, SECOND_US);
    assert_int_equal(events, 1);
    assert_int_equal(writes, 1);
    hkv_watch_close(watch);
    hkv_close(store);
}

static void values_expire_in_virtual_time(void **state)
{
    struct lone_world *world = *state;
    struct hkv_store *store = open_life(world);
    const struct hkv_write_options an_hour = {.ttl_ms = 3600000};
    assert_ok(hkv_put(store, HKV_TEXT("k"), HKV_TEXT("v"), &an_hour, NULL));
    lone_world_pass(world, 3599 * SECOND_US);
    node_expect(store, "k", "v");
    lone_world_pass(world, 2 * SECOND_US);
    node_expect(store, "k", NULL);
    hkv_close(store);
}

/* ------------------------------------------------------------------------------------------ a disk that ends */

enum outcome { NOT_TRIED, ACKNOWLEDGED, UNKNOWN };

struct script {
    enum outcome put[WRITES];
    enum outcome removed; /* key 0 */
    unsigned callbacks_due;
    unsigned callbacks;
};

static char *value_of(unsigned i, size_t *bytes)
{
    *bytes = i == LARGE_WRITE ? LARGE_BYTES : 10;
    char *value = malloc(*bytes);
    memset(value, 'a' + (int)i, *bytes);
    return value;
}

static void count_callback(void *arg, enum hkv_err err, const char *error, const struct hkv_write_result *result)
{
    (void)err, (void)error, (void)result;
    ++*(unsigned *)arg;
}

static enum outcome outcome_of(enum hkv_err err)
{
    return err == HKV_OK ? ACKNOWLEDGED : UNKNOWN;
}

/* Writes, lets housekeeping come around, and leaves writes under way. Errors are the disk's business. */
static void play(struct lone_world *world, struct hkv_store *store, struct script *s)
{
    for (unsigned i = 0; i < WRITES; i++) {
        size_t bytes;
        char key[8], *value = value_of(i, &bytes);
        (void)snprintf(key, sizeof key, "k%u", i);
        s->put[i] = outcome_of(hkv_put(store, key, strlen(key), value, bytes, NULL, NULL));
        free(value);
    }
    s->removed = outcome_of(hkv_delete(store, HKV_TEXT("k0"), NULL, NULL));
    lone_world_pass(world, 120 * SECOND_US);
    for (unsigned i = 0; i < 3; i++)
        if (hkv_put_async(store, HKV_TEXT("open"), HKV_TEXT("v"), NULL, count_callback, &s->callbacks) == HKV_OK)
            s->callbacks_due++;
}

static void expect_put(struct hkv_store *store, unsigned i, enum outcome outcome)
{
    struct hkv_value got;
    size_t bytes;
    char key[8], *value = value_of(i, &bytes);
    (void)snprintf(key, sizeof key, "k%u", i);
    enum hkv_err err = hkv_get(store, key, strlen(key), &got);
    if (err == HKV_OK) {
        assert_int_equal(got.length, bytes);
        assert_memory_equal(got.data, value, bytes);
        hkv_value_free(&got);
    } else {
        assert_err(HKV_E_NOT_FOUND, err);
        if (outcome == ACKNOWLEDGED) fail_msg("the acknowledged k%u is gone", i);
    }
    free(value);
}

static void expect_what_was_acknowledged(struct hkv_store *store, const struct script *s)
{
    for (unsigned i = 1; i < WRITES; i++) expect_put(store, i, s->put[i]);
    if (s->removed == NOT_TRIED) expect_put(store, 0, s->put[0]);
    if (s->removed == ACKNOWLEDGED) node_expect(store, "k0", NULL);
}

static void power_is_back(struct lone_world *world)
{
    static const struct memdisk_faults none;
    const struct memdisk_cut drop_all = {.seed = 1};
    memdisk_faults_set(lone_world_disk(world), &none);
    assert_ok(memdisk_crash(lone_world_disk(world), &drop_all));
}

/* A life whose disk fails from its n-th change on; n 0: it does not. Tells how many changes there were. */
static uint64_t short_life(uint64_t n, struct script *s, struct lone_world *world)
{
    const struct memdisk_faults ends = {.off_after_changes = n};
    struct hkv_options options = lone_world_options();
    struct hkv_store *store;
    options.namespace_secret = NAMESPACE_SECRET;
    *s = (struct script){0};
    memdisk_faults_set(lone_world_disk(world), &ends);
    if (node_open_in(&options, lone_world_life(world), &store) == HKV_OK) {
        play(world, store, s);
        hkv_close(store);
    }
    assert_int_equal(s->callbacks, s->callbacks_due);
    return memdisk_changes(lone_world_disk(world));
}

/* Nothing but the world decides what a store does. The salts of write-ahead logs come from SQLite's own generator. */
static void the_same_life_leaves_the_same_disk(void **state)
{
    struct hash digest[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct lone_world *world = lone_world_new(CAPACITY_BYTES);
        struct script script;
        (void)sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, 7, NULL);
        for (int life = 0; life < 3; life++) (void)short_life(0, &script, world);
        assert_ok(memdisk_digest(lone_world_disk(world), &digest[i]));
        lone_world_free(world);
    }
    assert_memory_equal(digest[0].bytes, digest[1].bytes, sizeof digest[0].bytes);
}

static void power_is_cut_at_every_change_of_the_disk(void **state)
{
    struct script script;
    uint64_t changes = short_life(0, &script, *state);
    assert_true(changes > 50);
    for (uint64_t n = 1; n <= changes; n++) {
        struct lone_world *world = lone_world_new(CAPACITY_BYTES);
        (void)short_life(n, &script, world);
        power_is_back(world);
        struct hkv_store *store = open_life(world);
        expect_what_was_acknowledged(store, &script);
        node_put(store, "after", "life");
        hkv_close(store);
        lone_world_free(world);
    }
}

static void a_store_on_a_disk_that_is_gone_closes(void **state)
{
    struct lone_world *world = *state;
    struct hkv_store *store = open_life(world);
    struct script script = {0};
    struct hkv_status status;
    play(world, store, &script);
    power_is_back(world); /* the store does not know yet */
    assert_err(HKV_E_DISK, hkv_put(store, HKV_TEXT("k"), HKV_TEXT("v"), NULL, NULL));
    assert_ok(hkv_status(store, &status));
    lone_world_pass(world, 600 * SECOND_US);
    hkv_close(store);
    assert_int_equal(script.callbacks, script.callbacks_due);
    store = open_life(world);
    expect_what_was_acknowledged(store, &script);
    hkv_close(store);
}

static void every_operation_of_the_disk_fails_once(void **state)
{
    (void)state;
    for (int kind = 0; kind < MEMDISK_OPERATIONS; kind++) {
        for (uint64_t n = 1; n < 60; n++) {
            struct lone_world *world = lone_world_new(CAPACITY_BYTES);
            struct memdisk_faults faults = {0};
            struct hkv_options options = lone_world_options();
            struct script script = {0};
            struct hkv_store *store;
            options.namespace_secret = NAMESPACE_SECRET;
            faults.of[kind].error_nth = n;
            memdisk_faults_set(lone_world_disk(world), &faults);
            if (node_open_in(&options, lone_world_life(world), &store) == HKV_OK) {
                play(world, store, &script);
                hkv_close(store);
            }
            assert_int_equal(script.callbacks, script.callbacks_due);
            memdisk_faults_set(lone_world_disk(world), &(struct memdisk_faults){0});
            store = open_life(world);
            expect_what_was_acknowledged(store, &script);
            hkv_close(store);
            lone_world_free(world);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_store_lives_without_threads),
        TEST(callbacks_run_while_time_passes),
        TEST(values_expire_in_virtual_time),
        cmocka_unit_test(the_same_life_leaves_the_same_disk),
        TEST(power_is_cut_at_every_change_of_the_disk),
        TEST(a_store_on_a_disk_that_is_gone_closes),
        cmocka_unit_test(every_operation_of_the_disk_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
