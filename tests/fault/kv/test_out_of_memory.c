/* Memory runs out at every point of a script over the whole store: each operation succeeds or fails with an error and
 * changes nothing, works when there is memory again, and what was acknowledged stays. HKV_OOM_STEP=1 looks at every
 * allocation; the default looks at so many of them that it takes a few seconds. */
#include <stdio.h>
#include <stdlib.h>

#include "crypto/blake3.h"
#include "fault/failing_memory.h"
#include "fixture/kv_store.h"
#include "kv/internal.h"
#include "store/memdisk.h"
#include "wire/ticket.h"

#define LARGE_BYTES 40000
#define STEP        37
#define ROUNDS_MAX  100000

struct world {
    struct fixture *f;
    struct memdisk *disk;
    struct files *files;
    char blobs[160];
    bool is_open;
};

/* ------------------------------------------------------------------------------------------ operations */

static uint8_t large[LARGE_BYTES];

static enum hkv_err in_transaction(struct fixture *f, enum hkv_err (*change)(struct fixture *f))
{
    TRY(kv_begin(f->kv));
    enum hkv_err err = change(f);
    if (err == HKV_OK) return kv_commit(f->kv);
    kv_rollback(f->kv);
    return err;
}

static enum hkv_err write_entry(struct fixture *f, struct slice key, struct slice content, struct kv_file *file)
{
    struct kv_write w = {.entry = fixture_entry(f, 's', key, 0, content), .file = file};
    if (!file) w.content = content;
    kv_content_parse(content, content.len, &w.parsed);
    TRY(kv_propose_stamp(f->kv, key, &w.entry.record.stamp_us));
    TRY(entry_sign(&w.entry, &f->self.namespace_secret, &f->self.author_secret));
    TRY(kv_begin(f->kv));
    enum hkv_err err = kv_savepoint(f->kv);
    if (err == HKV_OK) err = kv_write(f->kv, &w, &f->self);
    if (err == HKV_OK) err = kv_savepoint_release(f->kv);
    if (err == HKV_OK) return kv_commit(f->kv);
    kv_savepoint_rollback(f->kv);
    kv_rollback(f->kv);
    return err;
}

static enum hkv_err put_small(struct fixture *f)
{
    return write_entry(f, fixture_key("small"), slice_of_text("a value"), NULL);
}

static enum hkv_err put_longer(struct fixture *f)
{
    return write_entry(f, fixture_key("longer"), slice_of(large, 16000), NULL);
}

static enum hkv_err delete_small(struct fixture *f)
{
    return write_entry(f, fixture_key("small"), slice_of(kv_tombstone_content, sizeof kv_tombstone_content), NULL);
}

static enum hkv_err put_large(struct fixture *f)
{
    struct kv_file *file = NULL;
    struct buf outboard = {0};
    struct hash hash;
    blake3_hash(slice_of(large, sizeof large), &hash);
    enum hkv_err err = kv_file_create(f->kv, &file);
    if (err == HKV_OK) err = kv_file_write(file, 0, slice_of(large, sizeof large));
    if (err == HKV_OK) err = buf_append(&outboard, large, 128);
    if (err == HKV_OK) err = kv_file_seal(file, &hash, sizeof large, &outboard);
    if (err == HKV_OK) err = write_entry(f, fixture_key("large"), slice_of(large, sizeof large), file);
    kv_file_free(file);
    buf_fini(&outboard);
    return err;
}

static enum hkv_err receive(struct fixture *f, const struct entry *e)
{
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_origin origin = {.peer = {{7}}, .provides_content = true};
    struct entry parent;
    struct buf key = {0};
    enum docs_insert would, out;
    enum hkv_err err = kv_begin(f->kv);
    if (err != HKV_OK) return err;
    err = r->ops->would_insert(r, e, &would);
    if (err == HKV_OK) err = r->ops->insert(r, e, &origin, &out, &parent, &key);
    if (err == HKV_OK)
        err = kv_commit(f->kv);
    else
        kv_rollback(f->kv);
    buf_fini(&key);
    return err;
}

static enum hkv_err receive_native(struct fixture *f)
{
    struct entry e = fixture_entry(f, 'b', fixture_key("remote"), FIXTURE_NOW_US, slice_of_text("from elsewhere"));
    return receive(f, &e);
}

static enum hkv_err receive_foreign(struct fixture *f)
{
    struct entry e = fixture_entry(f, 'b', slice_of_text("foreign"), FIXTURE_NOW_US, slice_of_text("plain"));
    return receive(f, &e);
}

/* Removes its author's entries below it. */
static enum hkv_err receive_prefix(struct fixture *f)
{
    struct entry e = fixture_entry(f, 'b', slice_of_text("rem"), FIXTURE_NOW_US + 5, slice_of_text("above"));
    return receive(f, &e);
}

static enum hkv_err receive_early(struct fixture *f)
{
    struct entry e = fixture_entry(f, 'c', fixture_key("early"), FIXTURE_NOW_US + 2 * KV_FUTURE_US, slice_of_text("e"));
    return receive(f, &e);
}

static enum hkv_err value_arrives(struct fixture *f)
{
    struct hash hash;
    blake3_hash(slice_of_text("from elsewhere"), &hash);
    return kv_value_arrived(f->kv, &hash, slice_of_text("from elsewhere"), NULL);
}

static enum hkv_err arrive(struct fixture *f)
{
    return in_transaction(f, value_arrives);
}

static enum hkv_err take_and_fail(struct fixture *f)
{
    struct kv_wanted wanted[4];
    size_t count, inserted;
    uint64_t next_us;
    TRY(kv_wanted_wake(f->kv, &(struct endpoint_id){{9}}));
    TRY(kv_wanted_take(f->kv, f->wall_us, 4, wanted, &count, &next_us));
    for (size_t i = 0; i < count; i++) TRY(kv_value_failed(f->kv, &wanted[i].hash, f->wall_us));
    TRY(kv_refused_retry(f->kv, 10, &inserted, &next_us));
    return kv_expire_due(f->kv, f->wall_us, 10, &next_us);
}

static enum hkv_err want(struct fixture *f)
{
    return in_transaction(f, take_and_fail);
}

static enum hkv_err remember_peer(struct fixture *f)
{
    struct kv_peer peer = {.id = {{9}}, .source = KV_PEER_SEED};
    return kv_peer_put(f->kv, &peer);
}

static enum hkv_err peer(struct fixture *f)
{
    return in_transaction(f, remember_peer);
}

static bool see_item(void *arg, struct kv_item *item)
{
    (void)arg, (void)item;
    return true;
}

static bool see_history(void *arg, const struct kv_history_item *item)
{
    (void)arg, (void)item;
    return true;
}

static bool see_peer(void *arg, const struct kv_peer *item)
{
    (void)arg, (void)item;
    return true;
}

static enum hkv_err read_all(struct fixture *f)
{
    struct kv_item item;
    bool any;
    TRY(kv_has_user_keys(f->kv, &any));
    TRY(kv_get(f->kv, fixture_key("large"), KV_WANT_VALUE, &item));
    kv_item_fini(&item);
    TRY(kv_get(f->kv, fixture_key("longer"), KV_WANT_VALUE, &item));
    kv_item_fini(&item);
    TRY(kv_list(f->kv, KV_KEY_USER, (struct slice){0}, (struct slice){0}, KV_WANT_VALUE, 1 << 20, see_item, NULL));
    TRY(kv_history(f->kv, fixture_key("longer"), see_history, NULL));
    struct kv_changes_page page;
    TRY(kv_changes_read(f->kv, &(struct kv_changes_query){.epoch = kv_epoch(f->kv), .listing = true}, &page));
    kv_changes_fini(&page.changes);
    return kv_peer_list(f->kv, see_peer, NULL);
}

static enum hkv_err tidy(struct fixture *f)
{
    f->wall_us += VALUE_GRACE_US + 1000000;
    f->kv->checkpoint_at = 1;
    while (kv_maintain(f->kv)) continue;
    return HKV_OK;
}

static enum hkv_err tickets(struct fixture *f)
{
    struct endpoint_address self = {.id = {{3}}};
    struct doc_ticket ticket = {.namespace = f->config.namespace, .endpoints = &self, .endpoint_count = 1};
    struct doc_ticket read = {0};
    struct buf text = {0};
    struct socket_address address = {.ip = {127, 0, 0, 1}, .port = 9};
    enum hkv_err err = address_set_add_socket(&self.addrs, &address);
    if (err == HKV_OK) err = doc_ticket_encode(&ticket, &text);
    if (err == HKV_OK) {
        err = doc_ticket_decode(buf_slice(&text), &read);
        if (err == HKV_OK) doc_ticket_fini(&read);
    }
    buf_fini(&text);
    address_set_fini(&self.addrs);
    return err;
}

static const struct operation {
    const char *name;
    enum hkv_err (*run)(struct fixture *f);
} operations[] = {
    {"put_small", put_small},
    {"put_longer", put_longer},
    {"put_large", put_large},
    {"receive_native", receive_native},
    {"want", want},
    {"arrive", arrive},
    {"read_all", read_all},
    {"delete_small", delete_small},
    {"receive_foreign", receive_foreign},
    {"receive_prefix", receive_prefix},
    {"receive_early", receive_early},
    {"peer", peer},
    {"tidy", tidy},
    {"tickets", tickets},
    {"put_large again", put_large},
    {"read_all again", read_all},
};

/* ------------------------------------------------------------------------------------------ the test */

static enum hkv_err open_store(struct world *w)
{
    bool created;
    struct namespace_id other;
    enum hkv_err err = kv_open(&w->f->config, &w->f->kv, &created, &other);
    w->is_open = err == HKV_OK;
    if (err != HKV_OK) w->f->kv = NULL;
    return err;
}

static void check_error(const char *what, enum hkv_err err, uint64_t nth)
{
    if (err == HKV_OK || err == HKV_E_NOMEM) return;
    print_error("%s, allocation %ju: %s: %s\n", what, (uintmax_t)nth, error_name(err), error_last());
    fail();
}

/* Runs one operation with the failure inside, and again without when it failed. The allocations that are left. */
static void run_operation(struct world *w, const struct operation *op, struct failing_memory *memory)
{
    failing_memory_begin(memory);
    enum hkv_err err = op->run(w->f);
    uint64_t failed = failing_memory_end();
    uint64_t seen = failing_memory_seen();
    check_error(op->name, err, memory->nth);
    assert_false(kv_in_transaction(w->f->kv));
    if (failed == 0) assert_int_equal(err, HKV_OK);
    if (err != HKV_OK) assert_ok(op->run(w->f), op->name, __FILE__, __LINE__);
    memory->nth = memory->nth > seen ? memory->nth - seen : 0;
}

static void run_script(struct world *w, uint64_t nth, uint64_t count, bool *reached)
{
    struct failing_memory memory = {nth, count};
    OK(memdisk_new(&(struct memdisk_config){.capacity_bytes = 32 << 20}, &w->disk));
    OK(memdisk_files(w->disk, w->blobs, &w->files));
    w->f->config.vfs = memdisk_vfs(w->disk);
    w->f->config.files = w->files;
    w->f->wall_us = FIXTURE_NOW_US;
    failing_memory_begin(&memory);
    enum hkv_err err = open_store(w);
    (void)failing_memory_end();
    memory.nth = nth > failing_memory_seen() ? nth - failing_memory_seen() : 0;
    check_error("open", err, nth);
    if (err != HKV_OK) OK(open_store(w));
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) run_operation(w, &operations[i], &memory);
    *reached = memory.nth == 0;
    assert_null(fixture_get(w->f, "small"));
    fixture_check(w->f);
    kv_close(w->f->kv);
    OK(open_store(w));
    assert_ok(read_all(w->f), "read_all", __FILE__, __LINE__);
    fixture_check(w->f);
    kv_close(w->f->kv);
    w->f->kv = NULL;
    w->files->ops->free(w->files);
    memdisk_free(w->disk);
}

static void run_all(struct world *w, uint64_t first, uint64_t count)
{
    const char *wanted = getenv("HKV_OOM_STEP");
    uint64_t step = wanted ? strtoull(wanted, NULL, 0) : STEP;
    bool reached = true;
    uint64_t rounds = 0;
    for (uint64_t nth = first; reached; nth += step, rounds++) {
        run_script(w, nth, count, &reached);
        assert_true(rounds < ROUNDS_MAX);
    }
    assert_true(rounds > 10);
}

static void one_failed_allocation_is_an_ordinary_error(void **state)
{
    run_all(*state, 1, 1);
}

static void many_failed_allocations_in_a_row_are_an_ordinary_error(void **state)
{
    run_all(*state, 1 + STEP / 2, 200);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    void *fixture = NULL;
    fixture_setup(&fixture);
    w->f = fixture;
    kv_close(w->f->kv);
    w->f->kv = NULL;
    snprintf(w->blobs, sizeof w->blobs, "%s/blobs", w->f->dir);
    for (size_t i = 0; i < sizeof large; i++) large[i] = (uint8_t)(i * 7 + i / 251);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_failed_allocation_is_an_ordinary_error, setup, teardown),
        cmocka_unit_test_setup_teardown(many_failed_allocations_in_a_row_are_an_ordinary_error, setup, teardown),
    };
    failing_memory_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
