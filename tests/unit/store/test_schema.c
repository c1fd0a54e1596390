/* The file itself: marks, versions, reserved bytes, and files that are not ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/schema.h"
#include "store/values.h"

static char folder[64];
static char path[80];

static void ok(enum hkv_err err)
{
    if (err != HKV_OK) fail_msg("%s: %s", error_name(err), error_last());
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/hkv-schema-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/store.db", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const tails[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < 4; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s%s", path, tails[i]);
        (void)unlink(name);
    }
    return rmdir(folder);
}

static enum hkv_err open_file(struct db *db, bool *created)
{
    enum hkv_err err =
        db_open(&(struct db_config){.path = path, .cache_bytes = 1 << 20, .writer = true, .full_sync = true}, db);
    return err == HKV_OK ? schema_open(db, created) : err;
}

static void a_new_file_carries_the_marks_of_this_version(void **state)
{
    (void)state;
    struct db db;
    bool created;
    int64_t number;
    uint8_t header[100];
    ok(open_file(&db, &created));
    assert_true(created);
    ok(db_integer(&db, "PRAGMA application_id", &number));
    assert_int_equal(number, SCHEMA_APPLICATION);
    ok(db_integer(&db, "PRAGMA user_version", &number));
    assert_int_equal(number, SCHEMA_VERSION);
    ok(db_integer(&db, "SELECT journal_mode = 'wal' FROM pragma_journal_mode", &number));
    assert_int_equal(number, 1);
    ok(db_integer(&db, "PRAGMA synchronous", &number));
    assert_int_equal(number, 2);
    ok(db_integer(&db, "PRAGMA secure_delete", &number));
    assert_int_equal(number, 0);
    db_close(&db);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, header, sizeof header), sizeof header);
    close(fd);
    assert_int_equal(header[16] << 8 | header[17], DB_PAGE_BYTES);
    assert_int_equal(header[20], DB_RESERVED_BYTES);
    ok(open_file(&db, &created));
    assert_false(created);
    db_close(&db);
}

static void every_statement_fits_the_tables(void **state)
{
    (void)state;
    struct db db;
    bool created;
    ok(open_file(&db, &created));
    for (int i = 0; i < SQL_COUNT; i++) {
        sqlite3_stmt *s;
        ok(db_statement(&db, (enum sql_id)i, &s));
    }
    db_close(&db);
}

/* Statements that must find their rows by an index. */
static void no_statement_of_a_single_row_walks_a_table(void **state)
{
    (void)state;
    struct db db;
    bool created;
    static const char *const walks[] = {"PEER_LIST", "SPAN_LIST", "REFUSED_LIST", "SPAN_CLEAR", "VALUE_SCAN"};
    static const struct {
        const char *name;
        const char *text;
    } all[] = {
#define SQL_PAIR(name, text) {#name, text},
        SQL_TABLE(SQL_PAIR)
#undef SQL_PAIR
    };
    ok(open_file(&db, &created));
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        sqlite3_stmt *s = NULL;
        char *text = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", all[i].text);
        /* A check and a rebuild look at everything. */
        bool may_walk = strncmp(all[i].name, "SUM_", 4) == 0 || strncmp(all[i].name, "MEND_", 5) == 0;
        for (size_t j = 0; j < sizeof walks / sizeof walks[0]; j++) may_walk |= strcmp(walks[j], all[i].name) == 0;
        assert_int_equal(sqlite3_prepare_v2(db.handle, text, -1, &s, NULL), SQLITE_OK);
        while (s && sqlite3_step(s) == SQLITE_ROW) {
            const char *plan = (const char *)sqlite3_column_text(s, 3);
            bool range = strstr(plan, "(rowid<?)") || strstr(plan, "(rowid>?)");
            if (range && strncmp(all[i].name, "CHANGE_", 7) != 0 && !may_walk) fail_msg("%s: %s", all[i].name, plan);
            bool walk = strncmp(plan, "SCAN", 4) == 0 && !strstr(plan, "USING INDEX") &&
                        !strstr(plan, "USING COVERING") && !strstr(plan, "subquery");
            if ((walk || strstr(plan, "TEMP B-TREE")) && !may_walk) fail_msg("%s: %s", all[i].name, plan);
        }
        sqlite3_finalize(s);
        sqlite3_free(text);
    }
    db_close(&db);
}

static void check_refusal(const char *other_version, const char *reason, const char *remedy)
{
    struct db db;
    bool created;
    ok(open_file(&db, &created));
    ok(db_exec(&db, other_version));
    db_close(&db);
    assert_int_equal(open_file(&db, &created), HKV_E_VERSION);
    assert_non_null(strstr(error_last(), reason));
    assert_non_null(strstr(error_last(), remedy));
    db_close(&db);
}

static void a_newer_file_is_refused_and_says_so(void **state)
{
    (void)state;
    check_refusal("PRAGMA user_version = 3", "written in form 3", "update it");
}

static void a_file_of_a_development_version_is_refused_with_the_remedy(void **state)
{
    (void)state;
    check_refusal("PRAGMA user_version = 1", "written in form 1 by a development version",
                  "move the folders docs and blobs of the data directory away");
}

static void another_programs_database_is_refused(void **state)
{
    (void)state;
    struct db db;
    bool created;
    ok(db_open(&(struct db_config){.path = path, .cache_bytes = 1 << 20, .writer = true}, &db));
    ok(db_exec(&db, "CREATE TABLE theirs (x)"));
    db_close(&db);
    assert_int_equal(open_file(&db, &created), HKV_E_CORRUPT);
    assert_non_null(strstr(error_last(), "another data directory"));
    db_close(&db);
}

static void a_file_that_is_no_database_is_refused(void **state)
{
    (void)state;
    struct db db;
    bool created;
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 500; i++) fputs("this is no database\n", file);
    fclose(file);
    assert_int_equal(open_file(&db, &created), HKV_E_CORRUPT);
    db_close(&db);
}

static void the_constants_are_there_and_stay_when_emptied(void **state)
{
    (void)state;
    struct db db;
    bool created, found;
    struct value_row row;
    ok(open_file(&db, &created));
    for (int i = 0; i < 2; i++) {
        ok(values_get(&db, VALUE_NOTHING, &row, &found));
        assert_true(found && row.length == 0 && hash_equal(&row.hash, &hash_empty));
        ok(values_get(&db, VALUE_TOMBSTONE, &row, &found));
        assert_true(found && row.length == 5 && row.kind == 1 && row.state == VALUE_PRESENT);
        ok(values_get(&db, VALUE_EMPTY, &row, &found));
        assert_true(found && row.length == 5 && row.kind == 0 && row.skip == 5);
        ok(schema_empty(&db));
    }
    db_close(&db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_file_carries_the_marks_of_this_version, setup, teardown),
        cmocka_unit_test_setup_teardown(every_statement_fits_the_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(no_statement_of_a_single_row_walks_a_table, setup, teardown),
        cmocka_unit_test_setup_teardown(a_newer_file_is_refused_and_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_of_a_development_version_is_refused_with_the_remedy, setup, teardown),
        cmocka_unit_test_setup_teardown(another_programs_database_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_database_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_constants_are_there_and_stay_when_emptied, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
