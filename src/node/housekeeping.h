/* What a store does by itself as time passes: expired values become events, entries that were refused for their stamp
 * are tried again when due, values found damaged are put into quarantine, unreferenced values go. A timer of the
 * network thread asks the replica thread, which says when the next is due. Network thread, but for new and free. */
#ifndef HKV_NODE_HOUSEKEEPING_H
#define HKV_NODE_HOUSEKEEPING_H

#include "node/node.h"

#define HOUSEKEEPING_US    ((uint64_t)1000000) /* at most this long between two rounds */
#define HOUSEKEEPING_BATCH 256                 /* of each kind in one transaction */

struct housekeeping;

HKV_CHECK enum hkv_err housekeeping_new(struct hkv_store *store, struct housekeeping **out);
void housekeeping_free(struct housekeeping *h);
void housekeeping_begin(struct housekeeping *h);
/* `done(arg)` once nothing is under way. */
void housekeeping_close(struct housekeeping *h, void (*done)(void *arg), void *arg);

#endif
