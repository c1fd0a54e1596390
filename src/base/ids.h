/* The kinds of 32 bytes, each its own type so that none is passed for another. Order is plain byte order (memcmp). */
#ifndef HKV_BASE_IDS_H
#define HKV_BASE_IDS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"

#define ID_BYTES        32
#define SIGNATURE_BYTES 64

struct endpoint_id {
    uint8_t bytes[ID_BYTES];
}; /* Ed25519 public key of a node's transport */

struct author_id {
    uint8_t bytes[ID_BYTES];
}; /* Ed25519 public key that signs entries */

struct namespace_id {
    uint8_t bytes[ID_BYTES];
}; /* Ed25519 public key of a replicated database */

struct hash {
    uint8_t bytes[ID_BYTES];
}; /* BLAKE3-256 of a content */

struct fingerprint {
    uint8_t bytes[ID_BYTES];
}; /* of an entry or of a range of entries, docs.md 2.7 and 4.2 */

struct secret_key {
    uint8_t bytes[ID_BYTES];
}; /* Ed25519 seed, RFC 8032; wiped by whoever owns it */

struct signature {
    uint8_t bytes[SIGNATURE_BYTES];
}; /* Ed25519, R then S */

#define ID_COMPARE(a, b) memcmp((a)->bytes, (b)->bytes, ID_BYTES)

static inline bool endpoint_id_equal(const struct endpoint_id *a, const struct endpoint_id *b)
{
    return ID_COMPARE(a, b) == 0;
}

static inline bool author_id_equal(const struct author_id *a, const struct author_id *b)
{
    return ID_COMPARE(a, b) == 0;
}

static inline bool namespace_id_equal(const struct namespace_id *a, const struct namespace_id *b)
{
    return ID_COMPARE(a, b) == 0;
}

static inline bool hash_equal(const struct hash *a, const struct hash *b)
{
    return ID_COMPARE(a, b) == 0;
}

static inline bool fingerprint_equal(const struct fingerprint *a, const struct fingerprint *b)
{
    return ID_COMPARE(a, b) == 0;
}

static inline void fingerprint_xor(struct fingerprint *into, const struct fingerprint *other)
{
    for (int i = 0; i < ID_BYTES; i++) into->bytes[i] ^= other->bytes[i];
}

/* BLAKE3 of no bytes. As a record's hash it marks iroh-docs' empty entry; as a fingerprint it is that of an empty
 * range. */
#define HASH_EMPTY_INIT                                                                                                \
    {                                                                                                                  \
        {                                                                                                              \
            0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49, 0x9b,      \
                0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62               \
        }                                                                                                              \
    }

extern const struct hash hash_empty;

#endif
