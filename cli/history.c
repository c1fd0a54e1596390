#include <stdio.h>

#include "cli/client.h"
#include "cli/print.h"

static void print_entry(const json_t *entry)
{
    char size[16];
    print_time(json_integer_value(json_object_get(entry, "stamp_us")));
    printf("  %-10s  %10s  %s%s\n", json_string_value(json_object_get(entry, "kind")),
           format_bytes((uint64_t)json_integer_value(json_object_get(entry, "length")), size),
           json_string_value(json_object_get(entry, "version")),
           json_is_true(json_object_get(entry, "shown")) ? "  (shown)" : "");
}

enum exit_code verb_history(struct cli *cli)
{
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    json_t *params = json_pack("{s:s}", "key", cli->args[0]);
    if (!params) {
        client_close(&client);
        return cli_fail(cli, CLI_USAGE, "the key is not valid UTF-8");
    }
    json_t *result = client_call(&client, "kv.history", params, NULL);
    const json_t *entries = json_object_get(result, "history");
    if (result && json_array_size(entries) == 0) client.code = cli_fail(cli, CLI_ABSENT, "nobody ever wrote this key");
    for (size_t i = 0; i < json_array_size(entries); i++) {
        if (cli->json)
            print_json(json_array_get(entries, i));
        else
            print_entry(json_array_get(entries, i));
    }
    json_decref(result);
    client_close(&client);
    return client.code;
}
