/* A growing byte buffer, and the text encodings that JSON-RPC and HTTP need: UTF-8, base64 (RFC 4648, canonical form
 * only), hex, and percent-encoding of URL paths.
 *
 * A `struct text` begins all zero. Appending to one whose allocation failed does nothing, so that a caller may append
 * many times and ask text_failed() once. text_fini() releases it and leaves it empty. Any thread, one owner at a time.
 */
#ifndef SERVER_TEXT_H
#define SERVER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
    char *bytes;
    size_t len;
    size_t capacity;
    bool failed;
};

void text_fini(struct text *text);
bool text_failed(const struct text *text);

/* Room for `more` bytes at bytes + len; NULL, and the text failed, when memory is exhausted. */
char *text_reserve(struct text *text, size_t more);
void text_append(struct text *text, const void *bytes, size_t len);
void text_append_string(struct text *text, const char *string);
void text_printf(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Drops the first `len` bytes. */
void text_drop_front(struct text *text, size_t len);

/* How many of the `len` bytes at `bytes` are its first character; 0 when they are no UTF-8 (RFC 3629). */
size_t utf8_character(const char *bytes, size_t len);

#define BASE64_CHARS(n)     (((n) + 2) / 3 * 4)
#define BASE64_BYTES_MAX(n) ((n) / 4 * 3)

/* Appends BASE64_CHARS(len) characters. */
void base64_append(struct text *out, const void *bytes, size_t len);

/* Decodes into `out`, which has room for BASE64_BYTES_MAX(len) bytes. False for a character outside of the alphabet,
 * missing or misplaced padding, or stray low bits. */
bool base64_read(const char *chars, size_t len, uint8_t *out, size_t *out_len);

/* Writes 2 * len lower-case digits and a NUL. */
void hex_write(const uint8_t *bytes, size_t len, char *out);

/* Appends `bytes` with every byte but "/" and the unreserved characters of RFC 3986 written as %XX. */
void percent_append(struct text *out, const void *bytes, size_t len);

/* Appends what `chars` stands for. False for a '%' without two hex digits behind it. */
bool percent_read(const char *chars, size_t len, struct text *out);

#endif
