#include "node/watch.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"

/* A commit's changes, or one event about a sync. */
struct watch_batch {
    atomic_size_t references;
    struct kv_changes changes; /* empty for a sync event */
    uint64_t last;             /* newest position when it was published */
    size_t bytes;
    struct hkv_event sync;
    char peer[ID_TEXT_MAX];
};

enum watch_state { WATCH_LIST, WATCH_LOG, WATCH_LIVE };

struct hkv_watch {
    struct job deliver; /* first */
    struct watch_hub *hub;
    struct hkv_watch *next;
    hkv_event_fn event;
    void *arg;
    struct buf prefix;
    bool list;
    atomic_bool closed; /* set under the hub's lock */
    atomic_bool paused; /* likewise */

    /* under the hub's lock */
    bool scheduled; /* `deliver` is queued or runs */
    bool failing;   /* the log could not be read; the next tick tries again */
    bool behind;    /* positions went by that no event told of */
    bool progress_due;
    uint64_t quiet_since_us;

    /* by whoever runs `deliver` */
    enum watch_state state;
    bool known;                   /* the log was found to have the position, which may not be published yet */
    bool announce;                /* PROGRESS is to be delivered as soon as the watch has caught up */
    struct hkv_position position; /* everything up to here was delivered or passed over */
    struct hkv_position reported; /* the last that an event told */
    struct buf listed;            /* WATCH_LIST: the last key; has room for any */
    uint64_t sequence;            /* WATCH_LIVE: next batch of the tail */
};

/* ------------------------------------------------------------------------------------------ tail */

static void batch_release(struct watch_batch *batch)
{
    if (atomic_fetch_sub(&batch->references, 1) != 1) return;
    kv_changes_fini(&batch->changes);
    free(batch);
}

static struct watch_batch *batch_new(void)
{
    struct watch_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) return NULL;
    atomic_init(&batch->references, 1);
    batch->bytes = sizeof *batch;
    return batch;
}

static struct watch_batch **tail_slot(struct watch_hub *hub, uint64_t sequence)
{
    return &hub->tail[sequence % WATCH_TAIL_BATCHES_MAX];
}

static void tail_drop_oldest(struct watch_hub *hub)
{
    struct watch_batch *batch = *tail_slot(hub, hub->tail_begin++);
    hub->tail_from = batch->last;
    hub->tail_changes -= batch->changes.count;
    hub->tail_bytes -= batch->bytes;
    batch_release(batch);
}

static void tail_clear(struct watch_hub *hub)
{
    while (hub->tail_begin < hub->tail_end) tail_drop_oldest(hub);
    hub->tail_from = hub->published;
}

/* Takes the batch over. One that is too large for the tail leaves it empty: the watches find it in the log. */
static void tail_append(struct watch_hub *hub, struct watch_batch *batch)
{
    if (hub->tail_end - hub->tail_begin == WATCH_TAIL_BATCHES_MAX) tail_drop_oldest(hub);
    batch->last = hub->published;
    *tail_slot(hub, hub->tail_end++) = batch;
    hub->tail_changes += batch->changes.count;
    hub->tail_bytes += batch->bytes;
    while (hub->tail_changes > hub->tail_changes_max || hub->tail_bytes > WATCH_TAIL_BYTES_MAX) tail_drop_oldest(hub);
}

/* The first batch that has something behind the position, which lies in the tail. */
static uint64_t tail_find(struct watch_hub *hub, uint64_t position)
{
    uint64_t low = hub->tail_begin, high = hub->tail_end;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if ((*tail_slot(hub, middle))->last > position)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* ----------------------------------------------------------------------------------------- events (callback thread) */

static bool is_stopped(const struct hkv_watch *w)
{
    return atomic_load(&w->closed) || atomic_load(&w->paused);
}

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
        return HKV_EVENT_EXPIRED;
    case KV_LISTED:
        return HKV_EVENT_LISTED;
    }
    assert(false);
    return HKV_EVENT_EXPIRED;
}

/* While keys are being listed no event has a position: a watcher that went on from there would miss the rest. */
static void tell(struct hkv_watch *w, struct hkv_event *event)
{
    if (w->state == WATCH_LIST) event->position = (struct hkv_position){0};
    w->event(w->arg, event);
}

static void tell_change(struct hkv_watch *w, const struct kv_change *change)
{
    char peer[ID_TEXT_MAX], key[HKV_KEY_MAX + 1];
    assert(change->key.len <= HKV_KEY_MAX);
    memcpy(key, change->key.data, change->key.len);
    key[change->key.len] = '\0';
    struct hkv_event event = {
        .type = event_type_of(change->kind),
        .key = key,
        .key_bytes = change->key.len,
        .version.stamp_us = change->version.stamp_us,
        .peer = change->has_peer ? id_format(change->peer.bytes, peer) : NULL,
        .reason = change->by_prefix ? "prefix" : NULL,
        .position = w->position,
    };
    memcpy(event.version.author, change->version.author.bytes, ID_BYTES);
    w->reported = w->position;
    tell(w, &event);
}

static void tell_progress(struct hkv_watch *w)
{
    struct hkv_event event = {.type = HKV_EVENT_PROGRESS, .position = w->position};
    w->reported = w->position;
    w->announce = false;
    tell(w, &event);
}

/* ------------------------------------------------------------------------------------------ steps (callback thread) */

/* What `deliver` does next; decided under the lock, done without it. */
struct step {
    enum { STEP_NONE, STEP_PAGE, STEP_BATCH, STEP_PROGRESS } kind;
    struct watch_batch *batch; /* STEP_BATCH, with a reference */
};

static bool is_caught_up(const struct hkv_watch *w)
{
    return w->state == WATCH_LIVE && w->position.epoch == w->hub->epoch && w->sequence == w->hub->tail_end;
}

/* With the lock held. */
static struct step next_step(struct hkv_watch *w)
{
    struct watch_hub *hub = w->hub;
    bool in_tail = w->position.epoch == hub->epoch && w->position.number >= hub->tail_from &&
                   (w->known || w->position.number <= hub->published);
    if (w->state == WATCH_LIVE && (w->position.epoch != hub->epoch || w->sequence < hub->tail_begin))
        w->state = WATCH_LOG;
    if (w->state == WATCH_LOG && in_tail) {
        w->state = WATCH_LIVE;
        w->sequence = tail_find(hub, w->position.number);
    }
    if (w->state != WATCH_LIVE) return (struct step){.kind = STEP_PAGE};
    if (w->sequence == hub->tail_end) {
        bool progress = w->announce || (w->progress_due && w->position.number != w->reported.number);
        w->progress_due = false;
        return (struct step){.kind = progress ? STEP_PROGRESS : STEP_NONE};
    }
    struct watch_batch *batch = *tail_slot(hub, w->sequence);
    atomic_fetch_add(&batch->references, 1);
    return (struct step){.kind = STEP_BATCH, .batch = batch};
}

/* Delivers a batch and moves on behind it, or stops within. Returns how much it was. */
static size_t deliver_batch(struct hkv_watch *w, const struct watch_batch *batch)
{
    struct slice prefix = buf_slice(&w->prefix);
    size_t i = 0;
    if (batch->changes.count == 0) {
        struct hkv_event event = batch->sync;
        tell(w, &event);
    }
    for (; i < batch->changes.count && !is_stopped(w); i++) {
        const struct kv_change *change = &batch->changes.items[i];
        if (change->position <= w->position.number) continue; /* the log told it already */
        assert(change->position == w->position.number + 1);
        w->position.number = change->position;
        if (slice_starts_with(buf_slice(&change->key), prefix)) tell_change(w, change);
    }
    if (i == batch->changes.count) w->sequence++;
    return i + 1;
}

static void begin_listing(struct hkv_watch *w)
{
    w->state = WATCH_LIST;
    buf_clear(&w->listed);
}

/* The log does not hold what comes next: says so, and begins again where it can. */
static void overrun(struct hkv_watch *w, const struct kv_changes_page *page)
{
    w->position = (struct hkv_position){page->epoch, w->list ? page->last : page->first - 1};
    w->reported = w->position;
    w->announce = true;
    w->state = WATCH_LOG;
    if (w->list) begin_listing(w);
    struct hkv_event event = {
        .type = HKV_EVENT_OVERRUN,
        .position = w->position,
        .first_available = {page->epoch, page->first},
    };
    tell(w, &event);
}

static void deliver_page(struct hkv_watch *w, const struct kv_changes_page *page)
{
    size_t i = 0;
    for (; i < page->changes.count && !is_stopped(w); i++) {
        const struct kv_change *change = &page->changes.items[i];
        w->position.number = change->kind == KV_LISTED ? page->position : change->position;
        tell_change(w, change);
        if (change->kind != KV_LISTED) continue;
        enum hkv_err err = buf_assign(&w->listed, buf_slice(&change->key));
        assert(err == HKV_OK); /* room was made when the watch was opened */
    }
    if (i < page->changes.count) return;
    w->position.number = page->position;
    if (!page->listed_all || is_stopped(w)) return;
    w->state = WATCH_LOG;
    tell_progress(w);
}

/* A disk that fails may come back, and memory too: the watch waits. Damage does not go away: what lies there is lost,
 * and the watch goes on from now. */
static size_t reading_failed(struct hkv_watch *w, enum hkv_err err)
{
    struct watch_hub *hub = w->hub;
    if (err != HKV_E_CORRUPT || w->state == WATCH_LIST) {
        if (!w->failing) log_warn("watch", "the change log cannot be read, a watch waits for it: %s", error_last());
        return 0;
    }
    log_error("watch", "changes are lost to a watch: %s", error_last());
    (void)pthread_mutex_lock(&hub->lock);
    struct kv_changes_page now = {.epoch = hub->epoch, .first = hub->published + 1, .last = hub->published};
    (void)pthread_mutex_unlock(&hub->lock);
    overrun(w, &now);
    return WATCH_TURN_EVENTS;
}

/* Delivers a page of the log, which is a turn's work, or returns 0 when the log cannot be read. */
static size_t read_on(struct hkv_watch *w)
{
    struct kv_changes_page page;
    struct kv_changes_query query = {
        .epoch = w->position.epoch,
        .position = w->position.number,
        .prefix = buf_slice(&w->prefix),
        .listing = w->state == WATCH_LIST,
        .listed = buf_slice(&w->listed),
    };
    enum hkv_err err = kv_changes_read(w->hub->kv, &query, &page);
    if (err != HKV_OK) return reading_failed(w, err);
    w->known = true;
    if (page.lost)
        overrun(w, &page);
    else
        deliver_page(w, &page);
    kv_changes_fini(&page.changes);
    return WATCH_TURN_EVENTS;
}

/* Returns how much of the turn it took; 0: it failed. */
static size_t take_step(struct hkv_watch *w, struct step *step)
{
    size_t done = 1;
    switch (step->kind) {
    case STEP_PAGE:
        return read_on(w);
    case STEP_BATCH:
        done = deliver_batch(w, step->batch);
        batch_release(step->batch);
        return done;
    case STEP_PROGRESS:
        tell_progress(w);
        return done;
    case STEP_NONE:
        break;
    }
    return done;
}

/* ------------------------------------------------------------------------------------------ turns (callback thread) */

static void watch_free(struct hkv_watch *w)
{
    buf_fini(&w->prefix);
    buf_fini(&w->listed);
    free(w);
}

/* With the lock held. */
static void schedule(struct hkv_watch *w)
{
    if (w->scheduled || is_stopped(w)) return;
    w->scheduled = true;
    env_run_on(w->hub->env, ENV_CALLBACK, &w->deliver);
}

/* With the lock held: makes sure that the tick comes when a watch waits for it. */
static void want_tick(struct watch_hub *hub)
{
    if (hub->ticking) return;
    hub->ticking = true;
    env_run_on(hub->env, ENV_NETWORK, &hub->arm);
}

/* The turn is over. With the lock held; false: the watch is closed and `deliver` frees it. */
static bool turn_ended(struct hkv_watch *w, bool told, bool failed)
{
    struct watch_hub *hub = w->hub;
    w->scheduled = false;
    if (atomic_load(&w->closed)) return false;
    w->failing = failed;
    bool behind = is_caught_up(w) && w->position.number != w->reported.number;
    if (told || !w->behind) w->quiet_since_us = env_mono_us(hub->env);
    w->behind = behind;
    if (failed || w->behind) want_tick(hub);
    if (!failed && (!is_caught_up(w) || w->announce)) schedule(w);
    return true;
}

static void deliver(struct job *job)
{
    struct hkv_watch *w = (struct hkv_watch *)(void *)job;
    struct watch_hub *hub = w->hub;
    uint64_t reported = w->reported.number;
    bool failed = false;
    (void)pthread_mutex_lock(&hub->lock);
    hub->running = w;
    hub->running_thread = pthread_self();
    for (size_t budget = WATCH_TURN_EVENTS; budget > 0 && !failed && !is_stopped(w);) {
        struct step step = next_step(w);
        if (step.kind == STEP_NONE) break;
        (void)pthread_mutex_unlock(&hub->lock);
        size_t done = take_step(w, &step);
        failed = done == 0;
        budget -= done < budget ? done : budget;
        (void)pthread_mutex_lock(&hub->lock);
    }
    hub->running = NULL;
    bool alive = turn_ended(w, w->reported.number != reported, failed);
    (void)pthread_cond_broadcast(&hub->idle);
    (void)pthread_mutex_unlock(&hub->lock);
    if (!alive) watch_free(w);
}

/* ------------------------------------------------------------------------------------------ ticks (network thread) */

static void hub_arm(struct job *job)
{
    struct watch_hub *hub = (struct watch_hub *)(void *)job;
    if (!hub->timer_ended) env_timer_set(hub->env, &hub->timer, env_mono_us(hub->env) + WATCH_TICK_US);
}

static void hub_tick(struct env_timer *timer)
{
    struct watch_hub *hub = (struct watch_hub *)(void *)((char *)timer - offsetof(struct watch_hub, timer));
    uint64_t now_us = env_mono_us(hub->env);
    bool more = false;
    (void)pthread_mutex_lock(&hub->lock);
    for (struct hkv_watch *w = hub->first; w != NULL; w = w->next) {
        bool due = w->behind && now_us - w->quiet_since_us >= WATCH_QUIET_US;
        if (due) w->progress_due = true;
        if (due || w->failing) schedule(w);
        more = more || w->behind || w->failing;
    }
    hub->ticking = more;
    (void)pthread_mutex_unlock(&hub->lock);
    if (more) env_timer_set(hub->env, timer, now_us + WATCH_TICK_US);
}

void watch_hub_end_timer(struct watch_hub *hub)
{
    hub->timer_ended = true;
    env_timer_cancel(hub->env, &hub->timer);
}

/* ------------------------------------------------------------------------------------------ publishing */

/* With the lock held. */
static void schedule_all(struct watch_hub *hub)
{
    for (struct hkv_watch *w = hub->first; w != NULL; w = w->next) schedule(w);
}

/* With the lock held. NULL: no memory, or too much for it; the tail begins anew, and the watches turn to the log. */
static void publish(struct watch_hub *hub, struct watch_batch *batch)
{
    if (batch != NULL) {
        tail_append(hub, batch);
    } else {
        tail_clear(hub);
        hub->tail_begin = ++hub->tail_end; /* a watch that had seen all of the tail lacks something, too */
    }
    schedule_all(hub);
}

void watch_publish_changes(struct watch_hub *hub, struct kv_changes *changes)
{
    if (changes->count == 0) return;
    uint64_t last = changes->last;
    bool whole = changes->items[changes->count - 1].position == last; /* else the rest is in the log alone */
    (void)pthread_mutex_lock(&hub->lock);
    hub->published = last;
    if (hub->first == NULL) {
        hub->tail_from = last;
        (void)pthread_mutex_unlock(&hub->lock);
        return;
    }
    struct watch_batch *batch = whole ? batch_new() : NULL;
    if (batch != NULL) {
        for (size_t i = 0; i < changes->count; i++) batch->bytes += sizeof *changes->items + changes->items[i].key.cap;
        batch->changes = *changes;
        *changes = (struct kv_changes){0};
    }
    publish(hub, batch);
    (void)pthread_mutex_unlock(&hub->lock);
}

void watch_publish_epoch(struct watch_hub *hub)
{
    struct kv_counts counts;
    kv_counts(hub->kv, &counts);
    (void)pthread_mutex_lock(&hub->lock);
    tail_clear(hub);
    hub->epoch = kv_epoch(hub->kv);
    hub->published = hub->tail_from = counts.position;
    schedule_all(hub);
    (void)pthread_mutex_unlock(&hub->lock);
}

void watch_publish_sync(struct watch_hub *hub, const struct hkv_event *event)
{
    (void)pthread_mutex_lock(&hub->lock);
    struct watch_batch *batch = hub->first == NULL ? NULL : batch_new();
    if (batch != NULL) {
        batch->sync = *event;
        if (event->peer != NULL) {
            memcpy(batch->peer, event->peer, sizeof batch->peer);
            batch->sync.peer = batch->peer;
        }
        publish(hub, batch);
    }
    (void)pthread_mutex_unlock(&hub->lock);
}

/* ------------------------------------------------------------------------------------------ open, close */

void watch_hub_init(struct watch_hub *hub, struct env *env, struct kv *kv)
{
    struct kv_counts counts;
    kv_counts(kv, &counts);
    *hub = (struct watch_hub){
        .arm.run = hub_arm,
        .env = env,
        .kv = kv,
        .timer.fire = hub_tick,
        .epoch = kv_epoch(kv),
        .published = counts.position,
        .tail_from = counts.position,
        .tail_changes_max = WATCH_TAIL_CHANGES_MAX,
    };
    (void)pthread_mutex_init(&hub->lock, NULL);
    (void)pthread_cond_init(&hub->idle, NULL);
}

void watch_hub_fini(struct watch_hub *hub)
{
    assert(hub->first == NULL && hub->tail_begin == hub->tail_end);
    (void)pthread_cond_destroy(&hub->idle);
    (void)pthread_mutex_destroy(&hub->lock);
}

static enum hkv_err watch_new(struct watch_hub *hub, const struct hkv_watch_options *options, hkv_event_fn event,
                              void *arg, struct hkv_watch **out)
{
    struct hkv_watch *w = calloc(1, sizeof *w);
    if (w == NULL) return error_set(HKV_E_NOMEM, "no memory for a watch");
    w->deliver.run = deliver;
    w->hub = hub;
    w->event = event;
    w->arg = arg;
    w->list = options->list;
    w->announce = true;
    enum hkv_err err = buf_append_slice(&w->prefix, slice_of(options->prefix, options->prefix_bytes));
    if (err == HKV_OK && w->list) err = buf_reserve(&w->listed, HKV_KEY_MAX);
    if (err != HKV_OK) {
        watch_free(w);
        return err;
    }
    *out = w;
    return HKV_OK;
}

/* With the lock held: where the watch begins. */
static void begin(struct hkv_watch *w, const struct hkv_position *from)
{
    w->position = from != NULL ? *from : (struct hkv_position){w->hub->epoch, w->hub->published};
    w->reported = w->position;
    w->state = WATCH_LOG;
    if (from == NULL && w->list) begin_listing(w);
}

enum hkv_err watch_open(struct watch_hub *hub, const struct hkv_watch_options *options, hkv_event_fn event, void *arg,
                        struct hkv_watch **out)
{
    struct hkv_watch *w;
    TRY(watch_new(hub, options, event, arg, &w));
    (void)pthread_mutex_lock(&hub->lock);
    bool room = hub->count < HKV_WATCH_MAX;
    if (room) {
        begin(w, options->from);
        w->next = hub->first;
        hub->first = w;
        hub->count++;
        *out = w;
        schedule(w);
    }
    (void)pthread_mutex_unlock(&hub->lock);
    if (room) return HKV_OK;
    watch_free(w);
    return error_set(HKV_E_LIMIT, "%d watches are open, which is the limit; close some", HKV_WATCH_MAX);
}

void watch_pause(struct hkv_watch *w)
{
    atomic_store(&w->paused, true);
}

void watch_resume(struct hkv_watch *w)
{
    (void)pthread_mutex_lock(&w->hub->lock);
    atomic_store(&w->paused, false);
    schedule(w);
    (void)pthread_mutex_unlock(&w->hub->lock);
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
    if (w->hub->first == NULL) tail_clear(w->hub); /* nobody reads it */
    atomic_store(&w->closed, true);
    return !w->scheduled;
}

void watch_close(struct hkv_watch *w)
{
    struct watch_hub *hub = w->hub;
    (void)pthread_mutex_lock(&hub->lock);
    bool release = detach(w);
    /* `deliver` frees the watch when it leaves it: from here on its address is compared, not followed. */
    while (hub->running == w && !pthread_equal(hub->running_thread, pthread_self()))
        (void)pthread_cond_wait(&hub->idle, &hub->lock);
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
