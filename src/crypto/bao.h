/* Bao: BLAKE3's tree as a proof that bytes are part of a hash (wire/blobs.md 2 and 3). Geometry, range sets, outboards,
 * and the walk that encoder and decoder share.
 *
 * Leaves are groups of 16 chunks (16 KiB). Each inner node is a pair: the chaining values of its two halves, 64 bytes.
 * The outboard of a blob is all its pairs in pre-order, nothing else; an encoded response is the size as u64 and then
 * pairs and data, in pre-order too, as far as the wanted ranges need them:
 *
 *       blob of 7 groups            outboard          response to "group 1 only"
 *             (0)
 *           /     \                 0 1 2 3 4 5       size 0 1 2 [group 1]
 *        (1)       (4)
 *       /   \     /   \             left of pair i: i + 1
 *     (2)   (3)  (5)   g6           right of pair i: i + groups on its left
 *     / \   / \  / \
 *    g0 g1 g2 g3 g4 g5
 *
 * Pairs below a group exist only in responses to ranges that cut a group; the outboard does not hold them.
 * Everything here is memory only and may be called from any thread, one caller at a time for each object. */
#ifndef HKV_CRYPTO_BAO_H
#define HKV_CRYPTO_BAO_H

#include "base/bytes.h"
#include "base/ids.h"
#include "crypto/blake3.h"

#define BAO_GROUP_CHUNKS 16
#define BAO_GROUP_BYTES  ((size_t)BAO_GROUP_CHUNKS * BLAKE3_CHUNK_BYTES)
#define BAO_PAIR_BYTES   64
#define BAO_HEADER_BYTES 8

/* No blob is larger (wire/blobs.md 8: sizes above are lies), so chunk numbers stay below 2^53 and no offset overflows.
 */
#define BAO_SIZE_MAX  ((uint64_t)INT64_MAX)
#define BAO_DEPTH_MAX 56

/* ---- geometry ---- */

uint64_t bao_chunks(uint64_t size_bytes);         /* 0 for the empty blob */
uint64_t bao_groups(uint64_t size_bytes);         /* 1 for the empty blob */
uint64_t bao_outboard_bytes(uint64_t size_bytes); /* 64 for every group but one */

/* ---- range sets ----
 *
 * A set of chunk numbers as strictly increasing boundaries: chunk x is in it when the number of boundaries <= x is odd.
 * An odd count is open at the end. {} = nothing, {0} = all, {2^64 - 1} = past any end, which stands for the last chunk.
 */

struct bao_ranges {
    const uint64_t *bounds; /* borrowed */
    size_t count;
};

extern const struct bao_ranges bao_ranges_all;

bool bao_ranges_are_valid(struct bao_ranges r); /* strictly increasing */
bool bao_ranges_equal(struct bao_ranges a, struct bao_ranges b);
bool bao_ranges_contain(struct bao_ranges r, uint64_t chunk);

/* What a set means for a blob of this size (wire/blobs.md 3.2): anything at or past the end is the last chunk, and a
 * set with the last chunk is open at the end. Always a prefix of the boundaries, so nothing is copied. */
struct bao_ranges bao_ranges_truncate(struct bao_ranges r, uint64_t size_bytes);

/* A set that owns its boundaries and grows: the chunks that are present. Begin with {0}. */
struct bao_set {
    uint64_t *bounds;
    size_t count;
    size_t cap;
};

static inline struct bao_ranges bao_set_ranges(const struct bao_set *s)
{
    return (struct bao_ranges){s->bounds, s->count};
}

void bao_set_fini(struct bao_set *s);

/* Adds chunks `start` to `end` - 1; `end` UINT64_MAX: without end. Errors: HKV_E_NOMEM; `s` is unchanged then. */
HKV_CHECK enum hkv_err bao_set_add(struct bao_set *s, uint64_t start, uint64_t end);

/* Makes `s` a copy of `r`. Errors: HKV_E_NOMEM; `s` is unchanged then. */
HKV_CHECK enum hkv_err bao_set_assign(struct bao_set *s, struct bao_ranges r);

/* Makes `missing` what a blob of this size lacks when it has `present`: what to ask for when a fetch is resumed. Empty
 * when complete; `present` must not borrow from it. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err bao_set_missing(struct bao_ranges present, uint64_t size_bytes, struct bao_set *missing);

/* ---- outboard ---- */

/* Hash and outboard of a stream of bytes in one pass. Beside the result it keeps one group and 32 bytes for each group.
 */
struct bao_builder {
    struct buf group_cvs;
    uint64_t size_bytes;
    size_t pending_len;
    uint8_t pending[BAO_GROUP_BYTES];
};

void bao_builder_init(struct bao_builder *b);
void bao_builder_fini(struct bao_builder *b);

/* The next bytes. Errors: HKV_E_NOMEM (the builder can only be freed then). */
HKV_CHECK enum hkv_err bao_builder_update(struct bao_builder *b, struct slice data);

/* The end: the hash, and the outboard in place of what `outboard` held. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err bao_builder_finish(struct bao_builder *b, struct hash *root, struct buf *outboard);

/* ---- walk ---- */

enum bao_item_kind {
    BAO_PAIR, /* 64 bytes: chaining values of the two halves */
    BAO_LEAF, /* data */
};

/* A piece of the response's body. */
struct bao_item {
    enum bao_item_kind kind;
    uint64_t chunk;           /* the subtree's first */
    uint64_t bytes;           /* of the blob under this node; of a leaf at most 16384, 0 for the empty blob */
    uint64_t outboard_offset; /* of a pair that the outboard holds, in bytes */
    bool in_outboard;
    bool is_root;
};

struct bao_node {
    uint64_t chunk;
    uint64_t bytes;
    uint64_t pair_index; /* in the outboard, of the subtree's first pair */
    struct hash cv;      /* what the node must hash to */
};

/* Goes through the items of a response in their order, and verifies each against the one above it. Encoder and decoder
 * differ only in where the bytes come from. Holds one node a level; nothing to free. */
struct bao_walk {
    struct bao_ranges ranges; /* borrowed */
    uint64_t size_bytes;
    unsigned depth;
    struct bao_node stack[BAO_DEPTH_MAX];
};

/* Starts with a size (at most BAO_SIZE_MAX, a claim until the last chunk is verified) and a set that is not empty; its
 * boundaries must stay in place as long as the walk. */
void bao_walk_init(struct bao_walk *w, const struct hash *root, uint64_t size_bytes, struct bao_ranges ranges);

/* The item that comes next; false at the end. */
bool bao_walk_next(const struct bao_walk *w, struct bao_item *item);

/* The bytes of that item: true when they are what the hash commits to, and the walk has moved on. False: they are
 * wrong, and the walk stays where it is. */
HKV_CHECK bool bao_walk_pair(struct bao_walk *w, const uint8_t pair[BAO_PAIR_BYTES]);
HKV_CHECK bool bao_walk_leaf(struct bao_walk *w, struct slice data);

/* The pair of a node whose `data` is at hand (more than one chunk): for pairs that the outboard does not hold. */
void bao_pair_of(struct slice data, uint64_t chunk, uint8_t out[BAO_PAIR_BYTES]);

#endif
