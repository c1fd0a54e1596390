/* The folder of value files, as the store sees it: the real one (files_posix) or a test's.
 *
 * A file is created, written, synced, closed, renamed to its final name; after that its bytes never change. A name
 * survives power loss once sync_dir() has returned. Names have no slash.
 *
 * Errors: HKV_E_DISK, HKV_E_DISK_FULL, HKV_E_PERMISSION, HKV_E_NOMEM; the sentence names the file. Any thread; one at a
 * time for each handle. */
#ifndef HKV_STORE_FILES_H
#define HKV_STORE_FILES_H

#include "base/bytes.h"

#define FILES_NAME_MAX 96 /* bytes of a name, NUL included */

struct files;
struct files_handle;

struct files_ops {
    /* A new file, open for writing and reading; it is an error when the name exists. */
    enum hkv_err (*create)(struct files *f, const char *name, struct files_handle **out);
    enum hkv_err (*write)(struct files_handle *h, uint64_t offset, struct slice bytes);
    /* Reads at most `len` bytes; fewer only at the end of the file. */
    enum hkv_err (*read)(struct files_handle *h, uint64_t offset, void *out, size_t len, size_t *got);
    enum hkv_err (*sync)(struct files_handle *h);
    void (*close)(struct files_handle *h);
    enum hkv_err (*rename)(struct files *f, const char *from, const char *to);
    enum hkv_err (*sync_dir)(struct files *f);
    /* Fine when there is no such file. */
    enum hkv_err (*unlink)(struct files *f, const char *name);
    /* A descriptor to read a finished file with. Errors: also HKV_E_NOT_FOUND (quiet). */
    enum hkv_err (*open_fd)(struct files *f, const char *name, int *fd);
    /* Visits the next at most `max` names of a listing, in no order, and whether that was the end. A listing begins
     * with the first call and after an end; names that come and go meanwhile may or may not be seen. One listing at a
     * time. */
    enum hkv_err (*list)(struct files *f, size_t max, void (*visit)(void *arg, const char *name), void *arg, bool *end);
    void (*free)(struct files *f);
};

struct files {
    const struct files_ops *ops;
};

/* Makes a folder of the system, mode 0700; fine when it is there. Errors: HKV_E_DISK, HKV_E_DISK_FULL. */
HKV_CHECK enum hkv_err files_make_folder(const char *path);

/* Reads at most `len` bytes from a descriptor of open_fd; fewer only at the end of the file. Errors: HKV_E_DISK. */
HKV_CHECK enum hkv_err files_read_fd(int fd, uint64_t offset, void *out, size_t len, size_t *got);

/* Closes a descriptor of open_fd. */
void files_close_fd(int fd);

/* The folder `path` of the system's files; created when it does not exist. */
HKV_CHECK enum hkv_err files_posix_open(const char *path, struct files **out);

#endif
