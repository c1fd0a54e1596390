/* A hostile peer that asks a whole store for values: whatever it sends, the store answers others, and frees what it
 * held. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blobs/request.h"
#include "crypto/blake3.h"
#include "node/node.h"
#include "node/serve.h"
#include "node/world_real.h"
#include "store/checked_vfs.h"
#include "store/db.h"
#include "unit/node/fixture_raw.h"

#define BIG_BYTES ((size_t)64 << 20)

struct rig {
    struct node_dir dir[2];
    struct hkv_store *store[2];
    struct raw raw[2];
};

static void shorten(struct hkv_store *store, void *arg)
{
    store->patience.serve_stall_us = *(uint64_t *)arg;
}

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    uint64_t stall_us = 300000;
    for (int i = 0; i < 2; i++) {
        node_dir_make(&rig->dir[i]);
        raw_open(&rig->raw[i], (uint8_t)(0x51 + i));
    }
    rig->store[0] = node_open(&rig->dir[0], NAMESPACE_SECRET);
    node_on_network(rig->store[0], shorten, &stall_us);
    *state = rig;
    return 0;
}

/* After every attack: the store answers, and an honest peer gets everything from it. */
static void is_well(struct rig *rig)
{
    if (rig->store[1] == NULL) rig->store[1] = node_open(&rig->dir[1], NAMESPACE_SECRET);
    node_put(rig->store[0], "well", "yes");
    node_connect(rig->store[1], rig->store[0]);
    node_await(rig->store[1], "well", "yes");
    node_await_equal(rig->store[0], rig->store[1]);
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    for (int i = 0; i < 2; i++) {
        raw_close(&rig->raw[i]);
        hkv_close(rig->store[i]);
        node_dir_remove(&rig->dir[i]);
    }
    free(rig);
    return 0;
}

static void get_request(struct buf *out, const struct hash *hash)
{
    assert_ok(blobs_request_encode_get(hash, bao_ranges_all, out));
}

static struct hash put_big(struct rig *rig)
{
    struct hash hash;
    uint8_t *bytes = malloc(BIG_BYTES);
    assert_non_null(bytes);
    for (size_t i = 0; i < BIG_BYTES; i++) bytes[i] = (uint8_t)(i * 7 % 251 + 1);
    blake3_hash(slice_of(bytes, BIG_BYTES), &hash);
    assert_ok(hkv_put(rig->store[0], HKV_TEXT("big"), bytes, BIG_BYTES, NULL, NULL));
    free(bytes);
    return hash;
}

static void malformed_requests_end_without_an_answer(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *bytes;
        size_t len;
    } requests[] = {
        {"", 0},
        {"\x01", 1},
        {"\x02", 1},
        {"\x07\x00\x00", 3},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 10},
        {"\x09\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, /* GetMany of 2^63 hashes */
        {"\x00short", 6},
    };
    struct raw_conn *c = raw_dial(&rig->raw[0], rig->store[0], RAW_BLOBS);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct raw_stream *s = raw_stream(c);
        raw_send(s, requests[i].bytes, requests[i].len);
        raw_finish(s);
        raw_until(&rig->raw[0], raw_stream_is_over, s, "a malformed request ends");
        assert_int_equal(s->received, 0);
    }
    assert_false(c->closed);
    is_well(rig);
}

static void a_push_is_refused_with_code_1(void **state)
{
    struct rig *rig = *state;
    static const uint8_t push[64] = {8};
    struct raw_conn *c = raw_dial(&rig->raw[0], rig->store[0], RAW_BLOBS);
    struct raw_stream *s = raw_stream(c);
    raw_send(s, push, sizeof push);
    raw_until(&rig->raw[0], raw_stream_is_over, s, "a push ends");
    assert_true(s->reset);
    assert_int_equal(s->reset_code, 1);
    is_well(rig);
}

static struct raw_stream *ask(struct raw_conn *c, struct buf *request)
{
    struct raw_stream *s = raw_stream(c);
    raw_send_buf(s, request);
    raw_finish(s);
    return s;
}

static struct raw_stream *ask_for(struct raw_conn *c, const struct hash *hash)
{
    struct buf request = {0};
    get_request(&request, hash);
    return ask(c, &request);
}

/* Not a peer's doing, but a peer asks for it. */
static void a_row_that_claims_more_bytes_than_it_has_is_not_served(void **state)
{
    struct rig *rig = *state;
    char path[512];
    const char *vfs;
    sqlite3 *db;
    struct hash hash;
    struct buf request = {0};
    node_put(rig->store[0], "v", "value");
    blake3_hash(slice_of_text("value"), &hash);
    hkv_close(rig->store[0]);
    snprintf(path, sizeof path, "%s/docs/store.db", rig->dir[0].path);
    assert_ok(checked_vfs_lasting(DB_VFS_SYSTEM, &vfs));
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, vfs), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE value SET length = 6 WHERE length = 5 AND id > 2", NULL, NULL, NULL), 0);
    assert_int_equal(sqlite3_changes(db), 1);
    sqlite3_close(db);
    rig->store[0] = node_open(&rig->dir[0], NAMESPACE_SECRET);
    get_request(&request, &hash);
    struct raw_stream *s = ask(raw_dial(&rig->raw[0], rig->store[0], RAW_BLOBS), &request);
    raw_until(&rig->raw[0], raw_stream_is_over, s, "a request for a damaged row ends");
    is_well(rig);
}

static void a_huge_gap_between_indexes_costs_nothing(void **state)
{
    struct rig *rig = *state;
    struct hash hash;
    struct buf request = {0};
    node_put(rig->store[0], "v", "value");
    blake3_hash(slice_of_text("value"), &hash);
    /* Get of indexes 1 to 2^63 of a value that is no sequence. */
    assert_ok(buf_append_byte(&request, BLOBS_GET));
    assert_ok(buf_append(&request, hash.bytes, ID_BYTES));
    assert_ok(postcard_write_varint(&request, 2));
    assert_ok(postcard_write_varint(&request, 1));
    assert_ok(postcard_write_varint(&request, 1));
    assert_ok(postcard_write_varint(&request, 0));
    assert_ok(postcard_write_varint(&request, (uint64_t)1 << 63));
    assert_ok(postcard_write_varint(&request, 0));
    struct raw_conn *c = raw_dial(&rig->raw[0], rig->store[0], RAW_BLOBS);
    struct raw_stream *s = raw_stream(c);
    raw_send_buf(s, &request);
    raw_finish(s);
    raw_until(&rig->raw[0], raw_stream_is_over, s, "a request with a gap ends");
    is_well(rig);
}

/* 30,000 times the same small value in one request, by a peer that takes nothing: it is answered by and by only. */
static void a_repeated_hash_is_not_answered_ahead(void **state)
{
    struct rig *rig = *state;
    struct raw *raw = &rig->raw[0];
    enum { COUNT = 30000 };
    struct hash *hashes = calloc(COUNT, sizeof *hashes);
    char value[8000];
    struct buf request = {0};
    memset(value, 'v', sizeof value);
    assert_ok(hkv_put(rig->store[0], HKV_TEXT("v"), value, sizeof value, NULL, NULL));
    for (size_t i = 0; i < COUNT; i++) blake3_hash(slice_of(value, sizeof value), &hashes[i]);
    assert_ok(blobs_request_encode_get_many(hashes, COUNT, &request));
    free(hashes);
    size_t before = raw_resident_bytes();
    struct raw_conn *c = raw_dial(raw, rig->store[0], RAW_BLOBS);
    raw->hold = true;
    struct raw_stream *s = raw_stream(c);
    raw_send_buf(s, &request);
    raw_finish(s);
    raw_until(raw, raw_stream_is_over, s, "the store gives up a peer that takes nothing");
    assert_true(s->reset);
    assert_true(s->received < (uint64_t)4 << 20);
    raw_expect_growth(before, (size_t)32 << 20);
    is_well(rig);
}

/* Streams whose request never ends, up to what one connection and one store allow; each is freed in the end. */
static bool all_streams_are_over(void *arg)
{
    const struct raw_conn *c = arg;
    for (const struct raw_stream *s = c->streams; s != NULL; s = s->next)
        if (!raw_stream_is_over((void *)(uintptr_t)s)) return false;
    return true;
}

static void requests_that_never_end_make_room_again(void **state)
{
    struct rig *rig = *state;
    struct raw *raw = &rig->raw[0];
    struct raw_conn *conns[12];
    for (size_t i = 0; i < 12; i++) {
        conns[i] = raw_dial(raw, rig->store[0], RAW_BLOBS);
        for (int j = 0; j < 100 && conns[i]->conn != NULL; j++) raw_send(raw_stream(conns[i]), "\x09", 1);
    }
    for (size_t i = 0; i < 12; i++)
        raw_until(raw, all_streams_are_over, conns[i], "requests that never end are given up");
    is_well(rig);
}

static void count_connections(struct hkv_store *store, void *arg)
{
    struct net_endpoint_stats stats;
    net_endpoint_stats(node_world_real_endpoint(store->world), &stats);
    *(uint32_t *)arg = stats.conns;
}

/* A peer that asks and then neither takes nor acknowledges anything. The raw peer does not run meanwhile. */
static void a_stream_that_is_left_open_costs_the_connection(void **state)
{
    struct rig *rig = *state;
    struct raw *raw = &rig->raw[0];
    uint32_t conns = 1;
    struct raw_conn *c = raw_dial(raw, rig->store[0], RAW_BLOBS);
    struct raw_stream *s = raw_stream(c);
    static const uint8_t push[64] = {8};
    raw_send(s, push, sizeof push);
    raw_until(raw, raw_stream_is_over, s, "a push ends");
    for (int i = 0; i < 3; i++) raw_send(raw_stream(c), "\x09", 1);
    (void)uv_run(&raw->loop, UV_RUN_NOWAIT);
    while (conns > 0) {
        node_on_network(rig->store[0], count_connections, &conns);
        (void)poll(NULL, 0, 10);
    }
    is_well(rig);
}

/* A peer that reads 64 MiB slowly, twenty times at once: bounded memory, and others get their turn. */
static void slow_readers_of_a_large_value_hold_little(void **state)
{
    struct rig *rig = *state;
    struct raw *raw = &rig->raw[0];
    struct hash hash = put_big(rig);
    uint64_t stall_us = 3000000;
    struct raw_stream *streams[20], *honest;
    node_on_network(rig->store[0], shorten, &stall_us);
    size_t before = raw_resident_bytes();
    struct raw_conn *c = raw_dial(raw, rig->store[0], RAW_BLOBS);
    raw->hold = true;
    for (int i = 0; i < 20; i++) {
        struct buf request = {0};
        get_request(&request, &hash);
        streams[i] = raw_stream(c);
        raw_send_buf(streams[i], &request);
        raw_finish(streams[i]);
    }
    /* Another peer asks for it meanwhile, and gets it whole. */
    struct raw_conn *other = raw_dial(&rig->raw[1], rig->store[0], RAW_BLOBS);
    struct buf request = {0};
    get_request(&request, &hash);
    honest = raw_stream(other);
    raw_send_buf(honest, &request);
    raw_finish(honest);
    raw_until(&rig->raw[1], raw_stream_is_over, honest, "an honest reader gets the value");
    assert_true(honest->fin);
    assert_true(honest->in.len > BIG_BYTES);
    buf_fini(&honest->in);
    raw_expect_growth(before, BIG_BYTES + BIG_BYTES / 2 + ((size_t)64 << 20));
    raw_until(raw, all_streams_are_over, c, "slow readers are given up");
    is_well(rig);
}

/* Whether the store has all requests of the peer. */
static bool all_are_asked(void *arg)
{
    const struct raw *raw = arg;
    for (const struct raw_conn *c = raw->conns; c != NULL; c = c->next)
        for (const struct raw_stream *s = c->streams; s != NULL; s = s->next)
            if (!s->finished && !s->closed) return false;
    return true;
}

static bool much_was_sent(void *arg)
{
    const struct raw *raw = arg;
    uint64_t received = 0;
    for (const struct raw_conn *c = raw->conns; c != NULL; c = c->next)
        for (const struct raw_stream *s = c->streams; s != NULL; s = s->next) received += s->received;
    return received > (uint64_t)30 << 20;
}

/* Answers that are small enough to be read from the disk ahead of what the peer takes of them. */
static void short_answers_that_are_not_taken_hold_little(void **state)
{
    enum { CONNS = 8, STREAMS = 100, VALUE_BYTES = 240 * 1024 };
    struct rig *rig = *state;
    struct raw *raw = &rig->raw[0];
    static uint8_t value[VALUE_BYTES];
    uint64_t stall_us = 20000000;
    struct hash hash;
    memset(value, 'v', sizeof value);
    blake3_hash(slice_of(value, sizeof value), &hash);
    assert_ok(hkv_put(rig->store[0], HKV_TEXT("v"), value, sizeof value, NULL, NULL));
    node_on_network(rig->store[0], shorten, &stall_us);
    size_t before = raw_resident_bytes();
    raw->hold = true;
    for (int i = 0; i < CONNS; i++) {
        struct raw_conn *c = raw_dial(raw, rig->store[0], RAW_BLOBS);
        for (int j = 0; j < STREAMS; j++) {
            (void)ask_for(c, &hash);
        }
    }
    raw_until(raw, much_was_sent, raw, "the store sends");
    struct raw_conn *other = raw_dial(&rig->raw[1], rig->store[0], RAW_BLOBS);
    for (int i = 0; i < 100; i++) {
        struct raw_stream *s = ask_for(other, &hash);
        raw_until(&rig->raw[1], raw_stream_is_over, s, "another peer is answered meanwhile");
        assert_true(s->fin);
        buf_fini(&s->in);
    }
    raw_expect_growth(before, (size_t)32 << 20);
}

/* Four strangers who take as good as nothing, each with as many answers as one peer may be given at a time. */
#define STRANGERS (SERVE_ACTIVE_MAX / SERVE_ACTIVE_PER_PEER_MAX)

struct strangers {
    struct raw raws[STRANGERS];
    struct hkv_store *honest;
};

static bool honest_one_is_served(void *arg)
{
    struct strangers *strangers = arg;
    struct hkv_value got;
    for (int i = 0; i < STRANGERS; i++) (void)uv_run(&strangers->raws[i].loop, UV_RUN_NOWAIT); /* they stay alive */
    if (hkv_get(strangers->honest, "well", 4, &got) != HKV_OK) return false;
    hkv_value_free(&got);
    return true;
}

static void strangers_do_not_take_all_turns(void **state)
{
    struct rig *rig = *state;
    struct strangers strangers;
    struct hash hash = put_big(rig);
    uint64_t stall_us = UINT64_MAX / 4;
    node_on_network(rig->store[0], shorten, &stall_us);
    for (int i = 0; i < STRANGERS; i++) {
        struct raw *raw = &strangers.raws[i];
        raw_open(raw, (uint8_t)(0x61 + i));
        raw->hold = true;
        struct raw_conn *c = raw_dial(raw, rig->store[0], RAW_BLOBS);
        for (int j = 0; j < SERVE_ACTIVE_PER_PEER_MAX; j++) {
            (void)ask_for(c, &hash);
        }
        raw_until(raw, all_are_asked, raw, "the store has the requests");
    }
    node_put(rig->store[0], "well", "yes");
    rig->store[1] = strangers.honest = node_open(&rig->dir[1], NAMESPACE_SECRET);
    node_connect(rig->store[1], rig->store[0]);
    raw_until(&rig->raw[0], honest_one_is_served, &strangers, "a peer that has synced is answered");
    for (int i = 0; i < STRANGERS; i++) raw_close(&strangers.raws[i]);
}

/* Requests of which each takes ten times as much once it is parsed, behind answers that a peer does not take. */
static void requests_that_wait_are_kept_as_they_came(void **state)
{
    enum { COUNT = 200 };
    struct rig *rig = *state;
    struct raw *raw = &rig->raw[0];
    struct hash hash = put_big(rig);
    uint64_t stall_us = 20000000;
    node_on_network(rig->store[0], shorten, &stall_us);
    struct raw_conn *c[3];
    for (int i = 0; i < 3; i++) c[i] = raw_dial(raw, rig->store[0], RAW_BLOBS);
    size_t before = raw_resident_bytes();
    raw->hold = true;
    for (int i = 0; i < SERVE_ACTIVE_PER_PEER_MAX; i++) {
        (void)ask_for(c[2], &hash);
    }
    for (int i = 0; i < COUNT; i++) {
        struct buf request = {0};
        assert_ok(buf_append_byte(&request, BLOBS_GET));
        assert_ok(buf_append(&request, hash.bytes, ID_BYTES));
        assert_ok(postcard_write_varint(&request, BLOBS_RUNS_MAX));
        for (int run = 0; run < BLOBS_RUNS_MAX; run++) {
            static const uint8_t all[] = {1, 1, 0}, nothing[] = {1, 0}; /* from the index after the one before */
            assert_ok(run % 2 == 0 ? buf_append(&request, all, sizeof all)
                                   : buf_append(&request, nothing, sizeof nothing));
        }
        (void)ask(c[i % 2], &request);
    }
    raw_until(raw, all_are_asked, raw, "the store has all requests");
    raw_expect_growth(before, (size_t)48 << 20);
}

static bool all_is_acknowledged(void *arg)
{
    const struct raw_conn *c = arg;
    for (const struct raw_stream *s = c->streams; s != NULL; s = s->next)
        if (s->stream != NULL && transport_stream_queued(s->stream) > 0) return false;
    return true;
}

/* More requests than a store has in hand at once: all but a share of them is refused, and others are answered. */
static void one_peer_does_not_take_all_places(void **state)
{
    struct rig *rig = *state;
    struct raw *raw = &rig->raw[0];
    uint64_t stall_us = 60000000;
    struct hash hash;
    struct buf request = {0};
    node_put(rig->store[0], "v", "value");
    blake3_hash(slice_of_text("value"), &hash);
    node_on_network(rig->store[0], shorten, &stall_us);
    for (int i = 0; i < 12; i++) {
        struct raw_conn *c = raw_dial(raw, rig->store[0], RAW_BLOBS);
        for (int j = 0; j < 100 && c->conn != NULL; j++) raw_send(raw_stream(c), "\x09", 1);
        raw_until(raw, all_is_acknowledged, c, "the store has the requests of a connection");
    }
    get_request(&request, &hash);
    struct raw_stream *s = ask(raw_dial(&rig->raw[1], rig->store[0], RAW_BLOBS), &request);
    raw_until(&rig->raw[1], raw_stream_is_over, s, "another peer is answered");
    assert_true(s->fin && !s->reset);
}

/* A reader that grants no window after the store has written everything. */
static void an_answer_that_is_never_taken_costs_the_connection(void **state)
{
    struct rig *rig = *state;
    struct raw *raw = &rig->raw[0];
    static uint8_t bytes[1500 * 1024];
    struct hash hash;
    struct buf request = {0};
    memset(bytes, 'x', sizeof bytes);
    blake3_hash(slice_of(bytes, sizeof bytes), &hash);
    assert_ok(hkv_put(rig->store[0], HKV_TEXT("v"), bytes, sizeof bytes, NULL, NULL));
    struct raw_conn *c = raw_dial(raw, rig->store[0], RAW_BLOBS);
    raw->hold = true;
    struct raw_stream *s = raw_stream(c);
    get_request(&request, &hash);
    raw_send_buf(s, &request);
    raw_finish(s);
    raw_until(raw, raw_stream_is_over, s, "an answer that is not taken ends");
    assert_false(s->fin);
    is_well(rig);
}

/* More connections than the server takes, all idle: the oldest make room, and an honest peer is served. */
static void idle_connections_make_room(void **state)
{
    struct rig *rig = *state;
    struct raw more[5];
    node_put(rig->store[0], "v", "value");
    for (size_t i = 0; i < 5; i++) {
        raw_open(&more[i], (uint8_t)(0x60 + i));
        for (int j = 0; j < 60; j++) (void)raw_dial(&more[i], rig->store[0], RAW_BLOBS);
    }
    is_well(rig);
    for (size_t i = 0; i < 5; i++) raw_close(&more[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(short_answers_that_are_not_taken_hold_little), /* first, as freed memory may stay with the process */
        TEST(malformed_requests_end_without_an_answer),
        TEST(a_push_is_refused_with_code_1),
        TEST(a_row_that_claims_more_bytes_than_it_has_is_not_served),
        TEST(a_huge_gap_between_indexes_costs_nothing),
        TEST(a_repeated_hash_is_not_answered_ahead),
        TEST(requests_that_never_end_make_room_again),
        TEST(a_stream_that_is_left_open_costs_the_connection),
        TEST(slow_readers_of_a_large_value_hold_little),
        TEST(strangers_do_not_take_all_turns),
        TEST(requests_that_wait_are_kept_as_they_came),
        TEST(one_peer_does_not_take_all_places),
        TEST(an_answer_that_is_never_taken_costs_the_connection),
        TEST(idle_connections_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
