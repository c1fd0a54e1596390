/* Values in files are checked while they are read: nothing wrong is handed out, and what is wrong is named and goes
 * into quarantine. */
#include "fixture/kv_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "random.h"

#define CONTENT_BYTES 100000 /* seven groups, the last one short */
#define TEST(name)    cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static uint8_t content[CONTENT_BYTES];

/* A key whose value is in a file, with an expiry in front of it; and the file's path. */
static void put(struct fixture *f, char path[512])
{
    struct buf prefix = {0};
    for (size_t i = 0; i < sizeof content; i++) content[i] = (uint8_t)(i * 2654435761u >> 16);
    OK(kv_content_prefix(slice_of(content, 4), 1, f->wall_us * 2, &prefix));
    memcpy(content, prefix.data, prefix.len);
    buf_fini(&prefix);
    OK(fixture_write_file(f, fixture_key("key"), slice_of(content, sizeof content)));
    char folder[256];
    snprintf(folder, sizeof folder, "%s/blobs", f->dir);
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') snprintf(path, 512, "%s/%.200s", folder, e->d_name);
    closedir(d);
}

static void flip(const char *path, size_t bit)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)(bit / 8)), 1);
    byte ^= (uint8_t)(1u << bit % 8);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
    close(fd);
}

/* Reads the value to its end or to an error; what came before that is right. */
static enum hkv_err read_all(struct fixture *f, size_t *len)
{
    static struct kv_blob_reader reader;
    struct kv_item item;
    struct slice piece;
    *len = 0;
    TRY(kv_get(f->kv, fixture_key("key"), KV_WANT_VALUE, &item));
    kv_blob_reader_init(&reader, f->kv, &item.blob);
    enum hkv_err err = kv_blob_reader_next(&reader, &piece);
    while (err == HKV_OK && piece.len > 0) {
        assert_memory_equal(piece.data, content + *len, piece.len);
        *len += piece.len;
        err = kv_blob_reader_next(&reader, &piece);
    }
    kv_item_fini(&item);
    return err;
}

static void assert_damaged(enum hkv_err err, const char *path)
{
    assert_int_equal(err, HKV_E_CORRUPT);
    if (!strstr(error_last(), path)) fail_msg("%s", error_last());
}

static size_t quarantined(struct fixture *f)
{
    size_t count;
    OK(kv_begin(f->kv));
    OK(kv_quarantine(f->kv, &count));
    OK(kv_commit(f->kv));
    return count;
}

static void an_undamaged_file_is_read_whole(void **state)
{
    struct fixture *f = *state;
    char path[512];
    size_t len;
    put(f, path);
    OK(read_all(f, &len));
    assert_int_equal(len, CONTENT_BYTES);
    assert_int_equal(quarantined(f), 0);
}

static void a_flipped_bit_ends_the_read_before_its_group(void **state)
{
    struct fixture *f = *state;
    struct random random = random_start("flipped bits");
    char path[512];
    size_t len;
    put(f, path);
    for (size_t block = 0; block < CONTENT_BYTES; block += 4096) {
        size_t room = CONTENT_BYTES - block < 4096 ? CONTENT_BYTES - block : 4096;
        size_t bit = 8 * block + random_below(&random, 8 * room);
        flip(path, bit);
        assert_damaged(read_all(f, &len), path);
        assert_int_equal(len, bit / 8 / BAO_GROUP_BYTES * BAO_GROUP_BYTES);
        flip(path, bit);
    }
    assert_int_equal(quarantined(f), 1);
    assert_int_equal(read_all(f, &len), HKV_E_CORRUPT); /* bytes of values in quarantine are not looked at */
}

static void a_file_that_is_cut_short_ends_the_read(void **state)
{
    struct fixture *f = *state;
    char path[512];
    size_t len;
    put(f, path);
    assert_int_equal(truncate(path, CONTENT_BYTES - 1), 0);
    assert_damaged(read_all(f, &len), path);
    assert_int_equal(len, CONTENT_BYTES / BAO_GROUP_BYTES * BAO_GROUP_BYTES);
    assert_int_equal(quarantined(f), 1);
}

/* The key is not absent, and does not look as if it were. */
static void a_file_that_is_missing_is_damage(void **state)
{
    struct fixture *f = *state;
    char path[512];
    size_t len;
    put(f, path);
    assert_int_equal(unlink(path), 0);
    assert_damaged(read_all(f, &len), path);
    assert_int_equal(quarantined(f), 1);
}

static bool see_bad(void *arg, struct kv_item *item)
{
    assert_true(item->bad);
    ++*(unsigned *)arg;
    return true;
}

static void a_listing_names_a_key_whose_file_is_missing(void **state)
{
    struct fixture *f = *state;
    char path[512];
    unsigned seen = 0;
    put(f, path);
    assert_int_equal(unlink(path), 0);
    OK(kv_list(f->kv, KV_KEY_USER, (struct slice){0}, (struct slice){0}, KV_WANT_VALUE, UINT64_MAX, see_bad, &seen));
    assert_int_equal(seen, 1);
    assert_int_equal(quarantined(f), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_undamaged_file_is_read_whole),
        TEST(a_flipped_bit_ends_the_read_before_its_group),
        TEST(a_file_that_is_cut_short_ends_the_read),
        TEST(a_file_that_is_missing_is_damage),
        TEST(a_listing_names_a_key_whose_file_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
