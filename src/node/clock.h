/* What this node knows of clocks: whether its own can be right, and how far those of its peers are from it.
 *
 *   greeting of /hkv-sync/1 ───────────▶ measured ──┐
 *   stamp of a received entry ─────────▶ at least ──┼─▶ struct peer ─▶ clock_review() ─▶ two bounds ─▶ writes, status
 *   session ended, entries from the future ─────────┘
 *
 * A peer's clock is kept as its distance from our monotonic clock. When our wall clock is set, every skew is right
 * again at once, without a session.
 *
 * Whom we believe: what a peer says of its clock, true or not, never changes which entries we take. It can make us
 * refuse our own writes (we seem to be more than five minutes behind), so that takes two peers, and of those that count
 * only: seeds, members, and with a list of trusted peers those on it. Who only knows the namespace id is none of them,
 * with as many endpoint ids as it likes. docs/clocks.md has the whole of it. */
#ifndef HKV_NODE_CLOCK_H
#define HKV_NODE_CLOCK_H

#include <hero_kvs.h>
#include <stdatomic.h>

#include "node/peers.h"

#define CLOCK_WARN_US     ((int64_t)1000000)    /* a skew that is worth a line in the log */
#define CLOCK_WRONG_US    ((int64_t)300000000)  /* from two peers: our clock is wrong */
#define CLOCK_FRESH_US    ((uint64_t)600000000) /* a measurement counts for so long, or three intervals */
#define CLOCK_ACCEPTED_US ((uint64_t)1000000)   /* an acceptor takes a greeting to be under way no longer than this */
#define CLOCK_WHY_MAX     HKV_CLOCK_WHY_BYTES

struct hkv_store;

/* Written by the network thread, read by any. */
struct clock_bounds {
    _Atomic int64_t behind_offset_us; /* two peers' clocks are at least so far before our monotonic one's zero … */
    _Atomic int64_t ahead_offset_us;  /* … or at most; INT64_MIN and INT64_MAX while there are not two */
    atomic_bool is_refusing;          /* a peer's entries are refused by the hundred for their stamps: */
    struct endpoint_id refused_peer;  /* under the store's identity_lock */
    bool was_wrong;                   /* as last logged; network thread */
};

void clock_init(struct hkv_store *store);

/* The peer's wall clock showed `wall_us` at some moment between two of our monotonic clock, most likely at `likely_us`.
 * Network thread. */
struct clock_moment {
    uint64_t wall_us;
    uint64_t earliest_us;
    uint64_t likely_us;
    uint64_t latest_us;
};

void clock_measured(struct hkv_store *store, struct peer *peer, const struct clock_moment *moment);

/* A session with the peer is over: the newest stamp that it sent (0: none), and whether it was ended because too many
 * of its entries came from the future. Network thread. */
void clock_session_ended(struct hkv_store *store, struct peer *peer, uint64_t newest_stamp_us, enum hkv_err err);

/* Peers came, went, or fell silent. Network thread. */
void clock_review(struct hkv_store *store);

/* How far the peer's clock is ahead of ours now; negative: behind. Network thread. */
enum hkv_skew clock_skew(struct hkv_store *store, const struct peer *peer, int64_t *skew_us);

/* Whether the clock can be right; if not, `why` says in words what is wrong and what to do. Any thread. */
bool clock_is_sane(struct hkv_store *store, char why[CLOCK_WHY_MAX]);

/* Whether a stamp may be taken from the clock: HKV_E_CLOCK when it is older than this build, or more than five minutes
 * behind two peers, and allow_bad_clock is off. Any thread. */
HKV_CHECK enum hkv_err clock_check_write(struct hkv_store *store);

#endif
