/* Sessions with peers: when they begin, what happens at their end, and who waits for them. Network thread only, but for
 * what says so.
 *
 *   due (interval, wake-up, back-off) ─▶ dial ──┐
 *   the peer dials us ───────────▶ accept rule ─┴▶ session ─┐
 *       ┌───────────────────────────────────────────────────┘
 *       ├─▶ ok, nothing moved    next at the interval
 *       ├─▶ ok, entries moved    values are fetched, other peers woken; at once again when we dialled and the peer is
 *       │                        a member, else at the interval
 *       └─▶ failed               back-off, 250 ms doubling up to the interval (at most 30 s)
 *
 * One session occupies a pair of nodes at a time. When both dial at once, the one dialled by the smaller endpoint id
 * survives (wire/docs.md 5.5). */
#ifndef HKV_NODE_SYNC_H
#define HKV_NODE_SYNC_H

#include "node/node.h"

#define SYNC_COMPACT_ALPN          "/hkv-sync/1" /* the same session with shorter ids, between two of our nodes */
#define SYNC_ALPN                  "/iroh-sync/1"
#define SYNC_SESSIONS_MAX          64                   /* accepted ones at a time */
#define SYNC_SESSIONS_PER_PEER_MAX 4                    /* … of one peer: one counts, the others are dead or ending */
#define SYNC_FIRST_BYTE_US         ((uint64_t)10000000) /* from the connection to the peer's first message */
#define SYNC_PROGRESS_US           ((uint64_t)60000000) /* without anything complete, nor so many bytes: */
#define SYNC_TRICKLE_BYTES         ((size_t)4096)       /* fewer are no progress of a long message */
#define SYNC_LINGER_US             ((uint64_t)5000000)  /* from our FIN to the peer's */
#define SYNC_STALE_US              ((uint64_t)5000000) /* a session that heard nothing for so long gives way to the peer's own */
#define SYNC_BACKOFF_FIRST_US      ((uint64_t)250000)
#define SYNC_BACKOFF_MAX_US        ((uint64_t)30000000)
#define SYNC_WRITE_DELAY_US        ((uint64_t)20000)  /* from a local write to a session with a member */
#define SYNC_FOREIGN_DELAY_US      ((uint64_t)200000) /* … with a peer for whom a session is costly */

HKV_CHECK enum hkv_err sync_driver_new(struct hkv_store *store, struct sync_driver **out);
void sync_driver_free(struct sync_driver *driver);

/* Ends every session and round; no new one begins; `done(arg)` once nothing is left. */
void sync_driver_close(struct sync_driver *driver, void (*done)(void *arg), void *arg);

/* Ends the sessions under way as failed: the store joined another namespace. */
void sync_abort_all(struct sync_driver *driver);

/* A peer's timer fired. */
void sync_due(void *driver, struct peer *peer);

/* A connection for SYNC_ALPN or SYNC_COMPACT_ALPN was accepted. False: no room. When all places are taken, a session of
 * a peer that counts for less ends as failed: a stranger's before that of one that synced before, of a member, of a
 * seed. So nobody who may dial can keep out those whom this node knows. */
bool sync_accept(struct sync_driver *driver, struct transport_conn *conn);

/* The store's entries changed: peers that do not have them yet are synced with soon. `from`: the peer they came from,
 * or NULL. */
void sync_entries_changed(struct sync_driver *driver, const struct peer *from);

/* The peer is to be forgotten (struct peers): its row goes, and waits go on without it. */
void sync_peer_gone(void *store, const struct peer *peer);

/* The peer was taken out: waits for every selected peer go on without it. */
void sync_peer_removed(struct sync_driver *driver, const struct peer *peer);

/* Missing values became fewer: waits that depend on them are looked at again. */
void sync_values_changed(struct sync_driver *driver);

struct sync_counters {
    uint64_t ok;
    uint64_t failed;
};

void sync_counters(const struct sync_driver *driver, struct sync_counters *out);

/* ------------------------------------------------------------------------------------------ rounds */

enum sync_round_kind {
    SYNC_ROUND_ONCE,      /* one session with each peer, whatever its end */
    SYNC_ROUND_CONVERGED, /* a clean session with each peer, and no value missing */
};

struct sync_round_peer {
    struct endpoint_id id;
    bool done;
    enum hkv_err err;
    char why[PEER_WHY_MAX];
    bool confirmed;
    uint64_t sent;
    uint64_t received;
};

/* A wait for sessions with some or all peers. The caller fills the first part; it stays in place until `done`, which is
 * called once on the network thread. HKV_E_TIMEOUT (once), HKV_E_NOT_CONVERGED, HKV_E_CLOSED, HKV_E_PEER_UNREACHABLE,
 * HKV_E_NOT_FOUND (a selected one is not known).
 */
struct sync_round {
    enum sync_round_kind kind;
    const struct endpoint_id *selected; /* NULL: every selected peer */
    size_t selected_count;
    uint32_t timeout_ms;
    void (*done)(struct sync_round *round, enum hkv_err err); /* error_last() has the sentence */

    /* of the driver; readable in `done` */
    struct commit_task task; /* asks the store for its newest value, later whether one up to it is missing */
    struct job job;
    struct env_timer timer;
    struct sync_driver *driver;
    struct sync_round *next;
    struct sync_round_peer *peers; /* freed by the owner of the round with sync_round_fini() */
    size_t peer_count;
    uint64_t begun; /* session number at the start */
    uint64_t begun_us;
    uint64_t mark; /* number of the newest value known when the sessions had ended */
    bool mark_known;
    bool task_out;
    bool look_again; /* values arrived while the task was out */
    bool missing;
    bool over; /* `result` is final, `done` waits for the task */
    enum hkv_err result;
    struct error_text why;
};

/* Starts it; `done` may be called before this returns. */
void sync_round_begin(struct sync_driver *driver, struct sync_round *round);
void sync_round_fini(struct sync_round *round);

#endif
