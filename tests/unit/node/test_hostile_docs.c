/* Peers that break the rules of a sync session with a whole store, as the one that dials and as the one that is
 * dialled. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "docs/message.h"
#include "node/node.h"
#include "node/sync.h"
#include "unit/node/fixture_raw.h"

#define SECRET_VALUE "nobody else may read this"

struct rig {
    struct node_dir dir[2];
    struct hkv_store *store[2];
    struct raw raw;
    struct raw_signer signer;
};

static void shorten(struct hkv_store *store, void *arg)
{
    (void)arg;
    store->patience.sync_first_byte_us = 300000;
    store->patience.sync_progress_us = 500000;
    store->patience.sync_linger_us = 300000;
}

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    for (int i = 0; i < 2; i++) node_dir_make(&rig->dir[i]);
    raw_open(&rig->raw, 0x51);
    raw_signer_init(&rig->signer, NAMESPACE_SECRET, 0xa7);
    rig->store[0] = node_open(&rig->dir[0], NAMESPACE_SECRET);
    node_on_network(rig->store[0], shorten, NULL);
    node_put(rig->store[0], "mine", SECRET_VALUE);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    raw_close(&rig->raw);
    for (int i = 0; i < 2; i++) {
        hkv_close(rig->store[i]);
        node_dir_remove(&rig->dir[i]);
    }
    free(rig);
    return 0;
}

static void is_well(struct rig *rig)
{
    if (rig->store[1] == NULL) rig->store[1] = node_open(&rig->dir[1], NAMESPACE_SECRET);
    node_put(rig->store[0], "well", "yes");
    node_connect(rig->store[1], rig->store[0]);
    node_await(rig->store[1], "well", "yes");
    node_await_equal(rig->store[0], rig->store[1]);
}

static uint64_t entries_of(struct hkv_store *store)
{
    struct hkv_status status;
    assert_ok(hkv_status(store, &status));
    return status.entries;
}

/* A whole frame around a message. */
static void frame(struct buf *out, struct slice message)
{
    uint8_t length[4];
    be32_store(length, (uint32_t)message.len);
    assert_ok(buf_append(out, length, sizeof length));
    assert_ok(buf_append_slice(out, message));
}

static void init_message(struct rig *rig, struct buf *out)
{
    struct buf part = {0};
    raw_fingerprint_all(&part, &rig->signer.namespace, 0x77);
    assert_ok(docs_write_init(out, &rig->signer.namespace, 1, buf_slice(&part)));
    buf_fini(&part);
}

static void sync_message(struct rig *rig, struct buf *out)
{
    struct buf part = {0};
    raw_fingerprint_all(&part, &rig->signer.namespace, 0x78);
    assert_ok(docs_write_sync(out, 1, buf_slice(&part)));
    buf_fini(&part);
}

/* Sends bytes as one session's first, and waits until the store has ended the connection. */
static struct raw_stream *attack(struct rig *rig, struct buf *bytes, bool fin)
{
    struct raw_conn *c = raw_dial(&rig->raw, rig->store[0], RAW_SYNC);
    struct raw_stream *s = raw_stream(c);
    raw_send_buf(s, bytes);
    if (fin) raw_finish(s);
    raw_until(&rig->raw, raw_conn_is_closed, c, "the store ends the connection");
    return s;
}

static void frames_that_cannot_be_read_end_the_session(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *bytes;
        size_t len;
        bool fin;
    } attacks[] = {
        {"\xff\xff\xff\xff\x00", 5, false},                /* a length beyond all limits */
        {"\x40\x00\x00\x00", 4, false},                    /* the longest one, and nothing of it */
        {"\x00\x00\x00\x00", 4, false},                    /* no bytes */
        {"\x00\x00\x00\x02\x09\x09", 6, false},            /* no such message */
        {"\x00\x00\x00\x02\x02\x00", 6, false},            /* Abort first */
        {"\x00\x00\x00\x02\x01\x00", 6, false},            /* Sync first */
        {"\x00\x00\x00\x20\x00half of an Init", 20, true}, /* a FIN inside */
        {"", 0, true},                                     /* nothing at all */
        {"\x00\x00", 2, true},
    };
    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++) {
        struct buf bytes = {0};
        assert_ok(buf_append(&bytes, attacks[i].bytes, attacks[i].len));
        struct raw_stream *s = attack(rig, &bytes, attacks[i].fin);
        assert_int_equal(s->received, 0);
    }
    is_well(rig);
}

static void sessions_that_stall_are_ended(void **state)
{
    struct rig *rig = *state;
    struct buf none = {0}, half = {0}, whole = {0};
    init_message(rig, &half);
    half.len /= 2;
    init_message(rig, &whole);
    assert_int_equal(attack(rig, &none, false)->received, 0);
    assert_int_equal(attack(rig, &half, false)->received, 0);
    (void)attack(rig, &whole, false);
    /* A connection without any stream. */
    struct raw_conn *c = raw_dial(&rig->raw, rig->store[0], RAW_SYNC);
    raw_until(&rig->raw, raw_conn_is_closed, c, "a connection without a stream ends");
    is_well(rig);
}

static void many_bytes_are_progress_only(struct hkv_store *store, void *arg)
{
    (void)arg;
    store->patience.sync_trickle_bytes = (size_t)1 << 20;
}

static bool trickles_until_closed(void *arg)
{
    struct raw_stream *s = arg;
    if (s->conn->closed) return true;
    if (s->stream != NULL) raw_send(s, "k", 1);
    return false;
}

/* A message whose first range has a long key, of which a byte comes now and then. */
static void a_message_that_trickles_in_is_a_stall(void **state)
{
    struct rig *rig = *state;
    struct buf bytes = {0};
    static const uint8_t head[] = {0, 0x0f, 0xff, 0xff, 1, 1, 0, 0x80, 0x80, 0x3c};
    node_on_network(rig->store[0], many_bytes_are_progress_only, NULL);
    init_message(rig, &bytes);
    assert_ok(buf_append(&bytes, head, sizeof head));
    assert_ok(buf_append(&bytes, rig->signer.namespace.bytes, ID_BYTES));
    struct raw_stream *s = raw_stream(raw_dial(&rig->raw, rig->store[0], RAW_SYNC));
    raw_send_buf(s, &bytes);
    raw_until(&rig->raw, trickles_until_closed, s, "the store ends the connection");
    is_well(rig);
}

static void a_second_init_ends_the_session(void **state)
{
    struct rig *rig = *state;
    struct buf bytes = {0};
    init_message(rig, &bytes);
    init_message(rig, &bytes);
    (void)attack(rig, &bytes, false);
    is_well(rig);
}

static void what_follows_an_end_ends_the_session_too(void **state)
{
    struct rig *rig = *state;
    struct buf part = {0}, bytes = {0};
    raw_item_all(&part, &rig->signer.namespace, 0, (struct slice){0}, true);
    assert_ok(docs_write_init(&bytes, &rig->signer.namespace, 1, buf_slice(&part)));
    buf_fini(&part);
    for (int i = 0; i < 50; i++) sync_message(rig, &bytes);
    (void)attack(rig, &bytes, false);
    is_well(rig);
}

static void aborts_by_the_dialler_end_the_session(void **state)
{
    struct rig *rig = *state;
    struct buf bytes = {0};
    init_message(rig, &bytes);
    for (int i = 0; i < 1000; i++) assert_ok(docs_write_abort(&bytes, DOCS_ABORT_ALREADY_SYNCING));
    (void)attack(rig, &bytes, false);
    is_well(rig);
}

static void bounds_that_are_no_ids_end_the_session(void **state)
{
    struct rig *rig = *state;
    struct buf message = {0}, bytes = {0};
    static const uint8_t zeros[ID_BYTES] = {0};
    assert_ok(buf_append_byte(&message, 0));
    assert_ok(buf_append(&message, rig->signer.namespace.bytes, ID_BYTES));
    assert_ok(postcard_write_varint(&message, 1));
    assert_ok(postcard_write_varint(&message, 0)); /* fingerprint of … */
    assert_ok(postcard_write_bytes(&message, slice_of_text("short")));
    assert_ok(postcard_write_bytes(&message, slice_of_text("short")));
    assert_ok(buf_append(&message, zeros, sizeof zeros));
    frame(&bytes, buf_slice(&message));
    buf_fini(&message);
    assert_int_equal(attack(rig, &bytes, false)->received, 0);
    is_well(rig);
}

static bool contains(const struct buf *in, const void *what, size_t len)
{
    return in->len >= len && memmem(in->data, in->len, what, len) != NULL;
}

/* A namespace that is not ours gets an Abort, whatever it asks of ours. */
static void another_namespace_learns_nothing(void **state)
{
    struct rig *rig = *state;
    struct raw_signer other;
    struct buf part = {0}, bytes = {0};
    raw_signer_init(&other, NODE_SECRET_1, 0xa8);
    raw_item_all(&part, &rig->signer.namespace, 0, (struct slice){0}, false); /* the ranges are of ours */
    assert_ok(docs_write_init(&bytes, &other.namespace, 1, buf_slice(&part)));
    buf_fini(&part);
    struct raw_stream *s = attack(rig, &bytes, true);
    assert_int_equal(s->in.len, 6);
    assert_int_equal(s->in.data[4], 2);
    assert_int_equal(s->in.data[5], DOCS_ABORT_NOT_FOUND);
    assert_false(contains(&s->in, rig->signer.namespace.bytes, ID_BYTES));
    is_well(rig);
}

/* Ranges of another namespace inside a session of ours hold nothing: neither more nor less than that is said. */
static void ranges_of_another_namespace_are_empty(void **state)
{
    struct rig *rig = *state;
    struct buf message = {0}, bytes = {0};
    uint8_t x[ENTRY_ID_MIN], y[ENTRY_ID_MIN];
    memset(x, 0, sizeof x);
    memset(y, 0, sizeof y);
    y[0] = rig->signer.namespace.bytes[0];
    assert_ok(buf_append_byte(&message, 0));
    assert_ok(buf_append(&message, rig->signer.namespace.bytes, ID_BYTES));
    assert_ok(postcard_write_varint(&message, 1));
    assert_ok(postcard_write_varint(&message, 1));
    assert_ok(postcard_write_bytes(&message, slice_of(x, sizeof x)));
    assert_ok(postcard_write_bytes(&message, slice_of(y, sizeof y)));
    assert_ok(postcard_write_varint(&message, 0));
    assert_ok(postcard_write_bool(&message, false));
    frame(&bytes, buf_slice(&message));
    buf_fini(&message);
    struct raw_conn *c = raw_dial(&rig->raw, rig->store[0], RAW_SYNC);
    struct raw_stream *s = raw_stream(c);
    raw_send_buf(s, &bytes);
    raw_finish(s);
    raw_until(&rig->raw, raw_stream_is_over, s, "the store ends the session");
    assert_false(contains(&s->in, "mine", 4));
    is_well(rig);
}

/* ---- entries ---- */

static struct record record_of(const char *text, uint64_t stamp_us)
{
    struct record r = {.length_bytes = strlen(text), .stamp_us = stamp_us};
    memset(r.hash.bytes, text[0], ID_BYTES);
    return r;
}

static void values_with_bad_signatures_are_not_stored(void **state)
{
    struct rig *rig = *state;
    struct buf values = {0};
    char key[32];
    uint64_t before = entries_of(rig->store[0]);
    enum { COUNT = 300 };
    for (int i = 0; i < COUNT; i++) {
        struct record record = record_of("x", raw_now_us());
        (void)snprintf(key, sizeof key, "bad/%d", i);
        raw_value(&values, &rig->signer, key, &record, true);
    }
    raw_push_values(&rig->raw, rig->store[0], &rig->signer, COUNT, buf_slice(&values));
    buf_fini(&values);
    assert_int_equal(entries_of(rig->store[0]), before);
    is_well(rig);
}

static void entries_of_another_namespace_are_not_stored(void **state)
{
    struct rig *rig = *state;
    struct raw_signer other;
    struct buf values = {0};
    char key[32];
    uint64_t before = entries_of(rig->store[0]);
    raw_signer_init(&other, NODE_SECRET_1, 0xa8);
    for (int i = 0; i < 300; i++) {
        struct record record = record_of("x", raw_now_us());
        (void)snprintf(key, sizeof key, "other/%d", i);
        raw_value(&values, &other, key, &record, false);
    }
    raw_push_values(&rig->raw, rig->store[0], &rig->signer, 300, buf_slice(&values));
    buf_fini(&values);
    assert_int_equal(entries_of(rig->store[0]), before);
    is_well(rig);
}

static uint64_t push_future(struct rig *rig, int count)
{
    struct hkv_status status;
    struct buf values = {0};
    char key[32];
    for (int i = 0; i < count; i++) {
        struct record record = record_of("x", raw_now_us() + (uint64_t)3600 * 1000000);
        (void)snprintf(key, sizeof key, "soon/%d", i);
        raw_value(&values, &rig->signer, key, &record, false);
    }
    raw_push_values(&rig->raw, rig->store[0], &rig->signer, (size_t)count, buf_slice(&values));
    buf_fini(&values);
    assert_ok(hkv_status(rig->store[0], &status));
    return status.entries_refused;
}

/* By how much the peer that speaks iroh's ALPN is ahead, as far as its entries tell. */
static int64_t skew_of_raw_peer(struct rig *rig)
{
    struct hkv_peers *peers;
    int64_t skew_us = 0;
    assert_ok(hkv_peers(rig->store[0], &peers));
    for (size_t i = 0; i < peers->count; i++)
        if (peers->peers[i].clock_skew == HKV_SKEW_AT_LEAST) skew_us = peers->peers[i].clock_skew_us;
    hkv_peers_free(peers);
    return skew_us;
}

/* Some are remembered for later; hundreds in one session end it at the hundredth, and what came until then is kept. */
static void entries_from_the_future_wait_in_bounded_number(void **state)
{
    struct rig *rig = *state;
    uint64_t before = entries_of(rig->store[0]);
    assert_int_equal(push_future(rig, 50), 50);
    assert_int_equal(push_future(rig, 400), 100);
    assert_int_equal(entries_of(rig->store[0]), before);
    node_expect(rig->store[0], "soon/1", NULL);
    assert_in_range(skew_of_raw_peer(rig), (int64_t)3500 * 1000000, (int64_t)3600 * 1000000);
    is_well(rig);
}

/* A stamp at the end of all numbers neither wraps nor moves this store's own stamps. */
static void the_greatest_stamp_is_refused(void **state)
{
    struct rig *rig = *state;
    struct buf values = {0};
    struct record record = record_of("x", UINT64_MAX);
    raw_value(&values, &rig->signer, "mine", &record, false);
    raw_push_values(&rig->raw, rig->store[0], &rig->signer, 1, buf_slice(&values));
    buf_fini(&values);
    node_expect(rig->store[0], "mine", SECRET_VALUE);
    node_put(rig->store[0], "mine", "again");
    node_expect(rig->store[0], "mine", "again");
    is_well(rig);
}

/* Keys that are no keys of ours, up to the longest, take their place among the entries and disturb nothing. */
static void strange_document_keys_disturb_nothing(void **state)
{
    struct rig *rig = *state;
    struct buf values = {0}, key = {0};
    size_t count = 0;
    static const size_t lengths[] = {0, 1, 100, ENTRY_KEY_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        assert_ok(buf_reserve(&key, lengths[i] + 1));
        if (lengths[i] > 0) memset(key.data, 0xfe, lengths[i]);
        struct entry e = {.namespace = rig->signer.namespace,
                          .author = rig->signer.author,
                          .key = slice_of(key.data, lengths[i]),
                          .record = record_of("x", raw_now_us())};
        assert_ok(entry_sign(&e, &rig->signer.namespace_secret, &rig->signer.author_secret));
        assert_ok(entry_encode(&e, &values));
        assert_ok(postcard_write_varint(&values, 2)); /* Missing */
        count++;
    }
    raw_push_values(&rig->raw, rig->store[0], &rig->signer, count, buf_slice(&values));
    buf_fini(&values);
    buf_fini(&key);
    node_expect(rig->store[0], "mine", SECRET_VALUE);
    node_put(rig->store[0], "mine", "again");
    node_expect(rig->store[0], "mine", "again");
}

/* ---- sessions without end ---- */

static void answer_forever(struct raw *raw, struct raw_stream *s)
{
    struct buf bytes = {0};
    s->step++;
    buf_clear(&s->in);
    sync_message(raw->user, &bytes);
    raw_send_buf(s, &bytes);
}

/* Another fingerprint after each answer: the session ends by itself. */
static void an_endless_session_comes_to_an_end(void **state)
{
    struct rig *rig = *state;
    struct buf bytes = {0};
    char key[32];
    for (int i = 0; i < 300; i++) {
        (void)snprintf(key, sizeof key, "n/%d", i);
        assert_ok(hkv_put_async(rig->store[0], key, strlen(key), "v", 1, NULL, node_ignore_write, NULL));
    }
    rig->raw.user = rig;
    rig->raw.data = answer_forever;
    init_message(rig, &bytes);
    struct raw_conn *c = raw_dial(&rig->raw, rig->store[0], RAW_SYNC);
    c->accepted = true; /* its data go to answer_forever() */
    struct raw_stream *s = raw_stream(c);
    raw_send_buf(s, &bytes);
    raw_until(&rig->raw, raw_conn_is_closed, c, "the store ends an endless session");
    assert_in_range(s->step, 1, 400);
    is_well(rig);
}

/* A flood of fingerprint parts, the most that one frame may hold, and again. */
static void a_flood_of_fingerprints_is_answered_or_ended(void **state)
{
    struct rig *rig = *state;
    struct buf parts = {0}, bytes = {0};
    for (uint32_t i = 0; i < DOCS_FRAME_PARTS_MAX; i++) raw_fingerprint_all(&parts, &rig->signer.namespace, (uint8_t)i);
    assert_ok(docs_write_init(&bytes, &rig->signer.namespace, DOCS_FRAME_PARTS_MAX, buf_slice(&parts)));
    for (int i = 0; i < 20; i++) assert_ok(docs_write_sync(&bytes, DOCS_FRAME_PARTS_MAX, buf_slice(&parts)));
    buf_fini(&parts);
    size_t before = raw_resident_bytes();
    (void)attack(rig, &bytes, true);
    raw_expect_growth(before, (size_t)64 << 20);
    is_well(rig);
}

/* ---- as the one that is dialled ---- */

static void answer_badly(struct raw *raw, struct raw_stream *s)
{
    static const char *const answers[] = {"\xff\xff\xff\xff", "\x00\x00\x00\x02\x09\x09",
                                          "\x00\x00\x00\x21\x00 an Init", "\x00\x00\x00\x02\x02\x01", ""};
    static const size_t lengths[] = {4, 6, 13, 6, 0};
    size_t which = raw->accepted_count % 5;
    if (s->step++ > 0) return;
    raw_send(s, answers[which], lengths[which]);
    if (which == 3) raw_finish(s);
    if (which == 4) transport_stream_reset(s->stream, 7);
}

static bool accepted_some(void *arg)
{
    return ((struct raw *)arg)->accepted_count >= 10;
}

/* The store dials a peer that answers with rubbish, an Abort, a reset: again and again, each time later, and serves
 * others meanwhile. */
static void a_dialled_peer_that_answers_badly_is_only_tried_again(void **state)
{
    struct rig *rig = *state;
    struct hkv_peers *peers;
    rig->raw.data = answer_badly;
    raw_be_known(&rig->raw, rig->store[0]);
    raw_until(&rig->raw, accepted_some, &rig->raw, "the store dials again");
    is_well(rig);
    assert_ok(hkv_peers(rig->store[0], &peers));
    assert_true(peers->count >= 1);
    hkv_peers_free(peers);
}

static void a_dialled_peer_that_says_nothing_is_given_up(void **state)
{
    struct rig *rig = *state;
    raw_be_known(&rig->raw, rig->store[0]);
    raw_until(&rig->raw, accepted_some, &rig->raw, "the store dials again");
    is_well(rig);
}

static void answer_that_it_is_busy(struct raw *raw, struct raw_stream *s)
{
    struct buf bytes = {0};
    (void)raw;
    if (s->step++ > 0) return;
    assert_ok(docs_write_abort(&bytes, DOCS_ABORT_ALREADY_SYNCING));
    raw_send_buf(s, &bytes);
    raw_finish(s);
}

static void tell_done(void *arg, enum hkv_err err, const char *error, uint64_t waited_ms)
{
    (void)err, (void)error, (void)waited_ms;
    atomic_store((atomic_bool *)arg, true);
}

static bool is_done(void *arg)
{
    return atomic_load((atomic_bool *)arg);
}

/* While somebody waits for it, it is asked again and again, but not without a pause between. */
static void a_peer_that_is_always_busy_is_not_asked_all_the_time(void **state)
{
    struct rig *rig = *state;
    atomic_bool done = false;
    rig->raw.data = answer_that_it_is_busy;
    raw_be_known(&rig->raw, rig->store[0]);
    assert_ok(hkv_wait_converged_async(rig->store[0], NULL, 0, 1500, tell_done, &done));
    raw_until(&rig->raw, is_done, &done, "the wait ends");
    assert_true(rig->raw.accepted_count >= 1);
    assert_true(rig->raw.accepted_count <= 10);
}

/* ---- many at once ---- */

/* One endpoint takes every session it can get and begins none: another peer still gets in. */
static void idle_sessions_of_one_peer_leave_room(void **state)
{
    struct rig *rig = *state;
    rig->store[1] = node_open(&rig->dir[1], NAMESPACE_SECRET);
    struct hkv_store *store = rig->store[0];
    for (int i = 0; i < 64; i++) (void)raw_dial(&rig->raw, store, RAW_SYNC);
    node_connect(rig->store[1], store);
    assert_ok(hkv_sync_once(rig->store[1], 30000, NULL));
    is_well(rig);
}

static void be_patient(struct hkv_store *store, void *arg)
{
    (void)arg;
    store->patience.sync_first_byte_us = 3600000000;
}

static bool is_taken(void *stream)
{
    return transport_stream_queued(((struct raw_stream *)stream)->stream) == 0;
}

/* Begins a session with the first byte of a message, and leaves it at that. */
static void take_a_place(struct raw *raw, struct hkv_store *store)
{
    struct raw_stream *s = raw_stream(raw_dial(raw, store, RAW_SYNC));
    raw_send(s, "", 1);
    raw_until(raw, is_taken, s, "the store has the first byte");
}

static bool is_answered(void *stream)
{
    return ((struct raw_stream *)stream)->received > 0;
}

/* So many endpoints as it takes hold all places: one more of their kind is refused, a peer that was named is not. */
static void strangers_in_all_places_make_room_for_a_seed(void **state)
{
    enum { STRANGERS = SYNC_SESSIONS_MAX / SYNC_SESSIONS_PER_PEER_MAX };
    struct rig *rig = *state;
    struct raw strangers[STRANGERS + 1];
    struct buf bytes = {0};
    node_on_network(rig->store[0], be_patient, NULL);
    for (uint8_t i = 0; i <= STRANGERS; i++) raw_open(&strangers[i], (uint8_t)(0x60 + i));
    for (int i = 0; i < SYNC_SESSIONS_MAX; i++) take_a_place(&strangers[i % STRANGERS], rig->store[0]);
    struct raw_conn *refused = raw_dial(&strangers[STRANGERS], rig->store[0], RAW_SYNC);
    raw_until(&strangers[STRANGERS], raw_conn_is_closed, refused, "a stranger too many is refused");
    raw_be_known(&rig->raw, rig->store[0]);
    struct raw_stream *s = raw_stream(raw_dial(&rig->raw, rig->store[0], RAW_SYNC));
    init_message(rig, &bytes);
    raw_send_buf(s, &bytes);
    raw_until(&rig->raw, is_answered, s, "a seed is answered");
    for (size_t i = 0; i <= STRANGERS; i++) raw_close(&strangers[i]);
}

/* The same peer begins one session after the other without ending any. */
static void a_peer_that_dials_in_a_loop_is_served_last_come(void **state)
{
    struct rig *rig = *state;
    struct raw_conn *last = NULL;
    for (int i = 0; i < 60; i++) {
        struct buf bytes = {0};
        init_message(rig, &bytes);
        last = raw_dial(&rig->raw, rig->store[0], RAW_SYNC);
        if (last->conn != NULL) raw_send_buf(raw_stream(last), &bytes);
    }
    raw_until(&rig->raw, raw_conn_is_closed, last, "the last session ends");
    is_well(rig);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(frames_that_cannot_be_read_end_the_session),
        TEST(sessions_that_stall_are_ended),
        TEST(a_message_that_trickles_in_is_a_stall),
        TEST(a_second_init_ends_the_session),
        TEST(what_follows_an_end_ends_the_session_too),
        TEST(aborts_by_the_dialler_end_the_session),
        TEST(bounds_that_are_no_ids_end_the_session),
        TEST(another_namespace_learns_nothing),
        TEST(ranges_of_another_namespace_are_empty),
        TEST(values_with_bad_signatures_are_not_stored),
        TEST(entries_of_another_namespace_are_not_stored),
        TEST(entries_from_the_future_wait_in_bounded_number),
        TEST(the_greatest_stamp_is_refused),
        TEST(strange_document_keys_disturb_nothing),
        TEST(an_endless_session_comes_to_an_end),
        TEST(a_flood_of_fingerprints_is_answered_or_ended),
        TEST(a_dialled_peer_that_answers_badly_is_only_tried_again),
        TEST(a_dialled_peer_that_says_nothing_is_given_up),
        TEST(a_peer_that_is_always_busy_is_not_asked_all_the_time),
        TEST(idle_sessions_of_one_peer_leave_room),
        TEST(strangers_in_all_places_make_room_for_a_seed),
        TEST(a_peer_that_dials_in_a_loop_is_served_last_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
