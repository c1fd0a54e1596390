/* JSON-RPC 2.0 without a connection: text in, text out, the store in between.
 *
 *   text ──rpc_request_new──▶ struct rpc_request ──rpc_request_start──▶ … ──▶ reply(request), once, on the loop
 *                               │  one call, or a batch: its calls run one after the other
 *                               └─ struct rpc_call ─▶ method table (rpc_methods.c)
 *                                    │  parameters checked (rpc_params.c)
 *                                    ├─ start():  answers at once, or later from a callback
 *                                    └─ work():   blocks, so it runs on a worker
 *
 * What takes long never runs on the loop thread: a worker reads a request longer than RPC_INLINE_MAX, and writes the
 * reply of what it worked on.
 *
 * Every failure is an error object: the standard codes, RPC_STORE_ERROR(err) for what the store says, and
 * RPC_USE_VALUE_PATH. `data` names it: {"name": "HKV_E_KEY", "class": "caller"}.
 *
 * Memory: a request is at most RPC_REQUEST_MAX bytes and RPC_NODES_MAX JSON values, nested RPC_DEPTH_MAX deep; a batch
 * stops answering past RPC_BATCH_REPLY_MAX. Everything here is called on the loop thread, and calls back there, except
 * `work`. */
#ifndef SERVER_RPC_H
#define SERVER_RPC_H

#include <hero_kvs.h>
#include <jansson.h>

#include "server/tasks.h"
#include "server/text.h"

#define RPC_REQUEST_MAX     ((size_t)4 << 20)   /* bytes of one request */
#define RPC_DEPTH_MAX       32                  /* nested arrays and objects in a request */
#define RPC_NODES_MAX       65536               /* JSON values in a request */
#define RPC_BATCH_MAX       1000                /* calls in a batch */
#define RPC_BATCH_REPLY_MAX ((size_t)16 << 20)  /* bytes of replies, past which the rest of a batch is refused */
#define RPC_VALUE_MAX       ((uint64_t)3 << 20) /* longest value in a reply; longer ones are read from /value/<key> */
#define RPC_INLINE_MAX      65536               /* values and requests up to this are handled on the loop thread */
#define RPC_MESSAGE_MAX     512                 /* bytes of an error message */

enum rpc_code {
    RPC_PARSE_ERROR = -32700,
    RPC_INVALID_REQUEST = -32600,
    RPC_METHOD_NOT_FOUND = -32601,
    RPC_INVALID_PARAMS = -32602,
    RPC_INTERNAL_ERROR = -32603,
    RPC_USE_VALUE_PATH = -32080, /* the value is too long for JSON-RPC: GET or PUT /value/<key> */
    RPC_STORE_ERROR_BASE = -32000,
};

/* The JSON-RPC code of an error of the store: -32001 for HKV_E_INVALID, and so on as in hero_kvs_error.h. */
#define RPC_STORE_ERROR(err) (RPC_STORE_ERROR_BASE - (int)(err))

/* What is the same for all requests of a server. Borrowed strings live as long as the server. */
struct rpc {
    struct hkv_store *store; /* NULL: closed, every call ends with HKV_E_CLOSED */
    struct tasks *tasks;
    uint64_t started_ms;     /* wall clock */
    const char *socket_path; /* for server.info */
};

struct rpc_call;
struct rpc_request;

/* Where kv.watch puts its events: a newline connection. */
struct rpc_stream {
    /* Starts a watch; its number, or an error and `why`. */
    enum hkv_err (*watch)(struct rpc_stream *stream, const struct hkv_watch_options *options, unsigned *number,
                          const char **why);
};

enum rpc_kind {
    RPC_KIND_WRITE, /* may run beside other writes of its connection, in the order they came */
    RPC_KIND_OTHER, /* runs alone on its connection */
};

struct rpc_param;

struct rpc_method {
    const char *name;
    enum rpc_kind kind;
    const struct rpc_param *params;
    size_t param_count;
    void (*start)(struct rpc_call *call); /* on the loop thread; ends with rpc_call_result() or rpc_call_fail…() */
    enum hkv_err (*work)(struct rpc_call *call); /* or: on a worker; sets call->result, or returns the store's error */
};

/* One call of a request while it runs. */
struct rpc_call {
    struct rpc_request *request;
    const struct rpc_method *method;
    json_t *params; /* an object, checked; borrowed from the request or made from an array */
    json_t *id;     /* borrowed; NULL for a notification */
    struct task task;
    enum hkv_err (*work)(struct rpc_call *call); /* what rpc_call_work() was given */
    json_t *result;                              /* owned */
    int code;                                    /* 0, or the code of the error */
    enum hkv_err err;
    char message[RPC_MESSAGE_MAX];
    const char *param; /* that breaks its rule; borrowed */
    bool written;      /* a worker has appended the reply to the request's */
    struct hkv_version version;
    uint64_t waited_ms;
};

struct rpc_request {
    struct rpc *rpc;
    struct rpc_stream *stream; /* NULL: watches are refused (HTTP) */
    void (*reply)(struct rpc_request *request);
    void *owner;
    struct text out; /* the reply; empty when there is nothing to answer */
    json_t *root;
    size_t next; /* of a batch */
    bool is_batch;
    bool is_large;      /* more than RPC_INLINE_MAX bytes: read by a worker */
    struct text source; /* of a large one, until it is read */
    struct task task;   /* reads it */
    bool in_loop;
    bool call_runs;
    struct rpc_call call;
};

/* A request from its text, which is not needed afterwards. NULL: out of memory. */
struct rpc_request *rpc_request_new(struct rpc *rpc, struct rpc_stream *stream, const char *bytes, size_t len);

/* RPC_KIND_WRITE when it is one small call that only writes. */
enum rpc_kind rpc_request_kind(const struct rpc_request *request);

/* Runs the calls, then request->reply(request), perhaps before this returns. The reply's owner frees the request. */
void rpc_request_start(struct rpc_request *request, void (*reply)(struct rpc_request *request), void *owner);
void rpc_request_free(struct rpc_request *request);

/* The reply to a request that cannot be read at all (too long, for example), with `id` null. */
void rpc_write_error(struct text *out, int code, const char *message);

/* ------------------------------------------------------------------------------------------ for methods */

extern const struct rpc_method rpc_methods[];
extern const size_t rpc_method_count;

const struct rpc_method *rpc_method_find(const char *name, size_t name_bytes);

/* Ends a call with its result (taken; NULL counts as out of memory). */
void rpc_call_result(struct rpc_call *call, json_t *result);

/* Ends a call with an error of the store, and the sentence about it, which may be call->message itself. */
void rpc_call_fail_store(struct rpc_call *call, enum hkv_err err, const char *message);

/* Ends a call with another error. `param` is the parameter at fault or NULL. */
void rpc_call_fail(struct rpc_call *call, int code, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Runs `work` on a worker, which also writes the reply, then ends the call. */
void rpc_call_work(struct rpc_call *call, enum hkv_err (*work)(struct rpc_call *call));

/* "caller", "peer", … */
const char *rpc_error_class(enum hkv_err err);

/* {"name", "class"} of an error of the store, and its error object. */
json_t *rpc_error_object(int code, enum hkv_err err, const char *message, const char *param);

#endif
