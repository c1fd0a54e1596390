#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/print.h"

/* Where the value goes: standard output, or a file that gets its name when it is complete. */
struct sink {
    int fd;
    char *temporary; /* NULL: standard output */
    const char *file;
};

static bool sink_open(struct sink *sink, const struct cli *cli, const char *file)
{
    *sink = (struct sink){.fd = STDOUT_FILENO, .file = file};
    if (!file) return true;
    if (asprintf(&sink->temporary, "%s.XXXXXX", file) < 0) sink->temporary = NULL;
    sink->fd = sink->temporary ? mkostemp(sink->temporary, O_CLOEXEC) : -1;
    if (sink->fd >= 0) return true;
    cli_fail(cli, CLI_FAILED, "%s: cannot create it: %s", file, strerror(errno));
    free(sink->temporary);
    return false;
}

static enum exit_code sink_close(struct sink *sink, const struct cli *cli, enum exit_code code)
{
    if (!sink->temporary) return code;
    if (code == CLI_OK && (close(sink->fd) != 0 || rename(sink->temporary, sink->file) != 0))
        code = cli_fail(cli, CLI_FAILED, "%s: %s", sink->file, strerror(errno));
    if (code != CLI_OK) (void)unlink(sink->temporary);
    free(sink->temporary);
    return code;
}

static enum exit_code absent(const struct cli *cli)
{
    return cli_fail(cli, CLI_ABSENT, "the key is absent");
}

/* The value of a reply of kv.get. */
static bool decode(const json_t *result, struct text *value)
{
    const json_t *base64 = json_object_get(result, "value");
    size_t len = json_string_length(base64);
    char *at = text_reserve(value, BASE64_BYTES_MAX(len) + 1);
    return at && base64_read(json_string_value(base64), len, (uint8_t *)at, &value->len);
}

static enum exit_code print_value(struct cli *cli, const struct text *value)
{
    const char *file = cli_flag(cli, "output");
    struct sink sink;
    if (!sink_open(&sink, cli, file)) return CLI_FAILED;
    enum exit_code code = CLI_OK;
    if (!write_all(sink.fd, value->bytes, value->len))
        code = cli_fail(cli, CLI_FAILED, "cannot write the value: %s", strerror(errno));
    if (!file && isatty(STDOUT_FILENO) && value->len && value->bytes[value->len - 1] != '\n')
        write_all(sink.fd, "\n", 1);
    return sink_close(&sink, cli, code);
}

/* As kv.get answers. */
static json_t *large_json(const struct text *value, const struct value_head *head)
{
    struct text base64 = {0};
    base64_append(&base64, value->bytes, value->len);
    const char *author = strchr(head->version, '-');
    json_t *result =
        text_failed(&base64)
            ? NULL
            : json_pack("{s:s%, s:I, s:s, s:s, s:o*}", "value", base64.bytes, base64.len, "stamp_us",
                        (json_int_t)strtoll(head->version, NULL, 10), "author", author ? author + 1 : "", "version",
                        head->version, "expires_us", head->expires_us ? json_integer(head->expires_us) : NULL);
    text_fini(&base64);
    return result;
}

/* A value too long for JSON-RPC, to standard output or a file; with --json into memory. */
static enum exit_code get_large(struct cli *cli)
{
    struct value_head head;
    struct sink sink;
    if (!cli->json) {
        if (!sink_open(&sink, cli, cli_flag(cli, "output"))) return CLI_FAILED;
        return sink_close(&sink, cli, client_get_stream(cli, cli->args[0], sink.fd, NULL, &head));
    }
    struct text value = {0};
    enum exit_code code = client_get_stream(cli, cli->args[0], -1, &value, &head);
    json_t *result = code == CLI_OK ? large_json(&value, &head) : NULL;
    if (code == CLI_OK && !result)
        code = cli_fail(cli, CLI_FAILED, "the value does not fit into memory; leave --json out");
    if (result) print_json(result);
    json_decref(result);
    text_fini(&value);
    return code;
}

enum exit_code verb_get(struct cli *cli)
{
    if (cli->json && cli_flag(cli, "output")) return cli_fail(cli, CLI_USAGE, "give one of --json and --output");
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    int too_long = CLIENT_E_USE_VALUE_PATH;
    json_t *params = json_pack("{s:s}", "key", cli->args[0]);
    if (!params) {
        client_close(&client);
        return cli_fail(cli, CLI_USAGE, "the key is not valid UTF-8");
    }
    json_t *result = client_call(&client, "kv.get", params, &too_long);
    enum exit_code code = client.code;
    client_close(&client);
    if (!result) return too_long ? get_large(cli) : code;

    struct text value = {0};
    if (!json_is_string(json_object_get(result, "value"))) {
        code = absent(cli);
    } else if (cli->json) {
        print_json(result);
    } else if (!decode(result, &value)) {
        code = cli_fail(cli, CLI_FAILED, "the daemon's reply holds no value");
    } else {
        code = print_value(cli, &value);
    }
    text_fini(&value);
    json_decref(result);
    return code;
}
