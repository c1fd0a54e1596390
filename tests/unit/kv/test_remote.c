/* Received entries: the strict insert rule (wire/docs.md 3.3), hostile ones (section 10), pieces of the set. */
#include "fixture/kv_store.h"

#include <stdio.h>
#include <stdlib.h>

#include "kv/internal.h"

#define T          FIXTURE_NOW_US
#define S          ((uint64_t)1000000)
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static struct entry entry(struct fixture *f, char author, const char *key, uint64_t stamp_us, const char *content)
{
    return fixture_entry(f, author, slice_of_text(key), stamp_us, slice_of_text(content));
}

static enum docs_insert receive(struct fixture *f, char author, const char *key, uint64_t stamp_us, const char *content)
{
    struct entry e = entry(f, author, key, stamp_us, content);
    return fixture_receive(f, &e);
}

static uint64_t entries(struct fixture *f)
{
    struct kv_counts counts;
    kv_counts(f->kv, &counts);
    return counts.entries;
}

static void the_record_order_decides_within_one_author(void **state)
{
    struct fixture *f = *state;
    struct entry one = entry(f, 'x', "k", T, "one");
    struct entry two = entry(f, 'x', "k", T, "two");
    bool one_is_less = record_compare(&one.record, &two.record) < 0;
    struct entry *less = one_is_less ? &one : &two;
    struct entry *more = one_is_less ? &two : &one;
    assert_int_equal(fixture_receive(f, less), DOCS_INSERTED);
    assert_int_equal(fixture_receive(f, less), DOCS_PRESENT);
    assert_int_equal(fixture_receive(f, more), DOCS_INSERTED);
    assert_int_equal(fixture_receive(f, less), DOCS_OLDER);
    assert_int_equal(fixture_receive(f, more), DOCS_PRESENT);
    assert_int_equal(receive(f, 'x', "k", T - 1, "older"), DOCS_OLDER);
    assert_int_equal(entries(f), 1);
    fixture_check(f);
}

static void a_newer_parent_dominates_and_is_named(void **state)
{
    struct fixture *f = *state;
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_origin origin = {.peer = {{7}}};
    struct buf key = {0};
    struct entry parent;
    enum docs_insert out;
    assert_int_equal(receive(f, 'x', "fo", T + 10, "parent"), DOCS_INSERTED);
    assert_int_equal(receive(f, 'x', "foz", T + 20, "newer child"), DOCS_INSERTED);
    assert_int_equal(receive(f, 'x', "fn", T + 20, "beside"), DOCS_INSERTED);
    struct entry child = entry(f, 'x', "foo/bar", T + 10 - 1, "older child");
    OK(buf_append(&key, "before", 6));
    OK(kv_begin(f->kv));
    OK(r->ops->insert(r, &child, &origin, &out, &parent, &key));
    OK(kv_commit(f->kv));
    assert_int_equal(out, DOCS_DOMINATED);
    assert_true(slice_equal(parent.key, slice_of_text("fo")));
    assert_memory_equal(&parent.author, &child.author, sizeof parent.author);
    assert_memory_equal(&parent.namespace, &child.namespace, sizeof parent.namespace);
    assert_int_equal(parent.record.stamp_us, T + 10);
    assert_int_equal(receive(f, 'y', "foo/bar", T, "other author"), DOCS_INSERTED);
    assert_int_equal(receive(f, 'x', "foo/bar", T + 11, "newer"), DOCS_INSERTED);
    buf_fini(&key);
    fixture_check(f);
}

static void a_tombstone_and_the_empty_key_dominate_too(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(receive(f, 'x', "k", T + 10, ""), DOCS_INSERTED);
    assert_int_equal(receive(f, 'x', "k", T + 5, "older"), DOCS_OLDER);
    assert_int_equal(receive(f, 'x', "k/child", T + 5, "older"), DOCS_DOMINATED);
    assert_int_equal(receive(f, 'x', "", T + 20, ""), DOCS_INSERTED);
    assert_int_equal(entries(f), 1);
    assert_int_equal(receive(f, 'x', "anything", T + 19, "older"), DOCS_DOMINATED);
    assert_int_equal(receive(f, 'x', "anything", T + 21, "newer"), DOCS_INSERTED);
    fixture_check(f);
}

static void a_parent_is_found_past_neighbours_that_are_none(void **state)
{
    struct fixture *f = *state;
    static const char *const neighbours[] = {"ab", "abc/a", "abc/zz", "abd", "abcc", "abc/k0"};
    for (size_t i = 0; i < sizeof neighbours / sizeof neighbours[0]; i++)
        assert_int_equal(receive(f, 'x', neighbours[i], T - 100 + i, "old"), DOCS_INSERTED);
    assert_int_equal(receive(f, 'x', "a", T - 200, "old"), DOCS_INSERTED);
    assert_int_equal(receive(f, 'x', "abc/k", T - 50, "new"), DOCS_INSERTED); /* no parent is newer */
    assert_int_equal(receive(f, 'x', "abc/k/x", T - 60, "old"), DOCS_DOMINATED);
    assert_int_equal(receive(f, 'x', "abd/x", T - 98, "old"), DOCS_DOMINATED);
    assert_int_equal(receive(f, 'x', "abcx", T - 101, "old"), DOCS_DOMINATED); /* by "ab" */
    assert_int_equal(receive(f, 'x', "abcx", T - 99, "old"), DOCS_INSERTED);
    fixture_check(f);
}

static void keys_at_the_edges_are_kept_apart(void **state)
{
    struct fixture *f = *state;
    uint8_t ff[2] = {0xff, 0xff};
    struct entry e = fixture_entry(f, 'x', slice_of(ff, 1), T, slice_of_text("1"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    e = fixture_entry(f, 'x', slice_of(ff, 2), T + 1, slice_of_text("2"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    e = fixture_entry(f, 'x', slice_of(ff, 1), T + 2, slice_of_text("3"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    assert_int_equal(entries(f), 1);
    fixture_check(f);
}

static void entries_that_break_a_rule_are_refused(void **state)
{
    struct fixture *f = *state;
    static uint8_t long_key[ENTRY_KEY_MAX + 1];
    struct entry e = entry(f, 'x', "k", T, "v");
    e.namespace.bytes[0] ^= 1;
    assert_int_equal(fixture_receive(f, &e), DOCS_REFUSED);
    e = entry(f, 'x', "k", T, "v");
    e.record.length_bytes = 0; /* H23 */
    assert_int_equal(fixture_receive(f, &e), DOCS_REFUSED);
    e = entry(f, 'x', "k", T, "");
    e.record.length_bytes = 1;
    assert_int_equal(fixture_receive(f, &e), DOCS_REFUSED);
    e = fixture_entry(f, 'x', slice_of(long_key, sizeof long_key), T, slice_of_text("v"));
    assert_int_equal(fixture_receive(f, &e), DOCS_REFUSED);
    e = fixture_entry(f, 'x', slice_of(long_key, sizeof long_key - 1), T, slice_of_text("v"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    assert_int_equal(receive(f, 'x', "ancient", 0, "v"), DOCS_INSERTED);
    fixture_check(f);
}

static void another_length_for_the_same_record_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct docs_replica *r = kv_docs(f->kv);
    struct kv_item item;
    struct entry e = fixture_entry(f, 'x', fixture_key("k"), T, slice_of_text("content"));
    e.record.length_bytes = 99; /* H19: it lies about its content */
    bool has;
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    e.record.length_bytes = 7;
    assert_int_equal(fixture_receive(f, &e), DOCS_PRESENT);
    fixture_arrive(f, "content");
    assert_string_equal(fixture_get(f, "k"), "content");
    OK(kv_get(f->kv, fixture_key("k"), KV_WANT_META, &item));
    assert_int_equal(item.length, 7); /* the content's own length, the same on every node */
    kv_item_fini(&item);
    OK(r->ops->has_content(r, &e.record.hash, &has));
    assert_true(has);
    fixture_check(f);
}

static void an_entry_from_the_future_is_kept_until_it_is_due(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    size_t inserted;
    uint64_t next_us;
    struct entry e = fixture_entry(f, 'x', fixture_key("k"), T + 600 * S, slice_of_text("v"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED); /* exactly at the limit */
    e = fixture_entry(f, 'x', fixture_key("k"), T + 600 * S + 5, slice_of_text("w"));
    assert_int_equal(fixture_receive(f, &e), DOCS_FUTURE);
    assert_int_equal(fixture_receive(f, &e), DOCS_FUTURE);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.entries_refused, 1);
    fixture_check(f);
    fixture_reopen(f);
    OK(kv_begin(f->kv));
    OK(kv_refused_retry(f->kv, 10, &inserted, &next_us));
    OK(kv_commit(f->kv));
    assert_int_equal(inserted, 0);
    assert_int_equal(next_us, T + 5);
    f->wall_us = T + 5;
    OK(kv_begin(f->kv));
    OK(kv_refused_retry(f->kv, 10, &inserted, &next_us));
    OK(kv_commit(f->kv));
    assert_int_equal(inserted, 1);
    assert_int_equal(next_us, 0);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.entries_refused, 0);
    assert_int_equal(fixture_receive(f, &e), DOCS_PRESENT);
    fixture_check(f);
}

/* `count` entries with keys of their own from the peer of that number, `ahead_us` of the clock. */
static void flood(struct fixture *f, uint8_t peer, int count, uint64_t ahead_us)
{
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_origin origin = {.peer = {{peer}}};
    OK(kv_begin(f->kv));
    for (int i = 0; i < count; i++) {
        char key[64];
        enum docs_insert out;
        snprintf(key, sizeof key, "%d/%ju/%d", peer, (uintmax_t)ahead_us, i);
        struct entry e = entry(f, 'x', key, T + ahead_us, "v");
        OK(r->ops->insert(r, &e, &origin, &out, NULL, NULL));
        assert_int_equal(out, DOCS_FUTURE);
    }
    OK(kv_commit(f->kv));
}

struct refused_lines {
    struct kv_refused items[16];
    size_t count;
};

static bool keep_line(void *arg, const struct kv_refused *of)
{
    struct refused_lines *lines = arg;
    lines->items[lines->count++] = *of;
    return lines->count < 16;
}

static struct refused_lines refused_lines(struct fixture *f)
{
    struct refused_lines lines = {.count = 0};
    OK(kv_refused_list(f->kv, 16, keep_line, &lines));
    return lines;
}

/* How many of the refused entries that are kept came from the peer. */
static uint64_t refused_of(struct fixture *f, uint8_t peer)
{
    struct refused_lines lines = refused_lines(f);
    uint64_t count = 0;
    for (size_t i = 0; i < lines.count; i++) count += lines.items[i].peer.bytes[0] == peer ? lines.items[i].count : 0;
    return count;
}

static void of_one_peer_a_bounded_number_is_remembered_the_first_due_first(void **state)
{
    struct fixture *f = *state;
    flood(f, 7, KV_REFUSED_OF_PEER_MAX + 10, 700 * S);
    assert_int_equal(refused_of(f, 7), KV_REFUSED_OF_PEER_MAX);
    flood(f, 7, 1, 800 * S); /* due later than all: no room */
    assert_int_equal(refused_lines(f).items[0].last_stamp_us, T + 700 * S);
    flood(f, 7, 1, 601 * S);
    struct refused_lines lines = refused_lines(f);
    assert_int_equal(lines.count, 1);
    assert_int_equal(lines.items[0].count, KV_REFUSED_OF_PEER_MAX);
    assert_int_equal(lines.items[0].first_stamp_us, T + 601 * S);
    fixture_check(f);
}

static void a_peer_that_floods_drives_out_its_own_entries_only(void **state)
{
    struct fixture *f = *state;
    struct kv_counts counts;
    int peers = KV_REFUSED_MAX / KV_REFUSED_OF_PEER_MAX;
    for (uint8_t peer = 1; peer < peers; peer++) flood(f, peer, KV_REFUSED_OF_PEER_MAX, 900 * S);
    flood(f, 100, KV_REFUSED_OF_PEER_MAX - 1, 800 * S); /* the honest one */
    flood(f, 101, 500, 700 * S);                        /* one fits, one drives out another's: that due last of all */
    flood(f, 101, 500, 650 * S);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.entries_refused, KV_REFUSED_MAX);
    assert_int_equal(refused_of(f, 100), KV_REFUSED_OF_PEER_MAX - 1);
    assert_int_equal(refused_of(f, 101), 1);
    fixture_check(f);
}

static void refused_entries_are_listed_by_author_and_peer(void **state)
{
    struct fixture *f = *state;
    struct kv_signer y = fixture_writer(f, 'y');
    flood(f, 7, 3, 700 * S);
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_origin origin = {.peer = {{9}}};
    enum docs_insert out;
    struct entry e = entry(f, 'y', "k", T + 3600 * S, "v");
    OK(kv_begin(f->kv));
    OK(r->ops->insert(r, &e, &origin, &out, NULL, NULL));
    OK(kv_commit(f->kv));
    struct refused_lines lines = refused_lines(f);
    assert_int_equal(lines.count, 2);
    assert_int_equal(lines.items[0].count, 3);
    assert_int_equal(lines.items[0].peer.bytes[0], 7);
    assert_int_equal(lines.items[1].count, 1);
    assert_int_equal(lines.items[1].peer.bytes[0], 9);
    assert_int_equal(lines.items[1].last_stamp_us, T + 3600 * S);
    assert_memory_equal(&lines.items[1].author, &y.author, sizeof y.author);
}

/* ------------------------------------------------------------------------------------------ pieces */

struct collected {
    struct buf ids[1000];
    struct docs_summary sum;
};

static bool collect(void *arg, const struct entry *e, bool has_content)
{
    struct collected *c = arg;
    struct fingerprint print;
    assert_false(has_content);
    OK(entry_id_append(e, &c->ids[c->sum.count++]));
    entry_fingerprint(e, &print);
    fingerprint_xor(&c->sum.xored, &print);
    return c->sum.count < 1000;
}

static void collected_fini(struct collected *c)
{
    for (size_t i = 0; i < c->sum.count; i++) buf_fini(&c->ids[i]);
    free(c);
}

/* Scan, summarize and select of a piece must tell the same. */
static void check_piece(struct fixture *f, struct slice from, struct slice to)
{
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_piece piece = {from, to};
    struct collected *c = calloc(1, sizeof *c);
    struct docs_summary sum;
    struct buf id = {0};
    OK(r->ops->scan(r, piece, collect, c));
    OK(r->ops->summarize(r, piece, &sum));
    assert_int_equal(sum.count, c->sum.count);
    assert_memory_equal(&sum.xored, &c->sum.xored, sizeof sum.xored);
    for (size_t i = 0; i < c->sum.count; i++) {
        if (i > 0) assert_true(slice_compare(buf_slice(&c->ids[i - 1]), buf_slice(&c->ids[i])) < 0);
        assert_true(!from.len || slice_compare(buf_slice(&c->ids[i]), from) >= 0);
        assert_true(!to.len || slice_compare(buf_slice(&c->ids[i]), to) < 0);
        buf_clear(&id);
        OK(r->ops->select(r, piece, i, &id));
        assert_true(slice_equal(buf_slice(&id), buf_slice(&c->ids[i])));
    }
    assert_int_equal(r->ops->select(r, piece, c->sum.count, &id), HKV_E_NOT_FOUND);
    assert_int_equal(r->ops->select(r, piece, UINT64_MAX, &id), HKV_E_NOT_FOUND);
    buf_fini(&id);
    collected_fini(c);
}

static void pieces_are_told_alike_by_scan_summary_and_selection(void **state)
{
    struct fixture *f = *state;
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_origin origin = {.peer = {{7}}};
    check_piece(f, (struct slice){0}, (struct slice){0});
    OK(kv_begin(f->kv));
    for (int i = 0; i < 700; i++) {
        char key[32];
        enum docs_insert out;
        snprintf(key, sizeof key, "%d/%d", i * 7919 % 97, i);
        struct entry e = fixture_entry(f, (char)('u' + i % 3), fixture_key(key), T, slice_of_text("v"));
        OK(r->ops->insert(r, &e, &origin, &out, NULL, NULL));
    }
    OK(kv_commit(f->kv));
    struct slice ns = slice_of(f->config.namespace.bytes, ID_BYTES);
    struct buf a = {0}, b = {0}, before = {0}, behind = {0};
    OK(r->ops->select(r, (struct docs_piece){0}, 100, &a));
    OK(r->ops->select(r, (struct docs_piece){0}, 600, &b));
    OK(buf_append_slice(&before, ns));
    before.data[ID_BYTES - 1]--;
    OK(buf_append_slice(&behind, ns));
    behind.data[ID_BYTES - 1]++;
    check_piece(f, (struct slice){0}, (struct slice){0});
    check_piece(f, buf_slice(&a), buf_slice(&b));
    check_piece(f, buf_slice(&a), (struct slice){0});
    check_piece(f, (struct slice){0}, buf_slice(&b));
    check_piece(f, slice_part(buf_slice(&a), 0, 40), slice_part(buf_slice(&b), 0, 66));
    check_piece(f, ns, buf_slice(&behind));
    check_piece(f, buf_slice(&before), buf_slice(&behind));
    check_piece(f, buf_slice(&behind), (struct slice){0});
    check_piece(f, (struct slice){0}, buf_slice(&before));
    check_piece(f, (struct slice){0}, ns);
    OK(buf_append_byte(&a, 0)); /* just behind an entry */
    check_piece(f, buf_slice(&a), buf_slice(&b));
    buf_fini(&a);
    buf_fini(&b);
    buf_fini(&before);
    buf_fini(&behind);
    fixture_check(f);
}

static void a_budget_refuses_remote_entries_first_and_deletes_last(void **state)
{
    struct fixture *f = *state;
    static char text[8001];
    memset(text, 'v', sizeof text - 1);
    kv_close(f->kv);
    f->config.disk_bytes = 1 << 20;
    fixture_open(f);
    enum hkv_err err = HKV_OK;
    for (int i = 0; i < 1000 && err == HKV_OK; i++) {
        char key[32];
        snprintf(key, sizeof key, "%d", i);
        memcpy(text, key, strlen(key));
        err = fixture_put(f, key, text);
    }
    assert_int_equal(err, HKV_E_LIMIT);
    assert_int_equal(receive(f, 'x', "k", T, text), DOCS_REFUSED);
    OK(fixture_put(f, "1", NULL));
    fixture_check(f);
}

/* ------------------------------------------------------------------------------------------ values in demand */

/* In one transaction, of `count` values: each is handed out, and what `end` does is the end of the demand for it. */
static void hand_out(struct fixture *f, unsigned count, void (*end)(struct fixture *f, const struct entry *e))
{
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_origin origin = {.peer = {{7}}, .provides_content = true};
    OK(kv_begin(f->kv));
    for (unsigned i = 0; i < count; i++) {
        struct kv_wanted wanted;
        enum docs_insert out;
        size_t taken;
        uint64_t next_us;
        struct entry e = fixture_entry(f, 'x', fixture_key("k"), T + 2 * i, slice_of(&i, sizeof i));
        OK(r->ops->insert(r, &e, &origin, &out, NULL, NULL));
        assert_int_equal(out, DOCS_INSERTED);
        OK(kv_wanted_take(f->kv, f->wall_us, 1, &wanted, &taken, &next_us));
        assert_int_equal(taken, 1);
        assert_memory_equal(&wanted.hash, &e.record.hash, sizeof e.record.hash);
        end(f, &e);
    }
    OK(kv_commit(f->kv));
}

static void leave_to_the_next_entry(struct fixture *f, const struct entry *e)
{
    (void)f;
    (void)e;
}

static void fill_locally(struct fixture *f, const struct entry *e)
{
    unsigned i = (unsigned)(e->record.stamp_us - T) / 2;
    struct kv_write w = {.entry = *e, .content = slice_of(&i, sizeof i)};
    w.entry.author = f->self.author;
    w.entry.record.stamp_us++;
    OK(kv_write(f->kv, &w, &f->self));
}

static void values_that_are_overwritten_while_they_are_fetched_hold_up_no_others(void **state)
{
    hand_out(*state, KV_TAKEN_MAX + 1, leave_to_the_next_entry);
    fixture_check(*state);
}

static void values_that_are_written_here_while_they_are_fetched_hold_up_no_others(void **state)
{
    hand_out(*state, KV_TAKEN_MAX + 1, fill_locally);
    fixture_check(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_record_order_decides_within_one_author),
        TEST(a_newer_parent_dominates_and_is_named),
        TEST(a_tombstone_and_the_empty_key_dominate_too),
        TEST(a_parent_is_found_past_neighbours_that_are_none),
        TEST(keys_at_the_edges_are_kept_apart),
        TEST(entries_that_break_a_rule_are_refused),
        TEST(another_length_for_the_same_record_changes_nothing),
        TEST(an_entry_from_the_future_is_kept_until_it_is_due),
        TEST(of_one_peer_a_bounded_number_is_remembered_the_first_due_first),
        TEST(a_peer_that_floods_drives_out_its_own_entries_only),
        TEST(refused_entries_are_listed_by_author_and_peer),
        TEST(pieces_are_told_alike_by_scan_summary_and_selection),
        TEST(a_budget_refuses_remote_entries_first_and_deletes_last),
        TEST(values_that_are_overwritten_while_they_are_fetched_hold_up_no_others),
        TEST(values_that_are_written_here_while_they_are_fetched_hold_up_no_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
