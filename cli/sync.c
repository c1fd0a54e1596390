#include <inttypes.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/print.h"

#define TIMEOUT_MS_DEFAULT 30000
#define TIMEOUT_MS_MAX     ((int64_t)UINT32_MAX - 1)

static void print_outcome(const json_t *peer)
{
    const char *error = json_string_value(json_object_get(peer, "error"));
    printf("%s  ", json_string_value(json_object_get(peer, "endpoint_id")));
    if (!json_is_true(json_object_get(peer, "ok")))
        printf("failed: %s\n", error ? error : "no reason given");
    else
        printf("sent %" JSON_INTEGER_FORMAT ", received %" JSON_INTEGER_FORMAT "%s\n",
               json_integer_value(json_object_get(peer, "entries_sent")),
               json_integer_value(json_object_get(peer, "entries_received")),
               json_is_true(json_object_get(peer, "confirmed")) ? ", confirmed equal" : "");
}

enum exit_code verb_sync(struct cli *cli)
{
    int64_t timeout_ms;
    if (!cli_number(cli, "timeout-ms", 0, TIMEOUT_MS_MAX, TIMEOUT_MS_DEFAULT, &timeout_ms)) return CLI_USAGE;
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    client.waiting_for = "comparing with the peers";
    json_t *result =
        client_call(&client, "kv.sync_once", json_pack("{s:I}", "timeout_ms", (json_int_t)timeout_ms), NULL);
    const json_t *peers = json_object_get(result, "peers");
    if (result && cli->json) print_json(result);
    for (size_t i = 0; !cli->json && i < json_array_size(peers); i++) print_outcome(json_array_get(peers, i));
    if (result && !cli->json && json_array_size(peers) == 0)
        puts("no peers are known; add one with: hero_codescalers peer add PEER");
    if (result && !json_is_true(json_object_get(result, "ok"))) {
        const char *error = json_string_value(json_object_get(result, "error"));
        client.code = cli_fail(cli, CLI_FAILED, "%s", error ? error : "no peer could be reached");
    }
    json_decref(result);
    client_close(&client);
    return client.code;
}
