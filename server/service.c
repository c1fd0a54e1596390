#include "server/service.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server/conn.h"
#include "server/http.h"

#define SWEEP_MS        5000
#define UNDECIDED_MS    60000 /* for the first byte */
#define ACCEPTS_AT_ONCE 16

/* A connection that has not sent its first byte. */
struct undecided {
    uv_poll_t poll;
    struct service *service;
    struct undecided *next, *previous;
    uint64_t since_ms;
    int fd; /* -1: given away */
    bool is_http;
    bool closing;
};

static void on_undecided_closed(uv_handle_t *handle)
{
    struct undecided *undecided = handle->data;
    struct service *service = undecided->service;
    int fd = undecided->fd;
    bool is_http = undecided->is_http;
    free(undecided);
    if (fd < 0) {
        service_connection_closed(service);
        return;
    }
    bool taken = is_http ? http_add(service->http, fd) : conn_new(service, fd);
    if (!taken) service_connection_closed(service);
}

static void undecided_end(struct undecided *undecided)
{
    if (undecided->closing) return;
    undecided->closing = true;
    if (undecided->previous)
        undecided->previous->next = undecided->next;
    else
        undecided->service->undecided = undecided->next;
    if (undecided->next) undecided->next->previous = undecided->previous;
    uv_close((uv_handle_t *)&undecided->poll, on_undecided_closed);
}

static void undecided_drop(struct undecided *undecided)
{
    if (undecided->closing) return;
    undecided_end(undecided);
    close(undecided->fd);
    undecided->fd = -1;
}

static void on_first_byte(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct undecided *undecided = poll->data;
    char first;
    ssize_t count = status < 0 ? 0 : recv(undecided->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        undecided_drop(undecided);
        return;
    }
    undecided->is_http = first >= 'A' && first <= 'Z';
    undecided_end(undecided);
}

/* Says why on a connection that is not served. */
static void refuse(int fd)
{
    struct text text = {0};
    rpc_write_error(&text, RPC_STORE_ERROR(HKV_E_LIMIT),
                    "the server has 256 connections, as many as it takes; close some or try later");
    text_append(&text, "\n", 1);
    if (!text_failed(&text)) (void)!send(fd, text.bytes, text.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    text_fini(&text);
    close(fd);
}

static void accept_one(struct service *service, int fd)
{
    if (service->connection_count >= SERVICE_CONNECTIONS_MAX) {
        refuse(fd);
        return;
    }
    struct undecided *undecided = calloc(1, sizeof *undecided);
    if (!undecided || uv_poll_init(service->loop, &undecided->poll, fd) != 0) {
        free(undecided);
        close(fd);
        return;
    }
    undecided->poll.data = undecided;
    undecided->service = service;
    undecided->fd = fd;
    undecided->since_ms = uv_now(service->loop);
    undecided->next = service->undecided;
    if (undecided->next) undecided->next->previous = undecided;
    service->undecided = undecided;
    service->connection_count++;
    if (uv_poll_start(&undecided->poll, UV_READABLE, on_first_byte) != 0) undecided_drop(undecided);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct service *service = poll->data;
    for (int i = 0; status == 0 && i < ACCEPTS_AT_ONCE; i++) {
        int fd = accept4(service->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        accept_one(service, fd);
    }
}

static void on_sweep(uv_timer_t *timer)
{
    struct service *service = timer->data;
    uint64_t now_ms = uv_now(service->loop);
    conn_sweep(service, now_ms);
    http_sweep_events(service->http, now_ms);
    for (struct undecided *undecided = service->undecided, *next; undecided; undecided = next) {
        next = undecided->next;
        if (now_ms - undecided->since_ms >= UNDECIDED_MS) undecided_drop(undecided);
    }
}

void service_connection_closed(struct service *service)
{
    assert(service->connection_count > 0);
    service->connection_count--;
}

int service_start(struct service *service, uv_loop_t *loop, struct hkv_store *store, int listen_fd,
                  const char *socket_path)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *service = (struct service){.loop = loop, .listen_fd = listen_fd};
    service->rpc = (struct rpc){
        .store = store,
        .tasks = &service->tasks,
        .started_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000,
        .socket_path = socket_path,
    };
    int status = tasks_init(&service->tasks, loop);
    if (status < 0) return status;
    status = http_new(service, &service->http);
    if (status < 0) return status;
    status = uv_timer_init(loop, &service->sweep);
    if (status < 0) return status;
    service->sweep.data = service;
    status = uv_timer_start(&service->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    if (status < 0) return status;
    status = uv_poll_init(loop, &service->listener, listen_fd);
    if (status < 0) return status;
    service->listener.data = service;
    return uv_poll_start(&service->listener, UV_READABLE, on_connection);
}

void service_stop(struct service *service)
{
    service->stopping = true;
    uv_close((uv_handle_t *)&service->listener, NULL);
    uv_close((uv_handle_t *)&service->sweep, NULL);
    close(service->listen_fd);
    while (service->undecided) undecided_drop(service->undecided);
    for (struct conn *conn = service->conns, *next; conn; conn = next) {
        next = conn_next(conn);
        conn_stop(conn);
    }
    http_end_events(service->http);
    http_cut_transfers(service->http);
    while (service->tasks.working > 0 || http_transfer_count(service->http) > 0) uv_run(service->loop, UV_RUN_ONCE);

    hkv_close(service->rpc.store);
    service->rpc.store = NULL;
    tasks_drain(&service->tasks); /* the ends of calls that waited */
    uv_run(service->loop, UV_RUN_NOWAIT);
    while (service->conns) conn_close(service->conns);
    http_free(service->http);
    tasks_fini(&service->tasks);
}
