/* What check.c (passes), check_look.c (looking) and rebuild.c (mending) share. */
#ifndef HKV_KV_CHECK_PARTS_H
#define HKV_KV_CHECK_PARTS_H

#include "crypto/blake3.h"
#include "kv/check.h"
#include "kv/internal.h"

enum kv_check_phase { PHASE_RUNS, PHASE_KEYS, PHASE_VALUES, PHASE_REFS, PHASE_COUNTERS, PHASE_COUNT };

/* A value file that is being hashed, over several steps. */
struct kv_check_file {
    int fd;        /* -1: none */
    uint64_t lost; /* number of the value whose file was not there in the step before */
    struct value_row row;
    uint64_t offset;
    uint8_t head[KV_CONTENT_HEAD_BYTES];
    struct blake3 hasher;
};

#define KV_CHECK_ENTRIES_BYTES                                                                                         \
    ((size_t)1 << 20) /* of ids of bad entries; when there are more, all are looked at again */

struct kv_check {
    struct kv *kv;
    bool fresh;           /* every pass verifies every signature */
    bool every_signature; /* this one does */
    bool every_signature_next;
    enum kv_check_phase phase;
    struct buf at;                 /* of the phase: first id of a run, last key, or a value's number (8 bytes) */
    bool inside;                   /* RUNS: `at` lies within a run that is too long */
    uint64_t epoch;                /* of the store when the pass began */
    struct namespace_id namespace; /* in the snapshot at hand */
    struct kv_check_file file;
    uint32_t *refs; /* KV_REFS_WINDOW of them, while PHASE_REFS lasts */
    struct kv_check_report report;

    /* found, and not dealt with yet */
    struct hash bad[KV_CHECK_FOUND_MAX];
    size_t bad_count;
    struct hash good[KV_CHECK_FOUND_MAX];
    size_t good_count;
    struct value_row labels[KV_CHECK_FOUND_MAX];
    size_t label_count;
    struct buf entries; /* ids, a length of 8 bytes before each */
    bool entries_overflow;
    bool rebuild;
};

/* Says what was found and counts it. */
void HKV_PRINTF(3, 4) kv_check_note(struct kv_check *c, enum kv_check_kind kind, const char *format, ...);

/* Something that follows from entries and values does not. Said once: one rebuild mends them all. */
void HKV_PRINTF(3, 4) kv_check_derived(struct kv_check *c, enum kv_check_kind kind, const char *format, ...);

/* The next rows of the phase at hand; `*end`: they were its last. */
HKV_CHECK enum hkv_err kv_check_look(struct kv_check *c, struct db *db, bool *end);

void kv_check_close_file(struct kv_check *c);

/* Where a phase is that goes by numbers. */
static inline uint64_t kv_check_number(const struct kv_check *c)
{
    return c->at.len == 8 ? be64_load(c->at.data) : 0;
}

#endif
