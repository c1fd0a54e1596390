#include "crypto/blake3.h"

#include <assert.h>
#include <stdatomic.h>

#include "crypto/blake3_impl.h"

/* Chunks hashed before their parents are: enough to fill the widest kernel also at the lower levels of parents. */
#define SPAN_CHUNKS 128
#define SPAN_BYTES  ((size_t)SPAN_CHUNKS * BLAKE3_CHUNK_BYTES)

/* ---- levels ---- */

#define LEVEL_UNKNOWN (-1)

static atomic_int level_in_use = LEVEL_UNKNOWN;

bool blake3_level_available(enum blake3_level level)
{
    switch (level) {
    case BLAKE3_LEVEL_PORTABLE:
        return true;
#if defined(__x86_64__)
    case BLAKE3_LEVEL_SSE41:
        return __builtin_cpu_supports("sse4.1") != 0;
    case BLAKE3_LEVEL_AVX2:
        return __builtin_cpu_supports("avx2") != 0;
    case BLAKE3_LEVEL_AVX512:
        return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx2") != 0;
#endif
#if defined(__aarch64__) && defined(__ARM_NEON)
    case BLAKE3_LEVEL_NEON:
        return true;
#endif
    default:
        return false;
    }
}

enum blake3_level blake3_level_get(void)
{
    int level = atomic_load_explicit(&level_in_use, memory_order_relaxed);
    if (level != LEVEL_UNKNOWN) return (enum blake3_level)level;
    level = BLAKE3_LEVEL_NEON;
    while (!blake3_level_available((enum blake3_level)level)) level--;
    atomic_store_explicit(&level_in_use, level, memory_order_relaxed);
    return (enum blake3_level)level;
}

void blake3_level_set(enum blake3_level level)
{
    assert(blake3_level_available(level));
    atomic_store_explicit(&level_in_use, (int)level, memory_order_relaxed);
}

/* The kernel for the next inputs of `left`, and how many it takes. A kernel that is at least about half full beats
 * several rounds of a narrower one. */
static blake3_kernel_fn *kernel_for(size_t left, size_t *lanes)
{
    enum blake3_level level = blake3_level_get();
    (void)level;
#if defined(__x86_64__)
    if (level == BLAKE3_LEVEL_AVX512 && left > 8) {
        *lanes = 16;
        return blake3_kernel_avx512;
    }
    if ((level == BLAKE3_LEVEL_AVX512 || level == BLAKE3_LEVEL_AVX2) && left > 4) {
        *lanes = 8;
        return blake3_kernel_avx2;
    }
    if (level >= BLAKE3_LEVEL_SSE41 && level <= BLAKE3_LEVEL_AVX512 && left > 1) {
        *lanes = 4;
        return blake3_kernel_sse41;
    }
#endif
#if defined(__aarch64__) && defined(__ARM_NEON)
    if (level == BLAKE3_LEVEL_NEON && left > 1) {
        *lanes = 4;
        return blake3_kernel_neon;
    }
#endif
    *lanes = left;
    return blake3_kernel_portable;
}

static void hash_many(const uint8_t *const *inputs, size_t count, struct blake3_batch batch, struct hash *out)
{
    while (count > 0) {
        size_t lanes;
        blake3_kernel_fn *kernel = kernel_for(count, &lanes);
        size_t n = lanes < count ? lanes : count;
        kernel(inputs, n, &batch, out);
        if (batch.count_up) batch.counter += n;
        inputs += n;
        out += n;
        count -= n;
    }
}

/* ---- tree ---- */

/* One chunk, 0 to 1024 bytes. */
static void hash_chunk(struct slice data, uint64_t counter, bool is_root, struct hash *out)
{
    uint32_t cv[8] = BLAKE3_IV;
    unsigned flags = BLAKE3_CHUNK_START;
    while (data.len > BLAKE3_BLOCK_BYTES) {
        blake3_compress(cv, data.data, BLAKE3_BLOCK_BYTES, counter, flags);
        flags = 0;
        data.data += BLAKE3_BLOCK_BYTES;
        data.len -= BLAKE3_BLOCK_BYTES;
    }
    flags |= BLAKE3_CHUNK_END | (is_root ? BLAKE3_ROOT : 0U);
    uint8_t padded[BLAKE3_BLOCK_BYTES] = {0};
    if (data.len > 0 && data.len < BLAKE3_BLOCK_BYTES) memcpy(padded, data.data, data.len);
    blake3_compress(cv, data.len == BLAKE3_BLOCK_BYTES ? data.data : padded, data.len, counter, flags);
    blake3_store_cv(cv, out);
}

void blake3_parent(const struct hash *left, const struct hash *right, bool is_root, struct hash *out)
{
    uint8_t block[BLAKE3_BLOCK_BYTES];
    memcpy(block, left->bytes, ID_BYTES);
    memcpy(block + ID_BYTES, right->bytes, ID_BYTES);
    uint32_t cv[8] = BLAKE3_IV;
    blake3_compress(cv, block, BLAKE3_BLOCK_BYTES, 0, BLAKE3_PARENT | (is_root ? BLAKE3_ROOT : 0U));
    blake3_store_cv(cv, out);
}

/* Replaces `count` neighbours by their parents until `until` (1 or 2) are left; an odd last one moves up unchanged. */
static void fold(struct hash *cvs, size_t count, size_t until)
{
    static const struct blake3_batch parents = {.blocks = 1, .flags = BLAKE3_PARENT};
    while (count > until) {
        const uint8_t *inputs[SPAN_CHUNKS / 2];
        size_t pairs = count / 2;
        if (pairs == 1) {
            blake3_parent(&cvs[0], &cvs[1], false, &cvs[0]);
        } else {
            for (size_t i = 0; i < pairs; i++) inputs[i] = cvs[2 * i].bytes;
            hash_many(inputs, pairs, parents, cvs);
        }
        if (count % 2 == 1) cvs[pairs] = cvs[count - 1];
        count = pairs + count % 2;
    }
}

/* A subtree of more than one chunk and at most SPAN_CHUNKS. */
static void hash_span(struct slice data, uint64_t start_chunk, bool is_root, struct hash *out)
{
    struct blake3_batch chunks = {.blocks = BLAKE3_CHUNK_BYTES / BLAKE3_BLOCK_BYTES,
                                  .counter = start_chunk,
                                  .count_up = true,
                                  .flags_first = BLAKE3_CHUNK_START,
                                  .flags_last = BLAKE3_CHUNK_END};
    assert(data.len > BLAKE3_CHUNK_BYTES && data.len <= SPAN_BYTES);
    const uint8_t *inputs[SPAN_CHUNKS];
    struct hash cvs[SPAN_CHUNKS];
    size_t whole = data.len / BLAKE3_CHUNK_BYTES, rest = data.len % BLAKE3_CHUNK_BYTES;
    for (size_t i = 0; i < whole; i++) inputs[i] = data.data + i * BLAKE3_CHUNK_BYTES;
    if (whole == 1)
        hash_chunk(slice_part(data, 0, BLAKE3_CHUNK_BYTES), start_chunk, false, &cvs[0]);
    else
        hash_many(inputs, whole, chunks, cvs);
    if (rest > 0)
        hash_chunk(slice_part(data, whole * BLAKE3_CHUNK_BYTES, rest), start_chunk + whole, false, &cvs[whole]);
    fold(cvs, whole + (rest > 0), 2);
    blake3_parent(&cvs[0], &cvs[1], is_root, out);
}

/* Bytes of the left part of a subtree of `len` > 1024 bytes: the most chunks to a power of two that leave something
 * over. */
static size_t left_bytes(size_t len)
{
    uint64_t chunks = (len - 1) / BLAKE3_CHUNK_BYTES;
    return (size_t)BLAKE3_CHUNK_BYTES << (63 - __builtin_clzll(chunks));
}

void blake3_subtree(struct slice data, uint64_t start_chunk, bool is_root, struct hash *out)
{
    assert(is_root ? start_chunk == 0 : data.len > 0);
    assert(start_chunk == 0 || (data.len - 1) / BLAKE3_CHUNK_BYTES < (start_chunk & -start_chunk));
    if (data.len <= BLAKE3_CHUNK_BYTES) {
        hash_chunk(data, start_chunk, is_root, out);
    } else if (data.len <= SPAN_BYTES) {
        hash_span(data, start_chunk, is_root, out);
    } else {
        struct hash left, right;
        size_t split = left_bytes(data.len);
        blake3_subtree(slice_part(data, 0, split), start_chunk, false, &left);
        blake3_subtree(slice_part(data, split, data.len - split), start_chunk + split / BLAKE3_CHUNK_BYTES, false,
                       &right);
        blake3_parent(&left, &right, is_root, out);
    }
}

void blake3_hash(struct slice data, struct hash *out)
{
    blake3_subtree(data, 0, true, out);
}

/* ---- stream ----
 *
 * The stack holds one complete subtree for each 1 bit of `chunks`, so pushing one is a binary addition: every carry is
 * a parent. A subtree is pushed only when more bytes follow, so none of these parents can be the root. */

void blake3_init(struct blake3 *b)
{
    b->stack_count = 0;
    b->chunks = 0;
    b->pending_len = 0;
}

static void push(struct blake3 *b, struct slice subtree)
{
    uint64_t count = subtree.len / BLAKE3_CHUNK_BYTES;
    struct hash cv;
    blake3_subtree(subtree, b->chunks, false, &cv);
    for (uint64_t carry = count; (b->chunks & carry) != 0; carry <<= 1) {
        assert(b->stack_count > 0);
        blake3_parent(&b->stack[--b->stack_count], &cv, false, &cv);
    }
    assert(b->stack_count <= BLAKE3_DEPTH_MAX);
    b->stack[b->stack_count++] = cv;
    b->chunks += count;
}

/* The widest subtree that may come next and leaves at least one byte of `len` > 16 KiB. */
static size_t next_subtree_bytes(const struct blake3 *b, size_t len)
{
    size_t bytes = left_bytes(len);
    while (b->chunks % (bytes / BLAKE3_CHUNK_BYTES) != 0) bytes /= 2;
    return bytes;
}

void blake3_update(struct blake3 *b, struct slice data)
{
    if (data.len == 0) return;
    if (b->pending_len > 0) {
        struct slice fill = slice_part(data, 0, sizeof b->pending - b->pending_len);
        if (fill.len > 0) memcpy(b->pending + b->pending_len, fill.data, fill.len);
        b->pending_len += fill.len;
        data = slice_part(data, fill.len, SIZE_MAX);
        if (data.len == 0) return;
        push(b, slice_of(b->pending, sizeof b->pending));
        b->pending_len = 0;
    }
    while (data.len > sizeof b->pending) {
        size_t bytes = next_subtree_bytes(b, data.len);
        push(b, slice_part(data, 0, bytes));
        data = slice_part(data, bytes, SIZE_MAX);
    }
    memcpy(b->pending, data.data, data.len);
    b->pending_len = data.len;
}

void blake3_final(const struct blake3 *b, struct hash *out)
{
    blake3_subtree(slice_of(b->pending, b->pending_len), b->chunks, b->stack_count == 0, out);
    for (size_t i = b->stack_count; i-- > 0;) blake3_parent(&b->stack[i], out, i == 0, out);
}
