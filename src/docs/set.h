/* A set of entry fingerprints: which values a peer sent in a part, which values a reply holds. Open addressing over the
 * first 16 bytes of each, at most half full. `seed` keeps the writer of entries from choosing collisions. One owner at
 * a time. */
#ifndef HKV_DOCS_SET_H
#define HKV_DOCS_SET_H

#include "base/ids.h"

#define DOCS_SET_KEY_BYTES 16

struct docs_set {
    uint8_t (*slots)[DOCS_SET_KEY_BYTES]; /* all zero: free */
    size_t slot_count;                    /* 0 or a power of two */
    size_t count;
    uint64_t seed; /* odd */
};

void docs_set_init(struct docs_set *set, uint64_t seed);
void docs_set_fini(struct docs_set *set);

/* Empties it, and gives back what a large use took. */
void docs_set_clear(struct docs_set *set);

/* Adds one; `*added` is false when it was there. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_set_add(struct docs_set *set, const struct fingerprint *fp, bool *added);

bool docs_set_has(const struct docs_set *set, const struct fingerprint *fp);

#endif
