/* A network in memory: struct transport (wire/transport.h) over simulated links, with all its rules and none of its
 * packets. Time, loss and order come from the queue's generator.
 *
 *   endpoint of node a                              endpoint of node b
 *        sim_conn ◀────────── sim_link ──────────▶ sim_conn          a connection; an end is gone after its `closed`
 *       sim_stream ◀───────── sim_flow ──────────▶ sim_stream        a stream
 *                    pipe[0] ──────────▶                             what an end sends: unsent, in flight, delivered
 *                            ◀────────── pipe[1]
 *
 * What QUIC promises holds: bytes of a stream arrive in order and in pieces of any size, those of different streams in
 * any order; resets, stops, acknowledgements and credit overtake data; a close may overtake everything. What arrives
 * over a blocked path is repeated with growing pauses until the path is open again or an end gives up: a dial after
 * `dial_timeout_us`, an open connection `idle_timeout_us` after it heard nothing any more. Ends notice that on their
 * own, so one may be sure of a connection that the other has long forgotten; a peer that came back tells it.
 *
 * Every callback runs as an event on the network thread of its node (sim_env_network_at), never from inside a call. */
#ifndef HKV_SIM_NET_H
#define HKV_SIM_NET_H

#include "sim/env.h"
#include "wire/transport.h"

#define SIM_NODES_MAX 16
#define SIM_ALPNS_MAX 8

struct sim_net_config {
    uint64_t delay_us;         /* one way, at least */
    uint64_t jitter_us;        /* on top, mostly much less */
    uint32_t lost_per_million; /* messages that come only with a repetition */
    uint64_t stream_window_bytes;
    uint64_t conn_window_bytes;
    size_t piece_bytes_max; /* of a stream handed over at once */
    uint32_t streams_max;   /* open at a time, of each end */
    uint64_t dial_timeout_us;
    uint64_t idle_timeout_us;
    uint64_t keep_alive_us;
};

void sim_net_config_default(struct sim_net_config *out);

struct sim_endpoint;

struct sim_net {
    struct sim_queue *queue;
    struct sim_net_config config;
    struct sim_endpoint *endpoints; /* open ones */
    bool blocked[SIM_NODES_MAX][SIM_NODES_MAX];
    uint64_t blocked_number[SIM_NODES_MAX][SIM_NODES_MAX]; /* which blocking it is */
    uint64_t slower_us[SIM_NODES_MAX][SIM_NODES_MAX];      /* added to the delay */
    size_t link_count;

    /* May change bytes on their way from `from` on a connection of this ALPN; `dialled`: from the end that dialled.
     * NULL: nobody does. */
    void (*tamper)(void *arg, unsigned from, unsigned to, struct slice alpn, bool dialled, uint8_t *bytes, size_t len);
    void *tamper_arg;
};

void sim_net_init(struct sim_net *net, struct sim_queue *queue, const struct sim_net_config *config);

/* All endpoints are closed before, and the events they left have run. */
void sim_net_fini(struct sim_net *net);

/* A path in one direction: nothing gets through from now on, or everything does again. */
void sim_net_block(struct sim_net *net, unsigned from, unsigned to, bool blocked);

/* One connection, chosen by chance, dies without a word; its ends find out at different times. False: there is none. */
bool sim_net_lose_any(struct sim_net *net);

/* Begins to listen at `address`, which no open endpoint has (HKV_E_ADDRESS_IN_USE). Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err sim_endpoint_open(struct sim_net *net, struct sim_env *env, const struct endpoint_id *id,
                                         const struct socket_address *address, const struct slice *alpns,
                                         size_t alpn_count, const struct transport_owner *owner,
                                         struct sim_endpoint **out);

struct transport *sim_endpoint_transport(struct sim_endpoint *ep);
const struct socket_address *sim_endpoint_address(const struct sim_endpoint *ep);

/* Closes every connection with code 0, then calls `done` and frees the endpoint. */
void sim_endpoint_close(struct sim_endpoint *ep, void (*done)(void *arg), void *arg);

/* The machine has died: nothing leaves and nothing arrives any more. What is left to do is sim_endpoint_close(). */
void sim_endpoint_cut(struct sim_endpoint *ep);

#endif
