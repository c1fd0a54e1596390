/* Logging: one line an event, with a level and the module it comes from ("net", "docs", …).
 *
 * Nothing below the application prints. An event goes to the one sink that the application put in place; without one it
 * goes nowhere and costs one load. Text from outside cannot break the line: control characters arrive as '?'.
 *
 *   log_warn("net", "%s: no answer within %u ms", peer, limit_ms);
 *
 * Any thread. A sink must not wait and must not log. */
#ifndef HKV_BASE_LOG_H
#define HKV_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Longest event text in bytes with its NUL; longer ones are cut. */
#define LOG_TEXT_MAX 1024

enum log_level {
    LOG_LEVEL_ERROR, /* something promised is not kept */
    LOG_LEVEL_WARN,  /* someone should look at this */
    LOG_LEVEL_INFO,  /* starts, stops, peers that come and go */
    LOG_LEVEL_DEBUG, /* single sessions and transfers */
};

/* A module whose level differs from the rest. */
struct log_module {
    const char *name;
    enum log_level level;
};

struct log_sink {
    void (*write)(const struct log_sink *sink, enum log_level level, const char *module, const char *text);
    enum log_level level; /* events up to this one are written */
    const struct log_module *modules;
    size_t module_count;
    void *user;
};

/* Puts a sink in place for the whole process, or none (NULL). The sink stays the caller's and, because other threads
 * may be inside it, lives until the process ends. */
void log_set_sink(const struct log_sink *sink);

/* "error", "warn", "info" or "debug", and back; false for any other text. */
const char *log_level_name(enum log_level level);
HKV_CHECK bool log_level_parse(const char *text, enum log_level *out);

bool log_is_on(enum log_level level, const char *module);
void log_write(enum log_level level, const char *module, const char *format, ...) HKV_PRINTF(3, 4);

/* The arguments are evaluated only when someone listens. */
#define LOG_AT_(level, module, ...) (log_is_on(level, module) ? log_write(level, module, __VA_ARGS__) : (void)0)
#define log_error(module, ...)      LOG_AT_(LOG_LEVEL_ERROR, module, __VA_ARGS__)
#define log_warn(module, ...)       LOG_AT_(LOG_LEVEL_WARN, module, __VA_ARGS__)
#define log_info(module, ...)       LOG_AT_(LOG_LEVEL_INFO, module, __VA_ARGS__)
#define log_debug(module, ...)      LOG_AT_(LOG_LEVEL_DEBUG, module, __VA_ARGS__)

#endif
