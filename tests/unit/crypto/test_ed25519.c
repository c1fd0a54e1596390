#include "crypto/ed25519.h"

#include "unit/crypto/fixture_bytes.h"

/* Which signatures count (wire/docs.md 1.2). B is the base point, a and r known secrets; "equation holds" is about
 * R = SB - hA on points, which every row marked so fulfils. */
static const struct {
    const char *what;
    const char *key;
    const char *message;
    const char *signature;
    bool valid;
} strictness[] = {
    {"an ordinary signature", "f27cb81402e6860c926ff81f393d14340e41a70bc0b0195cf64a90b348cb2fc4", "message 0",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e2163d0ea4e6a2ce668cf36534ef5bd72306409d313cce8733a2"
     "3ecb33bfd97640b",
     true},
    {"S + L, the same equation", "f27cb81402e6860c926ff81f393d14340e41a70bc0b0195cf64a90b348cb2fc4", "message 0",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e2150a4e0ab848ff8c0a5d34af1d3b751456409d313cce8733a2"
     "3ecb33bfd97641b",
     false},
    {"another message", "f27cb81402e6860c926ff81f393d14340e41a70bc0b0195cf64a90b348cb2fc4", "message 1",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e2163d0ea4e6a2ce668cf36534ef5bd72306409d313cce8733a2"
     "3ecb33bfd97640b",
     false},
    {"A neutral, R neutral, S 0: true for every message",
     "0100000000000000000000000000000000000000000000000000000000000000", "message 0",
     "01000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "000000000000000",
     false},
    {"A neutral, R = rB, S = r: anyone can forge it",
     "0100000000000000000000000000000000000000000000000000000000000000", "message 0",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e2103fcae421b119b26bafd00b62f5b87e41fe5abef52055e496"
     "4b82fb213f59301",
     false},
    {"R neutral under a good key", "f27cb81402e6860c926ff81f393d14340e41a70bc0b0195cf64a90b348cb2fc4", "message 0",
     "010000000000000000000000000000000000000000000000000000000000000054bfa5627a4cf22db50b775fcccc6b8623df8971ee613281b"
     "2379d50dab89304",
     false},
    {"A of order 8, equation holds", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", "message 4",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e2103fcae421b119b26bafd00b62f5b87e41fe5abef52055e496"
     "4b82fb213f59301",
     false},
    {"A of order 2, equation holds", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "message 0",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e2103fcae421b119b26bafd00b62f5b87e41fe5abef52055e496"
     "4b82fb213f59301",
     false},
    {"R of order 8 under a key of mixed order, equation holds",
     "988b8b06afc3abd50c44e1396f4587342176485abb80721cfde8385f5e9320ce", "message 0",
     "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc858d7eb9bba2768b38efd54453ea1d54b36e9e9d018680733a4"
     "6ab1139fd8bd305",
     false},
    {"A of mixed order, equation holds without cofactor",
     "988b8b06afc3abd50c44e1396f4587342176485abb80721cfde8385f5e9320ce", "message 0",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e2119e0e410e4ac2a02de289d250bf785c6a9160ea3d0a419400"
     "89f491fc996900e",
     true},
    {"A of mixed order, equation holds only with cofactor",
     "988b8b06afc3abd50c44e1396f4587342176485abb80721cfde8385f5e9320ce", "message 4",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e213e51dde3804dfd6673975ebdae7295154595f8f660f17401d"
     "4f7c33a5bc92e02",
     false},
    {"R of mixed order, equation holds only with cofactor",
     "f27cb81402e6860c926ff81f393d14340e41a70bc0b0195cf64a90b348cb2fc4", "message 0",
     "fb15ddd1cd7684fa60e25fe9df39afdc2b12d6908402179723b4d66311f8694a967d1c12087282b106e56658726bc21b7b57e1722ce61d0de"
     "ba6770389259001",
     false},
    {"A and R of mixed order, equation holds without cofactor",
     "988b8b06afc3abd50c44e1396f4587342176485abb80721cfde8385f5e9320ce", "message 2",
     "fb15ddd1cd7684fa60e25fe9df39afdc2b12d6908402179723b4d66311f8694a79f10872d8a3933867eca9c49240774a6e3e4edd510715429"
     "361e6d81f96a30f",
     true},
    {"A neutral in its second encoding", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
     "message 0",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e2103fcae421b119b26bafd00b62f5b87e41fe5abef52055e496"
     "4b82fb213f59301",
     false},
    {"A neutral with a sign", "0100000000000000000000000000000000000000000000000000000000000080", "message 0",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e2103fcae421b119b26bafd00b62f5b87e41fe5abef52055e496"
     "4b82fb213f59301",
     false},
    {"R neutral in its second encoding", "f27cb81402e6860c926ff81f393d14340e41a70bc0b0195cf64a90b348cb2fc4",
     "message 0",
     "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f4a5db468e1c22d8145c5e5c9b4f460bf51df0ed330d502f4a"
     "c72f6a170689d0e",
     false},
    {"R neutral with a sign", "f27cb81402e6860c926ff81f393d14340e41a70bc0b0195cf64a90b348cb2fc4", "message 0",
     "0100000000000000000000000000000000000000000000000000000000000080e1cf22cc78379b7d22e4fc848ae27482ccf781512a0036028"
     "1482b1b51d76a09",
     false},
    {"A is no point", "0200000000000000000000000000000000000000000000000000000000000000", "message 0",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e2103fcae421b119b26bafd00b62f5b87e41fe5abef52055e496"
     "4b82fb213f59301",
     false},
    {"R is no point", "f27cb81402e6860c926ff81f393d14340e41a70bc0b0195cf64a90b348cb2fc4", "message 0",
     "020000000000000000000000000000000000000000000000000000000000000063d0ea4e6a2ce668cf36534ef5bd72306409d313cce8733a2"
     "3ecb33bfd97640b",
     false},
    {"A with y = p + 3", "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "message 0",
     "f87a22889707d326b221b2dba4102625f99227c2febe06664c8d9409eb213e2163d0ea4e6a2ce668cf36534ef5bd72306409d313cce8733a2"
     "3ecb33bfd97640b",
     false},

};

static void only_strictly_valid_signatures_are_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof strictness / sizeof strictness[0]; i++) {
        uint8_t key[ID_BYTES];
        struct signature s;
        assert_int_equal(from_hex(strictness[i].key, key, sizeof key), sizeof key);
        assert_int_equal(from_hex(strictness[i].signature, s.bytes, sizeof s.bytes), sizeof s.bytes);
        if (ed25519_verify(key, slice_of_text(strictness[i].message), &s) != strictness[i].valid)
            fail_msg("%s: must be %s", strictness[i].what, strictness[i].valid ? "accepted" : "refused");
    }
}

/* wire/endpoint.md 10.1 */
static void keys_and_signatures_are_those_of_iroh(void **state)
{
    (void)state;
    struct secret_key secret = {{0}};
    uint8_t key[ID_BYTES];
    struct signature s;
    struct slice hello = slice_of_text("hello world");

    ed25519_public_key(&secret, key);
    assert_hex(key, sizeof key, "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29");
    ed25519_sign(&secret, key, hello, &s);
    assert_hex(s.bytes, sizeof s.bytes,
               "b0b47780f096ae60bfff8d8e7b19c36b321ae6e69cca972f2ff987ef30f20d29"
               "774b53bae404485c4391ddf1b3f37aaa8a9747f984eb0884e8aa533386e73305");
    assert_true(ed25519_verify(key, hello, &s));

    for (int i = 0; i < ID_BYTES; i++) secret.bytes[i] = (uint8_t)i;
    ed25519_public_key(&secret, key);
    assert_hex(key, sizeof key, "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8");
    ed25519_sign(&secret, key, hello, &s);
    assert_hex(s.bytes, sizeof s.bytes,
               "c9e88a06c88855aa75f90bcfdc5a87b76a99c0d2044114b8931e72089e7b8c7a"
               "c6b4a9776b57326f2d781aa8da8821fe6b4c7296fde0b63ca24d7f6343ac6a0a");
    assert_true(ed25519_verify(key, hello, &s));

    memset(secret.bytes, 0xa1, ID_BYTES);
    ed25519_public_key(&secret, key);
    assert_hex(key, sizeof key, "bc7cbcb5636375fa1d82434d466724d92377f53b980695dd49d26d0ce12205a5");
    memset(secret.bytes, 0xb2, ID_BYTES);
    ed25519_public_key(&secret, key);
    assert_hex(key, sizeof key, "55154f42065ea5a1bea05463826be2684eb92df92c100027aabaae57ca554207");
}

static void any_flipped_bit_invalidates_a_signature(void **state)
{
    (void)state;
    struct secret_key secret = {{7}};
    uint8_t key[ID_BYTES], message[5] = "abcde";
    struct signature s;
    ed25519_public_key(&secret, key);
    ed25519_sign(&secret, key, slice_of(message, 5), &s);
    assert_true(ed25519_verify(key, slice_of(message, 5), &s));
    for (size_t bit = 0; bit < 8 * sizeof s.bytes; bit++) {
        s.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(ed25519_verify(key, slice_of(message, 5), &s));
        s.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    message[4] = 'f';
    assert_false(ed25519_verify(key, slice_of(message, 5), &s));
}

static void the_empty_message_can_be_signed(void **state)
{
    (void)state;
    struct secret_key secret = {{9}};
    uint8_t key[ID_BYTES];
    struct signature s;
    ed25519_public_key(&secret, key);
    ed25519_sign(&secret, key, (struct slice){NULL, 0}, &s);
    assert_true(ed25519_verify(key, (struct slice){NULL, 0}, &s));
}

/* wire/endpoint.md 2.1: a point is what decompresses, whatever its order and in whatever encoding. */
static void a_point_is_what_iroh_takes_for_one(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        bool point;
    } rows[] = {
        {"0000000000000000000000000000000000000000000000000000000000000000", true},
        {"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", true},
        {"0200000000000000000000000000000000000000000000000000000000000000", false},
        {"3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29", true},
        {"ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6", true},
        {"0100000000000000000000000000000000000000000000000000000000000000", true}, /* neutral */
        {"0100000000000000000000000000000000000000000000000000000000000080", true}, /* with a sign */
        {"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", true}, /* order 2 */
        {"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", true},
        {"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", true},  /* order 8 */
        {"988b8b06afc3abd50c44e1396f4587342176485abb80721cfde8385f5e9320ce", true},  /* mixed order */
        {"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", true},  /* y = p */
        {"efffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", false}, /* y = p + 2 */
        {"f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", true},
        {"f4ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", false},
        {"38b4e652e44da7f2370d9e260e27136550a4a3a6d07f5c0c332f8b1224083fd2", true},
        {"2b902f8911e81818f8c99d5d5d9831957504d90e945de2e8f54ee781cc75f636", true},
        {"264aad6cb6dd210faf94acd3cf92c190237cb11f5d108cf25930263938b370a1", false},
        {"b5769fa0f1483f95a90d9df2f130d60fcf04bd93f50ae69514da8c659ce2b10c", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[ID_BYTES];
        assert_int_equal(from_hex(rows[i].bytes, bytes, sizeof bytes), sizeof bytes);
        if (ed25519_is_point(bytes) != rows[i].point)
            fail_msg("%s must%s be a point", rows[i].bytes, rows[i].point ? "" : " not");
    }
}

/* y = 0 to 127: whether (y^2 - 1) / (dy^2 + 1) is a square, computed apart from libsodium. */
static void the_first_values_of_y_are_judged_right(void **state)
{
    (void)state;
    static const char squares[] = "1101111001100011101101011111111011010101101110001001101111101111"
                                  "0101001000010110000011110111000001001110000010011000100111000001";
    for (int y = 0; y < 128; y++) {
        uint8_t bytes[ID_BYTES] = {(uint8_t)y};
        assert_int_equal(ed25519_is_point(bytes), squares[y] == '1');
        bytes[ID_BYTES - 1] = 0x80;
        assert_int_equal(ed25519_is_point(bytes), squares[y] == '1');
    }
}

static void a_wiped_secret_is_zero(void **state)
{
    (void)state;
    struct secret_key secret;
    memset(secret.bytes, 0x5a, ID_BYTES);
    secret_wipe(&secret, sizeof secret);
    for (int i = 0; i < ID_BYTES; i++) assert_int_equal(secret.bytes[i], 0);
    secret_wipe(NULL, 0);
}

static int init(void **state)
{
    (void)state;
    return crypto_init() == HKV_OK && crypto_init() == HKV_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_strictly_valid_signatures_are_accepted),
        cmocka_unit_test(keys_and_signatures_are_those_of_iroh),
        cmocka_unit_test(any_flipped_bit_invalidates_a_signature),
        cmocka_unit_test(the_empty_message_can_be_signed),
        cmocka_unit_test(a_point_is_what_iroh_takes_for_one),
        cmocka_unit_test(the_first_values_of_y_are_judged_right),
        cmocka_unit_test(a_wiped_secret_is_zero),
    };
    return cmocka_run_group_tests(tests, init, NULL);
}
