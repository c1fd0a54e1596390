/* Connections and streams between endpoints, as the protocols see them: src/net implements this over QUIC, the
 * simulator over simulated links. Everything here is called, and calls back, on the network thread only; no function
 * waits.
 *
 *   transport ── connections (one ALPN each, peer id authenticated) ── bidirectional streams of bytes
 *
 * Callbacks are never made from inside a call of the same object's function: an error that is found at once is reported
 * by the return value, everything later by a callback. After `closed` of a connection, its streams have all had
 * `closed` and neither may be touched again. The implementation owns the memory of connections and streams; `user`
 * belongs to the protocol.
 *
 * Flow control: what arrives is handed over in `data`; the peer may send more only as transport_stream_consumed() says
 * so. What is written is queued as it is (the buf is taken, not copied); a writer stops when transport_stream_queued()
 * is above its own mark and goes on at `writable`. */
#ifndef HKV_WIRE_TRANSPORT_H
#define HKV_WIRE_TRANSPORT_H

#include "base/bytes.h"
#include "base/ids.h"
#include "wire/address.h"

struct transport;
struct transport_conn;
struct transport_stream;

struct transport_stream_events {
    /* Bytes arrived in order. `fin`: nothing follows (then `bytes` may be empty). Borrowed for the call. */
    void (*data)(struct transport_stream *stream, struct slice bytes, bool fin);
    /* Bytes were acknowledged, and TRANSPORT_WRITABLE_BYTES or fewer are left that are not. */
    void (*writable)(struct transport_stream *stream);
    /* The peer has acknowledged everything written, our FIN included. */
    void (*finished)(struct transport_stream *stream);
    /* The peer reset its sending side: nothing more arrives. */
    void (*reset)(struct transport_stream *stream, uint64_t code);
    /* The peer asked us to stop sending; our side was reset with the same code. */
    void (*stopped)(struct transport_stream *stream, uint64_t code);
    /* The stream is over in both directions, or its connection is. Last callback. */
    void (*closed)(struct transport_stream *stream);
};

struct transport_conn_events {
    /* Handshake complete, the peer's id is proven. For dialled and accepted connections alike. */
    void (*opened)(struct transport_conn *conn);
    /* The peer opened a bidirectional stream. Set its events and user before returning; returning false refuses it. */
    bool (*stream)(struct transport_conn *conn, struct transport_stream *stream);
    /* The connection is gone: HKV_OK for a close with code 0 by either side, HKV_E_PEER_UNREACHABLE when a dial failed,
     * HKV_E_PEER_IDENTITY, HKV_E_PEER_REFUSED (other codes, no common ALPN), HKV_E_PEER_LOST (idle),
     * HKV_E_PEER_PROTOCOL. `why` is a sentence. Last callback; also made for a connection that never opened. */
    void (*closed)(struct transport_conn *conn, enum hkv_err err, uint64_t code, const char *why);
};

/* What an endpoint asks of its owner. */
struct transport_owner {
    /* A peer proved its id during an incoming handshake: may it come in? (trusted ids) */
    bool (*admit)(void *user, const struct endpoint_id *peer);
    /* A connection was accepted and is open: set its events and user (transport_conn_set). False: close with code 0. */
    bool (*accepted)(void *user, struct transport_conn *conn, struct slice alpn);
    void *user;
};

struct transport_path_info {
    struct socket_address remote; /* where its packets come from now */
    uint64_t rtt_us;              /* smoothed; 0 while not measured */
    uint64_t bytes_sent;          /* UDP payload, all of it */
    uint64_t bytes_received;
};

struct transport_ops {
    enum hkv_err (*dial)(struct transport *t, const struct endpoint_id *peer, const struct address_set *addrs,
                         const struct slice *alpns, size_t alpn_count, const struct transport_conn_events *events,
                         void *user, struct transport_conn **out);
    struct slice (*conn_alpn)(struct transport_conn *conn);
    void (*conn_set)(struct transport_conn *conn, const struct transport_conn_events *events, void *user);
    void *(*conn_user)(struct transport_conn *conn);
    const struct endpoint_id *(*conn_peer)(struct transport_conn *conn);
    void (*conn_path)(struct transport_conn *conn, struct transport_path_info *out);
    void (*conn_close)(struct transport_conn *conn, uint64_t code, const char *reason);
    enum hkv_err (*stream_open)(struct transport_conn *conn, const struct transport_stream_events *events, void *user,
                                struct transport_stream **out);
    void (*stream_set)(struct transport_stream *stream, const struct transport_stream_events *events, void *user);
    void *(*stream_user)(struct transport_stream *stream);
    struct transport_conn *(*stream_conn)(struct transport_stream *stream);
    enum hkv_err (*stream_write)(struct transport_stream *stream, struct buf *bytes);
    size_t (*stream_queued)(struct transport_stream *stream);
    void (*stream_finish)(struct transport_stream *stream);
    void (*stream_reset)(struct transport_stream *stream, uint64_t code);
    void (*stream_stop)(struct transport_stream *stream, uint64_t code);
    void (*stream_consumed)(struct transport_stream *stream, size_t len);
};

struct transport {
    const struct transport_ops *ops;
};

/* A connection and a stream of any implementation begin with this. */
struct transport_conn {
    struct transport *transport;
};

struct transport_stream {
    struct transport *transport;
};

#define TRANSPORT_WRITABLE_BYTES ((size_t)256 * 1024)

/* Starts a connection to `peer` at every address of `addrs` that can be used, for one of `alpns`, the first being the
 * one we like best; which one it is, the peer decides (transport_conn_alpn). `*out` is valid until its `closed`.
 * Errors: HKV_E_NOMEM, HKV_E_LIMIT (too many connections), HKV_E_PEER_UNREACHABLE (no usable address), HKV_E_INVALID
 * (our own id; no ALPN). */
HKV_CHECK static inline enum hkv_err transport_dial_any(struct transport *t, const struct endpoint_id *peer,
                                                        const struct address_set *addrs, const struct slice *alpns,
                                                        size_t alpn_count, const struct transport_conn_events *events,
                                                        void *user, struct transport_conn **out)
{
    return t->ops->dial(t, peer, addrs, alpns, alpn_count, events, user, out);
}

/* The same for exactly one ALPN. */
HKV_CHECK static inline enum hkv_err transport_dial(struct transport *t, const struct endpoint_id *peer,
                                                    const struct address_set *addrs, struct slice alpn,
                                                    const struct transport_conn_events *events, void *user,
                                                    struct transport_conn **out)
{
    return transport_dial_any(t, peer, addrs, &alpn, 1, events, user, out);
}

/* The protocol of an open connection; empty before. Borrowed from the connection. */
static inline struct slice transport_conn_alpn(struct transport_conn *conn)
{
    return conn->transport->ops->conn_alpn(conn);
}

static inline void transport_conn_set(struct transport_conn *conn, const struct transport_conn_events *events,
                                      void *user)
{
    conn->transport->ops->conn_set(conn, events, user);
}

static inline void *transport_conn_user(struct transport_conn *conn)
{
    return conn->transport->ops->conn_user(conn);
}

static inline const struct endpoint_id *transport_conn_peer(struct transport_conn *conn)
{
    return conn->transport->ops->conn_peer(conn);
}

static inline void transport_conn_path(struct transport_conn *conn, struct transport_path_info *out)
{
    conn->transport->ops->conn_path(conn, out);
}

/* Closes with an application code after what was acknowledged so far; unsent stream data is dropped, `closed` comes. */
static inline void transport_conn_close(struct transport_conn *conn, uint64_t code, const char *reason)
{
    conn->transport->ops->conn_close(conn, code, reason);
}

/* Opens a bidirectional stream; the peer learns of it with the first bytes. Waits inside for the peer's stream credit.
 * Errors: HKV_E_NOMEM, HKV_E_PEER_LOST (the connection is closing), HKV_E_LIMIT. */
HKV_CHECK static inline enum hkv_err transport_stream_open(struct transport_conn *conn,
                                                           const struct transport_stream_events *events, void *user,
                                                           struct transport_stream **out)
{
    return conn->transport->ops->stream_open(conn, events, user, out);
}

static inline void transport_stream_set(struct transport_stream *stream, const struct transport_stream_events *events,
                                        void *user)
{
    stream->transport->ops->stream_set(stream, events, user);
}

static inline void *transport_stream_user(struct transport_stream *stream)
{
    return stream->transport->ops->stream_user(stream);
}

static inline struct transport_conn *transport_stream_conn(struct transport_stream *stream)
{
    return stream->transport->ops->stream_conn(stream);
}

/* Queues bytes for sending and takes them over (`bytes` is empty afterwards, also on error).
 * Errors: HKV_E_NOMEM, HKV_E_PEER_LOST (the sending side is already finished, reset or stopped). */
HKV_CHECK static inline enum hkv_err transport_stream_write(struct transport_stream *stream, struct buf *bytes)
{
    return stream->transport->ops->stream_write(stream, bytes);
}

/* Bytes written and not yet acknowledged by the peer. */
static inline size_t transport_stream_queued(struct transport_stream *stream)
{
    return stream->transport->ops->stream_queued(stream);
}

/* Ends the sending side after what is queued. */
static inline void transport_stream_finish(struct transport_stream *stream)
{
    stream->transport->ops->stream_finish(stream);
}

/* Drops the sending side at once with a code. */
static inline void transport_stream_reset(struct transport_stream *stream, uint64_t code)
{
    stream->transport->ops->stream_reset(stream, code);
}

/* Asks the peer to stop sending; further data is thrown away without a callback. */
static inline void transport_stream_stop(struct transport_stream *stream, uint64_t code)
{
    stream->transport->ops->stream_stop(stream, code);
}

/* `len` bytes of what `data` handed over have been dealt with: the peer may send as many more. */
static inline void transport_stream_consumed(struct transport_stream *stream, size_t len)
{
    stream->transport->ops->stream_consumed(stream, len);
}

#endif
