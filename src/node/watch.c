#include "node/watch.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/text.h"

struct watch_batch {
    atomic_size_t references;
    struct kv_changes changes; /* empty for a sync event */
    struct hkv_event sync;
    char peer[ID_TEXT_MAX];
};

struct watch_link {
    struct watch_link *next;
    struct watch_batch *batch;
};

struct hkv_watch {
    struct job deliver; /* first */
    struct watch_hub *hub;
    struct hkv_watch *next;
    hkv_event_fn event;
    void *arg;
    struct buf prefix;
    /* under the hub's lock */
    struct watch_link *first;
    struct watch_link **last;
    size_t queued; /* events */
    bool overrun;
    bool scheduled; /* `deliver` is queued or runs */
    bool closed;
};

static void batch_release(struct watch_batch *batch)
{
    if (atomic_fetch_sub(&batch->references, 1) != 1) return;
    kv_changes_fini(&batch->changes);
    free(batch);
}

static size_t batch_events(const struct watch_batch *batch)
{
    return batch->changes.count > 0 ? batch->changes.count : 1;
}

/* ------------------------------------------------------------------------------------------------ delivery (callback
 * thread) */

static enum hkv_event_type event_type_of(enum kv_change_kind kind)
{
    switch (kind) {
    case KV_PUT_LOCAL:
        return HKV_EVENT_PUT_LOCAL;
    case KV_DELETE_LOCAL:
        return HKV_EVENT_DELETE_LOCAL;
    case KV_PUT_REMOTE:
        return HKV_EVENT_PUT_REMOTE;
    case KV_DELETE_REMOTE:
        return HKV_EVENT_DELETE_REMOTE;
    case KV_EXPIRED:
    case KV_LISTED:
        return HKV_EVENT_EXPIRED;
    }
    assert(false);
    return HKV_EVENT_EXPIRED;
}

static void deliver_change(struct hkv_watch *w, const struct kv_change *change)
{
    char peer[ID_TEXT_MAX], key[HKV_KEY_MAX + 1];
    assert(change->key.len <= HKV_KEY_MAX);
    if (!slice_starts_with(buf_slice(&change->key), buf_slice(&w->prefix))) return;
    memcpy(key, change->key.data, change->key.len);
    key[change->key.len] = '\0';
    struct hkv_event event = {
        .type = event_type_of(change->kind),
        .key = key,
        .key_bytes = change->key.len,
        .version.stamp_us = change->version.stamp_us,
        .peer = change->has_peer ? id_format(change->peer.bytes, peer) : NULL,
        .reason = change->by_prefix ? "prefix" : NULL,
        .epoch = w->hub->epoch,
        .position = change->position,
    };
    memcpy(event.version.author, change->version.author.bytes, ID_BYTES);
    w->event(w->arg, &event);
}

static bool is_closed(struct hkv_watch *w)
{
    (void)pthread_mutex_lock(&w->hub->lock);
    bool closed = w->closed;
    (void)pthread_mutex_unlock(&w->hub->lock);
    return closed;
}

static void deliver_batch(struct hkv_watch *w, const struct watch_batch *batch)
{
    if (batch->changes.count == 0) w->event(w->arg, &batch->sync);
    for (size_t i = 0; i < batch->changes.count && !is_closed(w); i++) deliver_change(w, &batch->changes.items[i]);
}

static void watch_free(struct hkv_watch *w)
{
    struct watch_link *next;
    for (struct watch_link *link = w->first; link != NULL; link = next) {
        next = link->next;
        batch_release(link->batch);
        free(link);
    }
    buf_fini(&w->prefix);
    free(w);
}

static void deliver(struct job *job)
{
    struct hkv_watch *w = (struct hkv_watch *)(void *)job;
    struct watch_hub *hub = w->hub;
    (void)pthread_mutex_lock(&hub->lock);
    hub->running = w;
    while (!w->closed && (w->first != NULL || w->overrun)) {
        struct watch_link *link = w->first;
        bool overrun = link == NULL;
        if (overrun) {
            w->overrun = false;
        } else {
            w->first = link->next;
            if (w->first == NULL) w->last = &w->first;
            w->queued -= batch_events(link->batch);
        }
        (void)pthread_mutex_unlock(&hub->lock);
        if (overrun) {
            struct hkv_event event = {.type = HKV_EVENT_OVERRUN, .epoch = hub->epoch};
            w->event(w->arg, &event);
        } else {
            deliver_batch(w, link->batch);
            batch_release(link->batch);
            free(link);
        }
        (void)pthread_mutex_lock(&hub->lock);
    }
    hub->running = NULL;
    w->scheduled = false;
    bool release = w->closed;
    (void)pthread_cond_broadcast(&hub->idle);
    (void)pthread_mutex_unlock(&hub->lock);
    if (release) watch_free(w);
}

/* ------------------------------------------------------------------------------------------------ publishing */

/* With the lock held. */
static void enqueue(struct hkv_watch *w, struct watch_batch *batch)
{
    size_t events = batch == NULL ? 0 : batch_events(batch);
    struct watch_link *link = NULL;
    if (batch != NULL && !w->overrun && w->queued + events <= HKV_WATCH_QUEUE_MAX) link = malloc(sizeof *link);
    if (link == NULL) {
        w->overrun = true;
    } else {
        atomic_fetch_add(&batch->references, 1);
        *link = (struct watch_link){.batch = batch};
        *w->last = link;
        w->last = &link->next;
        w->queued += events;
    }
    if (w->scheduled) return;
    w->scheduled = true;
    env_run_on(w->hub->env, ENV_CALLBACK, &w->deliver);
}

static void publish(struct watch_hub *hub, struct watch_batch *batch)
{
    (void)pthread_mutex_lock(&hub->lock);
    for (struct hkv_watch *w = hub->first; w != NULL; w = w->next) enqueue(w, batch);
    (void)pthread_mutex_unlock(&hub->lock);
    if (batch != NULL) batch_release(batch);
}

static bool anyone(struct watch_hub *hub)
{
    (void)pthread_mutex_lock(&hub->lock);
    bool some = hub->first != NULL;
    (void)pthread_mutex_unlock(&hub->lock);
    return some;
}

void watch_publish_changes(struct watch_hub *hub, struct kv_changes *changes)
{
    if (changes->count == 0 || !anyone(hub)) return;
    struct watch_batch *batch = calloc(1, sizeof *batch);
    if (batch != NULL) {
        atomic_init(&batch->references, 1);
        batch->changes = *changes;
        *changes = (struct kv_changes){0};
    }
    publish(hub, batch);
}

void watch_publish_sync(struct watch_hub *hub, const struct hkv_event *event)
{
    if (!anyone(hub)) return;
    struct watch_batch *batch = calloc(1, sizeof *batch);
    if (batch != NULL) {
        atomic_init(&batch->references, 1);
        batch->sync = *event;
        batch->sync.epoch = hub->epoch;
        if (event->peer != NULL) {
            memcpy(batch->peer, event->peer, sizeof batch->peer);
            batch->sync.peer = batch->peer;
        }
    }
    publish(hub, batch);
}

/* ------------------------------------------------------------------------------------------------ open, close */

void watch_hub_init(struct watch_hub *hub, struct env *env, uint64_t epoch)
{
    *hub = (struct watch_hub){.env = env, .epoch = epoch};
    (void)pthread_mutex_init(&hub->lock, NULL);
    (void)pthread_cond_init(&hub->idle, NULL);
}

void watch_hub_fini(struct watch_hub *hub)
{
    assert(hub->first == NULL);
    (void)pthread_cond_destroy(&hub->idle);
    (void)pthread_mutex_destroy(&hub->lock);
}

enum hkv_err watch_open(struct watch_hub *hub, struct slice prefix, hkv_event_fn event, void *arg,
                        struct hkv_watch **out)
{
    struct hkv_watch *w = calloc(1, sizeof *w);
    if (w == NULL || buf_append_slice(&w->prefix, prefix) != HKV_OK) {
        free(w);
        return error_set(HKV_E_NOMEM, "no memory for a watch");
    }
    w->deliver.run = deliver;
    w->hub = hub;
    w->event = event;
    w->arg = arg;
    w->last = &w->first;
    (void)pthread_mutex_lock(&hub->lock);
    bool room = hub->count < HKV_WATCH_MAX;
    if (room) {
        w->next = hub->first;
        hub->first = w;
        hub->count++;
    }
    (void)pthread_mutex_unlock(&hub->lock);
    if (!room) {
        watch_free(w);
        return error_set(HKV_E_LIMIT, "%d watches are open, which is the limit; close some", HKV_WATCH_MAX);
    }
    *out = w;
    return HKV_OK;
}

/* With the lock held: takes it out of the hub. True when the caller frees it, false when `deliver` will. */
static bool detach(struct hkv_watch *w)
{
    struct hkv_watch **at = &w->hub->first;
    while (*at != NULL && *at != w) at = &(*at)->next;
    if (*at == w) {
        *at = w->next;
        w->hub->count--;
    }
    w->closed = true;
    return !w->scheduled;
}

void watch_close(struct hkv_watch *w, bool on_callback_thread)
{
    if (w == NULL) return;
    struct watch_hub *hub = w->hub;
    (void)pthread_mutex_lock(&hub->lock);
    bool release = detach(w);
    /* `deliver` frees the watch when it leaves it: from here on its address is compared, not followed. */
    while (!on_callback_thread && hub->running == w) (void)pthread_cond_wait(&hub->idle, &hub->lock);
    (void)pthread_mutex_unlock(&hub->lock);
    if (release) watch_free(w);
}

void watch_hub_close(struct watch_hub *hub)
{
    for (;;) {
        (void)pthread_mutex_lock(&hub->lock);
        struct hkv_watch *w = hub->first;
        bool release = w != NULL && detach(w);
        (void)pthread_mutex_unlock(&hub->lock);
        if (w == NULL) return;
        if (release) watch_free(w);
    }
}

struct watch_hub *watch_hub_of(const struct hkv_watch *watch)
{
    return watch->hub;
}
