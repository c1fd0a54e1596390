/* Two peers that may have what a store wants, the first of them slow or without it: what the other one can give is not
 * held up, and the first is gone back to for the rest. */
#include "unit/blobs/fixture_blobs.h"

#include <stdio.h>
#include <string.h>

#include "node/fetch_parts.h"
#include "unit/node/fixture_raw.h"

#define VALUE_BYTES ((size_t)300000)
#define PIECE_BYTES ((size_t)60000) /* that a slow one sends on a stream in the time in which the store looks once */
#define ANSWERS_MAX 40

struct rig;

struct answer {
    struct raw_stream *stream;
    struct buf bytes;
    size_t sent;
};

struct provider {
    struct raw raw;
    struct rig *rig;
    bool is_slow;
    const struct hash *lacks; /* answers to all others; NULL: it has everything */
    size_t lacks_count;
    size_t asked, refused;
    struct answer answers[ANSWERS_MAX];
    size_t answer_count;
};

struct rig {
    struct node_dir dir;
    struct hkv_store *store;
    struct fixture_source source;
    struct provider first, second;
    size_t awaited; /* the value */
};

static void shorten(struct hkv_store *store, void *arg)
{
    (void)arg;
    store->patience.fetch_progress_us = 300000;
    store->patience.fetch_slow_bytes = UINT64_MAX / 4;
}

static void send_piece(struct answer *a, size_t len)
{
    size_t left = a->bytes.len - a->sent;
    if (len > left) len = left;
    raw_send(a->stream, a->bytes.data + a->sent, len);
    a->sent += len;
    if (a->sent == a->bytes.len) raw_finish(a->stream);
}

/* Of the first value that is asked for. */
static bool has_it(const struct provider *p, struct slice request)
{
    struct blobs_request r;
    bool has = true;
    assert_int_equal(blobs_request_decode(request, &r, NULL), HKV_OK);
    for (size_t i = 0; i < p->lacks_count; i++) has = has && !hash_equal(&p->lacks[i], &r.hashes[0]);
    blobs_request_fini(&r);
    return has;
}

static void provide(struct raw *raw, struct raw_stream *s)
{
    struct provider *p = raw->user;
    if (strcmp(s->conn->alpn, RAW_BLOBS) != 0 || !s->fin || s->step++ > 0) return;
    p->asked++;
    if (!has_it(p, buf_slice(&s->in))) {
        p->refused++;
        transport_stream_reset(s->stream, BLOBS_CODE_INTERNAL);
        return;
    }
    assert_true(p->answer_count < ANSWERS_MAX);
    struct answer *a = &p->answers[p->answer_count++];
    a->stream = s;
    (void)fixture_respond(&p->rig->source, buf_slice(&s->in), 65536, &a->bytes);
    if (!p->is_slow) send_piece(a, a->bytes.len);
}

/* Whether the store has begun to count the slow one's bytes anew. */
struct look {
    const struct provider *provider;
    bool waits;
};

static void look(struct hkv_store *store, void *arg)
{
    struct look *l = arg;
    for (const struct fetch_peer *p = store->fetcher->peers; p != NULL; p = p->next)
        if (endpoint_id_equal(&p->id, net_endpoint_id(l->provider->raw.ep))) l->waits = p->mark == p->received;
}

static void go_on(struct provider *p)
{
    struct look l = {.provider = p};
    (void)uv_run(&p->raw.loop, UV_RUN_NOWAIT);
    if (!p->is_slow) return;
    node_on_network(p->rig->store, look, &l);
    for (size_t i = 0; i < p->answer_count && l.waits; i++) {
        struct answer *a = &p->answers[i];
        bool is_over = a->stream->closed || a->stream->stopped || a->sent == a->bytes.len;
        if (!is_over) send_piece(a, PIECE_BYTES);
    }
}

static void key_of(size_t value, char key[16])
{
    snprintf(key, 16, "k%zu", value);
}

static bool value_is_shown(const struct rig *rig, size_t value)
{
    const struct fixture_value *v = &rig->source.values[value];
    struct hkv_value got;
    char key[16];
    key_of(value, key);
    if (hkv_get(rig->store, key, strlen(key), &got) != HKV_OK) return false;
    assert_int_equal(got.length, v->len);
    assert_memory_equal(got.data, v->data, v->len);
    hkv_value_free(&got);
    return true;
}

static bool awaited_is_shown(void *arg)
{
    struct rig *rig = arg;
    go_on(&rig->first);
    go_on(&rig->second);
    return value_is_shown(rig, rig->awaited);
}

static bool all_are_shown(void *arg)
{
    struct rig *rig = arg;
    bool all = true;
    go_on(&rig->first);
    go_on(&rig->second);
    for (size_t i = 0; i < rig->source.count && all; i++) all = value_is_shown(rig, i);
    return all;
}

static void provider_open(struct rig *rig, struct provider *p, uint8_t seed)
{
    raw_open(&p->raw, seed);
    p->raw.user = p;
    p->raw.data = provide;
    p->rig = rig;
}

static void provider_close(struct provider *p)
{
    raw_close(&p->raw);
    for (size_t i = 0; i < ANSWERS_MAX; i++) buf_fini(&p->answers[i].bytes);
}

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    node_dir_make(&rig->dir);
    fixture_source_init(&rig->source);
    provider_open(rig, &rig->first, 0x51);
    provider_open(rig, &rig->second, 0x52);
    rig->store = node_open(&rig->dir, NAMESPACE_SECRET);
    node_on_network(rig->store, shorten, NULL);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    hkv_close(rig->store);
    provider_close(&rig->first);
    provider_close(&rig->second);
    fixture_source_fini(&rig->source);
    node_dir_remove(&rig->dir);
    free(rig);
    return 0;
}

/* Each of another length, and so another one. */
static void add_values(struct rig *rig, size_t count, size_t bytes)
{
    for (size_t i = 0; i < count; i++) (void)fixture_source_add_pattern(&rig->source, bytes + i);
}

/* A provider that lacks the first `count` values. */
static void lack(struct rig *rig, struct provider *p, struct hash *room, size_t count)
{
    for (size_t i = 0; i < count; i++) room[i] = rig->source.values[i].hash;
    p->lacks = room;
    p->lacks_count = count;
}

/* The first peer brings the entries, so it is asked first. */
static void run(struct rig *rig, bool (*until)(void *arg), const char *what)
{
    struct raw_signer signer;
    struct buf values = {0};
    raw_signer_init(&signer, NAMESPACE_SECRET, 0xa7);
    for (size_t i = 0; i < rig->source.count; i++) {
        const struct fixture_value *v = &rig->source.values[i];
        struct record record = {.hash = v->hash, .length_bytes = v->len, .stamp_us = raw_now_us()};
        char key[16];
        key_of(i, key);
        raw_value(&values, &signer, key, &record, false);
    }
    raw_be_known(&rig->second.raw, rig->store);
    raw_push_values(&rig->first.raw, rig->store, &signer, rig->source.count, buf_slice(&values));
    raw_until(&rig->first.raw, until, rig, what);
    buf_fini(&values);
}

static void a_slow_provider_is_left_for_another_one(void **state)
{
    struct rig *rig = *state;
    add_values(rig, 1, VALUE_BYTES);
    rig->first.is_slow = true;
    run(rig, all_are_shown, "the value comes from the second peer");
    assert_int_equal(rig->second.asked, 1);
    assert_true(rig->first.answers[0].sent < rig->first.answers[0].bytes.len);
    /* what the slow one brought is not asked for again */
    assert_true(rig->second.answers[0].bytes.len < rig->first.answers[0].bytes.len);
}

static void a_slow_provider_is_gone_back_to_when_nobody_else_has_the_value(void **state)
{
    struct rig *rig = *state;
    struct hash lacks[1];
    add_values(rig, 1, VALUE_BYTES);
    lack(rig, &rig->second, lacks, 1);
    rig->first.is_slow = true;
    run(rig, all_are_shown, "the value comes from the first peer in the end");
    assert_true(rig->first.asked > 1);
    assert_true(rig->second.refused > 0);
}

/* The first peer has all its streams busy with what only it has. */
static void slow_streams_do_not_hold_up_what_others_have(void **state)
{
    struct rig *rig = *state;
    struct hash lacks[FETCH_STREAMS_MAX];
    add_values(rig, FETCH_STREAMS_MAX + 1, VALUE_BYTES);
    lack(rig, &rig->second, lacks, FETCH_STREAMS_MAX);
    rig->first.is_slow = true;
    rig->awaited = FETCH_STREAMS_MAX;
    run(rig, awaited_is_shown, "the last value comes from the second peer");
    assert_int_equal(rig->second.answer_count, 1);
    for (size_t i = 0; i < FETCH_STREAMS_MAX; i++)
        assert_true(rig->first.answers[i].sent < rig->first.answers[i].bytes.len);
}

static void a_provider_that_has_nothing_is_not_asked_for_everything(void **state)
{
    struct rig *rig = *state;
    struct hash lacks[FIXTURE_VALUES_MAX];
    add_values(rig, FIXTURE_VALUES_MAX, 100);
    lack(rig, &rig->first, lacks, FIXTURE_VALUES_MAX);
    run(rig, all_are_shown, "all values come from the second peer");
    assert_in_range(rig->first.refused, FETCH_LACKS_MAX, FIXTURE_VALUES_MAX - 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_slow_provider_is_left_for_another_one),
        TEST(a_slow_provider_is_gone_back_to_when_nobody_else_has_the_value),
        TEST(slow_streams_do_not_hold_up_what_others_have),
        TEST(a_provider_that_has_nothing_is_not_asked_for_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
