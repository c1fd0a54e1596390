/* Finding the daemon. */
#ifndef CLI_CONNECT_H
#define CLI_CONNECT_H

#include "cli/cli.h"

/* A connected socket, tried in the order of server/socket_dir.h; -1 with the error printed. */
int connect_daemon(const struct cli *cli);

#endif
