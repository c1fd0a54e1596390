#include "base/text.h"

static const char hex_digits[] = "0123456789abcdef";
static const char base32_digits[] = "abcdefghijklmnopqrstuvwxyz234567";
static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void hex_encode(struct slice in, char *out)
{
    for (size_t i = 0; i < in.len; i++) {
        *out++ = hex_digits[in.data[i] >> 4];
        *out++ = hex_digits[in.data[i] & 15];
    }
    *out = '\0';
}

static int hex_value(uint8_t c, enum hex_case letters)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (letters == HEX_ANY_CASE && c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool hex_decode(struct slice text, enum hex_case letters, uint8_t *out, size_t len)
{
    if (text.len % 2 != 0 || text.len / 2 != len) return false;
    for (size_t i = 0; i < len; i++) {
        int high = hex_value(text.data[2 * i], letters), low = hex_value(text.data[2 * i + 1], letters);
        if (high < 0 || low < 0) return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

const char *id_format(const uint8_t id[ID_BYTES], char out[ID_TEXT_MAX])
{
    hex_encode(slice_of(id, ID_BYTES), out);
    return out;
}

enum hkv_err base32_encode(struct slice in, struct buf *out)
{
    TRY(buf_reserve(out, BASE32_CHARS(in.len)));
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < in.len; i++) {
        bits = bits << 8 | in.data[i];
        for (have += 8; have >= 5; have -= 5) out->data[out->len++] = (uint8_t)base32_digits[bits >> (have - 5) & 31];
    }
    if (have > 0) out->data[out->len++] = (uint8_t)base32_digits[bits << (5 - have) & 31];
    return HKV_OK;
}

static int base32_value(uint8_t c)
{
    if (c >= 'a' && c <= 'z') return c - 'a';
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= '2' && c <= '7') return c - '2' + 26;
    return -1;
}

/* The reading half, without memory to manage: -1 when all is well, else where the first bad character stands, or
 * text.len for a bad length or stray bits in the last character. `out` has room for text.len * 5 / 8 bytes. */
static ptrdiff_t base32_read(struct slice text, uint8_t *out)
{
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = base32_value(text.data[i]);
        if (value < 0) return (ptrdiff_t)i;
        bits = bits << 5 | (uint32_t)value;
        have += 5;
        if (have >= 8) {
            have -= 8;
            *out++ = (uint8_t)(bits >> have);
        }
    }
    bool stray = (bits & ((1u << have) - 1)) != 0;
    return have >= 5 || stray ? (ptrdiff_t)text.len : -1;
}

enum hkv_err base32_decode(struct slice text, struct buf *out)
{
    if (text.len == 0) return HKV_OK;
    size_t len = text.len / 8 * 5 + text.len % 8 * 5 / 8;
    TRY(buf_reserve(out, len + 1)); /* + 1: never a null pointer to write through */
    ptrdiff_t bad = base32_read(text, out->data + out->len);
    if (bad >= 0 && (size_t)bad < text.len)
        return error_set(HKV_E_INVALID, "base32 text: character %zd is not one of a-z and 2-7", bad + 1);
    if (bad >= 0)
        return error_set(HKV_E_INVALID, "base32 text of %zu characters is cut short or has stray bits at its end",
                         text.len);
    out->len += len;
    return HKV_OK;
}

enum hkv_err base64_encode(struct slice in, struct buf *out)
{
    if (in.len == 0) return HKV_OK;
    if (in.len > SIZE_MAX / 2) return error_set(HKV_E_NOMEM, "%zu bytes are too many for base64", in.len);
    TRY(buf_reserve(out, BASE64_CHARS(in.len)));
    uint8_t *to = out->data + out->len;
    for (size_t i = 0; i < in.len; i += 3) {
        size_t left = in.len - i;
        uint32_t bits = (uint32_t)in.data[i] << 16;
        if (left > 1) bits |= (uint32_t)in.data[i + 1] << 8;
        if (left > 2) bits |= in.data[i + 2];
        *to++ = (uint8_t)base64_digits[bits >> 18];
        *to++ = (uint8_t)base64_digits[bits >> 12 & 63];
        *to++ = left > 1 ? (uint8_t)base64_digits[bits >> 6 & 63] : '=';
        *to++ = left > 2 ? (uint8_t)base64_digits[bits & 63] : '=';
    }
    out->len += BASE64_CHARS(in.len);
    return HKV_OK;
}

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* As base32_read, for text whose length is a multiple of 4 and whose `padding` last characters are '='. */
static ptrdiff_t base64_read(struct slice text, size_t padding, uint8_t *out)
{
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < text.len - padding; i++) {
        int value = base64_value(text.data[i]);
        if (value < 0) return (ptrdiff_t)i;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            *out++ = (uint8_t)(bits >> have);
        }
    }
    return (bits & ((1u << have) - 1)) != 0 ? (ptrdiff_t)text.len : -1;
}

enum hkv_err base64_decode(struct slice text, struct buf *out)
{
    if (text.len == 0) return HKV_OK;
    if (text.len % 4 != 0)
        return error_set(HKV_E_INVALID, "base64 text has %zu characters; with its = padding it is a multiple of 4",
                         text.len);
    size_t padding = text.data[text.len - 1] != '=' ? 0 : text.data[text.len - 2] != '=' ? 1 : 2;
    size_t len = text.len / 4 * 3 - padding;
    TRY(buf_reserve(out, len));
    ptrdiff_t bad = base64_read(text, padding, out->data + out->len);
    if (bad >= 0 && (size_t)bad < text.len)
        return error_set(HKV_E_INVALID, "base64 text: character %zd is not one of A-Z, a-z, 0-9, + and /", bad + 1);
    if (bad >= 0) return error_set(HKV_E_INVALID, "base64 text has stray bits before its padding");
    out->len += len;
    return HKV_OK;
}

enum hkv_err secret_key_parse(const char *name, struct slice text, struct secret_key *out)
{
    if (text.len == 2 * ID_BYTES && hex_decode(text, HEX_ANY_CASE, out->bytes, ID_BYTES)) return HKV_OK;
    if (text.len == ID_BASE32_CHARS && base32_read(text, out->bytes) < 0) return HKV_OK;
    return error_set(HKV_E_INVALID, "%s: a secret is 64 hex digits or 52 base32 characters; this has %zu characters%s",
                     name, text.len,
                     text.len == 2 * ID_BYTES || text.len == ID_BASE32_CHARS ? ", not all of them allowed" : "");
}

bool utf8_is_valid(struct slice text)
{
    if (text.len == 0) return true;
    const uint8_t *p = text.data, *end = p + text.len;
    while (p < end) {
        uint8_t lead = *p++;
        if (lead < 0x80) continue;
        if (lead < 0xc2 || lead > 0xf4) return false;
        int more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        if (end - p < more) return false;
        /* The second byte's range rules out over-long forms, surrogates and what lies past U+10FFFF. */
        uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (*p < low || *p > high) return false;
        for (p++; more > 1; more--, p++)
            if ((*p & 0xc0) != 0x80) return false;
    }
    return true;
}
