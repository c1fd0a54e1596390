/* Values whose stored bytes are not their own: out of sight at once, wanted, and good again when good bytes come. */
#include "fixture/kv_store.h"

#include <dirent.h>
#include <stdio.h>

#include "crypto/blake3.h"

#define LARGE      40000 /* bytes: a file */
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static struct hash hash_of(struct slice content)
{
    struct hash hash;
    blake3_hash(content, &hash);
    return hash;
}

static void quarantine(struct fixture *f, const struct hash *hash, size_t expected)
{
    size_t count;
    kv_value_bad(f->kv, hash);
    OK(kv_begin(f->kv));
    OK(kv_quarantine(f->kv, &count));
    OK(kv_commit(f->kv));
    assert_int_equal(count, expected);
    fixture_check(f);
}

static uint64_t bad_count(struct fixture *f)
{
    struct kv_counts c;
    kv_counts(f->kv, &c);
    return c.values_bad;
}

static void assert_damaged(struct fixture *f, const char *key)
{
    struct kv_item item;
    assert_int_equal(kv_get(f->kv, fixture_key(key), KV_WANT_VALUE, &item), HKV_E_CORRUPT);
    kv_item_fini(&item);
}

static size_t value_files(struct fixture *f)
{
    char path[256];
    size_t count = 0;
    snprintf(path, sizeof path, "%s/blobs", f->dir);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static const uint8_t *large(void)
{
    static uint8_t bytes[LARGE];
    memset(bytes, 'x', sizeof bytes);
    return bytes;
}

static struct kv_file *sealed(struct fixture *f, struct slice content, const struct hash *hash)
{
    struct kv_file *file;
    struct buf outboard = {0};
    OK(kv_file_create(f->kv, &file));
    OK(kv_file_write(file, 0, content));
    OK(kv_file_seal(file, hash, content.len, &outboard));
    return file;
}

static struct hash put_large(struct fixture *f, const char *key)
{
    struct slice content = slice_of(large(), LARGE);
    struct hash hash = hash_of(content);
    struct kv_write w = {.file = sealed(f, content, &hash),
                         .entry = fixture_entry(f, 's', fixture_key(key), 0, content)};
    kv_content_parse(content, LARGE, &w.parsed);
    OK(kv_propose_stamp(f->kv, w.entry.key, &w.entry.record.stamp_us));
    OK(kv_begin(f->kv));
    OK(kv_write(f->kv, &w, &f->self));
    OK(kv_commit(f->kv));
    kv_file_free(w.file);
    return hash;
}

static void a_bad_value_is_counted_and_neither_read_listed_nor_served(void **state)
{
    struct fixture *f = *state;
    struct hash hash = hash_of(slice_of_text("content"));
    struct kv_blob blob;
    struct kv_item item;
    OK(fixture_put(f, "a", "content"));
    quarantine(f, &hash, 1);
    assert_int_equal(bad_count(f), 1);
    assert_damaged(f, "a");
    assert_int_equal(kv_blob_open(f->kv, &hash, &blob), HKV_E_NOT_FOUND);
    OK(kv_get(f->kv, fixture_key("a"), KV_WANT_META, &item));
    assert_true(item.bad);
    kv_item_fini(&item);
    fixture_reopen(f);
    assert_int_equal(bad_count(f), 1);
    assert_damaged(f, "a");
}

static bool sees_no_bytes(void *arg, struct kv_item *item)
{
    ++*(size_t *)arg;
    assert_int_equal(item->bad, slice_equal(buf_slice(&item->key), slice_of_text("a")));
    assert_int_equal(item->value.len == 0, item->bad);
    return true;
}

static void a_list_names_the_key_without_its_bytes(void **state)
{
    struct fixture *f = *state;
    struct hash hash = hash_of(slice_of_text("content"));
    size_t seen = 0;
    OK(fixture_put(f, "a", "content"));
    OK(fixture_put(f, "b", "other"));
    quarantine(f, &hash, 1);
    OK(kv_list(f->kv, KV_KEY_USER, (struct slice){0}, (struct slice){0}, KV_WANT_VALUE, UINT64_MAX, sees_no_bytes,
               &seen));
    assert_int_equal(seen, 2);
}

static void it_is_wanted_and_good_again_when_it_arrives(void **state)
{
    struct fixture *f = *state;
    struct hash hash = hash_of(slice_of_text("content"));
    struct kv_wanted wanted;
    size_t count;
    uint64_t next_us, mark;
    bool missing;
    OK(fixture_put(f, "a", "content"));
    quarantine(f, &hash, 1);
    OK(kv_begin(f->kv));
    OK(kv_wanted_take(f->kv, f->wall_us, 1, &wanted, &count, &next_us));
    OK(kv_value_mark(f->kv, &mark));
    OK(kv_value_missing(f->kv, mark, &missing));
    OK(kv_commit(f->kv));
    assert_int_equal(count, 1);
    assert_memory_equal(&wanted.hash, &hash, sizeof hash);
    assert_int_equal(wanted.length, 7);
    assert_true(missing);
    fixture_arrive(f, "content");
    assert_string_equal(fixture_get(f, "a"), "content");
    assert_int_equal(bad_count(f), 0);
    fixture_check(f);
}

static void a_failed_fetch_of_it_is_tried_again_later(void **state)
{
    struct fixture *f = *state;
    struct hash hash = hash_of(slice_of_text("content"));
    struct kv_wanted wanted;
    size_t count;
    uint64_t next_us;
    OK(fixture_put(f, "a", "content"));
    quarantine(f, &hash, 1);
    OK(kv_begin(f->kv));
    OK(kv_wanted_take(f->kv, f->wall_us, 1, &wanted, &count, &next_us));
    OK(kv_value_failed(f->kv, &hash, f->wall_us));
    OK(kv_wanted_take(f->kv, f->wall_us, 1, &wanted, &count, &next_us));
    assert_int_equal(count, 0);
    assert_true(next_us > f->wall_us);
    OK(kv_wanted_take(f->kv, next_us, 1, &wanted, &count, &next_us));
    assert_int_equal(count, 1);
    OK(kv_commit(f->kv));
}

static void writing_the_same_value_again_heals_it(void **state)
{
    struct fixture *f = *state;
    struct hash hash = hash_of(slice_of_text("content"));
    OK(fixture_put(f, "a", "content"));
    quarantine(f, &hash, 1);
    OK(fixture_put(f, "b", "content"));
    assert_string_equal(fixture_get(f, "a"), "content");
    assert_string_equal(fixture_get(f, "b"), "content");
    assert_int_equal(bad_count(f), 0);
    fixture_check(f);
}

static void an_overwrite_removes_it(void **state)
{
    struct fixture *f = *state;
    struct hash hash = put_large(f, "a");
    quarantine(f, &hash, 1);
    assert_int_equal(value_files(f), 1);
    OK(fixture_put(f, "a", "small"));
    assert_string_equal(fixture_get(f, "a"), "small");
    assert_int_equal(bad_count(f), 0);
    assert_int_equal(value_files(f), 0);
    fixture_check(f);
}

static void good_bytes_take_the_place_of_the_damaged_file(void **state)
{
    struct fixture *f = *state;
    struct hash hash = put_large(f, "a");
    struct kv_counts before, after;
    struct kv_blob blob;
    kv_counts(f->kv, &before);
    quarantine(f, &hash, 1);
    struct kv_file *file = sealed(f, slice_of(large(), LARGE), &hash);
    OK(kv_begin(f->kv));
    OK(kv_value_arrived(f->kv, &hash, (struct slice){0}, file));
    OK(kv_commit(f->kv));
    kv_file_free(file);
    assert_int_equal(value_files(f), 1);
    kv_counts(f->kv, &after);
    assert_int_equal(after.disk_bytes - after.wal_bytes, before.disk_bytes - before.wal_bytes);
    OK(kv_blob_open(f->kv, &hash, &blob));
    assert_true(blob.fd >= 0);
    kv_blob_close(&blob);
    fixture_check(f);
}

static void a_transaction_that_fails_leaves_the_report(void **state)
{
    struct fixture *f = *state;
    struct hash hash = put_large(f, "a");
    size_t count;
    kv_value_bad(f->kv, &hash);
    OK(kv_begin(f->kv));
    OK(kv_quarantine(f->kv, &count));
    kv_rollback(f->kv);
    assert_int_equal(bad_count(f), 0);
    OK(kv_begin(f->kv));
    OK(kv_quarantine(f->kv, &count));
    OK(kv_commit(f->kv));
    assert_int_equal(count, 1);
    /* Dealt with: not a second time. */
    OK(kv_begin(f->kv));
    OK(kv_value_good(f->kv, &hash));
    OK(kv_quarantine(f->kv, &count));
    OK(kv_commit(f->kv));
    assert_int_equal(count, 0);
    fixture_check(f);
}

static void one_that_reads_well_after_all_is_shown_to_those_who_waited(void **state)
{
    struct fixture *f = *state;
    struct hash hash = hash_of(slice_of_text("content"));
    OK(fixture_put(f, "a", "content"));
    OK(fixture_put(f, "b", "before"));
    quarantine(f, &hash, 1);
    f->wall_us += 1000;
    struct entry e = fixture_entry(f, 'x', fixture_key("b"), f->wall_us, slice_of_text("content"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    assert_string_equal(fixture_get(f, "b"), "before");
    fixture_check(f);
    OK(kv_begin(f->kv));
    OK(kv_value_good(f->kv, &hash));
    OK(kv_commit(f->kv));
    assert_string_equal(fixture_get(f, "a"), "content");
    assert_string_equal(fixture_get(f, "b"), "content");
    assert_int_equal(bad_count(f), 0);
    fixture_check(f);
}

static void longer_than_the_limit_it_is_not_fetched_until_the_limit_is_raised(void **state)
{
    struct fixture *f = *state;
    struct hash hash = put_large(f, "a");
    struct kv_wanted wanted;
    size_t count;
    uint64_t next_us;
    f->config.max_value_bytes = 1000;
    fixture_reopen(f);
    quarantine(f, &hash, 1);
    OK(kv_begin(f->kv));
    OK(kv_wanted_take(f->kv, f->wall_us, 1, &wanted, &count, &next_us));
    OK(kv_commit(f->kv));
    assert_int_equal(count, 0);
    f->config.max_value_bytes = 1 << 20;
    fixture_reopen(f);
    OK(kv_begin(f->kv));
    OK(kv_wanted_take(f->kv, f->wall_us, 1, &wanted, &count, &next_us));
    OK(kv_commit(f->kv));
    assert_int_equal(count, 1);
}

static void the_contents_that_every_node_knows_are_never_bad(void **state)
{
    struct fixture *f = *state;
    OK(fixture_put(f, "a", NULL));
    quarantine(f, &kv_tombstone_hash, 0);
    quarantine(f, &hash_empty, 0);
    assert_int_equal(bad_count(f), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_bad_value_is_counted_and_neither_read_listed_nor_served),
        TEST(a_list_names_the_key_without_its_bytes),
        TEST(it_is_wanted_and_good_again_when_it_arrives),
        TEST(a_failed_fetch_of_it_is_tried_again_later),
        TEST(writing_the_same_value_again_heals_it),
        TEST(an_overwrite_removes_it),
        TEST(good_bytes_take_the_place_of_the_damaged_file),
        TEST(a_transaction_that_fails_leaves_the_report),
        TEST(one_that_reads_well_after_all_is_shown_to_those_who_waited),
        TEST(longer_than_the_limit_it_is_not_fetched_until_the_limit_is_raised),
        TEST(the_contents_that_every_node_knows_are_never_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
