#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/print.h"

static void print_event(const json_t *event)
{
    printf("%-15s", json_string_value(json_object_get(event, "type")));
    const json_t *key = json_object_get(event, "key");
    if (key) {
        fputs(" ", stdout);
        print_escaped(json_string_value(key), json_string_length(key), SIZE_MAX);
    }
    static const char *const texts[] = {"version", "peer", "reason", "first_available", "position"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *text = json_string_value(json_object_get(event, texts[i]));
        if (text) printf("  %s %s", texts[i], text);
    }
    if (json_object_get(event, "ok"))
        printf("  %s%s, sent %lld, received %lld", json_is_true(json_object_get(event, "ok")) ? "ok" : "failed",
               json_is_true(json_object_get(event, "confirmed")) ? ", confirmed equal" : "",
               (long long)json_integer_value(json_object_get(event, "entries_sent")),
               (long long)json_integer_value(json_object_get(event, "entries_received")));
    putchar('\n');
}

enum exit_code verb_watch(struct cli *cli)
{
    int64_t left;
    if (!cli_number(cli, "count", 1, INT64_MAX, INT64_MAX, &left)) return CLI_USAGE;
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    json_t *params = json_pack("{s:s*, s:s*, s:b}", "prefix", cli->arg_count ? cli->args[0] : NULL, "from",
                               cli_flag(cli, "from"), "list", cli_flag(cli, "list") != NULL);
    if (!params) {
        client_close(&client);
        return cli_fail(cli, CLI_USAGE, "the prefix or the position is not valid UTF-8");
    }
    json_t *result = client_call(&client, "kv.watch", params, NULL);
    bool watching = result != NULL;
    json_decref(result);
    while (watching && left > 0) {
        json_t *message = client_next(&client);
        const json_t *event = json_object_get(message, "params");
        if (event && cli->json)
            print_json(event);
        else if (event)
            print_event(event);
        if (json_object_get(event, "key")) left--;
        watching = message && fflush(stdout) == 0;
        json_decref(message);
    }
    client_close(&client);
    return client.code;
}
