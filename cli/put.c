#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/print.h"

struct put {
    struct cli *cli;
    const char *key;
    int64_t ttl_ms; /* 0: none */
    const char *if_version;
    bool if_absent;
};

static enum exit_code print_result(const struct cli *cli, json_t *result, enum exit_code code)
{
    if (!result) return code;
    if (cli->json)
        print_json(result);
    else
        printf("%s\n", json_string_value(json_object_get(result, "version")));
    json_decref(result);
    return CLI_OK;
}

static enum exit_code put_small(const struct put *put, const struct text *value)
{
    struct client client;
    if (!client_open(&client, put->cli)) return client.code;
    struct text base64 = {0};
    base64_append(&base64, value->bytes ? value->bytes : "", value->len);
    json_t *params = text_failed(&base64) ? NULL
                                          : json_pack("{s:s, s:s%}", "key", put->key, "value",
                                                      base64.bytes ? base64.bytes : "", base64.len);
    text_fini(&base64);
    if (params && put->ttl_ms) json_object_set_new(params, "ttl_ms", json_integer(put->ttl_ms));
    if (params && put->if_version) json_object_set_new(params, "if_version", json_string(put->if_version));
    if (params && put->if_absent) json_object_set_new(params, "if_version", json_null());
    json_t *result = NULL;
    if (!params)
        client.code = cli_fail(put->cli, CLI_USAGE, "the key is not valid UTF-8");
    else
        result = client_call(&client, "kv.put", params, NULL);
    enum exit_code code = print_result(put->cli, result, client.code);
    client_close(&client);
    return code;
}

static enum exit_code put_large(const struct put *put, const struct text *head, int fd)
{
    struct text query = {0};
    if (put->ttl_ms) text_printf(&query, "?ttl_ms=%" PRId64, put->ttl_ms);
    if (put->if_version || put->if_absent) text_append_string(&query, query.len ? "&if_version=" : "?if_version=");
    if (put->if_version) percent_append(&query, put->if_version, strlen(put->if_version));
    if (put->if_absent) text_append_string(&query, "null");
    text_append(&query, "", 1);
    if (text_failed(&query)) return cli_fail(put->cli, CLI_FAILED, "memory is exhausted");
    enum exit_code code;
    json_t *result = client_put_stream(put->cli, put->key, head, fd, query.bytes, &code);
    text_fini(&query);
    return print_result(put->cli, result, code);
}

/* Reads as much as fits a JSON-RPC call; what is longer goes as a stream. */
static enum exit_code put_fd(const struct put *put, int fd)
{
    struct text value = {0};
    ssize_t count = 1;
    while (count > 0 && value.len <= CLIENT_VALUE_MAX) {
        char *at = text_reserve(&value, 65536);
        if (!at) return cli_fail(put->cli, CLI_FAILED, "memory is exhausted");
        count = read(fd, at, 65536);
        if (count < 0 && errno == EINTR)
            count = 1;
        else if (count > 0)
            value.len += (size_t)count;
    }
    enum exit_code code;
    if (count < 0)
        code = cli_fail(put->cli, CLI_FAILED, "cannot read the value: %s; nothing was stored", strerror(errno));
    else if (value.len <= CLIENT_VALUE_MAX)
        code = put_small(put, &value);
    else
        code = put_large(put, &value, fd);
    text_fini(&value);
    return code;
}

enum exit_code verb_put(struct cli *cli)
{
    struct put put = {.cli = cli, .key = cli->args[0], .if_version = cli_flag(cli, "if-version")};
    put.if_absent = cli_flag(cli, "if-absent") != NULL;
    if (!cli_number(cli, "ttl-ms", 1, INT64_MAX, 0, &put.ttl_ms)) return CLI_USAGE;
    if (put.if_version && put.if_absent) return cli_fail(cli, CLI_USAGE, "give one of --if-version and --if-absent");
    const char *file = cli_flag(cli, "file");
    if (file && cli->arg_count == 2) return cli_fail(cli, CLI_USAGE, "give the value or --file, not both");
    if (cli->arg_count == 2) {
        struct text value = {.bytes = NULL};
        text_append_string(&value, cli->args[1]);
        enum exit_code code = value.len <= CLIENT_VALUE_MAX ? put_small(&put, &value) : put_large(&put, &value, -1);
        text_fini(&value);
        return code;
    }
    if (!file) return put_fd(&put, STDIN_FILENO);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return cli_fail(cli, CLI_FAILED, "%s: %s", file, strerror(errno));
    enum exit_code code = put_fd(&put, fd);
    close(fd);
    return code;
}
