/* Stamps and local writes (formats.md 1). */
#include <assert.h>

#include "base/text.h"
#include "kv/internal.h"

#define US_IN_S ((uint64_t)1000000)

/* What a stamp has to be greater than, and who says so. */
struct floor {
    uint64_t stamp_us;
    bool has_author;
    struct author_id author;
};

static enum hkv_err winner_floor(struct db *db, struct slice document_key, struct floor *out)
{
    sqlite3_stmt *s;
    bool found;
    TRY(db_statement(db, SQL_KEY_TOP, &s));
    db_bind_slice(s, 1, document_key);
    TRY(db_row(db, s, &found));
    if (!found) return HKV_OK;
    out->stamp_us = db_column_u64(s, 0);
    enum hkv_err err = db_column_id(db, s, 1, out->author.bytes);
    sqlite3_reset(s);
    out->has_author = true;
    return err;
}

/* Our own entries at prefixes of the key, itself included: an older stamp would be dominated by them. */
static enum hkv_err prefix_floor(struct kv *kv, struct db *db, struct slice document_key, struct floor *out)
{
    struct buf id = {0};
    struct entry_row row;
    bool found = false;
    size_t len = document_key.len;
    struct author_id self = kv_author(kv);
    enum hkv_err err = entries_id(&id, &self, document_key);
    if (err == HKV_OK) err = entries_find(db, buf_slice(&id), &row, &found);
    for (;;) {
        if (err == HKV_OK && found && row.record.stamp_us > out->stamp_us)
            *out = (struct floor){.stamp_us = row.record.stamp_us};
        if (err == HKV_OK) err = entries_parent(db, buf_slice(&id), &len, &row, &found);
        if (err != HKV_OK || !found) break;
    }
    buf_fini(&id);
    return err;
}

static enum hkv_err too_far_ahead(struct kv *kv, const struct floor *floor, uint64_t stamp_us, uint64_t wall_us)
{
    struct author_id self = kv_author(kv);
    uint64_t ahead_s = (stamp_us - wall_us) / US_IN_S;
    uint64_t wait_s = (stamp_us - wall_us - KV_LOCAL_AHEAD_US) / US_IN_S + 1;
    char text[ID_TEXT_MAX];
    if (floor->has_author && !author_id_equal(&floor->author, &self) && stamp_us == floor->stamp_us + 1)
        return error_set(
            HKV_E_STAMP_AHEAD,
            "author %s holds the key with a stamp %ju s ahead of this machine's clock; the limit is %ju s: "
            "set the clocks right, or try again in %ju s",
            id_format(floor->author.bytes, text), (uintmax_t)ahead_s, (uintmax_t)(KV_LOCAL_AHEAD_US / US_IN_S),
            (uintmax_t)wait_s);
    return error_set(
        HKV_E_STAMP_AHEAD,
        "this node's own last stamp is %ju s ahead of its clock, which may have stepped back; the limit is "
        "%ju s: set the clock right, or try again in %ju s",
        (uintmax_t)ahead_s, (uintmax_t)(KV_LOCAL_AHEAD_US / US_IN_S), (uintmax_t)wait_s);
}

/* Issues a stamp from what `db` sees. */
static enum hkv_err issue_stamp(struct kv *kv, struct db *db, struct slice document_key, uint64_t *out)
{
    struct floor floor = {0};
    struct slice name;
    uint64_t wall_us = env_wall_us(kv->config.env);
    TRY(winner_floor(db, document_key, &floor));
    if (kv_key_classify(document_key, &name) == KV_KEY_FOREIGN || atomic_load(&kv->foreign) > 0)
        TRY(prefix_floor(kv, db, document_key, &floor));
    uint64_t last_us = atomic_load(&kv->last_stamp_us);
    for (;;) {
        uint64_t stamp_us = wall_us > last_us ? wall_us : last_us + 1;
        if (stamp_us <= floor.stamp_us) stamp_us = floor.stamp_us + 1;
        if (stamp_us > wall_us + KV_LOCAL_AHEAD_US) return too_far_ahead(kv, &floor, stamp_us, wall_us);
        if (!atomic_compare_exchange_weak(&kv->last_stamp_us, &last_us, stamp_us)) continue;
        *out = stamp_us;
        return HKV_OK;
    }
}

enum hkv_err kv_propose_stamp(struct kv *kv, struct slice document_key, uint64_t *stamp_us)
{
    struct kv_reader *reader;
    TRY(kv_reader_take(kv, &reader));
    enum hkv_err err = issue_stamp(kv, &reader->db, document_key, stamp_us);
    kv_reader_give(kv, reader);
    return err;
}

static enum hkv_err check_expectation(struct kv *kv, const struct kv_write *w, const struct kv_key_row *row)
{
    bool visible =
        row->has_shown && row->kind == KV_VALUE && !row->expired && (!row->expires_us || row->expires_us > kv->now_us);
    if (w->expect == KV_EXPECT_ANY) return HKV_OK;
    if (row->waiting)
        return error_set(HKV_E_CONFLICT,
                         "a newer version of the key is known, but its value has not arrived; try again later");
    if (w->expect == KV_EXPECT_ABSENT)
        return visible ? error_set(HKV_E_CONFLICT, "the key is present; it was expected to be absent") : HKV_OK;
    if (!visible) return error_set(HKV_E_CONFLICT, "the key is absent; a version was expected");
    struct author_id author;
    TRY(kv_party_id(kv, row->shown.author, author.bytes));
    if (row->shown.stamp_us == w->version.stamp_us && author_id_equal(&author, &w->version.author)) return HKV_OK;
    char text[ID_TEXT_MAX];
    return error_set(HKV_E_CONFLICT, "the key is at version (%ju, %s), not at the one expected; read it again",
                     (uintmax_t)row->shown.stamp_us, id_format(author.bytes, text));
}

/* Whether the stamp that was proposed still wins. */
static enum hkv_err stamp_is_good(struct kv *kv, const struct entry *e, const struct kv_key_row *row, bool *out)
{
    struct floor floor = {0};
    *out = !row->has_top || e->record.stamp_us > row->top.stamp_us;
    if (!*out || kv->counters.foreign == 0) return HKV_OK;
    TRY(prefix_floor(kv, &kv->db, e->key, &floor));
    *out = e->record.stamp_us > floor.stamp_us;
    return HKV_OK;
}

/* The content's row in `value`: one that is there, one to fill, or a new one. */
static enum hkv_err resolve_content(struct kv_op *op, const struct kv_write *w)
{
    struct kv *kv = op->kv;
    bool found;
    TRY(values_find(&kv->db, &w->entry.record.hash, &op->value, &found));
    if (found && op->value.state == VALUE_PRESENT) return HKV_OK;
    op->step = found ? KV_VALUE_FILL : KV_VALUE_ADD;
    op->filled = op->value;
    if (!found) {
        op->value = (struct value_row){
            .id = w->file ? w->file->number : atomic_fetch_add(&kv->next_value, 1),
            .hash = w->entry.record.hash,
        };
    }
    op->value.state = VALUE_PRESENT;
    op->value.length = w->entry.record.length_bytes;
    op->value.kind = (int)w->parsed.kind;
    op->value.skip = w->parsed.skip;
    op->value.expires_us = w->parsed.expires_us;
    op->value.file = 0;
    op->body.bytes = w->content;
    if (!w->file) return HKV_OK;
    op->value.file = w->file->number;
    op->body.outboard = buf_slice(&w->file->outboard);
    return kv_file_stored(kv, w->file);
}

static enum hkv_err store_write(struct kv *kv, struct kv_write *w)
{
    struct kv_op op = {.kv = kv, .cause = {.local = true}};
    struct entry_row old;
    bool found;
    TRY(entries_id(&kv->id, &w->entry.author, w->entry.key));
    TRY(entries_find(&kv->db, buf_slice(&kv->id), &old, &found));
    enum hkv_err err = resolve_content(&op, w);
    /* For the keys that already wait for this content, it has arrived. */
    if (err == HKV_OK && op.step == KV_VALUE_FILL) {
        op.cause.local = false;
        err = kv_shown_arrived(&op);
        op.cause.local = true;
    }
    if (err == HKV_OK) err = kv_op_store(&op, &w->entry, found ? &old : NULL);
    kv_op_fini(&op);
    return err;
}

static enum kv_room room_of(const struct kv_write *w, const struct kv_key_row *key)
{
    if (!key->exists) return KV_ROOM_NEW;
    return w->parsed.kind == KV_TOMBSTONE ? KV_ROOM_DELETE : KV_ROOM_REPLACE;
}

enum hkv_err kv_write(struct kv *kv, struct kv_write *w, const struct kv_signer *signer)
{
    struct kv_key_row key;
    bool good;
    assert(kv_in_transaction(kv));
    assert(author_id_equal(&signer->author, &w->entry.author));
    TRY(kv_key_load(kv, w->entry.key, &key));
    TRY(check_expectation(kv, w, &key));
    if (!kv_budget_allows(kv, KV_ROW_BYTES + w->content.len, room_of(w, &key))) return kv_budget_refusal(kv);
    TRY(stamp_is_good(kv, &w->entry, &key, &good));
    if (!good) {
        TRY(issue_stamp(kv, &kv->db, w->entry.key, &w->entry.record.stamp_us));
        TRY(entry_sign(&w->entry, &signer->namespace_secret, &signer->author_secret));
    }
    kv_budget_take(kv, w->content.len);
    return store_write(kv, w);
}
