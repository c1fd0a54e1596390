/* Joining a namespace by ticket (hkv_join), and what a process that died in the middle of it left.
 *
 *   keys/namespace.join written ─▶ store emptied for the new namespace (one transaction)
 *                               ─▶ keys/namespace.secret replaced or removed ─▶ keys/namespace.join removed
 *
 * The transaction decides: before it the old namespace stands, after it the new one. join_recover() finishes or drops
 * the rest. */
#ifndef HKV_NODE_JOIN_H
#define HKV_NODE_JOIN_H

#include "node/node.h"

/* Start-up thread, before the namespace secret is read. `stored`: the database's namespace, NULL when there is none. */
HKV_CHECK enum hkv_err join_recover(struct hkv_store *store, const struct namespace_id *stored);

#endif
