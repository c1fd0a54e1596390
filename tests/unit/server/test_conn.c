/* One newline connection of a running service, with everything in one thread but the workers, which the test holds up:
 * what a client may make the daemon keep while nothing gets done. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_kvs.h"
#include "server/conn.h"

#define SOCKET_BYTES_MAX ((size_t)1 << 20) /* what the kernel keeps of a socket, and more */

struct world {
    uv_loop_t loop;
    struct service service;
    int client;
    uv_sem_t hold;
    struct task held[TASKS_WORKERS_MAX];
};

static struct world *held_world;

static void wait_for_hold(struct task *task)
{
    (void)task;
    uv_sem_wait(&held_world->hold);
}

static void nothing(struct task *task)
{
    (void)task;
}

/* A service with one client and no free worker. */
static int setup(void **state)
{
    struct world *world = held_world = calloc(1, sizeof *world);
    assert_non_null(world);
    assert_int_equal(uv_loop_init(&world->loop), 0);
    assert_int_equal(uv_sem_init(&world->hold, 0), 0);

    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t name_bytes = sizeof name.sun_family; /* the kernel chooses the rest */
    assert_int_equal(bind(listener, (struct sockaddr *)&name, name_bytes), 0);
    assert_int_equal(listen(listener, 1), 0);
    name_bytes = sizeof name;
    assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &name_bytes), 0);
    assert_int_equal(service_start(&world->service, &world->loop, fake_kvs_new(), listener, "/s"), 0);

    world->client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(world->client, (struct sockaddr *)&name, name_bytes), 0);
    for (size_t i = 0; i < TASKS_WORKERS_MAX; i++) {
        world->held[i] = (struct task){.run = wait_for_hold, .done = nothing};
        tasks_work(&world->service.tasks, &world->held[i]);
    }
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    for (size_t i = 0; i < TASKS_WORKERS_MAX; i++) uv_sem_post(&world->hold);
    service_stop(&world->service);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    uv_sem_destroy(&world->hold);
    close(world->client);
    free(world);
    return 0;
}

/* Sends lines of `line_bytes` until the service takes nothing more, or `max` bytes; how many bytes it took. */
static size_t send_lines(struct world *world, size_t line_bytes, size_t max)
{
    char *line = malloc(line_bytes);
    assert_non_null(line);
    memset(line, 'x', line_bytes);
    line[line_bytes - 1] = '\n';
    size_t sent = 0;
    for (bool moves = true; moves && sent < max;) {
        moves = false;
        for (int turn = 0; turn < 3; turn++) { /* one to accept, one for the first byte, one to read */
            uv_run(&world->loop, UV_RUN_NOWAIT);
            size_t at = sent % line_bytes;
            ssize_t count = send(world->client, line + at, line_bytes - at, MSG_NOSIGNAL);
            if (count > 0) sent += (size_t)count;
            moves = moves || count > 0;
        }
    }
    free(line);
    return sent;
}

static void test_requests_that_wait_are_bounded(void **state)
{
    size_t taken = send_lines(*state, RPC_REQUEST_MAX, 8 * RPC_REQUEST_MAX);
    assert_in_range(taken, CONN_IN_MAX, CONN_IN_MAX + RPC_REQUEST_MAX + SOCKET_BYTES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_requests_that_wait_are_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
