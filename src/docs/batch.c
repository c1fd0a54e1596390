#include "docs/batch.h"

#include <assert.h>
#include <stdlib.h>

/* Rooms grow by doubling up to these, so that a session of two entries stays small. */
#define ROOM_MIN 8

struct docs_batch *docs_batch_new(void)
{
    return calloc(1, sizeof(struct docs_batch));
}

void docs_batch_free(struct docs_batch *b)
{
    if (b == NULL) return;
    free(b->values);
    free(b->parts);
    buf_fini(&b->bytes);
    buf_fini(&b->answer.parts);
    buf_fini(&b->answer.pull_x);
    buf_fini(&b->answer.pull_y);
    free(b);
}

static void fail(struct docs_batch *b, enum hkv_err err)
{
    if (b->answer.err != HKV_OK) return;
    b->answer.err = err;
    error_save(&b->answer.why);
}

void docs_batch_verify(struct docs_batch *b, enum hkv_err (*verify)(const struct entry *e))
{
    for (size_t i = 0; i < b->value_count; i++) {
        struct docs_value *value = &b->values[i];
        entry_fingerprint(&value->entry, &value->fingerprint);
        if (value->state != DOCS_VALUE_NEW) continue;
        b->answer.checked++;
        enum hkv_err err = verify(&value->entry);
        if (err == HKV_E_BAD_SIGNATURE)
            value->state = DOCS_VALUE_BAD;
        else if (err != HKV_OK)
            fail(b, err);
    }
}

void docs_batch_screen(struct docs_batch *b, struct docs_replica *replica)
{
    for (size_t i = 0; i < b->value_count; i++) {
        struct docs_value *value = &b->values[i];
        if (value->state != DOCS_VALUE_NEW) continue;
        enum docs_insert would;
        enum hkv_err err = replica->ops->would_insert(replica, &value->entry, &would);
        if (err != HKV_OK) {
            fail(b, err);
            return;
        }
        if (would == DOCS_PRESENT || would == DOCS_OLDER) value->state = DOCS_VALUE_KNOWN;
    }
}

bool docs_batch_has_room(const struct docs_batch *b)
{
    return b->value_count < DOCS_BATCH_VALUES_MAX && b->part_count < DOCS_BATCH_PARTS_MAX &&
           b->bytes.len < DOCS_BATCH_BYTES_MAX;
}

/* Doubles an array that is full; `count` is 0 or a power of two of at least ROOM_MIN exactly when it is. */
static void *grown(void *items, size_t count, size_t item_bytes)
{
    bool is_full = count == 0 || (count >= ROOM_MIN && (count & (count - 1)) == 0);
    if (!is_full) return items;
    return realloc(items, (count == 0 ? ROOM_MIN : 2 * count) * item_bytes);
}

enum hkv_err docs_batch_add_part(struct docs_batch *b, enum docs_part_kind kind, struct docs_range range,
                                 struct docs_part **out)
{
    assert(b->part_count < DOCS_BATCH_PARTS_MAX);
    struct docs_part *parts = grown(b->parts, b->part_count, sizeof *parts);
    if (parts == NULL) return error_set(HKV_E_NOMEM, "no memory for the parts of a message");
    b->parts = parts;
    TRY(buf_reserve(&b->bytes, range.x.len + range.y.len));
    struct docs_part *part = &parts[b->part_count];
    *part = (struct docs_part){.kind = kind, .x_len = range.x.len, .y_len = range.y.len, .first = b->value_count};
    part->x_at = b->bytes.len;
    TRY(buf_append_slice(&b->bytes, range.x));
    part->y_at = b->bytes.len;
    TRY(buf_append_slice(&b->bytes, range.y));
    b->part_count++;
    *out = part;
    return HKV_OK;
}

enum hkv_err docs_batch_add_value(struct docs_batch *b, const struct entry *e, struct docs_value **out)
{
    assert(b->value_count < DOCS_BATCH_VALUES_MAX && b->part_count > 0);
    struct docs_value *values = grown(b->values, b->value_count, sizeof *values);
    if (values == NULL) return error_set(HKV_E_NOMEM, "no memory for the entries of a message");
    b->values = values;
    struct docs_value *value = &values[b->value_count];
    *value = (struct docs_value){.entry = *e, .key_at = b->bytes.len};
    TRY(buf_append_slice(&b->bytes, e->key));
    b->value_count++;
    b->parts[b->part_count - 1].count++;
    *out = value;
    return HKV_OK;
}

void docs_batch_seal(struct docs_batch *b)
{
    for (size_t i = 0; i < b->value_count; i++) {
        struct docs_value *value = &b->values[i];
        value->entry.key = slice_of(b->bytes.data + value->key_at, value->entry.key.len);
    }
    for (size_t i = 0; i < b->part_count; i++) {
        struct docs_part *part = &b->parts[i];
        part->range.x = slice_of(b->bytes.data + part->x_at, part->x_len);
        part->range.y = slice_of(b->bytes.data + part->y_at, part->y_len);
    }
}
