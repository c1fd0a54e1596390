#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/print.h"

enum exit_code verb_ticket(struct cli *cli)
{
    if (strcmp(cli->args[0], "read") != 0 && strcmp(cli->args[0], "write") != 0)
        return cli_fail(cli, CLI_USAGE, "'%s' is neither read nor write; see hero_codescalers ticket --help",
                        cli->args[0]);
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    json_t *result = client_call(&client, "kv.ticket", json_pack("{s:s}", "mode", cli->args[0]), NULL);
    if (result && cli->json)
        print_json(result);
    else if (result)
        puts(json_string_value(json_object_get(result, "ticket")));
    json_decref(result);
    client_close(&client);
    return client.code;
}
