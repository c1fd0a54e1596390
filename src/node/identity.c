#include "node/identity.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "crypto/ed25519.h"
#include "node/world.h"
#include "store/memdisk.h"

#define KEYS_PREFIX      "keys/"
#define MEMORY_PATH      "memory" /* stands in errors */
#define PRIVATE_FILE_MAX 4096

static enum hkv_err disk_error(const char *what, const char *path)
{
    int code = errno;
    enum hkv_err err = code == ENOSPC || code == EDQUOT  ? HKV_E_DISK_FULL
                       : code == EACCES || code == EPERM ? HKV_E_PERMISSION
                                                         : HKV_E_DISK;
    return error_set(err, "%s: cannot %s: %s", path, what, strerror(code));
}

/* Creates `path` and its missing parents. */
static enum hkv_err make_directories(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int rc = mkdir(path, 0700);
        if (rc != 0 && errno != EEXIST) {
            enum hkv_err err = disk_error("create this directory", path);
            *slash = '/';
            return err;
        }
        *slash = '/';
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) return disk_error("create this directory", path);
    struct stat st;
    if (stat(path, &st) != 0) return disk_error("look at this directory", path);
    if (!S_ISDIR(st.st_mode)) return error_set(HKV_E_INVALID, "%s: is not a directory; give another data_dir", path);
    return HKV_OK;
}

enum hkv_err data_dir_path(const struct data_dir *dir, const char *name, struct buf *out)
{
    TRY(buf_append_slice(out, slice_of_text(dir->path)));
    TRY(buf_append_byte(out, '/'));
    TRY(buf_append_slice(out, slice_of_text(name)));
    TRY(buf_append_byte(out, '\0'));
    out->len--;
    return HKV_OK;
}

static enum hkv_err take_lock(struct data_dir *dir, const char *path)
{
    dir->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (dir->lock_fd < 0) return disk_error("open the lock file", path);
    if (flock(dir->lock_fd, LOCK_EX | LOCK_NB) == 0) return HKV_OK;
    if (errno == EWOULDBLOCK)
        return error_set(HKV_E_LOCKED, "%s: another process has this store open; stop it or give another data_dir",
                         dir->path);
    return disk_error("take the lock", path);
}

enum hkv_err data_dir_open(struct data_dir *dir, const char *path)
{
    static const char *const folders[] = {"keys", "docs", "blobs"};
    struct buf at = {0};
    enum hkv_err err = HKV_OK;
    *dir = (struct data_dir){.lock_fd = -1};
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    if (length == 0) return error_set(HKV_E_INVALID, "data_dir is empty; name a directory");
    if (length > PATH_MAX - 128) return error_set(HKV_E_INVALID, "data_dir is longer than a path may be");
    dir->path = strndup(path, length);
    if (dir->path == NULL) return error_set(HKV_E_NOMEM, "no memory to open %s", path);
    err = make_directories(dir->path);
    for (size_t i = 0; err == HKV_OK && i < sizeof folders / sizeof folders[0]; i++) {
        buf_clear(&at);
        err = data_dir_path(dir, folders[i], &at);
        if (err == HKV_OK) err = make_directories((char *)at.data);
    }
    if (err == HKV_OK) {
        buf_clear(&at);
        err = data_dir_path(dir, "lock", &at);
        if (err == HKV_OK) err = take_lock(dir, (char *)at.data);
    }
    if (err == HKV_OK) {
        buf_clear(&at);
        err = data_dir_path(dir, "keys", &at);
        if (err == HKV_OK) err = files_posix_open((char *)at.data, &dir->keys);
    }
    buf_fini(&at);
    if (err != HKV_OK) data_dir_close(dir);
    return err;
}

enum hkv_err data_dir_open_on(struct data_dir *dir, const struct node_disk *disk)
{
    *dir = (struct data_dir){.lock_fd = -1, .keys = disk->keys, .values = disk->values, .vfs = disk->vfs};
    dir->path = strdup(disk->path);
    return dir->path != NULL ? HKV_OK : error_set(HKV_E_NOMEM, "no memory to open a store");
}

enum hkv_err data_dir_open_memory(struct data_dir *dir, uint64_t capacity_bytes)
{
    const struct memdisk_config config = {.capacity_bytes = capacity_bytes};
    *dir = (struct data_dir){.lock_fd = -1};
    TRY(memdisk_new(&config, &dir->memory));
    dir->vfs = memdisk_vfs(dir->memory);
    enum hkv_err err = memdisk_files(dir->memory, MEMORY_PATH "/keys", &dir->keys);
    if (err == HKV_OK) err = memdisk_files(dir->memory, MEMORY_PATH "/blobs", &dir->values);
    if (err == HKV_OK) {
        dir->path = strdup(MEMORY_PATH);
        if (dir->path == NULL) err = error_set(HKV_E_NOMEM, "no memory to open a store");
    }
    if (err != HKV_OK) data_dir_close(dir);
    return err;
}

static void folder_free(struct files *folder)
{
    if (folder != NULL) folder->ops->free(folder);
}

void data_dir_close(struct data_dir *dir)
{
    bool borrowed = dir->vfs != NULL && dir->memory == NULL;
    if (!borrowed) {
        folder_free(dir->keys);
        folder_free(dir->values);
        memdisk_free(dir->memory);
    }
    if (dir->lock_fd >= 0) {
        (void)flock(dir->lock_fd, LOCK_UN); /* a child that the program forked may hold the descriptor */
        (void)close(dir->lock_fd);
    }
    free(dir->path);
    *dir = (struct data_dir){.lock_fd = -1};
}

bool data_dir_values_accessible(const struct data_dir *dir)
{
    struct buf path = {0};
    if (dir->vfs != NULL) return true;
    bool good = data_dir_path(dir, "blobs", &path) == HKV_OK && access((const char *)path.data, R_OK | W_OK) == 0;
    buf_fini(&path);
    return good;
}

/* ------------------------------------------------------------------------------------------ key files */

static const char *in_keys(const char *name)
{
    assert(strncmp(name, KEYS_PREFIX, strlen(KEYS_PREFIX)) == 0);
    return name + strlen(KEYS_PREFIX);
}

/* Others may not use a file of the system's; on another disk there are no others. */
static enum hkv_err check_mode(const struct data_dir *dir, const char *name, int fd)
{
    struct stat st;
    if (dir->vfs != NULL) return HKV_OK;
    if (fstat(fd, &st) != 0)
        return error_set(HKV_E_DISK, "%s/%s: cannot look at it: %s", dir->path, name, strerror(errno));
    if ((st.st_mode & 077) == 0) return HKV_OK;
    return error_set(HKV_E_PERMISSION, "%s/%s: mode %04o lets others use it; run chmod 600 %s/%s", dir->path, name,
                     (unsigned)st.st_mode & 07777u, dir->path, name);
}

static enum hkv_err read_all(const struct data_dir *dir, const char *name, int fd, struct buf *out)
{
    for (;;) {
        TRY(buf_reserve(out, 512));
        ssize_t n = pread(fd, out->data + out->len, 512, (off_t)out->len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return error_set(HKV_E_DISK, "%s/%s: cannot read it: %s", dir->path, name, strerror(errno));
        if (n == 0) return HKV_OK;
        out->len += (size_t)n;
        if (out->len > PRIVATE_FILE_MAX)
            return error_set(HKV_E_FORMAT, "%s/%s: is longer than %d bytes and no file of ours", dir->path, name,
                             PRIVATE_FILE_MAX);
    }
}

enum hkv_err private_file_read(const struct data_dir *dir, const char *name, struct buf *out)
{
    int fd;
    TRY(dir->keys->ops->open_fd(dir->keys, in_keys(name), &fd));
    enum hkv_err err = check_mode(dir, name, fd);
    if (err == HKV_OK) err = read_all(dir, name, fd, out);
    files_close_fd(fd);
    return err;
}

enum hkv_err key_file_read(const struct data_dir *dir, const char *name, struct secret_key *out)
{
    struct buf content = {0};
    enum hkv_err err = private_file_read(dir, name, &content);
    if (err == HKV_OK) {
        struct slice text = buf_slice(&content);
        while (text.len > 0 && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r')) text.len--;
        if (secret_key_parse(name, text, out) != HKV_OK)
            err = error_set(HKV_E_FORMAT, "%s/%s: is not 64 hex digits and a newline; restore it from a backup",
                            dir->path, name);
    }
    if (content.data != NULL) secret_wipe(content.data, content.cap);
    buf_fini(&content);
    return err;
}

enum hkv_err private_file_write(const struct data_dir *dir, const char *name, struct slice content)
{
    const struct files_ops *ops = dir->keys->ops;
    char temporary[FILES_NAME_MAX];
    struct files_handle *h;
    (void)snprintf(temporary, sizeof temporary, "%s.new", in_keys(name));
    TRY(ops->unlink(dir->keys, temporary)); /* of a run that died while it wrote one */
    TRY(ops->create(dir->keys, temporary, &h));
    enum hkv_err err = ops->write(h, 0, content);
    if (err == HKV_OK) err = ops->sync(h);
    ops->close(h);
    if (err == HKV_OK) err = ops->rename(dir->keys, temporary, in_keys(name));
    if (err == HKV_OK) err = ops->sync_dir(dir->keys);
    return err;
}

enum hkv_err key_file_write(const struct data_dir *dir, const char *name, const struct secret_key *secret)
{
    char text[ID_TEXT_MAX + 1];
    (void)id_format(secret->bytes, text);
    text[ID_TEXT_MAX - 1] = '\n';
    enum hkv_err err = private_file_write(dir, name, slice_of(text, ID_TEXT_MAX));
    secret_wipe(text, sizeof text);
    return err;
}

enum hkv_err private_file_remove(const struct data_dir *dir, const char *name)
{
    TRY(dir->keys->ops->unlink(dir->keys, in_keys(name)));
    return dir->keys->ops->sync_dir(dir->keys);
}

enum hkv_err secret_resolve(const struct data_dir *dir, const char *name, const char *option_name, const char *option,
                            struct secret_key *out, bool *found)
{
    struct secret_key configured;
    *found = true;
    if (option != NULL) TRY(secret_key_parse(option_name, slice_of_text(option), &configured));
    enum hkv_err err = key_file_read(dir, name, out);
    if (err == HKV_E_NOT_FOUND && option == NULL) {
        *found = false;
        return HKV_OK;
    }
    if (err == HKV_E_NOT_FOUND) {
        *out = configured;
        err = key_file_write(dir, name, out);
    } else if (err == HKV_OK && option != NULL && memcmp(out->bytes, configured.bytes, ID_BYTES) != 0) {
        err = error_set(HKV_E_IDENTITY,
                        "the configured %s differs from the one in %s/%s; remove the setting, or give another data_dir",
                        option_name, dir->path, name);
    }
    if (option != NULL) secret_wipe(&configured, sizeof configured);
    return err;
}
