/* Dialling and accepting: who is who, which protocol, and what is refused. */
#include "fixture_proxy.h"

static void connect_both_families(void **state)
{
    (void)state;
    for (int ipv6 = 0; ipv6 < 2; ipv6++) {
        struct rig rig;
        rig_init(&rig);
        rig.ipv6 = ipv6;
        rig_open(&rig, 0);
        rig_open(&rig, 1);
        struct rig_conn *a = rig_dial(&rig.nodes[0], &rig.nodes[1], RIG_ALPN_B);
        assert_false(a->opened); /* never from inside the call */
        rig_until(&rig, a->opened && rig_accepted(&rig.nodes[1]) && rig_accepted(&rig.nodes[1])->opened);
        struct rig_conn *b = rig_accepted(&rig.nodes[1]);
        assert_memory_equal(&a->peer, net_endpoint_id(rig.nodes[1].ep), ID_BYTES);
        assert_memory_equal(&b->peer, net_endpoint_id(rig.nodes[0].ep), ID_BYTES);
        assert_string_equal(b->alpn, RIG_ALPN_B);

        struct transport_path_info path;
        struct socket_address want = rig_address(&rig.nodes[0]);
        transport_conn_path(b->conn, &path);
        assert_int_equal(path.remote.port, want.port); /* dialled from the listening socket */
        assert_true(path.bytes_received >= 1200);
        rig_fini(&rig);
    }
}

static void wrong_id_is_noticed(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    rig_open(&rig, 2);
    struct socket_address at = rig_address(&rig.nodes[1]);
    struct rig_conn *a = rig_dial_at(&rig.nodes[0], net_endpoint_id(rig.nodes[2].ep), &at, 1, RIG_ALPN_A);
    rig_until(&rig, a->closed);
    assert_int_equal(a->err, HKV_E_PEER_IDENTITY);
    assert_int_equal(a->code, 0x130);
    assert_false(a->opened);
    struct net_endpoint_stats stats = {.half_open = 1};
    rig_until(&rig, (net_endpoint_stats(rig.nodes[1].ep, &stats), stats.half_open == 0));
    assert_int_equal(rig.nodes[1].conn_count, 0);
    rig_fini(&rig);
}

static struct net_endpoint_stats stats_of(struct rig_node *node)
{
    struct net_endpoint_stats stats;
    net_endpoint_stats(node->ep, &stats);
    return stats;
}

/* Dials node 1, which at first hears nothing, at its own address and at `wrong`, where another node answers. */
static void dial_past(struct rig *rig, struct rig_node *other, struct socket_address wrong)
{
    struct rig_proxy proxy;
    struct transport_path_info path;
    rig_proxy_open(&proxy, &rig->nodes[1]);
    proxy.drop = true;
    struct socket_address at[] = {wrong, rig_proxy_address(&proxy)};
    uint64_t before = stats_of(other).bytes_received;
    struct rig_conn *a = rig_dial_at(&rig->nodes[0], net_endpoint_id(rig->nodes[1].ep), at, 2, RIG_ALPN_A);
    rig_until(rig, stats_of(other).bytes_received > before);
    proxy.drop = false;
    rig_until(rig, a->opened || a->closed);
    assert_false(a->closed);
    assert_memory_equal(&a->peer, net_endpoint_id(rig->nodes[1].ep), ID_BYTES);
    transport_conn_path(a->conn, &path);
    assert_int_equal(path.remote.port, at[1].port);
    rig_proxy_close(&proxy);
}

/* A private address of the peer, which is that of another node where we are. */
static void another_node_at_an_address_of_the_peer_does_not_end_the_dial(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    for (size_t i = 0; i < 3; i++) rig_open(&rig, i);
    dial_past(&rig, &rig.nodes[2], rig_address(&rig.nodes[2]));
    assert_int_equal(rig.nodes[2].conn_count, 0);
    rig_fini(&rig);
}

/* The same, and it does not even speak our protocol: it says so before it shows its key. */
static void node_of_another_protocol_at_an_address_of_the_peer_does_not_end_the_dial(void **state)
{
    (void)state;
    static const char *const alpns[] = {"/test/other"};
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    rig_open_alpns(&rig, 2, alpns, 1);
    dial_past(&rig, &rig.nodes[2], rig_address(&rig.nodes[2]));
    rig_fini(&rig);
}

/* Every machine with containers has 172.17.0.1, and says so in its tickets. */
static void our_own_address_among_those_of_the_peer_does_not_end_the_dial(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig.wildcard = true;
    rig_open(&rig, 0);
    rig.wildcard = false;
    rig_open(&rig, 1);
    dial_past(&rig, &rig.nodes[0], rig_address(&rig.nodes[0]));
    assert_int_equal(rig_accepted_count(&rig.nodes[0]), 0);
    rig_fini(&rig);
}

static void who_answers_instead_of_the_peer_is_told_when_nobody_else_answers(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig.limits.dial_timeout_ms = 300;
    for (size_t i = 0; i < 3; i++) rig_open(&rig, i);
    struct socket_address at[] = {rig_address(&rig.nodes[1]), rig_address(&rig.nodes[2])};
    struct endpoint_id id = *net_endpoint_id(rig.nodes[2].ep);
    rig_close_node(&rig.nodes[2]);
    struct rig_conn *a = rig_dial_at(&rig.nodes[0], &id, at, 2, RIG_ALPN_A);
    rig_until(&rig, a->closed);
    assert_int_equal(a->err, HKV_E_PEER_IDENTITY);
    assert_int_equal(a->code, 0x130);
    rig_fini(&rig);
}

static void mapped_address_is_dialled_as_ipv4(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    struct socket_address at = {.is_ipv6 = true, .port = rig_address(&rig.nodes[1]).port};
    memcpy(at.ip + 10, (uint8_t[]){0xff, 0xff, 127, 0, 0, 1}, 6);
    struct rig_conn *a = rig_dial_at(&rig.nodes[0], net_endpoint_id(rig.nodes[1].ep), &at, 1, RIG_ALPN_A);
    rig_until(&rig, a->opened);
    rig_fini(&rig);
}

static void untrusted_id_is_refused_in_the_handshake(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    rig.nodes[1].behaviour.refuse_peers = true;
    struct rig_conn *a = rig_dial(&rig.nodes[0], &rig.nodes[1], RIG_ALPN_A);
    rig_until(&rig, a->closed);
    assert_int_equal(a->err, HKV_E_PEER_REFUSED);
    assert_int_equal(a->code, 0x131);
    assert_int_equal(rig.nodes[1].admit_calls, 1);
    assert_int_equal(rig.nodes[1].conn_count, 0); /* never shown to the owner */
    rig_fini(&rig);
}

static void owner_can_turn_a_connection_down(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    rig.nodes[1].behaviour.refuse_conns = true;
    struct rig_conn *a = rig_dial(&rig.nodes[0], &rig.nodes[1], RIG_ALPN_A);
    rig_until(&rig, a->closed);
    assert_int_equal(a->err, HKV_OK);
    assert_int_equal(a->code, 0);
    rig_fini(&rig);
}

static void acceptor_takes_what_it_likes_best_of_the_protocols_offered(void **state)
{
    (void)state;
    static const char *const offered[] = {"/test/unknown", RIG_ALPN_B, RIG_ALPN_A};
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    for (size_t count = 2; count <= 3; count++) {
        const char *want = count == 2 ? RIG_ALPN_B : RIG_ALPN_A;
        struct rig_conn *a = rig_dial_any(&rig.nodes[0], &rig.nodes[1], offered, count);
        assert_int_equal(transport_conn_alpn(a->conn).len, 0);
        rig_until(&rig, a->opened && rig_accepted_count(&rig.nodes[1]) == count - 1);
        assert_string_equal(rig_accepted(&rig.nodes[1])->alpn, want);
        assert_true(slice_equal(transport_conn_alpn(a->conn), slice_of_text(want)));
    }
    rig_fini(&rig);
}

static void unknown_alpn_is_refused(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    struct rig_conn *a = rig_dial(&rig.nodes[0], &rig.nodes[1], "/test/unknown");
    rig_until(&rig, a->closed);
    assert_int_equal(a->err, HKV_E_PEER_REFUSED);
    assert_int_equal(a->code, 0x178);
    assert_false(a->opened);
    rig_fini(&rig);
}

static void dead_port_fails_in_time(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig.limits.dial_timeout_ms = 300;
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    struct socket_address at = rig_address(&rig.nodes[1]);
    struct endpoint_id id = *net_endpoint_id(rig.nodes[1].ep);
    rig_close_node(&rig.nodes[1]);
    struct rig_conn *a = rig_dial_at(&rig.nodes[0], &id, &at, 1, RIG_ALPN_A);
    rig_until(&rig, a->closed);
    assert_int_equal(a->err, HKV_E_PEER_UNREACHABLE);
    assert_non_null(strstr(a->why, "300 ms"));
    rig_fini(&rig);
}

static void what_cannot_be_dialled_is_said_at_once(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    struct transport *t = net_endpoint_transport(rig.nodes[0].ep);
    struct transport_conn *conn;
    struct address_set none = {0}, other_family = {0};
    struct socket_address v6 = rig_loopback(true, 9);
    struct endpoint_id id = {{1}};
    static const struct transport_conn_events events;
    assert_int_equal(address_set_add_socket(&other_family, &v6), HKV_OK);
    assert_int_equal(transport_dial(t, &id, &none, slice_of_text("x"), &events, NULL, &conn), HKV_E_PEER_UNREACHABLE);
    assert_int_equal(transport_dial(t, &id, &other_family, slice_of_text("x"), &events, NULL, &conn),
                     HKV_E_PEER_UNREACHABLE);
    assert_int_equal(
        transport_dial(t, net_endpoint_id(rig.nodes[0].ep), &none, slice_of_text("x"), &events, NULL, &conn),
        HKV_E_INVALID);
    assert_int_equal(transport_dial(t, &id, &none, slice_of_text(""), &events, NULL, &conn), HKV_E_INVALID);
    address_set_fini(&other_family);
    rig_fini(&rig);
}

static void first_live_address_of_several_wins(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    rig_open(&rig, 2);
    uint16_t dead = net_endpoint_port(rig.nodes[2].ep, false);
    rig_close_node(&rig.nodes[2]);
    struct socket_address at[] = {rig_loopback(false, dead), rig_address(&rig.nodes[1]), rig_loopback(true, 9)};
    struct rig_conn *a = rig_dial_at(&rig.nodes[0], net_endpoint_id(rig.nodes[1].ep), at, 3, RIG_ALPN_A);
    rig_until(&rig, a->opened);
    struct transport_path_info path;
    transport_conn_path(a->conn, &path);
    assert_int_equal(path.remote.port, at[1].port);
    rig_fini(&rig);
}

static void answer_comes_from_the_address_that_was_dialled(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig.wildcard = true;
    rig_open(&rig, 1);
    struct socket_address at = rig_address(&rig.nodes[1]);
    at.ip[3] = 77; /* 127.0.0.77; the kernel itself would answer from 127.0.0.1 */
    struct rig_conn *a = rig_dial_at(&rig.nodes[0], net_endpoint_id(rig.nodes[1].ep), &at, 1, RIG_ALPN_A);
    rig_until(&rig, a->opened);
    struct transport_path_info path;
    transport_conn_path(a->conn, &path);
    assert_int_equal(path.remote.ip[3], 77);
    rig_fini(&rig);
}

static void bound_port_is_named(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    struct slice alpn = slice_of_text("x");
    struct secret_key secret = {{7}};
    struct net_endpoint *second;
    struct net_endpoint_config config = {.loop = &rig.loop,
                                         .secret = &secret,
                                         .bind_v4 = rig_address(&rig.nodes[0]),
                                         .use_v4 = true,
                                         .alpns = &alpn,
                                         .alpn_count = 1,
                                         .limits = rig.limits};
    char text[ADDRESS_TEXT_MAX];
    socket_address_format(&config.bind_v4, text);
    assert_int_equal(net_endpoint_open(&config, &second), HKV_E_ADDRESS_IN_USE);
    assert_non_null(strstr(error_last(), text));
    rig_fini(&rig);
}

static void close_codes_and_reasons_arrive(void **state)
{
    (void)state;
    static const struct {
        uint64_t code;
        enum hkv_err err;
    } cases[] = {{0, HKV_OK}, {7, HKV_E_PEER_REFUSED}, {UINT64_C(1) << 61, HKV_E_PEER_REFUSED}};
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig_conn *a = rig_dial(&rig.nodes[0], &rig.nodes[1], RIG_ALPN_A);
        rig_until(&rig, a->opened && rig_accepted_count(&rig.nodes[1]) == i + 1);
        struct rig_conn *b = rig_accepted(&rig.nodes[1]);
        transport_conn_close(b->conn, cases[i].code, "good\nbye");
        assert_false(b->closed);
        rig_until(&rig, a->closed && b->closed);
        assert_int_equal(a->code, cases[i].code);
        assert_int_equal(a->err, cases[i].err);
        assert_int_equal(b->err, cases[i].err);
        assert_non_null(strstr(a->why, "good?bye")); /* nothing of a peer's text can disturb a terminal */
    }
    rig_fini(&rig);
}

static void dial_can_be_called_off(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    struct rig_conn *a = rig_dial(&rig.nodes[0], &rig.nodes[1], RIG_ALPN_A);
    transport_conn_close(a->conn, 0, "");
    rig_until(&rig, a->closed);
    assert_false(a->opened);
    assert_int_equal(a->err, HKV_OK);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_both_families),
        cmocka_unit_test(wrong_id_is_noticed),
        cmocka_unit_test(another_node_at_an_address_of_the_peer_does_not_end_the_dial),
        cmocka_unit_test(node_of_another_protocol_at_an_address_of_the_peer_does_not_end_the_dial),
        cmocka_unit_test(our_own_address_among_those_of_the_peer_does_not_end_the_dial),
        cmocka_unit_test(who_answers_instead_of_the_peer_is_told_when_nobody_else_answers),
        cmocka_unit_test(mapped_address_is_dialled_as_ipv4),
        cmocka_unit_test(untrusted_id_is_refused_in_the_handshake),
        cmocka_unit_test(owner_can_turn_a_connection_down),
        cmocka_unit_test(acceptor_takes_what_it_likes_best_of_the_protocols_offered),
        cmocka_unit_test(unknown_alpn_is_refused),
        cmocka_unit_test(dead_port_fails_in_time),
        cmocka_unit_test(what_cannot_be_dialled_is_said_at_once),
        cmocka_unit_test(first_live_address_of_several_wins),
        cmocka_unit_test(answer_comes_from_the_address_that_was_dialled),
        cmocka_unit_test(bound_port_is_named),
        cmocka_unit_test(close_codes_and_reasons_arrive),
        cmocka_unit_test(dial_can_be_called_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
