/* Fetches the contents that entries point to and this node lacks, from whoever has them. Network thread only.
 *
 *   kv: list of wanted values ──take──▶ queue ──▶ one connection a peer, a few requests at a time
 *       small values: many in one GetMany, checked here, stored in one transaction
 *       large values: one Get each, written to a file by a worker as it arrives
 *     ──▶ replica: present and shown; or failed, and tried again with back-off
 *
 * A value is asked for at its known providers first, then at every other reachable peer. A wrong byte ends the transfer
 * and the next peer is tried, large values from where the last good byte was; who sent it, stalled, or is slow, is asked
 * for a while only for what nobody else has. */
#ifndef HKV_NODE_FETCH_H
#define HKV_NODE_FETCH_H

#include "node/node.h"

#define FETCH_ALPN            "/iroh-bytes/4"
#define FETCH_QUEUE_MAX       4096                 /* wanted values taken from the store at a time */
#define FETCH_BATCH_VALUES    512                  /* small values in one request */
#define FETCH_BATCH_BYTES     ((uint64_t)2 << 20)  /* of small values in one request */
#define FETCH_STREAMS_MAX     4                    /* requests to one peer at a time */
#define FETCH_PEERS_MAX       32                   /* connections at a time */
#define FETCH_IDLE_US         ((uint64_t)5000000)  /* after which an unused connection is closed */
#define FETCH_PROGRESS_US     ((uint64_t)20000000) /* without progress, after which a request is given up */
#define FETCH_STOP_US         ((uint64_t)5000000) /* a stream that was stopped and is still there costs the connection */
#define FETCH_PROGRESS_BYTES  ((uint64_t)16 * 1024) /* in that time count as some */
#define FETCH_SLOW_BYTES      ((uint64_t)1 << 20)   /* of a peer, which is slow if it sends fewer in that time */
#define FETCH_DIAL_US         ((uint64_t)2000000)   /* to a connection, after which others are asked */
#define FETCH_DEAD_US         ((uint64_t)2000000)   /* an unreachable peer is not dialled again before */
#define FETCH_SHUN_US         ((uint64_t)60000000)  /* a peer that stalled or lied is asked after all others */
#define FETCH_LACKS_MAX       16                    /* so is one that had none of so many values in a row */
#define FETCH_RETRY_US        ((uint64_t)5000000)   /* after which a store that failed is written to again */
#define FETCH_ARRIVING_MAX    ((size_t)8 << 20)     /* bytes of small values on their way into the store */
#define FETCH_FILE_BLOCK      ((size_t)256 * 1024)  /* handed to a worker at once */
#define FETCH_FILE_BLOCKS_MAX 4                     /* on their way to the file at a time */

HKV_CHECK enum hkv_err fetcher_new(struct hkv_store *store, struct fetcher **out);
void fetcher_free(struct fetcher *fetcher);

/* Ends every transfer; `done(arg)` once nothing is left. */
void fetcher_close(struct fetcher *fetcher, void (*done)(void *arg), void *arg);

/* Values may be wanted (a session brought entries, a peer was reached, a start). Coalesced. */
void fetcher_kick(struct fetcher *fetcher);

/* A session with this peer ended well: it may have what is missing. */
void fetcher_wake(struct fetcher *fetcher, const struct endpoint_id *peer);

#endif
