/* The addresses of this machine's network interfaces that others can dial, chosen as iroh chooses
 * (wire/endpoint.md 6.1). */
#ifndef HKV_NET_INTERFACES_H
#define HKV_NET_INTERFACES_H

#include "wire/address.h"

/* How good an address is for others; only the best kind that exists is advertised beside regular ones. */
enum interface_rank {
    INTERFACE_NEVER,    /* link-local IPv6, multicast, iroh's internal prefix, deprecated addresses */
    INTERFACE_LOOPBACK, /* only when there is nothing else at all */
    INTERFACE_FALLBACK, /* IPv4 169.254/16, IPv6 fc00::/7: only when nothing regular exists */
    INTERFACE_REGULAR,
};

enum interface_rank interface_rank_of(const struct socket_address *a);

/* Adds to `out` what sockets bound to `bound` are reached at: a specific address as it is, a wildcard expanded to the
 * interfaces' addresses of its family with its port. Errors: HKV_E_NETWORK, HKV_E_NOMEM. */
HKV_CHECK enum hkv_err interfaces_addresses(const struct socket_address *bound, size_t bound_count,
                                            struct address_set *out);

#endif
