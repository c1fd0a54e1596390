#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/connect.h"
#include "cli/print.h"

#define READ_BYTES ((size_t)64 << 10)
#define TICK_MS    1000

/* ------------------------------------------------------------------------------------------ connecting */

bool client_open(struct client *client, const struct cli *cli)
{
    *client = (struct client){.cli = cli, .fd = connect_daemon(cli)};
    client->code = client->fd < 0 ? CLI_NO_DAEMON : CLI_OK;
    return client->fd >= 0;
}

void client_close(struct client *client)
{
    if (client->fd >= 0) close(client->fd);
    text_fini(&client->in);
}

/* ------------------------------------------------------------------------------------------ calls */

static json_t *lost(struct client *client, const char *what)
{
    client->code = cli_fail(client->cli, CLI_FAILED, "the daemon %s; see its log", what);
    return NULL;
}

/* Waits for bytes; on a terminal it says what for, after a while. */
static void wait_readable(struct client *client)
{
    struct pollfd waiting = {.fd = client->fd, .events = POLLIN};
    if (!client->waiting_for || !progress_shown(client->cli)) return;
    for (int seconds = 0; poll(&waiting, 1, TICK_MS) == 0;) {
        fprintf(stderr, "\r%s, %d s\033[K", client->waiting_for, ++seconds);
        fflush(stderr);
    }
    progress_end(client->cli);
}

json_t *client_next(struct client *client)
{
    size_t scanned = 0;
    for (;;) {
        char *newline =
            client->in.len > scanned ? memchr(client->in.bytes + scanned, '\n', client->in.len - scanned) : NULL;
        if (newline) {
            size_t line_bytes = (size_t)(newline - client->in.bytes);
            json_t *value = json_loadb(client->in.bytes, line_bytes, JSON_ALLOW_NUL, NULL);
            text_drop_front(&client->in, line_bytes + 1);
            return value ? value : lost(client, "sent something that is not JSON");
        }
        scanned = client->in.len;
        char *at = text_reserve(&client->in, READ_BYTES);
        if (!at) return lost(client, "sent more than fits into memory");
        wait_readable(client);
        ssize_t count = read(client->fd, at, READ_BYTES);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return lost(client, "closed the connection");
        client->in.len += (size_t)count;
    }
}

/* Prints the error of a reply. */
static void report(struct client *client, json_t *error)
{
    client->code = CLI_FAILED;
    if (client->cli->json) {
        char *text = json_dumps(error, JSON_COMPACT);
        if (text) fprintf(stderr, "{\"error\":%s}\n", text);
        free(text);
        return;
    }
    const char *message = json_string_value(json_object_get(error, "message"));
    fprintf(stderr, "hero_codescalers: %s\n", message ? message : "the daemon gave no reason");
}

json_t *client_call(struct client *client, const char *method, json_t *params, int *error_code)
{
    int expected = error_code ? *error_code : 0;
    if (error_code) *error_code = 0;
    json_t *request = json_pack("{s:s, s:i, s:s, s:o}", "jsonrpc", "2.0", "id", 1, "method", method, "params", params);
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    if (!text) {
        client->code = cli_fail(client->cli, CLI_FAILED, "memory is exhausted");
        return NULL;
    }
    /* A daemon that has no place for the connection says so before it takes anything: the reply is read in any case. */
    if (write_all(client->fd, text, strlen(text))) (void)write_all(client->fd, "\n", 1);
    free(text);

    json_t *reply = client_next(client);
    if (!reply) return NULL;
    json_t *result = json_incref(json_object_get(reply, "result"));
    json_t *error = json_object_get(reply, "error");
    int code = (int)json_integer_value(json_object_get(error, "code"));
    if (error_code && !result && code == expected)
        *error_code = expected;
    else if (!result)
        report(client, error);
    if (!result && client->code == CLI_OK) client->code = CLI_FAILED;
    json_decref(reply);
    return result;
}
