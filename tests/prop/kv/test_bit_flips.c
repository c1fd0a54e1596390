/* One bit flips in each page of the database, each frame of the log and each 4 KiB of the value files of a store:
 * before it is opened, and while it runs. Every answer is the right one, or a refusal that names the file; only the
 * log's last transaction may be gone, and then a warning says so.
 *
 *   HKV_SEED=n     other bits          HKV_FLIPS=n     so many bits of each block (default 1) */
#include "fixture/kv_store.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "random.h"
#include "store/db.h"
#include "store/memdisk.h"

#define KEYS        40
#define VALUE_MAX   70000
#define BLOCK_BYTES 4096
#define FILES_KEPT  32

struct world {
    struct fixture *f;
    struct memdisk *disk;
    struct files *files;
    char blobs[160];
    char paths[FILES_KEPT][512];
    size_t path_count;
    struct random random;
    size_t refused, gone, right;
};

static char warned[LOG_TEXT_MAX];

static void sink_write(const struct log_sink *sink, enum log_level level, const char *module, const char *text)
{
    (void)sink, (void)module;
    if (level == LOG_LEVEL_WARN && strstr(text, "dropped")) snprintf(warned, sizeof warned, "%s", text);
}

static const struct log_sink sink = {.write = sink_write, .level = LOG_LEVEL_WARN};

/* ------------------------------------------------------------------------------------------ contents */

/* Key n holds value n, but the last of all writes gave the first key another one. */
static struct slice value_of(int n)
{
    static const size_t sizes[] = {1, 248, 300, 6000, 200, 16384, 20000, 40, VALUE_MAX, 3};
    static uint8_t bytes[VALUE_MAX];
    size_t len = sizes[n % 10];
    for (size_t i = 0; i < len; i++) bytes[i] = (uint8_t)((size_t)n * 31 + i % 251 + i / 251);
    return slice_of(bytes, len);
}

static struct slice key_of(int n)
{
    char name[16];
    snprintf(name, sizeof name, "key-%02d", n);
    return fixture_key(name);
}

static void put(struct fixture *f, int key, int value)
{
    struct kv_write w = {0};
    struct slice content = value_of(value);
    OK(content.len > KV_VALUE_INLINE_MAX ? fixture_write_file(f, key_of(key), content)
                                         : fixture_write(f, key_of(key), content, &w));
}

static bool bytes_are(struct slice got, int value, size_t at)
{
    struct slice right = value_of(value);
    return at + got.len <= right.len && (got.len == 0 || memcmp(got.data, right.data + at, got.len) == 0);
}

/* ------------------------------------------------------------------------------------------ judgement */

/* A refusal names the file. */
static enum hkv_err refusal(enum hkv_err err, const char *path)
{
    if (err != HKV_E_CORRUPT || !strstr(error_last(), path))
        fail_msg("%s: %s: %s", path, error_name(err), error_last());
    return err;
}

/* Reads a key to its end: HKV_OK and whether it is that value, or the refusal. */
static enum hkv_err read_key(struct fixture *f, int key, int value, bool *same)
{
    static struct kv_blob_reader reader;
    struct kv_item item;
    *same = false;
    enum hkv_err err = kv_get(f->kv, key_of(key), KV_WANT_VALUE, &item);
    if (err == HKV_E_NOT_FOUND) return HKV_OK;
    if (err != HKV_OK) return err;
    *same = item.length == value_of(value).len;
    if (item.blob.fd < 0) {
        *same = *same && bytes_are(buf_slice(&item.value), value, 0);
    } else {
        struct slice piece = {0};
        kv_blob_reader_init(&reader, f->kv, &item.blob);
        err = kv_blob_reader_next(&reader, &piece);
        for (size_t at = 0; err == HKV_OK && piece.len > 0;) {
            *same = *same && bytes_are(piece, value, at);
            at += piece.len;
            err = kv_blob_reader_next(&reader, &piece);
        }
    }
    kv_item_fini(&item);
    return err;
}

static bool count_history(void *arg, const struct kv_history_item *item)
{
    *(unsigned *)arg += item->shown && item->kind == KV_VALUE;
    return true;
}

static bool count_entry(void *arg, const struct entry *e, bool has_content)
{
    (void)e;
    *(unsigned *)arg += has_content;
    return true;
}

/* What does not look at one key only. */
static enum hkv_err read_tables(struct fixture *f)
{
    struct docs_replica *r = kv_docs(f->kv);
    for (int n = 0; n < KEYS; n++) {
        unsigned shown = 0;
        TRY(kv_history(f->kv, key_of(n), count_history, &shown));
        assert_int_equal(shown, 1);
    }
    unsigned entries = 0;
    TRY(r->ops->scan(r, (struct docs_piece){0}, count_entry, &entries));
    assert_int_equal(entries, KEYS);
    return HKV_OK;
}

/* Asks an open store for everything. */
static void judge(struct world *w, struct fixture *f, const char *path)
{
    bool refused = false, gone = false;
    for (int n = 0; n < KEYS; n++) {
        bool same;
        enum hkv_err err = read_key(f, n, n == 0 ? KEYS : n, &same);
        if (err == HKV_OK && !same && n == 0) { /* the last transaction may be gone */
            err = read_key(f, n, 0, &same);
            gone = true;
            if (!strstr(warned, path)) fail_msg("%s: the last write is gone without a warning", path);
        }
        if (err == HKV_OK && !same) fail_msg("%s: key %d shows something else", path, n);
        refused |= err != HKV_OK && refusal(err, path) != HKV_OK;
    }
    enum hkv_err err = read_tables(f);
    refused |= err != HKV_OK && refusal(err, path) != HKV_OK;
    *(refused ? &w->refused : gone ? &w->gone : &w->right) += 1;
}

/* ------------------------------------------------------------------------------------------ the flips */

static void flip_and_judge(struct world *w, const char *path, uint64_t bit, bool running)
{
    struct memdisk *disk = NULL;
    struct fixture f = *w->f;
    bool created;
    struct namespace_id other;
    warned[0] = 0;
    OK(memdisk_crashed_copy(w->disk, &(struct memdisk_cut){.keep_percent = 100}, &disk));
    OK(memdisk_files(disk, w->blobs, &f.config.files));
    f.config.vfs = memdisk_vfs(disk);
    f.config.env = &f.env;
    if (!running) (void)!memdisk_flip_bit(disk, path, bit); /* a hole has no bits */
    enum hkv_err err = kv_open(&f.config, &f.kv, &created, &other);
    if (running) (void)!memdisk_flip_bit(disk, path, bit);
    if (err == HKV_OK) {
        judge(w, &f, path);
        kv_close(f.kv);
    } else {
        (void)refusal(err, path);
        w->refused++;
    }
    f.config.files->ops->free(f.config.files);
    memdisk_free(disk);
}

static void note_name(void *arg, const char *name)
{
    struct world *w = arg;
    assert_true(w->path_count < FILES_KEPT);
    snprintf(w->paths[w->path_count++], sizeof w->paths[0], "%s/%.200s", w->blobs, name);
}

static void flip_everywhere(struct world *w, bool running)
{
    const char *text = getenv("HKV_FLIPS");
    unsigned flips = text ? (unsigned)strtoul(text, NULL, 0) : 1;
    bool end = false;
    w->path_count = 2;
    snprintf(w->paths[0], sizeof w->paths[0], "%s/docs/store.db", w->f->dir);
    snprintf(w->paths[1], sizeof w->paths[1], "%s/docs/store.db-wal", w->f->dir);
    while (!end) OK(w->files->ops->list(w->files, FILES_KEPT, note_name, w, &end));
    assert_int_equal(w->path_count, 2 + KEYS / 5); /* two of ten values are files */
    w->refused = w->gone = w->right = 0;
    for (size_t i = 0; i < w->path_count; i++) {
        uint64_t length = 0;
        (void)!memdisk_length(w->disk, w->paths[i], &length);
        for (uint64_t at = 0; at < length; at += BLOCK_BYTES) {
            size_t bits = (size_t)(length - at < BLOCK_BYTES ? length - at : BLOCK_BYTES) * 8;
            for (unsigned n = 0; n < flips; n++)
                flip_and_judge(w, w->paths[i], at * 8 + random_below(&w->random, bits), running);
        }
    }
    print_message("%zu refused, %zu without the last write, %zu right\n", w->refused, w->gone, w->right);
    assert_true(w->refused > w->right / 4);
}

/* ------------------------------------------------------------------------------------------ tests */

/* Half of the writes are in the database, the others in the log, the last one in a transaction of its own. */
static void fill(struct world *w)
{
    w->f->config.vfs = memdisk_vfs(w->disk);
    w->f->config.files = w->files;
    w->f->config.sync_every_commit = true;
    fixture_open(w->f);
    for (int n = 0; n < KEYS; n++) {
        put(w->f, n, n);
        if (n == KEYS / 2) fixture_reopen(w->f);
    }
    put(w->f, 0, KEYS);
}

static void a_bit_that_flipped_before_the_start_is_noticed(void **state)
{
    fill(*state);
    flip_everywhere(*state, false);
}

static void a_bit_that_flipped_after_a_clean_end_is_noticed(void **state)
{
    struct world *w = *state;
    fill(w);
    fixture_reopen(w->f);
    flip_everywhere(w, false);
    assert_int_equal(w->gone, 0); /* nothing is in the log */
}

static void a_bit_that_flips_while_the_store_runs_is_noticed(void **state)
{
    struct world *w = *state;
    fill(w);
    flip_everywhere(w, true);
    assert_int_equal(w->gone, 0);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    void *fixture = NULL;
    fixture_setup(&fixture);
    w->f = fixture;
    w->random = random_start("bit flips");
    kv_close(w->f->kv);
    w->f->kv = NULL;
    snprintf(w->blobs, sizeof w->blobs, "%s/blobs", w->f->dir);
    OK(memdisk_new(&(struct memdisk_config){.capacity_bytes = 64 << 20, .forgetful = true}, &w->disk));
    OK(memdisk_files(w->disk, w->blobs, &w->files));
    log_set_sink(&sink);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    void *fixture = w->f;
    log_set_sink(NULL);
    kv_close(w->f->kv);
    w->f->kv = NULL;
    w->files->ops->free(w->files);
    memdisk_free(w->disk);
    fixture_teardown(&fixture);
    free(w);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_bit_that_flipped_before_the_start_is_noticed),
        TEST(a_bit_that_flipped_after_a_clean_end_is_noticed),
        TEST(a_bit_that_flips_while_the_store_runs_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
