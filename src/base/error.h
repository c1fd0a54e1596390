/* Errors: the public codes, and the sentence with its particulars that belongs to the last failure on this thread.
 *
 * A function that can fail returns enum hkv_err and is marked HKV_CHECK, so the compiler refuses a dropped result. The
 * place that knows the particulars calls error_set(); callers on the way up may put context in front with error_wrap().
 * The text is thread-local; work that fails on another thread carries it over in a struct error_text.
 *
 * TRY(expr) returns early; it is not mixed with an `out:` label in one function. */
#ifndef HKV_BASE_ERROR_H
#define HKV_BASE_ERROR_H

#include <hero_kvs_error.h>

#define HKV_CHECK           __attribute__((warn_unused_result))
#define HKV_PRINTF(fmt, va) __attribute__((format(printf, fmt, va)))

/* Longest error sentence kept, in bytes with its NUL; longer ones are cut. */
#define ERROR_TEXT_MAX 512

struct error_text {
    char text[ERROR_TEXT_MAX];
};

enum error_class {
    ERROR_CLASS_NONE,
    ERROR_CLASS_CALLER,
    ERROR_CLASS_PEER,
    ERROR_CLASS_RESOURCE,
    ERROR_CLASS_DISK,
    ERROR_CLASS_CLOCK,
    ERROR_CLASS_INTERNAL,
};

#define TRY(expr)                                                                                                      \
    do {                                                                                                               \
        enum hkv_err try_err_ = (expr);                                                                                \
        if (try_err_ != HKV_OK) return try_err_;                                                                       \
    } while (0)

/* Records the sentence for `err` on this thread and returns `err`. `format` names the thing, the rule and the remedy.
 */
enum hkv_err error_set(enum hkv_err err, const char *format, ...) HKV_PRINTF(2, 3);

/* Puts "context: " in front of this thread's sentence and returns `err`. */
enum hkv_err error_wrap(enum hkv_err err, const char *format, ...) HKV_PRINTF(2, 3);

/* The compiler sees one file at a time; this shows it that the code which goes in comes out, so that it knows what a
 * TRY() above has left uninitialised and what not. */
static inline enum hkv_err error_passed(enum hkv_err err, enum hkv_err noted)
{
    (void)noted;
    return err;
}
#define error_set(err, ...)  error_passed(err, error_set(err, __VA_ARGS__))
#define error_wrap(err, ...) error_passed(err, error_wrap(err, __VA_ARGS__))

/* This thread's last sentence; "" when nothing failed yet. Valid until the next failure on this thread. */
const char *error_last(void);

/* Takes this thread's sentence along to another thread, and puts it in place there. */
void error_save(struct error_text *out);
void error_restore(const struct error_text *saved);

/* Symbolic name ("HKV_E_KEY"), general sentence, and class of a code; for unknown codes those of HKV_E_INTERNAL. */
const char *error_name(enum hkv_err err);
const char *error_sentence(enum hkv_err err);
enum error_class error_class_of(enum hkv_err err);

#endif
