/* The running service: one loop thread that owns the listening socket, the connections and the HTTP server.
 *
 *   rpc.sock ─accept─▶ first byte ── 'A'..'Z' ──▶ http.c   POST /rpc, /value/<key>, /events   (libmicrohttpd)
 *                          └──────── other ─────▶ conn.c   newline-delimited JSON-RPC
 *
 * Stopping, in order: no new connections, nothing new is read; uploads and downloads are cut; what is on workers ends;
 * the store closes, which ends waiting calls with HKV_E_CLOSED, and so do calls whose turn comes behind them; replies
 * are written as far as the sockets take them. */
#ifndef SERVER_SERVICE_H
#define SERVER_SERVICE_H

#include <uv.h>

#include "server/rpc.h"

#define SERVICE_CONNECTIONS_MAX 256

struct conn;
struct http;

struct service {
    uv_loop_t *loop;
    struct tasks tasks;
    struct rpc rpc;
    struct http *http;
    uv_poll_t listener;
    int listen_fd;
    uv_timer_t sweep;        /* closes connections whose reader stopped reading */
    struct conn *conns;      /* newline connections */
    size_t connection_count; /* of all kinds, undecided ones too */
    struct undecided *undecided;
    bool stopping;
};

/* Serves `store` on the listening socket. Takes over `listen_fd`. 0, or a negative libuv error. */
int service_start(struct service *service, uv_loop_t *loop, struct hkv_store *store, int listen_fd,
                  const char *socket_path);

/* Stops as described above and closes the store. The loop ends by itself afterwards. */
void service_stop(struct service *service);

/* A connection of any kind is gone. */
void service_connection_closed(struct service *service);

#endif
