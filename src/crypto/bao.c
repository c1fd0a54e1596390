#include "crypto/bao.h"

#include <assert.h>
#include <stdlib.h>

/* ---- geometry ---- */

uint64_t bao_chunks(uint64_t size_bytes)
{
    return size_bytes / BLAKE3_CHUNK_BYTES + (size_bytes % BLAKE3_CHUNK_BYTES != 0);
}

uint64_t bao_groups(uint64_t size_bytes)
{
    uint64_t groups = size_bytes / BAO_GROUP_BYTES + (size_bytes % BAO_GROUP_BYTES != 0);
    return groups > 0 ? groups : 1;
}

uint64_t bao_outboard_bytes(uint64_t size_bytes)
{
    return (bao_groups(size_bytes) - 1) * BAO_PAIR_BYTES;
}

/* Bytes of the left half of a node with `bytes` > 1024: the most chunks to a power of two that leave something over. */
static uint64_t left_bytes(uint64_t bytes)
{
    assert(bytes > BLAKE3_CHUNK_BYTES);
    return (uint64_t)BLAKE3_CHUNK_BYTES << (63 - __builtin_clzll((bytes - 1) / BLAKE3_CHUNK_BYTES));
}

/* ---- range sets ---- */

static const uint64_t all_bounds[] = {0};
const struct bao_ranges bao_ranges_all = {all_bounds, 1};

bool bao_ranges_are_valid(struct bao_ranges r)
{
    for (size_t i = 1; i < r.count; i++)
        if (r.bounds[i] <= r.bounds[i - 1]) return false;
    return true;
}

bool bao_ranges_equal(struct bao_ranges a, struct bao_ranges b)
{
    return a.count == b.count && (a.count == 0 || memcmp(a.bounds, b.bounds, a.count * sizeof *a.bounds) == 0);
}

/* Number of boundaries below `value`. */
static size_t bounds_below(struct bao_ranges r, uint64_t value)
{
    size_t low = 0, high = r.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r.bounds[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Number of boundaries at or below `chunk`, which is never the last number there is. */
static size_t bounds_up_to(struct bao_ranges r, uint64_t chunk)
{
    return chunk == UINT64_MAX ? r.count : bounds_below(r, chunk + 1);
}

bool bao_ranges_contain(struct bao_ranges r, uint64_t chunk)
{
    return bounds_up_to(r, chunk) % 2 == 1;
}

struct bao_ranges bao_ranges_truncate(struct bao_ranges r, uint64_t size_bytes)
{
    uint64_t chunks = bao_chunks(size_bytes), last = chunks > 0 ? chunks - 1 : 0;
    size_t i = bounds_below(r, last);
    bool more = i < r.count, hit = more && r.bounds[i] == last;
    size_t keep = i;
    if (i % 2 == 0)
        keep = more ? i + 1 : i; /* a range starts at the last chunk or past it; or nothing is left */
    else if (hit && i + 1 == r.count)
        keep = i + 1; /* the last range ends just before the last chunk */
    return (struct bao_ranges){r.bounds, keep};
}

void bao_set_fini(struct bao_set *s)
{
    if (s == NULL) return;
    free(s->bounds);
    *s = (struct bao_set){0};
}

static enum hkv_err set_reserve(struct bao_set *s, size_t cap)
{
    if (cap <= s->cap) return HKV_OK;
    if (cap < 2 * s->cap) cap = 2 * s->cap;
    uint64_t *bounds = reallocarray(s->bounds, cap, sizeof *bounds);
    if (bounds == NULL) return error_set(HKV_E_NOMEM, "no memory for a set of %zu range boundaries", cap);
    s->bounds = bounds;
    s->cap = cap;
    return HKV_OK;
}

/* Boundaries inside [start, end] go; `start` stays or comes when the set was off there, `end` when it is off after it.
 */
enum hkv_err bao_set_add(struct bao_set *s, uint64_t start, uint64_t end)
{
    if (start >= end) return HKV_OK;
    TRY(set_reserve(s, s->count + 2));
    struct bao_ranges r = bao_set_ranges(s);
    size_t first = bounds_below(r, start), next = end == UINT64_MAX ? r.count : bounds_up_to(r, end);
    uint64_t edges[2];
    size_t edge_count = 0;
    if (first % 2 == 0) edges[edge_count++] = start;
    if (next % 2 == 0 && end != UINT64_MAX) edges[edge_count++] = end;
    memmove(s->bounds + first + edge_count, s->bounds + next, (s->count - next) * sizeof *s->bounds);
    memcpy(s->bounds + first, edges, edge_count * sizeof *edges);
    s->count = first + edge_count + (s->count - next);
    return HKV_OK;
}

enum hkv_err bao_set_assign(struct bao_set *s, struct bao_ranges r)
{
    TRY(set_reserve(s, r.count));
    if (r.count > 0) memmove(s->bounds, r.bounds, r.count * sizeof *r.bounds);
    s->count = r.count;
    return HKV_OK;
}

/* The complement begins with 0 where the set does not, and ends with the blob. */
enum hkv_err bao_set_missing(struct bao_ranges present, uint64_t size_bytes, struct bao_set *missing)
{
    uint64_t chunks = bao_chunks(size_bytes);
    if (chunks == 0) chunks = 1;
    TRY(set_reserve(missing, present.count + 2));
    size_t n = 0, i = 0;
    if (present.count > 0 && present.bounds[0] == 0)
        i = 1;
    else
        missing->bounds[n++] = 0;
    for (; i < present.count && present.bounds[i] < chunks; i++) missing->bounds[n++] = present.bounds[i];
    missing->count = n;
    return HKV_OK;
}

/* ---- outboard ---- */

void bao_builder_init(struct bao_builder *b)
{
    b->group_cvs = (struct buf){0};
    b->size_bytes = 0;
    b->pending_len = 0;
}

void bao_builder_fini(struct bao_builder *b)
{
    if (b != NULL) buf_fini(&b->group_cvs);
}

static enum hkv_err builder_push(struct bao_builder *b, struct slice group)
{
    struct hash cv;
    uint64_t index = b->group_cvs.len / sizeof cv;
    blake3_subtree(group, index * BAO_GROUP_CHUNKS, false, &cv);
    return buf_append(&b->group_cvs, cv.bytes, sizeof cv.bytes);
}

/* A group is hashed once a byte follows it, since a lone group would be the root. */
enum hkv_err bao_builder_update(struct bao_builder *b, struct slice data)
{
    b->size_bytes += data.len;
    if (data.len == 0) return HKV_OK;
    if (b->pending_len > 0) {
        struct slice fill = slice_part(data, 0, BAO_GROUP_BYTES - b->pending_len);
        if (fill.len > 0) memcpy(b->pending + b->pending_len, fill.data, fill.len);
        b->pending_len += fill.len;
        data = slice_part(data, fill.len, SIZE_MAX);
        if (data.len == 0) return HKV_OK;
        TRY(builder_push(b, slice_of(b->pending, BAO_GROUP_BYTES)));
        b->pending_len = 0;
    }
    while (data.len > BAO_GROUP_BYTES) {
        TRY(builder_push(b, slice_part(data, 0, BAO_GROUP_BYTES)));
        data = slice_part(data, BAO_GROUP_BYTES, SIZE_MAX);
    }
    memcpy(b->pending, data.data, data.len);
    b->pending_len = data.len;
    return HKV_OK;
}

/* Writes the pairs of `count` groups from pair `index` on and gives their chaining value. At most 49 calls deep. */
static void write_pairs(const struct hash *group_cvs, uint64_t count, bool is_root, uint8_t *pairs, struct hash *out)
{
    if (count == 1) {
        *out = group_cvs[0];
        return;
    }
    struct hash left, right;
    uint64_t split = left_bytes(count * BAO_GROUP_BYTES) / BAO_GROUP_BYTES;
    write_pairs(group_cvs, split, false, pairs + BAO_PAIR_BYTES, &left);
    write_pairs(group_cvs + split, count - split, false, pairs + split * BAO_PAIR_BYTES, &right);
    memcpy(pairs, left.bytes, ID_BYTES);
    memcpy(pairs + ID_BYTES, right.bytes, ID_BYTES);
    blake3_parent(&left, &right, is_root, out);
}

enum hkv_err bao_builder_finish(struct bao_builder *b, struct hash *root, struct buf *outboard)
{
    buf_clear(outboard);
    if (b->group_cvs.len == 0) {
        blake3_hash(slice_of(b->pending, b->pending_len), root);
        return HKV_OK;
    }
    TRY(builder_push(b, slice_of(b->pending, b->pending_len)));
    size_t bytes = (size_t)bao_outboard_bytes(b->size_bytes);
    TRY(buf_reserve(outboard, bytes));
    outboard->len = bytes;
    const struct hash *cvs = (const struct hash *)(const void *)b->group_cvs.data;
    write_pairs(cvs, b->group_cvs.len / sizeof *cvs, true, outboard->data, root);
    return HKV_OK;
}

/* ---- walk ---- */

static bool on_right_edge(const struct bao_walk *w, const struct bao_node *n)
{
    return n->chunk * BLAKE3_CHUNK_BYTES + n->bytes == w->size_bytes;
}

/* A node covers chunks up to `end`, exclusive; on the right edge of the tree up to infinity (wire/blobs.md 3.3). */
static bool is_selected(const struct bao_walk *w, const struct bao_node *n)
{
    size_t i = bounds_up_to(w->ranges, n->chunk);
    if (i % 2 == 1) return true;
    return i < w->ranges.count &&
           (on_right_edge(w, n) || w->ranges.bounds[i] < n->chunk + n->bytes / BLAKE3_CHUNK_BYTES);
}

static bool is_full(const struct bao_walk *w, const struct bao_node *n)
{
    size_t i = bounds_up_to(w->ranges, n->chunk);
    if (i % 2 == 0) return false;
    return i == w->ranges.count ||
           (!on_right_edge(w, n) && w->ranges.bounds[i] >= n->chunk + n->bytes / BLAKE3_CHUNK_BYTES);
}

static bool is_leaf(const struct bao_walk *w, const struct bao_node *n)
{
    return n->bytes <= BLAKE3_CHUNK_BYTES || (n->bytes <= BAO_GROUP_BYTES && is_full(w, n));
}

static bool is_root(const struct bao_walk *w, const struct bao_node *n)
{
    return n->bytes == w->size_bytes;
}

static void push_selected(struct bao_walk *w, const struct bao_node *n)
{
    if (!is_selected(w, n)) return;
    assert(w->depth < BAO_DEPTH_MAX);
    w->stack[w->depth++] = *n;
}

void bao_walk_init(struct bao_walk *w, const struct hash *root, uint64_t size_bytes, struct bao_ranges ranges)
{
    assert(size_bytes <= BAO_SIZE_MAX);
    assert(ranges.count > 0);
    w->ranges = bao_ranges_truncate(ranges, size_bytes);
    w->size_bytes = size_bytes;
    w->stack[0] = (struct bao_node){.bytes = size_bytes, .cv = *root};
    w->depth = 1;
    assert(is_selected(w, &w->stack[0])); /* a set that selects nothing is not asked for */
}

bool bao_walk_next(const struct bao_walk *w, struct bao_item *item)
{
    if (w->depth == 0) return false;
    const struct bao_node *n = &w->stack[w->depth - 1];
    *item = (struct bao_item){.kind = is_leaf(w, n) ? BAO_LEAF : BAO_PAIR,
                              .chunk = n->chunk,
                              .bytes = n->bytes,
                              .outboard_offset = n->pair_index * BAO_PAIR_BYTES,
                              .in_outboard = n->bytes > BAO_GROUP_BYTES,
                              .is_root = is_root(w, n)};
    return true;
}

bool bao_walk_pair(struct bao_walk *w, const uint8_t pair[BAO_PAIR_BYTES])
{
    assert(w->depth > 0);
    struct bao_node n = w->stack[w->depth - 1];
    assert(!is_leaf(w, &n));
    struct bao_node left = {.chunk = n.chunk, .bytes = left_bytes(n.bytes), .pair_index = n.pair_index + 1};
    struct bao_node right = {.chunk = n.chunk + left.bytes / BLAKE3_CHUNK_BYTES,
                             .bytes = n.bytes - left.bytes,
                             .pair_index = n.pair_index + left.bytes / BAO_GROUP_BYTES};
    memcpy(left.cv.bytes, pair, ID_BYTES);
    memcpy(right.cv.bytes, pair + ID_BYTES, ID_BYTES);
    struct hash cv;
    blake3_parent(&left.cv, &right.cv, is_root(w, &n), &cv);
    if (!hash_equal(&cv, &n.cv)) return false;
    w->depth--;
    push_selected(w, &right);
    push_selected(w, &left);
    return true;
}

bool bao_walk_leaf(struct bao_walk *w, struct slice data)
{
    assert(w->depth > 0);
    const struct bao_node *n = &w->stack[w->depth - 1];
    assert(is_leaf(w, n) && data.len == n->bytes);
    struct hash cv;
    blake3_subtree(data, n->chunk, is_root(w, n), &cv);
    if (!hash_equal(&cv, &n->cv)) return false;
    w->depth--;
    return true;
}

void bao_pair_of(struct slice data, uint64_t chunk, uint8_t out[BAO_PAIR_BYTES])
{
    size_t split = (size_t)left_bytes(data.len);
    struct hash left, right;
    blake3_subtree(slice_part(data, 0, split), chunk, false, &left);
    blake3_subtree(slice_part(data, split, SIZE_MAX), chunk + split / BLAKE3_CHUNK_BYTES, false, &right);
    memcpy(out, left.bytes, ID_BYTES);
    memcpy(out + ID_BYTES, right.bytes, ID_BYTES);
}
