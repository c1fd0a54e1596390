#include "unit/node/fixture_clock.h"

#include <pthread.h>
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

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t shifted_wall_us(struct env *env)
{
    const struct shifted *at = NULL;
    (void)pthread_mutex_lock(&table_lock);
    for (size_t i = 0; i < CLOCKS_MAX; i++)
        if (table[i].env == env) at = &table[i];
    (void)pthread_mutex_unlock(&table_lock);
    if (at == NULL) abort();
    return at->real->wall_us(env) + (uint64_t)atomic_load(&at->clock->ahead_us);
}

static void shifted_release(struct node_world *world)
{
    const struct node_world_ops *real = NULL;
    (void)pthread_mutex_lock(&table_lock);
    for (size_t i = 0; i < CLOCKS_MAX; i++) {
        if (table[i].world != world) continue;
        real = table[i].world_real;
        table[i] = (struct shifted){.env = NULL};
    }
    (void)pthread_mutex_unlock(&table_lock);
    if (real == NULL) abort();
    real->release(world);
}

enum hkv_err clock_try_open(const struct hkv_options *options, struct test_clock *clock, struct hkv_store **out)
{
    struct node_world *world;
    size_t i = 0;
    assert_ok(node_world_real(&world));
    (void)pthread_mutex_lock(&table_lock);
    while (i < CLOCKS_MAX && table[i].env != NULL) i++;
    if (i == CLOCKS_MAX) abort();
    struct shifted *at = &table[i];
    *at = (struct shifted){.ops = *world->env->ops,
                           .env = world->env,
                           .real = world->env->ops,
                           .clock = clock,
                           .world_real = world->ops,
                           .world_ops = *world->ops,
                           .world = world};
    at->ops.wall_us = shifted_wall_us;
    at->world_ops.release = shifted_release;
    (void)pthread_mutex_unlock(&table_lock);
    world->built_wall_us = BUILT_WALL_US;
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
