/* Transactions, savepoints and the death of the process. */
#include "fixture/kv_store.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kv/internal.h"

#define T          FIXTURE_NOW_US
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

/* A write within the open transaction. */
static enum hkv_err write_in(struct fixture *f, const char *key, const char *value)
{
    struct kv_write w = {0};
    w.content = slice_of_text(value);
    w.entry = fixture_entry(f, 's', fixture_key(key), 0, w.content);
    OK(kv_propose_stamp(f->kv, w.entry.key, &w.entry.record.stamp_us));
    OK(entry_sign(&w.entry, &f->self.namespace_secret, &f->self.author_secret));
    return kv_write(f->kv, &w, &f->self);
}

static void receive_in(struct fixture *f, char author, struct slice key, uint64_t stamp_us, const char *content)
{
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_origin origin = {.peer = {{7}}};
    enum docs_insert out;
    struct entry e = fixture_entry(f, author, key, stamp_us, slice_of_text(content));
    OK(r->ops->insert(r, &e, &origin, &out, NULL, NULL));
    assert_int_equal(out, DOCS_INSERTED);
}

static void assert_same_counts(const struct kv_counts *a, const struct kv_counts *b)
{
    assert_int_equal(a->entries, b->entries);
    assert_int_equal(a->visible_keys, b->visible_keys);
    assert_int_equal(a->values_missing, b->values_missing);
    assert_int_equal(a->position, b->position);
    assert_memory_equal(&a->fingerprint, &b->fingerprint, sizeof a->fingerprint);
}

static void a_rolled_back_transaction_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct kv_counts before, after;
    struct kv_changes changes;
    for (int i = 0; i < 400; i++) {
        char key[32];
        snprintf(key, sizeof key, "k%03d", i);
        OK(fixture_put(f, key, "v"));
    }
    kv_counts(f->kv, &before);
    OK(kv_begin(f->kv));
    for (int i = 0; i < 800; i++) {
        char key[32];
        snprintf(key, sizeof key, "k%03d", i);
        OK(write_in(f, key, i % 2 ? "w" : "x"));
    }
    receive_in(f, 'y', slice_of_text("foreign"), T, "missing");
    receive_in(f, 's', slice_of_text("k1"), T + 100000, "missing too");
    kv_rollback(f->kv);
    kv_take_changes(f->kv, &changes);
    kv_counts(f->kv, &after);
    assert_same_counts(&before, &after);
    assert_string_equal(fixture_get(f, "k001"), "v");
    assert_null(fixture_get(f, "k401"));
    fixture_check(f);
    kv_changes_fini(&changes);
    OK(fixture_put(f, "k001", "after"));
    fixture_check(f);
}

static void a_savepoint_takes_back_its_part_only(void **state)
{
    struct fixture *f = *state;
    struct kv_changes changes;
    OK(fixture_put(f, "dir/a", "old"));
    OK(kv_begin(f->kv));
    OK(kv_savepoint(f->kv));
    OK(write_in(f, "kept", "one"));
    OK(kv_savepoint_release(f->kv));
    OK(kv_savepoint(f->kv));
    OK(write_in(f, "gone", "two"));
    receive_in(f, 's', slice_of_text("dir"), T + 1000, "removes dir/a");
    receive_in(f, 'z', fixture_key("z"), T, "new author");
    kv_savepoint_rollback(f->kv);
    assert_true(kv_in_transaction(f->kv));
    OK(kv_savepoint(f->kv));
    OK(write_in(f, "kept too", "three"));
    receive_in(f, 'z', fixture_key("z2"), T, "new author");
    OK(kv_savepoint_release(f->kv));
    OK(kv_commit(f->kv));
    kv_take_changes(f->kv, &changes);
    assert_int_equal(changes.count, 2);
    assert_true(slice_equal(buf_slice(&changes.items[1].key), slice_of_text("kept too")));
    kv_changes_fini(&changes);
    assert_string_equal(fixture_get(f, "kept"), "one");
    assert_null(fixture_get(f, "gone"));
    assert_string_equal(fixture_get(f, "dir/a"), "old");
    fixture_check(f);
    fixture_reopen(f);
    fixture_check(f);
}

static void splits_of_runs_are_taken_back(void **state)
{
    struct fixture *f = *state;
    for (int round = 0; round < 6; round++) {
        OK(kv_begin(f->kv));
        for (int i = 0; i < 40; i++) {
            OK(kv_savepoint(f->kv));
            for (int j = 0; j < 20; j++) {
                char key[32];
                snprintf(key, sizeof key, "%d-%d", i * 7919 % 40, j * 31 + round);
                receive_in(f, 'x', fixture_key(key), T + (uint64_t)(round * 1000 + i * 20 + j), "v");
            }
            if (i % 3 == 1)
                kv_savepoint_rollback(f->kv);
            else
                OK(kv_savepoint_release(f->kv));
        }
        if (round % 3 == 2)
            kv_rollback(f->kv);
        else
            OK(kv_commit(f->kv));
        fixture_check(f);
    }
    fixture_reopen(f);
    fixture_check(f);
}

static void what_was_committed_survives_the_death_of_the_process(void **state)
{
    struct fixture *f = *state;
    int status;
    kv_close(f->kv);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fixture_open(f);
        OK(fixture_put(f, "committed", "yes"));
        OK(kv_begin(f->kv));
        for (int i = 0; i < 300; i++) {
            char key[32];
            snprintf(key, sizeof key, "open-%d", i);
            OK(write_in(f, key, "no"));
        }
        _exit(7);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    fixture_open(f);
    assert_string_equal(fixture_get(f, "committed"), "yes");
    assert_null(fixture_get(f, "open-7"));
    fixture_check(f);
    OK(fixture_put(f, "open-7", "after"));
    fixture_check(f);
}

static void a_write_is_seen_within_its_transaction_and_by_readers_after_it(void **state)
{
    struct fixture *f = *state;
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_summary sum;
    OK(kv_begin(f->kv));
    OK(write_in(f, "a", "v"));
    OK(r->ops->summarize(r, (struct docs_piece){0}, &sum));
    assert_int_equal(sum.count, 1);
    assert_null(fixture_get(f, "a"));
    OK(kv_commit(f->kv));
    assert_string_equal(fixture_get(f, "a"), "v");
}

static off_t log_length(const struct fixture *f)
{
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s/docs/store.db-wal", f->dir);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

/* A write of about 2 MiB of log. */
static void write_much(struct fixture *f)
{
    char key[16], value[8192];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    OK(kv_begin(f->kv));
    for (int i = 0; i < 256; i++) {
        snprintf(key, sizeof key, "much %d", i);
        memcpy(value, key, strlen(key));
        OK(write_in(f, key, value));
    }
    OK(kv_commit(f->kv));
}

static void a_quiet_store_has_a_short_log(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    write_much(f);
    (void)kv_maintain(f->kv);
    assert_true(log_length(f) > 2 << 20);
    f->wall_us += KV_LOG_QUIET_US;
    (void)kv_maintain(f->kv);
    assert_int_equal(log_length(f), 0);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.wal_bytes, 0);
    assert_non_null(fixture_get(f, "much 255"));
    OK(fixture_put(f, "next", "short"));
    assert_true(log_length(f) > 0);
    /* A short log stays: it grows again with the next write. */
    f->wall_us += KV_LOG_QUIET_US;
    (void)kv_maintain(f->kv);
    assert_true(log_length(f) > 0);
    fixture_check(f);
}

static void bytes_on_disk_are_counted_without_a_budget_too(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    write_much(f);
    f->wall_us += KV_LOG_QUIET_US;
    (void)kv_maintain(f->kv);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.wal_bytes, 0);
    assert_true(counts.disk_bytes > 2 << 20);
}

static bool maintain_meanwhile(void *arg, struct kv_item *item)
{
    struct fixture *f = arg;
    (void)item;
    (void)kv_maintain(f->kv);
    assert_true(log_length(f) > 2 << 20);
    return false;
}

static void a_log_that_a_reader_needs_stays_until_later(void **state)
{
    struct fixture *f = *state;
    write_much(f);
    f->wall_us += KV_LOG_QUIET_US;
    OK(kv_list(f->kv, KV_KEY_USER, (struct slice){0}, (struct slice){0}, KV_WANT_META, 0, maintain_meanwhile, f));
    f->wall_us += KV_LOG_QUIET_US;
    (void)kv_maintain(f->kv);
    assert_int_equal(log_length(f), 0);
    fixture_check(f);
}

/* ------------------------------------------------------------------------------------------ orphans */

static void file_path(const struct fixture *f, const struct kv_file *file, char out[512])
{
    (void)snprintf(out, 512, "%s/blobs/%s", f->dir, file->name);
}

/* A file as a crash leaves it between its sealing and the transaction that would have referred to it. */
static void leave_orphan(struct fixture *f, char path[512])
{
    char beside[600];
    struct kv_file *file;
    OK(fixture_file(f, slice_of_text("sealed before the crash"), &file));
    file_path(f, file, path);
    (void)snprintf(beside, sizeof beside, "%s.kept", path);
    assert_int_equal(link(path, beside), 0);
    kv_file_free(file);
    assert_int_equal(rename(beside, path), 0);
}

static void a_file_sealed_just_before_a_crash_goes_after_the_next_start(void **state)
{
    struct fixture *f = *state;
    char orphan[512], sealed[512];
    struct kv_file *file;
    OK(fixture_put(f, "k", "v"));
    leave_orphan(f, orphan);
    fixture_reopen(f);
    OK(fixture_file(f, slice_of_text("sealed after the start"), &file));
    file_path(f, file, sealed);
    while (kv_maintain(f->kv)) continue;
    assert_int_not_equal(access(orphan, F_OK), 0);
    assert_int_equal(access(sealed, F_OK), 0);
    kv_file_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_rolled_back_transaction_leaves_nothing),
        TEST(a_savepoint_takes_back_its_part_only),
        TEST(splits_of_runs_are_taken_back),
        TEST(what_was_committed_survives_the_death_of_the_process),
        TEST(a_write_is_seen_within_its_transaction_and_by_readers_after_it),
        TEST(a_quiet_store_has_a_short_log),
        TEST(bytes_on_disk_are_counted_without_a_budget_too),
        TEST(a_log_that_a_reader_needs_stays_until_later),
        TEST(a_file_sealed_just_before_a_crash_goes_after_the_next_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
