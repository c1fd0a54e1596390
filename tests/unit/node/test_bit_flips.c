/* A bit flips on the disk of a whole store between two of its lives: the store answers right, or refuses with a
 * sentence that names the file. tests/prop/kv/test_bit_flips.c tries every page; here it is the public functions that
 * answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture/node_world.h"
#include "store/db.h"
#include "unit/node/fixture.h"

#define CAPACITY_BYTES ((uint64_t)64 << 20)
#define KEYS           8
#define DATABASE       "node/docs/store.db"

static size_t value_bytes(unsigned key)
{
    return key % 4 == 3 ? 100000 : 2000; /* in files, and in rows */
}

static uint8_t *value_of(unsigned key)
{
    uint8_t *value = malloc(value_bytes(key));
    assert_non_null(value);
    for (size_t i = 0; i < value_bytes(key); i++) value[i] = (uint8_t)(key * 31 + i % 251);
    return value;
}

static enum hkv_err open_life(struct lone_world *world, struct hkv_store **store)
{
    struct hkv_options options = lone_world_options();
    options.namespace_secret = NAMESPACE_SECRET;
    return node_open_in(&options, lone_world_life(world), store);
}

static void write_all(struct hkv_store *store)
{
    for (unsigned k = 0; k < KEYS; k++) {
        char key[8];
        uint8_t *value = value_of(k);
        (void)snprintf(key, sizeof key, "k%u", k);
        assert_ok(hkv_put(store, key, strlen(key), value, value_bytes(k), NULL, NULL));
        free(value);
    }
}

static void assert_named(enum hkv_err err, const char *file)
{
    if (err != HKV_E_CORRUPT || strstr(hkv_last_error(), file) == NULL)
        fail_msg("%s: %s: %s", file, hkv_error_name(err), hkv_last_error());
}

/* Reads every key: right, or refused by the name of the file. How many were refused. */
static unsigned read_all(struct hkv_store *store, const char *file)
{
    unsigned refused = 0;
    for (unsigned k = 0; k < KEYS; k++) {
        char key[8];
        struct hkv_value got;
        uint8_t *value = value_of(k);
        (void)snprintf(key, sizeof key, "k%u", k);
        enum hkv_err err = hkv_get(store, key, strlen(key), &got);
        if (err == HKV_OK) {
            assert_int_equal(got.length, value_bytes(k));
            assert_memory_equal(got.data, value, value_bytes(k));
            hkv_value_free(&got);
        } else {
            assert_named(err, file);
            refused++;
        }
        free(value);
    }
    return refused;
}

static void a_damaged_page_is_refused_or_not_asked_for(void **state)
{
    (void)state;
    uint64_t pages = 1, refused = 0;
    for (uint64_t page = 0; page < pages; page++) {
        struct lone_world *world = lone_world_new(CAPACITY_BYTES);
        struct memdisk *disk = lone_world_disk(world);
        struct hkv_store *store;
        uint64_t length;
        assert_ok(open_life(world, &store));
        write_all(store);
        hkv_close(store);
        assert_ok(memdisk_length(disk, DATABASE, &length));
        pages = length / DB_PAGE_BYTES;
        assert_ok(memdisk_flip_bit(disk, DATABASE, page * DB_PAGE_BYTES * 8 + page * 997 % (DB_PAGE_BYTES * 8)));
        enum hkv_err err = open_life(world, &store);
        if (err == HKV_OK) {
            refused += read_all(store, DATABASE) > 0;
            hkv_close(store);
        } else {
            assert_named(err, DATABASE);
            refused++;
        }
        lone_world_free(world);
    }
    assert_true(refused > pages / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_damaged_page_is_refused_or_not_asked_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
