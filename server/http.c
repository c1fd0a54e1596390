#include "server/http.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define RPC_PATH    "/rpc"
#define VALUE_PATH  "/value/"
#define EVENTS_PATH "/events"

/* ------------------------------------------------------------------------------------------ answers */

/* `body` is taken; `allow` (may be NULL) names the methods that there are. */
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, struct text *body, const char *allow)
{
    if (text_failed(body)) {
        text_fini(body);
        return MHD_NO;
    }
    bool is_empty = body->len == 0;
    char *bytes = is_empty ? NULL : body->bytes;
    struct MHD_Response *response = MHD_create_response_from_buffer(body->len, bytes, MHD_RESPMEM_MUST_FREE);
    if (!response || is_empty) text_fini(body);
    *body = (struct text){0};
    if (!response) return MHD_NO;
    if (!is_empty) MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    if (allow) MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result http_answer(struct MHD_Connection *connection, unsigned status, struct text *body)
{
    return answer(connection, status, body, NULL);
}

static struct text error_body(int code, enum hkv_err err, const char *message)
{
    struct text body = {0};
    json_t *error = rpc_error_object(code, err == HKV_OK ? HKV_E_INVALID : err, message, NULL);
    char *text = error ? json_dumps(error, JSON_COMPACT) : NULL;
    if (text)
        text_printf(&body, "{\"error\":%s}\n", text);
    else
        body.failed = true;
    free(text);
    json_decref(error);
    return body;
}

enum MHD_Result http_answer_error(struct MHD_Connection *connection, unsigned status, int code, enum hkv_err err,
                                  const char *message)
{
    struct text body = error_body(code, err, message);
    return answer(connection, status, &body, NULL);
}

unsigned http_status_of(enum hkv_err err)
{
    switch (err) {
    case HKV_E_INVALID:
    case HKV_E_KEY:
        return MHD_HTTP_BAD_REQUEST;
    case HKV_E_READ_ONLY:
        return MHD_HTTP_FORBIDDEN;
    case HKV_E_NOT_FOUND:
        return MHD_HTTP_NOT_FOUND;
    case HKV_E_CONFLICT:
        return MHD_HTTP_PRECONDITION_FAILED;
    case HKV_E_VALUE_TOO_LARGE:
        return MHD_HTTP_CONTENT_TOO_LARGE;
    case HKV_E_BUSY:
    case HKV_E_LIMIT:
    case HKV_E_CLOSED:
    case HKV_E_VALUE_MISSING:
    case HKV_E_FORMAT_UNKNOWN:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    case HKV_E_DISK_FULL:
        return MHD_HTTP_INSUFFICIENT_STORAGE;
    default:
        return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

/* ------------------------------------------------------------------------------------------ POST /rpc */

struct rpc_post {
    struct http_request base;
    struct MHD_Connection *connection;
    struct text body;
    struct rpc_request *request;
    bool too_long;
    bool suspended;
    bool answered;
};

static void on_reply(struct rpc_request *request)
{
    struct rpc_post *post = request->owner;
    post->answered = true;
    if (post->suspended) http_resume(post->base.http, post->connection);
}

static enum MHD_Result answer_post(struct rpc_post *post, struct MHD_Connection *connection)
{
    struct text out = post->request->out;
    post->request->out = (struct text){0};
    return http_answer(connection, out.len ? MHD_HTTP_OK : MHD_HTTP_NO_CONTENT, &out);
}

static enum MHD_Result handle_post(struct http_request *base, struct MHD_Connection *connection, const char *data,
                                   size_t *data_bytes)
{
    struct rpc_post *post = (struct rpc_post *)base;
    if (*data_bytes > 0) {
        post->too_long = post->too_long || post->body.len + *data_bytes > RPC_REQUEST_MAX;
        if (!post->too_long) text_append(&post->body, data, *data_bytes);
        *data_bytes = 0;
        return text_failed(&post->body) ? MHD_NO : MHD_YES;
    }
    if (post->answered) return answer_post(post, connection);
    if (post->too_long)
        return http_answer_error(connection, MHD_HTTP_CONTENT_TOO_LARGE, RPC_INVALID_REQUEST, HKV_OK,
                                 "a request is at most 4 MiB; larger values go by PUT /value/<key>");
    struct service *service = base->http->service;
    if (service->stopping)
        return http_answer_error(connection, MHD_HTTP_SERVICE_UNAVAILABLE, RPC_STORE_ERROR(HKV_E_CLOSED), HKV_E_CLOSED,
                                 "the server is shutting down");
    post->request = rpc_request_new(&service->rpc, NULL, post->body.bytes ? post->body.bytes : "", post->body.len);
    text_fini(&post->body);
    if (!post->request) return MHD_NO;
    post->connection = connection;
    rpc_request_start(post->request, on_reply, post);
    if (post->answered) return answer_post(post, connection);
    post->suspended = true;
    MHD_suspend_connection(connection);
    return MHD_YES;
}

static void post_ended(struct http_request *base)
{
    struct rpc_post *post = (struct rpc_post *)base;
    assert(!post->suspended || post->answered);
    rpc_request_free(post->request);
    text_fini(&post->body);
    free(post);
}

/* ------------------------------------------------------------------------------------------ requests */

/* Requests that only get an error. */
struct refusal {
    struct http_request base;
    unsigned status;
    const char *allow; /* with 405: the methods that there are */
    char message[RPC_MESSAGE_MAX];
};

static enum MHD_Result handle_refusal(struct http_request *base, struct MHD_Connection *connection, const char *data,
                                      size_t *data_bytes)
{
    (void)data;
    const struct refusal *refusal = (struct refusal *)base;
    if (*data_bytes > 0) {
        *data_bytes = 0;
        return MHD_YES;
    }
    struct text body = error_body(RPC_INVALID_REQUEST, HKV_OK, refusal->message);
    return answer(connection, refusal->status, &body, refusal->allow);
}

static void refusal_ended(struct http_request *base)
{
    free(base);
}

static struct http_request *refusal_new(unsigned status, const char *allow, const char *message)
{
    struct refusal *refusal = calloc(1, sizeof *refusal);
    if (!refusal) return NULL;
    *refusal =
        (struct refusal){.base = {.handle = handle_refusal, .ended = refusal_ended}, .status = status, .allow = allow};
    snprintf(refusal->message, sizeof refusal->message, "%s", message);
    return &refusal->base;
}

/* The arguments that a query may have, and what is wrong with the one that is there. */
struct query {
    const char *const *known; /* up to NULL */
    bool seen[4];
    char fault[RPC_MESSAGE_MAX];
};

static enum MHD_Result check_argument(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    struct query *query = arg;
    size_t i = 0;
    while (query->known[i] && strcmp(query->known[i], name) != 0) i++;
    if (!query->known[i])
        snprintf(query->fault, sizeof query->fault,
                 "unknown argument '%.64s' behind the ?; in a key or prefix, ? is written %%3F and & %%26", name);
    else if (!value)
        snprintf(query->fault, sizeof query->fault, "the argument %s needs a value", name);
    else if (query->seen[i])
        snprintf(query->fault, sizeof query->fault, "the argument %s is given twice", name);
    query->seen[i] = true;
    return query->fault[0] ? MHD_NO : MHD_YES;
}

static struct http_request *request_new(struct http *http, struct MHD_Connection *connection, const char *path,
                                        const char *method)
{
    static const char *const event_arguments[] = {"prefix", "from", "list", NULL};
    static const char *const put_arguments[] = {"ttl_ms", "if_version", NULL};
    static const char *const no_arguments[] = {NULL};
    if (strcmp(path, RPC_PATH) == 0) {
        if (strcmp(method, MHD_HTTP_METHOD_POST) != 0)
            return refusal_new(MHD_HTTP_METHOD_NOT_ALLOWED, "POST", "/rpc takes JSON-RPC requests by POST");
        struct rpc_post *post = calloc(1, sizeof *post);
        if (!post) return NULL;
        post->base = (struct http_request){.handle = handle_post, .ended = post_ended};
        return &post->base;
    }
    bool is_events = strcmp(path, EVENTS_PATH) == 0;
    bool is_value = strncmp(path, VALUE_PATH, strlen(VALUE_PATH)) == 0;
    bool is_get = strcmp(method, MHD_HTTP_METHOD_GET) == 0;
    bool is_put = strcmp(method, MHD_HTTP_METHOD_PUT) == 0;
    if (!is_events && !is_value)
        return refusal_new(MHD_HTTP_NOT_FOUND, NULL,
                           "there is POST /rpc, GET, HEAD and PUT /value/<key>, and GET /events");
    if (is_events && !is_get) return refusal_new(MHD_HTTP_METHOD_NOT_ALLOWED, "GET", "/events is read by GET");
    if (is_value && !is_get && !is_put && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return refusal_new(MHD_HTTP_METHOD_NOT_ALLOWED, "GET, HEAD, PUT", "/value/<key> takes GET, HEAD and PUT");

    struct query query = {.known = is_events ? event_arguments : is_put ? put_arguments : no_arguments};
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, check_argument, &query);
    if (query.fault[0]) return refusal_new(MHD_HTTP_BAD_REQUEST, NULL, query.fault);
    if (is_events) return http_events_new(http);
    const char *fault = NULL;
    struct http_request *request = http_value_new(http, connection, path + strlen(VALUE_PATH), method, &fault);
    return fault ? refusal_new(MHD_HTTP_BAD_REQUEST, NULL, fault) : request;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload_data, size_t *upload_bytes, void **slot)
{
    (void)version;
    struct http *http = arg;
    struct http_request *request = *slot;
    if (request) return request->handle(request, connection, upload_data, upload_bytes);

    request = request_new(http, connection, url, method);
    if (!request) return MHD_NO;
    request->http = http;
    *slot = request;
    return MHD_YES;
}

static void on_request_ended(void *arg, struct MHD_Connection *connection, void **slot,
                             enum MHD_RequestTerminationCode why)
{
    (void)arg;
    (void)connection;
    (void)why;
    struct http_request *request = *slot;
    *slot = NULL;
    if (request) request->ended(request);
}

/* Paths stay as they were sent: a decoded key could hold NUL, which a C string cannot. */
static size_t keep_escapes(void *arg, struct MHD_Connection *connection, char *text)
{
    (void)arg;
    (void)connection;
    return strlen(text);
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **slot,
                          enum MHD_ConnectionNotificationCode what)
{
    (void)connection;
    (void)slot;
    struct http *http = arg;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) service_connection_closed(http->service);
}

/* ------------------------------------------------------------------------------------------ the loop */

static void on_timer(uv_timer_t *timer);

/* Lets the server do what it can, and sets the timer for what it waits for. */
static void run(struct http *http)
{
    uv_prepare_stop(&http->prepare);
    MHD_run(http->daemon);
    MHD_UNSIGNED_LONG_LONG wait_ms;
    if (MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES)
        uv_timer_start(&http->timer, on_timer, wait_ms, 0);
    else
        uv_timer_stop(&http->timer);
}

static void on_timer(uv_timer_t *timer)
{
    run(timer->data);
}

static void on_prepare(uv_prepare_t *prepare)
{
    run(prepare->data);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run(poll->data);
}

void http_resume(struct http *http, struct MHD_Connection *connection)
{
    MHD_resume_connection(connection);
    uv_prepare_start(&http->prepare, on_prepare); /* never from here: this may be inside of a handler */
}

bool http_add(struct http *http, int fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (MHD_add_connection(http->daemon, fd, (struct sockaddr *)&address, sizeof address) != MHD_YES) return false;
    uv_prepare_start(&http->prepare, on_prepare);
    return true;
}

int http_new(struct service *service, struct http **out)
{
    struct http *http = calloc(1, sizeof *http);
    if (!http) return UV_ENOMEM;
    http->service = service;
    http->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
                                    on_request, http, MHD_OPTION_NOTIFY_COMPLETED, on_request_ended, http,
                                    MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_UNESCAPE_CALLBACK,
                                    keep_escapes, http, MHD_OPTION_CONNECTION_LIMIT, (unsigned)SERVICE_CONNECTIONS_MAX,
                                    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE_S,
                                    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_BYTES, MHD_OPTION_END);
    if (!http->daemon) {
        free(http);
        return UV_ENOMEM;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    int status = uv_poll_init(service->loop, &http->poll, info->epoll_fd);
    if (status < 0) {
        MHD_stop_daemon(http->daemon);
        free(http);
        return status;
    }
    uv_prepare_init(service->loop, &http->prepare);
    uv_timer_init(service->loop, &http->timer);
    http->poll.data = http->prepare.data = http->timer.data = http;
    *out = http;
    return uv_poll_start(&http->poll, UV_READABLE, on_ready);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct http *http = handle->data;
    if (--http->handles_open == 0) free(http);
}

void http_free(struct http *http)
{
    run(http); /* answers what ended just now */
    MHD_stop_daemon(http->daemon);
    http->handles_open = 3;
    uv_close((uv_handle_t *)&http->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&http->timer, on_handle_closed);
    uv_close((uv_handle_t *)&http->poll, on_handle_closed);
}
