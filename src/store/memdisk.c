/* The simulated disk: files, faults, and what programs do. memdisk_crash.c has the power cuts. */
#include "store/memdisk_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------------------------------------------------ files */

struct disk_file *disk_file_new(struct memdisk *d)
{
    struct disk_file *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    (void)pthread_rwlock_init(&f->content_lock, NULL);
    (void)pthread_mutex_init(&f->locks, NULL);
    f->prev = d->last_file;
    if (d->last_file)
        d->last_file->next = f;
    else
        d->files = f;
    d->last_file = f;
    return f;
}

static void drop_changes(struct disk_file *f)
{
    while (f->changes) {
        struct disk_change *change = f->changes;
        f->changes = change->next;
        free(change);
    }
    f->last_change = NULL;
    f->change_bytes = 0;
}

static void file_free_if_unused(struct memdisk *d, struct disk_file *f)
{
    if (f->live > 0 || f->kept > 0) return;
    assert(!f->shm && !f->writer && f->sharers == 0);
    if (f->prev)
        f->prev->next = f->next;
    else
        d->files = f->next;
    if (f->next)
        f->next->prev = f->prev;
    else
        d->last_file = f->prev;
    drop_changes(f);
    content_fini(&f->content);
    content_fini(&f->durable);
    (void)pthread_rwlock_destroy(&f->content_lock);
    (void)pthread_mutex_destroy(&f->locks);
    free(f);
}

void disk_file_live(struct memdisk *d, struct disk_file *f, int more)
{
    f->live = (size_t)((int64_t)f->live + more);
    if (f->live > 0) return;
    d->used_bytes -= f->content.allocated * DISK_BLOCK_BYTES;
    content_fini(&f->content);
    file_free_if_unused(d, f);
}

void disk_file_kept(struct memdisk *d, struct disk_file *f, int more)
{
    f->kept = (size_t)((int64_t)f->kept + more);
    file_free_if_unused(d, f);
}

/* ------------------------------------------------------------------------------------------ faults and costs */

struct visit {
    uint64_t cost_us;
    bool changed;
};

static void enter(struct memdisk *d, struct visit *v)
{
    *v = (struct visit){0};
    (void)pthread_mutex_lock(&d->lock);
}

/* Counts a change, and reports outside of the lock. */
static enum disk_result leave(struct memdisk *d, struct visit *v, enum disk_result result)
{
    if (v->changed) {
        d->changes++;
        if (++d->changes_seen == d->faults.off_after_changes) d->off = true;
    }
    (void)pthread_mutex_unlock(&d->lock);
    if (v->cost_us && d->config.spent) d->config.spent(d->config.arg, v->cost_us);
    if (v->changed && d->config.changed) d->config.changed(d->config.arg);
    return result;
}

static bool is_alive(struct memdisk *d, uint64_t life)
{
    return !d->off && (life == 0 || life == d->life);
}

static enum disk_result admit(struct memdisk *d, uint64_t life, enum memdisk_operation op, struct visit *v)
{
    const struct memdisk_fault *fault = &d->faults.of[op];
    if (!is_alive(d, life)) return DISK_ERROR;
    v->cost_us += fault->cost_us;
    d->seen[op]++;
    if (fault->error_nth == d->seen[op]) return DISK_ERROR;
    if (fault->errors_per_million && disk_roll(&d->dice) % 1000000 < fault->errors_per_million) return DISK_ERROR;
    return DISK_OK;
}

void memdisk_faults_set(struct memdisk *d, const struct memdisk_faults *faults)
{
    const struct memdisk_fault *read = &faults->of[MEMDISK_READ];
    (void)pthread_mutex_lock(&d->lock);
    d->faults = *faults;
    memset(d->seen, 0, sizeof d->seen);
    d->changes_seen = 0;
    d->off = false;
    d->watched = read->errors_per_million || read->error_nth || read->cost_us || faults->off_after_changes != 0;
    (void)pthread_mutex_unlock(&d->lock);
}

/* ------------------------------------------------------------------------------------------ what waits for a sync */

/* The oldest change becomes durable. */
static bool write_back(struct disk_file *f, struct disk_fate *fate)
{
    struct disk_change *change = f->changes;
    if (!change_apply(change, &f->durable, fate)) return false;
    f->changes = change->next;
    if (!f->changes) f->last_change = NULL;
    f->change_bytes -= sizeof *change + change->len;
    free(change);
    return true;
}

static void append_change(struct disk_file *f, struct disk_change *change)
{
    if (f->last_change)
        f->last_change->next = change;
    else
        f->changes = change;
    f->last_change = change;
    f->change_bytes += sizeof *change + change->len;
    while (f->changes && f->change_bytes > MEMDISK_PENDING_BYTES_MAX && write_back(f, NULL)) continue;
}

static struct disk_change *change_new(uint64_t offset, struct slice bytes, bool truncates)
{
    struct disk_change *change = calloc(1, sizeof *change + bytes.len);
    if (!change) return NULL;
    change->offset = offset;
    change->len = bytes.len;
    change->truncates = truncates;
    if (bytes.len) memcpy(change->data, bytes.data, bytes.len);
    return change;
}

static bool names_put(struct memdisk *d, struct disk_names *names, const char *path, struct disk_file *file)
{
    struct disk_name *old = names_find(names, path);
    if (!names_add(names, path, file)) return false;
    bool durable = names != &d->names;
    if (durable)
        disk_file_kept(d, file, 1);
    else
        disk_file_live(d, file, 1);
    if (!old) return true;
    struct disk_file *gone = old->file;
    names_remove(names, old);
    if (durable)
        disk_file_kept(d, gone, -1);
    else
        disk_file_live(d, gone, -1);
    return true;
}

bool disk_rename_apply(struct memdisk *d, struct disk_names *to, const struct disk_rename *r)
{
    if (r->to && !names_put(d, to, r->to, r->file)) return false;
    struct disk_name *from = r->from ? names_find(to, r->from) : NULL;
    if (!from) return true;
    struct disk_file *gone = from->file;
    names_remove(to, from);
    disk_file_kept(d, gone, -1);
    return true;
}

void disk_rename_free(struct memdisk *d, struct disk_rename *r)
{
    if (!r) return;
    if (r->file) disk_file_kept(d, r->file, -1);
    free(r->from);
    free(r->to);
    free(r);
}

/* A change of names that will wait for a sync; NULL: no memory. */
static struct disk_rename *rename_new(struct memdisk *d, struct disk_file *file, const char *from, const char *to)
{
    struct disk_rename *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->from = from ? strdup(from) : NULL;
    r->to = to ? strdup(to) : NULL;
    if ((from && !r->from) || (to && !r->to)) {
        disk_rename_free(d, r);
        return NULL;
    }
    r->file = file;
    if (file) disk_file_kept(d, file, 1);
    return r;
}

/* Removes the change of names after `before` (NULL: the first) from those that wait. */
static void unlink_rename(struct memdisk *d, struct disk_rename *before)
{
    struct disk_rename **at = before ? &before->next : &d->renames;
    struct disk_rename *r = *at;
    *at = r->next;
    if (d->last_rename == r) d->last_rename = before;
    d->rename_count--;
    disk_rename_free(d, r);
}

static void append_rename(struct memdisk *d, struct disk_rename *r)
{
    if (d->last_rename)
        d->last_rename->next = r;
    else
        d->renames = r;
    d->last_rename = r;
    d->rename_count++;
    while (d->rename_count > MEMDISK_PENDING_NAMES_MAX && disk_rename_apply(d, &d->durable, d->renames))
        unlink_rename(d, NULL);
}

void disk_forget(struct memdisk *d)
{
    for (struct disk_name *n = d->names.first; n; n = n->next) disk_file_live(d, n->file, -1);
    for (struct disk_name *n = d->durable.first; n; n = n->next) disk_file_kept(d, n->file, -1);
    names_fini(&d->names);
    names_fini(&d->durable);
    while (d->renames) unlink_rename(d, NULL);
}

/* ------------------------------------------------------------------------------------------ bytes of a file */

static size_t read_content(struct disk_file *f, uint64_t offset, void *out, size_t len)
{
    (void)pthread_rwlock_rdlock(&f->content_lock);
    size_t got = content_read(&f->content, offset, out, len);
    (void)pthread_rwlock_unlock(&f->content_lock);
    return got;
}

enum disk_result disk_read(struct memdisk *d, struct disk_file *f, uint64_t life, uint64_t offset, void *out,
                           size_t len, size_t *got)
{
    *got = 0;
    if (d->watched || life != d->life) {
        struct visit v;
        enter(d, &v);
        enum disk_result result = leave(d, &v, admit(d, life, MEMDISK_READ, &v));
        if (result != DISK_OK) return result;
    }
    *got = read_content(f, offset, out, len);
    return DISK_OK;
}

static enum disk_result write_locked(struct memdisk *d, struct disk_file *f, uint64_t offset, struct slice bytes)
{
    uint64_t limit = d->faults.budget_bytes ? d->faults.budget_bytes : d->config.capacity_bytes;
    uint64_t before = f->content.allocated;
    uint64_t more = content_missing(&f->content, offset, bytes.len) * DISK_BLOCK_BYTES;
    struct disk_change *change = NULL;
    if (more > 0 && (d->used_bytes > limit || more > limit - d->used_bytes)) return DISK_FULL;
    if (bytes.len > d->config.capacity_bytes || offset > d->config.capacity_bytes - bytes.len) return DISK_FULL;
    if (d->config.forgetful) {
        change = change_new(offset, bytes, false);
        if (!change) return DISK_NOMEM;
    }
    (void)pthread_rwlock_wrlock(&f->content_lock);
    bool written = content_write(&f->content, offset, bytes);
    (void)pthread_rwlock_unlock(&f->content_lock);
    d->used_bytes += (f->content.allocated - before) * DISK_BLOCK_BYTES;
    if (!written) {
        free(change);
        return DISK_NOMEM;
    }
    if (change) append_change(f, change);
    return DISK_OK;
}

enum disk_result disk_write(struct memdisk *d, struct disk_file *f, uint64_t life, uint64_t offset, struct slice bytes)
{
    struct visit v;
    enter(d, &v);
    enum disk_result result = admit(d, life, MEMDISK_WRITE, &v);
    if (result == DISK_OK) result = write_locked(d, f, offset, bytes);
    v.changed = result == DISK_OK;
    return leave(d, &v, result);
}

static enum disk_result truncate_locked(struct memdisk *d, struct disk_file *f, uint64_t length)
{
    struct disk_change *change = NULL;
    if (d->config.forgetful) {
        change = change_new(length, (struct slice){0}, true);
        if (!change) return DISK_NOMEM;
    }
    (void)pthread_rwlock_wrlock(&f->content_lock);
    d->used_bytes -= f->content.allocated * DISK_BLOCK_BYTES;
    content_truncate(&f->content, length);
    d->used_bytes += f->content.allocated * DISK_BLOCK_BYTES;
    (void)pthread_rwlock_unlock(&f->content_lock);
    if (change) append_change(f, change);
    return DISK_OK;
}

enum disk_result disk_truncate(struct memdisk *d, struct disk_file *f, uint64_t life, uint64_t length)
{
    struct visit v;
    enter(d, &v);
    enum disk_result result = admit(d, life, MEMDISK_WRITE, &v);
    if (result == DISK_OK) result = truncate_locked(d, f, length);
    v.changed = result == DISK_OK;
    return leave(d, &v, result);
}

uint64_t disk_file_length(struct disk_file *f)
{
    (void)pthread_rwlock_rdlock(&f->content_lock);
    uint64_t length = f->content.length;
    (void)pthread_rwlock_unlock(&f->content_lock);
    return length;
}

/* A sync that fails may have written anything; with sync_error_forgets the rest is never written. */
static void forget_unsynced(struct memdisk *d, struct disk_file *f)
{
    struct disk_fate fate = {disk_roll(&d->dice), 50, 0};
    while (f->changes && write_back(f, &fate)) continue;
}

static enum disk_result sync_names(struct memdisk *d, const char *folder)
{
    struct disk_rename *before = NULL;
    struct disk_rename *next;
    for (struct disk_rename *r = d->renames; r; r = next) {
        next = r->next;
        if (!names_in_folder(r->to ? r->to : r->from, folder)) {
            before = r;
            continue;
        }
        if (!disk_rename_apply(d, &d->durable, r)) return DISK_NOMEM;
        unlink_rename(d, before);
    }
    return DISK_OK;
}

enum disk_result disk_sync(struct memdisk *d, struct disk_file *f, uint64_t life, const char *folder)
{
    struct visit v;
    enter(d, &v);
    enum disk_result result = admit(d, life, MEMDISK_SYNC, &v);
    if (result == DISK_OK)
        while (f->changes && result == DISK_OK) result = write_back(f, NULL) ? DISK_OK : DISK_NOMEM;
    else if (is_alive(d, life) && d->faults.sync_error_forgets)
        forget_unsynced(d, f);
    if (result == DISK_OK && folder) result = sync_names(d, folder);
    v.changed = result == DISK_OK;
    return leave(d, &v, result);
}

enum disk_result disk_sync_folder(struct memdisk *d, uint64_t life, const char *folder)
{
    struct visit v;
    enter(d, &v);
    enum disk_result result = admit(d, life, MEMDISK_SYNC, &v);
    if (result == DISK_OK) result = sync_names(d, folder);
    v.changed = result == DISK_OK;
    return leave(d, &v, result);
}

/* ------------------------------------------------------------------------------------------ names */

/* Does a change of names for programs; it waits for its sync on a forgetful disk. */
static enum disk_result change_names(struct memdisk *d, struct disk_file *file, const char *from, const char *to)
{
    struct disk_rename *r = NULL;
    if (d->config.forgetful) {
        r = rename_new(d, file, from, to);
        if (!r) return DISK_NOMEM;
    }
    if (to && !names_put(d, &d->names, to, file)) {
        disk_rename_free(d, r);
        return DISK_NOMEM;
    }
    struct disk_name *old = from ? names_find(&d->names, from) : NULL;
    if (old) {
        struct disk_file *gone = old->file;
        names_remove(&d->names, old);
        disk_file_live(d, gone, -1);
    }
    if (r) append_rename(d, r);
    return DISK_OK;
}

static enum disk_result open_locked(struct memdisk *d, const char *path, enum disk_open_how how, bool *created,
                                    struct disk_file **out)
{
    struct disk_name *name = path ? names_find(&d->names, path) : NULL;
    if (name && how == DISK_CREATE) return DISK_EXISTS;
    if (!name && how == DISK_OPEN) return DISK_ABSENT;
    *created = !name;
    *out = name ? name->file : disk_file_new(d);
    if (!*out) return DISK_NOMEM;
    disk_file_live(d, *out, 1);
    if (name || !path) return DISK_OK;
    enum disk_result result = change_names(d, *out, NULL, path);
    if (result != DISK_OK) disk_file_live(d, *out, -1);
    return result;
}

enum disk_result disk_open(struct memdisk *d, const char *path, enum disk_open_how how, uint64_t *life, bool *created,
                           struct disk_file **out)
{
    struct visit v;
    enter(d, &v);
    *created = false;
    enum disk_result result = is_alive(d, *life) ? open_locked(d, path, how, created, out) : DISK_ERROR;
    *life = d->life;
    v.changed = result == DISK_OK && *created && path;
    return leave(d, &v, result);
}

void disk_close(struct memdisk *d, struct disk_file *f)
{
    (void)pthread_mutex_lock(&d->lock);
    disk_file_live(d, f, -1);
    (void)pthread_mutex_unlock(&d->lock);
}

enum disk_result disk_unlink(struct memdisk *d, uint64_t life, const char *path)
{
    struct visit v;
    enter(d, &v);
    enum disk_result result = admit(d, life, MEMDISK_WRITE, &v);
    if (result == DISK_OK) result = names_find(&d->names, path) ? change_names(d, NULL, path, NULL) : DISK_ABSENT;
    v.changed = result == DISK_OK;
    return leave(d, &v, result);
}

enum disk_result disk_rename(struct memdisk *d, uint64_t life, const char *from, const char *to)
{
    struct visit v;
    enter(d, &v);
    enum disk_result result = admit(d, life, MEMDISK_WRITE, &v);
    const struct disk_name *name = names_find(&d->names, from);
    if (result == DISK_OK && !name) result = DISK_ABSENT;
    if (result == DISK_OK && strcmp(from, to) != 0) result = change_names(d, name->file, from, to);
    v.changed = result == DISK_OK;
    return leave(d, &v, result);
}

/* ------------------------------------------------------------------------------------------ the disk as a whole */

enum hkv_err memdisk_new(const struct memdisk_config *config, struct memdisk **out)
{
    static _Atomic unsigned next_number;
    struct memdisk *d = calloc(1, sizeof *d);
    if (!d) return error_set(HKV_E_NOMEM, "a disk in memory");
    d->config = *config;
    d->dice = config->seed;
    d->life = 1;
    (void)pthread_mutex_init(&d->lock, NULL);
    snprintf(d->vfs_name, sizeof d->vfs_name, "memdisk-%u", atomic_fetch_add(&next_number, 1) + 1);
    enum hkv_err err = disk_vfs_register(d);
    if (err != HKV_OK) {
        (void)pthread_mutex_destroy(&d->lock);
        free(d);
        return err;
    }
    *out = d;
    return HKV_OK;
}

void memdisk_free(struct memdisk *d)
{
    if (!d) return;
    disk_vfs_unregister(d);
    disk_forget(d);
    assert(!d->files); /* else something is still open */
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
}

const char *memdisk_vfs(const struct memdisk *d)
{
    return checked_vfs_name(d->checked);
}

uint64_t memdisk_used_bytes(struct memdisk *d)
{
    (void)pthread_mutex_lock(&d->lock);
    uint64_t used = d->used_bytes;
    (void)pthread_mutex_unlock(&d->lock);
    return used;
}

uint64_t memdisk_changes(struct memdisk *d)
{
    (void)pthread_mutex_lock(&d->lock);
    uint64_t changes = d->changes;
    (void)pthread_mutex_unlock(&d->lock);
    return changes;
}

uint64_t memdisk_operations(struct memdisk *d, enum memdisk_operation operation)
{
    (void)pthread_mutex_lock(&d->lock);
    uint64_t seen = d->seen[operation];
    (void)pthread_mutex_unlock(&d->lock);
    return seen;
}

enum hkv_err memdisk_length(struct memdisk *d, const char *path, uint64_t *length)
{
    (void)pthread_mutex_lock(&d->lock);
    const struct disk_name *name = names_find(&d->names, path);
    if (name) *length = name->file->content.length;
    (void)pthread_mutex_unlock(&d->lock);
    return name ? HKV_OK : HKV_E_NOT_FOUND;
}
