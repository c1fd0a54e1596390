/* One reconciliation session with one peer about one namespace (`/iroh-sync/1`, docs.md 5; `/hkv-sync/1`, front.h).
 * Bytes in, effects out: no socket, clock, disk or thread. Every function here runs on the network thread; what must
 * run elsewhere travels as a batch.
 *
 *        dialler                         acceptor
 *   OPENING    ──── Init ───────────▶  WAIT_INIT, then WAIT_DECISION (effect ACCEPT)
 *   RECONCILE  ◀─── Sync … Sync ────▶  RECONCILE       until one side has nothing to answer and ends its stream
 *   CLOSING    ◀─── FIN … FIN ──────▶  CLOSING         after FINISH: the peer's FIN must follow, and nothing else
 *   ENDED                              ENDED           effect END, once, also after every failure
 *
 * The owner (node/sync_session.c) keeps a docs_session and a docs_reconcile (replica thread) together, and after every
 * call below performs effects until there are none:
 *
 *     while (docs_session_next(session, &effect), effect.kind != DOCS_EFFECT_NONE) perform(&effect);
 *     transport_stream_consumed(stream, docs_session_consumed(session));
 *
 *   ACCEPT   the peer asks for `effect.namespace`: answer with docs_session_allow() or docs_session_refuse()
 *   SCREEN   replica: docs_batch_screen(batch, …)                                    then docs_session_screened()
 *   VERIFY   worker:  docs_batch_verify(batch, entry_verify)                         then docs_session_verified()
 *   APPLY    replica: docs_reconcile_step(…, batch, &done) until done, and commit    then docs_session_applied()
 *   SEND     write `effect.bytes` to the stream (the owner takes them over)
 *   GREETED  the peer's wall clock shows `effect.wall_us` (compact encoding; before ACCEPT, or before its first answer)
 *   FINISH   end our side of the stream (FIN), after all that was sent
 *   END      `session->outcome` is final. err == HKV_OK: both sides ended well; close the connection when our data
 *            is acknowledged. Otherwise reset and stop the stream; after FINISH, closing the connection will do.
 *
 * Several VERIFYs may be out at once and come back in any order; of SCREEN and APPLY one each, APPLY in the order of
 * the wire. Every batch must be reported back, also after END; docs_session_is_busy() says whether one is out. Neither
 * session nor docs_reconcile may be freed before. Results ride in the batch (`answer`); the counts of the outcome are
 * complete when no batch is out any more. If the transaction of an APPLY is lost, put the error into batch->answer
 * before reporting the batch.
 *
 * Early pull: a peer of our kind sends a large range in chunks, each followed by the fingerprint of the rest. When that
 * rest lies in a range of which we had nothing and asked for all, the answer is known without the replica: "send me all
 * of it". It leaves at once, and the next chunk travels while this one's signatures are checked. */
#ifndef HKV_DOCS_SESSION_H
#define HKV_DOCS_SESSION_H

#include "docs/message.h"

enum docs_role {
    DOCS_DIALLER,
    DOCS_ACCEPTOR,
};

enum docs_session_state {
    DOCS_OPENING,       /* dialler: the first message is being made */
    DOCS_WAIT_INIT,     /* acceptor */
    DOCS_WAIT_DECISION, /* acceptor: allow or refuse */
    DOCS_RECONCILE,
    DOCS_CLOSING, /* our FIN is sent or due, the peer's has to follow */
    DOCS_ENDED,
};

enum docs_effect_kind {
    DOCS_EFFECT_NONE,
    DOCS_EFFECT_ACCEPT,
    DOCS_EFFECT_SCREEN,
    DOCS_EFFECT_VERIFY,
    DOCS_EFFECT_APPLY,
    DOCS_EFFECT_SEND,
    DOCS_EFFECT_GREETED,
    DOCS_EFFECT_FINISH,
    DOCS_EFFECT_END,
};

struct docs_effect {
    enum docs_effect_kind kind;
    struct docs_batch *batch;      /* SCREEN, VERIFY, APPLY: borrowed until reported back */
    struct buf bytes;              /* SEND: the receiver's */
    struct namespace_id namespace; /* ACCEPT */
    uint64_t wall_us;              /* GREETED */
};

struct docs_outcome {
    enum hkv_err err; /* HKV_OK: a clean end. HKV_E_PEER_REFUSED: an Abort, sent or received */
    struct error_text why;
    bool is_confirmed; /* the dialler's first fingerprint was equal to the acceptor's, and the end was clean */
    bool is_aborted;   /* reason in `abort_reason` */
    enum docs_abort_reason abort_reason;
    uint64_t sent;     /* entries */
    uint64_t received; /* entries, valid or not */
    uint64_t inserted; /* … that were stored */
    uint64_t refused;  /* … that a node should hold and we don't: bad signature, malformed, future, over a limit */
    uint64_t future;   /* … of these, the ones from the future */
    uint64_t newest_stamp_us; /* among the received entries with good signatures */
    uint64_t frames_sent;
    uint64_t frames_received; /* without the greeting */
};

struct docs_session {
    enum docs_role role;
    enum docs_session_state state;
    struct namespace_id namespace;
    struct docs_outcome outcome;

    struct docs_decoder decoder;
    struct buf output; /* frames to send */
    bool peer_ended;   /* its FIN is here */
    bool is_draining;  /* after an Abort: what still comes is not looked at */
    size_t drained;

    struct docs_batch *head, *tail; /* decoded, not yet applied, in order */
    size_t batch_count;
    size_t out_count; /* of them, and of dropped ones: with the owner */
    bool should_screen;
    struct buf pull_x, pull_y; /* the range we asked for last, having nothing there; empty: no early pull */

    bool is_greeted; /* the peer's greeting is here */
    bool greeting_due;
    uint64_t greeting_wall_us;

    bool accept_told, finish_due, end_due;
    bool was_equal; /* the peer's first message was our fingerprint */
};

/* The dialler names the namespace; the acceptor learns it (effect ACCEPT) and passes NULL.
 * Errors: HKV_E_NOMEM; the session needs no docs_session_fini then. */
HKV_CHECK enum hkv_err docs_session_init(struct docs_session *s, enum docs_role role,
                                         const struct namespace_id *namespace);

/* How the messages are written, both ways; without it DOCS_ENCODING_IROH. The connection's ALPN says it: call this
 * before the first docs_session_next() or docs_session_feed(), and docs_reconcile_set_encoding() with the same. */
void docs_session_set_encoding(struct docs_session *s, enum docs_encoding encoding);

/* Tells the peer what our wall clock shows, in the next bytes to be sent; does nothing in iroh's encoding, which has no
 * room for it. The dialler does so before its first message, the acceptor when it has allowed the session. */
void docs_session_greet(struct docs_session *s, uint64_t wall_us);

/* No batch may be out. */
void docs_session_fini(struct docs_session *s);

/* The next bytes of the peer's stream; all are taken. Bounded by the owner giving back flow control only for what
 * docs_session_consumed() says. After END they are ignored. */
void docs_session_feed(struct docs_session *s, struct slice bytes);

/* The peer ended its stream (FIN). */
void docs_session_feed_end(struct docs_session *s);

/* The stream or its connection broke, time is up, or the owner is closing. The effect is END with this error; its
 * sentence is this thread's error_last(). No effect when the session has ended. */
void docs_session_fail(struct docs_session *s, enum hkv_err err);

/* The answers to ACCEPT. */
void docs_session_allow(struct docs_session *s);
void docs_session_refuse(struct docs_session *s, enum docs_abort_reason reason);

/* The batch of an effect is back. */
void docs_session_screened(struct docs_session *s, struct docs_batch *batch);
void docs_session_verified(struct docs_session *s, struct docs_batch *batch);
void docs_session_applied(struct docs_session *s, struct docs_batch *batch);

/* The next thing to do, or NONE until something happens. Never fails: failures become END. */
void docs_session_next(struct docs_session *s, struct docs_effect *effect);

/* Bytes worked off since the last call: what the peer may send anew. */
size_t docs_session_consumed(struct docs_session *s);

/* Whether a batch is out. */
static inline bool docs_session_is_busy(const struct docs_session *s)
{
    return s->out_count > 0;
}

#endif
