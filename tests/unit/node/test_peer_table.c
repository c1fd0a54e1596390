/* The list of peers: who has a place in it when there are more than places, and which addresses of a peer it keeps. */
#include <string.h>

#include "node/peers.h"
#include "unit/node/fixture.h"

static uint64_t clock_us(struct env *env)
{
    (void)env;
    return 1;
}

static void timer_cancel(struct env *env, struct env_timer *timer)
{
    (void)env;
    timer->due_us = 0;
}

static const struct env_ops env_ops = {.wall_us = clock_us, .mono_us = clock_us, .timer_cancel = timer_cancel};

struct table {
    struct env env;
    struct peers peers;
    size_t gone;
};

static void count_gone(void *arg, const struct peer *peer)
{
    (void)peer;
    ((struct table *)arg)->gone++;
}

static struct endpoint_id id_of(uint32_t number)
{
    struct endpoint_id id = {{1}};
    memcpy(id.bytes + 1, &number, sizeof number);
    return id;
}

static struct peer *add(struct table *t, uint32_t number, enum peer_claim claim)
{
    struct endpoint_id id = id_of(number);
    struct peer *peer;
    assert_ok(peers_get(&t->peers, &id, claim, &peer));
    return peer;
}

static void refuse(struct table *t, uint32_t number, enum peer_claim claim)
{
    struct endpoint_id id = id_of(number);
    struct peer *peer;
    assert_err(HKV_E_LIMIT, peers_get(&t->peers, &id, claim, &peer));
}

static bool knows(const struct table *t, uint32_t number)
{
    struct endpoint_id id = id_of(number);
    return peers_find(&t->peers, &id) != NULL;
}

static int setup(void **state)
{
    static struct table table;
    struct endpoint_id self = {{0}};
    table = (struct table){.env.ops = &env_ops};
    peers_init(&table.peers, &table.env, &self, NULL, count_gone, &table);
    *state = &table;
    return 0;
}

static int teardown(void **state)
{
    peers_fini(&((struct table *)*state)->peers);
    return 0;
}

/* Fills the list with peers that completed a sync and can be reached; the first one longest ago. */
static void fill_synced(struct table *t)
{
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        struct peer *peer = add(t, i, PEER_CLAIM_STRANGER);
        peer->synced = true;
        peer->last_ok_wall_us = 1000 + i;
    }
}

static void strangers_that_fill_the_list_give_way_to_seeds_and_members(void **state)
{
    struct table *t = *state;
    fill_synced(t);
    add(t, 5000, PEER_CLAIM_SEED)->seed = true;
    add(t, 5001, PEER_CLAIM_MEMBER)->member = true;
    assert_int_equal(t->gone, 2);
    assert_int_equal(t->peers.count, PEERS_MAX);
    assert_false(knows(t, 0) || knows(t, 1)); /* the longest unheard of */
    assert_true(knows(t, 2) && knows(t, 5000) && knows(t, 5001));
}

static void a_stranger_takes_the_place_of_one_that_never_synced_or_is_out_of_reach(void **state)
{
    struct table *t = *state;
    fill_synced(t);
    refuse(t, 5000, PEER_CLAIM_STRANGER);
    add(t, 7, PEER_CLAIM_STRANGER)->failures = 1;
    add(t, 9, PEER_CLAIM_STRANGER)->synced = false;
    (void)add(t, 5000, PEER_CLAIM_STRANGER);
    assert_false(knows(t, 9));
    add(t, 5000, PEER_CLAIM_STRANGER)->synced = true;
    (void)add(t, 5001, PEER_CLAIM_STRANGER);
    assert_false(knows(t, 7));
    add(t, 5001, PEER_CLAIM_STRANGER)->synced = true;
    refuse(t, 5002, PEER_CLAIM_STRANGER);
}

static void seeds_removed_peers_and_those_in_a_session_keep_their_place(void **state)
{
    struct table *t = *state;
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        struct peer *peer = add(t, i, PEER_CLAIM_STRANGER);
        peer->seed = i % 3 == 0;
        peer->removed = i % 3 == 1;
        peer->session_count = i % 3 == 2;
    }
    refuse(t, 5000, PEER_CLAIM_SEED);
    assert_int_equal(t->gone, 0);
}

static void a_seed_goes_before_a_member_and_a_member_not_before_another(void **state)
{
    struct table *t = *state;
    for (uint32_t i = 0; i < PEERS_MAX; i++) add(t, i, PEER_CLAIM_MEMBER)->member = true;
    refuse(t, 5000, PEER_CLAIM_STRANGER);
    refuse(t, 5000, PEER_CLAIM_MEMBER);
    (void)add(t, 5000, PEER_CLAIM_SEED);
    assert_int_equal(t->gone, 1);
}

static void a_place_is_taken_over_empty(void **state)
{
    struct table *t = *state;
    const struct socket_address met = {.ip = {127, 0, 0, 1}, .port = 1};
    fill_synced(t);
    (void)peer_met_at(add(t, 0, PEER_CLAIM_STRANGER), &met);
    struct peer *peer = add(t, 5000, PEER_CLAIM_SEED);
    assert_false(peer->synced || peer->addrs.count != 0 || peer->met_count != 0);
}

/* ---- addresses ---- */

static bool is_at(const struct peer *peer, uint16_t port)
{
    for (size_t i = 0; i < peer->addrs.count; i++)
        if (peer->addrs.items[i].socket.port == port) return true;
    return false;
}

static void a_peer_with_ever_new_addresses_keeps_the_last_ones_and_those_that_were_named(void **state)
{
    struct peer *peer = add(*state, 1, PEER_CLAIM_STRANGER);
    struct address_set named = {0};
    struct socket_address socket = {.ip = {127, 0, 0, 1}, .port = 9};
    assert_ok(address_set_add_socket(&named, &socket));
    assert_ok(peer_named_at(peer, &named));
    for (uint16_t port = 1000; port < 1200; port++) {
        socket.port = port;
        assert_true(peer_met_at(peer, &socket));
        assert_false(peer_met_at(peer, &socket));
    }
    assert_int_equal(peer->addrs.count, 1 + PEER_MET_MAX);
    assert_true(is_at(peer, 9) && is_at(peer, 1199) && is_at(peer, 1200 - PEER_MET_MAX));
    address_set_fini(&named);
}

static void an_address_that_is_named_later_stays(void **state)
{
    struct peer *peer = add(*state, 1, PEER_CLAIM_STRANGER);
    struct address_set named = {0};
    struct socket_address socket = {.ip = {127, 0, 0, 1}, .port = 9};
    (void)peer_met_at(peer, &socket);
    assert_ok(address_set_add_socket(&named, &socket));
    assert_ok(peer_named_at(peer, &named));
    for (socket.port = 1000; socket.port < 1100; socket.port++) (void)peer_met_at(peer, &socket);
    assert_true(is_at(peer, 9));
    address_set_fini(&named);
}

static void of_the_addresses_it_was_met_at_the_last_is_remembered(void **state)
{
    struct peer *peer = add(*state, 1, PEER_CLAIM_STRANGER);
    struct address_set named = {0}, kept = {0};
    struct socket_address socket = {.ip = {127, 0, 0, 1}, .port = 9};
    assert_ok(address_set_add_socket(&named, &socket));
    assert_ok(peer_named_at(peer, &named));
    for (socket.port = 1000; socket.port < 1005; socket.port++) (void)peer_met_at(peer, &socket);
    assert_ok(peer_lasting_addrs(peer, &kept));
    assert_int_equal(kept.count, 2);
    assert_int_equal(kept.items[0].socket.port, 9);
    assert_int_equal(kept.items[1].socket.port, 1004);
    address_set_fini(&named);
    address_set_fini(&kept);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(strangers_that_fill_the_list_give_way_to_seeds_and_members),
        TEST(a_stranger_takes_the_place_of_one_that_never_synced_or_is_out_of_reach),
        TEST(seeds_removed_peers_and_those_in_a_session_keep_their_place),
        TEST(a_seed_goes_before_a_member_and_a_member_not_before_another),
        TEST(a_place_is_taken_over_empty),
        TEST(a_peer_with_ever_new_addresses_keeps_the_last_ones_and_those_that_were_named),
        TEST(an_address_that_is_named_later_stays),
        TEST(of_the_addresses_it_was_met_at_the_last_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
