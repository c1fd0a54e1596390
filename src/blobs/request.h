/* Requests on /iroh-bytes/4 (wire/blobs.md 4.2, 4.3): one a stream, delimited by FIN, except Push.
 *
 *   00 Get      hash, ranges by index     index 0 = the blob, i >= 1 = child i - 1 of it read as a sequence of hashes
 *   01 Observe  hash, ranges              which chunks of it are there
 *   08 Push     varint length, then as Get; data follows, so it is delimited by the length
 *   09 GetMany  hashes, ranges by index   index i = hash i
 *
 * Ranges by index are runs: a run's range set holds for every index from its first one up to the next run, the last run
 * for ever. Indexes before the first run want nothing. On the wire sets are span widths and runs are differences; here
 * both are absolute:
 *
 *   02 | 00 0401020604 | 01 00     runs {0: chunks 1..3 and 9..13} {1: nothing}: some chunks of one blob
 *
 * Only canonical ranges are read, as upstream does since 0.104: widths after the first and differences after the first
 * are not 0, no run equals the one before, nothing overflows. A request owns its memory. Any thread, one caller at a
 * time. */
#ifndef HKV_BLOBS_REQUEST_H
#define HKV_BLOBS_REQUEST_H

#include "base/bytes.h"
#include "base/ids.h"
#include "blobs/limits.h"
#include "crypto/bao.h"

#define BLOBS_ALPN "/iroh-bytes/4"

/* Codes of RESET_STREAM and STOP_SENDING (wire/blobs.md 4.8). */
#define BLOBS_CODE_DROPPED    0
#define BLOBS_CODE_PERMISSION 1
#define BLOBS_CODE_LIMIT      2
#define BLOBS_CODE_INTERNAL   3 /* not found, busy, and everything else */

enum blobs_request_kind {
    BLOBS_GET = 0,
    BLOBS_OBSERVE = 1,
    BLOBS_PUSH = 8,
    BLOBS_GET_MANY = 9,
};

struct blobs_run {
    uint64_t first_index;
    size_t bounds_start; /* in the request's `bounds` */
    size_t bounds_count;
};

struct blobs_request {
    enum blobs_request_kind kind;
    struct hash *hashes; /* one; any number for GetMany */
    size_t hash_count;
    struct blobs_run *runs; /* none for Observe, which has one set from bounds[0] on */
    size_t run_count;
    uint64_t *bounds;
    size_t bounds_count;
    size_t bounds_cap; /* of `bounds` while it grows */
};

void blobs_request_fini(struct blobs_request *r);

/* Looks at what has arrived of a request before its FIN, so that a provider need not gather what it will refuse.
 * HKV_OK: go on reading to FIN. HKV_E_PEER_REFUSED: a Push; reset with BLOBS_CODE_PERMISSION. HKV_E_PEER_PROTOCOL: no
 * request of ours, or too long. In both cases also stop the peer with BLOBS_CODE_DROPPED; in the last one answer with a
 * bare FIN. */
HKV_CHECK enum hkv_err blobs_request_check(struct slice so_far);

/* Reads a whole request into `out`; on error there is nothing to free. Bytes after it are ignored, except that `*end`
 * (may be NULL) tells where they begin: after a Push there is data. Errors: HKV_E_PEER_PROTOCOL (malformed, not
 * canonical, unknown), HKV_E_LIMIT (too many boundaries or runs; to the peer like the former), HKV_E_NOMEM. */
HKV_CHECK enum hkv_err blobs_request_decode(struct slice in, struct blobs_request *out, size_t *end);

/* Appends the request with its type byte. Its runs and sets must be canonical. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err blobs_request_encode(const struct blobs_request *r, struct buf *out);

/* Appends a Get of these chunks of one blob; `ranges` is not empty. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err blobs_request_encode_get(const struct hash *hash, struct bao_ranges ranges, struct buf *out);

/* Appends a GetMany of `count` > 0 whole blobs. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err blobs_request_encode_get_many(const struct hash *hashes, size_t count, struct buf *out);

/* The first index from `from` on that wants something, and what (borrowed from `r`). It jumps over gaps of any width.
 * False when no index is left. */
bool blobs_request_next(const struct blobs_request *r, uint64_t from, uint64_t *index, struct bao_ranges *ranges);

/* Appends an observe item with its length (wire/blobs.md 4.7): best known size, 0 when unknown, and the chunks present.
 */
HKV_CHECK enum hkv_err blobs_observe_item_encode(uint64_t size_bytes, struct bao_ranges present, struct buf *out);

#endif
