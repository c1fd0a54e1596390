#include "net/endpoint.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "crypto/ed25519.h"
#include "net/interfaces.h"
#include "net/quic_conn.h"

#define NS_PER_S 1000000000ULL

void net_limits_default(struct net_limits *out)
{
    *out = (struct net_limits){
        .conns_max = 4096,
        .conns_per_peer_max = 64,
        .half_open_max = 1024,
        .half_open_retry = 64,
        .streams_max = 100,
        .conn_window_bytes = 16 * 1024 * 1024,
        .stream_window_bytes = 1280 * 1024,
        .dial_timeout_ms = 10 * 1000,
        .idle_timeout_ms = 30 * 1000,
        .keep_alive_ms = 5 * 1000,
        .stall_timeout_ms = 5 * 1000,
        .linger_ms = 1000,
        .key_update_packets = 1 << 20,
        .key_update_spacing_ms = 1000,
    };
}

/* ---- the turn of the loop ---- */

static void endpoint_finish_close(struct net_endpoint *ep);

static void endpoint_on_idle(uv_idle_t *idle)
{
    (void)idle; /* its being active keeps the loop from waiting */
}

static void endpoint_wake(struct net_endpoint *ep)
{
    if (!uv_is_closing((uv_handle_t *)&ep->idle)) uv_idle_start(&ep->idle, endpoint_on_idle);
}

void net_endpoint_mark(struct net_endpoint *ep, struct quic_conn *c)
{
    if (c->dirty || c->state == QUIC_LINGERING) return;
    c->dirty = true;
    c->next_dirty = NULL;
    if (ep->dirty_last)
        ep->dirty_last->next_dirty = c;
    else
        ep->dirty_first = c;
    ep->dirty_last = c;
    endpoint_wake(ep);
}

static void endpoint_set_timer(struct net_endpoint *ep)
{
    struct deadline *first = deadlines_first(&ep->deadlines);
    uint64_t at = first ? first->at_ns : DEADLINE_NONE;
    if (at == ep->timer_set_ns) return;
    ep->timer_set_ns = at;
    struct itimerspec spec = {0}; /* zero switches it off */
    if (first) spec.it_value = (struct timespec){.tv_sec = (time_t)(at / NS_PER_S), .tv_nsec = (long)(at % NS_PER_S)};
    if (first && at == 0) spec.it_value.tv_nsec = 1;
    int rv = timerfd_settime(ep->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    assert(rv == 0);
    (void)rv;
}

static void endpoint_on_prepare(uv_prepare_t *prepare)
{
    struct net_endpoint *ep = prepare->data;
    while (ep->dirty_first) {
        struct quic_conn *c = ep->dirty_first;
        ep->dirty_first = c->next_dirty;
        if (!ep->dirty_first) ep->dirty_last = NULL;
        c->dirty = false;
        quic_conn_flush(c);
    }
    uv_idle_stop(&ep->idle);
    if (ep->closing && !ep->conns) {
        endpoint_finish_close(ep);
        return;
    }
    endpoint_set_timer(ep);
}

static struct quic_conn *conn_of_deadline(struct deadline *d)
{
    return (struct quic_conn *)((char *)d - offsetof(struct quic_conn, deadline));
}

/* The time to linger is over. */
static void endpoint_drop_lingering(struct net_endpoint *ep)
{
    for (struct quic_conn *c = ep->conns, *next; c; c = next) {
        next = c->next;
        if (c->state == QUIC_LINGERING) quic_conn_free(c);
    }
    endpoint_wake(ep);
}

static void endpoint_on_timer(uv_poll_t *poll, int status, int events)
{
    struct net_endpoint *ep = poll->data;
    uint64_t expirations, now = net_now();
    struct deadline *d;
    (void)status, (void)events;
    if (read(ep->timer_fd, &expirations, sizeof expirations) < 0 && errno == EAGAIN) return;
    ep->timer_set_ns = DEADLINE_NONE;
    while ((d = deadlines_first(&ep->deadlines)) != NULL && d->at_ns <= now) {
        deadlines_set(&ep->deadlines, d, DEADLINE_NONE);
        if (d == &ep->linger)
            endpoint_drop_lingering(ep);
        else
            quic_conn_expire(conn_of_deadline(d), now);
    }
    endpoint_wake(ep);
}

/* ---- datagrams ---- */

struct udp_socket *net_endpoint_udp(struct net_endpoint *ep, const net_addr *remote)
{
    struct udp_socket *udp = remote->sa.sa_family == AF_INET6 ? &ep->udp_v6 : &ep->udp_v4;
    return udp->fd >= 0 ? udp : NULL;
}

bool net_endpoint_may_answer(struct net_endpoint *ep)
{
    uint64_t now = net_now();
    uint64_t earned = (now - ep->stateless.refilled_ns) / (NS_PER_S / NET_STATELESS_PER_S);
    if (earned) {
        uint64_t tokens = ep->stateless.tokens + earned;
        ep->stateless.tokens = tokens > NET_STATELESS_BURST ? NET_STATELESS_BURST : (uint32_t)tokens;
        ep->stateless.refilled_ns = now;
    }
    if (ep->stateless.tokens == 0) return false;
    ep->stateless.tokens--;
    return true;
}

static void endpoint_received(struct udp_socket *udp, const struct udp_datagram *d)
{
    struct net_endpoint *ep = udp->user;
    ngtcp2_version_cid ids;
    ep->stats.bytes_received += d->len;
    int rv = d->len ? ngtcp2_pkt_decode_version_cid(&ids, d->data, d->len, NET_CID_BYTES) : NGTCP2_ERR_INVALID_ARGUMENT;
    if (rv == NGTCP2_ERR_VERSION_NEGOTIATION) {
        accept_version_negotiation(ep, udp, d, &ids);
        return;
    }
    if (rv) {
        ep->stats.datagrams_ignored++;
        return;
    }
    struct quic_conn *c = cid_table_find(&ep->cids, ids.dcid, ids.dcidlen);
    if (c)
        quic_conn_receive(c, d);
    else
        accept_datagram(ep, udp, d, &ids);
}

static void endpoint_writable(struct udp_socket *udp)
{
    struct net_endpoint *ep = udp->user;
    for (struct quic_conn *c = ep->conns; c; c = c->next) net_endpoint_mark(ep, c);
}

static const struct udp_events endpoint_udp_events = {.received = endpoint_received, .writable = endpoint_writable};

/* ---- opening ---- */

static void endpoint_derive_secrets(struct net_endpoint *ep, const struct secret_key *secret)
{
    static const char purpose[] = "hero_codescalers stateless reset 1";
    crypto_generichash(ep->reset_secret, sizeof ep->reset_secret, (const uint8_t *)purpose, sizeof purpose - 1,
                       secret->bytes, sizeof secret->bytes);
    randombytes_buf(ep->token_secret, sizeof ep->token_secret);
}

static bool address_is_any(const struct socket_address *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip, zero, a->is_ipv6 ? 16 : 4) == 0;
}

static enum hkv_err endpoint_open_sockets(struct net_endpoint *ep, const struct net_endpoint_config *config)
{
    if (config->use_v4) TRY(udp_open(&ep->udp_v4, ep->loop, &config->bind_v4, ep->receive, &endpoint_udp_events, ep));
    if (!config->use_v6) return HKV_OK;
    struct socket_address v6 = config->bind_v6;
    v6.is_ipv6 = true;
    enum hkv_err err = udp_open(&ep->udp_v6, ep->loop, &v6, ep->receive, &endpoint_udp_events, ep);
    bool optional = config->use_v4 && address_is_any(&v6) && v6.port == 0;
    return err == HKV_E_NETWORK && optional ? HKV_OK : err;
}

static enum hkv_err endpoint_open_handles(struct net_endpoint *ep)
{
    ep->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (ep->timer_fd < 0) return error_set(HKV_E_NETWORK, "timer: %s", strerror(errno));
    int rv = uv_poll_init(ep->loop, &ep->timer, ep->timer_fd);
    if (rv) {
        close(ep->timer_fd);
        ep->timer_fd = -1;
        return error_set(HKV_E_NETWORK, "timer: %s", uv_strerror(rv));
    }
    uv_prepare_init(ep->loop, &ep->prepare);
    uv_idle_init(ep->loop, &ep->idle);
    ep->timer.data = ep->prepare.data = ep->idle.data = ep;
    uv_poll_start(&ep->timer, UV_READABLE, endpoint_on_timer);
    uv_prepare_start(&ep->prepare, endpoint_on_prepare);
    uv_unref((uv_handle_t *)&ep->prepare); /* sockets keep the loop alive */
    return HKV_OK;
}

static void endpoint_free(struct net_endpoint *ep)
{
    tls_identity_fini(&ep->tls);
    cid_table_fini(&ep->cids);
    deadlines_fini(&ep->deadlines);
    alpn_list_fini(&ep->alpns);
    sodium_memzero(ep->reset_secret, sizeof ep->reset_secret);
    sodium_memzero(ep->token_secret, sizeof ep->token_secret);
    free(ep->receive);
    free(ep);
}

static void endpoint_handle_closed(uv_handle_t *handle)
{
    struct net_endpoint *ep = handle->data;
    if (--ep->handles_open) return;
    void (*done)(void *) = ep->done;
    void *user = ep->done_user;
    endpoint_free(ep);
    if (done) done(user);
}

static void endpoint_udp_closed(uv_handle_t *handle)
{
    struct udp_socket *udp = handle->data;
    handle->data = udp->user;
    endpoint_handle_closed(handle);
}

static void endpoint_finish_close(struct net_endpoint *ep)
{
    deadlines_set(&ep->deadlines, &ep->linger, DEADLINE_NONE);
    if (ep->udp_v4.fd >= 0) {
        ep->handles_open++;
        udp_close(&ep->udp_v4, endpoint_udp_closed);
    }
    if (ep->udp_v6.fd >= 0) {
        ep->handles_open++;
        udp_close(&ep->udp_v6, endpoint_udp_closed);
    }
    if (ep->timer_fd >= 0) {
        ep->handles_open += 3;
        uv_close((uv_handle_t *)&ep->timer, endpoint_handle_closed);
        uv_close((uv_handle_t *)&ep->prepare, endpoint_handle_closed);
        uv_close((uv_handle_t *)&ep->idle, endpoint_handle_closed);
        close(ep->timer_fd);
        ep->timer_fd = -1;
    }
    if (ep->handles_open == 0) endpoint_free(ep);
}

enum hkv_err net_endpoint_open(const struct net_endpoint_config *config, struct net_endpoint **out)
{
    TRY(crypto_init());
    if (!config->use_v4 && !config->use_v6) return error_set(HKV_E_INVALID, "an endpoint needs IPv4, IPv6 or both");
    struct net_endpoint *ep = calloc(1, sizeof *ep);
    if (!ep) return error_set(HKV_E_NOMEM, "endpoint: no memory");
    ep->base.ops = &quic_transport_ops;
    ep->loop = config->loop;
    ep->limits = config->limits;
    ep->owner = config->owner;
    ep->timer_fd = ep->udp_v4.fd = ep->udp_v6.fd = -1;
    ep->timer_set_ns = DEADLINE_NONE;
    ep->stateless = (struct net_budget){.tokens = NET_STATELESS_BURST, .refilled_ns = net_now()};
    ed25519_public_key(config->secret, ep->id.bytes);
    endpoint_derive_secrets(ep, config->secret);
    ep->receive = malloc(sizeof *ep->receive);

    enum hkv_err err = ep->receive ? HKV_OK : error_set(HKV_E_NOMEM, "receive buffer: no memory");
    if (err == HKV_OK) err = cid_table_init(&ep->cids);
    if (err == HKV_OK) err = deadlines_reserve(&ep->deadlines, 1);
    if (err == HKV_OK) err = tls_identity_init(&ep->tls, config->secret, &ep->id);
    if (err == HKV_OK) err = alpn_list_copy(&ep->alpns, config->alpns, config->alpn_count, "an endpoint accepts");
    if (err == HKV_OK) err = endpoint_open_handles(ep);
    if (err == HKV_OK) err = endpoint_open_sockets(ep, config);
    if (err != HKV_OK) {
        endpoint_finish_close(ep); /* frees at once, or as soon as the loop has closed what was open */
        return err;
    }
    *out = ep;
    return HKV_OK;
}

/* ---- the rest of the interface ---- */

struct transport *net_endpoint_transport(struct net_endpoint *ep)
{
    return &ep->base;
}

const struct endpoint_id *net_endpoint_id(const struct net_endpoint *ep)
{
    return &ep->id;
}

uint16_t net_endpoint_port(const struct net_endpoint *ep, bool ipv6)
{
    const struct udp_socket *udp = ipv6 ? &ep->udp_v6 : &ep->udp_v4;
    return udp->fd >= 0 ? net_addr_port(&udp->bound) : 0;
}

enum hkv_err net_endpoint_addresses(const struct net_endpoint *ep, struct address_set *out)
{
    struct socket_address bound[2];
    size_t count = 0;
    if (ep->udp_v4.fd >= 0) net_addr_to(&bound[count++], &ep->udp_v4.bound);
    if (ep->udp_v6.fd >= 0) net_addr_to(&bound[count++], &ep->udp_v6.bound);
    return interfaces_addresses(bound, count, out);
}

void net_endpoint_stats(const struct net_endpoint *ep, struct net_endpoint_stats *out)
{
    *out = ep->stats;
    out->conns = ep->conn_count;
    out->half_open = ep->half_open_count;
}

void net_endpoint_close(struct net_endpoint *ep, void (*done)(void *user), void *user)
{
    assert(!ep->closing);
    ep->closing = true;
    ep->done = done;
    ep->done_user = user;
    for (struct quic_conn *c = ep->conns; c; c = c->next) quic_conn_close(c, 0, "");
    deadlines_set(&ep->deadlines, &ep->linger, net_now() + (uint64_t)ep->limits.linger_ms * 1000000);
    endpoint_wake(ep);
}
