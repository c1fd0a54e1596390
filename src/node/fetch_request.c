/* One request to one peer: a stream, which brings many small values or one large one. */
#include <stdlib.h>

#include "base/text.h"
#include "blobs/request.h"
#include "node/fetch_parts.h"

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

/* What it was asked for goes elsewhere; what has come of it stays. */
static void request_give_up(struct fetch_request *r, const char *why)
{
    node_log(r->peer->fetcher->store, HKV_LOG_DEBUG, "values", "%s; its transfer is given up", why);
    transport_stream_reset(r->stream, BLOBS_CODE_DROPPED);
    request_stop(r);
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
        r->misbehaved = true;
        request_give_up(r, "a peer sends nothing");
        fetch_peer_shun(peer);
    }
}

/* Judged by one item, for each look goes through all peers: the first that has not come back from everybody else. */
static bool others_are_faster(const struct fetch_request *r)
{
    size_t i = r->ended;
    while (i < r->item_count && r->items[i]->insists) i++;
    if (i == r->item_count) i = r->ended;
    return i < r->item_count && fetch_item_has_faster(r->items[i], r->peer->pace);
}

void fetch_requests_leave(struct fetch_peer *peer)
{
    for (struct fetch_request *r = peer->requests; r != NULL; r = r->next) {
        r->slow = r->watched && !r->over && others_are_faster(r);
        if (r->slow) request_give_up(r, "a peer is slow, and others can be asked");
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
    if (event->kind == BLOBS_FETCH_BLOB_DONE) return fetch_value_received(r);
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
    if (r->unconsumed == 0 || r->stream == NULL) return;
    if (request_is_full(r)) {
        r->peer->was_held = true;
        return;
    }
    size_t len = r->unconsumed;
    r->unconsumed = 0;
    transport_stream_consumed(r->stream, len);
}

void fetch_requests_resume(struct fetcher *fetcher)
{
    for (struct fetch_peer *p = fetcher->peers; p != NULL; p = p->next)
        for (struct fetch_request *r = p->requests; r != NULL; r = r->next)
            if (r->transfer == NULL) fetch_request_resume(r);
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
        if (r->misbehaved) fetch_peer_shun(r->peer);
        return;
    }
    r->received += bytes.len;
    r->peer->received += bytes.len;
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

/* What the end of the stream leaves undone: the first unfinished item goes on to its next candidate, unless this one is
 * elsewhere or was only slow, and so do all of them when the connection is gone; the others are asked for again here, or
 * of others first when the peer is shunned. */
static void request_settle(struct fetch_request *r)
{
    struct fetch_peer *peer = r->peer;
    bool complete = r->transfer != NULL && fetch_large_is_complete(r);
    if (complete) r->ended = r->item_count;
    bool was_large = r->transfer != NULL;
    fetch_large_detach(r);
    fetch_values_store(r);
    peer->useful = peer->useful || r->ended > 0;
    if (r->ended > 0) peer->lacks = 0;
    bool lacks = r->refused && r->ended == 0;
    for (size_t i = r->ended; i < r->item_count; i++) {
        bool failed = i == r->ended && !r->slow && (was_large || !r->items[i]->resized);
        if (failed && !r->misbehaved && !r->items[i]->is_moved && fetch_peer_is_elsewhere(peer)) {
            r->items[i]->is_moved = peer->at_met = true;
            fetch_items_push(&peer->waiting, r->items[i]);
        } else if (failed || peer->conn == NULL) {
            fetch_item_next(r->items[i]);
        } else if (r->misbehaved || r->slow) {
            fetch_item_assign(r->items[i]);
        } else {
            fetch_items_push(&peer->waiting, r->items[i]);
        }
    }
    if (lacks) fetch_peer_lacks(peer);
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
    fetch_peer_pump(peer);
}

static void stream_reset(struct transport_stream *stream, uint64_t code)
{
    struct fetch_request *r = transport_stream_user(stream);
    r->refused = !r->over && code == BLOBS_CODE_INTERNAL; /* `closed` follows: our own side is finished */
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

/* Takes from the queue, which is not empty, what one request asks for: one large value, or many small ones. */
static enum hkv_err request_fill(struct fetch_request *r)
{
    struct fetch_items *waiting = &r->peer->waiting;
    uint64_t bytes = 0;
    do {
        uint64_t length = waiting->first->wanted.length;
        bool large = length > KV_VALUE_INLINE_MAX;
        if (r->item_count > 0 && (large || bytes + length > FETCH_BATCH_BYTES)) break;
        r->items[r->item_count++] = fetch_items_pop(waiting);
        if (large) return fetch_large_begin(r, r->items[0]);
        bytes += length;
    } while (waiting->first != NULL && r->item_count < FETCH_BATCH_VALUES);
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

bool fetch_request_begin(struct fetch_peer *peer)
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
    for (size_t i = 0; i < r->item_count; i++) fetch_item_next(r->items[i]);
    request_free(r);
    return false;
}
