/* HTTP on the same socket: POST /rpc, GET, HEAD and PUT /value/<key>, GET /events. libmicrohttpd parses and writes; it
 * never has a thread and never waits: its epoll descriptor is polled by the loop, and a connection is suspended while
 * something else works for it.
 *
 *   POST /rpc      body ≤ RPC_REQUEST_MAX ─▶ rpc.c ─▶ 200 with the reply, 204 when there is none
 *   /value/<key>   http_value.c
 *   /events        http_events.c
 *
 * Errors carry a JSON-RPC error object: {"error": {"code", "message", "data"}}. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <microhttpd.h>

#include "server/service.h"

#define HTTP_IDLE_S           60    /* a connection without progress is closed */
#define HTTP_CONNECTION_BYTES 32768 /* memory of a connection for headers */
#define HTTP_TRANSFERS_MAX    16    /* uploads and downloads at once, a thread each */
#define HTTP_STREAMS_MAX      64    /* event streams */
#define HTTP_KEEP_ALIVE_MS    15000 /* an event stream is never silent for much longer */

struct transfer;
struct stream;

struct http {
    struct service *service;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    uv_prepare_t prepare;
    unsigned handles_open;
    struct transfer *transfers;
    size_t transfer_count;
    struct stream *streams;
    size_t stream_count;
};

/* 0, or a negative libuv error. */
int http_new(struct service *service, struct http **out);

/* Serves a connected socket. False, with the fd closed, when it cannot. */
bool http_add(struct http *http, int fd);

/* Makes every upload and download fail soon. */
void http_cut_transfers(struct http *http);
size_t http_transfer_count(const struct http *http);

/* Ends every event stream. Before the store is closed. */
void http_end_events(struct http *http);

/* Shows quiet event streams that the server lives, and finds out which of their clients do. */
void http_sweep_events(struct http *http, uint64_t now_ms);

/* Closes all connections. Nothing may be suspended any more. */
void http_free(struct http *http);

/* ------------------------------------------------------------------------------------------ for handlers */

/* What handles one request from its headers to its end. `handle` is called as libmicrohttpd calls a handler. */
struct http_request {
    struct http *http;
    enum MHD_Result (*handle)(struct http_request *request, struct MHD_Connection *connection, const char *data,
                              size_t *data_bytes);
    void (*ended)(struct http_request *request); /* releases it, whether or not it was answered */
};

/* `path` is the percent-encoded key. NULL: out of memory, or with `fault` set the rule that the request breaks. */
struct http_request *http_value_new(struct http *http, struct MHD_Connection *connection, const char *path,
                                    const char *method, const char **fault);

/* An event stream. NULL: out of memory. */
struct http_request *http_events_new(struct http *http);

/* Answers with a JSON text (taken). */
enum MHD_Result http_answer(struct MHD_Connection *connection, unsigned status, struct text *body);

/* Answers with an error object. `err` is HKV_OK for errors of the protocol. */
enum MHD_Result http_answer_error(struct MHD_Connection *connection, unsigned status, int code, enum hkv_err err,
                                  const char *message);
unsigned http_status_of(enum hkv_err err);

/* Resumes a connection and sees to it that the server runs. */
void http_resume(struct http *http, struct MHD_Connection *connection);

#endif
