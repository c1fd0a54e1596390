/* A connection over time: silence, key updates, a client that changes its address, peers that vanish. */
#include "fixture_proxy.h"
#include "net/endpoint_impl.h"

struct through {
    struct rig rig;
    struct rig_proxy proxy;
    struct rig_conn *a;
    struct rig_conn *b;
};

static void through_connect(struct through *t)
{
    rig_open(&t->rig, 0);
    rig_open(&t->rig, 1);
    rig_proxy_open(&t->proxy, &t->rig.nodes[1]);
    struct socket_address at = rig_proxy_address(&t->proxy);
    t->a = rig_dial_at(&t->rig.nodes[0], net_endpoint_id(t->rig.nodes[1].ep), &at, 1, RIG_ALPN_A);
    rig_until(&t->rig, t->a->opened && rig_accepted(&t->rig.nodes[1]));
    t->b = rig_accepted(&t->rig.nodes[1]);
}

static void through_fini(struct through *t)
{
    rig_proxy_close(&t->proxy);
    rig_fini(&t->rig);
}

static void exchange(struct through *t, uint64_t bytes)
{
    struct rig_stream *s = rig_stream(t->a);
    s->write_goal = bytes;
    s->write_mark = 1 << 20;
    t->rig.nodes[1].behaviour.echo = true;
    rig_pump(s);
    rig_until(&t->rig, s->closed);
    assert_int_equal(s->received_bytes, bytes);
    assert_int_equal(s->mismatches, 0);
}

static void silence_ends_a_connection(void **state)
{
    (void)state;
    struct through t;
    rig_init(&t.rig);
    t.rig.limits.idle_timeout_ms = 300;
    t.rig.limits.keep_alive_ms = 0;
    through_connect(&t);
    struct rig_stream *s = rig_stream(t.a);
    rig_until(&t.rig, t.a->closed && t.b->closed);
    assert_int_equal(t.a->err, HKV_E_PEER_LOST);
    assert_int_equal(t.b->err, HKV_E_PEER_LOST);
    assert_true(s->closed);
    through_fini(&t);
}

static bool timer_fired;

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
    timer_fired = true;
}

static void run_for(struct rig *rig, uint64_t ms)
{
    uv_timer_t timer;
    timer_fired = false;
    uv_timer_init(&rig->loop, &timer);
    uv_timer_start(&timer, on_timer, ms, 0);
    rig_until(rig, timer_fired);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&rig->loop, UV_RUN_NOWAIT);
}

static void keep_alive_outlasts_the_idle_time(void **state)
{
    (void)state;
    struct through t;
    rig_init(&t.rig);
    t.rig.limits.idle_timeout_ms = 1500;
    t.rig.limits.keep_alive_ms = 100;
    through_connect(&t);
    run_for(&t.rig, 3500); /* more than two idle times */
    assert_false(t.a->closed);
    assert_false(t.b->closed);
    exchange(&t, 1000);
    through_fini(&t);
}

static void vanished_peer_is_noticed_despite_keep_alive(void **state)
{
    (void)state;
    struct through t;
    rig_init(&t.rig);
    t.rig.limits.idle_timeout_ms = 500;
    t.rig.limits.keep_alive_ms = 100;
    through_connect(&t);
    t.proxy.drop = true;
    rig_until(&t.rig, t.a->closed && t.b->closed);
    assert_int_equal(t.a->err, HKV_E_PEER_LOST);
    assert_int_equal(t.b->err, HKV_E_PEER_LOST);
    through_fini(&t);
}

static void keys_are_updated_under_way(void **state)
{
    (void)state;
    struct through t;
    rig_init(&t.rig);
    t.rig.limits.key_update_packets = 150;
    t.rig.limits.key_update_spacing_ms = 0;
    through_connect(&t);
    struct net_endpoint_stats stats[2] = {{0}};
    for (int round = 0; round < 500 && (stats[0].key_updates < 6 || stats[1].key_updates < 6); round++) {
        exchange(&t, 1 << 20); /* some 750 packets each way; a new key as soon as the last one is settled */
        if (t.a->stream_count == RIG_STREAMS_MAX) t.a->stream_count = t.b->stream_count = 0; /* all closed: reuse */
        for (int i = 0; i < 2; i++) net_endpoint_stats(t.rig.nodes[i].ep, &stats[i]);
    }
    assert_true(stats[0].key_updates >= 6);
    assert_true(stats[1].key_updates >= 6);
    assert_true(t.proxy.to_endpoint > 1000);
    assert_true(t.proxy.to_dialler[0] > 1000);
    exchange(&t, 1000);
    through_fini(&t);
}

static void keys_that_are_only_ready_are_no_update(void **state)
{
    (void)state;
    struct through t;
    struct net_endpoint_stats stats;
    rig_init(&t.rig);
    through_connect(&t);
    exchange(&t, 100000);
    for (int i = 0; i < 2; i++) {
        net_endpoint_stats(t.rig.nodes[i].ep, &stats);
        assert_int_equal(stats.key_updates, 0);
    }
    through_fini(&t);
}

static void client_may_change_its_address(void **state)
{
    (void)state;
    struct through t;
    struct transport_path_info path;
    rig_init(&t.rig);
    through_connect(&t);
    exchange(&t, 100000);
    for (size_t i = 1; i < 3; i++) {
        t.proxy.active = i;
        exchange(&t, 1 << 20);
        transport_conn_path(t.b->conn, &path);
        assert_int_equal(path.remote.port, rig_proxy_back_port(&t.proxy, i));
        assert_true(t.proxy.to_dialler[i] > 100);
    }
    assert_int_equal(rig_accepted_count(&t.rig.nodes[1]), 1);
    through_fini(&t);
}

static void client_may_change_its_address_in_the_middle_of_a_stream(void **state)
{
    (void)state;
    struct through t;
    rig_init(&t.rig);
    through_connect(&t);
    struct rig_stream *s = rig_stream(t.a);
    t.rig.nodes[1].behaviour.echo = true;
    s->write_goal = 8 << 20;
    s->write_mark = 1 << 20;
    rig_pump(s);
    rig_until(&t.rig, s->received_bytes > 1 << 20);
    t.proxy.active = 1;
    rig_until(&t.rig, s->received_bytes > 4 << 20);
    t.proxy.active = 2;
    rig_until(&t.rig, s->closed);
    assert_int_equal(s->received_bytes, 8 << 20);
    assert_int_equal(s->mismatches, 0);
    through_fini(&t);
}

static void client_may_change_to_the_other_address_family(void **state)
{
    (void)state;
    struct through t;
    struct transport_path_info path;
    rig_init(&t.rig);
    t.rig.both = true;
    through_connect(&t);
    exchange(&t, 100000);
    t.proxy.by_ipv6 = true;
    exchange(&t, 1 << 20);
    transport_conn_path(t.b->conn, &path);
    assert_true(path.remote.is_ipv6);
    assert_true(t.proxy.to_dialler[3] > 100);
    through_fini(&t);
}

/* Somebody on the way sends packets of the client on from an address of its choice: nobody there may be flooded, and
 * the client keeps its connection. */
static void packets_from_an_address_that_is_not_the_clients_do_not_draw_the_stream(void **state)
{
    (void)state;
    struct through t;
    rig_init(&t.rig);
    through_connect(&t);
    struct rig_stream *s = rig_stream(t.a);
    t.rig.nodes[1].behaviour.echo = true;
    s->write_goal = 8 << 20;
    s->write_mark = 1 << 20;
    rig_pump(s);
    rig_until(&t.rig, s->received_bytes > 1 << 20);
    t.proxy.victim[1] = true;
    t.proxy.active = 1;
    uint64_t before = t.proxy.to_endpoint;
    rig_until(&t.rig, t.proxy.to_endpoint > before);
    t.proxy.active = 0;
    rig_until(&t.rig, s->closed || t.a->closed);
    assert_false(t.a->closed);
    assert_int_equal(s->received_bytes, 8 << 20);
    assert_int_equal(s->mismatches, 0);
    assert_true(t.proxy.bytes_back[1] <= 3 * t.proxy.bytes_forth[1]);
    through_fini(&t);
}

static void copies_of_the_first_packets_make_one_connection(void **state)
{
    (void)state;
    struct through t;
    struct net_endpoint_stats stats;
    rig_init(&t.rig);
    rig_open(&t.rig, 0);
    rig_open(&t.rig, 1);
    rig_proxy_open(&t.proxy, &t.rig.nodes[1]);
    t.proxy.twice = true;
    struct socket_address at = rig_proxy_address(&t.proxy);
    t.a = rig_dial_at(&t.rig.nodes[0], net_endpoint_id(t.rig.nodes[1].ep), &at, 1, RIG_ALPN_A);
    rig_until(&t.rig, t.a->opened && rig_accepted(&t.rig.nodes[1]));
    t.proxy.twice = false;
    exchange(&t, 10000);
    net_endpoint_stats(t.rig.nodes[1].ep, &stats);
    assert_int_equal(stats.conns, 1);
    assert_int_equal(stats.half_open, 0);
    assert_int_equal(rig_accepted_count(&t.rig.nodes[1]), 1);
    through_fini(&t);
}

static void both_known_addresses_of_a_peer_are_sprayed_and_one_wins(void **state)
{
    (void)state;
    struct through t;
    rig_init(&t.rig);
    rig_open(&t.rig, 0);
    rig_open(&t.rig, 1);
    rig_proxy_open(&t.proxy, &t.rig.nodes[1]);
    struct socket_address at[] = {rig_proxy_address(&t.proxy), rig_address(&t.rig.nodes[1])};
    t.a = rig_dial_at(&t.rig.nodes[0], net_endpoint_id(t.rig.nodes[1].ep), at, 2, RIG_ALPN_A);
    rig_until(&t.rig, t.a->opened && rig_accepted(&t.rig.nodes[1]));
    exchange(&t, 100000);
    assert_true(t.proxy.to_endpoint >= 1);
    assert_int_equal(rig_accepted_count(&t.rig.nodes[1]), 1);
    struct transport_path_info path;
    transport_conn_path(t.a->conn, &path);
    assert_true(path.remote.port == at[0].port || path.remote.port == at[1].port);
    through_fini(&t);
}

/* Without a word: its process died. Back with the same key it answers with stateless resets. */
static void restart_peer(struct through *t)
{
    t->proxy.drop = true;
    rig_close_node(&t->rig.nodes[1]);
    rig_open(&t->rig, 1);
    t->proxy.drop = false;
    uint16_t port = net_endpoint_port(t->rig.nodes[1].ep, false);
    t->proxy.endpoint.sin_port = (uint16_t)(port << 8 | port >> 8);
}

static void restarted_peer_is_noticed_at_the_next_packet(void **state)
{
    (void)state;
    struct through t;
    rig_init(&t.rig);
    through_connect(&t);
    exchange(&t, 1000);
    restart_peer(&t);
    struct rig_stream *s = rig_stream(t.a);
    for (int i = 0; i < 100; i++) rig_write(s, "anybody there? anybody there? anybody there?", 44);
    rig_until(&t.rig, t.a->closed);
    assert_int_equal(t.a->err, HKV_E_PEER_LOST);
    assert_non_null(strstr(t.a->why, "restarted"));
    through_fini(&t);
}

/* A keep-alive is one of the shortest packets there are; the idle time is far away. */
static void restarted_peer_is_noticed_by_keep_alive(void **state)
{
    (void)state;
    struct through t;
    rig_init(&t.rig);
    t.rig.limits.keep_alive_ms = 100;
    through_connect(&t);
    exchange(&t, 1000);
    restart_peer(&t);
    rig_until(&t.rig, t.a->closed);
    assert_int_equal(t.a->err, HKV_E_PEER_LOST);
    assert_non_null(strstr(t.a->why, "restarted"));
    through_fini(&t);
}

/* Writes in a packet of its own, which goes nowhere or arrives. */
static void write_packet(struct through *t, struct rig_stream *s, const char *text, bool arrives)
{
    uint16_t port = t->proxy.endpoint.sin_port;
    uint64_t before = t->proxy.to_endpoint;
    if (!arrives) t->proxy.endpoint.sin_port = 0;
    if (text)
        rig_write(s, text, strlen(text));
    else
        transport_stream_finish(s->stream);
    rig_until(&t->rig, t->proxy.to_endpoint > before);
    t->proxy.endpoint.sin_port = port;
}

/* A FIN sent alone is lost, everything else was acknowledged, and it cannot be repeated yet: the kernel takes nothing.
 * Then nothing is in flight, and yet the peer does not have it. */
static void fin_that_waits_to_be_repeated_is_not_acknowledged(void **state)
{
    (void)state;
    struct through t;
    rig_init(&t.rig);
    through_connect(&t);
    struct rig_stream *s = rig_stream(t.a), *other = rig_stream(t.a);
    write_packet(&t, s, "abc", true);
    write_packet(&t, s, NULL, false);
    for (int i = 0; i < 4; i++) write_packet(&t, other, "x", true);
    struct udp_socket *udp = &t.rig.nodes[0].ep->udp_v4;
    udp->blocked = true;
    run_for(&t.rig, 200); /* the acknowledgements of the rest arrive */
    assert_true(!s->finished || t.b->streams[0].fin);
    udp->blocked = false;
    udp->events->writable(udp);
    rig_until(&t.rig, s->finished);
    assert_true(t.b->streams[0].fin);
    through_fini(&t);
}

static void bytes_are_counted_as_the_network_sees_them(void **state)
{
    (void)state;
    struct through t;
    struct transport_path_info path;
    rig_init(&t.rig);
    through_connect(&t);
    exchange(&t, 100000);
    rig_until(&t.rig, (transport_conn_path(t.a->conn, &path), path.bytes_sent == t.proxy.bytes_to_endpoint &&
                                                                  path.bytes_received == t.proxy.bytes_to_dialler));
    assert_true(path.rtt_us > 0);
    rig_until(&t.rig, (transport_conn_path(t.b->conn, &path), path.bytes_received == t.proxy.bytes_to_endpoint &&
                                                                  path.bytes_sent == t.proxy.bytes_to_dialler));
    through_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_ends_a_connection),
        cmocka_unit_test(keep_alive_outlasts_the_idle_time),
        cmocka_unit_test(vanished_peer_is_noticed_despite_keep_alive),
        cmocka_unit_test(keys_are_updated_under_way),
        cmocka_unit_test(keys_that_are_only_ready_are_no_update),
        cmocka_unit_test(client_may_change_its_address),
        cmocka_unit_test(client_may_change_its_address_in_the_middle_of_a_stream),
        cmocka_unit_test(client_may_change_to_the_other_address_family),
        cmocka_unit_test(packets_from_an_address_that_is_not_the_clients_do_not_draw_the_stream),
        cmocka_unit_test(copies_of_the_first_packets_make_one_connection),
        cmocka_unit_test(both_known_addresses_of_a_peer_are_sprayed_and_one_wins),
        cmocka_unit_test(restarted_peer_is_noticed_at_the_next_packet),
        cmocka_unit_test(restarted_peer_is_noticed_by_keep_alive),
        cmocka_unit_test(fin_that_waits_to_be_repeated_is_not_acknowledged),
        cmocka_unit_test(bytes_are_counted_as_the_network_sees_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
