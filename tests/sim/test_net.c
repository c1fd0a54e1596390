/* The rules of wire/transport.h, held by the simulated network: two endpoints, and a recorder of what they say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "sim/net.h"

#define MINUTE_US ((uint64_t)60000000)

struct end {
    struct rig *rig;
    unsigned node;
    struct transport_conn *conn;
    struct transport_stream *stream;
    unsigned opened, accepted, conn_closed, stream_closed, finished, reset, stopped, writable;
    enum hkv_err err;
    struct buf received;
    bool fin;
    bool hold;   /* consume nothing */
    bool refuse; /* connections, or streams */
    bool inside; /* a call of ours is under way: no callback may come */
    size_t unconsumed;
};

struct rig {
    struct sim_queue queue;
    struct sim_net net;
    struct sim_env env[2];
    struct sim_endpoint *ep[2];
    struct end end[2];
    struct endpoint_id id[2];
    struct socket_address address[2];
    unsigned done;
};

static struct end *end_of_stream(struct transport_stream *stream)
{
    struct end *end = transport_stream_user(stream);
    assert_false(end->inside);
    assert_int_equal(end->conn_closed, 0);
    return end;
}

static void on_data(struct transport_stream *stream, struct slice bytes, bool fin)
{
    struct end *end = end_of_stream(stream);
    assert_false(end->fin);
    assert_int_equal(buf_append_slice(&end->received, bytes), HKV_OK);
    end->fin = fin;
    if (end->hold)
        end->unconsumed += bytes.len;
    else
        transport_stream_consumed(stream, bytes.len);
}

static void on_writable(struct transport_stream *stream)
{
    end_of_stream(stream)->writable++;
}

static void on_finished(struct transport_stream *stream)
{
    end_of_stream(stream)->finished++;
}

static void on_reset(struct transport_stream *stream, uint64_t code)
{
    assert_int_equal(code, 7);
    end_of_stream(stream)->reset++;
}

static void on_stopped(struct transport_stream *stream, uint64_t code)
{
    assert_int_equal(code, 8);
    end_of_stream(stream)->stopped++;
}

static void on_stream_closed(struct transport_stream *stream)
{
    struct end *end = end_of_stream(stream);
    end->stream_closed++;
    end->stream = NULL;
}

static const struct transport_stream_events stream_events = {.data = on_data,
                                                             .writable = on_writable,
                                                             .finished = on_finished,
                                                             .reset = on_reset,
                                                             .stopped = on_stopped,
                                                             .closed = on_stream_closed};

static void on_opened(struct transport_conn *conn)
{
    ((struct end *)transport_conn_user(conn))->opened++;
}

static bool on_stream(struct transport_conn *conn, struct transport_stream *stream)
{
    struct end *end = transport_conn_user(conn);
    if (end->refuse) return false;
    end->stream = stream;
    transport_stream_set(stream, &stream_events, end);
    return true;
}

static void on_conn_closed(struct transport_conn *conn, enum hkv_err err, uint64_t code, const char *why)
{
    struct end *end = transport_conn_user(conn);
    (void)code;
    assert_false(end->inside);
    assert_null(end->stream);
    assert_non_null(why);
    end->conn_closed++;
    end->err = err;
    end->conn = NULL;
}

static const struct transport_conn_events conn_events = {
    .opened = on_opened, .stream = on_stream, .closed = on_conn_closed};

static bool admit(void *user, const struct endpoint_id *peer)
{
    (void)peer;
    return !((struct end *)user)->refuse;
}

static bool accepted(void *user, struct transport_conn *conn, struct slice alpn)
{
    struct end *end = user;
    assert_true(slice_equal(alpn, slice_of_text("/b")));
    end->conn = conn;
    end->accepted++;
    transport_conn_set(conn, &conn_events, end);
    return true;
}

static void endpoint(struct rig *r, unsigned n)
{
    const struct slice alpns[] = {slice_of_text("/b"), slice_of_text("/c")};
    struct transport_owner owner = {.admit = admit, .accepted = accepted, .user = &r->end[n]};
    assert_int_equal(sim_endpoint_open(&r->net, &r->env[n], &r->id[n], &r->address[n], alpns, 2, &owner, &r->ep[n]),
                     HKV_OK);
}

static void rig_init(struct rig *r, uint64_t seed, const struct sim_net_config *config)
{
    memset(r, 0, sizeof *r);
    sim_queue_init(&r->queue, seed);
    sim_net_init(&r->net, &r->queue, config);
    for (unsigned n = 0; n < 2; n++) {
        sim_env_init(&r->env[n], &r->queue, n);
        r->id[n].bytes[0] = (uint8_t)(n + 1);
        r->address[n] = (struct socket_address){.ip = {10, 0, 0, (uint8_t)n}, .port = 1};
        r->end[n].rig = r;
        r->end[n].node = n;
        endpoint(r, n);
    }
}

static void count_done(void *arg)
{
    ((struct rig *)arg)->done++;
}

static void rig_fini(struct rig *r)
{
    for (unsigned n = 0; n < 2; n++)
        if (r->ep[n] != NULL) sim_endpoint_close(r->ep[n], count_done, r);
    sim_queue_run(&r->queue, sim_now(&r->queue) + 2 * MINUTE_US);
    assert_int_equal(r->queue.count, 0);
    assert_true(r->done >= 1);
    sim_net_fini(&r->net);
    for (unsigned n = 0; n < 2; n++) buf_fini(&r->end[n].received);
    sim_queue_fini(&r->queue);
}

static void dial(struct rig *r)
{
    const struct slice alpns[] = {slice_of_text("/a"), slice_of_text("/b")};
    struct address_set addrs = {0};
    assert_int_equal(address_set_add_socket(&addrs, &r->address[1]), HKV_OK);
    r->end[0].inside = true;
    assert_int_equal(transport_dial_any(sim_endpoint_transport(r->ep[0]), &r->id[1], &addrs, alpns, 2, &conn_events,
                                        &r->end[0], &r->end[0].conn),
                     HKV_OK);
    r->end[0].inside = false;
    address_set_fini(&addrs);
}

static void pass(struct rig *r, uint64_t us)
{
    sim_queue_run(&r->queue, sim_now(&r->queue) + us);
}

static void connect(struct rig *r)
{
    dial(r);
    pass(r, 1000000);
    assert_int_equal(r->end[0].opened, 1);
    assert_int_equal(r->end[1].accepted, 1);
    assert_int_equal(r->end[1].opened, 1);
}

static void write_bytes(struct end *end, size_t len)
{
    struct buf bytes = {0};
    for (size_t i = 0; i < len; i++) assert_int_equal(buf_append_byte(&bytes, (uint8_t)(i * 31 + i / 251)), HKV_OK);
    end->inside = true;
    assert_int_equal(transport_stream_write(end->stream, &bytes), HKV_OK);
    end->inside = false;
}

static void check_bytes(const struct end *end, size_t len)
{
    assert_int_equal(end->received.len, len);
    for (size_t i = 0; i < len; i++) assert_int_equal(end->received.data[i], (uint8_t)(i * 31 + i / 251));
}

static void stream(struct rig *r)
{
    assert_int_equal(transport_stream_open(r->end[0].conn, &stream_events, &r->end[0], &r->end[0].stream), HKV_OK);
}

static struct sim_net_config config_of(uint64_t seed)
{
    struct sim_net_config config;
    sim_net_config_default(&config);
    config.lost_per_million = seed % 2 == 0 ? 100000 : 0;
    config.stream_window_bytes = 1000 + seed * 700;
    config.conn_window_bytes = 3000;
    config.piece_bytes_max = 1 + seed * 97;
    return config;
}

static void bytes_arrive_whole_and_in_order_for_any_seed(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct rig r;
        struct sim_net_config config = config_of(seed);
        rig_init(&r, seed, &config);
        connect(&r);
        stream(&r);
        write_bytes(&r.end[0], 20000);
        transport_stream_finish(r.end[0].stream);
        pass(&r, 60 * MINUTE_US);
        check_bytes(&r.end[1], 20000);
        assert_true(r.end[1].fin);
        assert_int_equal(r.end[0].finished, 1);
        assert_int_equal(r.end[0].stream_closed, 0); /* the other direction is open */
        transport_stream_finish(r.end[1].stream);
        pass(&r, MINUTE_US);
        assert_int_equal(r.end[0].stream_closed, 1);
        assert_int_equal(r.end[1].stream_closed, 1);
        assert_int_equal(r.end[0].conn_closed, 0);
        rig_fini(&r);
        assert_int_equal(r.end[0].conn_closed, 1);
        assert_int_equal(r.end[1].conn_closed, 1);
    }
}

static void a_reader_that_stops_holds_the_writer_back(void **state)
{
    (void)state;
    struct rig r;
    struct sim_net_config config = config_of(3);
    config.stream_window_bytes = 2000;
    rig_init(&r, 1, &config);
    connect(&r);
    r.end[1].hold = true;
    stream(&r);
    write_bytes(&r.end[0], 5000);
    pass(&r, MINUTE_US);
    assert_int_equal(r.end[1].received.len, 2000);
    r.end[1].hold = false;
    transport_stream_consumed(r.end[1].stream, r.end[1].unconsumed);
    pass(&r, MINUTE_US);
    check_bytes(&r.end[1], 5000);
    assert_true(r.end[0].writable > 0);
    rig_fini(&r);
}

static void resets_and_stops_reach_the_other_end(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct rig r;
        struct sim_net_config config = config_of(seed);
        rig_init(&r, seed, &config);
        connect(&r);
        stream(&r);
        write_bytes(&r.end[0], 5000);
        pass(&r, sim_below(&r.queue, 20000));
        transport_stream_reset(r.end[0].stream, 7);
        transport_stream_stop(r.end[0].stream, 8);
        pass(&r, MINUTE_US);
        assert_int_equal(r.end[1].reset, 1);
        assert_int_equal(r.end[1].stopped, 1);
        assert_false(r.end[1].fin);
        assert_int_equal(r.end[0].stream_closed, 1);
        assert_int_equal(r.end[1].stream_closed, 1);
        stream(&r); /* the credit of the dead stream is back */
        buf_clear(&r.end[1].received);
        write_bytes(&r.end[0], 5000);
        pass(&r, 10 * MINUTE_US);
        check_bytes(&r.end[1], 5000);
        rig_fini(&r);
    }
}

static void a_refused_stream_is_reset_and_stopped(void **state)
{
    (void)state;
    struct rig r;
    struct sim_net_config config = config_of(1);
    rig_init(&r, 1, &config);
    connect(&r);
    r.end[1].refuse = true;
    stream(&r);
    transport_stream_reset(r.end[0].stream, 7);
    transport_stream_stop(r.end[0].stream, 8);
    pass(&r, MINUTE_US);
    assert_int_equal(r.end[0].stream_closed, 1);
    assert_int_equal(r.end[1].stream_closed, 0);
    rig_fini(&r);
}

static void closing_tells_both_ends_once(void **state)
{
    (void)state;
    struct rig r;
    struct sim_net_config config = config_of(1);
    rig_init(&r, 1, &config);
    connect(&r);
    stream(&r);
    write_bytes(&r.end[0], 100);
    r.end[0].inside = true;
    transport_conn_close(r.end[0].conn, 3, "enough");
    r.end[0].inside = false;
    struct transport_stream *none;
    assert_int_equal(transport_stream_open(r.end[0].conn, &stream_events, &r.end[0], &none), HKV_E_PEER_LOST);
    pass(&r, MINUTE_US);
    assert_int_equal(r.end[0].conn_closed, 1);
    assert_int_equal(r.end[1].conn_closed, 1);
    assert_int_equal(r.end[0].err, HKV_E_PEER_REFUSED);
    assert_int_equal(r.end[1].err, HKV_E_PEER_REFUSED);
    rig_fini(&r);
}

static void dialling_fails_with_its_own_error(void **state)
{
    (void)state;
    struct rig r;
    struct sim_net_config config = config_of(1);
    rig_init(&r, 1, &config);

    r.end[1].refuse = true;
    dial(&r);
    pass(&r, MINUTE_US);
    assert_int_equal(r.end[0].err, HKV_E_PEER_REFUSED);

    r.end[1].refuse = false;
    r.id[1].bytes[5] = 1; /* whom we look for is not who is there */
    dial(&r);
    pass(&r, MINUTE_US);
    assert_int_equal(r.end[0].err, HKV_E_PEER_IDENTITY);
    r.id[1].bytes[5] = 0;

    sim_net_block(&r.net, 0, 1, true);
    dial(&r);
    pass(&r, MINUTE_US);
    assert_int_equal(r.end[0].err, HKV_E_PEER_UNREACHABLE);
    sim_net_block(&r.net, 0, 1, false);

    r.address[1].port = 99; /* where nobody listens */
    dial(&r);
    pass(&r, MINUTE_US);
    assert_int_equal(r.end[0].err, HKV_E_PEER_UNREACHABLE);
    assert_int_equal(r.end[0].conn_closed, 4);
    assert_int_equal(r.end[0].opened, 0);
    rig_fini(&r);
}

static void a_short_partition_only_delays(void **state)
{
    (void)state;
    struct rig r;
    struct sim_net_config config = config_of(1);
    rig_init(&r, 1, &config);
    connect(&r);
    sim_net_block(&r.net, 0, 1, true);
    stream(&r);
    write_bytes(&r.end[0], 4000);
    pass(&r, 10000000);
    assert_int_equal(r.end[1].received.len, 0);
    sim_net_block(&r.net, 0, 1, false);
    pass(&r, MINUTE_US);
    check_bytes(&r.end[1], 4000);
    assert_int_equal(r.end[0].conn_closed + r.end[1].conn_closed, 0);
    rig_fini(&r);
}

static void a_long_partition_ends_the_connection(void **state)
{
    (void)state;
    struct rig r;
    struct sim_net_config config = config_of(1);
    rig_init(&r, 1, &config);
    connect(&r);
    sim_net_block(&r.net, 0, 1, true); /* one direction is enough */
    pass(&r, MINUTE_US);
    assert_int_equal(r.end[1].err, HKV_E_PEER_LOST);
    pass(&r, 2 * MINUTE_US);
    assert_int_equal(r.end[0].err, HKV_E_PEER_LOST);
    sim_net_block(&r.net, 0, 1, false);
    rig_fini(&r);
}

static void a_crash_is_noticed_after_the_idle_time_and_a_restart_at_once(void **state)
{
    (void)state;
    for (unsigned restart = 0; restart < 2; restart++) {
        struct rig r;
        struct sim_net_config config = config_of(1);
        rig_init(&r, 1, &config);
        connect(&r);
        sim_endpoint_cut(r.ep[1]);
        pass(&r, 1000000);
        assert_int_equal(r.end[0].conn_closed, 0);
        r.end[1].inside = false;
        sim_endpoint_close(r.ep[1], count_done, &r);
        pass(&r, 1000000);
        assert_int_equal(r.end[1].conn_closed, 1);
        assert_int_equal(r.end[0].conn_closed, 0);
        r.ep[1] = NULL;
        if (restart) endpoint(&r, 1);
        pass(&r, 11000000); /* two keep-alives */
        assert_int_equal(r.end[0].conn_closed, restart);
        pass(&r, MINUTE_US);
        assert_int_equal(r.end[0].err, HKV_E_PEER_LOST);
        rig_fini(&r);
    }
}

static void the_same_seed_makes_the_same_trace(void **state)
{
    struct hash trace[3];
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct rig r;
        struct sim_net_config config = config_of(4);
        rig_init(&r, i == 2 ? 8 : 7, &config);
        connect(&r);
        stream(&r);
        write_bytes(&r.end[0], 9000);
        pass(&r, MINUTE_US);
        sim_trace_hash(&r.queue, &trace[i]);
        rig_fini(&r);
    }
    assert_memory_equal(trace[0].bytes, trace[1].bytes, ID_BYTES);
    assert_memory_not_equal(trace[0].bytes, trace[2].bytes, ID_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_arrive_whole_and_in_order_for_any_seed),
        cmocka_unit_test(a_reader_that_stops_holds_the_writer_back),
        cmocka_unit_test(resets_and_stops_reach_the_other_end),
        cmocka_unit_test(a_refused_stream_is_reset_and_stopped),
        cmocka_unit_test(closing_tells_both_ends_once),
        cmocka_unit_test(dialling_fails_with_its_own_error),
        cmocka_unit_test(a_short_partition_only_delays),
        cmocka_unit_test(a_long_partition_ends_the_connection),
        cmocka_unit_test(a_crash_is_noticed_after_the_idle_time_and_a_restart_at_once),
        cmocka_unit_test(the_same_seed_makes_the_same_trace),
    };
    return cmocka_run_group_tests_name("simulated network", tests, NULL, NULL);
}
