#include "server/log.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/text.h"

#define EVENT_BYTES_MAX 1024

static struct log_settings settings = {.level = HKV_LOG_INFO};

static const char *const level_names[] = {
    [HKV_LOG_ERROR] = "error",
    [HKV_LOG_WARN] = "warn",
    [HKV_LOG_INFO] = "info",
    [HKV_LOG_DEBUG] = "debug",
};

static bool parse_level(const char *text, size_t len, enum hkv_log_level *out)
{
    for (int level = HKV_LOG_ERROR; level <= HKV_LOG_DEBUG; level++) {
        if (strlen(level_names[level]) != len || memcmp(level_names[level], text, len) != 0) continue;
        *out = (enum hkv_log_level)level;
        return true;
    }
    return false;
}

bool log_settings_parse(struct log_settings *out, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, ",");
        const char *equals = memchr(text, '=', len);
        if (!equals) {
            if (!parse_level(text, len, &out->level)) return false;
        } else {
            size_t name_bytes = (size_t)(equals - text);
            if (out->module_count == LOG_MODULES_MAX || name_bytes == 0 || name_bytes >= sizeof out->modules->name)
                return false;
            if (!parse_level(equals + 1, len - name_bytes - 1, &out->modules[out->module_count].level)) return false;
            memcpy(out->modules[out->module_count].name, text, name_bytes);
            out->modules[out->module_count++].name[name_bytes] = '\0';
        }
        text += len;
        if (*text == ',' && !*++text) return false;
    }
    return true;
}

void log_setup(const struct log_settings *from)
{
    settings = *from;
}

static bool is_on(enum hkv_log_level level, const char *module)
{
    for (size_t i = settings.module_count; i-- > 0;)
        if (strcmp(settings.modules[i].name, module) == 0) return level <= settings.modules[i].level;
    return level <= settings.level;
}

static void write_json(struct text *line, const char *when, enum hkv_log_level level, const char *module,
                       const char *message)
{
    json_t *event = json_pack("{s:s, s:s, s:s, s:s*}", "time", when, "level", level_names[level], "module", module,
                              "message", message);
    char *text = event ? json_dumps(event, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    if (text) text_printf(line, "%s\n", text);
    free(text);
    json_decref(event);
}

void log_store_event(void *arg, enum hkv_log_level level, const char *module, const char *message)
{
    (void)arg;
    if (!is_on(level, module)) return;
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char seconds[32], when[48];
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(when, sizeof when, "%s.%03dZ", seconds, (int)(now.tv_nsec / 1000000));

    struct text line = {0};
    if (settings.as_json) {
        write_json(&line, when, level, module, message);
    } else {
        text_printf(&line, "%s %s %s: ", when, level_names[level], module);
        for (const char *at = message; *at; at++)
            text_append(&line, (unsigned char)*at < ' ' || *at == 0x7f ? "?" : at, 1);
        text_append(&line, "\n", 1);
    }
    if (!text_failed(&line) && line.len) (void)!write(STDERR_FILENO, line.bytes, line.len);
    text_fini(&line);
}

void log_event(enum hkv_log_level level, const char *format, ...)
{
    if (!is_on(level, "server")) return;
    char message[EVENT_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    log_store_event(NULL, level, "server", message);
}
