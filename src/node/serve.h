/* Serves contents to peers: iroh-blobs' Get, GetMany and Observe on accepted connections. Network thread, reading on
 * workers.
 *
 *   stream: request bytes up to the FIN ─▶ a turn ─▶ worker: next block of the answer ─▶ written ─▶ … ─▶ FIN or reset
 *
 * A slow peer costs no thread, and of memory what the stream holds (TRANSPORT_WRITABLE_BYTES) and a block for each of
 * its turns: an answer keeps its turn until the peer has taken nearly all of it.
 *
 * Endpoint ids cost nothing, so strangers (peers_standing() of 0) together get half of the answers, turns and bytes of
 * requests; the other half is for peers that are known. */
#ifndef HKV_NODE_SERVE_H
#define HKV_NODE_SERVE_H

#include "node/node.h"

#define SERVE_BLOCK_BYTES          ((size_t)128 * 1024)
#define SERVE_CONNS_MAX            256
#define SERVE_ANSWERS_MAX          1024               /* requests in hand, over all connections; more are refused */
#define SERVE_ANSWERS_PER_PEER_MAX 256                /* of one peer, so that it cannot have all of them */
#define SERVE_ACTIVE_MAX           32                 /* of these, being answered; the others wait their turn */
#define SERVE_ACTIVE_PER_PEER_MAX  8                  /* of one peer; so that the slow ones leave turns to others */
#define SERVE_STRANGERS(max)       ((max) / 2)        /* of a limit, what strangers may have of it together */
#define SERVE_REQUESTS_MAX         ((size_t)16 << 20) /* bytes of requests in hand; more are reset with code 2 */

/* A peer that sends or takes less than so many bytes for so long loses the stream; one that leaves the rest of an ended
 * stream open for as long loses the connection. */
#define SERVE_STALL_US       ((uint64_t)30000000)
#define SERVE_PROGRESS_BYTES ((size_t)16 * 1024)

HKV_CHECK enum hkv_err server_new(struct hkv_store *store, struct server **out);
void server_free(struct server *server);

/* Ends every answer; `done(arg)` once nothing is left. */
void server_close(struct server *server, void (*done)(void *arg), void *arg);

/* A connection for FETCH_ALPN was accepted. When there are SERVE_CONNS_MAX, the oldest idle one makes room, or for a peer
 * that is known the oldest one of a stranger. False: there is none. */
bool server_accept(struct server *server, struct transport_conn *conn);

/* The peer is a stranger no more: what it has asked for waits as that of one that is known. */
void server_peer_known(struct server *server, const struct endpoint_id *peer);

#endif
