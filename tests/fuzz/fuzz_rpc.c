/* JSON-RPC requests, one a line, against a store in memory: whatever comes, each line has exactly one reply, which is
 * nothing or a JSON-RPC 2.0 response (or an array of them) with either a result or an error that has a code, a message
 * and data. */
#include <stdlib.h>
#include <string.h>

#include "server/rpc.h"
#include "tests/unit/server/fake_kvs.h"

#define INPUT_MAX ((size_t)128 << 10) /* over RPC_INLINE_MAX */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds) abort();
}

static void check_response(const json_t *response)
{
    const json_t *result = json_object_get(response, "result");
    const json_t *error = json_object_get(response, "error");
    must(json_is_object(response) && json_object_size(response) == 3);
    must(strcmp(json_string_value(json_object_get(response, "jsonrpc")), "2.0") == 0);
    must(json_object_get(response, "id") != NULL);
    must((result == NULL) != (error == NULL));
    if (!error) return;
    must(json_is_integer(json_object_get(error, "code")));
    must(json_string_length(json_object_get(error, "message")) > 0);
    const json_t *data = json_object_get(error, "data");
    must(json_is_string(json_object_get(data, "name")) && json_is_string(json_object_get(data, "class")));
}

static void on_reply(struct rpc_request *request)
{
    unsigned *replies = request->owner;
    ++*replies;
    if (request->out.len == 0) return;
    json_t *reply = json_loadb(request->out.bytes, request->out.len, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    must(reply != NULL);
    if (json_is_array(reply)) must(json_array_size(reply) > 0);
    for (size_t i = 0; i < json_array_size(reply); i++) check_response(json_array_get(reply, i));
    if (!json_is_array(reply)) check_response(reply);
    json_decref(reply);
}

static enum hkv_err on_watch(struct rpc_stream *stream, const struct hkv_watch_options *options, unsigned *number,
                             const char **why)
{
    (void)stream;
    must(options->prefix != NULL);
    *number = (unsigned)options->prefix_bytes;
    *why = "";
    return HKV_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_MAX) return 0;
    struct tasks tasks;
    (void)tasks_init(&tasks, NULL);
    struct rpc rpc = {.store = fake_kvs_new(), .tasks = &tasks, .socket_path = "/s"};
    struct rpc_stream stream = {.watch = on_watch};
    const char *at = (const char *)data, *end = at + size;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline ? newline : end) - at);
        struct rpc_request *request = rpc_request_new(&rpc, &stream, at, len);
        if (!request) abort();
        unsigned replies = 0;
        (void)rpc_request_kind(request);
        rpc_request_start(request, on_reply, &replies);
        tasks_drain(&tasks);
        must(replies == 1);
        rpc_request_free(request);
        at += len + (newline != NULL);
    }
    hkv_close(rpc.store);
    return 0;
}
