#include "net/quic_conn.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/quic_dial.h"
#include "net/quic_ending.h"
#include "net/quic_stream.h"

#define LINGER_MIN_NS    (20 * NGTCP2_MILLISECONDS)
#define LINGER_MAX_NS    (1000 * NGTCP2_MILLISECONDS)
#define BLOCKED_RETRY_NS (5 * NGTCP2_MILLISECONDS)
#define ACTIVE_DCIDS_MAX 8
#define STALL_PTOS       8 /* least time without an acknowledgement, in probe timeouts, .. */
#define STALL_LOOKS      3 /* .. and least packets of the peer in it */
#define CID_LIMIT        5 /* spare ids we take from a peer, for path changes; what iroh asks for as well */

static ngtcp2_conn *quic_conn_ng(ngtcp2_crypto_conn_ref *ref)
{
    struct quic_conn *c = ref->user_data;
    return c->ng;
}

int quic_reset_token(const struct net_endpoint *ep, const ngtcp2_cid *cid,
                     uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN])
{
    return ngtcp2_crypto_generate_stateless_reset_token(token, ep->reset_secret, sizeof ep->reset_secret, cid);
}

/* ---- beginning ---- */

enum hkv_err quic_conn_new(struct net_endpoint *ep, bool server, struct quic_conn **out)
{
    if (ep->conn_count >= ep->limits.conns_max)
        return error_set(HKV_E_LIMIT, "%u connections are open already (conns_max); close some or raise the limit",
                         ep->limits.conns_max);
    TRY(deadlines_reserve(&ep->deadlines, (size_t)ep->conn_count + ep->lingering_count + 2));
    struct quic_conn *c = calloc(1, sizeof *c);
    if (!c) return error_set(HKV_E_NOMEM, "connection: no memory");
    c->base.transport = &ep->base;
    c->ep = ep;
    c->server = server;
    c->ref = (ngtcp2_crypto_conn_ref){.get_conn = quic_conn_ng, .user_data = c};
    c->next = ep->conns;
    if (ep->conns) ep->conns->prev = c;
    ep->conns = c;
    ep->conn_count++;
    if (server) ep->half_open_count++;
    *out = c;
    return HKV_OK;
}

void quic_conn_stop(struct quic_conn *c)
{
    assert(c->state != QUIC_LINGERING);
    if (c->ng) {
        ngtcp2_conn_info info;
        ngtcp2_conn_get_conn_info(c->ng, &info);
        c->rtt_us = info.smoothed_rtt / NGTCP2_MICROSECONDS;
        ngtcp2_conn_del(c->ng);
    }
    if (c->tls) gnutls_deinit(c->tls);
    c->ng = NULL;
    c->tls = NULL;
    if (c->server && c->state == QUIC_HANDSHAKE) c->ep->half_open_count--;
    c->state = QUIC_LINGERING;
    c->ep->conn_count--;
    c->ep->lingering_count++;
}

void quic_conn_free(struct quic_conn *c)
{
    struct net_endpoint *ep = c->ep;
    assert(c->state == QUIC_LINGERING && !c->dirty && !c->streams);
    cid_table_remove_all(&ep->cids, &c->cids);
    deadlines_set(&ep->deadlines, &c->deadline, DEADLINE_NONE);
    if (c->prev)
        c->prev->next = c->next;
    else
        ep->conns = c->next;
    if (c->next) c->next->prev = c->prev;
    ep->lingering_count--;
    quic_dial_fini(c);
    free(c->close_packet);
    free(c);
}

/* UDP payloads that are tried above QUIC's 1,200, the largest first: where Ethernet is the narrowest part of the path
 * one probe settles it, and a short connection costs little more than its handshake. The second fits through most
 * tunnels. */
static const uint16_t probe_sizes[] = {1452, 1372};

void quic_conn_settings(const struct net_endpoint *ep, ngtcp2_settings *settings, ngtcp2_transport_params *params)
{
    const struct net_limits *limits = &ep->limits;
    ngtcp2_settings_default(settings);
    settings->initial_ts = net_now();
    settings->handshake_timeout = limits->dial_timeout_ms * NGTCP2_MILLISECONDS;
    settings->cc_algo = NGTCP2_CC_ALGO_CUBIC;
    settings->pmtud_probes = probe_sizes;
    settings->pmtud_probeslen = sizeof probe_sizes / sizeof probe_sizes[0];

    ngtcp2_transport_params_default(params); /* uni streams, datagrams, extensions: none, we do not use them */
    params->initial_max_data = limits->conn_window_bytes;
    params->initial_max_stream_data_bidi_local = limits->stream_window_bytes;
    params->initial_max_stream_data_bidi_remote = limits->stream_window_bytes;
    params->initial_max_streams_bidi = limits->streams_max;
    params->max_idle_timeout = limits->idle_timeout_ms * NGTCP2_MILLISECONDS;
    params->max_udp_payload_size = NET_PAYLOAD_MAX;
    params->active_connection_id_limit = CID_LIMIT;
}

void quic_random_cid(ngtcp2_cid *cid, size_t len)
{
    cid->datalen = len;
    randombytes_buf(cid->data, len);
}

enum hkv_err quic_conn_start(struct quic_conn *c, int rv, const struct alpn_list *alpns)
{
    if (rv == NGTCP2_ERR_NOMEM) return error_set(HKV_E_NOMEM, "connection: no memory");
    if (rv) return error_set(HKV_E_INTERNAL, "connection: %s", ngtcp2_strerror(rv));
    TRY(tls_session_new(&c->ep->tls, c->server, alpns, &c->ref, quic_verify_peer, &c->tls));
    ngtcp2_conn_set_tls_native_handle(c->ng, c->tls);
    net_endpoint_mark(c->ep, c);
    return HKV_OK;
}

bool quic_conn_alpn(const struct quic_conn *c, struct slice *out)
{
    gnutls_datum_t name;
    if (!c->tls || gnutls_alpn_get_selected_protocol(c->tls, &name))
        return false; /* also when a server did not answer */
    *out = slice_of(name.data, name.size);
    return true;
}

static enum hkv_err quic_conn_accept_start(struct quic_conn *c, const struct udp_datagram *d, const ngtcp2_pkt_hd *hd,
                                           const ngtcp2_cid *odcid)
{
    struct net_endpoint *ep = c->ep;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    net_addr local = d->local, remote = d->remote;
    ngtcp2_path path = {.local = {&local.sa, net_addr_len(&local)}, .remote = {&remote.sa, net_addr_len(&remote)}};
    ngtcp2_cid scid;

    quic_conn_settings(ep, &settings, &params);
    params.original_dcid = odcid ? *odcid : hd->dcid;
    params.original_dcid_present = 1;
    if (odcid) {
        params.retry_scid = hd->dcid;
        params.retry_scid_present = 1;
        settings.token = hd->token;
        settings.tokenlen = hd->tokenlen;
        settings.token_type = NGTCP2_TOKEN_TYPE_RETRY;
        TRY(cid_table_add(&ep->cids, &c->cids, c, odcid));
    }
    quic_random_cid(&scid, NET_CID_BYTES);
    TRY(cid_table_add(&ep->cids, &c->cids, c, &scid));
    TRY(cid_table_add(&ep->cids, &c->cids, c, &hd->dcid)); /* copies of this Initial may come from other addresses */
    if (quic_reset_token(ep, &scid, params.stateless_reset_token)) return error_set(HKV_E_INTERNAL, "reset token");
    params.stateless_reset_token_present = 1;
    int rv = ngtcp2_conn_server_new(&c->ng, &hd->scid, &scid, &path, hd->version, &quic_callbacks, &settings, &params,
                                    NULL, c);
    return quic_conn_start(c, rv, &ep->alpns);
}

enum hkv_err quic_conn_accept(struct net_endpoint *ep, const struct udp_datagram *d, const ngtcp2_pkt_hd *hd,
                              const ngtcp2_cid *odcid, struct quic_conn **out)
{
    struct quic_conn *c;
    TRY(quic_conn_new(ep, true, &c));
    c->remote = d->remote;
    c->remote_known = true;
    enum hkv_err err = quic_conn_accept_start(c, d, hd, odcid);
    if (err != HKV_OK) {
        quic_conn_stop(c);
        quic_conn_free(c);
        return err;
    }
    *out = c;
    return HKV_OK;
}

/* ---- receiving ---- */

void quic_conn_remote(const struct quic_conn *c, net_addr *out)
{
    *out = c->remote_known ? c->remote : c->candidates[0];
    if (!c->server || !c->ng) return;
    const ngtcp2_path *path = ngtcp2_conn_get_path(c->ng);
    memset(out, 0, sizeof *out);
    memcpy(out, path->remote.addr, path->remote.addrlen);
}

/* Whether a packet from there can be for this connection now. An accepted one has one address until it is open. */
static bool quic_source_fits(const struct quic_conn *c, const struct udp_datagram *d)
{
    if (c->server) return c->state == QUIC_OPEN || net_addr_equal(&d->remote, &c->remote);
    return c->remote_known ? net_addr_equal(&d->remote, &c->remote) : quic_dial_asks(c, &d->remote);
}

/* A peer that missed our CONNECTION_CLOSE gets it again, less and less often. */
static void quic_conn_late_packet(struct quic_conn *c)
{
    c->late_packets++;
    if (!c->close_packet || (c->late_packets & (c->late_packets - 1))) return;
    quic_conn_send(c, &c->close_local, &c->remote, c->close_packet, c->close_packet_len, c->close_packet_len);
}

/* ngtcp2 may have thrown the packet away after decrypting it: a repeated number, the wrong key phase. Then it still
 * points into what the stream has sent, and must be told to let go. Where it knows already, nothing happens. */
static void quic_conn_report_stops(struct quic_conn *c)
{
    for (size_t i = 0; i < c->stops.count && !c->close_wanted && !c->fatal; i++) {
        const struct frames_stop *stop = &c->stops.items[i];
        struct quic_stream *s = quic_stream_find(c, stop->stream_id);
        if (!s) continue;
        c->fatal = ngtcp2_conn_shutdown_stream_write(c->ng, 0, s->id, stop->code);
        if (!c->fatal) quic_stream_peer_stopped(s, stop->code);
    }
    c->stops.count = 0;
}

void quic_conn_receive(struct quic_conn *c, const struct udp_datagram *d)
{
    if (c->state == QUIC_LINGERING) {
        quic_conn_late_packet(c);
        return;
    }
    if (c->fatal || !quic_source_fits(c, d)) return;
    net_addr local = d->local, remote = d->remote;
    ngtcp2_path path = {.local = {&local.sa, net_addr_len(&local)}, .remote = {&remote.sa, net_addr_len(&remote)}};
    c->bytes_received += d->len;
    c->handshake_packet_seen = false;
    quic_callbacks_reading(c);
    int rv = ngtcp2_conn_read_pkt(c->ng, c->server ? &path : &quic_dial_path, NULL, d->data, d->len, net_now());
    quic_callbacks_reading(NULL);
    if (rv) c->fatal = rv;
    if (rv && !c->server && c->state == QUIC_HANDSHAKE) quic_dial_strike(c, &d->remote);
    if (rv == 0 && !c->remote_known && c->handshake_packet_seen) {
        c->remote = d->remote;
        c->remote_known = true;
    }
    quic_conn_report_stops(c);
    net_endpoint_mark(c->ep, c);
}

bool quic_conn_resets(struct quic_conn *c, const net_addr *remote, const uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN])
{
    ngtcp2_cid_token ids[ACTIVE_DCIDS_MAX];
    net_addr peer;
    if (c->state != QUIC_OPEN || c->fatal) return false;
    quic_conn_remote(c, &peer);
    if (!net_addr_equal(&peer, remote)) return false;
    if (ngtcp2_conn_get_active_dcid(c->ng, NULL) > ACTIVE_DCIDS_MAX) return false;
    size_t count = ngtcp2_conn_get_active_dcid(c->ng, ids);
    for (size_t i = 0; i < count; i++)
        if (ids[i].token_present && sodium_memcmp(ids[i].token, token, NGTCP2_STATELESS_RESET_TOKENLEN) == 0)
            return true;
    return false;
}

/* ---- ending ---- */

void quic_conn_close(struct quic_conn *c, uint64_t code, const char *reason)
{
    if (c->close_wanted || c->state == QUIC_LINGERING) return;
    c->close_wanted = true;
    c->close_code = code;
    snprintf(c->close_reason, sizeof c->close_reason, "%s", reason ? reason : "");
    net_endpoint_mark(c->ep, c);
}

/* Tells the peer and the owner, and leaves a shell that answers late packets for three probe timeouts. */
static void quic_conn_end(struct quic_conn *c, uint64_t now)
{
    struct net_endpoint *ep = c->ep;
    struct quic_ending end;
    bool known_to_owner = c->events && (!c->server || c->state == QUIC_OPEN);
    quic_conn_ending(c, &end);
    bool linger = (!end.silent || c->fatal == NGTCP2_ERR_DRAINING) && ep->lingering_count < ep->limits.conns_max;
    uint64_t time = 3 * ngtcp2_conn_get_pto(c->ng);
    if (time < LINGER_MIN_NS) time = LINGER_MIN_NS;
    if (time > LINGER_MAX_NS) time = LINGER_MAX_NS;
    if (!end.silent) quic_conn_write_close(c, &end.error, now);
    quic_conn_stop(c);
    while (c->streams) quic_stream_end(c->streams);
    if (known_to_owner) {
        const struct transport_conn_events *events = c->events;
        c->events = NULL;
        events->closed(&c->base, end.err, end.code, end.why);
    }
    /* Also without lingering it goes by the timer: the owner may have marked it in a callback of this very flush. */
    deadlines_set(&ep->deadlines, &c->deadline, linger ? now + time : now);
}

/* ---- the turn of the loop ---- */

void quic_conn_expire(struct quic_conn *c, uint64_t now)
{
    if (c->state == QUIC_LINGERING) {
        quic_conn_free(c);
        return;
    }
    int rv = c->fatal ? c->fatal : ngtcp2_conn_handle_expiry(c->ng, now);
    if (rv) c->fatal = rv;
    net_endpoint_mark(c->ep, c);
}

/* Whether nothing will ever leave here again. ngtcp2 1.11 can be without a timer while packets are in flight: one that is
 * given up because a peer that moved may not be sent more is not set again when the new address is proven, and answers
 * to path challenges set none. If the acknowledgement of those packets was lost and they fill the window, nothing that
 * would bring another one may be sent, and the peer's PINGs keep the connection from being idle. With a timer each
 * probe adds to what is in flight; it has had its turn between two looks, also in a process that was stopped. */
static bool quic_conn_stalled(struct quic_conn *c, uint64_t now)
{
    ngtcp2_conn_info info;
    struct quic_full_window *full = &c->full;
    if (!c->heard || c->state != QUIC_OPEN) return false;
    c->heard = false;
    ngtcp2_conn_get_conn_info(c->ng, &info);
    if (info.bytes_in_flight < info.cwnd || info.bytes_in_flight != full->in_flight || info.cwnd != full->window)
        *full = (struct quic_full_window){info.bytes_in_flight, info.cwnd, now, 0};
    if (info.bytes_in_flight < info.cwnd || ++full->looks < STALL_LOOKS) return false;
    uint64_t least = c->ep->limits.stall_timeout_ms * NGTCP2_MILLISECONDS;
    uint64_t probes = STALL_PTOS * ngtcp2_conn_get_pto(c->ng);
    return now - full->since_ns >= (probes > least ? probes : least);
}

static bool quic_socket_blocked(const struct quic_conn *c)
{
    return c->ep->udp_v4.blocked || c->ep->udp_v6.blocked;
}

static void quic_conn_set_deadline(struct quic_conn *c, uint64_t now)
{
    uint64_t at = ngtcp2_conn_get_expiry(c->ng);
    if (at <= now && quic_socket_blocked(c)) at = now + BLOCKED_RETRY_NS;
    deadlines_set(&c->ep->deadlines, &c->deadline, at);
}

/* Sends what may be sent. The pause that ngtcp2 wants after it is often over at once: then there is no need for the
 * timer. */
static int quic_conn_send_due(struct quic_conn *c, uint64_t now)
{
    int rv = quic_conn_write(c, now);
    if (rv || c->send_first || quic_socket_blocked(c) || ngtcp2_conn_get_expiry(c->ng) > now) return rv;
    rv = ngtcp2_conn_handle_expiry(c->ng, now);
    return rv ? rv : quic_conn_write(c, now);
}

void quic_conn_flush(struct quic_conn *c)
{
    uint64_t now = net_now();
    if (c->state == QUIC_LINGERING) return;
    if (c->fatal && !c->close_wanted) quic_dial_again(c, now);
    if (!c->fatal && !c->close_wanted && quic_conn_stalled(c, now)) {
        c->stalled = true;
        c->fatal = NGTCP2_ERR_IDLE_CLOSE;
    }
    if (!c->fatal && !c->close_wanted) quic_streams_callbacks(c);
    if (!c->fatal && !c->close_wanted) c->fatal = quic_streams_open(c);
    if (!c->fatal && !c->close_wanted) c->fatal = quic_conn_send_due(c, now);
    if (c->fatal || c->close_wanted) {
        quic_conn_end(c, now);
        return;
    }
    if (!quic_socket_blocked(c)) quic_streams_settle(c);
    quic_conn_set_deadline(c, now);
}
