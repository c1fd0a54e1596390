/* What a key shows, and what the change log says about it (formats.md 3). */
#include "fixture/kv_store.h"

#include <stdio.h>

#include "kv/internal.h"

#define T          FIXTURE_NOW_US
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static struct entry entry(struct fixture *f, char author, const char *key, uint64_t stamp_us, const char *content)
{
    return fixture_entry(f, author, fixture_key(key), stamp_us, slice_of_text(content));
}

static void receive(struct fixture *f, char author, const char *key, uint64_t stamp_us, const char *content)
{
    struct entry e = entry(f, author, key, stamp_us, content);
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
}

/* An entry whose key is a prefix of others, as another program may write it. */
static void receive_prefix(struct fixture *f, char author, const char *prefix, uint64_t stamp_us, const char *content)
{
    struct entry e = fixture_entry(f, author, slice_of_text(prefix), stamp_us, slice_of_text(content));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
}

static void assert_shows(struct fixture *f, const char *key, const char *value)
{
    const char *got = fixture_get(f, key);
    if (!value)
        assert_null(got);
    else
        assert_string_equal(got ? got : "(absent)", value);
}

/* The changes of the last transaction: "kind key", joined by commas. */
static void assert_changes(struct fixture *f, const char *expected)
{
    static const char *const names[] = {"put-local", "delete-local", "put-remote", "delete-remote", "expired"};
    char text[512] = "";
    struct kv_changes changes;
    struct kv_counts counts;
    kv_counts(f->kv, &counts);
    kv_take_changes(f->kv, &changes);
    for (size_t i = 0; i < changes.count; i++) {
        const struct kv_change *c = &changes.items[i];
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s%s %.*s", i ? ", " : "", names[c->kind],
                 c->by_prefix ? " by-prefix" : "", (int)c->key.len, (const char *)c->key.data);
        assert_int_equal(c->position, counts.position - changes.count + 1 + i);
    }
    kv_changes_fini(&changes);
    assert_string_equal(text, expected);
}

static void a_put_is_read_back(void **state)
{
    struct fixture *f = *state;
    OK(fixture_put(f, "a", "one"));
    assert_changes(f, "put-local a");
    assert_shows(f, "a", "one");
    assert_shows(f, "b", NULL);
    fixture_check(f);
}

static void an_overwrite_and_a_delete_win(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    OK(fixture_put(f, "a", "one"));
    OK(fixture_put(f, "a", "two"));
    assert_changes(f, "put-local a");
    assert_shows(f, "a", "two");
    OK(fixture_put(f, "a", NULL));
    assert_changes(f, "delete-local a");
    assert_shows(f, "a", NULL);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.entries, 1);
    assert_int_equal(counts.visible_keys, 0);
    assert_int_equal(counts.tombstones, 1);
    OK(fixture_put(f, "a", NULL));
    assert_changes(f, ""); /* was absent already */
    fixture_check(f);
}

static void the_same_value_again_is_one_value(void **state)
{
    struct fixture *f = *state;
    OK(fixture_put(f, "a", "one"));
    OK(fixture_put(f, "a", "one"));
    OK(fixture_put(f, "b", "one"));
    OK(fixture_put(f, "a", NULL));
    assert_shows(f, "b", "one");
    fixture_check(f);
}

static void the_greatest_stamp_wins_in_any_order(void **state)
{
    struct fixture *f = *state;
    receive(f, 'x', "a", T - 1, "newer");
    fixture_arrive(f, "newer");
    receive(f, 'y', "a", T - 2, "older");
    fixture_arrive(f, "older");
    assert_changes(f, "");
    assert_shows(f, "a", "newer");
    receive(f, 'y', "a", T, "newest");
    fixture_arrive(f, "newest");
    assert_changes(f, "put-remote a");
    assert_shows(f, "a", "newest");
    fixture_check(f);
}

static void of_equal_stamps_the_greater_author_wins_in_any_order(void **state)
{
    struct fixture *f = *state;
    struct kv_signer x = fixture_writer(f, 'x');
    struct kv_signer y = fixture_writer(f, 'y');
    bool x_wins = ID_COMPARE(&x.author, &y.author) > 0;
    receive(f, 'x', "a", T, "of-x");
    receive(f, 'y', "a", T, "of-y");
    receive(f, 'y', "b", T, "of-y");
    receive(f, 'x', "b", T, "of-x");
    fixture_arrive(f, "of-x");
    fixture_arrive(f, "of-y");
    assert_shows(f, "a", x_wins ? "of-x" : "of-y");
    assert_shows(f, "b", x_wins ? "of-x" : "of-y");
    fixture_check(f);
}

static void a_key_keeps_its_value_until_the_next_one_has_come(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    OK(fixture_put(f, "a", "mine"));
    receive(f, 'x', "a", T + 1000, "theirs");
    assert_changes(f, "");
    assert_shows(f, "a", "mine");
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.values_missing, 1);
    fixture_check(f);
    fixture_reopen(f);
    assert_shows(f, "a", "mine");
    fixture_arrive(f, "theirs");
    assert_changes(f, "put-remote a");
    assert_shows(f, "a", "theirs");
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.values_missing, 0);
    fixture_check(f);
}

static void a_value_stays_shown_when_its_own_entry_is_replaced(void **state)
{
    struct fixture *f = *state;
    receive(f, 'x', "a", T, "first");
    fixture_arrive(f, "first");
    receive(f, 'x', "a", T + 1, "second");
    f->wall_us += 3600u * 1000000u; /* longer than any grace time */
    while (kv_maintain(f->kv)) continue;
    assert_shows(f, "a", "first");
    fixture_check(f);
    fixture_arrive(f, "second");
    assert_shows(f, "a", "second");
    f->wall_us += 3600u * 1000000u;
    while (kv_maintain(f->kv)) continue;
    fixture_check(f);
}

static void one_arrival_serves_every_key_that_waits_for_it(void **state)
{
    struct fixture *f = *state;
    receive(f, 'x', "a", T, "shared");
    receive(f, 'y', "b", T, "shared");
    receive(f, 'x', "c", T, "shared");
    fixture_arrive(f, "shared");
    assert_changes(f, "put-remote a, put-remote b, put-remote c");
    assert_shows(f, "c", "shared");
    fixture_check(f);
}

static void a_local_write_of_a_missing_content_is_its_arrival(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    receive(f, 'x', "a", T, "shared");
    OK(fixture_put(f, "b", "shared"));
    assert_changes(f, "put-remote a, put-local b");
    assert_shows(f, "a", "shared");
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.values_missing, 0);
    fixture_check(f);
}

static void a_remote_delete_needs_no_transfer(void **state)
{
    struct fixture *f = *state;
    OK(fixture_put(f, "a", "mine"));
    struct entry e =
        fixture_entry(f, 'x', fixture_key("a"), T + 1000, slice_of(kv_tombstone_content, sizeof kv_tombstone_content));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    assert_changes(f, "delete-remote a");
    assert_shows(f, "a", NULL);
    fixture_check(f);
}

static void an_empty_entry_is_a_tombstone_of_its_key(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    OK(fixture_put(f, "a", "mine"));
    receive(f, 'x', "a", T + 1000, "");
    assert_changes(f, "delete-remote a");
    assert_shows(f, "a", NULL);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.tombstones, 1);
    assert_int_equal(counts.values_missing, 0);
    fixture_check(f);
}

static void the_empty_value_is_present_and_empty(void **state)
{
    struct fixture *f = *state;
    struct buf content = {0};
    struct kv_write w = {0};
    OK(kv_content_prefix((struct slice){0}, 0, 0, &content));
    OK(fixture_write(f, fixture_key("a"), buf_slice(&content), &w));
    assert_shows(f, "a", "");
    struct entry e = fixture_entry(f, 'x', fixture_key("b"), T, buf_slice(&content));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    assert_shows(f, "b", "");
    buf_fini(&content);
    fixture_check(f);
}

static void an_unreadable_content_is_an_error_to_get_and_absent_from_lists(void **state)
{
    struct fixture *f = *state;
    struct kv_item item;
    struct kv_counts counts;
    OK(fixture_put(f, "a", "mine"));
    receive(f, 'x', "a", T + 1000, "\xf1\x68\x6b\x76\x09");
    fixture_arrive(f, "\xf1\x68\x6b\x76\x09");
    assert_changes(f, "delete-remote a");
    assert_int_equal(kv_get(f->kv, fixture_key("a"), KV_WANT_VALUE, &item), HKV_E_FORMAT);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.visible_keys, 0);
    fixture_check(f);
}

static void a_prefix_removes_its_authors_older_entries_only(void **state)
{
    struct fixture *f = *state;
    receive(f, 'x', "dir/a", T, "xa");
    receive(f, 'x', "dir/b", T + 5, "xb");
    receive(f, 'y', "dir/c", T, "yc");
    receive(f, 'x', "dis", T, "xd");
    fixture_arrive(f, "xa");
    fixture_arrive(f, "xb");
    fixture_arrive(f, "yc");
    fixture_arrive(f, "xd");
    receive_prefix(f, 'x', "dir", T + 1, "gone");
    assert_changes(f, "delete-remote by-prefix dir/a");
    assert_shows(f, "dir/a", NULL);
    assert_shows(f, "dir/b", "xb");
    assert_shows(f, "dir/c", "yc");
    assert_shows(f, "dis", "xd");
    fixture_check(f);
}

static void an_older_value_of_another_author_comes_back(void **state)
{
    struct fixture *f = *state;
    struct kv_changes changes;
    struct kv_signer x = fixture_writer(f, 'x');
    receive(f, 'y', "dir/a", T, "old");
    fixture_arrive(f, "old");
    receive(f, 'x', "dir/a", T + 1, "new");
    fixture_arrive(f, "new");
    assert_shows(f, "dir/a", "new");
    receive_prefix(f, 'x', "dir", T + 2, "gone");
    assert_shows(f, "dir/a", "old");
    kv_take_changes(f->kv, &changes);
    assert_int_equal(changes.count, 1);
    assert_int_equal(changes.items[0].kind, KV_PUT_REMOTE);
    assert_true(changes.items[0].by_prefix);
    assert_int_equal(changes.items[0].version.stamp_us, T + 2);
    assert_memory_equal(&changes.items[0].version.author, &x.author, sizeof x.author);
    kv_changes_fini(&changes);
    fixture_check(f);
}

static void a_value_shown_while_another_is_awaited_survives_a_removal(void **state)
{
    struct fixture *f = *state;
    receive(f, 'y', "dir/a", T, "not-here");
    receive(f, 'x', "dir/a", T + 1, "shown");
    fixture_arrive(f, "shown");
    receive_prefix(f, 'x', "dir", T + 2, "gone");
    assert_changes(f, ""); /* the new top has not come: what is shown stays */
    assert_shows(f, "dir/a", "shown");
    fixture_check(f);
    fixture_arrive(f, "not-here");
    assert_changes(f, "put-remote dir/a");
    assert_shows(f, "dir/a", "not-here");
    fixture_check(f);
}

static void the_empty_key_removes_everything_of_its_author(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    for (int i = 0; i < 300; i++) {
        char key[32];
        snprintf(key, sizeof key, "k%d", i);
        receive(f, 'x', key, T + 2 * (uint64_t)i, "v");
    }
    receive(f, 'y', "k1", T, "v");
    receive_prefix(f, 'x', "", T + 501, "");
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.entries, 49 + 1 + 1); /* newer ones, of the other author, and the remover */
    assert_int_equal(counts.foreign_entries, 1);
    fixture_check(f);
}

static void an_expired_value_is_absent_and_reported_once(void **state)
{
    struct fixture *f = *state;
    struct buf content = {0};
    struct kv_write w = {0};
    struct kv_counts counts;
    uint64_t next_us;
    OK(kv_content_prefix(slice_of_text("v"), 1, T + 1000, &content));
    OK(buf_append_slice(&content, slice_of_text("v")));
    OK(fixture_write(f, fixture_key("a"), buf_slice(&content), &w));
    assert_shows(f, "a", "v");
    OK(kv_begin(f->kv));
    OK(kv_expire_due(f->kv, f->wall_us, 100, &next_us));
    OK(kv_commit(f->kv));
    assert_int_equal(next_us, T + 1000);
    assert_changes(f, "");
    f->wall_us = T + 1000;
    assert_shows(f, "a", NULL);
    OK(kv_begin(f->kv));
    OK(kv_expire_due(f->kv, f->wall_us, 100, &next_us));
    OK(kv_commit(f->kv));
    assert_int_equal(next_us, 0);
    assert_changes(f, "expired a");
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.visible_keys, 0);
    OK(fixture_put(f, "a", "again"));
    assert_changes(f, "put-local a");
    buf_fini(&content);
    fixture_check(f);
}

static void a_value_that_is_expired_when_it_comes_hides_older_ones(void **state)
{
    struct fixture *f = *state;
    struct buf content = {0};
    OK(fixture_put(f, "a", "mine"));
    OK(kv_content_prefix(slice_of_text("v"), 1, T - 1000, &content));
    OK(buf_append_slice(&content, slice_of_text("v")));
    struct entry e = fixture_entry(f, 'x', fixture_key("a"), T + 10, buf_slice(&content));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    OK(kv_begin(f->kv));
    OK(kv_value_arrived(f->kv, &e.record.hash, buf_slice(&content), NULL));
    OK(kv_commit(f->kv));
    assert_changes(f, "expired a");
    assert_shows(f, "a", NULL);
    buf_fini(&content);
    fixture_check(f);
}

static void system_records_have_no_events_and_foreign_entries_are_never_visible(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    struct buf key = {0};
    struct kv_write w = {0};
    OK(kv_system_key_encode("format", &key));
    OK(fixture_write(f, buf_slice(&key), slice_of_text("{}"), &w));
    assert_changes(f, "");
    receive_prefix(f, 'x', "plain", T, "foreign");
    fixture_arrive(f, "foreign");
    assert_changes(f, "");
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.entries, 2);
    assert_int_equal(counts.foreign_entries, 1);
    assert_int_equal(counts.visible_keys, 0);
    buf_fini(&key);
    fixture_check(f);
}

/* As if a million changes had been made before. */
static void the_change_log_is_bounded(void **state)
{
    struct fixture *f = *state;
    int64_t rows, oldest;
    for (int i = 0; i < 10; i++) OK(fixture_put(f, (char[]){(char)('a' + i), 0}, "v"));
    f->kv->counters.position = f->kv->counters_committed.position = KV_CHANGES_KEPT - 5;
    for (int i = 0; i < 20; i++) OK(fixture_put(f, (char[]){(char)('a' + i), 0}, "w"));
    OK(db_integer(&f->kv->db, "SELECT count(*) FROM change", &rows));
    OK(db_integer(&f->kv->db, "SELECT min(position) FROM change", &oldest));
    assert_int_equal(oldest, KV_CHANGES_KEPT - 4); /* the ten before are beyond the limit */
    assert_int_equal(rows, 20);
    fixture_check(f);
}

static void everything_is_there_after_opening_again(void **state)
{
    struct fixture *f = *state;
    struct kv_counts before, after;
    for (int i = 0; i < 500; i++) {
        char key[32];
        snprintf(key, sizeof key, "key-%d", i);
        OK(fixture_put(f, key, key));
    }
    kv_counts(f->kv, &before);
    fixture_reopen(f);
    kv_counts(f->kv, &after);
    assert_int_equal(after.entries, 500);
    assert_int_equal(after.visible_keys, 500);
    assert_int_equal(after.position, before.position);
    assert_int_equal(after.newest_stamp_us, before.newest_stamp_us);
    assert_memory_equal(after.fingerprint.bytes, before.fingerprint.bytes, ID_BYTES);
    assert_string_equal(fixture_get(f, "key-77"), "key-77");
    fixture_check(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_put_is_read_back),
        TEST(an_overwrite_and_a_delete_win),
        TEST(the_same_value_again_is_one_value),
        TEST(the_greatest_stamp_wins_in_any_order),
        TEST(of_equal_stamps_the_greater_author_wins_in_any_order),
        TEST(a_key_keeps_its_value_until_the_next_one_has_come),
        TEST(a_value_stays_shown_when_its_own_entry_is_replaced),
        TEST(one_arrival_serves_every_key_that_waits_for_it),
        TEST(a_local_write_of_a_missing_content_is_its_arrival),
        TEST(a_remote_delete_needs_no_transfer),
        TEST(an_empty_entry_is_a_tombstone_of_its_key),
        TEST(the_empty_value_is_present_and_empty),
        TEST(an_unreadable_content_is_an_error_to_get_and_absent_from_lists),
        TEST(a_prefix_removes_its_authors_older_entries_only),
        TEST(an_older_value_of_another_author_comes_back),
        TEST(a_value_shown_while_another_is_awaited_survives_a_removal),
        TEST(the_empty_key_removes_everything_of_its_author),
        TEST(an_expired_value_is_absent_and_reported_once),
        TEST(a_value_that_is_expired_when_it_comes_hides_older_ones),
        TEST(system_records_have_no_events_and_foreign_entries_are_never_visible),
        TEST(the_change_log_is_bounded),
        TEST(everything_is_there_after_opening_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
