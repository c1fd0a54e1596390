#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/net_internal.h"

#define REPEAT_FIRST_US ((uint64_t)100000)
#define REPEAT_MAX_US   ((uint64_t)2000000)

static void *must_alloc(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (p == NULL) abort();
    return p;
}

/* ---- paths ---- */

void sim_net_config_default(struct sim_net_config *out)
{
    *out = (struct sim_net_config){
        .delay_us = 300,
        .jitter_us = 2000,
        .stream_window_bytes = 256 * 1024,
        .conn_window_bytes = 1024 * 1024,
        .piece_bytes_max = 16 * 1024,
        .streams_max = 100,
        .dial_timeout_us = 10000000,
        .idle_timeout_us = 30000000,
        .keep_alive_us = 5000000,
    };
}

void sim_net_init(struct sim_net *net, struct sim_queue *queue, const struct sim_net_config *config)
{
    memset(net, 0, sizeof *net);
    net->queue = queue;
    net->config = *config;
}

void sim_net_fini(struct sim_net *net)
{
    assert(net->endpoints == NULL && net->link_count == 0);
}

bool sim_link_blocked(const struct sim_link *link, unsigned to)
{
    return link->net->blocked[link->env[1 - to]->node][link->env[to]->node];
}

uint64_t sim_link_delay(struct sim_link *link, unsigned from)
{
    struct sim_net *net = link->net;
    uint64_t us = net->config.delay_us + sim_skewed(net->queue, net->config.jitter_us) +
                  net->slower_us[link->env[from]->node][link->env[1 - from]->node];
    if (sim_chance(net->queue, net->config.lost_per_million)) us += REPEAT_FIRST_US;
    return us;
}

uint64_t sim_repeat_delay(struct sim_link *link, unsigned attempts)
{
    uint64_t us = REPEAT_FIRST_US << (attempts < 5 ? attempts : 5);
    if (us > REPEAT_MAX_US) us = REPEAT_MAX_US;
    return us / 2 + sim_below(link->net->queue, us);
}

/* ---- links: freed with the last end and message ---- */

static void pieces_free(struct sim_pieces *pieces)
{
    while (pieces->first != NULL) {
        struct sim_piece *piece = pieces->first;
        pieces->first = piece->next;
        buf_fini(&piece->bytes);
        free(piece);
    }
}

static void link_release(struct sim_link *link)
{
    if (--link->references > 0) return;
    while (link->flows != NULL) {
        struct sim_flow *flow = link->flows;
        link->flows = flow->next;
        for (int i = 0; i < 2; i++) {
            pieces_free(&flow->pipe[i].unsent);
            pieces_free(&flow->pipe[i].flight);
        }
        free(flow);
    }
    link->net->link_count--;
    free(link);
}

/* ---- messages ---- */

struct sim_message *sim_message_new(struct sim_link *link, struct sim_flow *flow, unsigned to,
                                    void (*arrived)(struct sim_message *message, struct sim_conn *conn))
{
    struct sim_message *message = must_alloc(sizeof *message);
    message->link = link;
    message->flow = flow;
    message->to = to;
    message->arrived = arrived;
    link->references++;
    if (flow != NULL) flow->references++;
    return message;
}

void sim_message_free(struct sim_message *message)
{
    struct sim_link *link = message->link;
    if (message->flow != NULL) sim_flow_release(message->flow);
    free(message);
    link_release(link);
}

static void peer_forgot(struct sim_link *link, unsigned gone);

static void message_fired(void *owner, void *arg)
{
    struct sim_message *message = owner;
    struct sim_link *link = message->link;
    struct sim_conn *conn = link->end[message->to];
    (void)arg;
    bool sender_gone = !message->local && link->end[1 - message->to] == NULL;
    bool blocked = !message->local && sim_link_blocked(link, message->to);
    bool early = conn != NULL && message->flow != NULL && !conn->open && !conn->close_wanted; /* before the handshake */
    if ((blocked && !sender_gone) || early) {
        uint64_t pause_us = early ? 500 : sim_repeat_delay(link, message->attempts++);
        uint64_t due_us = sim_now(link->net->queue) + pause_us;
        sim_env_network_at(link->env[message->to], due_us, message_fired, message, NULL);
        return;
    }
    bool cut = conn != NULL && conn->ep->cut && !message->local;
    if (conn != NULL && !blocked && !cut) message->arrived(message, conn);
    if (conn == NULL && !blocked && !sender_gone && !message->local) peer_forgot(link, message->to);
    sim_message_free(message);
}

void sim_message_send(struct sim_message *message)
{
    struct sim_link *link = message->link;
    struct sim_conn *from = link->end[1 - message->to];
    if (from != NULL && from->ep->cut) {
        sim_message_free(message);
        return;
    }
    uint64_t due_us = sim_now(link->net->queue) + sim_link_delay(link, 1 - message->to);
    sim_env_network_at(link->env[message->to], due_us, message_fired, message, NULL);
}

void sim_message_send_local(struct sim_message *message)
{
    struct sim_link *link = message->link;
    message->local = true;
    sim_env_network_at(link->env[message->to], sim_now(link->net->queue), message_fired, message, NULL);
}

/* ---- the end of an end ---- */

static void endpoint_check_done(struct sim_endpoint *ep);
static void silence_begin(struct sim_link *link, unsigned side, uint64_t blocked_number);

static void conn_end(struct sim_conn *conn, enum hkv_err err, uint64_t code, const char *why)
{
    struct sim_endpoint *ep = conn->ep;
    struct sim_link *link = conn->link;
    const struct transport_conn_events *events = conn->events;
    bool known = events != NULL && (conn->side == 0 || conn->open);
    conn->close_wanted = true;
    sim_streams_end(conn);
    sim_trace(ep->net->queue, "conn closed", ep->env->node, (uint64_t)err);
    if (known) events->closed(&conn->base, err, code, why);
    struct sim_conn **at = &ep->conns;
    while (*at != conn) at = &(*at)->next;
    *at = conn->next;
    unsigned peer = 1 - conn->side;
    link->end[conn->side] = NULL;
    free(conn);
    silence_begin(link, peer, 0); /* it finds out, if nothing tells it sooner */
    link_release(link);
    endpoint_check_done(ep);
}

static void lost_arrived(struct sim_message *message, struct sim_conn *conn)
{
    conn_end(conn, HKV_E_PEER_LOST, 0, message->why);
}

static void close_arrived(struct sim_message *message, struct sim_conn *conn)
{
    conn_end(conn, message->code == 0 ? HKV_OK : HKV_E_PEER_REFUSED, message->code, message->why);
}

/* What the end `to` hears of a peer that is gone: that it closed, or that it knows nothing of this connection. */
static struct sim_message *farewell(struct sim_link *link, unsigned to)
{
    bool closed = link->close_sent[1 - to];
    struct sim_message *message = sim_message_new(link, NULL, to, closed ? close_arrived : lost_arrived);
    message->code = link->close_code;
    if (closed)
        (void)snprintf(message->why, sizeof message->why, "the peer closed with code %llu \"%s\"",
                       (unsigned long long)link->close_code, link->close_reason);
    else
        (void)snprintf(message->why, sizeof message->why,
                       "the peer no longer knows this connection; it was probably restarted");
    return message;
}

/* The end that asks is told, when somebody listens at the peer's address again. */
static void peer_forgot(struct sim_link *link, unsigned gone)
{
    struct sim_endpoint *ep = link->net->endpoints;
    while (ep != NULL && (ep->cut || socket_address_compare(&ep->address, &link->address[gone]) != 0)) ep = ep->next;
    if (ep == NULL || sim_link_blocked(link, 1 - gone)) return;
    struct sim_message *message = farewell(link, 1 - gone);
    message->local = true; /* its sender is no end of the link */
    uint64_t due_us = sim_now(link->net->queue) + sim_link_delay(link, gone);
    sim_env_network_at(link->env[1 - gone], due_us, message_fired, message, NULL);
}

/* Keep-alives, as far as they matter: an end whose peer is gone, or whose path was blocked throughout, finds out. */
struct silence {
    struct sim_link *link;
    unsigned side; /* who listens */
    uint64_t blocked_number;
    uint64_t end_us;
};

static void silence_check(void *owner, void *arg)
{
    struct silence *s = owner;
    struct sim_link *link = s->link;
    struct sim_conn *conn = link->end[s->side];
    unsigned from = link->env[1 - s->side]->node, to = link->env[s->side]->node;
    (void)arg;
    bool still_blocked = s->blocked_number != 0 && link->net->blocked[from][to] &&
                         link->net->blocked_number[from][to] == s->blocked_number;
    bool gone = link->end[1 - s->side] == NULL || link->end[1 - s->side]->ep->cut;
    if (conn != NULL && (gone || still_blocked)) {
        if (sim_now(link->net->queue) >= s->end_us) {
            conn_end(conn, HKV_E_PEER_LOST, 0, "nothing was heard of the peer for the idle time");
        } else {
            if (gone && !sim_link_blocked(link, 1 - s->side)) peer_forgot(link, 1 - s->side);
            uint64_t due_us = sim_now(link->net->queue) + link->net->config.keep_alive_us;
            sim_env_network_at(link->env[s->side], due_us < s->end_us ? due_us : s->end_us, silence_check, s, NULL);
            return;
        }
    }
    free(s);
    link_release(link);
}

static void silence_begin(struct sim_link *link, unsigned side, uint64_t blocked_number)
{
    if (link->end[side] == NULL) return;
    struct silence *s = must_alloc(sizeof *s);
    uint64_t now_us = sim_now(link->net->queue), keep_alive_us = link->net->config.keep_alive_us;
    *s = (struct silence){link, side, blocked_number, now_us + link->net->config.idle_timeout_us};
    link->references++;
    sim_env_network_at(link->env[side], now_us + keep_alive_us / 4 + sim_below(link->net->queue, keep_alive_us),
                       silence_check, s, NULL);
}

void sim_net_block(struct sim_net *net, unsigned from, unsigned to, bool blocked)
{
    if (net->blocked[from][to] == blocked) return;
    net->blocked[from][to] = blocked;
    if (!blocked) return;
    uint64_t number = ++net->blocked_number[from][to];
    for (struct sim_endpoint *ep = net->endpoints; ep != NULL; ep = ep->next) {
        if (ep->env->node != to) continue;
        for (struct sim_conn *conn = ep->conns; conn != NULL; conn = conn->next)
            if (conn->open && conn->link->env[1 - conn->side]->node == from)
                silence_begin(conn->link, conn->side, number);
    }
}

bool sim_net_lose_any(struct sim_net *net)
{
    size_t count = 0;
    struct sim_conn *chosen = NULL;
    for (struct sim_endpoint *ep = net->endpoints; ep != NULL; ep = ep->next)
        for (struct sim_conn *conn = ep->conns; conn != NULL; conn = conn->next)
            if (sim_conn_listens(conn) && !ep->cut && sim_below(net->queue, ++count) == 0) chosen = conn;
    if (chosen == NULL) return false;
    struct sim_message *message = sim_message_new(chosen->link, NULL, chosen->side, lost_arrived);
    (void)snprintf(message->why, sizeof message->why, "nothing was heard of the peer for the idle time");
    sim_message_send_local(message);
    return true;
}

/* ---- closing ---- */

static void close_now(struct sim_message *message, struct sim_conn *conn)
{
    struct sim_link *link = conn->link;
    unsigned peer = 1 - conn->side;
    uint64_t code = message->code;
    char why[sizeof message->why];
    (void)snprintf(why, sizeof why, "closed by this node with code %llu \"%.100s\"", (unsigned long long)code,
                   message->why);
    link->close_sent[conn->side] = !conn->ep->cut;
    link->close_code = code;
    (void)snprintf(link->close_reason, sizeof link->close_reason, "%.100s", message->why);
    if (link->end[peer] != NULL) sim_message_send(farewell(link, peer)); /* once: behind a block it is never heard */
    conn_end(conn, code == 0 ? HKV_OK : HKV_E_PEER_REFUSED, code, why);
}

static void conn_close(struct transport_conn *base, uint64_t code, const char *reason)
{
    struct sim_conn *conn = (struct sim_conn *)(void *)base;
    if (conn->close_wanted) return;
    conn->close_wanted = true;
    struct sim_message *message = sim_message_new(conn->link, NULL, conn->side, close_now);
    message->code = code;
    (void)snprintf(message->why, 100, "%s", reason != NULL ? reason : "");
    sim_message_send_local(message);
}

/* ---- handshake: dial ▶ accept ▶ confirm ---- */

static struct sim_conn *conn_new(struct sim_endpoint *ep, struct sim_link *link, unsigned side)
{
    struct sim_conn *conn = must_alloc(sizeof *conn);
    conn->base.transport = &ep->base;
    conn->ep = ep;
    conn->link = link;
    conn->side = side;
    conn->credit = ep->net->config.conn_window_bytes;
    conn->next = ep->conns;
    ep->conns = conn;
    link->end[side] = conn;
    link->references++;
    return conn;
}

static void refused_arrived(struct sim_message *message, struct sim_conn *conn)
{
    conn_end(conn, (enum hkv_err)message->code, 0, message->why);
}

static void refuse(struct sim_link *link, enum hkv_err err, const char *why)
{
    struct sim_message *message = sim_message_new(link, NULL, 0, refused_arrived);
    message->code = (uint64_t)err;
    (void)snprintf(message->why, sizeof message->why, "%s", why);
    message->local = true; /* no end of this link is there to send it */
    uint64_t due_us = sim_now(link->net->queue) + sim_link_delay(link, 1);
    sim_env_network_at(link->env[0], due_us, message_fired, message, NULL);
}

static void confirm_arrived(struct sim_message *message, struct sim_conn *conn)
{
    struct sim_endpoint *ep = conn->ep;
    (void)message;
    if (conn->close_wanted) return;
    if (ep->closing || !ep->owner.accepted(ep->owner.user, &conn->base, slice_of_text(conn->link->alpn))) {
        conn->events = NULL;
        conn_close(&conn->base, 0, "");
        return;
    }
    conn->open = true;
    sim_streams_begin(conn);
    if (conn->events != NULL && sim_conn_listens(conn)) conn->events->opened(&conn->base);
}

static void accept_arrived(struct sim_message *message, struct sim_conn *conn)
{
    if (conn->close_wanted) return;
    conn->open = true;
    sim_message_send(sim_message_new(message->link, NULL, 1, confirm_arrived));
    sim_streams_begin(conn);
    conn->events->opened(&conn->base);
}

/* An accepted connection whose dialler was never heard of again. */
static void half_open_over(struct sim_message *message, struct sim_conn *conn)
{
    (void)message;
    if (!conn->open) conn_end(conn, HKV_E_PEER_UNREACHABLE, 0, "the handshake was not completed");
}

struct dial {
    struct sim_link *link;
    unsigned attempts;
    char alpns[SIM_ALPNS_MAX][64];
    size_t alpn_count;
};

static struct sim_endpoint *listener_at(struct sim_net *net, const struct socket_address *address)
{
    for (struct sim_endpoint *ep = net->endpoints; ep != NULL; ep = ep->next)
        if (!ep->cut && !ep->closing && socket_address_compare(&ep->address, address) == 0) return ep;
    return NULL;
}

static const char *common_alpn(const struct sim_endpoint *ep, const struct dial *dial)
{
    for (size_t i = 0; i < ep->alpn_count; i++)
        for (size_t k = 0; k < dial->alpn_count; k++)
            if (strcmp(ep->alpns[i], dial->alpns[k]) == 0) return ep->alpns[i];
    return NULL;
}

static void handshake(struct sim_endpoint *ep, const struct dial *dial)
{
    struct sim_link *link = dial->link;
    struct sim_net *net = link->net;
    const char *alpn = common_alpn(ep, dial);
    if (!endpoint_id_equal(&ep->id, &link->id[1])) {
        refuse(link, HKV_E_PEER_IDENTITY, "another endpoint answers at that address");
    } else if (alpn == NULL) {
        refuse(link, HKV_E_PEER_REFUSED, "the peer does not speak the protocol asked for");
    } else if (!ep->owner.admit(ep->owner.user, &link->id[0])) {
        refuse(link, HKV_E_PEER_REFUSED, "the peer is not admitted");
    } else {
        struct sim_conn *conn = conn_new(ep, link, 1);
        conn->peer = link->id[0];
        (void)snprintf(link->alpn, sizeof link->alpn, "%s", alpn);
        sim_message_send(sim_message_new(link, NULL, 0, accept_arrived));
        struct sim_message *over = sim_message_new(link, NULL, 1, half_open_over);
        over->local = true;
        sim_env_network_at(link->env[1], sim_now(net->queue) + net->config.dial_timeout_us, message_fired, over, NULL);
    }
}

static void dial_fired(void *owner, void *arg)
{
    struct dial *dial = owner;
    struct sim_link *link = dial->link;
    struct sim_conn *conn = link->end[0];
    (void)arg;
    bool wanted = conn != NULL && !conn->close_wanted && !conn->ep->cut;
    struct sim_endpoint *ep = wanted ? listener_at(link->net, &link->address[1]) : NULL;
    bool reached = ep != NULL && !sim_link_blocked(link, 1);
    if (reached) handshake(ep, dial);
    if (wanted && !reached) {
        uint64_t due_us = sim_now(link->net->queue) + sim_repeat_delay(link, dial->attempts++);
        sim_env_network_at(link->env[1], due_us, dial_fired, dial, NULL);
        return;
    }
    free(dial);
    link_release(link);
}

static void dial_timed_out(struct sim_message *message, struct sim_conn *conn)
{
    (void)message;
    if (!conn->open)
        conn_end(conn, HKV_E_PEER_UNREACHABLE, 0, "no answer from the peer's addresses within the time for it");
}

/* Whoever listens there decides whose node the link ends at, best the peer itself; nobody: one never heard of. */
static struct sim_env *env_at(struct sim_net *net, const struct address_set *addrs, const struct endpoint_id *peer,
                              const struct sim_env *own, struct socket_address *address)
{
    struct sim_env *found = NULL;
    for (size_t i = 0; i < addrs->count; i++) {
        if (addrs->items[i].kind != ADDRESS_IP) continue;
        struct sim_endpoint *ep = listener_at(net, &addrs->items[i].socket);
        if (ep == NULL || ep->env == own) continue;
        bool is_peer = endpoint_id_equal(&ep->id, peer);
        if (found != NULL && !is_peer) continue;
        found = ep->env;
        *address = addrs->items[i].socket;
        if (is_peer) break;
    }
    return found;
}

static enum hkv_err dial(struct transport *t, const struct endpoint_id *peer, const struct address_set *addrs,
                         const struct slice *alpns, size_t alpn_count, const struct transport_conn_events *events,
                         void *user, struct transport_conn **out)
{
    struct sim_endpoint *ep = (struct sim_endpoint *)(void *)t;
    struct sim_net *net = ep->net;
    struct socket_address address = {0};
    size_t usable = 0;
    if (ep->closing) return error_set(HKV_E_CLOSED, "the endpoint is closing, nothing can be dialled");
    if (endpoint_id_equal(peer, &ep->id)) return error_set(HKV_E_INVALID, "this endpoint cannot dial its own id");
    if (alpn_count == 0 || alpn_count > SIM_ALPNS_MAX) return error_set(HKV_E_INVALID, "a dial offers 1 to 8 ALPNs");
    for (size_t i = 0; i < addrs->count; i++)
        if (addrs->items[i].kind == ADDRESS_IP && addrs->items[i].socket.port != 0) usable++;
    if (usable == 0) return error_set(HKV_E_PEER_UNREACHABLE, "none of the peer's addresses can be reached from here");
    struct sim_env *there = env_at(net, addrs, peer, ep->env, &address);
    struct sim_link *link = must_alloc(sizeof *link);
    net->link_count++;
    *link = (struct sim_link){.net = net,
                              .env = {ep->env, there != NULL ? there : ep->env},
                              .id = {ep->id, *peer},
                              .address = {ep->address, address}};
    struct sim_conn *conn = conn_new(ep, link, 0);
    conn->peer = *peer;
    conn->events = events;
    conn->user = user;
    struct sim_message *over = sim_message_new(link, NULL, 0, dial_timed_out);
    over->local = true;
    sim_env_network_at(ep->env, sim_now(net->queue) + net->config.dial_timeout_us, message_fired, over, NULL);
    if (there != NULL) {
        struct dial *d = must_alloc(sizeof *d);
        d->link = link;
        d->alpn_count = alpn_count;
        for (size_t i = 0; i < alpn_count; i++)
            (void)snprintf(d->alpns[i], sizeof d->alpns[i], "%.*s", (int)alpns[i].len, (const char *)alpns[i].data);
        link->references++;
        sim_env_network_at(there, sim_now(net->queue) + sim_link_delay(link, 0), dial_fired, d, NULL);
    }
    *out = &conn->base;
    return HKV_OK;
}

/* ---- small facts ---- */

static struct slice conn_alpn(struct transport_conn *base)
{
    struct sim_conn *conn = (struct sim_conn *)(void *)base;
    return conn->open || conn->side == 1 ? slice_of_text(conn->link->alpn) : (struct slice){0};
}

static void conn_set(struct transport_conn *base, const struct transport_conn_events *events, void *user)
{
    struct sim_conn *conn = (struct sim_conn *)(void *)base;
    conn->events = events;
    conn->user = user;
}

static void *conn_user(struct transport_conn *base)
{
    return ((struct sim_conn *)(void *)base)->user;
}

static const struct endpoint_id *conn_peer(struct transport_conn *base)
{
    return &((struct sim_conn *)(void *)base)->peer;
}

static void conn_path(struct transport_conn *base, struct transport_path_info *out)
{
    struct sim_conn *conn = (struct sim_conn *)(void *)base;
    *out = (struct transport_path_info){.remote = conn->link->address[1 - conn->side],
                                        .rtt_us = conn->open ? 2 * conn->ep->net->config.delay_us : 0,
                                        .bytes_sent = conn->bytes_sent,
                                        .bytes_received = conn->bytes_received};
}

static const struct transport_ops sim_ops = {
    .dial = dial,
    .conn_alpn = conn_alpn,
    .conn_set = conn_set,
    .conn_user = conn_user,
    .conn_peer = conn_peer,
    .conn_path = conn_path,
    .conn_close = conn_close,
    .stream_open = sim_stream_open,
    .stream_set = sim_stream_set,
    .stream_user = sim_stream_user,
    .stream_conn = sim_stream_conn,
    .stream_write = sim_stream_write,
    .stream_queued = sim_stream_queued,
    .stream_finish = sim_stream_finish,
    .stream_reset = sim_stream_reset,
    .stream_stop = sim_stream_stop,
    .stream_consumed = sim_stream_consumed,
};

/* ---- endpoints ---- */

enum hkv_err sim_endpoint_open(struct sim_net *net, struct sim_env *env, const struct endpoint_id *id,
                               const struct socket_address *address, const struct slice *alpns, size_t alpn_count,
                               const struct transport_owner *owner, struct sim_endpoint **out)
{
    assert(alpn_count <= SIM_ALPNS_MAX && env->node < SIM_NODES_MAX);
    if (listener_at(net, address) != NULL) return error_set(HKV_E_ADDRESS_IN_USE, "that address is taken");
    struct sim_endpoint *ep = calloc(1, sizeof *ep);
    if (ep == NULL) return error_set(HKV_E_NOMEM, "no memory for an endpoint");
    ep->base.ops = &sim_ops;
    ep->net = net;
    ep->env = env;
    ep->id = *id;
    ep->address = *address;
    ep->owner = *owner;
    for (size_t i = 0; i < alpn_count; i++)
        (void)snprintf(ep->alpns[ep->alpn_count++], sizeof ep->alpns[0], "%.*s", (int)alpns[i].len,
                       (const char *)alpns[i].data);
    ep->next = net->endpoints;
    net->endpoints = ep;
    *out = ep;
    return HKV_OK;
}

struct transport *sim_endpoint_transport(struct sim_endpoint *ep)
{
    return &ep->base;
}

const struct socket_address *sim_endpoint_address(const struct sim_endpoint *ep)
{
    return &ep->address;
}

static void endpoint_done(void *owner, void *arg)
{
    struct sim_endpoint *ep = owner;
    (void)arg;
    struct sim_endpoint **at = &ep->net->endpoints;
    while (*at != ep) at = &(*at)->next;
    *at = ep->next;
    void (*done)(void *arg) = ep->done;
    void *done_arg = ep->done_arg;
    free(ep);
    done(done_arg);
}

static void endpoint_check_done(struct sim_endpoint *ep)
{
    if (!ep->closing || ep->conns != NULL || ep->done_due) return;
    ep->done_due = true;
    sim_env_network_at(ep->env, sim_now(ep->net->queue), endpoint_done, ep, NULL);
}

void sim_endpoint_close(struct sim_endpoint *ep, void (*done)(void *arg), void *arg)
{
    ep->closing = true;
    ep->done = done;
    ep->done_arg = arg;
    for (struct sim_conn *conn = ep->conns; conn != NULL; conn = conn->next) conn_close(&conn->base, 0, "");
    endpoint_check_done(ep);
}

void sim_endpoint_cut(struct sim_endpoint *ep)
{
    ep->cut = true;
    for (struct sim_conn *conn = ep->conns; conn != NULL; conn = conn->next)
        silence_begin(conn->link, 1 - conn->side, 0);
}
