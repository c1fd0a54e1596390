#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/conn.h"
#include "server/rpc_methods.h"

/* An event of the store, kept. Its strings lie behind it. */
struct event {
    struct event *next;
    struct hkv_event event;
    size_t bytes; /* of the whole allocation */
};

struct watch {
    struct task task; /* posted while events wait */
    struct conn *conn;
    struct tasks *tasks;
    struct hkv_watch *handle;
    unsigned number;
    bool closed; /* loop thread */
    pthread_mutex_t lock;
    struct event *first, **last; /* the rest under lock */
    size_t event_count;
    size_t event_bytes;
    bool overrun; /* events are dropped until the queue is empty */
    bool posted;
};

/* Copies `string` of `len` bytes with a NUL to *at, which moves on. NULL stays NULL. */
static const char *keep(char **at, const char *string, size_t len)
{
    if (!string) return NULL;
    char *copy = *at;
    memcpy(copy, string, len);
    copy[len] = '\0';
    *at += len + 1;
    return copy;
}

static struct event *event_copy(const struct hkv_event *event)
{
    size_t peer_bytes = event->peer ? strlen(event->peer) : 0;
    size_t reason_bytes = event->reason ? strlen(event->reason) : 0;
    size_t bytes = sizeof(struct event) + event->key_bytes + peer_bytes + reason_bytes + 3;
    struct event *copy = malloc(bytes);
    if (!copy) return NULL;
    char *at = (char *)(copy + 1);
    *copy = (struct event){.event = *event, .bytes = bytes};
    copy->event.key = keep(&at, event->key, event->key_bytes);
    copy->event.peer = keep(&at, event->peer, peer_bytes);
    copy->event.reason = keep(&at, event->reason, reason_bytes);
    return copy;
}

/* On a thread of the store: never waits for the connection. */
static void on_event(void *arg, const struct hkv_event *event)
{
    struct watch *watch = arg;
    pthread_mutex_lock(&watch->lock);
    struct event *copy = NULL;
    if (!watch->overrun && watch->event_count < WATCH_EVENTS_MAX && watch->event_bytes < WATCH_BYTES_MAX)
        copy = event_copy(event);
    if (copy) {
        *watch->last = copy;
        watch->last = &copy->next;
        watch->event_count++;
        watch->event_bytes += copy->bytes;
    } else {
        watch->overrun = true;
    }
    bool post = !watch->posted;
    watch->posted = true;
    pthread_mutex_unlock(&watch->lock);
    if (post) tasks_post(watch->tasks, &watch->task);
}

static const char *const type_names[] = {
    [HKV_EVENT_PUT_LOCAL] = "PUT_LOCAL",
    [HKV_EVENT_DELETE_LOCAL] = "DELETE_LOCAL",
    [HKV_EVENT_PUT_REMOTE] = "PUT_REMOTE",
    [HKV_EVENT_DELETE_REMOTE] = "DELETE_REMOTE",
    [HKV_EVENT_EXPIRED] = "EXPIRED",
    [HKV_EVENT_SYNC_STARTED] = "SYNC_STARTED",
    [HKV_EVENT_SYNC_FINISHED] = "SYNC_FINISHED",
    [HKV_EVENT_LISTED] = "LISTED",
    [HKV_EVENT_PROGRESS] = "PROGRESS",
    [HKV_EVENT_OVERRUN] = "OVERRUN",
};

/* The members of an event that it has; takes `object`, which may be NULL. */
static json_t *event_json(unsigned number, const struct hkv_event *event)
{
    json_t *object = json_pack("{s:i, s:s, s:s*, s:s*}", "watch", (int)number, "type", type_names[event->type], "peer",
                               event->peer, "reason", event->reason);
    bool ok = object != NULL;
    if (ok && event->key) {
        ok = json_object_set_new(object, "key", json_stringn(event->key, event->key_bytes)) == 0 &&
             json_object_set_new(object, "version", rpc_json_version(&event->version)) == 0 &&
             json_object_set_new(object, "author", rpc_json_author(&event->version)) == 0;
    }
    if (ok && event->position.epoch) {
        char position[HKV_POSITION_TEXT_BYTES];
        hkv_position_format(&event->position, position);
        ok = json_object_set_new(object, "position", json_string(position)) == 0;
    }
    if (ok && event->type == HKV_EVENT_SYNC_FINISHED) {
        ok = json_object_set_new(object, "ok", json_boolean(event->sync_ok)) == 0 &&
             json_object_set_new(object, "confirmed", json_boolean(event->sync_confirmed)) == 0 &&
             json_object_set_new(object, "entries_sent", rpc_json_stamp(event->entries_sent)) == 0 &&
             json_object_set_new(object, "entries_received", rpc_json_stamp(event->entries_received)) == 0;
    }
    if (ok) return object;
    json_decref(object);
    return NULL;
}

static void write_event(struct watch *watch, struct text *out, const struct hkv_event *event)
{
    json_t *params = event_json(watch->number, event);
    char *text = params ? json_dumps(params, JSON_COMPACT) : NULL;
    if (text)
        text_printf(out, "{\"jsonrpc\":\"2.0\",\"method\":\"kv.event\",\"params\":%s}\n", text);
    else
        out->failed = true;
    free(text);
    json_decref(params);
}

/* Takes the first event of the queue; NULL when there is none, and then whether events were lost behind it. */
static struct event *take_event(struct watch *watch, bool *overrun)
{
    pthread_mutex_lock(&watch->lock);
    struct event *event = watch->first;
    *overrun = !event && watch->overrun;
    if (event) {
        watch->first = event->next;
        if (!watch->first) watch->last = &watch->first;
        watch->event_count--;
        watch->event_bytes -= event->bytes;
    } else {
        watch->overrun = false;
    }
    pthread_mutex_unlock(&watch->lock);
    return event;
}

void watch_flush(struct watch *watch)
{
    struct text out = {0};
    while (conn_out_bytes(watch->conn) + out.len <= CONN_OUT_MAX) {
        bool overrun;
        struct event *event = take_event(watch, &overrun);
        if (event) write_event(watch, &out, &event->event);
        if (overrun) write_event(watch, &out, &(struct hkv_event){.type = HKV_EVENT_OVERRUN});
        free(event);
        if (!event) break;
    }
    if (text_failed(&out)) {
        text_fini(&out);
        conn_close(watch->conn); /* events would be missing without a word */
        return;
    }
    conn_send(watch->conn, &out);
}

static void watch_free(struct watch *watch)
{
    while (watch->first) {
        struct event *event = watch->first;
        watch->first = event->next;
        free(event);
    }
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

static void on_posted(struct task *task)
{
    struct watch *watch = (struct watch *)(void *)((char *)task - offsetof(struct watch, task));
    pthread_mutex_lock(&watch->lock);
    watch->posted = false;
    pthread_mutex_unlock(&watch->lock);
    if (watch->closed)
        watch_free(watch);
    else
        watch_flush(watch);
}

void watch_close(struct watch *watch)
{
    hkv_watch_close(watch->handle);
    watch->closed = true;
    pthread_mutex_lock(&watch->lock);
    bool posted = watch->posted;
    pthread_mutex_unlock(&watch->lock);
    if (!posted) watch_free(watch); /* else on_posted does */
}

enum hkv_err watch_new(struct conn *conn, struct rpc *rpc, unsigned number, const char *prefix, size_t prefix_bytes,
                       struct watch **out)
{
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch) return HKV_E_NOMEM;
    *watch = (struct watch){.conn = conn, .tasks = rpc->tasks, .number = number, .task.done = on_posted};
    watch->last = &watch->first;
    pthread_mutex_init(&watch->lock, NULL);
    enum hkv_err err = hkv_watch(rpc->store, prefix, prefix_bytes, on_event, watch, &watch->handle);
    if (err != HKV_OK) {
        watch_free(watch);
        return err;
    }
    *out = watch;
    return HKV_OK;
}
