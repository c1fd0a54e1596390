#include "docs/front.h"

#include <assert.h>

static const uint8_t zeros[ENTRY_ID_MIN];

void docs_front_fini(struct docs_front *f)
{
    buf_fini(&f->last);
}

/* What stands before the first id of a frame. */
static enum hkv_err begin(struct docs_front *f)
{
    if (f->last.len > 0) return HKV_OK;
    TRY(buf_append(&f->last, f->namespace.bytes, ID_BYTES));
    return buf_append(&f->last, zeros, ENTRY_ID_MIN - ID_BYTES);
}

static size_t shared_bytes(struct slice a, struct slice b)
{
    size_t len = a.len < b.len ? a.len : b.len, n = 0;
    while (n < len && a.data[n] == b.data[n]) n++;
    return n;
}

/* Writes the id; of its bytes from `end` on, zeros, none but those shared anyway. */
static enum hkv_err write_up_to(struct docs_front *f, struct slice id, size_t end, struct buf *out)
{
    assert(id.len >= ENTRY_ID_MIN);
    TRY(begin(f));
    size_t shared = shared_bytes(buf_slice(&f->last), id);
    TRY(postcard_write_varint(out, shared));
    TRY(postcard_write_bytes(out, slice_part(id, shared, end > shared ? end - shared : 0)));
    f->last.len = shared;
    return buf_append_slice(&f->last, slice_part(id, shared, SIZE_MAX));
}

enum hkv_err docs_front_write_id(struct docs_front *f, struct slice id, struct buf *out)
{
    return write_up_to(f, id, id.len, out);
}

enum hkv_err docs_front_write_bound(struct docs_front *f, struct slice bound, struct buf *out)
{
    size_t end = bound.len;
    while (bound.len == ENTRY_ID_MIN && end > 0 && bound.data[end - 1] == 0) end--;
    return write_up_to(f, bound, end, out);
}

enum hkv_err docs_front_read(struct postcard_reader *r, struct docs_front_id *out)
{
    TRY(postcard_read_length(r, ENTRY_ID_MAX, &out->shared));
    return postcard_read_bytes(r, ENTRY_ID_MAX, &out->rest);
}

static enum hkv_err take(struct docs_front *f, struct docs_front_id id)
{
    TRY(begin(f));
    if (id.shared > f->last.len)
        return error_set(HKV_E_PEER_PROTOCOL, "an id shares %zu bytes with one that has %zu", id.shared, f->last.len);
    if (id.shared + id.rest.len > ENTRY_ID_MAX)
        return error_set(HKV_E_PEER_PROTOCOL, "an id has %zu bytes; at most %d are allowed", id.shared + id.rest.len,
                         ENTRY_ID_MAX);
    f->last.len = id.shared;
    return buf_append_slice(&f->last, id.rest);
}

enum hkv_err docs_front_take_id(struct docs_front *f, struct docs_front_id id)
{
    TRY(take(f, id));
    if (f->last.len >= ENTRY_ID_MIN) return HKV_OK;
    return error_set(HKV_E_PEER_PROTOCOL, "an entry's id has %zu bytes; at least %d are needed", f->last.len,
                     ENTRY_ID_MIN);
}

enum hkv_err docs_front_take_bound(struct docs_front *f, struct docs_front_id bound)
{
    TRY(take(f, bound));
    if (f->last.len >= ENTRY_ID_MIN) return HKV_OK;
    return buf_append(&f->last, zeros, ENTRY_ID_MIN - f->last.len);
}
