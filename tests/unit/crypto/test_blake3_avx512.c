/* The AVX-512 kernel on machines that lack AVX-512: blake3_x86.c once more, with the instructions that it uses written
 * out in plain C after Intel's description of them. What is left needs AVX2. */
#include "crypto/blake3_impl.h"
#include "unit/crypto/fixture_bytes.h"

#if defined(__x86_64__)

#include <immintrin.h>

/* A register: sixteen words, four to a quarter of 128 bits. */
struct register512 {
    uint32_t words[16];
};

static struct register512 load(const void *in)
{
    struct register512 r;
    memcpy(&r, in, sizeof r);
    return r;
}

static struct register512 set1(int word)
{
    struct register512 r;
    for (int i = 0; i < 16; i++) r.words[i] = (uint32_t)word;
    return r;
}

static struct register512 sum(struct register512 a, struct register512 b)
{
    for (int i = 0; i < 16; i++) a.words[i] += b.words[i];
    return a;
}

static struct register512 both_xor(struct register512 a, struct register512 b)
{
    for (int i = 0; i < 16; i++) a.words[i] ^= b.words[i];
    return a;
}

static struct register512 rotate_right(struct register512 a, int bits)
{
    for (int i = 0; i < 16; i++) a.words[i] = a.words[i] >> bits | a.words[i] << (32 - bits);
    return a;
}

/* In each quarter: a[from[0]], b[from[1]], … in turns. */
static struct register512 unpack(struct register512 a, struct register512 b, const int from[4], const bool is_b[4])
{
    struct register512 r;
    for (int i = 0; i < 16; i++) r.words[i] = (is_b[i % 4] ? &b : &a)->words[i / 4 * 4 + from[i % 4]];
    return r;
}

static const bool words_in_turns[4] = {false, true, false, true}, pairs_in_turns[4] = {false, false, true, true};

#define UNPACK(a, b, turns, ...) unpack(a, b, (const int[4]){__VA_ARGS__}, turns)

/* Whole quarters: two of a, then two of b, by two bits of `control` each. */
static struct register512 shuffle_quarters(struct register512 a, struct register512 b, int control)
{
    struct register512 r;
    for (int q = 0; q < 4; q++)
        memcpy(&r.words[4 * q], &(q < 2 ? &a : &b)->words[4 * (control >> 2 * q & 3)], 4 * sizeof r.words[0]);
    return r;
}

__attribute__((target("avx2"))) static __m256i half_of(struct register512 a, int which)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)&a.words[8 * which]);
}

#undef _mm512_ror_epi32
#undef _mm512_shuffle_i32x4
#undef _mm512_extracti64x4_epi64
#define __m512i                            struct register512
#define _mm512_loadu_si512(in)             load(in)
#define _mm512_set1_epi32(word)            set1(word)
#define _mm512_add_epi32(a, b)             sum(a, b)
#define _mm512_xor_si512(a, b)             both_xor(a, b)
#define _mm512_ror_epi32(a, bits)          rotate_right(a, bits)
#define _mm512_unpacklo_epi32(a, b)        UNPACK(a, b, words_in_turns, 0, 0, 1, 1)
#define _mm512_unpackhi_epi32(a, b)        UNPACK(a, b, words_in_turns, 2, 2, 3, 3)
#define _mm512_unpacklo_epi64(a, b)        UNPACK(a, b, pairs_in_turns, 0, 1, 0, 1)
#define _mm512_unpackhi_epi64(a, b)        UNPACK(a, b, pairs_in_turns, 2, 3, 2, 3)
#define _mm512_shuffle_i32x4(a, b, c)      shuffle_quarters(a, b, c)
#define _mm512_castsi512_si256(a)          half_of(a, 0)
#define _mm512_extracti64x4_epi64(a, part) half_of(a, part)

/* The file's functions under other names, none of them compiled for more than AVX2. */
#define blake3_kernel_sse41  other_kernel_sse41
#define blake3_kernel_avx2   other_kernel_avx2
#define blake3_kernel_avx512 written_out_kernel_avx512
#define target(level)        target("avx2")
static blake3_kernel_fn other_kernel_sse41, other_kernel_avx2, written_out_kernel_avx512;
#include "crypto/blake3_x86.c"

static void any_number_of_inputs_hashes_as_by_the_portable_kernel(void **state)
{
    (void)state;
    if (!blake3_level_available(BLAKE3_LEVEL_AVX2)) skip();
    static const struct blake3_batch batches[] = {
        {.blocks = 16, .count_up = true, .counter = UINT32_MAX - 7, .flags_first = 1, .flags_last = 2},
        {.blocks = 1, .flags = BLAKE3_PARENT},
    };
    struct fixture_random r = random_seeded();
    static uint8_t data[16 * BLAKE3_CHUNK_BYTES];
    blake3_kernel_fn *const kernels[] = {other_kernel_sse41, other_kernel_avx2, written_out_kernel_avx512};
    static const size_t lanes[] = {4, 8, 16};
    random_bytes(&r, data, sizeof data);
    for (size_t i = 0; i < 3 * 2 * 16; i++) {
        const struct blake3_batch *batch = &batches[i % 2];
        size_t kernel = i / 2 % 3, count = i / 6 + 1;
        const uint8_t *inputs[16];
        struct hash want[16], got[16];
        if (count > lanes[kernel]) continue;
        for (size_t n = 0; n < count; n++) inputs[n] = data + n * BLAKE3_BLOCK_BYTES * batch->blocks;
        blake3_kernel_portable(inputs, count, batch, want);
        kernels[kernel](inputs, count, batch, got);
        for (size_t n = 0; n < count; n++) assert_true(hash_equal(&want[n], &got[n]));
    }
}

#else

static void any_number_of_inputs_hashes_as_by_the_portable_kernel(void **state)
{
    (void)state;
    skip();
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_inputs_hashes_as_by_the_portable_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
