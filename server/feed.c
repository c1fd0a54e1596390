#include "server/feed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "server/rpc_methods.h"

/* An event of the store, kept. Its strings lie behind it. */
struct event {
    struct event *next;
    struct hkv_event event;
    size_t bytes; /* of the whole allocation */
};

struct feed {
    struct task task; /* first; posted while events wait */
    struct tasks *tasks;
    struct hkv_watch *watch;
    void (*ready)(void *owner);
    void *owner;
    bool closed; /* loop thread */
    pthread_mutex_t lock;
    struct event *first, **last; /* the rest under lock */
    size_t event_count;
    size_t event_bytes;
    bool paused;
    bool failed;
    bool posted;  /* `task` is on its way */
    bool waiting; /* the owner was told that events wait, and has not seen the end of them */
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

/* On the store's callback thread: never waits for the client. */
static void on_event(void *arg, const struct hkv_event *event)
{
    struct feed *feed = arg;
    struct event *copy = event_copy(event);
    pthread_mutex_lock(&feed->lock);
    if (copy) {
        *feed->last = copy;
        feed->last = &copy->next;
        feed->event_count++;
        feed->event_bytes += copy->bytes;
    }
    feed->failed = feed->failed || !copy;
    if (!copy || feed->event_count >= FEED_EVENTS_MAX || feed->event_bytes >= FEED_BYTES_MAX) {
        feed->paused = true;
        hkv_watch_pause(feed->watch);
    }
    bool post = !feed->posted && !feed->waiting;
    feed->posted = feed->posted || post;
    pthread_mutex_unlock(&feed->lock);
    if (post) tasks_post(feed->tasks, &feed->task);
}

/* ------------------------------------------------------------------------------------------ events as JSON */

static const char *const type_names[] = {
    [HKV_EVENT_PUT_LOCAL] = "PUT_LOCAL",       [HKV_EVENT_DELETE_LOCAL] = "DELETE_LOCAL",
    [HKV_EVENT_PUT_REMOTE] = "PUT_REMOTE",     [HKV_EVENT_DELETE_REMOTE] = "DELETE_REMOTE",
    [HKV_EVENT_EXPIRED] = "EXPIRED",           [HKV_EVENT_LISTED] = "LISTED",
    [HKV_EVENT_PROGRESS] = "PROGRESS",         [HKV_EVENT_OVERRUN] = "OVERRUN",
    [HKV_EVENT_SYNC_STARTED] = "SYNC_STARTED", [HKV_EVENT_SYNC_FINISHED] = "SYNC_FINISHED",
};

static bool set_position(json_t *object, const char *name, const struct hkv_position *position)
{
    char text[HKV_POSITION_TEXT_BYTES];
    if (position->epoch == 0) return true;
    hkv_position_format(position, text);
    return json_object_set_new(object, name, json_string(text)) == 0;
}

/* The members that the event has; NULL: out of memory. */
static json_t *event_json(const struct hkv_event *event)
{
    json_t *object =
        json_pack("{s:s, s:s*, s:s*}", "type", type_names[event->type], "peer", event->peer, "reason", event->reason);
    bool ok = object != NULL;
    if (ok && event->key) {
        ok = json_object_set_new(object, "key", json_stringn(event->key, event->key_bytes)) == 0 &&
             json_object_set_new(object, "version", rpc_json_version(&event->version)) == 0 &&
             json_object_set_new(object, "author", rpc_json_author(&event->version)) == 0;
    }
    ok = ok && set_position(object, "position", &event->position) &&
         set_position(object, "first_available", &event->first_available);
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

/* ------------------------------------------------------------------------------------------ loop thread */

/* The first event of the queue, NULL when there is none. *resume: there is room again. */
static struct event *take_first(struct feed *feed, bool *resume, bool *failed)
{
    pthread_mutex_lock(&feed->lock);
    struct event *event = feed->first;
    *failed = feed->failed;
    if (event) {
        feed->first = event->next;
        if (!feed->first) feed->last = &feed->first;
        feed->event_count--;
        feed->event_bytes -= event->bytes;
    } else {
        feed->waiting = false;
    }
    *resume = feed->paused && feed->event_count <= FEED_EVENTS_MAX / 2 && feed->event_bytes <= FEED_BYTES_MAX / 2;
    if (*resume) feed->paused = false;
    pthread_mutex_unlock(&feed->lock);
    return event;
}

json_t *feed_take(struct feed *feed, bool *failed)
{
    bool resume;
    struct event *event = take_first(feed, &resume, failed);
    if (resume && !*failed) hkv_watch_resume(feed->watch);
    json_t *object = event ? event_json(&event->event) : NULL;
    *failed = *failed || (event && !object);
    free(event);
    return object;
}

static void feed_free(struct feed *feed)
{
    while (feed->first) {
        struct event *event = feed->first;
        feed->first = event->next;
        free(event);
    }
    pthread_mutex_destroy(&feed->lock);
    free(feed);
}

static void on_posted(struct task *task)
{
    struct feed *feed = (struct feed *)(void *)task;
    pthread_mutex_lock(&feed->lock);
    feed->posted = false;
    feed->waiting = true;
    pthread_mutex_unlock(&feed->lock);
    if (feed->closed)
        feed_free(feed);
    else
        feed->ready(feed->owner);
}

enum hkv_err feed_open(struct rpc *rpc, const struct hkv_watch_options *options, void (*ready)(void *owner),
                       void *owner, struct feed **out)
{
    struct feed *feed = calloc(1, sizeof *feed);
    if (!feed) return HKV_E_NOMEM;
    *feed = (struct feed){.tasks = rpc->tasks, .ready = ready, .owner = owner, .task.done = on_posted};
    feed->last = &feed->first;
    pthread_mutex_init(&feed->lock, NULL);
    enum hkv_err err = hkv_watch_with(rpc->store, options, on_event, feed, &feed->watch);
    if (err != HKV_OK) {
        feed_free(feed);
        return err;
    }
    *out = feed;
    return HKV_OK;
}

void feed_close(struct feed *feed)
{
    if (!feed) return;
    hkv_watch_close(feed->watch);
    feed->closed = true;
    pthread_mutex_lock(&feed->lock);
    bool posted = feed->posted;
    pthread_mutex_unlock(&feed->lock);
    if (!posted) feed_free(feed); /* else on_posted does */
}
