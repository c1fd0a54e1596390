#include "net/quic_dial.h"

#include <stdlib.h>

#include "net/quic_ending.h"

static net_addr virtual_local = {.in6 = {.sin6_family = AF_INET6, .sin6_port = 1}};
static net_addr virtual_remote = {.in6 = {.sin6_family = AF_INET6, .sin6_port = 2}};

const ngtcp2_path quic_dial_path = {.local = {&virtual_local.sa, sizeof virtual_local.in6},
                                    .remote = {&virtual_remote.sa, sizeof virtual_remote.in6}};

bool quic_dial_asks(const struct quic_conn *c, const net_addr *a)
{
    for (size_t i = 0; i < c->candidate_count; i++)
        if (net_addr_equal(&c->candidates[i], a)) return true;
    return false;
}

/* The addresses of `addrs` that our sockets reach, ourselves excepted as far as we know. */
static void dial_candidates(struct quic_conn *c, const struct address_set *addrs)
{
    for (size_t i = 0; i < addrs->count && c->candidate_count < NET_CANDIDATES_MAX; i++) {
        net_addr a;
        if (addrs->items[i].kind != ADDRESS_IP || addrs->items[i].socket.port == 0) continue;
        net_addr_from_mapped(&a, &addrs->items[i].socket);
        struct udp_socket *udp = net_endpoint_udp(c->ep, &a);
        if (!udp || net_addr_equal(&a, &udp->bound) || quic_dial_asks(c, &a)) continue;
        c->candidates[c->candidate_count++] = a;
    }
}

static enum hkv_err dial_start(struct quic_conn *c, uint64_t now)
{
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_cid dcid, scid;
    quic_conn_settings(c->ep, &settings, &params);
    settings.initial_ts = now;
    settings.handshake_timeout = c->dial_ends_ns - now;
    quic_random_cid(&dcid, NGTCP2_MAX_CIDLEN);
    quic_random_cid(&scid, NET_CID_BYTES);
    TRY(cid_table_add(&c->ep->cids, &c->cids, c, &scid));
    int rv = ngtcp2_conn_client_new(&c->ng, &dcid, &scid, &quic_dial_path, NGTCP2_PROTO_VER_V1, &quic_callbacks,
                                    &settings, &params, NULL, c);
    return quic_conn_start(c, rv, &c->alpns);
}

static enum hkv_err dial_begin(struct quic_conn *c, const struct address_set *addrs, const struct slice *alpns,
                               size_t alpn_count)
{
    uint64_t now = net_now();
    TRY(alpn_list_copy(&c->alpns, alpns, alpn_count, "a dial offers"));
    dial_candidates(c, addrs);
    if (c->candidate_count == 0)
        return error_set(HKV_E_PEER_UNREACHABLE,
                         "none of the peer's %zu addresses can be reached from here; give an IP address and port of a "
                         "family that this node uses",
                         addrs->count);
    c->dial_ends_ns = now + c->ep->limits.dial_timeout_ms * NGTCP2_MILLISECONDS;
    return dial_start(c, now);
}

enum hkv_err quic_dial(struct net_endpoint *ep, const struct endpoint_id *peer, const struct address_set *addrs,
                       const struct slice *alpns, size_t alpn_count, const struct transport_conn_events *events,
                       void *user, struct quic_conn **out)
{
    struct quic_conn *c;
    if (ep->closing) return error_set(HKV_E_CLOSED, "the endpoint is closing, nothing can be dialled");
    if (endpoint_id_equal(peer, &ep->id)) return error_set(HKV_E_INVALID, "this endpoint cannot dial its own id");
    TRY(quic_conn_new(ep, false, &c));
    c->peer = *peer;
    c->events = events;
    c->user = user;
    enum hkv_err err = dial_begin(c, addrs, alpns, alpn_count);
    if (err != HKV_OK) {
        quic_conn_stop(c);
        quic_conn_free(c);
        return err;
    }
    *out = c;
    return HKV_OK;
}

void quic_dial_strike(struct quic_conn *c, const net_addr *a)
{
    for (size_t i = 0; i < c->candidate_count && c->candidate_count > 1; i++) {
        if (!net_addr_equal(&c->candidates[i], a)) continue;
        c->candidate_count--;
        memmove(&c->candidates[i], &c->candidates[i + 1], (c->candidate_count - i) * sizeof c->candidates[0]);
        c->remote = *a;
        c->remote_known = true; /* that is where our CONNECTION_CLOSE goes */
        c->struck = true;
        return;
    }
}

/* A new handshake in the place of the old one, which stays when this fails. */
static bool dial_restart(struct quic_conn *c, uint64_t now)
{
    ngtcp2_conn *ng = c->ng;
    gnutls_session_t tls = c->tls;
    c->ng = NULL;
    c->tls = NULL;
    cid_table_remove_all(&c->ep->cids, &c->cids);
    bool good = dial_start(c, now) == HKV_OK;
    gnutls_session_t gone = good ? tls : c->tls;
    ngtcp2_conn_del(good ? ng : c->ng);
    if (gone) gnutls_deinit(gone);
    if (good) return true;
    c->ng = ng;
    c->tls = tls;
    return false;
}

/* Why the first candidate that was struck off did not do: of more use than "no answer" when no other answers. */
static void dial_remember(struct quic_conn *c, const struct quic_ending *end)
{
    if (c->first_strike || (c->first_strike = malloc(sizeof *end)) == NULL) return;
    *c->first_strike = *end;
    c->first_strike->silent = true;
    ngtcp2_ccerr_default(&c->first_strike->error); /* it points into what goes now */
}

void quic_dial_again(struct quic_conn *c, uint64_t now)
{
    struct quic_ending end;
    if (!c->struck || now >= c->dial_ends_ns) return;
    c->struck = false;
    quic_conn_ending(c, &end);
    if (end.err == HKV_E_NOMEM) return;
    dial_remember(c, &end);
    if (!end.silent) quic_conn_write_close(c, &end.error, now);
    free(c->close_packet);
    c->close_packet = NULL;
    if (!dial_restart(c, now)) return;
    c->remote_known = false;
    c->peer_proven = false;
    c->fatal = 0;
    c->alert = 0;
    c->verdict = HKV_OK;
    c->verdict_why = NULL;
}

void quic_dial_fini(struct quic_conn *c)
{
    alpn_list_fini(&c->alpns);
    free(c->first_strike);
}
