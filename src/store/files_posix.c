#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/files.h"

#define PATH_BYTES_MAX 4096

struct files_posix {
    struct files base;
    int dir;
    DIR *listing;
    char path[PATH_BYTES_MAX];
};

struct files_handle {
    int fd;
    struct files_posix *files;
    char name[FILES_NAME_MAX];
};

static enum hkv_err failed(struct files_posix *f, const char *name, const char *what)
{
    int number = errno;
    enum hkv_err err = number == ENOSPC || number == EDQUOT ? HKV_E_DISK_FULL : HKV_E_DISK;
    if (number == EACCES || number == EPERM) err = HKV_E_PERMISSION;
    if (number == ENOMEM) err = HKV_E_NOMEM;
    return error_set(err, "%s/%s: %s: %s", f->path, name, what, strerror(number));
}

static enum hkv_err posix_create(struct files *base, const char *name, struct files_handle **out)
{
    struct files_posix *f = (struct files_posix *)base;
    struct files_handle *h = calloc(1, sizeof *h);
    if (!h) return error_set(HKV_E_NOMEM, "creating a value file");
    h->files = f;
    snprintf(h->name, sizeof h->name, "%s", name);
    h->fd = openat(f->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (h->fd < 0) {
        free(h);
        return failed(f, name, "creating");
    }
    *out = h;
    return HKV_OK;
}

static enum hkv_err posix_write(struct files_handle *h, uint64_t offset, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t n = pwrite(h->fd, bytes.data, bytes.len, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return failed(h->files, h->name, "writing");
        offset += (uint64_t)n;
        bytes = slice_part(bytes, (size_t)n, bytes.len);
    }
    return HKV_OK;
}

static enum hkv_err posix_read(struct files_handle *h, uint64_t offset, void *out, size_t len, size_t *got)
{
    *got = 0;
    while (*got < len) {
        ssize_t n = pread(h->fd, (uint8_t *)out + *got, len - *got, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed(h->files, h->name, "reading");
        if (n == 0) break;
        *got += (size_t)n;
    }
    return HKV_OK;
}

static enum hkv_err posix_sync(struct files_handle *h)
{
    return fdatasync(h->fd) == 0 ? HKV_OK : failed(h->files, h->name, "syncing");
}

static void posix_close(struct files_handle *h)
{
    if (!h) return;
    close(h->fd);
    free(h);
}

static enum hkv_err posix_rename(struct files *base, const char *from, const char *to)
{
    struct files_posix *f = (struct files_posix *)base;
    return renameat(f->dir, from, f->dir, to) == 0 ? HKV_OK : failed(f, from, "renaming");
}

static enum hkv_err posix_sync_dir(struct files *base)
{
    struct files_posix *f = (struct files_posix *)base;
    return fsync(f->dir) == 0 ? HKV_OK : failed(f, ".", "syncing the folder");
}

static enum hkv_err posix_unlink(struct files *base, const char *name)
{
    struct files_posix *f = (struct files_posix *)base;
    return unlinkat(f->dir, name, 0) == 0 || errno == ENOENT ? HKV_OK : failed(f, name, "removing");
}

static enum hkv_err posix_open_fd(struct files *base, const char *name, int *fd)
{
    struct files_posix *f = (struct files_posix *)base;
    *fd = openat(f->dir, name, O_RDONLY | O_CLOEXEC);
    if (*fd >= 0) return HKV_OK;
    return errno == ENOENT ? HKV_E_NOT_FOUND : failed(f, name, "opening");
}

static enum hkv_err posix_list(struct files *base, size_t max, void (*visit)(void *arg, const char *name), void *arg,
                               bool *end)
{
    struct files_posix *f = (struct files_posix *)base;
    *end = false;
    if (!f->listing) {
        int fd = openat(f->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        f->listing = fd < 0 ? NULL : fdopendir(fd);
        if (!f->listing) {
            enum hkv_err err = failed(f, ".", "listing");
            if (fd >= 0) close(fd);
            return err;
        }
    }
    for (size_t i = 0; i < max;) {
        errno = 0;
        const struct dirent *d = readdir(f->listing);
        if (!d) {
            enum hkv_err err = errno ? failed(f, ".", "listing") : HKV_OK;
            closedir(f->listing);
            f->listing = NULL;
            *end = true;
            return err;
        }
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) continue;
        visit(arg, d->d_name);
        i++;
    }
    return HKV_OK;
}

static void posix_free(struct files *base)
{
    struct files_posix *f = (struct files_posix *)base;
    if (f->listing) closedir(f->listing);
    close(f->dir);
    free(f);
}

static const struct files_ops posix_ops = {
    .create = posix_create,
    .write = posix_write,
    .read = posix_read,
    .sync = posix_sync,
    .close = posix_close,
    .rename = posix_rename,
    .sync_dir = posix_sync_dir,
    .unlink = posix_unlink,
    .open_fd = posix_open_fd,
    .list = posix_list,
    .free = posix_free,
};

/* Makes the name of a new folder survive power loss. */
static enum hkv_err sync_parent(const char *path)
{
    char parent[PATH_BYTES_MAX];
    int n = snprintf(parent, sizeof parent, "%s/..", path);
    int fd = n < (int)sizeof parent ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    enum hkv_err err = HKV_OK;
    if (fd < 0 || fsync(fd) != 0) err = error_set(HKV_E_DISK, "%s: syncing: %s", parent, strerror(errno));
    if (fd >= 0) close(fd);
    return err;
}

enum hkv_err files_make_folder(const char *path)
{
    if (mkdir(path, 0700) == 0) return sync_parent(path);
    if (errno == EEXIST) return HKV_OK;
    return error_set(errno == ENOSPC ? HKV_E_DISK_FULL : HKV_E_DISK, "%s: creating the folder: %s", path,
                     strerror(errno));
}

enum hkv_err files_read_fd(int fd, uint64_t offset, void *out, size_t len, size_t *got)
{
    *got = 0;
    while (*got < len) {
        ssize_t n = pread(fd, (uint8_t *)out + *got, len - *got, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return error_set(HKV_E_DISK, "a value file cannot be read: %s", strerror(errno));
        if (n == 0) break;
        *got += (size_t)n;
    }
    return HKV_OK;
}

void files_close_fd(int fd)
{
    close(fd);
}

enum hkv_err files_posix_open(const char *path, struct files **out)
{
    struct files_posix *f = calloc(1, sizeof *f);
    if (!f) return error_set(HKV_E_NOMEM, "opening %s", path);
    f->base.ops = &posix_ops;
    snprintf(f->path, sizeof f->path, "%s", path);
    enum hkv_err err = files_make_folder(path);
    f->dir = err == HKV_OK ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (f->dir < 0) {
        if (err == HKV_OK) err = failed(f, ".", "opening the folder");
        free(f);
        return err;
    }
    *out = &f->base;
    return HKV_OK;
}
