/* The daemon's socket, seen from here: JSON-RPC calls one after the other, and values too long for them by HTTP.
 *
 * Every function that can fail prints the error itself; the exit code is in `code`. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "cli/cli.h"
#include "server/text.h"

/* Longest value that is stored by a JSON-RPC call: as base64 it fits into the daemon's 4 MiB with a key that is all
 * escapes. Longer ones go by client_put_stream. */
#define CLIENT_VALUE_MAX ((size_t)2 << 20)

#define CLIENT_E_USE_VALUE_PATH (-32080) /* the daemon's word for "too long for JSON-RPC" */
#define CLIENT_E_NOT_FOUND      (-32004)

struct client {
    const struct cli *cli;
    int fd;
    struct text in;
    const char *waiting_for; /* shown on a terminal while a reply takes long; may be NULL */
    enum exit_code code;
};

/* Connects to the first daemon found. False: there is none (CLI_NO_DAEMON). */
bool client_open(struct client *client, const struct cli *cli);
void client_close(struct client *client);

/* Calls a method; `params` is taken. The result (the caller's), or NULL. When `error_code` is not NULL and the daemon
 * answered with an error of that code, nothing is printed and *error_code stays; otherwise it is set to 0. */
json_t *client_call(struct client *client, const char *method, json_t *params, int *error_code);

/* The next line from the daemon as JSON, for watches; NULL at the end. */
json_t *client_next(struct client *client);

/* Stores `head`, and then what `fd` gives up to its end (none when negative), under a key. `head` may be what was
 * already read of the same stream. `query` is "" or "?…". The result as of kv.put, or NULL. */
json_t *client_put_stream(const struct cli *cli, const char *key, const struct text *head, int fd, const char *query,
                          enum exit_code *code);

/* What a value comes with. */
struct value_head {
    char version[128];
    int64_t expires_us; /* 0: never */
};

/* Writes a value to `out_fd`, or appends it to `text` when out_fd is negative. */
enum exit_code client_get_stream(const struct cli *cli, const char *key, int out_fd, struct text *text,
                                 struct value_head *head);

#endif
