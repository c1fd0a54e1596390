/* GET /events?prefix=…&from=<position>&list=1: the events of kv.watch as server-sent events (WHATWG HTML, section 9.2).
 *
 *   id: 0123456789abcdef-42
 *   data: {"type":"PUT_LOCAL","key":"a",…}
 *
 * Each event that has a position has it as its id, so that a browser that connects again goes on behind it
 * (Last-Event-ID). While nothing happens a comment now and then shows both ends whether the other is still there.
 *
 * The connection is suspended while no event waits. */
#include <stdlib.h>
#include <string.h>

#include "server/feed.h"
#include "server/http.h"

#define WRITE_BYTES 65536

struct stream {
    struct http_request base; /* first */
    struct stream *next, *previous;
    struct MHD_Connection *connection;
    struct feed *feed; /* NULL: ended */
    struct text out;
    size_t sent; /* of `out` */
    uint64_t written_ms;
    bool suspended;
    bool keep_alive; /* a comment is due */
};

static void resume(struct stream *stream)
{
    if (!stream->suspended) return;
    stream->suspended = false;
    http_resume(stream->base.http, stream->connection);
}

static void on_ready(void *owner)
{
    resume(owner);
}

/* ------------------------------------------------------------------------------------------ writing */

static void write_event(struct text *out, const json_t *event)
{
    const char *position = json_string_value(json_object_get(event, "position"));
    char *text = json_dumps(event, JSON_COMPACT);
    if (!text) {
        out->failed = true;
        return;
    }
    if (position) text_printf(out, "id: %s\n", position);
    text_printf(out, "data: %s\n\n", text);
    free(text);
}

/* False: events are lost for want of memory. */
static bool fill(struct stream *stream)
{
    bool failed = false;
    json_t *event;
    while (!failed && stream->out.len < WRITE_BYTES && (event = feed_take(stream->feed, &failed)) != NULL) {
        write_event(&stream->out, event);
        json_decref(event);
    }
    if (stream->out.len == 0 && stream->keep_alive) text_append_string(&stream->out, ":\n\n");
    stream->keep_alive = false;
    return !failed && !text_failed(&stream->out);
}

static ssize_t read_events(void *arg, uint64_t position, char *out, size_t max)
{
    (void)position;
    struct stream *stream = arg;
    if (!stream->feed) return MHD_CONTENT_READER_END_OF_STREAM;
    if (stream->sent == stream->out.len) {
        text_fini(&stream->out);
        stream->sent = 0;
        if (!fill(stream)) return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    size_t left = stream->out.len - stream->sent;
    if (left == 0) {
        stream->suspended = true;
        MHD_suspend_connection(stream->connection);
        return 0;
    }
    size_t count = left < max ? left : max;
    memcpy(out, stream->out.bytes + stream->sent, count);
    stream->sent += count;
    stream->written_ms = uv_now(stream->base.http->service->loop);
    return (ssize_t)count;
}

static enum MHD_Result answer_stream(struct stream *stream, struct MHD_Connection *connection)
{
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, WRITE_BYTES, read_events, stream, NULL);
    if (!response) return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

/* ------------------------------------------------------------------------------------------ a new stream */

static const char *argument(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
}

/* What the request asks for; which rule it breaks, or NULL. */
static const char *read_options(struct MHD_Connection *connection, struct text *prefix, struct hkv_position *from,
                                struct hkv_watch_options *options)
{
    const char *text = argument(connection, "prefix");
    const char *position = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Last-Event-ID");
    const char *list = argument(connection, "list");
    if (text && !percent_read(text, strlen(text), prefix)) return "the prefix must be percent-encoded";
    options->prefix = prefix->len ? prefix->bytes : NULL;
    options->prefix_bytes = prefix->len;
    if (!position) position = argument(connection, "from");
    if (position) options->from = from;
    if (position && hkv_position_parse(position, from) != HKV_OK) return hkv_last_error();
    if (list && strcmp(list, "1") != 0 && strcmp(list, "0") != 0) return "list must be 0 or 1";
    options->list = list && list[0] == '1';
    return NULL;
}

static enum MHD_Result begin(struct stream *stream, struct MHD_Connection *connection)
{
    struct http *http = stream->base.http;
    struct text prefix = {0};
    struct hkv_position from;
    struct hkv_watch_options options = {0};
    enum MHD_Result result;
    const char *fault = read_options(connection, &prefix, &from, &options);
    if (fault) {
        result = http_answer_error(connection, MHD_HTTP_BAD_REQUEST, RPC_INVALID_PARAMS, HKV_OK, fault);
        goto out;
    }
    stream->connection = connection;
    enum hkv_err err = feed_open(&http->service->rpc, &options, on_ready, stream, &stream->feed);
    if (err != HKV_OK) {
        result = http_answer_error(connection, http_status_of(err), RPC_STORE_ERROR(err), err, hkv_last_error());
        goto out;
    }
    result = answer_stream(stream, connection);
out:
    text_fini(&prefix);
    return result;
}

static enum MHD_Result handle_stream(struct http_request *base, struct MHD_Connection *connection, const char *data,
                                     size_t *data_bytes)
{
    (void)data;
    struct http *http = base->http;
    if (*data_bytes > 0) {
        *data_bytes = 0;
        return MHD_YES;
    }
    if (http->service->stopping)
        return http_answer_error(connection, MHD_HTTP_SERVICE_UNAVAILABLE, RPC_STORE_ERROR(HKV_E_CLOSED), HKV_E_CLOSED,
                                 "the server is shutting down");
    if (http->stream_count > HTTP_STREAMS_MAX)
        return http_answer_error(connection, MHD_HTTP_SERVICE_UNAVAILABLE, RPC_STORE_ERROR(HKV_E_LIMIT), HKV_E_LIMIT,
                                 "64 event streams are open, as many as the server takes; close some");
    return begin((struct stream *)base, connection);
}

static void stream_ended(struct http_request *base)
{
    struct stream *stream = (struct stream *)base;
    feed_close(stream->feed);
    if (stream->previous)
        stream->previous->next = stream->next;
    else
        base->http->streams = stream->next;
    if (stream->next) stream->next->previous = stream->previous;
    base->http->stream_count--;
    text_fini(&stream->out);
    free(stream);
}

struct http_request *http_events_new(struct http *http)
{
    struct stream *stream = calloc(1, sizeof *stream);
    if (!stream) return NULL;
    *stream = (struct stream){.base = {.handle = handle_stream, .ended = stream_ended}, .next = http->streams};
    if (stream->next) stream->next->previous = stream;
    http->streams = stream;
    http->stream_count++;
    return &stream->base;
}

/* ------------------------------------------------------------------------------------------ all streams */

void http_sweep_events(struct http *http, uint64_t now_ms)
{
    for (struct stream *stream = http->streams; stream; stream = stream->next) {
        if (!stream->suspended || now_ms - stream->written_ms < HTTP_KEEP_ALIVE_MS) continue;
        stream->keep_alive = true;
        resume(stream);
    }
}

void http_end_events(struct http *http)
{
    for (struct stream *stream = http->streams; stream; stream = stream->next) {
        feed_close(stream->feed);
        stream->feed = NULL;
        resume(stream);
    }
}
