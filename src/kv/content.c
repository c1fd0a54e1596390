/* Document keys and contents as bytes (formats.md 1). */
#include "base/text.h"
#include "kv/kv.h"

#define MARK_BYTES   4
#define FORM_BYTES   5                /* mark and form */
#define EXPIRY_BYTES (FORM_BYTES + 8) /* mark, form, stamp */
#define KEY_MAX      1024

enum form { FORM_TOMBSTONE, FORM_EMPTY, FORM_EXPIRING, FORM_ESCAPED };

static const uint8_t mark[MARK_BYTES] = {0xf1, 0x68, 0x6b, 0x76};

const uint8_t kv_tombstone_content[5] = {0xf1, 0x68, 0x6b, 0x76, FORM_TOMBSTONE};

const struct hash kv_tombstone_hash = {{0x18, 0x3d, 0x0b, 0xd8, 0xba, 0x09, 0x6e, 0xd4, 0xb8, 0x8a, 0x62,
                                        0xd8, 0xe2, 0x4d, 0xb4, 0xbc, 0xaa, 0xf6, 0x7a, 0xf7, 0x28, 0xac,
                                        0x81, 0xb5, 0x2e, 0x16, 0x21, 0x61, 0x0d, 0xef, 0xb8, 0xb7}};

const struct hash kv_empty_value_hash = {{0x89, 0x74, 0x49, 0x7e, 0xc5, 0xaf, 0xfd, 0xd0, 0x9b, 0xa3, 0xc0,
                                          0xb8, 0x7b, 0x24, 0xb8, 0xe3, 0xac, 0x73, 0xc1, 0xca, 0xa3, 0x46,
                                          0x81, 0x84, 0x0b, 0x9d, 0xfa, 0x40, 0x5b, 0x3d, 0xae, 0x4d}};

static bool is_marked(struct slice head)
{
    return slice_starts_with(head, slice_of(mark, MARK_BYTES));
}

void kv_content_parse(struct slice head, uint64_t length, struct kv_content *out)
{
    *out = (struct kv_content){.kind = KV_VALUE};
    if (length == 0) {
        out->kind = KV_TOMBSTONE; /* iroh-docs' empty entry */
        return;
    }
    if (!is_marked(head)) return;
    out->kind = KV_UNREADABLE;
    if (length < FORM_BYTES || head.len < FORM_BYTES) return;
    out->skip = FORM_BYTES;
    switch (head.data[MARK_BYTES]) {
    case FORM_TOMBSTONE:
        if (length == FORM_BYTES) out->kind = KV_TOMBSTONE;
        break;
    case FORM_EMPTY:
        if (length == FORM_BYTES) out->kind = KV_VALUE;
        break;
    case FORM_EXPIRING:
        if (length < EXPIRY_BYTES || head.len < EXPIRY_BYTES) break;
        out->kind = KV_VALUE;
        out->skip = EXPIRY_BYTES;
        out->expires_us = be64_load(head.data + FORM_BYTES);
        /* Stamps are stored as signed numbers; the end of those is the year 294247. A stamp of 0 expired long ago. */
        if (out->expires_us > INT64_MAX) out->expires_us = INT64_MAX;
        if (out->expires_us == 0) out->expires_us = 1;
        break;
    case FORM_ESCAPED:
        if (length >= FORM_BYTES + MARK_BYTES) out->kind = KV_VALUE;
        break;
    default:
        break;
    }
    if (out->kind == KV_UNREADABLE) out->skip = 0;
}

static enum hkv_err append_form(struct buf *out, enum form form)
{
    TRY(buf_append(out, mark, MARK_BYTES));
    return buf_append_byte(out, (uint8_t)form);
}

enum hkv_err kv_content_prefix(struct slice head, uint64_t value_length, uint64_t expires_us, struct buf *out)
{
    if (expires_us) {
        uint8_t stamp[8];
        be64_store(stamp, expires_us);
        TRY(append_form(out, FORM_EXPIRING));
        return buf_append(out, stamp, sizeof stamp);
    }
    if (value_length == 0) return append_form(out, FORM_EMPTY);
    return is_marked(head) ? append_form(out, FORM_ESCAPED) : HKV_OK;
}

enum hkv_err kv_key_check(struct slice key)
{
    if (key.len == 0) return error_set(HKV_E_KEY, "the key is empty; a key has 1 to %d bytes", KEY_MAX);
    if (key.len > KEY_MAX) return error_set(HKV_E_KEY, "the key has %zu bytes; a key has at most %d", key.len, KEY_MAX);
    const uint8_t *nul = memchr(key.data, 0, key.len);
    if (nul) return error_set(HKV_E_KEY, "the key has a NUL at byte %zu; a key has none", (size_t)(nul - key.data));
    if (!utf8_is_valid(key)) return error_set(HKV_E_KEY, "the key is not UTF-8; a key is");
    return HKV_OK;
}

enum hkv_err kv_key_encode(struct slice key, struct buf *out)
{
    TRY(buf_append_slice(out, key));
    return buf_append_byte(out, 0);
}

enum hkv_err kv_system_key_encode(const char *name, struct buf *out)
{
    TRY(buf_append_byte(out, 0));
    return kv_key_encode(slice_of_text(name), out);
}

static bool is_ascii(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] == 0 || s.data[i] >= 0x80) return false;
    return true;
}

enum kv_key_class kv_key_classify(struct slice document_key, struct slice *name)
{
    size_t len = document_key.len;
    *name = (struct slice){0};
    if (len < 2 || document_key.data[len - 1] != 0) return KV_KEY_FOREIGN;
    if (document_key.data[0] == 0) {
        struct slice record = slice_part(document_key, 1, len - 2);
        if (record.len == 0 || record.len > KEY_MAX || !is_ascii(record)) return KV_KEY_FOREIGN;
        *name = record;
        return KV_KEY_SYSTEM;
    }
    struct slice key = slice_part(document_key, 0, len - 1);
    if (key.len > KEY_MAX || memchr(key.data, 0, key.len) || !utf8_is_valid(key)) return KV_KEY_FOREIGN;
    *name = key;
    return KV_KEY_USER;
}
