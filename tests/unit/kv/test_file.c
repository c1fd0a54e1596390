/* Large values: files, their life, and what a crash leaves. */
#include "fixture/kv_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "crypto/blake3.h"
#include "kv/internal.h"

#define T          FIXTURE_NOW_US
#define LARGE      100000
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static size_t files_in(const struct fixture *f)
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

static void make_file(const struct fixture *f, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/blobs/%s", f->dir, name);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void fill(uint8_t *bytes, uint8_t salt)
{
    for (size_t i = 0; i < LARGE; i++) bytes[i] = (uint8_t)(i * 31 / 7 + salt);
}

/* A sealed file of LARGE bytes, its second half written first. */
static struct kv_file *sealed(struct fixture *f, uint8_t salt, struct hash *hash)
{
    static uint8_t bytes[LARGE];
    struct kv_file *file;
    struct buf outboard = {0};
    fill(bytes, salt);
    blake3_hash(slice_of(bytes, LARGE), hash);
    OK(kv_file_create(f->kv, &file));
    OK(kv_file_write(file, LARGE / 2, slice_of(bytes + LARGE / 2, LARGE / 2)));
    OK(kv_file_write(file, 0, slice_of(bytes, LARGE / 2)));
    OK(buf_append(&outboard, "outboard", 8));
    OK(kv_file_seal(file, hash, LARGE, &outboard));
    assert_null(outboard.data);
    return file;
}

static enum hkv_err write_file_in(struct fixture *f, const char *key, struct kv_file *file, const struct hash *hash)
{
    struct kv_write w = {.file = file};
    w.entry = fixture_entry(f, 's', fixture_key(key), 0, (struct slice){0});
    w.entry.record.hash = *hash;
    w.entry.record.length_bytes = LARGE;
    OK(kv_propose_stamp(f->kv, w.entry.key, &w.entry.record.stamp_us));
    OK(entry_sign(&w.entry, &f->self.namespace_secret, &f->self.author_secret));
    return kv_write(f->kv, &w, &f->self);
}

static void put_file(struct fixture *f, const char *key, uint8_t salt)
{
    struct hash hash;
    struct kv_file *file = sealed(f, salt, &hash);
    OK(kv_begin(f->kv));
    OK(write_file_in(f, key, file, &hash));
    OK(kv_commit(f->kv));
    kv_file_free(file);
}

static void assert_file_shown(struct fixture *f, const char *key, uint8_t salt)
{
    static uint8_t expected[LARGE], got[LARGE];
    struct kv_item item;
    fill(expected, salt);
    OK(kv_get(f->kv, fixture_key(key), KV_WANT_VALUE, &item));
    assert_int_equal(item.length, LARGE);
    assert_true(item.blob.fd >= 0);
    assert_true(slice_equal(buf_slice(&item.blob.outboard), slice_of_text("outboard")));
    assert_int_equal(pread(item.blob.fd, got, LARGE, 0), LARGE);
    assert_memory_equal(got, expected, LARGE);
    kv_item_fini(&item);
}

static void maintain(struct fixture *f)
{
    while (kv_maintain(f->kv)) continue;
}

static void a_large_value_is_a_file_and_read_back(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    put_file(f, "big", 1);
    assert_file_shown(f, "big", 1);
    kv_counts(f->kv, &counts);
    assert_true(counts.disk_bytes > LARGE);
    fixture_reopen(f);
    maintain(f);
    assert_file_shown(f, "big", 1);
    assert_int_equal(files_in(f), 1);
    fixture_check(f);
}

static void file_arrives(struct fixture *f, uint8_t salt)
{
    struct hash hash;
    struct kv_file *file = sealed(f, salt, &hash);
    OK(kv_begin(f->kv));
    OK(kv_value_arrived(f->kv, &hash, (struct slice){0}, file));
    kv_file_free(file); /* within the transaction: kept once that is committed */
    OK(kv_commit(f->kv));
}

/* The entry first, then its value: the file has a greater number than the row. */
static struct hash receive_file(struct fixture *f, const char *key, uint8_t salt)
{
    static uint8_t bytes[LARGE];
    fill(bytes, salt);
    struct entry e = fixture_entry(f, 'x', fixture_key(key), T, slice_of(bytes, LARGE));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    file_arrives(f, salt);
    return e.record.hash;
}

static void a_received_large_value_is_taken_over(void **state)
{
    struct fixture *f = *state;
    (void)receive_file(f, "big", 2);
    assert_file_shown(f, "big", 2);
    fixture_check(f);
}

static void a_received_value_written_here_too_after_a_restart_keeps_its_file(void **state)
{
    struct fixture *f = *state;
    (void)receive_file(f, "theirs", 2);
    fixture_reopen(f);
    put_file(f, "ours", 2);
    assert_int_equal(files_in(f), 1);
    assert_file_shown(f, "theirs", 2);
    assert_file_shown(f, "ours", 2);
    fixture_check(f);
}

static void a_bad_value_fetched_again_after_a_restart_has_its_new_file(void **state)
{
    struct fixture *f = *state;
    size_t count;
    struct hash hash = receive_file(f, "big", 2);
    fixture_reopen(f);
    kv_value_bad(f->kv, &hash);
    OK(kv_begin(f->kv));
    OK(kv_quarantine(f->kv, &count));
    OK(kv_commit(f->kv));
    file_arrives(f, 2);
    assert_int_equal(files_in(f), 1);
    assert_file_shown(f, "big", 2);
    fixture_check(f);
}

/* As an older program left it: without the word that says how far the numbers of files went. */
static void a_store_that_does_not_say_how_many_files_it_had_finds_out(void **state)
{
    struct fixture *f = *state;
    struct buf counters = {0};
    (void)receive_file(f, "theirs", 2);
    OK(kv_begin(f->kv));
    OK(kv_meta_get(f->kv, "kv/counters", &counters));
    OK(kv_meta_set(f->kv, "kv/counters", slice_part(buf_slice(&counters), 0, counters.len - 8)));
    OK(kv_commit(f->kv));
    buf_fini(&counters);
    fixture_reopen(f);
    put_file(f, "ours", 2);
    assert_file_shown(f, "theirs", 2);
    fixture_check(f);
}

static void a_file_nobody_stored_goes_with_its_handle(void **state)
{
    struct fixture *f = *state;
    struct hash hash;
    struct kv_file *file;
    OK(kv_file_create(f->kv, &file));
    assert_int_equal(files_in(f), 1);
    kv_file_free(file);
    assert_int_equal(files_in(f), 0);
    kv_file_free(sealed(f, 3, &hash));
    assert_int_equal(files_in(f), 0);
    kv_file_free(NULL);
}

static void a_file_of_a_rolled_back_transaction_is_the_callers_again(void **state)
{
    struct fixture *f = *state;
    struct hash hash;
    struct kv_file *file = sealed(f, 4, &hash);
    OK(kv_begin(f->kv));
    OK(kv_savepoint(f->kv));
    OK(write_file_in(f, "big", file, &hash));
    kv_savepoint_rollback(f->kv);
    OK(write_file_in(f, "big", file, &hash)); /* and can be stored again */
    OK(kv_commit(f->kv));
    kv_file_free(file);
    assert_file_shown(f, "big", 4);
    file = sealed(f, 5, &hash);
    OK(kv_begin(f->kv));
    OK(write_file_in(f, "big", file, &hash));
    kv_file_free(file);
    kv_rollback(f->kv);
    assert_int_equal(files_in(f), 1);
    fixture_check(f);
}

static void the_same_content_twice_keeps_one_file(void **state)
{
    struct fixture *f = *state;
    put_file(f, "a", 6);
    put_file(f, "b", 6);
    assert_int_equal(files_in(f), 1);
    assert_file_shown(f, "a", 6);
    assert_file_shown(f, "b", 6);
    fixture_check(f);
}

static void a_replaced_value_goes_after_the_grace_time(void **state)
{
    struct fixture *f = *state;
    struct kv_counts before, after;
    kv_counts(f->kv, &before);
    put_file(f, "a", 7);
    OK(fixture_put(f, "a", "small"));
    maintain(f);
    assert_int_equal(files_in(f), 1);
    f->wall_us += 3600u * 1000000u;
    maintain(f);
    assert_int_equal(files_in(f), 0);
    kv_counts(f->kv, &after);
    assert_true(after.disk_bytes - after.wal_bytes < before.disk_bytes - before.wal_bytes + LARGE);
    fixture_check(f);
}

static void a_value_used_again_within_the_grace_time_stays(void **state)
{
    struct fixture *f = *state;
    put_file(f, "a", 8);
    OK(fixture_put(f, "a", "small"));
    put_file(f, "b", 8);
    f->wall_us += 3600u * 1000000u;
    maintain(f);
    assert_file_shown(f, "b", 8);
    assert_int_equal(files_in(f), 1);
    fixture_check(f);
}

static void orphans_are_swept_after_a_start_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct hash hash;
    put_file(f, "a", 9);
    make_file(f, "tmp-0123456789abcdef-0");
    make_file(f, "183d0bd8ba096ed4b88a62d8e24db4bcaaf67af728ac81b52e1621610defb8b7-1");
    make_file(f, "183d0bd8ba096ed4b88a62d8e24db4bcaaf67af728ac81b52e1621610defb8b7-12"); /* sealed, and then death */
    make_file(f, "notes.txt");
    kv_close(f->kv);
    fixture_open(f);
    struct kv_file *being_written;
    OK(kv_file_create(f->kv, &being_written));
    struct kv_file *just_sealed = sealed(f, 10, &hash);
    assert_int_equal(files_in(f), 7);
    maintain(f);
    assert_int_equal(files_in(f), 4); /* the value, the two of this run, and what is not ours */
    kv_file_free(being_written);
    kv_file_free(just_sealed);
    assert_file_shown(f, "a", 9);
}

/* A folder of which one sync fails; files sealed at once share it. */
struct shaky {
    struct files base;
    struct files *real;
    struct kv_file *other; /* is sealed when the next file has just been renamed, and the sync for it fails */
    struct hash other_hash;
    enum hkv_err other_err;
    struct fixture *slow; /* a sync takes until SEALERS files wait for one */
    unsigned syncs;
};

#define SEALERS 4

static bool all_wait(struct fixture *f)
{
    struct kv_sealing *s = &f->kv->sealing;
    (void)pthread_mutex_lock(&s->lock);
    bool all = s->wanted == SEALERS;
    (void)pthread_mutex_unlock(&s->lock);
    return all;
}

static struct files *real_of(struct files *f)
{
    return ((struct shaky *)(void *)f)->real;
}

static enum hkv_err shaky_create(struct files *f, const char *name, struct files_handle **out)
{
    return real_of(f)->ops->create(real_of(f), name, out);
}

static enum hkv_err shaky_sync_dir(struct files *f)
{
    struct shaky *s = (struct shaky *)(void *)f;
    s->syncs++;
    while (s->slow && !all_wait(s->slow)) (void)sched_yield();
    if (s->other) return error_set(HKV_E_DISK, "blobs: the folder cannot be synced");
    return s->real->ops->sync_dir(s->real);
}

static enum hkv_err shaky_rename(struct files *f, const char *from, const char *to)
{
    struct shaky *s = (struct shaky *)(void *)f;
    struct buf outboard = {0};
    OK(s->real->ops->rename(s->real, from, to));
    if (!s->other || s->other_err != HKV_OK) return HKV_OK;
    s->other_err = HKV_E_BUSY;
    s->other_err = kv_file_seal(s->other, &s->other_hash, 1, &outboard);
    kv_file_free(s->other);
    s->other = NULL;
    return HKV_OK;
}

static enum hkv_err shaky_unlink(struct files *f, const char *name)
{
    return real_of(f)->ops->unlink(real_of(f), name);
}

static enum hkv_err shaky_list(struct files *f, size_t max, void (*visit)(void *arg, const char *name), void *arg,
                               bool *end)
{
    return real_of(f)->ops->list(real_of(f), max, visit, arg, end);
}

static void open_on(struct fixture *f, struct shaky *s)
{
    static struct files_ops ops;
    char path[256];
    snprintf(path, sizeof path, "%s/blobs", f->dir);
    OK(files_posix_open(path, &s->real));
    ops = *s->real->ops;
    ops.create = shaky_create;
    ops.rename = shaky_rename;
    ops.sync_dir = shaky_sync_dir;
    ops.unlink = shaky_unlink;
    ops.list = shaky_list;
    s->base.ops = &ops;
    kv_close(f->kv);
    f->config.files = &s->base;
    fixture_open(f);
}

static void close_on(struct fixture *f, struct shaky *s)
{
    kv_close(f->kv);
    s->real->ops->free(s->real);
    f->config.files = NULL;
    fixture_open(f);
}

static void a_name_is_not_relied_on_when_a_sync_of_the_folder_failed_while_it_was_new(void **state)
{
    struct fixture *f = *state;
    struct shaky s = {0};
    struct kv_file *file;
    struct buf outboard = {0};
    struct hash hash = {{1}};
    open_on(f, &s);
    OK(kv_file_create(f->kv, &file));
    OK(kv_file_create(f->kv, &s.other));
    assert_int_equal(kv_file_seal(file, &hash, 0, &outboard), HKV_E_DISK);
    assert_int_equal(s.other_err, HKV_E_DISK);
    kv_file_free(file);
    assert_int_equal(files_in(f), 0);
    OK(kv_file_create(f->kv, &file)); /* the next one knows nothing of it */
    OK(kv_file_seal(file, &hash, 0, &outboard));
    kv_file_free(file);
    close_on(f, &s);
}

static void *seal_one(void *arg)
{
    struct fixture *f = arg;
    struct kv_file *file;
    struct buf outboard = {0};
    struct hash hash = {{2}};
    OK(kv_file_create(f->kv, &file));
    OK(kv_file_seal(file, &hash, 0, &outboard));
    kv_file_free(file);
    return NULL;
}

static void files_sealed_at_once_share_a_sync_of_the_folder(void **state)
{
    struct fixture *f = *state;
    struct shaky s = {.slow = f};
    pthread_t threads[SEALERS];
    open_on(f, &s);
    for (int i = 0; i < SEALERS; i++) assert_int_equal(pthread_create(&threads[i], NULL, seal_one, f), 0);
    for (int i = 0; i < SEALERS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(s.syncs, 2); /* for the first, and for all that came meanwhile */
    assert_int_equal(files_in(f), 0);
    close_on(f, &s);
}

static void a_file_sealed_before_a_reset_is_not_stored_after_it(void **state)
{
    struct fixture *f = *state;
    struct hash hash;
    struct namespace_id next = {{1, 2, 3}};
    struct kv_file *file = sealed(f, 12, &hash);
    OK(kv_reset(f->kv, &next));
    OK(kv_begin(f->kv));
    assert_int_equal(write_file_in(f, "big", file, &hash), HKV_E_NAMESPACE);
    kv_rollback(f->kv);
    kv_file_free(file);
    maintain(f);
    assert_int_equal(files_in(f), 0);
}

static void a_blob_is_opened_by_its_hash(void **state)
{
    struct fixture *f = *state;
    struct kv_blob blob;
    struct hash hash;
    OK(fixture_put(f, "a", "small"));
    blake3_hash(slice_of_text("small"), &hash);
    OK(kv_blob_open(f->kv, &hash, &blob));
    assert_true(slice_equal(buf_slice(&blob.bytes), slice_of_text("small")));
    assert_int_equal(blob.fd, -1);
    kv_blob_close(&blob);
    blake3_hash(slice_of_text("other"), &hash);
    assert_int_equal(kv_blob_open(f->kv, &hash, &blob), HKV_E_NOT_FOUND);
    OK(kv_blob_open(f->kv, &kv_tombstone_hash, &blob));
    assert_int_equal(blob.length, 5);
    kv_blob_close(&blob);
    OK(kv_blob_open(f->kv, &kv_empty_value_hash, &blob));
    kv_blob_close(&blob);
    OK(kv_blob_open(f->kv, &hash_empty, &blob));
    assert_int_equal(blob.length, 0);
    kv_blob_close(&blob);
    put_file(f, "big", 11);
    struct kv_item item;
    OK(kv_get(f->kv, fixture_key("big"), KV_WANT_META, &item));
    assert_int_equal(item.blob.fd, -1);
    OK(kv_blob_open(f->kv, &item.hash, &blob));
    assert_int_equal(blob.length, LARGE);
    assert_true(blob.fd >= 0 && blob.outboard.len == 8);
    kv_blob_close(&blob);
    kv_item_fini(&item);
}

static void a_missing_blob_is_not_found(void **state)
{
    struct fixture *f = *state;
    struct kv_blob blob;
    struct entry e = fixture_entry(f, 'x', fixture_key("a"), T, slice_of_text("missing"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    assert_int_equal(kv_blob_open(f->kv, &e.record.hash, &blob), HKV_E_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_large_value_is_a_file_and_read_back),
        TEST(a_received_large_value_is_taken_over),
        TEST(a_received_value_written_here_too_after_a_restart_keeps_its_file),
        TEST(a_bad_value_fetched_again_after_a_restart_has_its_new_file),
        TEST(a_store_that_does_not_say_how_many_files_it_had_finds_out),
        TEST(a_file_nobody_stored_goes_with_its_handle),
        TEST(a_file_of_a_rolled_back_transaction_is_the_callers_again),
        TEST(the_same_content_twice_keeps_one_file),
        TEST(a_replaced_value_goes_after_the_grace_time),
        TEST(a_value_used_again_within_the_grace_time_stays),
        TEST(orphans_are_swept_after_a_start_and_nothing_else),
        TEST(a_name_is_not_relied_on_when_a_sync_of_the_folder_failed_while_it_was_new),
        TEST(files_sealed_at_once_share_a_sync_of_the_folder),
        TEST(a_file_sealed_before_a_reset_is_not_stored_after_it),
        TEST(a_blob_is_opened_by_its_hash),
        TEST(a_missing_blob_is_not_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
