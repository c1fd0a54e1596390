#include <stdint.h>
#include <stdio.h>

#include "cli/list.h"
#include "cli/print.h"
#include "server/text.h"

#define PREVIEW_BYTES 48

static void print_entry(const struct cli *cli, const json_t *entry)
{
    if (cli->json) {
        print_json(entry);
        return;
    }
    char size[16];
    printf("%10s  ", format_bytes((uint64_t)json_integer_value(json_object_get(entry, "length")), size));
    print_time(json_integer_value(json_object_get(entry, "stamp_us")));
    fputs("  ", stdout);
    const json_t *key = json_object_get(entry, "key");
    print_escaped(json_string_value(key), json_string_length(key), SIZE_MAX);

    const json_t *value = json_object_get(entry, "value");
    uint8_t preview[BASE64_BYTES_MAX(BASE64_CHARS(PREVIEW_BYTES))];
    size_t chars = json_string_length(value), len;
    bool cut = chars > BASE64_CHARS(PREVIEW_BYTES);
    if (chars && base64_read(json_string_value(value), cut ? BASE64_CHARS(PREVIEW_BYTES) : chars, preview, &len)) {
        fputs("  ", stdout);
        print_escaped((const char *)preview, len, len);
        if (cut) fputs("...", stdout);
    }
    putchar('\n');
}

enum exit_code verb_ls(struct cli *cli)
{
    return list_pages(cli, "kv.list", "entries", print_entry);
}
