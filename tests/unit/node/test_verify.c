/* Verification of whole stores: at once when asked for, by itself as time passes, and of a stopped store; and that what
 * is found bad comes back from a peer. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fixture/node_world.h"
#include "node/check.h"
#include "store/checked_vfs.h"
#include "store/db.h"
#include "unit/node/fixture.h"

#define LARGE_BYTES ((size_t)100000)
#define AWAIT_S     30
#define SECOND_US   ((uint64_t)1000000)

static char *large(char fill)
{
    char *bytes = malloc(LARGE_BYTES);
    memset(bytes, fill, LARGE_BYTES);
    return bytes;
}

static void put_large(struct hkv_store *store, const char *key, char fill)
{
    char *bytes = large(fill);
    assert_ok(hkv_put(store, key, strlen(key), bytes, LARGE_BYTES, NULL, NULL));
    free(bytes);
}

static void expect_large(struct hkv_store *store, const char *key, char fill)
{
    char *bytes = large(fill);
    struct hkv_value value;
    assert_ok(hkv_get(store, key, strlen(key), &value));
    assert_int_equal(value.length, LARGE_BYTES);
    assert_memory_equal(value.data, bytes, LARGE_BYTES);
    hkv_value_free(&value);
    free(bytes);
}

/* Flips a bit in the middle of every value file. */
static void damage_files(const struct node_dir *dir)
{
    char path[512];
    snprintf(path, sizeof path, "%s/blobs", dir->path);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (const struct dirent *e; (e = readdir(folder)) != NULL;) {
        uint8_t byte;
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/blobs/%s", dir->path, e->d_name);
        int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, &byte, 1, LARGE_BYTES / 2), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, LARGE_BYTES / 2), 1);
        close(fd);
    }
    (void)closedir(folder);
}

static struct hkv_status status_of(struct hkv_store *store)
{
    struct hkv_status status;
    assert_ok(hkv_status(store, &status));
    return status;
}

static void await_no_bad_value(struct hkv_store *store)
{
    time_t end = time(NULL) + AWAIT_S;
    const struct timespec pause = {.tv_nsec = 10000000};
    while (status_of(store).values_bad > 0) {
        if (time(NULL) > end) fail_msg("a value in quarantine was not fetched again within %d s", AWAIT_S);
        (void)nanosleep(&pause, NULL);
    }
}

struct one {
    struct node_dir dir;
    struct hkv_store *store;
};

static int setup(void **state)
{
    struct one *one = calloc(1, sizeof *one);
    node_dir_make(&one->dir);
    one->store = node_open(&one->dir, NAMESPACE_SECRET);
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

struct told {
    unsigned last;
    unsigned times;
    bool falls;
};

static void tell(void *arg, unsigned permille)
{
    struct told *told = arg;
    told->falls = told->falls || permille < told->last;
    told->last = permille;
    told->times++;
}

static void a_sound_store_is_found_sound(void **state)
{
    struct one *one = *state;
    struct hkv_verify_result result;
    struct told told = {0};
    struct hkv_verify_options options = {.progress = tell, .progress_arg = &told};
    node_put(one->store, "a", "1");
    node_put(one->store, "b", "2");
    node_delete(one->store, "a");
    put_large(one->store, "large", 'x');
    assert_ok(hkv_verify(one->store, &options, &result));
    assert_true(result.sound);
    assert_false(result.unreadable);
    assert_string_equal(result.first, "");
    assert_true(result.kinds[HKV_VERIFY_ENTRIES].checked >= 3);
    assert_true(result.kinds[HKV_VERIFY_SPANS].checked >= 1);
    assert_true(result.kinds[HKV_VERIFY_INDEX].checked >= 3);
    assert_true(result.kinds[HKV_VERIFY_VALUES].checked >= 2);
    assert_true(told.times > 0);
    assert_false(told.falls);
}

static void a_bad_value_is_named_counted_and_never_shown(void **state)
{
    struct one *one = *state;
    struct hkv_verify_result result;
    struct hkv_value value;
    put_large(one->store, "large", 'x');
    damage_files(&one->dir);
    assert_ok(hkv_verify(one->store, NULL, &result));
    assert_false(result.sound);
    assert_int_equal(result.kinds[HKV_VERIFY_VALUES].bad, 1);
    assert_int_equal(result.kinds[HKV_VERIFY_VALUES].repaired, 0);
    assert_non_null(strstr(result.first, "100000 bytes"));
    struct hkv_status status = status_of(one->store);
    assert_int_equal(status.values_bad, 1);
    assert_false(status.conditions[HKV_CONDITION_VALUES_COMPLETE]);
    assert_false(status.healthy);
    assert_err(HKV_E_CORRUPT, hkv_get(one->store, HKV_TEXT("large"), &value));
    /* Written again, it is whole. */
    put_large(one->store, "large", 'x');
    assert_int_equal(status_of(one->store).values_bad, 0);
    expect_large(one->store, "large", 'x');
    assert_ok(hkv_verify(one->store, NULL, &result));
    assert_true(result.sound);
}

static void a_bad_value_comes_back_from_a_peer(void **state)
{
    struct one *one = *state;
    struct node_dir dir;
    struct hkv_verify_result result;
    node_dir_make(&dir);
    struct hkv_store *peer = node_open(&dir, NAMESPACE_SECRET);
    node_connect(one->store, peer);
    put_large(one->store, "x", 'x');
    put_large(one->store, "y", 'y');
    node_await_equal(one->store, peer);
    damage_files(&one->dir);
    assert_ok(hkv_verify(one->store, NULL, &result));
    assert_int_equal(result.kinds[HKV_VERIFY_VALUES].bad, 2);
    await_no_bad_value(one->store);
    expect_large(one->store, "x", 'x');
    expect_large(one->store, "y", 'y');
    assert_ok(hkv_verify(one->store, NULL, &result));
    assert_true(result.sound);
    hkv_close(peer);
    node_dir_remove(&dir);
}

/* Changes rows of a stopped store, with the checksums of their pages: what a page cannot tell. */
static void damage_rows(const struct node_dir *dir, const char *sql)
{
    char path[512];
    char *why = NULL;
    const char *vfs;
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/docs/store.db", dir->path);
    assert_ok(checked_vfs_lasting(DB_VFS_SYSTEM, &vfs));
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, vfs), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) fail_msg("%s: %s", sql, why);
    assert_true(sqlite3_changes(db) > 0);
    sqlite3_close(db);
}

static void bad_entries_come_back_from_a_peer(void **state)
{
    struct one *one = *state;
    struct node_dir dir;
    struct hkv_verify_result result;
    node_dir_make(&dir);
    struct hkv_store *peer = node_open(&dir, NAMESPACE_SECRET);
    node_connect(one->store, peer);
    node_put(peer, "of the peer", "1");
    node_put(one->store, "of ours", "2");
    node_await_equal(one->store, peer);
    hkv_close(one->store);
    one->store = NULL;
    damage_rows(&one->dir, "UPDATE entry SET signed = CAST(zeroblob(128) || x'01' AS BLOB)");
    assert_ok(hkv_verify_dir(one->dir.path, NULL, &result));
    uint64_t bad = result.kinds[HKV_VERIFY_ENTRIES].bad;
    assert_true(bad >= 2);
    assert_int_equal(result.kinds[HKV_VERIFY_ENTRIES].repaired, 0);
    one->store = node_open(&one->dir, NAMESPACE_SECRET);
    assert_ok(hkv_verify(one->store, NULL, &result));
    assert_true(result.kinds[HKV_VERIFY_ENTRIES].bad >= 2);
    assert_int_equal(result.kinds[HKV_VERIFY_ENTRIES].repaired, result.kinds[HKV_VERIFY_ENTRIES].bad);
    node_await(one->store, "of the peer", "1");
    node_await(one->store, "of ours", "2");
    node_await_equal(one->store, peer);
    assert_ok(hkv_verify(one->store, NULL, &result));
    assert_true(result.sound);
    hkv_close(peer);
    node_dir_remove(&dir);
}

static void an_index_made_anew_gives_the_answers_of_before(void **state)
{
    struct one *one = *state;
    struct hkv_verify_result result;
    node_put(one->store, "a", "1");
    node_put(one->store, "b", "2");
    node_delete(one->store, "b");
    hkv_close(one->store);
    one->store = NULL;
    damage_rows(&one->dir, "DELETE FROM key; UPDATE span SET count = 77; UPDATE value SET refs = 9 WHERE id > 2");
    one->store = node_open(&one->dir, NAMESPACE_SECRET);
    assert_ok(hkv_verify(one->store, NULL, &result));
    node_expect(one->store, "a", "1");
    node_expect(one->store, "b", NULL);
    assert_int_equal(status_of(one->store).visible_keys, 1);
    assert_int_equal(status_of(one->store).tombstones, 1);
    assert_ok(hkv_verify(one->store, NULL, &result));
    assert_true(result.sound);
}

static void a_stopped_store_is_verified_by_reading_alone(void **state)
{
    struct one *one = *state;
    struct hkv_verify_result result, again;
    put_large(one->store, "large", 'x');
    node_put(one->store, "small", "1");
    assert_err(HKV_E_LOCKED, hkv_verify_dir(one->dir.path, NULL, &result));
    hkv_close(one->store);
    one->store = NULL;
    assert_ok(hkv_verify_dir(one->dir.path, NULL, &result));
    assert_true(result.sound);
    assert_true(result.kinds[HKV_VERIFY_ENTRIES].checked >= 2);
    damage_files(&one->dir);
    assert_ok(hkv_verify_dir(one->dir.path, NULL, &result));
    assert_ok(hkv_verify_dir(one->dir.path, NULL, &again));
    assert_int_equal(result.kinds[HKV_VERIFY_VALUES].bad, 1);
    assert_int_equal(again.kinds[HKV_VERIFY_VALUES].bad, 1);
    assert_string_equal(again.first, result.first);
}

/* Flips a bit of the bytes `needle` in the database of a stopped store. */
static void damage_page(const struct node_dir *dir, const char *needle)
{
    char path[512];
    snprintf(path, sizeof path, "%s/docs/store.db", dir->path);
    int fd = open(path, O_RDWR);
    off_t length = lseek(fd, 0, SEEK_END);
    uint8_t *bytes = malloc((size_t)length);
    assert_int_equal(pread(fd, bytes, (size_t)length, 0), length);
    const uint8_t *at = memmem(bytes, (size_t)length, needle, strlen(needle));
    assert_non_null(at);
    uint8_t wrong = *at ^ 1;
    assert_int_equal(pwrite(fd, &wrong, 1, at - bytes), 1);
    free(bytes);
    close(fd);
}

static void a_damaged_page_is_named_before_a_bad_value_that_was_found_first(void **state)
{
    struct one *one = *state;
    struct hkv_verify_result result;
    char filler[3001]; /* more than half of a page */
    put_large(one->store, "large", 'x');
    memset(filler, 'f', sizeof filler - 1);
    filler[sizeof filler - 1] = 0;
    /* A page with the row of one value, which no key shows any more: it is looked at after the file. */
    for (const char *key = "abc"; *key; key++) {
        memcpy(filler, *key == 'b' ? "needle" : key, *key == 'b' ? 6 : 1);
        assert_ok(hkv_put(one->store, key, 1, filler, strlen(filler), NULL, NULL));
    }
    for (const char *key = "abc"; *key; key++) assert_ok(hkv_delete(one->store, key, 1, NULL, NULL));
    hkv_close(one->store);
    one->store = NULL;
    damage_files(&one->dir);
    damage_page(&one->dir, "needlef");
    assert_ok(hkv_verify_dir(one->dir.path, NULL, &result));
    assert_true(result.unreadable);
    assert_true(result.kinds[HKV_VERIFY_VALUES].bad >= 2); /* the large one, and what cannot be read */
    assert_non_null(strstr(result.first, "docs/store.db: page "));
}

static void only_a_store_can_be_verified(void **state)
{
    struct node_dir dir;
    struct hkv_verify_result result;
    (void)state;
    node_dir_make(&dir);
    assert_err(HKV_E_NOT_FOUND, hkv_verify_dir(dir.path, NULL, &result));
    assert_err(HKV_E_NOT_FOUND, hkv_verify_dir("/nonexistent/store", NULL, &result));
    assert_err(HKV_E_INVALID, hkv_verify_dir(NULL, NULL, &result));
    node_dir_remove(&dir);
}

/* ------------------------------------------------------------------------------------------ on virtual time */

static int world_setup(void **state)
{
    *state = lone_world_new((uint64_t)64 << 20);
    return 0;
}

static int world_teardown(void **state)
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

static void flip(struct lone_world *world, struct hkv_store *store)
{
    char name[128];
    struct hkv_history *history;
    assert_ok(hkv_history(store, HKV_TEXT("large"), &history));
    char *at = name + snprintf(name, sizeof name, "node/blobs/");
    for (int i = 0; i < 32; i++) at += snprintf(at, 3, "%02x", history->entries[0].hash[i]);
    hkv_history_free(history);
    for (int number = 0; number < 100; number++) {
        snprintf(at, 8, "-%d", number);
        if (memdisk_flip_bit(lone_world_disk(world), name, 4000) == HKV_OK) return;
    }
    fail_msg("no file of %s", name);
}

static void a_flipped_bit_is_found_as_time_passes(void **state)
{
    struct lone_world *world = *state;
    struct hkv_store *store = open_life(world);
    put_large(store, "large", 'x');
    flip(world, store);
    lone_world_pass(world, CHECK_START_US / 2);
    assert_int_equal(status_of(store).values_bad, 0);
    lone_world_pass(world, CHECK_START_US);
    assert_int_equal(status_of(store).values_bad, 1);
    flip(world, store);
    lone_world_pass(world, CHECK_REST_US + 10 * SECOND_US);
    assert_int_equal(status_of(store).values_bad, 0);
    expect_large(store, "large", 'x');
    hkv_close(store);
}

struct outcome {
    unsigned calls;
    enum hkv_err err;
    bool sound;
};

static void note(void *arg, enum hkv_err err, const char *error, const struct hkv_verify_result *result)
{
    struct outcome *outcome = arg;
    outcome->calls++;
    outcome->err = err;
    outcome->sound = result != NULL && result->sound;
    assert_int_equal(error[0] == 0, err == HKV_OK);
}

static void one_verification_runs_at_a_time_and_close_ends_it(void **state)
{
    struct lone_world *world = *state;
    struct hkv_store *store = open_life(world);
    struct outcome first = {0}, second = {0}, third = {0};
    node_put(store, "k", "v");
    assert_ok(hkv_verify_async(store, NULL, note, &first));
    assert_ok(hkv_verify_async(store, NULL, note, &second));
    lone_world_pass(world, SECOND_US);
    assert_int_equal(first.calls, 1);
    assert_int_equal(first.err, HKV_OK);
    assert_true(first.sound);
    assert_int_equal(second.calls, 1);
    assert_int_equal(second.err, HKV_E_BUSY);
    assert_ok(hkv_verify_async(store, NULL, note, &third));
    hkv_close(store);
    assert_int_equal(third.calls, 1);
    assert_true(third.err == HKV_E_CLOSED || third.sound);
}

#define TEST(name)       cmocka_unit_test_setup_teardown(name, setup, teardown)
#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_sound_store_is_found_sound),
        TEST(a_bad_value_is_named_counted_and_never_shown),
        TEST(a_bad_value_comes_back_from_a_peer),
        TEST(bad_entries_come_back_from_a_peer),
        TEST(an_index_made_anew_gives_the_answers_of_before),
        TEST(a_stopped_store_is_verified_by_reading_alone),
        TEST(a_damaged_page_is_named_before_a_bad_value_that_was_found_first),
        cmocka_unit_test(only_a_store_can_be_verified),
        WORLD_TEST(a_flipped_bit_is_found_as_time_passes),
        WORLD_TEST(one_verification_runs_at_a_time_and_close_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
