/* Peers at addresses where nobody answers any more, and peers that were removed. */
#include "unit/node/fixture.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "crypto/ed25519.h"
#include "node/peers.h"

struct pair {
    struct node_dir dir[2];
    struct hkv_store *store[2]; /* the first one has the smaller endpoint id */
    struct hkv_info info[2];
};

static int setup(void **state)
{
    static struct pair pair;
    for (int i = 0; i < 2; i++) {
        node_dir_make(&pair.dir[i]);
        struct hkv_options options = node_options(&pair.dir[i]);
        options.namespace_secret = NAMESPACE_SECRET;
        options.anti_entropy_ms = 3600000; /* only what the test begins */
        assert_ok(hkv_open(&options, &pair.store[i]));
        assert_ok(hkv_info(pair.store[i], &pair.info[i]));
    }
    if (strcmp(pair.info[0].endpoint_id, pair.info[1].endpoint_id) > 0) {
        struct pair other = pair;
        for (int i = 0; i < 2; i++) {
            pair.dir[i] = other.dir[1 - i];
            pair.store[i] = other.store[1 - i];
            pair.info[i] = other.info[1 - i];
        }
    }
    *state = &pair;
    return 0;
}

static int teardown(void **state)
{
    struct pair *pair = *state;
    for (int i = 0; i < 2; i++) {
        hkv_info_fini(&pair->info[i]);
        hkv_close(pair->store[i]);
        node_dir_remove(&pair->dir[i]);
    }
    return 0;
}

/* Reopens a store as a restart would. */
static void reopen(struct pair *pair, int i)
{
    hkv_close(pair->store[i]);
    pair->store[i] = node_open(&pair->dir[i], NAMESPACE_SECRET);
}

/* Where the first node believes the second one to be, nobody answers. Of two sessions that are dialled at once the one
 * of the smaller id counts, so the dial that leads nowhere would keep the good one off until it is given up after 10 s.
 */
static void a_dial_that_nobody_answers_keeps_no_peer_off(void **state)
{
    struct pair *pair = *state;
    struct sockaddr_in silent = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof silent;
    char address[128];
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&silent, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&silent, &len), 0);
    snprintf(address, sizeof address, "%s@127.0.0.1:%u", pair->info[1].endpoint_id, ntohs(silent.sin_port));
    assert_ok(hkv_peer_add(pair->store[0], address));
    node_put(pair->store[1], "key", "value");
    node_connect(pair->store[1], pair->store[0]);
    assert_ok(hkv_sync_once(pair->store[1], 5000, NULL));
    node_await(pair->store[0], "key", "value");
    close(fd);
}

static void a_removed_peer_stays_removed_though_it_syncs_with_us(void **state)
{
    struct pair *pair = *state;
    node_connect(pair->store[0], pair->store[1]);
    assert_ok(hkv_sync_once(pair->store[0], 30000, NULL));
    assert_ok(hkv_peer_remove(pair->store[0], pair->info[1].endpoint_id));
    node_put(pair->store[1], "key", "value");
    node_connect(pair->store[1], pair->store[0]);
    assert_ok(hkv_sync_once(pair->store[1], 30000, NULL));
    node_await(pair->store[0], "key", "value");
    reopen(pair, 0);
    assert_err(HKV_E_NOT_FOUND, hkv_peer_remove(pair->store[0], pair->info[1].endpoint_id));
}

/* The name of its host need not be known any more. This one has a part that is too long for anybody to look it up. */
static void a_peer_is_removed_by_a_name_that_cannot_be_resolved(void **state)
{
    struct pair *pair = *state;
    char name[256];
    node_connect(pair->store[0], pair->store[1]);
    snprintf(name, sizeof name, "%s@%070d.invalid:24376", pair->info[1].endpoint_id, 0);
    assert_ok(hkv_peer_remove(pair->store[0], name));
}

static void who_is_not_known_is_neither_waited_for_nor_kept(void **state)
{
    struct pair *pair = *state;
    const char *const unknown[] = {pair->info[1].endpoint_id};
    struct hkv_peers *peers;
    assert_err(HKV_E_NOT_FOUND, hkv_wait_converged(pair->store[0], unknown, 1, HKV_FOREVER, NULL));
    assert_err(HKV_E_NOT_FOUND, hkv_peer_add(pair->store[0], unknown[0]));
    assert_err(HKV_E_NOT_FOUND, hkv_start_sync_with(pair->store[0], unknown[0]));
    assert_ok(hkv_peers(pair->store[0], &peers));
    assert_int_equal(peers->count, 0);
    hkv_peers_free(peers);
}

/* Peers that cannot be reached (the store has no IPv6) are as many as a node remembers. */
static void strangers_leave_room_for_a_seed(void **state)
{
    struct pair *pair = *state;
    struct secret_key secret = {{0}};
    struct endpoint_id id;
    char text[ID_TEXT_MAX], address[128];
    for (int i = 0; i < PEERS_MAX; i++) {
        memcpy(secret.bytes, &i, sizeof i);
        ed25519_public_key(&secret, id.bytes);
        snprintf(address, sizeof address, "%s@[::1]:9", id_format(id.bytes, text));
        assert_ok(hkv_start_sync_with(pair->store[0], address));
    }
    node_put(pair->store[1], "key", "value");
    node_connect(pair->store[0], pair->store[1]);
    node_await(pair->store[0], "key", "value");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_dial_that_nobody_answers_keeps_no_peer_off, setup, teardown),
        cmocka_unit_test_setup_teardown(a_removed_peer_stays_removed_though_it_syncs_with_us, setup, teardown),
        cmocka_unit_test_setup_teardown(a_peer_is_removed_by_a_name_that_cannot_be_resolved, setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_not_known_is_neither_waited_for_nor_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(strangers_leave_room_for_a_seed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
