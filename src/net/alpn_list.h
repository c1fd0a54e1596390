/* A list of ALPNs, copied, in the order of preference: what an endpoint accepts, what a dial offers. Network thread. */
#ifndef HKV_NET_ALPN_LIST_H
#define HKV_NET_ALPN_LIST_H

#include "base/bytes.h"
#include "base/error.h"
#include "net/limits.h"

struct alpn_list {
    struct buf bytes; /* of all of them */
    struct slice items[NET_ALPN_MAX];
    size_t count;
};

/* Copies into an empty list. `who` begins the sentence of an error: "an endpoint accepts". Errors: HKV_E_INVALID (none,
 * more than NET_ALPN_MAX, or one that is empty or longer than NET_ALPN_BYTES_MAX), HKV_E_NOMEM. */
HKV_CHECK enum hkv_err alpn_list_copy(struct alpn_list *out, const struct slice *alpns, size_t count, const char *who);
void alpn_list_fini(struct alpn_list *list);

#endif
