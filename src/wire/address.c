#include "wire/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

void address_set_fini(struct address_set *set)
{
    if (set == NULL) return;
    for (size_t i = 0; i < set->count; i++) free(set->items[i].relay_url);
    free(set->items);
    *set = (struct address_set){0};
}

void endpoint_address_fini(struct endpoint_address *ea)
{
    if (ea != NULL) address_set_fini(&ea->addrs);
}

int socket_address_compare(const struct socket_address *a, const struct socket_address *b)
{
    if (a->is_ipv6 != b->is_ipv6) return a->is_ipv6 ? 1 : -1;
    int order = memcmp(a->ip, b->ip, a->is_ipv6 ? 16 : 4);
    return order != 0 ? order : (a->port > b->port) - (a->port < b->port);
}

static int address_compare(const struct address *a, const struct address *b)
{
    if (a->kind != b->kind) return a->kind == ADDRESS_RELAY ? -1 : 1;
    return a->kind == ADDRESS_RELAY ? strcmp(a->relay_url, b->relay_url)
                                    : socket_address_compare(&a->socket, &b->socket);
}

/* Takes over the relay URL of `added`, also when it fails or finds the address there already. */
static enum hkv_err insert_take(struct address_set *set, struct address added)
{
    size_t at = 0;
    int order = 1;
    while (at < set->count && (order = address_compare(&set->items[at], &added)) < 0) at++;
    enum hkv_err err = HKV_OK;
    if (at < set->count && order == 0) goto out;
    if (set->count == ADDRESS_SET_MAX) {
        err = error_set(HKV_E_LIMIT, "an endpoint has at most %d addresses", ADDRESS_SET_MAX);
        goto out;
    }
    struct address *items = realloc(set->items, (set->count + 1) * sizeof *items);
    if (items == NULL) {
        err = error_set(HKV_E_NOMEM, "no memory for %zu addresses", set->count + 1);
        goto out;
    }
    memmove(items + at + 1, items + at, (set->count - at) * sizeof *items);
    items[at] = added;
    set->items = items;
    set->count++;
    return HKV_OK;
out:
    free(added.relay_url);
    return err;
}

enum hkv_err address_set_add_socket(struct address_set *set, const struct socket_address *socket)
{
    return insert_take(set, (struct address){.kind = ADDRESS_IP, .socket = *socket});
}

enum hkv_err address_set_add_relay(struct address_set *set, struct slice url)
{
    struct buf normal = {0};
    enum hkv_err err = relay_url_normalise(url, &normal);
    if (err == HKV_OK) err = buf_append_byte(&normal, '\0');
    if (err == HKV_OK)
        err = insert_take(set, (struct address){.kind = ADDRESS_RELAY, .relay_url = (char *)buf_take(&normal).data});
    buf_fini(&normal);
    return err;
}

enum hkv_err address_set_add_text(struct address_set *set, struct slice text)
{
    struct socket_address socket;
    if (text.len > 0 && memchr(text.data, '/', text.len) != NULL) return address_set_add_relay(set, text);
    TRY(socket_address_parse(text, &socket));
    return address_set_add_socket(set, &socket);
}

enum hkv_err address_set_merge(struct address_set *into, const struct address_set *from)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct address *a = &from->items[i];
        TRY(a->kind == ADDRESS_RELAY ? address_set_add_relay(into, slice_of_text(a->relay_url))
                                     : address_set_add_socket(into, &a->socket));
    }
    return HKV_OK;
}

static bool parse_port(struct slice text, uint16_t *out)
{
    unsigned value = 0;
    if (text.len == 0 || text.len > 5) return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        value = value * 10 + text.data[i] - '0';
    }
    *out = (uint16_t)value;
    return value <= UINT16_MAX;
}

enum hkv_err socket_address_parse(struct slice text, struct socket_address *out)
{
    char ip[ADDRESS_TEXT_MAX];
    bool bracket = text.len > 0 && text.data[0] == '[';
    size_t colon = text.len;
    while (colon > 0 && text.data[colon - 1] != ':') colon--;
    struct slice host = colon > 0 ? slice_part(text, 0, colon - 1) : (struct slice){NULL, 0};
    if (bracket && host.len >= 2 && host.data[host.len - 1] == ']') host = slice_part(host, 1, host.len - 2);

    *out = (struct socket_address){.is_ipv6 = bracket};
    bool good = host.len > 0 && host.len < sizeof ip && memchr(host.data, '\0', host.len) == NULL;
    if (good) {
        memcpy(ip, host.data, host.len);
        ip[host.len] = '\0';
        good = inet_pton(bracket ? AF_INET6 : AF_INET, ip, out->ip) == 1;
    }
    if (good && parse_port(slice_part(text, colon, text.len - colon), &out->port)) return HKV_OK;
    int shown = text.len < ADDRESS_TEXT_MAX ? (int)text.len : ADDRESS_TEXT_MAX;
    return error_set(HKV_E_TICKET,
                     "'%.*s' is not an address: write 192.0.2.1:24376 or [2001:db8::1]:24376, port up to 65535", shown,
                     text.len > 0 ? (const char *)text.data : "");
}

void socket_address_format(const struct socket_address *a, char out[ADDRESS_TEXT_MAX])
{
    char ip[INET6_ADDRSTRLEN] = "";
    (void)inet_ntop(a->is_ipv6 ? AF_INET6 : AF_INET, a->ip, ip, sizeof ip);
    (void)snprintf(out, ADDRESS_TEXT_MAX, a->is_ipv6 ? "[%s]:%u" : "%s:%u", ip, (unsigned)a->port);
}

const char *address_format(const struct address *a, char out[ADDRESS_TEXT_MAX])
{
    if (a->kind == ADDRESS_RELAY) return a->relay_url;
    socket_address_format(&a->socket, out);
    return out;
}
