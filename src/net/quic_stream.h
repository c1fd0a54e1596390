/* One bidirectional stream: the queue of what is written and not yet acknowledged, and the account of what was
 * received.
 *
 *   first ──▶ chunk ──▶ chunk ──▶ chunk ──▶ NULL        chunks are the owner's bufs, small ones joined
 *             │acked │      ▲unsent
 *
 * ngtcp2 points into the chunks until they are acknowledged. A stream opened by us has id -1 until the peer's limit on
 * streams lets it begin. */
#ifndef HKV_NET_QUIC_STREAM_H
#define HKV_NET_QUIC_STREAM_H

#include "net/quic_conn.h"

struct send_chunk {
    struct send_chunk *next;
    struct buf bytes;
};

struct quic_stream {
    struct transport_stream base; /* first */
    struct quic_conn *conn;
    struct quic_stream *next, *prev; /* conn->streams */
    struct quic_stream *send_next;   /* conn->send_first */
    bool in_send_queue;
    int64_t id;
    bool local;
    const struct transport_stream_events *events; /* NULL: nobody listens */
    void *user;

    struct send_chunk *first, *last;
    size_t first_acked;        /* bytes of `first` that are acknowledged */
    struct send_chunk *unsent; /* next to send; NULL when all is sent */
    size_t unsent_at;          /* bytes of it that are sent */
    size_t unsent_bytes;
    size_t queued; /* not acknowledged */
    bool fin_wanted;
    bool fin_sent;
    bool fin_sent_alone; /* in a frame without data, which is acknowledged on its own */
    bool fin_doubtful;   /* sent alone, everything before it is acknowledged: see quic_streams_settle() */
    bool fin_acked;
    bool send_over; /* finished and acknowledged, reset or stopped: nothing more is sent */
    bool reset_wanted;
    uint64_t reset_code;

    uint64_t received; /* bytes given to the owner */
    uint64_t consumed;
    bool receive_over; /* FIN or reset came, or we asked to stop */
    bool stop_wanted;
    uint64_t stop_code;

    bool writable_due;
    bool closed_due; /* ended before it began */
    bool finished_told;
};

/* Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err quic_stream_new(struct quic_conn *c, int64_t id, bool local, struct quic_stream **out);

/* The owner's last callback, then the memory. The connection's receive window gets back what was never consumed. */
void quic_stream_end(struct quic_stream *s);

/* What the owner asks for; see wire/transport.h. */
HKV_CHECK enum hkv_err quic_stream_write(struct quic_stream *s, struct buf *bytes);
void quic_stream_finish(struct quic_stream *s);
void quic_stream_reset(struct quic_stream *s, uint64_t code);
void quic_stream_stop(struct quic_stream *s, uint64_t code);
void quic_stream_consumed(struct quic_stream *s, size_t len);

/* What ngtcp2 reports. */
void quic_stream_data(struct quic_stream *s, struct slice bytes, bool fin);
void quic_stream_acked(struct quic_stream *s, uint64_t len);
void quic_stream_peer_reset(struct quic_stream *s, uint64_t code);
void quic_stream_peer_stopped(struct quic_stream *s, uint64_t code);
void quic_stream_finished(struct quic_stream *s); /* all is acknowledged, the FIN too */

/* Opens streams that wait for credit, as far as it goes. Returns 0 or a fatal error of ngtcp2. */
int quic_streams_open(struct quic_conn *c);

/* Settles FINs that were sent alone: when ngtcp2 repeats one together with lost data it does not report it as
 * acknowledged apart. When nothing at all is in flight any more, it is; unless the kernel takes nothing now, so that
 * something lost may wait to be repeated. */
void quic_streams_settle(struct quic_conn *c);

/* Makes the callbacks that are due. */
void quic_streams_callbacks(struct quic_conn *c);

struct quic_stream *quic_stream_find(struct quic_conn *c, int64_t id);

/* Sending, for quic_write.c. */
bool quic_stream_wants_to_send(const struct quic_stream *s);
void quic_stream_enqueue(struct quic_stream *s);
struct quic_stream *quic_stream_dequeue(struct quic_conn *c);
size_t quic_stream_gather(const struct quic_stream *s, ngtcp2_vec *parts, size_t max, bool *all);
void quic_stream_advance(struct quic_stream *s, size_t len, bool fin);

#endif
