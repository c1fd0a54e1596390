#include "node/import.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "crypto/bao.h"
#include "crypto/blake3.h"

#define BLOCK_BYTES ((size_t)256 * 1024)

/* A value file on its way: bytes go to the file and into the tree at once. */
struct importer {
    struct kv_file *file;
    struct bao_builder builder;
    uint64_t length;
};

static enum hkv_err importer_write(struct importer *im, struct slice bytes)
{
    TRY(kv_file_write(im->file, im->length, bytes));
    im->length += bytes.len;
    return bao_builder_update(&im->builder, bytes);
}

static enum hkv_err importer_seal(struct importer *im, struct hash *hash)
{
    struct buf outboard = {0};
    enum hkv_err err = bao_builder_finish(&im->builder, hash, &outboard);
    if (err == HKV_OK) err = kv_file_seal(im->file, hash, im->length, &outboard);
    buf_fini(&outboard);
    return err;
}

/* Releases what is left; the file stays with the caller when `*file` is asked for and `err` is HKV_OK. */
static enum hkv_err importer_end(struct importer *im, enum hkv_err err, struct kv_file **file)
{
    bao_builder_fini(&im->builder);
    if (err == HKV_OK) {
        *file = im->file;
    } else {
        kv_file_free(im->file);
    }
    return err;
}

struct slice import_head(struct slice prefix, struct slice value, uint8_t head[KV_CONTENT_HEAD_BYTES])
{
    size_t from_prefix = prefix.len < KV_CONTENT_HEAD_BYTES ? prefix.len : KV_CONTENT_HEAD_BYTES;
    size_t room = KV_CONTENT_HEAD_BYTES - from_prefix;
    size_t from_value = value.len < room ? value.len : room;
    if (from_prefix > 0) memcpy(head, prefix.data, from_prefix);
    if (from_value > 0) memcpy(head + from_prefix, value.data, from_value);
    return slice_of(head, from_prefix + from_value);
}

enum hkv_err import_memory(struct kv *kv, const struct slice *parts, size_t part_count, struct kv_file **file,
                           struct hash *hash)
{
    struct importer im = {0};
    TRY(kv_file_create(kv, &im.file));
    bao_builder_init(&im.builder);
    enum hkv_err err = HKV_OK;
    for (size_t i = 0; err == HKV_OK && i < part_count; i++) err = importer_write(&im, parts[i]);
    if (err == HKV_OK) err = importer_seal(&im, hash);
    return importer_end(&im, err, file);
}

/* Fills `block` as far as there are bytes, at most `wanted` of them. */
static enum hkv_err read_block(int fd, struct buf *block, size_t wanted)
{
    TRY(buf_reserve(block, wanted));
    while (block->len < wanted) {
        ssize_t n = read(fd, block->data + block->len, wanted - block->len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return error_set(HKV_E_INVALID, "the given descriptor cannot be read: %s", strerror(errno));
        if (n == 0) break;
        block->len += (size_t)n;
    }
    return HKV_OK;
}

struct source {
    int fd;
    uint64_t wanted; /* UINT64_MAX: up to the end */
    uint64_t taken;
    uint64_t max_bytes;
};

/* The next block; an empty one at the end. */
static enum hkv_err source_next(struct source *source, struct buf *block)
{
    uint64_t left = source->wanted - source->taken;
    size_t len = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
    buf_clear(block);
    TRY(read_block(source->fd, block, len));
    source->taken += block->len;
    if (source->wanted != UINT64_MAX && block->len < len)
        return error_set(HKV_E_INVALID, "the given descriptor ended after %llu of %llu bytes",
                         (unsigned long long)source->taken, (unsigned long long)source->wanted);
    if (source->taken > source->max_bytes)
        return error_set(HKV_E_VALUE_TOO_LARGE,
                         "the value has more than %llu bytes, the limit of this store (max_value_bytes)",
                         (unsigned long long)source->max_bytes);
    return HKV_OK;
}

static enum hkv_err import_large(struct kv *kv, struct source *source, struct slice prefix, struct buf *block,
                                 struct import_result *out)
{
    struct importer im = {0};
    TRY(kv_file_create(kv, &im.file));
    bao_builder_init(&im.builder);
    enum hkv_err err = importer_write(&im, prefix);
    while (err == HKV_OK && block->len > 0) {
        err = importer_write(&im, buf_slice(block));
        if (err == HKV_OK) err = source_next(source, block);
    }
    if (err == HKV_OK) err = importer_seal(&im, &out->hash);
    out->length = im.length;
    return importer_end(&im, err, &out->file);
}

/* `content` holds the prefix already. */
static enum hkv_err import_small(const struct buf *block, struct import_result *out)
{
    TRY(buf_append_slice(&out->content, buf_slice(block)));
    out->length = out->content.len;
    blake3_hash(buf_slice(&out->content), &out->hash);
    return HKV_OK;
}

enum hkv_err import_fd(struct kv *kv, int fd, uint64_t length, uint64_t max_bytes, uint64_t expires_us,
                       struct import_result *out)
{
    struct source source = {.fd = fd, .wanted = length, .max_bytes = max_bytes};
    struct buf block = {0};
    uint8_t head_bytes[KV_CONTENT_HEAD_BYTES];
    struct slice head = {0};
    *out = (struct import_result){0};
    enum hkv_err err = source_next(&source, &block);
    if (err == HKV_OK) err = kv_content_prefix(buf_slice(&block), block.len, expires_us, &out->content);
    if (err == HKV_OK) {
        head = import_head(buf_slice(&out->content), buf_slice(&block), head_bytes);
        if (out->content.len + block.len <= KV_VALUE_INLINE_MAX) {
            err = import_small(&block, out);
        } else {
            err = import_large(kv, &source, buf_slice(&out->content), &block, out);
            buf_fini(&out->content);
        }
    }
    if (err == HKV_OK) kv_content_parse(head, out->length, &out->parsed);
    if (err != HKV_OK) buf_fini(&out->content);
    buf_fini(&block);
    return err;
}
