#include "sim/twin.h"

#include <stdio.h>

#include "crypto/blake3.h"
#include "kv/kv.h"
#include "node/node.h"
#include "store/db.h"

#define DATABASE    "node/docs/store.db"
#define ANSWERS_MAX SIM_SHADOW_MAX

struct answer {
    char key[SIM_KEY_MAX];
    struct hkv_version version;
    uint64_t expires_us;
    bool readable; /* else its value file is damaged */
    struct hash value;
};

struct twin {
    struct sim_node *node;
    struct memdisk *disk; /* a copy */
    struct hkv_store *store;
    struct answer answers[ANSWERS_MAX]; /* of the sound copy */
    size_t count;
    bool damaged;
    unsigned refusals;
};

/* ---- its life ---- */

static enum hkv_err open_twin(struct twin *t)
{
    struct sim_world *world = &t->node->world;
    struct hkv_options o;
    const char *seeds[SIM_NODES_MAX];
    sim_node_options(t->node, &o, seeds);
    world->disk = t->disk;
    if (sim_world_ready(world) != HKV_OK) abort();
    world->dead = true; /* nobody hears of it */
    return node_open_in(&o, &world->base, &t->store);
}

static void copy_disk(struct twin *t)
{
    const struct memdisk_cut nothing_lost = {.keep_percent = 100};
    if (memdisk_crashed_copy(t->node->disk, &nothing_lost, &t->disk) != HKV_OK) abort();
}

static void drop(struct twin *t)
{
    if (t->store != NULL) hkv_close(t->store);
    t->store = NULL;
    memdisk_free(t->disk);
}

/* ---- what it answers ---- */

/* Whether the damaged copy refused, which it must do by the name of the file. */
static bool refuses(struct twin *t, const char *what, enum hkv_err err)
{
    struct sim_cluster *c = t->node->cluster;
    if (err == HKV_OK) return false;
    if (!t->damaged || err != HKV_E_CORRUPT || strstr(hkv_last_error(), DATABASE) == NULL)
        sim_fail(c, "node %u, a %s copy of its disk: %s: %s", t->node->index, t->damaged ? "damaged" : "sound", what,
                 hkv_last_error());
    sim_mark(c, SIM_MARK_DAMAGED_PAGE_REFUSED);
    t->refusals++;
    return true;
}

static const struct answer *find(const struct twin *t, const char *key)
{
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(t->answers[i].key, key) == 0) return &t->answers[i];
    return NULL;
}

static void read_sound(struct twin *t)
{
    struct hkv_page *page;
    if (refuses(t, "a listing", hkv_list_keys(t->store, "", 0, 0, NULL, &page))) return;
    for (size_t i = 0; i < page->count && t->count < ANSWERS_MAX; i++) {
        struct answer *a = &t->answers[t->count++];
        struct hkv_value value;
        (void)snprintf(a->key, sizeof a->key, "%s", page->entries[i].key);
        a->version = page->entries[i].version;
        enum hkv_err err = hkv_get(t->store, a->key, strlen(a->key), &value);
        a->readable = err == HKV_OK;
        if (err != HKV_OK) continue;
        a->expires_us = value.expires_us;
        blake3_hash(slice_of(value.data, value.length), &a->value);
        hkv_value_free(&value);
    }
    hkv_page_free(page);
}

static void compare_get(struct twin *t, const struct answer *a)
{
    struct hkv_value value;
    struct hash hash;
    enum hkv_err err = hkv_get(t->store, a->key, strlen(a->key), &value);
    if (err == HKV_E_NOT_FOUND && a->expires_us != 0) return; /* meanwhile */
    if (!a->readable && err == HKV_E_CORRUPT) return;
    if (refuses(t, a->key, err)) return;
    blake3_hash(slice_of(value.data, value.length), &hash);
    if ((a->readable && !hash_equal(&hash, &a->value)) || memcmp(&value.version, &a->version, sizeof a->version) != 0)
        sim_fail(t->node->cluster, "node %u, a damaged copy of its disk: %s shows another value or version",
                 t->node->index, a->key);
    hkv_value_free(&value);
}

static void compare_list(struct twin *t)
{
    struct hkv_page *page;
    struct sim_cluster *c = t->node->cluster;
    size_t lasting = 0, listed = 0;
    if (refuses(t, "a listing", hkv_list_keys(t->store, "", 0, 0, NULL, &page))) return;
    for (size_t i = 0; i < t->count; i++) lasting += t->answers[i].readable && t->answers[i].expires_us == 0;
    for (size_t i = 0; i < page->count; i++) {
        const struct hkv_list_entry *e = &page->entries[i];
        const struct answer *a = find(t, e->key);
        if (a == NULL && e->expires_us != 0) continue; /* by a clock that was set back it has not expired any more */
        if (a == NULL || memcmp(&a->version, &e->version, sizeof a->version) != 0)
            sim_fail(c, "node %u, a damaged copy of its disk lists %s, the sound one does not", t->node->index, e->key);
        listed += a->readable && a->expires_us == 0;
    }
    if (listed != lasting)
        sim_fail(c, "node %u, a damaged copy of its disk lists %zu of %zu keys", t->node->index, listed, lasting);
    hkv_page_free(page);
}

static void compare(struct twin *t)
{
    compare_list(t);
    for (size_t i = 0; i < t->count; i++) compare_get(t, &t->answers[i]);
}

/* Finds at least what reads found, and must not make it worse. */
static void verify(struct twin *t)
{
    struct hkv_verify_result r;
    struct sim_cluster *c = t->node->cluster;
    if (refuses(t, "a verification", hkv_verify(t->store, NULL, &r))) return;
    bool named = strstr(r.first, DATABASE) != NULL;
    if (r.unreadable ? !named : t->refusals > 0)
        sim_fail(c, "node %u, a damaged copy of its disk: reads are refused, a verification finds %s", t->node->index,
                 r.first[0] != 0 ? r.first : "nothing");
    if (r.unreadable) sim_mark(c, SIM_MARK_DAMAGED_PAGE_REFUSED);
}

static bool note(void *arg, const struct kv_refused *of)
{
    (void)of;
    *(bool *)arg = true;
    return false;
}

/* Whether the store changes by itself: entries wait for their time, and when it has come each copy takes them in at some
 * moment of its own, or never when it cannot read them. */
static bool changes_by_itself(struct twin *t)
{
    struct sim_node *node = t->node;
    struct kv *kv;
    struct namespace_id other;
    bool created, waits = false;
    copy_disk(t);
    struct kv_config config = {.data_dir = "node",
                               .namespace = node->cluster->namespace,
                               .cache_bytes = 1 << 20,
                               .read_only = true,
                               .env = &node->world.env->env,
                               .vfs = memdisk_vfs(t->disk)};
    if (memdisk_files(t->disk, "node/blobs", &config.files) != HKV_OK) abort();
    if (!refuses(t, "it does not open", kv_open(&config, &kv, &created, &other))) {
        (void)refuses(t, "a list of what waits", kv_refused_list(kv, 1, note, &waits));
        kv_close(kv);
    }
    config.files->ops->free(config.files);
    drop(t);
    return waits;
}

void sim_twin_check(struct sim_node *node)
{
    struct twin t = {.node = node};
    uint64_t bit = 0, length = 0;
    if (changes_by_itself(&t)) return;
    copy_disk(&t);
    if (!refuses(&t, "it does not open", open_twin(&t))) read_sound(&t);
    drop(&t);
    copy_disk(&t);
    if (memdisk_length(t.disk, DATABASE, &length) == HKV_OK && length > 0) {
        bit = sim_below(&node->cluster->queue, 8 * length);
        t.damaged = memdisk_flip_bit(t.disk, DATABASE, bit) == HKV_OK;
    }
    sim_say(node->cluster, "node %u: bit %llu of page %llu is wrong in a copy of its disk", node->index,
            (unsigned long long)(bit % (DB_PAGE_BYTES * 8)), (unsigned long long)(bit / (DB_PAGE_BYTES * 8) + 1));
    if (!refuses(&t, "it does not open", open_twin(&t))) {
        compare(&t);
        verify(&t);
        compare(&t);
    }
    drop(&t);
    node->world.disk = node->disk;
}
