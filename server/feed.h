/* Events of the store on their way to one client: a bounded queue from the store's callback thread to the loop thread.
 *
 *   callback thread ── event ──▶ queue ── feed_take() ──▶ loop thread ──▶ connection
 *                        │                    │
 *               full: pauses the watch   half empty: resumes it
 *
 * A client that does not read holds up nobody, and costs no more than its queue: while the watch is paused, what
 * happens waits in the store's change log, and the store says OVERRUN when it has to go. */
#ifndef SERVER_FEED_H
#define SERVER_FEED_H

#include <jansson.h>

#include "server/rpc.h"

#define FEED_EVENTS_MAX 1024
#define FEED_BYTES_MAX  ((size_t)256 << 10)

struct feed;

/* Begins to watch. `ready(owner)` is called on the loop thread when events wait, and once more only after feed_take()
 * said that there are none. Errors: those of hkv_watch_with; hkv_last_error() has the sentence. */
enum hkv_err feed_open(struct rpc *rpc, const struct hkv_watch_options *options, void (*ready)(void *owner),
                       void *owner, struct feed **out);

/* The next event as an object (the caller's); NULL when there is none. *failed: memory ran out and events are lost, so
 * the client has to be cut off. */
json_t *feed_take(struct feed *feed, bool *failed);

/* Ends the watch; `ready` is not called any more. Before the store is closed. NULL is fine. */
void feed_close(struct feed *feed);

#endif
