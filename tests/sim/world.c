#include "sim/world.h"

#include <assert.h>

#define WAIT_MAX_US ((uint64_t)3600000000) /* of virtual time, for a wait without a limit */

static struct sim_world *of(struct node_world *base)
{
    return (struct sim_world *)(void *)base;
}

static enum hkv_err start(struct node_world *base)
{
    (void)base;
    return HKV_OK;
}

/* A frozen node gets no turn, and whoever waits for it would wait for ever: the crash that froze it happens now. */
static bool step(struct sim_world *world, uint64_t until_us)
{
    if (world->env->frozen) world->crash(world->arg);
    return sim_step(world->env->queue, until_us);
}

static void stop(struct node_world *base)
{
    struct sim_world *world = of(base);
    uint64_t until_us = sim_now(world->env->queue) + WAIT_MAX_US;
    while (world->env->jobs_waiting > 0)
        if (!step(world, until_us)) world->stuck(world->arg);
}

static void release(struct node_world *base)
{
    struct sim_world *world = of(base);
    assert(world->endpoint == NULL);
    world->values->ops->free(world->values);
    world->keys->ops->free(world->keys);
    world->values = world->keys = NULL;
}

static bool wait(struct node_world *base, struct node_signal *signal, uint64_t timeout_us)
{
    struct sim_world *world = of(base);
    struct sim_queue *q = world->env->queue;
    bool forever = timeout_us == NODE_WAIT_FOREVER;
    assert(!world->env->on_callback_thread);
    q->now_us = sim_now(q); /* what the caller spent so far has passed */
    q->spent_us = 0;
    uint64_t end_us = q->now_us + (forever ? WAIT_MAX_US : timeout_us);
    while (!node_signal_is_set(signal)) {
        if (step(world, end_us)) continue;
        if (forever) world->stuck(world->arg);
        q->now_us = end_us;
        break;
    }
    return node_signal_is_set(signal);
}

static bool on_callback_thread(struct node_world *base)
{
    return of(base)->env->on_callback_thread;
}

static enum hkv_err endpoint_open(struct node_world *base, const struct node_endpoint_config *config,
                                  struct transport **out)
{
    struct sim_world *world = of(base);
    struct endpoint_id id;
    ed25519_public_key(config->secret, id.bytes);
    TRY(sim_endpoint_open(world->net, world->env, &id, &world->address, config->alpns, config->alpn_count,
                          &config->owner, &world->endpoint));
    if (world->dead) sim_endpoint_cut(world->endpoint);
    *out = sim_endpoint_transport(world->endpoint);
    return HKV_OK;
}

static enum hkv_err endpoint_addresses(struct node_world *base, struct address_set *out)
{
    return address_set_add_socket(out, &of(base)->address);
}

static void endpoint_ports(struct node_world *base, uint16_t *ipv4, uint16_t *ipv6)
{
    *ipv4 = of(base)->address.port;
    *ipv6 = 0;
}

static void endpoint_closed(void *arg)
{
    struct sim_world *world = arg;
    world->endpoint = NULL;
    world->closed_done(world->closed_user);
}

static void endpoint_close(struct node_world *base, void (*done)(void *user), void *user)
{
    struct sim_world *world = of(base);
    world->closed_done = done;
    world->closed_user = user;
    sim_endpoint_close(world->endpoint, endpoint_closed, world);
}

enum hkv_err sim_world_ready(struct sim_world *world)
{
    static const struct node_world_ops ops = {
        .start = start,
        .stop = stop,
        .release = release,
        .wait = wait,
        .on_callback_thread = on_callback_thread,
        .endpoint_open = endpoint_open,
        .endpoint_addresses = endpoint_addresses,
        .endpoint_ports = endpoint_ports,
        .endpoint_close = endpoint_close,
    };
    assert(world->endpoint == NULL && world->values == NULL);
    TRY(memdisk_files(world->disk, "node/blobs", &world->values));
    enum hkv_err err = memdisk_files(world->disk, "node/keys", &world->keys);
    if (err != HKV_OK) {
        world->values->ops->free(world->values);
        world->values = NULL;
        return err;
    }
    world->dead = false;
    world->base = (struct node_world){
        .ops = &ops,
        .env = &world->env->env,
        .disk = {.vfs = memdisk_vfs(world->disk), .path = "node", .values = world->values, .keys = world->keys},
        .built_wall_us = SIM_WALL_START_US - 86400000000,
    };
    return HKV_OK;
}
