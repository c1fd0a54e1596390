/* One newline-delimited JSON-RPC connection.
 *
 * Requests are answered in the order they came. Small writes run beside each other (up to CONN_CALLS_MAX), so that
 * pipelined puts share a commit; everything else waits for what came before it and runs alone. A last line without a
 * newline counts.
 *
 * Bounded: a line (RPC_REQUEST_MAX, then an error and the end), requests begun, and what waits to be written. While
 * more than CONN_OUT_MAX waits, nothing more is read or begun; a client that takes nothing for CONN_STALL_MS is
 * disconnected.
 *
 * Watches: events come through a feed each (feed.h), and wait there and in the store's change log while the client does
 * not read. Watches live as long as the connection; the end of the client's sending side ends both. */
#ifndef SERVER_CONN_H
#define SERVER_CONN_H

#include "server/service.h"

#define CONN_CALLS_MAX   32
#define CONN_IN_MAX      ((size_t)4 << 20) /* bytes of requests begun, the last one excepted */
#define CONN_OUT_MAX     ((size_t)4 << 20) /* bytes */
#define CONN_STALL_MS    60000
#define CONN_WATCHES_MAX 64

struct watch;

/* Takes over a connected socket. False, with the fd closed: out of memory or descriptors. */
bool conn_new(struct service *service, int fd);

/* Reads nothing more; closes when what runs has been answered. */
void conn_stop(struct conn *conn);

/* Closes now; replies of calls that still run go nowhere. */
void conn_close(struct conn *conn);

/* Closes every connection whose reader made no progress for CONN_STALL_MS. */
void conn_sweep(struct service *service, uint64_t now_ms);

struct conn *conn_next(struct conn *conn);

/* For watch.c: appends bytes (taken) to what is written; how many bytes wait. */
void conn_send(struct conn *conn, struct text *text);
size_t conn_out_bytes(const struct conn *conn);

/* ------------------------------------------------------------------------------------------ watch.c */

/* Starts the watch with this number. Errors: as hkv_watch_with. */
enum hkv_err watch_new(struct conn *conn, struct rpc *rpc, unsigned number, const struct hkv_watch_options *options,
                       struct watch **out);

/* Writes waiting events while the connection takes them. */
void watch_flush(struct watch *watch);

/* Ends the watch and frees it. */
void watch_close(struct watch *watch);

#endif
