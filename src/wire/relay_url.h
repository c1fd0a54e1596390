/* Relay URLs in the one form in which iroh writes and compares them: the serialisation of the WHATWG URL standard.
 *
 *   HTTPS://Relay.Example.C        https://relay.example.c/          scheme and host lower case, path at least "/"
 *   http://r.example:80/a/../b     http://r.example/b                default port dropped, dot segments resolved
 *   https://0x7f.1/                https://127.0.0.1/                numeric hosts as IPv4
 *   https://[2001:DB8:0::1]/       https://[2001:db8::1]/            IPv6 compressed
 *
 * Host names outside ASCII must already be in their xn-- form, and there is no place for a user name. Pure functions,
 * any thread. */
#ifndef HKV_WIRE_RELAY_URL_H
#define HKV_WIRE_RELAY_URL_H

#include "base/bytes.h"

#define RELAY_URL_MAX 512 /* bytes, before and after */

/* Appends the normal form of an http or https URL (no NUL). Errors: HKV_E_TICKET, with the rule; HKV_E_NOMEM. */
HKV_CHECK enum hkv_err relay_url_normalise(struct slice url, struct buf *out);

/* Whether `url` begins like a URL of a scheme other than http and https: iroh carries such a one along, we cannot dial
 * it. */
bool relay_url_is_foreign(struct slice url);

#endif
