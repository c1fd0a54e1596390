#include "server/text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_CAPACITY_FIRST ((size_t)256)

void text_fini(struct text *text)
{
    free(text->bytes);
    *text = (struct text){0};
}

bool text_failed(const struct text *text)
{
    return text->failed;
}

char *text_reserve(struct text *text, size_t more)
{
    if (text->failed) return NULL;
    if (text->capacity - text->len >= more && text->bytes) return text->bytes + text->len;
    size_t capacity = text->capacity ? text->capacity : TEXT_CAPACITY_FIRST;
    while (capacity - text->len < more) {
        if (capacity > SIZE_MAX / 2) {
            text->failed = true;
            return NULL;
        }
        capacity *= 2;
    }
    char *bytes = realloc(text->bytes, capacity);
    if (!bytes) {
        text->failed = true;
        return NULL;
    }
    text->bytes = bytes;
    text->capacity = capacity;
    return bytes + text->len;
}

void text_append(struct text *text, const void *bytes, size_t len)
{
    char *at = text_reserve(text, len);
    if (!at || !len) return;
    memcpy(at, bytes, len);
    text->len += len;
}

void text_append_string(struct text *text, const char *string)
{
    text_append(text, string, strlen(string));
}

void text_printf(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(need >= 0);
    char *at = text_reserve(text, (size_t)need + 1);
    if (!at) return;
    va_start(args, format);
    vsnprintf(at, (size_t)need + 1, format, args);
    va_end(args);
    text->len += (size_t)need;
}

void text_drop_front(struct text *text, size_t len)
{
    assert(len <= text->len);
    text->len -= len;
    if (text->len) memmove(text->bytes, text->bytes + len, text->len);
}

size_t utf8_character(const char *bytes, size_t len)
{
    const unsigned char *at = (const unsigned char *)bytes;
    unsigned char first = len ? at[0] : 0xff;
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return 0;
    size_t need = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (need > len) return 0;
    for (size_t i = 1; i < need; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    bool overlong = (first == 0xe0 && at[1] < 0xa0) || (first == 0xf0 && at[1] < 0x90);
    bool surrogate = first == 0xed && at[1] > 0x9f;
    bool too_large = first == 0xf4 && at[1] > 0x8f;
    return overlong || surrogate || too_large ? 0 : need;
}

static const char base64_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_append(struct text *out, const void *data, size_t len)
{
    char *at = text_reserve(out, BASE64_CHARS(len));
    if (!at) return;
    const uint8_t *in = data;
    out->len += BASE64_CHARS(len);
    for (; len >= 3; len -= 3, in += 3, at += 4) {
        uint32_t bits = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        at[0] = base64_alphabet[bits >> 18];
        at[1] = base64_alphabet[bits >> 12 & 63];
        at[2] = base64_alphabet[bits >> 6 & 63];
        at[3] = base64_alphabet[bits & 63];
    }
    if (!len) return;
    uint32_t bits = (uint32_t)in[0] << 16 | (len == 2 ? (uint32_t)in[1] << 8 : 0);
    at[0] = base64_alphabet[bits >> 18];
    at[1] = base64_alphabet[bits >> 12 & 63];
    at[2] = len == 2 ? base64_alphabet[bits >> 6 & 63] : '=';
    at[3] = '=';
}

/* 0..63, or -1. */
static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    return c == '/' ? 63 : -1;
}

bool base64_read(const char *chars, size_t len, uint8_t *out, size_t *out_len)
{
    *out_len = 0;
    if (len % 4 != 0) return false;
    uint8_t *at = out;
    for (size_t i = 0; i < len; i += 4) {
        bool last = i + 4 == len;
        int padding = last && chars[i + 3] == '=' ? (chars[i + 2] == '=' ? 2 : 1) : 0;
        uint32_t bits = 0;
        for (int j = 0; j < 4 - padding; j++) {
            int digit = base64_digit(chars[i + (size_t)j]);
            if (digit < 0) return false;
            bits |= (uint32_t)digit << (18 - 6 * j);
        }
        if ((padding == 1 && (bits & 0xff)) || (padding == 2 && (bits & 0xffff))) return false;
        *at++ = (uint8_t)(bits >> 16);
        if (padding < 2) *at++ = (uint8_t)(bits >> 8);
        if (padding < 1) *at++ = (uint8_t)bits;
    }
    *out_len = (size_t)(at - out);
    return true;
}

void hex_write(const uint8_t *bytes, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
}

static bool is_unreserved(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-._~/", c));
}

void percent_append(struct text *out, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i++) {
        if (is_unreserved(bytes[i]))
            text_append(out, &bytes[i], 1);
        else
            text_printf(out, "%%%02X", bytes[i]);
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool percent_read(const char *chars, size_t len, struct text *out)
{
    for (size_t i = 0; i < len; i++) {
        char c = chars[i];
        if (c == '%') {
            if (len - i < 3 || hex_digit(chars[i + 1]) < 0 || hex_digit(chars[i + 2]) < 0) return false;
            c = (char)(hex_digit(chars[i + 1]) * 16 + hex_digit(chars[i + 2]));
            i += 2;
        }
        text_append(out, &c, 1);
    }
    return true;
}
