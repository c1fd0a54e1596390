/* Telling systemd (Type=notify) how we are, without its library: a datagram to the socket that NOTIFY_SOCKET names.
 * Without the variable everything here does nothing. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

#include <stdint.h>

/* "READY=1", "STOPPING=1", "WATCHDOG=1". */
void notify_send(const char *state);

/* How often the watchdog wants to hear from us, in milliseconds; 0: never. */
uint64_t notify_watchdog_ms(void);

#endif
