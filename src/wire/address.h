/* Where an endpoint can be reached: an ordered set of relay URLs and socket addresses (wire/endpoint.md 3).
 *
 * The set is kept sorted and without repeats as iroh sorts it: relays by their bytes, then IPv4, then IPv6, each by
 * address bytes and numeric port. Text forms: `192.0.2.1:24376`, `[2001:db8::1]:24376`, or a relay URL. Pure data, one
 * owner. */
#ifndef HKV_WIRE_ADDRESS_H
#define HKV_WIRE_ADDRESS_H

#include "base/bytes.h"
#include "base/ids.h"
#include "wire/relay_url.h"

#define ADDRESS_SET_MAX  64 /* addresses of one endpoint that we keep */
#define ADDRESS_TEXT_MAX 64 /* bytes of a socket address as text, NUL included */

struct socket_address {
    uint8_t ip[16]; /* network order; IPv4 in the first 4 */
    uint16_t port;  /* host order */
    bool is_ipv6;
};

enum address_kind {
    ADDRESS_RELAY,
    ADDRESS_IP,
};

struct address {
    enum address_kind kind;
    struct socket_address socket; /* ADDRESS_IP */
    char *relay_url;              /* ADDRESS_RELAY: normalised, owned, NUL-terminated */
};

struct address_set {
    struct address *items;
    size_t count;
};

/* An endpoint and where to find it. */
struct endpoint_address {
    struct endpoint_id id;
    struct address_set addrs;
};

void address_set_fini(struct address_set *set);
void endpoint_address_fini(struct endpoint_address *ea);

/* Adds one; a repeat changes nothing. Errors: HKV_E_NOMEM, HKV_E_LIMIT (ADDRESS_SET_MAX). */
HKV_CHECK enum hkv_err address_set_add_socket(struct address_set *set, const struct socket_address *socket);

/* Adds a relay URL after normalising it (scheme and host lower case, default port dropped, empty path "/").
 * Errors: HKV_E_TICKET (not an http or https URL), HKV_E_NOMEM, HKV_E_LIMIT. */
HKV_CHECK enum hkv_err address_set_add_relay(struct address_set *set, struct slice url);

/* Adds what a text says: `1.2.3.4:5`, `[::1]:5` or a relay URL. Errors: those of the two above and of
 * socket_address_parse(). */
HKV_CHECK enum hkv_err address_set_add_text(struct address_set *set, struct slice text);

/* Adds all of `from`. Errors: HKV_E_NOMEM, HKV_E_LIMIT; what was added until then stays. */
HKV_CHECK enum hkv_err address_set_merge(struct address_set *into, const struct address_set *from);

int socket_address_compare(const struct socket_address *a, const struct socket_address *b);

/* Parses `1.2.3.4:5` or `[::1]:5`; no names are resolved. Errors: HKV_E_TICKET, with the rule. */
HKV_CHECK enum hkv_err socket_address_parse(struct slice text, struct socket_address *out);
void socket_address_format(const struct socket_address *a, char out[ADDRESS_TEXT_MAX]);

/* The text of either kind: `out`, filled, or the relay URL itself. */
const char *address_format(const struct address *a, char out[ADDRESS_TEXT_MAX]);

#endif
