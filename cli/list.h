/* Paging through kv.list and kv.list_keys. */
#ifndef CLI_LIST_H
#define CLI_LIST_H

#include "cli/cli.h"

/* Calls `print` for each member of the array `member` in the pages of `method`, up to --limit. */
enum exit_code list_pages(struct cli *cli, const char *method, const char *member,
                          void (*print)(const struct cli *cli, const json_t *entry));

#endif
