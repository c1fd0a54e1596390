/* What was written: every attempt with its outcome as far as clients know it. From it and from the entries that a store
 * holds follows what must be there and what must be shown. */
#ifndef HKV_SIM_MODEL_H
#define HKV_SIM_MODEL_H

#include <hero_kvs.h>

#include "kv/kv.h"

#define SIM_KEY_MAX    32 /* bytes of a document key */
#define SIM_VALUE_POOL 6  /* value numbers shared by many writes; those of the others are their own */

enum sim_outcome {
    SIM_UNKNOWN, /* on its way, or the node died first, or its disk failed */
    SIM_ACKED,
    SIM_FAILED, /* refused without any change */
};

struct sim_write {
    size_t number;
    unsigned node; /* where it was made */
    unsigned life; /* of that node */
    bool foreign;  /* by an author that is no node */
    struct author_id author;
    uint8_t key[SIM_KEY_MAX]; /* document key */
    size_t key_len;
    struct hash hash; /* of the content */
    uint64_t content_length;
    enum kv_kind kind;
    bool empty;          /* iroh-docs' empty entry, read as a tombstone */
    size_t value_length; /* of KV_VALUE */
    size_t value_number; /* what its bytes are made of */
    uint64_t expires_us;
    enum sim_outcome outcome;
    bool file_seen;    /* after a crash its value file was there */
    bool flipped;      /* a bit of its value file was, on one node */
    uint64_t stamp_us; /* once acknowledged, or as given */
};

struct sim_model {
    struct sim_write **writes;
    size_t count;
    size_t cap;
};

void sim_model_fini(struct sim_model *model);

/* A new attempt; its number is set. */
struct sim_write *sim_model_add(struct sim_model *model);

/* The bytes of value number n. Freed by the caller. */
uint8_t *sim_value(size_t number, size_t length);

/* Fills hash and content_length of a native content from kind, value and expiry. */
void sim_write_content(struct sim_write *write);

/* The content itself. */
void sim_write_content_bytes(const struct sim_write *write, struct buf *out);

/* The attempt that made this entry; NULL: nobody did. */
const struct sim_write *sim_model_find(const struct sim_model *model, const struct entry *e);

/* Whether an attempt at this document key may have this version, expiry and value. */
bool sim_model_explains(const struct sim_model *model, struct slice key, const struct hkv_value *value);

/* ---- what a store holds ---- */

struct sim_entry {
    struct entry entry; /* key owned by the set */
    bool has_content;
};

struct sim_entries {
    struct sim_entry *items; /* in the order of ids */
    size_t count;
    size_t cap;
};

void sim_entries_fini(struct sim_entries *entries);

/* Reads them all. Between events, from the driver. Errors: those of the store. */
HKV_CHECK enum hkv_err sim_entries_read(struct kv *kv, struct sim_entries *out);

/* Whether this attempt's entry is there, or one of the same author, at its key or at a prefix of it, that beats it. */
bool sim_entries_cover(const struct sim_entries *entries, const struct sim_write *write);

/* Whether this entry is there, or one that beats it. */
bool sim_entries_cover_entry(const struct sim_entries *entries, const struct entry *e);

/* The winner among the entries with this document key: greatest (stamp, author). NULL: none. */
const struct sim_entry *sim_entries_winner(const struct sim_entries *entries, struct slice key);

#endif
