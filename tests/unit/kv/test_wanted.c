/* Missing values: who is asked, when, and what a restart changes. */
#include "fixture/kv_store.h"

#include <stdio.h>

#include "crypto/blake3.h"
#include "kv/internal.h"

#define T          FIXTURE_NOW_US
#define S          ((uint64_t)1000000)
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static const struct endpoint_id peers[] = {{{1}}, {{2}}, {{3}}, {{4}}, {{5}}, {{6}}, {{7}}, {{8}}, {{9}}, {{10}}};

static struct hash receive_from(struct fixture *f, const struct endpoint_id *peer, bool provides, const char *key,
                                uint64_t stamp_us, const char *content, uint64_t length)
{
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_origin origin = {.peer = *peer, .provides_content = provides};
    enum docs_insert out;
    struct entry e = fixture_entry(f, 'x', fixture_key(key), stamp_us, slice_of_text(content));
    e.record.length_bytes = length;
    OK(kv_begin(f->kv));
    OK(r->ops->insert(r, &e, &origin, &out, NULL, NULL));
    OK(kv_commit(f->kv));
    assert_int_equal(out, DOCS_INSERTED);
    return e.record.hash;
}

static struct hash want(struct fixture *f, const char *key, const char *content)
{
    return receive_from(f, &peers[0], true, key, T, content, strlen(content));
}

static size_t take(struct fixture *f, struct kv_wanted *out, size_t max, uint64_t *next_us)
{
    size_t count;
    OK(kv_begin(f->kv));
    OK(kv_wanted_take(f->kv, f->wall_us, max, out, &count, next_us));
    OK(kv_commit(f->kv));
    return count;
}

static void fail_value(struct fixture *f, const struct hash *hash)
{
    OK(kv_begin(f->kv));
    OK(kv_value_failed(f->kv, hash, f->wall_us));
    OK(kv_commit(f->kv));
}

static void wake(struct fixture *f, const struct endpoint_id *peer)
{
    OK(kv_begin(f->kv));
    OK(kv_wanted_wake(f->kv, peer));
    OK(kv_commit(f->kv));
}

static void a_missing_value_is_handed_out_once_with_its_provider(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    struct hash hash = want(f, "a", "content");
    assert_int_equal(take(f, w, 4, &next_us), 1);
    assert_memory_equal(&w[0].hash, &hash, sizeof hash);
    assert_int_equal(w[0].length, 7);
    assert_int_equal(w[0].provider_count, 1);
    assert_memory_equal(&w[0].providers[0], &peers[0], sizeof peers[0]);
    assert_int_equal(next_us, 0);
    assert_int_equal(take(f, w, 4, &next_us), 0);
    fixture_arrive(f, "content");
    assert_int_equal(take(f, w, 4, &next_us), 0);
    fixture_check(f);
}

static void what_a_lost_transaction_handed_out_is_handed_out_again(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    size_t count;
    struct hash a = want(f, "a", "1");
    struct hash b = want(f, "b", "2");
    OK(kv_begin(f->kv));
    OK(kv_wanted_take(f->kv, f->wall_us, 1, w, &count, &next_us));
    assert_memory_equal(&w[0].hash, &a, sizeof a);
    OK(kv_savepoint(f->kv));
    OK(kv_wanted_take(f->kv, f->wall_us, 4, w, &count, &next_us));
    assert_memory_equal(&w[0].hash, &b, sizeof b);
    kv_savepoint_rollback(f->kv);
    OK(kv_wanted_take(f->kv, f->wall_us, 4, w, &count, &next_us));
    assert_int_equal(count, 1);
    assert_memory_equal(&w[0].hash, &b, sizeof b);
    kv_rollback(f->kv);
    assert_int_equal(take(f, w, 4, &next_us), 2);
    assert_int_equal(take(f, w, 4, &next_us), 0);
}

/* Its holder reports again; until then nobody else fetches it. */
static void what_failed_or_arrived_in_a_lost_transaction_is_still_out(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    struct hash a = want(f, "a", "1");
    struct hash b = want(f, "b", "2");
    assert_int_equal(take(f, w, 4, &next_us), 2);
    OK(kv_begin(f->kv));
    OK(kv_value_failed(f->kv, &a, f->wall_us));
    OK(kv_savepoint(f->kv));
    OK(kv_value_arrived(f->kv, &b, slice_of_text("2"), NULL));
    kv_savepoint_rollback(f->kv);
    kv_rollback(f->kv);
    assert_int_equal(take(f, w, 4, &next_us), 0);
    OK(kv_begin(f->kv));
    OK(kv_value_failed(f->kv, &a, f->wall_us));
    OK(kv_commit(f->kv));
    f->wall_us += 3600000000;
    assert_int_equal(take(f, w, 4, &next_us), 1);
    assert_memory_equal(&w[0].hash, &a, sizeof a);
}

static void suspect(struct fixture *f, const struct hash *hash)
{
    size_t count;
    kv_value_bad(f->kv, hash);
    OK(kv_begin(f->kv));
    OK(kv_quarantine(f->kv, &count));
    OK(kv_commit(f->kv));
    assert_int_equal(count, 1);
}

/* Else the list of what is being fetched would fill up, and nothing would be fetched before the next start. */
static void values_that_are_overwritten_while_they_are_fetched_take_no_room(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    char content[16];
    for (uint64_t i = 0; i < KV_TAKEN_MAX + 1; i++) {
        (void)snprintf(content, sizeof content, "%d", (int)i);
        struct hash hash = receive_from(f, &peers[0], true, "a", T + i, content, strlen(content));
        assert_int_equal(take(f, w, 4, &next_us), 1);
        assert_memory_equal(&w[0].hash, &hash, sizeof hash);
    }
}

static void a_value_that_was_written_here_while_it_was_fetched_is_fetched_when_it_goes_bad(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    struct hash hash = want(f, "a", "content");
    assert_int_equal(take(f, w, 4, &next_us), 1);
    OK(fixture_put(f, "b", "content"));
    fixture_arrive(f, "content"); /* too late */
    suspect(f, &hash);
    assert_int_equal(take(f, w, 4, &next_us), 1);
    assert_memory_equal(&w[0].hash, &hash, sizeof hash);
}

static void what_a_lost_transaction_handed_out_and_ended_is_handed_out_again(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    size_t count;
    struct hash hash = want(f, "a", "content");
    OK(kv_begin(f->kv));
    OK(kv_wanted_take(f->kv, f->wall_us, 4, w, &count, &next_us));
    assert_int_equal(count, 1);
    OK(kv_value_arrived(f->kv, &hash, slice_of_text("content"), NULL));
    kv_rollback(f->kv);
    assert_int_equal(take(f, w, 4, &next_us), 1);
    assert_memory_equal(&w[0].hash, &hash, sizeof hash);
}

static void they_come_in_the_order_of_their_entries_and_at_most_as_many_as_asked(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    struct hash a = want(f, "a", "1");
    struct hash b = want(f, "b", "2");
    struct hash c = want(f, "c", "3");
    assert_int_equal(take(f, w, 2, &next_us), 2);
    assert_memory_equal(&w[0].hash, &a, sizeof a);
    assert_memory_equal(&w[1].hash, &b, sizeof b);
    assert_int_equal(next_us, f->wall_us); /* more is due now */
    assert_int_equal(take(f, w, 2, &next_us), 1);
    assert_memory_equal(&w[0].hash, &c, sizeof c);
    assert_int_equal(next_us, 0);
}

static void failures_back_off_from_one_second_to_five_minutes(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    struct hash hash = want(f, "a", "content");
    static const uint64_t expected_s[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300};
    for (size_t i = 0; i < sizeof expected_s / sizeof expected_s[0]; i++) {
        assert_int_equal(take(f, w, 4, &next_us), 1);
        assert_int_equal(w[0].attempts, i);
        fail_value(f, &hash);
        assert_int_equal(take(f, w, 4, &next_us), 0);
        assert_int_equal(next_us, f->wall_us + expected_s[i] * S);
        f->wall_us = next_us - 1;
        assert_int_equal(take(f, w, 4, &next_us), 0);
        f->wall_us = next_us;
    }
    fixture_check(f);
}

static void a_failure_on_a_clock_that_stepped_back_is_tried_again(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    struct hash hash = want(f, "a", "content");
    assert_int_equal(take(f, w, 4, &next_us), 1);
    f->wall_us -= 3600 * S;
    fail_value(f, &hash);
    assert_int_equal(take(f, w, 4, &next_us), 0);
    assert_int_equal(next_us, f->wall_us + S);
    f->wall_us = next_us;
    assert_int_equal(take(f, w, 4, &next_us), 1);
}

static void a_value_known_at_a_mark_is_told_from_a_later_one(void **state)
{
    struct fixture *f = *state;
    uint64_t before, after;
    bool missing;
    OK(kv_value_mark(f->kv, &before));
    (void)want(f, "a", "content");
    OK(kv_value_mark(f->kv, &after));
    (void)want(f, "b", "later");
    OK(kv_value_missing(f->kv, before, &missing));
    assert_false(missing);
    OK(kv_value_missing(f->kv, after, &missing));
    assert_true(missing);
    fixture_arrive(f, "content");
    OK(kv_value_missing(f->kv, after, &missing));
    assert_false(missing);
}

static void a_restart_forgets_who_took_a_value_but_not_the_back_off(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    struct hash a = want(f, "a", "1");
    (void)want(f, "b", "2");
    assert_int_equal(take(f, w, 4, &next_us), 2);
    fail_value(f, &a);
    fixture_reopen(f);
    assert_int_equal(take(f, w, 4, &next_us), 1);
    assert_int_equal(w[0].attempts, 0);
    assert_int_equal(next_us, f->wall_us + S);
    f->wall_us = next_us;
    assert_int_equal(take(f, w, 4, &next_us), 1);
    assert_memory_equal(&w[0].hash, &a, sizeof a);
    assert_int_equal(w[0].attempts, 1);
}

static void a_wake_makes_everything_due_once_with_the_peer_as_provider(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    struct hash a = want(f, "a", "1");
    struct hash b = want(f, "b", "2");
    assert_int_equal(take(f, w, 4, &next_us), 2);
    fail_value(f, &a);
    fail_value(f, &b);
    f->wall_us += 10;
    assert_int_equal(take(f, w, 4, &next_us), 0);
    wake(f, &peers[1]);
    assert_int_equal(take(f, w, 1, &next_us), 1);
    assert_int_equal(take(f, w, 4, &next_us), 1);
    assert_int_equal(w[0].provider_count, 2);
    assert_memory_equal(&w[0].providers[1], &peers[1], sizeof peers[1]);
    f->wall_us += 10;
    fail_value(f, &a);
    fail_value(f, &b);
    assert_int_equal(take(f, w, 4, &next_us), 0);
    assert_int_equal(next_us, f->wall_us + 2 * S);
    fixture_reopen(f);
    f->wall_us = next_us;
    assert_int_equal(take(f, w, 4, &next_us), 2);
    assert_int_equal(w[0].provider_count, 2); /* remembered */
}

static void providers_are_remembered_without_repeats_up_to_the_limit(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    uint64_t next_us;
    for (size_t i = 0; i < 20; i++) (void)receive_from(f, &peers[i / 2], true, "a", T + i, "content", 7);
    (void)receive_from(f, &peers[3], false, "b", T, "content", 7);
    assert_int_equal(take(f, w, 4, &next_us), 1);
    assert_int_equal(w[0].provider_count, KV_PROVIDERS_MAX);
    for (size_t i = 0; i < KV_PROVIDERS_MAX; i++) assert_memory_equal(&w[0].providers[i], &peers[i], sizeof peers[i]);
    fixture_check(f);
}

static void a_value_above_the_limit_is_counted_and_never_wanted(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    struct kv_counts counts;
    uint64_t next_us;
    OK(fixture_put(f, "a", "mine"));
    (void)receive_from(f, &peers[0], true, "a", T + 1000, "huge", f->config.max_value_bytes + 1);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.values_too_large, 1);
    assert_int_equal(counts.values_missing, 0);
    assert_int_equal(take(f, w, 4, &next_us), 0);
    assert_string_equal(fixture_get(f, "a"), "mine");
    fixture_check(f);
    /* Another entry says that the same content is small after all. */
    (void)receive_from(f, &peers[0], true, "b", T, "huge", 4);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.values_too_large, 0);
    assert_int_equal(counts.values_missing, 1);
    assert_int_equal(take(f, w, 4, &next_us), 1);
    assert_int_equal(w[0].length, 4);
    fixture_check(f);
}

static void another_limit_at_the_next_start_sorts_missing_values_anew(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    struct kv_counts counts;
    uint64_t next_us;
    (void)receive_from(f, &peers[0], true, "a", T, "1", 1000);
    (void)receive_from(f, &peers[0], true, "b", T, "2", 2000);
    (void)receive_from(f, &peers[0], true, "c", T, "3", UINT64_MAX);
    f->config.max_value_bytes = 1999;
    fixture_reopen(f);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.values_missing, 1);
    assert_int_equal(counts.values_too_large, 2);
    fixture_check(f);
    f->config.max_value_bytes = 2000;
    fixture_reopen(f);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.values_missing, 2);
    assert_int_equal(counts.values_too_large, 1);
    assert_int_equal(take(f, w, 4, &next_us), 2);
    fixture_check(f);
}

static void a_value_nobody_refers_to_any_more_is_not_wanted(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    struct kv_counts counts;
    uint64_t next_us;
    (void)want(f, "a", "old");
    (void)receive_from(f, &peers[0], true, "a", T + 1, "new", 3);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.values_missing, 1);
    assert_int_equal(take(f, w, 4, &next_us), 1);
    assert_int_equal(w[0].length, 3);
    fixture_check(f);
    fixture_arrive(f, "old"); /* ignored */
    assert_null(fixture_get(f, "a"));
    fixture_check(f);
}

static void an_arrival_that_is_rolled_back_can_be_reported_again(void **state)
{
    struct fixture *f = *state;
    struct kv_wanted w[4];
    struct kv_counts counts;
    uint64_t next_us;
    struct hash hash = want(f, "a", "content");
    assert_int_equal(take(f, w, 4, &next_us), 1);
    OK(kv_begin(f->kv));
    OK(kv_value_arrived(f->kv, &hash, slice_of_text("content"), NULL));
    kv_rollback(f->kv);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.values_missing, 1);
    fixture_arrive(f, "content");
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.values_missing, 0);
    fixture_check(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_missing_value_is_handed_out_once_with_its_provider),
        TEST(what_a_lost_transaction_handed_out_is_handed_out_again),
        TEST(what_failed_or_arrived_in_a_lost_transaction_is_still_out),
        TEST(values_that_are_overwritten_while_they_are_fetched_take_no_room),
        TEST(a_value_that_was_written_here_while_it_was_fetched_is_fetched_when_it_goes_bad),
        TEST(what_a_lost_transaction_handed_out_and_ended_is_handed_out_again),
        TEST(they_come_in_the_order_of_their_entries_and_at_most_as_many_as_asked),
        TEST(failures_back_off_from_one_second_to_five_minutes),
        TEST(a_failure_on_a_clock_that_stepped_back_is_tried_again),
        TEST(a_value_known_at_a_mark_is_told_from_a_later_one),
        TEST(a_restart_forgets_who_took_a_value_but_not_the_back_off),
        TEST(a_wake_makes_everything_due_once_with_the_peer_as_provider),
        TEST(providers_are_remembered_without_repeats_up_to_the_limit),
        TEST(a_value_above_the_limit_is_counted_and_never_wanted),
        TEST(another_limit_at_the_next_start_sorts_missing_values_anew),
        TEST(a_value_nobody_refers_to_any_more_is_not_wanted),
        TEST(an_arrival_that_is_rolled_back_can_be_reported_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
