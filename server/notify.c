#include "server/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/socket_dir.h"

void notify_send(const char *state)
{
    const char *path = environment("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || strlen(path) >= sizeof address.sun_path) return;
    size_t len = strlen(path);
    memcpy(address.sun_path, path, len);
    if (path[0] == '@') address.sun_path[0] = '\0'; /* an abstract socket */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    socklen_t address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, address_bytes);
    close(fd);
}

uint64_t notify_watchdog_ms(void)
{
    const char *limit_us = environment("WATCHDOG_USEC");
    const char *pid = environment("WATCHDOG_PID");
    if (!limit_us || (pid && strtol(pid, NULL, 10) != getpid())) return 0;
    return strtoull(limit_us, NULL, 10) / 2000; /* twice within the limit */
}
