/* A disk in memory: a SQLite VFS (write-ahead log and its shared memory included) and folders of value files over the
 * same files. Well-behaved unless told otherwise, it is the disk of a store in memory; with faults it is the disk of
 * tests and of the simulator.
 *
 *                kv_config.vfs            kv_config.files
 *                      │                         │
 *               memdisk_vfs()             memdisk_files()
 *                      └────────────┬────────────┘
 *      names ──▶ files of 4 KiB blocks          what programs see
 *        │            │
 *   sync_dir()      sync()                      with `forgetful`: changes wait here ...
 *        ▼            ▼
 *   names ──▶ files of 4 KiB blocks             ... and this much survives a power cut for certain
 *
 * Power cuts. memdisk_crash() leaves what a disk may leave: of each write since the last sync of its file, every sector
 * of 512 bytes is kept, dropped or torn (a part of its bytes is new) on its own, which covers each order in which they
 * may have been written; each change of a name since the last sync of its folder is kept or dropped. A write changes no
 * byte beside those it names.
 *
 * Memory: blocks of files count against the capacity. A forgetful disk takes up to twice that, and what was written
 * since the last syncs, up to MEMDISK_PENDING_BYTES_MAX for a file and MEMDISK_PENDING_NAMES_MAX names; the oldest
 * beyond that are written back, as an operating system would. A descriptor of open_fd() is a copy outside of this.
 *
 * Everything that is left to chance comes from the seeds: one thread that does the same gets the same.
 *
 * Threads: any, several at once; memdisk_crash(), _faults_set() and _free() while no other call is under way. The
 * locks of SQLite work between the connections of this process, and there are no others. */
#ifndef HKV_STORE_MEMDISK_H
#define HKV_STORE_MEMDISK_H

#include "base/bytes.h"
#include "base/ids.h"
#include "store/files.h"

#define MEMDISK_SECTOR_BYTES      512
#define MEMDISK_PENDING_BYTES_MAX (64 << 20)
#define MEMDISK_PENDING_NAMES_MAX 4096

struct memdisk;

struct memdisk_config {
    uint64_t capacity_bytes;
    uint64_t seed;  /* of I/O errors and flips */
    bool forgetful; /* knows what a power cut would leave; needed for memdisk_crash() */
    /* Virtual time that an operation took; SQLite's waits for a lock are reported here too, and then nothing ever
     * sleeps. NULL: operations take no time, waits are real. No lock is held. */
    void (*spent)(void *arg, uint64_t us);
    /* After each change (write, truncation, sync, new, renamed or removed name). No lock is held. May be NULL. */
    void (*changed)(void *arg);
    void *arg;
};

enum memdisk_operation { MEMDISK_READ, MEMDISK_WRITE, MEMDISK_SYNC, MEMDISK_OPERATIONS };

struct memdisk_fault {
    uint32_t errors_per_million;
    uint64_t error_nth; /* the n-th from now on fails, once; 0: none */
    uint64_t cost_us;   /* of each operation */
};

struct memdisk_faults {
    struct memdisk_fault of[MEMDISK_OPERATIONS]; /* truncations are writes */
    uint64_t budget_bytes;                       /* the disk is full at this many; 0: at its capacity */
    uint64_t off_after_changes;                  /* the power is gone after the n-th change from now on; 0: it stays */
    /* A failed sync forgets what it did not write, so that a later one does not write it either (Linux does so). */
    bool sync_error_forgets;
};

/* What a power cut does to changes that were not synced. */
struct memdisk_cut {
    uint64_t seed;
    unsigned keep_percent; /* of sectors and names */
    unsigned tear_percent; /* of sectors */
};

/* Errors: HKV_E_NOMEM, HKV_E_INTERNAL (SQLite refuses the VFS). */
HKV_CHECK enum hkv_err memdisk_new(const struct memdisk_config *config, struct memdisk **out);

/* Everything opened on it is closed before. NULL is fine. */
void memdisk_free(struct memdisk *d);

/* The name of its SQLite VFS, with checksums of pages as on the system's files (store/checked_vfs.h), unlike that of
 * any other disk; lives as long as the disk. */
const char *memdisk_vfs(const struct memdisk *d);

/* A folder for value files. The disk outlives it. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err memdisk_files(struct memdisk *d, const char *folder, struct files **out);

/* Faults from now on; {0} for none (and the power is back, for what is opened after a crash). */
void memdisk_faults_set(struct memdisk *d, const struct memdisk_faults *faults);

/* The state after a power cut. What was opened before fails from now on, and is only good for being closed, which
 * changes nothing; it is closed before something is opened anew. The faults stay, the power is on. The disk is
 * forgetful. Errors: HKV_E_NOMEM; the disk is unchanged. */
HKV_CHECK enum hkv_err memdisk_crash(struct memdisk *d, const struct memdisk_cut *cut);

/* The same as a new disk, forgetful too and without faults and callbacks; `d` is unchanged and goes on. */
HKV_CHECK enum hkv_err memdisk_crashed_copy(struct memdisk *d, const struct memdisk_cut *cut, struct memdisk **out);

/* Flips one bit of a file at rest, given or at random; *bit says which. Errors: HKV_E_NOT_FOUND (quiet; no such file,
 * or it has no such bit). */
HKV_CHECK enum hkv_err memdisk_flip_bit(struct memdisk *d, const char *path, uint64_t bit);
HKV_CHECK enum hkv_err memdisk_flip_any_bit(struct memdisk *d, const char *path, uint64_t *bit);

/* Length of a file. Errors: HKV_E_NOT_FOUND (quiet). */
HKV_CHECK enum hkv_err memdisk_length(struct memdisk *d, const char *path, uint64_t *length);

/* Bytes of blocks in use; changes (as told to `changed`) so far. */
uint64_t memdisk_used_bytes(struct memdisk *d);
uint64_t memdisk_changes(struct memdisk *d);

/* Operations of a kind since the faults were set, failed ones too; reads count only while a fault may meet them. */
uint64_t memdisk_operations(struct memdisk *d, enum memdisk_operation operation);

/* Hash over the names and bytes that programs see. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err memdisk_digest(struct memdisk *d, struct hash *out);

#endif
