/* Names of peers' hosts: looked up on a worker, at the first dial and now and then after failures. */
#ifndef HKV_NODE_RESOLVE_H
#define HKV_NODE_RESOLVE_H

#include "node/node.h"

/* Looks up `peer->host`, adds what is found to its addresses, and makes the peer due again. False: out of memory; the
 * dial goes on with what is known. Network thread. */
HKV_CHECK bool resolve_begin(struct hkv_store *store, struct peer *peer);

/* Looks a name up at once and adds its addresses. Errors: HKV_E_PEER_UNREACHABLE (no such name), HKV_E_NOMEM. Caller's
 * thread. */
HKV_CHECK enum hkv_err resolve_now(const char *host, uint16_t port, struct address_set *out);

#endif
