/* Who this node is: the data directory, its lock, and the secrets under keys/.
 *
 *   data_dir/lock                   held (flock) while a process has the store open
 *   data_dir/keys/node.secret       64 lower-case hex digits and a newline, mode 0600
 *   data_dir/keys/author.secret
 *   data_dir/keys/namespace.secret  absent on a store that joined by a read ticket
 *   data_dir/keys/namespace.join    only while a join is under way: "write <secret>" or "read <namespace id>" (join.c)
 *
 * A store on another disk than the system's has the same files there, without lock.
 *
 * Start-up thread and, for joining, the caller's; nothing here is shared. */
#ifndef HKV_NODE_IDENTITY_H
#define HKV_NODE_IDENTITY_H

#include "base/bytes.h"
#include "base/ids.h"
#include "store/files.h"

struct memdisk;
struct node_disk;

struct data_dir {
    char *path;             /* "" or another name of its own on a disk that is not the system's */
    int lock_fd;            /* -1 while not held, and on another disk */
    struct files *keys;     /* folder of key files */
    struct files *values;   /* of value files, and */
    const char *vfs;        /* SQLite's, on another disk; NULL: the system's below `path` */
    struct memdisk *memory; /* the disk of a store in memory, which is the store's own */
};

/* Creates the directory and its sub-directories where absent and takes the lock.
 * Errors: HKV_E_INVALID (not a directory), HKV_E_PERMISSION, HKV_E_LOCKED, HKV_E_DISK, HKV_E_NOMEM. */
HKV_CHECK enum hkv_err data_dir_open(struct data_dir *dir, const char *path);

/* The same on a disk of the world's (node/world.h), which has no lock: whoever made it opens it once. Errors:
 * HKV_E_NOMEM. */
HKV_CHECK enum hkv_err data_dir_open_on(struct data_dir *dir, const struct node_disk *disk);

/* The same on a disk in memory, which is gone with data_dir_close(). Errors: HKV_E_NOMEM, HKV_E_INTERNAL. */
HKV_CHECK enum hkv_err data_dir_open_memory(struct data_dir *dir, uint64_t capacity_bytes);

void data_dir_close(struct data_dir *dir);

/* Whether the folder of value files can be read and written. */
bool data_dir_values_accessible(const struct data_dir *dir);

/* Appends "<data_dir>/<name>" with a NUL that is not counted. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err data_dir_path(const struct data_dir *dir, const char *name, struct buf *out);

/* Reads a key file into `out`. Errors: HKV_E_NOT_FOUND (quiet), HKV_E_PERMISSION (others can read it; names the
 * remedy), HKV_E_FORMAT, HKV_E_DISK. */
HKV_CHECK enum hkv_err key_file_read(const struct data_dir *dir, const char *name, struct secret_key *out);

/* Writes a file of keys/ durably: temporary file of mode 0600, sync, rename, sync of the folder. `name` begins with
 * "keys/" here and below. */
HKV_CHECK enum hkv_err private_file_write(const struct data_dir *dir, const char *name, struct slice content);
HKV_CHECK enum hkv_err key_file_write(const struct data_dir *dir, const char *name, const struct secret_key *secret);

/* Reads a small private file. Errors: HKV_E_NOT_FOUND (quiet), HKV_E_PERMISSION, HKV_E_DISK. */
HKV_CHECK enum hkv_err private_file_read(const struct data_dir *dir, const char *name, struct buf *out);

/* Removes a file and syncs its folder; an absent one is fine. */
HKV_CHECK enum hkv_err private_file_remove(const struct data_dir *dir, const char *name);

/* The secret of `option` (a text, or NULL when not configured) or of the key file `name`; when neither is there
 * `*found` is false. A configured one is stored when the file is absent. Errors: HKV_E_IDENTITY when both are there and
 * differ, naming both; HKV_E_INVALID for the text; those of key_file_read and key_file_write. */
HKV_CHECK enum hkv_err secret_resolve(const struct data_dir *dir, const char *name, const char *option_name,
                                      const char *option, struct secret_key *out, bool *found);

#endif
