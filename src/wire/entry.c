#include "wire/entry.h"

#include "crypto/blake3.h"
#include "crypto/ed25519.h"

/* Keys up to this length, all of our own among them, are hashed, signed and verified without the heap. */
#define SHORT_KEY_MAX 1088

#define NUMBER_BYTES 8
#define SIGNED_BYTES (ENTRY_ID_MIN + NUMBER_BYTES + ID_BYTES + NUMBER_BYTES) /* without the key */

int record_compare(const struct record *a, const struct record *b)
{
    if (a->stamp_us != b->stamp_us) return a->stamp_us < b->stamp_us ? -1 : 1;
    return ID_COMPARE(&a->hash, &b->hash);
}

bool record_is_empty(const struct record *r)
{
    return hash_equal(&r->hash, &hash_empty);
}

bool record_is_consistent(const struct record *r)
{
    return record_is_empty(r) == (r->length_bytes == 0);
}

/* Writes the id to `out`, which has room for it, and returns its end. */
static uint8_t *id_store(uint8_t *out, const struct entry *e)
{
    memcpy(out, e->namespace.bytes, ID_BYTES);
    memcpy(out + ID_BYTES, e->author.bytes, ID_BYTES);
    if (e->key.len > 0) memcpy(out + ENTRY_ID_MIN, e->key.data, e->key.len);
    return out + ENTRY_ID_MIN + e->key.len;
}

enum hkv_err entry_id_append(const struct entry *e, struct buf *out)
{
    size_t len = ENTRY_ID_MIN + e->key.len;
    TRY(buf_reserve(out, len));
    id_store(out->data + out->len, e);
    out->len += len;
    return HKV_OK;
}

int entry_id_compare(const struct entry *e, struct slice id)
{
    int order = slice_compare(slice_of(e->namespace.bytes, ID_BYTES), slice_part(id, 0, ID_BYTES));
    if (order != 0) return order;
    order = slice_compare(slice_of(e->author.bytes, ID_BYTES), slice_part(id, ID_BYTES, ID_BYTES));
    if (order != 0) return order;
    return slice_compare(e->key, slice_part(id, ENTRY_ID_MIN, SIZE_MAX));
}

/* namespace ‖ author ‖ key ‖ length ‖ hash ‖ stamp, numbers big-endian. */
static void signed_store(uint8_t *out, const struct entry *e)
{
    out = id_store(out, e);
    be64_store(out, e->record.length_bytes);
    memcpy(out + NUMBER_BYTES, e->record.hash.bytes, ID_BYTES);
    be64_store(out + NUMBER_BYTES + ID_BYTES, e->record.stamp_us);
}

enum hkv_err entry_signed_bytes(const struct entry *e, struct buf *out)
{
    size_t len = SIGNED_BYTES + e->key.len;
    TRY(buf_reserve(out, len));
    signed_store(out->data + out->len, e);
    out->len += len;
    return HKV_OK;
}

/* The signed bytes in `room` when they fit, else in `heap`. */
static enum hkv_err signed_view(const struct entry *e, uint8_t room[SIGNED_BYTES + SHORT_KEY_MAX], struct buf *heap,
                                struct slice *out)
{
    if (e->key.len <= SHORT_KEY_MAX) {
        signed_store(room, e);
        *out = slice_of(room, SIGNED_BYTES + e->key.len);
        return HKV_OK;
    }
    TRY(entry_signed_bytes(e, heap));
    *out = buf_slice(heap);
    return HKV_OK;
}

enum hkv_err entry_sign(struct entry *e, const struct secret_key *namespace_secret,
                        const struct secret_key *author_secret)
{
    uint8_t room[SIGNED_BYTES + SHORT_KEY_MAX];
    struct buf heap = {0};
    struct slice message;
    TRY(signed_view(e, room, &heap, &message));
    ed25519_sign(namespace_secret, e->namespace.bytes, message, &e->namespace_signature);
    ed25519_sign(author_secret, e->author.bytes, message, &e->author_signature);
    buf_fini(&heap);
    return HKV_OK;
}

/* The namespace first: who does not hold its secret fails there, after one check and not two. */
enum hkv_err entry_verify(const struct entry *e)
{
    uint8_t room[SIGNED_BYTES + SHORT_KEY_MAX];
    struct buf heap = {0};
    struct slice message;
    TRY(signed_view(e, room, &heap, &message));
    const char *bad = !ed25519_verify(e->namespace.bytes, message, &e->namespace_signature) ? "namespace"
                      : !ed25519_verify(e->author.bytes, message, &e->author_signature)     ? "author"
                                                                                            : NULL;
    buf_fini(&heap);
    if (bad == NULL) return HKV_OK;
    return error_set(HKV_E_BAD_SIGNATURE, "the %s signature of an entry does not verify", bad);
}

void entry_fingerprint(const struct entry *e, struct fingerprint *out)
{
    uint8_t room[ENTRY_ID_MIN + SHORT_KEY_MAX + NUMBER_BYTES + ID_BYTES], tail[NUMBER_BYTES + ID_BYTES];
    struct hash hash;
    be64_store(tail, e->record.stamp_us);
    memcpy(tail + NUMBER_BYTES, e->record.hash.bytes, ID_BYTES);
    if (e->key.len <= SHORT_KEY_MAX) {
        uint8_t *end = id_store(room, e);
        memcpy(end, tail, sizeof tail);
        blake3_hash(slice_of(room, (size_t)(end - room) + sizeof tail), &hash);
    } else {
        struct blake3 state;
        blake3_init(&state);
        blake3_update(&state, slice_of(e->namespace.bytes, ID_BYTES));
        blake3_update(&state, slice_of(e->author.bytes, ID_BYTES));
        blake3_update(&state, e->key);
        blake3_update(&state, slice_of(tail, sizeof tail));
        blake3_final(&state, &hash);
    }
    memcpy(out->bytes, hash.bytes, ID_BYTES);
}

size_t entry_encoded_bytes(const struct entry *e)
{
    size_t id_len = ENTRY_ID_MIN + e->key.len;
    return 2 * SIGNATURE_BYTES + postcard_varint_bytes(id_len) + id_len +
           postcard_varint_bytes(e->record.length_bytes) + ID_BYTES + postcard_varint_bytes(e->record.stamp_us);
}

enum hkv_err entry_encode(const struct entry *e, struct buf *out)
{
    TRY(buf_reserve(out, entry_encoded_bytes(e)));
    uint8_t *at = out->data + out->len;
    memcpy(at, e->author_signature.bytes, SIGNATURE_BYTES);
    memcpy(at + SIGNATURE_BYTES, e->namespace_signature.bytes, SIGNATURE_BYTES);
    at += 2 * SIGNATURE_BYTES;
    uint8_t number[POSTCARD_VARINT_MAX];
    size_t n = postcard_varint_store(number, ENTRY_ID_MIN + e->key.len);
    memcpy(at, number, n);
    at = id_store(at + n, e);
    n = postcard_varint_store(number, e->record.length_bytes);
    memcpy(at, number, n);
    memcpy(at + n, e->record.hash.bytes, ID_BYTES);
    at += n + ID_BYTES;
    n = postcard_varint_store(number, e->record.stamp_us);
    memcpy(at, number, n);
    out->len = (size_t)(at + n - out->data);
    return HKV_OK;
}

enum hkv_err entry_decode(struct postcard_reader *r, struct entry *out)
{
    TRY(postcard_read_raw(r, out->author_signature.bytes, SIGNATURE_BYTES));
    TRY(postcard_read_raw(r, out->namespace_signature.bytes, SIGNATURE_BYTES));
    size_t id_len;
    TRY(postcard_read_length(r, ENTRY_ID_MAX, &id_len));
    if (id_len < ENTRY_ID_MIN)
        return error_set(HKV_E_PEER_PROTOCOL, "an entry's id has %zu bytes; at least %d are needed", id_len,
                         ENTRY_ID_MIN);
    TRY(postcard_read_raw(r, out->namespace.bytes, ID_BYTES));
    TRY(postcard_read_raw(r, out->author.bytes, ID_BYTES));
    TRY(postcard_read_part(r, id_len - ENTRY_ID_MIN, &out->key));
    TRY(postcard_read_u64(r, &out->record.length_bytes));
    TRY(postcard_read_raw(r, out->record.hash.bytes, ID_BYTES));
    return postcard_read_u64(r, &out->record.stamp_us);
}
