#include "net/quic_stream.h"

#include <assert.h>
#include <stdlib.h>

#define STREAM_JOIN_BYTES ((size_t)16 * 1024) /* small writes share a chunk up to this size */

enum hkv_err quic_stream_new(struct quic_conn *c, int64_t id, bool local, struct quic_stream **out)
{
    struct quic_stream *s = calloc(1, sizeof *s);
    if (!s) return error_set(HKV_E_NOMEM, "stream: no memory");
    s->base.transport = &c->ep->base;
    s->conn = c;
    s->id = id;
    s->local = local;
    s->next = c->streams;
    if (c->streams) c->streams->prev = s;
    c->streams = s;
    if (local) c->local_stream_count++;
    *out = s;
    return HKV_OK;
}

static void stream_drop_unsent(struct quic_stream *s)
{
    while (s->first) {
        struct send_chunk *chunk = s->first;
        s->first = chunk->next;
        buf_fini(&chunk->bytes);
        free(chunk);
    }
    s->last = s->unsent = NULL;
    s->first_acked = s->unsent_at = s->unsent_bytes = s->queued = 0;
}

static void stream_leave_send_queue(struct quic_stream *s)
{
    struct quic_conn *c = s->conn;
    if (!s->in_send_queue) return;
    struct quic_stream *before = NULL;
    for (struct quic_stream *i = c->send_first; i != s; i = i->send_next) before = i;
    if (before)
        before->send_next = s->send_next;
    else
        c->send_first = s->send_next;
    if (c->send_last == s) c->send_last = before;
    s->in_send_queue = false;
}

void quic_stream_end(struct quic_stream *s)
{
    struct quic_conn *c = s->conn;
    if (s->events) {
        const struct transport_stream_events *events = s->events;
        s->send_over = true;
        s->receive_over = true;
        s->id = -1;
        s->events = NULL;
        events->closed(&s->base);
    }
    if (c->ng && s->received > s->consumed) ngtcp2_conn_extend_max_offset(c->ng, s->received - s->consumed);
    stream_leave_send_queue(s);
    stream_drop_unsent(s);
    if (s->prev)
        s->prev->next = s->next;
    else
        c->streams = s->next;
    if (s->next) s->next->prev = s->prev;
    if (s->local) c->local_stream_count--;
    free(s);
}

/* Marks a stream as having a callback due in the flush. */
static void stream_due(struct quic_stream *s)
{
    s->conn->streams_due = true;
    net_endpoint_mark(s->conn->ep, s->conn);
}

bool quic_stream_wants_to_send(const struct quic_stream *s)
{
    return !s->send_over && (s->unsent_bytes > 0 || (s->fin_wanted && !s->fin_sent));
}

void quic_stream_enqueue(struct quic_stream *s)
{
    struct quic_conn *c = s->conn;
    if (s->in_send_queue || s->id < 0 || !quic_stream_wants_to_send(s)) return;
    s->in_send_queue = true;
    s->send_next = NULL;
    if (c->send_last)
        c->send_last->send_next = s;
    else
        c->send_first = s;
    c->send_last = s;
}

struct quic_stream *quic_stream_dequeue(struct quic_conn *c)
{
    struct quic_stream *s = c->send_first;
    if (!s) return NULL;
    c->send_first = s->send_next;
    if (!c->send_first) c->send_last = NULL;
    s->in_send_queue = false;
    return s;
}

static void stream_send_soon(struct quic_stream *s)
{
    quic_stream_enqueue(s);
    net_endpoint_mark(s->conn->ep, s->conn);
}

/* Small bytes go to the end of the last chunk as long as ngtcp2 does not point into it. */
static bool stream_join(struct quic_stream *s, const struct buf *bytes)
{
    struct send_chunk *last = s->last;
    if (!last || last->bytes.len + bytes->len > STREAM_JOIN_BYTES) return false;
    if (!s->unsent || (s->unsent == last && s->unsent_at > 0)) return false;
    return buf_append_slice(&last->bytes, buf_slice(bytes)) == HKV_OK;
}

static enum hkv_err stream_append(struct quic_stream *s, struct buf *bytes)
{
    struct send_chunk *chunk = malloc(sizeof *chunk);
    if (!chunk) return error_set(HKV_E_NOMEM, "bytes to send: no memory");
    *chunk = (struct send_chunk){.bytes = buf_take(bytes)};
    if (s->last)
        s->last->next = chunk;
    else
        s->first = chunk;
    s->last = chunk;
    if (!s->unsent) {
        s->unsent = chunk;
        s->unsent_at = 0;
    }
    return HKV_OK;
}

enum hkv_err quic_stream_write(struct quic_stream *s, struct buf *bytes)
{
    enum hkv_err err = HKV_OK;
    size_t len = bytes->len;
    if (s->send_over || s->fin_wanted || s->reset_wanted || !s->conn->ng)
        err = error_set(HKV_E_PEER_LOST, "the sending side of this stream has ended, nothing can be written");
    else if (len && !stream_join(s, bytes))
        err = stream_append(s, bytes);
    buf_fini(bytes);
    if (err != HKV_OK) return err;
    s->unsent_bytes += len;
    s->queued += len;
    stream_send_soon(s);
    return HKV_OK;
}

void quic_stream_finish(struct quic_stream *s)
{
    if (s->send_over || s->fin_wanted || s->reset_wanted) return;
    s->fin_wanted = true;
    stream_send_soon(s);
}

/* Tells ngtcp2 of a reset; it keeps no pointer to our bytes from then on. */
static void stream_reset_now(struct quic_stream *s)
{
    int rv = ngtcp2_conn_shutdown_stream_write(s->conn->ng, 0, s->id, s->reset_code);
    if (rv) s->conn->fatal = rv;
    stream_leave_send_queue(s);
    stream_drop_unsent(s);
    net_endpoint_mark(s->conn->ep, s->conn);
}

static void stream_stop_now(struct quic_stream *s)
{
    int rv = ngtcp2_conn_shutdown_stream_read(s->conn->ng, 0, s->id, s->stop_code);
    if (rv) s->conn->fatal = rv;
    net_endpoint_mark(s->conn->ep, s->conn);
}

/* A stream that waits for credit and is not wanted in either direction never begins. */
static void stream_abandon(struct quic_stream *s)
{
    if (!s->local || s->id >= 0 || !s->reset_wanted || !s->stop_wanted) return;
    stream_drop_unsent(s);
    s->closed_due = true;
    stream_due(s);
}

void quic_stream_reset(struct quic_stream *s, uint64_t code)
{
    if (s->send_over || s->reset_wanted || !s->conn->ng) return;
    s->reset_wanted = true;
    s->send_over = true;
    s->reset_code = code;
    if (s->id >= 0)
        stream_reset_now(s);
    else
        stream_abandon(s);
}

void quic_stream_stop(struct quic_stream *s, uint64_t code)
{
    if (s->receive_over || s->stop_wanted || !s->conn->ng) return;
    s->stop_wanted = true;
    s->receive_over = true;
    s->stop_code = code;
    if (s->id >= 0)
        stream_stop_now(s);
    else
        stream_abandon(s);
}

void quic_stream_consumed(struct quic_stream *s, size_t len)
{
    struct quic_conn *c = s->conn;
    assert(len <= s->received - s->consumed);
    s->consumed += len;
    if (!c->ng || len == 0) return;
    ngtcp2_conn_extend_max_offset(c->ng, len);
    if (s->id >= 0 && ngtcp2_conn_extend_max_stream_offset(c->ng, s->id, len)) c->fatal = NGTCP2_ERR_NOMEM;
    net_endpoint_mark(c->ep, c);
}

void quic_stream_data(struct quic_stream *s, struct slice bytes, bool fin)
{
    s->received += bytes.len;
    if (s->receive_over || !s->events) { /* thrown away; the window goes on */
        quic_stream_consumed(s, bytes.len);
        return;
    }
    if (fin) s->receive_over = true;
    s->events->data(&s->base, bytes, fin);
}

void quic_stream_acked(struct quic_stream *s, uint64_t len)
{
    if (s->send_over) return; /* for bytes sent before a reset */
    assert(len <= s->queued - s->unsent_bytes);
    s->queued -= (size_t)len;
    s->first_acked += (size_t)len;
    while (s->first && s->first != s->unsent && s->first_acked >= s->first->bytes.len) {
        struct send_chunk *chunk = s->first;
        s->first_acked -= chunk->bytes.len;
        s->first = chunk->next;
        if (!s->first) s->last = NULL;
        buf_fini(&chunk->bytes);
        free(chunk);
    }
    if (s->fin_sent && (len == 0 || (!s->fin_sent_alone && s->queued == 0))) s->fin_acked = true;
    if (len && s->queued <= TRANSPORT_WRITABLE_BYTES && !s->fin_wanted) {
        s->writable_due = true;
        stream_due(s);
    }
    if (s->fin_acked && s->queued == 0) {
        quic_stream_finished(s);
    } else if (s->fin_sent && s->queued == 0 && !s->fin_acked) {
        s->fin_doubtful = true;
        s->conn->fin_doubtful = true;
        net_endpoint_mark(s->conn->ep, s->conn);
    }
}

void quic_streams_settle(struct quic_conn *c)
{
    ngtcp2_conn_info info;
    if (!c->fin_doubtful) return;
    ngtcp2_conn_get_conn_info(c->ng, &info);
    if (info.bytes_in_flight) return;
    c->fin_doubtful = false;
    for (struct quic_stream *s = c->streams; s; s = s->next) {
        if (!s->fin_doubtful || s->fin_acked) continue;
        s->fin_acked = true;
        quic_stream_finished(s);
    }
}

void quic_stream_peer_reset(struct quic_stream *s, uint64_t code)
{
    if (s->receive_over) return;
    s->receive_over = true;
    if (s->events) s->events->reset(&s->base, code);
}

void quic_stream_peer_stopped(struct quic_stream *s, uint64_t code)
{
    if (s->send_over || s->finished_told || (s->fin_acked && s->queued == 0)) return;
    s->send_over = true;
    stream_leave_send_queue(s);
    stream_drop_unsent(s); /* ngtcp2 has let go of it: see quic_conn_report_stops() */
    if (s->events) s->events->stopped(&s->base, code);
}

void quic_stream_finished(struct quic_stream *s)
{
    if (s->finished_told) return;
    s->finished_told = true;
    s->send_over = true;
    if (s->events && !s->conn->close_wanted) s->events->finished(&s->base);
}

struct quic_stream *quic_stream_find(struct quic_conn *c, int64_t id)
{
    for (struct quic_stream *s = c->streams; s; s = s->next)
        if (s->id == id) return s;
    return NULL;
}

/* The oldest stream that waits for credit; streams are listed newest first. */
static struct quic_stream *stream_waiting(struct quic_conn *c)
{
    struct quic_stream *oldest = NULL;
    for (struct quic_stream *s = c->streams; s; s = s->next)
        if (s->local && s->id < 0 && !s->closed_due) oldest = s;
    return oldest;
}

int quic_streams_open(struct quic_conn *c)
{
    struct quic_stream *s;
    if (!c->streams_waiting || c->state != QUIC_OPEN) return 0;
    while ((s = stream_waiting(c)) != NULL) {
        int rv = ngtcp2_conn_open_bidi_stream(c->ng, &s->id, s);
        if (rv == NGTCP2_ERR_STREAM_ID_BLOCKED) {
            s->id = -1;
            return 0; /* goes on when the peer allows more */
        }
        if (rv) return rv;
        if (s->reset_wanted) stream_reset_now(s);
        if (s->stop_wanted) stream_stop_now(s);
        quic_stream_enqueue(s);
    }
    c->streams_waiting = false;
    return 0;
}

/* One round over the streams. A callback may end none of them: streams end in the functions of ngtcp2 or right here. */
void quic_streams_callbacks(struct quic_conn *c)
{
    if (!c->streams_due) return;
    c->streams_due = false;
    for (struct quic_stream *s = c->streams, *next; s; s = next) {
        next = s->next;
        if (s->writable_due) {
            s->writable_due = false;
            bool still = s->queued <= TRANSPORT_WRITABLE_BYTES; /* the owner may have written since */
            if (still && s->events && !s->send_over && !s->fin_wanted) s->events->writable(&s->base);
        }
        if (s->closed_due) quic_stream_end(s);
    }
}

size_t quic_stream_gather(const struct quic_stream *s, ngtcp2_vec *parts, size_t max, bool *all)
{
    size_t count = 0, at = s->unsent_at;
    const struct send_chunk *chunk = s->unsent;
    for (; chunk && count < max; chunk = chunk->next, at = 0) {
        if (chunk->bytes.len == at) continue;
        parts[count++] = (ngtcp2_vec){chunk->bytes.data + at, chunk->bytes.len - at};
    }
    *all = chunk == NULL;
    return count;
}

void quic_stream_advance(struct quic_stream *s, size_t len, bool fin)
{
    assert(len <= s->unsent_bytes);
    s->unsent_bytes -= len;
    s->unsent_at += len;
    while (s->unsent && s->unsent_at >= s->unsent->bytes.len) {
        s->unsent_at -= s->unsent->bytes.len;
        s->unsent = s->unsent->next;
    }
    if (fin && s->unsent_bytes == 0) {
        s->fin_sent = true;
        s->fin_sent_alone = len == 0;
    }
}
