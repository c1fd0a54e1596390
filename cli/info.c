#include <stdint.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/print.h"

static void print_info(const json_t *info)
{
    static const char *const names[][2] = {
        {"namespace_id", "namespace"}, {"author_id", "author"}, {"endpoint_id", "endpoint"},
        {"endpoint_ticket", "ticket"}, {"format", "format"},    {"data_dir", "data directory"},
        {"version", "version"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *value = json_object_get(info, names[i][0]);
        printf("%-15s ", names[i][1]);
        print_escaped(json_string_value(value), json_string_length(value), SIZE_MAX);
        putchar('\n');
    }
    const json_t *addrs = json_object_get(info, "addrs");
    for (size_t i = 0; i < json_array_size(addrs); i++)
        printf("%-15s %s\n", i ? "" : "addresses", json_string_value(json_array_get(addrs, i)));
    printf("%-15s %s\n", "may write",
           json_is_true(json_object_get(info, "read_only")) ? "no: it joined by a read ticket" : "yes");
}

enum exit_code verb_info(struct cli *cli)
{
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    json_t *info = client_call(&client, "kv.info", json_object(), NULL);
    if (info && cli->json)
        print_json(info);
    else if (info)
        print_info(info);
    json_decref(info);
    client_close(&client);
    return client.code;
}
