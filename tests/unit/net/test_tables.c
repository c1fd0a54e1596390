/* The small parts: frames, ranks of addresses, advertised addresses. */
#include "fixture.h"
#include "net/frames.h"
#include "net/interfaces.h"

static void stop_sending_is_found_behind_every_frame(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t bytes[40];
        size_t len;
    } frames[] = {
        {"padding", {0, 0, 0}, 3},
        {"ping", {1}, 1},
        {"ack", {2, 0x40, 0x50, 0, 1, 3, 1, 2}, 8},
        {"ack with ecn", {3, 9, 0, 0, 3, 1, 2, 3}, 8},
        {"reset stream", {4, 4, 7, 0x40, 0xff}, 5},
        {"crypto", {6, 0, 3, 'a', 'b', 'c'}, 6},
        {"new token", {7, 2, 5, 5}, 4},
        {"stream, no offset", {0x0a, 4, 2, 'x', 'y'}, 5},
        {"stream, offset and fin", {0x0f, 4, 8, 1, 'x'}, 5},
        {"max data", {0x10, 0x80, 1, 0, 0}, 5},
        {"max stream data", {0x11, 4, 0x44, 0}, 4},
        {"max streams", {0x12, 5}, 2},
        {"max streams uni", {0x13, 5}, 2},
        {"data blocked", {0x14, 1}, 2},
        {"stream data blocked", {0x15, 4, 1}, 3},
        {"streams blocked", {0x16, 1}, 2},
        {"streams blocked uni", {0x17, 1}, 2},
        {"new connection id",
         {0x18, 1, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
         28},
        {"retire connection id", {0x19, 1}, 2},
        {"path challenge", {0x1a, 1, 2, 3, 4, 5, 6, 7, 8}, 9},
        {"path response", {0x1b, 1, 2, 3, 4, 5, 6, 7, 8}, 9},
        {"handshake done", {0x1e}, 1},
        {"stop sending", {5, 0, 1}, 3},
    };
    static const uint8_t stop[] = {5, 8, 0xc0, 0, 0, 0, 0, 0, 0x12, 0x34};
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        struct frames_stops found = {0};
        uint8_t payload[64];
        memcpy(payload, frames[i].bytes, frames[i].len);
        memcpy(payload + frames[i].len, stop, sizeof stop);
        frames_find_stops(slice_of(payload, frames[i].len + sizeof stop), &found);
        if (found.count == 0) fail_msg("not found behind: %s", frames[i].name);
        assert_int_equal(found.items[found.count - 1].stream_id, 8);
        assert_int_equal(found.items[found.count - 1].code, 0x1234);
        for (size_t cut = 0; cut < frames[i].len + sizeof stop; cut++) { /* never reads past the end */
            struct frames_stops some = {0};
            uint8_t part[64];
            memcpy(part, payload, cut);
            frames_find_stops(slice_of(part, cut), &some);
            assert_true(some.count < found.count);
        }
    }
}

static void stops_of_one_packet_are_bounded(void **state)
{
    (void)state;
    struct frames_stops found = {0};
    uint8_t payload[3 * (FRAMES_STOPS_MAX + 10)];
    for (size_t i = 0; i < sizeof payload; i += 3) memcpy(payload + i, (uint8_t[]){5, 4, 1}, 3);
    frames_find_stops(slice_of(payload, sizeof payload), &found);
    assert_int_equal(found.count, FRAMES_STOPS_MAX);
}

static void addresses_are_ranked_as_iroh_ranks_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum interface_rank rank;
    } cases[] = {
        {"192.168.1.7:1", INTERFACE_REGULAR},      {"8.8.8.8:1", INTERFACE_REGULAR},
        {"127.0.0.1:1", INTERFACE_LOOPBACK},       {"127.9.9.9:1", INTERFACE_LOOPBACK},
        {"169.254.3.4:1", INTERFACE_FALLBACK},     {"0.0.0.0:1", INTERFACE_NEVER},
        {"224.0.0.1:1", INTERFACE_NEVER},          {"255.255.255.255:1", INTERFACE_NEVER},
        {"[2001:db8::1]:1", INTERFACE_REGULAR},    {"[::1]:1", INTERFACE_LOOPBACK},
        {"[fe80::1]:1", INTERFACE_NEVER},          {"[febf::1]:1", INTERFACE_NEVER},
        {"[fd00::2]:1", INTERFACE_FALLBACK},       {"[fc00::2]:1", INTERFACE_FALLBACK},
        {"[fd15:70a:510b::5]:1", INTERFACE_NEVER}, {"[fd15:70a:510c::5]:1", INTERFACE_FALLBACK},
        {"[ff02::1]:1", INTERFACE_NEVER},          {"[::]:1", INTERFACE_NEVER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct socket_address a;
        assert_int_equal(socket_address_parse(slice_of_text(cases[i].text), &a), HKV_OK);
        if (interface_rank_of(&a) != cases[i].rank) fail_msg("%s has rank %d", cases[i].text, interface_rank_of(&a));
    }
}

static void specific_bind_is_advertised_alone(void **state)
{
    (void)state;
    struct rig rig;
    struct address_set set = {0};
    rig_init(&rig);
    rig_open(&rig, 0);
    struct socket_address want = rig_address(&rig.nodes[0]);
    assert_int_equal(net_endpoint_addresses(rig.nodes[0].ep, &set), HKV_OK);
    assert_int_equal(set.count, 1);
    assert_int_equal(socket_address_compare(&set.items[0].socket, &want), 0);
    address_set_fini(&set);
    rig_fini(&rig);
}

static void wildcard_bind_advertises_the_interfaces(void **state)
{
    (void)state;
    struct socket_address any[2] = {{.port = 4711}, {.port = 4712, .is_ipv6 = true}};
    struct address_set set = {0};
    assert_int_equal(interfaces_addresses(any, 2, &set), HKV_OK);
    enum interface_rank best = INTERFACE_NEVER;
    for (size_t i = 0; i < set.count; i++) {
        const struct socket_address *a = &set.items[i].socket;
        assert_int_equal(a->port, a->is_ipv6 ? 4712 : 4711);
        enum interface_rank rank = interface_rank_of(a);
        assert_int_not_equal(rank, INTERFACE_NEVER);
        if (i > 0) assert_int_equal(rank, best); /* never mixed with worse ones */
        best = rank;
    }
    address_set_fini(&set);
}

static void machine_with_more_addresses_than_fit_still_has_some(void **state)
{
    (void)state;
    struct socket_address any[2] = {{.port = 4711}, {.port = 4712, .is_ipv6 = true}};
    struct address_set set = {0};
    for (uint16_t port = 1; port <= ADDRESS_SET_MAX; port++) {
        struct socket_address a = rig_loopback(false, port);
        assert_int_equal(address_set_add_socket(&set, &a), HKV_OK);
    }
    assert_int_equal(interfaces_addresses(any, 2, &set), HKV_OK);
    assert_int_equal(set.count, ADDRESS_SET_MAX);
    address_set_fini(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_sending_is_found_behind_every_frame),
        cmocka_unit_test(stops_of_one_packet_are_bounded),
        cmocka_unit_test(addresses_are_ranked_as_iroh_ranks_them),
        cmocka_unit_test(specific_bind_is_advertised_alone),
        cmocka_unit_test(wildcard_bind_advertises_the_interfaces),
        cmocka_unit_test(machine_with_more_addresses_than_fit_still_has_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
