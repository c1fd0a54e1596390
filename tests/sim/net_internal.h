/* What net.c (endpoints, links, messages) and net_stream.c (streams) share. */
#ifndef HKV_SIM_NET_INTERNAL_H
#define HKV_SIM_NET_INTERNAL_H

#include "sim/net.h"

#define SIM_STREAMS_LOCAL_MAX 4096 /* as NET_STREAMS_LOCAL_MAX */

struct sim_endpoint {
    struct transport base; /* first */
    struct sim_net *net;
    struct sim_endpoint *next;
    struct sim_env *env;
    struct endpoint_id id;
    struct socket_address address;
    char alpns[SIM_ALPNS_MAX][64];
    size_t alpn_count;
    struct transport_owner owner;
    struct sim_conn *conns;
    bool cut;
    bool closing;
    bool done_due;
    void (*done)(void *arg);
    void *done_arg;
};

struct sim_conn {
    struct transport_conn base; /* first */
    struct sim_endpoint *ep;
    struct sim_conn *next; /* of the endpoint */
    struct sim_link *link;
    unsigned side; /* 0 dialled */
    struct endpoint_id peer;
    const struct transport_conn_events *events;
    void *user;
    bool open;         /* handshake complete, the owner knows */
    bool close_wanted; /* no callback but the last ones */
    uint64_t credit;   /* what it may still send on all streams together */
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint32_t streams_begun; /* by this end, and not yet over */
    uint32_t streams_local; /* waiting ones included */
};

struct sim_link {
    struct sim_net *net;
    struct sim_conn *end[2]; /* NULL: not yet, or gone */
    struct sim_env *env[2];
    struct endpoint_id id[2];
    struct socket_address address[2];
    char alpn[64];
    struct sim_flow *flows;
    bool close_sent[2]; /* by this end, in order */
    uint64_t close_code;
    char close_reason[160];
    size_t references; /* ends, and messages under way */
};

/* Bytes that were written and not sent, or that are in flight. */
struct sim_piece {
    struct sim_piece *next;
    struct buf bytes;
    size_t at;
    uint64_t due_us;
    bool fin;
};

struct sim_pieces {
    struct sim_piece *first;
    struct sim_piece **last;
};

struct sim_pipe {
    /* the end that sends */
    struct sim_pieces unsent;
    size_t unsent_bytes;
    size_t queued; /* not acknowledged */
    uint64_t credit;
    uint64_t charged; /* of the connection's credit */
    bool fin_wanted;
    bool fin_sent;
    bool fin_acked;
    bool send_over; /* finished, reset or stopped */
    bool finished_told;
    bool reset_sent;
    uint64_t reset_code;
    bool sender_done; /* all is acknowledged, or the reset is */
    bool writable_due;

    /* in between */
    struct sim_pieces flight;
    bool flight_armed;
    unsigned attempts;

    /* the end that receives */
    uint64_t received;
    uint64_t consumed;
    bool receive_over; /* for the owner */
    bool stop_wanted;
    bool receiver_done; /* FIN or reset is here */
};

struct sim_flow {
    struct sim_link *link;
    struct sim_flow *next;
    struct sim_stream *end[2];
    unsigned opener;
    bool begun;     /* within the peer's limit on streams */
    bool announced; /* to the end that did not open it */
    struct sim_pipe pipe[2];
    size_t references; /* ends, and messages under way */
};

struct sim_stream {
    struct transport_stream base; /* first */
    struct sim_flow *flow;
    unsigned side;
    const struct transport_stream_events *events;
    void *user;
    bool closed_due;
};

/* A message about a link or, when `flow` is not NULL, a stream, on its way to the end `to`. Repeated while its path is
 * blocked; dropped when that end is gone. */
struct sim_message {
    struct sim_link *link;
    struct sim_flow *flow;
    unsigned to;
    unsigned attempts;
    bool local; /* from an end to itself: a callback that is due */
    void (*arrived)(struct sim_message *message, struct sim_conn *conn);
    uint64_t code;
    uint64_t count;
    char why[200];
};

struct sim_message *sim_message_new(struct sim_link *link, struct sim_flow *flow, unsigned to,
                                    void (*arrived)(struct sim_message *message, struct sim_conn *conn));
void sim_message_send(struct sim_message *message);       /* over the path */
void sim_message_send_local(struct sim_message *message); /* at once, but not now */
void sim_message_free(struct sim_message *message);

/* Time for one way from an end, and how long until a repetition. */
uint64_t sim_link_delay(struct sim_link *link, unsigned from);
uint64_t sim_repeat_delay(struct sim_link *link, unsigned attempts);
bool sim_link_blocked(const struct sim_link *link, unsigned to);

/* Whether the owner of this end still hears of anything but the end. */
static inline bool sim_conn_listens(const struct sim_conn *conn)
{
    return conn != NULL && conn->open && !conn->close_wanted;
}

/* ---- net_stream.c ---- */

/* The last callback of every stream of an end that is going. */
void sim_streams_end(struct sim_conn *conn);
void sim_flow_release(struct sim_flow *flow);

enum hkv_err sim_stream_open(struct transport_conn *conn, const struct transport_stream_events *events, void *user,
                             struct transport_stream **out);
void sim_stream_set(struct transport_stream *stream, const struct transport_stream_events *events, void *user);
void *sim_stream_user(struct transport_stream *stream);
struct transport_conn *sim_stream_conn(struct transport_stream *stream);
enum hkv_err sim_stream_write(struct transport_stream *stream, struct buf *bytes);
size_t sim_stream_queued(struct transport_stream *stream);
void sim_stream_finish(struct transport_stream *stream);
void sim_stream_reset(struct transport_stream *stream, uint64_t code);
void sim_stream_stop(struct transport_stream *stream, uint64_t code);
void sim_stream_consumed(struct transport_stream *stream, size_t len);

/* Begins streams that waited for the handshake or for the peer's limit. */
void sim_streams_begin(struct sim_conn *conn);

/* More may be sent: credit came. */
void sim_conn_pump(struct sim_conn *conn);

#endif
