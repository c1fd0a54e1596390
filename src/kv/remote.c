/* The entries as reconciliation sees them (docs/replica.h), the rule by which a received one is stored
 * (wire/docs.md 3.3), and those that came too early. */
#include <assert.h>

#include "base/log.h"
#include "kv/internal.h"

static struct kv *kv_of(struct docs_replica *r)
{
    return (struct kv *)((char *)r - offsetof(struct kv, docs));
}

struct docs_replica *kv_docs(struct kv *kv)
{
    return &kv->docs;
}

static const struct namespace_id *replica_namespace(struct docs_replica *r)
{
    return &kv_of(r)->config.namespace;
}

/* A bound of a piece without the namespace. Bounds are clamped already; one that lies before or behind the namespace is
 * its start or its end all the same. */
static struct slice bound_within(const struct kv *kv, struct slice bound, bool *past_end)
{
    struct slice ns = slice_of(kv->config.namespace.bytes, ID_BYTES);
    int order = slice_compare(slice_part(bound, 0, ID_BYTES), ns);
    *past_end = order > 0;
    return order == 0 ? slice_part(bound, ID_BYTES, bound.len) : (struct slice){0};
}

/* The piece in ids of the store. False: nothing lies in it. */
static bool piece_within(const struct kv *kv, struct docs_piece piece, struct slice *from, struct slice *to)
{
    bool from_past = false;
    bool to_past = true;
    *from = piece.from.len ? bound_within(kv, piece.from, &from_past) : (struct slice){0};
    *to = piece.to.len ? bound_within(kv, piece.to, &to_past) : (struct slice){0};
    if (from_past || (!to_past && to->len == 0)) return false;
    return to->len == 0 || slice_compare(*from, *to) < 0;
}

static enum hkv_err replica_summarize(struct docs_replica *r, struct docs_piece piece, struct docs_summary *out)
{
    struct kv *kv = kv_of(r);
    struct slice from, to;
    struct span_sum sum = {0};
    if (piece_within(kv, piece, &from, &to)) TRY(spans_sum(kv->spans, from, to, &sum));
    *out = (struct docs_summary){.count = sum.count, .xored = sum.xored};
    return HKV_OK;
}

static enum hkv_err replica_select(struct docs_replica *r, struct docs_piece piece, uint64_t n, struct buf *id)
{
    struct kv *kv = kv_of(r);
    struct slice from, to;
    size_t before = id->len;
    if (!piece_within(kv, piece, &from, &to)) return HKV_E_NOT_FOUND;
    TRY(buf_append(id, kv->config.namespace.bytes, ID_BYTES));
    enum hkv_err err = spans_select(kv->spans, from, n, id);
    if (err == HKV_OK && to.len && slice_compare(slice_part(buf_slice(id), before + ID_BYTES, id->len), to) >= 0)
        err = HKV_E_NOT_FOUND;
    if (err != HKV_OK) id->len = before;
    return err;
}

static void entry_of_row(const struct kv *kv, const struct entry_row *row, struct entry *out)
{
    *out = (struct entry){
        .namespace = kv->config.namespace,
        .author = row->author,
        .key = row->key,
        .record = row->record,
        .author_signature = row->author_signature,
        .namespace_signature = row->namespace_signature,
    };
}

static enum hkv_err replica_scan(struct docs_replica *r, struct docs_piece piece,
                                 bool (*visit)(void *arg, const struct entry *e, bool has_content), void *arg)
{
    struct kv *kv = kv_of(r);
    struct slice from, to;
    sqlite3_stmt *s;
    if (!piece_within(kv, piece, &from, &to)) return HKV_OK;
    TRY(entries_scan(&kv->db, SQL_ENTRY_SCAN, from, &s));
    enum hkv_err err = HKV_OK;
    for (bool found;;) {
        struct entry_row row;
        struct entry e;
        err = db_row(&kv->db, s, &found);
        if (err != HKV_OK || !found) break;
        err = entries_read(&kv->db, s, &row);
        if (err != HKV_OK || (to.len && entries_id_compare(&row.author, row.key, to) >= 0)) break;
        entry_of_row(kv, &row, &e);
        if (!visit(arg, &e, row.state == VALUE_PRESENT)) break;
    }
    sqlite3_reset(s);
    return err;
}

static enum hkv_err replica_has_content(struct docs_replica *r, const struct hash *hash, bool *out)
{
    struct kv *kv = kv_of(r);
    struct value_row v;
    TRY(values_find(&kv->db, hash, &v, out));
    *out = *out && v.state == VALUE_PRESENT;
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ the insert rule */

/* Looks for a stored entry of the author at a proper prefix of the key that is not older (wire/docs.md 3.3, 8.3). */
static enum hkv_err find_dominating(struct kv *kv, const struct entry *e, struct entry_row *parent, size_t *key_len,
                                    bool *found)
{
    *key_len = e->key.len;
    do {
        TRY(entries_parent(&kv->db, buf_slice(&kv->id), key_len, parent, found));
    } while (*found && record_compare(&e->record, &parent->record) > 0);
    return HKV_OK;
}

/* A value that is too long is never fetched; its entry is a row like any other. */
static bool has_room(struct kv *kv, const struct record *record)
{
    uint64_t value_bytes = record->length_bytes <= kv->config.max_value_bytes ? record->length_bytes : 0;
    return kv_budget_allows(kv, KV_ROW_BYTES + value_bytes, KV_ROOM_NEW);
}

/* What would become of a received entry. Sets kv->id. `*has_old`: `old` is the row of the same id. */
static enum hkv_err judge(struct kv *kv, const struct entry *e, enum docs_insert *out, struct entry_row *old,
                          bool *has_old, struct entry_row *parent, size_t *parent_len)
{
    struct slice name;
    bool dominated = false;
    *has_old = false;
    *out = DOCS_REFUSED;
    if (!namespace_id_equal(&e->namespace, &kv->config.namespace) || e->key.len > ENTRY_KEY_MAX ||
        !record_is_consistent(&e->record))
        return HKV_OK;
    *out = DOCS_FUTURE;
    if (e->record.stamp_us > kv->now_us + KV_FUTURE_US) return HKV_OK;
    TRY(entries_id(&kv->id, &e->author, e->key));
    TRY(entries_find(&kv->db, buf_slice(&kv->id), old, has_old));
    int order = *has_old ? record_compare(&e->record, &old->record) : 1;
    *out = order == 0 ? DOCS_PRESENT : DOCS_OLDER;
    if (order <= 0) return HKV_OK;
    /* Native keys are no prefixes of each other; only a foreign one can lie above a key. */
    if (kv->counters.foreign > 0 || kv_key_classify(e->key, &name) == KV_KEY_FOREIGN)
        TRY(find_dominating(kv, e, parent, parent_len, &dominated));
    if (dominated)
        *out = DOCS_DOMINATED;
    else
        *out = has_room(kv, &e->record) ? DOCS_INSERTED : DOCS_REFUSED;
    return HKV_OK;
}

static enum hkv_err replica_would_insert(struct docs_replica *r, const struct entry *e, enum docs_insert *out)
{
    struct entry_row old, parent;
    bool has_old;
    size_t parent_len;
    return judge(kv_of(r), e, out, &old, &has_old, &parent, &parent_len);
}

static enum hkv_err resolve_value(struct kv_op *op, const struct entry *e, const struct docs_origin *origin)
{
    struct kv *kv = op->kv;
    bool found;
    TRY(values_find(&kv->db, &e->record.hash, &op->value, &found));
    if (found) return op->value.state == VALUE_PRESENT ? HKV_OK : kv_wanted_hint(op, &e->record, origin);
    bool wanted = e->record.length_bytes <= kv->config.max_value_bytes;
    op->step = KV_VALUE_ADD;
    op->value = (struct value_row){
        .id = atomic_fetch_add(&kv->next_value, 1),
        .hash = e->record.hash,
        .length = e->record.length_bytes,
        .state = wanted ? VALUE_MISSING : VALUE_TOO_LARGE,
    };
    op->body.next_try_us = kv->steady_us;
    op->body.since_us = kv->now_us;
    if (origin && origin->provides_content) op->body.providers = slice_of(origin->peer.bytes, ID_BYTES);
    return HKV_OK;
}

static enum hkv_err forget_refused(struct kv *kv, struct slice id)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, SQL_REFUSED_REMOVE, &s));
    db_bind_slice(s, 1, id);
    TRY(db_run(&kv->db, s));
    kv->counters.refused--;
    return HKV_OK;
}

static enum hkv_err peer_is_full(struct kv *kv, const struct endpoint_id *peer, bool *full)
{
    sqlite3_stmt *s;
    bool found;
    TRY(db_statement(&kv->db, SQL_REFUSED_COUNT_PEER, &s));
    db_bind_id(s, 1, peer->bytes);
    db_bind_u64(s, 2, KV_REFUSED_OF_PEER_MAX);
    enum hkv_err err = db_row(&kv->db, s, &found);
    if (err == HKV_OK) *full = found && db_column_u64(s, 0) >= KV_REFUSED_OF_PEER_MAX;
    sqlite3_reset(s);
    return err;
}

/* Of the peer's entries, or of all, the one that is due last. */
static enum hkv_err last_refused(struct kv *kv, const struct endpoint_id *peer, struct buf *id, uint64_t *due_us,
                                 bool *found)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, peer ? SQL_REFUSED_LAST_OF_PEER : SQL_REFUSED_LAST, &s));
    if (peer) db_bind_id(s, 1, peer->bytes);
    TRY(db_row(&kv->db, s, found));
    if (!*found) return HKV_OK;
    *due_us = db_column_u64(s, 1);
    enum hkv_err err = buf_assign(id, db_column_slice(s, 0));
    sqlite3_reset(s);
    return err;
}

/* Whether an entry of the peer that is due then may be kept. Where there is no room, what is due last gives way, the
 * peer's own first: a peer that floods us drives out its own entries, and of all others at most one. */
static enum hkv_err make_room(struct kv *kv, const struct endpoint_id *peer, uint64_t due_us, bool *room)
{
    bool peer_full, found = false;
    uint64_t last_due_us = 0;
    struct buf last = {0};
    bool full = kv->counters.refused >= KV_REFUSED_MAX;
    TRY(peer_is_full(kv, peer, &peer_full));
    *room = !full && !peer_full;
    if (*room) return HKV_OK;
    enum hkv_err err = last_refused(kv, peer, &last, &last_due_us, &found);
    if (err == HKV_OK && !found) err = last_refused(kv, NULL, &last, &last_due_us, &found);
    *room = err == HKV_OK && found && last_due_us > due_us;
    if (*room) err = forget_refused(kv, buf_slice(&last));
    buf_fini(&last);
    return err;
}

static enum hkv_err remember_refused(struct kv *kv, const struct entry *e, const struct docs_origin *origin)
{
    sqlite3_stmt *s;
    bool found, room = true;
    struct buf encoded = {0};
    if (e->key.len > KV_REFUSED_KEY_MAX || e->record.stamp_us > INT64_MAX) return HKV_OK;
    TRY(entries_id(&kv->id, &e->author, e->key));
    TRY(db_statement(&kv->db, SQL_REFUSED_FIND, &s));
    db_bind_slice(s, 1, buf_slice(&kv->id));
    TRY(db_row(&kv->db, s, &found));
    uint64_t due_us = e->record.stamp_us - KV_FUTURE_US;
    bool known = found && db_column_u64(s, 0) >= due_us;
    sqlite3_reset(s);
    if (known) return HKV_OK;
    if (!found) TRY(make_room(kv, &origin->peer, due_us, &room));
    if (!room) return HKV_OK;
    enum hkv_err err = entry_encode(e, &encoded);
    if (err == HKV_OK) err = db_statement(&kv->db, SQL_REFUSED_PUT, &s);
    if (err == HKV_OK) {
        db_bind_slice(s, 1, buf_slice(&kv->id));
        db_bind_u64(s, 2, due_us);
        db_bind_id(s, 3, origin->peer.bytes);
        sqlite3_bind_int(s, 4, origin->provides_content);
        db_bind_slice(s, 5, buf_slice(&encoded));
        err = db_run(&kv->db, s);
    }
    if (err == HKV_OK && !found) kv->counters.refused++;
    buf_fini(&encoded);
    return err;
}

static enum hkv_err store_received(struct kv *kv, const struct entry *e, const struct docs_origin *origin,
                                   const struct entry_row *old)
{
    struct kv_op op = {.kv = kv, .cause = {.has_peer = true, .peer = origin->peer}};
    kv_budget_take(kv, 0);
    enum hkv_err err = resolve_value(&op, e, origin);
    if (err == HKV_OK) err = kv_op_store(&op, e, old);
    kv_op_fini(&op);
    return err;
}

static enum hkv_err replica_insert(struct docs_replica *r, const struct entry *e, const struct docs_origin *origin,
                                   enum docs_insert *out, struct entry *parent, struct buf *parent_key)
{
    struct kv *kv = kv_of(r);
    struct entry_row old, above;
    bool has_old;
    size_t above_len;
    assert(kv_in_transaction(kv));
    TRY(judge(kv, e, out, &old, &has_old, &above, &above_len));
    if (*out == DOCS_FUTURE) return remember_refused(kv, e, origin);
    if (*out == DOCS_DOMINATED && parent) {
        size_t start = parent_key->len;
        TRY(buf_append_slice(parent_key, slice_part(e->key, 0, above_len)));
        entry_of_row(kv, &above, parent);
        parent->author = e->author;
        parent->key = slice_part(buf_slice(parent_key), start, above_len);
    }
    if (*out != DOCS_INSERTED) return HKV_OK;
    return store_received(kv, e, origin, has_old ? &old : NULL);
}

static const struct docs_replica_ops replica_ops = {
    .namespace = replica_namespace,
    .summarize = replica_summarize,
    .select = replica_select,
    .scan = replica_scan,
    .would_insert = replica_would_insert,
    .insert = replica_insert,
    .has_content = replica_has_content,
};

void kv_docs_init(struct kv *kv)
{
    kv->docs.ops = &replica_ops;
}

/* -------------------------------------------------------------------------------------- entries that came too early */

/* Reads the refused entry that is due first; its bytes go to `encoded` (none: the row is damaged), its id to kv->id. */
static enum hkv_err first_refused(struct kv *kv, struct buf *encoded, struct docs_origin *origin, uint64_t *due_us,
                                  bool *found)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, SQL_REFUSED_NEXT, &s));
    TRY(db_row(&kv->db, s, found));
    if (!*found) return HKV_OK;
    *due_us = db_column_u64(s, 1);
    origin->provides_content = sqlite3_column_int(s, 3) != 0;
    struct slice peer = db_column_slice(s, 2);
    bool sound = peer.len == ID_BYTES;
    if (sound) memcpy(origin->peer.bytes, peer.data, ID_BYTES);
    enum hkv_err err = buf_assign(encoded, sound ? db_column_slice(s, 4) : (struct slice){0});
    if (err == HKV_OK) err = buf_assign(&kv->id, db_column_slice(s, 0));
    sqlite3_reset(s);
    return err;
}

static enum hkv_err retry_refused(struct kv *kv, struct slice encoded, const struct docs_origin *origin, bool *inserted)
{
    struct postcard_reader reader = postcard_reader_of(encoded);
    struct entry e;
    enum docs_insert result;
    TRY(forget_refused(kv, buf_slice(&kv->id)));
    if (entry_decode(&reader, &e) != HKV_OK) {
        log_warn("kv", "%s: an entry that was to be stored when due is damaged and dropped; peers send it again",
                 kv->db_path);
        return HKV_OK;
    }
    TRY(replica_insert(&kv->docs, &e, origin, &result, NULL, NULL));
    *inserted = result == DOCS_INSERTED;
    return HKV_OK;
}

enum hkv_err kv_refused_retry(struct kv *kv, size_t max, size_t *inserted, uint64_t *next_due_us)
{
    struct buf encoded = {0};
    enum hkv_err err = HKV_OK;
    *inserted = 0;
    *next_due_us = 0;
    for (size_t done = 0; err == HKV_OK; done++) {
        struct docs_origin origin;
        bool found, stored = false;
        uint64_t due_us;
        err = first_refused(kv, &encoded, &origin, &due_us, &found);
        if (err != HKV_OK || !found) break;
        *next_due_us = due_us;
        if (due_us > kv->now_us || done == max) break;
        *next_due_us = 0;
        err = retry_refused(kv, buf_slice(&encoded), &origin, &stored);
        if (stored) ++*inserted;
    }
    buf_fini(&encoded);
    return err;
}

static enum hkv_err read_refused(struct db *db, sqlite3_stmt *s, struct kv_refused *out)
{
    *out = (struct kv_refused){
        .count = db_column_u64(s, 2),
        .first_stamp_us = db_column_u64(s, 3) + KV_FUTURE_US,
        .last_stamp_us = db_column_u64(s, 4) + KV_FUTURE_US,
    };
    TRY(db_column_id(db, s, 0, out->peer.bytes));
    return db_column_id(db, s, 1, out->author.bytes);
}

enum hkv_err kv_refused_list(struct kv *kv, size_t max, bool (*visit)(void *arg, const struct kv_refused *of),
                             void *arg)
{
    struct kv_reader *reader;
    sqlite3_stmt *s = NULL;
    TRY(kv_reader_take(kv, &reader));
    enum hkv_err err = db_statement(&reader->db, SQL_REFUSED_LIST, &s);
    if (err == HKV_OK) db_bind_u64(s, 1, max);
    for (bool found, go_on = true; err == HKV_OK && go_on;) {
        struct kv_refused of;
        err = db_row(&reader->db, s, &found);
        if (err != HKV_OK || !found) break;
        err = read_refused(&reader->db, s, &of);
        if (err == HKV_OK) go_on = visit(arg, &of);
    }
    sqlite3_reset(s);
    kv_reader_give(kv, reader);
    return err;
}
