/* What a caller of JSON-RPC gets when the store fails: the error's own code, name and class, and its sentence, by
 * whichever way the method reaches the store (on the loop, on a worker, by a callback); and what stays off the loop
 * thread. The calls run on a real loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_kvs.h"
#include "server/rpc.h"

struct world {
    uv_loop_t loop;
    struct tasks tasks;
    struct rpc rpc;
    bool answered;
};

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    assert_int_equal(uv_loop_init(&world->loop), 0);
    assert_int_equal(tasks_init(&world->tasks, &world->loop), 0);
    world->rpc = (struct rpc){.store = fake_kvs_new(), .tasks = &world->tasks, .socket_path = "/s"};
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    hkv_close(world->rpc.store);
    tasks_fini(&world->tasks);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    free(world);
    return 0;
}

static void on_reply(struct rpc_request *request)
{
    struct world *world = request->owner;
    world->answered = true;
}

/* The reply to one request; the caller's. */
static json_t *ask(struct world *world, const char *text)
{
    struct rpc_request *request = rpc_request_new(&world->rpc, NULL, text, strlen(text));
    assert_non_null(request);
    world->answered = false;
    rpc_request_start(request, on_reply, world);
    while (!world->answered) uv_run(&world->loop, UV_RUN_ONCE);
    json_t *reply = json_loadb(request->out.bytes, request->out.len, JSON_ALLOW_NUL, NULL);
    assert_non_null(reply);
    rpc_request_free(request);
    return reply;
}

/* A request of kv.put whose value has `chars` characters of base64; heap. */
static char *long_put(size_t chars)
{
    struct text text = {0};
    text_append_string(&text, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"kv.put\",\"params\":[\"a\",\"");
    for (size_t i = 0; i < chars; i++) text_append(&text, "A", 1);
    text_append(&text, "\"]}", sizeof "\"]}");
    assert_false(text_failed(&text));
    return text.bytes;
}

static const char *const calls[] = {
    "\"kv.put\",\"params\":{\"key\":\"a\",\"value\":\"YQ==\"}",
    "\"kv.get\",\"params\":{\"key\":\"a\"}",
    "\"kv.delete\",\"params\":{\"key\":\"a\"}",
    "\"kv.list\"",
    "\"kv.list_keys\"",
    "\"kv.history\",\"params\":{\"key\":\"a\"}",
    "\"kv.info\"",
    "\"kv.status\"",
    "\"kv.peers\"",
    "\"kv.peer_add\",\"params\":{\"peer\":\"x\"}",
    "\"kv.peer_remove\",\"params\":{\"peer\":\"x\"}",
    "\"kv.sync_once\"",
    "\"kv.wait_converged\",\"params\":{\"timeout_ms\":1}",
    "\"kv.verify\"",
    "\"kv.ticket\",\"params\":{\"mode\":\"read\"}",
    "\"kv.join\",\"params\":{\"ticket\":\"docx\"}",
    "\"health\"",
};

static void test_errors_of_the_store_reach_the_caller(void **state)
{
    struct world *world = *state;
    fake_kvs_fail(world->rpc.store, HKV_E_DISK, "db.store: the disk said no; replace it");
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":%s}", calls[i]);
        json_t *reply = ask(world, text);
        const json_t *error = json_object_get(reply, "error");
        if (!error) fail_msg("%s succeeded", text);
        assert_int_equal(json_integer_value(json_object_get(reply, "id")), 7);
        assert_int_equal(json_integer_value(json_object_get(error, "code")), -32012);
        assert_string_equal(json_string_value(json_object_get(error, "message")),
                            "db.store: the disk said no; replace it");
        const json_t *data = json_object_get(error, "data");
        assert_string_equal(json_string_value(json_object_get(data, "name")), "HKV_E_DISK");
        assert_string_equal(json_string_value(json_object_get(data, "class")), "disk");
        json_decref(reply);
    }
}

static void test_a_store_without_a_sentence_still_gives_one(void **state)
{
    struct world *world = *state;
    fake_kvs_fail(world->rpc.store, HKV_E_READ_ONLY, "");
    json_t *reply = ask(world, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"kv.put\",\"params\":[\"a\",\"\"]}");
    const char *message = json_string_value(json_object_get(json_object_get(reply, "error"), "message"));
    assert_string_equal(message, hkv_error_sentence(HKV_E_READ_ONLY));
    json_decref(reply);
}

/* Not in sync is an answer, not a failure. */
static void test_outcomes_of_syncs_are_results(void **state)
{
    struct world *world = *state;
    hkv_peer_add(world->rpc.store, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff@192.0.2.1:1");
    fake_kvs_fail(world->rpc.store, HKV_E_PEER_UNREACHABLE, "none of 1 peers answered");
    json_t *reply = ask(world, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"kv.sync_once\"}");
    const json_t *result = json_object_get(reply, "result");
    assert_true(json_is_false(json_object_get(result, "ok")));
    const json_t *peer = json_array_get(json_object_get(result, "peers"), 0);
    assert_true(json_is_false(json_object_get(peer, "ok")));
    assert_string_equal(json_string_value(json_object_get(peer, "error")), "none of 1 peers answered");
    json_decref(reply);

    fake_kvs_fail(world->rpc.store, HKV_E_NOT_CONVERGED, "peer x: no session ended");
    reply = ask(world, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"kv.wait_converged\",\"params\":[5]}");
    result = json_object_get(reply, "result");
    assert_true(json_is_false(json_object_get(result, "converged")));
    assert_int_equal(json_integer_value(json_object_get(result, "waited_ms")), 7);
    assert_string_equal(json_string_value(json_object_get(result, "reason")), "peer x: no session ended");
    json_decref(reply);
}

static void test_an_absent_key_is_all_null(void **state)
{
    json_t *reply = ask(*state, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"kv.get\",\"params\":[\"a\"]}");
    json_t *expected = json_pack("{s:s, s:i, s:{s:n, s:n, s:n, s:n}}", "jsonrpc", "2.0", "id", 1, "result", "value",
                                 "stamp_us", "author", "version");
    assert_true(json_equal(reply, expected));
    json_decref(reply);
    json_decref(expected);
}

/* Reading 4 MiB of JSON takes long enough to be noticed by every other client. */
static void test_a_long_request_is_not_read_on_the_loop_thread(void **state)
{
    struct world *world = *state;
    char *text = long_put(RPC_INLINE_MAX);
    text[strlen(text) - 1] = '\0'; /* no JSON any more: whoever reads it knows the answer at once */
    struct rpc_request *request = rpc_request_new(&world->rpc, NULL, text, strlen(text));
    free(text);
    assert_non_null(request);
    rpc_request_start(request, on_reply, world);
    assert_false(world->answered);
    while (!world->answered) uv_run(&world->loop, UV_RUN_ONCE);
    assert_non_null(memmem(request->out.bytes, request->out.len, "-32700", 6));
    rpc_request_free(request);
}

static void test_a_long_value_is_not_stored_on_the_loop_thread(void **state)
{
    struct world *world = *state;
    char *text = long_put(RPC_INLINE_MAX + 4);
    json_decref(ask(world, text));
    free(text);
    assert_false(fake_kvs_written_here(world->rpc.store));

    text = long_put(4);
    json_decref(ask(world, text));
    free(text);
    assert_true(fake_kvs_written_here(world->rpc.store));
}

static void test_a_long_value_that_is_no_base64_is_refused_by_name(void **state)
{
    char *text = long_put(RPC_INLINE_MAX + 5);
    json_t *reply = ask(*state, text);
    const json_t *error = json_object_get(reply, "error");
    assert_int_equal(json_integer_value(json_object_get(error, "code")), RPC_INVALID_PARAMS);
    assert_string_equal(json_string_value(json_object_get(json_object_get(error, "data"), "param")), "value");
    json_decref(reply);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_errors_of_the_store_reach_the_caller, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_store_without_a_sentence_still_gives_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outcomes_of_syncs_are_results, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_absent_key_is_all_null, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_long_request_is_not_read_on_the_loop_thread, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_long_value_is_not_stored_on_the_loop_thread, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_long_value_that_is_no_base64_is_refused_by_name, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
