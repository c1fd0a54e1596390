/* Reads from any thread, each on its own connection and snapshot: get, list, history, blobs. One prepared statement
 * answers a get: the key's row joined with its value by number. */
#include <assert.h>
#include <stdlib.h>

#include "kv/internal.h"

/* Columns of SQL_SHOWN_COLUMNS and what follows. */
enum {
    COL_KEY,
    COL_STAMP,
    COL_AUTHOR,
    COL_KIND,
    COL_EXPIRES,
    COL_HASH,
    COL_LENGTH,
    COL_SKIP,
    COL_FILE,
    COL_STATE,
    COL_OUTBOARD,
    COL_BYTES
};

#define OPEN_TRIES 3 /* a value can be replaced between its row and its file */

void kv_item_fini(struct kv_item *item)
{
    buf_fini(&item->key);
    buf_fini(&item->value);
    kv_blob_close(&item->blob);
}

static enum hkv_err open_file(struct kv *kv, const struct hash *hash, uint64_t number, uint64_t length,
                              struct slice outboard, struct kv_blob *out)
{
    char name[FILES_NAME_MAX];
    kv_file_name(hash, number, name);
    out->hash = *hash;
    out->length = length;
    out->file = number;
    TRY(buf_assign(&out->outboard, outboard));
    return kv->files->ops->open_fd(kv->files, name, &out->fd);
}

/* ------------------------------------------------------------------------------------------ get */

/* Fills an item from the current row of a statement with SQL_SHOWN_COLUMNS. Errors: HKV_E_NOT_FOUND when the value's
 * file has just gone. */
static enum hkv_err read_item(struct kv *kv, struct db *db, sqlite3_stmt *s, enum kv_want want, uint64_t value_max,
                              struct kv_item *out)
{
    struct slice name;
    uint64_t length = db_column_u64(s, COL_LENGTH);
    uint64_t file = db_column_u64(s, COL_FILE);
    (void)kv_key_classify(db_column_slice(s, COL_KEY), &name);
    TRY(buf_assign(&out->key, name));
    out->version.stamp_us = db_column_u64(s, COL_STAMP);
    TRY(db_column_id(db, s, COL_AUTHOR, out->version.author.bytes));
    TRY(db_column_id(db, s, COL_HASH, out->hash.bytes));
    out->expires_us = db_column_u64(s, COL_EXPIRES);
    out->skip = (uint32_t)sqlite3_column_int(s, COL_SKIP);
    out->length = length - out->skip;
    out->bad = sqlite3_column_int(s, COL_STATE) == VALUE_BAD;
    if (want == KV_WANT_META || out->length > value_max || out->bad) return HKV_OK;
    if (file) return open_file(kv, &out->hash, file, length, db_column_slice(s, COL_OUTBOARD), &out->blob);
    struct slice bytes = db_column_slice(s, COL_BYTES);
    if (bytes.len != length)
        return error_set(HKV_E_CORRUPT, "%s: a value of %ju bytes has %zu", kv->db_path, (uintmax_t)length, bytes.len);
    return buf_assign(&out->value, slice_part(bytes, out->skip, bytes.len));
}

static enum hkv_err get_once(struct kv *kv, struct db *db, struct slice document_key, enum kv_want want,
                             struct kv_item *out)
{
    sqlite3_stmt *s;
    bool found;
    TRY(db_statement(db, want == KV_WANT_VALUE ? SQL_KEY_SHOWN : SQL_KEY_SHOWN_META, &s));
    db_bind_slice(s, 1, document_key);
    TRY(db_row(db, s, &found));
    if (!found) return HKV_E_NOT_FOUND;
    int kind = sqlite3_column_int(s, COL_KIND);
    uint64_t expires_us = db_column_u64(s, COL_EXPIRES);
    bool expired = kind == KV_KIND_EXPIRED || (expires_us && expires_us <= env_wall_us(kv->config.env));
    enum hkv_err err;
    if (kind == KV_UNREADABLE)
        err = error_set(HKV_E_FORMAT, "the key's content begins with this format's mark but is none of its forms; "
                                      "`history` lists who wrote it");
    else if (kind == KV_TOMBSTONE || expired)
        err = HKV_E_NOT_FOUND;
    else
        err = read_item(kv, db, s, want, UINT64_MAX, out);
    if (err == HKV_OK && want == KV_WANT_VALUE && out->bad)
        err = error_set(HKV_E_CORRUPT, "the key's value was damaged on this node's disk; its bytes are kept from sight "
                                       "until a peer has sent them again, or the key is written anew");
    sqlite3_reset(s);
    return err;
}

enum hkv_err kv_get(struct kv *kv, struct slice document_key, enum kv_want want, struct kv_item *out)
{
    struct kv_reader *reader;
    *out = (struct kv_item){.blob.fd = -1};
    TRY(kv_reader_take(kv, &reader));
    enum hkv_err err = HKV_E_NOT_FOUND;
    for (int i = 0; i < OPEN_TRIES && err == HKV_E_NOT_FOUND; i++) {
        kv_item_fini(out);
        *out = (struct kv_item){.blob.fd = -1};
        err = get_once(kv, &reader->db, document_key, want, out);
        if (err == HKV_E_NOT_FOUND && out->key.len == 0) break; /* the key is absent, not its file */
    }
    kv_reader_give(kv, reader);
    if (err == HKV_E_NOT_FOUND && out->key.len > 0) err = kv_blob_damaged(kv, &out->hash, out->blob.file, "is missing");
    if (err != HKV_OK) {
        kv_item_fini(out);
        *out = (struct kv_item){.blob.fd = -1};
    }
    return err;
}

/* ------------------------------------------------------------------------------------------ list */

/* The smallest byte string behind everything that begins with `prefix`; empty when there is none. */
static enum hkv_err behind_prefix(struct slice prefix, struct buf *out)
{
    while (prefix.len > 0 && prefix.data[prefix.len - 1] == 0xff) prefix.len--;
    TRY(buf_assign(out, prefix));
    if (out->len > 0) out->data[out->len - 1]++;
    return HKV_OK;
}

enum hkv_err kv_list_bounds(enum kv_key_class class, struct slice prefix, struct slice after,
                            struct kv_list_bounds *out)
{
    if (class == KV_KEY_SYSTEM) TRY(buf_append_byte(&out->from, 0));
    TRY(buf_append_slice(&out->from, prefix));
    if (out->from.len == 0) TRY(buf_append_byte(&out->from, 1)); /* user keys have no NUL */
    TRY(behind_prefix(prefix.len || class == KV_KEY_SYSTEM ? buf_slice(&out->from) : (struct slice){0}, &out->to));
    if (out->to.len == 0) TRY(buf_append_byte(&out->to, 0xff)); /* no UTF-8 has this byte */
    if (after.len == 0) return HKV_OK;
    struct buf behind = {0};
    enum hkv_err err = class == KV_KEY_SYSTEM ? buf_append_byte(&behind, 0) : HKV_OK;
    if (err == HKV_OK) err = kv_key_encode(after, &behind);
    if (err == HKV_OK) err = buf_append_byte(&behind, 0); /* the first string behind the key itself */
    if (err == HKV_OK && slice_compare(buf_slice(&behind), buf_slice(&out->from)) > 0)
        err = buf_assign(&out->from, buf_slice(&behind));
    buf_fini(&behind);
    return err;
}

void kv_list_bounds_fini(struct kv_list_bounds *b)
{
    buf_fini(&b->from);
    buf_fini(&b->to);
}

enum hkv_err kv_list_row(struct db *db, sqlite3_stmt *s, struct slice *name, struct kv_version *version,
                         uint64_t *expires_us)
{
    (void)kv_key_classify(db_column_slice(s, COL_KEY), name);
    version->stamp_us = db_column_u64(s, COL_STAMP);
    *expires_us = db_column_u64(s, COL_EXPIRES);
    return db_column_id(db, s, COL_AUTHOR, version->author.bytes);
}

static enum hkv_err visit_row(struct kv *kv, struct db *db, sqlite3_stmt *s, enum kv_want want, uint64_t value_max,
                              bool (*visit)(void *arg, struct kv_item *item), void *arg, bool *go_on)
{
    struct kv_item item = {.blob.fd = -1};
    enum hkv_err err = read_item(kv, db, s, want, value_max, &item);
    /* The file is missing; or the key has another value by now, and then the report comes to nothing. */
    if (err == HKV_E_NOT_FOUND) {
        kv_value_bad(kv, &item.hash);
        item.bad = true;
        err = HKV_OK;
    }
    if (err == HKV_OK) *go_on = visit(arg, &item);
    kv_item_fini(&item);
    return err;
}

enum hkv_err kv_list(struct kv *kv, enum kv_key_class class, struct slice prefix, struct slice after, enum kv_want want,
                     uint64_t value_max, bool (*visit)(void *arg, struct kv_item *item), void *arg)
{
    struct kv_list_bounds bounds = {0};
    struct kv_reader *reader = NULL;
    sqlite3_stmt *s = NULL;
    bool go_on = true;
    uint64_t now_us = env_wall_us(kv->config.env);
    if (class == KV_KEY_FOREIGN) return HKV_OK; /* never visible */
    enum hkv_err err = kv_list_bounds(class, prefix, after, &bounds);
    if (err == HKV_OK) err = kv_reader_take(kv, &reader);
    if (err != HKV_OK) goto out;
    err = db_statement(&reader->db, want == KV_WANT_VALUE ? SQL_KEY_LIST : SQL_KEY_LIST_META, &s);
    if (err != HKV_OK) goto out;
    db_bind_slice(s, 1, buf_slice(&bounds.from));
    db_bind_slice(s, 2, buf_slice(&bounds.to));
    for (bool found; go_on && err == HKV_OK;) {
        err = db_row(&reader->db, s, &found);
        if (err != HKV_OK || !found) break;
        uint64_t expires_us = db_column_u64(s, COL_EXPIRES);
        if (expires_us && expires_us <= now_us) continue;
        err = visit_row(kv, &reader->db, s, want, value_max, visit, arg, &go_on);
    }
    sqlite3_reset(s);
out:
    if (reader) kv_reader_give(kv, reader);
    kv_list_bounds_fini(&bounds);
    return err;
}

static bool stop_at_first(void *arg, struct kv_item *item)
{
    (void)item;
    *(bool *)arg = true;
    return false;
}

/* Passes over the records that each daemon writes about itself, a whole prefix at a step. */
struct user_key_search {
    struct buf after;
    bool found;
    bool skipped;
    enum hkv_err err;
};

static const char *const daemon_prefixes[] = {"nodes/", "node_stats/"};

static bool look_for_user_key(void *arg, struct kv_item *item)
{
    struct user_key_search *search = arg;
    for (size_t i = 0; i < sizeof daemon_prefixes / sizeof daemon_prefixes[0]; i++) {
        struct slice prefix = slice_of_text(daemon_prefixes[i]);
        if (!slice_starts_with(buf_slice(&item->key), prefix)) continue;
        search->skipped = true;
        search->err = behind_prefix(prefix, &search->after);
        return false;
    }
    search->found = true;
    return false;
}

enum hkv_err kv_has_user_keys(struct kv *kv, bool *out)
{
    struct user_key_search search = {0};
    enum hkv_err err;
    *out = false;
    do {
        /* `after` is the first key behind the prefix, less one: it may itself be a key. */
        search.skipped = false;
        if (search.after.len) {
            bool exact = false;
            err = kv_list(kv, KV_KEY_USER, buf_slice(&search.after), (struct slice){0}, KV_WANT_META, 0, stop_at_first,
                          &exact);
            if (err == HKV_OK && exact) search.found = true;
            if (err != HKV_OK || exact) break;
        }
        err = kv_list(kv, KV_KEY_USER, (struct slice){0}, buf_slice(&search.after), KV_WANT_META, 0, look_for_user_key,
                      &search);
        if (err == HKV_OK) err = search.err;
    } while (err == HKV_OK && search.skipped && !search.found);
    *out = search.found;
    buf_fini(&search.after);
    return err;
}

/* ------------------------------------------------------------------------------------------ history */

/* Columns of SQL_KEY_HISTORY behind those of the entry. */
enum { COL_CONTENT_KIND = 8, COL_CONTENT_LENGTH };

struct history {
    struct kv_history_item *items;
    size_t count, cap;
};

static enum hkv_err history_add(struct history *h, const struct kv_history_item *item)
{
    if (h->count == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 8;
        struct kv_history_item *grown = realloc(h->items, cap * sizeof *grown);
        if (!grown) return error_set(HKV_E_NOMEM, "history of a key");
        h->items = grown;
        h->cap = cap;
    }
    h->items[h->count++] = *item;
    return HKV_OK;
}

static int newest_first(const void *a, const void *b)
{
    const struct kv_history_item *x = a;
    const struct kv_history_item *y = b;
    if (x->version.stamp_us != y->version.stamp_us) return x->version.stamp_us < y->version.stamp_us ? 1 : -1;
    return -ID_COMPARE(&x->version.author, &y->version.author);
}

static enum hkv_err shown_version(struct db *db, struct slice document_key, struct kv_version *out, bool *found)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_KEY_SHOWN_VERSION, &s));
    db_bind_slice(s, 1, document_key);
    TRY(db_row(db, s, found));
    if (!*found) return HKV_OK;
    out->stamp_us = db_column_u64(s, 0);
    enum hkv_err err = db_column_id(db, s, 1, out->author.bytes);
    sqlite3_reset(s);
    return err;
}

static enum hkv_err read_history(struct db *db, sqlite3_stmt *s, struct history *h)
{
    struct entry_row row;
    TRY(entries_read(db, s, &row));
    bool present = row.state == VALUE_PRESENT;
    return history_add(h,
                       &(struct kv_history_item){
                           .version = {row.record.stamp_us, row.author},
                           .hash = row.record.hash,
                           .content_length = present ? db_column_u64(s, COL_CONTENT_LENGTH) : row.record.length_bytes,
                           .kind = (enum kv_kind)sqlite3_column_int(s, COL_CONTENT_KIND),
                           .present = present,
                       });
}

/* Asks for each author's entry; authors are few beside keys. */
static enum hkv_err collect_history(struct db *db, struct slice document_key, struct history *h)
{
    sqlite3_stmt *s;
    enum hkv_err err = HKV_OK;
    TRY(db_statement(db, SQL_KEY_HISTORY, &s));
    db_bind_slice(s, 1, document_key);
    for (bool more; err == HKV_OK;) {
        err = db_row(db, s, &more);
        if (err != HKV_OK || !more) break;
        err = read_history(db, s, h);
    }
    sqlite3_reset(s);
    return err;
}

enum hkv_err kv_history(struct kv *kv, struct slice document_key,
                        bool (*visit)(void *arg, const struct kv_history_item *item), void *arg)
{
    struct kv_reader *reader;
    struct history h = {0};
    struct kv_version shown = {0};
    bool has_shown = false;
    TRY(kv_reader_take(kv, &reader));
    enum hkv_err err = kv_reader_begin(reader);
    if (err == HKV_OK) err = shown_version(&reader->db, document_key, &shown, &has_shown);
    if (err == HKV_OK) err = collect_history(&reader->db, document_key, &h);
    kv_reader_end(reader);
    kv_reader_give(kv, reader);
    if (h.count > 1) qsort(h.items, h.count, sizeof *h.items, newest_first);
    for (size_t i = 0; i < h.count && err == HKV_OK; i++) {
        h.items[i].shown = has_shown && h.items[i].version.stamp_us == shown.stamp_us &&
                           author_id_equal(&h.items[i].version.author, &shown.author);
        if (!visit(arg, &h.items[i])) break;
    }
    free(h.items);
    return err;
}

static enum hkv_err
visit_author(struct db *db, const struct author_id *author, struct slice prefix,
             bool (*visit)(void *arg, struct slice document_key, uint64_t stamp_us, bool has_content), void *arg)
{
    sqlite3_stmt *s;
    struct buf from = {0};
    enum hkv_err err = entries_id(&from, author, prefix);
    if (err == HKV_OK) err = entries_scan(db, SQL_ENTRY_SCAN, buf_slice(&from), &s);
    if (err != HKV_OK) {
        buf_fini(&from);
        return err;
    }
    for (bool found;;) {
        struct entry_row row = {0};
        err = db_row(db, s, &found);
        if (err == HKV_OK && found) err = entries_read(db, s, &row);
        if (err != HKV_OK || !found || !author_id_equal(&row.author, author) || !slice_starts_with(row.key, prefix))
            break;
        if (!visit(arg, row.key, row.record.stamp_us, row.state == VALUE_PRESENT)) break;
    }
    sqlite3_reset(s);
    buf_fini(&from);
    return err;
}

enum hkv_err kv_author_entries(struct kv *kv, const struct author_id *author, struct slice prefix,
                               bool (*visit)(void *arg, struct slice document_key, uint64_t stamp_us, bool has_content),
                               void *arg)
{
    struct kv_reader *reader;
    TRY(kv_reader_take(kv, &reader));
    enum hkv_err err = visit_author(&reader->db, author, prefix, visit, arg);
    kv_reader_give(kv, reader);
    return err;
}

/* ------------------------------------------------------------------------------------------ blobs */

static enum hkv_err open_once(struct kv *kv, struct db *db, const struct hash *hash, struct kv_blob *out, bool *row)
{
    sqlite3_stmt *s;
    TRY(db_statement(db, SQL_VALUE_OPEN, &s));
    db_bind_slice(s, 1, slice_of(hash->bytes, VALUE_HASH_PREFIX));
    db_bind_id(s, 2, hash->bytes);
    TRY(db_row(db, s, row));
    if (!*row) return HKV_E_NOT_FOUND;
    enum hkv_err err = HKV_OK;
    uint64_t file = db_column_u64(s, 2);
    if (sqlite3_column_int(s, 1) != VALUE_PRESENT) {
        *row = false;
        err = HKV_E_NOT_FOUND;
    } else if (file) {
        err = open_file(kv, hash, file, db_column_u64(s, 0), db_column_slice(s, 3), out);
    } else {
        out->hash = *hash;
        out->length = db_column_u64(s, 0);
        err = buf_assign(&out->bytes, db_column_slice(s, 4));
    }
    sqlite3_reset(s);
    return err;
}

enum hkv_err kv_blob_open(struct kv *kv, const struct hash *hash, struct kv_blob *out)
{
    struct kv_reader *reader;
    *out = (struct kv_blob){.fd = -1};
    TRY(kv_reader_take(kv, &reader));
    enum hkv_err err = HKV_E_NOT_FOUND;
    bool row = true;
    for (int i = 0; i < OPEN_TRIES && err == HKV_E_NOT_FOUND && row; i++) {
        err = open_once(kv, &reader->db, hash, out, &row);
        if (err != HKV_OK) kv_blob_close(out);
    }
    if (err == HKV_E_NOT_FOUND && row) kv_value_bad(kv, hash);
    kv_reader_give(kv, reader);
    return err;
}
