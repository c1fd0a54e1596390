/* Checksums of pages and of the log, on the system's files: what is damaged is refused by file and place, what a power
 * cut may leave is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "random.h"
#include "store/checked_vfs.h"
#include "store/schema.h"

#define TRANSACTIONS 6
#define ROWS         40 /* a transaction */

/* A database and its log as they lie on the disk. */
struct image {
    uint8_t *bytes[2];
    size_t len[2];
};

struct world {
    char folder[64];
    char path[2][80]; /* database, log */
    struct image image;
    uint64_t commits[TRANSACTIONS]; /* frames up to the end of each */
};

static char warned[LOG_TEXT_MAX];

static void sink_write(const struct log_sink *sink, enum log_level level, const char *module, const char *text)
{
    (void)sink, (void)module;
    if (level == LOG_LEVEL_WARN) snprintf(warned, sizeof warned, "%s", text);
}

static const struct log_sink sink = {.write = sink_write, .level = LOG_LEVEL_WARN};

static void ok(enum hkv_err err)
{
    if (err != HKV_OK) fail_msg("%s: %s", error_name(err), error_last());
}

/* ------------------------------------------------------------------------------------------ images */

static void image_fini(struct image *image)
{
    free(image->bytes[0]);
    free(image->bytes[1]);
    *image = (struct image){0};
}

static void image_take(const struct world *w, struct image *out)
{
    for (int i = 0; i < 2; i++) {
        struct stat st;
        int fd = open(w->path[i], O_RDONLY);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        out->len[i] = (size_t)st.st_size;
        out->bytes[i] = malloc(out->len[i] + 1);
        assert_int_equal(read(fd, out->bytes[i], out->len[i]), out->len[i]);
        close(fd);
    }
}

static void image_put(const struct world *w, const struct image *image)
{
    for (int i = 0; i < 2; i++) {
        int fd = open(w->path[i], O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, image->bytes[i], image->len[i]), image->len[i]);
        close(fd);
    }
}

static uint8_t *frame_of(const struct image *image, uint64_t frame)
{
    return image->bytes[1] + DB_LOG_HEAD_BYTES + (frame - 1) * DB_LOG_FRAME_BYTES;
}

static void flip(uint8_t *bytes, size_t bit)
{
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

/* ------------------------------------------------------------------------------------------ databases */

static enum hkv_err open_at(const struct world *w, bool synced, struct db *db)
{
    bool created;
    enum hkv_err err = db_open(
        &(struct db_config){.path = w->path[0], .cache_bytes = 1 << 20, .writer = true, .full_sync = synced}, db);
    return err == HKV_OK ? schema_open(db, &created) : err;
}

static void add_rows(struct db *db, int transaction)
{
    char text[256];
    snprintf(text, sizeof text,
             "INSERT INTO meta WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
             "SELECT printf('%d/%%d', i), zeroblob(300) FROM n",
             ROWS, transaction);
    ok(db_exec(db, text));
}

static int64_t rows(struct db *db)
{
    int64_t n;
    ok(db_integer(db, "SELECT count(*) FROM (SELECT name, value FROM meta)", &n));
    return n;
}

static int64_t frames_in_log(const struct db *db)
{
    int pages = 0, done = 0;
    assert_int_equal(sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &done), SQLITE_OK);
    return pages;
}

/* The file is longer: there are zeros behind the frames. */
static int note_frames(void *frames, sqlite3 *db, const char *name, int count)
{
    (void)db, (void)name;
    *(uint64_t *)frames = (uint64_t)count;
    return SQLITE_OK;
}

/* A database whose tables are in its file and whose rows are in its log. */
static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct db db;
    log_set_sink(&sink);
    /* Thousands of small databases: no disk needs to see them. */
    snprintf(w->folder, sizeof w->folder, "%s/hkv-checked-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->path[0], sizeof w->path[0], "%s/store.db", w->folder);
    snprintf(w->path[1], sizeof w->path[1], "%s/store.db-wal", w->folder);
    ok(open_at(w, true, &db));
    db_close(&db);
    ok(open_at(w, true, &db));
    for (int i = 0; i < TRANSACTIONS; i++) {
        (void)sqlite3_wal_hook(db.handle, note_frames, &w->commits[i]);
        add_rows(&db, i);
    }
    image_take(w, &w->image);
    db_close(&db);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    log_set_sink(NULL);
    (void)unlink(w->path[0]);
    (void)unlink(w->path[1]);
    (void)rmdir(w->folder);
    image_fini(&w->image);
    free(w);
    return 0;
}

static void assert_refused(enum hkv_err err, const char *file)
{
    assert_int_equal(err, HKV_E_CORRUPT);
    if (!strstr(error_last(), file) || !strstr(error_last(), "restore a backup")) fail_msg("%s", error_last());
}

/* Opens an image: how many transactions are there, or -1 when it is refused. */
static int transactions_of(struct world *w, const struct image *image, bool synced)
{
    struct db db;
    int whole = -1;
    warned[0] = 0;
    image_put(w, image);
    enum hkv_err err = open_at(w, synced, &db);
    if (err == HKV_OK) {
        int64_t n = rows(&db);
        assert_int_equal(n % ROWS, 0);
        whole = (int)(n / ROWS);
    } else {
        assert_refused(err, w->path[1]);
    }
    db_close(&db);
    return whole;
}

/* ------------------------------------------------------------------------------------------ the database */

/* Reads everything; the answer, or -1 when that is refused. */
static int64_t answer_of(struct world *w)
{
    struct db db;
    int64_t sum = -1;
    enum hkv_err err = open_at(w, true, &db);
    if (err == HKV_OK) err = db_integer(&db, "SELECT sum(length(name) + length(value)) FROM meta", &sum);
    if (err == HKV_OK) err = db_integer(&db, "SELECT sum(length(bytes)) * 0 FROM value", &(int64_t){0});
    if (err != HKV_OK) {
        assert_refused(err, w->path[0]);
        sum = -1;
    }
    (void)sqlite3_db_config(db.handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    db_close(&db);
    return sum;
}

static void a_flipped_bit_in_a_page_is_refused_by_file_and_page(void **state)
{
    struct world *w = *state;
    struct image image;
    struct random random = random_start("damaged bits");
    image_take(w, &image); /* after the close: all is in the database */
    int64_t answer = answer_of(w);
    unsigned refused = 0;
    assert_true(answer > 0);
    for (size_t page = 0; page < image.len[0] / DB_PAGE_BYTES; page++) {
        size_t bit = page * DB_PAGE_BYTES * 8 + random_below(&random, DB_PAGE_BYTES * 8);
        flip(image.bytes[0], bit);
        image_put(w, &image);
        int64_t got = answer_of(w);
        if (got != -1) assert_int_equal(got, answer); /* a page that nobody asked for */
        refused += got == -1;
        flip(image.bytes[0], bit);
    }
    assert_true(refused * 2 > image.len[0] / DB_PAGE_BYTES);
    image_put(w, &image);
    assert_int_equal(answer_of(w), answer);
    image_fini(&image);
}

static void every_bit_of_the_header_is_guarded(void **state)
{
    struct world *w = *state;
    struct image image;
    struct db db;
    image_take(w, &image);
    for (size_t bit = 0; bit < 100 * 8; bit++) {
        flip(image.bytes[0], bit);
        image_put(w, &image);
        assert_refused(open_at(w, true, &db), w->path[0]);
        db_close(&db);
        flip(image.bytes[0], bit);
    }
    image_fini(&image);
}

static void a_page_in_anothers_place_is_refused(void **state)
{
    struct world *w = *state;
    struct image image;
    image_take(w, &image);
    size_t last = image.len[0] / DB_PAGE_BYTES - 1;
    memcpy(image.bytes[0] + last * DB_PAGE_BYTES, image.bytes[0] + (last - 1) * DB_PAGE_BYTES, DB_PAGE_BYTES);
    image_put(w, &image);
    assert_int_equal(answer_of(w), -1);
    image_fini(&image);
}

static void a_file_that_is_cut_short_is_refused(void **state)
{
    struct world *w = *state;
    struct image image;
    image_take(w, &image);
    image.len[0] -= DB_PAGE_BYTES;
    image_put(w, &image);
    assert_int_equal(answer_of(w), -1);
    image_fini(&image);
}

/* Such a file has no checksums yet: its version is read, and refused as what it is. */
static void a_file_of_the_first_form_is_refused_as_an_old_version(void **state)
{
    struct world *w = *state;
    struct image image;
    struct db db;
    image_take(w, &image);
    be32_store(image.bytes[0] + 60, 1);
    for (size_t page = 1; page <= image.len[0] / DB_PAGE_BYTES; page++)
        memset(image.bytes[0] + page * DB_PAGE_BYTES - DB_RESERVED_BYTES, 0, DB_RESERVED_BYTES);
    image_put(w, &image);
    assert_int_equal(open_at(w, true, &db), HKV_E_VERSION);
    db_close(&db);
    image_fini(&image);
}

/* ------------------------------------------------------------------------------------------ the log */

static void a_log_that_nothing_happened_to_is_taken_whole(void **state)
{
    struct world *w = *state;
    assert_int_equal(transactions_of(w, &w->image, true), TRANSACTIONS);
    assert_string_equal(warned, "");
}

static uint64_t last_frame(const struct world *w)
{
    return w->commits[TRANSACTIONS - 1];
}

/* Frames of earlier transactions than the last are refused; the last transaction may read as torn, and that is said. */
static void check_damaged_frame(struct world *w, uint64_t frame, const char *how)
{
    bool is_last = frame > w->commits[TRANSACTIONS - 2];
    int whole = transactions_of(w, &w->image, true);
    bool fine = is_last ? whole == -1 || (whole == TRANSACTIONS - 1 && strstr(warned, "dropped")) : whole == -1;
    if (!fine) fail_msg("frame %ju, %s: %d transactions; %s", (uintmax_t)frame, how, whole, warned);
    if (whole == -1) return;
    /* What was cut is gone for good and said once. */
    struct db db;
    warned[0] = 0;
    ok(open_at(w, true, &db));
    assert_int_equal(rows(&db), (TRANSACTIONS - 1) * ROWS);
    assert_string_equal(warned, "");
    db_close(&db);
}

static void a_flipped_bit_in_a_frame_is_never_cut_out_of_the_middle(void **state)
{
    struct world *w = *state;
    struct random random = random_start("damaged bits");
    for (uint64_t frame = 1; frame <= last_frame(w); frame++) {
        for (size_t i = 0; i < 24 + 4; i++) { /* one of each byte of the head, some of the page */
            size_t bit = i < 24 ? 8 * i + random_below(&random, 8)
                                : 8 * DB_LOG_FRAME_HEAD_BYTES + random_below(&random, DB_PAGE_BYTES * 8);
            char how[32];
            snprintf(how, sizeof how, "bit %zu", bit);
            flip(frame_of(&w->image, frame), bit);
            check_damaged_frame(w, frame, how);
            flip(frame_of(&w->image, frame), bit);
        }
    }
}

static void a_lost_sector_is_never_cut_out_of_the_middle(void **state)
{
    struct world *w = *state;
    size_t used = DB_LOG_HEAD_BYTES + last_frame(w) * DB_LOG_FRAME_BYTES;
    for (size_t sector = 1; sector < used / 4096; sector++) {
        uint8_t kept[4096];
        uint8_t *at = w->image.bytes[1] + sector * sizeof kept;
        uint64_t frame = (sector * sizeof kept - DB_LOG_HEAD_BYTES) / DB_LOG_FRAME_BYTES + 1;
        uint64_t second = ((sector + 1) * sizeof kept - 1 - DB_LOG_HEAD_BYTES) / DB_LOG_FRAME_BYTES + 1;
        memcpy(kept, at, sizeof kept);
        memset(at, 0x5a, sizeof kept);
        int whole = transactions_of(w, &w->image, true);
        /* Both frames in the sector may be what ended the last transactions but one: then one more must follow. */
        if (second <= w->commits[TRANSACTIONS - 3]) assert_int_equal(whole, -1);
        if (whole >= 0) assert_true(strstr(warned, "dropped") && frame > w->commits[TRANSACTIONS - 3]);
        memcpy(at, kept, sizeof kept);
    }
}

static void any_damage_of_the_head_is_refused(void **state)
{
    struct world *w = *state;
    for (size_t bit = 0; bit < DB_LOG_HEAD_BYTES * 8; bit++) {
        flip(w->image.bytes[1], bit);
        int whole = transactions_of(w, &w->image, true);
        if (whole != -1) fail_msg("bit %zu: %d transactions", bit, whole);
        flip(w->image.bytes[1], bit);
    }
}

/* A head is torn when a log begins again, and then the database has all that the log held. */
static void a_torn_head_of_a_log_that_is_in_the_database_loses_nothing(void **state)
{
    struct world *w = *state;
    struct image image;
    struct db db;
    image_put(w, &w->image);
    ok(open_at(w, true, &db));
    assert_int_equal(frames_in_log(&db), last_frame(w)); /* and writes them to the database */
    image_take(w, &image);
    db_close(&db);
    for (size_t cut = 1; cut < DB_LOG_HEAD_BYTES; cut++) {
        uint8_t kept[DB_LOG_HEAD_BYTES];
        memcpy(kept, image.bytes[1], sizeof kept);
        for (size_t i = 12; i < cut; i++) image.bytes[1][i] ^= 0x93;
        assert_int_equal(transactions_of(w, &image, true), TRANSACTIONS);
        assert_string_equal(warned, "");
        memcpy(image.bytes[1], kept, sizeof kept);
    }
    image_fini(&image);
}

/* Every subset of the last transaction's frames may be missing. */
static void a_torn_last_transaction_is_cut_and_said(void **state)
{
    struct world *w = *state;
    uint64_t first = w->commits[TRANSACTIONS - 2] + 1;
    uint64_t count = last_frame(w) - first + 1;
    assert_true(count >= 2 && count <= 8);
    struct image kept = {.len = {0, w->image.len[1]}};
    kept.bytes[1] = malloc(kept.len[1]);
    memcpy(kept.bytes[1], w->image.bytes[1], kept.len[1]);
    for (uint64_t lost = 1; lost < (uint64_t)1 << count; lost++) {
        for (uint64_t i = 0; i < count; i++)
            if (lost >> i & 1) memset(frame_of(&w->image, first + i), 0, DB_LOG_FRAME_BYTES);
        assert_int_equal(transactions_of(w, &w->image, true), TRANSACTIONS - 1);
        bool all = lost + 1 == (uint64_t)1 << count; /* nothing was written: nothing to say */
        assert_int_equal(warned[0] == 0, all);
        memcpy(w->image.bytes[1], kept.bytes[1], kept.len[1]);
    }
    image_fini(&kept);
}

/* Commit mark and checksum of frame 42 lie in different sectors. Its transaction is the last one here, and a power cut
 * kept the second of the sectors and some of the page: the first says what an older frame said. */
static void a_head_that_a_power_cut_tore_is_cut_and_said(void **state)
{
    enum { SPLIT = 42, STALE_COMMIT = 9 };
    struct world *w = *state;
    int whole = 0;
    while (whole < TRANSACTIONS && w->commits[whole] <= SPLIT) whole++;
    assert_true(whole > 0 && whole < TRANSACTIONS && w->commits[whole - 1] + 1 < SPLIT);
    w->image.len[1] = DB_LOG_HEAD_BYTES + w->commits[whole] * DB_LOG_FRAME_BYTES;
    uint8_t *frame = frame_of(&w->image, SPLIT);
    assert_true((size_t)(frame - w->image.bytes[1]) % 512 + DB_LOG_FRAME_HEAD_BYTES > 512);
    assert_int_equal(transactions_of(w, &w->image, true), whole + 1);
    be32_store(frame + 4, STALE_COMMIT);
    memset(frame + 1000, 0xaa, 512);
    assert_int_equal(transactions_of(w, &w->image, true), whole);
    assert_non_null(strstr(warned, "dropped"));
}

/* Without a sync for each commit a power cut leaves any hole: what is behind it goes, and that is said. */
static void a_log_without_syncs_is_cut_at_a_hole(void **state)
{
    struct world *w = *state;
    memset(frame_of(&w->image, w->commits[1] + 1), 0, DB_LOG_FRAME_BYTES);
    assert_int_equal(transactions_of(w, &w->image, true), -1);
    assert_int_equal(transactions_of(w, &w->image, false), 2);
    assert_non_null(strstr(warned, "dropped"));
}

/* How often the log's file becomes longer while so many transactions of a few frames are committed. */
static unsigned lengthenings(struct world *w, bool synced, unsigned commits)
{
    struct db db;
    uint64_t frames = 0;
    unsigned count = 0;
    off_t length = 0;
    ok(open_at(w, synced, &db));
    (void)sqlite3_wal_hook(db.handle, note_frames, &frames);
    for (unsigned i = 0; i < commits; i++) {
        struct stat st;
        ok(db_exec(&db, "UPDATE meta SET value = randomblob(300) WHERE name = '0/1'"));
        assert_int_equal(stat(w->path[1], &st), 0);
        uint64_t used = DB_LOG_HEAD_BYTES + frames * DB_LOG_FRAME_BYTES;
        if (synced)
            assert_in_range(st.st_size, used, used + used / 4 + (128 << 10));
        else
            assert_int_equal(st.st_size, used);
        count += st.st_size > length;
        length = st.st_size;
    }
    db_close(&db);
    return count;
}

static void syncs_seldom_find_a_longer_log(void **state)
{
    struct world *w = *state;
    assert_in_range(lengthenings(w, true, 200), 1, 20);
    assert_int_equal(unlink(w->path[1]), 0);
    assert_int_equal(lengthenings(w, false, 200), 200);
}

/* A disk on which syncs fail has its log written again and again. */
static void a_log_that_is_written_again_gets_no_longer(void **state)
{
    struct world *w = *state;
    struct db db;
    image_put(w, &w->image);
    ok(open_at(w, true, &db));
    for (int uses = 0; uses < 2; uses++) { /* the second time frames of an earlier log lie behind the last one */
        struct image before, after;
        add_rows(&db, TRANSACTIONS + uses);
        image_take(w, &before);
        for (int i = 0; i < 3; i++) ok(db_log_rewrite(&db, 1));
        image_take(w, &after);
        assert_int_equal(after.len[1], before.len[1]);
        assert_memory_equal(after.bytes[1], before.bytes[1], before.len[1]);
        image_fini(&before);
        image_fini(&after);
        assert_true(frames_in_log(&db) > 0);
    }
    db_close(&db);
}

/* The system has forgotten what it could not write, and reads what was there before. */
static void a_frame_that_is_gone_is_not_taken_for_the_end_of_the_log(void **state)
{
    static const uint8_t before[DB_LOG_FRAME_BYTES];
    struct world *w = *state;
    struct db db;
    image_put(w, &w->image);
    ok(open_at(w, true, &db));
    int fd = open(w->path[1], O_RDWR);
    off_t at = (off_t)(DB_LOG_HEAD_BYTES + (last_frame(w) - 1) * DB_LOG_FRAME_BYTES);
    assert_int_equal(pwrite(fd, before, sizeof before, at), sizeof before);
    close(fd);
    assert_refused(db_log_rewrite(&db, last_frame(w)), w->path[1]);
    (void)sqlite3_db_config(db.handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    db_close(&db);
}

static void a_frame_that_changes_while_the_store_runs_is_refused_when_read(void **state)
{
    struct world *w = *state;
    struct db db;
    image_put(w, &w->image);
    ok(open_at(w, true, &db));
    int fd = open(w->path[1], O_RDWR);
    for (uint64_t frame = 1; frame <= last_frame(w); frame++) {
        uint8_t byte = (uint8_t)(frame_of(&w->image, frame)[2000] ^ 0x10);
        off_t at = (off_t)(DB_LOG_HEAD_BYTES + (frame - 1) * DB_LOG_FRAME_BYTES + 2000);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
    int64_t n;
    ok(db_exec(&db, "PRAGMA shrink_memory"));
    assert_refused(db_integer(&db, "SELECT sum(length(value)) FROM meta", &n), w->path[1]);
    (void)sqlite3_db_config(db.handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    db_close(&db);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_flipped_bit_in_a_page_is_refused_by_file_and_page),
        TEST(every_bit_of_the_header_is_guarded),
        TEST(a_page_in_anothers_place_is_refused),
        TEST(a_file_that_is_cut_short_is_refused),
        TEST(a_file_of_the_first_form_is_refused_as_an_old_version),
        TEST(a_log_that_nothing_happened_to_is_taken_whole),
        TEST(a_flipped_bit_in_a_frame_is_never_cut_out_of_the_middle),
        TEST(a_lost_sector_is_never_cut_out_of_the_middle),
        TEST(any_damage_of_the_head_is_refused),
        TEST(a_torn_head_of_a_log_that_is_in_the_database_loses_nothing),
        TEST(a_torn_last_transaction_is_cut_and_said),
        TEST(a_head_that_a_power_cut_tore_is_cut_and_said),
        TEST(a_log_without_syncs_is_cut_at_a_hole),
        TEST(syncs_seldom_find_a_longer_log),
        TEST(a_log_that_is_written_again_gets_no_longer),
        TEST(a_frame_that_is_gone_is_not_taken_for_the_end_of_the_log),
        TEST(a_frame_that_changes_while_the_store_runs_is_refused_when_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
