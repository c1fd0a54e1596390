/* A wall clock that jumps, stands still, or was never set: what the store keeps, shows and refuses then. The last four
 * tests are the cases of iroh-docs issue 120. */
#include "fixture/kv_store.h"

#include "base/text.h"

#define T          FIXTURE_NOW_US
#define S          ((uint64_t)1000000)
#define MINUTE     ((int64_t)60000000)
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static void put_expiring(struct fixture *f, const char *key, uint64_t expires_us)
{
    struct buf content = {0};
    struct kv_write w = {0};
    OK(kv_content_prefix(slice_of_text("v"), 1, expires_us, &content));
    OK(buf_append_slice(&content, slice_of_text("v")));
    OK(fixture_write(f, fixture_key(key), buf_slice(&content), &w));
    buf_fini(&content);
}

static uint64_t expire(struct fixture *f)
{
    struct kv_changes changes;
    uint64_t next_us;
    OK(kv_begin(f->kv));
    OK(kv_expire_due(f->kv, f->wall_us, 100, &next_us));
    OK(kv_commit(f->kv));
    kv_take_changes(f->kv, &changes);
    uint64_t count = changes.count;
    kv_changes_fini(&changes);
    return count;
}

static void what_expired_by_a_wrong_clock_shows_again(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    put_expiring(f, "soon", T + 60 * S);
    put_expiring(f, "later", T + 6000 * S);
    fixture_step(f, 20 * MINUTE);
    assert_int_equal(expire(f), 1);
    assert_null(fixture_get(f, "soon"));
    assert_string_equal(fixture_get(f, "later"), "v");
    fixture_step(f, -20 * MINUTE);
    assert_int_equal(expire(f), 1); /* a put for the watchers */
    assert_string_equal(fixture_get(f, "soon"), "v");
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.visible_keys, 2);
    fixture_check(f);
    f->wall_us += 61 * S;
    assert_int_equal(expire(f), 1);
    assert_null(fixture_get(f, "soon"));
    fixture_check(f);
}

static size_t due(struct fixture *f)
{
    struct kv_wanted wanted[4];
    uint64_t next_us;
    size_t count;
    OK(kv_begin(f->kv));
    OK(kv_wanted_take(f->kv, kv_steady_us(f->kv), 4, wanted, &count, &next_us));
    OK(kv_commit(f->kv));
    return count;
}

static void fail_value(struct fixture *f, const struct hash *hash)
{
    OK(kv_begin(f->kv));
    OK(kv_value_failed(f->kv, hash, kv_steady_us(f->kv)));
    OK(kv_commit(f->kv));
}

static void back_off_takes_its_time_whatever_the_wall_clock_does(void **state)
{
    static const int64_t steps[] = {20 * MINUTE, -20 * MINUTE, -(int64_t)(T - 5 * S), 400 * MINUTE};
    struct fixture *f = *state;
    struct entry e = fixture_entry(f, 'x', fixture_key("a"), T, slice_of_text("content"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    assert_int_equal(due(f), 1);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        fail_value(f, &e.record.hash);
        fixture_step(f, steps[i]);
        assert_int_equal(due(f), 0);
        f->wall_us += (uint64_t)KV_VALUE_BACKOFF_MAX_US;
        assert_int_equal(due(f), 1);
    }
}

static void a_restart_with_the_clock_set_back_does_not_forget_missing_values(void **state)
{
    struct fixture *f = *state;
    struct entry e = fixture_entry(f, 'x', fixture_key("a"), T, slice_of_text("content"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    fixture_step(f, 365 * 24 * 60 * MINUTE); /* a year too far while the value is tried */
    fixture_reopen(f);
    assert_int_equal(due(f), 1);
    fail_value(f, &e.record.hash);
    OK(fixture_put(f, "b", "v"));
    fixture_step(f, -365 * 24 * 60 * MINUTE);
    fixture_reopen(f);
    f->wall_us += (uint64_t)KV_VALUE_BACKOFF_MAX_US;
    assert_int_equal(due(f), 1);
}

static void a_clock_that_stands_still_gives_stamps_and_holds_up_nothing(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    struct entry e = fixture_entry(f, 'x', fixture_key("missing"), T, slice_of_text("content"));
    put_expiring(f, "soon", T + 60 * S);
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    assert_int_equal(due(f), 1);
    fail_value(f, &e.record.hash);
    for (int i = 0; i < 100; i++) {
        char value[8] = {(char)('0' + i / 10), (char)('0' + i % 10)};
        OK(fixture_put(f, "a", value));
        f->wall_us += 10 * S;
        fixture_step(f, -10 * (int64_t)S);
    }
    assert_string_equal(fixture_get(f, "a"), "99");
    assert_int_equal(due(f), 1);                      /* a thousand seconds have passed */
    assert_string_equal(fixture_get(f, "soon"), "v"); /* not by this clock */
    kv_counts(f->kv, &counts);
    assert_in_range(counts.newest_stamp_us, T + 100, T + 200);
    fixture_check(f);
}

/* ------------------------------------------------------------------------------------------ iroh-docs issue 120 */

static enum docs_insert receive(struct fixture *f, char author, const char *key, uint64_t stamp_us, const char *content)
{
    struct entry e = fixture_entry(f, author, fixture_key(key), stamp_us, slice_of_text(content));
    return fixture_receive(f, &e);
}

static void retry(struct fixture *f, size_t want_inserted)
{
    size_t inserted;
    uint64_t next_us;
    OK(kv_begin(f->kv));
    OK(kv_refused_retry(f->kv, 100, &inserted, &next_us));
    OK(kv_commit(f->kv));
    assert_int_equal(inserted, want_inserted);
}

/* An honest writer is ahead: from 10 min 1 s on its entries are refused everywhere, and nobody is told. Here they are
 * kept, counted with their author, and stored when they are due, also after a restart. */
static void issue_120_a_writer_far_ahead_is_refused_for_a_while_and_named(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    assert_int_equal(receive(f, 'x', "in", T + 600 * S, "x"), DOCS_INSERTED);
    assert_int_equal(receive(f, 'x', "out", T + 601 * S, "x"), DOCS_FUTURE);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.entries_refused, 1);
    fixture_reopen(f);
    retry(f, 0);
    f->wall_us += S;
    retry(f, 1);
    fixture_arrive(f, "x");
    assert_string_equal(fixture_get(f, "out"), "x");
    fixture_check(f);
}

/* An honest writer's clock is corrected: its next writes to the key fail until the old stamp has passed. Here they go
 * above it at once, up to five minutes, and beyond say for how long. */
static void issue_120_a_writer_whose_clock_is_corrected_can_go_on(void **state)
{
    struct fixture *f = *state;
    uint64_t stamp_us;
    fixture_step(f, MINUTE);
    OK(fixture_put(f, "a", "ahead"));
    fixture_step(f, -MINUTE);
    OK(fixture_put(f, "a", "corrected"));
    assert_string_equal(fixture_get(f, "a"), "corrected");
    fixture_step(f, 10 * MINUTE);
    OK(fixture_put(f, "a", "far ahead"));
    fixture_step(f, -10 * MINUTE);
    assert_int_equal(kv_propose_stamp(f->kv, fixture_key("a"), &stamp_us), HKV_E_STAMP_AHEAD);
    assert_non_null(strstr(error_last(), "this node's own last stamp is 600 s ahead"));
    assert_non_null(strstr(error_last(), "try again in 301 s"));
    f->wall_us += 301 * S;
    OK(fixture_put(f, "a", "patient"));
    assert_string_equal(fixture_get(f, "a"), "patient");
    fixture_check(f);
}

/* A writer lies inside the bound and holds the key: honest writes succeed and are never shown. Here no write succeeds
 * that does not show: it goes above the liar's stamp, or is refused and names the liar. */
static void issue_120_a_writer_that_holds_a_key_is_named_to_whom_it_stops(void **state)
{
    struct fixture *f = *state;
    struct kv_signer x = fixture_writer(f, 'x');
    char text[ID_TEXT_MAX];
    uint64_t stamp_us;
    for (int i = 0; i < 3; i++) {
        char content[8] = {'l', 'i', 'e', (char)('0' + i)};
        assert_int_equal(receive(f, 'x', "a", f->wall_us + 599 * S, content), DOCS_INSERTED);
        fixture_arrive(f, content);
        assert_int_equal(kv_propose_stamp(f->kv, fixture_key("a"), &stamp_us), HKV_E_STAMP_AHEAD);
        assert_non_null(strstr(error_last(), id_format(x.author.bytes, text)));
        assert_non_null(strstr(error_last(), "599 s ahead"));
        OK(fixture_put(f, "b", "other keys are free"));
        f->wall_us += 2 * S;
    }
    f->wall_us += 300 * S; /* it stopped */
    OK(fixture_put(f, "a", "truth"));
    assert_string_equal(fixture_get(f, "a"), "truth");
    fixture_check(f);
}

/* The receiver is the one that is wrong: its clock is behind, and it refuses what everybody else has. Here nothing of
 * that is lost: once the clock is set, all of it is stored, and its own writes go above it. */
static void issue_120_a_receiver_that_is_behind_catches_up_once_its_clock_is_set(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    fixture_step(f, -20 * MINUTE);
    for (int i = 0; i < 50; i++) {
        char key[8] = {'k', (char)('0' + i / 10), (char)('0' + i % 10)};
        assert_int_equal(receive(f, 'x', key, T + (uint64_t)i, "x"), DOCS_FUTURE);
    }
    fixture_step(f, 20 * MINUTE);
    retry(f, 50);
    fixture_arrive(f, "x");
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.entries_refused, 0);
    assert_int_equal(counts.entries, 50);
    assert_string_equal(fixture_get(f, "k49"), "x");
    OK(fixture_put(f, "k49", "y"));
    assert_string_equal(fixture_get(f, "k49"), "y");
    fixture_check(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_expired_by_a_wrong_clock_shows_again),
        TEST(back_off_takes_its_time_whatever_the_wall_clock_does),
        TEST(a_restart_with_the_clock_set_back_does_not_forget_missing_values),
        TEST(a_clock_that_stands_still_gives_stamps_and_holds_up_nothing),
        TEST(issue_120_a_writer_far_ahead_is_refused_for_a_while_and_named),
        TEST(issue_120_a_writer_whose_clock_is_corrected_can_go_on),
        TEST(issue_120_a_writer_that_holds_a_key_is_named_to_whom_it_stops),
        TEST(issue_120_a_receiver_that_is_behind_catches_up_once_its_clock_is_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
