/* Public functions about peers, sessions and waits. What belongs to the network thread is read there, by a short job
 * that the caller waits for. */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "node/node.h"
#include "node/resolve.h"
#include "node/sync.h"
#include "wire/ticket.h"

/* ------------------------------------------------------------------------------------------ peers */

/* A peer's name: a ticket, id@host:port, or the 64 hex digits of a known one. With `resolve` a host name is looked up,
 * else it is only part of the name. */
static enum hkv_err parse_peer(const char *text, bool resolve, struct endpoint_address *out)
{
    struct peer_name name;
    if (text == NULL)
        return error_set(HKV_E_TICKET, "the peer is NULL; give an endpoint ticket or endpointid@host:port");
    struct slice slice = slice_of_text(text);
    *out = (struct endpoint_address){0};
    if (slice.len == ID_TEXT_MAX - 1 && memchr(slice.data, '@', slice.len) == NULL)
        return endpoint_id_parse(slice, &out->id);
    TRY(peer_name_parse(slice, &name));
    enum hkv_err err =
        name.host[0] == '\0' || !resolve ? HKV_OK : resolve_now(name.host, name.port, &name.endpoint.addrs);
    if (err == HKV_OK) {
        *out = name.endpoint;
        name.endpoint = (struct endpoint_address){0};
    }
    peer_name_fini(&name);
    return err;
}

struct peer_change {
    struct endpoint_address address;
    bool keep; /* as a seed */
    enum hkv_err err;
    struct error_text why;
    struct kv_peer row;
};

static void add_on_network(struct hkv_store *store, void *arg)
{
    struct peer_change *change = arg;
    struct peer *peer = peers_find(&store->peers, &change->address.id);
    if (change->address.addrs.count == 0 && (peer == NULL || peer->addrs.count == 0)) {
        char id[ID_TEXT_MAX];
        change->err =
            error_set(HKV_E_NOT_FOUND, "no address of peer %.10s is known; give its endpoint ticket, or id@host:port",
                      id_format(change->address.id.bytes, id));
        error_save(&change->why);
        return;
    }
    enum hkv_err err = peers_get(&store->peers, &change->address.id, PEER_CLAIM_SEED, &peer);
    if (err == HKV_OK) err = peer_named_at(peer, &change->address.addrs);
    if (err == HKV_OK) {
        if (change->keep) {
            peer->seed = true;
            peer->removed = false;
        }
        change->row.id = peer->id;
        change->row.source = peer->seed ? KV_PEER_SEED : KV_PEER_SYNCED;
        change->row.last_sync_us = peer->last_ok_wall_us;
        err = peer_lasting_addrs(peer, &change->row.addrs);
        peer->failures = 0;
        peer_wake(peer, 0);
    }
    change->err = err;
    if (err != HKV_OK) error_save(&change->why);
}

static enum hkv_err put_row(struct hkv_store *store, void *arg)
{
    return kv_peer_put(store->kv, &((struct peer_change *)arg)->row);
}

static enum hkv_err change_result(struct peer_change *change)
{
    if (change->err != HKV_OK) error_restore(&change->why);
    return change->err;
}

static enum hkv_err add_peer(struct hkv_store *store, const char *text, bool keep)
{
    struct peer_change change = {.keep = keep};
    TRY(node_call_begin(store));
    enum hkv_err err = parse_peer(text, true, &change.address);
    if (err == HKV_OK) {
        node_on_network(store, add_on_network, &change);
        err = change_result(&change);
    }
    if (err == HKV_OK && keep) err = node_on_replica(store, put_row, &change);
    endpoint_address_fini(&change.address);
    address_set_fini(&change.row.addrs);
    node_call_end(store);
    return err;
}

enum hkv_err hkv_peer_add(struct hkv_store *store, const char *peer)
{
    return add_peer(store, peer, true);
}

enum hkv_err hkv_start_sync_with(struct hkv_store *store, const char *peer)
{
    return add_peer(store, peer, false);
}

static void remove_on_network(struct hkv_store *store, void *arg)
{
    struct peer_change *change = arg;
    struct peer *peer = peers_find(&store->peers, &change->address.id);
    if (peer == NULL || peer->removed) {
        char id[ID_TEXT_MAX];
        change->err = error_set(HKV_E_NOT_FOUND, "no peer %s is known", id_format(change->address.id.bytes, id));
        error_save(&change->why);
        return;
    }
    peer->removed = true;
    peer->seed = false;
    peer->synced = false;
    env_timer_cancel(node_env(store), &peer->timer);
    clock_review(store);
    change->row.id = peer->id;
    change->row.source = KV_PEER_REMOVED;
    sync_peer_removed(store->sync, peer);
}

enum hkv_err hkv_peer_remove(struct hkv_store *store, const char *text)
{
    struct peer_change change = {0};
    TRY(node_call_begin(store));
    enum hkv_err err = parse_peer(text, false, &change.address);
    if (err == HKV_OK) {
        node_on_network(store, remove_on_network, &change);
        err = change_result(&change);
    }
    if (err == HKV_OK) err = node_on_replica(store, put_row, &change);
    endpoint_address_fini(&change.address);
    node_call_end(store);
    return err;
}

struct peer_list {
    struct hkv_peers *peers;
    enum hkv_err err;
};

/* Wall clock since when there is no connection: the first failure, or when the last good session grew too old. */
static uint64_t disconnected_since(const struct hkv_store *store, const struct peer *peer)
{
    return peer->down_wall_us != 0 ? peer->down_wall_us : peer->last_ok_wall_us + 3 * store->anti_entropy_us;
}

/* Why this node may lack something that the peer has. */
#define REASON_MAX (PEER_WHY_MAX - 64)
static void say_why(const struct peer *peer, uint64_t now_us, bool connected, char out[PEER_WHY_MAX])
{
    char reason[REASON_MAX] = "";
    uint64_t age_s = (now_us - peer->last_ok_mono_us) / 1000000;
    if (peer->why[0] != '\0') (void)snprintf(reason, sizeof reason, ": %.*s", REASON_MAX - 3, peer->why);
    out[0] = '\0';
    if (peer->last_ok_mono_us == 0)
        (void)snprintf(out, PEER_WHY_MAX, "no good session since the start%s", reason);
    else if (!connected)
        (void)snprintf(out, PEER_WHY_MAX, "no good session for %ju s%s", (uintmax_t)age_s, reason);
    else if (peer->why[0] != '\0')
        memcpy(out, peer->why, sizeof peer->why);
    else if (!peer->last_confirmed)
        (void)snprintf(out, PEER_WHY_MAX,
                       "the last session, %ju s ago, moved entries; none has confirmed since that both sides are equal",
                       (uintmax_t)age_s);
}

static bool peer_out(struct hkv_store *store, const struct peer *peer, struct hkv_peer *out)
{
    uint64_t now_us = env_mono_us(node_env(store));
    char why[PEER_WHY_MAX];
    (void)id_format(peer->id.bytes, out->endpoint_id);
    out->source = peer->seed ? HKV_PEER_SEED : peer->member ? HKV_PEER_MEMBER : HKV_PEER_SYNCED;
    out->connected = peer_is_connected(peer, now_us, store->anti_entropy_us);
    out->path = out->connected ? HKV_PATH_DIRECT : HKV_PATH_NONE; /* there are no relays yet */
    if (!out->connected) out->disconnected_us = disconnected_since(store, peer);
    say_why(peer, now_us, out->connected, why);
    out->rtt_us = peer->rtt_us;
    out->clock_skew = clock_skew(store, peer, &out->clock_skew_us);
    out->last_sync_us = peer->last_ok_wall_us;
    out->last_confirmed = peer->last_confirmed;
    out->failures = peer->failures;
    out->name = strdup(peer->name);
    out->why = strdup(why);
    out->addrs = node_addresses_text(&peer->addrs);
    return out->name != NULL && out->why != NULL && out->addrs != NULL;
}

static void list_on_network(struct hkv_store *store, void *arg)
{
    struct peer_list *list = arg;
    list->peers->peers = calloc(store->peers.count + 1, sizeof *list->peers->peers);
    if (list->peers->peers == NULL) {
        list->err = HKV_E_NOMEM;
        return;
    }
    for (size_t i = 0; i < store->peers.count && list->err == HKV_OK; i++)
        if (peer_is_selected(store->peers.items[i]) &&
            !peer_out(store, store->peers.items[i], &list->peers->peers[list->peers->count++]))
            list->err = HKV_E_NOMEM;
}

enum hkv_err hkv_peers(struct hkv_store *store, struct hkv_peers **out)
{
    struct peer_list list = {0};
    NEED_ARGUMENT(out);
    *out = NULL;
    TRY(node_call_begin(store));
    list.peers = calloc(1, sizeof *list.peers);
    if (list.peers != NULL) node_on_network(store, list_on_network, &list);
    node_call_end(store);
    if (list.peers == NULL || list.err != HKV_OK) {
        hkv_peers_free(list.peers);
        return error_set(HKV_E_NOMEM, "no memory for the list of peers");
    }
    *out = list.peers;
    return HKV_OK;
}

void hkv_peers_free(struct hkv_peers *peers)
{
    if (peers == NULL) return;
    for (size_t i = 0; i < peers->count; i++) {
        free((void *)(uintptr_t)peers->peers[i].name);
        free((void *)(uintptr_t)peers->peers[i].why);
        free((void *)(uintptr_t)peers->peers[i].addrs);
    }
    free(peers->peers);
    free(peers);
}

/* ------------------------------------------------------------------------------------------ sessions and waits */

/* A round with whoever waits for it: a blocked caller, or a callback. */
struct round_call {
    struct sync_round round; /* first */
    struct job begin;
    struct job callback;
    struct hkv_store *store;
    struct endpoint_id *ids;
    enum hkv_err err;
    struct error_text why;
    struct hkv_sync_result *result;
    uint64_t waited_ms;
    struct node_signal done;
    hkv_sync_fn once_done; /* one of both for the callback form */
    hkv_converged_fn converged_done;
    void *arg;
};

static void round_call_free(struct round_call *call)
{
    sync_round_fini(&call->round);
    hkv_sync_result_free(call->result);
    node_signal_fini(&call->done);
    free(call->ids);
    free(call);
}

static struct hkv_sync_result *result_of(const struct sync_round *round)
{
    struct hkv_sync_result *result = calloc(1, sizeof *result);
    if (result != NULL) result->peers = calloc(round->peer_count + 1, sizeof *result->peers);
    if (result == NULL || result->peers == NULL) {
        free(result);
        return NULL;
    }
    for (size_t i = 0; i < round->peer_count; i++) {
        const struct sync_round_peer *p = &round->peers[i];
        struct hkv_sync_peer *to = &result->peers[result->count++];
        (void)id_format(p->id.bytes, to->endpoint_id);
        to->err = p->done ? p->err : HKV_E_TIMEOUT;
        to->error = strdup(!p->done ? "no session ended in time" : p->err == HKV_OK ? "" : p->why);
        if (to->error == NULL) {
            hkv_sync_result_free(result);
            return NULL;
        }
        to->confirmed = p->confirmed;
        to->entries_sent = p->sent;
        to->entries_received = p->received;
    }
    return result;
}

void hkv_sync_result_free(struct hkv_sync_result *result)
{
    if (result == NULL) return;
    for (size_t i = 0; i < result->count; i++) free((void *)(uintptr_t)result->peers[i].error);
    free(result->peers);
    free(result);
}

static void round_callback(struct job *job)
{
    struct round_call *call = (struct round_call *)(void *)((char *)job - offsetof(struct round_call, callback));
    struct hkv_store *store = call->store;
    const char *why = call->err == HKV_OK ? "" : call->why.text;
    if (call->once_done != NULL)
        call->once_done(call->arg, call->err, why, call->result);
    else
        call->converged_done(call->arg, call->err, why, call->waited_ms);
    round_call_free(call);
    node_call_end(store);
}

static void round_done(struct sync_round *round, enum hkv_err err)
{
    struct round_call *call = (struct round_call *)(void *)round;
    struct env *env = node_env(call->store);
    if (err != HKV_OK) error_save(&call->why);
    if (round->kind == SYNC_ROUND_ONCE) {
        call->result = result_of(round);
        if (call->result == NULL && err == HKV_OK) {
            err = error_set(HKV_E_NOMEM, "no memory for the outcomes of sessions");
            error_save(&call->why);
        }
    }
    call->err = err;
    call->waited_ms = (env_mono_us(env) - round->begun_us) / 1000;
    if (call->once_done == NULL && call->converged_done == NULL) {
        node_signal_set(&call->done);
        return;
    }
    call->callback.run = round_callback;
    env_run_on(env, ENV_CALLBACK, &call->callback);
}

static void round_begin(struct job *job)
{
    struct round_call *call = (struct round_call *)(void *)((char *)job - offsetof(struct round_call, begin));
    sync_round_begin(call->store->sync, &call->round);
}

static enum hkv_err round_call_new(struct hkv_store *store, enum sync_round_kind kind, const char *const *peers,
                                   size_t peer_count, uint32_t timeout_ms, struct round_call **out)
{
    struct round_call *call = calloc(1, sizeof *call);
    if (call == NULL) return error_set(HKV_E_NOMEM, "no memory to wait for peers");
    node_signal_init(&call->done);
    call->store = store;
    call->begin.run = round_begin;
    call->round.kind = kind;
    call->round.timeout_ms = timeout_ms;
    call->round.done = round_done;
    enum hkv_err err = peers == NULL && peer_count > 0
                           ? error_set(HKV_E_INVALID, "the argument peers is NULL, peer_count is %zu", peer_count)
                           : HKV_OK;
    if (err == HKV_OK && peer_count > 0) {
        call->ids = calloc(peer_count, sizeof *call->ids);
        if (call->ids == NULL) err = error_set(HKV_E_NOMEM, "no memory to wait for peers");
    }
    for (size_t i = 0; err == HKV_OK && i < peer_count; i++) {
        struct endpoint_address address;
        err = parse_peer(peers[i], false, &address);
        if (err == HKV_OK) call->ids[i] = address.id;
        if (err == HKV_OK) endpoint_address_fini(&address);
    }
    if (err != HKV_OK) {
        round_call_free(call);
        return err;
    }
    call->round.selected = call->ids;
    call->round.selected_count = peer_count;
    *out = call;
    return HKV_OK;
}

static enum hkv_err round_wait(struct round_call *call)
{
    env_run_on(node_env(call->store), ENV_NETWORK, &call->begin);
    (void)node_signal_wait(call->store->world, &call->done, HKV_FOREVER);
    if (call->err != HKV_OK) error_restore(&call->why);
    return call->err;
}

enum hkv_err hkv_sync_once(struct hkv_store *store, uint32_t timeout_ms, struct hkv_sync_result **out)
{
    struct round_call *call;
    if (out != NULL) *out = NULL;
    TRY(node_call_begin(store));
    enum hkv_err err = round_call_new(store, SYNC_ROUND_ONCE, NULL, 0, timeout_ms, &call);
    if (err == HKV_OK) {
        err = round_wait(call);
        if (out != NULL) {
            *out = call->result;
            call->result = NULL;
        }
        round_call_free(call);
    }
    node_call_end(store);
    return err;
}

enum hkv_err hkv_wait_converged(struct hkv_store *store, const char *const *peers, size_t peer_count,
                                uint32_t timeout_ms, uint64_t *waited_ms)
{
    struct round_call *call;
    TRY(node_call_begin(store));
    enum hkv_err err = round_call_new(store, SYNC_ROUND_CONVERGED, peers, peer_count, timeout_ms, &call);
    if (err == HKV_OK) {
        err = round_wait(call);
        if (waited_ms != NULL) *waited_ms = call->waited_ms;
        round_call_free(call);
    }
    node_call_end(store);
    return err;
}

static enum hkv_err round_async(struct hkv_store *store, enum hkv_err begun, struct round_call *call)
{
    if (begun == HKV_OK)
        env_run_on(node_env(store), ENV_NETWORK, &call->begin);
    else
        node_call_end(store);
    return begun;
}

enum hkv_err hkv_sync_once_async(struct hkv_store *store, uint32_t timeout_ms, hkv_sync_fn done, void *arg)
{
    struct round_call *call = NULL;
    NEED_ARGUMENT(done);
    TRY(node_call_begin(store));
    enum hkv_err err = round_call_new(store, SYNC_ROUND_ONCE, NULL, 0, timeout_ms, &call);
    if (err == HKV_OK) {
        call->once_done = done;
        call->arg = arg;
    }
    return round_async(store, err, call);
}

enum hkv_err hkv_wait_converged_async(struct hkv_store *store, const char *const *peers, size_t peer_count,
                                      uint32_t timeout_ms, hkv_converged_fn done, void *arg)
{
    struct round_call *call = NULL;
    NEED_ARGUMENT(done);
    TRY(node_call_begin(store));
    enum hkv_err err = round_call_new(store, SYNC_ROUND_CONVERGED, peers, peer_count, timeout_ms, &call);
    if (err == HKV_OK) {
        call->converged_done = done;
        call->arg = arg;
    }
    return round_async(store, err, call);
}
