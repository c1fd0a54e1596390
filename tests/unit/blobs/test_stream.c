/* Encoded streams of single blobs: every vector of wire/blobs.md 10.2 through the provider, the getter and the slow
 * encoder. */
#include "unit/blobs/fixture_blobs.h"

/* Ranges: sets that give the same stream are apart by a space, the parts of one set by "+". */
static const struct {
    size_t size;
    const char *ranges;
    size_t stream_bytes, data_bytes, pairs;
    const char *stream_hash;
} vectors[] = {
    {0, "all last 0..1 5..7 5..6+9..", 8, 0, 0, "71e0a99173564931c0b8acc52d2685a8e39c64dc52e3d02390fdac2a12b155cb"},
    {1, "all last 0..1 5..7 5..6+9..", 9, 1, 0, "9b779f74b305adc3ec513485085d52e95f9ce4fbaf9e56cb02d38a07e19353df"},
    {1024, "all last 0..1 5..7 5..6+9..", 1032, 1024, 0,
     "a841c51e2d0c467c06adea2378baeca1aec47a572adf108e46acd1454c17d9b9"},
    {1025, "all", 1033, 1025, 0, "1d6b64cb5191d2496c9128e16d078f125ad9514f4c073fbad5d5f4579fe667a8"},
    {1025, "0..1", 1096, 1024, 1, "272df76c596cdd92f63d1f15db03deaf9470ecc7493283a7acccd5ca74eedfd1"},
    {1025, "1..2 last", 73, 1, 1, "e3a756db892d6364bfb9a7704aa5ec3e409565cc7ce5ab7606e9921b5345fe53"},
    {2048, "all", 2056, 2048, 0, "7c338b850a962f8605bce84fce0d17949866363411174114287010e3fff3c409"},
    {2048, "1..2", 1096, 1024, 1, "f3c2c67564732c035240c9b7201e8dee046f945d96b79fbe3dab90662bed731c"},
    {2049, "all", 2057, 2049, 0, "71a83e34225c77b259623606686dc87bd6e47074df9aff26782407ac0cc2e6e5"},
    {2049, "0..2", 2120, 2048, 1, "03d424b4a80672e7599b0fe0652caf6713107c3af7232a4927e12d80a66cf35b"},
    {2049, "1..", 1161, 1025, 2, "2bd18716afa37538f800ea4e3e1596379aaae2e86b77086d6757a1473fe7fb40"},
    {2049, "last", 73, 1, 1, "230c0cd78c52dceb19b6ad145bb1ea97d60b8ce7997bec2a8fc09316780fe624"},
    {16384, "all 0..16", 16392, 16384, 0, "118894c58ca1e81d32784562af9aeaa9ff598524ab5040963e5892305e10c4aa"},
    {16384, "0..1", 1288, 1024, 4, "4e9914c7610fd68df11f52c17a6283c46854d2b64e001d5ec9a8382a249e647d"},
    {16384, "15..16 last", 1288, 1024, 4, "082a87c55c0617e9ff4717b701fa0372063c8f4a1b94f87f7e43e84f462f68f6"},
    {16384, "0..8", 8264, 8192, 1, "6192b7fbfbfcce0ad96d5b313a809bae7d2cfc68293758170661e74aad92e43b"},
    {16384, "1..15", 14792, 14336, 7, "3e976e9603b4e74015688dd909c04f76d3e4f004c7d648b3647a360e2c4e9ae3"},
    {16385, "all", 16457, 16385, 1, "0c6fa6b6ec04fc36a32daebfed66120764b0877410b5fe1931c247027bb206a3"},
    {16385, "0..1", 1352, 1024, 5, "5e20155fd76e72991133376ec2db10c75b07a74581308cab4e1b5bfcadeb216d"},
    {16385, "0..16", 16456, 16384, 1, "e7699a8fbd4957b70d63f9fa02d48892a69872dca327ab48b50144ae985548cd"},
    {16385, "16..17 last", 73, 1, 1, "6e645bbea45e632866326831de823e32fefc6d85ef0fec716c5f5a2ea1a9c273"},
    {16385, "15..17", 1353, 1025, 5, "488bcd0c6aae077df05b3fbbf7de794c17c13c24a0d36be5fc5b24fb6c03a378"},
    {16385, "0..5+100..200", 5449, 5121, 5, "3419a7e53859199d505da1b61d045ae425ae5883b14d4cf3fdf18138a5377e57"},
    {17408, "all", 17480, 17408, 1, "dd2a2626b4b510a046e3fd808dd51728eee800ee4eadc0e813e58023582f8e6b"},
    {17408, "16.. 17..18 last", 1096, 1024, 1, "6bca8b293a326f5f20fb58cf601f51f893586dc7c76dedd7c4a25ad00ed239e7"},
    {20480, "all", 20552, 20480, 1, "6b070332332edca222247747e41f7020fd478ac40d9883db58ab0c68c97e4d03"},
    {20480, "16..", 4168, 4096, 1, "f49402dc455db47e09a5bc12e2cc2f108d034c5922d4d7e3544f6b749f7f7f88"},
    {20480, "last", 1224, 1024, 3, "505f5db5903d57b5eca50a5fa634b794c3c8f714bea8fdf73878321d604706ce"},
    {32768, "all", 32840, 32768, 1, "5d0966b147da64f79863ad31afad469f14db98508207e98076ea67a1a8396ad9"},
    {32768, "0..16", 16456, 16384, 1, "d352cd6ed5a84cdc6bb105775f7c20d8f972799be8af38d94717552aab40ea17"},
    {32768, "16..32 16..", 16456, 16384, 1, "f04b88f3970b0b855da96bdb94fc486bb45919dfe917d1632d96290200a61f61"},
    {32768, "0..1", 1352, 1024, 5, "7aa57370e6c001e855d92bdd862562d255ab6ec0afdb9809c1b3b1bfe01087fe"},
    {32768, "31..32 last", 1352, 1024, 5, "569ae2e29c0d32e33c7dae98ec8c0b2917d6cfb20fdf9a1c554dbfa22e6a7a1b"},
    {32768, "15..17", 2632, 2048, 9, "310cf32cdde59affe564ce5d11137c8cdd34384c791e311285c5c35bc000418a"},
    {32769, "all", 32905, 32769, 2, "bfd53bc3a00e81f8f4364734393707772a3be73de80bcc73d86291b1412f0039"},
    {32769, "0..32", 32904, 32768, 2, "fa196c89cb5d91547f80eb762795376e22f0e79c0718c78f258f5f1cb0e7f2b8"},
    {32769, "31..33", 1417, 1025, 6, "daa0c13f48f86aaf2ddc26a741ac64b91676be6bf39c6ca03e98f819b8cb6acd"},
    {32769, "last", 73, 1, 1, "ba513234f14198ca838a05ae04e34cc8a41453649ce201a3117580f6ee9ff45c"},
    {65536, "all", 65736, 65536, 3, "aa1e0773d50a040f0affac185ca0cf3ab1bc4a3d3f3fbf92e01321a446ed7572"},
    {65536, "16..48", 32968, 32768, 3, "2994d6e2be5d4481ee5eafd6e31dae00e583e882f359298376e67bb73b5c6446"},
    {65536, "last", 1416, 1024, 6, "fbd75baf1878dd2a9c06d1c29ea9488b2958f7d3437f51aed323d0b11dbee7f9"},
    {100000, "all", 100392, 100000, 6, "e956ede102804468fda2dab079b970ffbd23d015190a806529d39711347dd94e"},
    {100000, "0..1", 1480, 1024, 7, "505c9063078fbc893e7326646da08e378521cc53a482c77cf94121d5da8878a9"},
    {100000, "0..16", 16584, 16384, 3, "805b8a7372fb5f18cf2eab724b3ee1312371908d63e43cb63641db2ec068bca4"},
    {100000, "1..3+9..13", 6984, 6144, 13, "ad5304d5cd934deee210b60dcec3a86363bbab0460acd6fd764410ec2192d8c6"},
    {100000, "16..32", 16584, 16384, 3, "08cc4cd0c820583c81dcb3ac1b6bfae878616ee424ffb5edaa7616ad25414423"},
    {100000, "0..64", 65800, 65536, 4, "985ccfec75cb838bd2eb4ddf7752c36aa29225ef2c224df9fe2ca1ea8963da9d"},
    {100000, "64..", 34664, 34464, 3, "ee6491aa2dd3c8e07fc9e787a8b72ad96cade9b288a0e72c78e901ab75d8b019"},
    {100000, "97..98 last 200..300", 872, 672, 3, "adaa08982c6d69559215ab9190173632a71bb45082991f6cde14b146374d19e8"},
    {100000, "0..97", 99784, 99328, 7, "b4b08a2d270a2d79643817e9cf48414c7e8345de21be164fb16798ada4cd5e3d"},
    {100000, "0..96", 98696, 98304, 6, "e19826c1fef8e4288bb14f8edf072690685da50e6cfcca30dfc5ebd591cdb0f5"},
    {100000, "0..96+97..200", 99432, 98976, 7, "9079c47bc0666d4535a1e1d81290553cb9c3a6ccf5e47b9895d80dbd832f85c9"},
    {100000, "0..5+98..200", 6376, 5792, 9, "311fba2f7147dcdf6f45b9227dba0c5ba055fee39b5b5bccce00808b87d3f1d7"},
    {2000000, "all", 2007816, 2000000, 122, "1a1e038abb09cfaf8da33cd8065618874102205175fec1054d751af7907ff5a8"},
    {2000000, "672..", 1317192, 1311872, 83, "d64ea73ffbd046ec1b4db55092c513490cdf2781b0a0a5a3cd1437c79a058a60"},
};

/* Reads one set from `text` and returns what follows it. */
static const char *parse_set(const char *text, struct bao_set *set)
{
    set->count = 0;
    for (;;) {
        char *end;
        uint64_t from = 0, to = UINT64_MAX;
        if (strncmp(text, "all", 3) == 0) {
            text += 3;
        } else if (strncmp(text, "last", 4) == 0) {
            from = UINT64_MAX - 1; /* a set of one boundary, put in place below */
            text += 4;
        } else {
            from = strtoull(text, &end, 10);
            assert_true(end[0] == '.' && end[1] == '.');
            text = end + 2;
            if (*text >= '0' && *text <= '9') {
                to = strtoull(text, &end, 10);
                text = end;
            }
        }
        assert_int_equal(bao_set_add(set, from, to), HKV_OK);
        if (from == UINT64_MAX - 1) set->bounds[0] = UINT64_MAX;
        if (*text != '+') break;
        text++;
    }
    assert_true(*text == ' ' || *text == '\0');
    return *text == ' ' ? text + 1 : text;
}

/* Feeds a response in pieces; checks the data it yields; counts. */
static void receive(const uint8_t *data, size_t size, const struct hash *hash, struct bao_ranges ranges,
                    struct slice stream, size_t piece, size_t *data_bytes)
{
    static struct blobs_fetch f;
    struct blobs_want want = {*hash, size};
    struct blobs_fetch_event event = {.kind = BLOBS_FETCH_NEED_MORE};
    size_t done = 0;
    *data_bytes = 0;
    assert_int_equal(blobs_fetch_init_one(&f, &want, ranges, UINT64_MAX), HKV_OK);
    for (size_t at = 0; at < stream.len; at += piece) {
        struct slice in = slice_part(stream, at, piece);
        do {
            size_t consumed;
            assert_int_equal(blobs_fetch_feed(&f, in, &consumed, &event), HKV_OK);
            in = slice_part(in, consumed, SIZE_MAX);
            done += event.kind == BLOBS_FETCH_DONE;
            if (event.kind != BLOBS_FETCH_LEAF) continue;
            assert_true(event.offset + event.data.len <= size);
            assert_memory_equal(event.data.data, data + event.offset, event.data.len);
            *data_bytes += event.data.len;
        } while (event.kind != BLOBS_FETCH_NEED_MORE);
        assert_int_equal(in.len, 0);
    }
    assert_int_equal(done, 1);
    assert_int_equal(blobs_fetch_end(&f), BLOBS_FETCH_COMPLETE);
    assert_true(f.payload_bytes == *data_bytes && f.payload_bytes + f.other_bytes == stream.len);
    blobs_fetch_fini(&f);
}

static void every_vector_is_encoded_and_decoded(void **state)
{
    (void)state;
    static struct fixture_source source;
    uint8_t *data = pattern_new(2000000);
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct bao_set set = {0};
        fixture_source_init(&source);
        struct hash hash = fixture_source_add(&source, data, vectors[i].size);
        for (const char *text = vectors[i].ranges; *text != '\0';) {
            text = parse_set(text, &set);
            struct buf stream = {0}, slow = {0};
            struct hash stream_hash;
            size_t data_bytes;
            fixture_respond_one(&source, &hash, bao_set_ranges(&set), &stream);
            blake3_hash(buf_slice(&stream), &stream_hash);
            assert_int_equal(stream.len, vectors[i].stream_bytes);
            assert_hash(&stream_hash, vectors[i].stream_hash);
            slow_encode(data, vectors[i].size, set.bounds, set.count, &slow);
            assert_true(slice_equal(buf_slice(&stream), buf_slice(&slow)));
            receive(data, vectors[i].size, &hash, bao_set_ranges(&set), buf_slice(&stream), 1000, &data_bytes);
            assert_int_equal(data_bytes, vectors[i].data_bytes);
            assert_int_equal(stream.len, 8 + data_bytes + 64 * vectors[i].pairs);
            buf_fini(&stream);
            buf_fini(&slow);
        }
        bao_set_fini(&set);
        fixture_source_fini(&source);
    }
    free(data);
}

/* wire/blobs.md 10.2, "Short streams in full" */
static void short_streams_are_right_byte_by_byte(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        uint64_t bounds[2];
        size_t count;
        const char *hex;
    } rows[] = {
        {1, {0}, 1, "010000000000000000"},
        {1025,
         {1, 2},
         2,
         "0104000000000000 5c9e654411e393d1f4bec710ccd5bc5669ab177d610a0eb691fcfee92fb4e8b1"
         "2f008e8a6979718c0c2f2fd7deb6e7fe4c1a3d8e90139c60cc163eb610ad8411 14"},
        {16385,
         {UINT64_MAX},
         1,
         "0140000000000000 5384f9b342c6cb86badedcbe662b0e980476a8db17db3cc1f13b19329749ab1f"
         "7eec20c857faf93c8102396e3b2ea90bcdf693ebd5cbd77211e5f606d72bc1a5 45"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct fixture_source source;
        struct buf stream = {0};
        fixture_source_init(&source);
        struct hash hash = fixture_source_add_pattern(&source, rows[i].size);
        fixture_respond_one(&source, &hash, (struct bao_ranges){rows[i].bounds, rows[i].count}, &stream);
        assert_hex(stream.data, stream.len, rows[i].hex);
        buf_fini(&stream);
        fixture_source_fini(&source);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vector_is_encoded_and_decoded),
        cmocka_unit_test(short_streams_are_right_byte_by_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
