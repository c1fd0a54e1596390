#include "server/rpc_methods.h"

#include <string.h>

#include "server/rpc_params.h"

#define TIMEOUT_MS_MAX ((int64_t)UINT32_MAX - 1)
#define TTL_MS_MAX     ((int64_t)100 * 366 * 86400 * 1000) /* a hundred years */
#define PEERS_MAX      1024

#define STRING(n)                                                                                                      \
    {                                                                                                                  \
        .name = (n), .type = RPC_TYPE_STRING, .required = true                                                         \
    }
#define OPTIONAL_STRING(n)                                                                                             \
    {                                                                                                                  \
        .name = (n), .type = RPC_TYPE_STRING                                                                           \
    }
#define INTEGER(n, lo, hi)                                                                                             \
    {                                                                                                                  \
        .name = (n), .type = RPC_TYPE_INTEGER, .min = (lo), .max = (hi)                                                \
    }
#define IF_VERSION                                                                                                     \
    {                                                                                                                  \
        .name = "if_version", .type = RPC_TYPE_VERSION                                                                 \
    }

static const struct rpc_param put_params[] = {
    STRING("key"),
    {.name = "value", .type = RPC_TYPE_BASE64, .required = true},
    INTEGER("ttl_ms", 1, TTL_MS_MAX),
    IF_VERSION,
};
static const struct rpc_param key_params[] = {STRING("key")};
static const struct rpc_param delete_params[] = {STRING("key"), IF_VERSION};
static const struct rpc_param list_params[] = {
    OPTIONAL_STRING("prefix"),
    INTEGER("limit", 1, HKV_LIST_KEYS_MAX),
    OPTIONAL_STRING("cursor"),
};
static const struct rpc_param watch_params[] = {
    OPTIONAL_STRING("prefix"),
    {.name = "from", .type = RPC_TYPE_POSITION},
    {.name = "list", .type = RPC_TYPE_BOOLEAN},
};
static const struct rpc_param peer_params[] = {STRING("peer")};
static const struct rpc_param sync_params[] = {INTEGER("timeout_ms", 0, TIMEOUT_MS_MAX)};
static const struct rpc_param wait_params[] = {
    {.name = "timeout_ms", .type = RPC_TYPE_INTEGER, .required = true, .min = 0, .max = TIMEOUT_MS_MAX},
    {.name = "peers", .type = RPC_TYPE_STRINGS, .max = PEERS_MAX},
};
static const struct rpc_param ticket_params[] = {
    {.name = "mode", .type = RPC_TYPE_CHOICE, .required = true, .choices = "read|write"},
};
static const struct rpc_param join_params[] = {
    STRING("ticket"),
    {.name = "format", .type = RPC_TYPE_CHOICE, .choices = "auto|native|hero-v1"},
};

#define PARAMS(table) .params = (table), .param_count = sizeof(table) / sizeof *(table)

const struct rpc_method rpc_methods[] = {
    {"kv.get", RPC_KIND_OTHER, PARAMS(key_params), .start = rpc_kv_get},
    {"kv.put", RPC_KIND_WRITE, PARAMS(put_params), .start = rpc_kv_put},
    {"kv.delete", RPC_KIND_WRITE, PARAMS(delete_params), .start = rpc_kv_delete},
    {"kv.list", RPC_KIND_OTHER, PARAMS(list_params), .work = rpc_kv_list},
    {"kv.list_keys", RPC_KIND_OTHER, PARAMS(list_params), .work = rpc_kv_list_keys},
    {"kv.history", RPC_KIND_OTHER, PARAMS(key_params), .work = rpc_kv_history},
    {"kv.watch", RPC_KIND_OTHER, PARAMS(watch_params), .start = rpc_kv_watch},
    {"kv.info", RPC_KIND_OTHER, NULL, 0, .work = rpc_kv_info},
    {"kv.status", RPC_KIND_OTHER, NULL, 0, .work = rpc_kv_status},
    {"kv.peers", RPC_KIND_OTHER, NULL, 0, .work = rpc_kv_peers},
    {"kv.peer_add", RPC_KIND_OTHER, PARAMS(peer_params), .work = rpc_kv_peer_add},
    {"kv.peer_remove", RPC_KIND_OTHER, PARAMS(peer_params), .work = rpc_kv_peer_remove},
    {"kv.sync_once", RPC_KIND_OTHER, PARAMS(sync_params), .start = rpc_kv_sync_once},
    {"kv.wait_converged", RPC_KIND_OTHER, PARAMS(wait_params), .start = rpc_kv_wait_converged},
    {"kv.verify", RPC_KIND_OTHER, NULL, 0, .start = rpc_kv_verify},
    {"kv.ticket", RPC_KIND_OTHER, PARAMS(ticket_params), .work = rpc_kv_ticket},
    {"kv.join", RPC_KIND_OTHER, PARAMS(join_params), .work = rpc_kv_join},
    {"health", RPC_KIND_OTHER, NULL, 0, .work = rpc_health},
    {"server.info", RPC_KIND_OTHER, NULL, 0, .start = rpc_server_info},
    {"rpc.discover", RPC_KIND_OTHER, NULL, 0, .start = rpc_discover},
};

const size_t rpc_method_count = sizeof rpc_methods / sizeof *rpc_methods;

const struct rpc_method *rpc_method_find(const char *name, size_t name_bytes)
{
    for (size_t i = 0; i < rpc_method_count; i++)
        if (strlen(rpc_methods[i].name) == name_bytes && memcmp(rpc_methods[i].name, name, name_bytes) == 0)
            return &rpc_methods[i];
    return NULL;
}
