#include "node/peers.h"

#include <assert.h>
#include <stdlib.h>

static void timer_fired(struct env_timer *timer)
{
    struct peer *peer = (struct peer *)(void *)timer;
    peer->peers->due(peer->peers->due_arg, peer);
}

void peers_init(struct peers *peers, struct env *env, const struct endpoint_id *self,
                void (*due)(void *arg, struct peer *peer), void *due_arg)
{
    *peers = (struct peers){.env = env, .self = *self, .due = due, .due_arg = due_arg};
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

enum hkv_err peers_get(struct peers *peers, const struct endpoint_id *id, struct peer **out)
{
    if (endpoint_id_equal(id, &peers->self)) return error_set(HKV_E_INVALID, "that is this node's own endpoint id");
    *out = peers_find(peers, id);
    if (*out != NULL) return HKV_OK;
    if (peers->count == PEERS_MAX) return error_set(HKV_E_LIMIT, "%d peers are known, which is the limit", PEERS_MAX);
    if (peers->items == NULL) peers->items = calloc(PEERS_MAX, sizeof(struct peer *));
    struct peer *peer = peers->items == NULL ? NULL : calloc(1, sizeof *peer);
    if (peer == NULL) return error_set(HKV_E_NOMEM, "no memory for a peer");
    peer->timer.fire = timer_fired;
    peer->peers = peers;
    peer->id = *id;
    peer->down_wall_us = env_wall_us(peers->env);
    peers->items[peers->count++] = peer;
    *out = peer;
    return HKV_OK;
}

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
