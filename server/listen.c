#include "server/listen.h"

#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

bool make_directories(const char *path, mode_t mode)
{
    char *copy = strdup(path);
    if (!copy) return false;
    for (char *slash = *copy ? strchr(copy + 1, '/') : NULL; slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(copy, 0755); /* what is wrong with it shows at the last one */
        *slash = '/';
    }
    free(copy);
    if (mkdir(path, mode) == 0) return true;
    struct stat status;
    if (errno != EEXIST || stat(path, &status) != 0) return false;
    if (S_ISDIR(status.st_mode)) return true;
    errno = ENOTDIR;
    return false;
}

static bool make_parent(const char *path)
{
    char *copy = strdup(path);
    bool ok = copy && make_directories(dirname(copy), 0755);
    free(copy);
    return ok;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

/* Removes a socket that nobody listens on. False, with a sentence, when somebody does or something else is there. */
static bool remove_stale(const char *path, char *error, size_t error_bytes)
{
    struct stat status;
    if (lstat(path, &status) != 0) return true;
    if (!S_ISSOCK(status.st_mode)) {
        snprintf(error, error_bytes,
                 "%s: there is a file that is not a socket; remove it or choose another --socket-dir", path);
        return false;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = address_of(path);
    int result = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&address, sizeof address);
    int why = errno;
    if (fd >= 0) close(fd);
    if (result < 0 && why == ECONNREFUSED) {
        (void)unlink(path);
        return true;
    }
    snprintf(error, error_bytes,
             "%s: another daemon listens there; stop it, or choose another --socket-dir for this one", path);
    return false;
}

static bool set_group(const char *path, const char *group, char *error, size_t error_bytes)
{
    /* cppcheck-suppress getgrnamCalled ; before there are threads */
    const struct group *entry = getgrnam(group);
    if (!entry) {
        snprintf(error, error_bytes, "--socket-group %s: there is no such group", group);
        return false;
    }
    if (chown(path, (uid_t)-1, entry->gr_gid) == 0 && chmod(path, 0660) == 0) return true;
    snprintf(error, error_bytes, "%s: cannot give it to the group %s: %s; be a member of the group or root", path,
             group, strerror(errno));
    return false;
}

static bool bind_and_listen(struct listen_socket *sock, const char *path)
{
    sock->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock->fd < 0) return false;
    struct sockaddr_un address = address_of(path);
    mode_t before = umask(0177);
    int result = bind(sock->fd, (struct sockaddr *)&address, sizeof address);
    umask(before);
    struct stat status;
    if (result == 0 && listen(sock->fd, SOMAXCONN) == 0 && lstat(path, &status) == 0) {
        sock->device = status.st_dev;
        sock->inode = status.st_ino;
        return true;
    }
    int why = errno;
    close(sock->fd);
    errno = why;
    return false;
}

bool listen_open(struct listen_socket *sock, char *path, const char *group, char *error, size_t error_bytes)
{
    *sock = (struct listen_socket){.fd = -1, .path = path};
    if (!make_parent(path)) {
        snprintf(error, error_bytes, "%s: cannot create its directory: %s; choose another with --socket-dir", path,
                 strerror(errno));
    } else if (!remove_stale(path, error, error_bytes)) {
        /* the sentence is there */
    } else if (!bind_and_listen(sock, path)) {
        snprintf(error, error_bytes, "%s: cannot listen: %s", path, strerror(errno));
    } else if (group && !set_group(path, group, error, error_bytes)) {
        close(sock->fd);
        listen_remove(sock);
    } else {
        return true;
    }
    free(sock->path);
    sock->path = NULL;
    return false;
}

void listen_remove(struct listen_socket *sock)
{
    struct stat status;
    if (sock->path && lstat(sock->path, &status) == 0 && status.st_dev == sock->device && status.st_ino == sock->inode)
        (void)unlink(sock->path);
    free(sock->path);
    sock->path = NULL;
}
