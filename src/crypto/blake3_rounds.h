/* The seven rounds of BLAKE3's compression on a state v[16] and a message m[16], written once: a word may be a uint32_t
 * or a vector with one input's word in each lane. The includer has defined WORD_ADD, WORD_XOR and WORD_ROT16, 12, 8, 7
 * (right). */
#ifndef HKV_CRYPTO_BLAKE3_ROUNDS_H
#define HKV_CRYPTO_BLAKE3_ROUNDS_H

#define BLAKE3_G(v, a, b, c, d, x, y)                                                                                  \
    do {                                                                                                               \
        v[a] = WORD_ADD(WORD_ADD(v[a], v[b]), x);                                                                      \
        v[d] = WORD_ROT16(WORD_XOR(v[d], v[a]));                                                                       \
        v[c] = WORD_ADD(v[c], v[d]);                                                                                   \
        v[b] = WORD_ROT12(WORD_XOR(v[b], v[c]));                                                                       \
        v[a] = WORD_ADD(WORD_ADD(v[a], v[b]), y);                                                                      \
        v[d] = WORD_ROT8(WORD_XOR(v[d], v[a]));                                                                        \
        v[c] = WORD_ADD(v[c], v[d]);                                                                                   \
        v[b] = WORD_ROT7(WORD_XOR(v[b], v[c]));                                                                        \
    } while (0)

#define BLAKE3_ROUND(v, m, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15)                       \
    do {                                                                                                               \
        BLAKE3_G(v, 0, 4, 8, 12, m[s0], m[s1]);                                                                        \
        BLAKE3_G(v, 1, 5, 9, 13, m[s2], m[s3]);                                                                        \
        BLAKE3_G(v, 2, 6, 10, 14, m[s4], m[s5]);                                                                       \
        BLAKE3_G(v, 3, 7, 11, 15, m[s6], m[s7]);                                                                       \
        BLAKE3_G(v, 0, 5, 10, 15, m[s8], m[s9]);                                                                       \
        BLAKE3_G(v, 1, 6, 11, 12, m[s10], m[s11]);                                                                     \
        BLAKE3_G(v, 2, 7, 8, 13, m[s12], m[s13]);                                                                      \
        BLAKE3_G(v, 3, 4, 9, 14, m[s14], m[s15]);                                                                      \
    } while (0)

/* Each row is the one above permuted by 2 6 3 10 7 0 4 13 1 11 12 5 9 14 15 8. */
#define BLAKE3_ROUNDS(v, m)                                                                                            \
    do {                                                                                                               \
        BLAKE3_ROUND(v, m, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);                                      \
        BLAKE3_ROUND(v, m, 2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8);                                      \
        BLAKE3_ROUND(v, m, 3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1);                                      \
        BLAKE3_ROUND(v, m, 10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6);                                      \
        BLAKE3_ROUND(v, m, 12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4);                                      \
        BLAKE3_ROUND(v, m, 9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7);                                      \
        BLAKE3_ROUND(v, m, 11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13);                                      \
    } while (0)

#endif
