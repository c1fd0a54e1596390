/* BLAKE3-256, plain mode, with access to its tree. Portable C plus SIMD chosen at run time (docs: wire/blobs.md 1).
 * Pure functions over caller's memory; any thread. */
#ifndef HKV_CRYPTO_BLAKE3_H
#define HKV_CRYPTO_BLAKE3_H

#include "base/bytes.h"
#include "base/ids.h"

#define BLAKE3_CHUNK_BYTES 1024
#define BLAKE3_BLOCK_BYTES 64

/* Hash of the whole of `data`. */
void blake3_hash(struct slice data, struct hash *out);

/* Chaining value of a subtree: `data` starts at chunk `start_chunk` of its blob. `is_root`: the subtree is the whole
 * blob (start_chunk 0), and the value is the blob's hash. Empty data only with `is_root`. At most 2^ctz(start_chunk)
 * chunks when start_chunk > 0. */
void blake3_subtree(struct slice data, uint64_t start_chunk, bool is_root, struct hash *out);

/* Chaining value of a parent; with `is_root` the blob's hash. */
void blake3_parent(const struct hash *left, const struct hash *right, bool is_root, struct hash *out);

/* Incremental hash of a stream. `blake3_init`, any number of `blake3_update`, one `blake3_final`. No heap. */
#define BLAKE3_DEPTH_MAX 54

struct blake3 {
    struct hash stack[BLAKE3_DEPTH_MAX + 1]; /* chaining values of complete subtrees, widest first */
    uint8_t stack_count;
    uint64_t chunks; /* complete chunks already in the stack */
    uint8_t pending[16 * BLAKE3_CHUNK_BYTES];
    size_t pending_len;
};

void blake3_init(struct blake3 *b);
void blake3_update(struct blake3 *b, struct slice data);
void blake3_final(const struct blake3 *b, struct hash *out);

#endif
