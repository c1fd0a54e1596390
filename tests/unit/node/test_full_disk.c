/* A store whose disk fills up and fails under it, in one thread (fixture/node_world.h): writes are told, reads go on,
 * status shows it, and all of it ends by itself when there is room. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture/node_world.h"
#include "unit/node/fixture.h"

#define CAPACITY_BYTES ((uint64_t)64 << 20)
#define SECOND_US      ((uint64_t)1000000)
#define WRITES         24
#define KEY_BYTES      16
#define VALUE_BYTES    16000 /* the longest that is stored in the database */

struct write {
    enum hkv_err err;
    unsigned calls;
    char key[KEY_BYTES];
    size_t len;
};

/* Writes that wait together, so that one transaction takes them. */
struct group {
    struct write writes[WRITES];
    unsigned stored, refused;
};

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

static struct hkv_store *open_life(struct lone_world *world, uint64_t disk_bytes)
{
    struct hkv_options options = lone_world_options();
    struct hkv_store *store;
    options.namespace_secret = NAMESPACE_SECRET;
    options.disk_bytes = disk_bytes;
    assert_ok(node_open_in(&options, lone_world_life(world), &store));
    return store;
}

static void note_write(void *arg, enum hkv_err err, const char *error, const struct hkv_write_result *result)
{
    struct write *w = arg;
    (void)result;
    w->err = err;
    w->calls++;
    assert_int_equal(error[0] == '\0', err == HKV_OK);
}

static void room(struct lone_world *world, uint64_t more)
{
    uint64_t used = memdisk_used_bytes(lone_world_disk(world));
    memdisk_faults_set(lone_world_disk(world), &(struct memdisk_faults){.budget_bytes = used + more});
}

static void room_for_all(struct lone_world *world)
{
    memdisk_faults_set(lone_world_disk(world), &(struct memdisk_faults){0});
}

static void run_group(struct lone_world *world, struct hkv_store *store, unsigned round, struct group *group)
{
    static uint8_t value[VALUE_BYTES];
    *group = (struct group){0};
    for (unsigned i = 0; i < WRITES; i++) {
        struct write *w = &group->writes[i];
        snprintf(w->key, sizeof w->key, "%u-%u", round, i);
        w->len = i % 6 == 2 ? VALUE_BYTES : 40;
        memset(value, (int)('a' + (round + i) % 26), w->len);
        assert_ok(hkv_put_async(store, w->key, strlen(w->key), value, w->len, NULL, note_write, w));
    }
    lone_world_pass(world, SECOND_US / 2);
    for (unsigned i = 0; i < WRITES; i++) {
        assert_int_equal(group->writes[i].calls, 1);
        if (group->writes[i].err == HKV_OK)
            group->stored++;
        else
            group->refused++;
    }
}

static void check_group(struct hkv_store *store, const struct group *group)
{
    for (unsigned i = 0; i < WRITES; i++) {
        const struct write *w = &group->writes[i];
        struct hkv_value value;
        enum hkv_err err = hkv_get(store, w->key, strlen(w->key), &value);
        assert_int_equal(err, w->err == HKV_OK ? HKV_OK : HKV_E_NOT_FOUND);
        if (err != HKV_OK) continue;
        assert_int_equal(value.length, w->len);
        hkv_value_free(&value);
    }
}

static bool is_accessible(struct hkv_store *store)
{
    struct hkv_status status;
    assert_ok(hkv_status(store, &status));
    bool good = status.conditions[HKV_CONDITION_VALUES_ACCESSIBLE];
    assert_int_equal(good, status.values_error[0] == '\0');
    return good;
}

/* ------------------------------------------------------------------------------------------ tests */

static void a_full_disk_refuses_single_writes_of_a_group_and_keeps_the_others(void **state)
{
    struct lone_world *world = *state;
    struct hkv_store *store = open_life(world, 0);
    struct group groups[12];
    unsigned mixed = 0;
    for (unsigned round = 0; round < 12; round++) {
        room(world, (uint64_t)round * 4 * 4096);
        run_group(world, store, round, &groups[round]);
        for (unsigned i = 0; i < WRITES; i++)
            if (groups[round].writes[i].err != HKV_OK) assert_int_equal(groups[round].writes[i].err, HKV_E_DISK_FULL);
        mixed += groups[round].stored > 0 && groups[round].refused > 0;
        for (unsigned i = 0; i <= round; i++) check_group(store, &groups[i]); /* reads work on a full disk */
        room_for_all(world);
        lone_world_pass(world, 3 * SECOND_US);
    }
    assert_true(mixed > 3);
    hkv_close(store);
    assert_ok(memdisk_crash(lone_world_disk(world), &(struct memdisk_cut){.seed = 1, .keep_percent = 50}));
    store = open_life(world, 0);
    for (unsigned i = 0; i < 12; i++) check_group(store, &groups[i]);
    hkv_close(store);
}

static void a_full_disk_shows_in_status_until_there_is_room(void **state)
{
    struct lone_world *world = *state;
    struct hkv_store *store = open_life(world, 0);
    struct group group;
    assert_true(is_accessible(store));
    room(world, 0);
    run_group(world, store, 0, &group);
    assert_true(group.refused > 0);
    assert_false(is_accessible(store));
    lone_world_pass(world, 10 * SECOND_US);
    assert_false(is_accessible(store));
    room_for_all(world);
    lone_world_pass(world, 3 * SECOND_US);
    assert_true(is_accessible(store));
    run_group(world, store, 1, &group);
    assert_int_equal(group.stored, WRITES);
    hkv_close(store);
}

static void writes_that_the_disk_fails_are_told_and_later_ones_work(void **state)
{
    struct lone_world *world = *state;
    struct hkv_store *store = open_life(world, 0);
    struct group group, after;
    unsigned round = 0;
    const struct memdisk_faults kinds[] = {
        {.of[MEMDISK_WRITE].errors_per_million = 200000},
        {.of[MEMDISK_SYNC].errors_per_million = 500000, .sync_error_forgets = true},
    };
    for (unsigned i = 0; i < 2; i++) {
        memdisk_faults_set(lone_world_disk(world), &kinds[i]);
        do {
            assert_true(round < 20);
            run_group(world, store, round++, &group);
        } while (group.refused == 0);
        room_for_all(world);
        check_group(store, &group);
        lone_world_pass(world, 3 * SECOND_US);
        assert_true(is_accessible(store));
        run_group(world, store, round++, &after);
        assert_int_equal(after.stored, WRITES);
        hkv_close(store);
        assert_ok(memdisk_crash(lone_world_disk(world), &(struct memdisk_cut){.seed = i}));
        store = open_life(world, 0);
        check_group(store, &group);
        check_group(store, &after);
    }
    hkv_close(store);
}

static void large_values_that_do_not_fit_leave_no_files(void **state)
{
    struct lone_world *world = *state;
    struct hkv_store *store = open_life(world, 0);
    enum { LARGE_BYTES = 1 << 20 };
    uint8_t *value = calloc(1, LARGE_BYTES);
    node_put(store, "small", "v");
    lone_world_pass(world, 3 * SECOND_US);
    uint64_t used = memdisk_used_bytes(lone_world_disk(world));
    room(world, LARGE_BYTES / 2);
    assert_int_equal(hkv_put(store, HKV_TEXT("large"), value, LARGE_BYTES, NULL, NULL), HKV_E_DISK_FULL);
    assert_int_equal(memdisk_used_bytes(lone_world_disk(world)), used);
    node_expect(store, "small", "v");
    room_for_all(world);
    assert_ok(hkv_put(store, HKV_TEXT("large"), value, LARGE_BYTES, NULL, NULL));
    lone_world_pass(world, 3 * SECOND_US);
    assert_true(is_accessible(store));
    free(value);
    hkv_close(store);
}

static void a_disk_budget_that_is_used_up_shows_in_status_until_keys_are_deleted(void **state)
{
    struct lone_world *world = *state;
    struct hkv_store *store = open_life(world, (uint64_t)4 << 20);
    static uint8_t value[VALUE_BYTES];
    char key[KEY_BYTES];
    unsigned count = 0;
    enum hkv_err err = HKV_OK;
    for (; err == HKV_OK && count < 1000; count++) {
        snprintf(key, sizeof key, "k%u", count);
        value[0] = (uint8_t)count;
        err = hkv_put(store, key, strlen(key), value, sizeof value, NULL, NULL);
    }
    assert_int_equal(err, HKV_E_LIMIT);
    err = HKV_OK;
    for (unsigned i = 0; err == HKV_OK && i < 1000; i++) {
        snprintf(key, sizeof key, "s%u", i);
        err = hkv_put(store, key, strlen(key), value, 1, NULL, NULL);
    }
    assert_int_equal(err, HKV_E_LIMIT);
    assert_false(is_accessible(store));
    for (unsigned i = 0; i + 1 < count; i++) {
        snprintf(key, sizeof key, "k%u", i);
        assert_ok(hkv_delete(store, key, strlen(key), NULL, NULL));
    }
    lone_world_pass(world, 70 * SECOND_US); /* values go after a minute */
    assert_true(is_accessible(store));
    assert_ok(hkv_put(store, HKV_TEXT("again"), value, sizeof value, NULL, NULL));
    hkv_close(store);
}

/* Writes that wait are kept in memory: what they may hold there is a part of memory_bytes. */
static void writes_that_wait_are_bounded_in_bytes(void **state)
{
    struct lone_world *world = *state;
    struct hkv_options options = lone_world_options();
    struct hkv_store *store;
    static uint8_t value[VALUE_BYTES];
    static struct write writes[1000];
    unsigned taken = 0;
    options.namespace_secret = NAMESPACE_SECRET;
    options.memory_bytes = (uint64_t)8 << 20;
    assert_ok(node_open_in(&options, lone_world_life(world), &store));
    memset(writes, 0, sizeof writes);
    enum hkv_err err = HKV_OK;
    for (; err == HKV_OK && taken < 1000; taken++) {
        value[0] = (uint8_t)taken;
        value[1] = (uint8_t)(taken >> 8);
        err = hkv_put_async(store, HKV_TEXT("k"), value, sizeof value, NULL, note_write, &writes[taken]);
    }
    assert_int_equal(err, HKV_E_BUSY);
    assert_in_range(taken * sizeof value, options.memory_bytes / 8, options.memory_bytes / 2);
    lone_world_pass(world, 5 * SECOND_US);
    for (unsigned i = 0; i + 1 < taken; i++) assert_int_equal(writes[i].calls, 1);
    assert_int_equal(writes[taken - 1].calls, 0);
    assert_ok(hkv_put(store, HKV_TEXT("k"), value, sizeof value, NULL, NULL));
    hkv_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_full_disk_refuses_single_writes_of_a_group_and_keeps_the_others, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_shows_in_status_until_there_is_room, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_that_the_disk_fails_are_told_and_later_ones_work, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_that_wait_are_bounded_in_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(large_values_that_do_not_fit_leave_no_files, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_budget_that_is_used_up_shows_in_status_until_keys_are_deleted, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
