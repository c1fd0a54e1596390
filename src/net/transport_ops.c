/* struct transport over the endpoint: the functions of wire/transport.h. */
#include "net/quic_dial.h"
#include "net/quic_stream.h"

static struct quic_conn *as_conn(struct transport_conn *conn)
{
    return (struct quic_conn *)conn;
}

static struct quic_stream *as_stream(struct transport_stream *stream)
{
    return (struct quic_stream *)stream;
}

static enum hkv_err ops_dial(struct transport *t, const struct endpoint_id *peer, const struct address_set *addrs,
                             const struct slice *alpns, size_t alpn_count, const struct transport_conn_events *events,
                             void *user, struct transport_conn **out)
{
    struct quic_conn *c;
    TRY(quic_dial((struct net_endpoint *)t, peer, addrs, alpns, alpn_count, events, user, &c));
    *out = &c->base;
    return HKV_OK;
}

static void ops_conn_set(struct transport_conn *conn, const struct transport_conn_events *events, void *user)
{
    as_conn(conn)->events = events;
    as_conn(conn)->user = user;
}

static void *ops_conn_user(struct transport_conn *conn)
{
    return as_conn(conn)->user;
}

static const struct endpoint_id *ops_conn_peer(struct transport_conn *conn)
{
    return &as_conn(conn)->peer;
}

static struct slice ops_conn_alpn(struct transport_conn *conn)
{
    struct slice alpn;
    return quic_conn_alpn(as_conn(conn), &alpn) ? alpn : (struct slice){0};
}

static void ops_conn_path(struct transport_conn *conn, struct transport_path_info *out)
{
    struct quic_conn *c = as_conn(conn);
    *out = (struct transport_path_info){
        .rtt_us = c->rtt_us, .bytes_sent = c->bytes_sent, .bytes_received = c->bytes_received};
    net_addr remote;
    quic_conn_remote(c, &remote);
    net_addr_to(&out->remote, &remote);
    if (!c->ng || c->state != QUIC_OPEN) return;
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(c->ng, &info);
    out->rtt_us = info.smoothed_rtt / NGTCP2_MICROSECONDS;
}

static void ops_conn_close(struct transport_conn *conn, uint64_t code, const char *reason)
{
    quic_conn_close(as_conn(conn), code, reason);
}

static enum hkv_err ops_stream_open(struct transport_conn *conn, const struct transport_stream_events *events,
                                    void *user, struct transport_stream **out)
{
    struct quic_conn *c = as_conn(conn);
    struct quic_stream *s;
    if (c->close_wanted || c->fatal || !c->ng)
        return error_set(HKV_E_PEER_LOST, "the connection is closing, no stream can be opened");
    if (c->local_stream_count >= NET_STREAMS_LOCAL_MAX)
        return error_set(HKV_E_LIMIT, "%d streams are open or wait on this connection; finish some first",
                         NET_STREAMS_LOCAL_MAX);
    TRY(quic_stream_new(c, -1, true, &s));
    s->events = events;
    s->user = user;
    c->streams_waiting = true;
    net_endpoint_mark(c->ep, c);
    *out = &s->base;
    return HKV_OK;
}

static void ops_stream_set(struct transport_stream *stream, const struct transport_stream_events *events, void *user)
{
    as_stream(stream)->events = events;
    as_stream(stream)->user = user;
}

static void *ops_stream_user(struct transport_stream *stream)
{
    return as_stream(stream)->user;
}

static struct transport_conn *ops_stream_conn(struct transport_stream *stream)
{
    return &as_stream(stream)->conn->base;
}

static enum hkv_err ops_stream_write(struct transport_stream *stream, struct buf *bytes)
{
    return quic_stream_write(as_stream(stream), bytes);
}

static size_t ops_stream_queued(struct transport_stream *stream)
{
    return as_stream(stream)->queued;
}

static void ops_stream_finish(struct transport_stream *stream)
{
    quic_stream_finish(as_stream(stream));
}

static void ops_stream_reset(struct transport_stream *stream, uint64_t code)
{
    quic_stream_reset(as_stream(stream), code);
}

static void ops_stream_stop(struct transport_stream *stream, uint64_t code)
{
    quic_stream_stop(as_stream(stream), code);
}

static void ops_stream_consumed(struct transport_stream *stream, size_t len)
{
    quic_stream_consumed(as_stream(stream), len);
}

const struct transport_ops quic_transport_ops = {
    .dial = ops_dial,
    .conn_alpn = ops_conn_alpn,
    .conn_set = ops_conn_set,
    .conn_user = ops_conn_user,
    .conn_peer = ops_conn_peer,
    .conn_path = ops_conn_path,
    .conn_close = ops_conn_close,
    .stream_open = ops_stream_open,
    .stream_set = ops_stream_set,
    .stream_user = ops_stream_user,
    .stream_conn = ops_stream_conn,
    .stream_write = ops_stream_write,
    .stream_queued = ops_stream_queued,
    .stream_finish = ops_stream_finish,
    .stream_reset = ops_stream_reset,
    .stream_stop = ops_stream_stop,
    .stream_consumed = ops_stream_consumed,
};
