/* GET, HEAD and PUT /value/<key>: values of any size as streams, with bounded memory.
 *
 *   client ══ connection ══ loop thread ══ socket pair ══ thread of the transfer ══ hkv_put_fd / hkv_get_fd
 *
 * The store's calls block, so each transfer has a thread (HTTP_TRANSFERS_MAX). The loop moves bytes between connection
 * and socket pair without waiting: when one side is full or empty, the connection is suspended until the other moves.
 *
 * An upload that breaks off must not look like one that ended: on a good end the loop shuts its side down, so the
 * thread reads the end; otherwise it closes with a byte unread in its own direction, so the thread reads ECONNRESET and
 * the store keeps nothing.
 *
 * A download names length and version in its headers, before the value is read. The last byte is held back until the
 * store has said that just this version was read; if another one was written in between, the connection is cut and the
 * client asks again.
 *
 * Ownership: a transfer belongs to its request, its thread and its poll handle, and is freed by the last. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/http.h"
#include "server/log.h"

#define READ_BYTES ((size_t)64 << 10)

struct outcome {
    enum hkv_err err;
    char message[RPC_MESSAGE_MAX];
};

struct transfer {
    struct http_request base;
    struct transfer *next, *previous;
    struct http *http;
    struct MHD_Connection *connection;
    struct text key;
    unsigned owners;
    bool is_put;
    bool is_head;
    bool started;
    bool suspended;
    bool polling;
    int fd;        /* the loop's end; -1: closed */
    int thread_fd; /* the thread's end */
    uv_poll_t poll;
    pthread_t thread;
    struct hkv_write_options options;
    uint64_t upload_bytes; /* UINT64_MAX: not known before */
    uint64_t moved;        /* of a download, to the client */

    struct task found_task; /* a download's headers are known */
    struct outcome found;
    struct hkv_value value; /* without data */
    bool is_found;

    struct task finished_task;
    struct outcome finished;
    struct hkv_version version; /* that a PUT made */
    bool is_finished;
};

static void disown(struct transfer *transfer)
{
    if (--transfer->owners > 0) return;
    text_fini(&transfer->key);
    free(transfer);
}

static void on_poll_closed(uv_handle_t *handle)
{
    disown(handle->data);
}

/* Closes the loop's end. Unless the upload was ended before, the store keeps nothing of it. */
static void close_fd(struct transfer *transfer)
{
    if (transfer->fd < 0) return;
    uv_close((uv_handle_t *)&transfer->poll, on_poll_closed);
    close(transfer->fd);
    transfer->fd = -1;
}

static void suspend(struct transfer *transfer)
{
    transfer->suspended = true;
    MHD_suspend_connection(transfer->connection);
}

static void resume(struct transfer *transfer)
{
    if (!transfer->suspended) return;
    transfer->suspended = false;
    http_resume(transfer->http, transfer->connection);
}

static void on_movable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct transfer *transfer = poll->data;
    uv_poll_stop(poll);
    resume(transfer);
}

/* Suspends the connection until bytes can move. */
static void wait_for(struct transfer *transfer, int events)
{
    uv_poll_start(&transfer->poll, events, on_movable);
    suspend(transfer);
}

/* ------------------------------------------------------------------------------------------ the thread */

static void keep_outcome(struct outcome *outcome, enum hkv_err err, const char *message)
{
    outcome->err = err;
    snprintf(outcome->message, sizeof outcome->message, "%s", err == HKV_OK ? "" : message);
}

static void download(struct transfer *transfer)
{
    struct hkv_store *store = transfer->http->service->rpc.store;
    const struct text *key = &transfer->key;
    /* Without the bytes, those of an empty value excepted. */
    enum hkv_err err = hkv_get_upto(store, key->bytes, key->len, 0, &transfer->value);
    free(transfer->value.data);
    transfer->value.data = NULL;
    keep_outcome(&transfer->found, err, hkv_last_error());
    struct hkv_value announced = transfer->value;
    tasks_post(transfer->http->service->rpc.tasks, &transfer->found_task);
    if (err != HKV_OK || transfer->is_head) {
        transfer->finished = transfer->found;
        return;
    }
    struct hkv_value read;
    err = hkv_get_fd(transfer->http->service->rpc.store, transfer->key.bytes, transfer->key.len, transfer->thread_fd,
                     &read);
    keep_outcome(&transfer->finished, err, hkv_last_error());
    if (err == HKV_OK && (read.length != announced.length || read.version.stamp_us != announced.version.stamp_us ||
                          memcmp(read.version.author, announced.version.author, sizeof read.version.author) != 0))
        keep_outcome(&transfer->finished, HKV_E_CONFLICT, "the key was written while it was read");
}

static void upload(struct transfer *transfer)
{
    struct hkv_write_result result;
    enum hkv_err err = hkv_put_fd(transfer->http->service->rpc.store, transfer->key.bytes, transfer->key.len,
                                  transfer->thread_fd, transfer->upload_bytes, &transfer->options, &result);
    keep_outcome(&transfer->finished, err, hkv_last_error());
    if (err == HKV_OK) transfer->version = result.version;
}

static void *thread_main(void *arg)
{
    struct transfer *transfer = arg;
    if (transfer->is_put)
        upload(transfer);
    else
        download(transfer);
    close(transfer->thread_fd);
    tasks_post(transfer->http->service->rpc.tasks, &transfer->finished_task);
    return NULL;
}

static void on_found(struct task *task)
{
    struct transfer *transfer = (struct transfer *)(void *)((char *)task - offsetof(struct transfer, found_task));
    transfer->is_found = true;
    resume(transfer);
}

static void on_finished(struct task *task)
{
    struct transfer *transfer = (struct transfer *)(void *)((char *)task - offsetof(struct transfer, finished_task));
    struct http *http = transfer->http;
    pthread_join(transfer->thread, NULL);
    if (transfer->finished.err != HKV_OK)
        log_event(HKV_LOG_DEBUG, "%s /value: %s", transfer->is_put ? "PUT" : "GET", transfer->finished.message);
    transfer->is_finished = true;
    if (transfer->previous)
        transfer->previous->next = transfer->next;
    else
        http->transfers = transfer->next;
    if (transfer->next) transfer->next->previous = transfer->previous;
    http->transfer_count--;
    resume(transfer);
    disown(transfer);
}

/* Makes the socket pair and starts the thread. False: out of descriptors or threads. */
static bool start(struct transfer *transfer)
{
    struct http *http = transfer->http;
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return false;
    /* The byte that tells an upload that broke off from one that ended, see above. */
    bool marked = !transfer->is_put || send(fds[1], "", 1, MSG_NOSIGNAL) == 1;
    if (!marked || uv_poll_init(http->service->loop, &transfer->poll, fds[0]) != 0) {
        close(fds[0]);
        close(fds[1]);
        return false;
    }
    transfer->poll.data = transfer;
    transfer->owners++;
    transfer->fd = fds[0];
    transfer->thread_fd = fds[1];
    transfer->found_task.done = on_found;
    transfer->finished_task.done = on_finished;
    transfer->started = true;
    if (pthread_create(&transfer->thread, NULL, thread_main, transfer) != 0) {
        close(transfer->thread_fd);
        close_fd(transfer);
        return false;
    }
    transfer->owners++;
    transfer->next = http->transfers;
    if (transfer->next) transfer->next->previous = transfer;
    http->transfers = transfer;
    http->transfer_count++;
    return true;
}

/* ------------------------------------------------------------------------------------------ the connection */

static void add_version_header(struct MHD_Response *response, const struct hkv_version *version)
{
    char text[HKV_VERSION_TEXT_BYTES], quoted[HKV_VERSION_TEXT_BYTES + 2];
    hkv_version_format(version, text);
    snprintf(quoted, sizeof quoted, "\"%s\"", text);
    MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, quoted);
}

static enum MHD_Result answer_outcome(struct MHD_Connection *connection, const struct outcome *outcome)
{
    return http_answer_error(connection, http_status_of(outcome->err), RPC_STORE_ERROR(outcome->err), outcome->err,
                             outcome->message);
}

static ssize_t read_download(void *arg, uint64_t position, char *out, size_t max)
{
    (void)position;
    struct transfer *transfer = arg;
    bool ended_well = transfer->is_finished && transfer->finished.err == HKV_OK;
    if (transfer->fd < 0 || (transfer->is_finished && !ended_well)) return MHD_CONTENT_READER_END_WITH_ERROR;
    uint64_t left = transfer->value.length - transfer->moved;
    uint64_t may_go = ended_well ? left : left - 1;
    if (may_go == 0) {
        suspend(transfer); /* until on_finished */
        return 0;
    }
    ssize_t count = recv(transfer->fd, out, may_go < max ? (size_t)may_go : max, MSG_DONTWAIT);
    if (count > 0) {
        transfer->moved += (uint64_t)count;
        return count;
    }
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        wait_for(transfer, UV_READABLE);
        return 0;
    }
    if (transfer->is_finished) return MHD_CONTENT_READER_END_WITH_ERROR;
    suspend(transfer); /* the thread is at its end and about to say why */
    return 0;
}

static enum MHD_Result answer_download(struct transfer *transfer)
{
    struct MHD_Response *response =
        MHD_create_response_from_callback(transfer->value.length, READ_BYTES, read_download, transfer, NULL);
    if (!response) return MHD_NO;
    add_version_header(response, &transfer->value.version);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
    if (transfer->value.expires_us) {
        char expires[24];
        snprintf(expires, sizeof expires, "%" PRIu64, transfer->value.expires_us);
        MHD_add_response_header(response, "Hero-Expires-Us", expires);
    }
    enum MHD_Result result = MHD_queue_response(transfer->connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

/* Starts the transfer at its first call; what prevents it, or NULL. */
static const char *begin(struct transfer *transfer, struct MHD_Connection *connection)
{
    transfer->connection = connection;
    if (transfer->started || transfer->is_finished) return NULL;
    if (transfer->http->service->stopping) return "the server is shutting down";
    if (transfer->http->transfer_count >= HTTP_TRANSFERS_MAX)
        return "16 values are being moved already, as many as the server takes; try again later";
    return start(transfer) ? NULL : "the server is out of descriptors or threads; try again later";
}

static enum MHD_Result handle_get(struct http_request *base, struct MHD_Connection *connection, const char *data,
                                  size_t *data_bytes)
{
    (void)data;
    struct transfer *transfer = (struct transfer *)base;
    if (*data_bytes > 0) {
        *data_bytes = 0;
        return MHD_YES;
    }
    const char *fault = begin(transfer, connection);
    if (fault)
        return http_answer_error(connection, MHD_HTTP_SERVICE_UNAVAILABLE, RPC_STORE_ERROR(HKV_E_BUSY), HKV_E_BUSY,
                                 fault);
    if (!transfer->is_found) {
        suspend(transfer);
        return MHD_YES;
    }
    if (transfer->found.err != HKV_OK) return answer_outcome(connection, &transfer->found);
    if (transfer->value.length > 0 || transfer->is_head) return answer_download(transfer);
    if (!transfer->is_finished) { /* an empty value has no last byte to hold back */
        suspend(transfer);
        return MHD_YES;
    }
    return transfer->finished.err == HKV_OK ? answer_download(transfer)
                                            : answer_outcome(connection, &transfer->finished);
}

/* Moves a part of the body towards the store; what the store does not want any more is dropped. */
static void push(struct transfer *transfer, const char *data, size_t *data_bytes)
{
    if (transfer->fd < 0 || transfer->is_finished) {
        *data_bytes = 0;
        return;
    }
    ssize_t count = send(transfer->fd, data, *data_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0)
        *data_bytes -= (size_t)count;
    else if (errno == EAGAIN || errno == EINTR)
        wait_for(transfer, UV_WRITABLE);
    else
        *data_bytes = 0; /* the thread has ended early and says why at the end */
}

static enum MHD_Result handle_put(struct http_request *base, struct MHD_Connection *connection, const char *data,
                                  size_t *data_bytes)
{
    struct transfer *transfer = (struct transfer *)base;
    const char *fault = begin(transfer, connection);
    if (fault) { /* answered when the body has been read: libmicrohttpd takes no answer in the middle */
        keep_outcome(&transfer->finished, HKV_E_BUSY, fault);
        transfer->is_finished = true;
    }
    if (*data_bytes > 0) {
        push(transfer, data, data_bytes);
        return MHD_YES;
    }
    if (!transfer->is_finished) {
        if (transfer->fd >= 0) shutdown(transfer->fd, SHUT_WR);
        suspend(transfer);
        return MHD_YES;
    }
    if (transfer->finished.err != HKV_OK) return answer_outcome(connection, &transfer->finished);
    struct text body = {0};
    char version[HKV_VERSION_TEXT_BYTES];
    hkv_version_format(&transfer->version, version);
    text_printf(&body, "{\"ok\":true,\"version\":\"%s\"}\n", version);
    return http_answer(connection, MHD_HTTP_OK, &body);
}

static void transfer_ended(struct http_request *base)
{
    struct transfer *transfer = (struct transfer *)base;
    transfer->suspended = false;
    close_fd(transfer);
    disown(transfer);
}

/* ------------------------------------------------------------------------------------------ a new request */

/* An ETag or a bare version as the expectation. */
static bool read_expectation(const char *text, struct hkv_write_options *options)
{
    size_t len = strlen(text);
    if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
        text++;
        len -= 2;
    }
    char version[HKV_VERSION_TEXT_BYTES];
    if (len >= sizeof version) return false;
    memcpy(version, text, len);
    version[len] = '\0';
    options->expect = HKV_EXPECT_VERSION;
    return hkv_version_parse(version, &options->version) == HKV_OK;
}

static bool read_number(const char *text, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || number > max) return false;
    *out = number;
    return true;
}

static const char *header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static const char *argument(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
}

/* Reads what a PUT says besides the value; which rule it breaks, or NULL. */
static const char *read_put(struct transfer *transfer, struct MHD_Connection *connection)
{
    struct hkv_write_options *options = &transfer->options;
    const char *ttl_ms = argument(connection, "ttl_ms");
    if (ttl_ms && (!read_number(ttl_ms, INT64_MAX, &options->ttl_ms) || options->ttl_ms == 0))
        return "ttl_ms must be a number of milliseconds from 1 on";
    const char *version = argument(connection, "if_version");
    if (version && strcmp(version, "null") == 0)
        options->expect = HKV_EXPECT_ABSENT;
    else if (version && !read_expectation(version, options))
        return "if_version must be a version `<stamp_us>-<author hex>`, or null when the key must be absent";
    const char *match = header(connection, MHD_HTTP_HEADER_IF_MATCH);
    if (match && !read_expectation(match, options))
        return "If-Match must be one version, as the ETag of a GET names it";
    const char *none_match = header(connection, MHD_HTTP_HEADER_IF_NONE_MATCH);
    if (none_match && strcmp(none_match, "*") != 0) return "If-None-Match takes * only: the key must be absent";
    if (none_match) options->expect = HKV_EXPECT_ABSENT;
    if ((version != NULL) + (match != NULL) + (none_match != NULL) > 1)
        return "give one of if_version, If-Match and If-None-Match";
    if (header(connection, MHD_HTTP_HEADER_CONTENT_RANGE))
        return "Content-Range: a PUT stores a whole value, not a part of one";
    bool is_chunked = header(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
    const char *length = is_chunked ? NULL : header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
    transfer->upload_bytes = UINT64_MAX;
    if (length && !read_number(length, INT64_MAX, &transfer->upload_bytes)) return "Content-Length must be a number";
    return NULL;
}

struct http_request *http_value_new(struct http *http, struct MHD_Connection *connection, const char *path,
                                    const char *method, const char **fault)
{
    struct transfer *transfer = calloc(1, sizeof *transfer);
    if (!transfer) return NULL;
    *transfer = (struct transfer){.http = http, .connection = connection, .owners = 1, .fd = -1};
    transfer->is_put = strcmp(method, MHD_HTTP_METHOD_PUT) == 0;
    transfer->is_head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    transfer->base.handle = transfer->is_put ? handle_put : handle_get;
    transfer->base.ended = transfer_ended;
    *fault =
        percent_read(path, strlen(path), &transfer->key) ? NULL : "a % in the path must be followed by two hex digits";
    text_reserve(&transfer->key, 1);
    if (!*fault && transfer->is_put) *fault = read_put(transfer, connection);
    if (!*fault && !text_failed(&transfer->key)) return &transfer->base;
    disown(transfer);
    return NULL;
}

void http_cut_transfers(struct http *http)
{
    for (struct transfer *transfer = http->transfers; transfer; transfer = transfer->next) {
        close_fd(transfer);
        resume(transfer);
    }
}

size_t http_transfer_count(const struct http *http)
{
    return http->transfer_count;
}
