/* Dialling: from a set of addresses to the one where the peer is.
 *
 * Of a peer's addresses some are dead, and some are somebody else's: private ones mean another machine here than where
 * they come from, even this one (each host with containers has 172.17.0.1). So every packet goes to all candidates
 * until one answers with a packet under handshake keys; that address is final, and ngtcp2 sees one made-up path all the
 * time (wire/endpoint.md 6.3). Who answers and is not the peer, or does not want us, is struck off, and the handshake
 * begins again with the others; all of it within one dial_timeout_ms. Network thread. */
#ifndef HKV_NET_QUIC_DIAL_H
#define HKV_NET_QUIC_DIAL_H

#include "net/quic_conn.h"

/* The path that ngtcp2 sees of a dialled connection, whatever the real one is. */
extern const ngtcp2_path quic_dial_path;

/* Starts a dial; the first packet leaves before the loop waits. See transport_dial_any(). */
HKV_CHECK enum hkv_err quic_dial(struct net_endpoint *ep, const struct endpoint_id *peer,
                                 const struct address_set *addrs, const struct slice *alpns, size_t alpn_count,
                                 const struct transport_conn_events *events, void *user, struct quic_conn **out);

/* Whether the peer may be at this address. */
bool quic_dial_asks(const struct quic_conn *c, const net_addr *a);

/* What came from this address ended the handshake (c->fatal). */
void quic_dial_strike(struct quic_conn *c, const net_addr *a);

/* When candidates are left after a strike: forgets the error and begins again. */
void quic_dial_again(struct quic_conn *c, uint64_t now);

void quic_dial_fini(struct quic_conn *c);

#endif
