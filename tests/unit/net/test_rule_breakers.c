/* Peers that hold the keys of a connection and break the rules with them. */
#include "fixture_forger.h"

#define LOST_BYTES 200000

struct broken {
    struct rig rig;
    struct rig_proxy proxy;
    struct rig_conn *a; /* the forger's */
    struct rig_conn *b;
};

static void broken_connect(struct broken *t)
{
    rig_init(&t->rig);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_in_a_repeated_packet_frees_nothing_in_use),
        cmocka_unit_test(stop_in_a_packet_of_the_wrong_key_phase_frees_nothing_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
