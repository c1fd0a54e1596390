/* Memory runs out at every point of a whole store's life in one thread (fixture/node_world.h): opening, writing,
 * reading, its work by itself and closing. Calls fail with an error or succeed, everything works when there is memory
 * again, and what was acknowledged is there after a restart. HKV_OOM_STEP=1 looks at every allocation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault/failing_memory.h"
#include "fixture/node_world.h"
#include "unit/node/fixture.h"

#define CAPACITY_BYTES ((uint64_t)32 << 20)
#define SECOND_US      ((uint64_t)1000000)
#define LARGE_BYTES    40000
#define STEP           61
#define ROUNDS_MAX     100000

static uint8_t large[LARGE_BYTES];

static enum hkv_err put_small(struct hkv_store *store)
{
    return hkv_put(store, HKV_TEXT("small"), HKV_TEXT("value"), NULL, NULL);
}

static enum hkv_err put_large(struct hkv_store *store)
{
    return hkv_put(store, HKV_TEXT("large"), large, sizeof large, NULL, NULL);
}

static enum hkv_err delete_gone(struct hkv_store *store)
{
    return hkv_delete(store, HKV_TEXT("gone"), NULL, NULL);
}

static enum hkv_err put_expiring(struct hkv_store *store)
{
    return hkv_put(store, HKV_TEXT("gone"), HKV_TEXT("soon"), &(struct hkv_write_options){.ttl_ms = 500}, NULL);
}

static enum hkv_err read_all(struct hkv_store *store)
{
    struct hkv_value value;
    struct hkv_page *page;
    struct hkv_history *history;
    TRY(hkv_get(store, HKV_TEXT("large"), &value));
    hkv_value_free(&value);
    TRY(hkv_list(store, NULL, 0, 10, NULL, &page));
    hkv_page_free(page);
    TRY(hkv_history(store, HKV_TEXT("small"), &history));
    hkv_history_free(history);
    return HKV_OK;
}

static enum hkv_err ask(struct hkv_store *store)
{
    struct hkv_status status;
    struct hkv_info info;
    struct hkv_peers *peers;
    char *ticket;
    TRY(hkv_status(store, &status));
    TRY(hkv_peers(store, &peers));
    hkv_peers_free(peers);
    TRY(hkv_ticket(store, HKV_TICKET_WRITE, &ticket));
    hkv_text_free(ticket);
    TRY(hkv_info(store, &info));
    hkv_info_fini(&info);
    return HKV_OK;
}

static enum hkv_err (*const operations[])(struct hkv_store *store) = {put_small, put_large, put_expiring, read_all,
                                                                      ask,       put_large, delete_gone};

#define OPERATIONS (sizeof operations / sizeof *operations)

/* What is left of the distance to the first failure; 0 once it was reached. */
static uint64_t left(uint64_t nth)
{
    uint64_t seen = failing_memory_seen();
    return nth > seen ? nth - seen : 0;
}

static void check_error(const char *what, uint64_t failed, enum hkv_err err)
{
    if (err == HKV_OK || (failed > 0 && err == HKV_E_NOMEM)) return;
    print_error("%s: %s: %s\n", what, hkv_error_name(err), hkv_last_error());
    fail();
}

static struct hkv_store *open_life(struct lone_world *world, struct failing_memory *memory)
{
    struct hkv_options options = lone_world_options();
    struct hkv_store *store;
    options.namespace_secret = NAMESPACE_SECRET;
    struct node_world *life = lone_world_life(world);
    failing_memory_begin(memory);
    enum hkv_err err = node_open_in(&options, life, &store);
    check_error("open", failing_memory_end(), err);
    memory->nth = left(memory->nth);
    if (err != HKV_OK) assert_ok(node_open_in(&options, lone_world_life(world), &store));
    return store;
}

static void run_life(uint64_t nth, uint64_t count, bool *reached)
{
    struct lone_world *world = lone_world_new(CAPACITY_BYTES);
    struct failing_memory memory = {nth, count};
    struct hkv_store *store = open_life(world, &memory);
    for (size_t i = 0; i < OPERATIONS; i++) {
        failing_memory_begin(&memory);
        enum hkv_err err = operations[i](store);
        check_error("operation", failing_memory_end(), err);
        memory.nth = left(memory.nth);
        if (err != HKV_OK) assert_ok(operations[i](store));
    }
    failing_memory_begin(&memory);
    lone_world_pass(world, 70 * SECOND_US);
    (void)failing_memory_end();
    memory.nth = left(memory.nth);
    node_expect(store, "small", "value");
    node_put(store, "afterwards", "works");
    failing_memory_begin(&memory);
    hkv_close(store);
    (void)failing_memory_end();
    *reached = left(memory.nth) == 0;
    store = open_life(world, &(struct failing_memory){0});
    node_expect(store, "small", "value");
    node_expect(store, "afterwards", "works");
    node_expect(store, "gone", NULL);
    assert_ok(read_all(store));
    hkv_close(store);
    lone_world_free(world);
}

static void run_all(uint64_t first, uint64_t count)
{
    const char *wanted = getenv("HKV_OOM_STEP");
    uint64_t step = wanted ? strtoull(wanted, NULL, 0) : STEP;
    bool reached = true;
    uint64_t rounds = 0;
    for (uint64_t nth = first; reached; nth += step, rounds++) {
        run_life(nth, count, &reached);
        assert_true(rounds < ROUNDS_MAX);
    }
    assert_true(rounds > 10);
}

static void one_failed_allocation_is_an_ordinary_error(void **state)
{
    (void)state;
    run_all(1, 1);
}

static void many_failed_allocations_in_a_row_are_an_ordinary_error(void **state)
{
    (void)state;
    run_all(1 + STEP / 2, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_failed_allocation_is_an_ordinary_error),
        cmocka_unit_test(many_failed_allocations_in_a_row_are_an_ordinary_error),
    };
    failing_memory_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
