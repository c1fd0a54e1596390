#include "node/resolve.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

struct resolution {
    struct job job; /* first */
    struct hkv_store *store;
    struct endpoint_id id;
    char host[PEER_HOST_MAX + 1];
    uint16_t port;
    struct address_set addrs;
    enum hkv_err err;
    struct error_text why;
};

static enum hkv_err add(const struct addrinfo *found, uint16_t port, struct address_set *out)
{
    struct socket_address socket = {.port = port};
    if (found->ai_family == AF_INET) {
        memcpy(socket.ip, &((const struct sockaddr_in *)(const void *)found->ai_addr)->sin_addr, 4);
    } else if (found->ai_family == AF_INET6) {
        socket.is_ipv6 = true;
        memcpy(socket.ip, &((const struct sockaddr_in6 *)(const void *)found->ai_addr)->sin6_addr, 16);
    } else {
        return HKV_OK;
    }
    return address_set_add_socket(out, &socket);
}

enum hkv_err resolve_now(const char *host, uint16_t port, struct address_set *out)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM}, *found = NULL;
    int rc = getaddrinfo(host, NULL, &hints, &found);
    if (rc != 0)
        return error_set(HKV_E_PEER_UNREACHABLE, "the host name %s cannot be resolved: %s", host, gai_strerror(rc));
    enum hkv_err err = HKV_OK;
    for (const struct addrinfo *at = found; err == HKV_OK && at != NULL; at = at->ai_next) err = add(at, port, out);
    freeaddrinfo(found);
    return err == HKV_E_LIMIT ? HKV_OK : err;
}

/* Network thread. */
static void resolve_done(struct job *job)
{
    struct resolution *r = (struct resolution *)(void *)job;
    struct hkv_store *store = r->store;
    struct peer *peer = peers_find(&store->peers, &r->id);
    if (peer != NULL && store->transport != NULL) { /* else closing */
        peer->resolved = true;
        if (r->err != HKV_OK) error_restore(&r->why);
        if (r->err != HKV_OK || peer_named_at(peer, &r->addrs) != HKV_OK)
            node_log(store, HKV_LOG_WARN, "peers", "%s", error_last());
        peer_wake(peer, 0);
    }
    address_set_fini(&r->addrs);
    free(r);
}

static void resolve_run(struct job *job)
{
    struct resolution *r = (struct resolution *)(void *)job;
    r->err = resolve_now(r->host, r->port, &r->addrs);
    if (r->err != HKV_OK) error_save(&r->why);
    r->job.run = resolve_done;
    env_run_on(node_env(r->store), ENV_NETWORK, &r->job);
}

bool resolve_begin(struct hkv_store *store, struct peer *peer)
{
    struct resolution *r = calloc(1, sizeof *r);
    if (r == NULL) return false;
    r->job.run = resolve_run;
    r->store = store;
    r->id = peer->id;
    memcpy(r->host, peer->host, sizeof r->host);
    r->port = peer->host_port;
    env_run_on(node_env(store), ENV_WORKER, &r->job);
    return true;
}
