/* A store as this form of it was written once: tests/golden/form-2, which must open for ever. And one of a form that is
 * yet to come, which must be refused as it is.
 *
 * HKV_GOLDEN_MAKE=<new folder> writes such a store anew, which is for a new form only: the old ones stay, each with its
 * own folder and its own line in the table below. Everything in it comes from this file; the fixture's clock and random
 * bytes are fixed. */
#include "fixture/kv_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

#define GOLDEN      HKV_SOURCE_DIR "/tests/golden/form-2"
#define FINGERPRINT "2d839fb05cae66a888347ec3388adaccad9c43162339b19b4f98e850d0dbb496"
#define LARGE_BYTES 20000
#define FILE_MAX    ((size_t)1 << 20)

static uint8_t large[LARGE_BYTES];

static void make_large(void)
{
    for (size_t i = 0; i < sizeof large; i++) large[i] = (uint8_t)(i * i >> 7);
}

/* ------------------------------------------------------------------------------------------ its contents */

static void put_expiring(struct fixture *f, const char *key, uint64_t expires_us)
{
    struct buf content = {0};
    struct kv_write w = {0};
    OK(kv_content_prefix(slice_of("kept", 4), 4, expires_us, &content));
    OK(buf_append(&content, "kept", 4));
    OK(fixture_write(f, fixture_key(key), buf_slice(&content), &w));
    buf_fini(&content);
}

static void receive(struct fixture *f, struct slice document_key, const char *content)
{
    f->wall_us += 1000000; /* newer than all before */
    struct entry e = fixture_entry(f, 'b', document_key, f->wall_us, slice_of_text(content));
    struct kv_signer author = fixture_writer(f, 'b');
    OK(entry_sign(&e, &author.namespace_secret, &author.author_secret));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
}

static void fill(struct fixture *f)
{
    struct buf empty = {0};
    struct kv_write w = {0};
    struct kv_peer peer = {.id = {{7}}, .source = KV_PEER_SYNCED, .last_sync_us = f->wall_us};
    OK(fixture_put(f, "small", "value"));
    OK(kv_content_prefix((struct slice){0}, 0, 0, &empty));
    OK(fixture_write(f, fixture_key("empty"), buf_slice(&empty), &w));
    buf_fini(&empty);
    OK(fixture_write_file(f, fixture_key("large"), slice_of(large, sizeof large)));
    OK(fixture_put(f, "deleted", "gone"));
    OK(fixture_put(f, "deleted", NULL));
    put_expiring(f, "expired", f->wall_us + 1);
    put_expiring(f, "expiring", INT64_MAX);
    OK(fixture_put(f, "two authors", "mine"));
    receive(f, fixture_key("two authors"), "his");
    fixture_arrive(f, "his");
    OK(fixture_put(f, "waiting", "shown"));
    receive(f, fixture_key("waiting"), "not here");
    receive(f, slice_of("foreign", 7), "has no NUL");
    char key[32];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "many/%03d", i);
        OK(fixture_put(f, key, key));
    }
    OK(kv_begin(f->kv));
    OK(kv_peer_put(f->kv, &peer));
    OK(kv_meta_set(f->kv, "test/name", slice_of_text("golden")));
    OK(kv_commit(f->kv));
}

static void expect(struct fixture *f, const char *key, const char *value)
{
    const char *got = fixture_get(f, key);
    if (!got || strcmp(got, value) != 0) fail_msg("%s: %s", key, got ? got : "(absent)");
}

static void expect_large(struct fixture *f)
{
    static struct kv_blob_reader reader;
    struct kv_item item;
    struct slice piece;
    size_t at = 0;
    OK(kv_get(f->kv, fixture_key("large"), KV_WANT_VALUE, &item));
    assert_int_equal(item.length, LARGE_BYTES);
    kv_blob_reader_init(&reader, f->kv, &item.blob);
    OK(kv_blob_reader_next(&reader, &piece));
    while (piece.len > 0) {
        assert_memory_equal(piece.data, large + at, piece.len);
        at += piece.len;
        OK(kv_blob_reader_next(&reader, &piece));
    }
    assert_int_equal(at, LARGE_BYTES);
    kv_item_fini(&item);
}

struct authors {
    char letters[4];
    size_t count;
    const struct fixture *f;
};

static bool note_author(void *arg, const struct kv_history_item *item)
{
    struct authors *a = arg;
    struct kv_signer self = fixture_writer(a->f, 's');
    bool own = author_id_equal(&item->version.author, &self.author);
    assert_true(a->count < sizeof a->letters - 1);
    a->letters[a->count++] = own ? 's' : 'b';
    assert_int_equal(item->shown, a->count == 1);
    return true;
}

static bool count_item(void *arg, struct kv_item *item)
{
    (void)item;
    ++*(unsigned *)arg;
    return true;
}

static void expect_everything(struct fixture *f)
{
    struct kv_counts counts;
    struct buf name = {0};
    struct authors history = {.f = f};
    unsigned keys = 0;
    char key[32], text[ID_TEXT_MAX];
    expect(f, "small", "value");
    expect(f, "empty", "");
    expect(f, "expiring", "kept");
    expect(f, "two authors", "his");
    expect(f, "waiting", "shown");
    assert_null(fixture_get(f, "deleted"));
    assert_null(fixture_get(f, "expired"));
    expect_large(f);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "many/%03d", i);
        expect(f, key, key);
    }
    OK(kv_list(f->kv, KV_KEY_USER, (struct slice){0}, (struct slice){0}, KV_WANT_META, 0, count_item, &keys));
    assert_int_equal(keys, 106);
    OK(kv_history(f->kv, fixture_key("two authors"), note_author, &history));
    assert_string_equal(history.letters, "bs");
    OK(kv_meta_get(f->kv, "test/name", &name));
    assert_true(slice_equal(buf_slice(&name), slice_of_text("golden")));
    buf_fini(&name);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.entries, 111);
    assert_int_equal(counts.values_missing, 2);
    assert_int_equal(counts.foreign_entries, 1);
    assert_string_equal(id_format(counts.fingerprint.bytes, text), FINGERPRINT);
    fixture_check(f);
}

/* ------------------------------------------------------------------------------------------ files */

static size_t file_read(const char *path, uint8_t *out)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0) fail_msg("%s: %s", path, strerror(errno));
    ssize_t n = read(fd, out, FILE_MAX);
    close(fd);
    assert_true(n >= 0 && (size_t)n < FILE_MAX);
    return (size_t)n;
}

static void file_copy(const char *from, const char *to)
{
    static uint8_t bytes[FILE_MAX];
    size_t len = file_read(from, bytes);
    int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static void folder_copy(const char *from, const char *to)
{
    DIR *d = opendir(from);
    if (!d) fail_msg("%s: %s", from, strerror(errno));
    assert_true(mkdir(to, 0700) == 0 || errno == EEXIST);
    for (const struct dirent *e; (e = readdir(d));) {
        char source[512], target[512];
        if (e->d_name[0] == '.') continue;
        snprintf(source, sizeof source, "%s/%.200s", from, e->d_name);
        snprintf(target, sizeof target, "%s/%.200s", to, e->d_name);
        file_copy(source, target);
    }
    closedir(d);
}

static void store_copy(const char *from, const char *to)
{
    static const char *const folders[] = {"docs", "blobs"};
    for (size_t i = 0; i < 2; i++) {
        char source[256], target[256];
        snprintf(source, sizeof source, "%s/%s", from, folders[i]);
        snprintf(target, sizeof target, "%s/%s", to, folders[i]);
        folder_copy(source, target);
    }
}

/* The fixture's store is closed, and its folder empty; then a copy of the golden one lies there. */
static void start_with_golden_copy(struct fixture *f)
{
    char path[256];
    kv_close(f->kv);
    f->kv = NULL;
    static const char *const made[] = {"docs/store.db", "docs/store.db-wal"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", f->dir, made[i]);
        (void)unlink(path);
    }
    store_copy(GOLDEN, f->dir);
}

/* ------------------------------------------------------------------------------------------ tests */

static void a_store_of_form_2_opens_with_all_that_was_written(void **state)
{
    struct fixture *f = *state;
    make_large();
    start_with_golden_copy(f);
    f->wall_us += 10000000;
    fixture_open(f);
    expect_everything(f);
    OK(fixture_put(f, "small", "new"));
    fixture_arrive(f, "not here");
    fixture_reopen(f);
    expect(f, "small", "new");
    expect(f, "waiting", "not here");
    fixture_check(f);
}

/* The contents above make a store that the test above accepts, so that a new form starts from the same. */
static void a_store_written_today_holds_the_same(void **state)
{
    struct fixture *f = *state;
    const char *make = getenv("HKV_GOLDEN_MAKE");
    make_large();
    fill(f);
    f->wall_us += 1000000;
    if (make) {
        char text[ID_TEXT_MAX];
        struct kv_counts counts;
        kv_counts(f->kv, &counts);
        print_message("fingerprint %s\n", id_format(counts.fingerprint.bytes, text));
        assert_int_equal(mkdir(make, 0700), 0);
        kv_close(f->kv);
        f->kv = NULL;
        char log[256];
        snprintf(log, sizeof log, "%s/docs/store.db-wal", f->dir);
        assert_int_equal(unlink(log), 0); /* empty after a clean end */
        store_copy(f->dir, make);
        return;
    }
    expect_everything(f);
}

static void exec(const struct fixture *f, const char *path, const char *sql, bool checkpoint)
{
    sqlite3 *db = NULL;
    int persist = 1;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, fixture_vfs(f)), SQLITE_OK);
    assert_int_equal(sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &persist), SQLITE_OK);
    assert_int_equal(sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !checkpoint, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Also when the change of its form is still in the log. */
static void a_store_of_a_newer_form_is_refused_and_stays_as_it_is(void **state)
{
    static uint8_t before[2][FILE_MAX], after[FILE_MAX];
    struct fixture *f = *state;
    bool created;
    struct namespace_id other;
    for (int checkpointed = 0; checkpointed < 2; checkpointed++) {
        char path[2][256];
        size_t len[2];
        start_with_golden_copy(f);
        snprintf(path[0], sizeof path[0], "%s/docs/store.db", f->dir);
        snprintf(path[1], sizeof path[1], "%s/docs/store.db-wal", f->dir);
        exec(f, path[0], "PRAGMA user_version = 3", checkpointed);
        for (int i = 0; i < 2; i++) len[i] = file_read(path[i], before[i]);
        if (!checkpointed) assert_true(len[1] > 0);
        assert_int_equal(kv_open(&f->config, &f->kv, &created, &other), HKV_E_VERSION);
        f->kv = NULL;
        if (!strstr(error_last(), path[0]) || !strstr(error_last(), "form 3") || !strstr(error_last(), "update"))
            fail_msg("%s", error_last());
        for (int i = 0; i < 2; i++) {
            assert_int_equal(file_read(path[i], after), len[i]);
            assert_memory_equal(after, before[i], len[i]);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_store_of_form_2_opens_with_all_that_was_written),
        TEST(a_store_written_today_holds_the_same),
        TEST(a_store_of_a_newer_form_is_refused_and_stays_as_it_is),
    };
    const struct CMUnitTest make[] = {TEST(a_store_written_today_holds_the_same)};
    return getenv("HKV_GOLDEN_MAKE") ? cmocka_run_group_tests(make, NULL, NULL)
                                     : cmocka_run_group_tests(tests, NULL, NULL);
}
