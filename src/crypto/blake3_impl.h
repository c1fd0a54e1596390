/* Inside of BLAKE3: what its files share. Only src/crypto/blake3*.c and the tests of the SIMD levels include this.
 *
 *   blake3.c            tree, incremental hasher, choice of the level
 *   blake3_rounds.h     the seven rounds, written once for any width of word
 *   blake3_portable.c   one input at a time, any machine
 *   blake3_x86.c        4, 8 and 16 inputs in lockstep, one lane of a vector each
 *   blake3_neon.c       4 inputs in lockstep
 *
 * A kernel hashes up to its number of lanes of inputs of equal length at once; with fewer it repeats the last one and
 * drops what comes out of the spare lanes. */
#ifndef HKV_CRYPTO_BLAKE3_IMPL_H
#define HKV_CRYPTO_BLAKE3_IMPL_H

#include "crypto/blake3.h"

enum blake3_flag {
    BLAKE3_CHUNK_START = 1,
    BLAKE3_CHUNK_END = 2,
    BLAKE3_PARENT = 4,
    BLAKE3_ROOT = 8,
};

#define BLAKE3_IV                                                                                                      \
    {                                                                                                                  \
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19                 \
    }

extern const uint32_t blake3_iv[8];

enum blake3_level {
    BLAKE3_LEVEL_PORTABLE,
    BLAKE3_LEVEL_SSE41,
    BLAKE3_LEVEL_AVX2,
    BLAKE3_LEVEL_AVX512,
    BLAKE3_LEVEL_NEON,
};

/* What is done to every input of a batch. */
struct blake3_batch {
    size_t blocks;    /* of 64 bytes each: 16 for chunks, 1 for parents */
    uint64_t counter; /* of the first input */
    bool count_up;    /* chunks: the next input has the next counter; parents: 0 for all */
    uint8_t flags;    /* of every block */
    uint8_t flags_first;
    uint8_t flags_last;
};

/* One block into a chaining value. `block` is padded with zeros to 64 bytes. Scalar at every level: with its words
 * spread over the lanes of one vector, a single compression waits for its own results and was measured at half the
 * speed. */
void blake3_compress(uint32_t cv[8], const uint8_t block[BLAKE3_BLOCK_BYTES], size_t block_len, uint64_t counter,
                     unsigned flags);

/* `count` inputs, 1 up to the lanes of the kernel. All are read before the first `out` is written. */
typedef void blake3_kernel_fn(const uint8_t *const *inputs, size_t count, const struct blake3_batch *batch,
                              struct hash *out);

blake3_kernel_fn blake3_kernel_portable; /* any count, one after the other */

#if defined(__x86_64__)
blake3_kernel_fn blake3_kernel_sse41;  /* 4 lanes */
blake3_kernel_fn blake3_kernel_avx2;   /* 8 */
blake3_kernel_fn blake3_kernel_avx512; /* 16 */
#endif
#if defined(__aarch64__) && defined(__ARM_NEON)
blake3_kernel_fn blake3_kernel_neon; /* 4 */
#endif

/* Whether this machine can run a level, and which one is in use (the best at first). */
bool blake3_level_available(enum blake3_level level);
enum blake3_level blake3_level_get(void);

/* For tests and benchmarks: uses `level` from now on in the whole process. It must be available. */
void blake3_level_set(enum blake3_level level);

static inline uint32_t blake3_load32(const uint8_t *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

static inline void blake3_store_cv(const uint32_t cv[8], struct hash *out)
{
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 4; j++) out->bytes[4 * i + j] = (uint8_t)(cv[i] >> 8 * j);
}

/* Flags of block `i`. */
static inline unsigned blake3_batch_flags(const struct blake3_batch *batch, size_t i)
{
    unsigned flags = batch->flags;
    if (i == 0) flags |= batch->flags_first;
    if (i + 1 == batch->blocks) flags |= batch->flags_last;
    return flags;
}

#endif
