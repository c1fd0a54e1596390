#include "net/address_native.h"

#include <arpa/inet.h>
#include <assert.h>

void net_addr_from(net_addr *out, const struct socket_address *in)
{
    memset(out, 0, sizeof *out);
    if (in->is_ipv6) {
        out->in6.sin6_family = AF_INET6;
        out->in6.sin6_port = htons(in->port);
        memcpy(&out->in6.sin6_addr, in->ip, 16);
    } else {
        out->in.sin_family = AF_INET;
        out->in.sin_port = htons(in->port);
        memcpy(&out->in.sin_addr, in->ip, 4);
    }
}

void net_addr_from_mapped(net_addr *out, const struct socket_address *in)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct socket_address plain = *in;
    if (in->is_ipv6 && memcmp(in->ip, mapped, sizeof mapped) == 0) {
        plain.is_ipv6 = false;
        memcpy(plain.ip, in->ip + sizeof mapped, 4);
    }
    net_addr_from(out, &plain);
}

void net_addr_to(struct socket_address *out, const net_addr *in)
{
    memset(out, 0, sizeof *out);
    if (in->sa.sa_family == AF_INET6) {
        out->is_ipv6 = true;
        memcpy(out->ip, &in->in6.sin6_addr, 16);
    } else if (in->sa.sa_family == AF_INET) {
        memcpy(out->ip, &in->in.sin_addr, 4);
    }
    out->port = net_addr_port(in);
}

socklen_t net_addr_len(const net_addr *a)
{
    return a->sa.sa_family == AF_INET6 ? sizeof a->in6 : sizeof a->in;
}

bool net_addr_equal(const net_addr *a, const net_addr *b)
{
    if (a->sa.sa_family != b->sa.sa_family || net_addr_port(a) != net_addr_port(b)) return false;
    if (a->sa.sa_family == AF_INET6) return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 16) == 0;
    return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
}

uint16_t net_addr_port(const net_addr *a)
{
    if (a->sa.sa_family == AF_INET6) return ntohs(a->in6.sin6_port);
    return a->sa.sa_family == AF_INET ? ntohs(a->in.sin_port) : 0;
}
