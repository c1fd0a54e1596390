/* Watches: what committed changes and finished sessions look like to the application, delivered on the callback thread.
 *
 *   replica thread ─ watch_publish_changes ┐      ┌───────────── tail ─────────────┐
 *   network thread ─ watch_publish_sync ───┴────▶ │ batch │ batch │ batch │ batch │   shared, the newest changes
 *                                                 └───▲───────────────────────▲────┘
 *                     watch 1 (fell behind)           │ watch 2               │ watch 3 (keeps up)
 *                        │ pages of kv_changes_read() until it stands in the tail again
 *                     change log on disk: 1 … first … … … … … … … … … … last
 *
 * A watch is a position and has no queue of its own: whoever keeps up reads the tail, whoever does not reads the log in
 * pages, each at its own pace. So publishing never waits and never loses anything for a watcher; memory is bounded by
 * the tail, whatever the number and the speed of the watches; and OVERRUN happens only when the log itself no longer
 * holds what a watch wants next, or became another one (epoch). The log is read on the callback thread.
 *
 *   state   reads                     goes on to
 *   LIST    keys, page by page        LOG when all are listed (PROGRESS)
 *   LOG     the log, page by page     LIVE when its position lies in the tail
 *   LIVE    the tail                  LOG when the tail has moved past it
 *   any                               LIST, or LOG without `list`, when the log does not hold what comes next (OVERRUN)
 *
 * It begins in LIST with `list` and without `from`, else in LOG.
 *
 * Deliveries of one watch are one job at a time on the callback thread; after WATCH_TURN_EVENTS events the job goes
 * back behind the others. Events about syncs are in the tail only: a watch that has fallen behind does not get them.
 * Invariant: the changes that reach a watch have ascending positions, and between two of them, or a change and a
 * PROGRESS, none with its prefix is missing unless OVERRUN stands there. */
#ifndef HKV_NODE_WATCH_H
#define HKV_NODE_WATCH_H

#include <hero_kvs.h>
#include <pthread.h>

#include "base/env.h"
#include "kv/kv.h"

#define WATCH_TAIL_BATCHES_MAX 1024 /* a power of two */
#define WATCH_TAIL_CHANGES_MAX 16384
#define WATCH_TAIL_BYTES_MAX   ((size_t)4 << 20)
#define WATCH_TURN_EVENTS      1024
#define WATCH_TICK_US          ((uint64_t)1000000)
#define WATCH_QUIET_US         ((uint64_t)5000000) /* without an event, when positions went by: PROGRESS */

struct watch_batch;

struct watch_hub {
    struct job arm; /* first; sets `timer` */
    struct env *env;
    struct kv *kv;
    struct env_timer timer;    /* network thread */
    bool timer_ended;          /* network thread */
    pthread_mutex_t lock;      /* of everything below */
    pthread_cond_t idle;       /* `running` changed */
    struct hkv_watch *running; /* the one whose callback runs now … */
    pthread_t running_thread;  /* … on this thread */
    struct hkv_watch *first;
    size_t count;
    bool ticking;                                     /* the timer is set, or about to be */
    uint64_t epoch;                                   /* of the log */
    uint64_t published;                               /* newest position */
    struct watch_batch *tail[WATCH_TAIL_BATCHES_MAX]; /* by sequence number: begin … below end */
    uint64_t tail_begin, tail_end;
    uint64_t tail_from; /* what came behind this position is in the tail */
    size_t tail_changes, tail_bytes;
    size_t tail_changes_max; /* WATCH_TAIL_CHANGES_MAX; tests lower it */
};

void watch_hub_init(struct watch_hub *hub, struct env *env, struct kv *kv);

/* Every watch must be closed and the callback thread drained. */
void watch_hub_fini(struct watch_hub *hub);

/* No more ticks. Network thread. */
void watch_hub_end_timer(struct watch_hub *hub);

/* Ends all watches; no event begins afterwards. Before the callback thread ends, after watch_hub_end_timer(). */
void watch_hub_close(struct watch_hub *hub);

/* Takes the changes of a commit. Replica thread. */
void watch_publish_changes(struct watch_hub *hub, struct kv_changes *changes);

/* The log's epoch became another one. Replica thread, after the commit and what it published. */
void watch_publish_epoch(struct watch_hub *hub);

/* SYNC_STARTED or SYNC_FINISHED; `event` is copied, its peer's text too. Any thread. */
void watch_publish_sync(struct watch_hub *hub, const struct hkv_event *event);

/* As hkv_watch_with; `options` are valid. *out is set before the first event. Any thread. */
HKV_CHECK enum hkv_err watch_open(struct watch_hub *hub, const struct hkv_watch_options *options, hkv_event_fn event,
                                  void *arg, struct hkv_watch **out);
void watch_pause(struct hkv_watch *watch);
void watch_resume(struct hkv_watch *watch);

/* Waits for the watch's callback if another thread is in it. In a world of one thread none is: a callback there either
 * is the caller's own, or has ended. */
void watch_close(struct hkv_watch *watch);

#endif
