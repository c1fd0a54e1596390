#include "net/interfaces.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/address_native.h"

#define IF_INET6_PATH       "/proc/net/if_inet6"
#define IF_INET6_DEPRECATED 0x20u
#define IF_INET6_TENTATIVE  0x40u

static bool has_prefix(const struct socket_address *a, const uint8_t *prefix, size_t len)
{
    return memcmp(a->ip, prefix, len) == 0;
}

enum interface_rank interface_rank_of(const struct socket_address *a)
{
    static const uint8_t v6_loopback[16] = {[15] = 1};
    static const uint8_t iroh_internal[6] = {0xfd, 0x15, 0x07, 0x0a, 0x51, 0x0b};
    static const uint8_t zero[16];
    if (!a->is_ipv6) {
        if (has_prefix(a, zero, 4) || a->ip[0] >= 224) return INTERFACE_NEVER;
        if (a->ip[0] == 127) return INTERFACE_LOOPBACK;
        return a->ip[0] == 169 && a->ip[1] == 254 ? INTERFACE_FALLBACK : INTERFACE_REGULAR;
    }
    if (has_prefix(a, v6_loopback, 16)) return INTERFACE_LOOPBACK;
    if (has_prefix(a, zero, 16) || a->ip[0] == 0xff || has_prefix(a, iroh_internal, 6)) return INTERFACE_NEVER;
    if (a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80) return INTERFACE_NEVER;
    return (a->ip[0] & 0xfe) == 0xfc ? INTERFACE_FALLBACK : INTERFACE_REGULAR;
}

/* Whether the kernel still wants new connections at this IPv6 address. It is when we cannot know. */
static bool address_preferred(const struct socket_address *a)
{
    char line[128], wanted[33];
    bool preferred = true;
    if (!a->is_ipv6) return true;
    FILE *f = fopen(IF_INET6_PATH, "re");
    if (!f) return true;
    for (size_t i = 0; i < 16; i++) snprintf(wanted + 2 * i, 3, "%02x", a->ip[i]);
    while (fgets(line, sizeof line, f)) { /* address, then index, prefix length, scope and flags, all in hex */
        char *at = line + 32;
        unsigned long flags = 0;
        if (strncmp(line, wanted, 32) != 0) continue;
        for (int field = 0; field < 4; field++) flags = strtoul(at, &at, 16);
        preferred = !(flags & (IF_INET6_DEPRECATED | IF_INET6_TENTATIVE));
    }
    fclose(f);
    return preferred;
}

static bool is_wildcard(const struct socket_address *a)
{
    static const uint8_t zero[16];
    return has_prefix(a, zero, a->is_ipv6 ? 16 : 4);
}

/* The interface's address with the port of the wildcard socket of its family; false when there is none. */
static bool interface_address(const struct ifaddrs *i, const struct socket_address *bound, size_t bound_count,
                              struct socket_address *out)
{
    net_addr native = {0};
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP)) return false;
    if (i->ifa_addr->sa_family == AF_INET)
        memcpy(&native, i->ifa_addr, sizeof native.in);
    else if (i->ifa_addr->sa_family == AF_INET6)
        memcpy(&native, i->ifa_addr, sizeof native.in6);
    else
        return false;
    net_addr_to(out, &native);
    for (size_t b = 0; b < bound_count; b++) {
        if (bound[b].is_ipv6 != out->is_ipv6 || !is_wildcard(&bound[b])) continue;
        out->port = bound[b].port;
        return true;
    }
    return false;
}

static enum hkv_err interfaces_add(const struct ifaddrs *list, const struct socket_address *bound, size_t bound_count,
                                   enum interface_rank rank, struct address_set *out)
{
    struct socket_address a;
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        if (!interface_address(i, bound, bound_count, &a)) continue;
        if (interface_rank_of(&a) != rank || !address_preferred(&a)) continue;
        enum hkv_err err = address_set_add_socket(out, &a);
        if (err == HKV_E_LIMIT) return HKV_OK; /* a machine with that many is found by the first ones */
        TRY(err);
    }
    return HKV_OK;
}

enum hkv_err interfaces_addresses(const struct socket_address *bound, size_t bound_count, struct address_set *out)
{
    struct ifaddrs *list = NULL;
    enum hkv_err err = HKV_OK;
    size_t before = out->count;
    for (size_t b = 0; b < bound_count; b++)
        if (!is_wildcard(&bound[b])) TRY(address_set_add_socket(out, &bound[b]));
    if (getifaddrs(&list)) return error_set(HKV_E_NETWORK, "addresses of the interfaces: %s", strerror(errno));
    err = interfaces_add(list, bound, bound_count, INTERFACE_REGULAR, out);
    for (int rank = INTERFACE_FALLBACK; rank >= INTERFACE_LOOPBACK && err == HKV_OK && out->count == before; rank--)
        err = interfaces_add(list, bound, bound_count, (enum interface_rank)rank, out);
    freeifaddrs(list);
    return err;
}
