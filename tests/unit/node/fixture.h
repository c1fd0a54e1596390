/* Whole stores in temporary directories on loopback, for the tests of the public functions. */
#ifndef HKV_TESTS_NODE_FIXTURE_H
#define HKV_TESTS_NODE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hero_kvs.h>

#define NODE_SECRET_1    "1111111111111111111111111111111111111111111111111111111111111111"
#define NAMESPACE_SECRET "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2"

/* A directory that is removed by node_dir_remove(). */
struct node_dir {
    char path[64];
};

void node_dir_make(struct node_dir *dir);
void node_dir_remove(struct node_dir *dir);

/* Options for loopback, any port, an interval of a second, logging with HKV_TEST_LOG in the environment. */
struct hkv_options node_options(const struct node_dir *dir);

/* Opens with node_options(); fails the test with the error's sentence. */
struct hkv_store *node_open(const struct node_dir *dir, const char *namespace_secret);

/* Makes `a` know `b`. */
void node_connect(struct hkv_store *a, struct hkv_store *b);

void node_put(struct hkv_store *store, const char *key, const char *value);
void node_delete(struct hkv_store *store, const char *key);

/* The key shows this text; NULL: it is absent. */
void node_expect(struct hkv_store *store, const char *key, const char *value);

/* Waits until the key shows this text (NULL: is absent), or fails. */
void node_await(struct hkv_store *store, const char *key, const char *value);

/* Waits until both have the same entries and lack no value, or fails. */
void node_await_equal(struct hkv_store *a, struct hkv_store *b);

/* Waits until a put is taken, or fails. */
void node_await_writable(struct hkv_store *store);

/* For hkv_put_async() when only the effect matters. */
void node_ignore_write(void *arg, enum hkv_err err, const char *error, const struct hkv_write_result *result);

#define assert_ok(expr)       node_assert_err((expr), HKV_OK, #expr, __FILE__, __LINE__)
#define assert_err(err, expr) node_assert_err((expr), (err), #expr, __FILE__, __LINE__)
void node_assert_err(enum hkv_err got, enum hkv_err wanted, const char *what, const char *file, int line);

#endif
