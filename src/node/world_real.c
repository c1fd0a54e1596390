/* The real world of a store: runtime.c's threads, clocks and timers, and an endpoint of src/net. */
#include "node/world_real.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "net/endpoint.h"
#include "node/runtime.h"

struct real_world {
    struct node_world base; /* first */
    struct runtime runtime;
    struct net_endpoint *endpoint; /* network thread */
    void (*closed_done)(void *user);
    void *closed_user;
};

static struct real_world *real_of(struct node_world *world)
{
    return (struct real_world *)(void *)world;
}

static enum hkv_err real_start(struct node_world *world)
{
    return runtime_start(&real_of(world)->runtime);
}

static void real_stop(struct node_world *world)
{
    runtime_stop(&real_of(world)->runtime);
}

static void real_release(struct node_world *world)
{
    struct real_world *real = real_of(world);
    assert(real->endpoint == NULL);
    runtime_fini(&real->runtime);
    free(real);
}

static bool real_on_callback_thread(struct node_world *world)
{
    return runtime_on_callback_thread(&real_of(world)->runtime);
}

/* ------------------------------------------------------------------------------------------ waiting */

static struct timespec end_of(uint64_t timeout_us)
{
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (time_t)(timeout_us / 1000000);
    end.tv_nsec += (long)(timeout_us % 1000000) * 1000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000;
    }
    return end;
}

static bool real_wait(struct node_world *world, struct node_signal *signal, uint64_t timeout_us)
{
    (void)world;
    bool forever = timeout_us == NODE_WAIT_FOREVER;
    struct timespec end = end_of(forever ? 0 : timeout_us);
    (void)pthread_mutex_lock(&signal->lock);
    while (!signal->set) {
        if (forever)
            (void)pthread_cond_wait(&signal->changed, &signal->lock);
        else if (pthread_cond_timedwait(&signal->changed, &signal->lock, &end) == ETIMEDOUT)
            break;
    }
    bool set = signal->set;
    (void)pthread_mutex_unlock(&signal->lock);
    return set;
}

/* ---------------------------------------------------------------------------------------- endpoint (network thread) */

static enum hkv_err parse_bind(const char *name, const char *text, bool ipv6, struct socket_address *out, bool *use)
{
    *out = (struct socket_address){.is_ipv6 = ipv6};
    *use = text != NULL && text[0] != '\0';
    if (!*use || inet_pton(ipv6 ? AF_INET6 : AF_INET, text, out->ip) == 1) return HKV_OK;
    return error_set(HKV_E_INVALID, "%s is %s, which is no %s address", name, text, ipv6 ? "IPv6" : "IPv4");
}

static enum hkv_err real_endpoint_open(struct node_world *world, const struct node_endpoint_config *config,
                                       struct transport **out)
{
    struct real_world *real = real_of(world);
    const struct hkv_options *o = config->options;
    struct net_endpoint_config net = {
        .loop = &real->runtime.loop,
        .secret = config->secret,
        .alpns = config->alpns,
        .alpn_count = config->alpn_count,
        .owner = config->owner,
    };
    net_limits_default(&net.limits);
    TRY(parse_bind("bind_ipv4", o->bind_ipv4, false, &net.bind_v4, &net.use_v4));
    TRY(parse_bind("bind_ipv6", o->bind_ipv6, true, &net.bind_v6, &net.use_v6));
    if (!net.use_v4 && !net.use_v6) return error_set(HKV_E_INVALID, "bind_ipv4 and bind_ipv6 are both off");
    bool last = o->bind_port == HKV_PORT_LAST;
    net.bind_v4.port = net.bind_v6.port = last ? config->last_port : (uint16_t)o->bind_port;
    struct net_endpoint *endpoint;
    enum hkv_err err = net_endpoint_open(&net, &endpoint);
    if (err == HKV_E_ADDRESS_IN_USE && (last || o->bind_port_fallback)) {
        log_warn("net", "%s; another port is taken", error_last());
        net.bind_v4.port = net.bind_v6.port = 0;
        err = net_endpoint_open(&net, &endpoint);
    }
    if (err != HKV_OK) return err;
    real->endpoint = endpoint;
    *out = net_endpoint_transport(endpoint);
    return HKV_OK;
}

static enum hkv_err real_endpoint_addresses(struct node_world *world, struct address_set *out)
{
    return net_endpoint_addresses(real_of(world)->endpoint, out);
}

static void real_endpoint_ports(struct node_world *world, uint16_t *ipv4, uint16_t *ipv6)
{
    *ipv4 = net_endpoint_port(real_of(world)->endpoint, false);
    *ipv6 = net_endpoint_port(real_of(world)->endpoint, true);
}

static void endpoint_closed(void *user)
{
    struct real_world *real = user;
    real->endpoint = NULL;
    real->closed_done(real->closed_user);
}

static void real_endpoint_close(struct node_world *world, void (*done)(void *user), void *user)
{
    struct real_world *real = real_of(world);
    real->closed_done = done;
    real->closed_user = user;
    net_endpoint_close(real->endpoint, endpoint_closed, real);
}

struct net_endpoint *node_world_real_endpoint(struct node_world *world)
{
    return real_of(world)->endpoint;
}

static const struct node_world_ops real_ops = {
    .start = real_start,
    .stop = real_stop,
    .release = real_release,
    .wait = real_wait,
    .on_callback_thread = real_on_callback_thread,
    .endpoint_open = real_endpoint_open,
    .endpoint_addresses = real_endpoint_addresses,
    .endpoint_ports = real_endpoint_ports,
    .endpoint_close = real_endpoint_close,
};

enum hkv_err node_world_real(struct node_world **out)
{
    struct real_world *real = calloc(1, sizeof *real);
    if (real == NULL) return error_set(HKV_E_NOMEM, "no memory to open a store");
    enum hkv_err err = runtime_init(&real->runtime);
    if (err != HKV_OK) {
        free(real);
        return err;
    }
    real->base = (struct node_world){
        .ops = &real_ops, .env = &real->runtime.env, .built_wall_us = (uint64_t)HKV_BUILD_UNIX_S * 1000000};
    *out = &real->base;
    return HKV_OK;
}
