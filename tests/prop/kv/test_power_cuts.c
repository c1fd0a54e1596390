/* A script of 200 operations on a store in memory, and a power cut after every change of the disk, in every way in
 * which a disk may forget. Each of the stores that are left opens, shows what was acknowledged and at most the one
 * operation that was under way, whole, and its tables agree with a walk.
 *
 *   HKV_SEED=n     another script          HKV_POINTS=n     looks at one change in n only (default 1; 25 under
 * sanitizers)
 *
 * The script: values of all sizes, in rows and in files, the same one under several keys, deletes; entries of another
 * author, values of his that arrive later or never, deletes of his, and prefix removals that bring back what stood
 * there before; values that expire; checkpoints and removals of values without references. */
#include "fixture/kv_store.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "kv/internal.h"
#include "random.h"
#include "store/memdisk.h"

#define KEYS       10
#define OPERATIONS 200
#define VALUE_MAX  70000
#define DEEP_EVERY 16 /* cuts of which one is compared with a walk */
#define TTL_US     ((uint64_t)20000)
#define NO_VALUE   UINT32_MAX
#define SHARED     16 /* values below are written under several keys, and never by the other author */

/* All of them once in CI, in the optimised build with gcc; some in the slow ones and in the second compiler's. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__clang__) || !defined(__OPTIMIZE__)
#define POINTS_DEFAULT 25
#else
#define POINTS_DEFAULT 1
#endif

enum { SELF, OTHER, AUTHORS };

/* One author's entry of a key. */
struct cell {
    bool exists;
    bool present;   /* its content is here */
    uint32_t value; /* NO_VALUE: a tombstone */
    uint64_t stamp_us;
    uint64_t expires_us;
};

struct key_model {
    struct cell cells[AUTHORS];
    struct cell shown;
};

struct model {
    struct key_model keys[KEYS];
};

/* What a power cut does, and what a store promises then. */
struct mode {
    const char *name;
    unsigned keep_percent, tear_percent;
    bool synced;       /* a sync for each commit */
    bool acknowledged; /* and so nothing is lost */
};

static const struct mode modes[] = {
    {"nothing is kept", 0, 0, true, true},
    {"everything is kept", 100, 0, true, true},
    {"half is kept, in any order", 50, 0, true, true},
    {"torn", 40, 40, true, true},
    {"nearly all is kept", 92, 4, true, true},
    {"without syncs: everything is kept (the process ends)", 100, 0, false, true},
    {"without syncs: half is kept", 50, 20, false, false},
    {"without syncs: nearly all is kept", 92, 4, false, false},
};

#define MODES (sizeof modes / sizeof modes[0])

struct world {
    struct fixture *f;
    struct memdisk *disk;
    struct files *files;
    char blobs[160];
    struct random random;
    struct model now;  /* acknowledged */
    struct model next; /* when the operation under way is done */
    uint32_t values;   /* made so far */
    bool synced;
    bool busy; /* a cut is being looked at */
    uint64_t cut_seed;
    uint64_t cuts, looked_at;
    struct hash last;   /* the disk at the last cut that kept nothing ... */
    uint64_t last_step; /* ... and what was promised then */
    uint64_t step;      /* rises when the models change */
};

/* ------------------------------------------------------------------------------------------ contents */

static size_t value_bytes(uint32_t value)
{
    static const size_t sizes[] = {1, 40, 248, 5000, 16384, 16385, 20000, VALUE_MAX};
    return sizes[value % (sizeof sizes / sizeof sizes[0])];
}

/* Valid until the next call. */
static struct slice value_content(uint32_t value, uint64_t expires_us)
{
    static uint8_t room[VALUE_MAX + 32];
    struct buf prefix = {0};
    size_t len = value_bytes(value);
    if (value == NO_VALUE) return slice_of(kv_tombstone_content, sizeof kv_tombstone_content);
    if (expires_us) OK(kv_content_prefix(slice_of("", 0), len, expires_us, &prefix));
    if (prefix.len) memcpy(room, prefix.data, prefix.len);
    for (size_t i = 0; i < len; i++) room[prefix.len + i] = (uint8_t)(value * 31 + i % 251 + i / 251);
    len += prefix.len;
    buf_fini(&prefix);
    return slice_of(room, len);
}

/* ------------------------------------------------------------------------------------------ the model */

/* A key shows its newest entry, or while the content of that is missing what it showed before. */
static void settle_key(struct key_model *k)
{
    const struct cell *top = NULL;
    for (int a = 0; a < AUTHORS; a++)
        if (k->cells[a].exists && (!top || k->cells[a].stamp_us > top->stamp_us)) top = &k->cells[a];
    if (!top)
        k->shown = (struct cell){0};
    else if (top->present)
        k->shown = *top;
}

static bool piece_is(const struct slice *piece, uint32_t value, size_t at)
{
    for (size_t i = 0; i < piece->len; i++)
        if (piece->data[i] != (uint8_t)(value * 31 + (at + i) % 251 + (at + i) / 251)) return false;
    return true;
}

static bool file_is(struct kv *kv, const struct kv_item *item, uint32_t value)
{
    static struct kv_blob_reader reader;
    struct slice piece;
    size_t at = 0, skip = item->skip;
    kv_blob_reader_init(&reader, kv, &item->blob);
    for (;;) {
        OK(kv_blob_reader_next(&reader, &piece));
        if (piece.len == 0) return at == value_bytes(value);
        piece = slice_part(piece, skip, piece.len);
        skip = 0;
        if (!piece_is(&piece, value, at)) return false;
        at += piece.len;
    }
}

static bool key_shows(struct fixture *f, int key, const struct cell *shown)
{
    char name[16];
    struct kv_item item;
    snprintf(name, sizeof name, "key-%d", key);
    enum hkv_err err = kv_get(f->kv, fixture_key(name), KV_WANT_VALUE, &item);
    bool visible = shown->exists && shown->value != NO_VALUE && (!shown->expires_us || shown->expires_us > f->wall_us);
    if (err == HKV_E_NOT_FOUND) return !visible;
    assert_ok(err, "kv_get", __FILE__, __LINE__);
    struct slice bytes = buf_slice(&item.value);
    bool same = visible && item.length == value_bytes(shown->value);
    same = same && (item.blob.fd >= 0 ? file_is(f->kv, &item, shown->value) : piece_is(&bytes, shown->value, 0));
    kv_item_fini(&item);
    return same;
}

/* Answers with the first key that is not as the model has it, or -1. */
static int differs(struct fixture *f, const struct model *m)
{
    for (int k = 0; k < KEYS; k++)
        if (!key_shows(f, k, &m->keys[k].shown)) return k;
    return -1;
}

/* ------------------------------------------------------------------------------------------ cuts */

static void look_at(struct world *w, const struct mode *mode, struct memdisk *disk)
{
    struct fixture f = *w->f;
    OK(memdisk_files(disk, w->blobs, &f.config.files));
    f.config.vfs = memdisk_vfs(disk);
    f.config.env = &f.env;
    bool created;
    struct namespace_id other;
    enum hkv_err opened = kv_open(&f.config, &f.kv, &created, &other);
    if (opened != HKV_OK) fail_msg("%s, cut %ju: %s", mode->name, (uintmax_t)w->cuts, error_last());
    int now = mode->acknowledged ? differs(&f, &w->now) : -1;
    if (now >= 0 && differs(&f, &w->next) >= 0) {
        print_error("%s, cut %ju: key-%d is not what was acknowledged\n", mode->name, (uintmax_t)w->cuts, now);
        fail();
    }
    for (int k = 0; k < KEYS && !mode->acknowledged; k++) { /* readable, whatever it is */
        char name[16];
        struct kv_item item;
        snprintf(name, sizeof name, "key-%d", k);
        enum hkv_err err = kv_get(f.kv, fixture_key(name), KV_WANT_VALUE, &item);
        if (err != HKV_E_NOT_FOUND) OK(err);
        if (err == HKV_OK) kv_item_fini(&item);
    }
    if (w->looked_at++ % DEEP_EVERY == 0) {
        fixture_check(&f);
        OK(fixture_put(&f, "afterwards", "works"));
        assert_string_equal(fixture_get(&f, "afterwards"), "works");
    }
    kv_close(f.kv);
    f.config.files->ops->free(f.config.files);
}

/* Where nothing is kept, the disk is the same until the next sync; with the same promises it leaves the same store. */
static void cut_in(struct world *w, size_t m)
{
    struct memdisk *disk = NULL;
    struct hash digest;
    const struct memdisk_cut cut = {w->cut_seed++, modes[m].keep_percent, modes[m].tear_percent};
    OK(memdisk_crashed_copy(w->disk, &cut, &disk));
    bool same = false;
    if (modes[m].keep_percent == 0) {
        OK(memdisk_digest(disk, &digest));
        same = w->last_step == w->step && hash_equal(&w->last, &digest);
        w->last = digest;
        w->last_step = w->step;
    }
    if (!same) look_at(w, &modes[m], disk);
    memdisk_free(disk);
}

static uint64_t points(void)
{
    const char *text = getenv("HKV_POINTS");
    uint64_t every = text ? strtoull(text, NULL, 0) : POINTS_DEFAULT;
    return every ? every : 1;
}

static void cut_here(void *arg)
{
    struct world *w = arg;
    if (w->busy) return;
    w->busy = true;
    struct random dice = {w->cuts++};
    if (random_u64(&dice) % points() == 0)
        for (size_t m = 0; m < MODES; m++)
            if (modes[m].synced == w->synced) cut_in(w, m);
    w->busy = false;
}

/* ------------------------------------------------------------------------------------------ the script */

static struct slice key_name(int key)
{
    char name[16];
    snprintf(name, sizeof name, "key-%d", key);
    return fixture_key(name);
}

/* A key that stays in place while cuts are looked at. */
struct key_room {
    uint8_t bytes[16];
};

static struct slice key_of(int key, struct key_room *room)
{
    struct slice name = key_name(key);
    memcpy(room->bytes, name.data, name.len);
    return slice_of(room->bytes, name.len);
}

static struct slice copied(struct slice bytes, struct buf *owner)
{
    OK(buf_assign(owner, bytes));
    return buf_slice(owner);
}

/* What is promised from now on: `next`, if the power goes before it is acknowledged. */
static void begin(struct world *w)
{
    w->step++;
    w->next = w->now;
}

static void end(struct world *w)
{
    w->now = w->next;
    w->step++;
}

static void local_write(struct world *w, int key, uint32_t value, bool expires)
{
    struct key_room room;
    struct buf owner = {0};
    struct kv_write write = {0};
    struct key_model *k = &w->next.keys[key];
    uint64_t expires_us = expires ? w->f->wall_us + TTL_US : 0;
    struct slice name = key_of(key, &room);
    struct slice content = copied(value_content(value, expires_us), &owner);
    /* The stamp is not known before; what matters is that it is the newest. */
    k->cells[SELF] = (struct cell){true, true, value, w->f->wall_us, expires_us};
    settle_key(k);
    OK(content.len > KV_VALUE_INLINE_MAX ? fixture_write_file(w->f, name, content)
                                         : fixture_write(w->f, name, content, &write));
    buf_fini(&owner);
}

static void receive(struct world *w, struct slice document_key, struct slice content)
{
    struct entry e = fixture_entry(w->f, 'b', document_key, w->f->wall_us, content);
    struct kv_signer author = fixture_writer(w->f, 'b');
    OK(entry_sign(&e, &author.namespace_secret, &author.author_secret));
    assert_int_equal(fixture_receive(w->f, &e), DOCS_INSERTED);
}

/* An entry whose value comes later, or a tombstone, which every store has. */
static void remote_write(struct world *w, int key, uint32_t value)
{
    struct key_room room;
    struct buf owner = {0};
    struct key_model *k = &w->next.keys[key];
    k->cells[OTHER] = (struct cell){true, value == NO_VALUE, value, w->f->wall_us, 0};
    settle_key(k);
    receive(w, key_of(key, &room), copied(value_content(value, 0), &owner));
    buf_fini(&owner);
}

/* The value that the other author's entry of this key waits for. */
static void arrive(struct world *w, int key)
{
    struct cell *cell = &w->next.keys[key].cells[OTHER];
    struct buf owner = {0};
    struct kv_file *file = NULL;
    struct hash hash;
    if (!cell->exists || cell->present) return;
    cell->present = true;
    settle_key(&w->next.keys[key]);
    struct slice content = copied(value_content(cell->value, 0), &owner);
    bool large = content.len > KV_VALUE_INLINE_MAX;
    if (large) OK(fixture_file(w->f, content, &file));
    blake3_hash(content, &hash);
    OK(kv_begin(w->f->kv));
    OK(kv_value_arrived(w->f->kv, &hash, large ? (struct slice){0} : content, file));
    OK(kv_commit(w->f->kv));
    kv_file_free(file);
    buf_fini(&owner);
}

/* The other author's entry "key-" removes all of his that begin so. */
static void remove_prefix(struct world *w)
{
    static const uint8_t prefix[] = {'k', 'e', 'y', '-'};
    static const uint8_t content[] = {'x'};
    for (int k = 0; k < KEYS; k++) {
        w->next.keys[k].cells[OTHER] = (struct cell){0};
        settle_key(&w->next.keys[k]);
    }
    receive(w, slice_of(prefix, sizeof prefix), slice_of(content, sizeof content));
}

/* Nothing of it is seen by readers. */
static void maintain(struct world *w)
{
    uint64_t next_due_us;
    struct kv *kv = w->f->kv;
    OK(kv_begin(kv));
    OK(kv_expire_due(kv, w->f->wall_us, 100, &next_due_us));
    OK(kv_commit(kv));
    w->f->wall_us += VALUE_GRACE_US + 1000;
    kv->checkpoint_at = 1;
    (void)kv_maintain(kv);
}

static void operate(struct world *w)
{
    int key = (int)random_below(&w->random, KEYS);
    size_t kind = random_below(&w->random, 20);
    w->f->wall_us += 1000;
    begin(w);
    if (kind < 7)
        local_write(w, key, w->values++, kind == 0);
    else if (kind < 9)
        local_write(w, key, (uint32_t)random_below(&w->random, SHARED), false);
    else if (kind < 11)
        local_write(w, key, NO_VALUE, false);
    else if (kind < 14)
        remote_write(w, key, w->values++);
    else if (kind < 15)
        remote_write(w, key, NO_VALUE);
    else if (kind < 18)
        arrive(w, key);
    else if (kind < 19)
        remove_prefix(w);
    else
        maintain(w);
    end(w);
}

/* ------------------------------------------------------------------------------------------ tests */

static void run_script(struct world *w, bool synced)
{
    struct memdisk_config config = {
        .capacity_bytes = 64 << 20, .seed = w->random.state, .forgetful = true, .changed = cut_here, .arg = w};
    w->synced = synced;
    w->values = SHARED;
    w->busy = true; /* nothing is promised before the store is there */
    OK(memdisk_new(&config, &w->disk));
    OK(memdisk_files(w->disk, w->blobs, &w->files));
    w->f->config.vfs = memdisk_vfs(w->disk);
    w->f->config.files = w->files;
    w->f->config.sync_every_commit = synced;
    fixture_open(w->f);
    w->busy = false;
    for (int n = 0; n < OPERATIONS; n++) {
        operate(w);
        int wrong = differs(w->f, &w->now);
        if (wrong >= 0) fail_msg("operation %d: key-%d", n, wrong);
    }
    w->busy = true;
    fixture_check(w->f);
    assert_true(w->cuts > 3 * OPERATIONS);
    print_message("%ju changes of the disk, %ju stores looked at\n", (uintmax_t)w->cuts, (uintmax_t)w->looked_at);
    kv_close(w->f->kv);
    w->f->kv = NULL;
    w->files->ops->free(w->files);
    memdisk_free(w->disk);
}

static void nothing_acknowledged_is_lost_with_syncs(void **state)
{
    run_script(*state, true);
}

static void every_store_opens_without_syncs(void **state)
{
    run_script(*state, false);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    void *fixture = NULL;
    fixture_setup(&fixture);
    w->f = fixture;
    w->random = random_start("power cuts");
    sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)(w->random.state & INT32_MAX) | 1, NULL); /* salts of logs */
    w->cut_seed = w->random.state;
    kv_close(w->f->kv);
    w->f->kv = NULL;
    snprintf(w->blobs, sizeof w->blobs, "%s/blobs", w->f->dir);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    void *fixture = w->f;
    fixture_teardown(&fixture);
    free(w);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_acknowledged_is_lost_with_syncs),
        TEST(every_store_opens_without_syncs),
    };
    /* Disks come and go: their memory is kept for the next one. */
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 28);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
