/* The whole store on a simulated disk: full disks, I/O errors, and power cuts among them (test_power_cuts.c of
 * tests/prop cuts after every change of a longer script). What was acknowledged stays, every store opens, and its
 * tables agree. HKV_SEED tries other scripts. */
#include "fixture/kv_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "crypto/blake3.h"
#include "kv/internal.h"
#include "store/memdisk.h"

#define KEYS        12
#define OPERATIONS  48
#define LARGE_BYTES 20000 /* a value in a file */
#define VALUE_BYTES (LARGE_BYTES + 16)
#define TEST(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)

struct value {
    bool present;
    size_t len;
    char text[VALUE_BYTES];
};

/* What the store must show, and what a write that was not acknowledged may have made of one key. */
struct model {
    struct value keys[KEYS];
    int open_key; /* -1: none */
    struct value open;
};

struct world {
    struct fixture *f;
    struct memdisk *disk;
    struct files *files;
    char blobs[160];
    struct model model;
    struct memdisk_cut cut; /* made after each change */
    unsigned cuts;
    unsigned cuts_after; /* so many changes; 0: each */
    bool busy;           /* a cut is being looked at */
    uint64_t dice;
    uint64_t first_seed; /* HKV_SEED, to try others */
};

static void cut_here(void *arg);

static void disk_open(struct world *w, uint64_t seed, bool cuts)
{
    seed += w->first_seed;
    struct memdisk_config config = {
        .capacity_bytes = 32 << 20, .seed = seed, .forgetful = true, .changed = cuts ? cut_here : NULL, .arg = w};
    w->model = (struct model){.open_key = -1};
    w->dice = seed;
    OK(memdisk_new(&config, &w->disk));
    OK(memdisk_files(w->disk, w->blobs, &w->files));
    w->f->config.vfs = memdisk_vfs(w->disk);
    w->f->config.files = w->files;
    w->f->config.sync_every_commit = true;
    w->busy = true; /* nothing is promised before the store is there */
    fixture_open(w->f);
    w->busy = false;
}

static void disk_close(struct world *w)
{
    w->busy = true;
    kv_close(w->f->kv);
    w->f->kv = NULL;
    w->files->ops->free(w->files);
    memdisk_free(w->disk);
    w->disk = NULL;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    void *fixture = NULL;
    const char *seed = getenv("HKV_SEED");
    w->first_seed = seed ? strtoull(seed, NULL, 0) : 0;
    fixture_setup(&fixture);
    w->f = fixture;
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

/* ------------------------------------------------------------------------------------------ the script */

static void value_make(struct value *v, unsigned n, size_t len, bool present)
{
    v->present = present;
    v->len = len;
    memset(v->text, 'a' + (int)(n % 26), len);
    int digits = snprintf(v->text, 16, "%u:", n);
    v->text[digits] = ' ';
}

static enum hkv_err put_large(struct fixture *f, struct slice key, struct slice content)
{
    struct kv_write w = {.entry = fixture_entry(f, 's', key, 0, content)};
    struct buf outboard = {0};
    kv_content_parse(content, content.len, &w.parsed);
    enum hkv_err err = kv_file_create(f->kv, &w.file);
    if (err == HKV_OK) err = kv_file_write(w.file, 0, content);
    if (err == HKV_OK) err = buf_append(&outboard, content.data, 64 * ((content.len - 1) / 16384));
    if (err == HKV_OK) err = kv_file_seal(w.file, &w.entry.record.hash, content.len, &outboard);
    if (err == HKV_OK) err = kv_propose_stamp(f->kv, key, &w.entry.record.stamp_us);
    if (err == HKV_OK) err = entry_sign(&w.entry, &f->self.namespace_secret, &f->self.author_secret);
    if (err == HKV_OK) err = kv_begin(f->kv);
    if (err == HKV_OK) {
        err = kv_write(f->kv, &w, &f->self);
        if (err == HKV_OK)
            err = kv_commit(f->kv);
        else
            kv_rollback(f->kv);
    }
    kv_file_free(w.file);
    buf_fini(&outboard);
    return err;
}

static enum hkv_err put_small(struct fixture *f, struct slice key, const struct value *v)
{
    struct kv_write w = {0};
    struct slice content =
        v->present ? slice_of(v->text, v->len) : slice_of(kv_tombstone_content, sizeof kv_tombstone_content);
    w.entry = fixture_entry(f, 's', key, 0, content);
    w.content = content;
    kv_content_parse(content, content.len, &w.parsed);
    TRY(kv_propose_stamp(f->kv, key, &w.entry.record.stamp_us));
    TRY(entry_sign(&w.entry, &f->self.namespace_secret, &f->self.author_secret));
    TRY(kv_begin(f->kv));
    enum hkv_err err = kv_write(f->kv, &w, &f->self);
    if (err == HKV_OK) return kv_commit(f->kv);
    kv_rollback(f->kv);
    return err;
}

/* A document key in memory of its own: a cut is looked at while a write still needs its key. */
struct key {
    uint8_t bytes[24];
};

static struct slice key_of(int number, struct key *key)
{
    int len = snprintf((char *)key->bytes, sizeof key->bytes, "key-%d", number);
    return slice_of(key->bytes, (size_t)len + 1);
}

static uint64_t roll(struct world *w)
{
    w->dice = w->dice * 6364136223846793005u + 1442695040888963407u;
    return w->dice >> 33;
}

/* Puts, large puts, deletes and maintenance; values that nobody refers to any more are due after the grace time. */
static enum hkv_err step(struct world *w, unsigned n)
{
    struct model *m = &w->model;
    unsigned kind = (unsigned)(roll(w) % 8);
    int key = (int)(roll(w) % KEYS);
    w->f->wall_us += 1000;
    if (n % 12 == 11) {
        w->f->wall_us += VALUE_GRACE_US + 1000;
        w->f->kv->checkpoint_at = 1;
        (void)kv_maintain(w->f->kv);
        return HKV_OK;
    }
    value_make(&m->open, n, kind < 2 ? LARGE_BYTES : kind < 4 ? 6000 : 40, kind != 7);
    m->open_key = key;
    struct key room;
    enum hkv_err err = kind < 2 ? put_large(w->f, key_of(key, &room), slice_of(m->open.text, m->open.len))
                                : put_small(w->f, key_of(key, &room), &m->open);
    if (err == HKV_OK) {
        m->keys[key] = m->open;
        m->open_key = -1;
    }
    return err;
}

/* ------------------------------------------------------------------------------------------ checking */

static bool shows(const struct kv_item *item, const struct value *v)
{
    char text[VALUE_BYTES + 1];
    if (item->length != v->len) return false;
    if (item->blob.fd < 0) return memcmp(item->value.data, v->text, v->len) == 0;
    ssize_t n = pread(item->blob.fd, text, sizeof text, 0);
    return n == (ssize_t)v->len && memcmp(text, v->text, v->len) == 0;
}

static bool key_shows(struct fixture *f, int key, const struct value *v)
{
    struct kv_item item;
    struct key room;
    enum hkv_err err = kv_get(f->kv, key_of(key, &room), KV_WANT_VALUE, &item);
    if (err == HKV_E_NOT_FOUND) return !v->present;
    assert_ok(err, "kv_get", __FILE__, __LINE__);
    bool same = v->present && shows(&item, v);
    kv_item_fini(&item);
    return same;
}

/* What was acknowledged is there; a write that was not may be, whole. */
static void check_model(struct fixture *f, const struct model *m)
{
    for (int k = 0; k < KEYS; k++) {
        if (key_shows(f, k, &m->keys[k])) continue;
        if (k == m->open_key && key_shows(f, k, &m->open)) continue;
        print_error("key-%d is not what was acknowledged\n", k);
        fail();
    }
}

static void check_spans(struct fixture *f)
{
    uint64_t count;
    struct fingerprint print;
    struct kv_counts counts;
    kv_fingerprint(f->kv, &count, &print);
    kv_counts(f->kv, &counts);
    assert_int_equal(count, counts.entries);
}

/* Opens what a cut leaves, on a disk of its own. `acknowledged`: what was is still there. */
static void check_after_cut(struct world *w, const struct memdisk_cut *cut, bool acknowledged, bool deep)
{
    struct memdisk *disk = NULL;
    struct fixture f = *w->f;
    OK(memdisk_crashed_copy(w->disk, cut, &disk));
    OK(memdisk_files(disk, w->blobs, &f.config.files));
    f.config.vfs = memdisk_vfs(disk);
    f.config.env = &f.env;
    fixture_open(&f);
    if (acknowledged) check_model(&f, &w->model);
    check_spans(&f);
    if (deep) {
        fixture_check(&f);
        OK(fixture_put(&f, "afterwards", "works"));
        assert_string_equal(fixture_get(&f, "afterwards"), "works");
    }
    kv_close(f.kv);
    f.config.files->ops->free(f.config.files);
    memdisk_free(disk);
}

static void cut_here(void *arg)
{
    struct world *w = arg;
    if (w->busy) return;
    w->busy = true;
    w->cuts++;
    w->cut.seed++;
    if (w->cuts_after == 0 || w->cuts % w->cuts_after == 0)
        check_after_cut(w, &w->cut, w->f->config.sync_every_commit, w->cuts % 8 == 0);
    w->busy = false;
}

/* ------------------------------------------------------------------------------------------ tests */

/* Without a sync for each commit the last writes may go, and nothing else. */
static void cuts_without_syncs_leave_a_store_that_opens(void **state)
{
    struct world *w = *state;
    disk_open(w, 5, false);
    kv_close(w->f->kv);
    w->f->config.sync_every_commit = false;
    fixture_open(w->f);
    for (unsigned n = 0; n < OPERATIONS; n++) {
        OK(step(w, n));
        check_after_cut(w, &(struct memdisk_cut){w->first_seed + n, 50, 25}, false, n % 4 == 0);
    }
    disk_close(w);
}

static void a_store_is_whole_after_a_clean_end(void **state)
{
    struct world *w = *state;
    disk_open(w, 6, false);
    for (unsigned n = 0; n < OPERATIONS; n++) OK(step(w, n));
    fixture_reopen(w->f);
    check_model(w->f, &w->model);
    fixture_check(w->f);
    disk_close(w);
}

/* A write that failed may have happened or not: which of both is settled by what the store shows now. */
static void settle(struct world *w)
{
    struct model *m = &w->model;
    if (m->open_key < 0) return;
    if (!key_shows(w->f, m->open_key, &m->keys[m->open_key])) {
        assert_true(key_shows(w->f, m->open_key, &m->open));
        m->keys[m->open_key] = m->open;
    }
    m->open_key = -1;
}

static void a_full_disk_fails_writes_clearly_and_heals(void **state)
{
    struct world *w = *state;
    unsigned refused = 0;
    disk_open(w, 7, false);
    for (unsigned n = 0; n < OPERATIONS; n++) OK(step(w, n));
    for (unsigned n = OPERATIONS; n < 3 * OPERATIONS; n++) {
        struct memdisk_faults faults = {.budget_bytes = memdisk_used_bytes(w->disk) + roll(w) % 3 * 8192};
        memdisk_faults_set(w->disk, &faults);
        enum hkv_err err = step(w, n);
        if (err != HKV_OK) {
            assert_int_equal(err, HKV_E_DISK_FULL);
            refused++;
        }
        assert_false(kv_in_transaction(w->f->kv));
        check_model(w->f, &w->model); /* reads work on a full disk */
        settle(w);
    }
    assert_true(refused > 10);
    memdisk_faults_set(w->disk, &(struct memdisk_faults){0});
    for (unsigned n = 0; n < OPERATIONS; n++) OK(step(w, n));
    fixture_reopen(w->f);
    check_model(w->f, &w->model);
    fixture_check(w->f);
    disk_close(w);
}

static unsigned run_with_errors(struct world *w, const struct memdisk_faults *faults)
{
    unsigned failed = 0;
    for (unsigned n = 0; n < 3 * OPERATIONS; n++) {
        memdisk_faults_set(w->disk, faults);
        enum hkv_err err = step(w, n);
        memdisk_faults_set(w->disk, &(struct memdisk_faults){0});
        if (err != HKV_OK) {
            if (err != HKV_E_DISK) print_error("seed %ju: %s\n", (uintmax_t)w->cut.seed, error_last());
            assert_int_equal(err, HKV_E_DISK);
            failed++;
        }
        assert_false(kv_in_transaction(w->f->kv));
        w->cut.seed++;
        if (n % 8 == 0) check_after_cut(w, &w->cut, true, n % 32 == 0);
        settle(w);
        check_model(w->f, &w->model);
    }
    return failed;
}

static void io_errors_fail_writes_and_lose_nothing_acknowledged(void **state)
{
    struct world *w = *state;
    const struct memdisk_faults kinds[] = {
        {.of[MEMDISK_READ].errors_per_million = 20000},
        {.of[MEMDISK_WRITE].errors_per_million = 50000},
        {.of[MEMDISK_SYNC].errors_per_million = 200000},
        {.of[MEMDISK_SYNC].errors_per_million = 200000, .sync_error_forgets = true},
    };
    for (uint64_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        disk_open(w, 20 + i, false);
        w->cut = (struct memdisk_cut){w->first_seed + 20 + i, 40, 20};
        unsigned failed = run_with_errors(w, &kinds[i]);
        if (i > 0) assert_true(failed > 5);
        fixture_reopen(w->f);
        check_model(w->f, &w->model);
        fixture_check(w->f);
        disk_close(w);
    }
}

/* The n-th sync fails and what it did not write is lost for good; later writes are acknowledged, and now and then the
 * power goes. Every sync of the script has its turn: of the log, of the database, of value files
 * and of their folder. */
static void run_script_with_a_lost_sync(struct world *w, bool sync_every_commit, unsigned keep_percent)
{
    unsigned failed = 0;
    bool reached = true;
    for (uint64_t n = 1; reached; n++) {
        struct memdisk_faults faults = {.of[MEMDISK_SYNC].error_nth = n, .sync_error_forgets = true};
        disk_open(w, 50, true);
        w->busy = true;
        kv_close(w->f->kv);
        w->f->config.sync_every_commit = sync_every_commit;
        fixture_open(w->f);
        w->cut = (struct memdisk_cut){w->first_seed + n * 1000, keep_percent, 0};
        w->cuts_after = sync_every_commit ? 97 : 13;
        memdisk_faults_set(w->disk, &faults);
        for (unsigned i = 0; i < OPERATIONS / 2; i++) {
            failed += step(w, i) != HKV_OK;
            w->busy = memdisk_operations(w->disk, MEMDISK_SYNC) < n;
            settle(w);
        }
        reached = memdisk_operations(w->disk, MEMDISK_SYNC) >= n;
        check_model(w->f, &w->model);
        disk_close(w);
    }
    assert_true(failed > 0);
}

static void a_lost_sync_takes_nothing_that_is_acknowledged_later(void **state)
{
    run_script_with_a_lost_sync(*state, true, 50);
}

static void a_lost_sync_leaves_a_store_that_opens_without_syncs_of_commits(void **state)
{
    run_script_with_a_lost_sync(*state, false, 50);
}

/* The log of a run that ended with a disk that failed to sync it: what is read of it need not be on the disk. */
static void a_sync_lost_in_the_run_before_takes_nothing_that_is_acknowledged_later(void **state)
{
    struct world *w = *state;
    for (unsigned keep_percent = 0; keep_percent < 100; keep_percent += 30) {
        struct memdisk_faults faults = {.of[MEMDISK_SYNC].errors_per_million = 1000000, .sync_error_forgets = true};
        struct memdisk_cut cut = {.seed = keep_percent, .keep_percent = keep_percent};
        struct key room;
        disk_open(w, 70, false);
        w->busy = true;
        for (unsigned i = 0; i < 5; i++) OK(step(w, i));
        memdisk_faults_set(w->disk, &faults);
        value_make(&w->model.open, 100, 6000, true);
        w->model.open_key = 0;
        assert_int_equal(put_small(w->f, key_of(0, &room), &w->model.open), HKV_E_DISK);
        kv_close(w->f->kv);
        memdisk_faults_set(w->disk, &(struct memdisk_faults){0});
        fixture_open(w->f);
        settle(w);
        for (unsigned i = 5; i < 11; i++) OK(step(w, i));
        check_after_cut(w, &cut, true, true);
        disk_close(w);
    }
}

/* The power goes in the middle of whatever is under way, and the store dies with it. */
static void the_power_goes_and_the_store_comes_back(void **state)
{
    struct world *w = *state;
    disk_open(w, 8, false);
    for (unsigned life = 0; life < 40; life++) {
        memdisk_faults_set(w->disk, &(struct memdisk_faults){.off_after_changes = 1 + roll(w) % 40});
        for (unsigned n = life * 100; step(w, n) == HKV_OK && n % 100 < 90; n++) continue;
        kv_close(w->f->kv);
        w->files->ops->free(w->files);
        OK(memdisk_crash(w->disk, &(struct memdisk_cut){w->first_seed + life, 40, 20}));
        memdisk_faults_set(w->disk, &(struct memdisk_faults){0});
        OK(memdisk_files(w->disk, w->blobs, &w->files));
        w->f->config.files = w->files;
        fixture_open(w->f);
        check_model(w->f, &w->model);
        settle(w);
        while (kv_maintain(w->f->kv)) continue;
        fixture_check(w->f);
    }
    disk_close(w);
}

/* A power cut, or the end of the process, while the store is made for the first time. */
static void a_store_cut_off_while_it_is_made_opens(void **state)
{
    struct world *w = *state;
    w->busy = false;
    w->f->config.sync_every_commit = true;
    for (unsigned keep = 0; keep <= 100; keep += 50) {
        w->cuts = 0;
        w->cut = (struct memdisk_cut){w->first_seed + keep, keep, 0};
        w->model = (struct model){.open_key = -1};
        struct memdisk_config config = {.capacity_bytes = 32 << 20, .forgetful = true, .changed = cut_here, .arg = w};
        OK(memdisk_new(&config, &w->disk));
        OK(memdisk_files(w->disk, w->blobs, &w->files));
        w->f->config.vfs = memdisk_vfs(w->disk);
        w->f->config.files = w->files;
        fixture_open(w->f);
        assert_true(w->cuts > 5);
        disk_close(w);
        w->busy = false;
    }
}

/* Opens with the n-th operation failing, for each n, until none is left to fail. */
static void open_with_errors(struct world *w, enum memdisk_operation operation, bool fresh)
{
    bool created;
    struct namespace_id other;
    enum hkv_err err = HKV_E_DISK;
    for (uint64_t n = 1; err != HKV_OK || n < 4; n++) {
        struct memdisk_faults faults = {0};
        struct memdisk *disk = NULL;
        faults.of[operation].error_nth = n;
        if (fresh) {
            OK(memdisk_new(&(struct memdisk_config){.capacity_bytes = 32 << 20, .forgetful = true}, &disk));
        } else {
            OK(memdisk_crashed_copy(w->disk, &(struct memdisk_cut){n, 50, 0}, &disk));
        }
        OK(memdisk_files(disk, w->blobs, &w->f->config.files));
        w->f->config.vfs = memdisk_vfs(disk);
        memdisk_faults_set(disk, &faults);
        err = kv_open(&w->f->config, &w->f->kv, &created, &other);
        memdisk_faults_set(disk, &(struct memdisk_faults){0});
        if (err != HKV_OK) assert_int_equal(err, HKV_E_DISK);
        if (err == HKV_OK) kv_close(w->f->kv);
        fixture_open(w->f);
        if (!fresh) check_model(w->f, &w->model);
        fixture_check(w->f);
        kv_close(w->f->kv);
        w->f->kv = NULL;
        w->f->config.files->ops->free(w->f->config.files);
        memdisk_free(disk);
        assert_true(n < 1000);
    }
}

static void opening_with_io_errors_fails_clearly_and_works_later(void **state)
{
    struct world *w = *state;
    disk_open(w, 30, false);
    for (unsigned n = 0; n < OPERATIONS; n++) OK(step(w, n));
    struct kv *kv = w->f->kv;
    for (int operation = 0; operation < MEMDISK_OPERATIONS; operation++) {
        open_with_errors(w, (enum memdisk_operation)operation, true);
        open_with_errors(w, (enum memdisk_operation)operation, false);
    }
    w->f->kv = kv;
    disk_close(w);
}

/* Writes under savepoints of one transaction, as the replica thread groups them. */
static unsigned run_group(struct world *w, unsigned n)
{
    struct value written[KEYS];
    struct kv_write writes[KEYS] = {0};
    struct key rooms[KEYS];
    bool done[KEYS] = {0};
    unsigned failed = 0;
    enum hkv_err err = kv_begin(w->f->kv);
    for (int k = 0; k < KEYS && err == HKV_OK; k++) {
        struct kv_write *write = &writes[k];
        value_make(&written[k], n * KEYS + (unsigned)k, k % 3 == 0 ? 9000 : 50, true);
        write->content = slice_of(written[k].text, written[k].len);
        write->entry = fixture_entry(w->f, 's', key_of(k, &rooms[k]), w->f->wall_us + n, write->content);
        kv_content_parse(write->content, write->content.len, &write->parsed);
        OK(entry_sign(&write->entry, &w->f->self.namespace_secret, &w->f->self.author_secret));
        err = kv_savepoint(w->f->kv);
        enum hkv_err one = err == HKV_OK ? kv_write(w->f->kv, write, &w->f->self) : err;
        if (one == HKV_OK) one = kv_savepoint_release(w->f->kv);
        done[k] = one == HKV_OK;
        if (one != HKV_OK) kv_savepoint_rollback(w->f->kv);
        if (one != HKV_OK) failed++;
        if (!kv_in_transaction(w->f->kv)) err = one;
    }
    if (err == HKV_OK)
        err = kv_commit(w->f->kv);
    else
        kv_rollback(w->f->kv);
    for (int k = 0; k < KEYS && err == HKV_OK; k++)
        if (done[k]) w->model.keys[k] = written[k];
    return failed + (err != HKV_OK);
}

static void groups_take_back_the_parts_that_failed_and_no_others(void **state)
{
    struct world *w = *state;
    unsigned failed[3] = {0};
    disk_open(w, 40, false);
    for (unsigned n = 0; n < 120; n++) {
        unsigned kind = n % 3;
        struct memdisk_faults faults = {0};
        if (kind == 0) faults.of[MEMDISK_READ].errors_per_million = 100000;
        if (kind == 1) faults.of[MEMDISK_WRITE].errors_per_million = 30000;
        if (kind == 2) faults.budget_bytes = memdisk_used_bytes(w->disk) + roll(w) % 8 * 4096;
        OK(db_cache_resize(&w->f->kv->db, n % 2 ? 1 << 20 : 0)); /* spills, and reads again */
        w->f->wall_us += 1000000;
        memdisk_faults_set(w->disk, &faults);
        failed[kind] += run_group(w, n);
        memdisk_faults_set(w->disk, &(struct memdisk_faults){0});
        assert_false(kv_in_transaction(w->f->kv));
        check_model(w->f, &w->model);
        if (n % 5 == 0) fixture_check(w->f);
    }
    assert_true(failed[1] > 0 && failed[2] > 0);
    fixture_reopen(w->f);
    check_model(w->f, &w->model);
    fixture_check(w->f);
    disk_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_store_is_whole_after_a_clean_end),
        TEST(cuts_without_syncs_leave_a_store_that_opens),
        TEST(a_full_disk_fails_writes_clearly_and_heals),
        TEST(io_errors_fail_writes_and_lose_nothing_acknowledged),
        TEST(a_lost_sync_takes_nothing_that_is_acknowledged_later),
        TEST(a_lost_sync_leaves_a_store_that_opens_without_syncs_of_commits),
        TEST(a_sync_lost_in_the_run_before_takes_nothing_that_is_acknowledged_later),
        TEST(the_power_goes_and_the_store_comes_back),
        TEST(a_store_cut_off_while_it_is_made_opens),
        TEST(opening_with_io_errors_fails_clearly_and_works_later),
        TEST(groups_take_back_the_parts_that_failed_and_no_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
