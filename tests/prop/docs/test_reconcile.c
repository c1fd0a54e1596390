/* Replicas with random histories come to the same entries: with each other after one session, in iroh's encoding and in
 * the compact one, and with upstream's behaviour after two. Histories are small and their keys nested, so that
 * prefixes, tombstones and conflicts meet often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fixture/upstream_model.h"

#define ROUNDS 400

/* Puts `count` random entries: few authors, keys from "" to "abab", stamps that collide, one in four a tombstone. */
static void write_history(struct random *r, struct array_replica *a, size_t count, bool as_upstream)
{
    for (size_t i = 0; i < count; i++) {
        char key[6];
        size_t len = random_below(r, 5);
        for (size_t k = 0; k < len; k++) key[k] = (char)('a' + (char)random_below(r, 3));
        uint8_t content = random_below(r, 4) == 0 ? 0 : (uint8_t)(1 + random_below(r, 3));
        struct entry e =
            world_entry((uint8_t)(1 + random_below(r, 2)), slice_of(key, len), 1 + random_below(r, 30), content);
        if (as_upstream)
            (void)upstream_put(a, &e);
        else
            (void)array_replica_put(a, &e);
    }
}

/* Many entries far apart, two in `one_in` of them on one side only. */
static void write_wide(struct random *r, struct array_replica *a, struct array_replica *b, size_t count, size_t one_in)
{
    for (size_t i = 0; i < count; i++) {
        char key[32];
        int len = snprintf(key, sizeof key, "key-%07zu.", random_below(r, 1000000));
        struct entry e =
            world_entry((uint8_t)(1 + random_below(r, 3)), slice_of(key, (size_t)len), 1 + random_below(r, 9), 5);
        size_t where = random_below(r, one_in);
        if (where != 0) (void)array_replica_put(a, &e);
        if (where != 1) (void)array_replica_put(b, &e);
    }
}

/* Each test's state: the encoding it runs with. */
static enum docs_encoding encodings[] = {DOCS_ENCODING_IROH, DOCS_ENCODING_COMPACT};

static struct docs_config random_config(struct random *r, bool tight, void **state)
{
    struct docs_config config = docs_config_default(random_u64(r));
    config.encoding = *(const enum docs_encoding *)*state;
    if (config.encoding == DOCS_ENCODING_COMPACT) config.late_values = random_below(r, 2) == 0;
    config.split_ways = 2 + (uint32_t)random_below(r, 15);
    config.split_values = 1 + (uint32_t)random_below(r, 4);
    config.few_values = (uint32_t)random_below(r, 20);
    config.exact_bounds = random_below(r, 2) == 0;
    if (tight) {
        config.frame.parts = config.split_ways + 3 + (uint32_t)random_below(r, 8);
        config.frame.values = 1 + (uint32_t)random_below(r, 20);
        config.frame.bytes = 1 + random_below(r, 4000);
        config.received_max = 20 + random_below(r, 10);
    }
    return config;
}

/* The rows of one that the other hasn't. */
static void dump(const char *name, const struct array_replica *a, const struct array_replica *b)
{
    print_error("only in %s:\n", name);
    for (size_t i = 0, k = 0; i < a->count; i++) {
        const struct entry *e = &a->rows[i].entry;
        for (k = 0; k < b->count && !fingerprint_equal(&a->rows[i].fingerprint, &b->rows[k].fingerprint);) k++;
        if (k < b->count) continue;
        print_error("  author %d \"%.*s\" at %llu content %d\n", e->author.bytes[0], (int)e->key.len,
                    (const char *)e->key.data, (unsigned long long)e->record.stamp_us,
                    record_is_empty(&e->record) ? 0 : e->record.hash.bytes[0]);
    }
}

/* What all of them together are: every entry put into one replica, in any order. */
static void merge_into(struct array_replica *all, const struct array_replica *from)
{
    for (size_t i = 0; i < from->count; i++) (void)array_replica_put(all, &from->rows[i].entry);
}

static void assert_equal_sets(const struct array_replica *a, const struct array_replica *b)
{
    if (array_replica_equal(a, b)) return;
    dump("one", a, b);
    dump("the other", b, a);
    fail_msg("%s", "the replicas differ");
}

static void two_replicas_are_equal_after_one_session(void **state)
{
    struct random r = random_start("two replicas");
    for (int round = 0; round < ROUNDS; round++) {
        struct array_replica a, b, all;
        array_replica_init(&a);
        array_replica_init(&b);
        array_replica_init(&all);
        write_history(&r, &a, random_below(&r, 40), false);
        write_history(&r, &b, random_below(&r, 40), false);
        merge_into(&all, &a);
        merge_into(&all, &b);
        struct docs_config config = random_config(&r, false, state);
        struct world_options options = {.random = &r, .chunk_max = 1 + random_below(&r, 500)};
        struct world_peer p, q;
        struct world_trace sent, answered;
        world_peer_init(&p, DOCS_DIALLER, &a, &config);
        world_peer_init(&q, DOCS_ACCEPTOR, &b, &config);
        world_run(&p, &q, &options);
        assert_int_equal(p.session.outcome.err, HKV_OK);
        assert_int_equal(q.session.outcome.err, HKV_OK);
        world_trace_read_peer(&p, &sent);
        world_trace_read_peer(&q, &answered);
        assert_int_equal(sent.repeated, 0);
        assert_int_equal(answered.repeated, 0);
        assert_equal_sets(&a, &all);
        assert_equal_sets(&b, &all);
        world_peer_fini(&p);
        world_peer_fini(&q);
        bool confirmed;
        assert_true(world_sync(&b, &a, &config, &options, &confirmed));
        assert_true(confirmed);
        array_replica_fini(&a);
        array_replica_fini(&b);
        array_replica_fini(&all);
    }
}

static void frames_without_room_only_take_longer(void **state)
{
    struct random r = random_start("tight frames");
    for (int round = 0; round < ROUNDS / 4; round++) {
        struct array_replica a, b, all;
        array_replica_init(&a);
        array_replica_init(&b);
        array_replica_init(&all);
        write_history(&r, &a, random_below(&r, 40), false);
        write_history(&r, &b, random_below(&r, 40), false);
        if (round % 4 == 0) write_wide(&r, &a, &b, random_below(&r, 400), 20);
        if (round % 4 == 1) write_wide(&r, &a, &a, random_below(&r, 400), 20);
        merge_into(&all, &a);
        merge_into(&all, &b);
        struct docs_config config = random_config(&r, true, state);
        struct world_options options = {.random = &r};
        /* Late parts of an early answer may be lost at the end: what they heal, the next session does. */
        assert_true(world_sync(&a, &b, &config, &options, NULL));
        assert_true(world_sync(&b, &a, &config, &options, NULL));
        assert_equal_sets(&a, &all);
        assert_equal_sets(&b, &all);
        array_replica_fini(&a);
        array_replica_fini(&b);
        array_replica_fini(&all);
    }
}

static void three_replicas_are_equal_after_three_sessions(void **state)
{
    struct random r = random_start("three replicas");
    for (int round = 0; round < ROUNDS / 2; round++) {
        struct array_replica a, b, c, all;
        struct docs_config config = random_config(&r, false, state);
        struct world_options options = {.random = &r};
        array_replica_init(&a);
        array_replica_init(&b);
        array_replica_init(&c);
        array_replica_init(&all);
        write_history(&r, &a, random_below(&r, 30), false);
        write_history(&r, &b, random_below(&r, 30), false);
        write_history(&r, &c, random_below(&r, 30), false);
        merge_into(&all, &c);
        merge_into(&all, &b);
        merge_into(&all, &a);
        assert_true(world_sync(&a, &b, &config, &options, NULL));
        assert_true(world_sync(&c, &b, &config, &options, NULL));
        assert_true(world_sync(&b, &a, &config, &options, NULL));
        assert_equal_sets(&a, &all);
        assert_equal_sets(&b, &all);
        assert_equal_sets(&c, &all);
        array_replica_fini(&a);
        array_replica_fini(&b);
        array_replica_fini(&c);
        array_replica_fini(&all);
    }
}

static void check_wide(struct random r, enum docs_encoding encoding)
{
    for (int round = 0; round < 4; round++) {
        struct array_replica a, b;
        array_replica_init(&a);
        array_replica_init(&b);
        write_wide(&r, &a, &b, 3000, round % 2 == 0 ? 20 : 200);
        struct docs_config config = docs_config_default(7);
        docs_config_set_encoding(&config, encoding);
        struct world_peer p, q;
        struct world_trace sent, answered;
        struct world_options options = {.random = &r};
        world_peer_init(&p, DOCS_DIALLER, &a, &config);
        world_peer_init(&q, DOCS_ACCEPTOR, &b, &config);
        world_run(&p, &q, &options);
        world_trace_read_peer(&p, &sent);
        world_trace_read_peer(&q, &answered);
        assert_int_equal(p.session.outcome.err, HKV_OK);
        assert_int_equal(q.session.outcome.err, HKV_OK);
        assert_equal_sets(&a, &b);
        assert_int_equal(sent.repeated + answered.repeated, 0);
        assert_true(sent.parts_max <= config.frame.parts && answered.parts_max <= config.frame.parts);
        /* each difference brings the neighbours of its last, eighth part along */
        assert_true(sent.values + answered.values < (round % 2 == 0 ? 3000 : 400));
        assert_true(sent.frames + answered.frames < 80);
        world_peer_fini(&p);
        world_peer_fini(&q);
        array_replica_fini(&a);
        array_replica_fini(&b);
    }
}

static void wide_replicas_move_little_more_than_the_difference(void **state)
{
    check_wide(random_start("wide replicas"), *(const enum docs_encoding *)*state);
}

/* There the rest of a full frame lies across ranges in which values were sent. */
static void what_was_sent_is_not_sent_again_where_a_rest_is_divided(void **state)
{
    check_wide((struct random){273}, *(const enum docs_encoding *)*state);
}

static void a_peer_that_behaves_as_upstream_is_equal_after_two_sessions(void **state)
{
    struct random r = random_start("with upstream's behaviour");
    for (int round = 0; round < ROUNDS; round++) {
        struct array_replica ours, theirs;
        struct docs_config config = random_config(&r, round % 4 == 0, state);
        if (round % 2 == 0) {
            config.split_ways = DOCS_SPLIT_WAYS;
            config.split_values = DOCS_SPLIT_VALUES;
            config.frame = docs_config_default(0).frame;
            config.received_max = DOCS_RECEIVED_SET_MAX;
            config.exact_bounds = false;
        }
        array_replica_init(&ours);
        array_replica_init(&theirs);
        write_history(&r, &ours, random_below(&r, 40), false);
        write_history(&r, &theirs, random_below(&r, 40), true);
        enum docs_role role = random_below(&r, 2) == 0 ? DOCS_DIALLER : DOCS_ACCEPTOR;
        assert_true(upstream_sync(&ours, &theirs, role, &config, &r));
        if (!array_replica_equal(&ours, &theirs)) assert_true(upstream_sync(&ours, &theirs, role, &config, &r));
        assert_equal_sets(&ours, &theirs);
        array_replica_fini(&ours);
        array_replica_fini(&theirs);
    }
}

static void last_writer_wins_in_any_order(void **state)
{
    (void)state;
    struct random r = random_start("order of entries");
    for (int round = 0; round < ROUNDS; round++) {
        struct array_replica written, shuffled;
        array_replica_init(&written);
        write_history(&r, &written, 25, false);
        size_t count = written.count;
        struct array_replica parts[3];
        for (int i = 0; i < 3; i++) array_replica_init(&parts[i]);
        for (int i = 0; i < 3; i++) write_history(&r, &parts[i], 12, false);
        array_replica_init(&shuffled);
        /* (p0 ∪ p1) ∪ p2 and p2 ∪ (p1 ∪ p0), the second with repeats */
        for (int i = 0; i < 3; i++) merge_into(&written, &parts[i]);
        for (int i = 2; i >= 0; i--) merge_into(&shuffled, &parts[i]);
        struct array_replica first;
        array_replica_init(&first);
        merge_into(&first, &parts[1]);
        merge_into(&first, &parts[0]);
        merge_into(&shuffled, &first);
        merge_into(&shuffled, &written);
        merge_into(&shuffled, &written);
        assert_equal_sets(&shuffled, &written);
        assert_true(count <= 25);
        array_replica_fini(&first);
        for (int i = 0; i < 3; i++) array_replica_fini(&parts[i]);
        array_replica_fini(&written);
        array_replica_fini(&shuffled);
    }
}

#define BOTH(test) cmocka_unit_test_prestate(test, &encodings[0]), cmocka_unit_test_prestate(test, &encodings[1])

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(two_replicas_are_equal_after_one_session),
        BOTH(frames_without_room_only_take_longer),
        BOTH(three_replicas_are_equal_after_three_sessions),
        BOTH(wide_replicas_move_little_more_than_the_difference),
        BOTH(what_was_sent_is_not_sent_again_where_a_rest_is_divided),
        cmocka_unit_test_prestate(a_peer_that_behaves_as_upstream_is_equal_after_two_sessions, &encodings[0]),
        cmocka_unit_test(last_writer_wins_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
