/* For the tests of crypto and blobs: hexadecimal, the input pattern of all BLAKE3 vectors, and seeded random numbers.
 */
#ifndef TESTS_FIXTURE_BYTES_H
#define TESTS_FIXTURE_BYTES_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/ids.h"

static inline int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes hex with spaces anywhere; returns the number of bytes. */
static inline size_t from_hex(const char *hex, uint8_t *out, size_t max)
{
    size_t n = 0;
    while (*hex != '\0') {
        if (*hex == ' ') {
            hex++;
            continue;
        }
        assert_true(n < max && hex_digit(hex[0]) >= 0 && hex_digit(hex[1]) >= 0);
        out[n++] = (uint8_t)(hex_digit(hex[0]) << 4 | hex_digit(hex[1]));
        hex += 2;
    }
    return n;
}

static inline struct hash hash_of_hex(const char *hex)
{
    struct hash h;
    assert_int_equal(from_hex(hex, h.bytes, sizeof h.bytes), sizeof h.bytes);
    return h;
}

static inline void assert_hex(const void *bytes, size_t len, const char *hex)
{
    char text[2 * 4096 + 1] = "";
    assert_true(len <= 4096);
    for (size_t i = 0; i < len; i++) (void)snprintf(text + 2 * i, 3, "%02x", ((const uint8_t *)bytes)[i]);
    char want[2 * 4096 + 1];
    size_t n = 0;
    for (; *hex != '\0'; hex++)
        if (*hex != ' ') want[n++] = *hex;
    want[n] = '\0';
    assert_string_equal(text, want);
}

static inline void assert_hash(const struct hash *h, const char *hex)
{
    assert_hex(h->bytes, sizeof h->bytes, hex);
}

/* Byte i is i mod 251. The caller frees it. */
static inline uint8_t *pattern_new(size_t len)
{
    uint8_t *p = malloc(len + 1);
    assert_non_null(p);
    for (size_t i = 0; i < len; i++) p[i] = (uint8_t)(i % 251);
    return p;
}

/* splitmix64 */
struct fixture_random {
    uint64_t state;
};

static inline uint64_t random_next(struct fixture_random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline uint64_t random_below(struct fixture_random *r, uint64_t bound)
{
    return random_next(r) % bound;
}

/* The seed of this run: HKV_SEED or a fixed one; printed, so that a failure can be repeated. */
static inline struct fixture_random random_seeded(void)
{
    const char *text = getenv("HKV_SEED");
    struct fixture_random r = {text != NULL ? strtoull(text, NULL, 0) : 1};
    print_message("HKV_SEED=%llu\n", (unsigned long long)r.state);
    return r;
}

static inline void random_bytes(struct fixture_random *r, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++) out[i] = (uint8_t)random_next(r);
}

#endif
