/* The change log: positions, bounds, reading, and listing with changes in between. */
#include "fixture/kv_store.h"

#include <stdio.h>

#include "kv/internal.h"

#define T          FIXTURE_NOW_US
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static void put_numbered(struct fixture *f, int from, int to)
{
    for (int i = from; i < to; i++) {
        char key[32];
        snprintf(key, sizeof key, "k%04d", i);
        OK(fixture_put(f, key, "v"));
    }
}

static struct kv_changes_query behind(const struct fixture *f, uint64_t position)
{
    return (struct kv_changes_query){.epoch = kv_epoch(f->kv), .position = position};
}

static struct kv_changes_page read_page(struct fixture *f, const struct kv_changes_query *query)
{
    struct kv_changes_page page;
    OK(kv_changes_read(f->kv, query, &page));
    return page;
}

/* "kind key" of each, joined by commas. */
static void assert_page(struct fixture *f, const struct kv_changes_query *query, const char *expected)
{
    static const char *const names[] = {"put-local",     "delete-local", "put-remote",
                                        "delete-remote", "expired",      "listed"};
    char text[512] = "";
    struct kv_changes_page page = read_page(f, query);
    assert_false(page.lost);
    for (size_t i = 0; i < page.changes.count; i++) {
        const struct kv_change *c = &page.changes.items[i];
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s%s %.*s", i ? ", " : "", names[c->kind],
                 c->by_prefix ? " by-prefix" : "", (int)c->key.len, (const char *)c->key.data);
    }
    kv_changes_fini(&page.changes);
    assert_string_equal(text, expected);
}

static void assert_lost(struct fixture *f, const struct kv_changes_query *query, uint64_t first)
{
    struct kv_changes_page page = read_page(f, query);
    assert_true(page.lost);
    assert_int_equal(page.changes.count, 0);
    assert_int_equal(page.epoch, kv_epoch(f->kv));
    assert_int_equal(page.first, first);
}

static void the_log_says_what_the_commits_said(void **state)
{
    struct fixture *f = *state;
    struct kv_changes_query query = behind(f, 0);
    struct kv_signer x = fixture_writer(f, 'x');
    assert_page(f, &query, "");
    OK(fixture_put(f, "a", "one"));
    OK(fixture_put(f, "a", NULL));
    struct entry e = fixture_entry(f, 'x', fixture_key("dir/b"), T, slice_of_text("two"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    fixture_arrive(f, "two");
    e = fixture_entry(f, 'x', slice_of_text("dir/"), T + 1, slice_of_text("removes"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    assert_page(f, &query, "put-local a, delete-local a, put-remote dir/b, delete-remote by-prefix dir/b");
    query.prefix = slice_of_text("dir/");
    struct kv_changes_page page = read_page(f, &query);
    assert_int_equal(page.changes.count, 2);
    assert_int_equal(page.position, 4);
    assert_int_equal(page.changes.items[0].position, 3);
    assert_int_equal(page.changes.items[0].version.stamp_us, T);
    assert_memory_equal(&page.changes.items[0].version.author, &x.author, sizeof x.author);
    assert_true(page.changes.items[1].has_peer);
    assert_int_equal(page.changes.items[1].version.stamp_us, T + 1);
    kv_changes_fini(&page.changes);
}

/* Within the open transaction. */
static void write_in(struct fixture *f, const char *key)
{
    struct kv_write w = {.entry = fixture_entry(f, 's', fixture_key(key), 0, slice_of_text("x")),
                         .content = slice_of_text("x")};
    OK(kv_propose_stamp(f->kv, w.entry.key, &w.entry.record.stamp_us));
    OK(entry_sign(&w.entry, &f->self.namespace_secret, &f->self.author_secret));
    OK(kv_write(f->kv, &w, &f->self));
}

static void numbers_of_undone_changes_are_given_again(void **state)
{
    struct fixture *f = *state;
    OK(fixture_put(f, "a", "one"));
    OK(kv_begin(f->kv));
    write_in(f, "gone");
    kv_rollback(f->kv);
    fixture_reopen(f);
    OK(fixture_put(f, "b", "two"));
    struct kv_changes_query query = behind(f, 1);
    struct kv_changes_page page = read_page(f, &query);
    assert_int_equal(page.changes.count, 1);
    assert_int_equal(page.changes.items[0].position, 2);
    assert_true(slice_equal(buf_slice(&page.changes.items[0].key), slice_of_text("b")));
    kv_changes_fini(&page.changes);
    fixture_check(f);
}

static void of_very_many_changes_at_once_some_are_at_hand_and_all_in_the_log(void **state)
{
    struct fixture *f = *state;
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_origin origin = {.peer = {{7}}};
    struct kv_changes changes;
    OK(kv_begin(f->kv));
    for (unsigned i = 0; i <= KV_CHANGES_AT_HAND; i++) {
        char key[32];
        enum docs_insert out;
        snprintf(key, sizeof key, "k%05u", i);
        struct entry e = fixture_entry(f, 'x', fixture_key(key), T, slice_of_text("the same"));
        OK(r->ops->insert(r, &e, &origin, &out, NULL, NULL));
    }
    OK(kv_commit(f->kv));
    fixture_arrive(f, "the same");
    kv_take_changes(f->kv, &changes);
    assert_int_equal(changes.count, KV_CHANGES_AT_HAND);
    assert_int_equal(changes.items[KV_CHANGES_AT_HAND - 1].position, KV_CHANGES_AT_HAND);
    assert_int_equal(changes.last, KV_CHANGES_AT_HAND + 1);
    kv_changes_fini(&changes);
    struct kv_changes_query query = behind(f, KV_CHANGES_AT_HAND - 1);
    struct kv_changes_page page = read_page(f, &query);
    assert_int_equal(page.changes.count, 2);
    kv_changes_fini(&page.changes);
    /* A removal of them all does not count each reference and each change of a run apart. */
    struct entry parent = fixture_entry(f, 'x', slice_of_text("k"), T + 1, slice_of_text(""));
    OK(kv_begin(f->kv));
    enum docs_insert out;
    OK(r->ops->insert(r, &parent, &origin, &out, NULL, NULL));
    assert_true(spans_mark(f->kv->spans) < KV_CHANGES_AT_HAND / 16);
    OK(kv_commit(f->kv));
    fixture_check(f);
}

static void a_page_is_bounded_and_says_where_it_ends(void **state)
{
    struct fixture *f = *state;
    put_numbered(f, 0, 10);
    struct kv_changes_query query = behind(f, 2);
    query.changes_max = 3;
    struct kv_changes_page page = read_page(f, &query);
    assert_int_equal(page.changes.count, 3);
    assert_int_equal(page.changes.items[0].position, 3);
    assert_int_equal(page.position, 5);
    assert_int_equal(page.last, 10);
    kv_changes_fini(&page.changes);
    query.position = 10;
    assert_page(f, &query, "");
}

static void a_page_looks_at_so_many_rows_and_no_more(void **state)
{
    struct fixture *f = *state;
    OK(fixture_put(f, "p", "v"));
    OK(kv_begin(f->kv));
    for (int i = 0; i < KV_PAGE_ROWS_MAX + 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "q%d", i);
        struct entry e = fixture_entry(f, 'x', fixture_key(key), T, slice_of_text("same"));
        struct docs_origin origin = {.peer = {{7}}};
        enum docs_insert out;
        OK(kv_docs(f->kv)->ops->insert(kv_docs(f->kv), &e, &origin, &out, NULL, NULL));
    }
    OK(kv_commit(f->kv));
    fixture_arrive(f, "same");
    struct kv_changes_query query = behind(f, 0);
    query.prefix = slice_of_text("p");
    query.listing = true;
    struct kv_changes_page page = read_page(f, &query);
    assert_int_equal(page.position, KV_PAGE_ROWS_MAX);
    assert_int_equal(page.changes.count, 0); /* nothing is listed before the log is read to its end */
    query.position = page.position;
    assert_page(f, &query, "listed p");
}

static void what_the_log_does_not_hold_is_lost(void **state)
{
    struct fixture *f = *state;
    put_numbered(f, 0, 3);
    struct kv_changes_query query = behind(f, 4);
    assert_lost(f, &query, 1);
    query = behind(f, 0);
    query.epoch++;
    assert_lost(f, &query, 1);
}

static void a_reset_begins_another_epoch(void **state)
{
    struct fixture *f = *state;
    put_numbered(f, 0, 3);
    struct kv_changes_query old = behind(f, 2);
    struct namespace_id other = {{5}};
    OK(kv_reset(f->kv, &other));
    assert_int_not_equal(kv_epoch(f->kv), old.epoch);
    assert_lost(f, &old, 1);
    struct kv_changes_query fresh = behind(f, 0);
    assert_page(f, &fresh, "");
}

static void a_copy_gets_an_epoch_of_its_own(void **state)
{
    struct fixture *f = *state;
    put_numbered(f, 0, 3);
    struct kv_changes_query old = behind(f, 2);
    OK(kv_begin(f->kv));
    OK(kv_savepoint(f->kv));
    OK(kv_epoch_renew(f->kv));
    kv_savepoint_rollback(f->kv);
    OK(kv_commit(f->kv));
    assert_int_equal(kv_epoch(f->kv), old.epoch); /* it was undone */
    OK(kv_begin(f->kv));
    OK(kv_epoch_renew(f->kv));
    OK(kv_commit(f->kv));
    assert_int_not_equal(kv_epoch(f->kv), old.epoch);
    assert_lost(f, &old, 1);
    struct kv_changes_query fresh = behind(f, 2);
    assert_page(f, &fresh, "put-local k0002");
    uint64_t epoch = kv_epoch(f->kv);
    fixture_reopen(f);
    assert_int_equal(kv_epoch(f->kv), epoch);
}

static void the_log_keeps_so_many_changes(void **state)
{
    struct fixture *f = *state;
    f->config.changes_kept = 5;
    put_numbered(f, 0, 12);
    fixture_reopen(f); /* with the lower limit: each commit takes two away */
    put_numbered(f, 12, 22);
    struct kv_changes_query query = behind(f, 16);
    assert_lost(f, &query, 18);
    query = behind(f, 17);
    assert_page(f, &query, "put-local k0017, put-local k0018, put-local k0019, put-local k0020, put-local k0021");
    fixture_reopen(f);
    query = behind(f, 16);
    assert_lost(f, &query, 18);
    fixture_check(f);
}

static void trim(struct fixture *f, uint64_t max)
{
    OK(kv_begin(f->kv));
    OK(kv_changes_trim(f->kv, max));
    OK(kv_commit(f->kv));
}

static uint64_t first_kept(struct fixture *f)
{
    struct kv_changes_query query = behind(f, UINT64_MAX - 1);
    return read_page(f, &query).first;
}

static void the_log_forgets_what_is_too_old_but_nothing_earlier(void **state)
{
    struct fixture *f = *state;
    uint64_t hour_us = (uint64_t)3600 * 1000000;
    f->config.changes_age_us = 28 * hour_us; /* a mark each hour */
    fixture_reopen(f);
    for (int i = 0; i < 40; i++) {
        put_numbered(f, i, i + 1);
        assert_int_equal(first_kept(f), i < 28 ? 1 : i - 26); /* the change of 28 hours ago has just gone */
        f->wall_us += hour_us;
    }
    fixture_reopen(f);
    trim(f, 1); /* on a quiet store, in steps */
    assert_int_equal(first_kept(f), 14);
    f->wall_us += 100 * hour_us;
    trim(f, 5);
    assert_int_equal(first_kept(f), 19);
    trim(f, 1000);
    assert_int_equal(first_kept(f), 41);
    struct kv_changes_query query = behind(f, 40);
    assert_page(f, &query, "");
    put_numbered(f, 40, 41);
    assert_page(f, &query, "put-local k0040");
}

static void the_age_of_undone_changes_is_not_that_of_those_that_get_their_numbers(void **state)
{
    struct fixture *f = *state;
    uint64_t hour_us = (uint64_t)3600 * 1000000;
    f->config.changes_age_us = 28 * hour_us;
    fixture_reopen(f);
    OK(kv_begin(f->kv));
    OK(kv_savepoint(f->kv));
    write_in(f, "gone");
    OK(kv_changes_trim(f->kv, 1));
    kv_savepoint_rollback(f->kv);
    OK(kv_commit(f->kv));
    f->wall_us += 27 * hour_us;
    put_numbered(f, 0, 1);
    f->wall_us += hour_us;
    trim(f, 1);
    assert_int_equal(first_kept(f), 1);
    f->wall_us += 27 * hour_us;
    trim(f, 1);
    assert_int_equal(first_kept(f), 2);
}

static void a_clock_that_is_set_takes_no_change_early_and_keeps_none_longer(void **state)
{
    struct fixture *f = *state;
    f->config.changes_age_us = 28000000;
    fixture_reopen(f);
    put_numbered(f, 0, 1);
    fixture_step(f, -20000000);
    put_numbered(f, 1, 2);
    fixture_step(f, 60000000);
    f->wall_us += 27000000;
    trim(f, 1000);
    assert_int_equal(first_kept(f), 1);
    f->wall_us += 1000000;
    trim(f, 1000);
    assert_int_equal(first_kept(f), 2);
}

static void a_listing_is_exact_while_keys_change(void **state)
{
    struct fixture *f = *state;
    struct kv_changes_query query = behind(f, 0);
    OK(fixture_put(f, "p/a", "1"));
    OK(fixture_put(f, "p/c", "1"));
    OK(fixture_put(f, "q", "1"));
    query.position = 3;
    query.prefix = slice_of_text("p/");
    query.listing = true;
    query.changes_max = 1;
    assert_page(f, &query, "listed p/a");
    query.listed = slice_of_text("p/a");
    OK(fixture_put(f, "p/a", "2")); /* was listed: told as a change */
    OK(fixture_put(f, "p/b", "1")); /* will be listed */
    OK(fixture_put(f, "p/c", NULL));
    query.changes_max = 0;
    struct kv_changes_page page = read_page(f, &query);
    assert_true(page.listed_all);
    assert_int_equal(page.position, 6);
    kv_changes_fini(&page.changes);
    assert_page(f, &query, "put-local p/a, listed p/b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_log_says_what_the_commits_said),
        TEST(numbers_of_undone_changes_are_given_again),
        TEST(of_very_many_changes_at_once_some_are_at_hand_and_all_in_the_log),
        TEST(a_page_is_bounded_and_says_where_it_ends),
        TEST(a_page_looks_at_so_many_rows_and_no_more),
        TEST(what_the_log_does_not_hold_is_lost),
        TEST(a_reset_begins_another_epoch),
        TEST(a_copy_gets_an_epoch_of_its_own),
        TEST(the_log_keeps_so_many_changes),
        TEST(the_log_forgets_what_is_too_old_but_nothing_earlier),
        TEST(the_age_of_undone_changes_is_not_that_of_those_that_get_their_numbers),
        TEST(a_clock_that_is_set_takes_no_change_early_and_keeps_none_longer),
        TEST(a_listing_is_exact_while_keys_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
