/* What a power cut leaves of a simulated disk, bits that rot, and the hash over all that is there. */
#include <assert.h>
#include <stdlib.h>

#include "crypto/blake3.h"
#include "store/memdisk_internal.h"

/* The files of before that have a name afterwards, and what became of each. */
struct survivor {
    const struct disk_file *before;
    struct disk_file *after;
};

struct crash {
    struct memdisk *before;
    struct memdisk *after; /* receives names and files */
    struct disk_fate fate;
    struct survivor *survivors;
    size_t count;
};

/* Decides for every file, named or not, so that chance goes the same way for each. */
static bool copy_files(struct crash *c)
{
    size_t count = 0;
    for (const struct disk_file *f = c->before->files; f; f = f->next) count++;
    c->survivors = calloc(count ? count : 1, sizeof *c->survivors);
    if (!c->survivors) return false;
    for (const struct disk_file *f = c->before->files; f; f = f->next) {
        struct disk_file *copy = disk_file_new(c->after);
        if (!copy) return false;
        disk_file_kept(c->after, copy, 1); /* until its names are known */
        c->survivors[c->count++] = (struct survivor){f, copy};
        if (!content_copy(&f->durable, &copy->durable)) return false;
        for (const struct disk_change *change = f->changes; change; change = change->next)
            if (!change_apply(change, &copy->durable, &c->fate)) return false;
    }
    return true;
}

static struct disk_file *copy_of(const struct crash *c, const struct disk_file *before)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->survivors[i].before == before) return c->survivors[i].after;
    return NULL;
}

static bool copy_names(struct crash *c)
{
    struct memdisk *after = c->after;
    for (const struct disk_name *n = c->before->durable.first; n; n = n->next) {
        struct disk_rename put = {.file = copy_of(c, n->file), .to = (char *)(uintptr_t)n->path};
        if (!disk_rename_apply(after, &after->durable, &put)) return false;
    }
    for (const struct disk_rename *r = c->before->renames; r; r = r->next) {
        struct disk_rename kept = *r;
        if (disk_roll(&c->fate.dice) % 100 >= c->fate.keep_percent) continue;
        if (r->file) kept.file = copy_of(c, r->file);
        if (!disk_rename_apply(after, &after->durable, &kept)) return false;
    }
    return true;
}

/* What is durable is what programs see. */
static bool show_durable(struct memdisk *d)
{
    for (struct disk_file *f = d->files; f; f = f->next) {
        if (!content_copy(&f->durable, &f->content)) return false;
        d->used_bytes += f->content.allocated * DISK_BLOCK_BYTES;
    }
    for (const struct disk_name *n = d->durable.first; n; n = n->next) {
        if (!names_add(&d->names, n->path, n->file)) return false;
        disk_file_live(d, n->file, 1);
    }
    return true;
}

/* Files without a name are gone. */
static void let_go(struct crash *c)
{
    for (size_t i = 0; i < c->count; i++) {
        struct disk_file *f = c->survivors[i].after;
        if (f->live == 0) c->after->used_bytes -= f->content.allocated * DISK_BLOCK_BYTES;
        disk_file_kept(c->after, f, -1);
    }
    free(c->survivors);
}

/* Fills `after`, which is empty, with the state of `before` after a power cut; on failure it is empty again. */
static enum hkv_err leave_behind(struct memdisk *before, const struct memdisk_cut *cut, struct memdisk *after)
{
    struct crash c = {
        .before = before,
        .after = after,
        .fate = {cut->seed, cut->keep_percent, cut->tear_percent},
    };
    assert(before->config.forgetful);
    assert(cut->keep_percent + cut->tear_percent <= 100);
    bool done = copy_files(&c) && copy_names(&c) && show_durable(after);
    let_go(&c);
    if (done) return HKV_OK;
    disk_forget(after);
    return error_set(HKV_E_NOMEM, "the state of a disk after a power cut");
}

enum hkv_err memdisk_crashed_copy(struct memdisk *d, const struct memdisk_cut *cut, struct memdisk **out)
{
    struct memdisk_config config = {
        .capacity_bytes = d->config.capacity_bytes, .seed = d->config.seed, .forgetful = true};
    struct memdisk *after;
    TRY(memdisk_new(&config, &after));
    (void)pthread_mutex_lock(&d->lock);
    enum hkv_err err = leave_behind(d, cut, after);
    (void)pthread_mutex_unlock(&d->lock);
    if (err == HKV_OK)
        *out = after;
    else
        memdisk_free(after);
    return err;
}

enum hkv_err memdisk_crash(struct memdisk *d, const struct memdisk_cut *cut)
{
    struct memdisk after = {.config = d->config};
    (void)pthread_mutex_lock(&d->lock);
    enum hkv_err err = leave_behind(d, cut, &after);
    if (err == HKV_OK) {
        /* What is still open keeps its files, behind those of the new life, until it is closed. */
        disk_forget(d);
        d->names = after.names;
        d->durable = after.durable;
        d->used_bytes += after.used_bytes;
        struct disk_file *dead = d->files;
        d->files = after.files ? after.files : dead;
        if (after.last_file) after.last_file->next = dead;
        if (dead) dead->prev = after.last_file;
        if (!dead) d->last_file = after.last_file;
        d->dead_sqlite_files = d->sqlite_files;
        d->life++;
        d->off = false;
    }
    (void)pthread_mutex_unlock(&d->lock);
    return err;
}

/* ------------------------------------------------------------------------------------------ flipped bits */

static enum hkv_err flip_locked(struct memdisk *d, const char *path, uint64_t bit)
{
    struct disk_name *name = names_find(&d->names, path);
    if (!name) return HKV_E_NOT_FOUND;
    struct disk_file *f = name->file;
    (void)pthread_rwlock_wrlock(&f->content_lock);
    bool flipped = content_flip(&f->content, bit);
    (void)pthread_rwlock_unlock(&f->content_lock);
    if (flipped) (void)content_flip(&f->durable, bit); /* fine when it is not there yet */
    return flipped ? HKV_OK : HKV_E_NOT_FOUND;
}

enum hkv_err memdisk_flip_bit(struct memdisk *d, const char *path, uint64_t bit)
{
    (void)pthread_mutex_lock(&d->lock);
    enum hkv_err err = flip_locked(d, path, bit);
    (void)pthread_mutex_unlock(&d->lock);
    return err;
}

enum hkv_err memdisk_flip_any_bit(struct memdisk *d, const char *path, uint64_t *bit)
{
    enum hkv_err err = HKV_E_NOT_FOUND;
    (void)pthread_mutex_lock(&d->lock);
    const struct disk_name *name = names_find(&d->names, path);
    if (name && name->file->content.length > 0) {
        *bit = disk_roll(&d->dice) % (name->file->content.length * 8);
        err = flip_locked(d, path, *bit);
    }
    (void)pthread_mutex_unlock(&d->lock);
    return err;
}

/* ------------------------------------------------------------------------------------------ digest */

static int by_path(const void *a, const void *b)
{
    const struct disk_name *const *x = a;
    const struct disk_name *const *y = b;
    return strcmp((*x)->path, (*y)->path);
}

static void digest_file(struct blake3 *state, const struct disk_name *name)
{
    uint8_t bytes[DISK_BLOCK_BYTES];
    be64_store(bytes, name->file->content.length);
    blake3_update(state, slice_of(name->path, strlen(name->path) + 1));
    blake3_update(state, slice_of(bytes, 8));
    for (uint64_t at = 0;; at += sizeof bytes) {
        size_t got = content_read(&name->file->content, at, bytes, sizeof bytes);
        if (got == 0) return;
        blake3_update(state, slice_of(bytes, got));
    }
}

enum hkv_err memdisk_digest(struct memdisk *d, struct hash *out)
{
    struct blake3 state;
    blake3_init(&state);
    (void)pthread_mutex_lock(&d->lock);
    size_t count = 0;
    const struct disk_name **sorted = calloc(d->names.count + 1, sizeof(struct disk_name *));
    if (sorted) {
        for (const struct disk_name *n = d->names.first; n; n = n->next) sorted[count++] = n;
        qsort(sorted, count, sizeof(struct disk_name *), by_path);
        for (size_t i = 0; i < count; i++) digest_file(&state, sorted[i]);
    }
    (void)pthread_mutex_unlock(&d->lock);
    free(sorted);
    blake3_final(&state, out);
    return sorted ? HKV_OK : error_set(HKV_E_NOMEM, "the digest of a disk in memory");
}
