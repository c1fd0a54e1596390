#include "node/fetch.h"

#include <assert.h>
#include <stdlib.h>

#include "base/text.h"
#include "blobs/request.h"
#include "node/fetch_parts.h"
#include "node/sync.h"

#define FETCH_DEAD_US       ((uint64_t)2000000)   /* an unreachable peer is not dialled again before */
#define FETCH_ARRIVING_MAX  ((size_t)8 << 20)     /* bytes of small values on their way into the store */
#define FETCH_REQUEUE_BELOW (FETCH_QUEUE_MAX / 2) /* items in hand, below which more are taken */

static void pump(struct fetch_peer *peer);

/* ------------------------------------------------------------------------------------------ items */

static void items_init(struct fetch_items *items)
{
    *items = (struct fetch_items){.last = &items->first};
}

void fetch_items_push(struct fetch_items *items, struct fetch_item *item)
{
    item->next = NULL;
    *items->last = item;
    items->last = &item->next;
    items->count++;
}

struct fetch_item *fetch_items_pop(struct fetch_items *items)
{
    struct fetch_item *item = items->first;
    if (item == NULL) return NULL;
    items->first = item->next;
    if (items->first == NULL) items->last = &items->first;
    items->count--;
    return item;
}

static void check_closed(struct fetcher *fetcher)
{
    if (fetcher->closed_done == NULL || fetcher->tasks != 0) return;
    for (struct fetch_peer *p = fetcher->peers; p != NULL; p = p->next)
        if (p->conn != NULL) return;
    void (*done)(void *arg) = fetcher->closed_done;
    fetcher->closed_done = NULL;
    done(fetcher->closed_arg);
}

void fetch_task_ended(struct fetcher *fetcher)
{
    fetcher->tasks--;
    check_closed(fetcher);
}

void fetch_item_end(struct fetcher *fetcher, struct fetch_item *item)
{
    fetch_large_free(item->transfer);
    free(item);
    fetcher->item_count--;
    if (fetcher->item_count == FETCH_REQUEUE_BELOW || fetcher->item_count == 0) fetcher_kick(fetcher);
}

/* ---------------------------------------------------------------------------------------- back to the store: failed */

struct failed_task {
    struct commit_task task; /* first */
    struct job job;
    struct fetcher *fetcher;
    struct hash hash;
    uint64_t now_us;
    enum hkv_err err;
    struct failed_task *next; /* waits for `retry` */
};

static enum hkv_err failed_apply(struct commit_task *task, struct kv *kv)
{
    struct failed_task *failed = (struct failed_task *)(void *)task;
    return kv_value_failed(kv, &failed->hash, failed->now_us);
}

/* The disk is failing: without its note in the store the value would be fetched again at once, or never. */
static void failed_later(struct fetcher *fetcher, struct failed_task *failed)
{
    struct env *env = node_env(fetcher->store);
    failed->next = fetcher->failed;
    fetcher->failed = failed;
    if (fetcher->retry.due_us == 0) env_timer_set(env, &fetcher->retry, env_mono_us(env) + FETCH_RETRY_US);
}

static void failed_done(struct job *job)
{
    struct failed_task *failed = (struct failed_task *)(void *)((char *)job - offsetof(struct failed_task, job));
    struct fetcher *fetcher = failed->fetcher;
    if (failed->err != HKV_OK && !fetcher->closing) {
        failed_later(fetcher, failed);
    } else {
        free(failed);
        fetcher_kick(fetcher); /* learns when the next is due */
    }
    fetch_task_ended(fetcher);
}

static void failed_complete(struct commit_task *task, enum hkv_err err)
{
    struct failed_task *failed = (struct failed_task *)(void *)task;
    failed->err = err;
    failed->job.run = failed_done;
    env_run_on(node_env(failed->fetcher->store), ENV_NETWORK, &failed->job);
}

static void failed_submit(struct failed_task *failed)
{
    struct fetcher *fetcher = failed->fetcher;
    failed->task = (struct commit_task){.apply = failed_apply, .complete = failed_complete};
    failed->now_us = kv_steady_us(fetcher->store->kv);
    fetcher->tasks++;
    committer_submit(&fetcher->store->committer, &failed->task);
}

static void retry_fired(struct env_timer *timer)
{
    struct fetcher *fetcher = (struct fetcher *)(void *)((char *)timer - offsetof(struct fetcher, retry));
    struct failed_task *failed = fetcher->failed, *next;
    fetcher->failed = NULL;
    for (; failed != NULL; failed = next) {
        next = failed->next;
        failed_submit(failed);
    }
}

static void item_failed(struct fetcher *fetcher, struct fetch_item *item)
{
    struct failed_task *failed = fetcher->closing ? NULL : calloc(1, sizeof *failed);
    if (failed != NULL) {
        failed->fetcher = fetcher;
        failed->hash = item->wanted.hash;
        failed_submit(failed);
    }
    fetch_item_end(fetcher, item);
}

/* ------------------------------------------------------------------------------------------ candidates */

static struct fetch_peer *fetch_peer_get(struct fetcher *fetcher, const struct endpoint_id *id);
static bool dial(struct fetch_peer *peer);

/* The candidate's id, or NULL when it is none (a repeat, removed, without address); `*end` past the last. */
static const struct endpoint_id *candidate_id(const struct fetcher *fetcher, const struct fetch_item *item, bool *end)
{
    const struct kv_wanted *w = &item->wanted;
    const struct peers *peers = &fetcher->store->peers;
    *end = false;
    if (item->candidate < w->provider_count) return &w->providers[item->candidate];
    if (item->candidate - w->provider_count >= peers->count) {
        *end = true;
        return NULL;
    }
    const struct peer *peer = peers->items[item->candidate - w->provider_count];
    for (size_t i = 0; i < w->provider_count; i++)
        if (endpoint_id_equal(&w->providers[i], &peer->id)) return NULL;
    return peer_is_selected(peer) ? &peer->id : NULL;
}

/* After all others, those that were passed over have their turn, once. False: there are none. */
static bool go_back(struct fetch_item *item)
{
    if (item->passed_over == FETCH_NOBODY || item->insists) return false;
    item->candidate = item->passed_over;
    item->insists = true;
    return true;
}

/* Somebody came who may have what only a shunned peer seemed to have. */
static void begin_again(const struct fetcher *fetcher, struct fetch_item *item)
{
    bool news = item->insists && item->wakes != fetcher->wakes && item->candidate != FETCH_NOBODY;
    item->wakes = fetcher->wakes;
    if (!news) return;
    item->candidate = 0;
    item->passed_over = FETCH_NOBODY;
    item->insists = false;
}

static bool pass_over(struct fetch_item *item, const struct fetch_peer *peer, uint64_t now_us)
{
    if (item->insists || peer->shunned_until_us <= now_us) return false;
    if (item->passed_over == FETCH_NOBODY) item->passed_over = item->candidate;
    return true;
}

/* Puts the item into the queue of its present candidate, or of the first one behind it that can be tried. */
static void item_assign(struct fetcher *fetcher, struct fetch_item *item)
{
    uint64_t now_us = env_mono_us(node_env(fetcher->store));
    begin_again(fetcher, item);
    for (; item->candidate != FETCH_NOBODY; item->candidate++) {
        bool end;
        const struct endpoint_id *id = candidate_id(fetcher, item, &end);
        if (end && !go_back(item)) break;
        if (end) id = candidate_id(fetcher, item, &end);
        const struct peer *known = id == NULL ? NULL : peers_find(&fetcher->store->peers, id);
        if (known == NULL || known->addrs.count == 0) continue;
        struct fetch_peer *peer = fetch_peer_get(fetcher, id);
        if (peer == NULL || (!peer->opened && peer->dead_until_us > now_us)) continue;
        if (pass_over(item, peer, now_us)) continue;
        if (peer->conn == NULL && !dial(peer)) continue;
        fetch_items_push(&peer->waiting, item);
        pump(peer);
        return;
    }
    item_failed(fetcher, item);
}

void fetch_item_next(struct fetcher *fetcher, struct fetch_item *item)
{
    if (fetcher->closing) {
        fetch_item_end(fetcher, item);
        return;
    }
    if (item->candidate != FETCH_NOBODY) item->candidate++;
    item->is_moved = false;
    if (item->resized) item->wanted.length = item->entry_length;
    item->resized = false;
    item_assign(fetcher, item);
}

/* ---------------------------------------------------------------------------------------- small values to the store */

struct arrived {
    struct hash hash;
    struct buf content;
};

struct values_task {
    struct commit_task task; /* first */
    struct job job;
    struct fetcher *fetcher;
    struct fetch_item *items[FETCH_BATCH_VALUES];
    struct arrived values[FETCH_BATCH_VALUES];
    size_t count;
    size_t bytes;
    enum hkv_err err;
};

static enum hkv_err values_apply(struct commit_task *task, struct kv *kv)
{
    struct values_task *v = (struct values_task *)(void *)task;
    for (size_t i = 0; i < v->count; i++)
        TRY(kv_value_arrived(kv, &v->values[i].hash, buf_slice(&v->values[i].content), NULL));
    return HKV_OK;
}

static void resume_all(struct fetcher *fetcher)
{
    for (struct fetch_peer *p = fetcher->peers; p != NULL; p = p->next)
        for (struct fetch_request *r = p->requests; r != NULL; r = r->next)
            if (r->transfer == NULL) fetch_request_resume(r);
}

static void values_done(struct job *job)
{
    struct values_task *v = (struct values_task *)(void *)((char *)job - offsetof(struct values_task, job));
    struct fetcher *fetcher = v->fetcher;
    bool full = fetcher->arriving_bytes > FETCH_ARRIVING_MAX;
    fetcher->arriving_bytes -= v->bytes;
    for (size_t i = 0; i < v->count; i++) {
        buf_fini(&v->values[i].content);
        if (v->err == HKV_OK) {
            fetch_item_end(fetcher, v->items[i]);
        } else {
            v->items[i]->candidate = FETCH_NOBODY;
            fetch_item_next(fetcher, v->items[i]);
        }
    }
    if (v->err == HKV_OK) sync_values_changed(fetcher->store->sync);
    free(v);
    if (full) resume_all(fetcher);
    fetch_task_ended(fetcher);
}

static void values_complete(struct commit_task *task, enum hkv_err err)
{
    struct values_task *v = (struct values_task *)(void *)task;
    v->err = err;
    if (err != HKV_OK)
        node_log(v->fetcher->store, HKV_LOG_ERROR, "values", "fetched values cannot be stored: %s", error_last());
    v->job.run = values_done;
    env_run_on(node_env(v->fetcher->store), ENV_NETWORK, &v->job);
}

static void values_submit(struct fetch_request *r)
{
    struct values_task *v = r->values;
    if (v == NULL) return;
    r->values = NULL;
    v->task.apply = values_apply;
    v->task.complete = values_complete;
    r->peer->fetcher->arriving_bytes += v->bytes;
    r->peer->fetcher->tasks++;
    committer_submit(&v->fetcher->store->committer, &v->task);
}

/* The content of the item at `r->ended` is whole. */
static enum hkv_err value_received(struct fetch_request *r)
{
    struct values_task *v = r->values;
    if (v == NULL) {
        v = calloc(1, sizeof *v);
        if (v == NULL) return error_set(HKV_E_NOMEM, "no memory for fetched values");
        v->fetcher = r->peer->fetcher;
        r->values = v;
    }
    v->items[v->count] = r->items[r->ended];
    v->values[v->count].hash = r->items[r->ended]->wanted.hash;
    v->bytes += r->content.len;
    v->values[v->count].content = buf_take(&r->content);
    v->count++;
    r->ended++;
    if (v->count == FETCH_BATCH_VALUES || v->bytes >= FETCH_BATCH_BYTES) values_submit(r);
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ one request */

static bool request_is_full(const struct fetch_request *r)
{
    if (r->transfer != NULL) return fetch_large_is_full(r);
    return r->peer->fetcher->arriving_bytes > FETCH_ARRIVING_MAX;
}

static void request_progress(struct fetch_request *r)
{
    struct hkv_store *store = r->peer->fetcher->store;
    r->mark = r->received;
    env_timer_set(node_env(store), &r->progress, env_mono_us(node_env(store)) + store->patience.fetch_progress_us);
}

/* Nothing more is taken from the stream. A peer that does not let go of it loses the connection, and with it the items.
 */
static void request_stop(struct fetch_request *r)
{
    struct hkv_store *store = r->peer->fetcher->store;
    r->over = true;
    transport_stream_stop(r->stream, BLOBS_CODE_DROPPED);
    env_timer_set(node_env(store), &r->progress, env_mono_us(node_env(store)) + store->patience.fetch_stop_us);
}

static void move_waiting(struct fetch_peer *peer, bool same_candidate);

/* What waits for the peer, and what it was asked for, goes to others first. It is not left alone for good: of what only
 * it has, one bad value should not keep the others away. */
static void peer_shun(struct fetch_peer *peer)
{
    peer->shunned_until_us = env_mono_us(node_env(peer->fetcher->store)) + FETCH_SHUN_US;
    move_waiting(peer, true);
}

static void progress_fired(struct env_timer *timer)
{
    struct fetch_request *r =
        (struct fetch_request *)(void *)((char *)timer - offsetof(struct fetch_request, progress));
    struct fetch_peer *peer = r->peer;
    if (r->over) {
        peer->dead_until_us = env_mono_us(node_env(peer->fetcher->store)) + FETCH_DEAD_US;
        transport_conn_close(peer->conn, BLOBS_CODE_DROPPED, "a stream was left open");
    } else if (request_is_full(r) || r->received - r->mark >= FETCH_PROGRESS_BYTES) {
        request_progress(r);
    } else {
        node_log(peer->fetcher->store, HKV_LOG_DEBUG, "values", "a peer sends nothing; its transfer is given up");
        r->misbehaved = true;
        transport_stream_reset(r->stream, BLOBS_CODE_DROPPED);
        request_stop(r);
        peer_shun(peer);
    }
}

void fetch_request_done(struct fetch_request *r)
{
    r->transfer = NULL;
    r->ended = r->item_count;
}

void fetch_request_drop(struct fetch_request *r)
{
    fetch_request_done(r);
    request_stop(r);
}

static enum hkv_err request_event(struct fetch_request *r, const struct blobs_fetch_event *event)
{
    if (r->transfer != NULL) return fetch_large_event(r, event);
    if (event->kind == BLOBS_FETCH_LEAF) return buf_append_slice(&r->content, event->data);
    if (event->kind == BLOBS_FETCH_BLOB_DONE) return value_received(r);
    return HKV_OK;
}

static enum hkv_err request_feed(struct fetch_request *r, struct slice bytes)
{
    struct blobs_fetch_event event;
    do {
        size_t consumed;
        TRY(blobs_fetch_feed(&r->fetch, bytes, &consumed, &event));
        bytes = slice_part(bytes, consumed, bytes.len);
        TRY(request_event(r, &event));
    } while (event.kind != BLOBS_FETCH_NEED_MORE && event.kind != BLOBS_FETCH_DONE);
    return HKV_OK;
}

void fetch_request_resume(struct fetch_request *r)
{
    if (r->unconsumed == 0 || r->stream == NULL || request_is_full(r)) return;
    size_t len = r->unconsumed;
    r->unconsumed = 0;
    transport_stream_consumed(r->stream, len);
}

/* The provider says that a value is larger than a small one may be, whatever its entry says: it is asked for once more
 * as a large one, of which the first leaf proves who lies. */
static void request_resize(struct fetch_request *r)
{
    if (r->transfer != NULL || r->ended >= r->item_count || r->items[r->ended]->resized) return;
    if (r->fetch.size_bytes > r->peer->fetcher->store->max_value_bytes + KV_CONTENT_HEAD_BYTES) return;
    r->items[r->ended]->entry_length = r->items[r->ended]->wanted.length;
    r->items[r->ended]->wanted.length = r->fetch.size_bytes;
    r->items[r->ended]->resized = true;
}

static void stream_data(struct transport_stream *stream, struct slice bytes, bool fin)
{
    struct fetch_request *r = transport_stream_user(stream);
    (void)fin;
    if (r->over) return;
    enum hkv_err err = bytes.len == 0 ? HKV_OK : request_feed(r, bytes);
    if (err != HKV_OK) {
        char id[ID_TEXT_MAX];
        node_log(r->peer->fetcher->store, HKV_LOG_WARN, "values", "transfer from %s ends: %s",
                 id_format(r->peer->id.bytes, id), error_last());
        bool too_large = r->fetch.failure == BLOBS_FETCH_FAILURE_TOO_LARGE; /* the entry may have lied, too */
        r->misbehaved = err == HKV_E_PEER_PROTOCOL && !too_large;
        if (too_large) request_resize(r);
        request_stop(r);
        if (r->misbehaved) peer_shun(r->peer);
        return;
    }
    r->received += bytes.len;
    r->unconsumed += bytes.len;
    fetch_request_resume(r);
}

static void request_unlink(struct fetch_request *r)
{
    struct fetch_request **at = &r->peer->requests;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    r->peer->request_count--;
}

/* Whether the last session with the peer was at another address than its connection is. The peer may have moved; or two
 * processes run on copies of one data directory (holders.h), and the values of its entries are with the one that sent
 * them. */
static bool is_elsewhere(const struct fetch_peer *peer)
{
    const struct peer *known = peers_find(&peer->fetcher->store->peers, &peer->id);
    struct transport_path_info path;
    if (peer->conn == NULL || !peer->opened || known == NULL || known->met.port == 0) return false;
    transport_conn_path(peer->conn, &path);
    return socket_address_compare(&path.remote, &known->met) != 0;
}

/* What the end of the stream leaves undone: the first unfinished item goes on to its next candidate, unless this one is
 * elsewhere, and so do all of them when the connection is gone; the others are asked for again here, or of others first
 * when the peer is shunned. */
static void request_settle(struct fetch_request *r)
{
    struct fetch_peer *peer = r->peer;
    bool complete = r->transfer != NULL && fetch_large_is_complete(r);
    if (complete) r->ended = r->item_count;
    bool was_large = r->transfer != NULL;
    fetch_large_detach(r);
    values_submit(r);
    peer->useful = peer->useful || r->ended > 0;
    for (size_t i = r->ended; i < r->item_count; i++) {
        bool failed = i == r->ended && (was_large || !r->items[i]->resized);
        if (failed && !r->misbehaved && !r->items[i]->is_moved && is_elsewhere(peer)) {
            r->items[i]->is_moved = peer->at_met = true;
            fetch_items_push(&peer->waiting, r->items[i]);
        } else if (failed || peer->conn == NULL) {
            fetch_item_next(peer->fetcher, r->items[i]);
        } else if (r->misbehaved) {
            item_assign(peer->fetcher, r->items[i]);
        } else {
            fetch_items_push(&peer->waiting, r->items[i]);
        }
    }
}

static void request_free(struct fetch_request *r)
{
    blobs_fetch_fini(&r->fetch);
    buf_fini(&r->content);
    free(r->items);
    free(r);
}

static void stream_closed(struct transport_stream *stream)
{
    struct fetch_request *r = transport_stream_user(stream);
    struct fetch_peer *peer = r->peer;
    env_timer_cancel(node_env(peer->fetcher->store), &r->progress);
    r->stream = NULL;
    request_unlink(r);
    request_settle(r);
    request_free(r);
    pump(peer);
}

static void stream_reset(struct transport_stream *stream, uint64_t code)
{
    (void)stream, (void)code; /* `closed` follows: our own side is finished */
}

static void stream_stopped(struct transport_stream *stream, uint64_t code)
{
    (void)stream, (void)code;
}

static void stream_nothing(struct transport_stream *stream)
{
    (void)stream;
}

static const struct transport_stream_events stream_events = {
    .data = stream_data,
    .writable = stream_nothing,
    .finished = stream_nothing,
    .reset = stream_reset,
    .stopped = stream_stopped,
    .closed = stream_closed,
};

/* Takes from the queue what one request asks for: one large value, or many small ones. */
static enum hkv_err request_fill(struct fetch_request *r)
{
    struct fetch_items *waiting = &r->peer->waiting;
    uint64_t bytes = 0;
    while (waiting->first != NULL && r->item_count < FETCH_BATCH_VALUES) {
        uint64_t length = waiting->first->wanted.length;
        bool large = length > KV_VALUE_INLINE_MAX;
        if (r->item_count > 0 && (large || bytes + length > FETCH_BATCH_BYTES)) break;
        r->items[r->item_count++] = fetch_items_pop(waiting);
        if (large) return fetch_large_begin(r, r->items[0]);
        bytes += length;
    }
    struct blobs_want *wants = calloc(r->item_count, sizeof *wants);
    if (wants == NULL) return error_set(HKV_E_NOMEM, "no memory to fetch values");
    for (size_t i = 0; i < r->item_count; i++)
        wants[i] = (struct blobs_want){.hash = r->items[i]->wanted.hash, .size_bytes = BLOBS_SIZE_UNKNOWN};
    enum hkv_err err = blobs_fetch_init_many(&r->fetch, wants, r->item_count, KV_VALUE_INLINE_MAX);
    free(wants);
    return err;
}

static enum hkv_err request_send(struct fetch_request *r)
{
    TRY(transport_stream_open(r->peer->conn, &stream_events, r, &r->stream));
    enum hkv_err err = transport_stream_write(r->stream, &r->fetch.request_bytes);
    if (err == HKV_OK)
        transport_stream_finish(r->stream);
    else
        transport_stream_reset(r->stream, BLOBS_CODE_DROPPED);
    return HKV_OK; /* from here on `closed` settles it */
}

static bool request_begin(struct fetch_peer *peer)
{
    struct fetch_request *r = calloc(1, sizeof *r);
    if (r == NULL) return false;
    r->peer = peer;
    r->progress.fire = progress_fired;
    r->items = calloc(FETCH_BATCH_VALUES, sizeof(struct fetch_item *));
    r->next = peer->requests;
    peer->requests = r;
    peer->request_count++;
    enum hkv_err err = r->items == NULL ? HKV_E_NOMEM : request_fill(r);
    if (err == HKV_OK) err = request_send(r);
    if (err == HKV_OK) {
        request_progress(r);
        return true;
    }
    request_unlink(r);
    fetch_large_detach(r);
    for (size_t i = 0; i < r->item_count; i++) fetch_item_next(peer->fetcher, r->items[i]);
    request_free(r);
    return false;
}

/* ------------------------------------------------------------------------------------------ connections */

static void conn_opened(struct transport_conn *conn)
{
    struct fetch_peer *peer = transport_conn_user(conn);
    peer->opened = true;
    pump(peer);
}

static bool conn_stream(struct transport_conn *conn, struct transport_stream *stream)
{
    (void)conn, (void)stream;
    return false; /* we are the getter here */
}

/* What waits for a connection goes on to others. */
static void move_waiting(struct fetch_peer *peer, bool same_candidate)
{
    struct fetcher *fetcher = peer->fetcher;
    struct fetch_items waiting = peer->waiting;
    if (waiting.first == NULL) return;
    items_init(&peer->waiting);
    for (struct fetch_item *item = waiting.first, *next; item != NULL; item = next) {
        next = item->next;
        if (same_candidate && !fetcher->closing)
            item_assign(fetcher, item);
        else
            fetch_item_next(fetcher, item);
    }
}

static void conn_closed(struct transport_conn *conn, enum hkv_err err, uint64_t code, const char *why)
{
    struct fetch_peer *peer = transport_conn_user(conn);
    struct fetcher *fetcher = peer->fetcher;
    struct env *env = node_env(fetcher->store);
    (void)code;
    if (err != HKV_OK && !fetcher->closing) {
        char id[ID_TEXT_MAX];
        node_log(fetcher->store, HKV_LOG_DEBUG, "values", "no values from %s: %s", id_format(peer->id.bytes, id), why);
        peer->dead_until_us = env_mono_us(env) + FETCH_DEAD_US;
    }
    peer->conn = NULL;
    peer->opened = false;
    env_timer_cancel(env, &peer->idle);
    /* Closed in order, when it was unused: the items may dial again. */
    move_waiting(peer, err == HKV_OK && (peer->useful || peer->at_met));
    check_closed(fetcher);
}

static const struct transport_conn_events conn_events = {
    .opened = conn_opened, .stream = conn_stream, .closed = conn_closed};

static void idle_fired(struct env_timer *timer)
{
    struct fetch_peer *peer = (struct fetch_peer *)(void *)((char *)timer - offsetof(struct fetch_peer, idle));
    if (peer->conn != NULL && !peer->opened) {
        struct env *env = node_env(peer->fetcher->store);
        peer->dead_until_us = env_mono_us(env) + FETCH_DEAD_US;
        env_timer_set(env, &peer->idle, env_mono_us(env) + FETCH_DIAL_US);
        move_waiting(peer, false);
    } else if (peer->conn != NULL && peer->requests == NULL)
        transport_conn_close(peer->conn, 0, "idle");
}

static struct fetch_peer *fetch_peer_get(struct fetcher *fetcher, const struct endpoint_id *id)
{
    struct fetch_peer *unused = NULL;
    for (struct fetch_peer *p = fetcher->peers; p != NULL; p = p->next) {
        if (endpoint_id_equal(&p->id, id)) return p;
        if (p->conn == NULL && p->waiting.first == NULL && p->requests == NULL) unused = p;
    }
    if (fetcher->peer_count == FETCH_PEERS_MAX) {
        if (unused == NULL) return NULL;
        unused->id = *id;
        unused->dead_until_us = unused->shunned_until_us = 0;
        return unused;
    }
    struct fetch_peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL) return NULL;
    peer->fetcher = fetcher;
    peer->id = *id;
    peer->idle.fire = idle_fired;
    items_init(&peer->waiting);
    peer->next = fetcher->peers;
    fetcher->peers = peer;
    fetcher->peer_count++;
    return peer;
}

/* False: it cannot be dialled now, and is not tried again for a while. */
static bool dial(struct fetch_peer *peer)
{
    struct fetcher *fetcher = peer->fetcher;
    struct env *env = node_env(fetcher->store);
    const struct peer *known = peers_find(&fetcher->store->peers, &peer->id);
    struct address met = {.kind = ADDRESS_IP};
    struct address_set only = {.items = &met, .count = 1};
    peer->useful = false;
    if (known != NULL) met.socket = known->met;
    const struct address_set *addrs = known != NULL && peer->at_met ? &only : known != NULL ? &known->addrs : NULL;
    peer->at_met = false;
    enum hkv_err err = known == NULL ? HKV_E_PEER_UNREACHABLE
                                     : transport_dial(fetcher->store->transport, &peer->id, addrs,
                                                      slice_of_text(FETCH_ALPN), &conn_events, peer, &peer->conn);
    if (err == HKV_OK) {
        env_timer_set(env, &peer->idle, env_mono_us(env) + FETCH_DIAL_US);
        return true;
    }
    peer->conn = NULL;
    peer->dead_until_us = env_mono_us(env) + FETCH_DEAD_US;
    return false;
}

static void pump(struct fetch_peer *peer)
{
    struct fetcher *fetcher = peer->fetcher;
    struct env *env = node_env(fetcher->store);
    if (fetcher->closing) return;
    if (peer->conn == NULL || !peer->opened) return;
    if (peer->at_met && is_elsewhere(peer)) {
        if (peer->requests == NULL) transport_conn_close(peer->conn, 0, "another address");
        return;
    }
    while (peer->waiting.first != NULL && peer->request_count < FETCH_STREAMS_MAX)
        if (!request_begin(peer)) break;
    if (peer->requests == NULL)
        env_timer_set(env, &peer->idle, env_mono_us(env) + FETCH_IDLE_US);
    else
        env_timer_cancel(env, &peer->idle);
}

/* ------------------------------------------------------------------------------------------ what is wanted */

struct take_task {
    struct commit_task task; /* first */
    struct job job;
    struct fetcher *fetcher;
    bool wake;
    struct endpoint_id waker;
    size_t max;
    uint64_t now_us;
    struct kv_wanted *wanted;
    size_t count;
    uint64_t next_due_us;
    enum hkv_err err;
};

static enum hkv_err take_apply(struct commit_task *task, struct kv *kv)
{
    struct take_task *take = (struct take_task *)(void *)task;
    if (take->wake) TRY(kv_wanted_wake(kv, &take->waker));
    return kv_wanted_take(kv, take->now_us, take->max, take->wanted, &take->count, &take->next_due_us);
}

/* More is taken when enough items have ended. */
static bool is_full(const struct fetcher *fetcher)
{
    return fetcher->item_count >= FETCH_QUEUE_MAX;
}

static void take_items(struct fetcher *fetcher, const struct take_task *take)
{
    for (size_t i = 0; i < take->count; i++) {
        struct fetch_item *item = calloc(1, sizeof *item);
        if (item == NULL) return; /* taken until the next start */
        item->wanted = take->wanted[i];
        item->passed_over = FETCH_NOBODY;
        fetcher->item_count++;
        item_assign(fetcher, item);
    }
}

static void take_done(struct job *job)
{
    struct take_task *take = (struct take_task *)(void *)((char *)job - offsetof(struct take_task, job));
    struct fetcher *fetcher = take->fetcher;
    struct env *env = node_env(fetcher->store);
    fetcher->asking = false;
    if (!fetcher->closing && take->err == HKV_OK) {
        take_items(fetcher, take);
        if (take->next_due_us > 0 && !is_full(fetcher)) {
            uint64_t wait_us = take->next_due_us > take->now_us ? take->next_due_us - take->now_us : 0;
            env_timer_set(env, &fetcher->timer, env_mono_us(env) + wait_us + 1000);
        }
        if (fetcher->again) {
            fetcher->again = false;
            fetcher_kick(fetcher);
        }
    } else if (!fetcher->closing) { /* the disk is failing; nothing else may ever ask again */
        env_timer_set(env, &fetcher->timer, env_mono_us(env) + FETCH_RETRY_US);
    }
    free(take->wanted);
    free(take);
    fetch_task_ended(fetcher);
}

static void take_complete(struct commit_task *task, enum hkv_err err)
{
    struct take_task *take = (struct take_task *)(void *)task;
    take->err = err;
    take->job.run = take_done;
    env_run_on(node_env(take->fetcher->store), ENV_NETWORK, &take->job);
}

static void take_begin(struct fetcher *fetcher, const struct endpoint_id *waker)
{
    size_t room = is_full(fetcher) ? 0 : FETCH_QUEUE_MAX - fetcher->item_count;
    struct take_task *take = fetcher->closing ? NULL : calloc(1, sizeof *take);
    if (take == NULL) return;
    take->wanted = malloc((room > 0 ? room : 1) * sizeof *take->wanted); /* a megabyte, of which little is touched */
    if (take->wanted == NULL) {
        free(take);
        return;
    }
    take->task.apply = take_apply;
    take->task.complete = take_complete;
    take->fetcher = fetcher;
    take->wake = waker != NULL;
    if (waker != NULL) take->waker = *waker;
    take->max = room;
    take->now_us = kv_steady_us(fetcher->store->kv);
    fetcher->asking = true;
    fetcher->tasks++;
    committer_submit(&fetcher->store->committer, &take->task);
}

void fetcher_kick(struct fetcher *fetcher)
{
    if (fetcher->asking) {
        fetcher->again = true;
        return;
    }
    if (!is_full(fetcher)) take_begin(fetcher, NULL);
}

void fetcher_wake(struct fetcher *fetcher, const struct endpoint_id *peer)
{
    struct fetch_peer *known = fetch_peer_get(fetcher, peer);
    if (known != NULL) {
        known->dead_until_us = 0;
        if (known->requests == NULL && known->waiting.count == 0 && is_elsewhere(known)) {
            known->at_met = true;
            pump(known);
        }
    }
    fetcher->wakes++;
    for (struct fetch_peer *p = fetcher->peers; p != NULL; p = p->next)
        if (p->shunned_until_us > 0) move_waiting(p, true);
    take_begin(fetcher, peer);
}

static void due_fired(struct env_timer *timer)
{
    fetcher_kick((struct fetcher *)(void *)((char *)timer - offsetof(struct fetcher, timer)));
}

/* ------------------------------------------------------------------------------------------ life cycle */

enum hkv_err fetcher_new(struct hkv_store *store, struct fetcher **out)
{
    struct fetcher *fetcher = calloc(1, sizeof *fetcher);
    if (fetcher == NULL) return error_set(HKV_E_NOMEM, "no memory to open a store");
    fetcher->store = store;
    fetcher->timer.fire = due_fired;
    fetcher->retry.fire = retry_fired;
    *out = fetcher;
    return HKV_OK;
}

void fetcher_close(struct fetcher *fetcher, void (*done)(void *arg), void *arg)
{
    fetcher->closing = true;
    fetcher->closed_done = done;
    fetcher->closed_arg = arg;
    env_timer_cancel(node_env(fetcher->store), &fetcher->timer);
    env_timer_cancel(node_env(fetcher->store), &fetcher->retry);
    for (struct failed_task *failed = fetcher->failed, *next; failed != NULL; failed = next) {
        next = failed->next;
        free(failed);
    }
    fetcher->failed = NULL;
    for (struct fetch_peer *p = fetcher->peers; p != NULL; p = p->next) {
        env_timer_cancel(node_env(fetcher->store), &p->idle);
        if (p->conn != NULL) transport_conn_close(p->conn, 0, "");
    }
    check_closed(fetcher);
}

void fetcher_free(struct fetcher *fetcher)
{
    if (fetcher == NULL) return;
    for (struct fetch_peer *p = fetcher->peers, *next; p != NULL; p = next) {
        next = p->next;
        assert(p->requests == NULL && p->conn == NULL && p->waiting.first == NULL);
        free(p);
    }
    free(fetcher);
}
