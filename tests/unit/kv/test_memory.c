/* The memory budget of a store under readers on many threads, and that none of them keeps the log from beginning again.
 */
#include "fixture/kv_store.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>

#include "kv/internal.h"

#define CACHE_BYTES      ((uint64_t)4 << 20)
#define KEYS             1500
#define VALUE_BYTES      8000
#define READERS          (2 * KV_READERS_MAX)
#define ROUNDS           2
#define CONNECTION_BYTES ((uint64_t)512 << 10) /* of one without its pages: schema, statements, a value */

static int setup(void **state)
{
    static char text[VALUE_BYTES];
    int failed = fixture_setup(state);
    struct fixture *f = *state;
    kv_close(f->kv);
    f->config.cache_bytes = CACHE_BYTES;
    fixture_open(f);
    memset(text, 'v', sizeof text);
    for (unsigned i = 0; i < KEYS; i++) {
        char key[32];
        struct kv_write w = {0};
        text[snprintf(text, 32, "%u ", i)] = ' ';
        snprintf(key, sizeof key, "key %u", i);
        OK(fixture_write(f, fixture_key(key), slice_of(text, sizeof text), &w));
        (void)kv_maintain(f->kv);
    }
    return failed;
}

struct reader {
    pthread_t thread;
    struct fixture *f;
    unsigned number;
    unsigned read;
};

static bool see(void *arg, struct kv_item *item)
{
    struct reader *r = arg;
    if (item->length == VALUE_BYTES) r->read++;
    return true;
}

/* Gets and lists over everything; no thread of a reader may use cmocka. */
static void *read_everything(void *arg)
{
    struct reader *r = arg;
    for (unsigned round = 0; round < ROUNDS; round++) {
        if (kv_list(r->f->kv, KV_KEY_USER, (struct slice){0}, (struct slice){0}, KV_WANT_VALUE, VALUE_BYTES, see, r) !=
            HKV_OK)
            return NULL;
        for (unsigned i = r->number; i < KEYS; i += READERS / 4) {
            uint8_t key[32];
            struct kv_item item;
            int len = snprintf((char *)key, sizeof key, "key %u", i);
            if (kv_get(r->f->kv, slice_of(key, (size_t)len + 1), KV_WANT_VALUE, &item) != HKV_OK) return NULL;
            kv_item_fini(&item);
        }
    }
    return r;
}

static void page_caches_stay_within_the_budget_with_any_number_of_readers(void **state)
{
    struct fixture *f = *state;
    struct reader readers[READERS];
    (void)sqlite3_memory_highwater(1);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.f = f, .number = i};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_everything, &readers[i]), 0);
    }
    for (unsigned i = 0; i < READERS; i++) {
        void *done;
        assert_int_equal(pthread_join(readers[i].thread, &done), 0);
        assert_non_null(done);
        assert_int_equal(readers[i].read, ROUNDS * KEYS);
    }
    uint64_t most = (uint64_t)sqlite3_memory_highwater(0);
    uint64_t limit = CACHE_BYTES + (KV_READERS_MAX + 1) * CONNECTION_BYTES;
    if (most > limit) fail_msg("%ju bytes at most, %ju allowed", (uintmax_t)most, (uintmax_t)limit);
    assert_in_range(f->kv->readers.open, 2, KV_READERS_MAX);
}

static void readers_that_are_done_let_the_log_begin_again(void **state)
{
    struct fixture *f = *state;
    struct reader reader = {.f = f};
    struct kv_counts before, after;
    for (unsigned i = 0; i < 20; i++) {
        assert_non_null(read_everything(&reader));
        OK(fixture_put(f, "key 0", i % 2 ? "odd" : "even"));
    }
    kv_counts(f->kv, &before);
    f->kv->checkpoint_at = 1;
    (void)kv_maintain(f->kv);
    OK(fixture_put(f, "key 0", "the first of the new log"));
    kv_counts(f->kv, &after);
    assert_true(after.wal_bytes < before.wal_bytes);
    assert_true(after.wal_bytes < 40 * DB_LOG_FRAME_BYTES);
    assert_int_equal(after.wal_overruns, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(page_caches_stay_within_the_budget_with_any_number_of_readers, setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(readers_that_are_done_let_the_log_begin_again, setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
