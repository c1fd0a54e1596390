/* Folders of value files on a disk in memory. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/memdisk_internal.h"

#define LIST_BATCH_MAX 256
#define COPY_BYTES     65536

struct memdisk_folder {
    struct files base;
    struct memdisk *disk;
    uint64_t life;
    uint64_t listed; /* sequence number of the last name of the listing; 0: none is under way */
    char path[DISK_PATH_MAX];
};

struct files_handle {
    struct memdisk_folder *folder;
    struct disk_file *file;
    char name[FILES_NAME_MAX];
};

static enum hkv_err failed(const struct memdisk_folder *f, const char *name, const char *what, enum disk_result result)
{
    switch (result) {
    case DISK_OK:
        return HKV_OK;
    case DISK_FULL:
        return error_set(HKV_E_DISK_FULL, "%s/%s: %s: the disk in memory is full", f->path, name, what);
    case DISK_NOMEM:
        return error_set(HKV_E_NOMEM, "%s/%s: %s", f->path, name, what);
    case DISK_ABSENT:
        return error_set(HKV_E_DISK, "%s/%s: %s: there is no such file", f->path, name, what);
    case DISK_EXISTS:
        return error_set(HKV_E_DISK, "%s/%s: %s: there is such a file already", f->path, name, what);
    case DISK_ERROR:
        break;
    }
    return error_set(HKV_E_DISK, "%s/%s: %s: I/O error of the simulated disk", f->path, name, what);
}

static struct memdisk_folder *folder_of(struct files *base)
{
    return (struct memdisk_folder *)(void *)base;
}

struct path {
    char text[DISK_PATH_MAX + FILES_NAME_MAX];
};

static struct path path_of(const struct memdisk_folder *f, const char *name)
{
    struct path path;
    snprintf(path.text, sizeof path.text, "%s/%s", f->path, name);
    return path;
}

static enum hkv_err memory_create(struct files *base, const char *name, struct files_handle **out)
{
    struct memdisk_folder *f = folder_of(base);
    struct path path = path_of(f, name);
    struct files_handle *h = calloc(1, sizeof *h);
    if (!h) return error_set(HKV_E_NOMEM, "creating a value file");
    bool created;
    uint64_t life = f->life;
    enum disk_result result = disk_open(f->disk, path.text, DISK_CREATE, &life, &created, &h->file);
    if (result != DISK_OK) {
        free(h);
        return failed(f, name, "creating", result);
    }
    h->folder = f;
    snprintf(h->name, sizeof h->name, "%s", name);
    *out = h;
    return HKV_OK;
}

static enum hkv_err memory_write(struct files_handle *h, uint64_t offset, struct slice bytes)
{
    struct memdisk_folder *f = h->folder;
    return failed(f, h->name, "writing", disk_write(f->disk, h->file, f->life, offset, bytes));
}

static enum hkv_err memory_read(struct files_handle *h, uint64_t offset, void *out, size_t len, size_t *got)
{
    struct memdisk_folder *f = h->folder;
    return failed(f, h->name, "reading", disk_read(f->disk, h->file, f->life, offset, out, len, got));
}

static enum hkv_err memory_sync(struct files_handle *h)
{
    struct memdisk_folder *f = h->folder;
    return failed(f, h->name, "syncing", disk_sync(f->disk, h->file, f->life, NULL));
}

static void memory_close(struct files_handle *h)
{
    if (!h) return;
    disk_close(h->folder->disk, h->file);
    free(h);
}

static enum hkv_err memory_rename(struct files *base, const char *from, const char *to)
{
    struct memdisk_folder *f = folder_of(base);
    struct path old = path_of(f, from);
    struct path new = path_of(f, to);
    return failed(f, from, "renaming", disk_rename(f->disk, f->life, old.text, new.text));
}

static enum hkv_err memory_sync_dir(struct files *base)
{
    struct memdisk_folder *f = folder_of(base);
    return failed(f, ".", "syncing the folder", disk_sync_folder(f->disk, f->life, f->path));
}

static enum hkv_err memory_unlink(struct files *base, const char *name)
{
    struct memdisk_folder *f = folder_of(base);
    struct path path = path_of(f, name);
    enum disk_result result = disk_unlink(f->disk, f->life, path.text);
    return result == DISK_ABSENT ? HKV_OK : failed(f, name, "removing", result);
}

static enum hkv_err copy_to_fd(struct memdisk_folder *f, const char *name, struct disk_file *file, int fd)
{
    uint8_t *bytes = malloc(COPY_BYTES);
    enum hkv_err err = bytes ? HKV_OK : error_set(HKV_E_NOMEM, "opening a value file");
    for (uint64_t at = 0; err == HKV_OK;) {
        size_t got;
        err = failed(f, name, "reading", disk_read(f->disk, file, f->life, at, bytes, COPY_BYTES, &got));
        if (err != HKV_OK || got == 0) break;
        if (pwrite(fd, bytes, got, (off_t)at) != (ssize_t)got)
            err = error_set(HKV_E_NOMEM, "%s/%s: a descriptor's memory: %s", f->path, name, strerror(errno));
        at += got;
    }
    free(bytes);
    return err;
}

static enum hkv_err memory_open_fd(struct files *base, const char *name, int *fd)
{
    struct memdisk_folder *f = folder_of(base);
    struct path path = path_of(f, name);
    struct disk_file *file;
    uint64_t life = f->life;
    bool created;
    enum disk_result result = disk_open(f->disk, path.text, DISK_OPEN, &life, &created, &file);
    if (result == DISK_ABSENT) return HKV_E_NOT_FOUND;
    if (result != DISK_OK) return failed(f, name, "opening", result);
    *fd = memfd_create(name, MFD_CLOEXEC);
    enum hkv_err err = *fd >= 0 ? copy_to_fd(f, name, file, *fd)
                                : error_set(HKV_E_DISK, "%s/%s: opening: %s", f->path, name, strerror(errno));
    if (err != HKV_OK && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    disk_close(f->disk, file);
    return err;
}

struct batch {
    size_t count;
    char names[LIST_BATCH_MAX][FILES_NAME_MAX];
};

/* The next names of the listing; they are visited without the lock, so that the visitor may change the folder. */
static void take_batch(struct memdisk_folder *f, size_t max, struct batch *batch, bool *end)
{
    size_t prefix = strlen(f->path) + 1;
    batch->count = 0;
    *end = false;
    (void)pthread_mutex_lock(&f->disk->lock);
    const struct disk_name *n = f->disk->names.first;
    while (n && n->sequence <= f->listed) n = n->next;
    for (; n && batch->count < max; n = n->next) {
        f->listed = n->sequence;
        if (names_in_folder(n->path, f->path))
            snprintf(batch->names[batch->count++], FILES_NAME_MAX, "%s", n->path + prefix);
    }
    if (!n) {
        *end = true;
        f->listed = 0;
    }
    (void)pthread_mutex_unlock(&f->disk->lock);
}

static enum hkv_err memory_list(struct files *base, size_t max, void (*visit)(void *arg, const char *name), void *arg,
                                bool *end)
{
    struct memdisk_folder *f = folder_of(base);
    struct batch *batch = malloc(sizeof *batch);
    if (!batch) return error_set(HKV_E_NOMEM, "listing %s", f->path);
    take_batch(f, max < LIST_BATCH_MAX ? max : LIST_BATCH_MAX, batch, end);
    for (size_t i = 0; i < batch->count; i++) visit(arg, batch->names[i]);
    free(batch);
    return HKV_OK;
}

static void memory_free(struct files *base)
{
    free(folder_of(base));
}

static const struct files_ops memory_ops = {
    .create = memory_create,
    .write = memory_write,
    .read = memory_read,
    .sync = memory_sync,
    .close = memory_close,
    .rename = memory_rename,
    .sync_dir = memory_sync_dir,
    .unlink = memory_unlink,
    .open_fd = memory_open_fd,
    .list = memory_list,
    .free = memory_free,
};

enum hkv_err memdisk_files(struct memdisk *d, const char *folder, struct files **out)
{
    struct memdisk_folder *f = calloc(1, sizeof *f);
    if (!f) return error_set(HKV_E_NOMEM, "opening %s", folder);
    f->base.ops = &memory_ops;
    f->disk = d;
    f->life = d->life;
    int n = snprintf(f->path, sizeof f->path, "%s", folder);
    if (n < 0 || (size_t)n >= sizeof f->path) {
        free(f);
        return error_set(HKV_E_INVALID, "the folder's path is longer than %d bytes", DISK_PATH_MAX - 1);
    }
    *out = &f->base;
    return HKV_OK;
}
