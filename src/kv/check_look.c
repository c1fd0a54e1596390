/* What a step of the check looks at, phase by phase: kv/check.h has the table. It reads one snapshot. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/text.h"
#include "kv/check_parts.h"

static enum hkv_err bad_entry(struct kv_check *c, struct slice id, const char *why)
{
    char author[ID_TEXT_MAX] = "nobody";
    uint8_t len[8];
    struct slice key = slice_part(id, id.len < ID_BYTES ? id.len : ID_BYTES, id.len);
    if (id.len >= ID_BYTES) (void)id_format(id.data, author);
    kv_check_note(
        c, KV_CHECK_ENTRY,
        "the entry of author %.10s for the key of %zu bytes %.*s is damaged (%s); it is removed, and peers that have "
        "it send it again",
        author, key.len, (int)(key.len < 80 ? key.len : 80), key.len ? (const char *)key.data : "", why);
    c->rebuild = true;
    c->entries_overflow = c->entries.len > KV_CHECK_ENTRIES_BYTES;
    if (c->entries_overflow) return HKV_OK;
    be64_store(len, id.len);
    TRY(buf_append(&c->entries, len, sizeof len));
    return buf_append_slice(&c->entries, id);
}

/* ------------------------------------------------------------------------------------------ runs */

struct run_walk {
    struct span_sum sum;
    struct buf id; /* of the entry at hand */
    bool verify_all;
    struct author_id author; /* of the entry before */
    bool author_known;
    uint64_t author_newest_us;
};

static enum hkv_err check_author(struct kv_check *c, struct db *db, struct run_walk *walk, const struct entry_row *e)
{
    sqlite3_stmt *s;
    if (!walk->author_known || !author_id_equal(&walk->author, &e->author)) {
        TRY(db_statement(db, SQL_PARTY_FIND, &s));
        db_bind_id(s, 1, e->author.bytes);
        TRY(db_row(db, s, &walk->author_known));
        walk->author_newest_us = walk->author_known ? db_column_u64(s, 1) : 0;
        sqlite3_reset(s);
        walk->author = e->author;
    }
    if (!walk->author_known || walk->author_newest_us < e->record.stamp_us)
        kv_check_derived(c, KV_CHECK_INDEX, "the table party does not know an author's newest entry");
    return HKV_OK;
}

/* The key's top is this entry or a greater one. */
static enum hkv_err check_below_top(struct kv_check *c, struct db *db, const struct entry_row *e)
{
    sqlite3_stmt *s;
    struct slice name;
    struct author_id author;
    bool found;
    if (kv_key_classify(e->key, &name) == KV_KEY_FOREIGN) return HKV_OK;
    TRY(db_statement(db, SQL_KEY_TOP, &s));
    db_bind_slice(s, 1, e->key);
    TRY(db_row(db, s, &found));
    if (found) {
        uint64_t top_us = db_column_u64(s, 0);
        enum hkv_err err = db_column_id(db, s, 1, author.bytes);
        sqlite3_reset(s);
        TRY(err);
        found = e->record.stamp_us < top_us || (e->record.stamp_us == top_us && ID_COMPARE(&e->author, &author) <= 0);
    }
    if (!found) kv_check_derived(c, KV_CHECK_INDEX, "the table key does not know a key's newest entry");
    return HKV_OK;
}

/* Whether the entry is what was stored. */
static enum hkv_err verify(struct kv_check *c, const struct entry_row *row, bool *bad)
{
    struct entry e = {
        .namespace = c->namespace,
        .author = row->author,
        .key = row->key,
        .record = row->record,
        .author_signature = row->author_signature,
        .namespace_signature = row->namespace_signature,
    };
    *bad = e.key.len > ENTRY_KEY_MAX || !record_is_consistent(&e.record);
    if (*bad) return HKV_OK;
    enum hkv_err err = c->kv->config.verify(&e);
    *bad = err == HKV_E_BAD_SIGNATURE;
    return *bad ? HKV_OK : err;
}

/* `walk->verify_all`: the run is known to be wrong, and was counted already. */
static enum hkv_err check_entry(struct kv_check *c, struct db *db, sqlite3_stmt *s, struct run_walk *walk)
{
    struct entry_row row;
    struct fingerprint print;
    bool bad = false;
    TRY(entries_read_id(db, s, &row.author, &row.key));
    TRY(entries_id(&walk->id, &row.author, row.key));
    walk->sum.count++;
    if (entries_read(db, s, &row) != HKV_OK)
        return walk->verify_all ? bad_entry(c, buf_slice(&walk->id), "a column has a wrong length") : HKV_OK;
    entries_fingerprint(&c->namespace, &row, &print);
    fingerprint_xor(&walk->sum.xored, &print);
    bool sampled = (print.bytes[0] + c->report.passes) % KV_CHECK_SIGNATURES == 0;
    if (walk->verify_all || sampled || c->every_signature) TRY(verify(c, &row, &bad));
    if (bad) return bad_entry(c, buf_slice(&walk->id), "its signatures are not valid");
    if (walk->verify_all) return HKV_OK;
    c->report.kinds[KV_CHECK_ENTRY].checked++;
    TRY(check_author(c, db, walk, &row));
    return check_below_top(c, db, &row);
}

/* The run that `at` lies in, as the table has it; one without a row is empty and begins at the empty id. */
static enum hkv_err run_at(struct db *db, struct slice at, struct buf *first, struct span_sum *stored, bool *sound)
{
    sqlite3_stmt *s;
    bool found;
    *stored = (struct span_sum){0};
    *sound = true;
    buf_clear(first);
    TRY(db_statement(db, SQL_SPAN_AT, &s));
    db_bind_slice(s, 1, at);
    TRY(db_row(db, s, &found));
    if (!found) return HKV_OK;
    struct slice print = db_column_slice(s, 2);
    enum hkv_err err = buf_assign(first, db_column_slice(s, 0));
    stored->count = db_column_u64(s, 1);
    *sound = print.len == ID_BYTES;
    if (*sound) memcpy(stored->xored.bytes, print.data, ID_BYTES);
    sqlite3_reset(s);
    return err;
}

static enum hkv_err run_after(struct db *db, struct slice at, struct buf *next, bool *found)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_SPAN_AFTER, &s));
    db_bind_slice(s, 1, at);
    TRY(db_row(db, s, found));
    if (!*found) return HKV_OK;
    enum hkv_err err = buf_assign(next, db_column_slice(s, 0));
    sqlite3_reset(s);
    return err;
}

/* Checks entries from `from` up to `to`, at most KV_CHECK_RUN_MAX of them; `rest` is where it stopped then. */
static enum hkv_err walk_run(struct kv_check *c, struct db *db, struct slice from, struct slice to,
                             struct run_walk *walk, struct buf *rest)
{
    sqlite3_stmt *s;
    enum hkv_err err = HKV_OK;
    TRY(entries_scan(db, SQL_ENTRY_SCAN, from, &s));
    for (bool found; err == HKV_OK;) {
        struct author_id author;
        struct slice key;
        err = db_row(db, s, &found);
        if (err == HKV_OK && found) err = entries_read_id(db, s, &author, &key);
        if (err != HKV_OK || !found || (to.len && entries_id_compare(&author, key, to) >= 0)) break;
        if (walk->sum.count == KV_CHECK_RUN_MAX) {
            err = entries_id(rest, &author, key);
            break;
        }
        err = check_entry(c, db, s, walk);
    }
    sqlite3_reset(s);
    buf_fini(&walk->id);
    return err;
}

/* A run's sums are wrong: either one of its entries is not what was stored, which its signatures tell, or its row. */
static enum hkv_err check_wrong_run(struct kv_check *c, struct db *db, struct slice first, struct slice next)
{
    struct run_walk walk = {.verify_all = true};
    struct buf rest = {0};
    uint64_t before = c->report.kinds[KV_CHECK_ENTRY].bad;
    enum hkv_err err = walk_run(c, db, first, next, &walk, &rest);
    buf_fini(&rest);
    if (err == HKV_OK && c->report.kinds[KV_CHECK_ENTRY].bad == before)
        kv_check_derived(c, KV_CHECK_SPAN, "a run of entries has not the count or fingerprint it should");
    return err;
}

static enum hkv_err check_run_between(struct kv_check *c, struct db *db, struct buf *first, struct buf *next,
                                      struct buf *rest, bool *end)
{
    struct span_sum stored;
    struct run_walk walk = {0};
    bool sound, more;
    TRY(run_at(db, buf_slice(&c->at), first, &stored, &sound));
    if (c->inside) TRY(buf_assign(first, buf_slice(&c->at)));
    TRY(run_after(db, buf_slice(first), next, &more));
    struct slice to = more ? buf_slice(next) : (struct slice){0};
    TRY(walk_run(c, db, buf_slice(first), to, &walk, rest));
    bool too_long = rest->len > 0;
    bool same =
        sound && !too_long && walk.sum.count == stored.count && fingerprint_equal(&walk.sum.xored, &stored.xored);
    if (!c->inside) c->report.kinds[KV_CHECK_SPAN].checked++;
    if (c->inside || !same) TRY(check_wrong_run(c, db, buf_slice(first), to));
    c->inside = too_long;
    *end = !too_long && !more;
    return buf_assign(&c->at, too_long ? buf_slice(rest) : buf_slice(next));
}

/* The namespace that the entries of this snapshot were signed for. */
static enum hkv_err read_namespace(struct kv_check *c, struct db *db)
{
    sqlite3_stmt *s;
    bool found;
    TRY(db_statement(db, SQL_META_GET, &s));
    sqlite3_bind_text(s, 1, KV_META_NAMESPACE, -1, SQLITE_STATIC);
    TRY(db_row(db, s, &found));
    if (!found) return error_set(HKV_E_CORRUPT, "%s: the store has no namespace", db->path);
    enum hkv_err err = db_column_id(db, s, 0, c->namespace.bytes);
    sqlite3_reset(s);
    return err;
}

static enum hkv_err step_runs(struct kv_check *c, struct db *db, bool *end)
{
    struct buf first = {0}, next = {0}, rest = {0};
    enum hkv_err err = read_namespace(c, db);
    if (err == HKV_OK) err = check_run_between(c, db, &first, &next, &rest, end);
    buf_fini(&first);
    buf_fini(&next);
    buf_fini(&rest);
    return err;
}

/* ------------------------------------------------------------------------------------------ keys */

static enum hkv_err check_key(struct kv_check *c, struct db *db)
{
    struct kv_key_row actual, expected;
    TRY(kv_key_read(db, buf_slice(&c->at), &actual));
    TRY(kv_key_expected(db, buf_slice(&c->at), &actual, &expected));
    c->report.kinds[KV_CHECK_INDEX].checked++;
    if (!kv_key_rows_equal(&actual, &expected))
        kv_check_derived(c, KV_CHECK_INDEX, "the table key has a wrong row for %.*s",
                         (int)(c->at.len < 80 ? c->at.len : 80), (const char *)c->at.data);
    return HKV_OK;
}

static enum hkv_err step_keys(struct kv_check *c, struct db *db, bool *end)
{
    for (int i = 0; i < KV_CHECK_KEYS; i++) {
        sqlite3_stmt *s;
        bool found;
        TRY(db_statement(db, SQL_KEY_AFTER, &s));
        db_bind_slice(s, 1, buf_slice(&c->at));
        TRY(db_row(db, s, &found));
        *end = !found;
        if (!found) return HKV_OK;
        struct buf key = {0};
        enum hkv_err err = buf_assign(&key, db_column_slice(s, 0));
        sqlite3_reset(s);
        buf_fini(&c->at);
        c->at = key;
        TRY(err);
        TRY(check_key(c, db));
    }
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ values */

static enum hkv_err set_place_number(struct kv_check *c, uint64_t number)
{
    uint8_t bytes[8];
    be64_store(bytes, number);
    return buf_assign(&c->at, slice_of(bytes, sizeof bytes));
}

static void found_value(struct hash *list, size_t *count, const struct hash *hash)
{
    if (*count < KV_CHECK_FOUND_MAX) list[(*count)++] = *hash;
}

/* What the row says of a content whose bytes are good, and what it should. */
static void check_label(struct kv_check *c, const struct value_row *row, struct slice head, uint64_t length)
{
    struct kv_content parsed;
    struct value_row label = *row;
    if (value_is_constant(row->id)) return;
    kv_content_parse(head, length, &parsed);
    label.length = length;
    label.kind = (int)parsed.kind;
    label.skip = parsed.skip;
    label.expires_us = parsed.expires_us;
    if (label.length == row->length && label.kind == row->kind && label.skip == row->skip &&
        label.expires_us == row->expires_us)
        return;
    kv_check_note(c, KV_CHECK_VALUE, "a row of the table value tells of another content than its own");
    if (c->label_count < KV_CHECK_FOUND_MAX) c->labels[c->label_count++] = label;
    c->rebuild = true; /* what keys show says the same */
}

/* The bytes of a value were hashed. `why`: they could not be read. */
static void judge(struct kv_check *c, const struct value_row *row, const struct hash *hash, struct slice head,
                  uint64_t length, const char *why)
{
    char text[ID_TEXT_MAX];
    bool good = hash && hash_equal(hash, &row->hash);
    c->report.kinds[KV_CHECK_VALUE].checked++;
    if (good) check_label(c, row, head, length);
    if (good && row->state == VALUE_BAD) found_value(c->good, &c->good_count, &row->hash);
    if (good || row->state == VALUE_BAD) {
        c->report.kinds[KV_CHECK_VALUE].bad += !good; /* known already */
        return;
    }
    if (value_is_constant(row->id)) {
        kv_check_derived(c, KV_CHECK_VALUE, "a content that every node knows is damaged");
        return;
    }
    kv_check_note(c, KV_CHECK_VALUE, "the value %s of %" PRIu64 " bytes %s", id_format(row->hash.bytes, text),
                  row->length, why);
    found_value(c->bad, &c->bad_count, &row->hash);
}

void kv_check_close_file(struct kv_check *c)
{
    if (c->file.fd >= 0) files_close_fd(c->file.fd);
    c->file.fd = -1;
}

/* One that has gone may have been replaced since the row was read: the next step reads the row again. */
static enum hkv_err open_file(struct kv_check *c, const struct value_row *row)
{
    char name[FILES_NAME_MAX];
    kv_file_name(&row->hash, row->file, name);
    enum hkv_err err = c->kv->files->ops->open_fd(c->kv->files, name, &c->file.fd);
    if (err == HKV_E_NOT_FOUND) {
        c->file.fd = -1;
        bool again = c->file.lost == row->id;
        c->file.lost = row->id;
        if (!again) return HKV_OK;
        judge(c, row, NULL, (struct slice){0}, 0, "has lost its file");
        return set_place_number(c, row->id + 1);
    }
    TRY(err);
    c->file.row = *row;
    c->file.offset = 0;
    blake3_init(&c->file.hasher);
    return HKV_OK;
}

/* Hashes at most KV_CHECK_BYTES more of the open file. */
static enum hkv_err hash_file(struct kv_check *c)
{
    struct kv_check_file *f = &c->file;
    size_t got;
    uint8_t *bytes = malloc(KV_CHECK_BYTES);
    if (!bytes) return error_set(HKV_E_NOMEM, "no memory to check a value");
    enum hkv_err err = files_read_fd(f->fd, f->offset, bytes, KV_CHECK_BYTES, &got);
    if (err == HKV_OK) {
        if (f->offset == 0) memcpy(f->head, bytes, got < sizeof f->head ? got : sizeof f->head);
        blake3_update(&f->hasher, slice_of(bytes, got));
        f->offset += got;
    }
    free(bytes);
    if (err == HKV_OK && got == KV_CHECK_BYTES) return HKV_OK;
    struct hash hash;
    blake3_final(&f->hasher, &hash);
    size_t head = f->offset < sizeof f->head ? (size_t)f->offset : sizeof f->head;
    judge(c, &f->row, err == HKV_OK ? &hash : NULL, slice_of(f->head, head), f->offset,
          err == HKV_OK ? "has not the bytes it should" : "cannot be read from its file");
    kv_check_close_file(c);
    return set_place_number(c, f->row.id + 1);
}

/* The row that the index on hashes finds is this one. */
static enum hkv_err check_found_by_hash(struct kv_check *c, struct db *db, const struct value_row *row)
{
    struct value_row v;
    bool found;
    TRY(values_find(db, &row->hash, &v, &found));
    if (!found || v.id != row->id) kv_check_derived(c, KV_CHECK_INDEX, "a value is not found by its hash");
    return HKV_OK;
}

static enum hkv_err check_value(struct kv_check *c, struct db *db, sqlite3_stmt *s, size_t *bytes, bool *stop)
{
    struct value_row row;
    struct hash hash;
    if (values_read(db, s, &row) != HKV_OK) {
        kv_check_derived(c, KV_CHECK_INDEX, "a row of the table value has a hash of a wrong length");
        return set_place_number(c, db_column_u64(s, 0) + 1);
    }
    TRY(check_found_by_hash(c, db, &row));
    bool has_bytes = row.state == VALUE_PRESENT || row.state == VALUE_BAD;
    if (!has_bytes && row.state != VALUE_MISSING && row.state != VALUE_TOO_LARGE)
        kv_check_derived(c, KV_CHECK_INDEX, "a row of the table value is in no known state");
    if (has_bytes && row.file) {
        *stop = true;
        TRY(set_place_number(c, row.id));
        return open_file(c, &row);
    }
    if (has_bytes) {
        struct slice content = db_column_slice(s, VALUE_SCAN_BYTES);
        blake3_hash(content, &hash);
        judge(c, &row, &hash, content, content.len, "has not the bytes it should");
        *bytes += content.len;
    }
    return set_place_number(c, row.id + 1);
}

static enum hkv_err step_values(struct kv_check *c, struct db *db, bool *end)
{
    sqlite3_stmt *s;
    size_t bytes = 0;
    bool found = true, stop = false;
    enum hkv_err err = HKV_OK;
    if (c->file.fd >= 0) return hash_file(c);
    TRY(values_scan(db, kv_check_number(c), &s));
    for (int i = 0; i < KV_CHECK_VALUES && bytes < KV_CHECK_BYTES && err == HKV_OK && !stop; i++) {
        err = db_row(db, s, &found);
        if (err != HKV_OK || !found) break;
        err = check_value(c, db, s, &bytes, &stop);
    }
    sqlite3_reset(s);
    *end = err == HKV_OK && !found;
    return err;
}

/* ------------------------------------------------------------------------------------------ references, counters */

static bool refs_are_right(const struct kv_check *c, uint64_t low, sqlite3_stmt *s)
{
    uint64_t id = db_column_u64(s, 0);
    int64_t refs = sqlite3_column_int64(s, 1);
    if (value_is_constant(id)) return refs == 1;
    if (refs != (int64_t)c->refs[id - low]) return false;
    if (sqlite3_column_int(s, 2) != VALUE_PRESENT) return refs > 0;
    return (refs == 0) == (sqlite3_column_int(s, 3) != 0);
}

static enum hkv_err step_refs(struct kv_check *c, struct db *db, bool *end)
{
    sqlite3_stmt *s;
    uint64_t low = kv_check_number(c);
    if (!c->refs) c->refs = malloc(KV_REFS_WINDOW * sizeof *c->refs);
    if (!c->refs) return error_set(HKV_E_NOMEM, "no memory to count references");
    TRY(kv_refs_count(db, low, c->refs));
    TRY(db_statement(db, SQL_SUM_REFS, &s));
    db_bind_u64(s, 1, low);
    db_bind_u64(s, 2, low + KV_REFS_WINDOW);
    for (bool found;;) {
        TRY(db_row(db, s, &found));
        if (!found) break;
        c->report.kinds[KV_CHECK_INDEX].checked++;
        if (!refs_are_right(c, low, s)) kv_check_derived(c, KV_CHECK_INDEX, "references of a value are miscounted");
    }
    *end = low + KV_REFS_WINDOW >= atomic_load(&c->kv->next_value);
    if (*end) {
        free(c->refs);
        c->refs = NULL;
    }
    return set_place_number(c, low + KV_REFS_WINDOW);
}

static enum hkv_err step_counters(struct kv_check *c, struct db *db, bool *end)
{
    sqlite3_stmt *s;
    bool found;
    struct kv_counters stored = {0};
    TRY(db_statement(db, SQL_META_GET, &s));
    sqlite3_bind_text(s, 1, KV_META_COUNTERS, -1, SQLITE_STATIC);
    TRY(db_row(db, s, &found));
    if (found) kv_counters_decode(db_column_slice(s, 0), &stored);
    sqlite3_reset(s);
    struct kv_counters expected = stored;
    uint64_t astray;
    TRY(kv_counters_expected(db, &expected, &astray));
    c->report.kinds[KV_CHECK_INDEX].checked++;
    if (astray > 0)
        kv_check_derived(c, KV_CHECK_INDEX, "%" PRIu64 " rows lead to nothing, or nothing leads to them", astray);
    if (memcmp(&stored, &expected, sizeof stored) != 0) kv_check_derived(c, KV_CHECK_INDEX, "the counters are wrong");
    *end = true;
    return HKV_OK;
}

enum hkv_err kv_check_look(struct kv_check *c, struct db *db, bool *end)
{
    switch (c->phase) {
    case PHASE_RUNS:
        return step_runs(c, db, end);
    case PHASE_KEYS:
        return step_keys(c, db, end);
    case PHASE_VALUES:
        return step_values(c, db, end);
    case PHASE_REFS:
        return step_refs(c, db, end);
    default:
        return step_counters(c, db, end);
    }
}
