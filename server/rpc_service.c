#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "server/rpc_methods.h"

enum hkv_err rpc_health(struct rpc_call *call)
{
    struct hkv_status status;
    enum hkv_err err = hkv_status(call->request->rpc->store, &status);
    if (err != HKV_OK) return err;
    call->result = json_pack("{s:b, s:o}", "healthy", status.healthy, "conditions", rpc_json_conditions(&status));
    return HKV_OK;
}

void rpc_server_info(struct rpc_call *call)
{
    const struct rpc *rpc = call->request->rpc;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    uint64_t uptime_ms = now_ms > rpc->started_ms ? now_ms - rpc->started_ms : 0;
    rpc_call_result(call, json_pack("{s:s, s:s, s:i, s:o, s:o, s:s, s:o}", "name", "hero_codescalers_server", "version",
                                    HKV_VERSION_TEXT, "pid", (int)getpid(), "started_ms",
                                    rpc_json_stamp(rpc->started_ms), "uptime_ms", rpc_json_stamp(uptime_ms), "socket",
                                    rpc->socket_path, "request_bytes_max", rpc_json_stamp(RPC_REQUEST_MAX)));
}

void rpc_discover(struct rpc_call *call)
{
    rpc_call_result(call, json_loadb((const char *)openrpc_json, openrpc_json_bytes, 0, NULL));
}
