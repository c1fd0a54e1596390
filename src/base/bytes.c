#include "base/bytes.h"

#include <stdlib.h>

#define BUF_CAP_MIN 64

struct slice slice_part(struct slice s, size_t start, size_t len)
{
    if (start >= s.len) return (struct slice){NULL, 0};
    size_t left = s.len - start;
    return (struct slice){s.data + start, len < left ? len : left};
}

bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

int slice_compare(struct slice a, struct slice b)
{
    size_t shared = a.len < b.len ? a.len : b.len;
    int order = shared == 0 ? 0 : memcmp(a.data, b.data, shared);
    if (order != 0) return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

void buf_fini(struct buf *b)
{
    if (b == NULL) return;
    free(b->data);
    *b = (struct buf){0};
}

enum hkv_err buf_reserve(struct buf *b, size_t more)
{
    if (more <= b->cap - b->len) return HKV_OK;
    if (more > SIZE_MAX / 2 - b->len)
        return error_set(HKV_E_NOMEM, "a buffer of %zu + %zu bytes is beyond any memory", b->len, more);
    size_t cap = b->cap < BUF_CAP_MIN ? BUF_CAP_MIN : b->cap;
    while (cap - b->len < more) cap *= 2;
    uint8_t *data = realloc(b->data, cap);
    if (data == NULL) return error_set(HKV_E_NOMEM, "no memory for a buffer of %zu bytes", cap);
    b->data = data;
    b->cap = cap;
    return HKV_OK;
}

enum hkv_err buf_append(struct buf *b, const void *data, size_t len)
{
    if (len == 0) return HKV_OK;
    TRY(buf_reserve(b, len));
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return HKV_OK;
}

enum hkv_err buf_append_slice(struct buf *b, struct slice s)
{
    return buf_append(b, s.data, s.len);
}

enum hkv_err buf_append_byte(struct buf *b, uint8_t byte)
{
    return buf_append(b, &byte, 1);
}

enum hkv_err buf_assign(struct buf *b, struct slice s)
{
    if (s.len > b->cap) TRY(buf_reserve(b, s.len - b->len));
    if (s.len > 0) memmove(b->data, s.data, s.len);
    b->len = s.len;
    return HKV_OK;
}

void buf_consume(struct buf *b, size_t len)
{
    if (len >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + len, b->len - len);
    b->len -= len;
}

struct buf buf_take(struct buf *from)
{
    struct buf taken = *from;
    *from = (struct buf){0};
    return taken;
}
