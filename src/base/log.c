#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static const struct log_sink *_Atomic current;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

#define LEVEL_COUNT (sizeof level_names / sizeof level_names[0])

void log_set_sink(const struct log_sink *sink)
{
    atomic_store_explicit(&current, sink, memory_order_release);
}

const char *log_level_name(enum log_level level)
{
    return (size_t)level < LEVEL_COUNT ? level_names[level] : level_names[LOG_LEVEL_ERROR];
}

bool log_level_parse(const char *text, enum log_level *out)
{
    for (size_t i = 0; i < LEVEL_COUNT; i++) {
        if (strcmp(text, level_names[i]) != 0) continue;
        *out = (enum log_level)i;
        return true;
    }
    return false;
}

static bool sink_wants(const struct log_sink *sink, enum log_level level, const char *module)
{
    for (size_t i = 0; i < sink->module_count; i++)
        if (strcmp(sink->modules[i].name, module) == 0) return level <= sink->modules[i].level;
    return level <= sink->level;
}

bool log_is_on(enum log_level level, const char *module)
{
    const struct log_sink *sink = atomic_load_explicit(&current, memory_order_acquire);
    return sink != NULL && sink_wants(sink, level, module);
}

void log_write(enum log_level level, const char *module, const char *format, ...)
{
    const struct log_sink *sink = atomic_load_explicit(&current, memory_order_acquire);
    if (sink == NULL || !sink_wants(sink, level, module)) return;
    char text[LOG_TEXT_MAX] = "";
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    sink->write(sink, level, module, text);
}
