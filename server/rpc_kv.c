#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/rpc_methods.h"
#include "server/rpc_params.h"

json_t *rpc_json_stamp(uint64_t number)
{
    return json_integer(number > INT64_MAX ? INT64_MAX : (json_int_t)number);
}

json_t *rpc_json_author(const struct hkv_version *version)
{
    char text[HKV_ID_TEXT_BYTES];
    hex_write(version->author, sizeof version->author, text);
    return json_string(text);
}

json_t *rpc_json_version(const struct hkv_version *version)
{
    char text[HKV_VERSION_TEXT_BYTES];
    hkv_version_format(version, text);
    return json_string(text);
}

static json_t *json_base64(const uint8_t *bytes, size_t len)
{
    struct text text = {0};
    base64_append(&text, bytes, len);
    json_t *string = text_failed(&text) ? NULL : json_stringn_nocheck(text.bytes, text.len);
    text_fini(&text);
    return string;
}

/* ------------------------------------------------------------------------------------------ writes */

static json_t *written_json(const struct hkv_version *version)
{
    return json_pack("{s:b, s:o}", "ok", 1, "version", rpc_json_version(version));
}

static void write_finished(struct task *task)
{
    struct rpc_call *call = (struct rpc_call *)(void *)((char *)task - offsetof(struct rpc_call, task));
    if (call->err != HKV_OK)
        rpc_call_fail_store(call, call->err, call->message);
    else
        rpc_call_result(call, written_json(&call->version));
}

/* On the store's callback thread. */
static void write_done(void *arg, enum hkv_err err, const char *error, const struct hkv_write_result *result)
{
    struct rpc_call *call = arg;
    call->err = err;
    if (err != HKV_OK) {
        call->message[0] = '\0';
        strncat(call->message, error, sizeof call->message - 1);
    } else {
        call->version = result->version;
    }
    tasks_post(call->request->rpc->tasks, &call->task);
}

#define VALUE_RULE "kv.put: parameter 'value' must be base64 (RFC 4648, with padding and zero stray bits)"

/* The bytes that the parameter stands for, heap. NULL with *err: HKV_E_INVALID when it is no base64, HKV_E_NOMEM. */
static uint8_t *read_value(const struct rpc_call *call, size_t *len, enum hkv_err *err)
{
    size_t chars;
    const char *text = rpc_param_string(call, "value", &chars);
    uint8_t *value = malloc(BASE64_BYTES_MAX(chars) + 1);
    *err = HKV_E_NOMEM;
    if (!value) return NULL;
    if (base64_read(text, chars, value, len)) return value;
    *err = HKV_E_INVALID;
    free(value);
    return NULL;
}

/* For values that take long, on a worker. */
static enum hkv_err put_work(struct rpc_call *call)
{
    struct hkv_write_options options;
    struct hkv_write_result result;
    rpc_param_write_options(call, &options);
    size_t key_bytes, value_bytes;
    const char *key = rpc_param_string(call, "key", &key_bytes);
    enum hkv_err err;
    uint8_t *value = read_value(call, &value_bytes, &err);
    if (!value && err == HKV_E_INVALID) {
        call->code = RPC_INVALID_PARAMS;
        call->param = "value";
        snprintf(call->message, sizeof call->message, VALUE_RULE);
        return HKV_OK;
    }
    if (!value) {
        snprintf(call->message, sizeof call->message, "%s", hkv_error_sentence(err));
        return err;
    }
    err = hkv_put(call->request->rpc->store, key, key_bytes, value, value_bytes, &options, &result);
    free(value);
    if (err == HKV_OK) call->result = written_json(&result.version);
    return err;
}

void rpc_kv_put(struct rpc_call *call)
{
    size_t key_bytes, value_bytes;
    (void)rpc_param_string(call, "value", &value_bytes);
    if (value_bytes > RPC_INLINE_MAX) {
        rpc_call_work(call, put_work);
        return;
    }
    struct hkv_write_options options;
    rpc_param_write_options(call, &options);
    const char *key = rpc_param_string(call, "key", &key_bytes);
    enum hkv_err err;
    uint8_t *value = read_value(call, &value_bytes, &err);
    if (!value) {
        if (err == HKV_E_INVALID)
            rpc_call_fail(call, RPC_INVALID_PARAMS, "value", VALUE_RULE);
        else
            rpc_call_fail_store(call, err, hkv_error_sentence(err));
        return;
    }
    call->task = (struct task){.done = write_finished};
    err = hkv_put_async(call->request->rpc->store, key, key_bytes, value, value_bytes, &options, write_done, call);
    free(value);
    if (err != HKV_OK) rpc_call_fail_store(call, err, hkv_last_error());
}

void rpc_kv_delete(struct rpc_call *call)
{
    struct hkv_write_options options;
    rpc_param_write_options(call, &options);
    size_t key_bytes;
    const char *key = rpc_param_string(call, "key", &key_bytes);

    call->task = (struct task){.done = write_finished};
    enum hkv_err err = hkv_delete_async(call->request->rpc->store, key, key_bytes, &options, write_done, call);
    if (err != HKV_OK) rpc_call_fail_store(call, err, hkv_last_error());
}

/* ------------------------------------------------------------------------------------------ get */

static json_t *value_json(const struct hkv_value *value)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o*}", "value", json_base64(value->data, (size_t)value->length), "stamp_us",
                     rpc_json_stamp(value->version.stamp_us), "author", rpc_json_author(&value->version), "version",
                     rpc_json_version(&value->version), "expires_us",
                     value->expires_us ? rpc_json_stamp(value->expires_us) : NULL);
}

/* Reads the value when it has at most `max_bytes`; what there is to answer is then in the call. *length tells what it
 * has. */
static enum hkv_err read_upto(struct rpc_call *call, uint64_t max_bytes, uint64_t *length)
{
    size_t key_bytes;
    const char *key = rpc_param_string(call, "key", &key_bytes);
    struct hkv_value value;
    *length = 0;
    enum hkv_err err = hkv_get_upto(call->request->rpc->store, key, key_bytes, max_bytes, &value);
    if (err == HKV_E_NOT_FOUND) {
        call->result = json_pack("{s:n, s:n, s:n, s:n}", "value", "stamp_us", "author", "version");
        return HKV_OK;
    }
    if (err != HKV_OK) return err;
    *length = value.length;
    if (value.length <= max_bytes) call->result = value_json(&value);
    hkv_value_free(&value);
    return HKV_OK;
}

/* For values that take long, on a worker. */
static enum hkv_err get_work(struct rpc_call *call)
{
    uint64_t length;
    enum hkv_err err = read_upto(call, RPC_VALUE_MAX, &length);
    if (err == HKV_OK && length > RPC_VALUE_MAX) {
        call->code = RPC_USE_VALUE_PATH;
        snprintf(call->message, sizeof call->message,
                 "the value has %" PRIu64
                 " bytes, and kv.get answers with at most 3 MiB: read it with GET /value/<key> on "
                 "this socket (HTTP)",
                 length);
    }
    return err;
}

void rpc_kv_get(struct rpc_call *call)
{
    uint64_t length;
    enum hkv_err err = read_upto(call, RPC_INLINE_MAX, &length);
    if (err != HKV_OK)
        rpc_call_fail_store(call, err, hkv_last_error());
    else if (length > RPC_INLINE_MAX)
        rpc_call_work(call, get_work);
    else
        rpc_call_result(call, call->result);
}

/* ------------------------------------------------------------------------------------------ lists */

static json_t *entry_json(const struct hkv_list_entry *entry)
{
    return json_pack("{s:s%, s:o, s:o, s:o, s:o, s:o, s:o*}", "key", entry->key, entry->key_bytes, "value",
                     entry->value ? json_base64(entry->value, (size_t)entry->length) : json_null(), "length",
                     rpc_json_stamp(entry->length), "stamp_us", rpc_json_stamp(entry->version.stamp_us), "author",
                     rpc_json_author(&entry->version), "version", rpc_json_version(&entry->version), "expires_us",
                     entry->expires_us ? rpc_json_stamp(entry->expires_us) : NULL);
}

static json_t *key_json(const struct hkv_list_entry *entry)
{
    return json_stringn(entry->key, entry->key_bytes);
}

typedef enum hkv_err (*list_fn)(struct hkv_store *store, const void *prefix, size_t prefix_bytes, size_t limit,
                                const char *cursor, struct hkv_page **out);

/* A page as {`member`: [...], next}. */
static enum hkv_err list_page(struct rpc_call *call, list_fn list, const char *member,
                              json_t *(*to_json)(const struct hkv_list_entry *entry))
{
    size_t prefix_bytes, cursor_bytes;
    const char *prefix = rpc_param_string(call, "prefix", &prefix_bytes);
    const char *cursor = rpc_param_string(call, "cursor", &cursor_bytes);
    if (!rpc_param_given(call, "cursor")) cursor = NULL;
    struct hkv_page *page;
    enum hkv_err err = list(call->request->rpc->store, prefix, prefix_bytes,
                            (size_t)rpc_param_integer(call, "limit", 0), cursor, &page);
    if (err != HKV_OK) return err;

    json_t *entries = json_array();
    for (size_t i = 0; entries && i < page->count; i++) {
        if (json_array_append_new(entries, to_json(&page->entries[i])) == 0) continue;
        json_decref(entries);
        entries = NULL;
    }
    call->result = json_pack("{s:o, s:s?}", member, entries, "next", page->next);
    hkv_page_free(page);
    return HKV_OK;
}

enum hkv_err rpc_kv_list(struct rpc_call *call)
{
    return list_page(call, hkv_list, "entries", entry_json);
}

enum hkv_err rpc_kv_list_keys(struct rpc_call *call)
{
    return list_page(call, hkv_list_keys, "keys", key_json);
}

static json_t *history_json(const struct hkv_history_entry *entry)
{
    static const char *const kinds[] = {
        [HKV_KIND_VALUE] = "value",
        [HKV_KIND_TOMBSTONE] = "tombstone",
        [HKV_KIND_MISSING] = "missing",
        [HKV_KIND_UNREADABLE] = "unreadable",
    };
    char hash[HKV_ID_TEXT_BYTES];
    hex_write(entry->hash, sizeof entry->hash, hash);
    return json_pack("{s:o, s:o, s:o, s:s, s:o, s:s, s:b}", "version", rpc_json_version(&entry->version), "stamp_us",
                     rpc_json_stamp(entry->version.stamp_us), "author", rpc_json_author(&entry->version), "hash", hash,
                     "length", rpc_json_stamp(entry->content_length), "kind", kinds[entry->kind], "shown",
                     entry->shown);
}

enum hkv_err rpc_kv_history(struct rpc_call *call)
{
    size_t key_bytes;
    const char *key = rpc_param_string(call, "key", &key_bytes);
    struct hkv_history *history;
    enum hkv_err err = hkv_history(call->request->rpc->store, key, key_bytes, &history);
    if (err != HKV_OK) return err;

    json_t *entries = json_array();
    for (size_t i = 0; entries && i < history->count; i++) {
        if (json_array_append_new(entries, history_json(&history->entries[i])) == 0) continue;
        json_decref(entries);
        entries = NULL;
    }
    hkv_history_free(history);
    call->result = json_pack("{s:o}", "history", entries);
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ watch */

void rpc_kv_watch(struct rpc_call *call)
{
    struct rpc_request *request = call->request;
    if (!request->stream) {
        rpc_call_fail(
            call, RPC_INVALID_REQUEST, NULL,
            "kv.watch is a stream: call it on a newline-delimited connection to this socket; POST /rpc cannot "
            "carry it, GET /events is its HTTP form");
        return;
    }
    if (request->is_batch) {
        rpc_call_fail(call, RPC_INVALID_REQUEST, NULL, "kv.watch is a stream: call it outside of a batch");
        return;
    }
    struct hkv_watch_options options = {.list = rpc_param_boolean(call, "list")};
    struct hkv_position from;
    options.prefix = rpc_param_string(call, "prefix", &options.prefix_bytes);
    if (rpc_param_position(call, "from", &from)) options.from = &from;
    unsigned number = 0;
    const char *why = "";
    enum hkv_err err = request->stream->watch(request->stream, &options, &number, &why);
    if (err != HKV_OK)
        rpc_call_fail_store(call, err, why);
    else
        rpc_call_result(call, json_pack("{s:i}", "watch", (int)number));
}
