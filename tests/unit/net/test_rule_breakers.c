/* Peers that hold the keys of a connection and break the rules with them. */
#include "fixture_forger.h"

#define LOST_BYTES     200000
#define PING_EVERY_MS  20
#define FORGED_NUMBERS 100000 /* far above those of the dialler's own packets */

struct broken {
    struct rig rig;
    uv_timer_t pings;
    uint32_t ping_count;
    struct rig_proxy proxy;
    struct rig_conn *a; /* the forger's */
    struct rig_conn *b;
};

static void broken_connect(struct broken *t)
{
    rig_init(&t->rig);
    t->rig.limits.stall_timeout_ms = 1; /* and some probe timeouts, in any case */
    rig_open(&t->rig, 0);
    rig_open(&t->rig, 1);
    rig_proxy_open(&t->proxy, &t->rig.nodes[1]);
    struct socket_address at = rig_proxy_address(&t->proxy);
    t->a = rig_dial_at(&t->rig.nodes[0], net_endpoint_id(t->rig.nodes[1].ep), &at, 1, RIG_ALPN_A);
    rig_forge_begin(t->a);
    rig_until(&t->rig, t->a->opened && rig_accepted(&t->rig.nodes[1]));
    t->b = rig_accepted(&t->rig.nodes[1]);
}

static void broken_fini(struct broken *t)
{
    rig_proxy_close(&t->proxy);
    rig_fini(&t->rig);
}

/* A STOP_SENDING in a packet that ngtcp2 decrypts and then throws away: it has one of that number already, or the keys
 * are not those that the packet says. What is still to be repeated must not be freed: the peer would be sent whatever
 * lies there next. */
static void stop_in_a_packet_thrown_away(bool other_key_phase)
{
    static const uint8_t stop[] = {0x05, 0x00, 0x09, 0, 0, 0, 0, 0}; /* stream 0, code 9; padding */
    struct broken t;
    broken_connect(&t);
    struct rig_stream *s = rig_stream(t.a);
    rig_write(s, "x", 1);
    rig_until(&t.rig, t.b->stream_count == 1 && t.b->streams[0].received_bytes == 1);
    struct rig_stream *r = &t.b->streams[0];
    t.proxy.drop_back = true; /* so that it has to be repeated */
    r->write_goal = r->write_mark = LOST_BYTES;
    rig_pump(r);
    rig_forge_send(&t.proxy, 0,
                   &(struct rig_packet){.other_key_phase = other_key_phase, .frames = stop, .frames_len = sizeof stop});
    rig_until(&t.rig, r->was_stopped);
    t.proxy.drop_back = false;
    rig_until(&t.rig, s->was_reset || s->received_bytes);
    assert_int_equal(s->mismatches, 0);
    assert_true(s->was_reset);
    assert_int_equal(s->reset_code, 9);
    broken_fini(&t);
}

static void stop_in_a_repeated_packet_frees_nothing_in_use(void **state)
{
    (void)state;
    stop_in_a_packet_thrown_away(false);
}

static void stop_in_a_packet_of_the_wrong_key_phase_frees_nothing_in_use(void **state)
{
    (void)state;
    stop_in_a_packet_thrown_away(true);
}

static void on_ping(uv_timer_t *timer)
{
    static const uint8_t ping[] = {0x01, 0, 0, 0};
    struct broken *t = timer->data;
    rig_forge_send(
        &t->proxy, 0,
        &(struct rig_packet){.number = FORGED_NUMBERS + t->ping_count++, .frames = ping, .frames_len = sizeof ping});
}

/* What is waited for may also be lost by ngtcp2 (quic_conn_stalled()): such a connection is good for nothing more, and
 * with PINGs it would live for ever. */
static void a_peer_that_is_heard_and_acknowledges_nothing_is_given_up(void **state)
{
    (void)state;
    struct broken t = {.ping_count = 0};
    broken_connect(&t);
    rig_write(rig_stream(t.a), "x", 1);
    rig_until(&t.rig, t.b->stream_count == 1 && t.b->streams[0].received_bytes == 1);
    t.proxy.drop_back = true;
    t.b->streams[0].write_goal = t.b->streams[0].write_mark = LOST_BYTES;
    rig_pump(&t.b->streams[0]);
    assert_int_equal(uv_timer_init(&t.rig.loop, &t.pings), 0);
    t.pings.data = &t;
    assert_int_equal(uv_timer_start(&t.pings, on_ping, 0, PING_EVERY_MS), 0);
    rig_until(&t.rig, t.b->closed);
    assert_int_equal(t.b->err, HKV_E_PEER_LOST);
    assert_non_null(strstr(t.b->why, "acknowledges nothing"));
    uv_close((uv_handle_t *)&t.pings, NULL);
    broken_fini(&t);
}

static uint64_t bytes_sent(const struct rig_node *node)
{
    struct net_endpoint_stats stats;
    net_endpoint_stats(node->ep, &stats);
    return stats.bytes_sent;
}

/* Silence is another matter: it has its own, longer time. */
static void a_peer_that_is_not_heard_for_a_while_is_kept(void **state)
{
    (void)state;
    struct broken t;
    broken_connect(&t);
    struct rig_stream *s = rig_stream(t.a);
    rig_write(s, "x", 1);
    rig_until(&t.rig, t.b->stream_count == 1 && t.b->streams[0].received_bytes == 1);
    t.proxy.drop = t.proxy.drop_back = true;
    t.b->streams[0].write_goal = t.b->streams[0].write_mark = LOST_BYTES;
    rig_pump(&t.b->streams[0]);
    uint64_t sent = bytes_sent(&t.rig.nodes[1]);
    rig_until(&t.rig, bytes_sent(&t.rig.nodes[1]) >= sent + LOST_BYTES / 8);
    t.proxy.drop = t.proxy.drop_back = false;
    rig_until(&t.rig, s->received_bytes == LOST_BYTES);
    assert_false(t.b->closed);
    assert_int_equal(s->mismatches, 0);
    broken_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_in_a_repeated_packet_frees_nothing_in_use),
        cmocka_unit_test(stop_in_a_packet_of_the_wrong_key_phase_frees_nothing_in_use),
        cmocka_unit_test(a_peer_that_is_heard_and_acknowledges_nothing_is_given_up),
        cmocka_unit_test(a_peer_that_is_not_heard_for_a_while_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
