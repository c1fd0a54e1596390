/* One side of a session against bytes written by hand: iroh-docs' frames, and peers that break the rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fixture/docs_world.h"

/* --- Frames of iroh-docs --- */

#define AUTHOR_HEX    "bc7cbcb5636375fa1d82434d466724d92377f53b980695dd49d26d0ce12205a5"
#define NAMESPACE_HEX "55154f42065ea5a1bea05463826be2684eb92df92c100027aabaae57ca554207"
#define EMPTY_HEX     "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
#define ID_HEX        NAMESPACE_HEX AUTHOR_HEX "776972652d666f726d61742d74657374"
#define FP_HEX        "2d70753f09c0231692888772de0e777e971f4b046cf1b6b45b4d5a4aa647489e"
#define ZEROS_HEX                                                                                                      \
    "0000000000000000000000000000000000000000000000000000000000000000"                                                 \
    "0000000000000000000000000000000000000000000000000000000000000000"
#define ENTRY_HEX                                                                                                      \
    "4b523f1b6d9b00a4779fc9f8f105a9e36f062ceb7d511b632905782042ad30ac"                                                 \
    "b6dd07bfced4ecd5f3aa58321e8ace63f48f988ed8461bfdcd8b0e902187a10e"                                                 \
    "228ddc6998329b7faa64875fe80da36406ea8d87e3e57bb048323e9cb66c0b34"                                                 \
    "3b60c4e709fb978b878e37d0c362edfc06c8cdc774c8b29d94e48eaa06cca60f"                                                 \
    "50" ID_HEX "00" EMPTY_HEX "8080f9c0c1c48203"

#define INIT_OF_EMPTY                                                                                                  \
    "000000c5"                                                                                                         \
    "00" NAMESPACE_HEX "01"                                                                                            \
    "00"                                                                                                               \
    "40" ZEROS_HEX "40" ZEROS_HEX EMPTY_HEX
#define INIT_OF_ONE                                                                                                    \
    "000000e5"                                                                                                         \
    "00" NAMESPACE_HEX "01"                                                                                            \
    "00"                                                                                                               \
    "50" ID_HEX "50" ID_HEX FP_HEX
#define PULL_OF_EMPTY                                                                                                  \
    "000000a7"                                                                                                         \
    "01"                                                                                                               \
    "01"                                                                                                               \
    "01"                                                                                                               \
    "50" ID_HEX "50" ID_HEX "00"                                                                                       \
    "00"
#define VALUE_OF_ONE                                                                                                   \
    "000001a2"                                                                                                         \
    "01"                                                                                                               \
    "01"                                                                                                               \
    "01"                                                                                                               \
    "50" ID_HEX "50" ID_HEX "01" ENTRY_HEX "02"                                                                        \
    "01"

static struct buf unhex(const char *hex)
{
    struct buf out = {0};
    for (; hex[0] != '\0'; hex += 2) {
        char digits[3] = {hex[0], hex[1], '\0'};
        assert_int_equal(buf_append_byte(&out, (uint8_t)strtoul(digits, NULL, 16)), HKV_OK);
    }
    return out;
}

static void feed_hex(struct world_peer *p, const char *hex)
{
    struct buf bytes = unhex(hex);
    world_peer_feed(p, buf_slice(&bytes), false);
    world_peer_settle(p);
    buf_fini(&bytes);
}

/* Asserts what the peer has sent since the last time, and takes it. */
static void assert_sent(struct world_peer *p, const char *hex)
{
    struct buf want = unhex(hex);
    assert_int_equal(p->outbox.len, want.len);
    if (want.len > 0) assert_memory_equal(p->outbox.data, want.data, want.len);
    buf_clear(&p->outbox);
    buf_fini(&want);
}

/* A replica of the vectors' namespace, holding the vectors' entry or nothing. */
static void vector_replica(struct array_replica *a, bool has_entry)
{
    struct buf wire = unhex(ENTRY_HEX);
    struct postcard_reader r = postcard_reader_of(buf_slice(&wire));
    struct entry e;
    array_replica_init(a);
    assert_int_equal(entry_decode(&r, &e), HKV_OK);
    a->namespace = e.namespace;
    a->now_us = e.record.stamp_us;
    if (has_entry) assert_int_equal(array_replica_put(a, &e), DOCS_INSERTED);
    buf_fini(&wire);
}

static const struct docs_config *config(void)
{
    static struct docs_config config;
    config = docs_config_default(1);
    return &config;
}

static void the_first_frame_of_an_empty_replica_is_upstreams(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    vector_replica(&a, false);
    world_peer_init(&p, DOCS_DIALLER, &a, config());
    world_peer_settle(&p);
    assert_sent(&p, INIT_OF_EMPTY);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

static void a_dialler_with_one_entry_speaks_as_upstream_does(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    vector_replica(&a, true);
    world_peer_init(&p, DOCS_DIALLER, &a, config());
    world_peer_settle(&p);
    assert_sent(&p, INIT_OF_ONE);
    feed_hex(&p, PULL_OF_EMPTY);
    assert_sent(&p, VALUE_OF_ONE);
    world_peer_feed(&p, (struct slice){0}, true);
    assert_true(p.finished && p.ended);
    assert_int_equal(p.session.outcome.err, HKV_OK);
    assert_int_equal(p.session.outcome.sent, 1);
    assert_false(p.session.outcome.is_confirmed);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

static void an_acceptor_answers_as_upstream_does(void **state)
{
    (void)state;
    static const struct {
        const char *init, *answer;
        bool has_entry;
    } cases[] = {
        {INIT_OF_ONE, PULL_OF_EMPTY, false},
        {INIT_OF_EMPTY, "", false},
        {INIT_OF_ONE, "", true},
    };
    for (size_t i = 0; i < 3; i++) {
        struct array_replica a;
        struct world_peer p;
        vector_replica(&a, cases[i].has_entry);
        world_peer_init(&p, DOCS_ACCEPTOR, &a, config());
        feed_hex(&p, cases[i].init);
        assert_sent(&p, cases[i].answer);
        assert_int_equal(p.finished, cases[i].answer[0] == '\0');
        world_peer_feed(&p, (struct slice){0}, true);
        assert_true(p.ended);
        assert_int_equal(p.session.outcome.err, HKV_OK);
        assert_int_equal(p.session.outcome.is_confirmed, cases[i].answer[0] == '\0');
        world_peer_fini(&p);
        array_replica_fini(&a);
    }
}

static void a_refusal_is_an_abort(void **state)
{
    (void)state;
    static const char *const aborts[] = {"000000020200", "000000020201", "000000020202"};
    for (int reason = 0; reason < 3; reason++) {
        struct array_replica a;
        struct world_peer bob, alice;
        vector_replica(&a, false);
        world_peer_init(&bob, DOCS_ACCEPTOR, &a, config());
        bob.refuse = reason;
        feed_hex(&bob, INIT_OF_ONE);
        assert_sent(&bob, aborts[reason]);
        assert_true(bob.finished && !bob.ended);
        feed_hex(&bob, "0000"); /* the dialler may still be sending */
        world_peer_feed(&bob, (struct slice){0}, true);
        assert_true(bob.ended);

        world_peer_init(&alice, DOCS_DIALLER, &a, config());
        world_peer_settle(&alice);
        feed_hex(&alice, aborts[reason]);
        assert_true(alice.finished && !alice.ended);
        world_peer_feed(&alice, (struct slice){0}, true);
        assert_true(alice.ended);

        struct world_peer *both[2] = {&alice, &bob};
        for (int i = 0; i < 2; i++) {
            assert_int_equal(both[i]->session.outcome.err, HKV_E_PEER_REFUSED);
            assert_true(both[i]->session.outcome.is_aborted && !both[i]->session.outcome.is_confirmed);
            assert_int_equal(both[i]->session.outcome.abort_reason, reason);
            world_peer_fini(both[i]);
        }
        array_replica_fini(&a);
    }
}

/* --- Peers that break the rules --- */

#define NS  NAMESPACE_HEX
#define ID0 "40" ZEROS_HEX

static const struct breach {
    const char *name, *bytes;
    bool to_dialler;
    bool fin;
} breaches[] = {
    {"Sync before Init",
     "00000002"
     "0100",
     false, false},
    {"Abort from the dialler",
     "00000002"
     "0200",
     false, false},
    {"a second Init",
     INIT_OF_ONE "00000022"
                 "00" NS "00",
     false, false},
    {"Init to the dialler",
     "00000022"
     "00" NS "00",
     true, false},
    {"a frame of no bytes", "00000000", false, false},
    {"a frame above 2^30",
     "40000001"
     "00",
     false, false},
    {"an unknown message",
     "00000002"
     "0300",
     false, false},
    {"an unknown abort reason",
     "00000002"
     "0203",
     true, false},
    {"an unknown part",
     "00000023"
     "00" NS "01"
     "02",
     false, false},
    {"a frame that ends too early",
     "00000022"
     "00" NS "01"
     "0000",
     false, false},
    {"4097 parts",
     "00100024"
     "00" NS "8120"
     "00",
     false, false},
    {"more parts than bytes",
     "000000c5"
     "00" NS "20"
     "00" ID0 ID0,
     false, false},
    {"a bound of 63 bytes",
     "000000c5"
     "00" NS "01"
     "00"
     "3f" ZEROS_HEX ID0,
     false, false},
    {"a bound above the longest key",
     "000100c5"
     "00" NS "01"
     "00"
     "c18004" ZEROS_HEX,
     false, false},
    {"more entries than bytes",
     "00000400"
     "00" NS "01"
     "01" ID0 ID0 "05" ENTRY_HEX,
     false, false},
    {"an entry count of 2^64 - 1",
     "000000c5"
     "00" NS "01"
     "01" ID0 ID0 "ffffffffffffffffff01",
     false, false},
    {"a have_local of 2",
     "000000a8"
     "01"
     "01"
     "01" ID0 ID0 "00"
     "02" ZEROS_HEX,
     true, false},
    {"a content status of 3",
     "000001a2"
     "01"
     "01"
     "01"
     "50" ID_HEX "50" ID_HEX "01" ENTRY_HEX "03"
     "01",
     true, false},
    {"the end before Init", "", false, true},
    {"the end inside a frame",
     "000000c5"
     "00" NS,
     false, true},
    {"the end before its answer", INIT_OF_ONE, false, true},
    {"more after the end", INIT_OF_EMPTY "00", false, false},
    {"another frame after the end",
     INIT_OF_EMPTY "00000002"
                   "0100",
     false, false},
};

static void a_peer_that_breaks_the_protocol_is_dropped(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof breaches / sizeof breaches[0]; i++) {
        const struct breach *breach = &breaches[i];
        struct array_replica a;
        struct world_peer p;
        vector_replica(&a, false);
        world_peer_init(&p, breach->to_dialler ? DOCS_DIALLER : DOCS_ACCEPTOR, &a, config());
        world_peer_settle(&p);
        print_message("%s\n", breach->name);
        struct buf bytes = unhex(breach->bytes);
        world_peer_feed(&p, buf_slice(&bytes), breach->fin);
        world_peer_settle(&p);
        assert_true(p.ended);
        assert_int_equal(p.session.outcome.err, HKV_E_PEER_PROTOCOL);
        assert_true(p.session.outcome.why.text[0] != '\0');
        assert_false(p.session.outcome.is_confirmed);
        buf_fini(&bytes);
        world_peer_fini(&p);
        array_replica_fini(&a);
    }
}

static void an_id_of_63_bytes_in_an_entry_is_dropped(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    vector_replica(&a, false);
    world_peer_init(&p, DOCS_DIALLER, &a, config());
    world_peer_settle(&p);
    struct buf bytes = unhex(VALUE_OF_ONE);
    bytes.data[4 + 3 + 2 * 81 + 1 + 2 * SIGNATURE_BYTES] = 0x3f;
    world_peer_feed(&p, buf_slice(&bytes), false);
    assert_int_equal(p.session.outcome.err, HKV_E_PEER_PROTOCOL);
    buf_fini(&bytes);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

static void bytes_without_meaning_at_a_frames_end_are_skipped(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    vector_replica(&a, false);
    world_peer_init(&p, DOCS_ACCEPTOR, &a, config());
    struct buf bytes = unhex(INIT_OF_EMPTY "eeee");
    bytes.data[3] += 2;
    for (size_t i = 0; i < bytes.len; i++) {
        world_peer_feed(&p, slice_of(bytes.data + i, 1), i + 1 == bytes.len);
        world_peer_settle(&p);
    }
    assert_true(p.ended);
    assert_int_equal(p.session.outcome.err, HKV_OK);
    assert_int_equal(docs_session_consumed(&p.session), bytes.len);
    buf_fini(&bytes);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

/* The session has ended by an empty Sync whose last byte is still to come; with that comes an Abort. */
static void an_abort_after_the_end_is_a_breach(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    vector_replica(&a, false);
    world_peer_init(&p, DOCS_DIALLER, &a, config());
    world_peer_settle(&p);
    feed_hex(&p, "000000030100");
    assert_true(p.finished && !p.ended);
    feed_hex(&p, "ee000000020202");
    assert_true(p.ended);
    assert_int_equal(p.session.outcome.err, HKV_E_PEER_PROTOCOL);
    assert_false(p.session.outcome.is_aborted);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_frame_of_an_empty_replica_is_upstreams),
        cmocka_unit_test(a_dialler_with_one_entry_speaks_as_upstream_does),
        cmocka_unit_test(an_acceptor_answers_as_upstream_does),
        cmocka_unit_test(a_refusal_is_an_abort),
        cmocka_unit_test(a_peer_that_breaks_the_protocol_is_dropped),
        cmocka_unit_test(an_id_of_63_bytes_in_an_entry_is_dropped),
        cmocka_unit_test(bytes_without_meaning_at_a_frames_end_are_skipped),
        cmocka_unit_test(an_abort_after_the_end_is_a_breach),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
