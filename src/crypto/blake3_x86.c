#include "crypto/blake3_impl.h"

#if defined(__x86_64__)

#include <immintrin.h>

/* Vector v[i] holds word i of the state of every input, one input a lane, so a round is the scalar one on vectors. What
 * remains to do is to turn the inputs' blocks (a row each) into words across lanes, a transposition, and back at the
 * end. */

#define TARGET_SSE41  __attribute__((target("sse4.1")))
#define TARGET_AVX2   __attribute__((target("avx2")))
#define TARGET_AVX512 __attribute__((target("avx512f,avx2")))

/* Byte orders that rotate every 32-bit word right by 16 or by 8 bits. */
#define SHUFFLE_ROT16 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13
#define SHUFFLE_ROT8  1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12

/* Spare lanes get the last input. */
static void fill_lanes(const uint8_t **lanes, size_t lane_count, const uint8_t *const *inputs, size_t count)
{
    for (size_t i = 0; i < lane_count; i++) lanes[i] = inputs[i < count ? i : count - 1];
}

static void fill_counters(uint32_t *low, uint32_t *high, size_t lane_count, const struct blake3_batch *batch)
{
    for (size_t i = 0; i < lane_count; i++) {
        uint64_t counter = batch->counter + (batch->count_up ? i : 0);
        low[i] = (uint32_t)counter;
        high[i] = (uint32_t)(counter >> 32);
    }
}

/* ---- SSE4.1: 4 lanes ---- */

TARGET_SSE41 static inline __m128i load128(const void *in)
{
    return _mm_loadu_si128((const __m128i *)in);
}

TARGET_SSE41 static inline void store128(void *out, __m128i v)
{
    _mm_storeu_si128((__m128i *)out, v);
}

TARGET_SSE41 static inline __m128i rot16_128(__m128i a)
{
    return _mm_shuffle_epi8(a, _mm_setr_epi8(SHUFFLE_ROT16));
}

TARGET_SSE41 static inline __m128i rot8_128(__m128i a)
{
    return _mm_shuffle_epi8(a, _mm_setr_epi8(SHUFFLE_ROT8));
}

#define ROT128(a, n) _mm_or_si128(_mm_srli_epi32(a, n), _mm_slli_epi32(a, 32 - (n)))

TARGET_SSE41 static inline __m128i rot12_128(__m128i a)
{
    return ROT128(a, 12);
}

TARGET_SSE41 static inline __m128i rot7_128(__m128i a)
{
    return ROT128(a, 7);
}

#define WORD_ADD(a, b) _mm_add_epi32(a, b)
#define WORD_XOR(a, b) _mm_xor_si128(a, b)
#define WORD_ROT16(a)  rot16_128(a)
#define WORD_ROT12(a)  rot12_128(a)
#define WORD_ROT8(a)   rot8_128(a)
#define WORD_ROT7(a)   rot7_128(a)
#include "crypto/blake3_rounds.h"

TARGET_SSE41 static inline void transpose4(__m128i r[4])
{
    __m128i a = _mm_unpacklo_epi32(r[0], r[1]), b = _mm_unpackhi_epi32(r[0], r[1]);
    __m128i c = _mm_unpacklo_epi32(r[2], r[3]), d = _mm_unpackhi_epi32(r[2], r[3]);
    r[0] = _mm_unpacklo_epi64(a, c);
    r[1] = _mm_unpackhi_epi64(a, c);
    r[2] = _mm_unpacklo_epi64(b, d);
    r[3] = _mm_unpackhi_epi64(b, d);
}

TARGET_SSE41 void blake3_kernel_sse41(const uint8_t *const *inputs, size_t count, const struct blake3_batch *batch,
                                      struct hash *out)
{
    const uint8_t *lanes[4];
    uint32_t low[4], high[4];
    fill_lanes(lanes, 4, inputs, count);
    fill_counters(low, high, 4, batch);
    __m128i h[8], m[16], v[16];
    for (int i = 0; i < 8; i++) h[i] = _mm_set1_epi32((int)blake3_iv[i]);
    for (size_t j = 0; j < batch->blocks; j++) {
        for (int q = 0; q < 4; q++) {
            for (int i = 0; i < 4; i++) m[4 * q + i] = load128(lanes[i] + j * BLAKE3_BLOCK_BYTES + 16 * q);
            transpose4(m + 4 * q);
        }
        for (int i = 0; i < 8; i++) v[i] = h[i];
        for (int i = 0; i < 4; i++) v[8 + i] = _mm_set1_epi32((int)blake3_iv[i]);
        v[12] = load128(low);
        v[13] = load128(high);
        v[14] = _mm_set1_epi32(BLAKE3_BLOCK_BYTES);
        v[15] = _mm_set1_epi32((int)blake3_batch_flags(batch, j));
        BLAKE3_ROUNDS(v, m);
        for (int i = 0; i < 8; i++) h[i] = WORD_XOR(v[i], v[i + 8]);
    }
    transpose4(h);
    transpose4(h + 4);
    for (size_t i = 0; i < count; i++) {
        store128(out[i].bytes, h[i]);
        store128(out[i].bytes + 16, h[4 + i]);
    }
}

/* ---- AVX2: 8 lanes ---- */

TARGET_AVX2 static inline __m256i load256(const void *in)
{
    return _mm256_loadu_si256((const __m256i *)in);
}

TARGET_AVX2 static inline __m256i rot16_256(__m256i a)
{
    return _mm256_shuffle_epi8(a, _mm256_setr_epi8(SHUFFLE_ROT16, SHUFFLE_ROT16));
}

TARGET_AVX2 static inline __m256i rot8_256(__m256i a)
{
    return _mm256_shuffle_epi8(a, _mm256_setr_epi8(SHUFFLE_ROT8, SHUFFLE_ROT8));
}

TARGET_AVX2 static inline __m256i rot12_256(__m256i a)
{
    return _mm256_or_si256(_mm256_srli_epi32(a, 12), _mm256_slli_epi32(a, 20));
}

TARGET_AVX2 static inline __m256i rot7_256(__m256i a)
{
    return _mm256_or_si256(_mm256_srli_epi32(a, 7), _mm256_slli_epi32(a, 25));
}

/* Transposes within each half of 128 bits, then exchanges halves. */
TARGET_AVX2 static inline void transpose8(__m256i r[8])
{
    __m256i t[8], u[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        u[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(u[i], u[4 + i], 0x20);
        r[4 + i] = _mm256_permute2x128_si256(u[i], u[4 + i], 0x31);
    }
}

#undef WORD_ADD
#undef WORD_XOR
#undef WORD_ROT16
#undef WORD_ROT12
#undef WORD_ROT8
#undef WORD_ROT7
#define WORD_ADD(a, b) _mm256_add_epi32(a, b)
#define WORD_XOR(a, b) _mm256_xor_si256(a, b)
#define WORD_ROT16(a)  rot16_256(a)
#define WORD_ROT12(a)  rot12_256(a)
#define WORD_ROT8(a)   rot8_256(a)
#define WORD_ROT7(a)   rot7_256(a)

TARGET_AVX2 void blake3_kernel_avx2(const uint8_t *const *inputs, size_t count, const struct blake3_batch *batch,
                                    struct hash *out)
{
    const uint8_t *lanes[8];
    uint32_t low[8], high[8];
    fill_lanes(lanes, 8, inputs, count);
    fill_counters(low, high, 8, batch);
    __m256i h[8], m[16], v[16];
    for (int i = 0; i < 8; i++) h[i] = _mm256_set1_epi32((int)blake3_iv[i]);
    for (size_t j = 0; j < batch->blocks; j++) {
        for (int half = 0; half < 2; half++) {
            for (int i = 0; i < 8; i++) m[8 * half + i] = load256(lanes[i] + j * BLAKE3_BLOCK_BYTES + 32 * half);
            transpose8(m + 8 * half);
        }
        for (int i = 0; i < 8; i++) v[i] = h[i];
        for (int i = 0; i < 4; i++) v[8 + i] = _mm256_set1_epi32((int)blake3_iv[i]);
        v[12] = load256(low);
        v[13] = load256(high);
        v[14] = _mm256_set1_epi32(BLAKE3_BLOCK_BYTES);
        v[15] = _mm256_set1_epi32((int)blake3_batch_flags(batch, j));
        BLAKE3_ROUNDS(v, m);
        for (int i = 0; i < 8; i++) h[i] = WORD_XOR(v[i], v[i + 8]);
    }
    transpose8(h);
    for (size_t i = 0; i < count; i++) _mm256_storeu_si256((__m256i *)out[i].bytes, h[i]);
}

/* ---- AVX-512: 16 lanes ---- */

TARGET_AVX512 static inline __m512i load512(const void *in)
{
    return _mm512_loadu_si512(in);
}

/* Transposes within each quarter of 128 bits, then the quarters. */
TARGET_AVX512 static inline void transpose16(__m512i r[16])
{
    __m512i t[16], u[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) { /* u[4i + k]: word k of every quarter, of rows 4i to 4i + 3 */
        u[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        u[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int k = 0; k < 4; k++) {
        __m512i even0 = _mm512_shuffle_i32x4(u[k], u[4 + k], 0x88), odd0 = _mm512_shuffle_i32x4(u[k], u[4 + k], 0xdd);
        __m512i even1 = _mm512_shuffle_i32x4(u[8 + k], u[12 + k], 0x88);
        __m512i odd1 = _mm512_shuffle_i32x4(u[8 + k], u[12 + k], 0xdd);
        r[k] = _mm512_shuffle_i32x4(even0, even1, 0x88);
        r[4 + k] = _mm512_shuffle_i32x4(odd0, odd1, 0x88);
        r[8 + k] = _mm512_shuffle_i32x4(even0, even1, 0xdd);
        r[12 + k] = _mm512_shuffle_i32x4(odd0, odd1, 0xdd);
    }
}

#undef WORD_ADD
#undef WORD_XOR
#undef WORD_ROT16
#undef WORD_ROT12
#undef WORD_ROT8
#undef WORD_ROT7
#define WORD_ADD(a, b) _mm512_add_epi32(a, b)
#define WORD_XOR(a, b) _mm512_xor_si512(a, b)
#define WORD_ROT16(a)  _mm512_ror_epi32(a, 16)
#define WORD_ROT12(a)  _mm512_ror_epi32(a, 12)
#define WORD_ROT8(a)   _mm512_ror_epi32(a, 8)
#define WORD_ROT7(a)   _mm512_ror_epi32(a, 7)

TARGET_AVX512 void blake3_kernel_avx512(const uint8_t *const *inputs, size_t count, const struct blake3_batch *batch,
                                        struct hash *out)
{
    const uint8_t *lanes[16];
    uint32_t low[16], high[16];
    fill_lanes(lanes, 16, inputs, count);
    fill_counters(low, high, 16, batch);
    __m512i h[8], m[16], v[16];
    for (int i = 0; i < 8; i++) h[i] = _mm512_set1_epi32((int)blake3_iv[i]);
    for (size_t j = 0; j < batch->blocks; j++) {
        for (int i = 0; i < 16; i++) m[i] = load512(lanes[i] + j * BLAKE3_BLOCK_BYTES);
        transpose16(m);
        for (int i = 0; i < 8; i++) v[i] = h[i];
        for (int i = 0; i < 4; i++) v[8 + i] = _mm512_set1_epi32((int)blake3_iv[i]);
        v[12] = load512(low);
        v[13] = load512(high);
        v[14] = _mm512_set1_epi32(BLAKE3_BLOCK_BYTES);
        v[15] = _mm512_set1_epi32((int)blake3_batch_flags(batch, j));
        BLAKE3_ROUNDS(v, m);
        for (int i = 0; i < 8; i++) h[i] = WORD_XOR(v[i], v[i + 8]);
    }
    __m256i half[8];
    for (int i = 0; i < 8; i++) half[i] = _mm512_castsi512_si256(h[i]);
    transpose8(half);
    for (size_t i = 0; i < 8 && i < count; i++) _mm256_storeu_si256((__m256i *)out[i].bytes, half[i]);
    for (int i = 0; i < 8; i++) half[i] = _mm512_extracti64x4_epi64(h[i], 1);
    transpose8(half);
    for (size_t i = 8; i < count; i++) _mm256_storeu_si256((__m256i *)out[i].bytes, half[i - 8]);
}

#else
typedef int blake3_x86_is_empty; /* ISO C wants one declaration */
#endif
