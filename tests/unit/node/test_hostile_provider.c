/* Peers that have entries to give and lie about their values: the honest provider is used in the end, nothing wrong is
 * stored, and nothing is asked for without end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blobs/request.h"
#include "crypto/blake3.h"
#include "node/fetch_parts.h"
#include "node/node.h"
#include "unit/node/fixture_raw.h"

#define LARGE_BYTES ((size_t)300000)

enum lie {
    LIE_NONE,
    LIE_NOT_FOUND,
    LIE_WRONG_BYTES,
    LIE_TOO_LONG, /* a size beyond all limits */
    LIE_LONGER,   /* a size that could be */
    LIE_SHORTER,
    LIE_CUT,     /* ends in the middle */
    LIE_SILENT,  /* takes the request and says nothing */
    LIE_TRICKLE, /* a header's first byte, and nothing more */
    LIE_ENDLESS, /* right, and then more */
    LIE_CLOSE,   /* closes the connection */
    LIE_LATER,   /* answers when the test does */
};

struct rig {
    struct node_dir dir[2];
    struct hkv_store *store[2];
    struct raw raw;
    struct raw_signer signer;
    enum lie lie;
    const uint8_t *value; /* what the raw peer has */
    size_t value_bytes;
    size_t asked;
    struct raw_stream *last_asked;
    struct hkv_store *awaited;
    const char *key;
};

static void shorten(struct hkv_store *store, void *arg)
{
    (void)arg;
    store->patience.fetch_progress_us = 300000;
    store->patience.fetch_stop_us = 300000;
    store->patience.sync_first_byte_us = 300000;
    store->patience.sync_progress_us = 300000;
}

/* Answers a Get or GetMany of one small value, or of a large one that is a single group, as the lie says. */
static void answer(struct rig *rig, struct raw_stream *s)
{
    uint8_t header[8];
    uint64_t size = rig->value_bytes;
    rig->asked++;
    rig->last_asked = s;
    if (rig->lie == LIE_TOO_LONG) size = (uint64_t)1 << 60;
    if (rig->lie == LIE_LONGER) size += 100000;
    if (rig->lie == LIE_SHORTER) size -= 1;
    for (int i = 0; i < 8; i++) header[i] = (uint8_t)(size >> (8 * i));
    switch (rig->lie) {
    case LIE_NOT_FOUND:
        transport_stream_reset(s->stream, 3);
        return;
    case LIE_SILENT:
    case LIE_LATER:
        return;
    case LIE_TRICKLE:
        raw_send(s, header, 1);
        return;
    case LIE_CLOSE:
        transport_conn_close(s->conn->conn, 0, "");
        return;
    default:
        break;
    }
    raw_send(s, header, sizeof header);
    if (rig->lie == LIE_WRONG_BYTES) {
        uint8_t *wrong = calloc(1, rig->value_bytes);
        assert_non_null(wrong);
        raw_send(s, wrong, rig->value_bytes);
        free(wrong);
    } else {
        raw_send(s, rig->value, rig->lie == LIE_CUT ? rig->value_bytes / 2 : rig->value_bytes);
    }
    for (int i = 0; i < 200 && rig->lie == LIE_ENDLESS; i++) raw_send(s, rig->value, rig->value_bytes);
    raw_finish(s);
}

static void provide(struct raw *raw, struct raw_stream *s)
{
    if (strcmp(s->conn->alpn, RAW_BLOBS) != 0 || !s->fin || s->step++ > 0) return;
    answer(raw->user, s);
}

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    for (int i = 0; i < 2; i++) node_dir_make(&rig->dir[i]);
    raw_open(&rig->raw, 0x51);
    rig->raw.user = rig;
    rig->raw.data = provide;
    raw_signer_init(&rig->signer, NAMESPACE_SECRET, 0xa7);
    rig->store[0] = node_open(&rig->dir[0], NAMESPACE_SECRET);
    node_on_network(rig->store[0], shorten, NULL);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    for (int i = 0; i < 2; i++) {
        hkv_close(rig->store[i]);
        node_dir_remove(&rig->dir[i]);
    }
    raw_close(&rig->raw);
    free(rig);
    return 0;
}

/* Gives store 0 an entry for the value under `key`, whose length may be a lie. */
static void push_entry(struct rig *rig, const char *key, const void *value, size_t len, uint64_t claimed_bytes)
{
    struct buf values = {0};
    struct record record = {.length_bytes = claimed_bytes, .stamp_us = raw_now_us()};
    blake3_hash(slice_of(value, len), &record.hash);
    raw_value(&values, &rig->signer, key, &record, false);
    raw_push_values(&rig->raw, rig->store[0], &rig->signer, 1, buf_slice(&values));
    buf_fini(&values);
}

static bool shows(void *arg)
{
    struct rig *rig = arg;
    struct hkv_value got;
    enum hkv_err err = hkv_get(rig->awaited, rig->key, strlen(rig->key), &got);
    if (err != HKV_OK) return false;
    assert_int_equal(got.length, rig->value_bytes);
    assert_memory_equal(got.data, rig->value, got.length);
    hkv_value_free(&got);
    return true;
}

static void await(struct rig *rig, struct hkv_store *store, const char *key)
{
    rig->awaited = store;
    rig->key = key;
    raw_until(&rig->raw, shows, rig, key);
}

static bool was_asked(void *arg)
{
    return ((struct rig *)arg)->asked > 0;
}

/* The raw peer gives an entry and lies about its value; then an honest store with the value comes along. */
static void lie_first(struct rig *rig, enum lie lie, const uint8_t *value, size_t len)
{
    struct hkv_value got;
    rig->lie = lie;
    rig->value = value;
    rig->value_bytes = len;
    push_entry(rig, "k", value, len, len);
    raw_until(&rig->raw, was_asked, rig, "the raw peer is asked for the value");
    assert_err(HKV_E_NOT_FOUND, hkv_get(rig->store[0], "k", 1, &got));
    rig->store[1] = node_open(&rig->dir[1], NAMESPACE_SECRET);
    assert_ok(hkv_put(rig->store[1], HKV_TEXT("other"), value, len, NULL, NULL));
    node_connect(rig->store[1], rig->store[0]);
    await(rig, rig->store[0], "k");
    await(rig, rig->store[0], "other");
}

static void fill(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) bytes[i] = (uint8_t)(i * 13 % 251 + 1);
}

static void lies_about_a_small_value(void **state, enum lie lie)
{
    static uint8_t value[5000];
    fill(value, sizeof value);
    lie_first(*state, lie, value, sizeof value);
}

static void lies_about_a_large_value(void **state, enum lie lie)
{
    static uint8_t value[LARGE_BYTES];
    fill(value, sizeof value);
    lie_first(*state, lie, value, sizeof value);
}

#define LIES(name, lie)                                                                                                \
    static void small_##name(void **state)                                                                             \
    {                                                                                                                  \
        lies_about_a_small_value(state, lie);                                                                          \
    }                                                                                                                  \
    static void large_##name(void **state)                                                                             \
    {                                                                                                                  \
        lies_about_a_large_value(state, lie);                                                                          \
    }

LIES(not_found, LIE_NOT_FOUND)
LIES(wrong_bytes, LIE_WRONG_BYTES)
LIES(too_long, LIE_TOO_LONG)
LIES(longer, LIE_LONGER)
LIES(shorter, LIE_SHORTER)
LIES(cut, LIE_CUT)
LIES(silent, LIE_SILENT)
LIES(trickle, LIE_TRICKLE)
LIES(closes, LIE_CLOSE)

/* Many entries of the raw peer, which lies about every value, and an honest store that has them all. */
#define VALUES 100

static void value_text(size_t i, char text[32], char key[32])
{
    (void)snprintf(text, 32, "value %zu", i);
    (void)snprintf(key, 32, "key %zu", i);
}

static bool all_are_shown(void *arg)
{
    struct rig *rig = arg;
    for (size_t i = 0; i < VALUES; i++) {
        char text[32], key[32];
        struct hkv_value got;
        value_text(i, text, key);
        if (hkv_get(rig->store[0], key, strlen(key), &got) != HKV_OK) return false;
        assert_string_equal((const char *)got.data, text);
        hkv_value_free(&got);
    }
    return true;
}

static void push_many(struct rig *rig, size_t count)
{
    struct buf values = {0};
    for (size_t i = 0; i < count; i++) {
        char text[32], key[32];
        value_text(i, text, key);
        struct record record = {.length_bytes = strlen(text) + 1, .stamp_us = raw_now_us()};
        blake3_hash(slice_of(text, strlen(text) + 1), &record.hash);
        raw_value(&values, &rig->signer, key, &record, false);
    }
    raw_push_values(&rig->raw, rig->store[0], &rig->signer, count, buf_slice(&values));
    buf_fini(&values);
}

static void a_silent_provider_is_not_asked_for_one_value_after_the_other(void **state)
{
    struct rig *rig = *state;
    rig->lie = LIE_SILENT;
    rig->store[1] = node_open(&rig->dir[1], NAMESPACE_SECRET);
    for (size_t i = 0; i < VALUES; i++) {
        char text[32], key[32];
        value_text(i, text, key);
        assert_ok(hkv_put(rig->store[1], key + 4, strlen(key + 4), text, strlen(text) + 1, NULL, NULL));
    }
    push_many(rig, VALUES);
    raw_until(&rig->raw, was_asked, rig, "the raw peer is asked for the values");
    node_connect(rig->store[1], rig->store[0]);
    raw_until(&rig->raw, all_are_shown, rig, "the values come from the honest store");
    assert_true(rig->asked < VALUES);
}

/* ---- two processes with one endpoint id: copies of one data directory ---- */

struct meeting {
    struct hkv_store *store;
    const struct raw *raw;
    bool was; /* the last session with the raw peer's id came from its address */
};

static void look_where_met(struct hkv_store *store, void *arg)
{
    struct meeting *m = arg;
    struct address_set addrs = {0};
    const struct peer *peer = peers_find(&store->peers, net_endpoint_id(m->raw->ep));
    assert_non_null(peer);
    assert_ok(net_endpoint_addresses(m->raw->ep, &addrs));
    m->was = peer->met.port == addrs.items[0].socket.port;
    address_set_fini(&addrs);
}

static bool was_met(void *arg)
{
    struct meeting *m = arg;
    node_on_network(m->store, look_where_met, m);
    return m->was;
}

static void be_patient(struct hkv_store *store, void *arg)
{
    (void)arg;
    store->patience.fetch_progress_us = UINT64_MAX / 4;
    store->patience.sync_progress_us = store->patience.sync_first_byte_us = 60000000;
    store->anti_entropy_us = UINT64_MAX / 4; /* no other session makes the store look again */
}

static bool both_run_until_shown(void *arg)
{
    struct rig *rig = arg;
    (void)uv_run(&rig->raw.loop, UV_RUN_NOWAIT);
    return shows(rig);
}

/* The store is connected with the copy that lacks the value when the other one has a session. */
static void of_two_copies_the_one_that_was_met_last_is_asked_too(void **state)
{
    static uint8_t value[5000];
    struct rig *rig = *state;
    struct rig other = {.signer = rig->signer, .value = value, .value_bytes = sizeof value};
    struct meeting meeting = {.store = rig->store[0], .raw = &other.raw};
    fill(value, sizeof value);
    rig->value = value;
    rig->value_bytes = sizeof value;
    other.store[0] = rig->store[0];
    raw_open(&other.raw, 0x51);
    other.raw.user = &other;
    other.raw.data = provide;
    node_on_network(rig->store[0], be_patient, NULL);
    rig->lie = LIE_LATER;
    push_entry(rig, "k", value, sizeof value, sizeof value);
    raw_until(&rig->raw, was_asked, rig, "the first copy is asked for the value");
    push_entry(&other, "again", value, sizeof value, sizeof value);
    raw_until(&other.raw, was_met, &meeting, "the store notes the other copy's address");
    transport_stream_reset(rig->last_asked->stream, 3);
    raw_until(&rig->raw, raw_stream_is_closed, rig->last_asked, "the first copy has said that it lacks the value");
    other.awaited = rig->store[0];
    other.key = "k";
    rig->lie = LIE_NOT_FOUND;
    raw_until(&rig->raw, both_run_until_shown, &other, "the value comes from the other copy");
    assert_int_equal(rig->asked, 1);
    raw_close(&other.raw);
}

static void look(struct hkv_store *store, void *arg)
{
    const struct fetcher *fetcher = store->fetcher;
    *(bool *)arg = fetcher->item_count >= FETCH_QUEUE_MAX && fetcher->takes == 0 && fetcher->timer.due_us == 0;
}

static bool waits_for_room(void *arg)
{
    struct rig *rig = arg;
    bool waits;
    node_on_network(rig->store[0], look, &waits);
    return waits;
}

static void a_full_queue_does_not_ask_the_store_for_more_until_it_has_room(void **state)
{
    struct rig *rig = *state;
    rig->lie = LIE_SILENT;
    push_many(rig, FETCH_QUEUE_MAX + 100);
    raw_until(&rig->raw, waits_for_room, rig, "a full queue waits");
}

/* An author's entry says another length than the value has; the hash is right. Who has the value also has it under a
 * key of its own. */
static void length_in_the_entry_lies(void **state, size_t len, uint64_t claimed)
{
    static uint8_t value[LARGE_BYTES];
    struct rig *rig = *state;
    fill(value, len);
    rig->lie = LIE_NOT_FOUND;
    rig->value = value;
    rig->value_bytes = len;
    push_entry(rig, "lying", value, len, claimed);
    rig->store[1] = node_open(&rig->dir[1], NAMESPACE_SECRET);
    assert_ok(hkv_put(rig->store[1], HKV_TEXT("honest"), value, len, NULL, NULL));
    node_connect(rig->store[0], rig->store[1]);
    await(rig, rig->store[0], "honest");
    await(rig, rig->store[0], "lying");
    node_await_equal(rig->store[0], rig->store[1]);
}

static void an_entry_says_less_than_a_small_value_has(void **state)
{
    length_in_the_entry_lies(state, 5000, 1);
}

static void an_entry_says_less_than_a_large_value_has(void **state)
{
    length_in_the_entry_lies(state, LARGE_BYTES, 1);
}

static void an_entry_says_little_less_than_a_large_value_has(void **state)
{
    length_in_the_entry_lies(state, LARGE_BYTES, LARGE_BYTES - 1);
}

static void an_entry_says_more_than_a_small_value_has(void **state)
{
    length_in_the_entry_lies(state, 5000, 100000);
}

static void an_entry_says_more_than_any_value_may_have(void **state)
{
    length_in_the_entry_lies(state, 5000, UINT64_MAX / 2);
}

/* Right, and then without end: what was right is kept, the rest is not taken. */
static void a_provider_that_does_not_end_is_stopped(void **state)
{
    struct rig *rig = *state;
    static uint8_t value[5000];
    fill(value, sizeof value);
    rig->lie = LIE_ENDLESS;
    rig->value = value;
    rig->value_bytes = sizeof value;
    push_entry(rig, "k", value, sizeof value, sizeof value);
    await(rig, rig->store[0], "k");
}

/* The honest case, so that the others fail for the right reason. */
static void an_honest_provider_is_believed(void **state)
{
    struct rig *rig = *state;
    static uint8_t value[5000];
    fill(value, sizeof value);
    rig->value = value;
    rig->value_bytes = sizeof value;
    push_entry(rig, "k", value, sizeof value, sizeof value);
    await(rig, rig->store[0], "k");
    assert_int_equal(rig->asked, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_honest_provider_is_believed),
        TEST(small_not_found),
        TEST(small_wrong_bytes),
        TEST(small_too_long),
        TEST(small_longer),
        TEST(small_shorter),
        TEST(small_cut),
        TEST(small_silent),
        TEST(small_trickle),
        TEST(small_closes),
        TEST(large_not_found),
        TEST(large_wrong_bytes),
        TEST(large_too_long),
        TEST(large_longer),
        TEST(large_shorter),
        TEST(large_cut),
        TEST(large_silent),
        TEST(large_trickle),
        TEST(large_closes),
        TEST(a_silent_provider_is_not_asked_for_one_value_after_the_other),
        TEST(of_two_copies_the_one_that_was_met_last_is_asked_too),
        TEST(a_full_queue_does_not_ask_the_store_for_more_until_it_has_room),
        TEST(an_entry_says_less_than_a_small_value_has),
        TEST(an_entry_says_less_than_a_large_value_has),
        TEST(an_entry_says_little_less_than_a_large_value_has),
        TEST(an_entry_says_more_than_a_small_value_has),
        TEST(an_entry_says_more_than_any_value_may_have),
        TEST(a_provider_that_does_not_end_is_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
