/* The UDP socket under what kernels and networks do to it. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fixture.h"
#include "net/udp.h"

struct ear {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool expired;
    struct udp_socket socket;
    struct udp_receive_buffer receive;
    size_t count;
    size_t len; /* of the last one */
};

static void on_received(struct udp_socket *u, const struct udp_datagram *d)
{
    struct ear *e = u->user;
    e->count++;
    e->len = d->len;
}

static void on_writable(struct udp_socket *u)
{
    (void)u;
}

static void on_deadline(uv_timer_t *timer)
{
    struct ear *e = timer->data;
    e->expired = true;
}

static const struct udp_events ear_events = {.received = on_received, .writable = on_writable};

static struct ear *ear_open(bool ipv6)
{
    struct ear *e = calloc(1, sizeof *e);
    struct socket_address at = rig_loopback(ipv6, 0);
    assert_non_null(e);
    assert_int_equal(uv_loop_init(&e->loop), 0);
    assert_int_equal(uv_timer_init(&e->loop, &e->deadline), 0);
    e->deadline.data = e;
    assert_int_equal(uv_timer_start(&e->deadline, on_deadline, RIG_DEADLINE_MS, 0), 0);
    assert_int_equal(udp_open(&e->socket, &e->loop, &at, &e->receive, &ear_events, e), HKV_OK);
    return e;
}

static void ear_hear(struct ear *e)
{
    while (e->count == 0 && !e->expired) uv_run(&e->loop, UV_RUN_ONCE);
    assert_int_equal(e->count, 1);
}

static void ear_close(struct ear *e)
{
    uv_close((uv_handle_t *)&e->deadline, NULL);
    udp_close(&e->socket, NULL);
    uv_run(&e->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&e->loop), 0);
    free(e);
}

static int plain_socket(const struct sockaddr_in *at)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)at, sizeof *at), 0);
    return fd;
}

/* A socket has a pending error, here that of a port where nobody listens; libuv then stops to watch it. */
static void error_of_the_socket_does_not_make_it_deaf(void **state)
{
    (void)state;
    struct ear *e = ear_open(false);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int other = plain_socket(&at);
    assert_int_equal(getsockname(other, (struct sockaddr *)&at, &len), 0);
    assert_int_equal(connect(e->socket.fd, (struct sockaddr *)&at, sizeof at), 0);
    close(other);
    assert_int_equal(send(e->socket.fd, "x", 1, 0), 1);
    uv_run(&e->loop, UV_RUN_ONCE); /* the error */

    other = plain_socket(&at);
    assert_int_equal(sendto(other, "yz", 2, 0, &e->socket.bound.sa, sizeof e->socket.bound.in), 2);
    ear_hear(e);
    assert_int_equal(e->len, 2);
    close(other);
    ear_close(e);
}

/* A path MTU probe that the device does not carry leaves in one batch with other packets: those arrive, and batches go
 * on being sent in one call. */
static void probe_that_is_too_large_costs_only_itself(void **state)
{
    (void)state;
    static const net_addr any;
    static const uint8_t bytes[1452 + 1200];
    struct ear *e = ear_open(true);
    int mtu = 1280;
    assert_int_equal(setsockopt(e->socket.fd, IPPROTO_IPV6, IPV6_MTU, &mtu, sizeof mtu), 0);
    bool gso = e->socket.gso;
    udp_send(&e->socket, &any, &e->socket.bound, bytes, sizeof bytes, 1452);
    ear_hear(e);
    assert_int_equal(e->len, 1200);
    assert_int_equal(e->socket.gso, gso);
    ear_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_of_the_socket_does_not_make_it_deaf),
        cmocka_unit_test(probe_that_is_too_large_costs_only_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
