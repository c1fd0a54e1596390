/* Where the daemon's socket is: `<socket dir>/hero_codescalers/rpc.sock`. The daemon takes the first directory that is
 * named; the command line tool tries the defaults in turn, and /run/hero, where systemd puts it, last.
 *
 *   --socket-dir  >  HERO_SOCKET_DIR  >  $XDG_RUNTIME_DIR/hero  >  ~/hero/var/sockets  >  /run/hero
 *
 * An empty variable counts as unset. */
#ifndef SERVER_SOCKET_DIR_H
#define SERVER_SOCKET_DIR_H

#include <stdbool.h>
#include <stddef.h>

#define SOCKET_DIR_CANDIDATES 3

/* The environment variable, or NULL when it is unset or empty. */
const char *environment(const char *name);

/* `~/rest` of this user, from HOME or else the passwd database; heap, NULL: out of memory. */
char *home_path(const char *rest);

/* The directories in which a socket can be, best first, heap; `given` (may be NULL) is the flag's. When the flag or
 * HERO_SOCKET_DIR names one, it is the only one. Returns their number; 0: out of memory. */
size_t socket_dirs(const char *given, char *out[SOCKET_DIR_CANDIDATES]);

/* `<dir>/hero_codescalers/rpc.sock`, heap. NULL with a sentence in `error` when it does not fit a Unix socket's
 * address. */
char *socket_path(const char *dir, char *error, size_t error_bytes);

#endif
