#include <string.h>

#include "cli/client.h"
#include "cli/print.h"

enum exit_code verb_peer(struct cli *cli)
{
    bool add = strcmp(cli->args[0], "add") == 0;
    if (!add && strcmp(cli->args[0], "rm") != 0)
        return cli_fail(cli, CLI_USAGE, "'%s' is neither add nor rm; see hero_codescalers peer --help", cli->args[0]);
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    json_t *params = json_pack("{s:s}", "peer", cli->args[1]);
    if (!params) {
        client_close(&client);
        return cli_fail(cli, CLI_USAGE, "the peer is not valid UTF-8");
    }
    json_t *result = client_call(&client, add ? "kv.peer_add" : "kv.peer_remove", params, NULL);
    if (result && cli->json) print_json(result);
    json_decref(result);
    client_close(&client);
    return client.code;
}
