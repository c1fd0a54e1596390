#include "store/checked_vfs.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "store/db.h"
#include "store/log_check.h"
#include "store/page_sum.h"
#include "store/schema.h"

#define CONTENT_BYTES     (DB_PAGE_BYTES - DB_RESERVED_BYTES)
#define VFS_NAME_MAX      64
#define DAMAGE_TEXT_MAX   (ERROR_TEXT_MAX - 64)
#define LASTING_MAX       4
#define FIRST_FORM        1   /* of the schema: its pages have no checksums */
#define FILE_HEADER_BYTES 100 /* of page 1, read alone before anything is known */
#define LOG_AHEAD_LEAST   ((sqlite3_int64)64 * 1024)
#define LOG_AHEAD_MOST    ((sqlite3_int64)1024 * 1024)

/* What all connections to a database know about it. */
struct checked_database {
    struct checked_database *next;
    size_t users;             /* under the VFS's lock */
    _Atomic bool is_other;    /* another form: nothing is checked */
    _Atomic bool is_unsynced; /* CHECKED_VFS_UNSYNCED */
    pthread_mutex_t log_lock; /* of what follows */
    bool log_is_checked;      /* since the first connection */
    uint64_t *log_sums;       /* of each frame's page; 0: not known */
    size_t log_sum_count;
    char path[];
};

struct checked_vfs {
    sqlite3_vfs base; /* first */
    sqlite3_vfs *under;
    pthread_mutex_t lock;
    struct checked_database *databases;
    char name[VFS_NAME_MAX];
};

/* The file below follows in the same memory. */
struct checked_file {
    sqlite3_file base; /* first */
    struct checked_vfs *vfs;
    struct checked_database *database;
    const char *path;          /* SQLite's */
    sqlite3_int64 log_written; /* of a log: where its last write ended, */
    sqlite3_int64 log_length;  /* and the file, at least; 0: not known */
};

#define FILE_BYTES ((sizeof(struct checked_file) + 15) / 16 * 16)

static _Thread_local char damage_text[DAMAGE_TEXT_MAX];

const char *checked_vfs_damage(void)
{
    return damage_text;
}

static struct checked_file *file_of(sqlite3_file *base)
{
    return (struct checked_file *)(void *)base;
}

static sqlite3_file *under(sqlite3_file *base)
{
    return (sqlite3_file *)(void *)((uint8_t *)base + FILE_BYTES);
}

/* ------------------------------------------------------------------------------------------ pages of a file */

static int page_damaged(const struct checked_file *f, uint64_t number, const char *how)
{
    snprintf(damage_text, sizeof damage_text, "%s: page %" PRIu64 " %s; " DB_REMEDY, f->path, number, how);
    return SQLITE_IOERR_DATA;
}

static uint64_t sum_of(const uint8_t page[DB_PAGE_BYTES], uint64_t number)
{
    return page_sum(slice_of(page, CONTENT_BYTES), number);
}

/* Offsets: sqlite.org/fileformat2.html, "The Database Header". */
static bool has_our_layout(const uint8_t *header)
{
    return (header[16] << 8 | header[17]) == DB_PAGE_BYTES && header[20] == DB_RESERVED_BYTES;
}

/* SQLite's, but not ours in two places at once: one damaged byte does not make ours another's. */
static bool is_of_another(const uint8_t *header)
{
    return memcmp(header, "SQLite format 3", 16) == 0 && !has_our_layout(header) &&
           be32_load(header + 68) != SCHEMA_APPLICATION;
}

static bool is_of_first_form(const uint8_t page[DB_PAGE_BYTES])
{
    static const uint8_t none[DB_RESERVED_BYTES];
    return be32_load(page + 68) == SCHEMA_APPLICATION && be32_load(page + 60) == FIRST_FORM &&
           memcmp(page + CONTENT_BYTES, none, sizeof none) == 0;
}

static int page_check(struct checked_file *f, const uint8_t page[DB_PAGE_BYTES], uint64_t number)
{
    if (be64_load(page + CONTENT_BYTES) == sum_of(page, number)) return SQLITE_OK;
    if (number != 1 || !(is_of_another(page) || is_of_first_form(page)))
        return page_damaged(f, number, "is not what was written (wrong checksum)");
    f->database->is_other = true;
    return SQLITE_OK;
}

/* One whole page. SQLite would take zeros for a page that the file lacks; only of an empty file it asks for one. */
static int page_read(sqlite3_file *base, uint8_t page[DB_PAGE_BYTES], uint64_t number)
{
    struct checked_file *f = file_of(base);
    sqlite3_int64 offset = (sqlite3_int64)(number - 1) * DB_PAGE_BYTES;
    int code = under(base)->pMethods->xRead(under(base), page, DB_PAGE_BYTES, offset);
    if (code == SQLITE_OK) return page_check(f, page, number);
    if (code != SQLITE_IOERR_SHORT_READ) return code;
    sqlite3_int64 length = 0;
    code = under(base)->pMethods->xFileSize(under(base), &length);
    if (code != SQLITE_OK) return code;
    return length == 0 ? SQLITE_IOERR_SHORT_READ : page_damaged(f, number, "is missing (the file is cut short)");
}

/* A piece of one or several pages, each read and checked as a whole. */
static int pieces_read(sqlite3_file *base, uint8_t *out, size_t len, uint64_t offset)
{
    uint8_t page[DB_PAGE_BYTES];
    for (size_t done = 0; done < len;) {
        size_t start = (size_t)((offset + done) % DB_PAGE_BYTES);
        size_t part = len - done < DB_PAGE_BYTES - start ? len - done : DB_PAGE_BYTES - start;
        int code = page_read(base, page, (offset + done) / DB_PAGE_BYTES + 1);
        if (code != SQLITE_OK) return code;
        memcpy(out + done, page + start, part);
        done += part;
    }
    return SQLITE_OK;
}

static int main_read(sqlite3_file *base, void *out, int len, sqlite3_int64 offset)
{
    struct checked_file *f = file_of(base);
    bool is_header = offset + len <= FILE_HEADER_BYTES;
    if (!is_header && !f->database->is_other) {
        if (len == DB_PAGE_BYTES && offset % DB_PAGE_BYTES == 0)
            return page_read(base, out, (uint64_t)offset / DB_PAGE_BYTES + 1);
        int checked = pieces_read(base, out, (size_t)len, (uint64_t)offset);
        if (checked != SQLITE_OK || !f->database->is_other) return checked;
    }
    /* A power cut may have torn page 1 while the log has it whole, so its header is not checked here: SQLite asks for
     * the page again, whole, before it believes in it. */
    int code = under(base)->pMethods->xRead(under(base), out, len, offset);
    if (code == SQLITE_OK && offset == 0 && len == FILE_HEADER_BYTES && is_of_another(out))
        f->database->is_other = true;
    return code;
}

static int main_write(sqlite3_file *base, const void *bytes, int len, sqlite3_int64 offset)
{
    struct checked_file *f = file_of(base);
    const sqlite3_io_methods *methods = under(base)->pMethods;
    uint8_t page[DB_PAGE_BYTES];
    if (offset == 0 && len >= FILE_HEADER_BYTES) f->database->is_other = !has_our_layout(bytes);
    if (f->database->is_other || len != DB_PAGE_BYTES || offset % DB_PAGE_BYTES != 0)
        return methods->xWrite(under(base), bytes, len, offset);
    memcpy(page, bytes, CONTENT_BYTES);
    be64_store(page + CONTENT_BYTES, sum_of(page, (uint64_t)offset / DB_PAGE_BYTES + 1));
    return methods->xWrite(under(base), page, len, offset);
}

/* ------------------------------------------------------------------------------------------ frames of the log */

/* The frame whose page these bytes are, counted from 0; or false. */
static bool frame_at(int len, sqlite3_int64 offset, uint64_t *frame)
{
    sqlite3_int64 at = offset - DB_LOG_HEAD_BYTES - DB_LOG_FRAME_HEAD_BYTES;
    if (len != DB_PAGE_BYTES || at < 0 || at % DB_LOG_FRAME_BYTES != 0) return false;
    *frame = (uint64_t)(at / DB_LOG_FRAME_BYTES);
    return true;
}

/* Keeps a sum, under the lock. */
static bool log_keep(struct checked_database *d, uint64_t frame, uint64_t sum)
{
    if (frame >= d->log_sum_count) {
        size_t count = d->log_sum_count ? d->log_sum_count : 256;
        while (count <= frame) count *= 2;
        uint64_t *sums = realloc(d->log_sums, count * sizeof *sums);
        if (!sums) return false;
        memset(sums + d->log_sum_count, 0, (count - d->log_sum_count) * sizeof *sums);
        d->log_sums = sums;
        d->log_sum_count = count;
    }
    d->log_sums[frame] = sum;
    return true;
}

/* Never 0, which says that none is known. */
static uint64_t log_sum(struct slice page, uint64_t frame)
{
    uint64_t sum = page_sum(page, frame);
    return sum ? sum : 1;
}

static int log_check_read(const struct checked_file *f, struct slice page, uint64_t frame)
{
    struct checked_database *d = f->database;
    uint64_t sum = log_sum(page, frame);
    (void)pthread_mutex_lock(&d->log_lock);
    uint64_t known = frame < d->log_sum_count ? d->log_sums[frame] : 0;
    (void)pthread_mutex_unlock(&d->log_lock);
    if (known == 0 || known == sum) return SQLITE_OK;
    snprintf(damage_text, sizeof damage_text,
             "%s: frame %" PRIu64 " is not what was written (wrong checksum); " DB_REMEDY, f->path, frame + 1);
    return SQLITE_IOERR_DATA;
}

static int frames_read(sqlite3_file *base, void *out, int len, sqlite3_int64 offset)
{
    uint64_t frame;
    int code = under(base)->pMethods->xRead(under(base), out, len, offset);
    if (code != SQLITE_OK) return code;
    if (frame_at(len, offset, &frame)) return log_check_read(file_of(base), slice_of(out, (size_t)len), frame);
    if (len == DB_LOG_FRAME_BYTES && frame_at(DB_PAGE_BYTES, offset + DB_LOG_FRAME_HEAD_BYTES, &frame))
        return log_check_read(file_of(base), slice_of((uint8_t *)out + DB_LOG_FRAME_HEAD_BYTES, DB_PAGE_BYTES), frame);
    return SQLITE_OK;
}

/* Before the write, so that one which fails half-way leaves nothing that is believed. */
static int frames_write(sqlite3_file *base, const void *bytes, int len, sqlite3_int64 offset)
{
    struct checked_database *d = file_of(base)->database;
    uint64_t frame;
    bool kept = true;
    if (len > DB_LOG_HEAD_BYTES) {
        bool whole = frame_at(len, offset, &frame);
        if (!whole)
            frame = offset < DB_LOG_HEAD_BYTES ? 0 : (uint64_t)(offset - DB_LOG_HEAD_BYTES) / DB_LOG_FRAME_BYTES;
        uint64_t sum = whole ? log_sum(slice_of(bytes, (size_t)len), frame) : 0;
        (void)pthread_mutex_lock(&d->log_lock);
        kept = log_keep(d, frame, sum);
        (void)pthread_mutex_unlock(&d->log_lock);
    }
    if (!kept) return SQLITE_IOERR_NOMEM;
    file_of(base)->log_written = offset + len;
    return under(base)->pMethods->xWrite(under(base), bytes, len, offset);
}

/* Writes zeros behind the log when its writer comes near the end of the file: a sync that makes a file longer costs the
 * file system a change of its own. To SQLite they are frames of another log. A quarter of the file at a time; what does
 * not succeed is left to the next sync. */
static void log_write_ahead(struct checked_file *f)
{
    static const uint8_t zeros[LOG_AHEAD_LEAST];
    sqlite3_file *log = under(&f->base);
    if (f->log_written == 0 || f->database->is_unsynced || f->database->is_other) return;
    if (f->log_length < f->log_written) f->log_length = f->log_written;
    if (f->log_length - f->log_written >= LOG_AHEAD_LEAST / 2) return;
    /* Asked here only: a file whose state was asked for gets a new time from the next write, and one more thing to sync */
    if (log->pMethods->xFileSize(log, &f->log_length) != SQLITE_OK) return;
    sqlite3_int64 end = f->log_length + (f->log_length / 4 < LOG_AHEAD_MOST ? f->log_length / 4 : LOG_AHEAD_MOST);
    do {
        if (log->pMethods->xWrite(log, zeros, sizeof zeros, f->log_length) != SQLITE_OK) return;
        f->log_length += LOG_AHEAD_LEAST;
    } while (f->log_length < end);
}

static int frames_sync(sqlite3_file *base, int flags)
{
    log_write_ahead(file_of(base));
    return under(base)->pMethods->xSync(under(base), flags);
}

struct sums_seen {
    struct checked_database *database;
    bool failed;
};

static void page_seen(void *arg, uint64_t frame, struct slice page)
{
    struct sums_seen *seen = arg;
    seen->failed |= !log_keep(seen->database, frame, log_sum(page, frame));
}

static int log_refuse(const struct checked_file *f, const struct log_report *r)
{
    if (r->verdict == LOG_HEAD_DAMAGED)
        snprintf(damage_text, sizeof damage_text,
                 "%s: its head is damaged, and behind it stand changes that the database lacks; " DB_REMEDY, f->path);
    else
        snprintf(damage_text, sizeof damage_text,
                 "%s: frame %" PRIu64 " is damaged, and whole transactions follow it; " DB_REMEDY, f->path, r->bad);
    return SQLITE_IOERR_DATA;
}

/* Takes what SQLite would ignore out of the file, so that it is said once and mistaken for nothing later. */
static int log_cut(const struct checked_file *f, sqlite3_file *log, const struct log_report *r)
{
    log_warn("store",
             "%s: the last transaction was cut off while it was written, or its frame %" PRIu64
             " was damaged since; dropped %" PRIu64 " frames behind frame %" PRIu64,
             f->path, r->bad, r->dropped, r->kept);
    return log->pMethods->xTruncate(log, (sqlite3_int64)(DB_LOG_HEAD_BYTES + r->kept * DB_LOG_FRAME_BYTES));
}

/* Before SQLite looks at it for the first time. */
static int log_open_check(struct checked_file *f, sqlite3_file *database)
{
    struct checked_database *d = f->database;
    sqlite3_file *log = under(&f->base);
    struct sums_seen seen = {.database = d};
    struct log_report report = {0};
    (void)pthread_mutex_lock(&d->log_lock);
    int code = SQLITE_OK;
    if (!d->log_is_checked && !d->is_other) {
        code = log_check(log, database, page_seen, &seen, &report);
        if (code == SQLITE_OK && seen.failed) code = SQLITE_NOMEM;
        if (report.verdict == LOG_DAMAGED && d->is_unsynced) report.verdict = LOG_TORN;
        if (code == SQLITE_OK && report.verdict == LOG_TORN) code = log_cut(f, log, &report);
        if (code == SQLITE_OK && report.verdict >= LOG_DAMAGED) code = log_refuse(f, &report);
    }
    if (code == SQLITE_OK) d->log_is_checked = true;
    (void)pthread_mutex_unlock(&d->log_lock);
    return code;
}

/* ------------------------------------------------------------------------------------------ known databases */

static struct checked_database *database_take(struct checked_vfs *c, const char *path)
{
    (void)pthread_mutex_lock(&c->lock);
    struct checked_database *d = c->databases;
    while (d && strcmp(d->path, path) != 0) d = d->next;
    if (!d) {
        size_t len = strlen(path) + 1;
        d = calloc(1, sizeof *d + len);
        if (d) {
            memcpy(d->path, path, len);
            (void)pthread_mutex_init(&d->log_lock, NULL);
            d->next = c->databases;
            c->databases = d;
        }
    }
    if (d) d->users++;
    (void)pthread_mutex_unlock(&c->lock);
    return d;
}

static void database_give(struct checked_vfs *c, struct checked_database *d)
{
    (void)pthread_mutex_lock(&c->lock);
    if (--d->users == 0) {
        struct checked_database **at = &c->databases;
        while (*at != d) at = &(*at)->next;
        *at = d->next;
        (void)pthread_mutex_destroy(&d->log_lock);
        free(d->log_sums);
        free(d);
    }
    (void)pthread_mutex_unlock(&c->lock);
}

/* ------------------------------------------------------------------------------------ everything else goes to below */

static int file_close(sqlite3_file *base)
{
    struct checked_file *f = file_of(base);
    int code = under(base)->pMethods->xClose(under(base));
    database_give(f->vfs, f->database);
    base->pMethods = NULL;
    return code;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 length)
{
    file_of(base)->log_length = 0;
    return under(base)->pMethods->xTruncate(under(base), length);
}

static int file_sync(sqlite3_file *base, int flags)
{
    return under(base)->pMethods->xSync(under(base), flags);
}

static int file_size(sqlite3_file *base, sqlite3_int64 *out)
{
    return under(base)->pMethods->xFileSize(under(base), out);
}

static int file_lock(sqlite3_file *base, int level)
{
    return under(base)->pMethods->xLock(under(base), level);
}

static int file_unlock(sqlite3_file *base, int level)
{
    return under(base)->pMethods->xUnlock(under(base), level);
}

static int file_is_reserved(sqlite3_file *base, int *out)
{
    return under(base)->pMethods->xCheckReservedLock(under(base), out);
}

static int file_control(sqlite3_file *base, int op, void *arg)
{
    if (op == CHECKED_VFS_UNSYNCED) {
        file_of(base)->database->is_unsynced = true;
        return SQLITE_OK;
    }
    return under(base)->pMethods->xFileControl(under(base), op, arg);
}

static int file_sector(sqlite3_file *base)
{
    return under(base)->pMethods->xSectorSize(under(base));
}

static int file_traits(sqlite3_file *base)
{
    int traits = under(base)->pMethods->xDeviceCharacteristics(under(base));
#ifdef SQLITE_IOCAP_SUBPAGE_READ
    traits &= ~SQLITE_IOCAP_SUBPAGE_READ; /* a part of a page cannot be checked */
#endif
    return traits;
}

static int file_shm_map(sqlite3_file *base, int region, int region_bytes, int grow, void volatile **out)
{
    return under(base)->pMethods->xShmMap(under(base), region, region_bytes, grow, out);
}

static int file_shm_lock(sqlite3_file *base, int first, int count, int flags)
{
    return under(base)->pMethods->xShmLock(under(base), first, count, flags);
}

static void file_shm_barrier(sqlite3_file *base)
{
    under(base)->pMethods->xShmBarrier(under(base));
}

static int file_shm_unmap(sqlite3_file *base, int deletes)
{
    return under(base)->pMethods->xShmUnmap(under(base), deletes);
}

/* Version 2: without memory mapping. */
#define CHECKED_METHODS(read, write, sync)                                                                             \
    {                                                                                                                  \
        .iVersion = 2, .xClose = file_close, .xRead = (read), .xWrite = (write), .xTruncate = file_truncate,           \
        .xSync = (sync), .xFileSize = file_size, .xLock = file_lock, .xUnlock = file_unlock,                           \
        .xCheckReservedLock = file_is_reserved, .xFileControl = file_control, .xSectorSize = file_sector,              \
        .xDeviceCharacteristics = file_traits, .xShmMap = file_shm_map, .xShmLock = file_shm_lock,                     \
        .xShmBarrier = file_shm_barrier, .xShmUnmap = file_shm_unmap,                                                  \
    }

static const sqlite3_io_methods main_methods = CHECKED_METHODS(main_read, main_write, file_sync);
static const sqlite3_io_methods log_methods = CHECKED_METHODS(frames_read, frames_write, frames_sync);

static struct checked_vfs *vfs_of(sqlite3_vfs *base)
{
    return (struct checked_vfs *)(void *)base;
}

static int open_checked(struct checked_vfs *c, const char *path, sqlite3_file *base, int flags, int *out_flags)
{
    struct checked_file *f = file_of(base);
    bool is_log = (flags & SQLITE_OPEN_WAL) != 0;
    sqlite3_file *database = is_log ? sqlite3_database_file_object(path) : NULL;
    *f = (struct checked_file){.vfs = c, .path = path};
    f->database = database_take(c, is_log ? file_of(database)->database->path : path);
    if (!f->database) return SQLITE_NOMEM;
    int code = c->under->xOpen(c->under, path, under(base), flags, out_flags);
    if (code != SQLITE_OK) {
        database_give(c, f->database);
        return code;
    }
    base->pMethods = is_log ? &log_methods : &main_methods; /* SQLite closes what has methods, whatever is returned */
    return is_log ? log_open_check(f, under(database)) : SQLITE_OK;
}

static int vfs_open(sqlite3_vfs *base, const char *path, sqlite3_file *file, int flags, int *out_flags)
{
    struct checked_vfs *c = vfs_of(base);
    file->pMethods = NULL;
    bool checked = path && (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) != 0;
    return checked ? open_checked(c, path, file, flags, out_flags)
                   : c->under->xOpen(c->under, path, file, flags, out_flags);
}

static int vfs_delete(sqlite3_vfs *base, const char *path, int sync_folder)
{
    sqlite3_vfs *u = vfs_of(base)->under;
    return u->xDelete(u, path, sync_folder);
}

static int vfs_access(sqlite3_vfs *base, const char *path, int flags, int *out)
{
    sqlite3_vfs *u = vfs_of(base)->under;
    return u->xAccess(u, path, flags, out);
}

static int vfs_full_path(sqlite3_vfs *base, const char *path, int room, char *out)
{
    sqlite3_vfs *u = vfs_of(base)->under;
    return u->xFullPathname(u, path, room, out);
}

static int vfs_random(sqlite3_vfs *base, int len, char *out)
{
    sqlite3_vfs *u = vfs_of(base)->under;
    return u->xRandomness(u, len, out);
}

static int vfs_sleep(sqlite3_vfs *base, int us)
{
    sqlite3_vfs *u = vfs_of(base)->under;
    return u->xSleep(u, us);
}

static int vfs_time(sqlite3_vfs *base, double *out)
{
    sqlite3_vfs *u = vfs_of(base)->under;
    return u->xCurrentTime(u, out);
}

static int vfs_last_error(sqlite3_vfs *base, int len, char *out)
{
    sqlite3_vfs *u = vfs_of(base)->under;
    return u->xGetLastError(u, len, out);
}

/* ------------------------------------------------------------------------------------------ the VFS */

enum hkv_err checked_vfs_new(const char *under_name, struct checked_vfs **out)
{
    sqlite3_vfs *below = sqlite3_vfs_find(under_name);
    if (!below) return error_set(HKV_E_INTERNAL, "SQLite has no VFS %s", under_name);
    struct checked_vfs *c = calloc(1, sizeof *c);
    if (!c) return error_set(HKV_E_NOMEM, "checksums of pages over %s", under_name);
    int n = snprintf(c->name, sizeof c->name, "checked-%s", under_name);
    assert(n > 0 && n < VFS_NAME_MAX);
    (void)n;
    (void)pthread_mutex_init(&c->lock, NULL);
    c->under = below;
    c->base = (sqlite3_vfs){
        .iVersion = 1,
        .szOsFile = (int)FILE_BYTES + below->szOsFile,
        .mxPathname = below->mxPathname,
        .zName = c->name,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_path,
        .xRandomness = vfs_random,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time,
        .xGetLastError = vfs_last_error,
    };
    if (sqlite3_vfs_register(&c->base, 0) == SQLITE_OK) {
        *out = c;
        return HKV_OK;
    }
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
    return error_set(HKV_E_INTERNAL, "registering the VFS over %s with SQLite", under_name);
}

void checked_vfs_free(struct checked_vfs *c)
{
    if (!c) return;
    assert(!c->databases); /* else something is still open */
    (void)sqlite3_vfs_unregister(&c->base);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

const char *checked_vfs_name(const struct checked_vfs *c)
{
    return c->name;
}

enum hkv_err checked_vfs_lasting(const char *under_name, const char **name)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct checked_vfs *lasting[LASTING_MAX];
    enum hkv_err err = HKV_OK;
    size_t i = 0;
    (void)pthread_mutex_lock(&lock);
    while (i < LASTING_MAX && lasting[i] && strcmp(lasting[i]->under->zName, under_name) != 0) i++;
    assert(i < LASTING_MAX);
    if (!lasting[i]) err = checked_vfs_new(under_name, &lasting[i]);
    if (err == HKV_OK) *name = lasting[i]->name;
    (void)pthread_mutex_unlock(&lock);
    return err;
}
