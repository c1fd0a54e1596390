/* A store in memory behind the functions of hero_kvs.h, for tests of what uses the store: one node, no peers on a
 * network, no disk. Callbacks run on the calling thread before the `_async` function returns. Versions count up from
 * FAKE_STAMP_FIRST.
 *
 * Tests set what the next calls answer: see the functions below. */
#ifndef TESTS_FAKE_KVS_H
#define TESTS_FAKE_KVS_H

#include <hero_kvs.h>

#define FAKE_STAMP_FIRST UINT64_C(1700000000000000)

/* An empty store, with fake_kvs_fail() off. */
struct hkv_store *fake_kvs_new(void);

/* Every operation that can fail does, with this error and sentence, until called with HKV_OK. */
void fake_kvs_fail(struct hkv_store *store, enum hkv_err err, const char *sentence);

/* Delivers an event to every watch whose prefix fits. */
void fake_kvs_emit(struct hkv_store *store, const struct hkv_event *event);

/* Whether the last write came from the calling thread. */
bool fake_kvs_written_here(struct hkv_store *store);

/* How many watches are open. */
size_t fake_kvs_watch_count(struct hkv_store *store);

#endif
