#include "wire/postcard.h"

static enum hkv_err input_ended(struct postcard_reader *r, const char *what)
{
    r->truncated = true;
    return error_set(HKV_E_PEER_PROTOCOL, "the bytes end inside %s", what);
}

/* `bits` of value at most: the last byte a varint may have holds what is left of them. */
static enum hkv_err read_varint(struct postcard_reader *r, unsigned bits, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned i = 0, shift = 0;; i++, shift += 7) {
        if (i == r->in.len) return input_ended(r, "a number");
        uint8_t byte = r->in.data[i];
        unsigned left = bits - shift; /* at least 1 */
        if (left < 8 && (byte >> left) != 0)
            return error_set(HKV_E_PEER_PROTOCOL, "a varint holds more than %u bits", bits);
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            r->in = slice_part(r->in, i + 1, SIZE_MAX);
            *out = v;
            return HKV_OK;
        }
    }
}

enum hkv_err postcard_read_u64(struct postcard_reader *r, uint64_t *out)
{
    return read_varint(r, 64, out);
}

enum hkv_err postcard_read_u32(struct postcard_reader *r, uint32_t *out)
{
    uint64_t v;
    TRY(read_varint(r, 32, &v));
    *out = (uint32_t)v;
    return HKV_OK;
}

enum hkv_err postcard_read_u16(struct postcard_reader *r, uint16_t *out)
{
    uint64_t v;
    TRY(read_varint(r, 16, &v));
    *out = (uint16_t)v;
    return HKV_OK;
}

enum hkv_err postcard_read_byte(struct postcard_reader *r, uint8_t *out)
{
    if (r->in.len == 0) return input_ended(r, "a byte");
    *out = r->in.data[0];
    r->in = slice_part(r->in, 1, SIZE_MAX);
    return HKV_OK;
}

enum hkv_err postcard_read_bool(struct postcard_reader *r, bool *out)
{
    uint8_t byte;
    TRY(postcard_read_byte(r, &byte));
    if (byte > 1) return error_set(HKV_E_PEER_PROTOCOL, "a bool is 00 or 01, not %02x", byte);
    *out = byte == 1;
    return HKV_OK;
}

enum hkv_err postcard_read_variant(struct postcard_reader *r, uint32_t count, uint32_t *out)
{
    TRY(postcard_read_u32(r, out));
    if (*out >= count) return error_set(HKV_E_PEER_PROTOCOL, "variant %u of an enum that has %u", *out, count);
    return HKV_OK;
}

enum hkv_err postcard_read_length(struct postcard_reader *r, size_t max, size_t *out)
{
    uint64_t v;
    TRY(read_varint(r, 64, &v));
    if (v > max)
        return error_set(HKV_E_PEER_PROTOCOL, "a length of %llu where at most %zu is allowed", (unsigned long long)v,
                         max);
    *out = (size_t)v;
    return HKV_OK;
}

enum hkv_err postcard_read_part(struct postcard_reader *r, size_t len, struct slice *out)
{
    if (r->in.len < len) return input_ended(r, "a field");
    *out = (struct slice){r->in.data, len};
    r->in = slice_part(r->in, len, SIZE_MAX);
    return HKV_OK;
}

enum hkv_err postcard_read_raw(struct postcard_reader *r, void *out, size_t len)
{
    struct slice part;
    TRY(postcard_read_part(r, len, &part));
    if (len > 0) memcpy(out, part.data, len);
    return HKV_OK;
}

enum hkv_err postcard_read_bytes(struct postcard_reader *r, size_t max, struct slice *out)
{
    size_t len;
    TRY(postcard_read_length(r, max, &len));
    return postcard_read_part(r, len, out);
}

size_t postcard_varint_bytes(uint64_t v)
{
    size_t n = 1;
    while (v >>= 7) n++;
    return n;
}

size_t postcard_varint_store(uint8_t out[POSTCARD_VARINT_MAX], uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7) out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

enum hkv_err postcard_write_varint(struct buf *out, uint64_t v)
{
    uint8_t bytes[POSTCARD_VARINT_MAX];
    return buf_append(out, bytes, postcard_varint_store(bytes, v));
}

enum hkv_err postcard_write_bytes(struct buf *out, struct slice bytes)
{
    TRY(postcard_write_varint(out, bytes.len));
    return buf_append_slice(out, bytes);
}

enum hkv_err postcard_write_bool(struct buf *out, bool v)
{
    return buf_append_byte(out, v ? 1 : 0);
}
