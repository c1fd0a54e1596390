/* Random damage to what follows from entries and values (runs, keys, references, counters, indexes): one check with its
 * repairs, and the store gives the same answers as before, with every invariant in place. */
#include "fixture/kv_store.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "crypto/blake3.h"
#include "kv/check.h"
#include "random.h"

#define ROUNDS  6
#define WRITES  400
#define DAMAGES 4

/* What a waiting key shows is remembered nowhere else: it is no derived data. */
#define PLAIN "(SELECT key FROM key WHERE awaited IS NULL ORDER BY random() LIMIT 1)"

static const char *const damages[] = {
    "UPDATE span SET count = count + 1 WHERE first = (SELECT first FROM span ORDER BY random() LIMIT 1)",
    "UPDATE span SET fingerprints = zeroblob(32) WHERE first = (SELECT first FROM span ORDER BY random() LIMIT 1)",
    "UPDATE span SET fingerprints = x'00' WHERE first = (SELECT first FROM span ORDER BY random() LIMIT 1)",
    "UPDATE span SET first = CAST(first || x'07' AS BLOB) WHERE first = (SELECT first FROM span ORDER BY random() "
    "LIMIT 1)",
    "DELETE FROM span WHERE first = (SELECT first FROM span ORDER BY random() LIMIT 1)",
    "DELETE FROM span",
    "INSERT OR IGNORE INTO span VALUES (randomblob(3), 5, randomblob(32))",
    "UPDATE key SET value = value + 1 WHERE key = " PLAIN,
    "UPDATE key SET value = 1 WHERE key = " PLAIN,
    "UPDATE key SET value = 99999 WHERE key = " PLAIN,
    "UPDATE key SET value = NULL WHERE key = " PLAIN,
    "UPDATE key SET stamp_us = stamp_us + 1 WHERE key = " PLAIN,
    "UPDATE key SET author = author + 1 WHERE key = " PLAIN,
    "UPDATE key SET author = 99 WHERE key = " PLAIN,
    "UPDATE key SET awaited = value WHERE key = " PLAIN,
    "UPDATE key SET awaited = 5 WHERE key = " PLAIN,
    "UPDATE key SET expires_us = 5 WHERE key = " PLAIN,
    "UPDATE key SET expires_us = NULL WHERE key = " PLAIN,
    "UPDATE key SET kind = 1 - kind WHERE key = " PLAIN,
    /* Of a value that does expire, only this says whether it was announced. */
    "UPDATE key SET kind = 3 WHERE key = (SELECT key FROM key WHERE awaited IS NULL AND expires_us IS NULL ORDER BY "
    "random() LIMIT 1)",
    "UPDATE key SET kind = NULL WHERE key = " PLAIN,
    "DELETE FROM key WHERE key = " PLAIN,
    "INSERT OR IGNORE INTO key (key) VALUES (x'7a7a00')",
    "INSERT OR IGNORE INTO key VALUES (x'7a7a00', 5, 1, 3, 0, 7, NULL)",
    "INSERT OR IGNORE INTO waiting SELECT value, x'7a7a00', 5, 1 FROM place ORDER BY random() LIMIT 1",
    "INSERT OR IGNORE INTO waiting SELECT 5, key, 7, 1 FROM key ORDER BY random() LIMIT 1",
    "UPDATE waiting SET top_us = top_us + 1 WHERE key = (SELECT key FROM waiting ORDER BY random() LIMIT 1)",
    "DELETE FROM waiting WHERE key = (SELECT key FROM waiting ORDER BY random() LIMIT 1)",
    "UPDATE value SET refs = refs + 1 WHERE id = (SELECT id FROM value WHERE id > 2 ORDER BY random() LIMIT 1)",
    "UPDATE value SET refs = refs - 1 WHERE id = (SELECT id FROM value WHERE id > 2 ORDER BY random() LIMIT 1)",
    "UPDATE value SET refs = 0, freed_us = 1 WHERE id = (SELECT id FROM value WHERE id > 2 ORDER BY random() LIMIT 1)",
    "UPDATE value SET freed_us = 1 WHERE id = (SELECT id FROM value WHERE id > 2 ORDER BY random() LIMIT 1)",
    "UPDATE value SET kind = 1 WHERE id = (SELECT id FROM value WHERE state = 1 ORDER BY random() LIMIT 1)",
    "UPDATE value SET skip = 1 WHERE id = (SELECT id FROM value WHERE state = 1 ORDER BY random() LIMIT 1)",
    "UPDATE value SET length = length + 1 WHERE id = (SELECT id FROM value WHERE state = 1 ORDER BY random() LIMIT 1)",
    "UPDATE value SET expires_us = 9 WHERE id = (SELECT id FROM value WHERE state = 1 ORDER BY random() LIMIT 1)",
    "UPDATE value SET state = 7 WHERE id = (SELECT id FROM value ORDER BY random() LIMIT 1)",
    "UPDATE value SET bytes = x'00' WHERE id = (SELECT id FROM value WHERE id < 3 ORDER BY random() LIMIT 1)",
    "DELETE FROM value WHERE id = 2 AND NOT EXISTS (SELECT 1 FROM place WHERE value = 2)",
    "INSERT INTO entry (signed) SELECT signed FROM entry ORDER BY random() LIMIT 1",
    "UPDATE party SET newest_us = 0 WHERE number = (SELECT number FROM party ORDER BY random() LIMIT 1)",
    "UPDATE meta SET value = CAST(substr(value, 1, 8) || zeroblob(48) || substr(value, 57) AS BLOB) WHERE name = "
    "'kv/counters'",
    "UPDATE meta SET value = x'00' WHERE name = 'kv/check'",
};

struct world {
    struct fixture *f;
    struct random r;
    struct buf before;
    struct kv_counts counts;
};

static enum hkv_err accept(const struct entry *e)
{
    (void)e;
    return HKV_OK;
}

static struct slice content_of(unsigned n)
{
    static char text[64];
    if (n % 7 == 0) return slice_of(kv_tombstone_content, sizeof kv_tombstone_content);
    if (n % 11 == 0) return slice_of("\xf1\x68\x6b\x76\x02\x00\x07\x0a\x24\x18\x1e\x40\x00 later", 19);
    snprintf(text, sizeof text, "content %u", n % 97);
    return slice_of_text(text);
}

static void write_something(struct world *w, unsigned step)
{
    static const char authors[] = {'t', 'u', 'v'};
    char key[16];
    struct kv_write write = {0};
    unsigned n = (unsigned)random_below(&w->r, 1000);
    struct slice content = content_of(n);
    snprintf(key, sizeof key, "%s%u", n % 3 == 0 ? "dir/" : "", (unsigned)random_below(&w->r, 250));
    if (random_below(&w->r, 2) == 0) {
        OK(fixture_write(w->f, fixture_key(key), content, &write));
        return;
    }
    struct entry e = fixture_entry(w->f, authors[random_below(&w->r, 3)], fixture_key(key),
                                   FIXTURE_NOW_US + 1000 * step + random_below(&w->r, 1000), content);
    (void)fixture_receive(w->f, &e);
    if (random_below(&w->r, 3) == 0) return; /* its value stays missing */
    OK(kv_begin(w->f->kv));
    OK(kv_value_arrived(w->f->kv, &e.record.hash, content, NULL));
    OK(kv_commit(w->f->kv));
}

static bool add_item(void *arg, struct kv_item *item)
{
    struct buf *out = arg;
    OK(buf_append_slice(out, buf_slice(&item->key)));
    OK(buf_append(out, &item->version, sizeof item->version));
    OK(buf_append_slice(out, buf_slice(&item->value)));
    OK(buf_append(out, &item->expires_us, sizeof item->expires_us));
    return true;
}

static void answers(struct fixture *f, struct buf *out, struct kv_counts *counts)
{
    buf_clear(out);
    OK(kv_list(f->kv, KV_KEY_USER, (struct slice){0}, (struct slice){0}, KV_WANT_VALUE, UINT64_MAX, add_item, out));
    kv_counts(f->kv, counts);
    counts->disk_bytes = counts->wal_bytes = counts->position = 0;
}

static void damage(struct world *w)
{
    char path[256];
    sqlite3 *db;
    kv_close(w->f->kv);
    snprintf(path, sizeof path, "%s/docs/store.db", w->f->dir);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, fixture_vfs(w->f)), SQLITE_OK);
    sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)random_below(&w->r, INT32_MAX) + 1, NULL);
    for (int i = 0; i < DAMAGES; i++) {
        const char *sql = damages[random_below(&w->r, sizeof damages / sizeof damages[0])];
        char *why = NULL;
        if (getenv("HKV_TRACE")) print_message("%s\n", sql);
        if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) fail_msg("%s: %s", sql, why);
    }
    sqlite3_close(db);
    fixture_open(w->f);
}

/* A pass with its repairs. */
static void check_and_repair(struct fixture *f, struct kv_check_report *report)
{
    struct kv_check *c;
    size_t removed;
    bool end = false;
    OK(kv_check_new(f->kv, true, &c));
    while (!end) {
        OK(kv_check_step(c, &end));
        OK(kv_begin(f->kv));
        OK(kv_check_apply(c));
        OK(kv_commit(f->kv));
        kv_check_applied(c);
    }
    if (kv_check_wants_rebuild(c)) OK(kv_rebuild(f->kv, c, &removed));
    kv_check_report(c, report);
    kv_check_free(c);
}

static void one_check_puts_derived_tables_right(void **state)
{
    struct world w = {.f = *state};
    struct kv_check_report report;
    struct buf after = {0};
    struct kv_counts counts;
    w.r = random_start("damage");
    w.f->config.verify = accept;
    fixture_reopen(w.f);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < WRITES; i++) write_something(&w, round * WRITES + i);
        answers(w.f, &w.before, &w.counts);
        check_and_repair(w.f, &report);
        for (int k = 0; k < KV_CHECK_KINDS; k++) assert_int_equal(report.kinds[k].bad, 0);
        damage(&w);
        check_and_repair(w.f, &report);
        fixture_check(w.f);
        answers(w.f, &after, &counts);
        assert_true(slice_equal(buf_slice(&after), buf_slice(&w.before)));
        assert_memory_equal(&counts, &w.counts, sizeof counts);
        check_and_repair(w.f, &report);
        for (int k = 0; k < KV_CHECK_KINDS; k++) assert_int_equal(report.kinds[k].bad, 0);
    }
    buf_fini(&w.before);
    buf_fini(&after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_check_puts_derived_tables_right, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
