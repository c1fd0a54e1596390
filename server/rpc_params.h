/* The rules for parameters, one table a method: name, type, range. rpc_params_check() holds a call against its table
 * and says which parameter breaks which rule; the getters then cannot fail. openrpc.json says the same to clients, and
 * a test compares. */
#ifndef SERVER_RPC_PARAMS_H
#define SERVER_RPC_PARAMS_H

#include "server/rpc.h"

enum rpc_type {
    RPC_TYPE_STRING,
    RPC_TYPE_BASE64,
    RPC_TYPE_INTEGER,
    RPC_TYPE_BOOLEAN,
    RPC_TYPE_POSITION, /* `<epoch, 16 hex digits>-<number>` */
    RPC_TYPE_VERSION,  /* `<stamp_us>-<author hex>` or null: must be absent */
    RPC_TYPE_STRINGS,  /* array of at most `max` strings */
    RPC_TYPE_CHOICE,   /* one of `choices`, separated by '|' */
};

struct rpc_param {
    const char *name;
    enum rpc_type type;
    bool required;
    int64_t min, max; /* of integers */
    const char *choices;
};

/* Checks call->params (as sent: object, array or NULL) and replaces them by an object. False when the call has been
 * failed. */
bool rpc_params_check(struct rpc_call *call, json_t *sent);

bool rpc_param_given(const struct rpc_call *call, const char *name);

/* The string's bytes; "" with length 0 when absent. */
const char *rpc_param_string(const struct rpc_call *call, const char *name, size_t *len);

/* False when absent. */
bool rpc_param_boolean(const struct rpc_call *call, const char *name);

/* False when absent; *out is unchanged then. */
bool rpc_param_position(const struct rpc_call *call, const char *name, struct hkv_position *out);

int64_t rpc_param_integer(const struct rpc_call *call, const char *name, int64_t absent);

/* `if_version`, `ttl_ms` → write options. */
void rpc_param_write_options(const struct rpc_call *call, struct hkv_write_options *options);

#endif
