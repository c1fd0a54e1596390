/* Packets for no connection of ours: the first ones of incoming connections, and everything else that arrives at a
 * port.
 *
 *   Initial ──▶ too many connections? refuse ──▶ many half open? Retry, unless it brings our token ──▶ new connection
 *
 * Nothing is remembered of a packet that does not make a connection, and answers to strangers are rationed. */
#include <sodium.h>

#include "net/quic_conn.h"

#define RESET_RANDOM_BYTES    21 /* a stateless reset of 37 bytes, as long as short packets are ... */
#define RESET_PACKET_SHORTEST (NGTCP2_MIN_STATELESS_RESET_RANDLEN + NGTCP2_STATELESS_RESET_TOKENLEN)

static void accept_answer(struct net_endpoint *ep, struct udp_socket *udp, const struct udp_datagram *d,
                          const uint8_t *packet, ngtcp2_ssize len)
{
    if (len <= 0) return;
    udp_send(udp, &d->local, &d->remote, packet, (size_t)len, (size_t)len);
    ep->stats.bytes_sent += (uint64_t)len;
}

void accept_version_negotiation(struct net_endpoint *ep, struct udp_socket *udp, const struct udp_datagram *d,
                                const ngtcp2_version_cid *ids)
{
    static const uint32_t versions[] = {NGTCP2_PROTO_VER_V1};
    uint8_t packet[NET_PAYLOAD_MAX];
    if (d->len < NGTCP2_MAX_UDP_PAYLOAD_SIZE || !net_endpoint_may_answer(ep)) return;
    ngtcp2_ssize n =
        ngtcp2_pkt_write_version_negotiation(packet, sizeof packet, (uint8_t)randombytes_uniform(256), ids->scid,
                                             ids->scidlen, ids->dcid, ids->dcidlen, versions, 1);
    accept_answer(ep, udp, d, packet, n);
}

/* A peer that has forgotten a connection of ours says so in a packet that only its last bytes tell from noise. */
static struct quic_conn *accept_find_reset(struct net_endpoint *ep, const struct udp_datagram *d)
{
    const uint8_t *token = d->data + d->len - NGTCP2_STATELESS_RESET_TOKENLEN;
    for (struct quic_conn *c = ep->conns; c; c = c->next)
        if (quic_conn_resets(c, &d->remote, token)) return c;
    return NULL;
}

/* A packet of a connection that we have forgotten, in this run or an earlier one: the peer is told, and dials anew. */
static void accept_reset(struct net_endpoint *ep, struct udp_socket *udp, const struct udp_datagram *d,
                         const ngtcp2_version_cid *ids)
{
    uint8_t packet[NET_PAYLOAD_MAX], token[NGTCP2_STATELESS_RESET_TOKENLEN], noise[RESET_RANDOM_BYTES];
    ngtcp2_cid cid;
    if (d->len <= RESET_PACKET_SHORTEST) return;
    ngtcp2_cid_init(&cid, ids->dcid, ids->dcidlen);
    if (quic_reset_token(ep, &cid, token)) return;
    /* ... but shorter than what it answers, which may be no more than the PING of a keep-alive (RFC 9000, 10.3). */
    size_t random_bytes = d->len - 1 - NGTCP2_STATELESS_RESET_TOKENLEN;
    if (random_bytes > RESET_RANDOM_BYTES) random_bytes = RESET_RANDOM_BYTES;
    randombytes_buf(noise, random_bytes);
    ngtcp2_ssize n = ngtcp2_pkt_write_stateless_reset(packet, sizeof packet, token, noise, random_bytes);
    accept_answer(ep, udp, d, packet, n);
}

static void accept_short(struct net_endpoint *ep, struct udp_socket *udp, const struct udp_datagram *d,
                         const ngtcp2_version_cid *ids)
{
    struct quic_conn *c = NULL;
    bool rationed = net_endpoint_may_answer(ep);
    if (rationed && d->len >= RESET_PACKET_SHORTEST) c = accept_find_reset(ep, d);
    if (c) {
        quic_conn_receive(c, d);
        return;
    }
    ep->stats.datagrams_ignored++;
    if (rationed) accept_reset(ep, udp, d, ids);
}

static void accept_refuse(struct net_endpoint *ep, struct udp_socket *udp, const struct udp_datagram *d,
                          const ngtcp2_pkt_hd *hd)
{
    uint8_t packet[NET_PAYLOAD_MAX];
    ep->stats.refused++;
    if (!net_endpoint_may_answer(ep)) return;
    ngtcp2_ssize n = ngtcp2_crypto_write_connection_close(packet, sizeof packet, hd->version, &hd->scid, &hd->dcid,
                                                          NGTCP2_CONNECTION_REFUSED, NULL, 0);
    accept_answer(ep, udp, d, packet, n);
}

static void accept_retry(struct net_endpoint *ep, struct udp_socket *udp, const struct udp_datagram *d,
                         const ngtcp2_pkt_hd *hd)
{
    uint8_t packet[NET_PAYLOAD_MAX], token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2];
    ngtcp2_cid scid = {.datalen = NET_CID_BYTES};
    randombytes_buf(scid.data, scid.datalen);
    ngtcp2_ssize len =
        ngtcp2_crypto_generate_retry_token2(token, ep->token_secret, sizeof ep->token_secret, hd->version,
                                            &d->remote.sa, net_addr_len(&d->remote), &scid, &hd->dcid, net_now());
    if (len < 0) return;
    ngtcp2_ssize n =
        ngtcp2_crypto_write_retry(packet, sizeof packet, hd->version, &hd->scid, &scid, &hd->dcid, token, (size_t)len);
    ep->stats.retries_sent++;
    accept_answer(ep, udp, d, packet, n);
}

/* Whether the Initial brings a token of ours; 0 yes (then `odcid` is the client's first id), else ngtcp2's error.
 * Tokens of other kinds, which iroh clients may keep from other servers, count as none. */
static int accept_token(struct net_endpoint *ep, const struct udp_datagram *d, const ngtcp2_pkt_hd *hd,
                        ngtcp2_cid *odcid)
{
    if (hd->tokenlen == 0 || hd->token[0] != NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2)
        return NGTCP2_CRYPTO_ERR_UNREADABLE_TOKEN;
    return ngtcp2_crypto_verify_retry_token2(odcid, hd->token, hd->tokenlen, ep->token_secret, sizeof ep->token_secret,
                                             hd->version, &d->remote.sa, net_addr_len(&d->remote), &hd->dcid,
                                             NET_RETRY_TOKEN_S * NGTCP2_SECONDS, net_now());
}

static void accept_initial(struct net_endpoint *ep, struct udp_socket *udp, const struct udp_datagram *d,
                           const ngtcp2_pkt_hd *hd)
{
    ngtcp2_cid odcid;
    struct quic_conn *c;
    int token = accept_token(ep, d, hd, &odcid);
    if (token == NGTCP2_CRYPTO_ERR_VERIFY_TOKEN) {
        /* Outdated, or of another address: a client that tries all our addresses sends the one token to each of them.
         * Saying INVALID_TOKEN would end what goes well elsewhere. */
        ep->stats.datagrams_ignored++;
        return;
    }
    if (ep->conn_count >= ep->limits.conns_max || ep->half_open_count >= ep->limits.half_open_max) {
        accept_refuse(ep, udp, d, hd);
        return;
    }
    if (token != 0 && ep->half_open_count >= ep->limits.half_open_retry) {
        accept_retry(ep, udp, d, hd);
        return;
    }
    if (quic_conn_accept(ep, d, hd, token == 0 ? &odcid : NULL, &c) != HKV_OK) {
        ep->stats.refused++;
        return;
    }
    quic_conn_receive(c, d);
}

void accept_datagram(struct net_endpoint *ep, struct udp_socket *udp, const struct udp_datagram *d,
                     const ngtcp2_version_cid *ids)
{
    ngtcp2_pkt_hd hd;
    if (ids->version == 0 && !(d->data[0] & 0x80)) {
        accept_short(ep, udp, d, ids);
        return;
    }
    if (ep->closing || d->len < NGTCP2_MAX_UDP_PAYLOAD_SIZE || ngtcp2_accept(&hd, d->data, d->len) < 0) {
        ep->stats.datagrams_ignored++;
        return;
    }
    accept_initial(ep, udp, d, &hd);
}
