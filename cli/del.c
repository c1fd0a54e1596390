#include <stdio.h>

#include "cli/client.h"
#include "cli/print.h"

enum exit_code verb_del(struct cli *cli)
{
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    json_t *params = json_pack("{s:s, s:s*}", "key", cli->args[0], "if_version", cli_flag(cli, "if-version"));
    if (!params) {
        client_close(&client);
        return cli_fail(cli, CLI_USAGE, "the key is not valid UTF-8");
    }
    json_t *result = client_call(&client, "kv.delete", params, NULL);
    if (result && cli->json)
        print_json(result);
    else if (result)
        printf("%s\n", json_string_value(json_object_get(result, "version")));
    json_decref(result);
    client_close(&client);
    return client.code;
}
