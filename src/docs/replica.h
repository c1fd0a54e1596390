/* What reconciliation asks of the set of entries it works on. src/kv implements it over the store, tests over an array.
 * All calls on the replica thread, inside one transaction.
 *
 * Ranges are those of iroh-docs (docs.md 4.1) already clamped to the replica's namespace: every id below is a full id
 * (namespace ‖ author ‖ key), `from` inclusive, `to` exclusive, from < to, or `to` empty for "to the end of the
 * namespace". A wrapping or full range of the wire is given as two or one such pieces by the caller. */
#ifndef HKV_DOCS_REPLICA_H
#define HKV_DOCS_REPLICA_H

#include "wire/entry.h"

struct docs_piece {
    struct slice from; /* empty: from the start of the namespace */
    struct slice to;   /* empty: to the end of the namespace */
};

struct docs_summary {
    uint64_t count;
    struct fingerprint xored; /* of the entries' fingerprints, without EMPTY (docs.md 8.2) */
};

enum docs_insert {
    DOCS_INSERTED,  /* stored; older entries of the same author below its key are gone */
    DOCS_PRESENT,   /* the same id with the same record is stored already */
    DOCS_OLDER,     /* the stored entry of the same id is newer */
    DOCS_DOMINATED, /* a stored entry of the same author at a proper prefix of the key is newer: see `parent` */
    DOCS_FUTURE,    /* its stamp is too far ahead; remembered in `refused` when the table has room */
    DOCS_REFUSED,   /* another reason (limits, disk budget, capability) */
};

/* Where a received entry came from. */
struct docs_origin {
    struct endpoint_id peer;
    bool provides_content; /* the peer said that it holds the whole value (ContentStatus Complete) */
};

struct docs_replica;

struct docs_replica_ops {
    const struct namespace_id *(*namespace)(struct docs_replica *r);
    enum hkv_err (*summarize)(struct docs_replica *r, struct docs_piece piece, struct docs_summary *out);
    /* The id of the entry with rank `n` (from 0) within the piece, appended to `id`. Errors: HKV_E_NOT_FOUND past the
     * end. */
    enum hkv_err (*select)(struct docs_replica *r, struct docs_piece piece, uint64_t n, struct buf *id);
    /* Calls `visit` for each entry of the piece in order until it returns false; the entry's key is valid during the
     * call. `has_content`: this node holds the whole, verified content (what has_content would answer, without a query
     * each). */
    enum hkv_err (*scan)(struct docs_replica *r, struct docs_piece piece,
                         bool (*visit)(void *arg, const struct entry *e, bool has_content), void *arg);
    /* Whether a received entry, whose signatures may not be checked yet, would be stored now. No writes. Asked only of
     * batches that are likely to be known already, to save checking their signatures. */
    enum hkv_err (*would_insert)(struct docs_replica *r, const struct entry *e, enum docs_insert *out);
    /* Stores an entry with valid signatures (docs.md 3.3). With DOCS_DOMINATED, `*parent` is the dominating entry; its
     * key is appended to `parent_key` and borrowed from there. */
    enum hkv_err (*insert)(struct docs_replica *r, const struct entry *e, const struct docs_origin *origin,
                           enum docs_insert *out, struct entry *parent, struct buf *parent_key);
    /* Whether this node holds the whole, verified content of the hash. */
    enum hkv_err (*has_content)(struct docs_replica *r, const struct hash *hash, bool *out);
};

struct docs_replica {
    const struct docs_replica_ops *ops;
};

#endif
