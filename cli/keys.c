#include <stdint.h>
#include <stdio.h>

#include "cli/list.h"
#include "cli/print.h"

static void print_key(const struct cli *cli, const json_t *key)
{
    if (cli->json) {
        print_json(key);
        return;
    }
    print_escaped(json_string_value(key), json_string_length(key), SIZE_MAX);
    putchar('\n');
}

enum exit_code verb_keys(struct cli *cli)
{
    return list_pages(cli, "kv.list_keys", "keys", print_key);
}
