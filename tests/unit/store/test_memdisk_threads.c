/* Several threads on one disk in memory: SQLite's connections with their locks and shared memory, and value files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/memdisk.h"

#define WRITERS      2
#define READERS      3
#define TRANSACTIONS 100
#define FILES        100

struct shared {
    struct memdisk *disk;
    struct files *files;
    atomic_int writing;
    atomic_int failures;
};

static sqlite3 *sql_open(struct shared *all)
{
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2("docs/t.db", &db, flags, memdisk_vfs(all->disk)) != SQLITE_OK) all->failures++;
    sqlite3_busy_timeout(db, 60000);
    return db;
}

static void sql(struct shared *all, sqlite3 *db, const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK) return;
    print_error("%s: %s\n", text, sqlite3_errmsg(db));
    all->failures++;
}

static int sql_int(struct shared *all, sqlite3 *db, const char *text)
{
    sqlite3_stmt *s = NULL;
    int n = -1;
    if (sqlite3_prepare_v2(db, text, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        n = sqlite3_column_int(s, 0);
    else
        all->failures++;
    sqlite3_finalize(s);
    return n;
}

/* Moves one from each account to the other, so that the sum stays. */
static void *write_rows(void *arg)
{
    struct shared *all = arg;
    sqlite3 *db = sql_open(all);
    sql(all, db, "PRAGMA synchronous=FULL");
    for (int i = 0; i < TRANSACTIONS; i++) {
        sql(all, db,
            "BEGIN IMMEDIATE; UPDATE t SET n = n - 1, v = randomblob(3000) WHERE k = 1;"
            "UPDATE t SET n = n + 1 WHERE k = 2; UPDATE t SET n = n + 1 WHERE k = 3; COMMIT");
        if (i % 25 == 0) (void)sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    }
    sqlite3_close(db);
    all->writing--;
    return NULL;
}

static void *read_rows(void *arg)
{
    struct shared *all = arg;
    for (bool last = false; !last;) {
        last = all->writing == 0;
        sqlite3 *db = sql_open(all);
        for (int i = 0; i < 20; i++)
            if (sql_int(all, db, "SELECT sum(n) FROM t WHERE k <= 2") != 0) all->failures++;
        sqlite3_close(db);
    }
    return NULL;
}

static void *write_files(void *arg)
{
    struct shared *all = arg;
    const struct files_ops *ops = all->files->ops;
    for (int i = 0; i < FILES; i++) {
        struct files_handle *h;
        char from[32], to[32], bytes[64];
        int fd;
        snprintf(from, sizeof from, "tmp-%p-%d", (void *)&h, i);
        snprintf(to, sizeof to, "end-%p-%d", (void *)&h, i);
        if (ops->create(all->files, from, &h) != HKV_OK) {
            all->failures++;
            continue;
        }
        if (ops->write(h, 4090, slice_of_text("a value")) != HKV_OK || ops->sync(h) != HKV_OK) all->failures++;
        ops->close(h);
        if (ops->rename(all->files, from, to) != HKV_OK || ops->sync_dir(all->files) != HKV_OK) all->failures++;
        if (ops->open_fd(all->files, to, &fd) == HKV_OK) {
            if (pread(fd, bytes, sizeof bytes, 4090) != 7 || memcmp(bytes, "a value", 7) != 0) all->failures++;
            files_close_fd(fd);
        } else {
            all->failures++;
        }
        if (i % 2 && ops->unlink(all->files, to) != HKV_OK) all->failures++;
    }
    return NULL;
}

static void connections_and_files_of_many_threads_share_a_disk(void **state)
{
    (void)state;
    struct shared all = {.writing = WRITERS};
    pthread_t threads[WRITERS + READERS + 2];
    size_t count = 0;
    struct memdisk_config config = {.capacity_bytes = 64 << 20, .forgetful = true};
    assert_int_equal(memdisk_new(&config, &all.disk), HKV_OK);
    assert_int_equal(memdisk_files(all.disk, "blobs", &all.files), HKV_OK);
    sqlite3 *db = sql_open(&all);
    sql(&all, db,
        "PRAGMA journal_mode=WAL; CREATE TABLE t(k INTEGER PRIMARY KEY, n INTEGER, v BLOB);"
        "INSERT INTO t VALUES(1, 0, 0), (2, 0, 0), (3, 0, 0)");
    for (int i = 0; i < WRITERS; i++) assert_int_equal(pthread_create(&threads[count++], NULL, write_rows, &all), 0);
    for (int i = 0; i < READERS; i++) assert_int_equal(pthread_create(&threads[count++], NULL, read_rows, &all), 0);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[count++], NULL, write_files, &all), 0);
    for (size_t i = 0; i < count; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(all.failures, 0);
    assert_int_equal(sql_int(&all, db, "SELECT n FROM t WHERE k = 3"), WRITERS * TRANSACTIONS);
    assert_int_equal(sql_int(&all, db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
    sqlite3_close(db);
    all.files->ops->free(all.files);
    memdisk_free(all.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_and_files_of_many_threads_share_a_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
