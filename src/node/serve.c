#include "node/serve.h"

#include <assert.h>
#include <stdlib.h>

#include "blobs/provide.h"
#include "store/files.h"

struct serve_conn;

/* One stream. Freed when the stream is closed and no worker holds it.
 *
 *   READING (request) ─▶ WAITING (a turn) ─▶ ACTIVE (steps) ─▶ ENDING (the peer takes the rest) ─▶ OVER
 *
 * An answer has its turn while ACTIVE or ENDING: what is read from the disk and not taken by peers is theirs together.
 */
enum answer_state { ANSWER_READING, ANSWER_WAITING, ANSWER_ACTIVE, ANSWER_ENDING, ANSWER_OVER };

struct answer {
    struct job job; /* first: the step under way */
    struct env_timer stall;
    struct server *server;
    struct serve_conn *conn;         /* as long as there is a stream */
    struct transport_stream *stream; /* NULL once closed */
    enum answer_state state;
    bool of_stranger;   /* as far as it was known when it got its turn */
    bool working;       /* a worker has it */
    size_t mark;        /* bytes of the request, or queued, when `stall` was armed */
    struct buf request; /* as it came; the first step parses and frees it */
    struct blobs_provide provide;
    struct buf block;
    enum blobs_provide_state step;
    enum hkv_err step_err;
    struct answer *next; /* waiting list */
};

/* A peer with connections. */
struct serve_peer {
    struct endpoint_id id;
    size_t conns;
    size_t answers;
    size_t active; /* answers that have a turn */
};

struct serve_conn {
    struct server *server;
    struct serve_peer *peer;
    struct transport_conn *conn;
    size_t answers;
    bool closing; /* it made room: counted no more */
    struct serve_conn *next, **back;
};

/* How much of something is taken; `strangers`: of this, by strangers. */
struct serve_share {
    size_t all, strangers;
};

struct server {
    struct blobs_source source; /* first */
    struct hkv_store *store;
    struct serve_conn *conns;
    size_t conn_count;
    struct serve_share answers;
    struct serve_share active;
    struct serve_share request_bytes;
    struct answer *waiting, **waiting_last;
    void (*closed_done)(void *arg); /* set: closing */
    void *closed_arg;
};

static bool share_has_room(const struct serve_share *share, bool of_stranger, size_t more, size_t max)
{
    return share->all + more <= max && (!of_stranger || share->strangers + more <= SERVE_STRANGERS(max));
}

static void share_add(struct serve_share *share, bool of_stranger, size_t more)
{
    share->all += more;
    if (of_stranger) share->strangers += more;
}

static void share_remove(struct serve_share *share, bool of_stranger, size_t less)
{
    share->all -= less;
    if (of_stranger) share->strangers -= less;
}

static bool is_stranger(const struct server *server, const struct endpoint_id *id)
{
    return peers_standing(&server->store->peers, id) == 0;
}

/* Who was a stranger when it asked may have become known before its turn. */
static void answer_of_known(struct answer *a)
{
    struct server *server = a->server;
    if (!a->of_stranger || is_stranger(server, &a->conn->peer->id)) return;
    a->of_stranger = false;
    server->answers.strangers--;
    server->request_bytes.strangers -= a->request.len;
}

/* ------------------------------------------------------------------------------------------ contents (workers) */

static enum hkv_err source_lookup(struct blobs_source *source, const struct hash *hash, struct blobs_value *out)
{
    struct server *server = (struct server *)(void *)source;
    struct kv_blob *blob = malloc(sizeof *blob);
    if (blob == NULL) return error_set(HKV_E_NOMEM, "no memory to serve a value");
    enum hkv_err err = kv_blob_open(server->store->kv, hash, blob);
    if (err != HKV_OK) {
        free(blob);
        return err;
    }
    *out = (struct blobs_value){
        .size_bytes = blob->length, .present = bao_ranges_all, .outboard = buf_slice(&blob->outboard), .opaque = blob};
    return HKV_OK;
}

static enum hkv_err source_read_at(struct blobs_source *source, struct blobs_value *value, uint64_t offset,
                                   uint8_t *out, size_t len)
{
    (void)source;
    const struct kv_blob *blob = value->opaque;
    if (blob->fd < 0) {
        if (offset + len > blob->bytes.len) return error_set(HKV_E_CORRUPT, "a value is shorter than its row says");
        if (len > 0) memcpy(out, blob->bytes.data + offset, len);
        return HKV_OK;
    }
    size_t got;
    TRY(files_read_fd(blob->fd, offset, out, len, &got));
    return got == len ? HKV_OK : error_set(HKV_E_CORRUPT, "a value file is shorter than its row says");
}

static void source_release(struct blobs_source *source, struct blobs_value *value)
{
    (void)source;
    kv_blob_close(value->opaque);
    free(value->opaque);
}

static const struct blobs_source_ops source_ops = {
    .lookup = source_lookup, .read_at = source_read_at, .release = source_release};

/* ------------------------------------------------------------------------------------------ answers */

static void step_run(struct job *job);
static void step_done(struct job *job);
static void take_turns(struct server *server);

/* Not while a worker has the answer. */
static void answer_free_request(struct answer *a)
{
    share_remove(&a->server->request_bytes, a->of_stranger, a->request.len);
    buf_fini(&a->request);
}

static void answer_start_step(struct answer *a)
{
    a->working = true;
    a->job.run = step_run;
    env_timer_cancel(node_env(a->server->store), &a->stall);
    env_run_on(node_env(a->server->store), ENV_WORKER, &a->job);
}

static void answer_stall_arm(struct answer *a)
{
    struct hkv_store *store = a->server->store;
    struct env *env = node_env(store);
    a->mark = a->state == ANSWER_READING ? a->request.len : transport_stream_queued(a->stream);
    env_timer_set(env, &a->stall, env_mono_us(env) + store->patience.serve_stall_us);
}

static void check_closed(struct server *server)
{
    if (server->closed_done == NULL || server->conns != NULL || server->answers.all != 0) return;
    void (*done)(void *arg) = server->closed_done;
    server->closed_done = NULL;
    done(server->closed_arg);
}

static void answer_leave_list(struct answer *a)
{
    struct server *server = a->server;
    struct answer **at = &server->waiting;
    while (*at != a) at = &(*at)->next;
    *at = a->next;
    if (*at == NULL) server->waiting_last = at;
}

/* Nothing more will be sent. */
static void answer_over(struct answer *a)
{
    struct server *server = a->server;
    if (a->state == ANSWER_WAITING) answer_leave_list(a);
    if (a->state == ANSWER_ACTIVE || a->state == ANSWER_ENDING) {
        share_remove(&server->active, a->of_stranger, 1);
        a->conn->peer->active--;
    }
    if (!a->working) answer_free_request(a);
    a->state = ANSWER_OVER;
    if (a->stream != NULL) answer_stall_arm(a);
    take_turns(server);
}

static void answer_free_if_unused(struct answer *a)
{
    struct server *server = a->server;
    if (a->stream != NULL || a->working) return;
    blobs_provide_fini(&a->provide, &server->source);
    buf_fini(&a->block);
    share_remove(&server->answers, a->of_stranger, 1);
    free(a);
    check_closed(server);
}

static void answer_reset(struct answer *a, uint64_t code)
{
    transport_stream_reset(a->stream, code);
    transport_stream_stop(a->stream, BLOBS_CODE_DROPPED);
    answer_over(a);
}

static void stall_fired(struct env_timer *timer)
{
    struct answer *a = (struct answer *)(void *)((char *)timer - offsetof(struct answer, stall));
    bool reading = a->state == ANSWER_READING;
    size_t now = reading ? a->request.len : transport_stream_queued(a->stream);
    size_t moved = reading ? now - a->mark : a->mark - now;
    if (moved >= SERVE_PROGRESS_BYTES)
        answer_stall_arm(a);
    else if (a->state == ANSWER_OVER)
        transport_conn_close(a->conn->conn, BLOBS_CODE_LIMIT, "a stream was left open");
    else
        answer_reset(a, BLOBS_CODE_LIMIT);
}

/* Parsed, a request can take ten times as much, so it is not before it has a turn. False: it is malformed, and is
 * answered with nothing. */
static bool parse_request(struct answer *a)
{
    struct blobs_request request;
    if (a->request.len == 0) return true;
    if (blobs_request_decode(buf_slice(&a->request), &request, NULL) != HKV_OK) return false;
    blobs_provide_init(&a->provide, &request);
    return true;
}

static void provide(struct answer *a)
{
    a->step_err = blobs_provide_step(&a->provide, &a->server->source, SERVE_BLOCK_BYTES, &a->block, &a->step);
    bool failed = a->step_err == HKV_OK && (a->step == BLOBS_PROVIDE_BROKEN || a->step == BLOBS_PROVIDE_NOT_FOUND);
    if (failed && a->provide.cause == HKV_E_CORRUPT) kv_value_bad(a->server->store->kv, &a->provide.cause_hash);
}

/* Worker. */
static void step_run(struct job *job)
{
    struct answer *a = (struct answer *)(void *)job;
    if (parse_request(a)) {
        provide(a);
    } else {
        a->step_err = HKV_OK;
        a->step = BLOBS_PROVIDE_DONE;
    }
    a->job.run = step_done;
    env_run_on(node_env(a->server->store), ENV_NETWORK, &a->job);
}

static void answer_continue(struct answer *a)
{
    if (transport_stream_queued(a->stream) <= TRANSPORT_WRITABLE_BYTES)
        answer_start_step(a);
    else
        answer_stall_arm(a);
}

/* Everything is written. What the peer has yet to take counts as long as it is worth counting. */
static void answer_finish(struct answer *a)
{
    transport_stream_finish(a->stream);
    if (transport_stream_queued(a->stream) <= SERVE_PROGRESS_BYTES) {
        answer_over(a);
        return;
    }
    a->state = ANSWER_ENDING;
    answer_stall_arm(a);
}

static void step_done(struct job *job)
{
    struct answer *a = (struct answer *)(void *)job;
    a->working = false;
    answer_free_request(a);
    if (a->stream == NULL || a->state != ANSWER_ACTIVE) {
        answer_free_if_unused(a);
        return;
    }
    if (a->step_err == HKV_OK && a->block.len > 0) a->step_err = transport_stream_write(a->stream, &a->block);
    if (a->step_err != HKV_OK) {
        answer_reset(a, BLOBS_CODE_INTERNAL);
        return;
    }
    switch (a->step) {
    case BLOBS_PROVIDE_MORE:
        answer_continue(a);
        return;
    case BLOBS_PROVIDE_DONE:
    case BLOBS_PROVIDE_BROKEN:
        answer_finish(a);
        return;
    case BLOBS_PROVIDE_NOT_FOUND:
        answer_reset(a, BLOBS_CODE_INTERNAL);
        return;
    case BLOBS_PROVIDE_REFUSED:
        answer_reset(a, BLOBS_CODE_PERMISSION);
        return;
    }
}

static bool may_have_turn(const struct answer *a)
{
    return a->conn->peer->active < SERVE_ACTIVE_PER_PEER_MAX &&
           share_has_room(&a->server->active, a->of_stranger, 1, SERVE_ACTIVE_MAX);
}

/* The first of those that wait that may have a turn; NULL when there is none. */
static struct answer *next_turn(struct server *server)
{
    struct answer *a = server->active.all < SERVE_ACTIVE_MAX ? server->waiting : NULL;
    while (a != NULL && !may_have_turn(a)) a = a->next;
    return a;
}

static void take_turns(struct server *server)
{
    struct answer *a;
    while ((a = next_turn(server)) != NULL) {
        answer_leave_list(a);
        a->state = ANSWER_ACTIVE;
        share_add(&server->active, a->of_stranger, 1);
        a->conn->peer->active++;
        answer_start_step(a);
    }
}

static void request_complete(struct answer *a)
{
    struct server *server = a->server;
    if (a->request.len == 0) {
        transport_stream_finish(a->stream);
        answer_over(a);
        return;
    }
    env_timer_cancel(node_env(server->store), &a->stall);
    answer_of_known(a);
    a->state = ANSWER_WAITING;
    a->next = NULL;
    *server->waiting_last = a;
    server->waiting_last = &a->next;
    take_turns(server);
}

static void stream_data(struct transport_stream *stream, struct slice bytes, bool fin)
{
    struct answer *a = transport_stream_user(stream);
    struct server *server = a->server;
    transport_stream_consumed(stream, bytes.len);
    if (a->state != ANSWER_READING) return;
    bool room = share_has_room(&server->request_bytes, a->of_stranger, bytes.len, SERVE_REQUESTS_MAX);
    if (!room || buf_append_slice(&a->request, bytes) != HKV_OK) {
        answer_reset(a, BLOBS_CODE_LIMIT);
        return;
    }
    share_add(&server->request_bytes, a->of_stranger, bytes.len);
    enum hkv_err err = blobs_request_check(buf_slice(&a->request));
    if (err == HKV_E_PEER_REFUSED) {
        answer_reset(a, BLOBS_CODE_PERMISSION);
    } else if (err != HKV_OK) {
        transport_stream_stop(stream, BLOBS_CODE_DROPPED);
        transport_stream_finish(stream);
        answer_over(a);
    } else if (fin) {
        request_complete(a);
    }
}

static void stream_writable(struct transport_stream *stream)
{
    struct answer *a = transport_stream_user(stream);
    if (a->state == ANSWER_ACTIVE && !a->working) answer_start_step(a);
}

static void stream_ended(struct transport_stream *stream, uint64_t code)
{
    struct answer *a = transport_stream_user(stream);
    (void)code;
    if (a->state != ANSWER_OVER && !a->working) answer_reset(a, BLOBS_CODE_DROPPED);
}

static void stream_closed(struct transport_stream *stream)
{
    struct answer *a = transport_stream_user(stream);
    a->stream = NULL;
    if (a->state != ANSWER_OVER) answer_over(a);
    env_timer_cancel(node_env(a->server->store), &a->stall);
    a->conn->answers--;
    a->conn->peer->answers--;
    a->conn = NULL;
    answer_free_if_unused(a);
}

static void stream_finished(struct transport_stream *stream)
{
    struct answer *a = transport_stream_user(stream);
    if (a->state == ANSWER_ENDING) answer_over(a);
}

static const struct transport_stream_events stream_events = {
    .data = stream_data,
    .writable = stream_writable,
    .finished = stream_finished,
    .reset = stream_ended,
    .stopped = stream_ended,
    .closed = stream_closed,
};

/* ------------------------------------------------------------------------------------------ connections */

static void conn_opened(struct transport_conn *conn)
{
    (void)conn;
}

static bool conn_stream(struct transport_conn *conn, struct transport_stream *stream)
{
    struct serve_conn *c = transport_conn_user(conn);
    struct server *server = c->server;
    bool of_stranger = is_stranger(server, &c->peer->id);
    if (server->closed_done != NULL || !share_has_room(&server->answers, of_stranger, 1, SERVE_ANSWERS_MAX))
        return false;
    if (c->peer->answers >= SERVE_ANSWERS_PER_PEER_MAX) return false;
    struct answer *a = calloc(1, sizeof *a);
    if (a == NULL) return false;
    a->stall.fire = stall_fired;
    a->server = server;
    a->conn = c;
    a->stream = stream;
    a->of_stranger = of_stranger;
    share_add(&server->answers, of_stranger, 1);
    c->answers++;
    c->peer->answers++;
    transport_stream_set(stream, &stream_events, a);
    answer_stall_arm(a);
    return true;
}

static void conn_closed(struct transport_conn *conn, enum hkv_err err, uint64_t code, const char *why)
{
    struct serve_conn *c = transport_conn_user(conn);
    struct server *server = c->server;
    (void)err, (void)code, (void)why;
    *c->back = c->next;
    if (c->next != NULL) c->next->back = c->back;
    if (!c->closing) server->conn_count--;
    if (--c->peer->conns == 0) free(c->peer);
    free(c);
    check_closed(server);
}

static const struct transport_conn_events conn_events = {
    .opened = conn_opened, .stream = conn_stream, .closed = conn_closed};

/* Closes the oldest connection on which nothing is asked, or for a peer that is known the oldest one of a stranger. */
static bool make_room(struct server *server, const struct endpoint_id *newcomer)
{
    struct serve_conn *idle = NULL, *strange = NULL;
    bool is_known = !is_stranger(server, newcomer);
    for (struct serve_conn *c = server->conns; c != NULL; c = c->next) {
        if (c->closing) continue;
        if (c->answers == 0) idle = c;
        if (is_known && is_stranger(server, &c->peer->id)) strange = c;
    }
    struct serve_conn *goes = idle != NULL ? idle : strange;
    if (goes == NULL) return false;
    goes->closing = true;
    server->conn_count--;
    transport_conn_close(goes->conn, 0, "it makes room for another");
    return true;
}

static struct serve_peer *peer_get(const struct server *server, const struct endpoint_id *id)
{
    for (const struct serve_conn *c = server->conns; c != NULL; c = c->next)
        if (endpoint_id_equal(&c->peer->id, id)) return c->peer;
    struct serve_peer *peer = calloc(1, sizeof *peer);
    if (peer != NULL) peer->id = *id;
    return peer;
}

bool server_accept(struct server *server, struct transport_conn *conn)
{
    if (server->closed_done != NULL) return false;
    if (server->conn_count >= SERVE_CONNS_MAX && !make_room(server, transport_conn_peer(conn))) return false;
    struct serve_conn *c = calloc(1, sizeof *c);
    if (c == NULL) return false;
    c->peer = peer_get(server, transport_conn_peer(conn));
    if (c->peer == NULL) {
        free(c);
        return false;
    }
    c->peer->conns++;
    c->server = server;
    c->conn = conn;
    c->next = server->conns;
    c->back = &server->conns;
    if (c->next != NULL) c->next->back = &c->next;
    server->conns = c;
    server->conn_count++;
    transport_conn_set(conn, &conn_events, c);
    return true;
}

void server_peer_known(struct server *server, const struct endpoint_id *peer)
{
    for (struct answer *a = server->waiting; a != NULL; a = a->next)
        if (endpoint_id_equal(&a->conn->peer->id, peer)) answer_of_known(a);
    take_turns(server);
}

enum hkv_err server_new(struct hkv_store *store, struct server **out)
{
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL) return error_set(HKV_E_NOMEM, "no memory to open a store");
    server->source.ops = &source_ops;
    server->store = store;
    server->waiting_last = &server->waiting;
    *out = server;
    return HKV_OK;
}

void server_free(struct server *server)
{
    if (server == NULL) return;
    assert(server->conns == NULL && server->answers.all == 0);
    free(server);
}

void server_close(struct server *server, void (*done)(void *arg), void *arg)
{
    server->closed_done = done;
    server->closed_arg = arg;
    for (struct serve_conn *c = server->conns; c != NULL; c = c->next) transport_conn_close(c->conn, 0, "");
    check_closed(server);
}
