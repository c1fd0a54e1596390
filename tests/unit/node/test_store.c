/* One store by itself: what the public functions promise without a peer. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/node/fixture.h"

struct one {
    struct node_dir dir;
    struct hkv_store *store;
};

static int setup(void **state)
{
    struct one *one = calloc(1, sizeof *one);
    node_dir_make(&one->dir);
    one->store = node_open(&one->dir, NULL);
    *state = one;
    return 0;
}

static int teardown(void **state)
{
    struct one *one = *state;
    hkv_close(one->store);
    node_dir_remove(&one->dir);
    free(one);
    return 0;
}

static void a_put_is_read_back_and_survives_a_restart(void **state)
{
    struct one *one = *state;
    node_put(one->store, "greeting", "hello");
    node_expect(one->store, "greeting", "hello");
    hkv_close(one->store);
    one->store = node_open(&one->dir, NULL);
    node_expect(one->store, "greeting", "hello");
}

static void a_delete_makes_the_key_absent_and_again_is_fine(void **state)
{
    struct one *one = *state;
    node_put(one->store, "k", "v");
    node_delete(one->store, "k");
    node_expect(one->store, "k", NULL);
    node_delete(one->store, "k");
    node_expect(one->store, "k", NULL);
}

static void keys_outside_the_rule_change_nothing(void **state)
{
    struct one *one = *state;
    char long_key[HKV_KEY_MAX + 1];
    memset(long_key, 'k', sizeof long_key);
    assert_err(HKV_E_KEY, hkv_put(one->store, "", 0, HKV_TEXT("v"), NULL, NULL));
    assert_err(HKV_E_KEY, hkv_put(one->store, HKV_TEXT("a\0b"), HKV_TEXT("v"), NULL, NULL));
    assert_err(HKV_E_KEY, hkv_put(one->store, HKV_TEXT("\xff"), HKV_TEXT("v"), NULL, NULL));
    assert_err(HKV_E_KEY, hkv_put(one->store, long_key, sizeof long_key, HKV_TEXT("v"), NULL, NULL));
    assert_ok(hkv_put(one->store, long_key, HKV_KEY_MAX, HKV_TEXT("v"), NULL, NULL));
    struct hkv_status status;
    assert_ok(hkv_status(one->store, &status));
    assert_int_equal(status.visible_keys, 1);
}

static uint8_t *pattern(size_t length)
{
    uint8_t *bytes = malloc(length + 1);
    for (size_t i = 0; i < length; i++) bytes[i] = (uint8_t)(i * 7 % 251);
    return bytes;
}

static void values_of_every_size_come_back(void **state)
{
    static const size_t sizes[] = {0, 1, 4, 5, 1024, 16371, 16383, 16384, 16385, 1 << 20, 5000000};
    struct one *one = *state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct hkv_value got;
        uint8_t *bytes = pattern(sizes[i]);
        assert_ok(hkv_put(one->store, HKV_TEXT("size"), bytes, sizes[i], NULL, NULL));
        assert_ok(hkv_get(one->store, HKV_TEXT("size"), &got));
        assert_int_equal(got.length, sizes[i]);
        assert_memory_equal(got.data, bytes, sizes[i]);
        hkv_value_free(&got);
        free(bytes);
    }
}

static void values_stream_from_and_to_descriptors(void **state)
{
    static const size_t sizes[] = {0, 100, 16384, 16385, 3000000};
    struct one *one = *state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *bytes = pattern(sizes[i]), *back = malloc(sizes[i] + 1);
        struct hkv_value meta;
        FILE *in = tmpfile(), *out = tmpfile();
        assert_int_equal(fwrite(bytes, 1, sizes[i], in), sizes[i]);
        rewind(in);
        assert_ok(hkv_put_fd(one->store, HKV_TEXT("fd"), fileno(in), UINT64_MAX, NULL, NULL));
        assert_ok(hkv_get_fd(one->store, HKV_TEXT("fd"), fileno(out), &meta));
        assert_int_equal(meta.length, sizes[i]);
        rewind(out);
        assert_int_equal(fread(back, 1, sizes[i] + 1, out), sizes[i]);
        assert_memory_equal(bytes, back, sizes[i]);
        (void)fclose(in);
        (void)fclose(out);
        free(bytes);
        free(back);
    }
}

static void a_value_above_the_limit_is_refused_and_the_old_one_stays(void **state)
{
    struct one *one = *state;
    hkv_close(one->store);
    struct hkv_options options = node_options(&one->dir);
    options.max_value_bytes = 1000;
    assert_ok(hkv_open(&options, &one->store));
    uint8_t *bytes = pattern(1001);
    node_put(one->store, "k", "old");
    assert_err(HKV_E_VALUE_TOO_LARGE, hkv_put(one->store, HKV_TEXT("k"), bytes, 1001, NULL, NULL));
    assert_ok(hkv_put(one->store, HKV_TEXT("max"), bytes, 1000, NULL, NULL));
    node_expect(one->store, "k", "old");
    free(bytes);
}

static void expectations_are_checked(void **state)
{
    struct one *one = *state;
    struct hkv_write_options absent = {.expect = HKV_EXPECT_ABSENT}, version = {.expect = HKV_EXPECT_VERSION};
    struct hkv_write_result result;
    assert_ok(hkv_put(one->store, HKV_TEXT("k"), HKV_TEXT("1"), &absent, &result));
    assert_err(HKV_E_CONFLICT, hkv_put(one->store, HKV_TEXT("k"), HKV_TEXT("2"), &absent, NULL));
    version.version = result.version;
    assert_ok(hkv_put(one->store, HKV_TEXT("k"), HKV_TEXT("3"), &version, NULL));
    assert_err(HKV_E_CONFLICT, hkv_put(one->store, HKV_TEXT("k"), HKV_TEXT("4"), &version, NULL));
    assert_err(HKV_E_CONFLICT, hkv_delete(one->store, HKV_TEXT("k"), &version, NULL));
    node_expect(one->store, "k", "3");
}

static void versions_print_and_parse(void **state)
{
    struct one *one = *state;
    struct hkv_write_result result;
    struct hkv_version back;
    char text[HKV_VERSION_TEXT_BYTES];
    assert_ok(hkv_put(one->store, HKV_TEXT("k"), HKV_TEXT("1"), NULL, &result));
    hkv_version_format(&result.version, text);
    assert_ok(hkv_version_parse(text, &back));
    assert_memory_equal(&back, &result.version, sizeof back);
    assert_err(HKV_E_INVALID, hkv_version_parse("12", &back));
    assert_err(HKV_E_INVALID, hkv_version_parse("-00", &back));
    assert_err(HKV_E_INVALID, hkv_version_parse("99999999999999999999999-00", &back));
}

static void lists_page_through_a_prefix_in_order(void **state)
{
    struct one *one = *state;
    char key[16], *cursor = NULL;
    for (int i = 0; i < 25; i++) {
        (void)snprintf(key, sizeof key, "p/%02d", (i * 7) % 25);
        node_put(one->store, key, key);
    }
    node_put(one->store, "q/1", "other");
    int seen = 0;
    do {
        struct hkv_page *page;
        assert_ok(hkv_list(one->store, HKV_TEXT("p/"), 10, cursor, &page));
        free(cursor);
        for (size_t i = 0; i < page->count; i++, seen++) {
            (void)snprintf(key, sizeof key, "p/%02d", seen);
            assert_string_equal(page->entries[i].key, key);
            assert_memory_equal(page->entries[i].value, key, 4);
        }
        cursor = page->next == NULL ? NULL : strdup(page->next);
        hkv_page_free(page);
    } while (cursor != NULL);
    assert_int_equal(seen, 25);
    struct hkv_page *page;
    assert_err(HKV_E_INVALID, hkv_list_keys(one->store, "", 0, 0, "no cursor", &page));
}

static void a_second_open_of_the_directory_is_refused(void **state)
{
    struct one *one = *state;
    struct hkv_options options = node_options(&one->dir);
    struct hkv_store *second;
    assert_err(HKV_E_LOCKED, hkv_open(&options, &second));
    assert_non_null(strstr(hkv_last_error(), one->dir.path));
}

/* A program may fork for reasons of its own, and the child lives on with all descriptors. */
static void a_child_does_not_keep_the_directory_locked(void **state)
{
    struct one *one = *state;
    int pipe_fds[2];
    char byte;
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    if (child == 0) {
        close(pipe_fds[1]);
        _exit(read(pipe_fds[0], &byte, 1) == 0 ? 0 : 1); /* until the parent is done, or dead */
    }
    close(pipe_fds[0]);
    hkv_close(one->store);
    one->store = node_open(&one->dir, NULL);
    close(pipe_fds[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void keys_that_others_can_read_stop_the_start(void **state)
{
    struct one *one = *state;
    char path[128];
    hkv_close(one->store);
    one->store = NULL;
    (void)snprintf(path, sizeof path, "%s/keys/node.secret", one->dir.path);
    assert_int_equal(chmod(path, 0644), 0);
    struct hkv_options options = node_options(&one->dir);
    assert_err(HKV_E_PERMISSION, hkv_open(&options, &one->store));
    assert_non_null(strstr(hkv_last_error(), "chmod 600"));
    assert_int_equal(chmod(path, 0600), 0);
}

static void a_secret_that_differs_from_the_stored_one_stops_the_start(void **state)
{
    struct one *one = *state;
    hkv_close(one->store);
    one->store = NULL;
    struct hkv_options options = node_options(&one->dir);
    options.endpoint_secret = NODE_SECRET_1;
    assert_err(HKV_E_IDENTITY, hkv_open(&options, &one->store));
    options.endpoint_secret = NULL;
    options.namespace_secret = NAMESPACE_SECRET;
    assert_err(HKV_E_IDENTITY, hkv_open(&options, &one->store));
}

static void a_lone_store_is_healthy(void **state)
{
    struct one *one = *state;
    struct hkv_status status;
    node_put(one->store, "a", "1");
    node_delete(one->store, "a");
    node_put(one->store, "b", "2");
    assert_ok(hkv_status(one->store, &status));
    for (int i = 0; i < HKV_CONDITION_COUNT; i++)
        if (!status.conditions[i]) fail_msg("%s does not hold", hkv_condition_name((enum hkv_condition)i));
    assert_true(status.healthy);
    assert_true(status.single_node);
    assert_int_equal(status.visible_keys, 1);
    assert_int_equal(status.tombstones, 1);
}

static void expired_values_are_absent(void **state)
{
    struct one *one = *state;
    struct hkv_write_options soon = {.ttl_ms = 1}, late = {.ttl_ms = 3600000};
    struct hkv_value got;
    assert_ok(hkv_put(one->store, HKV_TEXT("soon"), HKV_TEXT("v"), &soon, NULL));
    assert_ok(hkv_put(one->store, HKV_TEXT("late"), HKV_TEXT("v"), &late, NULL));
    node_await(one->store, "soon", NULL);
    assert_ok(hkv_get(one->store, HKV_TEXT("late"), &got));
    assert_true(got.expires_us > got.version.stamp_us);
    hkv_value_free(&got);
}

struct waited {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int puts, deletes, done;
    char last_key[32];
};

static void count_event(void *arg, const struct hkv_event *event)
{
    struct waited *w = arg;
    (void)pthread_mutex_lock(&w->lock);
    w->puts += event->type == HKV_EVENT_PUT_LOCAL;
    w->deletes += event->type == HKV_EVENT_DELETE_LOCAL;
    if (event->key != NULL) (void)snprintf(w->last_key, sizeof w->last_key, "%s", event->key);
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
}

static void a_watch_sees_each_change_below_its_prefix(void **state)
{
    struct one *one = *state;
    struct waited w = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct hkv_watch *watch;
    assert_ok(hkv_watch(one->store, HKV_TEXT("p/"), count_event, &w, &watch));
    node_put(one->store, "p/1", "a");
    node_put(one->store, "q/1", "b");
    node_delete(one->store, "p/1");
    (void)pthread_mutex_lock(&w.lock);
    while (w.puts + w.deletes < 2) (void)pthread_cond_wait(&w.changed, &w.lock);
    (void)pthread_mutex_unlock(&w.lock);
    hkv_watch_close(watch);
    assert_int_equal(w.puts, 1);
    assert_int_equal(w.deletes, 1);
    assert_string_equal(w.last_key, "p/1");
}

static void count_write(void *arg, enum hkv_err err, const char *error, const struct hkv_write_result *result)
{
    struct waited *w = arg;
    (void)error, (void)result;
    (void)pthread_mutex_lock(&w->lock);
    w->done += err == HKV_OK;
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
}

static void asynchronous_writes_call_back_once_each(void **state)
{
    struct one *one = *state;
    struct waited w = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    char key[16];
    for (int i = 0; i < 200; i++) {
        (void)snprintf(key, sizeof key, "a/%d", i);
        assert_ok(hkv_put_async(one->store, key, strlen(key), HKV_TEXT("v"), NULL, count_write, &w));
    }
    (void)pthread_mutex_lock(&w.lock);
    while (w.done < 200) (void)pthread_cond_wait(&w.changed, &w.lock);
    (void)pthread_mutex_unlock(&w.lock);
    struct hkv_status status;
    assert_ok(hkv_status(one->store, &status));
    assert_int_equal(status.visible_keys, 200);
}

static void history_names_the_winner_first(void **state)
{
    struct one *one = *state;
    struct hkv_history *history;
    node_put(one->store, "k", "1");
    assert_ok(hkv_history(one->store, HKV_TEXT("k"), &history));
    assert_int_equal(history->count, 1);
    assert_true(history->entries[0].shown);
    assert_int_equal(history->entries[0].kind, HKV_KIND_VALUE);
    hkv_history_free(history);
}

/* A start that is refused for an option, says which one and leaves nothing behind. */
static void refuse_options(const struct hkv_options *options, enum hkv_err wanted, const char *named)
{
    struct hkv_store *store;
    assert_err(wanted, hkv_open(options, &store));
    if (strstr(hkv_last_error(), named) == NULL) fail_msg("%s is not named in: %s", named, hkv_last_error());
    assert_null(store);
    assert_int_not_equal(access(options->data_dir, F_OK), 0);
}

static void options_that_make_no_sense_are_named_and_change_nothing(void **state)
{
    struct one *one = *state;
    struct node_dir dir;
    struct hkv_options options;
    const struct node_dir *at = &dir;
    (void)snprintf(dir.path, sizeof dir.path, "%.50s/new", one->dir.path);
#define REFUSE(err, named, ...)                                                                                        \
    do {                                                                                                               \
        options = node_options(at);                                                                                    \
        __VA_ARGS__;                                                                                                   \
        refuse_options(&options, err, named);                                                                          \
    } while (0)
    REFUSE(HKV_E_INVALID, "anti_entropy_ms", options.anti_entropy_ms = 5);
    REFUSE(HKV_E_INVALID, "bind_port", options.bind_port = 65536);
    REFUSE(HKV_E_INVALID, "memory_bytes", options.memory_bytes = 1);
    REFUSE(HKV_E_INVALID, "memory_bytes", options.memory_bytes = UINT64_MAX);
    REFUSE(HKV_E_INVALID, "disk_bytes", options.disk_bytes = UINT64_MAX);
    REFUSE(HKV_E_INVALID, "max_value_bytes", options.max_value_bytes = 0);
    REFUSE(HKV_E_INVALID, "bind_ipv4", options.bind_ipv4 = "localhost");
    REFUSE(HKV_E_INVALID, "bind_ipv6", options.bind_ipv6 = "127.0.0.1");
    REFUSE(HKV_E_INVALID, "namespace_secret", options.namespace_secret = "12");
    REFUSE(HKV_E_INVALID, "author_secret", options.author_secret = "");
    REFUSE(HKV_E_INVALID, "endpoint_secret", options.endpoint_secret = NODE_SECRET_1 "1");
    REFUSE(HKV_E_INVALID, "namespace_id", options.namespace_id = "12");
    REFUSE(HKV_E_INVALID, "both given", options.namespace_secret = options.namespace_id = NODE_SECRET_1);
    REFUSE(HKV_E_INVALID, "seed", options.seed_count = 1);
    REFUSE(HKV_E_TICKET, "seed 1", options.seed_count = 1, options.seeds = (const char *const[]){NULL});
    REFUSE(HKV_E_TICKET, "seed 1", options.seed_count = 1, options.seeds = (const char *const[]){"endpointnonsense"});
    REFUSE(HKV_E_INVALID, "trusted", options.trusted_count = 1);
    REFUSE(HKV_E_TICKET, "trusted 1", options.trusted_count = 1, options.trusted = (const char *const[]){"ab"});
    REFUSE(HKV_E_INVALID, "format", options.format = (enum hkv_format)9);
    REFUSE(HKV_E_INVALID, "name", options.name = "\xff");
    REFUSE(HKV_E_INVALID, "hkv_options_init", options.struct_bytes -= 8);
#undef REFUSE
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_put_is_read_back_and_survives_a_restart),
        TEST(a_delete_makes_the_key_absent_and_again_is_fine),
        TEST(keys_outside_the_rule_change_nothing),
        TEST(values_of_every_size_come_back),
        TEST(values_stream_from_and_to_descriptors),
        TEST(a_value_above_the_limit_is_refused_and_the_old_one_stays),
        TEST(expectations_are_checked),
        TEST(versions_print_and_parse),
        TEST(lists_page_through_a_prefix_in_order),
        TEST(a_second_open_of_the_directory_is_refused),
        TEST(a_child_does_not_keep_the_directory_locked),
        TEST(keys_that_others_can_read_stop_the_start),
        TEST(a_secret_that_differs_from_the_stored_one_stops_the_start),
        TEST(a_lone_store_is_healthy),
        TEST(expired_values_are_absent),
        TEST(a_watch_sees_each_change_below_its_prefix),
        TEST(asynchronous_writes_call_back_once_each),
        TEST(history_names_the_winner_first),
        TEST(options_that_make_no_sense_are_named_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
