/* The inside of an endpoint, for the files of this module only. */
#ifndef HKV_NET_ENDPOINT_IMPL_H
#define HKV_NET_ENDPOINT_IMPL_H

#include "net/alpn_list.h"
#include "net/cid_table.h"
#include "net/deadlines.h"
#include "net/endpoint.h"
#include "net/tls.h"
#include "net/udp.h"

#define NET_SECRET_BYTES 32

/* Answers to packets of nobody: they cost little, but nobody may make us send without end. */
struct net_budget {
    uint32_t tokens;
    uint64_t refilled_ns;
};

struct net_endpoint {
    struct transport base; /* first */
    uv_loop_t *loop;
    struct endpoint_id id;
    struct tls_identity tls;
    struct net_limits limits;
    struct transport_owner owner;
    struct alpn_list alpns;

    struct udp_receive_buffer *receive;
    struct udp_socket udp_v4;
    struct udp_socket udp_v6;
    uint8_t reset_secret[NET_SECRET_BYTES]; /* the same after a restart: our stateless resets tell peers of it */
    uint8_t token_secret[NET_SECRET_BYTES];

    struct cid_table cids;
    struct quic_conn *conns;       /* all, also those that only answer late packets */
    struct quic_conn *dirty_first; /* have something to do before the loop waits */
    struct quic_conn *dirty_last;
    uint32_t conn_count; /* not closed ones */
    uint32_t lingering_count;
    uint32_t half_open_count;
    struct deadlines deadlines;
    struct deadline linger; /* of the closing endpoint */
    struct net_budget stateless;

    int timer_fd;
    uint64_t timer_set_ns; /* what timer_fd is set to */
    uv_poll_t timer;
    uv_prepare_t prepare; /* runs before the loop waits */
    uv_idle_t idle;       /* while it runs the loop does not wait: something is dirty */

    bool closing;
    unsigned handles_open;
    void (*done)(void *user);
    void *done_user;

    struct net_endpoint_stats stats;
    uint8_t packets[NET_BATCH_BYTES]; /* being written */
};

static inline uint64_t net_now(void)
{
    return uv_hrtime();
}

/* Puts a connection on the list of those to look at before the loop waits. */
void net_endpoint_mark(struct net_endpoint *ep, struct quic_conn *conn);

/* The socket for addresses of a family; NULL when not open. */
struct udp_socket *net_endpoint_udp(struct net_endpoint *ep, const net_addr *remote);

/* Whether a packet that no connection asked for may be answered now. */
bool net_endpoint_may_answer(struct net_endpoint *ep);

/* accept.c: a datagram for no known connection. */
void accept_datagram(struct net_endpoint *ep, struct udp_socket *udp, const struct udp_datagram *d,
                     const ngtcp2_version_cid *ids);
void accept_version_negotiation(struct net_endpoint *ep, struct udp_socket *udp, const struct udp_datagram *d,
                                const ngtcp2_version_cid *ids);

#endif
