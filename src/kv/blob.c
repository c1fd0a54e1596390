/* Reading contents from files, every byte checked against the hash before it is handed out. The tree of hashes that the
 * value's row holds (crypto/bao.h) makes that possible group by group, so a value need not be read twice. */
#include <assert.h>
#include <inttypes.h>

#include "kv/internal.h"

void kv_blob_close(struct kv_blob *blob)
{
    buf_fini(&blob->bytes);
    buf_fini(&blob->outboard);
    if (blob->fd >= 0) files_close_fd(blob->fd);
    blob->fd = -1;
}

enum hkv_err kv_blob_damaged(struct kv *kv, const struct hash *hash, uint64_t file, const char *how)
{
    char name[FILES_NAME_MAX];
    kv_file_name(hash, file, name);
    kv_value_bad(kv, hash);
    return error_set(HKV_E_CORRUPT,
                     "%s/%s: the value %s; its bytes are kept from sight until a peer has sent them again, or the key "
                     "is written anew",
                     kv->blobs_path, name, how);
}

void kv_blob_reader_init(struct kv_blob_reader *r, struct kv *kv, const struct kv_blob *blob)
{
    assert(blob->fd >= 0);
    r->kv = kv;
    r->blob = blob;
    bao_walk_init(&r->walk, &blob->hash, blob->length, bao_ranges_all);
}

static bool check_pair(struct kv_blob_reader *r, const struct bao_item *item)
{
    const struct buf *outboard = &r->blob->outboard;
    assert(item->in_outboard);
    return outboard->len >= BAO_PAIR_BYTES && item->outboard_offset <= outboard->len - BAO_PAIR_BYTES &&
           bao_walk_pair(&r->walk, outboard->data + item->outboard_offset);
}

enum hkv_err kv_blob_reader_next(struct kv_blob_reader *r, struct slice *out)
{
    const struct kv_blob *blob = r->blob;
    struct bao_item item;
    size_t got;
    *out = (struct slice){0};
    bool more = bao_walk_next(&r->walk, &item);
    for (; more && item.kind == BAO_PAIR; more = bao_walk_next(&r->walk, &item))
        if (!check_pair(r, &item))
            return kv_blob_damaged(r->kv, &blob->hash, blob->file, "has not the tree of hashes that belongs to it");
    if (!more) return HKV_OK;
    TRY(files_read_fd(blob->fd, item.chunk * BLAKE3_CHUNK_BYTES, r->group, (size_t)item.bytes, &got));
    if (got < item.bytes) return kv_blob_damaged(r->kv, &blob->hash, blob->file, "is cut short");
    if (!bao_walk_leaf(&r->walk, slice_of(r->group, got)))
        return kv_blob_damaged(r->kv, &blob->hash, blob->file, "is not what was written (wrong hash)");
    *out = slice_of(r->group, got);
    return HKV_OK;
}
