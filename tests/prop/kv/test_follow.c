/* Followers of the change log in random histories of writes, receipts, removals by prefix, expiry, restarts and a short
 * log: whatever the interleaving, and wherever in a page a follower stops, its map is that of the store, and no change
 * comes twice or is passed over without a word. */
#include "fixture/kv_store.h"

#include <stdio.h>

#include "random.h"

#define ROUNDS    12
#define STEPS     700
#define KEYS      24
#define FOLLOWERS 4

struct follower {
    struct kv_changes_query query;
    char prefix[4];
    char listed[16];
    bool by_listing; /* began with a listing, and begins again when it lost the log; else with an empty store */
    bool whole;      /* its map is complete */
    uint64_t map[KEYS];
};

struct world {
    struct fixture *f;
    struct random r;
    struct follower followers[FOLLOWERS];
    uint64_t stamp_us;
    unsigned losses, listings;
};

static const char *key_name(size_t i)
{
    static char name[8];
    snprintf(name, sizeof name, "%c%02zu", "abc"[i % 3], i);
    return name;
}

static size_t key_number(struct slice key)
{
    for (size_t i = 0; i < KEYS; i++)
        if (slice_equal(key, slice_of_text(key_name(i)))) return i;
    fail_msg("a change of a key that nobody wrote");
    return 0;
}

static void begin_listing(struct world *w, struct follower *m)
{
    struct kv_changes_query nowhere = {.epoch = kv_epoch(w->f->kv), .position = UINT64_MAX - 1};
    struct kv_changes_page page;
    OK(kv_changes_read(w->f->kv, &nowhere, &page));
    assert_true(page.lost);
    memset(m->map, 0, sizeof m->map);
    m->query.epoch = page.epoch;
    m->query.position = page.last;
    m->query.listing = true;
    m->query.listed = (struct slice){0};
    w->listings++;
}

/* Keys are listed once the log is read: where such a one stands, the page's position is reached. */
static void see(struct follower *m, const struct kv_change *c, uint64_t page_position)
{
    size_t key = key_number(buf_slice(&c->key));
    assert_true(slice_starts_with(buf_slice(&c->key), m->query.prefix));
    if (c->kind == KV_LISTED) {
        assert_true(m->query.listing);
        assert_true(slice_compare(buf_slice(&c->key), m->query.listed) > 0);
        assert_int_equal(m->map[key], 0);
        memcpy(m->listed, c->key.data, c->key.len);
        m->query.listed = slice_of(m->listed, c->key.len);
        m->query.position = page_position;
    } else {
        assert_true(c->position > m->query.position);
        m->query.position = c->position;
    }
    bool present = c->kind == KV_PUT_LOCAL || c->kind == KV_PUT_REMOTE || c->kind == KV_LISTED;
    m->map[key] = present ? c->version.stamp_us : 0;
}

struct compare {
    struct follower *m;
    uint64_t shown[KEYS];
};

static bool note_shown(void *arg, struct kv_item *item)
{
    struct compare *c = arg;
    c->shown[key_number(buf_slice(&item->key))] = item->version.stamp_us;
    return true;
}

/* The follower's map against the store, as far as it was listed. Removal by prefix tells of the removing entry's
 * version: there presence is compared. Values that expired are told of when housekeeping notices. */
static void assert_same_map(const struct world *w, struct follower *m)
{
    struct compare c = {.m = m};
    OK(kv_list(w->f->kv, KV_KEY_USER, m->query.prefix, (struct slice){0}, KV_WANT_META, 0, note_shown, &c));
    for (size_t i = 0; i < KEYS; i++) {
        struct slice key = slice_of_text(key_name(i));
        if (!slice_starts_with(key, m->query.prefix)) continue;
        if (m->query.listing && slice_compare(key, m->query.listed) > 0) continue;
        if ((m->map[i] != 0) == (c.shown[i] != 0)) continue;
        fail_msg("key %s: the follower has stamp %llu, the store %llu", key_name(i), (unsigned long long)m->map[i],
                 (unsigned long long)c.shown[i]);
    }
}

static void follow(struct world *w, struct follower *m)
{
    struct kv_changes_page page;
    m->query.changes_max = 1 + random_below(&w->r, 6);
    OK(kv_changes_read(w->f->kv, &m->query, &page));
    if (page.lost) {
        w->losses++;
        if (m->by_listing) {
            begin_listing(w, m);
        } else {
            assert_true(m->query.epoch != page.epoch || m->query.position + 1 < page.first);
            m->query.epoch = page.epoch;
            m->query.position = page.first - 1;
            m->whole = false;
        }
        return;
    }
    size_t stop = random_below(&w->r, 3) == 0 ? random_below(&w->r, page.changes.count + 1) : SIZE_MAX;
    for (size_t i = 0; i < page.changes.count && i < stop; i++) see(m, &page.changes.items[i], page.position);
    if (stop >= page.changes.count) {
        m->query.position = page.position;
        if (page.listed_all) m->query.listing = false;
        if (page.position == page.last && m->whole) assert_same_map(w, m);
    }
    kv_changes_fini(&page.changes);
}

static void write_some(struct world *w)
{
    struct fixture *f = w->f;
    const char *key = key_name(random_below(&w->r, KEYS));
    char content[32];
    snprintf(content, sizeof content, "content-%zu", random_below(&w->r, 8));
    switch (random_below(&w->r, 10)) {
    case 0:
    case 1:
        OK(fixture_put(f, key, NULL));
        return;
    case 2:
    case 3: {
        struct entry e =
            fixture_entry(f, "xy"[random_below(&w->r, 2)], fixture_key(key), ++w->stamp_us, slice_of_text(content));
        (void)fixture_receive(f, &e);
        if (random_below(&w->r, 2)) fixture_arrive(f, content);
        return;
    }
    case 4: {
        struct slice prefix = slice_of(&"abc"[random_below(&w->r, 3)], 1);
        struct entry e = fixture_entry(f, "xy"[random_below(&w->r, 2)], prefix, ++w->stamp_us, slice_of_text(content));
        if (random_below(&w->r, 8) == 0) (void)fixture_receive(f, &e);
        return;
    }
    case 5:
        fixture_arrive(f, content);
        return;
    default:
        OK(fixture_put(f, key, content));
    }
}

static void a_follower_has_the_map_of_the_store(void **state)
{
    struct world w = {.f = *state, .r = random_start("followers of the change log")};
    for (int round = 0; round < ROUNDS; round++) {
        w.f->config.changes_kept = round % 4 < 2 ? 20 : 1000;
        fixture_reopen(w.f);
        if (round == 0) w.stamp_us = FIXTURE_NOW_US;
        for (size_t i = 0; i < FOLLOWERS; i++) {
            struct follower *m = &w.followers[i];
            if (round > 0 && random_below(&w.r, 2)) continue; /* over the restart */
            *m = (struct follower){.by_listing = round > 0 || i % 2, .whole = true, .query.epoch = kv_epoch(w.f->kv)};
            if (random_below(&w.r, 2)) m->prefix[0] = "abc"[random_below(&w.r, 3)];
            m->query.prefix = slice_of_text(m->prefix);
            if (m->by_listing) begin_listing(&w, m);
        }
        size_t eager = 1 + (size_t)(round % 4) * 2; /* of 9 steps */
        for (int step = 0; step < STEPS; step++) {
            w.f->wall_us += 1000;
            if (random_below(&w.r, 9) < eager)
                follow(&w, &w.followers[random_below(&w.r, FOLLOWERS)]);
            else
                write_some(&w);
        }
    }
    assert_true(w.losses > 0);
    assert_true(w.listings > FOLLOWERS);
    fixture_check(w.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_follower_has_the_map_of_the_store, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
