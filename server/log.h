/* The daemon's log: one line an event on stderr, from any thread, written at once.
 *
 *   2026-01-31T12:00:00.123Z warn net: port 24376 is taken
 *   {"time":"2026-01-31T12:00:00.123Z","level":"warn","module":"net","message":"port 24376 is taken"} */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <hero_kvs.h>

#define LOG_MODULES_MAX 16

struct log_settings {
    enum hkv_log_level level;
    struct {
        char name[16];
        enum hkv_log_level level;
    } modules[LOG_MODULES_MAX];
    size_t module_count;
    bool as_json;
};

/* Adds "info" or "info,net=debug". False for anything else. */
bool log_settings_parse(struct log_settings *settings, const char *text);

/* Before the first event and before threads; the settings are copied. */
void log_setup(const struct log_settings *settings);

/* For struct hkv_options; `arg` is not used. */
void log_store_event(void *arg, enum hkv_log_level level, const char *module, const char *message);

/* An event of the daemon's own. */
void log_event(enum hkv_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
