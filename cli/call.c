#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "cli/print.h"

enum exit_code verb_call(struct cli *cli)
{
    json_error_t error;
    json_t *params =
        cli->arg_count == 2 ? json_loads(cli->args[1], JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error) : json_object();
    if (!params) return cli_fail(cli, CLI_USAGE, "the parameters are no JSON object or array: %s", error.text);
    struct client client;
    if (!client_open(&client, cli)) {
        json_decref(params);
        return client.code;
    }
    bool stream = strcmp(cli->args[0], "kv.watch") == 0;
    json_t *result = client_call(&client, cli->args[0], params, NULL);
    if (result && cli->json) {
        print_json(result);
    } else if (result) {
        char *text = json_dumps(result, JSON_INDENT(2) | JSON_ENCODE_ANY);
        if (text) puts(text);
        free(text);
    }
    while (result && stream) {
        json_t *event = client_next(&client);
        if (!event) break;
        print_json(event);
        json_decref(event);
        if (fflush(stdout) != 0) break;
    }
    json_decref(result);
    client_close(&client);
    return client.code;
}
