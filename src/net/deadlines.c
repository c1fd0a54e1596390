#include "net/deadlines.h"

#include <assert.h>
#include <stdlib.h>

enum hkv_err deadlines_reserve(struct deadlines *d, size_t count)
{
    if (count < d->cap) return HKV_OK;
    size_t cap = d->cap ? d->cap : 64;
    while (cap <= count) cap *= 2;
    struct deadline **heap = realloc(d->heap, cap * sizeof(struct deadline *));
    if (!heap) return error_set(HKV_E_NOMEM, "timers of connections: no memory");
    d->heap = heap;
    d->cap = cap;
    return HKV_OK;
}

void deadlines_fini(struct deadlines *d)
{
    assert(d->count == 0);
    free(d->heap);
    *d = (struct deadlines){0};
}

static void deadlines_put(struct deadlines *d, size_t slot, struct deadline *e)
{
    d->heap[slot] = e;
    e->slot = slot;
}

static void deadlines_up(struct deadlines *d, size_t slot)
{
    struct deadline *e = d->heap[slot];
    for (; slot > 1 && d->heap[slot / 2]->at_ns > e->at_ns; slot /= 2) deadlines_put(d, slot, d->heap[slot / 2]);
    deadlines_put(d, slot, e);
}

static void deadlines_down(struct deadlines *d, size_t slot)
{
    struct deadline *e = d->heap[slot];
    for (size_t child; (child = slot * 2) <= d->count; slot = child) {
        if (child < d->count && d->heap[child + 1]->at_ns < d->heap[child]->at_ns) child++;
        if (d->heap[child]->at_ns >= e->at_ns) break;
        deadlines_put(d, slot, d->heap[child]);
    }
    deadlines_put(d, slot, e);
}

static void deadlines_remove(struct deadlines *d, struct deadline *e)
{
    size_t slot = e->slot;
    struct deadline *last = d->heap[d->count--];
    e->slot = 0;
    if (last == e) return;
    deadlines_put(d, slot, last);
    deadlines_up(d, slot);
    deadlines_down(d, last->slot);
}

void deadlines_set(struct deadlines *d, struct deadline *e, uint64_t at_ns)
{
    if (at_ns == DEADLINE_NONE) {
        if (e->slot) deadlines_remove(d, e);
        return;
    }
    if (e->slot && e->at_ns == at_ns) return;
    e->at_ns = at_ns;
    if (!e->slot) {
        assert(d->count + 1 < d->cap);
        deadlines_put(d, ++d->count, e);
    }
    deadlines_up(d, e->slot);
    deadlines_down(d, e->slot);
}

struct deadline *deadlines_first(const struct deadlines *d)
{
    return d->count ? d->heap[1] : NULL;
}
