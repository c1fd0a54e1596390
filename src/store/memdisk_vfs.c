/* The disk in memory as a VFS of SQLite. Locks and the shared memory of the write-ahead log's index are those of one
 * process; the rules are SQLite's (sqlite.org/lockingv3.html, walformat.html). */
#include <stdio.h>
#include <stdlib.h>

#include "store/memdisk_internal.h"

/* Shared memory: regions that stay in place until the last connection lets go, and one lock each slot. */
struct disk_shm {
    size_t users;
    size_t region_count;
    void **regions;
    int slots[SQLITE_SHM_NLOCK]; /* > 0: so many sharers; -1: one owner */
};

struct disk_sqlite_file {
    sqlite3_file base;
    struct memdisk *disk;
    struct disk_file *file;
    uint64_t life;
    int lock; /* SQLITE_LOCK_… */
    bool has_shm;
    bool keeps_wal;
    bool syncs_folder; /* a new log: its name becomes durable with its first sync */
    bool deletes;
    char path[DISK_PATH_MAX];
};

static struct disk_sqlite_file *handle_of(sqlite3_file *base)
{
    return (struct disk_sqlite_file *)(void *)base;
}

static struct memdisk *disk_of(sqlite3_vfs *vfs)
{
    return vfs->pAppData;
}

static int code_of(enum disk_result result, int other)
{
    switch (result) {
    case DISK_OK:
        return SQLITE_OK;
    case DISK_FULL:
        return SQLITE_FULL;
    case DISK_NOMEM:
        return SQLITE_IOERR_NOMEM;
    case DISK_ERROR:
    case DISK_ABSENT:
    case DISK_EXISTS:
        break;
    }
    return other;
}

/* ------------------------------------------------------------------------------------------ bytes */

static int file_read(sqlite3_file *base, void *out, int len, sqlite3_int64 offset)
{
    struct disk_sqlite_file *h = handle_of(base);
    size_t got;
    enum disk_result result = disk_read(h->disk, h->file, h->life, (uint64_t)offset, out, (size_t)len, &got);
    if (result != DISK_OK) return code_of(result, SQLITE_IOERR_READ);
    if (got == (size_t)len) return SQLITE_OK;
    memset((uint8_t *)out + got, 0, (size_t)len - got);
    return SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *base, const void *bytes, int len, sqlite3_int64 offset)
{
    struct disk_sqlite_file *h = handle_of(base);
    return code_of(disk_write(h->disk, h->file, h->life, (uint64_t)offset, slice_of(bytes, (size_t)len)),
                   SQLITE_IOERR_WRITE);
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 length)
{
    struct disk_sqlite_file *h = handle_of(base);
    return code_of(disk_truncate(h->disk, h->file, h->life, (uint64_t)length), SQLITE_IOERR_TRUNCATE);
}

/* The folder that a path lies in. */
static void folder_of(const char *path, char out[DISK_PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    snprintf(out, DISK_PATH_MAX, "%.*s", slash ? (int)(slash - path) : 0, path);
}

static int file_sync(sqlite3_file *base, int flags)
{
    (void)flags;
    struct disk_sqlite_file *h = handle_of(base);
    char folder[DISK_PATH_MAX];
    folder_of(h->path, folder);
    enum disk_result result = disk_sync(h->disk, h->file, h->life, h->syncs_folder ? folder : NULL);
    if (result == DISK_OK) h->syncs_folder = false;
    return code_of(result, SQLITE_IOERR_FSYNC);
}

static int file_size(sqlite3_file *base, sqlite3_int64 *out)
{
    *out = (sqlite3_int64)disk_file_length(handle_of(base)->file);
    return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------ locks */

static int lock_exclusive(struct disk_sqlite_file *h)
{
    struct disk_file *f = h->file;
    if (f->writer && f->writer != h) return SQLITE_BUSY;
    f->writer = h;
    f->writer_is_pending = true; /* no new readers from now on */
    h->lock = f->sharers > 1 ? SQLITE_LOCK_PENDING : SQLITE_LOCK_EXCLUSIVE;
    return f->sharers > 1 ? SQLITE_BUSY : SQLITE_OK;
}

static int lock_reserved(struct disk_sqlite_file *h)
{
    struct disk_file *f = h->file;
    if (f->writer && f->writer != h) return SQLITE_BUSY;
    f->writer = h;
    h->lock = SQLITE_LOCK_RESERVED;
    return SQLITE_OK;
}

static int lock_shared(struct disk_sqlite_file *h)
{
    struct disk_file *f = h->file;
    if (f->writer && f->writer_is_pending) return SQLITE_BUSY;
    f->sharers++;
    h->lock = SQLITE_LOCK_SHARED;
    return SQLITE_OK;
}

static int file_lock(sqlite3_file *base, int level)
{
    struct disk_sqlite_file *h = handle_of(base);
    int code = SQLITE_OK;
    if (h->lock >= level) return SQLITE_OK;
    (void)pthread_mutex_lock(&h->file->locks);
    if (h->lock == SQLITE_LOCK_NONE) code = lock_shared(h);
    if (code == SQLITE_OK && level == SQLITE_LOCK_RESERVED) code = lock_reserved(h);
    if (code == SQLITE_OK && level == SQLITE_LOCK_EXCLUSIVE) code = lock_exclusive(h);
    (void)pthread_mutex_unlock(&h->file->locks);
    return code;
}

static int file_unlock(sqlite3_file *base, int level)
{
    struct disk_sqlite_file *h = handle_of(base);
    struct disk_file *f = h->file;
    if (h->lock <= level) return SQLITE_OK;
    (void)pthread_mutex_lock(&f->locks);
    if (f->writer == h) {
        f->writer = NULL;
        f->writer_is_pending = false;
    }
    if (level == SQLITE_LOCK_NONE) f->sharers--;
    h->lock = level;
    (void)pthread_mutex_unlock(&f->locks);
    return SQLITE_OK;
}

static int file_is_reserved(sqlite3_file *base, int *out)
{
    struct disk_file *f = handle_of(base)->file;
    (void)pthread_mutex_lock(&f->locks);
    *out = f->writer != NULL;
    (void)pthread_mutex_unlock(&f->locks);
    return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------ shared memory */

/* Joins the file's shared memory, with at least `count` regions when `grow`. */
static int shm_join(struct disk_sqlite_file *h, size_t count, size_t region_bytes, bool grow)
{
    struct disk_file *f = h->file;
    if (!f->shm) {
        f->shm = calloc(1, sizeof *f->shm);
        if (!f->shm) return SQLITE_NOMEM;
    }
    struct disk_shm *shm = f->shm;
    if (!h->has_shm) shm->users++;
    h->has_shm = true;
    if (!grow || count <= shm->region_count) return SQLITE_OK;
    void **regions = realloc(shm->regions, count * sizeof(void *));
    if (!regions) return SQLITE_NOMEM;
    shm->regions = regions;
    for (; shm->region_count < count; shm->region_count++) {
        regions[shm->region_count] = calloc(1, region_bytes);
        if (!regions[shm->region_count]) return SQLITE_NOMEM;
    }
    return SQLITE_OK;
}

static int file_shm_map(sqlite3_file *base, int region, int region_bytes, int grow, void volatile **out)
{
    struct disk_sqlite_file *h = handle_of(base);
    (void)pthread_mutex_lock(&h->file->locks);
    int code = shm_join(h, (size_t)region + 1, (size_t)region_bytes, grow != 0);
    const struct disk_shm *shm = h->file->shm;
    bool mapped = code == SQLITE_OK && shm->regions && (size_t)region < shm->region_count;
    *out = mapped ? shm->regions[region] : NULL;
    (void)pthread_mutex_unlock(&h->file->locks);
    return code;
}

static bool slots_allow(const struct disk_shm *shm, int first, int count, bool shared)
{
    for (int i = first; i < first + count; i++)
        if (shared ? shm->slots[i] < 0 : shm->slots[i] != 0) return false;
    return true;
}

static int file_shm_lock(sqlite3_file *base, int first, int count, int flags)
{
    struct disk_sqlite_file *h = handle_of(base);
    bool shared = (flags & SQLITE_SHM_SHARED) != 0;
    int code = SQLITE_OK;
    (void)pthread_mutex_lock(&h->file->locks);
    struct disk_shm *shm = h->file->shm;
    if (flags & SQLITE_SHM_UNLOCK) {
        for (int i = first; i < first + count; i++) shm->slots[i] = shared ? shm->slots[i] - 1 : 0;
    } else if (slots_allow(shm, first, count, shared)) {
        for (int i = first; i < first + count; i++) shm->slots[i] = shared ? shm->slots[i] + 1 : -1;
    } else {
        code = SQLITE_BUSY;
    }
    (void)pthread_mutex_unlock(&h->file->locks);
    return code;
}

static void file_shm_barrier(sqlite3_file *base)
{
    (void)base;
    atomic_thread_fence(memory_order_seq_cst);
}

static void shm_free(struct disk_shm *shm)
{
    for (size_t i = 0; i < shm->region_count; i++) free(shm->regions[i]);
    free(shm->regions);
    free(shm);
}

static int file_shm_unmap(sqlite3_file *base, int deletes)
{
    (void)deletes; /* the last one out always does */
    struct disk_sqlite_file *h = handle_of(base);
    struct disk_shm *last = NULL;
    (void)pthread_mutex_lock(&h->file->locks);
    if (h->has_shm && --h->file->shm->users == 0) {
        last = h->file->shm;
        h->file->shm = NULL;
    }
    h->has_shm = false;
    (void)pthread_mutex_unlock(&h->file->locks);
    if (last) shm_free(last);
    return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------ what else files do */

static void count_file(struct memdisk *d, uint64_t life, bool opens)
{
    (void)pthread_mutex_lock(&d->lock);
    if (!opens && life != d->life) d->dead_sqlite_files--;
    d->sqlite_files = opens ? d->sqlite_files + 1 : d->sqlite_files - 1;
    (void)pthread_mutex_unlock(&d->lock);
}

static int file_close(sqlite3_file *base)
{
    struct disk_sqlite_file *h = handle_of(base);
    (void)file_shm_unmap(base, 0);
    (void)file_unlock(base, SQLITE_LOCK_NONE);
    if (h->deletes && h->path[0]) (void)disk_unlink(h->disk, h->life, h->path);
    count_file(h->disk, h->life, false);
    disk_close(h->disk, h->file);
    base->pMethods = NULL;
    return SQLITE_OK;
}

static int file_control(sqlite3_file *base, int op, void *arg)
{
    struct disk_sqlite_file *h = handle_of(base);
    int *number = arg;
    switch (op) {
    case SQLITE_FCNTL_PERSIST_WAL:
        if (*number < 0)
            *number = h->keeps_wal;
        else
            h->keeps_wal = *number != 0;
        return SQLITE_OK;
    case SQLITE_FCNTL_POWERSAFE_OVERWRITE:
        *number = 1;
        return SQLITE_OK;
    case SQLITE_FCNTL_HAS_MOVED:
        *number = 0;
        return SQLITE_OK;
    case SQLITE_FCNTL_LOCKSTATE:
        *number = h->lock;
        return SQLITE_OK;
    case SQLITE_FCNTL_VFSNAME:
        *(char **)arg = sqlite3_mprintf("%s", h->disk->vfs_name);
        return SQLITE_OK;
    default:
        return SQLITE_NOTFOUND;
    }
}

/* As the system's files (os_unix.c): SQLite writes to both in the same way. */
static int file_sector(sqlite3_file *base)
{
    (void)base;
    return 4096;
}

static int file_traits(sqlite3_file *base)
{
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_is_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_traits,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};

/* ------------------------------------------------------------------------------------------ the VFS */

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *out_flags)
{
    struct disk_sqlite_file *h = handle_of(base);
    enum disk_open_how how = DISK_OPEN;
    bool created;
    *h = (struct disk_sqlite_file){.disk = disk_of(vfs)};
    if (flags & SQLITE_OPEN_CREATE) how = flags & SQLITE_OPEN_EXCLUSIVE ? DISK_CREATE : DISK_OPEN_OR_CREATE;
    if (!path) how = DISK_OPEN_OR_CREATE;
    enum disk_result result = disk_open(h->disk, path, how, &h->life, &created, &h->file);
    if (result != DISK_OK) return code_of(result, SQLITE_CANTOPEN);
    snprintf(h->path, sizeof h->path, "%s", path ? path : "");
    h->deletes = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
    h->syncs_folder =
        created && path && (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL)) != 0;
    if (out_flags) *out_flags = flags;
    base->pMethods = &methods;
    count_file(h->disk, h->life, true);
    return SQLITE_OK;
}

/* While the dead are being closed: SQLite removes logs when it closes, and these are not theirs any more. */
static bool has_dead(struct memdisk *d)
{
    (void)pthread_mutex_lock(&d->lock);
    bool dead = d->dead_sqlite_files > 0;
    (void)pthread_mutex_unlock(&d->lock);
    return dead;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync_folder)
{
    struct memdisk *d = disk_of(vfs);
    char folder[DISK_PATH_MAX];
    folder_of(path, folder);
    if (has_dead(d)) return SQLITE_IOERR_DELETE;
    enum disk_result result = disk_unlink(d, 0, path);
    if (result == DISK_ABSENT) return SQLITE_IOERR_DELETE_NOENT;
    if (result != DISK_OK) return code_of(result, SQLITE_IOERR_DELETE);
    return sync_folder ? code_of(disk_sync_folder(d, 0, folder), SQLITE_IOERR_DIR_FSYNC) : SQLITE_OK;
}

/* A file without bytes does not count as there, as with the system's files. */
static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *out)
{
    (void)flags;
    uint64_t length = 0;
    *out = memdisk_length(disk_of(vfs), path, &length) == HKV_OK && length > 0;
    return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *path, int room, char *out)
{
    (void)vfs;
    int n = snprintf(out, (size_t)room, "%s", path);
    return n >= 0 && n < room ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int vfs_random(sqlite3_vfs *vfs, int len, char *out)
{
    sqlite3_vfs *system = disk_of(vfs)->system;
    return system->xRandomness(system, len, out);
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
    const struct memdisk *d = disk_of(vfs);
    if (!d->config.spent) return d->system->xSleep(d->system, us);
    d->config.spent(d->config.arg, us > 0 ? (uint64_t)us : 0);
    return us;
}

static int vfs_time(sqlite3_vfs *vfs, double *out)
{
    sqlite3_vfs *system = disk_of(vfs)->system;
    return system->xCurrentTime(system, out);
}

static int vfs_last_error(sqlite3_vfs *vfs, int len, char *out)
{
    (void)vfs;
    (void)len;
    (void)out;
    return 0;
}

enum hkv_err disk_vfs_register(struct memdisk *d)
{
    d->system = sqlite3_vfs_find(NULL);
    d->vfs = (sqlite3_vfs){
        .iVersion = 1,
        .szOsFile = sizeof(struct disk_sqlite_file),
        .mxPathname = DISK_PATH_MAX - 1,
        .zName = d->vfs_name,
        .pAppData = d,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_path,
        .xRandomness = vfs_random,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time,
        .xGetLastError = vfs_last_error,
    };
    int code = d->system ? sqlite3_vfs_register(&d->vfs, 0) : SQLITE_ERROR;
    if (code != SQLITE_OK) return error_set(HKV_E_INTERNAL, "registering %s with SQLite", d->vfs_name);
    enum hkv_err err = checked_vfs_new(d->vfs_name, &d->checked);
    if (err != HKV_OK) (void)sqlite3_vfs_unregister(&d->vfs);
    return err;
}

void disk_vfs_unregister(struct memdisk *d)
{
    checked_vfs_free(d->checked);
    (void)sqlite3_vfs_unregister(&d->vfs);
}
