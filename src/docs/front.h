/* Ids on the compact wire (`/hkv-sync/1`, docs/reconciliation.md): each is written as what differs from the one before
 * it in the same frame.
 *
 *   id    varint shared ‖ varint n ‖ n bytes      the first `shared` bytes of the id before it, then those n
 *
 * Before the first id of a frame stands namespace ‖ 32 zero bytes. A bound that comes to fewer than ENTRY_ID_MIN bytes
 * is filled up with zeros to that length; an entry's id may not be shorter. Neighbours of a sorted run and the two
 * parts that meet at a bound have most of their bytes in common: such a bound takes about 5 bytes instead of 66.
 *
 * The one that writes and the one that reads keep one docs_front each; both come to the same `last`. A few bytes can
 * stand for a long id, so whoever counts memory counts the ids that come out, not the bytes that came in. Pure
 * functions, any thread. */
#ifndef HKV_DOCS_FRONT_H
#define HKV_DOCS_FRONT_H

#include "wire/entry.h"

/* How a session writes its messages; the connection's ALPN decides. */
enum docs_encoding {
    DOCS_ENCODING_IROH,    /* `/iroh-sync/1`, byte for byte iroh-docs' */
    DOCS_ENCODING_COMPACT, /* `/hkv-sync/1`: the same messages with such ids; between two of our nodes */
};

struct docs_front {
    struct namespace_id namespace;
    struct buf last; /* the id before; empty at the start of a frame */
};

/* An id as it stands on the wire. */
struct docs_front_id {
    size_t shared;
    struct slice rest; /* borrowed from the reader's input */
};

void docs_front_fini(struct docs_front *f);

/* A frame begins. */
static inline void docs_front_restart(struct docs_front *f)
{
    buf_clear(&f->last);
}

/* Append an entry's id, a bound. Neither may lie in `f->last`. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_front_write_id(struct docs_front *f, struct slice id, struct buf *out);
HKV_CHECK enum hkv_err docs_front_write_bound(struct docs_front *f, struct slice bound, struct buf *out);

/* Reads an id without looking at the one before it, so that reading can be tried again with more input.
 * Errors: HKV_E_PEER_PROTOCOL. */
HKV_CHECK enum hkv_err docs_front_read(struct postcard_reader *r, struct docs_front_id *out);

/* Make what was read the last id: `f->last` is the entry's id, the bound. Errors: HKV_E_PEER_PROTOCOL: more shared than
 * there is, too long, too short for an entry; HKV_E_NOMEM. */
HKV_CHECK enum hkv_err docs_front_take_id(struct docs_front *f, struct docs_front_id id);
HKV_CHECK enum hkv_err docs_front_take_bound(struct docs_front *f, struct docs_front_id bound);

#endif
