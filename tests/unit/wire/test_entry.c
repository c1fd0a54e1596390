/* Signed entries against the vectors that iroh-docs locks in its own tests (src/sync.rs, wire_format), and their
 * boundaries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "crypto/blake3.h"
#include "crypto/ed25519.h"
#include "wire/entry.h"

/* Author seed 32 x a1, namespace seed 32 x b2. */
#define AUTHOR_HEX    "bc7cbcb5636375fa1d82434d466724d92377f53b980695dd49d26d0ce12205a5"
#define NAMESPACE_HEX "55154f42065ea5a1bea05463826be2684eb92df92c100027aabaae57ca554207"
#define EMPTY_HEX     "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
#define WORLD_HEX     "d7894ae9716d38d2dfad0ec55424ca321ee12453d51f1b3adeb77d0475ed988c"

static const struct vector {
    const char *key, *hash;
    uint64_t length, stamp;
    const char *signed_bytes, *wire, *fingerprint;
    size_t wire_bytes;
} vectors[] = {
    {
        "wire-format-test",
        EMPTY_HEX,
        0,
        1700000000000000,
        NAMESPACE_HEX AUTHOR_HEX "776972652d666f726d61742d74657374"
                                 "0000000000000000" EMPTY_HEX "00060a24181e4000",
        "4b523f1b6d9b00a4779fc9f8f105a9e36f062ceb7d511b632905782042ad30ac"
        "b6dd07bfced4ecd5f3aa58321e8ace63f48f988ed8461bfdcd8b0e902187a10e"
        "228ddc6998329b7faa64875fe80da36406ea8d87e3e57bb048323e9cb66c0b34"
        "3b60c4e709fb978b878e37d0c362edfc06c8cdc774c8b29d94e48eaa06cca60f"
        "50" NAMESPACE_HEX AUTHOR_HEX "776972652d666f726d61742d74657374"
        "00" EMPTY_HEX "8080f9c0c1c48203",
        "82633c86fc3982b032c8ca98e8d2be370cd46ecdc130a40397d7c98042587afc",
        250,
    },
    {
        "hello",
        WORLD_HEX,
        5,
        1700000000000001,
        NAMESPACE_HEX AUTHOR_HEX "68656c6c6f"
                                 "0000000000000005" WORLD_HEX "00060a24181e4001",
        "84618a1d97134650ec112c46880a9626b76f25956e82e396f8cac8f4643a1fea"
        "3091e3b53951534164f709cfe2bfb3c5073b39e0f393df5dfa79725e9880b802"
        "3440a89fb61d82f7dc40905023b073610e1ae2363921b31dfed82d7d864684fb"
        "0da7978bca8fadce014f7458a0dd5b70fdc906790886a0a21293020ac63c630c"
        "45" NAMESPACE_HEX AUTHOR_HEX "68656c6c6f"
        "05" WORLD_HEX "8180f9c0c1c48203",
        "60faa333002d5442a9dc12012c56539c8114b442f9faeb42a469f2b284101396",
        239,
    },
};

#define VECTOR_COUNT (sizeof vectors / sizeof vectors[0])

static struct buf unhex(const char *hex)
{
    struct buf out = {0};
    for (; hex[0] != '\0'; hex += 2) {
        char digits[3] = {hex[0], hex[1], '\0'};
        assert_int_equal(buf_append_byte(&out, (uint8_t)strtoul(digits, NULL, 16)), HKV_OK);
    }
    return out;
}

static void unhex_id(const char *hex, uint8_t out[ID_BYTES])
{
    struct buf bytes = unhex(hex);
    assert_int_equal(bytes.len, ID_BYTES);
    memcpy(out, bytes.data, ID_BYTES);
    buf_fini(&bytes);
}

static struct entry entry_of(const struct vector *v)
{
    struct entry e = {.key = slice_of_text(v->key), .record = {.length_bytes = v->length, .stamp_us = v->stamp}};
    unhex_id(NAMESPACE_HEX, e.namespace.bytes);
    unhex_id(AUTHOR_HEX, e.author.bytes);
    unhex_id(v->hash, e.record.hash.bytes);
    return e;
}

static struct entry signed_entry(struct slice key)
{
    struct entry e = entry_of(&vectors[1]);
    e.key = key;
    struct secret_key author, namespace;
    memset(author.bytes, 0xa1, ID_BYTES);
    memset(namespace.bytes, 0xb2, ID_BYTES);
    assert_int_equal(entry_sign(&e, &namespace, &author), HKV_OK);
    return e;
}

static void assert_hex(struct slice got, const char *hex)
{
    struct buf want = unhex(hex);
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.data, want.data, want.len);
    buf_fini(&want);
}

static void signed_bytes_are_upstreams(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTOR_COUNT; i++) {
        struct entry e = entry_of(&vectors[i]);
        struct buf out = {0};
        assert_int_equal(entry_signed_bytes(&e, &out), HKV_OK);
        assert_hex(buf_slice(&out), vectors[i].signed_bytes);
        buf_fini(&out);
    }
}

static void fingerprints_are_upstreams(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTOR_COUNT; i++) {
        struct entry e = entry_of(&vectors[i]);
        struct fingerprint fp;
        entry_fingerprint(&e, &fp);
        assert_hex(slice_of(fp.bytes, ID_BYTES), vectors[i].fingerprint);
    }
}

static void a_signed_entry_is_written_as_upstream_writes_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTOR_COUNT; i++) {
        struct entry e = entry_of(&vectors[i]);
        struct secret_key author, namespace;
        memset(author.bytes, 0xa1, ID_BYTES);
        memset(namespace.bytes, 0xb2, ID_BYTES);
        assert_int_equal(entry_sign(&e, &namespace, &author), HKV_OK);
        struct buf out = {0};
        assert_int_equal(entry_encode(&e, &out), HKV_OK);
        assert_int_equal(out.len, vectors[i].wire_bytes);
        assert_int_equal(entry_encoded_bytes(&e), vectors[i].wire_bytes);
        assert_hex(buf_slice(&out), vectors[i].wire);
        assert_int_equal(entry_verify(&e), HKV_OK);
        buf_fini(&out);
    }
}

static void an_entry_reads_back_and_verifies(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTOR_COUNT; i++) {
        struct buf wire = unhex(vectors[i].wire), again = {0};
        struct postcard_reader r = postcard_reader_of(buf_slice(&wire));
        struct entry e;
        assert_int_equal(entry_decode(&r, &e), HKV_OK);
        assert_int_equal(r.in.len, 0);
        assert_true(slice_equal(e.key, slice_of_text(vectors[i].key)));
        assert_true(e.record.stamp_us == vectors[i].stamp && e.record.length_bytes == vectors[i].length);
        assert_int_equal(entry_verify(&e), HKV_OK);
        assert_int_equal(entry_encode(&e, &again), HKV_OK);
        assert_true(slice_equal(buf_slice(&wire), buf_slice(&again)));
        buf_fini(&again);
        buf_fini(&wire);
    }
}

static void every_cut_of_an_entry_is_truncated(void **state)
{
    (void)state;
    struct buf wire = unhex(vectors[0].wire);
    for (size_t len = 0; len < wire.len; len++) {
        struct postcard_reader r = postcard_reader_of(slice_of(wire.data, len));
        struct entry e;
        assert_int_equal(entry_decode(&r, &e), HKV_E_PEER_PROTOCOL);
        assert_true(r.truncated);
    }
    buf_fini(&wire);
}

/* Whatever bit flips after signing, one of the signatures notices. */
static void every_signed_bit_counts(void **state)
{
    (void)state;
    struct entry good = signed_entry(slice_of_text("hello"));
    struct buf key = {0};
    assert_int_equal(buf_append(&key, "hello", 5), HKV_OK);
    struct {
        size_t at, len;
    } fields[] = {
        {offsetof(struct entry, namespace), ID_BYTES},
        {offsetof(struct entry, author), ID_BYTES},
        {offsetof(struct entry, record), sizeof(struct record)},
        {offsetof(struct entry, author_signature), SIGNATURE_BYTES},
        {offsetof(struct entry, namespace_signature), SIGNATURE_BYTES},
    };
    for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++) {
        for (size_t at = 0; at < fields[f].len; at += 7) {
            struct entry e = good;
            ((uint8_t *)&e)[fields[f].at + at] ^= (uint8_t)(1u << (at % 8));
            assert_int_equal(entry_verify(&e), HKV_E_BAD_SIGNATURE);
        }
    }
    struct entry e = good;
    key.data[4] ^= 1;
    e.key = buf_slice(&key);
    assert_int_equal(entry_verify(&e), HKV_E_BAD_SIGNATURE);
    buf_fini(&key);
}

/* 63 and 64: the id's length takes a second byte; 1,088: the last without the heap; 16,319 and 16,320: a third byte. */
static void keys_of_boundary_lengths_survive(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 63, 64, 1088, 1089, 16319, 16320, ENTRY_KEY_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint8_t *key = test_malloc(lengths[i] + 1);
        memset(key, 0xff, lengths[i] + 1);
        struct entry e = signed_entry(slice_of(key, lengths[i])), read;
        struct buf wire = {0};
        assert_int_equal(entry_encode(&e, &wire), HKV_OK);
        assert_int_equal(wire.len, entry_encoded_bytes(&e));
        struct postcard_reader r = postcard_reader_of(buf_slice(&wire));
        assert_int_equal(entry_decode(&r, &read), HKV_OK);
        assert_true(slice_equal(read.key, e.key));
        assert_int_equal(entry_verify(&read), HKV_OK);
        buf_fini(&wire);
        test_free(key);
    }
}

/* The fingerprint of a long key, hashed in pieces, is that of its bytes in one piece. */
static void a_fingerprint_does_not_depend_on_the_way_it_is_computed(void **state)
{
    (void)state;
    uint8_t key[1089];
    memset(key, 'k', sizeof key);
    struct entry e = entry_of(&vectors[1]);
    e.key = slice_of(key, sizeof key);
    struct fingerprint fp;
    entry_fingerprint(&e, &fp);

    struct buf bytes = {0};
    uint8_t stamp[8];
    be64_store(stamp, e.record.stamp_us);
    assert_int_equal(entry_id_append(&e, &bytes), HKV_OK);
    assert_int_equal(buf_append(&bytes, stamp, sizeof stamp), HKV_OK);
    assert_int_equal(buf_append(&bytes, e.record.hash.bytes, ID_BYTES), HKV_OK);
    struct hash want;
    blake3_hash(buf_slice(&bytes), &want);
    assert_memory_equal(fp.bytes, want.bytes, ID_BYTES);
    buf_fini(&bytes);
}

static void ids_of_wrong_length_are_refused(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 32, 63, ENTRY_ID_MAX + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct buf wire = {0};
        uint8_t zeros[2 * SIGNATURE_BYTES] = {0};
        assert_int_equal(buf_append(&wire, zeros, sizeof zeros), HKV_OK);
        assert_int_equal(postcard_write_varint(&wire, lengths[i]), HKV_OK);
        for (size_t n = 0; n < lengths[i] + 60; n++) assert_int_equal(buf_append_byte(&wire, 0), HKV_OK);
        struct postcard_reader r = postcard_reader_of(buf_slice(&wire));
        struct entry e;
        assert_int_equal(entry_decode(&r, &e), HKV_E_PEER_PROTOCOL);
        assert_false(r.truncated);
        buf_fini(&wire);
    }
}

static void records_are_ordered_by_stamp_then_hash(void **state)
{
    (void)state;
    struct record a = {.length_bytes = 9, .stamp_us = 5, .hash = {{1}}}, b = a;
    b.length_bytes = 1;
    assert_int_equal(record_compare(&a, &b), 0);
    b.hash.bytes[31] = 1;
    assert_true(record_compare(&a, &b) < 0 && record_compare(&b, &a) > 0);
    a.stamp_us = 6;
    assert_true(record_compare(&a, &b) > 0 && record_compare(&b, &a) < 0);
    a.stamp_us = UINT64_MAX;
    b.stamp_us = 0;
    assert_true(record_compare(&a, &b) > 0);
}

static void the_empty_hash_and_length_zero_belong_together(void **state)
{
    (void)state;
    struct record r = {.hash = hash_empty};
    assert_true(record_is_empty(&r) && record_is_consistent(&r));
    r.length_bytes = 1;
    assert_true(record_is_empty(&r) && !record_is_consistent(&r));
    r.hash.bytes[0] ^= 1;
    assert_true(!record_is_empty(&r) && record_is_consistent(&r));
    r.length_bytes = 0;
    assert_false(record_is_consistent(&r));
}

/* Comparing field by field is comparing the whole id as one string. */
static void id_order_is_byte_order_of_the_whole(void **state)
{
    (void)state;
    struct entry e = entry_of(&vectors[1]);
    struct buf id = {0};
    assert_int_equal(entry_id_append(&e, &id), HKV_OK);
    for (size_t cut = 0; cut <= id.len; cut++) {
        assert_int_equal(entry_id_compare(&e, slice_of(id.data, cut)) > 0, cut < id.len);
        if (cut == id.len) break;
        id.data[cut]++;
        assert_true(entry_id_compare(&e, buf_slice(&id)) < 0);
        assert_true(entry_id_compare(&e, slice_of(id.data, cut + 1)) < 0);
        id.data[cut]--;
    }
    assert_int_equal(entry_id_compare(&e, buf_slice(&id)), 0);
    assert_int_equal(buf_append_byte(&id, 0), HKV_OK);
    assert_true(entry_id_compare(&e, buf_slice(&id)) < 0);
    buf_fini(&id);
}

static int ready_crypto(void **state)
{
    (void)state;
    return crypto_init() == HKV_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_bytes_are_upstreams),
        cmocka_unit_test(fingerprints_are_upstreams),
        cmocka_unit_test(a_signed_entry_is_written_as_upstream_writes_it),
        cmocka_unit_test(an_entry_reads_back_and_verifies),
        cmocka_unit_test(every_cut_of_an_entry_is_truncated),
        cmocka_unit_test(every_signed_bit_counts),
        cmocka_unit_test(keys_of_boundary_lengths_survive),
        cmocka_unit_test(a_fingerprint_does_not_depend_on_the_way_it_is_computed),
        cmocka_unit_test(ids_of_wrong_length_are_refused),
        cmocka_unit_test(records_are_ordered_by_stamp_then_hash),
        cmocka_unit_test(the_empty_hash_and_length_zero_belong_together),
        cmocka_unit_test(id_order_is_byte_order_of_the_whole),
    };
    return cmocka_run_group_tests(tests, ready_crypto, NULL);
}
