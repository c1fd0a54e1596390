/* One docs session over one connection: performs the effects of the core (docs/session.h) and keeps the time limits.
 *
 *   dialler   dial ─▶ opened: stream, core ─▶ … END ─▶ our FIN acknowledged ─▶ close
 *   acceptor  accepted ─▶ stream: core ─▶ … END ─▶ the dialler closes, or SYNC_LINGER_US is over
 *
 * (wire/endpoint.md 9, 14 and 15) */
#include <assert.h>
#include <stdlib.h>

#include "base/text.h"
#include "node/sync_parts.h"

static void perform_all(struct sync_session *s);

static struct env *env_of(const struct sync_session *s)
{
    return node_env(s->driver->store);
}

static const struct node_patience *patience(const struct sync_session *s)
{
    return &s->driver->store->patience;
}

static void arm(struct sync_session *s, uint64_t delay_us)
{
    s->trickle_bytes = 0;
    env_timer_set(env_of(s), &s->timer, env_mono_us(env_of(s)) + delay_us);
}

static void free_if_over(struct sync_session *s)
{
    if (s->conn != NULL || s->stream != NULL || !s->ended || docs_session_is_busy(&s->docs)) return;
    struct sync_driver *driver = s->driver;
    env_timer_cancel(env_of(s), &s->timer);
    docs_reconcile_fini(&s->reconcile);
    docs_session_fini(&s->docs);
    sync_session_gone(driver, s);
    free(s);
}

/* ------------------------------------------------------------------------------------------ batches on their way */

static struct sync_session *session_of(struct job *job, struct docs_batch **batch)
{
    *batch = (struct docs_batch *)(void *)((char *)job - offsetof(struct docs_batch, job));
    return (*batch)->user;
}

static void verified_back(struct job *job)
{
    struct docs_batch *batch;
    struct sync_session *s = session_of(job, &batch);
    docs_session_verified(&s->docs, batch);
    perform_all(s);
}

static void verify_run(struct job *job)
{
    struct docs_batch *batch;
    struct sync_session *s = session_of(job, &batch);
    docs_batch_verify(batch, entry_verify);
    batch->job.run = verified_back;
    env_run_on(env_of(s), ENV_NETWORK, &batch->job);
}

static void screened_back(struct job *job)
{
    struct docs_batch *batch;
    struct sync_session *s = session_of(job, &batch);
    docs_session_screened(&s->docs, batch);
    perform_all(s);
}

/* A session outlives hkv_join() by a moment, and must not show the new namespace to a peer of the old one. */
static enum hkv_err check_namespace(const struct sync_session *s, struct docs_replica *replica)
{
    if (namespace_id_equal(&s->docs.namespace, replica->ops->namespace(replica))) return HKV_OK;
    return error_set(HKV_E_NAMESPACE, "this store joined another namespace meanwhile");
}

static enum hkv_err screen_apply(struct commit_task *task, struct kv *kv)
{
    struct sync_session *s = (struct sync_session *)(void *)((char *)task - offsetof(struct sync_session, screen));
    TRY(check_namespace(s, kv_docs(kv)));
    docs_batch_screen(s->screening, kv_docs(kv));
    return HKV_OK; /* a failure is in the batch's answer */
}

static void send_back(struct sync_session *s, struct docs_batch *batch, void (*run)(struct job *job), enum hkv_err err)
{
    if (err != HKV_OK && batch->answer.err == HKV_OK) {
        batch->answer.err = err;
        error_save(&batch->answer.why);
    }
    batch->job.run = run;
    env_run_on(env_of(s), ENV_NETWORK, &batch->job);
}

static void screen_complete(struct commit_task *task, enum hkv_err err)
{
    struct sync_session *s = (struct sync_session *)(void *)((char *)task - offsetof(struct sync_session, screen));
    send_back(s, s->screening, screened_back, err);
}

static void applied_back(struct job *job)
{
    struct docs_batch *batch;
    struct sync_session *s = session_of(job, &batch);
    sync_session_progress(s, batch->answer.inserted);
    docs_session_applied(&s->docs, batch);
    perform_all(s);
}

static enum hkv_err apply_apply(struct commit_task *task, struct kv *kv)
{
    struct sync_session *s = (struct sync_session *)(void *)((char *)task - offsetof(struct sync_session, apply));
    bool done;
    if (task->retried) return error_set(HKV_E_DISK, "the transaction that held this session's entries was lost");
    TRY(check_namespace(s, kv_docs(kv)));
    docs_reconcile_step(&s->reconcile, kv_docs(kv), s->applying, &done);
    /* After an offence the session ends, and what it brought until then stays: the refused entries that say why, too.
     */
    if (s->applying->answer.err != HKV_OK && !s->applying->answer.is_offence) {
        error_restore(&s->applying->answer.why);
        return s->applying->answer.err;
    }
    task->again = !done;
    return HKV_OK;
}

static void apply_complete(struct commit_task *task, enum hkv_err err)
{
    struct sync_session *s = (struct sync_session *)(void *)((char *)task - offsetof(struct sync_session, apply));
    send_back(s, s->applying, applied_back, err);
}

/* ------------------------------------------------------------------------------------------ effects */

/* Tells the peer what our clock shows now. */
static void greet(struct sync_session *s)
{
    s->greeted_us = env_mono_us(env_of(s));
    docs_session_greet(&s->docs, env_wall_us(env_of(s)));
}

/* The peer's greeting left it when half a round trip was still ahead, at the latest now. One that answers ours left it
 * after ours had left. */
static void greeted(struct sync_session *s, uint64_t wall_us)
{
    struct transport_path_info path = {0};
    uint64_t now_us = env_mono_us(env_of(s));
    if (s->conn == NULL) return;
    transport_conn_path(s->conn, &path);
    uint64_t earliest_us = now_us > CLOCK_ACCEPTED_US ? now_us - CLOCK_ACCEPTED_US : 0;
    if (s->role == DOCS_DIALLER) earliest_us = s->greeted_us;
    uint64_t way_us = path.rtt_us / 2 < now_us - earliest_us ? path.rtt_us / 2 : now_us - earliest_us;
    s->peer_moment = (struct clock_moment){wall_us, earliest_us, now_us - way_us, now_us};
    if (s->peer != NULL) clock_measured(s->driver->store, s->peer, &s->peer_moment);
}

static void decide(struct sync_session *s, const struct namespace_id *namespace)
{
    enum docs_abort_reason reason;
    if (sync_admit(s, namespace, &reason)) {
        arm(s, patience(s)->sync_progress_us);
        docs_session_allow(&s->docs);
        greet(s);
        if (s->docs.is_greeted) clock_measured(s->driver->store, s->peer, &s->peer_moment);
    } else {
        docs_session_refuse(&s->docs, reason);
    }
}

static void end(struct sync_session *s)
{
    s->ended = true;
    sync_session_ended(s);
    if (s->conn == NULL) {
        free_if_over(s);
        return;
    }
    if (s->docs.outcome.err != HKV_OK && !s->docs.outcome.is_aborted) {
        if (s->stream != NULL) {
            transport_stream_reset(s->stream, 0);
            transport_stream_stop(s->stream, 0);
        }
        transport_conn_close(s->conn, 0, "");
        return;
    }
    if (s->role == DOCS_DIALLER && (s->finished || s->stream == NULL))
        transport_conn_close(s->conn, 0, "");
    else
        arm(s, patience(s)->sync_linger_us);
}

static void perform(struct sync_session *s, struct docs_effect *effect)
{
    struct hkv_store *store = s->driver->store;
    switch (effect->kind) {
    case DOCS_EFFECT_NONE:
        return;
    case DOCS_EFFECT_ACCEPT:
        decide(s, &effect->namespace);
        return;
    case DOCS_EFFECT_SCREEN:
        effect->batch->user = s;
        s->screening = effect->batch;
        s->screen = (struct commit_task){.apply = screen_apply, .complete = screen_complete};
        committer_submit(&store->committer, &s->screen);
        return;
    case DOCS_EFFECT_VERIFY:
        effect->batch->user = s;
        effect->batch->job.run = verify_run;
        env_run_on(env_of(s), ENV_WORKER, &effect->batch->job);
        return;
    case DOCS_EFFECT_APPLY:
        effect->batch->user = s;
        s->applying = effect->batch;
        s->apply = (struct commit_task){.apply = apply_apply, .complete = apply_complete};
        committer_submit(&store->committer, &s->apply);
        return;
    case DOCS_EFFECT_SEND:
        if (s->stream == NULL || transport_stream_write(s->stream, &effect->bytes) != HKV_OK) buf_fini(&effect->bytes);
        arm(s, patience(s)->sync_progress_us);
        return;
    case DOCS_EFFECT_GREETED:
        greeted(s, effect->wall_us);
        return;
    case DOCS_EFFECT_FINISH:
        if (s->stream != NULL) transport_stream_finish(s->stream);
        return;
    case DOCS_EFFECT_END:
        end(s);
        return;
    }
}

/* May free the session. */
static void perform_all(struct sync_session *s)
{
    struct docs_effect effect = {0};
    for (;;) {
        docs_session_next(&s->docs, &effect);
        if (effect.kind == DOCS_EFFECT_NONE) break;
        bool last = effect.kind == DOCS_EFFECT_END;
        if (s->peer != NULL && !last) arm(s, patience(s)->sync_progress_us);
        perform(s, &effect);
        if (last) return;
    }
    if (s->stream != NULL && !s->ended) {
        size_t consumed = docs_session_consumed(&s->docs);
        if (consumed > 0) transport_stream_consumed(s->stream, consumed);
    }
    free_if_over(s);
}

void sync_session_abort(struct sync_session *s, enum hkv_err err)
{
    docs_session_fail(&s->docs, err);
    perform_all(s);
}

/* ------------------------------------------------------------------------------------------ stream */

static void stream_data(struct transport_stream *stream, struct slice bytes, bool fin)
{
    struct sync_session *s = transport_stream_user(stream);
    if (s->ended) {
        transport_stream_consumed(stream, bytes.len);
        return;
    }
    s->heard_us = env_mono_us(env_of(s));
    s->trickle_bytes += bytes.len;
    if (s->peer != NULL && s->trickle_bytes >= patience(s)->sync_trickle_bytes) arm(s, patience(s)->sync_progress_us);
    if (bytes.len > 0) docs_session_feed(&s->docs, bytes);
    if (fin) docs_session_feed_end(&s->docs);
    perform_all(s);
}

static void stream_writable(struct transport_stream *stream)
{
    struct sync_session *s = transport_stream_user(stream);
    if (!s->ended) arm(s, patience(s)->sync_progress_us);
}

static void stream_finished(struct transport_stream *stream)
{
    struct sync_session *s = transport_stream_user(stream);
    s->finished = true;
    if (s->ended && s->role == DOCS_DIALLER && s->conn != NULL) transport_conn_close(s->conn, 0, "");
}

static void stream_reset(struct transport_stream *stream, uint64_t code)
{
    struct sync_session *s = transport_stream_user(stream);
    (void)error_set(HKV_E_PEER_LOST, "the peer reset the session with code %llu", (unsigned long long)code);
    if (!s->ended) sync_session_abort(s, HKV_E_PEER_LOST);
}

static void stream_stopped(struct transport_stream *stream, uint64_t code)
{
    struct sync_session *s = transport_stream_user(stream);
    (void)error_set(HKV_E_PEER_LOST, "the peer stopped the session with code %llu", (unsigned long long)code);
    if (!s->ended) sync_session_abort(s, HKV_E_PEER_LOST);
}

static void stream_closed(struct transport_stream *stream)
{
    struct sync_session *s = transport_stream_user(stream);
    s->stream = NULL;
    if (s->ended && s->role == DOCS_DIALLER && s->conn != NULL) transport_conn_close(s->conn, 0, "");
    free_if_over(s);
}

static const struct transport_stream_events stream_events = {
    .data = stream_data,
    .writable = stream_writable,
    .finished = stream_finished,
    .reset = stream_reset,
    .stopped = stream_stopped,
    .closed = stream_closed,
};

/* ------------------------------------------------------------------------------------------ connection */

/* A dialler offers both encodings, a peer that knows only iroh's picks that one. */
static void set_encoding(struct sync_session *s)
{
    if (!slice_equal(transport_conn_alpn(s->conn), slice_of_text(SYNC_COMPACT_ALPN))) return;
    docs_session_set_encoding(&s->docs, DOCS_ENCODING_COMPACT);
    docs_reconcile_set_encoding(&s->reconcile, DOCS_ENCODING_COMPACT);
}

static void conn_opened(struct transport_conn *conn)
{
    struct sync_session *s = transport_conn_user(conn);
    s->opened = true;
    set_encoding(s);
    if (s->ended || s->role == DOCS_ACCEPTOR) return; /* the dialler opens the stream */
    enum hkv_err err = transport_stream_open(conn, &stream_events, s, &s->stream);
    if (err != HKV_OK) {
        s->stream = NULL;
        sync_session_abort(s, err);
        return;
    }
    arm(s, patience(s)->sync_progress_us);
    greet(s);
    perform_all(s);
}

static bool conn_stream(struct transport_conn *conn, struct transport_stream *stream)
{
    struct sync_session *s = transport_conn_user(conn);
    if (s->role != DOCS_ACCEPTOR || s->stream != NULL || s->ended) return false;
    s->stream = stream;
    transport_stream_set(stream, &stream_events, s);
    return true;
}

static void conn_closed(struct transport_conn *conn, enum hkv_err err, uint64_t code, const char *why)
{
    struct sync_session *s = transport_conn_user(conn);
    (void)code;
    s->conn = NULL;
    if (s->ended) {
        free_if_over(s);
        return;
    }
    /* A clean close may overtake the FIN of a peer that has nothing more to say. */
    if (err == HKV_OK && s->docs.state == DOCS_CLOSING) {
        docs_session_feed_end(&s->docs);
        perform_all(s);
        return;
    }
    if (err == HKV_OK) {
        err = HKV_E_PEER_LOST;
        why = "the peer closed the connection in the middle of the session";
    }
    (void)error_set(err, "%s", why);
    sync_session_abort(s, err);
}

static const struct transport_conn_events conn_events = {
    .opened = conn_opened, .stream = conn_stream, .closed = conn_closed};

static void timer_fired(struct env_timer *timer)
{
    struct sync_session *s = (struct sync_session *)(void *)((char *)timer - offsetof(struct sync_session, timer));
    if (s->ended) {
        if (s->conn != NULL) transport_conn_close(s->conn, 0, "");
        return;
    }
    if (docs_session_is_busy(&s->docs)) {
        arm(s, patience(s)->sync_progress_us);
        return;
    }
    (void)error_set(HKV_E_TIMEOUT, "the peer sent nothing for too long");
    sync_session_abort(s, HKV_E_TIMEOUT);
}

static struct sync_session *session_new(struct sync_driver *driver, enum docs_role role, const struct endpoint_id *peer)
{
    struct hkv_store *store = driver->store;
    struct node_identity identity;
    uint64_t seed;
    struct sync_session *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    node_identity_get(store, &identity);
    enum hkv_err err = docs_session_init(&s->docs, role, role == DOCS_DIALLER ? &identity.signer.namespace : NULL);
    node_identity_wipe(&identity);
    if (err != HKV_OK) {
        free(s);
        return NULL;
    }
    env_random(node_env(store), &seed, sizeof seed);
    struct docs_config config = docs_config_default(seed);
    docs_reconcile_init(&s->reconcile, &config, peer);
    s->driver = driver;
    s->role = role;
    s->timer.fire = timer_fired;
    s->peer_id = *peer;
    s->number = ++driver->number;
    s->heard_us = env_mono_us(node_env(store));
    s->next = driver->sessions;
    driver->sessions = s;
    return s;
}

enum hkv_err sync_session_dial(struct sync_driver *driver, struct peer *peer)
{
    struct sync_session *s = session_new(driver, DOCS_DIALLER, &peer->id);
    if (s == NULL) return error_set(HKV_E_NOMEM, "no memory for a session");
    const struct slice alpns[] = {slice_of_text(SYNC_COMPACT_ALPN), slice_of_text(SYNC_ALPN)};
    enum hkv_err err = transport_dial_any(driver->store->transport, &peer->id, &peer->addrs, alpns,
                                          sizeof alpns / sizeof alpns[0], &conn_events, s, &s->conn);
    if (err != HKV_OK) {
        s->conn = NULL;
        s->ended = true;
        docs_session_fail(&s->docs, err);
        free_if_over(s);
        return err;
    }
    s->peer = peer;
    peer->session = s;
    peer->session_count++;
    return HKV_OK;
}

static size_t accepted_from(const struct sync_driver *driver, const struct endpoint_id *peer)
{
    size_t count = 0;
    for (const struct sync_session *s = driver->sessions; s != NULL; s = s->next)
        count += s->role == DOCS_ACCEPTOR && endpoint_id_equal(&s->peer_id, peer);
    return count;
}

/* Ends the oldest accepted session of those that count for least, when that is less than the newcomer. */
static bool make_room(struct sync_driver *driver, const struct endpoint_id *newcomer)
{
    unsigned least = peers_standing(&driver->store->peers, newcomer);
    struct sync_session *oldest = NULL;
    for (struct sync_session *s = driver->sessions; s != NULL; s = s->next) { /* the newest is first */
        if (s->role != DOCS_ACCEPTOR || s->gave_way) continue;
        unsigned its = peers_standing(&driver->store->peers, &s->peer_id);
        if (its < least || (its == least && oldest != NULL)) {
            least = its;
            oldest = s;
        }
    }
    if (oldest == NULL) return false;
    oldest->gave_way = true;
    driver->accepted_count--;
    if (oldest->ended) {
        if (oldest->conn != NULL) transport_conn_close(oldest->conn, 0, "");
        return true;
    }
    (void)error_set(HKV_E_LIMIT, "%d sessions run already; this one gave its place to a peer that counts for more",
                    SYNC_SESSIONS_MAX);
    sync_session_abort(oldest, HKV_E_LIMIT);
    return true;
}

bool sync_accept(struct sync_driver *driver, struct transport_conn *conn)
{
    const struct endpoint_id *peer = transport_conn_peer(conn);
    if (driver->closing || accepted_from(driver, peer) >= SYNC_SESSIONS_PER_PEER_MAX) return false;
    if (driver->accepted_count >= SYNC_SESSIONS_MAX && !make_room(driver, peer)) return false;
    struct sync_session *s = session_new(driver, DOCS_ACCEPTOR, transport_conn_peer(conn));
    if (s == NULL) return false;
    driver->accepted_count++;
    s->conn = conn;
    transport_conn_set(conn, &conn_events, s);
    arm(s, patience(s)->sync_first_byte_us);
    return true;
}
