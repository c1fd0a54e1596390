/* The stamps of local writes (formats.md 1), and expected versions. */
#include "fixture/kv_store.h"

#include "base/text.h"

#define T          FIXTURE_NOW_US
#define S          ((uint64_t)1000000)
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static uint64_t propose(struct fixture *f, const char *key)
{
    uint64_t stamp_us;
    OK(kv_propose_stamp(f->kv, fixture_key(key), &stamp_us));
    return stamp_us;
}

static void receive(struct fixture *f, char author, struct slice key, uint64_t stamp_us, const char *content)
{
    struct entry e = fixture_entry(f, author, key, stamp_us, slice_of_text(content));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
}

static void a_stamp_is_the_clock_and_never_the_same_twice(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(propose(f, "a"), T);
    assert_int_equal(propose(f, "b"), T + 1);
    f->wall_us = T + 10;
    assert_int_equal(propose(f, "a"), T + 10);
    f->wall_us = T - 100 * S; /* the clock steps back */
    assert_int_equal(propose(f, "a"), T + 11);
}

static void a_stamp_goes_above_the_keys_winner(void **state)
{
    struct fixture *f = *state;
    receive(f, 'x', fixture_key("a"), T + 60 * S, "theirs");
    assert_int_equal(propose(f, "a"), T + 60 * S + 1);
}

static void a_stamp_goes_above_our_own_entries_at_prefixes(void **state)
{
    struct fixture *f = *state;
    receive(f, 's', slice_of_text("dir"), T + 30 * S, "ours");
    receive(f, 's', slice_of_text("di"), T + 20 * S, "ours");
    receive(f, 'x', slice_of_text("dir/"), T + 90 * S, "theirs");
    fixture_reopen(f);
    f->wall_us = T + 40 * S;
    assert_int_equal(propose(f, "other"), T + 40 * S);
    f->wall_us = T;
    assert_int_equal(propose(f, "dir/a"), T + 40 * S + 1); /* the counter never goes back */
    fixture_reopen(f);
    assert_int_equal(propose(f, "dir/a"), T + 30 * S + 1); /* the newest stamp of our author */
}

static void a_prefix_of_ours_far_ahead_refuses_the_write(void **state)
{
    struct fixture *f = *state;
    uint64_t stamp_us;
    receive(f, 's', slice_of_text("dir"), T + 400 * S, "ours");
    assert_int_equal(kv_propose_stamp(f->kv, fixture_key("dir/a"), &stamp_us), HKV_E_STAMP_AHEAD);
    assert_non_null(strstr(error_last(), "this node's own last stamp is 400 s ahead"));
    OK(kv_propose_stamp(f->kv, fixture_key("elsewhere"), &stamp_us));
}

static void a_winner_five_minutes_ahead_is_the_limit_and_its_author_is_named(void **state)
{
    struct fixture *f = *state;
    struct kv_signer x = fixture_writer(f, 'x');
    char text[ID_TEXT_MAX];
    uint64_t stamp_us;
    receive(f, 'x', fixture_key("near"), T + 300 * S - 1, "theirs");
    receive(f, 'x', fixture_key("far"), T + 300 * S, "theirs");
    assert_int_equal(kv_propose_stamp(f->kv, fixture_key("far"), &stamp_us), HKV_E_STAMP_AHEAD);
    assert_non_null(strstr(error_last(), id_format(x.author.bytes, text)));
    assert_int_equal(propose(f, "near"), T + 300 * S);
}

static void after_a_step_back_of_the_clock_the_error_says_for_how_long(void **state)
{
    struct fixture *f = *state;
    uint64_t stamp_us;
    OK(fixture_put(f, "a", "v"));
    f->wall_us = T - 1000 * S;
    assert_int_equal(kv_propose_stamp(f->kv, fixture_key("b"), &stamp_us), HKV_E_STAMP_AHEAD);
    assert_non_null(strstr(error_last(), "1000 s ahead"));
    assert_non_null(strstr(error_last(), "try again in 701 s"));
    f->wall_us = T - 1000 * S + 701 * S;
    OK(kv_propose_stamp(f->kv, fixture_key("b"), &stamp_us));
}

static void a_write_is_signed_again_when_the_key_has_moved_on(void **state)
{
    struct fixture *f = *state;
    struct kv_write w = {.content = slice_of_text("mine")};
    w.entry = fixture_entry(f, 's', fixture_key("a"), propose(f, "a"), w.content);
    OK(entry_sign(&w.entry, &f->self.namespace_secret, &f->self.author_secret));
    receive(f, 'x', fixture_key("a"), T + 60 * S, "theirs");
    OK(kv_begin(f->kv));
    OK(kv_write(f->kv, &w, &f->self));
    OK(kv_commit(f->kv));
    assert_int_equal(w.entry.record.stamp_us, T + 60 * S + 1);
    OK(entry_verify(&w.entry));
    assert_string_equal(fixture_get(f, "a"), "mine");
    fixture_check(f);
}

static enum hkv_err write_expecting(struct fixture *f, const char *key, enum kv_expect expect, uint64_t stamp_us,
                                    char author)
{
    struct kv_write w = {.expect = expect, .version = {stamp_us, fixture_writer(f, author).author}};
    return fixture_write(f, fixture_key(key), slice_of_text("v"), &w);
}

static void expectations_hold_against_what_is_known(void **state)
{
    struct fixture *f = *state;
    struct kv_item item;
    OK(write_expecting(f, "a", KV_EXPECT_ABSENT, 0, 's'));
    assert_int_equal(write_expecting(f, "a", KV_EXPECT_ABSENT, 0, 's'), HKV_E_CONFLICT);
    OK(kv_get(f->kv, fixture_key("a"), KV_WANT_META, &item));
    assert_int_equal(write_expecting(f, "a", KV_EXPECT_VERSION, item.version.stamp_us + 1, 's'), HKV_E_CONFLICT);
    assert_int_equal(write_expecting(f, "a", KV_EXPECT_VERSION, item.version.stamp_us, 'x'), HKV_E_CONFLICT);
    OK(write_expecting(f, "a", KV_EXPECT_VERSION, item.version.stamp_us, 's'));
    kv_item_fini(&item);
    assert_int_equal(write_expecting(f, "b", KV_EXPECT_VERSION, T, 's'), HKV_E_CONFLICT);
    OK(fixture_put(f, "a", NULL));
    OK(write_expecting(f, "a", KV_EXPECT_ABSENT, 0, 's'));
    fixture_check(f);
}

static void an_expectation_fails_while_a_newer_winners_value_is_missing(void **state)
{
    struct fixture *f = *state;
    receive(f, 'x', fixture_key("a"), T, "not here");
    assert_int_equal(write_expecting(f, "a", KV_EXPECT_ABSENT, 0, 's'), HKV_E_CONFLICT);
    assert_int_equal(write_expecting(f, "a", KV_EXPECT_VERSION, T, 'x'), HKV_E_CONFLICT);
    OK(write_expecting(f, "a", KV_EXPECT_ANY, 0, 's'));
    fixture_check(f);
}

static void another_author_has_its_own_newest_stamp(void **state)
{
    struct fixture *f = *state;
    struct kv_signer other = fixture_writer(f, 'o');
    struct kv_counts counts;
    OK(fixture_put(f, "a", "v"));
    receive(f, 'o', fixture_key("b"), T + 7, "v");
    kv_set_author(f->kv, &other.author);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.newest_stamp_us, T + 7);
    assert_int_equal(propose(f, "c"), T + 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stamp_is_the_clock_and_never_the_same_twice),
        TEST(a_stamp_goes_above_the_keys_winner),
        TEST(a_stamp_goes_above_our_own_entries_at_prefixes),
        TEST(a_prefix_of_ours_far_ahead_refuses_the_write),
        TEST(a_winner_five_minutes_ahead_is_the_limit_and_its_author_is_named),
        TEST(after_a_step_back_of_the_clock_the_error_says_for_how_long),
        TEST(a_write_is_signed_again_when_the_key_has_moved_on),
        TEST(expectations_hold_against_what_is_known),
        TEST(an_expectation_fails_while_a_newer_winners_value_is_missing),
        TEST(another_author_has_its_own_newest_stamp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
