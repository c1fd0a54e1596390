/* The compact encoding: the bytes worked out by hand, the same content as in iroh's encoding, what a hostile peer could
 * make of it, and how few bytes it takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fixture/docs_world.h"

static const struct docs_config *config(void)
{
    static struct docs_config config;
    config = docs_config_default(1);
    docs_config_set_encoding(&config, DOCS_ENCODING_COMPACT);
    return &config;
}

static void append_hex(struct buf *out, const char *hex)
{
    for (; hex[0] != '\0'; hex += 2) {
        char digits[3] = {hex[0], hex[1], '\0'};
        assert_int_equal(buf_append_byte(out, (uint8_t)strtoul(digits, NULL, 16)), HKV_OK);
    }
}

/* --- Bytes worked out by hand --- */

#define AUTHOR_HEX    "bc7cbcb5636375fa1d82434d466724d92377f53b980695dd49d26d0ce12205a5"
#define NAMESPACE_HEX "55154f42065ea5a1bea05463826be2684eb92df92c100027aabaae57ca554207"
#define KEY_HEX       "776972652d666f726d61742d74657374"
#define EMPTY_HEX     "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
#define FP_HEX        "2d70753f09c0231692888772de0e777e971f4b046cf1b6b45b4d5a4aa647489e"
#define SIGNATURES_HEX                                                                                                 \
    "4b523f1b6d9b00a4779fc9f8f105a9e36f062ceb7d511b632905782042ad30ac"                                                 \
    "b6dd07bfced4ecd5f3aa58321e8ace63f48f988ed8461bfdcd8b0e902187a10e"                                                 \
    "228ddc6998329b7faa64875fe80da36406ea8d87e3e57bb048323e9cb66c0b34"                                                 \
    "3b60c4e709fb978b878e37d0c362edfc06c8cdc774c8b29d94e48eaa06cca60f"
#define STAMP_HEX "8080f9c0c1c48203"

/* The id of the vectors' entry, 80 bytes: the 32 of the namespace are there already, the 48 of author and key follow;
 * and the same id once more: all 80 shared, nothing follows. */
#define ID_FIRST "2030" AUTHOR_HEX KEY_HEX
#define ID_AGAIN "5000"

/* The same conversation as in test_session.c. 64 zeros have no byte in common with the namespace and end in nothing but
 * zeros (0000); then all 64 are shared (4000). */
#define INIT_OF_EMPTY                                                                                                  \
    "00000047"                                                                                                         \
    "00" NAMESPACE_HEX "01"                                                                                            \
    "00"                                                                                                               \
    "0000"                                                                                                             \
    "4000" EMPTY_HEX
#define INIT_OF_ONE                                                                                                    \
    "00000077"                                                                                                         \
    "00" NAMESPACE_HEX "01"                                                                                            \
    "00" ID_FIRST ID_AGAIN FP_HEX
#define PULL_OF_EMPTY                                                                                                  \
    "00000039"                                                                                                         \
    "01"                                                                                                               \
    "01"                                                                                                               \
    "01" ID_FIRST ID_AGAIN "00"                                                                                        \
    "00"
#define VALUE_OF_ONE                                                                                                   \
    "000000e5"                                                                                                         \
    "01"                                                                                                               \
    "01"                                                                                                               \
    "01" ID_FIRST ID_AGAIN "01" SIGNATURES_HEX ID_AGAIN "00" EMPTY_HEX STAMP_HEX "02"                                  \
    "01"

static void feed_hex(struct world_peer *p, const char *hex)
{
    struct buf bytes = {0};
    append_hex(&bytes, hex);
    world_peer_feed(p, buf_slice(&bytes), false);
    world_peer_settle(p);
    buf_fini(&bytes);
}

static void assert_bytes(struct slice got, const char *hex)
{
    struct buf want = {0};
    append_hex(&want, hex);
    assert_int_equal(got.len, want.len);
    if (want.len > 0) assert_memory_equal(got.data, want.data, want.len);
    buf_fini(&want);
}

/* Asserts what the peer has sent since the last time, and takes it. */
static void assert_sent(struct world_peer *p, const char *hex)
{
    assert_bytes(buf_slice(&p->outbox), hex);
    buf_clear(&p->outbox);
}

static void vector_replica(struct array_replica *a, bool has_entry)
{
    struct buf wire = {0};
    append_hex(&wire, SIGNATURES_HEX "50" NAMESPACE_HEX AUTHOR_HEX KEY_HEX "00" EMPTY_HEX STAMP_HEX);
    struct postcard_reader r = postcard_reader_of(buf_slice(&wire));
    struct entry e;
    array_replica_init(a);
    assert_int_equal(entry_decode(&r, &e), HKV_OK);
    a->namespace = e.namespace;
    a->now_us = e.record.stamp_us;
    if (has_entry) assert_int_equal(array_replica_put(a, &e), DOCS_INSERTED);
    buf_fini(&wire);
}

static void a_dialler_speaks_as_worked_out(void **state)
{
    (void)state;
    struct array_replica a, empty;
    struct world_peer p;
    vector_replica(&empty, false);
    world_peer_init(&p, DOCS_DIALLER, &empty, config());
    world_peer_settle(&p);
    assert_sent(&p, INIT_OF_EMPTY);
    world_peer_fini(&p);
    vector_replica(&a, true);
    world_peer_init(&p, DOCS_DIALLER, &a, config());
    world_peer_settle(&p);
    assert_sent(&p, INIT_OF_ONE);
    feed_hex(&p, PULL_OF_EMPTY);
    assert_sent(&p, VALUE_OF_ONE);
    world_peer_feed(&p, (struct slice){0}, true);
    assert_true(p.ended);
    assert_int_equal(p.session.outcome.err, HKV_OK);
    world_peer_fini(&p);
    array_replica_fini(&a);
    array_replica_fini(&empty);
}

static void an_acceptor_answers_as_worked_out(void **state)
{
    (void)state;
    static const struct {
        const char *init, *answer;
        bool has_entry;
    } cases[] = {
        {INIT_OF_ONE, PULL_OF_EMPTY, false},
        {INIT_OF_EMPTY, "", false},
        {INIT_OF_ONE, "", true},
        /* 32 in two bytes, 48 in three: accepted as anywhere in postcard */
        {"0000007a"
         "00" NAMESPACE_HEX "01"
         "00"
         "a000b08000" AUTHOR_HEX KEY_HEX ID_AGAIN FP_HEX,
         "", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct array_replica a;
        struct world_peer p;
        vector_replica(&a, cases[i].has_entry);
        world_peer_init(&p, DOCS_ACCEPTOR, &a, config());
        feed_hex(&p, cases[i].init);
        assert_sent(&p, cases[i].answer);
        world_peer_feed(&p, (struct slice){0}, true);
        assert_true(p.ended);
        assert_int_equal(p.session.outcome.err, HKV_OK);
        assert_int_equal(p.session.outcome.is_confirmed, cases[i].answer[0] == '\0');
        world_peer_fini(&p);
        array_replica_fini(&a);
    }
}

/* The encoding is chosen when the connection has opened, after both halves were made. */
static void the_encoding_is_set_on_what_was_made_before(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    struct docs_config of_iroh = docs_config_default(1);
    vector_replica(&a, true);
    world_peer_init(&p, DOCS_DIALLER, &a, &of_iroh);
    docs_session_set_encoding(&p.session, DOCS_ENCODING_COMPACT);
    docs_reconcile_set_encoding(&p.reconcile, DOCS_ENCODING_COMPACT);
    world_peer_settle(&p);
    assert_sent(&p, INIT_OF_ONE);
    world_peer_fini(&p);
    array_replica_fini(&a);
}

#define X16(byte)      byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte
#define X31(byte)      X16(byte) byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte
#define X32(byte)      X16(byte) X16(byte)
#define TWO_SIGNATURES X32("11") X32("11") X32("22") X32("22")

/* An item from the author 01 00… up to the key "b" of author 01 01… with two values, then a fingerprint from there up
 * to the author 02 00…: each id after the one before it. */
static void ids_follow_one_another_through_a_frame(void **state)
{
    (void)state;
    static const struct docs_frame_limits limits = {10, 10, 10000};
    struct docs_reply reply;
    uint8_t low[ENTRY_ID_MIN] = {0}, high[ENTRY_ID_MIN] = {0}, b[ENTRY_ID_MIN + 1];
    memcpy(low, world_namespace.bytes, ID_BYTES);
    memcpy(high, world_namespace.bytes, ID_BYTES);
    memcpy(b, world_namespace.bytes, ID_BYTES);
    memset(b + ID_BYTES, 1, ID_BYTES);
    low[ID_BYTES] = 1;
    high[ID_BYTES] = 2;
    b[ENTRY_ID_MIN] = 'b';
    struct slice x = slice_of(low, sizeof low), y = slice_of(b, sizeof b), z = slice_of(high, sizeof high);
    docs_reply_init(&reply, &limits, 1);
    reply.encoding = DOCS_ENCODING_COMPACT;
    reply.front.namespace = world_namespace;
    for (int i = 1; i <= 2; i++) {
        struct entry e = world_entry(1, slice_of("ab", (size_t)i), 9, 5);
        memset(e.author_signature.bytes, 0x11, SIGNATURE_BYTES);
        memset(e.namespace_signature.bytes, 0x22, SIGNATURE_BYTES);
        assert_int_equal(docs_reply_value(&reply, &e, i == 1), HKV_OK);
    }
    assert_int_equal(docs_reply_item(&reply, (struct docs_range){x, y}, false), HKV_OK);
    struct fingerprint fp;
    memset(fp.bytes, 0x33, ID_BYTES);
    assert_int_equal(docs_reply_fingerprint(&reply, (struct docs_range){y, z}, &fp), HKV_OK);
    /* clang-format off */
    assert_bytes(buf_slice(&reply.parts),
                 "01"                                         /* item */
                 "2001" "01"                                  /* x: the namespace's 32, 01, zeros */
                 "2120" X31("01") "62"                        /* y: 33 shared; 31 bytes of the author and the key */
                 "02"                                         /* two values */
                 TWO_SIGNATURES "4001" "61"                   /* "a" */
                 "05" X32("05") "09" "00"                     /* … length, hash, stamp, complete */
                 TWO_SIGNATURES "4101" "62"                   /* "ab" */
                 "05" X32("05") "09" "02"                     /* … missing */
                 "00"                                         /* have_local */
                 "00"                                         /* fingerprint */
                 "4001" "62"                                  /* x, after "ab" */
                 "2001" "02"                                  /* y: 02, zeros */
                 X32("33"));
    /* clang-format on */
    docs_reply_fini(&reply);
}

/* --- The same in both encodings --- */

static void random_id(struct random *r, struct buf *out)
{
    buf_clear(out);
    assert_int_equal(buf_append(out, world_namespace.bytes, ID_BYTES), HKV_OK);
    size_t len = random_below(r, 3) == 0 ? 0 : random_below(r, 200);
    for (size_t i = 0; i < ID_BYTES + len; i++)
        assert_int_equal(buf_append_byte(out, random_below(r, 20) == 0 ? 1 : 0), HKV_OK);
    if (random_below(r, 10) == 0) memset(out->data, (int)random_below(r, 2) * 0xff, ID_BYTES);
}

/* Adds the same random part to both. */
static void random_part(struct random *r, struct docs_reply *one, struct docs_reply *other)
{
    struct buf x = {0}, y = {0}, id = {0};
    struct fingerprint fp;
    random_fill(r, fp.bytes, ID_BYTES);
    random_id(r, &x);
    random_id(r, &y);
    struct docs_range range = {buf_slice(&x), buf_slice(&y)};
    if (random_below(r, 2) == 0) {
        assert_int_equal(docs_reply_fingerprint(one, range, &fp), HKV_OK);
        assert_int_equal(docs_reply_fingerprint(other, range, &fp), HKV_OK);
    } else {
        bool have_local = random_below(r, 2) == 0;
        for (size_t n = random_below(r, 5); n > 0; n--) {
            random_id(r, &id);
            struct entry e = world_entry(0, slice_part(buf_slice(&id), ENTRY_ID_MIN, SIZE_MAX), random_u64(r), 7);
            memcpy(e.author.bytes, id.data + ID_BYTES, ID_BYTES);
            bool has_content = random_below(r, 2) == 0;
            assert_int_equal(docs_reply_value(one, &e, has_content), HKV_OK);
            assert_int_equal(docs_reply_value(other, &e, has_content), HKV_OK);
        }
        assert_int_equal(docs_reply_item(one, range, have_local), HKV_OK);
        assert_int_equal(docs_reply_item(other, range, have_local), HKV_OK);
    }
    buf_fini(&x);
    buf_fini(&y);
    buf_fini(&id);
}

/* The parts of a reply after a way over the wire in random pieces: the whole batch. */
static struct docs_batch *carry(struct random *r, const struct docs_reply *reply)
{
    struct docs_decoder d;
    struct docs_decoded decoded = {0};
    struct docs_batch *batch = NULL;
    struct buf frame = {0};
    assert_int_equal(docs_write_sync(&frame, reply->part_count, buf_slice(&reply->parts)), HKV_OK);
    docs_decoder_init(&d);
    d.namespace = world_namespace;
    d.encoding = reply->encoding;
    for (size_t at = 0; at < frame.len;) {
        size_t len = 1 + random_below(r, 90);
        assert_int_equal(docs_decoder_feed(&d, slice_part(buf_slice(&frame), at, len)), HKV_OK);
        at += len;
        do {
            assert_int_equal(docs_decoder_next(&d, &decoded), HKV_OK);
            if (decoded.kind == DOCS_DECODED_BATCH) batch = decoded.batch;
        } while (decoded.kind != DOCS_DECODED_NOTHING);
    }
    assert_true(docs_decoder_is_between_frames(&d));
    docs_decoder_fini(&d);
    buf_fini(&frame);
    assert_non_null(batch);
    return batch;
}

static void assert_same_batch(const struct docs_batch *a, const struct docs_batch *b)
{
    assert_int_equal(a->part_count, b->part_count);
    assert_int_equal(a->value_count, b->value_count);
    for (size_t i = 0; i < a->part_count; i++) {
        const struct docs_part *p = &a->parts[i], *q = &b->parts[i];
        assert_int_equal(p->kind, q->kind);
        assert_true(slice_equal(p->range.x, q->range.x) && slice_equal(p->range.y, q->range.y));
        assert_true(fingerprint_equal(&p->fingerprint, &q->fingerprint));
        assert_true(p->first == q->first && p->count == q->count && p->have_local == q->have_local);
    }
    for (size_t i = 0; i < a->value_count; i++) {
        const struct docs_value *v = &a->values[i], *w = &b->values[i];
        assert_true(namespace_id_equal(&v->entry.namespace, &w->entry.namespace));
        assert_true(author_id_equal(&v->entry.author, &w->entry.author));
        assert_true(slice_equal(v->entry.key, w->entry.key));
        assert_int_equal(record_compare(&v->entry.record, &w->entry.record), 0);
        assert_int_equal(v->entry.record.length_bytes, w->entry.record.length_bytes);
        assert_memory_equal(&v->entry.author_signature, &w->entry.author_signature, SIGNATURE_BYTES);
        assert_memory_equal(&v->entry.namespace_signature, &w->entry.namespace_signature, SIGNATURE_BYTES);
        assert_true(v->state == w->state && v->provides_content == w->provides_content);
    }
}

static void both_encodings_say_the_same(void **state)
{
    (void)state;
    static const struct docs_frame_limits limits = {1000, 1000, 1000000};
    struct random r = random_start("both encodings");
    for (int round = 0; round < 300; round++) {
        struct docs_reply plain, compact;
        docs_reply_init(&plain, &limits, 1);
        docs_reply_init(&compact, &limits, 1);
        compact.encoding = DOCS_ENCODING_COMPACT;
        compact.front.namespace = world_namespace;
        for (int frame = 0; frame < 2; frame++) { /* the second starts anew */
            for (size_t n = 1 + random_below(&r, 20); n > 0; n--) random_part(&r, &plain, &compact);
            struct docs_batch *a = carry(&r, &plain), *b = carry(&r, &compact);
            assert_same_batch(a, b);
            docs_batch_free(a);
            docs_batch_free(b);
            docs_reply_clear(&plain);
            docs_reply_clear(&compact);
        }
        docs_reply_fini(&plain);
        docs_reply_fini(&compact);
    }
}

/* --- Peers that break the rules --- */

/* An item over everything with one value whose id is this. */
#define ITEM_OF_ONE(id)                                                                                                \
    "000000d8"                                                                                                         \
    "00" NAMESPACE_HEX "01"                                                                                            \
    "01"                                                                                                               \
    "2000"                                                                                                             \
    "4000"                                                                                                             \
    "01" SIGNATURES_HEX id "00" EMPTY_HEX STAMP_HEX "02"

static const struct breach {
    const char *name, *why, *bytes;
} breaches[] = {
    {"more shared than there is at the start", "shares 65 bytes with one that has 64",
     "00000077"
     "00" NAMESPACE_HEX "01"
     "00"
     "4100"
     "4000" EMPTY_HEX},
    {"more shared than the bound before has", "shares 65 bytes with one that has 64",
     "00000077"
     "00" NAMESPACE_HEX "01"
     "00"
     "2000"
     "4100" EMPTY_HEX},
    {"more shared than the bound before has, less than one before that", "shares 70 bytes with one that has 64",
     "0000009c"
     "00" NAMESPACE_HEX "02"
     "00" ID_FIRST "2000" FP_HEX "00"
     "4600"
     "4000" FP_HEX},
    {"shares more than any id has", "65601",
     "00000077"
     "00" NAMESPACE_HEX "01"
     "00"
     "c1800400"},
    {"a rest longer than any id", "65601",
     "000100c5"
     "00" NAMESPACE_HEX "01"
     "00"
     "00c18004"},
    {"shares 2^64 - 1 bytes", "18446744073709551615",
     "00000077"
     "00" NAMESPACE_HEX "01"
     "00"
     "ffffffffffffffffff0100"},
    {"more shared than the end of the range has", "shares 65 bytes with one that has 64", ITEM_OF_ONE("4100")},
    {"an id of a namespace only", "id has 32 bytes", ITEM_OF_ONE("2000")},
    {"an id of 63 bytes", "id has 63 bytes", ITEM_OF_ONE("3f00")},
    {"an id of no bytes", "id has 0 bytes", ITEM_OF_ONE("0000")},
    {"a rest that reaches over the frame's end", "the bytes end inside",
     "00000028"
     "00" NAMESPACE_HEX "01"
     "00"
     "2010" AUTHOR_HEX},
    {"more parts than bytes", "32 parts do not fit",
     "00000047"
     "00" NAMESPACE_HEX "20"
     "00"
     "0000"
     "4000" EMPTY_HEX},
    {"more entries than bytes", "5 entries do not fit",
     "00000200"
     "00" NAMESPACE_HEX "01"
     "01"
     "2000"
     "4000"
     "05" SIGNATURES_HEX},
    {"ids with their length as iroh writes them", "at most 65600 is allowed",
     "000000e5"
     "00" NAMESPACE_HEX "01"
     "00"
     "50" NAMESPACE_HEX AUTHOR_HEX KEY_HEX "50" NAMESPACE_HEX AUTHOR_HEX KEY_HEX FP_HEX},
};

static void a_peer_that_breaks_the_protocol_is_dropped(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof breaches / sizeof breaches[0]; i++) {
        struct array_replica a;
        struct world_peer p;
        vector_replica(&a, true);
        world_peer_init(&p, DOCS_ACCEPTOR, &a, config());
        print_message("%s\n", breaches[i].name);
        feed_hex(&p, breaches[i].bytes);
        assert_true(p.ended);
        assert_int_equal(p.session.outcome.err, HKV_E_PEER_PROTOCOL);
        if (strstr(p.session.outcome.why.text, breaches[i].why) == NULL) fail_msg("%s", p.session.outcome.why.text);
        world_peer_fini(&p);
        array_replica_fini(&a);
    }
}

/* A value whose id is `id_hex` and then `more` bytes of `fill`. */
static void append_value(struct buf *out, const char *id_hex, size_t more, uint8_t fill)
{
    append_hex(out, SIGNATURES_HEX);
    append_hex(out, id_hex);
    for (; more > 0; more--) assert_int_equal(buf_append_byte(out, fill), HKV_OK);
    append_hex(out, "00" EMPTY_HEX STAMP_HEX "02");
}

static void an_id_may_not_grow_beyond_the_longest(void **state)
{
    (void)state;
    struct front_case {
        const char *id;
        enum hkv_err err;
    } cases[] = {{"c08004"
                  "00",
                  HKV_OK},
                 {"c08004"
                  "0107",
                  HKV_E_PEER_PROTOCOL}};
    for (size_t i = 0; i < 2; i++) {
        struct docs_front f = {.namespace = world_namespace};
        struct docs_front_id id;
        struct buf wire = {0}, longest = {0};
        for (int n = 0; n < ENTRY_ID_MAX; n++) assert_int_equal(buf_append_byte(&longest, 7), HKV_OK);
        assert_int_equal(docs_front_take_bound(&f, (struct docs_front_id){0, buf_slice(&longest)}), HKV_OK);
        append_hex(&wire, cases[i].id);
        struct postcard_reader r = postcard_reader_of(buf_slice(&wire));
        assert_int_equal(docs_front_read(&r, &id), HKV_OK);
        assert_int_equal(docs_front_take_id(&f, id), cases[i].err);
        buf_fini(&wire);
        buf_fini(&longest);
        docs_front_fini(&f);
    }
}

/* 41 bytes of the wire that stand for two bounds of 64 KiB each count as what they stand for. */
static void long_bounds_in_few_bytes_meet_the_limit(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    struct buf parts = {0}, frame = {0};
    vector_replica(&a, true);
    append_hex(&parts, "00"
                       "20a08004");
    for (int n = 0; n < ENTRY_ID_MAX - ID_BYTES; n++) assert_int_equal(buf_append_byte(&parts, 7), HKV_OK);
    append_hex(&parts, "c0800400" FP_HEX);
    for (int n = 1; n < 70; n++)
        append_hex(&parts, "00"
                           "c0800400"
                           "c0800400" FP_HEX);
    assert_int_equal(docs_write_init(&frame, &a.namespace, 70, buf_slice(&parts)), HKV_OK);
    assert_true(frame.len < 100000);
    world_peer_init(&p, DOCS_ACCEPTOR, &a, config());
    world_peer_feed(&p, buf_slice(&frame), false);
    world_peer_settle(&p);
    assert_true(p.ended);
    assert_int_equal(p.session.outcome.err, HKV_E_PEER_PROTOCOL);
    assert_non_null(strstr(p.session.outcome.why.text, "ranges of one message"));
    world_peer_fini(&p);
    array_replica_fini(&a);
    buf_fini(&parts);
    buf_fini(&frame);
}

/* Values of 180 bytes on the wire that have ids of 64 KiB fill batches by what they stand for. */
static void long_ids_in_few_bytes_stay_in_small_batches(void **state)
{
    (void)state;
    struct docs_decoder d;
    struct docs_decoded decoded;
    struct buf parts = {0}, frame = {0};
    size_t batches = 0, values = 0;
    append_hex(&parts, "01"
                       "2000"
                       "4000"
                       "c801"); /* 200 values */
    append_value(&parts, "20a08004", ENTRY_ID_MAX - ID_BYTES, 7);
    for (int n = 1; n < 200; n++) append_value(&parts, n % 2 == 0 ? "bf80040107" : "bf80040108", 0, 0);
    append_hex(&parts, "01");
    assert_int_equal(docs_write_sync(&frame, 1, buf_slice(&parts)), HKV_OK);
    assert_true(frame.len < 65536 + 200 * 190);
    docs_decoder_init(&d);
    d.encoding = DOCS_ENCODING_COMPACT;
    assert_int_equal(docs_decoder_feed(&d, buf_slice(&frame)), HKV_OK);
    for (;;) {
        assert_int_equal(docs_decoder_next(&d, &decoded), HKV_OK);
        if (decoded.kind == DOCS_DECODED_NOTHING) break;
        if (decoded.kind != DOCS_DECODED_BATCH) continue;
        assert_true(decoded.batch->bytes.len <= DOCS_BATCH_BYTES_MAX + ENTRY_ID_MAX);
        batches++;
        values += decoded.batch->value_count;
        docs_batch_free(decoded.batch);
    }
    assert_int_equal(values, 200);
    assert_true(batches >= 200 * 65536 / (DOCS_BATCH_BYTES_MAX + ENTRY_ID_MAX));
    docs_decoder_fini(&d);
    buf_fini(&parts);
    buf_fini(&frame);
}

/* 120 kB of the wire stand for 20 MB of keys; a session whose workers stand still decodes a few of them. */
static void a_session_holds_few_long_ids(void **state)
{
    (void)state;
    struct array_replica a;
    struct world_peer p;
    struct buf parts = {0}, frame = {0};
    size_t held = 0;
    vector_replica(&a, false);
    append_hex(&parts, "01"
                       "2000"
                       "4000"
                       "ac02"); /* 300 values */
    append_value(&parts, "20a08004", ENTRY_ID_MAX - ID_BYTES, 7);
    for (int n = 1; n < 300; n++) append_value(&parts, n % 2 == 0 ? "bf80040107" : "bf80040108", 0, 0);
    append_hex(&parts, "01");
    assert_int_equal(docs_write_sync(&frame, 1, buf_slice(&parts)), HKV_OK);
    world_peer_init(&p, DOCS_DIALLER, &a, config());
    world_peer_settle(&p);
    world_peer_feed(&p, buf_slice(&frame), false);
    assert_int_equal(p.hand_count, DOCS_BATCHES_MAX);
    for (size_t i = 0; i < p.hand_count; i++) held += p.hands[i]->bytes.len;
    assert_true(held <= 4 << 20);
    world_peer_fini(&p);
    array_replica_fini(&a);
    buf_fini(&parts);
    buf_fini(&frame);
}

/* A reply's bytes are counted as they will be sent: twice as many short neighbours fit as in iroh's encoding. */
static void a_frame_is_full_by_the_bytes_that_are_sent(void **state)
{
    (void)state;
    static const struct docs_frame_limits limits = {1000, 1000, 20000};
    size_t fitted[2], bytes[2];
    for (int compact = 0; compact < 2; compact++) {
        struct docs_reply reply;
        char key[128];
        docs_reply_init(&reply, &limits, 1);
        reply.encoding = compact ? DOCS_ENCODING_COMPACT : DOCS_ENCODING_IROH;
        reply.front.namespace = world_namespace;
        size_t n = 0;
        for (; docs_reply_has_room(&reply, 1, 1); n++) {
            int len = snprintf(key, sizeof key, "%0100zu", n);
            struct entry e = world_entry(1, slice_of(key, (size_t)len), 5, 3);
            assert_int_equal(docs_reply_value(&reply, &e, false), HKV_OK);
        }
        uint8_t x[ENTRY_ID_MIN] = {0};
        struct slice bound = slice_of(x, sizeof x);
        assert_int_equal(docs_reply_item(&reply, (struct docs_range){bound, bound}, true), HKV_OK);
        fitted[compact] = n;
        bytes[compact] = reply.parts.len;
        docs_reply_fini(&reply);
    }
    assert_in_range(bytes[0], limits.bytes, limits.bytes + 500);
    assert_in_range(bytes[1], limits.bytes, limits.bytes + 500);
    assert_true(fitted[1] > 3 * fitted[0] / 2);
}

/* --- Few bytes --- */

enum difference {
    ONLY_ACCEPTOR_HAS,
    ONLY_DIALLER_HAS,
    NEWER_AT_ACCEPTOR,
};

/* 100,000 entries with 64-byte keys of one author; ten far apart differ. Returns the bytes of both directions. */
static size_t bytes_for_ten(enum difference difference, enum docs_encoding encoding)
{
    enum { COUNT = 100000, APART = COUNT / 10, KEY_BYTES = 64 };
    struct array_replica a, b;
    struct world_peer p, q;
    struct docs_config c = docs_config_default(1);
    docs_config_set_encoding(&c, encoding);
    array_replica_init(&a);
    array_replica_init(&b);
    a.now_us = b.now_us = UINT64_MAX / 2;
    for (size_t i = 0; i < COUNT; i++) {
        char key[KEY_BYTES + 1];
        memset(key, 'k', sizeof key);
        int len = snprintf(key, sizeof key, "entries/%08zu", i);
        key[len] = 'k';
        uint64_t stamp = 1700000000000000 + i * 1000;
        bool differs = i % APART == 3000 + 617 * (i / APART);
        struct entry e = world_entry(1, slice_of(key, KEY_BYTES), stamp, 200);
        if (!differs || difference != ONLY_ACCEPTOR_HAS) array_replica_append(&a, &e);
        if (differs && difference == NEWER_AT_ACCEPTOR) e = world_entry(1, slice_of(key, KEY_BYTES), stamp + 1, 201);
        if (!differs || difference != ONLY_DIALLER_HAS) array_replica_append(&b, &e);
    }
    assert_int_equal(a.count, difference == ONLY_ACCEPTOR_HAS ? COUNT - 10 : COUNT);
    world_peer_init(&p, DOCS_DIALLER, &a, &c);
    world_peer_init(&q, DOCS_ACCEPTOR, &b, &c);
    world_run(&p, &q, &(struct world_options){0});
    assert_int_equal(p.session.outcome.err, HKV_OK);
    assert_int_equal(q.session.outcome.err, HKV_OK);
    assert_true(array_replica_equal(&a, &b));
    size_t bytes = p.log.len + q.log.len;
    print_message("%zu bytes in %llu frames\n", bytes,
                  (unsigned long long)(p.session.outcome.frames_sent + q.session.outcome.frames_sent));
    world_peer_fini(&p);
    world_peer_fini(&q);
    array_replica_fini(&a);
    array_replica_fini(&b);
    return bytes;
}

static void ten_differences_in_a_hundred_thousand_take_few_bytes(void **state)
{
    (void)state;
    assert_true(bytes_for_ten(ONLY_ACCEPTOR_HAS, DOCS_ENCODING_COMPACT) <= 18000);
    assert_true(bytes_for_ten(ONLY_DIALLER_HAS, DOCS_ENCODING_COMPACT) <= 18000);
    size_t compact = bytes_for_ten(NEWER_AT_ACCEPTOR, DOCS_ENCODING_COMPACT);
    assert_true(compact <= 18000);
    assert_true(3 * compact < bytes_for_ten(NEWER_AT_ACCEPTOR, DOCS_ENCODING_IROH));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dialler_speaks_as_worked_out),
        cmocka_unit_test(an_acceptor_answers_as_worked_out),
        cmocka_unit_test(the_encoding_is_set_on_what_was_made_before),
        cmocka_unit_test(ids_follow_one_another_through_a_frame),
        cmocka_unit_test(both_encodings_say_the_same),
        cmocka_unit_test(a_peer_that_breaks_the_protocol_is_dropped),
        cmocka_unit_test(an_id_may_not_grow_beyond_the_longest),
        cmocka_unit_test(long_bounds_in_few_bytes_meet_the_limit),
        cmocka_unit_test(long_ids_in_few_bytes_stay_in_small_batches),
        cmocka_unit_test(a_session_holds_few_long_ids),
        cmocka_unit_test(a_frame_is_full_by_the_bytes_that_are_sent),
        cmocka_unit_test(ten_differences_in_a_hundred_thousand_take_few_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
