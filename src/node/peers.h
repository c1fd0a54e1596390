/* The peers of an open store, as the network thread sees them: who they are, where, how the last session went, when the
 * next is due.
 *
 *   seeds (configuration, peer_add, tickets) ─┐
 *   members (valid records of the namespace) ─┼─▶ one struct peer for each endpoint id ─▶ its timer ─▶ driver dials
 *   synced (completed a session with us) ─────┘
 *
 * Network thread only, except for the addresses and sources that are written through to the store's peer table. A
 * removed peer stays in the list, marked, so that its member record does not bring it back.
 *
 * At most PEERS_MAX are kept. Endpoint ids cost nothing, so when the list is full, who comes takes the place of one who
 * counts for less (enum peer_claim), the one longest unheard of first: strangers never keep out seeds and members.
 *
 * Addresses that a peer was met at come and go (a peer behind NAT has a new one each time), those that somebody named
 * stay: of the former the last PEER_MET_MAX are kept. */
#ifndef HKV_NODE_PEERS_H
#define HKV_NODE_PEERS_H

#include "base/env.h"
#include "base/ids.h"
#include "kv/kv.h"
#include "wire/ticket.h"

#define PEERS_MAX     1024
#define PEER_MET_MAX  8
#define PEER_WHY_MAX  ERROR_TEXT_MAX
#define PEER_NAME_MAX 256 /* with NUL */

struct sync_session;

/* What is known of a peer's wall clock (clock.h). */
struct peer_clock {
    uint64_t at_us;         /* monotonic: when it became known; 0: never */
    int64_t offset_us;      /* what it shows, less our monotonic clock */
    int64_t uncertainty_us; /* either way */
    bool is_measured;       /* else a stamp that it sent shows that its clock, or an author's, is at least there */
    bool is_logged;
    int64_t logged_us;  /* the skew */
    uint64_t future_us; /* monotonic: a session was ended because its entries came from the future; 0: since then one
                           was good */
};

struct peer {
    struct env_timer timer; /* first: the next dial */
    struct peers *peers;
    struct endpoint_id id;
    struct address_set addrs;                       /* where to dial it: named, or met at */
    struct socket_address met_before[PEER_MET_MAX]; /* those of `addrs` that nobody named, the newest last */
    size_t met_count;
    char host[PEER_HOST_MAX + 1]; /* a name to resolve before dialling; "" when there is none */
    uint16_t host_port;
    bool resolved; /* `host` was looked up; again after some failures */
    bool seed;
    bool member;
    bool synced;
    bool removed;
    char name[PEER_NAME_MAX];
    struct sync_session *session; /* the one that occupies the pair; NULL: idle */
    unsigned session_count;       /* that point here, the one and those it took the place of */
    bool again;                   /* wanted once more as soon as `session` ends */
    unsigned failures;            /* in a row */
    uint64_t last_ok_mono_us;     /* 0: never since the start */
    uint64_t last_ok_wall_us;     /* 0: never */
    uint64_t last_clean_mono_us;  /* of a session that was confirmed, or moved entries of which none was refused */
    uint64_t down_wall_us;        /* since when sessions fail, or it is known without any; 0: the last one was good */
    bool last_confirmed;
    struct fingerprint confirmed; /* ours when the last session was confirmed */
    uint64_t rtt_us;
    struct socket_address met; /* where the last good session was with it; port 0: none yet */
    struct peer_clock clock;
    unsigned repeats;      /* sessions in a row because entries moved */
    uint64_t persisted_us; /* monotonic: when its row was stored last */
    char why[PEER_WHY_MAX];
};

struct peers {
    struct env *env;
    struct endpoint_id self;
    struct peer **items;
    size_t count;
    void (*due)(void *arg, struct peer *peer);        /* a peer's timer fired */
    void (*gone)(void *arg, const struct peer *peer); /* nothing speaks for it any more: it is to be forgotten */
    void *arg;
};

/* Why a peer should be in the list, from the weakest reason to the strongest. */
enum peer_claim {
    PEER_CLAIM_STRANGER, /* it dials us: takes the place of one that never synced, or that cannot be reached */
    PEER_CLAIM_MEMBER,   /* … of any that is neither seed nor member */
    PEER_CLAIM_SEED,     /* somebody named it: … of any that is no seed */
};

void peers_init(struct peers *peers, struct env *env, const struct endpoint_id *self,
                void (*due)(void *arg, struct peer *peer), void (*gone)(void *arg, const struct peer *peer), void *arg);

/* Timers are cancelled; no session may be left. */
void peers_fini(struct peers *peers);

/* NULL when unknown. */
struct peer *peers_find(const struct peers *peers, const struct endpoint_id *id);

/* What an endpoint counts for when there is not room for all: 3 a seed, 2 a member, 1 a peer that has synced, 0 a stranger
 * or a removed peer. */
unsigned peers_standing(const struct peers *peers, const struct endpoint_id *id);

/* Finds or adds. Errors: HKV_E_INVALID (our own id), HKV_E_LIMIT (PEERS_MAX, and none of them counts for less),
 * HKV_E_NOMEM. */
HKV_CHECK enum hkv_err peers_get(struct peers *peers, const struct endpoint_id *id, enum peer_claim claim,
                                 struct peer **out);

/* Adds addresses that somebody named. Errors: HKV_E_NOMEM, HKV_E_LIMIT; what was added until then stays. */
HKV_CHECK enum hkv_err peer_named_at(struct peer *peer, const struct address_set *addrs);

/* Adds the address that its packets came from. True: it is new. Without memory it is left out. */
bool peer_met_at(struct peer *peer, const struct socket_address *socket);

/* Adds the addresses to remember over a restart: those that were named, and the last one that it was met at.
 * Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err peer_lasting_addrs(const struct peer *peer, struct address_set *out);

/* Another namespace was joined, and no session occupies a peer: what was learned in the old one is void, and of its
 * peers only the seeds are still selected; the others are `gone`. */
void peers_change_namespace(struct peers *peers);

/* Whether we dial it and wait for it: a seed, member or synced peer that was not removed. */
bool peer_is_selected(const struct peer *peer);

/* Whether its last session succeeded and is younger than three intervals; `now_us` is monotonic. */
bool peer_is_connected(const struct peer *peer, uint64_t now_us, uint64_t interval_us);

/* Moves the next dial to `delay_us` from now, unless one is due earlier already. Does nothing while a session runs: it
 * sets `again`. */
void peer_wake(struct peer *peer, uint64_t delay_us);

/* Sets the next dial to exactly `delay_us` from now. */
void peer_schedule(struct peer *peer, uint64_t delay_us);

#endif
