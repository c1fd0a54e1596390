/* A VFS of SQLite over another one that notices when the disk gives back other bytes than it was given.
 *
 *    SQLite ──▶ checked VFS ──▶ the system's files, or a disk in memory
 *
 *    store.db       page of 4,096 bytes:  [ content 4,088 │ checksum 8 ]
 *                   written with each page, checked when a page is read. XXH64 of the content with the page's number as
 *                   seed (store/page_sum.h), big-endian.
 *    store.db-wal   SQLite's own frames, unchanged. Their chain of checksums is checked before SQLite recovers the log
 *                   (store/log_check.h); from then on the checksum of each frame is kept in memory, 8 bytes a frame,
 *                   and checked when its page is read. Behind the frames of a log whose commits are synced lie zeros,
 *                   a quarter of its length, so that few syncs find it longer than the last one.
 *
 * A page that is not what was written fails the read with SQLITE_IOERR_DATA, and a page behind the end of the file is
 * such a page too, where SQLite would go on with zeros. checked_vfs_damage() then says which page of which file.
 *
 * Files of another form (page size, reserved bytes) and of form 1 (no checksums yet) pass unchecked: who opens them
 * reads their version and refuses them. Another program may read a checked database, but its writes have no checksums.
 *
 * Memory mapping is off (a mapped page is read past every check). Threads: any, as SQLite has it; all connections to a
 * file share what is known about its log, which therefore belongs to one process. */
#ifndef HKV_STORE_CHECKED_VFS_H
#define HKV_STORE_CHECKED_VFS_H

#include <sqlite3.h>

#include "base/error.h"

/* For sqlite3_file_control(), before the first statement: commits are not synced one by one. A power cut may then have
 * left any hole in the log, and what lies behind one is dropped instead of refused. */
#define CHECKED_VFS_UNSYNCED 0x686b01

struct checked_vfs;

/* Registers a VFS over one that is registered as `under`, which must outlive it. Errors: HKV_E_NOMEM,
 * HKV_E_INTERNAL. */
HKV_CHECK enum hkv_err checked_vfs_new(const char *under, struct checked_vfs **out);

/* Every connection is closed before. NULL is fine. */
void checked_vfs_free(struct checked_vfs *c);

/* "checked-" and the name of the one below. */
const char *checked_vfs_name(const struct checked_vfs *c);

/* The one over `under` that lives as long as the process. Errors: HKV_E_NOMEM, HKV_E_INTERNAL. */
HKV_CHECK enum hkv_err checked_vfs_lasting(const char *under, const char **name);

/* What this thread's last SQLITE_IOERR_DATA was about: file, place and remedy. Valid until the next one. */
const char *checked_vfs_damage(void);

#endif
