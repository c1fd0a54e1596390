/* Memory that fails on command, for programs linked with hkv_failing_memory: every malloc, calloc, realloc, strdup of
 * our code and of the test, and every allocation of SQLite.
 *
 *   failing_memory_begin(&(struct failing_memory){.nth = k, .count = 1});
 *   err = what_is_tested();
 *   failed = failing_memory_end();        how many allocations failed
 *
 * One thread at a time has its allocations counted, the one that called begin. */
#ifndef HKV_TEST_FAILING_MEMORY_H
#define HKV_TEST_FAILING_MEMORY_H

#include <stdint.h>

struct failing_memory {
    uint64_t nth;   /* the first that fails, from 1; 0: none, they are only counted */
    uint64_t count; /* so many in a row */
};

/* Once, before anything else: SQLite gets its memory from here. */
void failing_memory_install(void);

void failing_memory_begin(const struct failing_memory *config);
uint64_t failing_memory_end(void);

/* Allocations since the last begin. */
uint64_t failing_memory_seen(void);

#endif
