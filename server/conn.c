#include "server/conn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES 65536

/* A request between its line and its reply. */
struct pending {
    struct pending *next;
    struct conn *conn;
    struct rpc_request *request;
    size_t line_bytes;
    bool started;
    bool answered;
};

struct conn {
    uv_pipe_t pipe;
    struct service *service;
    struct conn *next, *previous;
    struct rpc_stream stream;
    struct text in;
    size_t scanned; /* bytes of `in` known to hold no newline */
    struct pending *first, **last;
    size_t pending_count;
    size_t pending_bytes;  /* of their lines */
    size_t running;        /* started, not answered */
    size_t running_writes; /* of these */
    struct watch *watches[CONN_WATCHES_MAX];
    unsigned watch_count;
    uint64_t stalled_since_ms; /* 0: not */
    size_t stalled_bytes;
    bool reading;
    bool ended; /* nothing more comes in */
    bool closing;
    bool closed;
    bool in_pump;
};

static void pump(struct conn *conn);

/* ------------------------------------------------------------------------------------------ the end */

static void free_if_done(struct conn *conn)
{
    if (!conn->closed || conn->running > 0) return;
    while (conn->first) {
        struct pending *pending = conn->first;
        conn->first = pending->next;
        rpc_request_free(pending->request);
        free(pending);
    }
    text_fini(&conn->in);
    free(conn);
}

static void on_closed(uv_handle_t *handle)
{
    struct conn *conn = handle->data;
    service_connection_closed(conn->service);
    conn->closed = true;
    free_if_done(conn);
}

static void end_watches(struct conn *conn)
{
    while (conn->watch_count > 0) watch_close(conn->watches[--conn->watch_count]);
}

void conn_close(struct conn *conn)
{
    if (conn->closing) return;
    conn->closing = true;
    end_watches(conn);
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        conn->service->conns = conn->next;
    if (conn->next) conn->next->previous = conn->previous;
    uv_close((uv_handle_t *)&conn->pipe, on_closed);
}

struct conn *conn_next(struct conn *conn)
{
    return conn->next;
}

static void stop_reading(struct conn *conn)
{
    if (!conn->reading) return;
    conn->reading = false;
    uv_read_stop((uv_stream_t *)&conn->pipe);
}

void conn_stop(struct conn *conn)
{
    stop_reading(conn);
    end_watches(conn);
    conn->ended = true;
    text_fini(&conn->in);
    conn->scanned = 0;
    pump(conn);
}

void conn_sweep(struct service *service, uint64_t now_ms)
{
    for (struct conn *conn = service->conns, *next; conn; conn = next) {
        next = conn->next;
        size_t waiting = conn_out_bytes(conn);
        if (waiting == 0 || waiting != conn->stalled_bytes || !conn->stalled_since_ms)
            conn->stalled_since_ms = waiting ? now_ms : 0;
        else if (now_ms - conn->stalled_since_ms >= CONN_STALL_MS)
            conn_close(conn);
        conn->stalled_bytes = waiting;
    }
}

/* ------------------------------------------------------------------------------------------ writing */

struct write {
    uv_write_t request;
    struct conn *conn;
    struct text text;
};

size_t conn_out_bytes(const struct conn *conn)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&conn->pipe);
}

static void on_written(uv_write_t *request, int status)
{
    struct write *write = request->data;
    struct conn *conn = write->conn;
    text_fini(&write->text);
    free(write);
    if (status < 0) {
        conn_close(conn);
        return;
    }
    for (unsigned i = 0; i < conn->watch_count && !conn->closing; i++) watch_flush(conn->watches[i]);
    pump(conn);
}

void conn_send(struct conn *conn, struct text *text)
{
    uv_stream_t *stream = (uv_stream_t *)&conn->pipe;
    size_t sent = 0;
    struct write *write = NULL;
    if (conn->closing || text->len == 0) goto out;
    if (conn_out_bytes(conn) == 0) {
        uv_buf_t buf = {.base = text->bytes, .len = text->len};
        int count = uv_try_write(stream, &buf, 1);
        if (count > 0) sent = (size_t)count;
        if (sent == text->len) goto out;
    }
    write = malloc(sizeof *write);
    if (!write) goto close;
    *write = (struct write){.conn = conn, .text = *text, .request.data = write};
    *text = (struct text){0};
    uv_buf_t rest = {.base = write->text.bytes + sent, .len = write->text.len - sent};
    if (uv_write(&write->request, stream, &rest, 1, on_written) == 0) return;
    text_fini(&write->text);
    free(write);
close:
    conn_close(conn);
out:
    text_fini(text);
}

/* ------------------------------------------------------------------------------------------ requests */

static void on_reply(struct rpc_request *request)
{
    struct pending *pending = request->owner;
    struct conn *conn = pending->conn;
    pending->answered = true;
    conn->running--;
    if (rpc_request_kind(request) == RPC_KIND_WRITE) conn->running_writes--;
    if (conn->closed)
        free_if_done(conn);
    else
        pump(conn);
}

/* Sends the replies that have their turn. */
static void send_answered(struct conn *conn)
{
    while (conn->first && conn->first->answered && !conn->closing) {
        struct pending *pending = conn->first;
        conn->first = pending->next;
        if (!conn->first) conn->last = &conn->first;
        conn->pending_count--;
        conn->pending_bytes -= pending->line_bytes;
        struct text out = pending->request->out;
        pending->request->out = (struct text){0};
        rpc_request_free(pending->request);
        free(pending);
        if (out.len) text_append(&out, "\n", 1);
        if (text_failed(&out)) conn_close(conn);
        conn_send(conn, &out);
    }
}

static bool may_start(const struct conn *conn, const struct pending *pending)
{
    if (conn->running == 0) return true;
    return rpc_request_kind(pending->request) == RPC_KIND_WRITE && conn->running == conn->running_writes;
}

static struct pending *first_waiting(const struct conn *conn)
{
    struct pending *pending = conn->first;
    while (pending && pending->started) pending = pending->next;
    return pending;
}

static void start_waiting(struct conn *conn)
{
    struct pending *pending;
    while (!conn->closing && (pending = first_waiting(conn)) && may_start(conn, pending) &&
           conn_out_bytes(conn) <= CONN_OUT_MAX) {
        pending->started = true;
        conn->running++;
        if (rpc_request_kind(pending->request) == RPC_KIND_WRITE) conn->running_writes++;
        rpc_request_start(pending->request, on_reply, pending);
        send_answered(conn);
    }
}

static void add_request(struct conn *conn, struct rpc_request *request, size_t line_bytes)
{
    struct pending *pending = calloc(1, sizeof *pending);
    if (!pending || !request) {
        free(pending);
        rpc_request_free(request);
        conn_close(conn);
        return;
    }
    *pending = (struct pending){.conn = conn, .request = request, .line_bytes = line_bytes};
    *conn->last = pending;
    conn->last = &pending->next;
    conn->pending_count++;
    conn->pending_bytes += line_bytes;
}

/* No more requests are taken from what came in. */
static bool is_full(const struct conn *conn)
{
    return conn->pending_count >= CONN_CALLS_MAX || conn->pending_bytes >= CONN_IN_MAX;
}

static bool is_blank(const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != ' ' && bytes[i] != '\t' && bytes[i] != '\r') return false;
    return true;
}

/* Turns the complete lines of `in` into requests, as many as may wait. */
static void cut_lines(struct conn *conn)
{
    size_t used = 0;
    while (used < conn->in.len && !is_full(conn) && !conn->closing) {
        char *line = conn->in.bytes + used;
        size_t len = conn->in.len - used;
        size_t from = conn->scanned > used ? conn->scanned - used : 0;
        char *newline = len > from ? memchr(line + from, '\n', len - from) : NULL;
        if (!newline) conn->scanned = conn->in.len;
        bool last = !newline && conn->ended && len > 0;
        bool too_long = newline ? (size_t)(newline - line) > RPC_REQUEST_MAX : len > RPC_REQUEST_MAX;
        if (!newline && !last && !too_long) break;

        size_t line_bytes = newline ? (size_t)(newline - line) : len;
        if (too_long || !is_blank(line, line_bytes))
            add_request(conn, rpc_request_new(&conn->service->rpc, &conn->stream, line, line_bytes), line_bytes);
        used += line_bytes + (newline != NULL);
        if (too_long) {
            conn->ended = true; /* the rest of the line cannot be told from a request */
            used = conn->in.len;
        }
    }
    if (used == 0) return;
    text_drop_front(&conn->in, used);
    conn->scanned = conn->scanned > used ? conn->scanned - used : 0;
    if (conn->in.len == 0 && conn->in.capacity > READ_BYTES) text_fini(&conn->in);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct conn *conn = handle->data;
    buf->base = text_reserve(&conn->in, READ_BYTES);
    buf->len = buf->base ? READ_BYTES : 0;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    (void)buf;
    struct conn *conn = stream->data;
    if (count > 0) {
        conn->in.len += (size_t)count;
    } else if (count == UV_EOF) {
        stop_reading(conn);
        conn->ended = true;
    } else if (count < 0) {
        conn_close(conn);
        return;
    }
    pump(conn);
}

/* Does whatever can be done now: cut lines, start requests, send replies, read on, close. */
static void pump(struct conn *conn)
{
    if (conn->in_pump || conn->closing) return;
    conn->in_pump = true;
    size_t before;
    do {
        cut_lines(conn);
        before = conn->pending_count;
        send_answered(conn);
        start_waiting(conn);
    } while (conn->pending_count < before && conn->in.len > 0 && !conn->closing);
    conn->in_pump = false;
    if (conn->closing) return;

    if (conn->ended || is_full(conn) || conn_out_bytes(conn) > CONN_OUT_MAX) {
        stop_reading(conn);
    } else if (!conn->reading) {
        conn->reading = uv_read_start((uv_stream_t *)&conn->pipe, on_alloc, on_read) == 0;
    }
    if (conn->ended && conn->pending_count == 0 && conn_out_bytes(conn) == 0) conn_close(conn);
}

static enum hkv_err start_watch(struct rpc_stream *stream, const struct hkv_watch_options *options, unsigned *number,
                                const char **why)
{
    struct conn *conn = (struct conn *)(void *)((char *)stream - offsetof(struct conn, stream));
    *why = "a connection has at most 64 watches; open another connection";
    if (conn->watch_count == CONN_WATCHES_MAX) return HKV_E_LIMIT;
    enum hkv_err err =
        watch_new(conn, &conn->service->rpc, conn->watch_count + 1, options, &conn->watches[conn->watch_count]);
    if (err == HKV_OK) *number = ++conn->watch_count;
    *why = hkv_last_error();
    return err;
}

bool conn_new(struct service *service, int fd)
{
    struct conn *conn = calloc(1, sizeof *conn);
    if (!conn || uv_pipe_init(service->loop, &conn->pipe, 0) != 0) {
        free(conn);
        close(fd);
        return false;
    }
    conn->service = service;
    conn->pipe.data = conn;
    conn->stream.watch = start_watch;
    conn->last = &conn->first;
    conn->next = service->conns;
    if (conn->next) conn->next->previous = conn;
    service->conns = conn;
    if (uv_pipe_open(&conn->pipe, fd) != 0) {
        close(fd);
        conn_close(conn);
        return true; /* the connection counts until on_closed */
    }
    pump(conn);
    return true;
}
