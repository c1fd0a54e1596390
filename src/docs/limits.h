/* Every limit of the docs module: what a peer may make us do, and what we ask of one (docs.md 4.7, 4.9, 10). */
#ifndef HKV_DOCS_LIMITS_H
#define HKV_DOCS_LIMITS_H

#include "wire/entry.h"

/* --- What is taken from a peer --- */

#define DOCS_FRAME_BYTES_MAX    (1u << 30) /* iroh-docs' own limit; decoded as a stream, never held */
#define DOCS_FRAME_PARTS_MAX    4096       /* parts of one frame */
#define DOCS_GREETING_BYTES_MAX 1024       /* a greeting with what later versions may put into it */
#define DOCS_BOUNDS_BYTES_MAX   (8u << 20) /* range bounds of one frame that wait for its end */
#define DOCS_BAD_VALUES_MAX     100        /* entries with bad signatures in one session */
#define DOCS_FUTURE_MAX         100        /* entries from the future in one session: one of the two clocks is wrong */

/* Frames in a row in which nothing new moved: 4 log2(n) and this (docs.md 10, H21). */
#define DOCS_IDLE_FRAMES_MAX 64

/* Values received in vain (known, older, refused) and values sent: 2 n and this, n = our entries. */
#define DOCS_REPEATED_VALUES_MAX 10000

/* Answering a part that brings all of the peer's entries needs to know which they were; above this many, a fingerprint
 * is answered instead. */
#define DOCS_RECEIVED_SET_MAX 65536

#define DOCS_HEADS_MAX 1024 /* authors whose newest accepted stamp a session reports */

/* --- Batches on their way through the threads --- */

#define DOCS_BATCH_VALUES_MAX 256
#define DOCS_BATCH_BYTES_MAX  (256u << 10) /* keys and bounds; the last element may pass it by 2 * ENTRY_ID_MAX */
#define DOCS_BATCH_PARTS_MAX  256
#define DOCS_BATCHES_MAX      8 /* decoded and not yet applied; with that many, decoding waits */

/* Work of one call of docs_reconcile_step(), in units of about 4 µs: a scanned entry. About 5 ms. */
#define DOCS_STEP_UNITS   1000
#define DOCS_UNITS_SCAN   1
#define DOCS_UNITS_INSERT 5
#define DOCS_UNITS_QUERY  8

/* --- What is sent --- */

/* 256 parts in all: answers, and healing parts for entries that a stored parent beat; what is left is healed by a later
 * frame. */
#define DOCS_HEALERS_MAX     32
#define DOCS_SEND_PARTS_MAX  (256 - DOCS_HEALERS_MAX)
#define DOCS_SEND_VALUES_MAX 1000
#define DOCS_SEND_BYTES_MAX  (1u << 20) /* the last value may pass it */

/* Sub-ranges of a range whose fingerprints differ, and how many entries one may hold to be sent as values; upstream has
 * (2, 1). Ten differences in 100,000 entries with 64-byte keys take: (2, 1) 56 kB in 20 frames, (3, 1) 55 kB in 13,
 * (4, 1) 59 kB in 11, (8, 1) 68 kB in 8, (16, 1) 113 kB in 7. */
#define DOCS_SPLIT_WAYS   4
#define DOCS_SPLIT_VALUES 1

/* In the compact encoding, where a part takes a quarter of the bytes and a fingerprint a quarter of an entry's:
 * docs/reconciliation.md has the numbers. */
#define DOCS_COMPACT_SEND_PARTS_MAX (1024 - DOCS_HEALERS_MAX)
#define DOCS_COMPACT_SPLIT_WAYS     4

/* A store of at most so many entries when the session begins, as a new node's with nothing but its own records, sends
 * them and asks for all of the peer's where a range of them differs, instead of dividing it: dividing costs a hundred
 * fingerprints beside each frame of values, and no chunk could be asked for before the last one is stored. Ranges with
 * entries that came in this session are divided: to ask for all there would bring those again. */
#define DOCS_COMPACT_FEW_VALUES 16

/* Values sent, of which a session remembers that the peer has them. What a full frame puts off is put off as one range,
 * which may cover ranges that were answered; where it is divided, a part that holds such a value goes as a fingerprint. */
#define DOCS_GIVEN_MAX 4096

#endif
