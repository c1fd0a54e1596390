#include "docs/range.h"

#include <assert.h>

/* Where a bound lies: before the namespace's first id, in it, or after its last. */
static int place_of(struct slice bound, const struct namespace_id *namespace)
{
    int order = memcmp(bound.data, namespace->bytes, ID_BYTES);
    return order < 0 ? -1 : order > 0;
}

void docs_range_pieces(struct docs_range range, const struct namespace_id *namespace, struct docs_pieces *out)
{
    assert(range.x.len >= ENTRY_ID_MIN && range.y.len >= ENTRY_ID_MIN);
    int x_place = place_of(range.x, namespace), y_place = place_of(range.y, namespace);
    struct slice open = {NULL, 0};
    struct slice from = x_place == 0 ? range.x : open;
    struct slice to = y_place == 0 ? range.y : open;
    out->count = 0;
    if (slice_compare(range.x, range.y) < 0) {
        if (x_place <= 0 && y_place >= 0) out->items[out->count++] = (struct docs_piece){from, to};
        return;
    }
    if (x_place <= 0) out->items[out->count++] = (struct docs_piece){from, open};
    if (docs_range_is_all(range) && x_place < 0) return; /* that piece is everything already */
    if (y_place >= 0) out->items[out->count++] = (struct docs_piece){open, to};
}

bool docs_range_has(struct docs_range range, const struct entry *e)
{
    int order = slice_compare(range.x, range.y);
    if (order == 0) return true;
    bool from_x = entry_id_compare(e, range.x) >= 0, below_y = entry_id_compare(e, range.y) < 0;
    return order < 0 ? from_x && below_y : from_x || below_y;
}

bool docs_range_ends_with(struct docs_range range, struct docs_range tail)
{
    if (!slice_equal(range.y, tail.y)) return false;
    int order = slice_compare(range.x, range.y);
    bool from_x = slice_compare(tail.x, range.x) >= 0, below_y = slice_compare(tail.x, range.y) < 0;
    return order < 0 ? from_x && below_y : order == 0 || from_x || below_y;
}

size_t docs_differing_at(struct slice u, struct slice v)
{
    assert(slice_compare(u, v) < 0);
    size_t shared = 0;
    while (shared < u.len && u.data[shared] == v.data[shared]) shared++;
    return shared;
}

size_t docs_separator_bytes(struct slice u, struct slice v)
{
    assert(u.len >= ENTRY_ID_MIN);
    size_t shared = docs_differing_at(u, v);
    return shared + 1 < ENTRY_ID_MIN ? ENTRY_ID_MIN : shared + 1;
}
