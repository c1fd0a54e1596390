/* Copies of a data directory, restored disks, and two nodes with one author. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "node/node.h"
#include "node/records.h"
#include "unit/node/fixture.h"

#define NODES_MAX     4
#define AWAIT_S       60
#define AUTHOR_SECRET "7777777777777777777777777777777777777777777777777777777777777777"

struct nodes {
    uint64_t opened_us; /* before node 0 was opened last */
    struct node_dir dir[NODES_MAX];
    struct hkv_store *store[NODES_MAX];
};

static int setup(void **state)
{
    struct nodes *nodes = calloc(1, sizeof *nodes);
    for (int i = 0; i < NODES_MAX; i++) node_dir_make(&nodes->dir[i]);
    *state = nodes;
    return 0;
}

static void close_one(struct nodes *nodes, int i)
{
    hkv_close(nodes->store[i]);
    nodes->store[i] = NULL;
}

static int teardown(void **state)
{
    struct nodes *nodes = *state;
    for (int i = 0; i < NODES_MAX; i++) {
        close_one(nodes, i);
        node_dir_remove(&nodes->dir[i]);
    }
    free(nodes);
    return 0;
}

static void check_often(struct hkv_store *store, void *arg)
{
    (void)arg;
    store->patience.records_check_us = 300000;
    records_begin(store->records);
}

static struct hkv_options options_of(struct nodes *nodes, int i, const char *seed)
{
    static const char *seeds[1];
    struct hkv_options options = node_options(&nodes->dir[i]);
    options.namespace_secret = NAMESPACE_SECRET;
    seeds[0] = seed;
    options.seeds = seeds;
    options.seed_count = seed != NULL;
    return options;
}

static uint64_t wall_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void open_one(struct nodes *nodes, int i, const char *seed)
{
    struct hkv_options options = options_of(nodes, i, seed);
    if (i == 0) nodes->opened_us = wall_us();
    assert_ok(hkv_open(&options, &nodes->store[i]));
    node_on_network(nodes->store[i], check_often, NULL);
}

static void copy_dir(const struct node_dir *from, const struct node_dir *to)
{
    char command[256];
    (void)snprintf(command, sizeof command, "rm -rf %s && cp -a %s %s", to->path, from->path, to->path);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): both were made by mkdtemp() */
}

static char *ticket_of(struct hkv_store *store)
{
    struct hkv_info info;
    assert_ok(hkv_info(store, &info));
    char *ticket = strdup(info.endpoint_ticket);
    hkv_info_fini(&info);
    return ticket;
}

struct id_text {
    char text[HKV_ID_TEXT_BYTES];
};

static struct id_text author_of(struct hkv_store *store)
{
    struct hkv_info info;
    struct id_text author;
    assert_ok(hkv_info(store, &info));
    memcpy(author.text, info.author_id, sizeof author.text);
    hkv_info_fini(&info);
    return author;
}

static uint64_t epoch_of(struct hkv_store *store)
{
    struct hkv_status status;
    assert_ok(hkv_status(store, &status));
    return status.position.epoch;
}

static bool is_unique(struct hkv_store *store)
{
    struct hkv_status status;
    assert_ok(hkv_status(store, &status));
    assert_int_equal(status.conditions[HKV_CONDITION_IDENTITY_UNIQUE], status.identity_why[0] == '\0');
    return status.conditions[HKV_CONDITION_IDENTITY_UNIQUE];
}

static void pause_a_little(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

static void await_unique(struct hkv_store *store, bool unique)
{
    time_t end = time(NULL) + AWAIT_S;
    while (is_unique(store) != unique) {
        if (time(NULL) > end) fail_msg("identity_unique did not become %s", unique ? "true" : "false");
        pause_a_little();
    }
}

static void await_other_author(struct hkv_store *store, const struct id_text *than)
{
    time_t end = time(NULL) + AWAIT_S;
    while (strcmp(author_of(store).text, than->text) == 0) {
        if (time(NULL) > end) fail_msg("the author stayed %s", than->text);
        pause_a_little();
    }
}

/* Node 0 has synced with node 2, whose ticket this returns; the caller frees it. */
static char *begin(struct nodes *nodes, struct id_text *author)
{
    open_one(nodes, 2, NULL);
    char *seed = ticket_of(nodes->store[2]);
    open_one(nodes, 0, seed);
    node_put(nodes->store[0], "first", "0");
    node_await(nodes->store[2], "first", "0");
    node_await_equal(nodes->store[0], nodes->store[2]);
    *author = author_of(nodes->store[0]);
    return seed;
}

static bool has_record_of(struct hkv_store *store, uint64_t since_us)
{
    (void)pthread_mutex_lock(&store->identity_lock);
    bool has = store->holders.written_us > since_us;
    (void)pthread_mutex_unlock(&store->identity_lock);
    return has;
}

/* A write of node 0 that node 2 has, with its member record of this start, stamped by the clock. */
static void sync_again(struct nodes *nodes, const char *key)
{
    time_t end = time(NULL) + AWAIT_S;
    while (!has_record_of(nodes->store[0], nodes->opened_us)) {
        if (time(NULL) > end) fail_msg("the start is not settled");
        pause_a_little();
    }
    node_put(nodes->store[0], key, "0");
    node_await(nodes->store[2], key, "0");
    node_await_equal(nodes->store[0], nodes->store[2]);
}

static void a_copy_takes_a_new_author_and_both_say_so_until_one_stops(void **state)
{
    struct nodes *nodes = *state;
    struct id_text author, copys;
    char *seed = begin(nodes, &author);
    close_one(nodes, 0);
    copy_dir(&nodes->dir[0], &nodes->dir[1]);
    open_one(nodes, 0, seed);
    sync_again(nodes, "again");
    open_one(nodes, 1, seed);
    await_other_author(nodes->store[1], &author);
    copys = author_of(nodes->store[1]);
    assert_string_equal(author_of(nodes->store[0]).text, author.text);
    node_put(nodes->store[1], "again", "1");
    node_await(nodes->store[0], "again", "1");
    assert_true(epoch_of(nodes->store[0]) != epoch_of(nodes->store[1])); /* positions of one are not the other's */
    await_unique(nodes->store[0], false);
    await_unique(nodes->store[1], false);
    assert_string_equal(author_of(nodes->store[0]).text, author.text); /* seen later: nobody changes */
    assert_string_equal(author_of(nodes->store[1]).text, copys.text);
    close_one(nodes, 1);
    await_unique(nodes->store[0], true);
    close_one(nodes, 0);
    open_one(nodes, 1, seed); /* alone now: its author is on its disk */
    node_put(nodes->store[1], "again", "2");
    node_await(nodes->store[2], "again", "2");
    assert_string_equal(author_of(nodes->store[1]).text, copys.text);
    free(seed);
}

/* The copy was made before there was anybody to ask, and has a life of its own when it first meets the others. */
static void seen_later_both_keep_the_author_and_fail_until_one_stops(void **state)
{
    struct nodes *nodes = *state;
    open_one(nodes, 0, NULL);
    struct id_text author = author_of(nodes->store[0]);
    close_one(nodes, 0);
    copy_dir(&nodes->dir[0], &nodes->dir[1]);
    open_one(nodes, 2, NULL);
    char *seed = ticket_of(nodes->store[2]);
    open_one(nodes, 0, seed);
    sync_again(nodes, "first");
    assert_true(is_unique(nodes->store[0]));
    open_one(nodes, 1, NULL);
    node_connect(nodes->store[1], nodes->store[2]);
    await_unique(nodes->store[0], false);
    await_unique(nodes->store[1], false);
    assert_string_equal(author_of(nodes->store[0]).text, author.text);
    assert_string_equal(author_of(nodes->store[1]).text, author.text);
    close_one(nodes, 1);
    await_unique(nodes->store[0], true);
    assert_string_equal(author_of(nodes->store[0]).text, author.text);
    free(seed);
}

static void a_restored_disk_takes_a_new_author_and_is_well(void **state)
{
    struct nodes *nodes = *state;
    struct id_text author;
    char *seed = begin(nodes, &author);
    close_one(nodes, 0);
    copy_dir(&nodes->dir[0], &nodes->dir[1]); /* the backup */
    open_one(nodes, 0, seed);
    sync_again(nodes, "after/backup");
    close_one(nodes, 0);
    copy_dir(&nodes->dir[1], &nodes->dir[0]);
    open_one(nodes, 0, seed);
    await_other_author(nodes->store[0], &author);
    node_await(nodes->store[0], "after/backup", "0");
    assert_true(is_unique(nodes->store[0]));
    node_put(nodes->store[0], "after/backup", "1");
    node_await(nodes->store[2], "after/backup", "1");
    free(seed);
}

static void a_restart_keeps_the_author(void **state)
{
    static const char *const keys[] = {"one", "two", "three"};
    struct nodes *nodes = *state;
    struct id_text author;
    struct hkv_peers *peers;
    char *seed = begin(nodes, &author);
    for (int i = 0; i < 3; i++) {
        close_one(nodes, 0);
        open_one(nodes, 0, seed);
        sync_again(nodes, keys[i]);
        assert_string_equal(author_of(nodes->store[0]).text, author.text);
        assert_true(is_unique(nodes->store[0]));
    }
    time_t end = time(NULL) + AWAIT_S;
    for (bool is_member = false; !is_member;) {
        assert_ok(hkv_peers(nodes->store[2], &peers));
        assert_int_equal(peers->count, 1);
        is_member = peers->peers[0].source == HKV_PEER_MEMBER;
        hkv_peers_free(peers);
        if (time(NULL) > end) fail_msg("the node did not become a member");
        pause_a_little();
    }
    free(seed);
}

static void another_endpoint_with_our_author_stops_the_start(void **state)
{
    struct nodes *nodes = *state;
    char path[128];
    open_one(nodes, 2, NULL);
    char *seed = ticket_of(nodes->store[2]);
    struct hkv_options options = options_of(nodes, 0, seed);
    options.author_secret = AUTHOR_SECRET;
    nodes->opened_us = wall_us();
    assert_ok(hkv_open(&options, &nodes->store[0]));
    sync_again(nodes, "first");
    options.data_dir = nodes->dir[1].path;
    assert_ok(hkv_open(&options, &nodes->store[1]));
    await_unique(nodes->store[1], false);
    assert_err(HKV_E_IDENTITY, hkv_put(nodes->store[1], "k", 1, "v", 1, NULL, NULL));
    assert_non_null(strstr(hkv_last_error(), "keys/author.secret"));
    assert_true(is_unique(nodes->store[0])); /* who was first is not disturbed */
    node_put(nodes->store[0], "second", "0");
    node_await(nodes->store[1], "second", "0");
    close_one(nodes, 1);
    options = options_of(nodes, 1, seed);
    assert_err(HKV_E_IDENTITY, hkv_open(&options, &nodes->store[1]));
    assert_non_null(strstr(hkv_last_error(), "keys/author.secret"));
    (void)snprintf(path, sizeof path, "%s/keys/author.secret", nodes->dir[1].path);
    assert_int_equal(unlink(path), 0);
    open_one(nodes, 1, seed); /* the remedy */
    node_put(nodes->store[1], "third", "1");
    node_await(nodes->store[0], "third", "1");
    assert_true(is_unique(nodes->store[1]));
    free(seed);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_copy_takes_a_new_author_and_both_say_so_until_one_stops),
        TEST(seen_later_both_keep_the_author_and_fail_until_one_stops),
        TEST(a_restored_disk_takes_a_new_author_and_is_well),
        TEST(a_restart_keeps_the_author),
        TEST(another_endpoint_with_our_author_stops_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
