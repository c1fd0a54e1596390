/* Two endpoints, each with a loop and a thread of its own: they share nothing but the network. */
#include "fixture.h"

#define BYTES (4 << 20)

struct echo_server {
    struct rig rig;
    uv_async_t stop;
    uv_barrier_t ready;
    bool stopping;
};

static void on_stop(uv_async_t *async)
{
    struct echo_server *s = async->data;
    s->stopping = true;
}

static void serve(void *argument)
{
    struct echo_server *s = argument;
    rig_init(&s->rig);
    assert_int_equal(uv_async_init(&s->rig.loop, &s->stop, on_stop), 0);
    s->stop.data = s;
    rig_open(&s->rig, 1);
    s->rig.nodes[1].behaviour.echo = true;
    uv_barrier_wait(&s->ready);
    rig_until(&s->rig, s->stopping);
    uv_close((uv_handle_t *)&s->stop, NULL);
    rig_fini(&s->rig);
}

static void endpoints_of_two_threads_talk(void **state)
{
    static struct echo_server server;
    static struct rig rig;
    uv_thread_t thread;
    (void)state;
    assert_int_equal(uv_barrier_init(&server.ready, 2), 0);
    assert_int_equal(uv_thread_create(&thread, serve, &server), 0);
    uv_barrier_wait(&server.ready);
    struct endpoint_id id = *net_endpoint_id(server.rig.nodes[1].ep);
    struct socket_address at = rig_address(&server.rig.nodes[1]);

    rig_init(&rig);
    rig_open(&rig, 0);
    struct rig_conn *a[4];
    for (int i = 0; i < 4; i++) a[i] = rig_dial_at(&rig.nodes[0], &id, &at, 1, RIG_ALPN_A);
    for (int i = 0; i < 4; i++) {
        rig_until(&rig, a[i]->opened);
        struct rig_stream *s = rig_stream(a[i]);
        s->write_goal = BYTES;
        s->write_mark = 1 << 20;
        rig_pump(s);
    }
    for (int i = 0; i < 4; i++) {
        rig_until(&rig, a[i]->streams[0].closed);
        assert_int_equal(a[i]->streams[0].received_bytes, BYTES);
        assert_int_equal(a[i]->streams[0].mismatches, 0);
    }
    rig_fini(&rig);
    uv_async_send(&server.stop);
    uv_thread_join(&thread);
    uv_barrier_destroy(&server.ready);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(endpoints_of_two_threads_talk)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
