/* The table of methods says the same as openrpc.json: names, parameters, their order, types and ranges. With
 * tests/e2e/test_openrpc.py, which asks a running daemon for all that the document describes, this holds both against
 * each other in both directions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "server/rpc_methods.h"
#include "server/rpc_params.h"

static json_t *document;

static int load(void **state)
{
    (void)state;
    document = json_loadb((const char *)openrpc_json, openrpc_json_bytes, 0, NULL);
    return document ? 0 : -1;
}

static int unload(void **state)
{
    (void)state;
    json_decref(document);
    return 0;
}

static const json_t *described(const char *name)
{
    const json_t *methods = json_object_get(document, "methods");
    for (size_t i = 0; i < json_array_size(methods); i++) {
        const json_t *method = json_array_get(methods, i);
        if (strcmp(json_string_value(json_object_get(method, "name")), name) == 0) return method;
    }
    return NULL;
}

static const json_t *resolve(const json_t *schema)
{
    const char *reference = json_string_value(json_object_get(schema, "$ref"));
    if (!reference) return schema;
    const json_t *components = json_object_get(document, "components");
    return json_object_get(json_object_get(components, "schemas"), strrchr(reference, '/') + 1);
}

static void test_every_method_is_described(void **state)
{
    (void)state;
    for (size_t i = 0; i < rpc_method_count; i++)
        if (!described(rpc_methods[i].name)) fail_msg("%s is not in openrpc.json", rpc_methods[i].name);
    assert_int_equal(json_array_size(json_object_get(document, "methods")), rpc_method_count);
}

static void check_schema(const struct rpc_param *param, const json_t *schema)
{
    static const char *const types[] = {
        [RPC_TYPE_STRING] = "string",   [RPC_TYPE_BASE64] = "string", [RPC_TYPE_INTEGER] = "integer",
        [RPC_TYPE_STRINGS] = "array",   [RPC_TYPE_CHOICE] = "string", [RPC_TYPE_BOOLEAN] = "boolean",
        [RPC_TYPE_POSITION] = "string",
    };
    if (param->type == RPC_TYPE_VERSION) {
        assert_int_equal(json_array_size(json_object_get(schema, "oneOf")), 2);
        return;
    }
    assert_string_equal(json_string_value(json_object_get(schema, "type")), types[param->type]);
    if (param->type == RPC_TYPE_INTEGER) {
        assert_int_equal(json_integer_value(json_object_get(schema, "minimum")), param->min);
        assert_int_equal(json_integer_value(json_object_get(schema, "maximum")), param->max);
    }
    if (param->type == RPC_TYPE_POSITION)
        assert_string_equal(json_string_value(json_object_get(schema, "pattern")), "^[0-9a-f]{16}-[0-9]+$");
    if (param->type == RPC_TYPE_STRINGS)
        assert_int_equal(json_integer_value(json_object_get(schema, "maxItems")), param->max);
    if (param->type != RPC_TYPE_CHOICE) return;
    struct text choices = {0};
    const json_t *members = json_object_get(schema, "enum");
    for (size_t i = 0; i < json_array_size(members); i++)
        text_printf(&choices, "%s%s", i ? "|" : "", json_string_value(json_array_get(members, i)));
    assert_string_equal(choices.bytes, param->choices);
    text_fini(&choices);
}

static void test_parameters_are_described(void **state)
{
    (void)state;
    for (size_t i = 0; i < rpc_method_count; i++) {
        const struct rpc_method *method = &rpc_methods[i];
        const json_t *params = json_object_get(described(method->name), "params");
        assert_int_equal(json_array_size(params), method->param_count);
        for (size_t j = 0; j < method->param_count; j++) {
            const json_t *param = json_array_get(params, j);
            assert_string_equal(json_string_value(json_object_get(param, "name")), method->params[j].name);
            assert_int_equal(json_is_true(json_object_get(param, "required")), method->params[j].required);
            check_schema(&method->params[j], resolve(json_object_get(param, "schema")));
        }
    }
}

static void test_every_error_of_the_store_is_described(void **state)
{
    (void)state;
    const json_t *errors = json_object_get(json_object_get(document, "components"), "errors");
    for (int err = HKV_OK + 1; err <= HKV_E_VALUE_MISSING; err++) {
        const json_t *error = json_object_get(errors, hkv_error_name((enum hkv_err)err));
        assert_non_null(error);
        assert_int_equal(json_integer_value(json_object_get(error, "code")), RPC_STORE_ERROR(err));
        const char *class = json_string_value(json_object_get(json_object_get(error, "data"), "class"));
        assert_string_equal(class, rpc_error_class((enum hkv_err)err));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_method_is_described),
        cmocka_unit_test(test_parameters_are_described),
        cmocka_unit_test(test_every_error_of_the_store_is_described),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
