/* What sync.c (when to sync, and with whom), sync_session.c (one session over one connection) and sync_rounds.c (who
 * waits for sessions) share. Network thread only. */
#ifndef HKV_NODE_SYNC_PARTS_H
#define HKV_NODE_SYNC_PARTS_H

#include "docs/reconcile.h"
#include "docs/session.h"
#include "node/sync.h"

struct sync_driver {
    struct hkv_store *store;
    struct sync_session *sessions;
    size_t accepted_count;
    uint64_t number; /* of the session begun last */
    struct sync_round *rounds;
    size_t round_tasks; /* with the store */
    struct sync_counters counters;
    bool closing;
    void (*closed_done)(void *arg);
    void *closed_arg;
};

/* One session, from dialling or accepting to the end of its connection.
 *
 * It occupies the pair while peer->session points to it: until its end, or until a session of the peer's wins. It is
 * freed when the core has ended, no batch is out, and stream and connection are closed. */
struct sync_session {
    struct sync_driver *driver;
    struct sync_session *next;
    struct peer *peer; /* NULL while an accepted one has not said what it wants */
    enum docs_role role;
    struct transport_conn *conn;
    struct transport_stream *stream;
    struct env_timer timer;
    struct docs_session docs;
    struct docs_reconcile reconcile;
    struct commit_task screen;
    struct commit_task apply;
    struct docs_batch *screening;
    struct docs_batch *applying;
    uint64_t number;
    uint64_t inserted;               /* reported so far */
    struct clock_moment peer_moment; /* of the peer's greeting */
    uint64_t greeted_us;             /* monotonic: when we said what our clock shows */
    size_t trickle_bytes;            /* received since the timer was set */
    uint64_t heard_us;               /* monotonic: when the peer last sent something, or the session began */
    struct endpoint_id peer_id;
    bool opened;    /* dialled: the peer answered */
    bool displaced; /* by a session that the peer dialled, before it answered ours */
    bool gave_way;  /* its place among the accepted ones is another's */
    bool ended;     /* END was handled */
    bool finished;  /* our FIN is acknowledged */
};

/* Dials the peer. It becomes peer->session. Errors: those of transport_dial, HKV_E_NOMEM. */
HKV_CHECK enum hkv_err sync_session_dial(struct sync_driver *driver, struct peer *peer);

/* Ends it as failed. */
void sync_session_abort(struct sync_session *s, enum hkv_err err);

/* ---- sync.c, called by sync_session.c ---- */

/* Whether a peer's session may begin: HKV_OK, and it is peer->session now; else the reason in `*reason`. */
HKV_CHECK bool sync_admit(struct sync_session *s, const struct namespace_id *namespace, enum docs_abort_reason *reason);

/* Some entries were stored. */
void sync_session_progress(struct sync_session *s, uint64_t inserted);

/* The outcome is final. */
void sync_session_ended(struct sync_session *s);

/* It is freed. */
void sync_session_gone(struct sync_driver *driver, struct sync_session *s);

/* The closing driver reports back when nothing is left. */
void sync_check_closed(struct sync_driver *driver);

/* ---- sync_rounds.c, called by sync.c ---- */

/* A session with a peer ended; a dial failed at once. */
void sync_rounds_session_ended(struct sync_driver *driver, const struct sync_session *s, bool clean);
void sync_rounds_dial_failed(struct sync_driver *driver, struct peer *peer, const struct docs_outcome *outcome);

/* Ends those that have nothing left to wait for; all of them, because the driver closes. */
void sync_rounds_check(struct sync_driver *driver);
void sync_rounds_close(struct sync_driver *driver);

#endif
