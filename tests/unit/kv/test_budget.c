/* The disk budget and full disks on a disk in memory: what is refused, what goes on, and that it ends by itself. */
#include "fixture/kv_store.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "crypto/blake3.h"
#include "kv/internal.h"
#include "store/memdisk.h"

#define BUDGET_BYTES ((uint64_t)4 << 20)
#define VALUE_BYTES  8000
#define LARGE_BYTES  200000
#define TEST(name)   cmocka_unit_test_setup_teardown(name, setup, teardown)

struct world {
    struct fixture *f;
    struct memdisk *disk;
    struct files *files;
    char blobs[160];
};

static void open_with(struct world *w, uint64_t disk_bytes)
{
    w->f->config.disk_bytes = disk_bytes;
    fixture_open(w->f);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    void *fixture = NULL;
    fixture_setup(&fixture);
    w->f = fixture;
    kv_close(w->f->kv);
    w->f->kv = NULL;
    OK(memdisk_new(&(struct memdisk_config){.capacity_bytes = 64 << 20, .forgetful = true}, &w->disk));
    snprintf(w->blobs, sizeof w->blobs, "%s/blobs", w->f->dir);
    OK(memdisk_files(w->disk, w->blobs, &w->files));
    w->f->config.vfs = memdisk_vfs(w->disk);
    w->f->config.files = w->files;
    w->f->config.sync_every_commit = true;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    void *fixture = w->f;
    kv_close(w->f->kv);
    w->f->kv = NULL;
    w->files->ops->free(w->files);
    memdisk_free(w->disk);
    fixture_teardown(&fixture);
    free(w);
    return 0;
}

static enum hkv_err put(struct world *w, const char *name, unsigned n, size_t len)
{
    static char text[VALUE_BYTES * 2];
    memset(text, 'v', len);
    text[snprintf(text, 32, "%s %u ", name, n)] = ' ';
    w->f->wall_us += 1000;
    struct kv_write write = {0};
    enum hkv_err err = fixture_write(w->f, fixture_key(name), slice_of(text, len), &write);
    (void)kv_maintain(w->f->kv);
    return err;
}

static enum hkv_err put_number(struct world *w, const char *prefix, unsigned n)
{
    char name[32];
    snprintf(name, sizeof name, "%s%u", prefix, n);
    return put(w, name, n, VALUE_BYTES);
}

/* Puts new keys until one is refused; how many there were. */
static unsigned fill(struct world *w, const char *prefix)
{
    enum hkv_err err = HKV_OK;
    unsigned n = 0;
    for (; err == HKV_OK; n++) {
        err = put_number(w, prefix, n);
        assert_true(n < 10000);
    }
    assert_int_equal(err, HKV_E_LIMIT);
    err = HKV_OK;
    for (unsigned small = 0; err == HKV_OK; small++) {
        char name[32];
        snprintf(name, sizeof name, "small %s%u", prefix, small);
        err = put(w, name, small, 30);
        assert_true(small < 1000);
    }
    return n - 1;
}

static struct entry remote(struct world *w, const char *key)
{
    return fixture_entry(w->f, 'b', fixture_key(key), w->f->wall_us, slice_of_text("from elsewhere"));
}

static void later(struct world *w, uint64_t us)
{
    w->f->wall_us += us;
    while (kv_maintain(w->f->kv)) continue;
}

static bool is_writable(struct world *w)
{
    struct error_text why;
    bool good = kv_writable(w->f->kv, &why);
    assert_int_equal(good, why.text[0] == '\0');
    return good;
}

/* ------------------------------------------------------------------------------------------ budget */

static void new_keys_and_entries_of_others_stop_before_the_last_part(void **state)
{
    struct world *w = *state;
    struct error_text why;
    open_with(w, BUDGET_BYTES);
    assert_true(is_writable(w));
    unsigned count = fill(w, "k");
    assert_true(count * VALUE_BYTES > BUDGET_BYTES / 2);
    assert_non_null(strstr(error_last(), "4194304"));
    struct entry e = remote(w, "remote");
    assert_int_equal(fixture_receive(w->f, &e), DOCS_REFUSED);
    assert_false(kv_writable(w->f->kv, &why));
    assert_non_null(strstr(why.text, "delete keys"));
    assert_non_null(fixture_get(w->f, "k0"));
    fixture_check(w->f);
}

static void overwrites_use_the_last_part_and_deletes_are_never_refused(void **state)
{
    struct world *w = *state;
    open_with(w, BUDGET_BYTES);
    unsigned count = fill(w, "k");
    enum hkv_err err = HKV_OK;
    unsigned n = 0;
    /* The values that are replaced stay for a minute, so this uses up what is left. */
    for (; err == HKV_OK && n < count; n++) err = put(w, "k0", n, VALUE_BYTES * 2 - 10);
    assert_int_equal(err, HKV_E_LIMIT);
    assert_true(n > 5);
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "k%u", i);
        OK(fixture_put(w->f, name, NULL));
    }
    assert_int_equal(fixture_put(w->f, "never there", NULL), HKV_E_LIMIT);
    fixture_check(w->f);
}

static void room_that_deletes_make_is_used_again_without_a_restart(void **state)
{
    struct world *w = *state;
    open_with(w, BUDGET_BYTES);
    unsigned count = fill(w, "k");
    struct entry e = remote(w, "remote");
    assert_int_equal(fixture_receive(w->f, &e), DOCS_REFUSED);
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "k%u", i);
        OK(fixture_put(w->f, name, NULL));
    }
    later(w, VALUE_GRACE_US + 1000);
    assert_true(is_writable(w));
    e = remote(w, "remote");
    assert_int_equal(fixture_receive(w->f, &e), DOCS_INSERTED);
    fixture_arrive(w->f, "from elsewhere");
    assert_string_equal(fixture_get(w->f, "remote"), "from elsewhere");
    assert_true(fill(w, "again") > count / 2);
    fixture_check(w->f);
}

static void what_is_on_the_disk_stays_near_the_budget(void **state)
{
    struct world *w = *state;
    open_with(w, BUDGET_BYTES);
    for (unsigned round = 0; round < 3; round++) {
        unsigned count = fill(w, "k");
        for (unsigned i = 0; i < 200; i++) (void)put(w, "k0", i, VALUE_BYTES * 2 - 10);
        assert_true(memdisk_used_bytes(w->disk) < BUDGET_BYTES + BUDGET_BYTES / 16);
        for (unsigned i = 0; i < count; i++) {
            char name[32];
            snprintf(name, sizeof name, "k%u", i);
            OK(fixture_put(w->f, name, NULL));
            (void)kv_maintain(w->f->kv);
        }
        later(w, VALUE_GRACE_US + 1000);
        assert_true(memdisk_used_bytes(w->disk) < BUDGET_BYTES + BUDGET_BYTES / 16);
    }
}

static void a_value_file_counts_while_it_is_written(void **state)
{
    struct world *w = *state;
    static uint8_t bytes[65536];
    struct kv_file *file;
    open_with(w, BUDGET_BYTES);
    OK(kv_file_create(w->f->kv, &file));
    enum hkv_err err = HKV_OK;
    uint64_t at = 0;
    for (; err == HKV_OK && at < 2 * BUDGET_BYTES; at += sizeof bytes)
        err = kv_file_write(file, at, slice_of(bytes, sizeof bytes));
    assert_int_equal(err, HKV_E_LIMIT);
    assert_true(at < BUDGET_BYTES);
    assert_int_equal(put_number(w, "k", 0), HKV_E_LIMIT);
    kv_file_free(file);
    OK(put_number(w, "k", 0));
}

static void a_stored_entrys_value_is_taken_up_to_the_budget_and_no_further(void **state)
{
    struct world *w = *state;
    open_with(w, BUDGET_BYTES);
    struct entry e = remote(w, "remote");
    assert_int_equal(fixture_receive(w->f, &e), DOCS_INSERTED);
    (void)fill(w, "k");
    enum hkv_err err = HKV_OK;
    for (unsigned n = 0; err == HKV_OK; n++) err = put(w, "k0", n, VALUE_BYTES * 2 - 10);
    for (unsigned n = 0; n < 1000 && put(w, "k1", n, 100) == HKV_OK; n++) continue;
    OK(kv_begin(w->f->kv));
    assert_int_equal(kv_value_arrived(w->f->kv, &e.record.hash, slice_of_text("from elsewhere"), NULL), HKV_E_LIMIT);
    kv_rollback(w->f->kv);
    later(w, VALUE_GRACE_US + 1000);
    fixture_arrive(w->f, "from elsewhere");
    assert_string_equal(fixture_get(w->f, "remote"), "from elsewhere");
    fixture_check(w->f);
}

static void a_value_too_large_to_be_fetched_takes_no_room(void **state)
{
    struct world *w = *state;
    struct kv_counts counts;
    open_with(w, BUDGET_BYTES);
    struct entry e = remote(w, "remote");
    e.record.length_bytes = 1000 * BUDGET_BYTES;
    assert_int_equal(fixture_receive(w->f, &e), DOCS_INSERTED);
    e.record.stamp_us++;
    e.record.length_bytes = BUDGET_BYTES; /* this one would be fetched */
    w->f->config.max_value_bytes = BUDGET_BYTES;
    fixture_reopen(w->f);
    assert_int_equal(fixture_receive(w->f, &e), DOCS_REFUSED);
    kv_counts(w->f->kv, &counts);
    assert_int_equal(counts.values_too_large, 1);
    fixture_check(w->f);
}

/* ------------------------------------------------------------------------------------------ full disks */

static void fill_disk(struct world *w)
{
    memdisk_faults_set(w->disk, &(struct memdisk_faults){.budget_bytes = memdisk_used_bytes(w->disk)});
}

static void make_room(struct world *w)
{
    memdisk_faults_set(w->disk, &(struct memdisk_faults){0});
}

/* New keys until the disk takes no more: the log has room that it used before. */
static void put_until_full(struct world *w)
{
    enum hkv_err err = HKV_OK;
    for (unsigned n = 0; err == HKV_OK && n < 5000; n++) err = put_number(w, "more", n);
    assert_int_equal(err, HKV_E_DISK_FULL);
}

static void a_full_disk_shows_and_ends_by_itself_when_there_is_room(void **state)
{
    struct world *w = *state;
    struct error_text why;
    open_with(w, 0);
    OK(put_number(w, "k", 1));
    fill_disk(w);
    put_until_full(w);
    assert_false(kv_writable(w->f->kv, &why));
    assert_non_null(strstr(why.text, "store.db"));
    assert_non_null(fixture_get(w->f, "k1"));
    later(w, KV_RETRY_US);
    assert_false(is_writable(w));
    make_room(w);
    assert_false(is_writable(w)); /* nobody has tried yet */
    later(w, KV_RETRY_US);
    assert_true(is_writable(w));
    OK(put_number(w, "k", 2));
    fixture_check(w->f);
}

static void value_files_that_fail_leave_nothing_behind_and_show(void **state)
{
    struct world *w = *state;
    static uint8_t bytes[LARGE_BYTES];
    struct kv_file *file;
    open_with(w, 0);
    OK(put_number(w, "k", 1));
    fill_disk(w);
    uint64_t before = memdisk_used_bytes(w->disk);
    OK(kv_file_create(w->f->kv, &file));
    assert_int_equal(kv_file_write(file, 0, slice_of(bytes, sizeof bytes)), HKV_E_DISK_FULL);
    kv_file_free(file);
    assert_int_equal(memdisk_used_bytes(w->disk), before);
    assert_false(is_writable(w));
    later(w, KV_RETRY_US);
    assert_false(is_writable(w));
    assert_int_equal(memdisk_used_bytes(w->disk), before);
    make_room(w);
    later(w, KV_RETRY_US);
    assert_true(is_writable(w));
}

static unsigned warnings;

static void count_warning(const struct log_sink *sink, enum log_level level, const char *module, const char *text)
{
    (void)sink, (void)level, (void)module, (void)text;
    warnings++;
}

static void a_disk_that_stays_full_is_logged_now_and_then(void **state)
{
    static const struct log_sink sink = {.write = count_warning, .level = LOG_LEVEL_WARN};
    struct world *w = *state;
    open_with(w, 0);
    OK(put_number(w, "k", 1));
    log_set_sink(&sink);
    warnings = 0;
    w->f->kv->checkpoint_at = 1;
    fill_disk(w);
    put_until_full(w);
    for (unsigned n = 0; n < 2000; n++) {
        (void)put_number(w, "x", n);
        later(w, 10000); /* 20 s in all */
    }
    log_set_sink(NULL);
    assert_in_range(warnings, 1, 10);
    make_room(w);
    later(w, KV_RETRY_US);
    assert_true(is_writable(w));
}

static void a_log_that_cannot_be_checkpointed_is_when_there_is_room(void **state)
{
    struct world *w = *state;
    open_with(w, 0);
    OK(put_number(w, "k", 1));
    for (unsigned n = 0; n < 50; n++) {
        struct kv_counts counts;
        kv_counts(w->f->kv, &counts);
        OK(put(w, "k1", n, VALUE_BYTES));
    }
    fill_disk(w); /* the database's file cannot grow to what the log holds */
    w->f->kv->checkpoint_at = 1;
    later(w, KV_RETRY_US);
    assert_true(kv_trouble_is(w->f->kv, KV_TROUBLE_UPKEEP));
    assert_non_null(fixture_get(w->f, "k1"));
    make_room(w);
    later(w, KV_RETRY_US);
    assert_false(kv_trouble_is(w->f->kv, KV_TROUBLE_UPKEEP));
    OK(put(w, "k1", 99, VALUE_BYTES));
    struct kv_counts counts;
    kv_counts(w->f->kv, &counts);
    assert_true(counts.wal_bytes < 50 * VALUE_BYTES); /* the log began again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(new_keys_and_entries_of_others_stop_before_the_last_part),
        TEST(overwrites_use_the_last_part_and_deletes_are_never_refused),
        TEST(room_that_deletes_make_is_used_again_without_a_restart),
        TEST(what_is_on_the_disk_stays_near_the_budget),
        TEST(a_value_file_counts_while_it_is_written),
        TEST(a_stored_entrys_value_is_taken_up_to_the_budget_and_no_further),
        TEST(a_value_too_large_to_be_fetched_takes_no_room),
        TEST(a_full_disk_shows_and_ends_by_itself_when_there_is_room),
        TEST(value_files_that_fail_leave_nothing_behind_and_show),
        TEST(a_disk_that_stays_full_is_logged_now_and_then),
        TEST(a_log_that_cannot_be_checkpointed_is_when_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
