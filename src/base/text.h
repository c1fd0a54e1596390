/* Bytes as text: hex, base32 (RFC 4648, lower case, no padding), base64 (RFC 4648, standard alphabet, padding), UTF-8.
 *
 *   what                    written as            read
 *   ids, hashes             64 lower-case hex     lower case, or either case where the caller says so
 *   secrets                 64 lower-case hex     64 hex or 52 base32, either case (secret_key_parse)
 *   bodies of tickets       base32                either case; impossible lengths and stray low bits are errors
 *   values in JSON          base64                canonical form only: padding present, stray low bits zero
 *
 * Each byte string has exactly one text that is accepted, apart from letter case. Pure functions, any thread. */
#ifndef HKV_BASE_TEXT_H
#define HKV_BASE_TEXT_H

#include "base/bytes.h"
#include "base/ids.h"

#define ID_TEXT_MAX     65 /* 64 hex digits and NUL */
#define ID_BASE32_CHARS 52 /* 32 bytes as base32 */
#define HEX_TEXT_MAX(n) (2 * (n) + 1)
#define BASE32_CHARS(n) (((n)*8 + 4) / 5)
#define BASE64_CHARS(n) (((n) + 2) / 3 * 4)

enum hex_case {
    HEX_LOWER_ONLY, /* what we and iroh print */
    HEX_ANY_CASE,
};

/* Writes `in` as lower-case hex with a NUL: HEX_TEXT_MAX(in.len) bytes at `out`. */
void hex_encode(struct slice in, char *out);

/* Reads exactly `len` bytes from exactly 2 * len hex digits; false, with `out` unspecified, for anything else. */
HKV_CHECK bool hex_decode(struct slice text, enum hex_case letters, uint8_t *out, size_t len);

/* 32 bytes of any kind (`id->bytes`) as 64 hex digits. Returns `out`, so that it can stand in a printf argument. */
const char *id_format(const uint8_t id[ID_BYTES], char out[ID_TEXT_MAX]);

/* Appends base32, lower case. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err base32_encode(struct slice in, struct buf *out);

/* Appends the bytes of a base32 text of either case. Errors: HKV_E_INVALID (character, length or stray bits; `out`
 * unchanged), HKV_E_NOMEM. */
HKV_CHECK enum hkv_err base32_decode(struct slice text, struct buf *out);

/* Appends base64 with padding. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err base64_encode(struct slice in, struct buf *out);

/* Appends the bytes of a base64 text. Errors: HKV_E_INVALID (character, length, padding or stray bits; `out`
 * unchanged), HKV_E_NOMEM. */
HKV_CHECK enum hkv_err base64_decode(struct slice text, struct buf *out);

/* A secret from configuration: 64 hex digits or 52 base32 characters, either case, nothing around it. `name` (of the
 * flag, variable or file) stands in the error, the text itself never does. Errors: HKV_E_INVALID. */
HKV_CHECK enum hkv_err secret_key_parse(const char *name, struct slice text, struct secret_key *out);

/* Whether `text` is well-formed UTF-8 (Unicode 15, table 3-7: no surrogates, no over-long forms, at most U+10FFFF). NUL
 * is a character like any other. */
bool utf8_is_valid(struct slice text);

#endif
