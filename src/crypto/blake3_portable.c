#include "crypto/blake3_impl.h"

#define WORD_ADD(a, b) ((a) + (b))
#define WORD_XOR(a, b) ((a) ^ (b))
#define WORD_ROT16(a)  rotate(a, 16)
#define WORD_ROT12(a)  rotate(a, 12)
#define WORD_ROT8(a)   rotate(a, 8)
#define WORD_ROT7(a)   rotate(a, 7)
#include "crypto/blake3_rounds.h"

const uint32_t blake3_iv[8] = BLAKE3_IV;

static inline uint32_t rotate(uint32_t word, int right)
{
    return word >> right | word << (32 - right);
}

void blake3_compress(uint32_t cv[8], const uint8_t block[BLAKE3_BLOCK_BYTES], size_t block_len, uint64_t counter,
                     unsigned flags)
{
    uint32_t m[16], v[16];
    for (int i = 0; i < 16; i++) m[i] = blake3_load32(block + 4 * i);
    memcpy(v, cv, 32);
    memcpy(v + 8, blake3_iv, 16);
    v[12] = (uint32_t)counter;
    v[13] = (uint32_t)(counter >> 32);
    v[14] = (uint32_t)block_len;
    v[15] = flags;
    BLAKE3_ROUNDS(v, m);
    for (int i = 0; i < 8; i++) cv[i] = v[i] ^ v[i + 8];
}

void blake3_kernel_portable(const uint8_t *const *inputs, size_t count, const struct blake3_batch *batch,
                            struct hash *out)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t cv[8] = BLAKE3_IV;
        for (size_t j = 0; j < batch->blocks; j++)
            blake3_compress(cv, inputs[i] + j * BLAKE3_BLOCK_BYTES, BLAKE3_BLOCK_BYTES,
                            batch->counter + (batch->count_up ? i : 0), blake3_batch_flags(batch, j));
        blake3_store_cv(cv, &out[i]);
    }
}
