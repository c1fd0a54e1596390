#include "unit/node/fixture_clock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "node/world_real.h"

#define CLOCKS_MAX    8
#define BUILT_WALL_US ((uint64_t)1735689600 * 1000000) /* 2025-01-01: programs of tests may be minutes old */

/* struct env has no room for what belongs to a test, so its address leads to the clock. */
static struct shifted {
    struct env_ops ops;
    struct env *env;
    const struct env_ops *real;
    struct test_clock *clock;
    const struct node_world_ops *world_real;
    struct node_world_ops world_ops;
    struct node_world *world;
} table[CLOCKS_MAX];

static uint64_t shifted_wall_us(struct env *env)
{
    for (size_t i = 0; i < CLOCKS_MAX; i++)
        if (table[i].env == env) return table[i].real->wall_us(env) + (uint64_t)atomic_load(&table[i].clock->ahead_us);
    abort();
}

static void shifted_release(struct node_world *world)
{
    for (size_t i = 0; i < CLOCKS_MAX; i++) {
        if (table[i].world != world) continue;
        const struct node_world_ops *real = table[i].world_real;
        table[i] = (struct shifted){.env = NULL};
        real->release(world);
        return;
    }
    abort();
}

enum hkv_err clock_try_open(const struct hkv_options *options, struct test_clock *clock, struct hkv_store **out)
{
    struct node_world *world;
    assert_ok(node_world_real(&world));
    size_t i = 0;
    while (table[i].env != NULL) assert_true(++i < CLOCKS_MAX);
    struct shifted *at = &table[i];
    *at = (struct shifted){.ops = *world->env->ops, .real = world->env->ops, .clock = clock, .world = world};
    at->ops.wall_us = shifted_wall_us;
    world->built_wall_us = BUILT_WALL_US;
    at->world_real = world->ops;
    at->world_ops = *world->ops;
    at->world_ops.release = shifted_release;
    at->env = world->env;
    world->env->ops = &at->ops;
    world->ops = &at->world_ops;
    return node_open_in(options, world, out);
}

struct hkv_store *clock_open(const struct hkv_options *options, struct test_clock *clock)
{
    struct hkv_store *store;
    assert_ok(clock_try_open(options, clock, &store));
    return store;
}

void clock_to_1970(struct test_clock *clock)
{
    atomic_store(&clock->ahead_us, -(int64_t)time(NULL) * SECOND_US + 10 * SECOND_US);
}
