#include "unit/node/fixture_raw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "crypto/ed25519.h"
#include "docs/message.h"
#include "kv/kv.h"
#include "wire/ticket.h"

#define RAW_TICK_MS    5
#define RAW_DEADLINE_S 60

/* ---- streams ---- */

static void stream_data(struct transport_stream *stream, struct slice bytes, bool fin)
{
    struct raw_stream *s = transport_stream_user(stream);
    s->received += bytes.len;
    s->fin = s->fin || fin;
    if (!s->hold) {
        assert_ok(buf_append_slice(&s->in, bytes));
        transport_stream_consumed(stream, bytes.len);
    }
    if (s->conn->accepted && s->conn->raw->data != NULL) s->conn->raw->data(s->conn->raw, s);
}

static void stream_writable(struct transport_stream *stream)
{
    (void)stream;
}

static void stream_finished(struct transport_stream *stream)
{
    struct raw_stream *s = transport_stream_user(stream);
    s->finished = true;
}

static void stream_reset(struct transport_stream *stream, uint64_t code)
{
    struct raw_stream *s = transport_stream_user(stream);
    s->reset = true;
    s->reset_code = code;
}

static void stream_stopped(struct transport_stream *stream, uint64_t code)
{
    struct raw_stream *s = transport_stream_user(stream);
    s->stopped = true;
    s->stop_code = code;
}

static void stream_closed(struct transport_stream *stream)
{
    struct raw_stream *s = transport_stream_user(stream);
    s->closed = true;
    s->stream = NULL;
}

static const struct transport_stream_events stream_events = {
    .data = stream_data,
    .writable = stream_writable,
    .finished = stream_finished,
    .reset = stream_reset,
    .stopped = stream_stopped,
    .closed = stream_closed,
};

static struct raw_stream *stream_new(struct raw_conn *conn)
{
    struct raw_stream *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->conn = conn;
    s->hold = conn->raw->hold;
    s->next = conn->streams;
    conn->streams = s;
    return s;
}

struct raw_stream *raw_stream(struct raw_conn *conn)
{
    struct raw_stream *s = stream_new(conn);
    assert_non_null(conn->conn);
    assert_ok(transport_stream_open(conn->conn, &stream_events, s, &s->stream));
    return s;
}

void raw_send_buf(struct raw_stream *s, struct buf *bytes)
{
    if (s->stream == NULL || transport_stream_write(s->stream, bytes) != HKV_OK) buf_fini(bytes);
}

void raw_send(struct raw_stream *s, const void *data, size_t len)
{
    struct buf bytes = {0};
    assert_ok(buf_append(&bytes, data, len));
    raw_send_buf(s, &bytes);
}

void raw_finish(struct raw_stream *s)
{
    if (s->stream != NULL) transport_stream_finish(s->stream);
}

/* ---- connections ---- */

static void conn_opened(struct transport_conn *conn)
{
    ((struct raw_conn *)transport_conn_user(conn))->opened = true;
}

static bool conn_stream(struct transport_conn *conn, struct transport_stream *stream)
{
    struct raw_stream *s = stream_new(transport_conn_user(conn));
    s->stream = stream;
    transport_stream_set(stream, &stream_events, s);
    return true;
}

static void conn_closed(struct transport_conn *conn, enum hkv_err err, uint64_t code, const char *why)
{
    struct raw_conn *c = transport_conn_user(conn);
    (void)why;
    c->closed = true;
    c->conn = NULL;
    c->err = err;
    c->code = code;
}

static const struct transport_conn_events conn_events = {
    .opened = conn_opened, .stream = conn_stream, .closed = conn_closed};

static struct raw_conn *conn_new(struct raw *raw)
{
    struct raw_conn *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->raw = raw;
    c->next = raw->conns;
    raw->conns = c;
    return c;
}

static bool admit(void *user, const struct endpoint_id *peer)
{
    (void)user, (void)peer;
    return true;
}

static bool accepted(void *user, struct transport_conn *conn, struct slice alpn)
{
    struct raw *raw = user;
    struct raw_conn *c = conn_new(raw);
    c->conn = conn;
    c->accepted = c->opened = true;
    memcpy(c->alpn, alpn.data, alpn.len);
    raw->accepted_count++;
    transport_conn_set(conn, &conn_events, c);
    return true;
}

void raw_open(struct raw *raw, uint8_t seed)
{
    const struct slice alpns[] = {slice_of_text(RAW_SYNC), slice_of_text(RAW_BLOBS)};
    memset(raw, 0, sizeof *raw);
    memset(raw->secret.bytes, seed, ID_BYTES);
    assert_int_equal(uv_loop_init(&raw->loop), 0);
    assert_int_equal(uv_timer_init(&raw->loop, &raw->tick), 0);
    struct net_endpoint_config config = {
        .loop = &raw->loop,
        .secret = &raw->secret,
        .use_v4 = true,
        .bind_v4.ip = {127, 0, 0, 1},
        .alpns = alpns,
        .alpn_count = 2,
        .owner = {.admit = admit, .accepted = accepted, .user = raw},
    };
    net_limits_default(&config.limits);
    config.limits.streams_max = 2000;
    config.limits.linger_ms = 10;
    assert_ok(net_endpoint_open(&config, &raw->ep));
}

static void closed(void *user)
{
    ((struct raw *)user)->gone = true;
}

void raw_close(struct raw *raw)
{
    struct raw_conn *c;
    net_endpoint_close(raw->ep, closed, raw);
    while (!raw->gone) (void)uv_run(&raw->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&raw->tick, NULL);
    (void)uv_run(&raw->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&raw->loop), 0);
    while ((c = raw->conns) != NULL) {
        struct raw_stream *s;
        while ((s = c->streams) != NULL) {
            c->streams = s->next;
            buf_fini(&s->in);
            free(s);
        }
        raw->conns = c->next;
        free(c);
    }
}

void raw_be_known(struct raw *raw, struct hkv_store *store)
{
    struct endpoint_address self = {.id = *net_endpoint_id(raw->ep)};
    struct buf ticket = {0};
    assert_ok(net_endpoint_addresses(raw->ep, &self.addrs));
    assert_ok(endpoint_ticket_encode(&self, &ticket));
    assert_ok(buf_append_byte(&ticket, 0));
    assert_ok(hkv_peer_add(store, (const char *)ticket.data));
    buf_fini(&ticket);
    endpoint_address_fini(&self);
}

static bool conn_is_settled(void *arg)
{
    const struct raw_conn *c = arg;
    return c->opened || c->closed;
}

struct raw_conn *raw_dial(struct raw *raw, struct hkv_store *store, const char *alpn)
{
    struct hkv_info info;
    struct endpoint_address address;
    struct raw_conn *c = conn_new(raw);
    assert_ok(hkv_info(store, &info));
    assert_ok(endpoint_ticket_decode(slice_of_text(info.endpoint_ticket), &address));
    assert_ok(transport_dial(net_endpoint_transport(raw->ep), &address.id, &address.addrs, slice_of_text(alpn),
                             &conn_events, c, &c->conn));
    endpoint_address_fini(&address);
    hkv_info_fini(&info);
    raw_until(raw, conn_is_settled, c, "a dialled connection opens or closes");
    return c;
}

static void ticked(uv_timer_t *tick)
{
    (void)tick;
}

void raw_until(struct raw *raw, bool (*condition)(void *arg), void *arg, const char *what)
{
    time_t end = time(NULL) + RAW_DEADLINE_S;
    (void)uv_timer_start(&raw->tick, ticked, RAW_TICK_MS, RAW_TICK_MS);
    while (!condition(arg)) {
        if (time(NULL) > end) fail_msg("waited in vain: %s", what);
        (void)uv_run(&raw->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&raw->tick);
}

bool raw_conn_is_closed(void *conn)
{
    return ((struct raw_conn *)conn)->closed;
}

bool raw_stream_is_closed(void *stream)
{
    return ((struct raw_stream *)stream)->closed;
}

bool raw_stream_is_over(void *stream)
{
    const struct raw_stream *s = stream;
    return s->fin || s->reset || s->closed;
}

/* ---- content of the protocols ---- */

void raw_signer_init(struct raw_signer *signer, const char *namespace_secret, uint8_t author_seed)
{
    assert_ok(crypto_init());
    memset(signer->author_secret.bytes, author_seed, ID_BYTES);
    for (size_t i = 0; i < ID_BYTES; i++) {
        const char digits[3] = {namespace_secret[2 * i], namespace_secret[2 * i + 1], 0};
        signer->namespace_secret.bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    ed25519_public_key(&signer->namespace_secret, signer->namespace.bytes);
    ed25519_public_key(&signer->author_secret, signer->author.bytes);
}

void raw_value(struct buf *out, const struct raw_signer *signer, const char *key, const struct record *record, bool bad)
{
    struct buf document_key = {0};
    assert_ok(kv_key_encode(slice_of_text(key), &document_key));
    struct entry e = {
        .namespace = signer->namespace, .author = signer->author, .key = buf_slice(&document_key), .record = *record};
    assert_ok(entry_sign(&e, &signer->namespace_secret, &signer->author_secret));
    if (bad) e.author_signature.bytes[3] ^= 1;
    assert_ok(entry_encode(&e, out));
    assert_ok(postcard_write_varint(out, 0)); /* Complete */
    buf_fini(&document_key);
}

uint64_t raw_now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void write_all_range(struct buf *out, uint32_t kind, const struct namespace_id *namespace)
{
    uint8_t bound[ENTRY_ID_MIN] = {0};
    memcpy(bound, namespace->bytes, ID_BYTES);
    assert_ok(postcard_write_varint(out, kind));
    assert_ok(postcard_write_bytes(out, slice_of(bound, sizeof bound)));
    assert_ok(postcard_write_bytes(out, slice_of(bound, sizeof bound)));
}

void raw_item_all(struct buf *out, const struct namespace_id *namespace, size_t value_count, struct slice values,
                  bool have_local)
{
    write_all_range(out, 1, namespace);
    assert_ok(postcard_write_varint(out, value_count));
    assert_ok(buf_append_slice(out, values));
    assert_ok(postcard_write_bool(out, have_local));
}

void raw_fingerprint_all(struct buf *out, const struct namespace_id *namespace, uint8_t fill)
{
    uint8_t bytes[ID_BYTES];
    memset(bytes, fill, sizeof bytes);
    write_all_range(out, 0, namespace);
    assert_ok(buf_append(out, bytes, sizeof bytes));
}

void raw_push_values(struct raw *raw, struct hkv_store *store, const struct raw_signer *signer, size_t value_count,
                     struct slice values)
{
    struct buf part = {0}, frame = {0};
    struct raw_conn *c = raw_dial(raw, store, RAW_SYNC);
    struct raw_stream *s = raw_stream(c);
    raw_item_all(&part, &signer->namespace, value_count, values, true);
    assert_ok(docs_write_init(&frame, &signer->namespace, 1, buf_slice(&part)));
    buf_fini(&part);
    raw_send_buf(s, &frame);
    raw_finish(s);
    raw_until(raw, raw_stream_is_over, s, "the store ends the session");
    if (c->conn != NULL) transport_conn_close(c->conn, 0, "");
    raw_until(raw, raw_conn_is_closed, c, "the connection of a session closes");
}

size_t raw_resident_bytes(void)
{
    char line[256];
    size_t kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmRSS: %zu kB", &kib) == 1) break;
    if (file != NULL) (void)fclose(file);
    return kib * 1024;
}

void raw_expect_growth(size_t before, size_t limit)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)before, (void)limit;
#else
    size_t now = raw_resident_bytes();
    if (now > before + limit) fail_msg("memory grew by %zu KiB, allowed are %zu", (now - before) >> 10, limit >> 10);
#endif
}
