#include "crypto/blake3_impl.h"

#if defined(__aarch64__) && defined(__ARM_NEON)

#include <arm_neon.h>

/* As the 4 lanes of SSE4.1 in blake3_x86.c. */

static inline uint32x4_t rot16(uint32x4_t a)
{
    return vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(a)));
}

#define WORD_ADD(a, b) vaddq_u32(a, b)
#define WORD_XOR(a, b) veorq_u32(a, b)
#define WORD_ROT16(a)  rot16(a)
#define WORD_ROT12(a)  rot12(a)
#define WORD_ROT8(a)   rot8(a)
#define WORD_ROT7(a)   rot7(a)
#include "crypto/blake3_rounds.h"

static inline uint32x4_t rot12(uint32x4_t a)
{
    return vsriq_n_u32(vshlq_n_u32(a, 20), a, 12);
}

static inline uint32x4_t rot8(uint32x4_t a)
{
    return vsriq_n_u32(vshlq_n_u32(a, 24), a, 8);
}

static inline uint32x4_t rot7(uint32x4_t a)
{
    return vsriq_n_u32(vshlq_n_u32(a, 25), a, 7);
}

static inline void transpose4(uint32x4_t r[4])
{
    uint32x4x2_t ab = vtrnq_u32(r[0], r[1]), cd = vtrnq_u32(r[2], r[3]);
    r[0] = vcombine_u32(vget_low_u32(ab.val[0]), vget_low_u32(cd.val[0]));
    r[1] = vcombine_u32(vget_low_u32(ab.val[1]), vget_low_u32(cd.val[1]));
    r[2] = vcombine_u32(vget_high_u32(ab.val[0]), vget_high_u32(cd.val[0]));
    r[3] = vcombine_u32(vget_high_u32(ab.val[1]), vget_high_u32(cd.val[1]));
}

void blake3_kernel_neon(const uint8_t *const *inputs, size_t count, const struct blake3_batch *batch, struct hash *out)
{
    const uint8_t *lanes[4];
    uint32_t low[4], high[4];
    for (size_t i = 0; i < 4; i++) {
        uint64_t counter = batch->counter + (batch->count_up ? i : 0);
        lanes[i] = inputs[i < count ? i : count - 1];
        low[i] = (uint32_t)counter;
        high[i] = (uint32_t)(counter >> 32);
    }
    uint32x4_t h[8], m[16], v[16];
    for (int i = 0; i < 8; i++) h[i] = vdupq_n_u32(blake3_iv[i]);
    for (size_t j = 0; j < batch->blocks; j++) {
        for (int q = 0; q < 4; q++) {
            for (int i = 0; i < 4; i++)
                m[4 * q + i] = vreinterpretq_u32_u8(vld1q_u8(lanes[i] + j * BLAKE3_BLOCK_BYTES + 16 * q));
            transpose4(m + 4 * q);
        }
        for (int i = 0; i < 8; i++) v[i] = h[i];
        for (int i = 0; i < 4; i++) v[8 + i] = vdupq_n_u32(blake3_iv[i]);
        v[12] = vld1q_u32(low);
        v[13] = vld1q_u32(high);
        v[14] = vdupq_n_u32(BLAKE3_BLOCK_BYTES);
        v[15] = vdupq_n_u32(blake3_batch_flags(batch, j));
        BLAKE3_ROUNDS(v, m);
        for (int i = 0; i < 8; i++) h[i] = WORD_XOR(v[i], v[i + 8]);
    }
    transpose4(h);
    transpose4(h + 4);
    for (size_t i = 0; i < count; i++) {
        vst1q_u8(out[i].bytes, vreinterpretq_u8_u32(h[i]));
        vst1q_u8(out[i].bytes + 16, vreinterpretq_u8_u32(h[4 + i]));
    }
}

#else
typedef int blake3_neon_is_empty; /* ISO C wants one declaration */
#endif
