/* The iroh endpoint: one identity, one UDP socket a family, QUIC connections both ways; struct transport over ngtcp2
 * and GnuTLS (wire/endpoint.md 4 to 6).
 *
 *   net_endpoint ── udp (v4, v6)      datagrams, sent and received in batches
 *        │      ── cid_table          which connection a packet belongs to; accept.c takes the rest
 *        │      ── deadlines          one timer for all connections
 *        └─ quic_conn ── quic_stream  ngtcp2 keeps the protocol, these keep the owner's view
 *
 * Everything happens on the loop's thread. What the owner asks for is queued, and done when the loop is about to wait:
 * packets leave in batches, and no callback is made from inside a call. Packets are read, and their callbacks made, as
 * they arrive.
 *
 * Ownership: connections and streams belong to the endpoint and are gone after their `closed`; the endpoint is gone
 * after the `done` of net_endpoint_close(). The loop, the owner and its callbacks must outlive it. */
#ifndef HKV_NET_ENDPOINT_H
#define HKV_NET_ENDPOINT_H

#include <uv.h>

#include "net/limits.h"
#include "wire/transport.h"

struct net_endpoint;

struct net_endpoint_config {
    uv_loop_t *loop;
    const struct secret_key *secret; /* borrowed for the call */
    struct socket_address bind_v4;   /* zero address: all; port 0: any free one */
    struct socket_address bind_v6;
    bool use_v4;
    bool use_v6; /* a machine without IPv6 is fine when IPv4 works and no IPv6 address or port was asked for */
    const struct slice *alpns; /* what incoming connections may speak, in order of preference; borrowed for the call */
    size_t alpn_count;
    struct transport_owner owner;
    struct net_limits limits;
};

/* Counts since the endpoint was opened, and some present numbers. */
struct net_endpoint_stats {
    uint64_t bytes_sent; /* UDP payload */
    uint64_t bytes_received;
    uint64_t datagrams_ignored; /* garbage, or for no connection of ours */
    uint64_t retries_sent;
    uint64_t key_updates; /* of all connections, started by either side */
    uint64_t refused;     /* incoming connections beyond a limit */
    uint32_t conns;       /* now, closing ones not counted */
    uint32_t half_open;
};

/* Binds and starts listening. Errors: HKV_E_ADDRESS_IN_USE (names address and port), HKV_E_NETWORK, HKV_E_INVALID,
 * HKV_E_NOMEM, HKV_E_INTERNAL; then the loop may have handles left, which its next turn closes. */
HKV_CHECK enum hkv_err net_endpoint_open(const struct net_endpoint_config *config, struct net_endpoint **out);

struct transport *net_endpoint_transport(struct net_endpoint *ep);
const struct endpoint_id *net_endpoint_id(const struct net_endpoint *ep);

/* The bound port of a family; 0 when it is not used. */
uint16_t net_endpoint_port(const struct net_endpoint *ep, bool ipv6);

/* Adds the direct addresses to advertise now (wire/endpoint.md 6.1): a bound address as it is, for a wildcard those of
 * the machine's interfaces. Errors: HKV_E_NETWORK, HKV_E_NOMEM. */
HKV_CHECK enum hkv_err net_endpoint_addresses(const struct net_endpoint *ep, struct address_set *out);

void net_endpoint_stats(const struct net_endpoint *ep, struct net_endpoint_stats *out);

/* Closes every connection with code 0 (their `closed` follows), lingers until late packets have been answered (at most
 * limits.linger_ms), then frees the endpoint and calls `done`. Nothing else may be called on it meanwhile. */
void net_endpoint_close(struct net_endpoint *ep, void (*done)(void *user), void *user);

#endif
