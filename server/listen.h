/* The daemon's listening socket: made with the right mode from the start, a stale one of a dead daemon replaced, a
 * living one left alone, and removed at the end. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct listen_socket {
    int fd;
    char *path;
    dev_t device; /* of the file, so that only ours is removed */
    ino_t inode;
};

/* Creates directories that are missing, and the socket `path` (taken), mode 0600, or 0660 for `group` (may be NULL).
 * False with a sentence in `error`. */
bool listen_open(struct listen_socket *socket, char *path, const char *group, char *error, size_t error_bytes);

/* Removes the file if it is still ours, and frees the path. The fd is the caller's. */
void listen_remove(struct listen_socket *socket);

/* Creates a directory and what is missing above it. False with errno. */
bool make_directories(const char *path, mode_t mode);

#endif
