/* HTTP on the same socket: POST /rpc, and GET, HEAD and PUT /value/<key>. libmicrohttpd parses and writes; it never has
 * a thread and never waits: its epoll descriptor is polled by the loop, and a connection is suspended while something
 * else works for it.
 *
 *   POST /rpc      body ≤ RPC_REQUEST_MAX ─▶ rpc.c ─▶ 200 with the reply, 204 when there is none
 *   /value/<key>   http_value.c
 *
 * Errors carry a JSON-RPC error object: {"error": {"code", "message", "data"}}. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <microhttpd.h>

#include "server/service.h"

#define HTTP_IDLE_S           60    /* a connection without progress is closed */
#define HTTP_CONNECTION_BYTES 32768 /* memory of a connection for headers */
#define HTTP_TRANSFERS_MAX    16    /* uploads and downloads at once, a thread each */

struct transfer;

struct http {
    struct service *service;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    uv_prepare_t prepare;
    unsigned handles_open;
    struct transfer *transfers;
    size_t transfer_count;
};

/* 0, or a negative libuv error. */
int http_new(struct service *service, struct http **out);

/* Serves a connected socket. False, with the fd closed, when it cannot. */
bool http_add(struct http *http, int fd);

/* Makes every upload and download fail soon. */
void http_cut_transfers(struct http *http);
size_t http_transfer_count(const struct http *http);

/* Closes all connections. Nothing may be suspended any more. */
void http_free(struct http *http);

/* ------------------------------------------------------------------------------------------------ for http_value.c */

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

/* Answers with a JSON text (taken). */
enum MHD_Result http_answer(struct MHD_Connection *connection, unsigned status, struct text *body);

/* Answers with an error object. `err` is HKV_OK for errors of the protocol. */
enum MHD_Result http_answer_error(struct MHD_Connection *connection, unsigned status, int code, enum hkv_err err,
                                  const char *message);
unsigned http_status_of(enum hkv_err err);

/* Resumes a connection and sees to it that the server runs. */
void http_resume(struct http *http, struct MHD_Connection *connection);

#endif
