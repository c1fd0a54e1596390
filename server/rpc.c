#include "server/rpc.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/rpc_params.h"

#define CLOSED_MESSAGE "the server is shutting down"

/* ------------------------------------------------------------------------------------------ error objects */

static const struct {
    int code;
    const char *name;
    const char *class;
} protocol_errors[] = {
    {RPC_PARSE_ERROR, "PARSE_ERROR", "caller"},           {RPC_INVALID_REQUEST, "INVALID_REQUEST", "caller"},
    {RPC_METHOD_NOT_FOUND, "METHOD_NOT_FOUND", "caller"}, {RPC_INVALID_PARAMS, "INVALID_PARAMS", "caller"},
    {RPC_INTERNAL_ERROR, "INTERNAL_ERROR", "internal"},   {RPC_USE_VALUE_PATH, "USE_VALUE_PATH", "caller"},
};

const char *rpc_error_class(enum hkv_err err)
{
#define NONE     "none"
#define CALLER   "caller"
#define PEER     "peer"
#define RESOURCE "resource"
#define DISK     "disk"
#define CLOCK    "clock"
#define INTERNAL "internal"
    switch (err) {
#define ERROR_CLASS_CASE(code, name, text, class)                                                                      \
    case name:                                                                                                         \
        return class;
        HKV_ERROR_TABLE(ERROR_CLASS_CASE)
#undef ERROR_CLASS_CASE
    }
    return INTERNAL;
#undef NONE
#undef CALLER
#undef PEER
#undef RESOURCE
#undef DISK
#undef CLOCK
#undef INTERNAL
}

/* A message, which may quote half a character or what is no text at all: that becomes '?'. */
static json_t *message_json(const char *message)
{
    struct text clean = {0};
    for (size_t len = strlen(message); len > 0;) {
        size_t count = utf8_character(message, len);
        text_append(&clean, count ? message : "?", count ? count : 1);
        message += count ? count : 1;
        len -= count ? count : 1;
    }
    json_t *text = text_failed(&clean) ? NULL : json_stringn(clean.bytes, clean.len);
    text_fini(&clean);
    return text;
}

json_t *rpc_error_object(int code, enum hkv_err err, const char *message, const char *param)
{
    const char *name = hkv_error_name(err);
    const char *class = rpc_error_class(err);
    for (size_t i = 0; i < sizeof protocol_errors / sizeof *protocol_errors; i++) {
        if (protocol_errors[i].code != code) continue;
        name = protocol_errors[i].name;
        class = protocol_errors[i].class;
    }
    json_t *data = json_pack("{s:s, s:s, s:s*}", "name", name, "class", class, "param", param);
    return json_pack("{s:i, s:o, s:o}", "code", code, "message", message_json(message), "data", data);
}

static int append_chunk(const char *bytes, size_t len, void *out)
{
    text_append(out, bytes, len);
    return text_failed(out) ? -1 : 0;
}

/* Appends a response; takes `result` or `error`, of which one is NULL. */
static void write_response(struct text *out, const json_t *id, json_t *result, json_t *error)
{
    text_append_string(out, "{\"jsonrpc\":\"2.0\",\"id\":");
    if (!id || json_dump_callback(id, append_chunk, out, JSON_COMPACT | JSON_ENCODE_ANY) != 0)
        text_append_string(out, "null");
    text_append_string(out, result ? ",\"result\":" : ",\"error\":");
    json_t *body = result ? result : error;
    if (!body || json_dump_callback(body, append_chunk, out, JSON_COMPACT | JSON_ENCODE_ANY) != 0) out->failed = true;
    text_append_string(out, "}");
    json_decref(body);
}

void rpc_write_error(struct text *out, int code, const char *message)
{
    write_response(out, NULL, NULL, rpc_error_object(code, HKV_E_INVALID, message, NULL));
}

/* ------------------------------------------------------------------------------------------ ends of a call */

static void request_run(struct rpc_request *request);

/* Appends the reply to that of the request. On the thread that works on the call. */
static void write_reply(struct rpc_call *call)
{
    struct rpc_request *request = call->request;
    if (call->id) {
        if (request->is_batch) text_append(&request->out, request->out.len ? "," : "[", 1);
        json_t *error = call->code ? rpc_error_object(call->code, call->err, call->message, call->param) : NULL;
        json_t *result = call->code ? NULL : json_incref(call->result);
        write_response(&request->out, call->id, result, error);
    }
    json_decref(call->result);
    call->result = NULL;
    call->written = true;
}

static void call_ended(struct rpc_call *call)
{
    struct rpc_request *request = call->request;
    assert(request->call_runs);
    request->call_runs = false;
    if (!call->written) write_reply(call);
    json_decref(call->params);
    call->params = NULL;
    if (!request->in_loop) request_run(request);
}

static void set_store_error(struct rpc_call *call, enum hkv_err err, const char *message)
{
    assert(err != HKV_OK);
    call->code = RPC_STORE_ERROR(err);
    call->err = err;
    if (!message || !*message) message = hkv_error_sentence(err);
    if (message != call->message) snprintf(call->message, sizeof call->message, "%s", message);
}

/* `result` is taken. */
static void set_result(struct rpc_call *call, json_t *result)
{
    call->result = result;
    if (!result) set_store_error(call, HKV_E_NOMEM, hkv_error_sentence(HKV_E_NOMEM));
}

void rpc_call_result(struct rpc_call *call, json_t *result)
{
    set_result(call, result);
    call_ended(call);
}

void rpc_call_fail_store(struct rpc_call *call, enum hkv_err err, const char *message)
{
    set_store_error(call, err, message);
    call_ended(call);
}

void rpc_call_fail(struct rpc_call *call, int code, const char *param, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    call->code = code;
    call->err = HKV_E_INVALID;
    call->param = param;
    vsnprintf(call->message, sizeof call->message, format, args);
    va_end(args);
    call_ended(call);
}

static struct rpc_call *call_of(struct task *task)
{
    return (struct rpc_call *)(void *)((char *)task - offsetof(struct rpc_call, task));
}

static void work_on_worker(struct task *task)
{
    struct rpc_call *call = call_of(task);
    call->message[0] = '\0';
    call->err = call->work(call);
    if (call->err != HKV_OK)
        set_store_error(call, call->err, call->message[0] ? call->message : hkv_last_error());
    else if (call->code == 0)
        set_result(call, call->result);
    write_reply(call);
}

static void worked(struct task *task)
{
    call_ended(call_of(task));
}

void rpc_call_work(struct rpc_call *call, enum hkv_err (*work)(struct rpc_call *call))
{
    call->work = work;
    call->task = (struct task){.run = work_on_worker, .done = worked};
    tasks_work(call->request->rpc->tasks, &call->task);
}

/* ------------------------------------------------------------------------------------------ a request */

/* What breaks the rules of a request object; NULL when nothing does. */
static const char *envelope_fault(json_t *object)
{
    if (!json_is_object(object)) return "a request is a JSON object";
    const json_t *version = json_object_get(object, "jsonrpc");
    if (!json_is_string(version) || json_string_length(version) != 3 ||
        memcmp(json_string_value(version), "2.0", 3) != 0)
        return "jsonrpc must be \"2.0\"";
    if (!json_is_string(json_object_get(object, "method"))) return "method must be a string";
    const json_t *params = json_object_get(object, "params");
    if (params && !json_is_object(params) && !json_is_array(params)) return "params must be an object or an array";
    const json_t *id = json_object_get(object, "id");
    if (id && !json_is_string(id) && !json_is_number(id) && !json_is_null(id))
        return "id must be a string, a number or null";
    return NULL;
}

static void call_start(struct rpc_request *request, json_t *object)
{
    struct rpc_call *call = &request->call;
    *call = (struct rpc_call){.request = request, .id = json_object_get(object, "id")};
    request->call_runs = true;

    const char *fault = envelope_fault(object);
    if (fault) {
        if (!call->id || json_is_object(call->id) || json_is_array(call->id) || json_is_boolean(call->id))
            call->id = json_null();
        rpc_call_fail(call, RPC_INVALID_REQUEST, NULL, "not a JSON-RPC 2.0 request: %s", fault);
        return;
    }
    if (request->is_batch && request->out.len > RPC_BATCH_REPLY_MAX) {
        rpc_call_fail_store(call, HKV_E_LIMIT,
                            "the replies of this batch are over 16 MiB; the rest was not run: split it");
        return;
    }
    if (!request->rpc->store) {
        rpc_call_fail_store(call, HKV_E_CLOSED, CLOSED_MESSAGE);
        return;
    }
    const json_t *name = json_object_get(object, "method");
    call->method = rpc_method_find(json_string_value(name), json_string_length(name));
    if (!call->method) {
        rpc_call_fail(call, RPC_METHOD_NOT_FOUND, NULL,
                      "there is no method '%.64s'; rpc.discover lists those there are", json_string_value(name));
        return;
    }
    if (!rpc_params_check(call, json_object_get(object, "params"))) return;
    if (call->method->start)
        call->method->start(call);
    else
        rpc_call_work(call, call->method->work);
}

/* Runs calls until one has to wait or all are done. */
static void request_run(struct rpc_request *request)
{
    request->in_loop = true;
    size_t count = request->is_batch ? json_array_size(request->root) : 1;
    while (!request->call_runs && request->root && request->next < count) {
        json_t *object = request->is_batch ? json_array_get(request->root, request->next) : request->root;
        request->next++;
        call_start(request, object);
    }
    request->in_loop = false;
    if (request->call_runs) return;

    if (request->is_batch && request->out.len) text_append(&request->out, "]", 1);
    if (text_failed(&request->out)) {
        text_fini(&request->out);
        rpc_write_error(&request->out, RPC_STORE_ERROR(HKV_E_NOMEM), hkv_error_sentence(HKV_E_NOMEM));
    }
    request->reply(request);
}

void rpc_request_free(struct rpc_request *request)
{
    if (!request) return;
    assert(!request->call_runs);
    json_decref(request->root);
    text_fini(&request->source);
    text_fini(&request->out);
    free(request);
}

enum rpc_kind rpc_request_kind(const struct rpc_request *request)
{
    if (request->is_batch || !json_is_object(request->root) || request->is_large) return RPC_KIND_OTHER;
    const json_t *name = json_object_get(request->root, "method");
    if (!json_is_string(name)) return RPC_KIND_OTHER;
    const struct rpc_method *method = rpc_method_find(json_string_value(name), json_string_length(name));
    return method ? method->kind : RPC_KIND_OTHER;
}

/* ------------------------------------------------------------------------------------------ reading */

/* Whether a text stays within the limits on depth and number of values, seen without building anything. Only needs to
 * be right about texts that are JSON: the parser refuses the others. */
static const char *shape_fault(const char *bytes, size_t len)
{
    size_t depth = 0;
    size_t nodes = 1;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = bytes[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        in_string = c == '"';
        if (c == '[' || c == '{') {
            if (++depth > RPC_DEPTH_MAX) return "the request is nested deeper than 32 levels";
            nodes++;
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
        } else if (c == ',' || c == ':') {
            nodes++;
        }
        if (nodes > RPC_NODES_MAX) return "the request holds more than 65536 JSON values";
    }
    return NULL;
}

static void refuse(struct rpc_request *request, int code, const char *message)
{
    rpc_write_error(&request->out, code, message);
    json_decref(request->root);
    request->root = NULL;
    request->is_batch = false;
}

/* What the parser refuses although it is JSON; NULL: anything else. */
static const char *beyond_parser(enum json_error_code code)
{
    if (code == json_error_duplicate_key) return "a member is given twice";
    if (code == json_error_null_byte_in_key) return "the name of a member holds U+0000";
    return code == json_error_numeric_overflow ? "a number does not fit into 64 bits" : NULL;
}

static void read_root(struct rpc_request *request, const char *bytes, size_t len)
{
    const char *fault = shape_fault(bytes, len);
    if (fault) {
        refuse(request, RPC_INVALID_REQUEST, fault);
        return;
    }
    json_error_t error;
    request->root = json_loadb(bytes, len, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!request->root) {
        char message[RPC_MESSAGE_MAX];
        const char *beyond = beyond_parser(json_error_code(&error));
        snprintf(message, sizeof message, "%s at byte %d: %s", beyond ? beyond : "not JSON", error.position,
                 error.text);
        refuse(request, beyond ? RPC_INVALID_REQUEST : RPC_PARSE_ERROR, message);
        return;
    }
    request->is_batch = json_is_array(request->root);
    if (!request->is_batch) return;
    if (json_array_size(request->root) == 0) refuse(request, RPC_INVALID_REQUEST, "a batch must not be empty");
    if (json_array_size(request->root) > RPC_BATCH_MAX)
        refuse(request, RPC_INVALID_REQUEST, "a batch has at most 1000 calls; split it");
}

struct rpc_request *rpc_request_new(struct rpc *rpc, struct rpc_stream *stream, const char *bytes, size_t len)
{
    struct rpc_request *request = calloc(1, sizeof *request);
    if (!request) return NULL;
    request->rpc = rpc;
    request->stream = stream;
    request->is_large = len > RPC_INLINE_MAX;
    if (len > RPC_REQUEST_MAX)
        refuse(request, RPC_INVALID_REQUEST, "a request is at most 4 MiB; larger values go by PUT /value/<key>");
    else if (request->is_large)
        text_append(&request->source, bytes, len);
    else
        read_root(request, bytes, len);
    if (!text_failed(&request->source)) return request;
    rpc_request_free(request);
    return NULL;
}

static struct rpc_request *request_of(struct task *task)
{
    return (struct rpc_request *)(void *)((char *)task - offsetof(struct rpc_request, task));
}

static void read_on_worker(struct task *task)
{
    struct rpc_request *request = request_of(task);
    read_root(request, request->source.bytes, request->source.len);
    text_fini(&request->source);
}

static void was_read(struct task *task)
{
    request_run(request_of(task));
}

void rpc_request_start(struct rpc_request *request, void (*reply)(struct rpc_request *request), void *owner)
{
    request->reply = reply;
    request->owner = owner;
    bool unread = request->source.len > 0;
    if (unread && !request->rpc->store) refuse(request, RPC_STORE_ERROR(HKV_E_CLOSED), CLOSED_MESSAGE);
    if (!unread || !request->rpc->store) {
        request_run(request);
        return;
    }
    request->task = (struct task){.run = read_on_worker, .done = was_read};
    tasks_work(request->rpc->tasks, &request->task);
}
