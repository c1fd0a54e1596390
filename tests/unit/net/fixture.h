/* Two or more endpoints on one loop, and recorders of everything their callbacks say. Everything on loopback; waiting
 * is for a condition with a deadline, and a failure names the condition. */
#ifndef TESTS_NET_FIXTURE_H
#define TESTS_NET_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/endpoint.h"

#define RIG_CONNS_MAX   512
#define RIG_STREAMS_MAX 160 /* of one connection in one test */
#ifndef RIG_DEADLINE_MS
#define RIG_DEADLINE_MS 60000
#endif

#define RIG_ALPN_A "/test/a"
#define RIG_ALPN_B "/test/b"

struct rig_stream {
    struct transport_stream *stream; /* NULL once closed */
    struct rig_conn *conn;
    struct buf received;
    uint64_t received_bytes;
    uint64_t mismatches; /* bytes that are not rig_pattern() of their place */
    uint64_t unconsumed;
    bool fin, finished, closed, was_reset, was_stopped;
    uint64_t reset_code, stop_code;
    unsigned writable_count;
    uint64_t written;    /* by rig_stream_pump() */
    uint64_t write_goal; /* bytes of the pattern to write in total */
    size_t write_mark;   /* stop at this many queued bytes */
    size_t queued_peak;
};

struct rig_conn {
    struct transport_conn *conn; /* NULL once closed */
    struct rig_node *node;
    bool opened, closed, accepted;
    enum hkv_err err;
    uint64_t code;
    char why[512];
    char alpn[64];
    struct endpoint_id peer;
    struct rig_stream streams[RIG_STREAMS_MAX]; /* in the order of their opening */
    size_t stream_count;
    size_t closed_streams;
    size_t fin_streams;
};

/* Callbacks of connections and streams. */
enum rig_callback {
    RIG_NONE,
    RIG_OPENED,
    RIG_STREAM,
    RIG_DATA,
    RIG_WRITABLE,
    RIG_FINISHED,
    RIG_RESET,
    RIG_STOPPED,
    RIG_STREAM_CLOSED,
    RIG_CLOSED,
};

/* How a node treats what comes in. */
struct rig_behaviour {
    enum rig_callback act_in; /* which callback calls `act`, after it has done the rest */
    void (*act)(struct rig_conn *conn);
    bool refuse_peers;   /* admit says no */
    bool refuse_conns;   /* accepted says no */
    bool refuse_streams; /* stream says no */
    bool hold;           /* do not consume what arrives */
    bool keep;           /* keep the bytes */
    bool echo;           /* write back what arrives, finish at FIN */
};

struct rig_node {
    struct rig *rig;
    struct net_endpoint *ep;
    struct secret_key secret;
    struct rig_behaviour behaviour;
    struct rig_conn *conns[RIG_CONNS_MAX];
    size_t conn_count;
    unsigned admit_calls;
    bool closing;
    bool closed;
};

struct rig {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool expired;
    struct net_limits limits; /* for the next rig_open() */
    bool ipv6;
    bool both;     /* the next rig_open() uses both families */
    bool wildcard; /* the next rig_open() binds to all addresses */
    struct rig_node nodes[3];
};

void rig_init(struct rig *rig);
/* Closes all endpoints, waits for that, and fails if anything is left. */
void rig_fini(struct rig *rig);

/* Opens nodes[index] on 127.0.0.1 or ::1 with both ALPNs; its key is made of the index. */
void rig_open(struct rig *rig, size_t index);
void rig_open_alpns(struct rig *rig, size_t index, const char *const *alpns, size_t alpn_count);
void rig_close_node(struct rig_node *node);
void rig_close_begin(struct rig_node *node); /* without waiting for its end */

struct socket_address rig_address(const struct rig_node *node);
struct socket_address rig_loopback(bool ipv6, uint16_t port);

/* Dials and returns the recorder; the result of the call is checked. */
struct rig_conn *rig_dial(struct rig_node *from, struct rig_node *to, const char *alpn);
struct rig_conn *rig_dial_at(struct rig_node *from, const struct endpoint_id *to, const struct socket_address *at,
                             size_t at_count, const char *alpn);

struct rig_conn *rig_dial_any(struct rig_node *from, struct rig_node *to, const char *const *alpns, size_t alpn_count);

struct rig_stream *rig_stream(struct rig_conn *conn);
void rig_write(struct rig_stream *s, const void *data, size_t len);
/* Writes the pattern up to s->write_goal as far as s->write_mark allows, then finishes; goes on at writable. */
void rig_pump(struct rig_stream *s);
uint8_t rig_pattern(uint64_t at);

/* Runs the loop until `condition`; fails the test by its name after RIG_DEADLINE_MS. */
#define rig_until(rig, condition)                                                                                      \
    do {                                                                                                               \
        rig_deadline_start(rig);                                                                                       \
        while (!(condition)) {                                                                                         \
            if ((rig)->expired) fail_msg("timed out waiting for: %s", #condition);                                     \
            uv_run(&(rig)->loop, UV_RUN_ONCE);                                                                         \
        }                                                                                                              \
        rig_deadline_stop(rig);                                                                                        \
    } while (0)

void rig_deadline_start(struct rig *rig);
void rig_deadline_stop(struct rig *rig);

/* The node's newest accepted connection that is open; NULL when there is none. */
struct rig_conn *rig_accepted(struct rig_node *node);
size_t rig_accepted_count(const struct rig_node *node);

#endif
