#include "server/socket_dir.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

char *home_path(const char *rest)
{
    const char *home = environment("HOME");
    /* cppcheck-suppress getpwuidCalled ; before there are threads */
    const struct passwd *user = home ? NULL : getpwuid(getuid());
    if (!home) home = user && user->pw_dir ? user->pw_dir : "/";
    char *path;
    return asprintf(&path, "%s/%s", home, rest) < 0 ? NULL : path;
}

size_t socket_dirs(const char *given, char *out[SOCKET_DIR_CANDIDATES])
{
    size_t count = 0;
    const char *only = given ? given : environment("HERO_SOCKET_DIR");
    if (only) {
        out[0] = strdup(only);
        return out[0] != NULL;
    }
    const char *runtime = environment("XDG_RUNTIME_DIR");
    if (runtime && asprintf(&out[count], "%s/hero", runtime) >= 0) count++;
    out[count] = home_path("hero/var/sockets");
    if (out[count]) count++;
    out[count] = strdup("/run/hero");
    if (out[count]) count++;
    return count;
}

char *socket_path(const char *dir, char *error, size_t error_bytes)
{
    char *path;
    if (asprintf(&path, "%s/hero_codescalers/rpc.sock", dir) < 0) {
        snprintf(error, error_bytes, "memory is exhausted");
        return NULL;
    }
    size_t max = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    if (strlen(path) <= max) return path;
    snprintf(
        error, error_bytes,
        "%s: the path has %zu bytes, and a Unix socket's at most %zu; choose a shorter directory with --socket-dir",
        path, strlen(path), max);
    free(path);
    return NULL;
}
