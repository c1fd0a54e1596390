#include "store/page_sum.h"

#define PRIME_1 0x9e3779b185ebca87u
#define PRIME_2 0xc2b2ae3d27d4eb4fu
#define PRIME_3 0x165667b19e3779f9u
#define PRIME_4 0x85ebca77c2b2ae63u
#define PRIME_5 0x27d4eb2f165667c5u

#define STRIPE_BYTES 32

/* le64_load() in one instruction, at every level of optimisation: this is all that the sum's speed depends on. */
static uint64_t word_at(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(word) : word;
}

static uint64_t rotated(uint64_t v, unsigned bits)
{
    return v << bits | v >> (64 - bits);
}

static uint64_t add_lane(uint64_t lane, uint64_t word)
{
    return rotated(lane + word * PRIME_2, 31) * PRIME_1;
}

static uint64_t merge_lane(uint64_t sum, uint64_t lane)
{
    return (sum ^ add_lane(0, lane)) * PRIME_1 + PRIME_4;
}

/* Four lanes over whole stripes of four words. */
static uint64_t add_stripes(const uint8_t *at, size_t stripes, uint64_t seed)
{
    uint64_t a = seed + PRIME_1 + PRIME_2, b = seed + PRIME_2, c = seed, d = seed - PRIME_1;
    for (; stripes > 0; stripes--, at += STRIPE_BYTES) {
        a = add_lane(a, word_at(at));
        b = add_lane(b, word_at(at + 8));
        c = add_lane(c, word_at(at + 16));
        d = add_lane(d, word_at(at + 24));
    }
    uint64_t sum = rotated(a, 1) + rotated(b, 7) + rotated(c, 12) + rotated(d, 18);
    return merge_lane(merge_lane(merge_lane(merge_lane(sum, a), b), c), d);
}

static uint64_t add_rest(uint64_t sum, const uint8_t *at, size_t len)
{
    for (; len >= 8; len -= 8, at += 8) sum = rotated(sum ^ add_lane(0, word_at(at)), 27) * PRIME_1 + PRIME_4;
    if (len >= 4) {
        uint64_t word = (uint64_t)at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 24;
        sum = rotated(sum ^ word * PRIME_1, 23) * PRIME_2 + PRIME_3;
        len -= 4;
        at += 4;
    }
    for (; len > 0; len--, at++) sum = rotated(sum ^ *at * PRIME_5, 11) * PRIME_1;
    return sum;
}

static uint64_t mixed(uint64_t sum)
{
    sum = (sum ^ sum >> 33) * PRIME_2;
    sum = (sum ^ sum >> 29) * PRIME_3;
    return sum ^ sum >> 32;
}

uint64_t page_sum(struct slice bytes, uint64_t seed)
{
    size_t stripes = bytes.len / STRIPE_BYTES;
    uint64_t sum = stripes ? add_stripes(bytes.data, stripes, seed) : seed + PRIME_5;
    sum += bytes.len;
    return mixed(add_rest(sum, bytes.data + stripes * STRIPE_BYTES, bytes.len % STRIPE_BYTES));
}
