/* PUT and GET /value/<key>: HTTP/1.1 as the daemon speaks it, one request a connection. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/connect.h"
#include "cli/print.h"

#define BLOCK_BYTES      ((size_t)256 << 10)
#define HEADER_BYTES_MAX ((size_t)64 << 10)

struct response {
    int fd;
    int status;
    uint64_t length;
    struct value_head head;
    struct text in; /* what was read behind the headers, from `used` on */
    size_t used;
};

/* ------------------------------------------------------------------------------------------ response */

/* The value of a header in the block `head`, copied to `out`. */
static bool find_header(const char *head, const char *name, char *out, size_t out_bytes)
{
    for (const char *line = strchr(head, '\n'); line && line[1] != '\r'; line = strchr(line + 1, '\n')) {
        size_t len = strlen(name);
        if (strncasecmp(line + 1, name, len) != 0 || line[1 + len] != ':') continue;
        const char *value = line + 2 + len;
        value += strspn(value, " \"");
        snprintf(out, out_bytes, "%.*s", (int)strcspn(value, "\"\r\n"), value);
        return true;
    }
    return false;
}

/* Reads status line and headers, passing over "100 Continue". */
static bool read_head(struct response *response)
{
    for (;;) {
        char *at = text_reserve(&response->in, BLOCK_BYTES);
        if (!at || response->in.len > HEADER_BYTES_MAX) return false;
        ssize_t count = read(response->fd, at, BLOCK_BYTES - 1);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        response->in.len += (size_t)count;
        response->in.bytes[response->in.len] = '\0';
        for (char *end; (end = strstr(response->in.bytes, "\r\n\r\n"));) {
            char length[24] = "", expires[24] = "";
            if (strncmp(response->in.bytes, "HTTP/1.1 ", 9) != 0) return false;
            response->status = (int)strtol(response->in.bytes + 9, NULL, 10);
            size_t head_bytes = (size_t)(end - response->in.bytes) + 4;
            if (response->status == 100) {
                text_drop_front(&response->in, head_bytes);
                response->in.bytes[response->in.len] = '\0';
                continue;
            }
            find_header(response->in.bytes, "ETag", response->head.version, sizeof response->head.version);
            if (find_header(response->in.bytes, "Hero-Expires-Us", expires, sizeof expires))
                response->head.expires_us = strtoll(expires, NULL, 10);
            if (find_header(response->in.bytes, "Content-Length", length, sizeof length))
                response->length = strtoull(length, NULL, 10);
            response->used = head_bytes;
            return true;
        }
    }
}

/* The next bytes of the body, at most `max`; 0 at an early end. */
static size_t read_body(struct response *response, char *out, size_t max)
{
    size_t here = response->in.len - response->used;
    if (here > 0) {
        size_t count = here < max ? here : max;
        memcpy(out, response->in.bytes + response->used, count);
        response->used += count;
        return count;
    }
    ssize_t count;
    do {
        count = read(response->fd, out, max);
    } while (count < 0 && errno == EINTR);
    return count > 0 ? (size_t)count : 0;
}

/* The whole body, when it is JSON of the daemon's. */
static json_t *read_json(struct response *response)
{
    struct text body = {0};
    while (body.len < response->length && body.len < HEADER_BYTES_MAX) {
        char block[4096];
        size_t left = (size_t)response->length - body.len;
        size_t count = read_body(response, block, left < sizeof block ? left : sizeof block);
        if (count == 0) break;
        text_append(&body, block, count);
    }
    json_t *value = text_failed(&body) || !body.len ? NULL : json_loadb(body.bytes, body.len, JSON_ALLOW_NUL, NULL);
    text_fini(&body);
    return value;
}

/* Prints the error of a response that is none of success. */
static enum exit_code report(const struct cli *cli, struct response *response)
{
    json_t *body = read_json(response);
    const json_t *error = json_object_get(body, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    enum exit_code code = response->status == 404 ? CLI_ABSENT : CLI_FAILED;
    if (cli->json && body) {
        char *text = json_dumps(body, JSON_COMPACT);
        if (text) fprintf(stderr, "%s\n", text);
        free(text);
    } else {
        cli_fail(cli, code, "%s", message ? message : "the daemon refused without a reason; see its log");
    }
    json_decref(body);
    return code;
}

/* Prints why there is no response: a daemon that has no place for the connection says so in the form of JSON-RPC. */
static enum exit_code report_none(const struct cli *cli, const struct response *response)
{
    json_t *reply = response->in.len ? json_loadb(response->in.bytes, response->in.len, 0, NULL) : NULL;
    const char *message = json_string_value(json_object_get(json_object_get(reply, "error"), "message"));
    cli_fail(cli, CLI_FAILED, "%s", message ? message : "the daemon closed the connection; see its log");
    json_decref(reply);
    return CLI_FAILED;
}

/* ------------------------------------------------------------------------------------------ PUT */

static bool send_chunk(int fd, const char *bytes, size_t len)
{
    char size[24];
    int size_bytes = snprintf(size, sizeof size, "%zx\r\n", len);
    return write_all(fd, size, (size_t)size_bytes) && write_all(fd, bytes, len) && write_all(fd, "\r\n", 2);
}

/* Sends the body. False when the daemon stopped taking it, or, with *read_error set, when the source cannot be read. */
static bool send_body(const struct cli *cli, int fd, const struct text *head, int source, uint64_t total,
                      int *read_error)
{
    if (head->len && !send_chunk(fd, head->bytes, head->len)) return false;
    char *block = malloc(BLOCK_BYTES);
    uint64_t sent = head->len;
    ssize_t count = block ? 1 : -1;
    bool taken = true;
    while (source >= 0 && count > 0 && taken) {
        count = read(source, block, BLOCK_BYTES);
        if (count < 0 && errno == EINTR)
            count = 1;
        else if (count > 0) {
            taken = send_chunk(fd, block, (size_t)count);
            sent += (uint64_t)count;
            progress_bytes(cli, "stored", sent, total);
        }
    }
    if (count < 0) *read_error = errno;
    free(block);
    progress_end(cli);
    return taken && count >= 0 && write_all(fd, "0\r\n\r\n", 5);
}

json_t *client_put_stream(const struct cli *cli, const char *key, const struct text *head, int fd, const char *query,
                          enum exit_code *code)
{
    struct response response = {.fd = connect_daemon(cli)};
    *code = CLI_NO_DAEMON;
    if (response.fd < 0) return NULL;
    struct stat status;
    uint64_t total = fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0;

    struct text request = {0};
    text_append_string(&request, "PUT /value/");
    percent_append(&request, key, strlen(key));
    text_printf(&request, "%s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
                query);
    json_t *result = NULL;
    int read_error = 0;
    *code = CLI_FAILED;
    bool sent = !text_failed(&request) && write_all(response.fd, request.bytes, request.len) &&
                send_body(cli, response.fd, head, fd, total, &read_error);
    if (text_failed(&request))
        cli_fail(cli, CLI_FAILED, "memory is exhausted");
    else if (!sent && read_error)
        cli_fail(cli, CLI_FAILED, "cannot read the value: %s; nothing was stored", strerror(read_error));
    else if (!read_head(&response)) /* also when not all was taken: it says why */
        *code = report_none(cli, &response);
    else if (response.status != 200)
        *code = report(cli, &response);
    else
        result = read_json(&response);
    if (result) *code = CLI_OK;
    text_fini(&request);
    text_fini(&response.in);
    close(response.fd);
    return result;
}

/* ------------------------------------------------------------------------------------------ GET */

static enum exit_code receive(const struct cli *cli, struct response *response, int out_fd, struct text *text)
{
    char *block = malloc(BLOCK_BYTES);
    if (!block) return cli_fail(cli, CLI_FAILED, "memory is exhausted");
    uint64_t got = 0;
    enum exit_code code = CLI_OK;
    while (got < response->length && code == CLI_OK) {
        uint64_t left = response->length - got;
        size_t count = read_body(response, block, left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES);
        got += count;
        if (count == 0)
            code = cli_fail(cli, CLI_FAILED,
                            "the value broke off after %" PRIu64 " of %" PRIu64
                            " bytes, perhaps because it was written meanwhile; try again",
                            got, response->length);
        else if (out_fd < 0)
            text_append(text, block, count);
        else if (!write_all(out_fd, block, count))
            code = cli_fail(cli, CLI_FAILED, "cannot write the value: %s", strerror(errno));
        progress_bytes(cli, "read", got, response->length);
    }
    progress_end(cli);
    free(block);
    if (out_fd < 0 && text_failed(text))
        return cli_fail(cli, CLI_FAILED, "the value does not fit into memory; use --output");
    return code;
}

enum exit_code client_get_stream(const struct cli *cli, const char *key, int out_fd, struct text *text,
                                 struct value_head *head)
{
    struct response response = {.fd = connect_daemon(cli)};
    *head = response.head;
    if (response.fd < 0) return CLI_NO_DAEMON;
    struct text request = {0};
    text_append_string(&request, "GET /value/");
    percent_append(&request, key, strlen(key));
    text_append_string(&request, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    enum exit_code code = CLI_FAILED;
    bool made = !text_failed(&request);
    if (made) (void)write_all(response.fd, request.bytes, request.len); /* who does not take it says why */
    if (!made)
        cli_fail(cli, CLI_FAILED, "memory is exhausted");
    else if (!read_head(&response))
        code = report_none(cli, &response);
    else if (response.status != 200)
        code = report(cli, &response);
    else
        code = receive(cli, &response, out_fd, text);
    *head = response.head;
    text_fini(&request);
    text_fini(&response.in);
    close(response.fd);
    return code;
}
