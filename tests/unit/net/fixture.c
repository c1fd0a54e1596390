#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "crypto/ed25519.h"

static void act(struct rig_conn *rc, enum rig_callback in)
{
    struct rig_behaviour *b = &rc->node->behaviour;
    if (b->act_in == in) b->act(rc);
}

/* ---- streams ---- */

uint8_t rig_pattern(uint64_t at)
{
    return (uint8_t)(at ^ at >> 8 ^ at >> 16 ^ at >> 24);
}

static void on_data(struct transport_stream *stream, struct slice bytes, bool fin)
{
    struct rig_stream *s = transport_stream_user(stream);
    struct rig_behaviour *b = &s->conn->node->behaviour;
    assert_false(s->fin);
    for (size_t i = 0; i < bytes.len; i++) s->mismatches += bytes.data[i] != rig_pattern(s->received_bytes + i);
    s->received_bytes += bytes.len;
    if (b->keep) assert_int_equal(buf_append_slice(&s->received, bytes), HKV_OK);
    if (fin) {
        s->fin = true;
        s->conn->fin_streams++;
    }
    if (b->hold)
        s->unconsumed += bytes.len;
    else
        transport_stream_consumed(stream, bytes.len);
    if (b->echo) {
        struct buf copy = {0};
        assert_int_equal(buf_append_slice(&copy, bytes), HKV_OK);
        if (copy.len) assert_int_equal(transport_stream_write(stream, &copy), HKV_OK);
        if (fin) transport_stream_finish(stream);
    }
    act(s->conn, RIG_DATA);
}

static void on_writable(struct transport_stream *stream)
{
    struct rig_stream *s = transport_stream_user(stream);
    s->writable_count++;
    assert_true(transport_stream_queued(stream) <= TRANSPORT_WRITABLE_BYTES);
    if (s->write_goal) rig_pump(s);
    act(s->conn, RIG_WRITABLE);
}

static void on_finished(struct transport_stream *stream)
{
    struct rig_stream *s = transport_stream_user(stream);
    assert_false(s->finished);
    assert_int_equal(transport_stream_queued(stream), 0);
    s->finished = true;
    act(s->conn, RIG_FINISHED);
}

static void on_reset(struct transport_stream *stream, uint64_t code)
{
    struct rig_stream *s = transport_stream_user(stream);
    s->was_reset = true;
    s->reset_code = code;
    act(s->conn, RIG_RESET);
}

static void on_stopped(struct transport_stream *stream, uint64_t code)
{
    struct rig_stream *s = transport_stream_user(stream);
    s->was_stopped = true;
    s->stop_code = code;
    act(s->conn, RIG_STOPPED);
}

static void on_stream_closed(struct transport_stream *stream)
{
    struct rig_stream *s = transport_stream_user(stream);
    assert_false(s->closed);
    s->closed = true;
    s->stream = NULL;
    s->conn->closed_streams++;
    act(s->conn, RIG_STREAM_CLOSED);
}

static const struct transport_stream_events stream_events = {
    .data = on_data,
    .writable = on_writable,
    .finished = on_finished,
    .reset = on_reset,
    .stopped = on_stopped,
    .closed = on_stream_closed,
};

static struct rig_stream *stream_slot(struct rig_conn *rc)
{
    assert_true(rc->stream_count < RIG_STREAMS_MAX);
    struct rig_stream *s = &rc->streams[rc->stream_count++];
    *s = (struct rig_stream){.conn = rc};
    return s;
}

struct rig_stream *rig_stream(struct rig_conn *conn)
{
    struct rig_stream *s = stream_slot(conn);
    assert_int_equal(transport_stream_open(conn->conn, &stream_events, s, &s->stream), HKV_OK);
    return s;
}

void rig_write(struct rig_stream *s, const void *data, size_t len)
{
    struct buf b = {0};
    assert_int_equal(buf_append(&b, data, len), HKV_OK);
    assert_int_equal(transport_stream_write(s->stream, &b), HKV_OK);
    assert_int_equal(b.len, 0);
}

void rig_pump(struct rig_stream *s)
{
    while (s->written < s->write_goal && transport_stream_queued(s->stream) < s->write_mark) {
        struct buf b = {0};
        size_t len = s->write_goal - s->written < 65536 ? (size_t)(s->write_goal - s->written) : 65536;
        assert_int_equal(buf_reserve(&b, len), HKV_OK);
        for (size_t i = 0; i < len; i++) b.data[i] = rig_pattern(s->written + i);
        b.len = len;
        s->written += len;
        assert_int_equal(transport_stream_write(s->stream, &b), HKV_OK);
        size_t queued = transport_stream_queued(s->stream);
        if (queued > s->queued_peak) s->queued_peak = queued;
    }
    if (s->written == s->write_goal) transport_stream_finish(s->stream);
}

/* ---- connections ---- */

static void on_opened(struct transport_conn *conn)
{
    struct rig_conn *rc = transport_conn_user(conn);
    assert_false(rc->opened);
    rc->opened = true;
    rc->peer = *transport_conn_peer(conn);
    act(rc, RIG_OPENED);
}

static bool on_stream(struct transport_conn *conn, struct transport_stream *stream)
{
    struct rig_conn *rc = transport_conn_user(conn);
    if (rc->node->behaviour.refuse_streams) return false;
    struct rig_stream *s = stream_slot(rc);
    s->stream = stream;
    transport_stream_set(stream, &stream_events, s);
    act(rc, RIG_STREAM);
    return true;
}

static void on_closed(struct transport_conn *conn, enum hkv_err err, uint64_t code, const char *why)
{
    struct rig_conn *rc = transport_conn_user(conn);
    assert_false(rc->closed);
    for (size_t i = 0; i < rc->stream_count; i++) assert_true(rc->streams[i].closed);
    rc->closed = true;
    rc->conn = NULL;
    rc->err = err;
    rc->code = code;
    snprintf(rc->why, sizeof rc->why, "%s", why);
    act(rc, RIG_CLOSED);
}

static const struct transport_conn_events conn_events = {.opened = on_opened, .stream = on_stream, .closed = on_closed};

static struct rig_conn *conn_slot(struct rig_node *node)
{
    assert_true(node->conn_count < RIG_CONNS_MAX);
    struct rig_conn *rc = calloc(1, sizeof *rc);
    assert_non_null(rc);
    rc->node = node;
    node->conns[node->conn_count++] = rc;
    return rc;
}

struct rig_conn *rig_dial_at(struct rig_node *from, const struct endpoint_id *to, const struct socket_address *at,
                             size_t at_count, const char *alpn)
{
    struct address_set set = {0};
    struct rig_conn *rc = conn_slot(from);
    for (size_t i = 0; i < at_count; i++) assert_int_equal(address_set_add_socket(&set, &at[i]), HKV_OK);
    assert_int_equal(
        transport_dial(net_endpoint_transport(from->ep), to, &set, slice_of_text(alpn), &conn_events, rc, &rc->conn),
        HKV_OK);
    address_set_fini(&set);
    return rc;
}

struct rig_conn *rig_dial(struct rig_node *from, struct rig_node *to, const char *alpn)
{
    struct socket_address at = rig_address(to);
    return rig_dial_at(from, net_endpoint_id(to->ep), &at, 1, alpn);
}

struct rig_conn *rig_dial_any(struct rig_node *from, struct rig_node *to, const char *const *alpns, size_t alpn_count)
{
    struct address_set set = {0};
    struct slice list[8];
    struct socket_address at = rig_address(to);
    struct rig_conn *rc = conn_slot(from);
    for (size_t i = 0; i < alpn_count; i++) list[i] = slice_of_text(alpns[i]);
    assert_int_equal(address_set_add_socket(&set, &at), HKV_OK);
    assert_int_equal(transport_dial_any(net_endpoint_transport(from->ep), net_endpoint_id(to->ep), &set, list,
                                        alpn_count, &conn_events, rc, &rc->conn),
                     HKV_OK);
    address_set_fini(&set);
    return rc;
}

static bool on_admit(void *user, const struct endpoint_id *peer)
{
    struct rig_node *node = user;
    (void)peer;
    node->admit_calls++;
    return !node->behaviour.refuse_peers;
}

static bool on_accepted(void *user, struct transport_conn *conn, struct slice alpn)
{
    struct rig_node *node = user;
    if (node->behaviour.refuse_conns) return false;
    struct rig_conn *rc = conn_slot(node);
    rc->conn = conn;
    rc->accepted = true;
    memcpy(rc->alpn, alpn.data, alpn.len);
    transport_conn_set(conn, &conn_events, rc);
    return true;
}

struct rig_conn *rig_accepted(struct rig_node *node)
{
    for (size_t i = node->conn_count; i-- > 0;)
        if (node->conns[i]->accepted && !node->conns[i]->closed) return node->conns[i];
    return NULL;
}

size_t rig_accepted_count(const struct rig_node *node)
{
    size_t count = 0;
    for (size_t i = 0; i < node->conn_count; i++) count += node->conns[i]->accepted;
    return count;
}

/* ---- nodes ---- */

struct socket_address rig_loopback(bool ipv6, uint16_t port)
{
    struct socket_address a = {.port = port, .is_ipv6 = ipv6};
    if (ipv6)
        a.ip[15] = 1;
    else
        memcpy(a.ip, (uint8_t[]){127, 0, 0, 1}, 4);
    return a;
}

struct socket_address rig_address(const struct rig_node *node)
{
    bool ipv6 = node->rig->ipv6;
    return rig_loopback(ipv6, net_endpoint_port(node->ep, ipv6));
}

void rig_open_alpns(struct rig *rig, size_t index, const char *const *alpns, size_t alpn_count)
{
    struct rig_node *node = &rig->nodes[index];
    struct slice list[8];
    for (size_t i = 0; i < alpn_count; i++) list[i] = slice_of_text(alpns[i]);
    node->rig = rig;
    memset(node->secret.bytes, (int)(index + 1), ID_BYTES);
    struct net_endpoint_config config = {
        .loop = &rig->loop,
        .secret = &node->secret,
        .bind_v4 = rig_loopback(false, 0),
        .bind_v6 = rig_loopback(true, 0),
        .use_v4 = !rig->ipv6 || rig->both,
        .use_v6 = rig->ipv6 || rig->both,
        .alpns = list,
        .alpn_count = alpn_count,
        .owner = {.admit = on_admit, .accepted = on_accepted, .user = node},
        .limits = rig->limits,
    };
    if (rig->wildcard) memset(config.bind_v4.ip, 0, sizeof config.bind_v4.ip);
    enum hkv_err err = net_endpoint_open(&config, &node->ep);
    if (err != HKV_OK) fail_msg("net_endpoint_open: %s", error_last());
    node->closing = node->closed = false;
}

void rig_open(struct rig *rig, size_t index)
{
    static const char *const alpns[] = {RIG_ALPN_A, RIG_ALPN_B};
    rig_open_alpns(rig, index, alpns, 2);
}

static void on_endpoint_closed(void *user)
{
    struct rig_node *node = user;
    node->closed = true;
    node->ep = NULL;
}

void rig_close_begin(struct rig_node *node)
{
    node->closing = true;
    net_endpoint_close(node->ep, on_endpoint_closed, node);
}

void rig_close_node(struct rig_node *node)
{
    rig_close_begin(node);
    rig_until(node->rig, node->closed);
}

static void on_deadline(uv_timer_t *timer)
{
    struct rig *rig = timer->data;
    rig->expired = true;
}

void rig_deadline_start(struct rig *rig)
{
    rig->expired = false;
    uv_update_time(&rig->loop);
    uv_timer_start(&rig->deadline, on_deadline, RIG_DEADLINE_MS, 0);
}

void rig_deadline_stop(struct rig *rig)
{
    uv_timer_stop(&rig->deadline);
}

void rig_init(struct rig *rig)
{
    memset(rig, 0, sizeof *rig);
    assert_int_equal(uv_loop_init(&rig->loop), 0);
    assert_int_equal(uv_timer_init(&rig->loop, &rig->deadline), 0);
    rig->deadline.data = rig;
    net_limits_default(&rig->limits);
}

static void node_free_records(struct rig_node *node)
{
    for (size_t i = 0; i < node->conn_count; i++) {
        struct rig_conn *rc = node->conns[i];
        assert_true(rc->closed);
        for (size_t k = 0; k < rc->stream_count; k++) buf_fini(&rc->streams[k].received);
        free(rc);
    }
}

void rig_fini(struct rig *rig)
{
    size_t count = sizeof rig->nodes / sizeof rig->nodes[0];
    for (size_t i = 0; i < count; i++)
        if (rig->nodes[i].ep && !rig->nodes[i].closing) rig_close_begin(&rig->nodes[i]);
    for (size_t i = 0; i < count; i++) rig_until(rig, rig->nodes[i].ep == NULL);
    for (size_t i = 0; i < count; i++) node_free_records(&rig->nodes[i]);
    uv_close((uv_handle_t *)&rig->deadline, NULL);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig->loop), 0);
}
