/* A large value on its way to its file, step by step in one thread (fixture/node_world.h). */
#include <stdlib.h>

#include "fixture/node_world.h"
#include "node/fetch_parts.h"
#include "unit/node/fixture.h"

#define CAPACITY_BYTES ((uint64_t)32 << 20)
#define SECOND_US      ((uint64_t)1000000)

struct rig {
    struct lone_world *world;
    struct hkv_store *store;
    struct fetch_peer peer;
    struct fetch_request request;
    struct fetch_item *item;
};

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    struct hkv_options options = lone_world_options();
    assert_non_null(rig);
    options.namespace_secret = NAMESPACE_SECRET;
    rig->world = lone_world_new(CAPACITY_BYTES);
    assert_ok(node_open_in(&options, lone_world_life(rig->world), &rig->store));
    rig->peer.fetcher = rig->store->fetcher;
    fetch_items_init(&rig->peer.waiting);
    rig->request.peer = &rig->peer;
    rig->item = calloc(1, sizeof *rig->item);
    assert_non_null(rig->item);
    rig->item->fetcher = rig->store->fetcher;
    rig->item->wanted = (struct kv_wanted){.hash = {{8}}, .length = 10 * FETCH_FILE_BLOCK};
    rig->store->fetcher->item_count++;
    assert_ok(fetch_large_begin(&rig->request, rig->item));
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    blobs_fetch_fini(&rig->request.fetch);
    hkv_close(rig->store);
    lone_world_free(rig->world);
    free(rig);
    return 0;
}

/* Enough for a block, which a worker has from now on. */
static void receive_block(struct rig *rig)
{
    static const uint8_t group[BAO_GROUP_BYTES];
    struct blobs_fetch_event leaf = {.kind = BLOBS_FETCH_LEAF, .data = slice_of(group, sizeof group)};
    for (; leaf.offset < FETCH_FILE_BLOCK; leaf.offset += sizeof group)
        assert_ok(fetch_large_event(&rig->request, &leaf));
}

static void fail_writes(struct rig *rig)
{
    struct memdisk_faults faults = {.of[MEMDISK_WRITE].errors_per_million = 1000000};
    memdisk_faults_set(lone_world_disk(rig->world), &faults);
    lone_world_pass(rig->world, SECOND_US);
    memdisk_faults_set(lone_world_disk(rig->world), &(struct memdisk_faults){0});
}

/* Its provider is gone when the disk fails: the item is in the queue of the next one, and stays there. */
static void a_block_that_fails_between_two_providers_begins_anew(void **state)
{
    struct rig *rig = *state;
    receive_block(rig);
    fetch_large_detach(&rig->request);
    fetch_items_push(&rig->peer.waiting, rig->item);
    fail_writes(rig);
    assert_int_equal(rig->store->fetcher->item_count, 1);
    assert_ptr_equal(fetch_items_pop(&rig->peer.waiting), rig->item);
    assert_null(rig->item->transfer);
    fetch_item_failed(rig->item);
    lone_world_pass(rig->world, SECOND_US);
    assert_int_equal(rig->store->fetcher->item_count, 0);
}

/* All has come, and its provider is gone, when the disk fails: nobody else has the item. */
static void a_block_that_fails_after_the_last_provider_fails_the_item(void **state)
{
    struct rig *rig = *state;
    struct blobs_fetch_event done = {.kind = BLOBS_FETCH_BLOB_DONE};
    receive_block(rig);
    assert_ok(fetch_large_event(&rig->request, &done));
    assert_true(fetch_large_is_complete(&rig->request));
    fetch_large_detach(&rig->request);
    fail_writes(rig);
    lone_world_pass(rig->world, 2 * FETCH_RETRY_US); /* that it failed is noted when the disk works again */
    assert_int_equal(rig->store->fetcher->item_count, 0);
}

static void what_was_written_is_kept_for_the_next_provider(void **state)
{
    struct rig *rig = *state;
    receive_block(rig);
    fetch_large_detach(&rig->request);
    fetch_items_push(&rig->peer.waiting, rig->item);
    lone_world_pass(rig->world, SECOND_US);
    assert_ptr_equal(fetch_items_pop(&rig->peer.waiting), rig->item);
    assert_non_null(rig->item->transfer);
    fetch_item_failed(rig->item);
    lone_world_pass(rig->world, SECOND_US);
    assert_int_equal(rig->store->fetcher->item_count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_block_that_fails_between_two_providers_begins_anew),
        TEST(a_block_that_fails_after_the_last_provider_fails_the_item),
        TEST(what_was_written_is_kept_for_the_next_provider),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
