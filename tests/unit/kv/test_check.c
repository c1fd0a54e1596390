/* The background check: what it finds, what becomes of it, and where it goes on. */
#include "fixture/kv_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "crypto/blake3.h"
#include "kv/check.h"
#include "kv/internal.h"

#define T          FIXTURE_NOW_US
#define LARGE      3000000 /* bytes: a file of several steps */
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static void damage(struct fixture *f, const char *sql)
{
    char path[256];
    char *why = NULL;
    sqlite3 *db;
    kv_close(f->kv);
    snprintf(path, sizeof path, "%s/docs/store.db", f->dir);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, fixture_vfs(f)), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) fail_msg("%s: %s", sql, why);
    assert_true(sqlite3_changes(db) > 0);
    sqlite3_close(db);
    fixture_open(f);
}

static void apply(struct fixture *f, struct kv_check *c)
{
    OK(kv_begin(f->kv));
    OK(kv_check_apply(c));
    OK(kv_commit(f->kv));
    kv_check_applied(c);
}

/* A whole pass with its repairs; *removed: entries. */
static struct kv_check_report check(struct fixture *f, bool fresh, size_t *removed)
{
    struct kv_check_report report;
    struct kv_check *c;
    bool end = false;
    OK(kv_check_new(f->kv, fresh, &c));
    *removed = 0;
    while (!end) {
        OK(kv_check_step(c, &end));
        if (kv_check_found(c)) apply(f, c);
    }
    if (kv_check_wants_rebuild(c)) OK(kv_rebuild(f->kv, c, removed));
    OK(kv_begin(f->kv));
    OK(kv_check_save(c));
    OK(kv_commit(f->kv));
    kv_check_report(c, &report);
    kv_check_free(c);
    return report;
}

static void assert_sound(struct fixture *f)
{
    size_t removed;
    struct kv_check_report report = check(f, true, &removed);
    assert_string_equal(report.first.text, "");
    for (int k = 0; k < KV_CHECK_KINDS; k++) assert_int_equal(report.kinds[k].bad, 0);
    fixture_check(f);
}

/* An entry as another node sends it, signed. */
static struct entry signed_entry(struct fixture *f, char letter, const char *key, uint64_t stamp_us,
                                 const char *content)
{
    struct kv_signer writer = fixture_writer(f, letter);
    struct entry e = fixture_entry(f, letter, fixture_key(key), stamp_us, slice_of_text(content));
    OK(entry_sign(&e, &writer.namespace_secret, &writer.author_secret));
    return e;
}

static void a_sound_store_is_found_sound_and_counted(void **state)
{
    struct fixture *f = *state;
    char key[16];
    size_t removed;
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "key %d", i);
        OK(fixture_put(f, key, i % 5 ? key : NULL));
    }
    struct kv_check_report report = check(f, true, &removed);
    assert_int_equal(report.kinds[KV_CHECK_ENTRY].checked, 300);
    assert_true(report.kinds[KV_CHECK_SPAN].checked >= 2);
    assert_true(report.kinds[KV_CHECK_INDEX].checked >= 300);
    assert_int_equal(report.kinds[KV_CHECK_VALUE].checked, 240 + 3);
    assert_int_equal(report.passes, 1);
    assert_int_equal(removed, 0);
    assert_sound(f);
}

static void a_value_with_other_bytes_goes_into_quarantine(void **state)
{
    struct fixture *f = *state;
    struct kv_item item;
    size_t removed;
    OK(fixture_put(f, "a", "good"));
    OK(fixture_put(f, "b", "other"));
    damage(f, "UPDATE value SET bytes = x'676f6f65' WHERE bytes = x'676f6f64'");
    struct kv_check_report report = check(f, false, &removed);
    assert_int_equal(report.kinds[KV_CHECK_VALUE].bad, 1);
    assert_non_null(strstr(report.first.text, "value"));
    assert_int_equal(kv_get(f->kv, fixture_key("a"), KV_WANT_VALUE, &item), HKV_E_CORRUPT);
    assert_string_equal(fixture_get(f, "b"), "other");
    fixture_check(f);
    /* Still bad in the next pass, and good when it came again. */
    assert_int_equal(check(f, false, &removed).kinds[KV_CHECK_VALUE].bad, 1);
    fixture_arrive(f, "good");
    assert_string_equal(fixture_get(f, "a"), "good");
    assert_sound(f);
}

static const uint8_t *large(void)
{
    static uint8_t bytes[LARGE];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7 % 251);
    return bytes;
}

static void put_large(struct fixture *f, const char *key, char path[512])
{
    struct buf outboard = {0};
    struct kv_write w = {0};
    struct slice content = slice_of(large(), LARGE);
    w.entry = fixture_entry(f, 's', fixture_key(key), 0, content);
    OK(kv_file_create(f->kv, &w.file));
    OK(kv_file_write(w.file, 0, content));
    OK(kv_file_seal(w.file, &w.entry.record.hash, LARGE, &outboard));
    kv_content_parse(content, LARGE, &w.parsed);
    OK(kv_propose_stamp(f->kv, w.entry.key, &w.entry.record.stamp_us));
    OK(entry_sign(&w.entry, &f->self.namespace_secret, &f->self.author_secret));
    OK(kv_begin(f->kv));
    OK(kv_write(f->kv, &w, &f->self));
    OK(kv_commit(f->kv));
    snprintf(path, 512, "%s/blobs/%s", f->dir, w.file->name);
    kv_file_free(w.file);
}

static void flip(const char *path, off_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void a_flipped_bit_in_a_file_is_found_and_one_that_flips_back_is_shown_again(void **state)
{
    struct fixture *f = *state;
    struct kv_item item;
    char path[512];
    size_t removed;
    put_large(f, "a", path);
    assert_sound(f);
    flip(path, 2500000);
    assert_int_equal(check(f, false, &removed).kinds[KV_CHECK_VALUE].bad, 1);
    assert_int_equal(kv_get(f->kv, fixture_key("a"), KV_WANT_VALUE, &item), HKV_E_CORRUPT);
    flip(path, 2500000);
    assert_int_equal(check(f, false, &removed).kinds[KV_CHECK_VALUE].repaired, 1);
    OK(kv_get(f->kv, fixture_key("a"), KV_WANT_VALUE, &item));
    kv_item_fini(&item);
    assert_sound(f);
}

static void a_file_that_is_gone_or_cut_is_a_bad_value(void **state)
{
    struct fixture *f = *state;
    char path[512];
    size_t removed;
    put_large(f, "a", path);
    assert_int_equal(truncate(path, LARGE / 2), 0);
    assert_int_equal(check(f, false, &removed).kinds[KV_CHECK_VALUE].bad, 1);
    OK(fixture_put(f, "a", "small"));
    put_large(f, "b", path);
    assert_int_equal(unlink(path), 0);
    struct kv_check_report report = check(f, false, &removed);
    assert_int_equal(report.kinds[KV_CHECK_VALUE].bad, 1);
    assert_non_null(strstr(report.first.text, "lost its file"));
    fixture_check(f);
}

static void an_entry_with_a_bad_signature_is_removed_and_taken_again(void **state)
{
    struct fixture *f = *state;
    struct kv_counts before, after;
    size_t removed;
    OK(fixture_put(f, "a", "ours"));
    struct entry e = signed_entry(f, 'x', "a", T + 1000000, "theirs");
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    fixture_arrive(f, "theirs");
    kv_counts(f->kv, &before);
    damage(f, "UPDATE entry SET signed = CAST(zeroblob(128) || x'06' AS BLOB) WHERE number = "
              "(SELECT entry FROM place WHERE stamp_us = 1700000001000000)");
    struct kv_check_report report = check(f, true, &removed);
    assert_int_equal(report.kinds[KV_CHECK_ENTRY].bad, 1);
    assert_int_equal(removed, 1);
    assert_string_equal(fixture_get(f, "a"), "ours");
    assert_sound(f);
    kv_counts(f->kv, &after);
    assert_int_equal(after.entries, 1);
    assert_memory_not_equal(&after.fingerprint, &before.fingerprint, sizeof after.fingerprint);
    /* A peer sends it again. */
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    kv_counts(f->kv, &after);
    assert_memory_equal(&after.fingerprint, &before.fingerprint, sizeof after.fingerprint);
    assert_string_equal(fixture_get(f, "a"), "theirs");
    assert_sound(f);
}

static void a_signature_is_looked_at_within_sixteen_passes(void **state)
{
    struct fixture *f = *state;
    size_t removed;
    uint64_t bad = 0;
    OK(fixture_put(f, "a", "ours"));
    damage(f, "UPDATE entry SET signed = CAST(zeroblob(128) || x'04' AS BLOB)");
    for (int i = 0; i < KV_CHECK_SIGNATURES; i++) bad += check(f, false, &removed).kinds[KV_CHECK_ENTRY].bad;
    assert_int_equal(bad, 1);
    assert_null(fixture_get(f, "a"));
    assert_sound(f);
}

static void an_entry_that_is_not_what_was_stored_is_removed(void **state)
{
    static const char *const damages[] = {
        "UPDATE place SET stamp_us = stamp_us + 1",
        "UPDATE entry SET signed = x'00'",
        "UPDATE place SET value = 1",
        "UPDATE value SET hash = randomblob(32) WHERE id > 2",
        "UPDATE value SET hash = x'00' WHERE id > 2",
        "UPDATE place SET key = x'6200'",
        "UPDATE place SET author = 99",
        "UPDATE party SET id = randomblob(32) WHERE number = (SELECT author FROM place)",
        "DELETE FROM value WHERE id > 2",
        "DELETE FROM place",
        "DELETE FROM entry",
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        size_t removed;
        OK(fixture_put(f, "a", "ours"));
        damage(f, damages[i]);
        (void)check(f, false, &removed);
        if (removed != 1) fail_msg("%s: %zu removed", damages[i], removed);
        assert_null(fixture_get(f, "a"));
        assert_sound(f);
    }
}

static void a_store_whose_runs_are_gone_opens_and_has_the_same_fingerprint(void **state)
{
    struct fixture *f = *state;
    struct kv_counts before, after;
    char key[16];
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "key %d", i);
        OK(fixture_put(f, key, key));
    }
    kv_counts(f->kv, &before);
    damage(f, "DELETE FROM span");
    kv_counts(f->kv, &after);
    assert_memory_equal(&after.fingerprint, &before.fingerprint, sizeof after.fingerprint);
    damage(f, "UPDATE span SET fingerprints = x'01'");
    kv_counts(f->kv, &after);
    assert_memory_equal(&after.fingerprint, &before.fingerprint, sizeof after.fingerprint);
    assert_sound(f);
}

static void a_check_goes_on_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct kv_check *c;
    struct kv_check_report report;
    char key[16];
    bool end;
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "key %d", i);
        OK(fixture_put(f, key, key));
    }
    OK(kv_check_new(f->kv, false, &c));
    for (int i = 0; i < 4; i++) OK(kv_check_step(c, &end)); /* all runs, and some keys */
    unsigned before = kv_check_permille(c);
    assert_true(before >= 400);
    OK(kv_begin(f->kv));
    OK(kv_check_save(c));
    OK(kv_commit(f->kv));
    kv_check_free(c);
    fixture_reopen(f);
    OK(kv_check_new(f->kv, false, &c));
    assert_int_equal(kv_check_permille(c), before);
    for (end = false; !end;) OK(kv_check_step(c, &end));
    kv_check_report(c, &report);
    assert_int_equal(report.kinds[KV_CHECK_ENTRY].checked, 0);
    assert_int_equal(report.passes, 1);
    kv_check_free(c);
}

static void writes_between_its_steps_are_no_damage(void **state)
{
    struct fixture *f = *state;
    struct kv_check *c;
    struct kv_check_report report;
    char key[16];
    bool end = false;
    OK(kv_check_new(f->kv, true, &c));
    for (int i = 0; i < 2000 || !end; i++) {
        snprintf(key, sizeof key, "key %d", i * 37 % 251);
        OK(fixture_put(f, key, i % 3 ? key : NULL));
        if (i % 40 == 0) OK(kv_check_step(c, &end));
    }
    kv_check_report(c, &report);
    for (int k = 0; k < KV_CHECK_KINDS; k++) assert_int_equal(report.kinds[k].bad, 0);
    kv_check_free(c);
    fixture_check(f);
}

/* Peers send it again, and nothing else can tell what it was. */
static void a_damaged_entry_that_waits_for_its_time_is_dropped_and_holds_up_nothing(void **state)
{
    static const char *const damages[] = {"UPDATE refused SET entry = x'00'", "UPDATE refused SET peer = x''"};
    struct fixture *f = *state;
    struct kv_counts counts;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        size_t inserted;
        uint64_t next_due_us;
        struct entry e = fixture_entry(f, 'x', fixture_key("early"), f->wall_us + KV_FUTURE_US + 1, slice_of_text("1"));
        assert_int_equal(fixture_receive(f, &e), DOCS_FUTURE);
        damage(f, damages[i]);
        f->wall_us += 1000000;
        OK(kv_begin(f->kv));
        OK(kv_refused_retry(f->kv, 10, &inserted, &next_due_us));
        OK(kv_commit(f->kv));
        assert_int_equal(inserted, 0);
        assert_int_equal(next_due_us, 0);
        kv_counts(f->kv, &counts);
        assert_int_equal(counts.entries_refused, 0);
    }
    fixture_check(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_sound_store_is_found_sound_and_counted),
        TEST(a_value_with_other_bytes_goes_into_quarantine),
        TEST(a_flipped_bit_in_a_file_is_found_and_one_that_flips_back_is_shown_again),
        TEST(a_file_that_is_gone_or_cut_is_a_bad_value),
        TEST(an_entry_with_a_bad_signature_is_removed_and_taken_again),
        TEST(a_signature_is_looked_at_within_sixteen_passes),
        TEST(an_entry_that_is_not_what_was_stored_is_removed),
        TEST(a_store_whose_runs_are_gone_opens_and_has_the_same_fingerprint),
        TEST(a_check_goes_on_after_a_restart),
        TEST(writes_between_its_steps_are_no_damage),
        TEST(a_damaged_entry_that_waits_for_its_time_is_dropped_and_holds_up_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
