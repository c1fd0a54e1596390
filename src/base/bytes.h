/* Bytes: `struct slice` borrows, `struct buf` owns. Both may be empty with a NULL pointer. Big- and little-endian
 * integers.
 *
 * A buf grows by doubling; growing fails with HKV_E_NOMEM and leaves it as it was. `_take` in a function's name means
 * that it takes over the buf given to it and leaves that one empty. Not thread-safe: one owner at a time. */
#ifndef HKV_BASE_BYTES_H
#define HKV_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"

struct slice {
    const uint8_t *data;
    size_t len;
};

struct buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

static inline struct slice slice_of(const void *data, size_t len)
{
    return (struct slice){(const uint8_t *)data, len};
}

static inline struct slice slice_of_text(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->data, b->len};
}

/* The part of `s` from `start`, at most `len` bytes; empty when `start` lies past the end. */
struct slice slice_part(struct slice s, size_t start, size_t len);

bool slice_equal(struct slice a, struct slice b);
bool slice_starts_with(struct slice s, struct slice prefix);

/* Byte order, a proper prefix first: < 0, 0 or > 0. */
int slice_compare(struct slice a, struct slice b);

/* Frees what `b` owns and leaves it empty and usable. */
void buf_fini(struct buf *b);

/* Empties `b`, keeps its memory. */
static inline void buf_clear(struct buf *b)
{
    b->len = 0;
}

/* Makes room for `more` bytes after the present ones. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err buf_reserve(struct buf *b, size_t more);

/* Appends a copy. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err buf_append(struct buf *b, const void *data, size_t len);
HKV_CHECK enum hkv_err buf_append_slice(struct buf *b, struct slice s);
HKV_CHECK enum hkv_err buf_append_byte(struct buf *b, uint8_t byte);

/* Replaces the content by a copy. Errors: HKV_E_NOMEM; `b` is unchanged then. */
HKV_CHECK enum hkv_err buf_assign(struct buf *b, struct slice s);

/* Drops the first `len` bytes (at most all); what is left moves to the front. */
void buf_consume(struct buf *b, size_t len);

/* Moves the content of `from` to a new owner; `from` is empty afterwards. */
struct buf buf_take(struct buf *from);

static inline void be64_store(uint8_t out[8], uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8) out[i] = (uint8_t)v;
}

static inline uint64_t be64_load(const uint8_t in[8])
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v = v << 8 | in[i];
    return v;
}

static inline void be32_store(uint8_t out[4], uint32_t v)
{
    for (int i = 3; i >= 0; i--, v >>= 8) out[i] = (uint8_t)v;
}

static inline uint32_t be32_load(const uint8_t in[4])
{
    return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
}

static inline void le64_store(uint8_t out[8], uint64_t v)
{
    for (int i = 0; i < 8; i++, v >>= 8) out[i] = (uint8_t)v;
}

static inline uint64_t le64_load(const uint8_t in[8])
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | in[i];
    return v;
}

#endif
