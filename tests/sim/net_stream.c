/* Streams: what an end writes goes in pieces of random size, as far as its credit reaches, one after the other; the
 * rest (acknowledgements, credit, resets, stops) are messages that may overtake them. */
#include <assert.h>
#include <stdlib.h>

#include "sim/net_internal.h"

static struct sim_stream *of(struct transport_stream *stream)
{
    return (struct sim_stream *)(void *)stream;
}

static struct sim_conn *conn_of(const struct sim_stream *s)
{
    return s->flow->link->end[s->side];
}

static struct sim_pipe *out_pipe(const struct sim_stream *s)
{
    return &s->flow->pipe[s->side];
}

static struct sim_pipe *in_pipe(const struct sim_stream *s)
{
    return &s->flow->pipe[1 - s->side];
}

/* ---- flows and ends ---- */

static void pieces_clear(struct sim_pieces *pieces)
{
    while (pieces->first != NULL) {
        struct sim_piece *piece = pieces->first;
        pieces->first = piece->next;
        buf_fini(&piece->bytes);
        free(piece);
    }
    pieces->last = &pieces->first;
}

static void pieces_push(struct sim_pieces *pieces, struct sim_piece *piece)
{
    piece->next = NULL;
    *pieces->last = piece;
    pieces->last = &piece->next;
}

static struct sim_piece *pieces_pop(struct sim_pieces *pieces)
{
    struct sim_piece *piece = pieces->first;
    pieces->first = piece->next;
    if (pieces->first == NULL) pieces->last = &pieces->first;
    return piece;
}

static struct sim_piece *piece_new(void)
{
    struct sim_piece *piece = calloc(1, sizeof *piece);
    if (piece == NULL) abort();
    return piece;
}

void sim_flow_release(struct sim_flow *flow)
{
    if (--flow->references > 0) return;
    struct sim_flow **at = &flow->link->flows;
    while (*at != flow) at = &(*at)->next;
    *at = flow->next;
    for (int i = 0; i < 2; i++) {
        pieces_clear(&flow->pipe[i].unsent);
        pieces_clear(&flow->pipe[i].flight);
    }
    free(flow);
}

static struct sim_stream *stream_new(struct sim_conn *conn, struct sim_flow *flow)
{
    struct sim_stream *s = calloc(1, sizeof *s);
    if (s == NULL) abort();
    s->base.transport = &conn->ep->base;
    s->flow = flow;
    s->side = conn->side;
    flow->end[conn->side] = s;
    flow->references++;
    return s;
}

/* What a stream that is over took of the connection's credit and did not give back. */
static void credit_settle(struct sim_conn *conn, struct sim_pipe *pipe)
{
    conn->credit += pipe->charged;
    pipe->charged = 0;
}

/* The owner's last callback, then the memory. */
static void stream_end(struct sim_stream *s, bool tell)
{
    struct sim_flow *flow = s->flow;
    struct sim_conn *conn = conn_of(s);
    struct sim_pipe *in = in_pipe(s);
    const struct transport_stream_events *events = s->events;
    s->events = NULL;
    out_pipe(s)->send_over = in->receive_over = true;
    if (tell && events != NULL) events->closed(&s->base);
    pieces_clear(&out_pipe(s)->unsent);
    out_pipe(s)->unsent_bytes = out_pipe(s)->queued = 0;
    credit_settle(conn, out_pipe(s));
    if (flow->opener == s->side) {
        conn->streams_local--;
        if (flow->begun) conn->streams_begun--;
        sim_streams_begin(conn);
    }
    flow->end[s->side] = NULL;
    free(s);
    sim_flow_release(flow);
}

void sim_streams_end(struct sim_conn *conn)
{
    for (;;) {
        struct sim_flow *flow = conn->link->flows;
        while (flow != NULL && flow->end[conn->side] == NULL) flow = flow->next;
        if (flow == NULL) return;
        stream_end(flow->end[conn->side], true);
    }
}

static void closed_now(struct sim_message *message, struct sim_conn *conn)
{
    struct sim_stream *s = message->flow->end[conn->side];
    if (s != NULL) stream_end(s, !conn->close_wanted);
}

/* Over in both directions: `closed` is due. */
static void check_closed(struct sim_flow *flow, unsigned side)
{
    struct sim_stream *s = flow->end[side];
    if (s == NULL || s->closed_due || !flow->pipe[side].sender_done || !flow->pipe[1 - side].receiver_done) return;
    s->closed_due = true;
    sim_message_send_local(sim_message_new(flow->link, flow, side, closed_now));
}

/* ---- sending ---- */

static void pump(struct sim_flow *flow, unsigned side);

static void flight_fired(void *owner, void *arg);

static void flight_arm(struct sim_flow *flow, unsigned side, uint64_t due_us)
{
    struct sim_pipe *pipe = &flow->pipe[side];
    if (pipe->flight_armed || pipe->flight.first == NULL) return;
    pipe->flight_armed = true;
    struct sim_message *message = sim_message_new(flow->link, flow, 1 - side, NULL);
    if (due_us < pipe->flight.first->due_us) due_us = pipe->flight.first->due_us;
    sim_env_network_at(flow->link->env[1 - side], due_us, flight_fired, message, NULL);
}

static size_t piece_size(const struct sim_conn *conn, const struct sim_pipe *pipe)
{
    struct sim_queue *q = conn->ep->net->queue;
    size_t size = pipe->unsent_bytes;
    if (size > pipe->credit) size = (size_t)pipe->credit;
    if (size > conn->credit) size = (size_t)conn->credit;
    size_t max = conn->ep->net->config.piece_bytes_max;
    if (size > max) size = max;
    bool cut_short = size > 1 && sim_chance(q, 250000);
    return cut_short ? 1 + (size_t)sim_below(q, size) : size;
}

/* Moves bytes from what is unsent into one piece in flight. */
static void piece_send(struct sim_flow *flow, unsigned side, size_t size)
{
    struct sim_conn *conn = flow->link->end[side];
    struct sim_pipe *pipe = &flow->pipe[side];
    struct sim_piece *sent = piece_new();
    while (sent->bytes.len < size) {
        struct sim_piece *first = pipe->unsent.first;
        struct slice part = slice_part(buf_slice(&first->bytes), first->at, size - sent->bytes.len);
        if (buf_append_slice(&sent->bytes, part) != HKV_OK) abort();
        first->at += part.len;
        if (first->at < first->bytes.len) continue;
        (void)pieces_pop(&pipe->unsent);
        buf_fini(&first->bytes);
        free(first);
    }
    pipe->unsent_bytes -= size;
    pipe->credit -= size;
    conn->credit -= size;
    pipe->charged += size;
    conn->bytes_sent += size;
    sent->fin = pipe->fin_wanted && pipe->unsent_bytes == 0;
    if (sent->fin) pipe->fin_sent = true;
    sent->due_us = sim_now(conn->ep->net->queue) + sim_link_delay(flow->link, side);
    pieces_push(&pipe->flight, sent);
}

static void pump(struct sim_flow *flow, unsigned side)
{
    struct sim_conn *conn = flow->link->end[side];
    struct sim_pipe *pipe = &flow->pipe[side];
    if (!sim_conn_listens(conn) || !flow->begun || pipe->reset_sent || conn->ep->cut) return;
    for (;;) {
        size_t size = piece_size(conn, pipe);
        bool fin_alone = pipe->fin_wanted && !pipe->fin_sent && pipe->unsent_bytes == 0;
        if (size == 0 && !fin_alone) break;
        piece_send(flow, side, size);
    }
    flight_arm(flow, side, 0);
}

void sim_conn_pump(struct sim_conn *conn)
{
    for (struct sim_flow *flow = conn->link->flows; flow != NULL; flow = flow->next)
        if (flow->end[conn->side] != NULL) pump(flow, conn->side);
}

/* ---- acknowledgements and credit ---- */

static void acked(struct sim_message *message, struct sim_conn *conn)
{
    struct sim_flow *flow = message->flow;
    struct sim_pipe *pipe = &flow->pipe[conn->side];
    struct sim_stream *s = flow->end[conn->side];
    if (s == NULL || pipe->reset_sent || pipe->sender_done) return;
    pipe->queued -= (size_t)message->count;
    if (message->code != 0) pipe->fin_acked = true;
    if (pipe->fin_acked && pipe->queued == 0) {
        pipe->sender_done = true;
        bool tell = !pipe->send_over && !pipe->finished_told && sim_conn_listens(conn);
        pipe->send_over = pipe->finished_told = true;
        if (tell && s->events != NULL) s->events->finished(&s->base);
        check_closed(flow, conn->side);
    } else if (message->count > 0 && pipe->queued <= TRANSPORT_WRITABLE_BYTES && !pipe->fin_wanted &&
               !pipe->send_over) {
        if (s->events != NULL && sim_conn_listens(conn)) s->events->writable(&s->base);
    }
}

static void credited(struct sim_message *message, struct sim_conn *conn)
{
    struct sim_pipe *pipe = &message->flow->pipe[conn->side];
    uint64_t charged = message->count < pipe->charged ? message->count : pipe->charged;
    pipe->credit += message->count;
    pipe->charged -= charged;
    conn->credit += charged;
    if (sim_conn_listens(conn)) sim_conn_pump(conn);
}

static void give_credit(struct sim_flow *flow, unsigned to, size_t len)
{
    struct sim_message *message = sim_message_new(flow->link, flow, to, credited);
    message->count = len;
    sim_message_send(message);
}

static void acknowledge(struct sim_flow *flow, unsigned to, size_t len, bool fin)
{
    struct sim_message *message = sim_message_new(flow->link, flow, to, acked);
    message->count = len;
    message->code = fin;
    sim_message_send(message);
}

/* ---- receiving ---- */

static void reset_send(struct sim_flow *flow, unsigned side, uint64_t code);
static void stop_send(struct sim_flow *flow, unsigned side, uint64_t code);

/* The end that did not open the stream hears of it. False: refused. */
static bool announce(struct sim_flow *flow, struct sim_conn *conn)
{
    if (flow->announced) return flow->end[conn->side] != NULL;
    flow->announced = true;
    struct sim_stream *s = stream_new(conn, flow);
    if (conn->events != NULL && conn->events->stream(&conn->base, &s->base)) return true;
    s->events = NULL;
    if (!conn->close_wanted) {
        reset_send(flow, conn->side, 0);
        stop_send(flow, conn->side, 0);
    }
    return true;
}

static void deliver(struct sim_flow *flow, struct sim_conn *conn, struct sim_piece *piece)
{
    struct sim_pipe *pipe = &flow->pipe[1 - conn->side];
    struct sim_net *net = conn->ep->net;
    struct slice bytes = buf_slice(&piece->bytes);
    size_t len = bytes.len;
    pipe->received += len;
    conn->bytes_received += len;
    struct sim_stream *s = flow->end[conn->side];
    if (piece->fin) pipe->receiver_done = true;
    acknowledge(flow, 1 - conn->side, len, piece->fin);
    if (s == NULL || s->events == NULL || pipe->receive_over) {
        pipe->consumed += len;
        if (len > 0) give_credit(flow, 1 - conn->side, len);
    } else {
        if (net->tamper != NULL)
            net->tamper(net->tamper_arg, flow->link->env[1 - conn->side]->node, conn->ep->env->node,
                        slice_of_text(flow->link->alpn), conn->side == 1, piece->bytes.data, len);
        sim_trace_bytes(net->queue, "data", bytes);
        if (piece->fin) pipe->receive_over = true;
        if (len > 0 || piece->fin) s->events->data(&s->base, bytes, piece->fin);
    }
    check_closed(flow, conn->side);
}

static void flight_fired(void *owner, void *arg)
{
    struct sim_message *message = owner;
    struct sim_flow *flow = message->flow;
    struct sim_link *link = flow->link;
    unsigned to = message->to;
    struct sim_pipe *pipe = &flow->pipe[1 - to];
    struct sim_conn *conn = link->end[to];
    struct sim_queue *q = link->net->queue;
    (void)arg;
    bool sender_gone = link->end[1 - to] == NULL || link->end[1 - to]->ep->cut;
    bool gone = sender_gone || conn == NULL || conn->ep->cut || conn->close_wanted;
    bool wait = !gone && (sim_link_blocked(link, to) || !conn->open);
    if (wait) {
        uint64_t pause_us = conn->open ? sim_repeat_delay(link, pipe->attempts++) : 500;
        sim_env_network_at(link->env[to], sim_now(q) + pause_us, flight_fired, message, NULL);
        return;
    }
    pipe->flight_armed = false;
    pipe->attempts = 0;
    if (gone || pipe->reset_sent) {
        pieces_clear(&pipe->flight); /* a reset drops what was not delivered; its message tells the rest */
    } else if (pipe->flight.first != NULL) {
        struct sim_piece *piece = pieces_pop(&pipe->flight);
        if (announce(flow, conn) && !conn->close_wanted) deliver(flow, conn, piece);
        buf_fini(&piece->bytes);
        free(piece);
        flight_arm(flow, 1 - to, sim_now(q));
    }
    sim_message_free(message);
}

/* ---- resets and stops ---- */

static void reset_acked(struct sim_message *message, struct sim_conn *conn)
{
    message->flow->pipe[conn->side].sender_done = true;
    check_closed(message->flow, conn->side);
}

static void reset_arrived(struct sim_message *message, struct sim_conn *conn)
{
    struct sim_flow *flow = message->flow;
    struct sim_pipe *pipe = &flow->pipe[1 - conn->side];
    if (conn->close_wanted || !conn->open) return;
    if (!announce(flow, conn) || conn->close_wanted) return;
    sim_message_send(sim_message_new(flow->link, flow, 1 - conn->side, reset_acked));
    if (pipe->receiver_done) return;
    pipe->receiver_done = true;
    struct sim_stream *s = flow->end[conn->side];
    bool tell = !pipe->receive_over && s != NULL && s->events != NULL;
    pipe->receive_over = true;
    if (tell) s->events->reset(&s->base, message->code);
    check_closed(flow, conn->side);
}

/* Drops the sending side of an end and tells the other. */
static void reset_send(struct sim_flow *flow, unsigned side, uint64_t code)
{
    struct sim_pipe *pipe = &flow->pipe[side];
    struct sim_conn *conn = flow->link->end[side];
    if (pipe->reset_sent || pipe->sender_done) return;
    pipe->send_over = true;
    pipe->reset_sent = true;
    pipe->reset_code = code;
    credit_settle(conn, pipe);
    pieces_clear(&pipe->unsent);
    pipe->unsent_bytes = pipe->queued = 0;
    if (!flow->begun) return;
    struct sim_message *message = sim_message_new(flow->link, flow, 1 - side, reset_arrived);
    message->code = code;
    sim_message_send(message);
}

static void stop_arrived(struct sim_message *message, struct sim_conn *conn)
{
    struct sim_flow *flow = message->flow;
    struct sim_pipe *pipe = &flow->pipe[conn->side];
    struct sim_stream *s = flow->end[conn->side];
    if (conn->close_wanted || !conn->open) return;
    if (!announce(flow, conn) || conn->close_wanted) return;
    s = flow->end[conn->side];
    if (s == NULL || pipe->sender_done || pipe->reset_sent) return;
    bool tell = !pipe->send_over && s->events != NULL;
    reset_send(flow, conn->side, message->code);
    if (tell) s->events->stopped(&s->base, message->code);
}

static void stop_send(struct sim_flow *flow, unsigned side, uint64_t code)
{
    struct sim_pipe *pipe = &flow->pipe[1 - side];
    if (pipe->stop_wanted || pipe->receiver_done) return;
    pipe->receive_over = true;
    pipe->stop_wanted = true;
    if (!flow->begun) return;
    struct sim_message *message = sim_message_new(flow->link, flow, 1 - side, stop_arrived);
    message->code = code;
    sim_message_send(message);
}

/* ---- the peer's limit on streams ---- */

static void begin(struct sim_flow *flow, struct sim_conn *conn)
{
    flow->begun = true;
    conn->streams_begun++;
    struct sim_pipe *out = &flow->pipe[conn->side], *in = &flow->pipe[1 - conn->side];
    bool reset = out->reset_sent, stop = in->stop_wanted;
    out->reset_sent = in->stop_wanted = false;
    if (reset) reset_send(flow, conn->side, out->reset_code);
    if (stop) stop_send(flow, conn->side, 0);
    pump(flow, conn->side);
}

void sim_streams_begin(struct sim_conn *conn)
{
    if (conn->close_wanted) return;
    while (conn->streams_begun < conn->ep->net->config.streams_max) {
        struct sim_flow *oldest = NULL; /* the newest is first */
        for (struct sim_flow *flow = conn->link->flows; flow != NULL; flow = flow->next)
            if (flow->opener == conn->side && !flow->begun && flow->end[conn->side] != NULL &&
                !flow->end[conn->side]->closed_due)
                oldest = flow;
        if (oldest == NULL) return;
        begin(oldest, conn);
    }
}

/* A stream that waits to begin and is not wanted in either direction never does. */
static void abandon(struct sim_flow *flow, unsigned side)
{
    if (flow->begun || !flow->pipe[side].reset_sent || !flow->pipe[1 - side].stop_wanted) return;
    flow->pipe[side].sender_done = true;
    flow->pipe[1 - side].receiver_done = true;
    check_closed(flow, side);
}

/* ---- the operations ---- */

enum hkv_err sim_stream_open(struct transport_conn *base, const struct transport_stream_events *events, void *user,
                             struct transport_stream **out)
{
    struct sim_conn *conn = (struct sim_conn *)(void *)base;
    if (conn->close_wanted) return error_set(HKV_E_PEER_LOST, "the connection is closing, no stream can be opened");
    if (conn->streams_local >= SIM_STREAMS_LOCAL_MAX)
        return error_set(HKV_E_LIMIT, "too many streams are open or wait on this connection; finish some first");
    struct sim_flow *flow = calloc(1, sizeof *flow);
    if (flow == NULL) return error_set(HKV_E_NOMEM, "stream: no memory");
    flow->link = conn->link;
    flow->opener = conn->side;
    flow->next = conn->link->flows;
    conn->link->flows = flow;
    for (int i = 0; i < 2; i++) {
        flow->pipe[i].unsent.last = &flow->pipe[i].unsent.first;
        flow->pipe[i].flight.last = &flow->pipe[i].flight.first;
        flow->pipe[i].credit = conn->ep->net->config.stream_window_bytes;
    }
    struct sim_stream *s = stream_new(conn, flow);
    s->events = events;
    s->user = user;
    conn->streams_local++;
    if (conn->open) sim_streams_begin(conn);
    *out = &s->base;
    return HKV_OK;
}

void sim_stream_set(struct transport_stream *stream, const struct transport_stream_events *events, void *user)
{
    of(stream)->events = events;
    of(stream)->user = user;
}

void *sim_stream_user(struct transport_stream *stream)
{
    return of(stream)->user;
}

struct transport_conn *sim_stream_conn(struct transport_stream *stream)
{
    return &conn_of(of(stream))->base;
}

enum hkv_err sim_stream_write(struct transport_stream *stream, struct buf *bytes)
{
    struct sim_stream *s = of(stream);
    struct sim_pipe *pipe = out_pipe(s);
    if (pipe->send_over || pipe->fin_wanted) {
        buf_fini(bytes);
        return error_set(HKV_E_PEER_LOST, "the sending side of this stream has ended, nothing can be written");
    }
    size_t len = bytes->len;
    if (len == 0) {
        buf_fini(bytes);
        return HKV_OK;
    }
    struct sim_piece *piece = piece_new();
    piece->bytes = buf_take(bytes);
    pieces_push(&pipe->unsent, piece);
    pipe->unsent_bytes += len;
    pipe->queued += len;
    pump(s->flow, s->side);
    return HKV_OK;
}

size_t sim_stream_queued(struct transport_stream *stream)
{
    return out_pipe(of(stream))->queued;
}

void sim_stream_finish(struct transport_stream *stream)
{
    struct sim_stream *s = of(stream);
    struct sim_pipe *pipe = out_pipe(s);
    if (pipe->send_over || pipe->fin_wanted) return;
    pipe->fin_wanted = true;
    pump(s->flow, s->side);
}

void sim_stream_reset(struct transport_stream *stream, uint64_t code)
{
    struct sim_stream *s = of(stream);
    if (out_pipe(s)->send_over) return;
    reset_send(s->flow, s->side, code);
    abandon(s->flow, s->side);
}

void sim_stream_stop(struct transport_stream *stream, uint64_t code)
{
    struct sim_stream *s = of(stream);
    if (in_pipe(s)->receive_over) return;
    stop_send(s->flow, s->side, code);
    abandon(s->flow, s->side);
}

void sim_stream_consumed(struct transport_stream *stream, size_t len)
{
    struct sim_stream *s = of(stream);
    struct sim_pipe *pipe = in_pipe(s);
    assert(len <= pipe->received - pipe->consumed);
    pipe->consumed += len;
    if (len > 0) give_credit(s->flow, 1 - s->side, len);
}
