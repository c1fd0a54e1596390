#include "server/rpc_params.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const type_rules[] = {
    [RPC_TYPE_STRING] = "must be a string",
    [RPC_TYPE_BASE64] = "must be a string of base64 (RFC 4648, with padding)",
    [RPC_TYPE_INTEGER] = "must be an integer",
    [RPC_TYPE_BOOLEAN] = "must be true or false",
    [RPC_TYPE_POSITION] = "must be a position `<16 hex digits of the epoch>-<number>`, as an event gave it",
    [RPC_TYPE_VERSION] = "must be a version `<stamp_us>-<author hex>`, or null when the key must be absent",
    [RPC_TYPE_STRINGS] = "must be an array of strings",
    [RPC_TYPE_CHOICE] = "must be a string",
};

static bool fail(struct rpc_call *call, const struct rpc_param *param, const char *rule)
{
    rpc_call_fail(call, RPC_INVALID_PARAMS, param->name, "%s: parameter '%s' %s", call->method->name, param->name,
                  rule);
    return false;
}

static bool check_version(struct rpc_call *call, const struct rpc_param *param, const json_t *value)
{
    if (json_is_null(value)) return true;
    struct hkv_version version;
    const char *text = json_string_value(value);
    if (!text || strlen(text) != json_string_length(value) || hkv_version_parse(text, &version) != HKV_OK)
        return fail(call, param, type_rules[RPC_TYPE_VERSION]);
    return true;
}

static bool check_position(struct rpc_call *call, const struct rpc_param *param, const json_t *value)
{
    struct hkv_position position;
    const char *text = json_string_value(value);
    if (text && strlen(text) == json_string_length(value) && hkv_position_parse(text, &position) == HKV_OK) return true;
    return fail(call, param, type_rules[RPC_TYPE_POSITION]);
}

static bool check_strings(struct rpc_call *call, const struct rpc_param *param, const json_t *value)
{
    if (!json_is_array(value)) return fail(call, param, type_rules[RPC_TYPE_STRINGS]);
    if (json_array_size(value) > (size_t)param->max) return fail(call, param, "has too many members");
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *member = json_array_get(value, i);
        if (!json_is_string(member)) return fail(call, param, type_rules[RPC_TYPE_STRINGS]);
        if (strlen(json_string_value(member)) != json_string_length(member))
            return fail(call, param, "must not hold U+0000");
    }
    return true;
}

static bool check_choice(struct rpc_call *call, const struct rpc_param *param, const json_t *value)
{
    if (!json_is_string(value)) return fail(call, param, type_rules[RPC_TYPE_CHOICE]);
    size_t len = json_string_length(value);
    for (const char *at = param->choices; *at;) {
        size_t choice_len = strcspn(at, "|");
        if (choice_len == len && memcmp(at, json_string_value(value), len) == 0) return true;
        at += choice_len + (at[choice_len] == '|');
    }
    rpc_call_fail(call, RPC_INVALID_PARAMS, param->name, "%s: parameter '%s' must be one of %s", call->method->name,
                  param->name, param->choices);
    return false;
}

static bool check_one(struct rpc_call *call, const struct rpc_param *param, const json_t *value)
{
    switch (param->type) {
    case RPC_TYPE_STRING:
    case RPC_TYPE_BASE64:
        return json_is_string(value) || fail(call, param, type_rules[param->type]);
    case RPC_TYPE_INTEGER:
        if (!json_is_integer(value)) return fail(call, param, type_rules[RPC_TYPE_INTEGER]);
        if (json_integer_value(value) >= param->min && json_integer_value(value) <= param->max) return true;
        rpc_call_fail(call, RPC_INVALID_PARAMS, param->name, "%s: parameter '%s' must be from %" PRId64 " to %" PRId64,
                      call->method->name, param->name, param->min, param->max);
        return false;
    case RPC_TYPE_BOOLEAN:
        return json_is_boolean(value) || fail(call, param, type_rules[RPC_TYPE_BOOLEAN]);
    case RPC_TYPE_POSITION:
        return check_position(call, param, value);
    case RPC_TYPE_VERSION:
        return check_version(call, param, value);
    case RPC_TYPE_STRINGS:
        return check_strings(call, param, value);
    case RPC_TYPE_CHOICE:
        return check_choice(call, param, value);
    }
    abort();
}

/* `params` as an object, whichever way it was sent; a new reference. NULL when the call has been failed. */
static json_t *by_name(struct rpc_call *call, json_t *sent)
{
    const struct rpc_method *method = call->method;
    if (json_is_object(sent)) return json_incref(sent);
    json_t *object = json_object();
    if (!object) goto nomem;
    if (json_array_size(sent) > method->param_count) {
        rpc_call_fail(call, RPC_INVALID_PARAMS, NULL, "%s: %zu parameters are too many; it takes at most %zu",
                      method->name, json_array_size(sent), method->param_count);
        json_decref(object);
        return NULL;
    }
    for (size_t i = 0; i < json_array_size(sent); i++)
        if (json_object_set(object, method->params[i].name, json_array_get(sent, i)) != 0) goto nomem;
    return object;

nomem:
    json_decref(object);
    rpc_call_fail_store(call, HKV_E_NOMEM, hkv_error_sentence(HKV_E_NOMEM));
    return NULL;
}

static const struct rpc_param *find(const struct rpc_method *method, const char *name, size_t len)
{
    for (size_t i = 0; i < method->param_count; i++)
        if (strlen(method->params[i].name) == len && memcmp(method->params[i].name, name, len) == 0)
            return &method->params[i];
    return NULL;
}

static void fail_unknown(struct rpc_call *call, const char *name)
{
    const struct rpc_method *method = call->method;
    struct text known = {0};
    for (size_t i = 0; i < method->param_count; i++) text_printf(&known, "%s%s", i ? ", " : "", method->params[i].name);
    if (method->param_count == 0) text_append_string(&known, "none");
    text_append(&known, "", 1);
    rpc_call_fail(call, RPC_INVALID_PARAMS, NULL, "%s: unknown parameter '%.64s'; it takes: %s", method->name, name,
                  known.failed ? "see rpc.discover" : known.bytes);
    text_fini(&known);
}

bool rpc_params_check(struct rpc_call *call, json_t *sent)
{
    call->params = by_name(call, sent);
    if (!call->params) return false;
    const struct rpc_method *method = call->method;

    for (void *at = json_object_iter(call->params); at; at = json_object_iter_next(call->params, at)) {
        const char *name = json_object_iter_key(at);
        if (find(method, name, strlen(name))) continue;
        fail_unknown(call, name);
        return false;
    }
    for (size_t i = 0; i < method->param_count; i++) {
        const json_t *value = json_object_get(call->params, method->params[i].name);
        if (!value && !method->params[i].required) continue;
        if (!value) return fail(call, &method->params[i], "is missing");
        if (!check_one(call, &method->params[i], value)) return false;
    }
    return true;
}

bool rpc_param_given(const struct rpc_call *call, const char *name)
{
    return json_object_get(call->params, name) != NULL;
}

const char *rpc_param_string(const struct rpc_call *call, const char *name, size_t *len)
{
    const json_t *value = json_object_get(call->params, name);
    *len = value ? json_string_length(value) : 0;
    return value ? json_string_value(value) : "";
}

bool rpc_param_boolean(const struct rpc_call *call, const char *name)
{
    return json_is_true(json_object_get(call->params, name));
}

bool rpc_param_position(const struct rpc_call *call, const char *name, struct hkv_position *out)
{
    const char *text = json_string_value(json_object_get(call->params, name));
    return text && hkv_position_parse(text, out) == HKV_OK;
}

int64_t rpc_param_integer(const struct rpc_call *call, const char *name, int64_t absent)
{
    const json_t *value = json_object_get(call->params, name);
    return value ? json_integer_value(value) : absent;
}

void rpc_param_write_options(const struct rpc_call *call, struct hkv_write_options *options)
{
    *options = (struct hkv_write_options){.ttl_ms = (uint64_t)rpc_param_integer(call, "ttl_ms", 0)};
    const json_t *version = json_object_get(call->params, "if_version");
    if (!version) return;
    options->expect = json_is_null(version) ? HKV_EXPECT_ABSENT : HKV_EXPECT_VERSION;
    if (!json_is_string(version)) return;
    if (hkv_version_parse(json_string_value(version), &options->version) != HKV_OK) abort(); /* was checked */
}
