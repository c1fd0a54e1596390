#include "crypto/bao.h"

#include "unit/crypto/fixture_bytes.h"

static void geometry_of_sizes_at_the_edges(void **state)
{
    (void)state;
    static const struct {
        uint64_t size, chunks, groups;
    } rows[] = {
        {0, 0, 1},      {1, 1, 1},
        {1024, 1, 1},   {1025, 2, 1},
        {16384, 16, 1}, {16385, 17, 2},
        {32768, 32, 2}, {100000, 98, 7},
        {32769, 33, 3}, {BAO_SIZE_MAX, (uint64_t)1 << 53, (uint64_t)1 << 49},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_true(bao_chunks(rows[i].size) == rows[i].chunks);
        assert_true(bao_groups(rows[i].size) == rows[i].groups);
        assert_true(bao_outboard_bytes(rows[i].size) == 64 * (rows[i].groups - 1));
    }
}

/* wire/blobs.md 10.1 */
static void outboards_are_those_of_the_vectors(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        const char *root;
        size_t outboard_bytes;
        const char *outboard_hash; /* of the pre-order form */
    } rows[] = {
        {0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", 0, NULL},
        {1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213", 0, NULL},
        {16384, "f875d6646de28985646f34ee13be9a576fd515f76b5b0a26bb324735041ddde4", 0, NULL},
        {16385, "1dabe216be2578830263b049de1639f39f05a4da616b9b78c7a5e4e41662fd1f", 64,
         "5626a11c3fae62894290bd6e4fdd50f8199c5775352737fa9f6f63df38a6838f"},
        {32768, "162183d1f9184474f5a5c9e6224e66720cdb6523f822e52d9b1efa30893f48f9", 64,
         "08ec3d9d67c222248d749ee837cd35b867228897dc930b3baf11d14fe4ef7384"},
        {32769, "da589428d9b32c97658a04a21c0c8a38aad2ac402120819d956fd6d62bbfa36e", 128,
         "c3ad0ba7856e58e961f4509cb5eb57b72bd4e8764bffaa2580402c06beee5091"},
        {65536, "68d647e619a930e7b1082f74f334b0c65a315725569bdc123f0ee11881717bfe", 192,
         "64f044a9c89de90220352e20f54a47ab6037866f1b8307d84b5b9cacb426f6cd"},
        {100000, "d93c23eedaf165a7e0be908ba86f1a7a520d568d2d13cde787c8580c5c72cc54", 384,
         "5cd8e354c507dcd17e7d4c9fac4c1d59aadf90177cd7d98d1e681bf33221bfc1"},
        {2000000, "9cd51ca3ddf32d7019665245ff58dd94f3e5b30ddcbacadacea2820caf27f6f8", 7808,
         "03da74dbb524da25f84da4ab3e713153244397a1388fc911555925ab27fb591f"},
        {8388608, "1adedad9735f565ac6e22dab203db63b960c27098f2c0f0fda9adf9238d4c0c9", 32704,
         "72c2f80711f36a00246c1190be8b5c714a6a727d9afccbaddbc0db729e4f052e"},
    };
    static const size_t pieces[] = {1000, 16384, 100001, 9000000};
    uint8_t *data = pattern_new(8388608);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t j = 0; j < sizeof pieces / sizeof pieces[0]; j++) {
            struct bao_builder b;
            struct buf outboard = {0};
            struct hash root, hash;
            bao_builder_init(&b);
            for (size_t at = 0; at < rows[i].size; at += pieces[j])
                assert_int_equal(bao_builder_update(&b, slice_part(slice_of(data, rows[i].size), at, pieces[j])),
                                 HKV_OK);
            assert_int_equal(bao_builder_finish(&b, &root, &outboard), HKV_OK);
            bao_builder_fini(&b);
            assert_hash(&root, rows[i].root);
            assert_int_equal(outboard.len, rows[i].outboard_bytes);
            blake3_hash(buf_slice(&outboard), &hash);
            if (outboard.len > 0) assert_hash(&hash, rows[i].outboard_hash);
            buf_fini(&outboard);
        }
    }
    free(data);
}

/* wire/blobs.md 10.4: the whole walk of 100000 bytes meets the pairs at their places in the outboard. */
static void a_walk_of_everything_meets_the_pairs_in_outboard_order(void **state)
{
    (void)state;
    static const struct {
        uint64_t chunk, chunks;
        const char *left, *right;
    } pairs[] = {
        {0, 98, "88da791e722ac59740d9a44402e384ad99f1c79d4bab7449a0c2da1fafb91fb7",
         "d58bfa63eb582ff61877bd0b4313a40bb9a0e63841c5b25ebdef576bd9ff10a7"},
        {0, 64, "1e03bf3657c5076623059f21d92f2ec634dd276b07e3760625c73416f343d857",
         "95d13beb8a252ab0a9ad34b90063717be147ef23b67b90a59d3d8ce3cc5e076a"},
        {0, 32, "5384f9b342c6cb86badedcbe662b0e980476a8db17db3cc1f13b19329749ab1f",
         "406632eceb31aa6735f072ad0554f5963f4082b5139978455b44f67732cf949d"},
        {32, 32, "bccbba6c1168012dc733c21a85cc8500576e28489a119e848307770260b3c87f",
         "762831a5a6c2ca9fad845da11b211517d966e798daa3de1a9cb06e2e61cbf785"},
        {64, 34, "53d96c0caf40d0926e0c6d173b355c4e6aea98ebc8bfc57655070a18b272aeac",
         "40ad2347765bef9f3188565afc48fb0852e6ece91f2b691ebc0f29efed398ead"},
        {64, 32, "229739fff0238a3b5e48b47ef009f632d0c7a7862925aa086cdda332e0644fc5",
         "9f13dff9d2827e9260523c93f2bba41b2e12fa0c2a90298310f563b10e291a7d"},
    };
    uint8_t *data = pattern_new(100000);
    struct hash root = hash_of_hex("d93c23eedaf165a7e0be908ba86f1a7a520d568d2d13cde787c8580c5c72cc54");
    struct bao_walk w;
    struct bao_item item;
    size_t met = 0;
    uint64_t leaf_bytes = 0;
    bao_walk_init(&w, &root, 100000, bao_ranges_all);
    while (bao_walk_next(&w, &item)) {
        if (item.kind == BAO_LEAF) {
            assert_true(item.chunk * 1024 == leaf_bytes);
            assert_true(bao_walk_leaf(&w, slice_of(data + leaf_bytes, (size_t)item.bytes)));
            leaf_bytes += item.bytes;
            continue;
        }
        uint8_t pair[BAO_PAIR_BYTES], computed[BAO_PAIR_BYTES];
        assert_true(met < sizeof pairs / sizeof pairs[0]);
        assert_true(item.in_outboard && item.outboard_offset == 64 * met && item.is_root == (met == 0));
        assert_true(item.chunk == pairs[met].chunk && bao_chunks(item.bytes) == pairs[met].chunks);
        assert_int_equal(from_hex(pairs[met].left, pair, 32) + from_hex(pairs[met].right, pair + 32, 32), 64);
        bao_pair_of(slice_of(data + item.chunk * 1024, (size_t)item.bytes), item.chunk, computed);
        assert_memory_equal(pair, computed, sizeof pair);
        pair[63] ^= 1;
        assert_false(bao_walk_pair(&w, pair));
        pair[63] ^= 1;
        assert_true(bao_walk_pair(&w, pair));
        met++;
    }
    assert_int_equal(met, 6);
    assert_int_equal(leaf_bytes, 100000);
    free(data);
}

/* wire/blobs.md 3.2, after upstream's canonicalize_ranges_test */
static void ranges_are_cut_to_the_size(void **state)
{
    (void)state;
    static const struct {
        uint64_t chunks;
        uint64_t from[6];
        size_t from_count;
        size_t kept;
    } rows[] = {
        {7, {0, 6}, 2, 2},         {7, {0, 7}, 2, 1},         {7, {0, 6, 7, 10}, 4, 1},
        {7, {3, 6, 7, 10}, 4, 1},  {7, {0, 5, 7, 10}, 4, 3},  {7, {7}, 1, 1},
        {31, {0, 30, 1000}, 3, 1}, {31, {0, 29, 1000}, 3, 3}, {31, {1, 2, 4, 30, 1000}, 5, 3},
        {0, {5, 7}, 2, 1},         {1, {0, 1}, 2, 1},         {7, {0}, 1, 1},
        {7, {UINT64_MAX}, 1, 1},   {7, {0, 3}, 2, 2},         {7, {8, 9, 10, 11}, 4, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bao_ranges cut =
            bao_ranges_truncate((struct bao_ranges){rows[i].from, rows[i].from_count}, rows[i].chunks * 1024);
        assert_ptr_equal(cut.bounds, rows[i].from);
        if (cut.count != rows[i].kept) fail_msg("row %zu keeps %zu boundaries, not %zu", i, cut.count, rows[i].kept);
    }
}

static void sets_of_chunks_add_up_and_give_what_is_missing(void **state)
{
    (void)state;
    struct bao_set present = {0}, missing = {0};
    assert_int_equal(bao_set_missing(bao_set_ranges(&present), 100000, &missing), HKV_OK);
    assert_true(bao_ranges_equal(bao_set_ranges(&missing), bao_ranges_all));
    assert_int_equal(bao_set_add(&present, 16, 32), HKV_OK);
    assert_int_equal(bao_set_add(&present, 64, 80), HKV_OK);
    assert_int_equal(bao_set_add(&present, 32, 48), HKV_OK);
    assert_int_equal(bao_set_add(&present, 20, 20), HKV_OK);
    assert_true(bao_ranges_equal(bao_set_ranges(&present), (struct bao_ranges){(uint64_t[]){16, 48, 64, 80}, 4}));
    assert_true(bao_ranges_contain(bao_set_ranges(&present), 47));
    assert_false(bao_ranges_contain(bao_set_ranges(&present), 48));
    assert_int_equal(bao_set_missing(bao_set_ranges(&present), 100000, &missing), HKV_OK);
    assert_true(bao_ranges_equal(bao_set_ranges(&missing), (struct bao_ranges){(uint64_t[]){0, 16, 48, 64, 80}, 5}));
    assert_int_equal(bao_set_add(&present, 0, 70), HKV_OK);
    assert_int_equal(bao_set_add(&present, 80, 98), HKV_OK);
    assert_int_equal(bao_set_missing(bao_set_ranges(&present), 100000, &missing), HKV_OK);
    assert_int_equal(missing.count, 0);
    assert_int_equal(bao_set_add(&present, 3, UINT64_MAX), HKV_OK);
    assert_true(bao_ranges_equal(bao_set_ranges(&present), bao_ranges_all));
    bao_set_fini(&present);
    bao_set_fini(&missing);
}

static void only_increasing_boundaries_are_a_set(void **state)
{
    (void)state;
    assert_true(bao_ranges_are_valid((struct bao_ranges){NULL, 0}));
    assert_true(bao_ranges_are_valid((struct bao_ranges){(uint64_t[]){0, 1, UINT64_MAX}, 3}));
    assert_false(bao_ranges_are_valid((struct bao_ranges){(uint64_t[]){0, 1, 1}, 3}));
    assert_false(bao_ranges_are_valid((struct bao_ranges){(uint64_t[]){5, 1}, 2}));
}

/* A claimed size far beyond any memory costs nothing but the walk itself. */
static void the_largest_size_has_a_walk_of_bounded_depth(void **state)
{
    (void)state;
    uint8_t pair[BAO_PAIR_BYTES] = {0};
    struct hash child = {{1}}, root;
    struct bao_walk w;
    struct bao_item item;
    memcpy(pair, child.bytes, 32);
    memcpy(pair + 32, child.bytes, 32);
    blake3_parent(&child, &child, true, &root);
    bao_walk_init(&w, &root, BAO_SIZE_MAX, bao_ranges_all);
    assert_true(bao_walk_next(&w, &item));
    assert_true(item.kind == BAO_PAIR && item.bytes == BAO_SIZE_MAX);
    assert_true(bao_walk_pair(&w, pair));
    assert_true(bao_walk_next(&w, &item));
    assert_true(item.bytes == (uint64_t)1 << 62 && item.outboard_offset == 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(geometry_of_sizes_at_the_edges),
        cmocka_unit_test(outboards_are_those_of_the_vectors),
        cmocka_unit_test(a_walk_of_everything_meets_the_pairs_in_outboard_order),
        cmocka_unit_test(ranges_are_cut_to_the_size),
        cmocka_unit_test(sets_of_chunks_add_up_and_give_what_is_missing),
        cmocka_unit_test(only_increasing_boundaries_are_a_set),
        cmocka_unit_test(the_largest_size_has_a_walk_of_bounded_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
