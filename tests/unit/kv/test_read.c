/* Reads: lists, history, and many threads at once. */
#include "fixture/kv_store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define T          FIXTURE_NOW_US
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

struct listing {
    char text[1024];
    size_t limit;
};

static bool add_to_listing(void *arg, struct kv_item *item)
{
    struct listing *l = arg;
    snprintf(l->text + strlen(l->text), sizeof l->text - strlen(l->text), "%s%.*s=%.*s", l->text[0] ? " " : "",
             (int)item->key.len, (const char *)item->key.data, (int)item->value.len,
             item->value.data ? (const char *)item->value.data : "");
    return --l->limit > 0;
}

static void assert_list(struct fixture *f, enum kv_key_class class, const char *prefix, const char *after, size_t limit,
                        const char *expected)
{
    struct listing l = {.limit = limit};
    OK(kv_list(f->kv, class, slice_of_text(prefix), slice_of_text(after), KV_WANT_VALUE, 100, add_to_listing, &l));
    assert_string_equal(l.text, expected);
}

static void keys_are_listed_in_byte_order_by_prefix_and_from_a_cursor(void **state)
{
    struct fixture *f = *state;
    static const char *const keys[] = {"b", "a/2", "a/1", "a", "a/10", "a0", "\xc3\xa9", "ab", "a/\xf4\x8f\xbf\xbf"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) OK(fixture_put(f, keys[i], "v"));
    OK(fixture_put(f, "a/3", "gone"));
    OK(fixture_put(f, "a/3", NULL));
    assert_list(f, KV_KEY_USER, "", "", 99, "a=v a/1=v a/10=v a/2=v a/\xf4\x8f\xbf\xbf=v a0=v ab=v b=v \xc3\xa9=v");
    assert_list(f, KV_KEY_USER, "a/", "", 99, "a/1=v a/10=v a/2=v a/\xf4\x8f\xbf\xbf=v");
    assert_list(f, KV_KEY_USER, "a/1", "", 99, "a/1=v a/10=v");
    assert_list(f, KV_KEY_USER, "", "a/1", 2, "a/10=v a/2=v");
    assert_list(f, KV_KEY_USER, "a/", "a/2", 99, "a/\xf4\x8f\xbf\xbf=v");
    assert_list(f, KV_KEY_USER, "a/", "a/15", 1, "a/2=v");
    assert_list(f, KV_KEY_USER, "zz", "", 99, "");
    assert_list(f, KV_KEY_USER, "\xc3", "", 99, "\xc3\xa9=v");
}

static void system_records_are_listed_by_themselves(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"format", "member/1", "member/2"};
    OK(fixture_put(f, "member/3", "user"));
    for (size_t i = 0; i < 3; i++) {
        struct buf key = {0};
        struct kv_write w = {0};
        OK(kv_system_key_encode(names[i], &key));
        OK(fixture_write(f, buf_slice(&key), slice_of_text("{}"), &w));
        buf_fini(&key);
    }
    assert_list(f, KV_KEY_SYSTEM, "", "", 99, "format={} member/1={} member/2={}");
    assert_list(f, KV_KEY_SYSTEM, "member/", "", 99, "member/1={} member/2={}");
    assert_list(f, KV_KEY_SYSTEM, "member/", "member/1", 99, "member/2={}");
    assert_list(f, KV_KEY_USER, "", "", 99, "member/3=user");
    assert_list(f, KV_KEY_FOREIGN, "", "", 99, "");
}

static void values_above_the_asked_size_are_not_loaded(void **state)
{
    struct fixture *f = *state;
    static char text[200];
    memset(text, 'x', sizeof text - 1);
    OK(fixture_put(f, "a", text));
    OK(fixture_put(f, "b", "small"));
    assert_list(f, KV_KEY_USER, "", "", 99, "a= b=small");
}

static void expired_values_are_not_listed(void **state)
{
    struct fixture *f = *state;
    struct buf content = {0};
    struct kv_write w = {0};
    OK(kv_content_prefix(slice_of_text("v"), 1, T + 10, &content));
    OK(buf_append_slice(&content, slice_of_text("v")));
    OK(fixture_write(f, fixture_key("a"), buf_slice(&content), &w));
    assert_list(f, KV_KEY_USER, "", "", 99, "a=v");
    f->wall_us += 10;
    assert_list(f, KV_KEY_USER, "", "", 99, "");
    buf_fini(&content);
}

static bool add_to_history(void *arg, const struct kv_history_item *item)
{
    char *text = arg;
    static const char *const kinds[] = {"value", "tombstone", "unreadable"};
    sprintf(text + strlen(text), "%s%d:%s%s", text[0] ? " " : "", (int)(item->version.stamp_us - T),
            item->present ? kinds[item->kind] : "missing", item->shown ? "!" : "");
    return true;
}

static void history_lists_every_authors_entry_winner_first(void **state)
{
    struct fixture *f = *state;
    char text[256] = "";
    OK(fixture_put(f, "k", "mine"));
    struct entry e = fixture_entry(f, 'x', fixture_key("k"), T + 5, slice_of_text("missing"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    e = fixture_entry(f, 'y', fixture_key("k"), T - 5, slice_of(kv_tombstone_content, sizeof kv_tombstone_content));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    OK(kv_history(f->kv, fixture_key("k"), add_to_history, text));
    assert_string_equal(text, "5:missing 0:value! -5:tombstone");
    text[0] = 0;
    OK(kv_history(f->kv, fixture_key("other"), add_to_history, text));
    assert_string_equal(text, "");
}

static void has_user_keys_leaves_out_what_daemons_write_about_themselves(void **state)
{
    struct fixture *f = *state;
    static const char *const user_keys[] = {"a", "nodes", "nodes0", "node_stats", "node_stats0", "zz"};
    bool has;
    OK(kv_has_user_keys(f->kv, &has));
    assert_false(has);
    OK(fixture_put(f, "nodes/::1", "v"));
    OK(fixture_put(f, "nodes/::2", "v"));
    OK(fixture_put(f, "node_stats/::1", "v"));
    OK(kv_has_user_keys(f->kv, &has));
    assert_false(has);
    for (size_t i = 0; i < sizeof user_keys / sizeof user_keys[0]; i++) {
        OK(fixture_put(f, user_keys[i], "v"));
        OK(kv_has_user_keys(f->kv, &has));
        assert_true(has);
        OK(fixture_put(f, user_keys[i], NULL));
        OK(kv_has_user_keys(f->kv, &has));
        assert_false(has);
    }
}

/* ------------------------------------------------------------------------------------------ threads */

struct reading {
    struct fixture *f;
    atomic_bool stop;
    atomic_uint errors;
    atomic_uint reads;
};

static bool count_items(void *arg, struct kv_item *item)
{
    (void)item;
    ++*(size_t *)arg;
    return true;
}

static void *read_until_stopped(void *arg)
{
    struct reading *r = arg;
    struct kv *kv = r->f->kv;
    while (!atomic_load(&r->stop)) {
        struct kv_item item;
        struct kv_counts counts;
        uint64_t stamp_us;
        size_t listed = 0;
        if (kv_get(kv, slice_of("fixed", 6), KV_WANT_VALUE, &item) != HKV_OK || item.value.len != 5)
            atomic_fetch_add(&r->errors, 1);
        kv_item_fini(&item);
        if (kv_list(kv, KV_KEY_USER, slice_of_text("fix"), (struct slice){0}, KV_WANT_META, 0, count_items, &listed) ||
            listed != 1)
            atomic_fetch_add(&r->errors, 1);
        if (kv_propose_stamp(kv, slice_of("fixed", 6), &stamp_us) != HKV_OK) atomic_fetch_add(&r->errors, 1);
        kv_counts(kv, &counts);
        atomic_fetch_add(&r->reads, 1);
    }
    return NULL;
}

/* More threads than connections, and a writer that never waits for them. */
static void many_threads_read_while_one_writes(void **state)
{
    struct fixture *f = *state;
    struct reading r = {.f = f};
    pthread_t threads[KV_READERS_MAX + 8];
    OK(fixture_put(f, "fixed", "value"));
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_until_stopped, &r), 0);
    for (int i = 0; i < 200 || atomic_load(&r.reads) < 200; i++) {
        char key[32];
        snprintf(key, sizeof key, "k%d", i % 200);
        OK(fixture_put(f, key, "v"));
        (void)kv_maintain(f->kv);
    }
    atomic_store(&r.stop, true);
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&r.errors), 0);
    fixture_check(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys_are_listed_in_byte_order_by_prefix_and_from_a_cursor),
        TEST(system_records_are_listed_by_themselves),
        TEST(values_above_the_asked_size_are_not_loaded),
        TEST(expired_values_are_not_listed),
        TEST(history_lists_every_authors_entry_winner_first),
        TEST(has_user_keys_leaves_out_what_daemons_write_about_themselves),
        TEST(many_threads_read_while_one_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
