/* Watches: what committed changes and finished sessions look like to the application, delivered on the callback thread.
 *
 *   replica thread ─ watch_publish_changes ┐                          ┌─ watch 1: queue of batches ─ job ─▶ event(…)
 *   network thread ─ watch_publish_sync ───┴─▶ one shared batch ──────┼─ watch 2: queue of batches ─ job ─▶ event(…)
 *
 * A batch is counted by references and freed with the last of them. Publishing never waits for a watcher: one that has
 * more than HKV_WATCH_QUEUE_MAX events queued loses the new ones and gets one OVERRUN in their place. Invariant: events
 * reach one watch in the order in which they were published. */
#ifndef HKV_NODE_WATCH_H
#define HKV_NODE_WATCH_H

#include <hero_kvs.h>
#include <pthread.h>

#include "base/env.h"
#include "kv/kv.h"

struct watch_hub {
    struct env *env;
    pthread_mutex_t lock;
    pthread_cond_t idle;       /* `running` changed */
    struct hkv_watch *running; /* the one whose callback runs now */
    struct hkv_watch *first;
    size_t count;
    uint64_t epoch;
};

void watch_hub_init(struct watch_hub *hub, struct env *env, uint64_t epoch);

/* Every watch must be closed and the callback thread drained. */
void watch_hub_fini(struct watch_hub *hub);

/* Ends all watches: what is queued is dropped, no event begins afterwards. Before the callback thread ends. */
void watch_hub_close(struct watch_hub *hub);

/* Takes the changes. Out of memory counts as an overrun of every watch. */
void watch_publish_changes(struct watch_hub *hub, struct kv_changes *changes);

/* SYNC_STARTED or SYNC_FINISHED; `event` is copied, its peer's text too. */
void watch_publish_sync(struct watch_hub *hub, const struct hkv_event *event);

/* As hkv_watch. `on_callback_thread` tells watch_close() whether waiting for the running callback would wait for
 * itself. */
HKV_CHECK enum hkv_err watch_open(struct watch_hub *hub, struct slice prefix, hkv_event_fn event, void *arg,
                                  struct hkv_watch **out);
void watch_close(struct hkv_watch *watch, bool on_callback_thread);

struct watch_hub *watch_hub_of(const struct hkv_watch *watch);

#endif
