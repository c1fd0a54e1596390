#include "unit/node/fixture.h"

#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define AWAIT_S 60

void node_dir_make(struct node_dir *dir)
{
    strcpy(dir->path, "/tmp/hkv-node-XXXXXX");
    assert_non_null(mkdtemp(dir->path));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void node_dir_remove(struct node_dir *dir)
{
    (void)nftw(dir->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void log_line(void *arg, enum hkv_log_level level, const char *module, const char *message)
{
    const char *path = arg;
    fprintf(stderr, "%s %d %s: %s\n", path + strlen(path) - 6, level, module, message);
}

struct hkv_options node_options(const struct node_dir *dir)
{
    struct hkv_options options;
    hkv_options_init(&options);
    options.data_dir = dir->path;
    options.bind_ipv4 = "127.0.0.1";
    options.bind_ipv6 = "";
    options.anti_entropy_ms = 1000;
    options.name = "test";
    if (getenv("HKV_TEST_LOG") != NULL) {
        options.log = log_line;
        options.log_arg = (void *)(uintptr_t)dir->path;
    }
    return options;
}

struct hkv_store *node_open(const struct node_dir *dir, const char *namespace_secret)
{
    struct hkv_options options = node_options(dir);
    struct hkv_store *store;
    options.namespace_secret = namespace_secret;
    assert_ok(hkv_open(&options, &store));
    return store;
}

void node_connect(struct hkv_store *a, struct hkv_store *b)
{
    struct hkv_info info;
    assert_ok(hkv_info(b, &info));
    assert_ok(hkv_peer_add(a, info.endpoint_ticket));
    hkv_info_fini(&info);
}

void node_put(struct hkv_store *store, const char *key, const char *value)
{
    assert_ok(hkv_put(store, key, strlen(key), value, strlen(value), NULL, NULL));
}

void node_delete(struct hkv_store *store, const char *key)
{
    assert_ok(hkv_delete(store, key, strlen(key), NULL, NULL));
}

static int shows(struct hkv_store *store, const char *key, const char *value)
{
    struct hkv_value got;
    enum hkv_err err = hkv_get(store, key, strlen(key), &got);
    if (err == HKV_E_NOT_FOUND) return value == NULL;
    assert_ok(err);
    int same = value != NULL && got.length == strlen(value) && memcmp(got.data, value, got.length) == 0;
    hkv_value_free(&got);
    return same;
}

void node_expect(struct hkv_store *store, const char *key, const char *value)
{
    if (!shows(store, key, value)) fail_msg("%s does not show %s", key, value == NULL ? "absence" : value);
}

static void pause_a_little(void)
{
    (void)poll(NULL, 0, 10);
}

void node_await(struct hkv_store *store, const char *key, const char *value)
{
    time_t end = time(NULL) + AWAIT_S;
    while (!shows(store, key, value)) {
        if (time(NULL) > end) fail_msg("%s did not come to show %s", key, value == NULL ? "absence" : value);
        pause_a_little();
    }
}

void node_await_equal(struct hkv_store *a, struct hkv_store *b)
{
    time_t end = time(NULL) + AWAIT_S;
    for (;;) {
        struct hkv_status of_a, of_b;
        assert_ok(hkv_status(a, &of_a));
        assert_ok(hkv_status(b, &of_b));
        if (strcmp(of_a.fingerprint, of_b.fingerprint) == 0 && of_a.entries == of_b.entries &&
            of_a.values_missing + of_b.values_missing == 0)
            return;
        if (time(NULL) > end)
            fail_msg("not equal: %.16s %llu entries %llu missing, %.16s %llu entries %llu missing", of_a.fingerprint,
                     (unsigned long long)of_a.entries, (unsigned long long)of_a.values_missing, of_b.fingerprint,
                     (unsigned long long)of_b.entries, (unsigned long long)of_b.values_missing);
        pause_a_little();
    }
}

void node_await_writable(struct hkv_store *store)
{
    time_t end = time(NULL) + AWAIT_S;
    while (hkv_put(store, HKV_TEXT("writable"), HKV_TEXT("1"), NULL, NULL) != HKV_OK) {
        if (time(NULL) > end) fail_msg("no write is taken: %s", hkv_last_error());
        pause_a_little();
    }
}

void node_ignore_write(void *arg, enum hkv_err err, const char *error, const struct hkv_write_result *result)
{
    (void)arg, (void)err, (void)error, (void)result;
}

void node_assert_err(enum hkv_err got, enum hkv_err wanted, const char *what, const char *file, int line)
{
    if (got == wanted) return;
    print_error("%s: %s, wanted %s: %s\n", what, hkv_error_name(got), hkv_error_name(wanted), hkv_last_error());
    _fail(file, line);
}
