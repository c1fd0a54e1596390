#include "crypto/blake3.h"

#include "crypto/blake3_impl.h"
#include "unit/crypto/fixture_bytes.h"

#define DATA_BYTES_MAX ((size_t)400 * 1024)

/* Lengths near the edges of blocks, chunks, groups and spans as often as any. */
static size_t random_len(struct fixture_random *r)
{
    static const size_t units[] = {1, 64, 1024, 16384, 131072};
    size_t unit = units[random_below(r, 5)];
    size_t len = unit * (size_t)random_below(r, DATA_BYTES_MAX / unit < 40 ? DATA_BYTES_MAX / unit : 40);
    len += (size_t)random_below(r, 3);
    if (len > 0) len--;
    return len < DATA_BYTES_MAX ? len : DATA_BYTES_MAX;
}

static void every_level_agrees_with_portable(void **state)
{
    (void)state;
    struct fixture_random r = random_seeded();
    uint8_t *data = malloc(DATA_BYTES_MAX);
    assert_non_null(data);
    random_bytes(&r, data, DATA_BYTES_MAX);
    enum blake3_level best = blake3_level_get();
    for (int round = 0; round < 60; round++) {
        size_t len = random_len(&r) + 1;
        struct slice part = slice_of(data, len < DATA_BYTES_MAX ? len : DATA_BYTES_MAX);
        uint64_t start = (1 + random_below(&r, 1000)) << (10 + random_below(&r, 30)); /* room for 1024 chunks */
        struct hash want, got, want_root, got_root;
        blake3_level_set(BLAKE3_LEVEL_PORTABLE);
        blake3_subtree(part, start, false, &want);
        blake3_hash(part, &want_root);
        for (int level = BLAKE3_LEVEL_SSE41; level <= BLAKE3_LEVEL_NEON; level++) {
            if (!blake3_level_available((enum blake3_level)level)) continue;
            blake3_level_set((enum blake3_level)level);
            blake3_subtree(part, start, false, &got);
            blake3_hash(part, &got_root);
            if (!hash_equal(&want, &got) || !hash_equal(&want_root, &got_root))
                fail_msg("level %d differs at %zu bytes, chunk %llu", level, part.len, (unsigned long long)start);
        }
    }
    blake3_level_set(best);
    free(data);
}

static void a_stream_in_random_pieces_has_the_hash_of_the_whole(void **state)
{
    (void)state;
    struct fixture_random r = random_seeded();
    uint8_t *data = malloc(DATA_BYTES_MAX);
    assert_non_null(data);
    random_bytes(&r, data, DATA_BYTES_MAX);
    for (int round = 0; round < 150; round++) {
        struct slice whole = slice_of(data, random_len(&r));
        struct hash want, got;
        blake3_hash(whole, &want);
        struct blake3 b;
        blake3_init(&b);
        for (size_t at = 0; at < whole.len;) {
            struct slice piece = slice_part(whole, at, random_len(&r));
            blake3_update(&b, piece);
            at += piece.len;
        }
        blake3_final(&b, &got);
        if (!hash_equal(&want, &got)) fail_msg("round %d: %zu bytes in pieces differ", round, whole.len);
    }
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_agrees_with_portable),
        cmocka_unit_test(a_stream_in_random_pieces_has_the_hash_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
