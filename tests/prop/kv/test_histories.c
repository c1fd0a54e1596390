/* Random histories of local writes, received entries, arrivals, removals by prefix, failed parts and restarts, against
 * a model that keeps nothing but the list of entries and the set of contents that are here. */
#include "fixture/kv_store.h"

#include <stdio.h>
#include <stdlib.h>

#include "crypto/blake3.h"
#include "random.h"

#define STEPS       1500
#define ROUNDS      4
#define CONTENTS    12
#define ENTRIES_MAX 4096

static const char *const keys[] = {"a", "ab", "abc", "b", "ba", "dir/1", "dir/2", "dir/21", "dir/3", "e"};
static const char *const prefixes[] = {"", "a", "ab", "dir", "dir/2", "b", "x"};
static const char authors[] = {'s', 't', 'u', 'v'};

struct model_entry {
    char author;
    struct author_id id;
    uint8_t key[16];
    size_t key_len;
    struct record record;
    int content;
};

/* What a key shows: entries of it may be gone by now. */
struct model_shown {
    bool any;
    int content;
    uint64_t stamp_us;
};

struct model {
    struct model_entry entries[ENTRIES_MAX];
    size_t count;
    bool here[CONTENTS];
    struct model_shown shown[sizeof keys / sizeof keys[0]];
};

struct world {
    struct fixture *f;
    struct random r;
    struct model now;
    struct model saved;
    uint64_t steps;
};

static struct slice content_of(int n)
{
    static char text[CONTENTS][16];
    if (n == 0) return slice_of(kv_tombstone_content, sizeof kv_tombstone_content);
    if (n == 1) return slice_of("\xf1\x68\x6b\x76\x01", 5);
    if (n == 2) return (struct slice){0}; /* iroh-docs' empty entry */
    snprintf(text[n], sizeof text[n], "content-%d", n);
    return slice_of_text(text[n]);
}

static struct slice model_key(const struct model_entry *e)
{
    return slice_of(e->key, e->key_len);
}

static const struct model_entry *model_top(const struct model *m, struct slice key)
{
    const struct model_entry *top = NULL;
    for (size_t i = 0; i < m->count; i++) {
        const struct model_entry *e = &m->entries[i];
        if (!slice_equal(model_key(e), key)) continue;
        if (!top || e->record.stamp_us > top->record.stamp_us ||
            (e->record.stamp_us == top->record.stamp_us && ID_COMPARE(&e->id, &top->id) > 0))
            top = e;
    }
    return top;
}

static void model_show(struct model *m)
{
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        const struct model_entry *top = model_top(m, fixture_key(keys[k]));
        if (!top)
            m->shown[k].any = false;
        else if (m->here[top->content])
            m->shown[k] = (struct model_shown){true, top->content, top->record.stamp_us};
    }
}

/* docs.md 3.3, word by word. */
static enum docs_insert model_insert(struct model *m, const struct model_entry *e)
{
    for (size_t i = 0; i < m->count; i++) {
        const struct model_entry *o = &m->entries[i];
        if (o->author != e->author || !slice_equal(model_key(o), model_key(e))) continue;
        int order = record_compare(&e->record, &o->record);
        if (order == 0) return DOCS_PRESENT;
        if (order < 0) return DOCS_OLDER;
    }
    for (size_t i = 0; i < m->count; i++) {
        const struct model_entry *o = &m->entries[i];
        if (o->author == e->author && slice_starts_with(model_key(e), model_key(o)) &&
            record_compare(&e->record, &o->record) <= 0)
            return DOCS_DOMINATED;
    }
    size_t kept = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct model_entry *o = &m->entries[i];
        bool removed = o->author == e->author && slice_starts_with(model_key(o), model_key(e)) &&
                       record_compare(&o->record, &e->record) <= 0;
        if (!removed) m->entries[kept++] = *o;
    }
    m->count = kept;
    m->entries[m->count++] = *e;
    model_show(m);
    return DOCS_INSERTED;
}

static struct model_entry random_entry(struct world *w, struct entry *out)
{
    struct model_entry m = {.content = (int)random_below(&w->r, CONTENTS)};
    bool prefix = random_below(&w->r, 12) == 0;
    struct slice key = prefix ? slice_of_text(prefixes[random_below(&w->r, sizeof prefixes / sizeof prefixes[0])])
                              : fixture_key(keys[random_below(&w->r, sizeof keys / sizeof keys[0])]);
    m.author = authors[random_below(&w->r, sizeof authors)];
    memcpy(m.key, key.data, key.len);
    m.key_len = key.len;
    *out = fixture_entry(w->f, m.author, key, FIXTURE_NOW_US - 50 + w->steps / 20 + random_below(&w->r, 60),
                         content_of(m.content));
    m.id = out->author;
    m.record = out->record;
    return m;
}

static void step_receive(struct world *w)
{
    struct docs_replica *r = kv_docs(w->f->kv);
    struct docs_origin origin = {.peer = {{3}}, .provides_content = true};
    struct entry e;
    struct model_entry m = random_entry(w, &e);
    enum docs_insert would, out;
    OK(r->ops->would_insert(r, &e, &would));
    OK(r->ops->insert(r, &e, &origin, &out, NULL, NULL));
    assert_int_equal(would, out);
    assert_int_equal(out, model_insert(&w->now, &m));
}

static void step_arrive(struct world *w)
{
    int n = (int)random_below(&w->r, CONTENTS);
    struct hash hash;
    bool wanted;
    struct docs_replica *r = kv_docs(w->f->kv);
    bool referred = false;
    for (size_t i = 0; i < w->now.count; i++) referred |= w->now.entries[i].content == n;
    blake3_hash(content_of(n), &hash);
    OK(kv_value_arrived(w->f->kv, &hash, content_of(n), NULL));
    OK(r->ops->has_content(r, &hash, &wanted));
    if (referred) {
        assert_true(wanted);
        w->now.here[n] = true;
        model_show(&w->now);
    }
}

static void step_write(struct world *w)
{
    int n = (int)random_below(&w->r, CONTENTS);
    if (n == 2) n = 0;
    struct model_entry m = {.author = 's', .content = n};
    struct slice key = fixture_key(keys[random_below(&w->r, sizeof keys / sizeof keys[0])]);
    struct kv_write write = {.content = content_of(n)};
    memcpy(m.key, key.data, key.len);
    m.key_len = key.len;
    kv_content_parse(write.content, write.content.len, &write.parsed);
    write.entry = fixture_entry(w->f, 's', key, FIXTURE_NOW_US - random_below(&w->r, 100), write.content);
    OK(kv_write(w->f->kv, &write, &w->f->self));
    m.id = write.entry.author;
    m.record = write.entry.record;
    w->now.here[n] = true;
    assert_int_equal(model_insert(&w->now, &m), DOCS_INSERTED);
    model_show(&w->now);
}

/* A content that nothing refers to may be gone after the grace time; then it is missing when it is referred to again.
 */
static void forget_freed(struct world *w)
{
    struct docs_replica *r = kv_docs(w->f->kv);
    for (int n = 3; n < CONTENTS; n++) {
        struct hash hash;
        bool has;
        blake3_hash(content_of(n), &hash);
        OK(r->ops->has_content(r, &hash, &has));
        for (size_t i = 0; i < w->now.count; i++)
            if (w->now.entries[i].content == n) assert_int_equal(has, w->now.here[n]);
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++)
            if (w->now.shown[k].any && w->now.shown[k].content == n) assert_true(has);
        w->now.here[n] = has;
    }
}

static void compare_keys(struct world *w)
{
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        const struct model_shown *s = &w->now.shown[k];
        const char *got = fixture_get(w->f, keys[k]);
        const char *expected = NULL;
        char text[32];
        if (s->any && s->content == 1) expected = "";
        if (s->any && s->content > 2) {
            snprintf(text, sizeof text, "content-%d", s->content);
            expected = text;
        }
        if ((got == NULL) != (expected == NULL) || (got && strcmp(got, expected) != 0))
            fail_msg("step %ju, key %s: shows %s, should show %s", (uintmax_t)w->steps, keys[k], got ? got : "nothing",
                     expected ? expected : "nothing");
    }
    fixture_check(w->f);
}

static void transaction(struct world *w)
{
    size_t parts = 1 + random_below(&w->r, 12);
    struct model *committed = malloc(sizeof *committed);
    assert_non_null(committed);
    *committed = w->now;
    OK(kv_begin(w->f->kv));
    for (size_t i = 0; i < parts; i++) {
        w->saved = w->now;
        OK(kv_savepoint(w->f->kv));
        for (size_t j = 1 + random_below(&w->r, 3); j > 0; j--) {
            w->steps++;
            size_t kind = random_below(&w->r, 10);
            if (kind < 5)
                step_receive(w);
            else if (kind < 8)
                step_arrive(w);
            else
                step_write(w);
        }
        if (random_below(&w->r, 5) == 0) {
            kv_savepoint_rollback(w->f->kv);
            w->now = w->saved;
        } else {
            OK(kv_savepoint_release(w->f->kv));
        }
    }
    if (random_below(&w->r, 6) == 0) {
        kv_rollback(w->f->kv);
        w->now = *committed;
    } else {
        OK(kv_commit(w->f->kv));
    }
    free(committed);
}

static void history(struct random *r)
{
    void *state;
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    assert_int_equal(fixture_setup(&state), 0);
    w->f = state;
    w->r = *r;
    for (int n = 0; n < 3; n++) w->now.here[n] = true;
    while (w->steps < STEPS) {
        transaction(w);
        size_t then = random_below(&w->r, 20);
        if (then == 0) fixture_reopen(w->f);
        if (then == 1) {
            w->f->wall_us += 100u * 1000000u;
            while (kv_maintain(w->f->kv)) continue;
        }
        forget_freed(w);
        if (then < 8) compare_keys(w);
    }
    compare_keys(w);
    *r = w->r;
    free(w);
    fixture_teardown(&state);
}

static void random_histories_show_what_the_model_shows(void **state)
{
    struct random r = random_start("random histories of the map");
    (void)state;
    for (int i = 0; i < ROUNDS; i++) history(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_histories_show_what_the_model_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
