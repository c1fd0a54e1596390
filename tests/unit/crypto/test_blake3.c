#include "crypto/blake3.h"

#include <sys/mman.h>
#include <unistd.h>

#include "crypto/blake3_impl.h"
#include "unit/crypto/fixture_bytes.h"

/* The lengths of the official test vectors, then those of wire/blobs.md 10.1. */
static const struct {
    size_t len;
    const char *hash;
} vectors[] = {
    {0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
    {1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"},
    {2, "7b7015bb92cf0b318037702a6cdd81dee41224f734684c2c122cd6359cb1ee63"},
    {3, "e1be4d7a8ab5560aa4199eea339849ba8e293d55ca0a81006726d184519e647f"},
    {4, "f30f5ab28fe047904037f77b6da4fea1e27241c5d132638d8bedce9d40494f32"},
    {5, "b40b44dfd97e7a84a996a91af8b85188c66c126940ba7aad2e7ae6b385402aa2"},
    {6, "06c4e8ffb6872fad96f9aaca5eee1553eb62aed0ad7198cef42e87f6a616c844"},
    {7, "3f8770f387faad08faa9d8414e9f449ac68e6ff0417f673f602a646a891419fe"},
    {8, "2351207d04fc16ade43ccab08600939c7c1fa70a5c0aaca76063d04c3228eaeb"},
    {63, "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e207627b7db7b"},
    {64, "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98"},
    {65, "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee"},
    {127, "d81293fda863f008c09e92fc382a81f5a0b4a1251cba1634016a0f86a6bd640d"},
    {128, "f17e570564b26578c33bb7f44643f539624b05df1a76c81f30acd548c44b45ef"},
    {129, "683aaae9f3c5ba37eaaf072aed0f9e30bac0865137bae68b1fde4ca2aebdcb12"},
    {1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"},
    {1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"},
    {1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"},
    {2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a"},
    {2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030"},
    {3072, "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2"},
    {3073, "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3"},
    {4096, "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d2163229e969"},
    {4097, "9b4052b38f1c5fc8b1f9ff7ac7b27cd242487b3d890d15c96a1c25b8aa0fb995"},
    {5120, "9cadc15fed8b5d854562b26a9536d9707cadeda9b143978f319ab34230535833"},
    {5121, "628bd2cb2004694adaab7bbd778a25df25c47b9d4155a55f8fbd79f2fe154cff"},
    {6144, "3e2e5b74e048f3add6d21faab3f83aa44d3b2278afb83b80b3c35164ebeca205"},
    {6145, "f1323a8631446cc50536a9f705ee5cb619424d46887f3c376c695b70e0f0507f"},
    {7168, "61da957ec2499a95d6b8023e2b0e604ec7f6b50e80a9678b89d2628e99ada77a"},
    {7169, "a003fc7a51754a9b3c7fae0367ab3d782dccf28855a03d435f8cfe74605e7817"},
    {8192, "aae792484c8efe4f19e2ca7d371d8c467ffb10748d8a5a1ae579948f718a2a63"},
    {8193, "bab6c09cb8ce8cf459261398d2e7aef35700bf488116ceb94a36d0f5f1b7bc3b"},
    {16384, "f875d6646de28985646f34ee13be9a576fd515f76b5b0a26bb324735041ddde4"},
    {31744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47"},
    {102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"},
    {16385, "1dabe216be2578830263b049de1639f39f05a4da616b9b78c7a5e4e41662fd1f"},
    {17408, "993924ff3dcbd868be9cf3fed98d4538fe579ffccf390a5aa1ddba0f6a20bfed"},
    {32768, "162183d1f9184474f5a5c9e6224e66720cdb6523f822e52d9b1efa30893f48f9"},
    {32769, "da589428d9b32c97658a04a21c0c8a38aad2ac402120819d956fd6d62bbfa36e"},
    {65536, "68d647e619a930e7b1082f74f334b0c65a315725569bdc123f0ee11881717bfe"},
    {100000, "d93c23eedaf165a7e0be908ba86f1a7a520d568d2d13cde787c8580c5c72cc54"},
    {2000000, "9cd51ca3ddf32d7019665245ff58dd94f3e5b30ddcbacadacea2820caf27f6f8"},
    {8388608, "1adedad9735f565ac6e22dab203db63b960c27098f2c0f0fda9adf9238d4c0c9"},
};

#define VECTOR_COUNT (sizeof vectors / sizeof vectors[0])

/* Runs a check at every level that this machine has. */
static void at_every_level(void (*check)(void))
{
    enum blake3_level best = blake3_level_get();
    for (int level = BLAKE3_LEVEL_PORTABLE; level <= BLAKE3_LEVEL_NEON; level++) {
        if (!blake3_level_available((enum blake3_level)level)) continue;
        blake3_level_set((enum blake3_level)level);
        assert_int_equal(blake3_level_get(), level);
        check();
    }
    blake3_level_set(best);
}

static void check_vectors(void)
{
    uint8_t *data = pattern_new(8388608);
    for (size_t i = 0; i < VECTOR_COUNT; i++) {
        struct hash h;
        blake3_hash(slice_of(data, vectors[i].len), &h);
        assert_hash(&h, vectors[i].hash);
    }
    free(data);
}

static void the_hash_of_every_vector_is_right_at_every_level(void **state)
{
    (void)state;
    at_every_level(check_vectors);
}

/* Each vector's input ends where memory does; so most begin at odd addresses. */
static void check_edges(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = 128 * 1024;
    uint8_t *memory = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED && room % page == 0);
    assert_int_equal(mprotect(memory + room, page, PROT_NONE), 0);
    for (size_t i = 0; i < VECTOR_COUNT; i++) {
        if (vectors[i].len > room) continue;
        uint8_t *data = memory + room - vectors[i].len;
        for (size_t at = 0; at < vectors[i].len; at++) data[at] = (uint8_t)(at % 251);
        struct hash h;
        blake3_hash(slice_of(data, vectors[i].len), &h);
        assert_hash(&h, vectors[i].hash);
    }
    assert_int_equal(munmap(memory, room + page), 0);
}

static void no_level_reads_past_its_input(void **state)
{
    (void)state;
    at_every_level(check_edges);
}

static void nothing_with_a_null_pointer_hashes_to_hash_empty(void **state)
{
    (void)state;
    struct hash h;
    blake3_hash((struct slice){NULL, 0}, &h);
    assert_true(hash_equal(&h, &hash_empty));
    struct blake3 b;
    blake3_init(&b);
    blake3_update(&b, (struct slice){NULL, 0});
    blake3_final(&b, &h);
    assert_true(hash_equal(&h, &hash_empty));
}

/* wire/blobs.md 10.3: subtrees of the 100000-byte pattern. */
static void check_subtrees(void)
{
    static const struct {
        uint64_t start, end;
        const char *cv;
    } rows[] = {
        {0, 1, "5c9e654411e393d1f4bec710ccd5bc5669ab177d610a0eb691fcfee92fb4e8b1"},
        {1, 2, "5b1f23b8390368a2c15095910389d1b716eb52a6dfd34d0aa66a22a21b761ca7"},
        {97, 98, "3522d4703f68246d4344753de7e4b17548ae11a39dd8e84e734d13772447504d"},
        {0, 16, "5384f9b342c6cb86badedcbe662b0e980476a8db17db3cc1f13b19329749ab1f"},
        {16, 32, "406632eceb31aa6735f072ad0554f5963f4082b5139978455b44f67732cf949d"},
        {96, 98, "40ad2347765bef9f3188565afc48fb0852e6ece91f2b691ebc0f29efed398ead"},
        {0, 64, "88da791e722ac59740d9a44402e384ad99f1c79d4bab7449a0c2da1fafb91fb7"},
        {64, 98, "d58bfa63eb582ff61877bd0b4313a40bb9a0e63841c5b25ebdef576bd9ff10a7"},
    };
    uint8_t *data = pattern_new(100000);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t start = (size_t)rows[i].start * 1024, end = (size_t)rows[i].end * 1024;
        struct hash cv;
        blake3_subtree(slice_of(data + start, (end < 100000 ? end : 100000) - start), rows[i].start, false, &cv);
        assert_hash(&cv, rows[i].cv);
    }
    free(data);
}

static void subtrees_have_their_chaining_values_at_every_level(void **state)
{
    (void)state;
    at_every_level(check_subtrees);
}

static void two_subtrees_and_their_parent_make_the_root(void **state)
{
    (void)state;
    struct hash left = hash_of_hex("88da791e722ac59740d9a44402e384ad99f1c79d4bab7449a0c2da1fafb91fb7");
    struct hash right = hash_of_hex("d58bfa63eb582ff61877bd0b4313a40bb9a0e63841c5b25ebdef576bd9ff10a7");
    struct hash h;
    blake3_parent(&left, &right, true, &h);
    assert_hash(&h, "d93c23eedaf165a7e0be908ba86f1a7a520d568d2d13cde787c8580c5c72cc54");
    left = hash_of_hex("1e03bf3657c5076623059f21d92f2ec634dd276b07e3760625c73416f343d857");
    right = hash_of_hex("95d13beb8a252ab0a9ad34b90063717be147ef23b67b90a59d3d8ce3cc5e076a");
    blake3_parent(&left, &right, false, &h);
    assert_hash(&h, "88da791e722ac59740d9a44402e384ad99f1c79d4bab7449a0c2da1fafb91fb7");
}

/* Counters beyond 32 bits reach the high word: every level gives what the portable one does. */
static void chunk_counters_use_both_words(void **state)
{
    (void)state;
    uint8_t *data = pattern_new(40 * 1024);
    enum blake3_level best = blake3_level_get();
    uint64_t start = ((uint64_t)1 << 32) - 64; /* 64-aligned: up to 64 chunks may follow */
    struct hash plain, low, other;
    blake3_level_set(BLAKE3_LEVEL_PORTABLE);
    blake3_subtree(slice_of(data, 40 * 1024), start + ((uint64_t)1 << 40), false, &plain);
    blake3_subtree(slice_of(data, 40 * 1024), start, false, &low);
    assert_false(hash_equal(&plain, &low));
    for (int level = BLAKE3_LEVEL_SSE41; level <= BLAKE3_LEVEL_NEON; level++) {
        if (!blake3_level_available((enum blake3_level)level)) continue;
        blake3_level_set((enum blake3_level)level);
        blake3_subtree(slice_of(data, 40 * 1024), start + ((uint64_t)1 << 40), false, &other);
        assert_true(hash_equal(&plain, &other));
    }
    blake3_level_set(best);
    free(data);
}

static void a_stream_in_equal_pieces_has_the_hash_of_the_whole(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 63, 1000, 1024, 16383, 16384, 16385, 40000, 100000};
    uint8_t *data = pattern_new(100000);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct blake3 b;
        blake3_init(&b);
        for (size_t at = 0; at < 100000; at += pieces[i])
            blake3_update(&b, slice_part(slice_of(data, 100000), at, pieces[i]));
        struct hash h;
        blake3_final(&b, &h);
        assert_hash(&h, "d93c23eedaf165a7e0be908ba86f1a7a520d568d2d13cde787c8580c5c72cc54");
    }
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hash_of_every_vector_is_right_at_every_level),
        cmocka_unit_test(no_level_reads_past_its_input),
        cmocka_unit_test(nothing_with_a_null_pointer_hashes_to_hash_empty),
        cmocka_unit_test(subtrees_have_their_chaining_values_at_every_level),
        cmocka_unit_test(two_subtrees_and_their_parent_make_the_root),
        cmocka_unit_test(chunk_counters_use_both_words),
        cmocka_unit_test(a_stream_in_equal_pieces_has_the_hash_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
