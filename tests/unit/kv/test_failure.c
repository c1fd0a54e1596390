/* Failures of the disk in the middle of a transaction: the error is told, nothing of it stays, the store goes on. */
#include "fixture/kv_store.h"

#include <stdio.h>

#include "kv/internal.h"

#define T          FIXTURE_NOW_US
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

/* Lets the file grow by so many pages and no more, as a full disk would. */
static void limit_pages(struct fixture *f, int more)
{
    int64_t pages;
    char text[64];
    OK(db_integer(&f->kv->db, "PRAGMA page_count", &pages));
    snprintf(text, sizeof text, "PRAGMA max_page_count = %d", (int)pages + more);
    OK(db_integer(&f->kv->db, text, &pages));
}

static enum hkv_err write_in(struct fixture *f, const char *key, struct slice content)
{
    struct kv_write w = {.content = content};
    w.entry = fixture_entry(f, 's', fixture_key(key), 0, content);
    OK(kv_propose_stamp(f->kv, w.entry.key, &w.entry.record.stamp_us));
    OK(entry_sign(&w.entry, &f->self.namespace_secret, &f->self.author_secret));
    return kv_write(f->kv, &w, &f->self);
}

static void a_full_disk_in_a_group_leaves_nothing_of_it(void **state)
{
    struct fixture *f = *state;
    static uint8_t content[8000];
    struct kv_counts before, after;
    for (int i = 0; i < 100; i++) {
        char key[32];
        snprintf(key, sizeof key, "k%d", i);
        OK(fixture_put(f, key, "v"));
    }
    kv_counts(f->kv, &before);
    limit_pages(f, 20);
    OK(kv_begin(f->kv));
    enum hkv_err err = HKV_OK;
    for (int i = 0; i < 100 && err == HKV_OK; i++) {
        char key[32];
        snprintf(key, sizeof key, "k%d", i);
        content[0] = (uint8_t)i;
        OK(kv_savepoint(f->kv));
        err = write_in(f, key, slice_of(content, sizeof content));
        if (err == HKV_OK) OK(kv_savepoint_release(f->kv));
    }
    assert_int_equal(err, HKV_E_DISK_FULL);
    assert_non_null(strstr(error_last(), "store.db"));
    if (kv_in_transaction(f->kv)) kv_savepoint_rollback(f->kv);
    kv_rollback(f->kv);
    assert_false(kv_in_transaction(f->kv));
    kv_counts(f->kv, &after);
    assert_memory_equal(&before.fingerprint, &after.fingerprint, sizeof before.fingerprint);
    assert_string_equal(fixture_get(f, "k0"), "v");
    fixture_check(f);
    limit_pages(f, 100000);
    OK(fixture_put(f, "k0", "room again"));
    assert_string_equal(fixture_get(f, "k0"), "room again");
    fixture_check(f);
}

static void a_failing_part_is_taken_back_and_the_rest_is_kept(void **state)
{
    struct fixture *f = *state;
    static uint8_t content[16000];
    limit_pages(f, 2);
    OK(kv_begin(f->kv));
    OK(kv_savepoint(f->kv));
    OK(write_in(f, "small", slice_of_text("kept")));
    OK(kv_savepoint_release(f->kv));
    OK(kv_savepoint(f->kv));
    assert_int_equal(write_in(f, "large", slice_of(content, sizeof content)), HKV_E_DISK_FULL);
    bool alive = kv_in_transaction(f->kv);
    if (alive) {
        kv_savepoint_rollback(f->kv);
        OK(kv_commit(f->kv));
    } else {
        kv_rollback(f->kv);
    }
    assert_null(fixture_get(f, "large"));
    assert_int_equal(fixture_get(f, "small") != NULL, alive);
    fixture_check(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_full_disk_in_a_group_leaves_nothing_of_it),
        TEST(a_failing_part_is_taken_back_and_the_rest_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
