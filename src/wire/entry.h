/* A signed entry of a document: who (author) says what (hash and length of a content) about which key, since when
 * (stamp).
 *
 *   id  = namespace[32] ‖ author[32] ‖ key     order of ids = byte order of that string
 *   record order: stamp, then hash; the length takes no part
 *
 * Sources: wire/docs.md 2 (layout, signed bytes, fingerprint), vectors 12.1 to 12.3. An entry borrows its key; whoever
 * keeps one longer than the buffer it was decoded from copies the key. Pure functions, any thread. */
#ifndef HKV_WIRE_ENTRY_H
#define HKV_WIRE_ENTRY_H

#include "base/bytes.h"
#include "base/ids.h"
#include "wire/postcard.h"

/* Longest document key taken from a peer, in bytes (docs.md 10, H7). Our own are at most 1,025. */
#define ENTRY_KEY_MAX 65536

/* An id is namespace ‖ author ‖ key: never shorter than the two (docs.md 10, H2), never longer than with the longest
 * key. */
#define ENTRY_ID_MIN (2 * ID_BYTES)
#define ENTRY_ID_MAX (ENTRY_ID_MIN + ENTRY_KEY_MAX)

struct record {
    uint64_t length_bytes;
    uint64_t stamp_us;
    struct hash hash;
};

struct entry {
    struct namespace_id namespace;
    struct author_id author;
    struct slice key; /* document key, borrowed */
    struct record record;
    struct signature author_signature;
    struct signature namespace_signature;
};

/* Stamp, then hash: < 0, 0, > 0. */
int record_compare(const struct record *a, const struct record *b);

/* iroh-docs' empty entry: the hash of nothing (docs.md 2.2). */
bool record_is_empty(const struct record *r);

/* Whether hash-of-nothing and length 0 come together, as they must (docs.md 2.6, check 4). */
bool record_is_consistent(const struct record *r);

/* Appends the bytes that both signatures sign (docs.md 2.3). Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err entry_signed_bytes(const struct entry *e, struct buf *out);

/* Signs with both keys. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err entry_sign(struct entry *e, const struct secret_key *namespace_secret,
                                  const struct secret_key *author_secret);

/* Verifies both signatures strictly (docs.md 1.2). Errors: HKV_E_BAD_SIGNATURE, HKV_E_NOMEM. About 80 µs: for workers.
 */
HKV_CHECK enum hkv_err entry_verify(const struct entry *e);

/* Fingerprint of the entry alone (docs.md 2.7): no length, no signatures. */
void entry_fingerprint(const struct entry *e, struct fingerprint *out);

/* Appends the postcard form of SignedEntry (docs.md 2.4). Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err entry_encode(const struct entry *e, struct buf *out);

/* Bytes entry_encode would append. */
size_t entry_encoded_bytes(const struct entry *e);

/* Reads a SignedEntry; the key points into the reader's input. Signatures, namespace and record are not judged.
 * Errors: HKV_E_PEER_PROTOCOL: not a SignedEntry, an id shorter than ENTRY_ID_MIN, or a key above ENTRY_KEY_MAX. */
HKV_CHECK enum hkv_err entry_decode(struct postcard_reader *r, struct entry *out);

/* Appends the id. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err entry_id_append(const struct entry *e, struct buf *out);

/* Byte order of the entry's id against a string of bytes that may be any bound: < 0, 0, > 0. */
int entry_id_compare(const struct entry *e, struct slice id);

#endif
