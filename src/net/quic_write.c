/* Packets out: streams take turns filling them, equal ones leave in runs. */
#include <stdlib.h>

#include "net/quic_stream.h"

#define WRITE_PARTS_MAX 16                         /* chunks of a stream offered to one packet */
#define CLOSE_FLUSH_MAX 8                          /* packets that may go out before the CONNECTION_CLOSE */
#define CLOSE_ACK_DELAY (25 * NGTCP2_MILLISECONDS) /* max_ack_delay that we advertise */
#define SEGMENTS_MAX    64

/* Datagrams of the same path and length (the last one may be shorter), next to each other in ep->packets. */
struct write_run {
    net_addr local;
    net_addr remote;
    size_t start;
    size_t end;
    size_t segment;
};

void quic_conn_send(struct quic_conn *c, const net_addr *local, const net_addr *remote, const uint8_t *data, size_t len,
                    size_t segment)
{
    static const net_addr any; /* a dialler leaves its own address to the kernel: it may change under way */
    const net_addr *to = c->server ? remote : c->remote_known ? &c->remote : c->candidates;
    size_t count = c->server || c->remote_known ? 1 : c->candidate_count;
    for (size_t i = 0; i < count; i++) {
        struct udp_socket *udp = net_endpoint_udp(c->ep, &to[i]);
        if (!udp) continue;
        udp_send(udp, c->server ? local : &any, &to[i], data, len, segment);
        c->bytes_sent += len;
        c->ep->stats.bytes_sent += len;
    }
}

static void write_run_send(struct quic_conn *c, struct write_run *run)
{
    if (run->end > run->start)
        quic_conn_send(c, &run->local, &run->remote, c->ep->packets + run->start, run->end - run->start, run->segment);
    run->start = run->end;
}

/* Puts a packet that lies at the end of the run's bytes into the run, sending what was there first if it does not fit
 * in. */
static void write_run_add(struct quic_conn *c, struct write_run *run, const ngtcp2_path *path, size_t len)
{
    net_addr local = {0}, remote = {0};
    memcpy(&local, path->local.addr, path->local.addrlen);
    memcpy(&remote, path->remote.addr, path->remote.addrlen);
    size_t held = run->end - run->start;
    bool fits = held == 0 || (net_addr_equal(&local, &run->local) && net_addr_equal(&remote, &run->remote) &&
                              len <= run->segment && held % run->segment == 0 && held / run->segment < SEGMENTS_MAX);
    if (!fits) write_run_send(c, run);
    if (run->end == run->start) {
        run->local = local;
        run->remote = remote;
        run->segment = len;
    }
    run->end += len;
    c->packets_sent++;
    c->key_packets++;
}

/* The next packet, filled by the streams in turn. Returns what ngtcp2 says; > 0 is a complete packet. */
static ngtcp2_ssize write_packet(struct quic_conn *c, ngtcp2_path *path, uint8_t *out, uint64_t now)
{
    ngtcp2_vec parts[WRITE_PARTS_MAX];
    for (;;) {
        struct quic_stream *s = quic_stream_dequeue(c);
        bool all = true;
        size_t count = s ? quic_stream_gather(s, parts, WRITE_PARTS_MAX, &all) : 0;
        bool fin = s && all && s->fin_wanted && !s->fin_sent;
        uint32_t flags = (s ? NGTCP2_WRITE_STREAM_FLAG_MORE : 0) | (fin ? NGTCP2_WRITE_STREAM_FLAG_FIN : 0);
        ngtcp2_ssize taken = -1;
        ngtcp2_ssize n = ngtcp2_conn_writev_stream(c->ng, path, NULL, out, NET_PAYLOAD_MAX, &taken, flags,
                                                   s ? s->id : -1, parts, count, now);
        if (s && taken >= 0) quic_stream_advance(s, (size_t)taken, fin);
        if (n == NGTCP2_ERR_STREAM_DATA_BLOCKED) continue; /* it comes back with the stream's credit */
        if (n == NGTCP2_ERR_STREAM_SHUT_WR || n == NGTCP2_ERR_STREAM_NOT_FOUND) continue;
        if (s) quic_stream_enqueue(s); /* also when the connection's credit is used up: then n is 0 */
        if (n != NGTCP2_ERR_WRITE_MORE) return n;
    }
}

static bool write_blocked(struct quic_conn *c)
{
    net_addr remote;
    if (!c->remote_known) return false; /* some candidate may get it */
    quic_conn_remote(c, &remote);
    struct udp_socket *udp = net_endpoint_udp(c->ep, &remote);
    return udp && udp->blocked;
}

/* A peer with ngtcp2 follows an update only once something that it sent under its present keys was acknowledged. One
 * that only acknowledges sends little that is: it needs time, or neither side can read the other any more. */
static int write_key_update(struct quic_conn *c, uint64_t now)
{
    uint64_t after = c->ep->limits.key_update_packets;
    if (!after || c->key_packets < after || c->state != QUIC_OPEN) return 0;
    if (now < c->keys_ready_ns + c->ep->limits.key_update_spacing_ms * NGTCP2_MILLISECONDS) return 0;
    int rv = ngtcp2_conn_initiate_key_update(c->ng, now);
    if (rv == NGTCP2_ERR_INVALID_STATE) return 0; /* not confirmed yet, or the last one is too recent: next time */
    c->key_packets = 0;
    return rv;
}

int quic_conn_write(struct quic_conn *c, uint64_t now)
{
    ngtcp2_path_storage ps;
    struct write_run run = {0};
    size_t quantum = ngtcp2_conn_get_send_quantum(c->ng);
    ngtcp2_ssize n = write_key_update(c, now);
    if (n < 0) return (int)n;
    ngtcp2_path_storage_zero(&ps);
    while (!write_blocked(c) && run.end < quantum && run.end + NET_PAYLOAD_MAX <= sizeof c->ep->packets) {
        n = write_packet(c, &ps.path, c->ep->packets + run.end, now);
        if (n <= 0) break;
        write_run_add(c, &run, &ps.path, (size_t)n);
    }
    write_run_send(c, &run);
    ngtcp2_conn_update_pkt_tx_time(c->ng, now);
    return n < 0 ? (int)n : 0;
}

void quic_conn_write_close(struct quic_conn *c, const ngtcp2_ccerr *error, uint64_t now)
{
    ngtcp2_path_storage ps;
    uint8_t *packet = c->ep->packets;
    /* As if the time for a delayed acknowledgement were over: a peer that waits for one (iroh-docs does) must get it
     * first. */
    uint64_t then = now + CLOSE_ACK_DELAY;
    ngtcp2_ssize n;
    ngtcp2_path_storage_zero(&ps);
    for (int i = 0; i < CLOSE_FLUSH_MAX && c->state == QUIC_OPEN && !c->fatal; i++) {
        n = ngtcp2_conn_write_pkt(c->ng, &ps.path, NULL, packet, NET_PAYLOAD_MAX, then);
        if (n <= 0) break;
        net_addr local = {0}, remote = {0};
        memcpy(&local, ps.path.local.addr, ps.path.local.addrlen);
        memcpy(&remote, ps.path.remote.addr, ps.path.remote.addrlen);
        quic_conn_send(c, &local, &remote, packet, (size_t)n, (size_t)n);
    }
    n = ngtcp2_conn_write_connection_close(c->ng, &ps.path, NULL, packet, NET_PAYLOAD_MAX, error, then);
    if (n <= 0) return;
    memset(&c->close_local, 0, sizeof c->close_local);
    memcpy(&c->close_local, ps.path.local.addr, ps.path.local.addrlen);
    if (c->server) memcpy(&c->remote, ps.path.remote.addr, ps.path.remote.addrlen);
    quic_conn_send(c, &c->close_local, &c->remote, packet, (size_t)n, (size_t)n);
    c->close_packet = malloc((size_t)n);
    if (!c->close_packet) return; /* late packets get no answer, then */
    memcpy(c->close_packet, packet, (size_t)n);
    c->close_packet_len = (size_t)n;
}
