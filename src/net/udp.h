/* One UDP socket of one address family, used for dialling and accepting alike.
 *
 * Received datagrams are handed over in batches, each with the local address it came to; sending can name the local
 * address to send from. Where the kernel has them, segmentation (GSO) and coalescing (GRO) move up to 64 KiB in one
 * call; where not, recvmmsg and sendmmsg do. When the kernel's queue is full, the datagrams in hand are kept and
 * `blocked` is set until the socket is writable again: nothing more may be sent meanwhile. Network thread. */
#ifndef HKV_NET_UDP_H
#define HKV_NET_UDP_H

#include <uv.h>

#include "base/bytes.h"
#include "net/address_native.h"
#include "net/limits.h"

struct udp_socket;

struct udp_datagram {
    const uint8_t *data;
    size_t len;
    net_addr local;
    net_addr remote;
};

struct udp_events {
    void (*received)(struct udp_socket *u, const struct udp_datagram *datagram);
    void (*writable)(struct udp_socket *u); /* no longer blocked */
};

/* Memory to receive into; one for all sockets of a loop. */
struct udp_receive_buffer {
    uint8_t slots[NET_RECEIVE_SLOTS][NET_BATCH_BYTES];
};

struct udp_socket {
    int fd; /* -1 while not open */
    uv_poll_t poll;
    net_addr bound;
    const struct udp_events *events;
    void *user;
    struct udp_receive_buffer *receive;
    bool gso;
    bool blocked;
    struct buf kept; /* what the kernel did not take, with where it goes */
    size_t kept_segment;
    net_addr kept_local;
    net_addr kept_remote;
};

/* Opens and binds; `bound` then tells the port. Errors: HKV_E_ADDRESS_IN_USE (names the address), HKV_E_NETWORK. */
HKV_CHECK enum hkv_err udp_open(struct udp_socket *u, uv_loop_t *loop, const struct socket_address *bind_to,
                                struct udp_receive_buffer *receive, const struct udp_events *events, void *user);

/* Closes; `closed` runs on the loop when the handle is gone. Only for an open socket. */
void udp_close(struct udp_socket *u, uv_close_cb closed);

/* Sends `len` bytes as datagrams of `segment` bytes, the last one may be shorter, from `local` (AF_UNSPEC: the kernel
 * chooses) to `remote`. Never fails: what the network does not carry is lost, as datagrams are. */
void udp_send(struct udp_socket *u, const net_addr *local, const net_addr *remote, const uint8_t *data, size_t len,
              size_t segment);

#endif
