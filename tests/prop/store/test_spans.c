/* Runs of fingerprints against a full walk: random changes, sums, selections, undo to marks, commits, reading again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "random.h"
#include "store/entries.h"
#include "store/schema.h"
#include "store/spans.h"

#define IDS_MAX     6000
#define ID_MAX      (ID_BYTES + 48)
#define AUTHORS     3
#define PARTIES     8 /* the others have no entries */
#define HASHES      32
#define FIRST_VALUE VALUE_FIRST

struct item {
    uint8_t id[ID_MAX];
    size_t len;
    uint64_t number;
    uint64_t stamp_us;
    uint64_t value;
    struct fingerprint print;
};

struct world {
    struct db db;
    struct spans *spans;
    struct random r;
    struct item items[IDS_MAX]; /* sorted */
    size_t count;
    int style;
    struct namespace_id namespace;
    struct author_id parties[PARTIES]; /* by number, from 1 on */
    struct hash hashes[HASHES];        /* of the values from FIRST_VALUE on */
};

static void ok(enum hkv_err err)
{
    if (err != HKV_OK) fail_msg("%s: %s", error_name(err), error_last());
}

static struct slice id_of(const struct item *item)
{
    return slice_of(item->id, item->len);
}

static size_t place(const struct world *w, struct slice id)
{
    size_t low = 0, high = w->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (slice_compare(id_of(&w->items[middle]), id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Keys of several shapes: dense, with long common beginnings, rising, falling. */
static size_t random_key(struct world *w, uint8_t *out)
{
    uint64_t n = random_u64(&w->r);
    switch (w->style) {
    case 0: /* everywhere */
        random_fill(&w->r, out, 1 + n % 6);
        return 1 + n % 6;
    case 1: /* a long common beginning */
        be64_store(out + 32, n % 4096);
        return 40;
    case 2: /* rising */
        be64_store(out + 12, w->count * 8 + n % 8);
        return 20;
    default: /* falling */
        be64_store(out + 12, UINT64_MAX - w->count * 8 - n % 8);
        return 20;
    }
}

static void random_item(struct world *w, struct item *out)
{
    /* Rising and falling ids all over are those of one author. */
    size_t author = w->style >= 2 ? 0 : random_below(&w->r, AUTHORS);
    memset(out, 0, sizeof *out);
    memset(out->id, 'p', sizeof out->id);
    memcpy(out->id, w->parties[author].bytes, ID_BYTES);
    out->len = ID_BYTES + random_key(w, out->id + ID_BYTES);
    out->stamp_us = random_u64(&w->r) >> 2;
    out->value = FIRST_VALUE + random_below(&w->r, HASHES);
}

static struct entry_row row_of(const struct world *w, const struct item *item)
{
    struct entry_row row = {
        .number = item->number,
        .key = slice_part(id_of(item), ID_BYTES, item->len),
        .record = {.length_bytes = item->value, .stamp_us = item->stamp_us},
        .value = item->value,
    };
    memcpy(row.author.bytes, item->id, ID_BYTES);
    row.record.hash = w->hashes[item->value - FIRST_VALUE];
    return row;
}

static uint64_t author_number(const struct world *w, const struct item *item)
{
    uint64_t number = 1;
    while (memcmp(w->parties[number - 1].bytes, item->id, ID_BYTES) != 0) number++;
    return number;
}

static void put(struct world *w)
{
    struct item item;
    random_item(w, &item);
    size_t at = place(w, id_of(&item));
    bool exists = at < w->count && slice_equal(id_of(&w->items[at]), id_of(&item));
    if (!exists && w->count == IDS_MAX) return;
    if (exists) item.number = w->items[at].number;
    struct entry_row row = row_of(w, &item);
    ok(exists ? entries_change(&w->db, &row) : entries_add(&w->db, author_number(w, &item), &row));
    item.number = row.number;
    entries_fingerprint(&w->namespace, &row, &item.print);
    struct fingerprint change = item.print;
    if (exists) {
        fingerprint_xor(&change, &w->items[at].print);
    } else {
        memmove(w->items + at + 1, w->items + at, (w->count - at) * sizeof item);
        w->count++;
    }
    w->items[at] = item;
    ok(spans_change(w->spans, id_of(&item), exists ? 0 : 1, &change));
}

static void take(struct world *w, size_t at)
{
    struct item item = w->items[at];
    struct entry_row row = row_of(w, &item);
    ok(entries_remove(&w->db, &row));
    w->count--;
    memmove(w->items + at, w->items + at + 1, (w->count - at) * sizeof item);
    ok(spans_change(w->spans, id_of(&item), -1, &item.print));
}

static void change(struct world *w)
{
    size_t kind = random_below(&w->r, 40);
    if (kind < 26) {
        for (size_t n = random_below(&w->r, 30); n > 0; n--) put(w);
    } else if (kind < 38 && w->count > 0) {
        take(w, random_below(&w->r, w->count));
    } else if (w->count > 0) {
        /* as a prefix removes: a stretch of neighbours */
        size_t at = random_below(&w->r, w->count);
        for (size_t n = random_below(&w->r, 700); n > 0 && at < w->count; n--) take(w, at);
    }
}

static void sum_items(const struct world *w, size_t from, size_t to, struct span_sum *out)
{
    *out = (struct span_sum){.count = to - from};
    for (size_t i = from; i < to; i++) fingerprint_xor(&out->xored, &w->items[i].print);
}

static void check(struct world *w)
{
    struct span_sum got, expected;
    struct buf id = {0};
    spans_total(w->spans, &got);
    sum_items(w, 0, w->count, &expected);
    assert_int_equal(got.count, expected.count);
    assert_memory_equal(&got.xored, &expected.xored, sizeof got.xored);
    for (int i = 0; i < 20; i++) {
        struct item a, b;
        random_item(w, &a);
        random_item(w, &b);
        if (i % 2 && w->count > 0) a = w->items[random_below(&w->r, w->count)];
        if (i % 5 == 4) b.len = 1 + random_below(&w->r, b.len); /* a bound may be any string */
        if (slice_compare(id_of(&a), id_of(&b)) > 0) {
            struct item t = a;
            a = b;
            b = t;
        }
        size_t from = i == 0 ? 0 : place(w, id_of(&a));
        size_t to = i == 1 ? w->count : place(w, id_of(&b));
        if (to < from) to = from;
        ok(spans_sum(w->spans, i == 0 ? (struct slice){0} : id_of(&a), i == 1 ? (struct slice){0} : id_of(&b), &got));
        sum_items(w, from, to, &expected);
        if (got.count != expected.count)
            fail_msg("%ju entries, should be %ju", (uintmax_t)got.count, (uintmax_t)expected.count);
        assert_memory_equal(&got.xored, &expected.xored, sizeof got.xored);
        size_t rank = random_below(&w->r, w->count + 2);
        buf_clear(&id);
        enum hkv_err err = spans_select(w->spans, id_of(&a), rank, &id);
        size_t at = place(w, id_of(&a)) + rank;
        assert_int_equal(err, at < w->count ? HKV_OK : HKV_E_NOT_FOUND);
        if (err == HKV_OK) assert_true(slice_equal(buf_slice(&id), id_of(&w->items[at])));
    }
    buf_fini(&id);
}

/* A transaction with a part that is taken back, and a whole that sometimes is. */
static void transaction(struct world *w)
{
    struct world *before = malloc(sizeof *before);
    struct world *part = malloc(sizeof *part);
    assert_true(before && part);
    memcpy(before, w, sizeof *w);
    ok(db_exec(&w->db, "BEGIN"));
    change(w);
    memcpy(part, w, sizeof *w);
    size_t mark = spans_mark(w->spans);
    ok(db_exec(&w->db, "SAVEPOINT p"));
    change(w);
    check(w);
    if (random_below(&w->r, 3) == 0) {
        ok(db_exec(&w->db, "ROLLBACK TO p; RELEASE p"));
        spans_undo(w->spans, mark);
        memcpy(w->items, part->items, sizeof w->items);
        w->count = part->count;
    } else {
        ok(db_exec(&w->db, "RELEASE p"));
    }
    check(w);
    change(w);
    if (random_below(&w->r, 6) == 0) {
        ok(db_exec(&w->db, "ROLLBACK"));
        spans_rolled_back(w->spans);
        memcpy(w->items, before->items, sizeof w->items);
        w->count = before->count;
    } else {
        ok(spans_flush(w->spans));
        ok(db_exec(&w->db, "COMMIT"));
        spans_committed(w->spans);
    }
    check(w);
    free(before);
    free(part);
}

/* Values and parties; authors are some of the parties. */
static void fill_tables(struct world *w)
{
    random_fill(&w->r, w->namespace.bytes, ID_BYTES);
    for (size_t i = 0; i < HASHES; i++) {
        struct value_row row = {.id = FIRST_VALUE + i, .refs = 1, .state = VALUE_PRESENT};
        random_fill(&w->r, row.hash.bytes, ID_BYTES);
        w->hashes[i] = row.hash;
        ok(values_add(&w->db, &row, &(struct value_body){0}));
    }
    for (size_t i = 0; i < PARTIES; i++) {
        sqlite3_stmt *s;
        random_fill(&w->r, w->parties[i].bytes, ID_BYTES);
        ok(db_statement(&w->db, SQL_PARTY_ADD, &s));
        db_bind_id(s, 1, w->parties[i].bytes);
        ok(db_run(&w->db, s));
    }
}

static void world_open(struct world *w, const char *path, int style)
{
    bool created;
    ok(db_open(&(struct db_config){.path = path, .cache_bytes = 8 << 20, .writer = true}, &w->db));
    ok(schema_open(&w->db, &created));
    fill_tables(w);
    ok(spans_open(&w->db, &w->namespace, &w->spans));
    w->style = style;
}

static void run_style(int style, struct random *r)
{
    char path[] = "/tmp/hkv-spans-XXXXXX";
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    w->r = *r;
    world_open(w, path, style);
    for (int i = 0; i < 120; i++) {
        transaction(w);
        if (i % 10 != 9) continue;
        size_t runs = spans_runs(w->spans);
        spans_free(w->spans);
        ok(spans_open(&w->db, &w->namespace, &w->spans));
        assert_int_equal(spans_runs(w->spans), runs);
        check(w);
    }
    *r = w->r;
    spans_free(w->spans);
    db_close(&w->db);
    for (int i = 0; i < 3; i++) {
        static const char *const tails[] = {"", "-wal", "-shm"};
        char name[64];
        snprintf(name, sizeof name, "%s%s", path, tails[i]);
        (void)unlink(name);
    }
    free(w);
}

static void spans_equal_a_full_walk(void **state)
{
    struct random r = random_start("spans against a walk");
    (void)state;
    for (int style = 0; style < 4; style++) run_style(style, &r);
}

/* Sorted loading fills runs; a start reads at most one row for 64 entries. */
static void runs_are_long_after_loading_in_order(void **state)
{
    (void)state;
    char path[] = "/tmp/hkv-spans-XXXXXX";
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    close(mkstemp(path));
    w->r = (struct random){1};
    world_open(w, path, 2);
    ok(db_exec(&w->db, "BEGIN"));
    while (w->count < IDS_MAX) put(w);
    ok(spans_flush(w->spans));
    ok(db_exec(&w->db, "COMMIT"));
    spans_committed(w->spans);
    assert_true(spans_runs(w->spans) <= IDS_MAX / SPAN_RUN_MIN);
    check(w);
    bool agree;
    ok(spans_agree(w->spans, &agree));
    assert_true(agree);
    ok(db_exec(&w->db, "UPDATE span SET count = count + 1 WHERE first = (SELECT max(first) FROM span)"));
    ok(spans_agree(w->spans, &agree));
    assert_false(agree);
    ok(db_exec(&w->db, "DELETE FROM span WHERE first = (SELECT max(first) FROM span)"));
    ok(spans_agree(w->spans, &agree));
    assert_false(agree);
    spans_free(w->spans);
    db_close(&w->db);
    (void)unlink(path);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_equal_a_full_walk),
        cmocka_unit_test(runs_are_long_after_loading_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
