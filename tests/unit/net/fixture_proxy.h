/* A forwarder between a dialler and an endpoint: the network's part in a test. It can change the address the endpoint
 * sees, send every datagram from two addresses, drop, and count. */
#ifndef TESTS_NET_FIXTURE_PROXY_H
#define TESTS_NET_FIXTURE_PROXY_H

#include "fixture.h"
#include "random.h"

/* A datagram taken out of the order, to be sent after the next one. */
struct rig_held {
    size_t len;
    char bytes[2048];
};

struct rig_proxy {
    struct rig *rig;
    struct random random; /* for the faults, in tenths of a percent */
    unsigned lose, duplicate, reorder;
    struct rig_held held[2];
    uv_udp_t front;   /* the dialler talks to it */
    uv_udp_t back[3]; /* talk to the endpoint, each from a port of its own */
    size_t active;    /* the one in use */
    bool twice;       /* every datagram to the endpoint is sent from back[0] and back[1] */
    bool drop;        /* nothing passes any more */
    bool drop_back;   /* what comes back does not pass */
    bool victim[4];   /* a back that the endpoint only believes to talk to the dialler by: nothing comes back by it */
    uv_udp_t back6;   /* talks to the endpoint's IPv6 address, when it has one */
    bool by_ipv6;     /* everything goes to the endpoint by it */
    struct sockaddr_in dialler;
    struct sockaddr_in endpoint;
    struct sockaddr_in6 endpoint6;
    uint64_t to_endpoint;
    uint64_t to_dialler[4];  /* the last: by IPv6 */
    uint64_t bytes_forth[3]; /* by each of the backs */
    uint64_t bytes_back[4];
    uint64_t bytes_to_endpoint;
    uint64_t bytes_to_dialler;
    char slot[65536]; /* what came last */
};

void rig_proxy_open(struct rig_proxy *proxy, struct rig_node *endpoint);
void rig_proxy_close(struct rig_proxy *proxy);
struct socket_address rig_proxy_address(struct rig_proxy *proxy);
uint16_t rig_proxy_back_port(struct rig_proxy *proxy, size_t index);

/* Sends a datagram of the test's own making to the endpoint. */
void rig_proxy_inject(struct rig_proxy *proxy, size_t index, const void *data, size_t len);

/* The same to the dialler, who must have sent something. */
void rig_proxy_answer(struct rig_proxy *proxy, const void *data, size_t len);

#endif
