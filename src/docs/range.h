/* Ranges of ids as the peer writes them, and as the replica takes them.
 *
 *   on the wire (x, y), docs.md 4.1          as pieces of the namespace, in the order of going up from x
 *   x < y   ids from x to below y            [x, y)
 *   x == y  all ids                          [x, end) [start, x)
 *   x > y   ids from x, and ids below y      [x, end) [start, y)
 *
 * Bounds are any bytes of at least ENTRY_ID_MIN, existing ids or not, inside the namespace or not: what lies outside of
 * it is cut off here, so that a peer never sees or counts what it did not name (docs.md 10, H1). "All" is one way to
 * write a range: whoever computes two bounds checks that they differ. Pure functions, any thread. */
#ifndef HKV_DOCS_RANGE_H
#define HKV_DOCS_RANGE_H

#include "docs/replica.h"

struct docs_range {
    struct slice x; /* both borrowed */
    struct slice y;
};

/* The pieces of a range, at most two, those that cannot hold an entry left out. They borrow the range's bounds. */
struct docs_pieces {
    struct docs_piece items[2];
    size_t count;
};

void docs_range_pieces(struct docs_range range, const struct namespace_id *namespace, struct docs_pieces *out);

/* Whether the range holds this id of the namespace. */
bool docs_range_has(struct docs_range range, const struct entry *e);

/* Whether `tail` ends where `range` does and begins inside of it. */
bool docs_range_ends_with(struct docs_range range, struct docs_range tail);

static inline bool docs_range_is_all(struct docs_range range)
{
    return slice_equal(range.x, range.y);
}

/* The first byte in which `v` differs from `u` below it, or the one after all of `u`. */
size_t docs_differing_at(struct slice u, struct slice v);

/* Length of the shortest prefix of `v`, at least ENTRY_ID_MIN bytes, that is above `u` (docs.md 4.7): a bound between
 * the two neighbours. `u` below `v`, both ids. */
size_t docs_separator_bytes(struct slice u, struct slice v);

#endif
