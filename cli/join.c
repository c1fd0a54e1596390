#include <stdio.h>

#include "cli/client.h"
#include "cli/print.h"

enum exit_code verb_join(struct cli *cli)
{
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    json_t *params = json_pack("{s:s, s:s*}", "ticket", cli->args[0], "format", cli_flag(cli, "format"));
    if (!params) {
        client_close(&client);
        return cli_fail(cli, CLI_USAGE, "the ticket is not valid UTF-8");
    }
    client.waiting_for = "joining";
    json_t *result = client_call(&client, "kv.join", params, NULL);
    if (result && cli->json)
        print_json(result);
    else if (result)
        printf("joined the namespace %s%s\n", json_string_value(json_object_get(result, "namespace_id")),
               json_is_true(json_object_get(result, "read_only")) ? ", to read only" : "");
    json_decref(result);
    client_close(&client);
    return client.code;
}
