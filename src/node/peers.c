#include "node/peers.h"

#include <assert.h>
#include <stdlib.h>

static void timer_fired(struct env_timer *timer)
{
    struct peer *peer = (struct peer *)(void *)timer;
    peer->peers->due(peer->peers->arg, peer);
}

void peers_init(struct peers *peers, struct env *env, const struct endpoint_id *self,
                void (*due)(void *arg, struct peer *peer), void (*gone)(void *arg, const struct peer *peer), void *arg)
{
    *peers = (struct peers){.env = env, .self = *self, .due = due, .gone = gone, .arg = arg};
}

void peers_fini(struct peers *peers)
{
    for (size_t i = 0; i < peers->count; i++) {
        struct peer *peer = peers->items[i];
        assert(peer->session == NULL);
        env_timer_cancel(peers->env, &peer->timer);
        address_set_fini(&peer->addrs);
        free(peer);
    }
    free(peers->items);
    peers->items = NULL;
    peers->count = 0;
}

struct peer *peers_find(const struct peers *peers, const struct endpoint_id *id)
{
    for (size_t i = 0; i < peers->count; i++)
        if (endpoint_id_equal(&peers->items[i]->id, id)) return peers->items[i];
    return NULL;
}

unsigned peers_standing(const struct peers *peers, const struct endpoint_id *id)
{
    const struct peer *peer = peers_find(peers, id);
    if (peer == NULL || peer->removed) return 0;
    return peer->seed ? 3 : peer->member ? 2 : peer->synced ? 1 : 0;
}

/* ------------------------------------------------------------------------------------------ room in the list */

static bool gives_way(const struct peer *peer, enum peer_claim claim)
{
    if (peer->session_count > 0 || peer->seed || peer->removed) return false;
    if (claim == PEER_CLAIM_STRANGER) return !peer->member && (!peer->synced || peer->failures > 0);
    return claim == PEER_CLAIM_SEED || !peer->member;
}

static bool counts_for_less(const struct peer *a, const struct peer *b)
{
    if (a->member != b->member) return b->member;
    if (a->synced != b->synced) return b->synced;
    return a->last_ok_wall_us < b->last_ok_wall_us;
}

/* Whose place the newcomer takes; NULL: nobody's. */
static struct peer *least_of(const struct peers *peers, enum peer_claim claim)
{
    struct peer *least = NULL;
    for (size_t i = 0; i < peers->count; i++) {
        struct peer *peer = peers->items[i];
        if (gives_way(peer, claim) && (least == NULL || counts_for_less(peer, least))) least = peer;
    }
    return least;
}

static enum hkv_err make_room(struct peers *peers, enum peer_claim claim, struct peer **out)
{
    if (peers->count == PEERS_MAX) {
        *out = least_of(peers, claim);
        if (*out == NULL)
            return error_set(HKV_E_LIMIT, "%d peers are known, which is the limit; remove some", PEERS_MAX);
        env_timer_cancel(peers->env, &(*out)->timer);
        peers->gone(peers->arg, *out);
        address_set_fini(&(*out)->addrs);
        return HKV_OK;
    }
    if (peers->items == NULL) peers->items = calloc(PEERS_MAX, sizeof(struct peer *));
    *out = peers->items == NULL ? NULL : calloc(1, sizeof **out);
    if (*out == NULL) return error_set(HKV_E_NOMEM, "no memory for a peer");
    peers->items[peers->count++] = *out;
    return HKV_OK;
}

enum hkv_err peers_get(struct peers *peers, const struct endpoint_id *id, enum peer_claim claim, struct peer **out)
{
    if (endpoint_id_equal(id, &peers->self)) return error_set(HKV_E_INVALID, "that is this node's own endpoint id");
    *out = peers_find(peers, id);
    if (*out != NULL) return HKV_OK;
    TRY(make_room(peers, claim, out));
    **out =
        (struct peer){.timer.fire = timer_fired, .peers = peers, .id = *id, .down_wall_us = env_wall_us(peers->env)};
    return HKV_OK;
}

void peers_change_namespace(struct peers *peers)
{
    for (size_t i = 0; i < peers->count; i++) {
        struct peer *peer = peers->items[i];
        bool forget = peer_is_selected(peer) && !peer->seed;
        peer->member = peer->synced = peer->last_confirmed = false;
        peer->name[0] = peer->why[0] = '\0';
        peer->last_ok_mono_us = peer->last_ok_wall_us = peer->last_clean_mono_us = 0;
        peer->down_wall_us = env_wall_us(peers->env);
        peer->failures = 0;
        if (!forget) continue;
        env_timer_cancel(peers->env, &peer->timer);
        peers->gone(peers->arg, peer);
    }
}

/* ------------------------------------------------------------------------------------------ addresses */

/* Its place among the addresses that it was met at; `met_count`: none of them. */
static size_t met_find(const struct peer *peer, const struct socket_address *socket)
{
    size_t i = 0;
    while (i < peer->met_count && socket_address_compare(&peer->met_before[i], socket) != 0) i++;
    return i;
}

static void met_forget(struct peer *peer, size_t at)
{
    for (peer->met_count--; at < peer->met_count; at++) peer->met_before[at] = peer->met_before[at + 1];
}

static void met_append(struct peer *peer, const struct socket_address *socket)
{
    peer->met_before[peer->met_count++] = *socket;
}

static void addrs_remove(struct address_set *addrs, const struct socket_address *socket)
{
    for (size_t i = 0; i < addrs->count; i++) {
        if (addrs->items[i].kind != ADDRESS_IP || socket_address_compare(&addrs->items[i].socket, socket) != 0)
            continue;
        for (addrs->count--; i < addrs->count; i++) addrs->items[i] = addrs->items[i + 1];
        return;
    }
}

/* The one that it was met at the longest ago goes. */
static void met_drop_oldest(struct peer *peer)
{
    addrs_remove(&peer->addrs, &peer->met_before[0]);
    met_forget(peer, 0);
}

enum hkv_err peer_named_at(struct peer *peer, const struct address_set *addrs)
{
    for (size_t i = 0; i < addrs->count; i++) {
        size_t at = addrs->items[i].kind == ADDRESS_IP ? met_find(peer, &addrs->items[i].socket) : peer->met_count;
        if (at < peer->met_count) met_forget(peer, at); /* it stays in `addrs` */
    }
    enum hkv_err err = address_set_merge(&peer->addrs, addrs);
    while (err == HKV_E_LIMIT && peer->met_count > 0) {
        met_drop_oldest(peer);
        err = address_set_merge(&peer->addrs, addrs);
    }
    return err;
}

bool peer_met_at(struct peer *peer, const struct socket_address *socket)
{
    size_t before = peer->addrs.count, at = met_find(peer, socket);
    if (at < peer->met_count) {
        met_forget(peer, at);
        met_append(peer, socket);
        return false;
    }
    enum hkv_err err = address_set_add_socket(&peer->addrs, socket);
    if (err == HKV_OK && peer->addrs.count == before) return false; /* it was named */
    if (err != HKV_OK && err != HKV_E_LIMIT) return false;
    if (peer->met_count == PEER_MET_MAX || (err != HKV_OK && peer->met_count > 0)) met_drop_oldest(peer);
    if (err != HKV_OK && address_set_add_socket(&peer->addrs, socket) != HKV_OK) return false;
    met_append(peer, socket);
    return true;
}

enum hkv_err peer_lasting_addrs(const struct peer *peer, struct address_set *out)
{
    TRY(address_set_merge(out, &peer->addrs));
    for (size_t i = 0; i + 1 < peer->met_count; i++) addrs_remove(out, &peer->met_before[i]);
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ dialling */

bool peer_is_selected(const struct peer *peer)
{
    return !peer->removed && (peer->seed || peer->member || peer->synced);
}

bool peer_is_connected(const struct peer *peer, uint64_t now_us, uint64_t interval_us)
{
    return peer->failures == 0 && peer->last_ok_mono_us != 0 && now_us - peer->last_ok_mono_us < 3 * interval_us;
}

void peer_schedule(struct peer *peer, uint64_t delay_us)
{
    env_timer_set(peer->peers->env, &peer->timer, env_mono_us(peer->peers->env) + delay_us);
}

void peer_wake(struct peer *peer, uint64_t delay_us)
{
    if (peer->session != NULL) {
        peer->again = true;
        return;
    }
    uint64_t due_us = env_mono_us(peer->peers->env) + delay_us;
    if (peer->timer.due_us == 0 || peer->timer.due_us > due_us) env_timer_set(peer->peers->env, &peer->timer, due_us);
}
