/* Every bound of the network module, with its name. Those an owner may want to change are in struct net_limits; the
 * rest are fixed. What a peer can make us hold is a product of these: connections x receive window, plus what the
 * owner's protocols keep themselves. */
#ifndef HKV_NET_LIMITS_H
#define HKV_NET_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#define NET_CID_BYTES         8    /* length of the connection ids we issue */
#define NET_PAYLOAD_MAX       1472 /* UDP payload we send or accept; iroh's hard limit */
#define NET_BATCH_BYTES       ((size_t)64 * 1024)
#define NET_RECEIVE_SLOTS     8 /* datagrams (or GRO trains) taken from the kernel in one call */
#define NET_RECEIVE_ROUNDS    8 /* such calls before the other work of the loop gets its turn */
#define NET_CANDIDATES_MAX    32
#define NET_CIDS_PER_CONN_MAX 16
#define NET_STREAMS_LOCAL_MAX 4096 /* streams opened by us on one connection, waiting ones included */
#define NET_REASON_MAX        160  /* bytes of a close reason that we keep, NUL included */
#define NET_STATELESS_BURST   100  /* resets, version negotiations and refusals answered at once ... */
#define NET_STATELESS_PER_S   1000 /* ... and per second */
#define NET_RETRY_TOKEN_S     10
#define NET_SOCKET_BUFFER     (4 * 1024 * 1024)
#define NET_ALPN_MAX          8
#define NET_ALPN_BYTES_MAX    255

struct net_limits {
    uint32_t conns_max;             /* all connections, half-open ones included */
    uint32_t conns_per_peer_max;    /* accepted connections of one endpoint id */
    uint32_t half_open_max;         /* incoming handshakes at once */
    uint32_t half_open_retry;       /* from this many on, an address must prove itself by Retry */
    uint32_t streams_max;           /* streams the peer may have open on one connection */
    uint64_t conn_window_bytes;     /* received and not consumed, one connection */
    uint64_t stream_window_bytes;   /* the same, one stream */
    uint32_t dial_timeout_ms;       /* to an open connection; also how long an incoming handshake may take */
    uint32_t idle_timeout_ms;       /* silence that ends a connection */
    uint32_t keep_alive_ms;         /* our own PING after this much silence; 0: none */
    uint32_t stall_timeout_ms;      /* of a peer that is heard and acknowledges nothing of a full window */
    uint32_t linger_ms;             /* how long a closing endpoint still answers late packets, at most */
    uint64_t key_update_packets;    /* packets sent under one key; 0: only as the cipher demands */
    uint32_t key_update_spacing_ms; /* of our updates, after the last one of either side */
};

void net_limits_default(struct net_limits *out);

#endif
