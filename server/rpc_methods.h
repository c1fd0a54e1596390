/* The methods, one function each, in the files that their names begin with: rpc_kv.c (keys and values), rpc_sync.c
 * (peers, tickets, status), rpc_service.c (the server itself). The table is in rpc_methods.c. `start` functions run on
 * the loop thread, `work` functions on a worker. */
#ifndef SERVER_RPC_METHODS_H
#define SERVER_RPC_METHODS_H

#include "server/rpc.h"

void rpc_kv_put(struct rpc_call *call);
void rpc_kv_get(struct rpc_call *call);
void rpc_kv_delete(struct rpc_call *call);
enum hkv_err rpc_kv_list(struct rpc_call *call);
enum hkv_err rpc_kv_list_keys(struct rpc_call *call);
enum hkv_err rpc_kv_history(struct rpc_call *call);
void rpc_kv_watch(struct rpc_call *call);

enum hkv_err rpc_kv_info(struct rpc_call *call);
enum hkv_err rpc_kv_status(struct rpc_call *call);
enum hkv_err rpc_kv_peers(struct rpc_call *call);
enum hkv_err rpc_kv_peer_add(struct rpc_call *call);
enum hkv_err rpc_kv_peer_remove(struct rpc_call *call);
void rpc_kv_sync_once(struct rpc_call *call);
void rpc_kv_wait_converged(struct rpc_call *call);
void rpc_kv_verify(struct rpc_call *call);
enum hkv_err rpc_kv_ticket(struct rpc_call *call);
enum hkv_err rpc_kv_join(struct rpc_call *call);

enum hkv_err rpc_health(struct rpc_call *call);
void rpc_server_info(struct rpc_call *call);
void rpc_discover(struct rpc_call *call);

/* JSON of parts that several methods and the events share; NULL: out of memory. */
json_t *rpc_json_stamp(uint64_t number);
json_t *rpc_json_author(const struct hkv_version *version);
json_t *rpc_json_version(const struct hkv_version *version);
json_t *rpc_json_conditions(const struct hkv_status *status);

/* The OpenRPC document, embedded when the program is built. */
extern const unsigned char openrpc_json[];
extern const size_t openrpc_json_bytes;

#endif
