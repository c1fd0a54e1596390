/* Postcard, the byte form in which iroh's protocols write Rust values (wire/docs.md 0).
 *
 *   u16, u32, u64, lengths, enum discriminants   varint: 7 bits a byte, low group first, high bit = continue;
 *                                                at most 3, 5, 10, 10, 5 bytes
 *   ids, hashes, signatures                      their raw bytes, no length
 *   Bytes, Vec<u8>, String                       varint length, then the bytes
 *   bool, Option tag                             one byte, 00 or 01; others are an error
 *   struct, tuple                                the fields in order, nothing else
 *
 * Reading accepts over-long varints, as Rust does; writing is always minimal. A reader borrows its input and moves over
 * it; what it hands out as a slice points into that input. Nothing is allocated for a length that the input does not
 * hold. Pure functions, any thread. Reading fails with HKV_E_PEER_PROTOCOL; callers put the name of the message in
 * front with error_wrap(), and those that parse something else than a peer's bytes give it their own code. */
#ifndef HKV_WIRE_POSTCARD_H
#define HKV_WIRE_POSTCARD_H

#include "base/bytes.h"

#define POSTCARD_VARINT_MAX 10 /* bytes of the longest varint */

struct postcard_reader {
    struct slice in; /* what is still to be read */
    bool truncated;  /* a read failed because the input ended: with more bytes it might succeed */
};

static inline struct postcard_reader postcard_reader_of(struct slice in)
{
    return (struct postcard_reader){.in = in};
}

/* After an error the reader's position is unspecified; a streaming caller starts again from its own copy of the reader.
 */
HKV_CHECK enum hkv_err postcard_read_u64(struct postcard_reader *r, uint64_t *out);
HKV_CHECK enum hkv_err postcard_read_u32(struct postcard_reader *r, uint32_t *out);
HKV_CHECK enum hkv_err postcard_read_u16(struct postcard_reader *r, uint16_t *out);
HKV_CHECK enum hkv_err postcard_read_byte(struct postcard_reader *r, uint8_t *out);
HKV_CHECK enum hkv_err postcard_read_bool(struct postcard_reader *r, bool *out);

/* An enum's discriminant, below `count`. */
HKV_CHECK enum hkv_err postcard_read_variant(struct postcard_reader *r, uint32_t count, uint32_t *out);

/* A varint length or element count of at most `max`. */
HKV_CHECK enum hkv_err postcard_read_length(struct postcard_reader *r, size_t max, size_t *out);

/* Exactly `len` raw bytes, copied to `out`: ids, hashes, signatures. */
HKV_CHECK enum hkv_err postcard_read_raw(struct postcard_reader *r, void *out, size_t len);

/* Exactly `len` raw bytes, borrowed from the input. */
HKV_CHECK enum hkv_err postcard_read_part(struct postcard_reader *r, size_t len, struct slice *out);

/* Bytes or String with its varint length of at most `max`; borrowed from the input. */
HKV_CHECK enum hkv_err postcard_read_bytes(struct postcard_reader *r, size_t max, struct slice *out);

/* Writing appends to `out`. Errors: HKV_E_NOMEM. Raw bytes and single bytes: buf_append(), buf_append_byte(). */
HKV_CHECK enum hkv_err postcard_write_varint(struct buf *out, uint64_t v);
HKV_CHECK enum hkv_err postcard_write_bytes(struct buf *out, struct slice bytes);
HKV_CHECK enum hkv_err postcard_write_bool(struct buf *out, bool v);

/* Stores the varint of `v` at `out` and returns its length; for places that reserved their room. */
size_t postcard_varint_store(uint8_t out[POSTCARD_VARINT_MAX], uint64_t v);

/* Bytes of the varint of `v`, 1 to 10. */
size_t postcard_varint_bytes(uint64_t v);

#endif
