#include "cli/connect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/socket_dir.h"
#include "server/text.h"

/* The socket in this directory, or -1 with the reason appended to `tried`. */
static int connect_in(const char *dir, struct text *tried)
{
    char error[512];
    char *path = socket_path(dir, error, sizeof error);
    if (!path) {
        text_printf(tried, "%s%s", tried->len ? "; " : "", error);
        return -1;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        free(path);
        return fd;
    }
    text_printf(tried, "%s%s: %s", tried->len ? "; " : "", path, strerror(errno));
    if (fd >= 0) close(fd);
    free(path);
    return -1;
}

int connect_daemon(const struct cli *cli)
{
    char *dirs[SOCKET_DIR_CANDIDATES] = {0};
    size_t count = socket_dirs(cli->socket_dir, dirs);
    struct text tried = {0};
    int fd = -1;
    for (size_t i = 0; i < count; i++) {
        if (fd < 0) fd = connect_in(dirs[i], &tried);
        free(dirs[i]);
    }
    text_append(&tried, "", 1);
    if (fd < 0)
        cli_fail(
            cli, CLI_NO_DAEMON,
            "no daemon answers (%s); start hero_codescalers_server, or name its socket directory with --socket-dir",
            text_failed(&tried) ? "memory is exhausted" : tried.bytes);
    text_fini(&tried);
    return fd;
}
