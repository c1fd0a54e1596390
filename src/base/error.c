#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct error_text last;

static const struct {
    const char *name;
    const char *sentence;
    enum error_class class;
} table[] = {
#define ERROR_ROW(code, name, text, class) [code] = {#name, text, ERROR_CLASS_##class},
    HKV_ERROR_TABLE(ERROR_ROW)
#undef ERROR_ROW
};

#define TABLE_COUNT (sizeof table / sizeof table[0])

enum hkv_err(error_set)(enum hkv_err err, const char *format, ...)
{
    struct error_text text; /* the arguments may point into `last` */
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text.text, sizeof text.text, format, args);
    va_end(args);
    last = text;
    return err;
}

enum hkv_err(error_wrap)(enum hkv_err err, const char *format, ...)
{
    struct error_text text;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text.text, sizeof text.text, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n + 3 < sizeof text.text) {
        size_t room = sizeof text.text - (size_t)n - 3, length = strlen(last.text);
        if (length > room) length = room;
        memcpy(text.text + n, ": ", 2);
        memcpy(text.text + n + 2, last.text, length);
        text.text[(size_t)n + 2 + length] = '\0';
    }
    last = text;
    return err;
}

const char *error_last(void)
{
    return last.text;
}

void error_save(struct error_text *out)
{
    *out = last;
}

void error_restore(const struct error_text *saved)
{
    last = *saved;
}

static size_t row_of(enum hkv_err err)
{
    size_t row = (size_t)err;
    return row < TABLE_COUNT && table[row].name != NULL ? row : (size_t)HKV_E_INTERNAL;
}

const char *error_name(enum hkv_err err)
{
    return table[row_of(err)].name;
}

const char *error_sentence(enum hkv_err err)
{
    return table[row_of(err)].sentence;
}

enum error_class error_class_of(enum hkv_err err)
{
    return table[row_of(err)].class;
}
