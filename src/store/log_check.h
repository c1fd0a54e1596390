/* Looks at a write-ahead log before SQLite recovers it (sqlite.org/walformat.html).
 *
 * SQLite takes every frame up to the last commit before the first one whose checksum is wrong, and drops the rest
 * without a word. That is right for a write which a power cut tore, and wrong for a log that was damaged later: the
 * commits behind the damage were acknowledged. The two can be told apart, because a commit is synced before the next
 * one begins, so a power cut can only tear the last transaction:
 *
 *     1 2 C 4 5 C x 8 C          torn: x and what follows are one transaction; cut, and said
 *     1 x C 4 5 C 7 8 C          damaged: whole transactions follow the one with x; refused
 *     x . . . . . . . .          a damaged head hides every frame; refused, unless the database has all they hold
 *
 * Each frame's checksum goes on from the one before it. Behind a bad frame the chain is taken up again from the
 * checksum which the bad frame itself has stored, or should have: a frame that fits either belongs to this log. Frames
 * of an earlier use of the file have other salts; what a transaction left that was rolled back has the same ones but
 * does not go on where the last commit ended.
 *
 * A bad frame counts as the end of its transaction only where that is certain (one flipped bit): damage of more than
 * one bit in the frame that ends the last transaction but one reads like a torn write, as a power cut can leave the
 * same bytes.
 *
 * The head is written and synced before the first frame of a log, when the log before is in the database as a whole: a
 * torn head loses nothing.
 *
 * Reads the log once, and once more from the first bad frame: about a second for each GiB. Pure but for the files. */
#ifndef HKV_STORE_LOG_CHECK_H
#define HKV_STORE_LOG_CHECK_H

#include <sqlite3.h>

#include "base/bytes.h"

enum log_verdict {
    LOG_WHOLE,
    LOG_TORN,         /* SQLite will take `kept` frames; `dropped` ones of this log lie behind them */
    LOG_DAMAGED,      /* frame `bad` is followed by frames of later transactions */
    LOG_HEAD_DAMAGED, /* the head is bad, and the frames behind it hold what the database lacks */
};

struct log_report {
    enum log_verdict verdict;
    uint64_t kept;
    uint64_t dropped;
    uint64_t bad; /* counted from 1 */
};

/* `page` is called for each frame that SQLite will read, frames counted from 0. `log` and `database` are open files of
 * a database with pages of DB_PAGE_BYTES; of any other, and without frames, the log counts as whole. Returns a code of
 * SQLite; HKV's errors are not set. */
int log_check(sqlite3_file *log, sqlite3_file *database, void (*page)(void *arg, uint64_t frame, struct slice page),
              void *arg, struct log_report *out);

#endif
