/* Owners that do drastic things from inside a callback: close the connection, close the endpoint, dial once more. */
#include "fixture.h"
#include "net/endpoint_impl.h"

#define BYTES 600000

struct play {
    struct rig rig;
    struct rig_conn *a;
    struct rig_conn *b;
    bool act_ends; /* the connection, soon after */
};

static unsigned acted;

static bool is_over(const struct play *p)
{
    return !p->a->conn || !p->b || !p->b->conn || (p->act_ends && acted);
}

static void close_conn(struct rig_conn *rc)
{
    acted++;
    if (rc->conn) transport_conn_close(rc->conn, 0, "in a callback");
}

static void close_endpoint(struct rig_conn *rc)
{
    if (acted++ == 0 && !rc->node->closing) rig_close_begin(rc->node);
}

static void dial_again(struct rig_conn *rc)
{
    struct rig_node *nodes = rc->node->rig->nodes;
    if (acted++ == 0) rig_dial(rc->node, rc->node == nodes ? &nodes[1] : &nodes[0], RIG_ALPN_B);
}

/* A stream that is echoed: data, writable, finished, closed. */
static void play_echo(struct play *p)
{
    struct rig_stream *s = rig_stream(p->a);
    static const uint8_t bytes[BYTES];
    rig_write(s, bytes, sizeof bytes);
    rig_until(&p->rig, is_over(p) || s->writable_count);
    if (is_over(p)) return;
    transport_stream_finish(s->stream);
    rig_until(&p->rig, is_over(p) || s->closed);
}

/* A stream that each side breaks off: reset, stopped, closed. */
static void play_break(struct play *p)
{
    struct rig_stream *s = rig_stream(p->a);
    size_t at = p->b->stream_count;
    p->rig.nodes[1].behaviour.echo = false;
    rig_write(s, "x", 1);
    rig_until(&p->rig, is_over(p) || p->b->stream_count > at);
    if (is_over(p)) return;
    struct rig_stream *r = &p->b->streams[at];
    transport_stream_stop(r->stream, 1);
    rig_until(&p->rig, is_over(p) || s->was_stopped);
    if (is_over(p)) return;
    transport_stream_stop(s->stream, 2);
    rig_until(&p->rig, is_over(p) || r->was_stopped);
}

/* Plays everything there is, with `act` in one callback of one side. `room`: whether ended connections may linger. */
static void play(size_t who, enum rig_callback in, void (*act)(struct rig_conn *rc), bool room)
{
    static struct play p;
    rig_init(&p.rig);
    p.rig.limits.linger_ms = 20;
    rig_open(&p.rig, 0);
    rig_open(&p.rig, 1);
    acted = 0;
    p.act_ends = act != dial_again;
    p.rig.nodes[1].behaviour.echo = true;
    p.rig.nodes[who].behaviour.act_in = in;
    p.rig.nodes[who].behaviour.act = act;
    p.a = rig_dial(&p.rig.nodes[0], &p.rig.nodes[1], RIG_ALPN_A);
    rig_until(&p.rig, p.a->closed || (p.a->opened && rig_accepted_count(&p.rig.nodes[1])));
    p.b = rig_accepted(&p.rig.nodes[1]);
    if (!room && p.rig.nodes[who].ep) p.rig.nodes[who].ep->limits.conns_max = 0;
    if (!is_over(&p)) play_echo(&p);
    if (!is_over(&p)) play_break(&p);
    if (p.a->conn) transport_conn_close(p.a->conn, 0, "");
    rig_until(&p.rig, p.a->closed && (!p.b || p.b->closed));
    rig_fini(&p.rig); /* the recorder has checked the order of everything */
    if (!acted) fail_msg("callback %d of side %zu was not made", (int)in, who);
}

static void everywhere(void (*act)(struct rig_conn *rc), bool room)
{
    for (size_t who = 0; who < 2; who++)
        for (enum rig_callback in = RIG_OPENED; in <= RIG_CLOSED; in++) {
            if (in == RIG_STREAM && who == 0) continue; /* only the dialler opens streams */
            if (in == RIG_RESET) continue;              /* see play_break(): stops are answered by resets */
            play(who, in, act, room);
        }
}

static void connection_may_be_closed_in_every_callback(void **state)
{
    (void)state;
    everywhere(close_conn, true);
}

/* Under attack there is a full set of closed connections that linger: then the next one goes at once. */
static void connection_may_be_closed_in_every_callback_when_none_may_linger(void **state)
{
    (void)state;
    everywhere(close_conn, false);
}

static void endpoint_may_be_closed_in_every_callback(void **state)
{
    (void)state;
    everywhere(close_endpoint, true);
}

static void more_may_be_dialled_in_every_callback(void **state)
{
    (void)state;
    everywhere(dial_again, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connection_may_be_closed_in_every_callback),
        cmocka_unit_test(connection_may_be_closed_in_every_callback_when_none_may_linger),
        cmocka_unit_test(endpoint_may_be_closed_in_every_callback),
        cmocka_unit_test(more_may_be_dialled_in_every_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
