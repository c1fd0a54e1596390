/* A store in a temporary folder on a clock that the test sets, and writers whose keys come from a letter. */
#ifndef HKV_TESTS_UNIT_KV_FIXTURE_H
#define HKV_TESTS_UNIT_KV_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kv/kv.h"

#define FIXTURE_NOW_US ((uint64_t)1700000000000000)

struct fixture {
    struct env env;
    uint64_t wall_us;
    uint64_t seed;
    char dir[128];
    struct kv_config config;
    struct kv_signer self;
    struct kv *kv;
};

#define OK(call) assert_ok((call), #call, __FILE__, __LINE__)
void assert_ok(enum hkv_err err, const char *call, const char *file, int line);

int fixture_setup(void **state);
int fixture_teardown(void **state);
void fixture_open(struct fixture *f);
void fixture_reopen(struct fixture *f);

/* A writer of the fixture's namespace; 's' is the store's own author. */
struct kv_signer fixture_writer(const struct fixture *f, char letter);

/* The document key of a user key, valid until the next call but three. */
struct slice fixture_key(const char *key);

/* An entry as another node would send it; `content` may be NULL for the hash of its name only. */
struct entry fixture_entry(const struct fixture *f, char letter, struct slice document_key, uint64_t stamp_us,
                           struct slice content);

/* One transaction each. */
enum hkv_err fixture_put(struct fixture *f, const char *key, const char *value);
enum hkv_err fixture_write(struct fixture *f, struct slice document_key, struct slice content, struct kv_write *w);
enum docs_insert fixture_receive(struct fixture *f, const struct entry *e);
void fixture_arrive(struct fixture *f, const char *content);

/* The value that a key shows, or NULL; valid until the next call. */
const char *fixture_get(struct fixture *f, const char *key);

/* Everything that must hold of the tables together: spans, counters, references, tops, shown. */
void fixture_check(struct fixture *f);

#endif
