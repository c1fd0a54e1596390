/* What verbs print. */
#ifndef CLI_PRINT_H
#define CLI_PRINT_H

#include "cli/cli.h"

/* One JSON value as a line. */
void print_json(const json_t *value);

/* Bytes as text for people: control characters and what is no UTF-8 as \xNN, at most `max` bytes of the source. */
void print_escaped(const char *bytes, size_t len, size_t max);

/* Microseconds since the Unix epoch as "2026-01-31 12:00:00"; "-" for 0. */
void print_time(int64_t stamp_us);

/* "12.3 MiB"; returns `out`. */
const char *format_bytes(uint64_t bytes, char out[16]);

/* Progress on a terminal: nothing happens when stderr is none, or with --json. */
void progress_bytes(const struct cli *cli, const char *what, uint64_t done, uint64_t total);
void progress_end(const struct cli *cli);
bool progress_shown(const struct cli *cli);

/* Writes all; false with errno. */
bool write_all(int fd, const void *bytes, size_t len);

#endif
