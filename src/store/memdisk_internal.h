/* Inside of the disk in memory (memdisk.h): files, names, and the operations that SQLite's and the value files' side
 * share.
 *
 * Locks, in the order in which they are taken: memdisk.lock (names, counters, what waits for a sync), then a file's
 * content lock. A file's `locks` (SQLite's locks and shared memory) is taken alone. */
#ifndef HKV_STORE_MEMDISK_INTERNAL_H
#define HKV_STORE_MEMDISK_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "store/checked_vfs.h"
#include "store/memdisk.h"

#define DISK_BLOCK_BYTES  4096
#define DISK_VFS_NAME_MAX 32
#define DISK_PATH_MAX     512

enum disk_result { DISK_OK, DISK_ERROR, DISK_FULL, DISK_NOMEM, DISK_ABSENT, DISK_EXISTS };

/* ---------------------------------------------------------------------------------------- bytes (memdisk_content.c) */

struct disk_content {
    uint8_t **blocks; /* NULL: zeros */
    size_t count;     /* places in `blocks`; what lies behind is zeros too */
    size_t allocated; /* blocks that are there */
    uint64_t length;
};

/* A write or truncation that waits for a sync. */
struct disk_change {
    struct disk_change *next;
    uint64_t offset; /* of a truncation: the length */
    size_t len;
    bool truncates;
    uint8_t data[];
};

/* Chances of what was not synced. */
struct disk_fate {
    uint64_t dice;
    unsigned keep_percent;
    unsigned tear_percent;
};

uint64_t disk_roll(uint64_t *dice);

void content_fini(struct disk_content *c);
size_t content_read(const struct disk_content *c, uint64_t offset, void *out, size_t len);
/* How many blocks a write would add. */
size_t content_missing(const struct disk_content *c, uint64_t offset, size_t len);
/* False: no memory, and nothing was written. */
HKV_CHECK bool content_write(struct disk_content *c, uint64_t offset, struct slice bytes);
void content_truncate(struct disk_content *c, uint64_t length);
HKV_CHECK bool content_copy(const struct disk_content *from, struct disk_content *out);
bool content_flip(struct disk_content *c, uint64_t bit);

/* Does the change, or with `fate` as much of it as chance has it. False: no memory. */
HKV_CHECK bool change_apply(const struct disk_change *change, struct disk_content *to, struct disk_fate *fate);

/* ------------------------------------------------------------------------------------------ files and their names */

struct disk_shm; /* memdisk_vfs.c */
struct disk_sqlite_file;

/* A file. `live` counts names and handles; at 0 its bytes are gone for programs. `kept` counts what else may bring it
 * back after a power cut. */
struct disk_file {
    struct disk_file *next, *prev; /* of all files, in the order of their making */
    size_t live;
    size_t kept;
    pthread_rwlock_t content_lock;
    struct disk_content content;
    struct disk_content durable;
    struct disk_change *changes, *last_change; /* since the last sync */
    size_t change_bytes;
    pthread_mutex_t locks;
    size_t sharers;
    struct disk_sqlite_file *writer; /* holds RESERVED or more */
    bool writer_is_pending;
    struct disk_shm *shm;
};

struct disk_name {
    struct disk_name *next, *prev; /* in the order of `sequence` */
    struct disk_name *chain;
    uint64_t sequence;
    struct disk_file *file;
    char path[];
};

/* A map of names (memdisk_names.c). */
struct disk_names {
    struct disk_name **buckets;
    size_t bucket_count;
    size_t count;
    uint64_t next_sequence;
    struct disk_name *first, *last;
};

struct disk_name *names_find(const struct disk_names *names, const char *path);
/* A new name at the end; NULL: no memory. There is none such yet. */
struct disk_name *names_add(struct disk_names *names, const char *path, struct disk_file *file);
void names_remove(struct disk_names *names, struct disk_name *name);
void names_fini(struct disk_names *names); /* of names without files, or whose files go too */
bool names_in_folder(const char *path, const char *folder);

/* A change of names that waits for a sync of its folder: `from` goes, `to` is `file`. */
struct disk_rename {
    struct disk_rename *next;
    struct disk_file *file;
    char *from;
    char *to;
};

struct memdisk {
    struct memdisk_config config;
    sqlite3_vfs vfs;
    char vfs_name[DISK_VFS_NAME_MAX];
    struct checked_vfs *checked; /* over `vfs` */
    sqlite3_vfs *system;         /* for clocks and waits */
    pthread_mutex_t lock;
    _Atomic uint64_t life; /* rises with each crash: what was opened in an earlier one is dead */
    _Atomic bool watched;  /* reads must take the lock: they may fail or cost time */
    bool off;
    struct memdisk_faults faults;
    uint64_t seen[MEMDISK_OPERATIONS]; /* since the faults were set */
    uint64_t changes_seen;
    uint64_t changes;
    uint64_t dice;
    uint64_t used_bytes;
    size_t sqlite_files;      /* open */
    size_t dead_sqlite_files; /* opened before a crash */
    struct disk_file *files, *last_file;
    struct disk_names names;
    struct disk_names durable;
    struct disk_rename *renames, *last_rename;
    size_t rename_count;
};

/* ------------------------------------------------------------------------------------------ operations (memdisk.c) */

/* Of the file that the handle of life `life` holds. */
enum disk_result disk_read(struct memdisk *d, struct disk_file *f, uint64_t life, uint64_t offset, void *out,
                           size_t len, size_t *got);
enum disk_result disk_write(struct memdisk *d, struct disk_file *f, uint64_t life, uint64_t offset, struct slice bytes);
enum disk_result disk_truncate(struct memdisk *d, struct disk_file *f, uint64_t life, uint64_t length);
/* `folder`: its names too, when not NULL. */
enum disk_result disk_sync(struct memdisk *d, struct disk_file *f, uint64_t life, const char *folder);

enum disk_open_how { DISK_OPEN, DISK_OPEN_OR_CREATE, DISK_CREATE };

/* A handle; path NULL: a file without name. `*life` is that of the disk now; with `life` not 0 it must be that. */
enum disk_result disk_open(struct memdisk *d, const char *path, enum disk_open_how how, uint64_t *life, bool *created,
                           struct disk_file **out);
void disk_close(struct memdisk *d, struct disk_file *f);
uint64_t disk_file_length(struct disk_file *f);

/* life 0: any. */
enum disk_result disk_unlink(struct memdisk *d, uint64_t life, const char *path);
enum disk_result disk_rename(struct memdisk *d, uint64_t life, const char *from, const char *to);
enum disk_result disk_sync_folder(struct memdisk *d, uint64_t life, const char *folder);

/* Under the lock. */
struct disk_file *disk_file_new(struct memdisk *d);
void disk_file_live(struct memdisk *d, struct disk_file *f, int more);
void disk_file_kept(struct memdisk *d, struct disk_file *f, int more);
/* Lets one change of names be durable; false: no memory. */
HKV_CHECK bool disk_rename_apply(struct memdisk *d, struct disk_names *to, const struct disk_rename *r);
void disk_rename_free(struct memdisk *d, struct disk_rename *r);
/* Drops all names and all that waits; files live on in their handles. */
void disk_forget(struct memdisk *d);

/* The SQLite side (memdisk_vfs.c). */
HKV_CHECK enum hkv_err disk_vfs_register(struct memdisk *d);
void disk_vfs_unregister(struct memdisk *d);

#endif
