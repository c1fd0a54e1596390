#include "node/fetch.h"

#include <assert.h>
#include <stdlib.h>

#include "base/text.h"
#include "blobs/request.h"
#include "node/fetch_parts.h"

#define FETCH_REQUEUE_BELOW (FETCH_QUEUE_MAX / 2) /* items in hand, below which more are taken */

/* ------------------------------------------------------------------------------------------ items */

void fetch_items_init(struct fetch_items *items)
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

void fetch_item_end(struct fetch_item *item)
{
    struct fetcher *fetcher = item->fetcher;
    fetch_large_free(item->transfer);
    free(item);
    fetcher->item_count--;
    if (fetcher->item_count == FETCH_REQUEUE_BELOW || fetcher->item_count == 0) fetcher_kick(fetcher);
}

/* ------------------------------------------------------------------------------------------ candidates */

static struct fetch_peer *peer_find(const struct fetcher *fetcher, const struct endpoint_id *id);
static struct fetch_peer *peer_get(struct fetcher *fetcher, const struct endpoint_id *id);
static bool dial(struct fetch_peer *peer);

/* The item's n-th candidate, or NULL when it is none (a repeat, removed, without address); `*end`: past the last. */
static const struct peer *candidate(const struct fetch_item *item, size_t n, bool *end)
{
    const struct kv_wanted *w = &item->wanted;
    const struct peers *peers = &item->fetcher->store->peers;
    const struct peer *peer;
    *end = n >= w->provider_count && n - w->provider_count >= peers->count;
    if (*end) return NULL;
    if (n < w->provider_count) {
        peer = peers_find(peers, &w->providers[n]);
    } else {
        peer = peers->items[n - w->provider_count];
        for (size_t i = 0; i < w->provider_count; i++)
            if (endpoint_id_equal(&w->providers[i], &peer->id)) return NULL;
        if (!peer_is_selected(peer)) return NULL;
    }
    return peer != NULL && peer->addrs.count > 0 ? peer : NULL;
}

/* With what was noted for the present one alone. */
static void change_candidate(struct fetch_item *item, size_t n)
{
    item->candidate = n;
    item->is_moved = false;
    if (item->resized) item->wanted.length = item->entry_length;
    item->resized = false;
}

/* After all others, those that were passed over have their turn, once. False: there are none. */
static bool go_back(struct fetch_item *item, uint64_t now_us)
{
    if (item->passed_over == FETCH_NOBODY || item->insists) return false;
    change_candidate(item, item->passed_over);
    item->insists = true;
    item->insists_us = now_us;
    return true;
}

static bool has_news(const struct fetch_item *item)
{
    return item->insists && item->wakes != item->fetcher->wakes;
}

/* Somebody came who may have what only a shunned peer seemed to have. */
static void begin_again(struct fetch_item *item)
{
    bool news = has_news(item);
    item->wakes = item->fetcher->wakes;
    if (!news) return;
    change_candidate(item, 0);
    item->passed_over = FETCH_NOBODY;
    item->insists = false;
}

static bool is_last_resort(const struct fetch_peer *peer, uint64_t now_us)
{
    return peer->shunned_until_us > now_us || peer->lacks_until_us > now_us;
}

static bool pass_over(struct fetch_item *item, const struct fetch_peer *peer, uint64_t now_us)
{
    if (item->insists || !is_last_resort(peer, now_us)) return false;
    if (item->passed_over == FETCH_NOBODY) item->passed_over = item->candidate;
    return true;
}

static bool is_dead(const struct fetch_peer *peer, uint64_t now_us)
{
    return !peer->opened && peer->dead_until_us > now_us;
}

void fetch_item_assign(struct fetch_item *item)
{
    struct fetcher *fetcher = item->fetcher;
    uint64_t now_us = env_mono_us(node_env(fetcher->store));
    if (fetcher->closing) {
        fetch_item_end(item);
        return;
    }
    begin_again(item);
    for (;; change_candidate(item, item->candidate + 1)) {
        bool end;
        const struct peer *known = candidate(item, item->candidate, &end);
        if (end && !go_back(item, now_us)) break;
        if (end) known = candidate(item, item->candidate, &end);
        struct fetch_peer *peer = known == NULL ? NULL : peer_get(fetcher, &known->id);
        if (peer == NULL || is_dead(peer, now_us)) continue;
        if (pass_over(item, peer, now_us)) continue;
        if (peer->conn == NULL && !dial(peer)) continue;
        fetch_items_push(&peer->waiting, item);
        fetch_peer_pump(peer);
        return;
    }
    fetch_item_failed(item);
}

void fetch_item_next(struct fetch_item *item)
{
    change_candidate(item, item->candidate + 1);
    fetch_item_assign(item);
}

/* Whether the candidate can be asked and may be twice as fast, as far as is known. */
static bool is_faster(const struct fetch_item *item, size_t n, uint64_t pace, uint64_t now_us, bool *end)
{
    const struct peer *known = candidate(item, n, end);
    if (known == NULL || known->failures > 0) return false;
    const struct fetch_peer *peer = peer_find(item->fetcher, &known->id);
    if (peer == NULL) return true;
    return !is_dead(peer, now_us) && !is_last_resort(peer, now_us) && peer->pace / 2 >= pace;
}

/* Those behind the present candidate were not asked yet, and those passed over were only slow. Where all had their turn,
 * only somebody who came since is a reason to ask them again, now and then. */
bool fetch_item_has_faster(const struct fetch_item *item, uint64_t pace)
{
    uint64_t now_us = env_mono_us(node_env(item->fetcher->store));
    bool all_again = has_news(item) && now_us - item->insists_us >= FETCH_SHUN_US;
    bool end = item->insists && !all_again;
    if (!item->insists && item->passed_over != FETCH_NOBODY && is_faster(item, item->passed_over, pace, now_us, &end))
        return true;
    for (size_t n = all_again ? 0 : item->candidate + 1; !end; n++)
        if (n != item->candidate && is_faster(item, n, pace, now_us, &end)) return true;
    return false;
}

bool fetch_item_begin(struct fetcher *fetcher, const struct kv_wanted *wanted)
{
    struct fetch_item *item = calloc(1, sizeof *item);
    if (item == NULL) return false;
    item->fetcher = fetcher;
    item->wanted = *wanted;
    item->passed_over = FETCH_NOBODY;
    fetcher->item_count++;
    fetch_item_assign(item);
    return true;
}

/* ------------------------------------------------------------------------------------------ connections */

bool fetch_peer_is_elsewhere(const struct fetch_peer *peer)
{
    const struct peer *known = peers_find(&peer->fetcher->store->peers, &peer->id);
    struct transport_path_info path;
    if (peer->conn == NULL || !peer->opened || known == NULL || known->met.port == 0) return false;
    transport_conn_path(peer->conn, &path);
    return socket_address_compare(&path.remote, &known->met) != 0;
}

static void conn_opened(struct transport_conn *conn)
{
    struct fetch_peer *peer = transport_conn_user(conn);
    peer->opened = true;
    fetch_peer_pump(peer);
}

static bool conn_stream(struct transport_conn *conn, struct transport_stream *stream)
{
    (void)conn, (void)stream;
    return false; /* we are the getter here */
}

/* What waits for a connection goes on to others. */
static void move_waiting(struct fetch_peer *peer, bool same_candidate)
{
    struct fetch_items waiting = peer->waiting;
    if (waiting.first == NULL) return;
    fetch_items_init(&peer->waiting);
    for (struct fetch_item *item = waiting.first, *next; item != NULL; item = next) {
        next = item->next;
        if (same_candidate)
            fetch_item_assign(item);
        else
            fetch_item_next(item);
    }
}

void fetch_peer_shun(struct fetch_peer *peer)
{
    peer->shunned_until_us = env_mono_us(node_env(peer->fetcher->store)) + FETCH_SHUN_US;
    move_waiting(peer, true);
}

void fetch_peer_lacks(struct fetch_peer *peer)
{
    if (++peer->lacks < FETCH_LACKS_MAX) return;
    peer->lacks = 0;
    peer->lacks_until_us = env_mono_us(node_env(peer->fetcher->store)) + FETCH_SHUN_US;
    move_waiting(peer, true);
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
    env_timer_cancel(env, &peer->watch);
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

/* ---- its pace ---- */

/* From now on, of the requests that have begun to bring something. */
static void watch_begin(struct fetch_peer *peer)
{
    struct hkv_store *store = peer->fetcher->store;
    peer->mark = peer->received;
    peer->was_held = false;
    for (struct fetch_request *r = peer->requests; r != NULL; r = r->next) r->watched = r->received > 0;
    env_timer_set(node_env(store), &peer->watch, env_mono_us(node_env(store)) + store->patience.fetch_progress_us);
}

static bool has_watched(const struct fetch_peer *peer)
{
    const struct fetch_request *r = peer->requests;
    while (r != NULL && (!r->watched || r->over)) r = r->next;
    return r != NULL;
}

/* It is slow when all its streams together brought little, and one of them took longer than that. New items go to others
 * first, and so does what others may bring faster. */
static void watch_fired(struct env_timer *timer)
{
    struct fetch_peer *peer = (struct fetch_peer *)(void *)((char *)timer - offsetof(struct fetch_peer, watch));
    uint64_t bytes = peer->received - peer->mark;
    bool is_slow = !peer->was_held && has_watched(peer) && bytes < peer->fetcher->store->patience.fetch_slow_bytes;
    peer->pace = is_slow ? bytes : UINT64_MAX;
    if (is_slow) fetch_requests_leave(peer);
    watch_begin(peer);
    if (is_slow) fetch_peer_shun(peer);
}

static struct fetch_peer *peer_find(const struct fetcher *fetcher, const struct endpoint_id *id)
{
    struct fetch_peer *p = fetcher->peers;
    while (p != NULL && !endpoint_id_equal(&p->id, id)) p = p->next;
    return p;
}

static struct fetch_peer *peer_unused(const struct fetcher *fetcher)
{
    struct fetch_peer *p = fetcher->peers;
    while (p != NULL && (p->conn != NULL || p->waiting.first != NULL || p->requests != NULL)) p = p->next;
    return p;
}

/* NULL: there are too many, or there is no memory. */
static struct fetch_peer *peer_get(struct fetcher *fetcher, const struct endpoint_id *id)
{
    struct fetch_peer *known = peer_find(fetcher, id);
    if (known != NULL) return known;
    if (fetcher->peer_count == FETCH_PEERS_MAX) {
        struct fetch_peer *unused = peer_unused(fetcher);
        if (unused == NULL) return NULL;
        unused->id = *id;
        unused->dead_until_us = unused->shunned_until_us = unused->lacks_until_us = unused->lacks = 0;
        unused->pace = UINT64_MAX;
        unused->at_met = false;
        return unused;
    }
    struct fetch_peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL) return NULL;
    peer->fetcher = fetcher;
    peer->id = *id;
    peer->pace = UINT64_MAX;
    peer->idle.fire = idle_fired;
    peer->watch.fire = watch_fired;
    fetch_items_init(&peer->waiting);
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

void fetch_peer_pump(struct fetch_peer *peer)
{
    struct fetcher *fetcher = peer->fetcher;
    struct env *env = node_env(fetcher->store);
    if (fetcher->closing) return;
    if (peer->conn == NULL || !peer->opened) return;
    if (peer->at_met && fetch_peer_is_elsewhere(peer)) {
        if (peer->requests == NULL) transport_conn_close(peer->conn, 0, "another address");
        return;
    }
    while (peer->waiting.first != NULL && peer->request_count < FETCH_STREAMS_MAX)
        if (!fetch_request_begin(peer)) break;
    if (peer->requests == NULL) {
        env_timer_cancel(env, &peer->watch);
        env_timer_set(env, &peer->idle, env_mono_us(env) + FETCH_IDLE_US);
    } else {
        if (peer->watch.due_us == 0) watch_begin(peer);
        env_timer_cancel(env, &peer->idle);
    }
}

void fetcher_wake(struct fetcher *fetcher, const struct endpoint_id *peer)
{
    struct fetch_peer *known = peer_get(fetcher, peer);
    if (known != NULL) {
        known->dead_until_us = known->lacks_until_us = 0;
        if (known->requests == NULL && known->waiting.count == 0 && fetch_peer_is_elsewhere(known)) {
            known->at_met = true;
            fetch_peer_pump(known);
        }
    }
    fetcher->wakes++;
    for (struct fetch_peer *p = fetcher->peers; p != NULL; p = p->next)
        if (p->shunned_until_us > 0 || p->lacks_until_us > 0) move_waiting(p, true);
    fetch_take(fetcher, peer);
}

/* ------------------------------------------------------------------------------------------ life cycle */

enum hkv_err fetcher_new(struct hkv_store *store, struct fetcher **out)
{
    struct fetcher *fetcher = calloc(1, sizeof *fetcher);
    if (fetcher == NULL) return error_set(HKV_E_NOMEM, "no memory to open a store");
    fetcher->store = store;
    fetch_store_init(fetcher);
    *out = fetcher;
    return HKV_OK;
}

void fetcher_close(struct fetcher *fetcher, void (*done)(void *arg), void *arg)
{
    fetcher->closing = true;
    fetcher->closed_done = done;
    fetcher->closed_arg = arg;
    fetch_store_close(fetcher);
    for (struct fetch_peer *p = fetcher->peers; p != NULL; p = p->next) {
        env_timer_cancel(node_env(fetcher->store), &p->idle);
        env_timer_cancel(node_env(fetcher->store), &p->watch);
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
