/* Stores in the real world whose wall clocks the test sets. Time passes at its own pace; only what the wall clock shows
 * is another. */
#ifndef HKV_TESTS_NODE_FIXTURE_CLOCK_H
#define HKV_TESTS_NODE_FIXTURE_CLOCK_H

#include "unit/node/fixture.h"

#define SECOND_US ((int64_t)1000000)
#define MINUTE_US (60 * SECOND_US)

/* The wall clock of one machine; stays in place while a store is open on it. */
struct test_clock {
    _Atomic int64_t ahead_us; /* of the true time; may change at any moment */
};

/* As node_open() with the options given, on a machine with that clock. */
enum hkv_err clock_try_open(const struct hkv_options *options, struct test_clock *clock, struct hkv_store **out);
struct hkv_store *clock_open(const struct hkv_options *options, struct test_clock *clock);

/* Shows 1970-01-01 00:00:10 now. */
void clock_to_1970(struct test_clock *clock);

#endif
