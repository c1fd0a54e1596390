#include "cli/print.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/text.h"

void print_json(const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text) puts(text);
    free(text);
}

void print_escaped(const char *bytes, size_t len, size_t max)
{
    const unsigned char *at = (const unsigned char *)bytes;
    size_t end = len < max ? len : max;
    for (size_t i = 0; i < end;) {
        size_t count = utf8_character(bytes + i, len - i);
        /* C1 controls are two bytes of UTF-8 and as bad for a terminal as the others. */
        bool is_control = at[i] < ' ' || at[i] == 0x7f || (count == 2 && at[i] == 0xc2 && at[i + 1] < 0xa0);
        if (count == 0 || is_control) {
            printf("\\x%02x", at[i]);
            i++;
        } else {
            fwrite(at + i, 1, count, stdout);
            i += count;
        }
    }
    if (end < len) fputs("...", stdout);
}

void print_time(int64_t stamp_us)
{
    time_t seconds = (time_t)(stamp_us / 1000000);
    struct tm utc;
    char text[32];
    if (stamp_us <= 0 || !gmtime_r(&seconds, &utc) || strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc) == 0)
        strcpy(text, "-");
    fputs(text, stdout);
}

const char *format_bytes(uint64_t bytes, char out[16])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double amount = (double)bytes;
    size_t unit = 0;
    while (amount >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        amount /= 1024;
        unit++;
    }
    snprintf(out, 16, unit ? "%.1f %s" : "%.0f %s", amount, units[unit]);
    return out;
}

bool progress_shown(const struct cli *cli)
{
    return !cli->json && isatty(STDERR_FILENO);
}

void progress_bytes(const struct cli *cli, const char *what, uint64_t done, uint64_t total)
{
    static time_t last;
    time_t now = time(NULL);
    if (!progress_shown(cli) || now == last) return;
    last = now;
    char done_text[16], total_text[16];
    fprintf(stderr, "\r%s %s%s%s\033[K", what, format_bytes(done, done_text), total ? " of " : "",
            total ? format_bytes(total, total_text) : "");
    fflush(stderr);
}

void progress_end(const struct cli *cli)
{
    if (progress_shown(cli)) fputs("\r\033[K", stderr);
}

bool write_all(int fd, const void *data, size_t len)
{
    const char *bytes = data;
    while (len > 0) {
        ssize_t count = write(fd, bytes, len);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return false;
        bytes += count;
        len -= (size_t)count;
    }
    return true;
}
