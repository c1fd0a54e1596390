#include "docs/set.h"

#include <stdlib.h>

#define SLOTS_MIN  64
#define SLOTS_KEPT 4096 /* over clearing */

static const uint8_t free_slot[DOCS_SET_KEY_BYTES];

void docs_set_init(struct docs_set *set, uint64_t seed)
{
    *set = (struct docs_set){.seed = seed | 1};
}

void docs_set_fini(struct docs_set *set)
{
    free(set->slots);
    *set = (struct docs_set){.seed = set->seed};
}

void docs_set_clear(struct docs_set *set)
{
    if (set->slot_count > SLOTS_KEPT)
        docs_set_fini(set);
    else if (set->count > 0)
        memset(set->slots, 0, set->slot_count * DOCS_SET_KEY_BYTES);
    set->count = 0;
}

/* The slot that holds the key, or the free one where it belongs. */
static size_t slot_of(const struct docs_set *set, const uint8_t *key)
{
    uint64_t mixed = le64_load(key) * set->seed;
    size_t mask = set->slot_count - 1, at = (size_t)(mixed >> 24) & mask;
    while (memcmp(set->slots[at], free_slot, DOCS_SET_KEY_BYTES) != 0 &&
           memcmp(set->slots[at], key, DOCS_SET_KEY_BYTES) != 0)
        at = (at + 1) & mask;
    return at;
}

static enum hkv_err grow(struct docs_set *set)
{
    struct docs_set larger = *set;
    larger.slot_count = set->slot_count == 0 ? SLOTS_MIN : 2 * set->slot_count;
    larger.slots = calloc(larger.slot_count, DOCS_SET_KEY_BYTES);
    if (larger.slots == NULL) return error_set(HKV_E_NOMEM, "no memory for a set of %zu fingerprints", set->count + 1);
    for (size_t i = 0; i < set->slot_count; i++) {
        if (memcmp(set->slots[i], free_slot, DOCS_SET_KEY_BYTES) == 0) continue;
        memcpy(larger.slots[slot_of(&larger, set->slots[i])], set->slots[i], DOCS_SET_KEY_BYTES);
    }
    free(set->slots);
    *set = larger;
    return HKV_OK;
}

enum hkv_err docs_set_add(struct docs_set *set, const struct fingerprint *fp, bool *added)
{
    if (2 * (set->count + 1) > set->slot_count) TRY(grow(set));
    uint8_t *slot = set->slots[slot_of(set, fp->bytes)];
    *added = memcmp(slot, free_slot, DOCS_SET_KEY_BYTES) == 0;
    if (*added) {
        memcpy(slot, fp->bytes, DOCS_SET_KEY_BYTES);
        set->count++;
    }
    return HKV_OK;
}

bool docs_set_has(const struct docs_set *set, const struct fingerprint *fp)
{
    if (set->count == 0) return false;
    return memcmp(set->slots[slot_of(set, fp->bytes)], free_slot, DOCS_SET_KEY_BYTES) != 0;
}
