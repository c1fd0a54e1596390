/* Many entries and an empty peer: frames stay small, and the next chunk is asked for while this one is being checked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "fixture/docs_world.h"
#include "fixture/upstream_model.h"

#define MANY 3500

static void fill(struct array_replica *a, size_t count, int key_bytes)
{
    array_replica_init(a);
    for (size_t i = 0; i < count; i++) {
        char key[4096];
        int len = snprintf(key, sizeof key, "%06zu%0*d.", i, key_bytes, 0);
        struct entry e = world_entry((uint8_t)(1 + i % 2), slice_of(key, (size_t)len), 5, 3);
        assert_int_equal(array_replica_put(a, &e), DOCS_INSERTED);
    }
}

struct first {
    struct array_replica full, empty;
    struct world_peer dialler, acceptor;
    struct world_trace sent, answered;
};

static void run(struct first *f, bool dialler_is_full, size_t count, int key_bytes, const struct docs_config *config)
{
    fill(&f->full, count, key_bytes);
    array_replica_init(&f->empty);
    world_peer_init(&f->dialler, DOCS_DIALLER, dialler_is_full ? &f->full : &f->empty, config);
    world_peer_init(&f->acceptor, DOCS_ACCEPTOR, dialler_is_full ? &f->empty : &f->full, config);
    world_run(&f->dialler, &f->acceptor, &(struct world_options){0});
    world_trace_read_peer(&f->dialler, &f->sent);
    world_trace_read_peer(&f->acceptor, &f->answered);
    assert_true(array_replica_equal(&f->full, &f->empty));
    assert_int_equal(f->dialler.session.outcome.err, HKV_OK);
    assert_int_equal(f->acceptor.session.outcome.err, HKV_OK);
    assert_int_equal(f->sent.values + f->answered.values, count);
    assert_int_equal(f->sent.repeated + f->answered.repeated, 0);
}

static void done(struct first *f)
{
    world_peer_fini(&f->dialler);
    world_peer_fini(&f->acceptor);
    array_replica_fini(&f->full);
    array_replica_fini(&f->empty);
}

/* The state of a test that runs with both encodings. */
static enum docs_encoding encodings[] = {DOCS_ENCODING_IROH, DOCS_ENCODING_COMPACT};

static struct docs_config config_for(void **state)
{
    struct docs_config config = docs_config_default(1);
    docs_config_set_encoding(&config, *(const enum docs_encoding *)*state);
    return config;
}

static void chunks_have_at_most_a_thousand_values(void **state)
{
    struct docs_config config = config_for(state);
    for (int dialler_is_full = 0; dialler_is_full < 2; dialler_is_full++) {
        static struct first f;
        run(&f, dialler_is_full, MANY, 10, &config);
        struct world_trace *chunks = dialler_is_full ? &f.sent : &f.answered;
        assert_int_equal(chunks->values_max, DOCS_SEND_VALUES_MAX);
        assert_string_equal(chunks->text, dialler_is_full ? "[F] [I1000+ F] [I1000+ F] [I1000+ F] [I500+]"
                                                          : "[I1000+ F] [I1000+ F] [I1000+ F] [I500+]");
        done(&f);
    }
}

/* What a node writes of itself before it knows anybody. */
static void put_records(struct array_replica *a, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "record %zu", i);
        struct entry e = world_entry((uint8_t)(3 + 50 * i), slice_of_text(key), 5, 3);
        assert_int_equal(array_replica_put(a, &e), DOCS_INSERTED);
    }
}

static void a_node_with_its_own_records_is_filled_like_an_empty_one(void **state)
{
    (void)state;
    struct docs_config config = docs_config_default(1);
    docs_config_set_encoding(&config, DOCS_ENCODING_COMPACT);
    for (int dialler_is_full = 0; dialler_is_full < 2; dialler_is_full++) {
        struct array_replica full, new;
        struct world_peer dialler, acceptor;
        struct world_trace sent, answered;
        fill(&full, MANY, 10);
        array_replica_init(&new);
        put_records(&new, 3);
        world_peer_init(&dialler, DOCS_DIALLER, dialler_is_full ? &full : &new, &config);
        world_peer_init(&acceptor, DOCS_ACCEPTOR, dialler_is_full ? &new : &full, &config);
        world_run(&dialler, &acceptor, &(struct world_options){0});
        world_trace_read_peer(&dialler, &sent);
        world_trace_read_peer(&acceptor, &answered);
        assert_true(array_replica_equal(&full, &new));
        assert_int_equal(full.count, MANY + 3);
        assert_in_range(sent.values + answered.values, MANY + 3, MANY + 3 + 3); /* the three may come back once */
        assert_int_equal(sent.repeated + answered.repeated, 0);
        assert_string_equal(sent.text, dialler_is_full ? "[F] [I1000+ F] [I1000+ F] [I1000+ F] [I503+]"
                                                       : "[F] [I0- I0- I3- I0-] [I0-] [I0-] [I0-]");
        assert_string_equal(answered.text, dialler_is_full ? "[I3-] [I0-] [I0-] [I0-]"
                                                           : "[F F F F] [I875+ I125+ F] [I1000+ F] [I1000+ F] [I503+]");
        world_peer_fini(&dialler);
        world_peer_fini(&acceptor);
        array_replica_fini(&full);
        array_replica_fini(&new);
    }
}

static void long_keys_make_shorter_chunks(void **state)
{
    (void)state;
    struct docs_config config = docs_config_default(1);
    static struct first f;
    run(&f, true, 1000, 3000, &config);
    assert_in_range(f.sent.bytes_max, DOCS_SEND_BYTES_MAX, DOCS_SEND_BYTES_MAX + 4 * 3300);
    assert_true(f.sent.frames >= 4);
    done(&f);
}

/* The whole of what a peer sends in one part is told apart from ours also when it is too much to remember. */
static void a_part_too_large_to_remember_is_answered_by_a_fingerprint(void **state)
{
    struct docs_config config = config_for(state);
    config.received_max = 100;
    config.split_values = 30;
    struct array_replica ours, theirs;
    fill(&ours, 20, 10);
    fill(&theirs, 300, 10);
    struct entry extra = world_entry(9, slice_of_text("only here"), 5, 3);
    assert_int_equal(array_replica_put(&ours, &extra), DOCS_INSERTED);
    assert_true(world_sync(&ours, &theirs, &config, &(struct world_options){0}, NULL));
    assert_true(array_replica_equal(&ours, &theirs));
    array_replica_fini(&ours);
    array_replica_fini(&theirs);
}

static void the_next_chunk_is_asked_for_before_this_one_is_checked(void **state)
{
    struct docs_config config = config_for(state);
    struct array_replica full, empty;
    struct world_peer receiver, sender;
    struct world_trace trace;
    fill(&full, MANY, 10);
    array_replica_init(&empty);
    world_peer_init(&sender, DOCS_DIALLER, &full, &config);
    world_peer_init(&receiver, DOCS_ACCEPTOR, &empty, &config);
    for (int turn = 0; turn < 2; turn++) { /* Init, pull */
        world_peer_settle(&sender);
        world_peer_feed(&receiver, buf_slice(&sender.outbox), false);
        buf_clear(&sender.outbox);
        if (turn == 0) world_peer_settle(&receiver);
        if (turn == 0) world_peer_feed(&sender, buf_slice(&receiver.outbox), false);
        buf_clear(&receiver.outbox);
    }
    assert_true(receiver.hand_count > 0);
    assert_int_equal(empty.count, 0);
    world_trace_read_peer(&receiver, &trace);
    assert_string_equal(trace.text, "[I0-] [I0-]");
    world_peer_fini(&sender);
    world_peer_fini(&receiver);
    array_replica_fini(&full);
    array_replica_fini(&empty);
}

/* Values that are mostly known are screened at the replica before their signatures are checked. */
static void known_values_are_not_verified_again(void **state)
{
    (void)state;
    struct docs_config config = docs_config_default(1);
    struct array_replica a, same;
    struct world_peer p;
    struct buf frame = {0}, parts = {0};
    fill(&a, 2000, 10);
    array_replica_copy(&same, &a);
    assert_int_equal(postcard_write_varint(&parts, DOCS_PART_ITEM), HKV_OK);
    struct buf x = {0}, y = {0};
    assert_int_equal(entry_id_append(&a.rows[0].entry, &x), HKV_OK);
    assert_int_equal(entry_id_append(&a.rows[1].entry, &y), HKV_OK);
    assert_int_equal(postcard_write_bytes(&parts, buf_slice(&x)), HKV_OK);
    assert_int_equal(postcard_write_bytes(&parts, buf_slice(&y)), HKV_OK);
    assert_int_equal(postcard_write_varint(&parts, a.count), HKV_OK);
    for (size_t i = 0; i < a.count; i++) {
        struct entry e = a.rows[i].entry;
        if (i >= 1000) e.author_signature.bytes[0] ^= 1; /* nobody looks at it any more */
        assert_int_equal(entry_encode(&e, &parts), HKV_OK);
        assert_int_equal(buf_append_byte(&parts, 0), HKV_OK);
    }
    assert_int_equal(postcard_write_bool(&parts, true), HKV_OK);
    assert_int_equal(docs_write_sync(&frame, 1, buf_slice(&parts)), HKV_OK);
    world_peer_init(&p, DOCS_DIALLER, &same, &config);
    world_peer_settle(&p);
    for (size_t at = 0; at < frame.len; at += 10000) {
        world_peer_feed(&p, slice_part(buf_slice(&frame), at, 10000), false);
        world_peer_settle(&p);
    }
    assert_int_equal(p.session.outcome.received, 2000);
    assert_int_equal(p.session.outcome.refused, 0);
    assert_int_equal(p.session.outcome.err, HKV_OK);
    buf_fini(&frame);
    buf_fini(&parts);
    buf_fini(&x);
    buf_fini(&y);
    world_peer_fini(&p);
    array_replica_fini(&a);
    array_replica_fini(&same);
}

static void an_upstream_peer_is_filled_in_chunks(void **state)
{
    (void)state;
    struct random r = random_start("an upstream peer is filled");
    struct docs_config config = docs_config_default(1);
    config.frame.values = 250;
    for (int has_one = 0; has_one < 2; has_one++) {
        for (int role = 0; role < 2; role++) {
            struct array_replica ours, theirs;
            fill(&ours, 2000, 10);
            fill(&theirs, (size_t)has_one, 10);
            assert_true(upstream_sync(&ours, &theirs, role == 0 ? DOCS_DIALLER : DOCS_ACCEPTOR, &config, &r));
            assert_true(array_replica_equal(&ours, &theirs));
            array_replica_fini(&ours);
            array_replica_fini(&theirs);
        }
    }
}

/* Upstream sends everything in one frame; it is decoded and stored in batches. */
static void an_upstream_peer_fills_us(void **state)
{
    (void)state;
    struct random r = random_start("an upstream peer fills us");
    struct docs_config config = docs_config_default(1);
    for (int role = 0; role < 2; role++) {
        struct array_replica ours, theirs;
        array_replica_init(&ours);
        fill(&theirs, 3000, 10);
        assert_true(upstream_sync(&ours, &theirs, role == 0 ? DOCS_DIALLER : DOCS_ACCEPTOR, &config, &r));
        assert_true(array_replica_equal(&ours, &theirs));
        array_replica_fini(&ours);
        array_replica_fini(&theirs);
    }
}

#define BOTH(test) cmocka_unit_test_prestate(test, &encodings[0]), cmocka_unit_test_prestate(test, &encodings[1])

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(chunks_have_at_most_a_thousand_values),
        cmocka_unit_test(a_node_with_its_own_records_is_filled_like_an_empty_one),
        cmocka_unit_test(long_keys_make_shorter_chunks),
        BOTH(a_part_too_large_to_remember_is_answered_by_a_fingerprint),
        BOTH(the_next_chunk_is_asked_for_before_this_one_is_checked),
        cmocka_unit_test(known_values_are_not_verified_again),
        cmocka_unit_test(an_upstream_peer_is_filled_in_chunks),
        cmocka_unit_test(an_upstream_peer_fills_us),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
