/* Random numbers for property tests: a small generator (SplitMix64) whose seed is printed, so that a failure can be
 * repeated.
 *
 *   struct random r = random_start("ticket round trip");      HKV_SEED=<n> in the environment chooses the seed
 *
 * Each test draws from its own generator; a failing run is repeated with the seed it printed. */
#ifndef HKV_TESTS_RANDOM_H
#define HKV_TESTS_RANDOM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct random {
    uint64_t state;
};

static inline struct random random_start(const char *what)
{
    const char *text = getenv("HKV_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : 1;
    printf("%s: HKV_SEED=%llu\n", what, (unsigned long long)seed);
    return (struct random){seed};
}

static inline uint64_t random_u64(struct random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* 0 <= result < bound; bound > 0. */
static inline size_t random_below(struct random *r, size_t bound)
{
    return (size_t)(random_u64(r) % bound);
}

static inline void random_fill(struct random *r, void *out, size_t len)
{
    uint8_t *bytes = out;
    for (size_t i = 0; i < len; i++) bytes[i] = (uint8_t)random_u64(r);
}

#endif
