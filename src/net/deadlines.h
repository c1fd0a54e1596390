/* When which connection wants to be looked at: a binary heap by monotonic nanoseconds. The element is embedded in what
 * waits. Network thread. */
#ifndef HKV_NET_DEADLINES_H
#define HKV_NET_DEADLINES_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define DEADLINE_NONE UINT64_MAX

struct deadline {
    uint64_t at_ns;
    size_t slot; /* 1-based place in the heap; 0 while not in it */
};

struct deadlines {
    struct deadline **heap; /* heap[1] is due first */
    size_t count;
    size_t cap;
};

/* Makes sure that `count` elements fit, so that setting one never fails. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err deadlines_reserve(struct deadlines *d, size_t count);
void deadlines_fini(struct deadlines *d);

/* Sets, moves, or with DEADLINE_NONE removes. */
void deadlines_set(struct deadlines *d, struct deadline *e, uint64_t at_ns);

/* The earliest; NULL when none is set. */
struct deadline *deadlines_first(const struct deadlines *d);

#endif
