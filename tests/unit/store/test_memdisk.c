/* The disk in memory: SQLite and value files work on it, power cuts take what was not synced and nothing else, faults
 * come when they were ordered, and the same seed gives the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/memdisk.h"

#define OK(call)   ok((call), #call, __LINE__)
#define CAPACITY   (16 << 20)
#define TEST(name) cmocka_unit_test(name)

static const struct memdisk_cut drop_all = {.seed = 1};
static const struct memdisk_cut keep_all = {.seed = 1, .keep_percent = 100};
static const struct memdisk_cut tear_all = {.seed = 1, .tear_percent = 100};

static void ok(enum hkv_err err, const char *call, int line)
{
    if (err != HKV_OK) fail_msg("line %d: %s: %s: %s", line, call, error_name(err), error_last());
}

static struct memdisk *disk_new(bool forgetful, uint64_t seed)
{
    struct memdisk *d = NULL;
    OK(memdisk_new(&(struct memdisk_config){.capacity_bytes = CAPACITY, .seed = seed, .forgetful = forgetful}, &d));
    return d;
}

static struct files *folder(struct memdisk *d)
{
    struct files *f = NULL;
    OK(memdisk_files(d, "blobs", &f));
    return f;
}

static struct files_handle *create(struct files *f, const char *name)
{
    struct files_handle *h = NULL;
    OK(f->ops->create(f, name, &h));
    return h;
}

/* The bytes of a finished file, or NULL when there is none. */
static const char *bytes_of(struct files *f, const char *name)
{
    static char bytes[1 << 16];
    int fd;
    enum hkv_err err = f->ops->open_fd(f, name, &fd);
    if (err == HKV_E_NOT_FOUND) return NULL;
    OK(err);
    ssize_t n = pread(fd, bytes, sizeof bytes - 1, 0);
    files_close_fd(fd);
    assert_true(n >= 0);
    bytes[n] = 0;
    return bytes;
}

static sqlite3 *sql_open(struct memdisk *d)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open_v2("docs/t.db", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, memdisk_vfs(d)),
                     SQLITE_OK);
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, 10000);
    return db;
}

static int sql_try(sqlite3 *db, const char *text)
{
    return sqlite3_exec(db, text, NULL, NULL, NULL);
}

static void sql(sqlite3 *db, const char *text)
{
    int code = sql_try(db, text);
    if (code != SQLITE_OK) fail_msg("%s: %s (%d)", text, sqlite3_errmsg(db), code);
}

static int sql_int(sqlite3 *db, const char *text)
{
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int n = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return n;
}

static void sql_create(sqlite3 *db)
{
    sql(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;"
            "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)");
}

/* ------------------------------------------------------------------------------------------ well-behaved */

static void files_are_created_written_renamed_listed_and_removed(void **state)
{
    (void)state;
    struct memdisk *d = disk_new(false, 0);
    struct files *f = folder(d);
    struct files_handle *h = create(f, "a");
    struct files_handle *again;
    assert_int_equal(f->ops->create(f, "a", &again), HKV_E_DISK);
    OK(f->ops->write(h, 5000, slice_of_text("world")));
    OK(f->ops->write(h, 0, slice_of_text("hello")));
    char bytes[16] = {0};
    size_t got;
    OK(f->ops->read(h, 4999, bytes, sizeof bytes, &got));
    assert_int_equal(got, 6);
    assert_memory_equal(bytes, "\0world", 6);
    OK(f->ops->sync(h));
    f->ops->close(h);
    OK(f->ops->rename(f, "a", "b"));
    OK(f->ops->sync_dir(f));
    assert_null(bytes_of(f, "a"));
    assert_string_equal(bytes_of(f, "b"), "hello");
    OK(f->ops->unlink(f, "b"));
    OK(f->ops->unlink(f, "b"));
    assert_null(bytes_of(f, "b"));
    assert_int_equal(memdisk_used_bytes(d), 0);
    f->ops->free(f);
    memdisk_free(d);
}

struct seen {
    struct files *files;
    bool names[300];
    size_t count;
};

static void see_and_remove(void *arg, const char *name)
{
    struct seen *seen = arg;
    int n = atoi(name);
    assert_false(seen->names[n]);
    seen->names[n] = true;
    seen->count++;
    OK(seen->files->ops->unlink(seen->files, name));
}

static void a_listing_shows_every_name_once_while_the_visitor_removes_them(void **state)
{
    (void)state;
    struct memdisk *d = disk_new(false, 0);
    struct seen seen = {.files = folder(d)};
    struct files *f = seen.files;
    for (int i = 0; i < 300; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d", i);
        f->ops->close(create(f, name));
    }
    bool end = false;
    while (!end) OK(f->ops->list(f, 7, see_and_remove, &seen, &end));
    assert_int_equal(seen.count, 300);
    f->ops->free(f);
    memdisk_free(d);
}

static void sqlite_works_in_wal_mode_on_several_disks_at_once(void **state)
{
    (void)state;
    struct memdisk *disks[2] = {disk_new(false, 0), disk_new(false, 0)};
    assert_string_not_equal(memdisk_vfs(disks[0]), memdisk_vfs(disks[1]));
    for (int i = 0; i < 2; i++) {
        sqlite3 *writer = sql_open(disks[i]);
        sql_create(writer);
        sqlite3 *reader = sql_open(disks[i]);
        sql(writer, "BEGIN; INSERT INTO t VALUES(1, zeroblob(20000))");
        assert_int_equal(sql_int(reader, "SELECT count(*) FROM t"), 0);
        sql(writer, "COMMIT");
        assert_int_equal(sql_int(reader, "SELECT count(*) FROM t"), 1);
        sqlite3_stmt *s = NULL;
        sqlite3_prepare_v2(reader, "SELECT k FROM t", -1, &s, NULL);
        assert_int_equal(sqlite3_step(s), SQLITE_ROW); /* a snapshot stays what it was */
        sql(writer, "DELETE FROM t");
        sqlite3_reset(s);
        sqlite3_finalize(s);
        assert_int_equal(sql_int(reader, "SELECT count(*) FROM t"), 0);
        sqlite3_busy_timeout(reader, 0);
        sql(writer, "BEGIN IMMEDIATE");
        assert_int_equal(sql_try(reader, "BEGIN IMMEDIATE"), SQLITE_BUSY);
        sql(writer, "COMMIT");
        sql(writer, "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA integrity_check");
        sqlite3_close(reader);
        sqlite3_close(writer);
        uint64_t length;
        assert_int_equal(memdisk_length(disks[i], "docs/t.db-wal", &length), HKV_E_NOT_FOUND);
        OK(memdisk_length(disks[i], "docs/t.db", &length));
    }
    memdisk_free(disks[0]);
    memdisk_free(disks[1]);
}

static void sqlite_locks_keep_writers_apart_with_a_rollback_journal(void **state)
{
    (void)state;
    struct memdisk *d = disk_new(false, 0);
    sqlite3 *a = sql_open(d);
    sqlite3 *b = sql_open(d);
    sqlite3_busy_timeout(a, 0);
    sqlite3_busy_timeout(b, 0);
    sql(a, "PRAGMA journal_mode=DELETE; CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)");
    sql(a, "BEGIN IMMEDIATE; INSERT INTO t VALUES(1, 1)");
    assert_int_equal(sql_int(b, "SELECT count(*) FROM t"), 0); /* RESERVED lets readers in */
    assert_int_equal(sql_try(b, "INSERT INTO t VALUES(2, 2)"), SQLITE_BUSY);
    sqlite3_stmt *s = NULL;
    sqlite3_prepare_v2(b, "SELECT count(*) FROM t", -1, &s, NULL);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    assert_int_equal(sql_try(a, "COMMIT"), SQLITE_BUSY); /* a reader is in */
    sqlite3 *c = sql_open(d);
    sqlite3_busy_timeout(c, 0);
    assert_int_equal(sql_try(c, "SELECT * FROM t"), SQLITE_BUSY); /* PENDING lets nobody in */
    sqlite3_finalize(s);
    sql(a, "COMMIT");
    assert_int_equal(sql_int(c, "SELECT count(*) FROM t"), 1);
    sqlite3_close(c);
    sqlite3_close(b);
    sqlite3_close(a);
    memdisk_free(d);
}

/* ------------------------------------------------------------------------------------------ power cuts */

static void a_power_cut_keeps_what_was_synced_and_may_lose_the_rest(void **state)
{
    (void)state;
    struct memdisk *d = disk_new(true, 0);
    struct files *f = folder(d);
    struct files_handle *h = create(f, "synced");
    OK(f->ops->write(h, 0, slice_of_text("old")));
    OK(f->ops->sync(h));
    OK(f->ops->sync_dir(f));
    OK(f->ops->write(h, 0, slice_of_text("new")));
    f->ops->close(create(f, "unsynced name"));
    struct memdisk *lost = NULL, *kept = NULL;
    OK(memdisk_crashed_copy(d, &drop_all, &lost));
    OK(memdisk_crashed_copy(d, &keep_all, &kept));
    struct files *lost_files = folder(lost);
    struct files *kept_files = folder(kept);
    assert_string_equal(bytes_of(lost_files, "synced"), "old");
    assert_null(bytes_of(lost_files, "unsynced name"));
    assert_string_equal(bytes_of(kept_files, "synced"), "new");
    assert_non_null(bytes_of(kept_files, "unsynced name"));
    assert_string_equal(bytes_of(f, "synced"), "new"); /* the copy changed nothing here */
    OK(memdisk_crash(d, &drop_all));
    assert_int_equal(f->ops->write(h, 0, slice_of_text("dead")), HKV_E_DISK);
    assert_int_equal(f->ops->sync(h), HKV_E_DISK);
    f->ops->close(h);
    f->ops->free(f);
    f = folder(d);
    assert_string_equal(bytes_of(f, "synced"), "old");
    f->ops->free(f);
    lost_files->ops->free(lost_files);
    kept_files->ops->free(kept_files);
    memdisk_free(lost);
    memdisk_free(kept);
    memdisk_free(d);
}

static void names_wait_for_the_sync_of_their_folder(void **state)
{
    (void)state;
    struct memdisk *d = disk_new(true, 0);
    struct files *f = folder(d);
    struct files_handle *h = create(f, "tmp");
    OK(f->ops->sync_dir(f));
    OK(f->ops->write(h, 0, slice_of_text("value")));
    OK(f->ops->sync(h));
    f->ops->close(h);
    OK(f->ops->rename(f, "tmp", "final"));
    struct memdisk *after = NULL;
    OK(memdisk_crashed_copy(d, &drop_all, &after));
    struct files *g = folder(after);
    assert_string_equal(bytes_of(g, "tmp"), "value");
    assert_null(bytes_of(g, "final"));
    g->ops->free(g);
    memdisk_free(after);
    OK(f->ops->sync_dir(f));
    OK(f->ops->unlink(f, "final"));
    assert_int_equal(memdisk_used_bytes(d), 0); /* there is room again before the removal is durable */
    f->ops->free(f);
    OK(memdisk_crash(d, &drop_all));
    f = folder(d);
    assert_null(bytes_of(f, "tmp"));
    assert_string_equal(bytes_of(f, "final"), "value");
    f->ops->free(f);
    memdisk_free(d);
}

/* Sectors of two bytes after a cut: how many are old, new, torn. */
static void count_sectors(struct memdisk *d, const struct memdisk_cut *cut, int counts[3])
{
    struct memdisk *after = NULL;
    OK(memdisk_crashed_copy(d, cut, &after));
    struct files *f = folder(after);
    const char *bytes = bytes_of(f, "f");
    memset(counts, 0, 3 * sizeof *counts);
    for (size_t s = 0; s < 64; s++) {
        size_t new = 0;
        for (size_t i = 0; i < MEMDISK_SECTOR_BYTES; i++) new += bytes[s * MEMDISK_SECTOR_BYTES + i] == 'n';
        counts[new == 0 ? 0 : new == MEMDISK_SECTOR_BYTES ? 1 : 2]++;
    }
    f->ops->free(f);
    memdisk_free(after);
}

static void sectors_are_kept_dropped_and_torn_each_on_its_own(void **state)
{
    (void)state;
    static char bytes[64 * MEMDISK_SECTOR_BYTES];
    struct memdisk *d = disk_new(true, 0);
    struct files *f = folder(d);
    struct files_handle *h = create(f, "f");
    memset(bytes, 'o', sizeof bytes);
    OK(f->ops->write(h, 0, slice_of(bytes, sizeof bytes)));
    OK(f->ops->sync(h));
    OK(f->ops->sync_dir(f));
    memset(bytes, 'n', sizeof bytes);
    OK(f->ops->write(h, 0, slice_of(bytes, sizeof bytes)));
    f->ops->close(h);
    int counts[3];
    count_sectors(d, &drop_all, counts);
    assert_int_equal(counts[0], 64);
    count_sectors(d, &keep_all, counts);
    assert_int_equal(counts[1], 64);
    count_sectors(d, &tear_all, counts);
    assert_int_equal(counts[2], 64);
    count_sectors(d, &(struct memdisk_cut){.seed = 5, .keep_percent = 40, .tear_percent = 20}, counts);
    for (int i = 0; i < 3; i++) assert_true(counts[i] > 4);
    f->ops->free(f);
    memdisk_free(d);
}

/* A transaction whose frames are torn in the log, and all before it. */
static void sqlite_cuts_a_torn_transaction_off_and_keeps_those_that_were_synced(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct memdisk *d = disk_new(true, seed);
        sqlite3 *db = sql_open(d);
        sql_create(db);
        sql(db, "INSERT INTO t VALUES(1, randomblob(9000))");
        sql(db, "PRAGMA synchronous=OFF"); /* nobody syncs what follows */
        sql(db, "INSERT INTO t VALUES(2, randomblob(9000))");
        OK(memdisk_crash(d, &(struct memdisk_cut){.seed = seed, .keep_percent = 50, .tear_percent = 30}));
        assert_int_not_equal(sql_try(db, "INSERT INTO t VALUES(3, 3)"), SQLITE_OK);
        sqlite3_close(db);
        db = sql_open(d);
        assert_int_equal(sql_int(db, "SELECT count(*) FROM t"), 1);
        assert_int_equal(sql_int(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
        sqlite3_close(db);
        memdisk_free(d);
    }
}

/* ------------------------------------------------------------------------------------------ faults */

static void a_full_disk_refuses_what_needs_room_and_heals(void **state)
{
    (void)state;
    struct memdisk *d = disk_new(false, 0);
    sqlite3 *db = sql_open(d);
    sql_create(db);
    sql(db, "INSERT INTO t VALUES(1, zeroblob(1000))");
    memdisk_faults_set(d, &(struct memdisk_faults){.budget_bytes = memdisk_used_bytes(d) + 8192});
    assert_int_equal(sql_try(db, "INSERT INTO t VALUES(2, zeroblob(100000))"), SQLITE_FULL);
    assert_int_equal(sql_int(db, "SELECT count(*) FROM t"), 1);
    struct files *f = folder(d);
    struct files_handle *h = create(f, "large");
    assert_int_equal(f->ops->write(h, 0, slice_of((uint8_t[20000]){0}, 20000)), HKV_E_DISK_FULL);
    memdisk_faults_set(d, &(struct memdisk_faults){0});
    sql(db, "INSERT INTO t VALUES(2, zeroblob(100000))");
    assert_int_equal(f->ops->write(h, CAPACITY, slice_of_text("x")), HKV_E_DISK_FULL);
    f->ops->close(h);
    f->ops->free(f);
    sqlite3_close(db);
    memdisk_free(d);
}

static void the_nth_operation_fails_once(void **state)
{
    (void)state;
    struct memdisk *d = disk_new(false, 0);
    struct files *f = folder(d);
    struct files_handle *h = create(f, "f");
    char byte;
    size_t got;
    memdisk_faults_set(d, &(struct memdisk_faults){.of = {{.error_nth = 2}, {.error_nth = 2}, {.error_nth = 2}}});
    for (unsigned i = 1; i <= 3; i++) {
        enum hkv_err expected = i == 2 ? HKV_E_DISK : HKV_OK;
        assert_int_equal(f->ops->write(h, 0, slice_of_text("x")), expected);
        assert_int_equal(f->ops->read(h, 0, &byte, 1, &got), expected);
        assert_int_equal(f->ops->sync(h), expected);
    }
    f->ops->close(h);
    f->ops->free(f);
    memdisk_free(d);
}

static void a_failed_sync_can_lose_writes_for_good(void **state)
{
    (void)state;
    static char bytes[64 * MEMDISK_SECTOR_BYTES];
    struct memdisk *d = disk_new(true, 0);
    struct files *f = folder(d);
    struct files_handle *h = create(f, "f");
    memset(bytes, 'o', sizeof bytes);
    OK(f->ops->write(h, 0, slice_of(bytes, sizeof bytes)));
    OK(f->ops->sync_dir(f));
    OK(f->ops->sync(h));
    memset(bytes, 'n', sizeof bytes);
    OK(f->ops->write(h, 0, slice_of(bytes, sizeof bytes)));
    memdisk_faults_set(d, &(struct memdisk_faults){.of[MEMDISK_SYNC].error_nth = 1, .sync_error_forgets = true});
    assert_int_equal(f->ops->sync(h), HKV_E_DISK);
    OK(f->ops->sync(h));
    f->ops->close(h);
    int counts[3];
    count_sectors(d, &keep_all, counts);
    assert_true(counts[0] > 8 && counts[1] > 8 && counts[2] == 0);
    f->ops->free(f);
    memdisk_free(d);
}

static void count_time(void *arg, uint64_t us)
{
    *(uint64_t *)arg += us;
}

static void a_slow_disk_reports_time_and_waits_do_not_sleep(void **state)
{
    (void)state;
    struct memdisk *d = NULL;
    uint64_t spent = 0;
    OK(memdisk_new(&(struct memdisk_config){.capacity_bytes = CAPACITY, .spent = count_time, .arg = &spent}, &d));
    memdisk_faults_set(d, &(struct memdisk_faults){.of = {{.cost_us = 1}, {.cost_us = 100}, {.cost_us = 10000}}});
    struct files *f = folder(d);
    struct files_handle *h = create(f, "f");
    char byte;
    size_t got;
    OK(f->ops->write(h, 0, slice_of_text("x")));
    OK(f->ops->sync(h));
    OK(f->ops->read(h, 0, &byte, 1, &got));
    assert_int_equal(spent, 10101);
    f->ops->close(h);
    f->ops->free(f);
    sqlite3 *a = sql_open(d);
    sqlite3 *b = sql_open(d);
    sql_create(a);
    sql(a, "BEGIN IMMEDIATE");
    spent = 0;
    assert_int_equal(sql_try(b, "BEGIN IMMEDIATE"), SQLITE_BUSY);
    assert_true(spent >= 9000000);
    sqlite3_close(b);
    sqlite3_close(a);
    memdisk_free(d);
}

static void bits_flip_at_rest(void **state)
{
    (void)state;
    struct memdisk *d = disk_new(true, 3);
    struct files *f = folder(d);
    struct files_handle *h = create(f, "f");
    uint64_t bit;
    assert_int_equal(memdisk_flip_any_bit(d, "blobs/f", &bit), HKV_E_NOT_FOUND);
    OK(f->ops->write(h, 0, slice_of_text("abc")));
    OK(f->ops->sync(h));
    OK(f->ops->sync_dir(f));
    f->ops->close(h);
    OK(memdisk_flip_bit(d, "blobs/f", 8 + 1));
    assert_string_equal(bytes_of(f, "f"), "a`c");
    OK(memdisk_flip_any_bit(d, "blobs/f", &bit));
    assert_true(bit < 24);
    OK(memdisk_flip_bit(d, "blobs/f", bit));
    assert_string_equal(bytes_of(f, "f"), "a`c");
    assert_int_equal(memdisk_flip_bit(d, "blobs/f", 24), HKV_E_NOT_FOUND);
    assert_int_equal(memdisk_flip_bit(d, "blobs/g", 0), HKV_E_NOT_FOUND);
    f->ops->free(f);
    OK(memdisk_crash(d, &drop_all));
    f = folder(d);
    assert_string_equal(bytes_of(f, "f"), "a`c");
    f->ops->free(f);
    memdisk_free(d);
}

/* A run of everything by chance, and the hash of what it leaves. */
static struct hash random_run(uint64_t seed)
{
    struct memdisk *d = disk_new(true, seed);
    struct files *f = folder(d);
    struct files_handle *h = create(f, "f");
    struct hash digest;
    OK(f->ops->sync_dir(f));
    memdisk_faults_set(
        d, &(struct memdisk_faults){
               .of = {{.errors_per_million = 100000}, {.errors_per_million = 100000}, {.errors_per_million = 300000}},
               .sync_error_forgets = true});
    for (uint64_t i = 0; i < 200; i++) {
        uint8_t bytes[700];
        memset(bytes, (int)i, sizeof bytes);
        (void)!f->ops->write(h, i * 331 % 20000, slice_of(bytes, sizeof bytes));
        if (i % 7 == 0) (void)!f->ops->sync(h);
    }
    OK(memdisk_crash(d, &(struct memdisk_cut){.seed = seed, .keep_percent = 50, .tear_percent = 25}));
    OK(memdisk_digest(d, &digest));
    f->ops->close(h);
    f->ops->free(f);
    memdisk_free(d);
    return digest;
}

static void the_same_seed_gives_the_same(void **state)
{
    (void)state;
    struct hash first = random_run(1), again = random_run(1), other = random_run(2);
    assert_memory_equal(&first, &again, sizeof first);
    assert_memory_not_equal(&first, &other, sizeof first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_are_created_written_renamed_listed_and_removed),
        TEST(a_listing_shows_every_name_once_while_the_visitor_removes_them),
        TEST(sqlite_works_in_wal_mode_on_several_disks_at_once),
        TEST(sqlite_locks_keep_writers_apart_with_a_rollback_journal),
        TEST(a_power_cut_keeps_what_was_synced_and_may_lose_the_rest),
        TEST(names_wait_for_the_sync_of_their_folder),
        TEST(sectors_are_kept_dropped_and_torn_each_on_its_own),
        TEST(sqlite_cuts_a_torn_transaction_off_and_keeps_those_that_were_synced),
        TEST(a_full_disk_refuses_what_needs_room_and_heals),
        TEST(the_nth_operation_fails_once),
        TEST(a_failed_sync_can_lose_writes_for_good),
        TEST(a_slow_disk_reports_time_and_waits_do_not_sleep),
        TEST(bits_flip_at_rest),
        TEST(the_same_seed_gives_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
