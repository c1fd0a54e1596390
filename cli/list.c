#include "cli/list.h"

#include "cli/client.h"

#define PAGE_KEYS_MAX 1000

/* Prints a page and takes its keys off `left`; the next cursor, a new reference, or NULL at the end. */
static json_t *print_page(struct cli *cli, const json_t *page, const char *member, int64_t *left,
                          void (*print)(const struct cli *cli, const json_t *entry))
{
    const json_t *entries = json_object_get(page, member);
    for (size_t i = 0; i < json_array_size(entries) && *left > 0; i++, --*left) print(cli, json_array_get(entries, i));
    json_t *next = json_object_get(page, "next");
    return json_is_string(next) && *left > 0 ? json_incref(next) : NULL;
}

enum exit_code list_pages(struct cli *cli, const char *method, const char *member,
                          void (*print)(const struct cli *cli, const json_t *entry))
{
    int64_t left;
    if (!cli_number(cli, "limit", 1, INT64_MAX, INT64_MAX, &left)) return CLI_USAGE;
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    json_t *cursor = NULL;
    do {
        json_int_t limit = left < PAGE_KEYS_MAX ? left : PAGE_KEYS_MAX;
        json_t *params = json_pack("{s:s*, s:I, s:o*}", "prefix", cli->arg_count ? cli->args[0] : NULL, "limit", limit,
                                   "cursor", cursor);
        cursor = NULL;
        if (!params) {
            client.code = cli_fail(cli, CLI_USAGE, "the prefix is not valid UTF-8");
            break;
        }
        json_t *page = client_call(&client, method, params, NULL);
        if (page) cursor = print_page(cli, page, member, &left, print);
        json_decref(page);
    } while (cursor);
    client_close(&client);
    return client.code;
}
