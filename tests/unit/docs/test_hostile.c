/* A session against messages made up by the test: entries and ranges that a peer should not send, too many of them, our
 * own store failing, and deletions that must stick. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fixture/docs_world.h"

static const struct docs_config *config(void)
{
    static struct docs_config config;
    config = docs_config_default(1);
    return &config;
}

/* --- Messages of our own making --- */

static uint8_t low_id[ENTRY_ID_MIN], high_id[ENTRY_ID_MIN];

static struct docs_range everything_by_bounds(void)
{
    memset(high_id, 0xff, sizeof high_id);
    return (struct docs_range){slice_of(low_id, sizeof low_id), slice_of(high_id, sizeof high_id)};
}

static struct docs_range own_range(uint8_t x[ENTRY_ID_MIN], uint8_t from, uint8_t y[ENTRY_ID_MIN], uint8_t to)
{
    memcpy(x, world_namespace.bytes, ID_BYTES);
    memcpy(y, world_namespace.bytes, ID_BYTES);
    memset(x + ID_BYTES, from, ID_BYTES);
    memset(y + ID_BYTES, to, ID_BYTES);
    return (struct docs_range){slice_of(x, ENTRY_ID_MIN), slice_of(y, ENTRY_ID_MIN)};
}

struct writer {
    struct buf parts;
    uint32_t count;
};

static void write_fingerprint(struct writer *w, struct docs_range range, uint8_t byte)
{
    struct fingerprint fp;
    memset(fp.bytes, byte, ID_BYTES);
    assert_int_equal(buf_append_byte(&w->parts, DOCS_PART_FINGERPRINT), HKV_OK);
    assert_int_equal(postcard_write_bytes(&w->parts, range.x), HKV_OK);
    assert_int_equal(postcard_write_bytes(&w->parts, range.y), HKV_OK);
    assert_int_equal(buf_append(&w->parts, fp.bytes, ID_BYTES), HKV_OK);
    w->count++;
}

static void write_item(struct writer *w, struct docs_range range, const struct entry *values, size_t count,
                       bool have_local)
{
    assert_int_equal(buf_append_byte(&w->parts, DOCS_PART_ITEM), HKV_OK);
    assert_int_equal(postcard_write_bytes(&w->parts, range.x), HKV_OK);
    assert_int_equal(postcard_write_bytes(&w->parts, range.y), HKV_OK);
    assert_int_equal(postcard_write_varint(&w->parts, count), HKV_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(entry_encode(&values[i], &w->parts), HKV_OK);
        assert_int_equal(buf_append_byte(&w->parts, 0), HKV_OK);
    }
    assert_int_equal(postcard_write_bool(&w->parts, have_local), HKV_OK);
    w->count++;
}

/* Sends what was written as a Sync, or as the Init of an acceptor's session, and lets the peer work. */
static void send_parts(struct world_peer *p, struct writer *w)
{
    struct buf frame = {0};
    if (p->session.state == DOCS_WAIT_INIT)
        assert_int_equal(docs_write_init(&frame, &p->replica->namespace, w->count, buf_slice(&w->parts)), HKV_OK);
    else
        assert_int_equal(docs_write_sync(&frame, w->count, buf_slice(&w->parts)), HKV_OK);
    world_peer_feed(p, buf_slice(&frame), false);
    world_peer_settle(p);
    buf_fini(&frame);
    buf_fini(&w->parts);
    w->count = 0;
}

static void fill(struct array_replica *a, size_t count)
{
    array_replica_init(a);
    for (size_t i = 0; i < count; i++) {
        char key[32];
        int len = snprintf(key, sizeof key, "key-%06zu.", i);
        struct entry e = world_entry(1, slice_of(key, (size_t)len), 5, 3);
        assert_int_equal(array_replica_put(a, &e), DOCS_INSERTED);
    }
}

static void start(struct world_peer *p, enum docs_role role, struct array_replica *a)
{
    world_peer_init(p, role, a, config());
    world_peer_settle(p);
    buf_clear(&p->outbox);
}

static void bounds_outside_of_the_namespace_show_only_ours(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    struct writer w = {0};
    fill(&a, 3);
    start(&p, DOCS_ACCEPTOR, &a);
    write_item(&w, everything_by_bounds(), NULL, 0, false);
    send_parts(&p, &w);
    struct world_trace trace;
    world_trace_read(buf_slice(&p.log), &trace);
    assert_string_equal(trace.text, "[I3+]");
    world_peer_fini(&p);
    array_replica_fini(&a);
}

/* One entry, of author 5, and a fingerprint that differs over a range of authors (wire/docs.md 12.9). */
static void ranges_at_their_boundaries_hold_what_they_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t from, to;
        const char *answer;
    } cases[] = {
        {"wraps, the only entry below its end", 9, 7, "[F] [I1-]"},
        {"wraps, the only entry at its start", 5, 3, "[F] [I1-]"},
        {"wraps, the only entry in the gap", 9, 5, "[F] [I0-]"},
        {"all, named by an id that is not there", 9, 9, "[F] [I1-]"},
        {"ends where the only entry begins", 3, 5, "[F] [I0-]"},
        {"begins where the only entry does", 5, 6, "[F] [I1-]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct array_replica a;
        struct world_peer p;
        struct writer w = {0};
        struct world_trace trace;
        uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
        struct entry e = world_entry(5, slice_of_text(""), 5, 3);
        array_replica_init(&a);
        assert_int_equal(array_replica_put(&a, &e), DOCS_INSERTED);
        start(&p, DOCS_DIALLER, &a);
        write_fingerprint(&w, own_range(x, cases[i].from, y, cases[i].to), 1);
        send_parts(&p, &w);
        world_trace_read(buf_slice(&p.log), &trace);
        print_message("%s\n", cases[i].name);
        assert_string_equal(trace.text, cases[i].answer);
        world_peer_fini(&p);
        array_replica_fini(&a);
    }
}

/* Nothing follows the namespace ff..ff, its author ff..ff and that one's keys of ff. */
static void the_last_ids_there_are_come_over(void **state)
{
    (void)state;
    static const char *const keys[] = {"", "a", "\xff", "\xff\xff"};
    for (int i = 0; i < 4; i++) {
        struct docs_config c = docs_config_default(1);
        struct array_replica full, empty;
        docs_config_set_encoding(&c, i % 2 == 0 ? DOCS_ENCODING_IROH : DOCS_ENCODING_COMPACT);
        array_replica_init(&full);
        array_replica_init(&empty);
        memset(full.namespace.bytes, 0xff, ID_BYTES);
        empty.namespace = full.namespace;
        for (size_t k = 0; k < 8; k++) {
            struct entry e = world_entry(k < 4 ? 0 : 0xff, slice_of_text(keys[k % 4]), 5 + k % 4, 3);
            e.namespace = full.namespace;
            world_sign(&e);
            assert_int_equal(array_replica_put(&full, &e), DOCS_INSERTED);
        }
        struct world_options options = {0};
        assert_true(i < 2 ? world_sync(&full, &empty, &c, &options, NULL)
                          : world_sync(&empty, &full, &c, &options, NULL));
        assert_int_equal(empty.count, 8);
        assert_true(array_replica_equal(&full, &empty));
        array_replica_fini(&full);
        array_replica_fini(&empty);
    }
}

static void entries_outside_of_their_range_are_taken(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    struct writer w = {0};
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    struct entry e = world_entry(200, slice_of_text("k"), 5, 3);
    fill(&a, 3);
    start(&p, DOCS_DIALLER, &a);
    write_item(&w, own_range(x, 0, y, 7), &e, 1, false);
    send_parts(&p, &w);
    assert_non_null(array_replica_find(&a, 200, "k"));
    struct world_trace trace;
    world_trace_read(buf_slice(&p.log), &trace);
    assert_string_equal(trace.text, "[F] [I3+]");
    world_peer_fini(&p);
    array_replica_fini(&a);
}

/* The fingerprint stands before the entry that makes it true. */
static void items_are_stored_before_fingerprints_are_compared(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    struct writer w = {0};
    struct docs_summary sum = {.count = 1};
    struct fingerprint fp;
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    struct entry e = world_entry(1, slice_of_text("k"), 5, 3);
    array_replica_init(&a);
    start(&p, DOCS_ACCEPTOR, &a);
    write_fingerprint(&w, own_range(x, 0, y, 7), 0);
    entry_fingerprint(&e, &sum.xored);
    docs_summary_fingerprint(&sum, &fp);
    memcpy(w.parts.data + w.parts.len - ID_BYTES, fp.bytes, ID_BYTES);
    write_item(&w, own_range(x, 0, y, 7), &e, 1, true);
    send_parts(&p, &w);
    assert_int_equal(p.session.outcome.inserted, 1);
    assert_true(p.finished && p.log.len == 0);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

/* What becomes of a single received entry. */
static void only_valid_entries_are_stored(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int kind;
        bool stored;
        uint64_t refused, future;
    } cases[] = {
        {"valid", 0, true, 0, 0},
        {"another namespace", 1, false, 1, 0},
        {"empty hash with a length", 2, false, 1, 0},
        {"length 0 with a hash", 3, false, 1, 0},
        {"author signature", 4, false, 1, 0},
        {"namespace signature", 5, false, 1, 0},
        {"exactly ten minutes ahead", 6, true, 0, 0},
        {"more than ten minutes ahead", 7, false, 1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct array_replica a;
        struct world_peer p;
        struct writer w = {0};
        uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
        array_replica_init(&a);
        struct entry e = world_entry(3, slice_of_text("k"), 5, 3);
        if (cases[i].kind == 1) e.namespace.bytes[31] = 1;
        if (cases[i].kind == 2) e.record.hash = hash_empty;
        if (cases[i].kind == 3) e.record.length_bytes = 0;
        if (cases[i].kind == 6) e.record.stamp_us = a.now_us + 600000000;
        if (cases[i].kind == 7) e.record.stamp_us = a.now_us + 600000001;
        world_sign(&e);
        if (cases[i].kind == 4) e.author_signature.bytes[63] ^= 1;
        if (cases[i].kind == 5) e.namespace_signature.bytes[0] ^= 1;
        start(&p, DOCS_DIALLER, &a);
        write_item(&w, own_range(x, 0, y, 7), &e, 1, true);
        send_parts(&p, &w);
        print_message("%s\n", cases[i].name);
        assert_int_equal(array_replica_find(&a, 3, "k") != NULL, cases[i].stored);
        assert_int_equal(p.session.outcome.refused, cases[i].refused);
        assert_int_equal(p.session.outcome.future, cases[i].future);
        assert_int_equal(p.session.outcome.inserted, cases[i].stored ? 1 : 0);
        assert_int_equal(p.reconcile.heads.count, cases[i].stored ? 1 : 0);
        assert_int_equal(p.session.outcome.err, HKV_OK);
        world_peer_fini(&p);
        array_replica_fini(&a);
    }
}

static void a_hundred_bad_entries_end_the_session(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        for (size_t count = 99; count <= 100; count++) {
            struct array_replica a;
            struct world_peer p;
            struct writer w = {0};
            struct entry values[100];
            char keys[100][8];
            uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
            array_replica_init(&a);
            for (size_t i = 0; i < count; i++) {
                snprintf(keys[i], sizeof keys[i], "k%02zu.", i);
                values[i] = world_entry(1, slice_of_text(keys[i]), kind == 0 ? 5 : UINT64_MAX, 3);
                if (kind == 0) values[i].author_signature.bytes[0] ^= 1;
            }
            start(&p, DOCS_DIALLER, &a);
            write_item(&w, own_range(x, 0, y, 7), values, count, true);
            send_parts(&p, &w);
            enum hkv_err want = count < 100 ? HKV_OK : kind == 0 ? HKV_E_PEER_PROTOCOL : HKV_E_CLOCK;
            assert_int_equal(p.session.outcome.err, want);
            assert_int_equal(p.session.outcome.refused, count);
            assert_int_equal(a.count, 0);
            world_peer_fini(&p);
            array_replica_fini(&a);
        }
    }
}

static void thousands_of_parts_cost_a_query_each_and_one_frame(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    struct writer w = {0};
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    fill(&a, 2000);
    start(&p, DOCS_ACCEPTOR, &a);
    for (int i = 0; i < DOCS_FRAME_PARTS_MAX; i++) write_fingerprint(&w, own_range(x, 0, y, 7), (uint8_t)(i | 1));
    send_parts(&p, &w);
    struct world_trace trace;
    world_trace_read(buf_slice(&p.log), &trace);
    assert_int_equal(p.session.outcome.err, HKV_OK);
    assert_int_equal(trace.frames, 1);
    assert_true(trace.parts_max <= 256);
    assert_true(a.query_count < 2 * DOCS_FRAME_PARTS_MAX);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

/* A large item against a large range of ours: each entry is looked at once. */
static void a_large_item_is_not_compared_pair_by_pair(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    struct writer w = {0};
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    fill(&a, 2000);
    struct entry *values = calloc(a.count, sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < a.count; i++) values[i] = a.rows[i].entry;
    start(&p, DOCS_DIALLER, &a);
    write_item(&w, own_range(x, 0, y, 7), values, a.count - 1, false);
    send_parts(&p, &w);
    struct world_trace trace;
    world_trace_read(buf_slice(&p.log), &trace);
    assert_string_equal(trace.text, "[F] [I1+]");
    assert_true(a.scanned <= a.count + 10);
    free(values);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

static void a_peer_that_never_ends_is_dropped(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    fill(&a, 1000);
    start(&p, DOCS_DIALLER, &a);
    int frames = 0;
    for (; !p.ended && frames < 1000; frames++) {
        struct writer w = {0};
        write_fingerprint(&w, own_range(x, 0, y, 7), (uint8_t)(frames | 1));
        send_parts(&p, &w);
    }
    assert_int_equal(p.session.outcome.err, HKV_E_PEER_PROTOCOL);
    assert_in_range(frames, 50, DOCS_IDLE_FRAMES_MAX + 4 * 10 + 2);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

static void a_peer_that_asks_for_everything_again_and_again_is_dropped(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    fill(&a, 900);
    start(&p, DOCS_DIALLER, &a);
    int frames = 0;
    for (; !p.ended && frames < 1000; frames++) {
        struct writer w = {0};
        write_item(&w, own_range(x, 0, y, 7), NULL, 0, false);
        send_parts(&p, &w);
    }
    assert_int_equal(p.session.outcome.err, HKV_E_PEER_PROTOCOL);
    assert_true(p.session.outcome.sent <= 2 * 900 + DOCS_REPEATED_VALUES_MAX + 900);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

static void a_peer_that_sends_the_same_again_and_again_is_dropped(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    fill(&a, 900);
    struct entry *values = calloc(a.count, sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < a.count; i++) values[i] = a.rows[i].entry;
    start(&p, DOCS_DIALLER, &a);
    int frames = 0;
    for (; !p.ended && frames < 1000; frames++) {
        struct writer w = {0};
        write_item(&w, own_range(x, 0, y, 7), values, a.count, true);
        write_fingerprint(&w, own_range(x, 0, y, 7), 1);
        send_parts(&p, &w);
    }
    assert_int_equal(p.session.outcome.err, HKV_E_PEER_PROTOCOL);
    assert_true(frames < 20);
    free(values);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

/* Decoding stops when the batches it made are not worked off: what a peer can make us hold is bounded. */
static void a_long_frame_waits_in_the_stream_not_in_memory(void **state)
{
    (void)state;
    enum { VALUES = 3000 };
    struct array_replica a;
    struct world_peer p;
    struct buf frame = {0};
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    struct writer w = {0};
    fill(&a, VALUES);
    struct entry *values = calloc(VALUES, sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < VALUES; i++) values[i] = a.rows[i].entry;
    write_item(&w, own_range(x, 0, y, 7), values, VALUES, true);
    assert_int_equal(docs_write_sync(&frame, w.count, buf_slice(&w.parts)), HKV_OK);
    struct array_replica empty;
    array_replica_init(&empty);
    world_peer_init(&p, DOCS_DIALLER, &empty, config());
    world_peer_settle(&p);
    size_t fed = 0, allowed = 65536, most = 0;
    while (fed < frame.len) {
        size_t len = allowed < frame.len - fed ? allowed : frame.len - fed;
        assert_true(p.session.batch_count <= DOCS_BATCHES_MAX);
        if (len == 0) { /* it stands still until somebody works */
            assert_true(world_peer_work(&p, NULL));
        } else {
            world_peer_feed(&p, slice_of(frame.data + fed, len), false);
            fed += len;
            allowed -= len;
        }
        allowed += docs_session_consumed(&p.session);
        if (p.session.decoder.in.len > most) most = p.session.decoder.in.len;
    }
    world_peer_settle(&p);
    assert_true(most <= 65536);
    assert_int_equal(empty.count, VALUES);
    assert_int_equal(p.session.outcome.inserted, VALUES);
    buf_fini(&frame);
    buf_fini(&w.parts);
    free(values);
    world_peer_fini(&p);
    array_replica_fini(&a);
    array_replica_fini(&empty);
}

/* A stored parent that beats a received child goes back to the peer: alone when it wants nothing else, once when it is
 * among the values of the reply anyway. */
static void the_parent_of_a_stale_child_is_sent_once(void **state)
{
    (void)state;
    static const struct {
        bool have_local;
        const char *answer;
    } cases[] = {{true, "[F] [I1+]"}, {false, "[F] [I1+]"}};
    for (size_t i = 0; i < 2; i++) {
        struct array_replica a;
        struct world_peer p;
        struct writer w = {0};
        struct world_trace trace;
        uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
        array_replica_init(&a);
        struct entry parent = world_entry(1, slice_of_text("foo"), 10, 0);
        struct entry children[2] = {world_entry(1, slice_of_text("fool"), 5, 1),
                                    world_entry(1, slice_of_text("foot"), 6, 1)};
        assert_int_equal(array_replica_put(&a, &parent), DOCS_INSERTED);
        start(&p, DOCS_DIALLER, &a);
        write_item(&w, own_range(x, 0, y, 7), children, 2, cases[i].have_local);
        send_parts(&p, &w);
        world_trace_read(buf_slice(&p.log), &trace);
        assert_string_equal(trace.text, cases[i].answer);
        assert_int_equal(p.session.outcome.refused, 0);
        world_peer_fini(&p);
        array_replica_fini(&a);
    }
}

/* Complete for a value that is here, Missing for one that isn't, and for every tombstone. */
static void a_value_says_whether_its_content_is_here(void **state)
{
    (void)state;
    static const struct {
        uint8_t content, status;
    } cases[] = {{3, 0}, {4, 2}, {0, 2}};
    for (size_t i = 0; i < 3; i++) {
        struct array_replica a;
        struct world_peer p;
        struct writer w = {0};
        uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
        array_replica_init(&a);
        a.content_limit = cases[i].content == 0 ? 256 : 4;
        struct entry e = world_entry(1, slice_of_text("k"), 10, cases[i].content);
        assert_int_equal(array_replica_put(&a, &e), DOCS_INSERTED);
        start(&p, DOCS_DIALLER, &a);
        write_item(&w, own_range(x, 0, y, 7), NULL, 0, false);
        send_parts(&p, &w);
        assert_true(p.outbox.len > 2);
        assert_int_equal(p.outbox.data[p.outbox.len - 2], cases[i].status);
        world_peer_fini(&p);
        array_replica_fini(&a);
    }
}

/* Upstream sends all that it has in one frame; when a newer parent of ours beats it all, that is news to the peer and
 * no offence. */
static void thousands_of_stale_children_are_answered_by_their_parent(void **state)
{
    (void)state;
    enum { CHILDREN = DOCS_REPEATED_VALUES_MAX + 2000 };
    struct array_replica a;
    struct world_peer p;
    struct writer w = {0};
    struct world_trace trace;
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    struct entry *children = calloc(CHILDREN, sizeof *children);
    char(*keys)[8] = calloc(CHILDREN, sizeof *keys);
    assert_true(children != NULL && keys != NULL);
    for (size_t i = 0; i < CHILDREN; i++) {
        snprintf(keys[i], sizeof keys[i], "%05zu.", i);
        children[i] = world_entry(1, slice_of_text(keys[i]), 5, 1);
    }
    struct entry parent = world_entry(1, slice_of_text(""), 10, 0);
    array_replica_init(&a);
    assert_int_equal(array_replica_put(&a, &parent), DOCS_INSERTED);
    start(&p, DOCS_DIALLER, &a);
    write_item(&w, own_range(x, 0, y, 7), children, CHILDREN, true);
    send_parts(&p, &w);
    world_trace_read(buf_slice(&p.log), &trace);
    assert_string_equal(trace.text, "[F] [I1+]");
    assert_int_equal(p.session.outcome.err, HKV_OK);
    free(keys);
    free(children);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

/* --- Our own troubles --- */

static void a_failing_store_ends_the_session_with_its_error(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    struct writer w = {0};
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    fill(&a, 10);
    start(&p, DOCS_DIALLER, &a);
    a.fail_with = HKV_E_DISK;
    write_fingerprint(&w, own_range(x, 0, y, 7), 1);
    send_parts(&p, &w);
    assert_true(p.ended && !p.finished);
    assert_int_equal(p.session.outcome.err, HKV_E_DISK);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

static void batches_come_back_after_the_end(void **state)
{
    (void)state;
    struct array_replica a, b;
    struct world_peer p;
    struct writer w = {0};
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    struct buf frame = {0};
    fill(&b, 1000);
    array_replica_init(&a);
    start(&p, DOCS_DIALLER, &a);
    struct entry *values = calloc(b.count, sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < b.count; i++) values[i] = b.rows[i].entry;
    write_item(&w, own_range(x, 0, y, 7), values, b.count, true);
    assert_int_equal(docs_write_sync(&frame, w.count, buf_slice(&w.parts)), HKV_OK);
    world_peer_feed(&p, buf_slice(&frame), false);
    assert_true(world_peer_work(&p, NULL)); /* the first batch is verified and goes to the replica */
    assert_true(docs_session_is_busy(&p.session));
    docs_session_fail(&p.session, error_set(HKV_E_PEER_LOST, "the peer is gone"));
    world_peer_pump(&p);
    assert_true(p.ended && docs_session_is_busy(&p.session));
    world_peer_settle(&p);
    assert_false(docs_session_is_busy(&p.session));
    assert_int_equal(p.session.outcome.err, HKV_E_PEER_LOST);
    assert_string_equal(p.session.outcome.why.text, "the peer is gone");
    buf_fini(&frame);
    buf_fini(&w.parts);
    free(values);
    world_peer_fini(&p);
    array_replica_fini(&a);
    array_replica_fini(&b);
}

/* --- Deletions --- */

static const struct deletion {
    const char *name;
    struct {
        const char *key;
        uint64_t stamp;
        uint8_t content;
    } a[4], b[4], both[4];
} deletions[] = {
    {"a newer tombstone of the key", {{"k", 10, 0}}, {{"k", 5, 1}}, {{"k", 10, 0}}},
    {"a newer tombstone of a prefix",
     {{"fog", 1, 1}, {"foo", 10, 0}},
     {{"fog", 1, 1}, {"fool", 5, 1}, {"foot", 6, 1}, {"fooz", 11, 1}},
     {{"fog", 1, 1}, {"foo", 10, 0}, {"fooz", 11, 1}}},
    {"a newer value of the empty key", {{"", 10, 2}}, {{"a", 5, 1}, {"b", 11, 1}}, {{"", 10, 2}, {"b", 11, 1}}},
};

static void deletions_stick_in_either_direction(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * sizeof deletions / sizeof deletions[0]; i++) {
        const struct deletion *d = &deletions[i / 2];
        struct array_replica a, b, both;
        struct world_options options = {0};
        array_replica_init(&a);
        array_replica_init(&b);
        array_replica_init(&both);
        for (int k = 0; k < 4; k++) {
            struct entry e;
            if (d->a[k].key != NULL)
                e = world_entry(1, slice_of_text(d->a[k].key), d->a[k].stamp, d->a[k].content),
                array_replica_put(&a, &e);
            if (d->b[k].key != NULL)
                e = world_entry(1, slice_of_text(d->b[k].key), d->b[k].stamp, d->b[k].content),
                array_replica_put(&b, &e);
            if (d->both[k].key != NULL)
                e = world_entry(1, slice_of_text(d->both[k].key), d->both[k].stamp, d->both[k].content),
                array_replica_put(&both, &e);
        }
        print_message("%s\n", d->name);
        assert_true(i % 2 == 0 ? world_sync(&a, &b, config(), &options, NULL)
                               : world_sync(&b, &a, config(), &options, NULL));
        assert_true(array_replica_equal(&a, &both));
        assert_true(array_replica_equal(&b, &both));
        array_replica_fini(&a);
        array_replica_fini(&b);
        array_replica_fini(&both);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_outside_of_the_namespace_show_only_ours),
        cmocka_unit_test(ranges_at_their_boundaries_hold_what_they_name),
        cmocka_unit_test(the_last_ids_there_are_come_over),
        cmocka_unit_test(entries_outside_of_their_range_are_taken),
        cmocka_unit_test(items_are_stored_before_fingerprints_are_compared),
        cmocka_unit_test(only_valid_entries_are_stored),
        cmocka_unit_test(a_hundred_bad_entries_end_the_session),
        cmocka_unit_test(thousands_of_parts_cost_a_query_each_and_one_frame),
        cmocka_unit_test(a_large_item_is_not_compared_pair_by_pair),
        cmocka_unit_test(a_peer_that_never_ends_is_dropped),
        cmocka_unit_test(a_peer_that_asks_for_everything_again_and_again_is_dropped),
        cmocka_unit_test(a_peer_that_sends_the_same_again_and_again_is_dropped),
        cmocka_unit_test(a_long_frame_waits_in_the_stream_not_in_memory),
        cmocka_unit_test(the_parent_of_a_stale_child_is_sent_once),
        cmocka_unit_test(a_value_says_whether_its_content_is_here),
        cmocka_unit_test(thousands_of_stale_children_are_answered_by_their_parent),
        cmocka_unit_test(a_failing_store_ends_the_session_with_its_error),
        cmocka_unit_test(batches_come_back_after_the_end),
        cmocka_unit_test(deletions_stick_in_either_direction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
