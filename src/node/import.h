/* From a value in memory or a file descriptor to a content: prefix, hash, and above KV_VALUE_INLINE_MAX a sealed value
 * file with its outboard. Memory stays bounded: one block, and 64 bytes for every 16 KiB. On the caller's thread. */
#ifndef HKV_NODE_IMPORT_H
#define HKV_NODE_IMPORT_H

#include "kv/kv.h"

struct import_result {
    struct buf content;   /* the whole content when it is small */
    struct kv_file *file; /* else */
    uint64_t length;      /* of the content */
    struct hash hash;
    struct kv_content parsed;
};

/* The first bytes of the content `prefix` ‖ `value`, gathered in `head`: what kv_content_parse() needs. */
struct slice import_head(struct slice prefix, struct slice value, uint8_t head[KV_CONTENT_HEAD_BYTES]);

/* A large content given in parts. Errors: HKV_E_DISK, HKV_E_DISK_FULL, HKV_E_NOMEM. */
HKV_CHECK enum hkv_err import_memory(struct kv *kv, const struct slice *parts, size_t part_count, struct kv_file **file,
                                     struct hash *hash);

/* Reads a value of `length` bytes (UINT64_MAX: up to the end) of at most `max_bytes`.
 * Errors: HKV_E_INVALID (reading fails, or it ends early), HKV_E_VALUE_TOO_LARGE, those of import_memory. */
HKV_CHECK enum hkv_err import_fd(struct kv *kv, int fd, uint64_t length, uint64_t max_bytes, uint64_t expires_us,
                                 struct import_result *out);

#endif
