/* Tickets: iroh's text forms for "here is an endpoint" and "here is a document", and the shorter
 * `endpointid@host:port`.
 *
 *   endpoint…  00 ‖ id[32] ‖ addresses                         wire/endpoint.md 3.5, vectors 10.2
 *   doc…       00 ‖ capability ‖ count ≥ 1 ‖ (id ‖ addresses)…  wire/endpoint.md 3.7, vectors 10.3
 *              capability: 00 20 secret[32] (write) or 01 id[32] (read)
 *   text       prefix, then base32 of those bytes
 *
 * Reading is as tolerant as iroh's own (bytes after the value, repeats and any order in a set) and knows the doc
 * tickets of iroh <= 0.93. Custom (neither relay nor IP) addresses are left out: we cannot dial them, and their two
 * layouts cannot be told apart for sure. Text is at most TICKET_TEXT_MAX bytes. Pure functions, any thread;
 * crypto_init() first. */
#ifndef HKV_WIRE_TICKET_H
#define HKV_WIRE_TICKET_H

#include "wire/address.h"

#define TICKET_TEXT_MAX      65536 /* bytes read as one ticket */
#define TICKET_ENDPOINTS_MAX 64    /* endpoints kept of one doc ticket */
#define PEER_HOST_MAX        255   /* bytes of a host name */

struct doc_ticket {
    bool writable;
    struct namespace_id namespace; /* of a write ticket: the public key of `secret` */
    struct secret_key secret;      /* all zero in a read ticket */
    struct endpoint_address *endpoints;
    size_t endpoint_count;
};

/* A peer as people name one: an `endpoint…` ticket, or `endpointid@host:port`. */
struct peer_name {
    struct endpoint_address endpoint; /* its addresses, as far as they need no resolving */
    char host[PEER_HOST_MAX + 1];     /* a name still to be resolved; "" when there is none */
    uint16_t port;                    /* that goes with `host` */
};

/* An endpoint id: 64 lower-case hex digits or 52 base32 characters, and a point of the curve. Errors: HKV_E_TICKET. */
HKV_CHECK enum hkv_err endpoint_id_parse(struct slice text, struct endpoint_id *out);

/* Appends the ticket's text (no NUL). Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err endpoint_ticket_encode(const struct endpoint_address *endpoint, struct buf *out);

/* Reads a ticket into `out`, which needs endpoint_address_fini() after success. Errors: HKV_E_TICKET, HKV_E_NOMEM. */
HKV_CHECK enum hkv_err endpoint_ticket_decode(struct slice text, struct endpoint_address *out);

/* Appends the ticket's text (no NUL). Errors: HKV_E_INVALID (no endpoint in it), HKV_E_NOMEM. */
HKV_CHECK enum hkv_err doc_ticket_encode(const struct doc_ticket *ticket, struct buf *out);

/* Reads a ticket into `out`, which needs doc_ticket_fini() after success only. Errors: HKV_E_TICKET, HKV_E_NOMEM. */
HKV_CHECK enum hkv_err doc_ticket_decode(struct slice text, struct doc_ticket *out);

/* Frees the ticket and wipes its secret. */
void doc_ticket_fini(struct doc_ticket *ticket);

/* Reads either form of a peer into `out`, which needs peer_name_fini() after success only. A host that is an IP address
 * (IPv6 in brackets) becomes an address of `endpoint`; a name is kept in `host` for whoever resolves names. Errors:
 * HKV_E_TICKET, HKV_E_NOMEM. */
HKV_CHECK enum hkv_err peer_name_parse(struct slice text, struct peer_name *out);
void peer_name_fini(struct peer_name *peer);

#endif
