/* Memory runs out while a store looks for a value that nobody has: it is looked for again when there is memory, never
 * forgotten. */
#include "fault/failing_memory.h"
#include "fixture/node_world.h"
#include "node/fetch.h"
#include "unit/node/fixture.h"

#define CAPACITY_BYTES ((uint64_t)32 << 20)
#define SECOND_US      ((uint64_t)1000000)
#define ROUNDS_MAX     10000

/* As a session with another node would leave it. */
static void receive_entry(struct hkv_store *store)
{
    struct docs_replica *r = kv_docs(store->kv);
    struct docs_origin origin = {.peer = {{7}}, .provides_content = true};
    struct entry parent, e = {.namespace = *r->ops->namespace(r), .author = {{9}}, .key = slice_of("k", 2)};
    struct buf key = {0};
    enum docs_insert outcome;
    e.record = (struct record){.hash = {{8}}, .length_bytes = 5, .stamp_us = 1};
    assert_ok(kv_begin(store->kv));
    assert_ok(r->ops->insert(r, &e, &origin, &outcome, &parent, &key));
    assert_ok(kv_commit(store->kv));
    assert_int_equal(outcome, DOCS_INSERTED);
    buf_fini(&key);
}

/* What is taken is not given to anybody else: if the fetcher forgot it, it would stay so until the next start. */
static void assert_not_forgotten(struct hkv_store *store)
{
    struct kv_wanted wanted;
    size_t count;
    uint64_t next_us;
    assert_ok(kv_wanted_take(store->kv, kv_steady_us(store->kv) + 3600 * SECOND_US, 1, &wanted, &count, &next_us));
    assert_int_equal(count, 1);
    assert_true(wanted.attempts > 0);
}

/* A store that has looked for the value for half a second, in which allocations failed from the nth on. True: so many
 * were asked for. */
static bool look_without_memory(struct lone_world *world, uint64_t nth, uint64_t count, struct hkv_store **out)
{
    struct hkv_options options = lone_world_options();
    options.namespace_secret = NAMESPACE_SECRET;
    assert_ok(node_open_in(&options, lone_world_life(world), out));
    receive_entry(*out);
    failing_memory_begin(&(struct failing_memory){nth, count});
    fetcher_kick((*out)->fetcher);
    lone_world_pass(world, SECOND_US / 2);
    bool reached = failing_memory_seen() >= nth;
    (void)failing_memory_end();
    return reached;
}

static bool look_again(uint64_t nth, uint64_t count)
{
    struct lone_world *world = lone_world_new(CAPACITY_BYTES);
    struct hkv_store *store;
    bool reached = look_without_memory(world, nth, count, &store);
    lone_world_pass(world, 3 * FETCH_RETRY_US);
    assert_not_forgotten(store);
    hkv_close(store);
    lone_world_free(world);
    return reached;
}

static void a_value_is_not_forgotten_when_memory_runs_out(void **state)
{
    (void)state;
    for (uint64_t count = 1; count <= 1000; count *= 1000) {
        uint64_t nth = 1;
        while (look_again(nth, count)) assert_true(nth++ < ROUNDS_MAX);
        assert_true(nth > 5);
    }
}

/* It ends in the middle of it, too. */
static void a_store_closes_while_there_is_no_memory(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth < 20; nth++) {
        struct lone_world *world = lone_world_new(CAPACITY_BYTES);
        struct hkv_store *store;
        (void)look_without_memory(world, nth, 1000, &store);
        hkv_close(store);
        lone_world_free(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_not_forgotten_when_memory_runs_out),
        cmocka_unit_test(a_store_closes_while_there_is_no_memory),
    };
    failing_memory_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
