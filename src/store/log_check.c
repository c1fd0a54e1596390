#include "store/log_check.h"

#include <stdlib.h>

#include "store/db.h"

#define LOG_MAGIC      0x377f0682u /* its last bit: words of checksums are big-endian */
#define LOG_VERSION    3007000u
#define HEAD_SUM_BYTES 24 /* of the head, before its checksum */

/* Offsets in a frame's head. */
enum { FRAME_PAGE = 0, FRAME_COMMIT = 4, FRAME_SALTS = DB_LOG_FRAME_SALTS, FRAME_SUM = 16 };

struct chain {
    uint32_t a, b;
};

struct frame {
    uint8_t head[DB_LOG_FRAME_HEAD_BYTES];
    uint8_t page[DB_PAGE_BYTES];
};

struct check {
    sqlite3_file *log;
    sqlite3_file *database;
    void (*page)(void *arg, uint64_t frame, struct slice page);
    void *arg;
    struct log_report *report;
    uint64_t frames; /* whole ones in the file */
    bool big_endian;
    uint8_t salts[DB_LOG_SALTS_BYTES];
    struct chain good;  /* behind the last valid frame */
    struct frame frame; /* the one at hand */
};

static int read_at(sqlite3_file *file, void *out, size_t len, uint64_t offset)
{
    return file->pMethods->xRead(file, out, (int)len, (sqlite3_int64)offset);
}

static int read_frame(struct check *c, uint64_t number)
{
    return read_at(c->log, &c->frame, sizeof c->frame, DB_LOG_HEAD_BYTES + (number - 1) * DB_LOG_FRAME_BYTES);
}

static uint32_t word_at(const uint8_t *at, bool big_endian)
{
    if (big_endian) return be32_load(at);
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static struct chain chain_add(struct chain from, const uint8_t *bytes, size_t len, bool big_endian)
{
    for (size_t i = 0; i < len; i += 8) {
        from.a += word_at(bytes + i, big_endian) + from.b;
        from.b += word_at(bytes + i + 4, big_endian) + from.a;
    }
    return from;
}

/* Stored ones are big-endian always. */
static struct chain chain_stored(const uint8_t *at)
{
    return (struct chain){be32_load(at), be32_load(at + 4)};
}

static bool chain_equal(struct chain x, struct chain y)
{
    return x.a == y.a && x.b == y.b;
}

static struct chain frame_sum(const struct frame *f, struct chain before, bool big_endian)
{
    struct chain sum = chain_add(before, f->head, FRAME_SALTS, big_endian);
    return chain_add(sum, f->page, sizeof f->page, big_endian);
}

static bool frame_goes_on(const struct frame *f, struct chain before, bool big_endian)
{
    return chain_equal(frame_sum(f, before, big_endian), chain_stored(f->head + FRAME_SUM));
}

static bool frame_commits(const struct frame *f)
{
    return be32_load(f->head + FRAME_COMMIT) != 0;
}

static bool has_salts(const struct check *c)
{
    return memcmp(c->frame.head + FRAME_SALTS, c->salts, sizeof c->salts) == 0;
}

/* ------------------------------------------------------------------------------------------ behind a bad frame */

/* Whether adding `difference` to a word mends one flipped bit of it. */
static bool is_one_bit(uint32_t word, uint32_t difference)
{
    bool added = difference != 0 && (difference & (difference - 1)) == 0 && (word & difference) == 0;
    uint32_t less = 0 - difference;
    bool taken = less != 0 && (less & (less - 1)) == 0 && (word & less) != 0;
    return added || taken;
}

/* Whether the bad frame certainly ended a transaction, provided that its stored checksum is right, for the next frame
 * goes on from it: nothing but its salts or one bit is wrong. What is damaged in more places proves nothing: a power
 * cut may have left the mark of an earlier frame.
 *
 * The chain is linear, so the difference between stored and computed checksum can be followed back word by word to
 * where it came in. */
static bool bad_frame_commits(const struct check *c, struct chain stored, struct chain computed)
{
    const struct frame *f = &c->frame;
    struct chain d = {stored.a - computed.a, stored.b - computed.b};
    if (d.a == 0 && d.b == 0) return frame_commits(f);
    for (size_t at = sizeof f->page; at > 0; at -= 8) {
        if (d.a == d.b && is_one_bit(word_at(f->page + at - 8, c->big_endian), d.a)) return frame_commits(f);
        if (d.a == 0 && is_one_bit(word_at(f->page + at - 4, c->big_endian), d.b)) return frame_commits(f);
        d.b -= d.a;
        d.a -= d.b;
    }
    uint32_t commit = word_at(f->head + FRAME_COMMIT, c->big_endian);
    if (d.a == d.b && is_one_bit(word_at(f->head + FRAME_PAGE, c->big_endian), d.a)) return commit != 0;
    return d.a == 0 && is_one_bit(commit, d.b) && commit + d.b != 0;
}

/* From the first bad frame to the end of the file: does the log go on behind the transaction with the bad frame? */
static int look_behind(struct check *c, uint64_t bad)
{
    struct log_report *r = c->report;
    int code = read_frame(c, bad);
    if (code != SQLITE_OK) return code;
    struct chain stored = chain_stored(c->frame.head + FRAME_SUM);
    struct chain computed = frame_sum(&c->frame, c->good, c->big_endian);
    bool ours = has_salts(c) || chain_equal(stored, computed);
    bool commits_if_stored = bad_frame_commits(c, stored, computed);
    bool commits_if_computed = frame_commits(&c->frame);
    bool ended = false;
    r->bad = bad;
    r->dropped = bad - 1 - r->kept + ours;
    for (uint64_t n = bad + 1; n <= c->frames; n++) {
        code = read_frame(c, n);
        if (code != SQLITE_OK) return code;
        bool goes_on = frame_goes_on(&c->frame, stored, c->big_endian);
        if (n == bad + 1) {
            ended = goes_on ? commits_if_stored : commits_if_computed;
            goes_on = goes_on || frame_goes_on(&c->frame, computed, c->big_endian);
        }
        bool follows = goes_on && has_salts(c);
        if (follows && ended) r->verdict = LOG_DAMAGED;
        if (has_salts(c)) r->dropped++;
        ended = follows && frame_commits(&c->frame);
        stored = chain_stored(c->frame.head + FRAME_SUM);
    }
    if (r->verdict != LOG_DAMAGED) r->verdict = r->dropped ? LOG_TORN : LOG_WHOLE;
    return SQLITE_OK;
}

static int check_frames(struct check *c)
{
    struct log_report *r = c->report;
    for (uint64_t n = 1; n <= c->frames; n++) {
        int code = read_frame(c, n);
        if (code != SQLITE_OK) return code;
        if (!has_salts(c) || !frame_goes_on(&c->frame, c->good, c->big_endian)) return look_behind(c, n);
        c->good = chain_stored(c->frame.head + FRAME_SUM);
        c->page(c->arg, n - 1, slice_of(c->frame.page, DB_PAGE_BYTES));
        if (frame_commits(&c->frame)) r->kept = n;
    }
    r->bad = c->frames + 1;
    r->dropped = c->frames - r->kept;
    r->verdict = r->dropped ? LOG_TORN : LOG_WHOLE;
    return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------ behind a bad head */

/* The newest frame of a page. */
struct version {
    uint32_t page;
    uint64_t frame;
};

static int by_page_then_newest(const void *a, const void *b)
{
    const struct version *x = a;
    const struct version *y = b;
    if (x->page != y->page) return x->page < y->page ? -1 : 1;
    return x->frame > y->frame ? -1 : x->frame < y->frame;
}

/* How many frames from the first on belong together and end with a commit, and how long the database is then. The head
 * may say of what order the words are, and where the chain begins, or not. */
static int run_behind_head(struct check *c, const uint8_t head[DB_LOG_HEAD_BYTES], struct version *versions,
                           uint64_t *count, uint32_t *pages)
{
    struct chain before = chain_stored(head + HEAD_SUM_BYTES);
    bool linked = false;
    *count = 0;
    for (uint64_t n = 1; n <= c->frames; n++) {
        int code = read_frame(c, n);
        if (code != SQLITE_OK) return code;
        bool goes_on = frame_goes_on(&c->frame, before, c->big_endian);
        if (n == 1) memcpy(c->salts, c->frame.head + FRAME_SALTS, sizeof c->salts);
        if (n > 1 && (!goes_on || !has_salts(c))) break;
        linked = linked || goes_on;
        before = chain_stored(c->frame.head + FRAME_SUM);
        versions[n - 1] = (struct version){be32_load(c->frame.head + FRAME_PAGE), n};
        if (!frame_commits(&c->frame)) continue;
        *count = n;
        *pages = be32_load(c->frame.head + FRAME_COMMIT);
    }
    if (!linked) *count = 0;
    return SQLITE_OK;
}

/* Whether the database has what the newest frame of each page holds, checksums of pages left out. */
static int database_has(struct check *c, struct version *versions, uint64_t count, uint32_t pages, bool *has)
{
    uint8_t page[DB_PAGE_BYTES];
    qsort(versions, count, sizeof *versions, by_page_then_newest);
    *has = true;
    for (uint64_t i = 0; i < count && *has; i++) {
        uint32_t number = versions[i].page;
        if ((i > 0 && number == versions[i - 1].page) || number == 0 || number > pages) continue;
        int code = read_frame(c, versions[i].frame);
        if (code == SQLITE_OK) code = read_at(c->database, page, sizeof page, (uint64_t)(number - 1) * DB_PAGE_BYTES);
        if (code != SQLITE_OK && code != SQLITE_IOERR_SHORT_READ) return code;
        *has = memcmp(page, c->frame.page, DB_PAGE_BYTES - DB_RESERVED_BYTES) == 0;
    }
    return SQLITE_OK;
}

static int check_behind_head(struct check *c, const uint8_t head[DB_LOG_HEAD_BYTES])
{
    uint64_t count = 0;
    uint32_t pages = 0;
    bool has = true;
    struct version *versions = calloc(c->frames, sizeof *versions);
    if (!versions) return SQLITE_NOMEM;
    int code = SQLITE_OK;
    for (unsigned order = 0; order < 2 && code == SQLITE_OK && count == 0; order++) {
        c->big_endian = order == 1;
        code = run_behind_head(c, head, versions, &count, &pages);
    }
    if (code == SQLITE_OK && count > 0) code = database_has(c, versions, count, pages, &has);
    free(versions);
    if (!has) c->report->verdict = LOG_HEAD_DAMAGED;
    return code;
}

/* ------------------------------------------------------------------------------------------ all */

static bool head_is_right(struct check *c, const uint8_t head[DB_LOG_HEAD_BYTES])
{
    uint32_t magic = be32_load(head);
    c->big_endian = (magic & 1) != 0;
    c->good = chain_add((struct chain){0, 0}, head, HEAD_SUM_BYTES, c->big_endian);
    memcpy(c->salts, head + DB_LOG_HEAD_SALTS, sizeof c->salts);
    return (magic & ~1u) == LOG_MAGIC && be32_load(head + 4) == LOG_VERSION &&
           chain_equal(c->good, chain_stored(head + HEAD_SUM_BYTES));
}

static int check_whole(struct check *c)
{
    uint8_t head[DB_LOG_HEAD_BYTES];
    sqlite3_int64 length = 0;
    int code = c->log->pMethods->xFileSize(c->log, &length);
    if (code != SQLITE_OK || length < DB_LOG_HEAD_BYTES + DB_LOG_FRAME_BYTES) return code;
    c->frames = ((uint64_t)length - DB_LOG_HEAD_BYTES) / DB_LOG_FRAME_BYTES;
    code = read_at(c->log, head, sizeof head, 0);
    if (code != SQLITE_OK) return code;
    if (!head_is_right(c, head)) return check_behind_head(c, head);
    return be32_load(head + 8) == DB_PAGE_BYTES ? check_frames(c) : SQLITE_OK;
}

int log_check(sqlite3_file *log, sqlite3_file *database, void (*page)(void *arg, uint64_t frame, struct slice page),
              void *arg, struct log_report *out)
{
    struct check *c = calloc(1, sizeof *c);
    *out = (struct log_report){.verdict = LOG_WHOLE};
    if (!c) return SQLITE_NOMEM;
    *c = (struct check){.log = log, .database = database, .page = page, .arg = arg, .report = out};
    int code = check_whole(c);
    free(c);
    return code;
}
