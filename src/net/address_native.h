/* Socket addresses between the forms of src/wire (struct socket_address) and of the kernel and ngtcp2. */
#ifndef HKV_NET_ADDRESS_NATIVE_H
#define HKV_NET_ADDRESS_NATIVE_H

#include <ngtcp2/ngtcp2.h>

#include "wire/address.h"

/* A sockaddr of either family; all zero (AF_UNSPEC) means none. */
typedef ngtcp2_sockaddr_union net_addr;

void net_addr_from(net_addr *out, const struct socket_address *in);
/* The same, with an IPv4-mapped IPv6 address made plain IPv4: our sockets are of one family each. */
void net_addr_from_mapped(net_addr *out, const struct socket_address *in);
void net_addr_to(struct socket_address *out, const net_addr *in);
socklen_t net_addr_len(const net_addr *a);

/* Same family, address and port. */
bool net_addr_equal(const net_addr *a, const net_addr *b);

uint16_t net_addr_port(const net_addr *a);

#endif
