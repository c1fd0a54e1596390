/* Two peers that may have a large value, the first of them slow: it is left for the other one, and gone back to when
 * the other one has nothing. */
#include "unit/blobs/fixture_blobs.h"

#include <string.h>

#include "crypto/blake3.h"
#include "node/fetch_parts.h"
#include "unit/node/fixture_raw.h"

#define VALUE_BYTES ((size_t)300000)
#define PIECE_BYTES ((size_t)60000) /* that a slow one sends in the time in which the store looks at it once */

struct rig;

struct provider {
    struct raw raw;
    struct rig *rig;
    bool is_slow, has_it;
    size_t asked;
    struct raw_stream *stream; /* of the last request */
    struct buf answer;         /* to it */
    size_t sent;
};

struct rig {
    struct node_dir dir;
    struct hkv_store *store;
    struct fixture_source source;
    struct provider first, second;
};

static void shorten(struct hkv_store *store, void *arg)
{
    (void)arg;
    store->patience.fetch_progress_us = 300000;
    store->patience.fetch_slow_bytes = UINT64_MAX;
}

static void send_piece(struct provider *p, size_t len)
{
    size_t left = p->answer.len - p->sent;
    if (len > left) len = left;
    raw_send(p->stream, p->answer.data + p->sent, len);
    p->sent += len;
    if (p->sent == p->answer.len) raw_finish(p->stream);
}

static void provide(struct raw *raw, struct raw_stream *s)
{
    struct provider *p = raw->user;
    if (strcmp(s->conn->alpn, RAW_BLOBS) != 0 || !s->fin || s->step++ > 0) return;
    p->asked++;
    if (!p->has_it) {
        transport_stream_reset(s->stream, BLOBS_CODE_INTERNAL);
        return;
    }
    p->stream = s;
    p->sent = 0;
    buf_clear(&p->answer);
    (void)fixture_respond(&p->rig->source, buf_slice(&s->in), 65536, &p->answer);
    if (!p->is_slow) send_piece(p, p->answer.len);
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
        if (endpoint_id_equal(&p->id, net_endpoint_id(l->provider->raw.ep)) && p->requests != NULL)
            l->waits = p->requests->mark == p->requests->received && !p->requests->over;
}

static void go_on(struct provider *p)
{
    const struct raw_stream *s = p->stream;
    struct look l = {.provider = p};
    (void)uv_run(&p->raw.loop, UV_RUN_NOWAIT);
    if (!p->is_slow || s == NULL || s->closed || s->stopped || s->finished || p->sent == p->answer.len) return;
    node_on_network(p->rig->store, look, &l);
    if (l.waits) send_piece(p, PIECE_BYTES);
}

static bool is_shown(void *arg)
{
    struct rig *rig = arg;
    struct hkv_value got;
    go_on(&rig->first);
    go_on(&rig->second);
    if (hkv_get(rig->store, HKV_TEXT("k"), &got) != HKV_OK) return false;
    assert_int_equal(got.length, VALUE_BYTES);
    assert_memory_equal(got.data, rig->source.values[0].data, VALUE_BYTES);
    hkv_value_free(&got);
    return true;
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
    buf_fini(&p->answer);
}

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    node_dir_make(&rig->dir);
    fixture_source_init(&rig->source);
    (void)fixture_source_add_pattern(&rig->source, VALUE_BYTES);
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

/* The first peer brings the entry, so it is asked first. */
static void run(struct rig *rig)
{
    struct raw_signer signer;
    struct buf values = {0};
    struct record record = {.hash = rig->source.values[0].hash, .length_bytes = VALUE_BYTES, .stamp_us = raw_now_us()};
    raw_signer_init(&signer, NAMESPACE_SECRET, 0xa7);
    raw_value(&values, &signer, "k", &record, false);
    raw_be_known(&rig->second.raw, rig->store);
    raw_push_values(&rig->first.raw, rig->store, &signer, 1, buf_slice(&values));
    raw_until(&rig->first.raw, is_shown, rig, "the value is there");
    buf_fini(&values);
}

static void a_slow_provider_is_left_for_another_one(void **state)
{
    struct rig *rig = *state;
    rig->first.has_it = rig->first.is_slow = rig->second.has_it = true;
    run(rig);
    assert_int_equal(rig->second.asked, 1);
    assert_true(rig->first.sent < rig->first.answer.len);
    /* what the slow one brought is not asked for again */
    assert_true(rig->second.answer.len < rig->first.answer.len);
}

static void a_slow_provider_is_gone_back_to_when_nobody_else_has_the_value(void **state)
{
    struct rig *rig = *state;
    rig->first.has_it = rig->first.is_slow = true;
    run(rig);
    assert_true(rig->first.asked > 1);
    assert_true(rig->second.asked > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_slow_provider_is_left_for_another_one),
        TEST(a_slow_provider_is_gone_back_to_when_nobody_else_has_the_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
