#include "docs/reconcile.h"

#include <assert.h>
#include <stdlib.h>

struct docs_config docs_config_default(uint64_t seed)
{
    return (struct docs_config){
        .split_ways = DOCS_SPLIT_WAYS,
        .split_values = DOCS_SPLIT_VALUES,
        .frame = {.parts = DOCS_SEND_PARTS_MAX, .values = DOCS_SEND_VALUES_MAX, .bytes = DOCS_SEND_BYTES_MAX},
        .received_max = DOCS_RECEIVED_SET_MAX,
        .seed = seed,
    };
}

void docs_config_set_encoding(struct docs_config *config, enum docs_encoding encoding)
{
    bool is_compact = encoding == DOCS_ENCODING_COMPACT;
    config->encoding = encoding;
    config->split_ways = is_compact ? DOCS_COMPACT_SPLIT_WAYS : DOCS_SPLIT_WAYS;
    config->few_values = is_compact ? DOCS_COMPACT_FEW_VALUES : 0;
    config->late_values = is_compact;
    config->frame.parts = is_compact ? DOCS_COMPACT_SEND_PARTS_MAX : DOCS_SEND_PARTS_MAX;
}

void docs_reconcile_init(struct docs_reconcile *rec, const struct docs_config *config, const struct endpoint_id *peer)
{
    assert(config->split_ways >= 2 && config->split_ways <= DOCS_SPLIT_WAYS_MAX);
    assert(config->split_values >= 1 && config->split_values <= DOCS_SPLIT_VALUES_MAX);
    assert(config->frame.parts >= config->split_ways + 3 && config->frame.values >= 1 && config->frame.bytes >= 1);
    assert(config->received_max >= config->split_values && config->received_max >= config->few_values);
    *rec = (struct docs_reconcile){.config = *config, .origin = {.peer = *peer}};
    docs_reply_init(&rec->reply, &config->frame, config->seed);
    rec->reply.encoding = config->encoding;
    docs_set_init(&rec->received, config->seed);
    docs_set_init(&rec->own, config->seed);
}

void docs_reconcile_set_encoding(struct docs_reconcile *rec, enum docs_encoding encoding)
{
    assert(!rec->had_frame && rec->reply.part_count == 0);
    docs_config_set_encoding(&rec->config, encoding);
    rec->reply.encoding = encoding;
}

void docs_reconcile_fini(struct docs_reconcile *rec)
{
    docs_reply_fini(&rec->reply);
    docs_set_fini(&rec->received);
    docs_set_fini(&rec->own);
    free(rec->heads.items);
    free(rec->asked);
    buf_fini(&rec->asked_bytes);
    buf_fini(&rec->walk.last_id);
    for (size_t i = 0; i < DOCS_HEALERS_MAX; i++) buf_fini(&rec->healers[i].key);
    *rec = (struct docs_reconcile){0};
}

enum hkv_err docs_range_summarize(struct docs_replica *replica, struct docs_range range, struct docs_summary *out)
{
    struct docs_pieces pieces;
    docs_range_pieces(range, replica->ops->namespace(replica), &pieces);
    *out = (struct docs_summary){0};
    for (size_t i = 0; i < pieces.count; i++) {
        struct docs_summary piece;
        TRY(replica->ops->summarize(replica, pieces.items[i], &piece));
        out->count += piece.count;
        fingerprint_xor(&out->xored, &piece.xored);
    }
    return HKV_OK;
}

void docs_summary_fingerprint(const struct docs_summary *sum, struct fingerprint *out)
{
    for (int i = 0; i < ID_BYTES; i++) out->bytes[i] = sum->xored.bytes[i] ^ hash_empty.bytes[i];
}

static void spend(struct docs_reconcile *rec, uint32_t units)
{
    rec->units = rec->units > units ? rec->units - units : 0;
}

/* --- Storing values --- */

static enum hkv_err note_head(struct docs_heads *heads, const struct entry *e)
{
    size_t low = 0, high = heads->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = ID_COMPARE(&heads->items[middle].author, &e->author);
        if (order == 0) {
            struct docs_head *head = &heads->items[middle];
            if (e->record.stamp_us > head->stamp_us) head->stamp_us = e->record.stamp_us;
            return HKV_OK;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (heads->count == DOCS_HEADS_MAX) return HKV_OK;
    if (heads->items == NULL) heads->items = calloc(DOCS_HEADS_MAX, sizeof *heads->items);
    if (heads->items == NULL) return error_set(HKV_E_NOMEM, "no memory for the heads of a session");
    memmove(&heads->items[low + 1], &heads->items[low], (heads->count - low) * sizeof *heads->items);
    heads->items[low] = (struct docs_head){e->author, e->record.stamp_us};
    heads->count++;
    return HKV_OK;
}

static enum hkv_err note_healer(struct docs_reconcile *rec, const struct entry *parent)
{
    struct fingerprint fp;
    entry_fingerprint(parent, &fp);
    for (size_t i = 0; i < rec->healer_count; i++) {
        if (fingerprint_equal(&rec->healers[i].fingerprint, &fp)) return HKV_OK;
    }
    if (rec->healer_count == DOCS_HEALERS_MAX) return HKV_OK;
    struct docs_healer *healer = &rec->healers[rec->healer_count];
    TRY(buf_assign(&healer->key, parent->key));
    healer->entry = *parent;
    healer->entry.key = buf_slice(&healer->key);
    healer->fingerprint = fp;
    rec->healer_count++;
    return HKV_OK;
}

/* Remembers that the peer has this value, which is ours now too. */
static enum hkv_err note_received(struct docs_reconcile *rec, const struct docs_part *part,
                                  const struct docs_value *value)
{
    if (rec->received_is_cut || !docs_range_has(part->range, &value->entry)) return HKV_OK;
    if (rec->received.count == rec->config.received_max) {
        rec->received_is_cut = true;
        docs_set_clear(&rec->received);
        return HKV_OK;
    }
    bool added;
    TRY(docs_set_add(&rec->received, &value->fingerprint, &added));
    if (!added) return HKV_OK;
    rec->received_sum.count++;
    fingerprint_xor(&rec->received_sum.xored, &value->fingerprint);
    return HKV_OK;
}

static enum hkv_err insert_value(struct docs_reconcile *rec, struct docs_replica *replica, struct docs_batch *batch,
                                 const struct docs_part *part, const struct docs_value *value)
{
    enum docs_insert result;
    struct entry parent;
    struct buf parent_key = {0};
    rec->origin.provides_content = value->provides_content;
    enum hkv_err err = replica->ops->insert(replica, &value->entry, &rec->origin, &result, &parent, &parent_key);
    if (err != HKV_OK) goto out;
    switch (result) {
    case DOCS_INSERTED:
        rec->inserted_count++;
        rec->frame_inserted++;
        batch->answer.inserted++;
        err = note_head(&rec->heads, &value->entry);
        if (err == HKV_OK) err = note_received(rec, part, value);
        break;
    case DOCS_PRESENT:
        err = note_received(rec, part, value);
        break;
    case DOCS_DOMINATED:
        err = note_healer(rec, &parent);
        break;
    case DOCS_FUTURE:
        rec->future_count++;
        batch->answer.future++;
        batch->answer.refused++;
        break;
    case DOCS_REFUSED:
        rec->over_limit_count++;
        batch->answer.refused++;
        break;
    case DOCS_OLDER:
        break;
    }
out:
    buf_fini(&parent_key);
    return err;
}

/* What no honest peer with a sane clock sends by the hundred. */
static enum hkv_err check_offences(const struct docs_reconcile *rec)
{
    if (rec->bad_count >= DOCS_BAD_VALUES_MAX)
        return error_set(HKV_E_PEER_PROTOCOL, "the peer sent %d entries with wrong signatures", DOCS_BAD_VALUES_MAX);
    if (rec->future_count >= DOCS_FUTURE_MAX)
        return error_set(HKV_E_CLOCK,
                         "%d entries of the peer are from the future: its clock is ahead or ours is behind; compare "
                         "both with a time server",
                         DOCS_FUTURE_MAX);
    return HKV_OK;
}

static enum hkv_err take_value(struct docs_reconcile *rec, struct docs_replica *replica, struct docs_batch *batch,
                               const struct docs_part *part, const struct docs_value *value)
{
    rec->received_count++;
    switch (value->state) {
    case DOCS_VALUE_NEW:
        if (value->entry.record.stamp_us > batch->answer.newest_stamp_us)
            batch->answer.newest_stamp_us = value->entry.record.stamp_us;
        spend(rec, DOCS_UNITS_INSERT);
        return insert_value(rec, replica, batch, part, value);
    case DOCS_VALUE_KNOWN:
        return note_received(rec, part, value);
    case DOCS_VALUE_BAD:
        rec->bad_count++;
        batch->answer.refused++;
        return HKV_OK;
    case DOCS_VALUE_MALFORMED:
        batch->answer.refused++;
        return HKV_OK;
    }
    return HKV_OK;
}

/* --- Sending our entries of a range --- */

struct walking {
    struct docs_reconcile *rec;
    bool is_full;     /* the frame has no room for the entry at `next` */
    struct buf *next; /* its id */
    enum hkv_err err;
};

static bool walk_entry(void *arg, const struct entry *e, bool has_content)
{
    struct walking *w = arg;
    struct docs_reconcile *rec = w->rec;
    struct fingerprint fp;
    bool is_wanted = true;
    if (rec->walk.skip_received || rec->own.count > 0) {
        entry_fingerprint(e, &fp);
        is_wanted = rec->walk.skip_received ? !docs_set_has(&rec->received, &fp)
                                            : !docs_set_has(&rec->own, &fp) || !docs_set_has(&rec->reply.given, &fp);
    }
    if (is_wanted && !docs_reply_has_room(&rec->reply, 1, 1)) {
        w->is_full = true;
        w->err = entry_id_append(e, w->next);
        return false;
    }
    if (is_wanted) w->err = docs_reply_value(&rec->reply, e, has_content);
    buf_clear(&rec->walk.last_id);
    if (w->err == HKV_OK) w->err = entry_id_append(e, &rec->walk.last_id);
    spend(rec, DOCS_UNITS_SCAN);
    return w->err == HKV_OK && rec->units > 0;
}

static void walk_start(struct docs_walk *walk, struct docs_range range, enum docs_rest_slot slot)
{
    walk->is_active = true;
    walk->range = range;
    walk->slot = slot;
    walk->piece = 0;
    buf_clear(&walk->last_id);
}

/* The frame is full before the entry `next`: what was walked becomes an item of its own, the rest is put off. */
static enum hkv_err cut_walk(struct docs_reconcile *rec, struct slice next)
{
    struct docs_range done = rec->walk.range, rest = rec->walk.range;
    struct slice last = buf_slice(&rec->walk.last_id);
    if (rec->reply.item_value_count == 0) return docs_reply_put_off(&rec->reply, rec->walk.slot, rest);
    /* At the namespace's end the walk went on from its start: there `next` is below `last`. */
    size_t bound = slice_compare(last, next) < 0 ? docs_separator_bytes(last, next) : ENTRY_ID_MIN;
    done.y = rest.x = slice_part(next, 0, bound);
    TRY(docs_reply_item(&rec->reply, done, rec->walk.chunk_have_local));
    return docs_reply_put_off(&rec->reply, rec->walk.slot, rest);
}

/* Goes on with the walk. */
static enum hkv_err walk_on(struct docs_reconcile *rec, struct docs_replica *replica)
{
    struct docs_pieces pieces;
    struct docs_walk *walk = &rec->walk;
    struct buf next = {0}, from = {0};
    struct walking w = {.rec = rec, .next = &next};
    enum hkv_err err = HKV_OK;
    docs_range_pieces(walk->range, replica->ops->namespace(replica), &pieces);
    while (walk->piece < pieces.count) {
        struct docs_piece piece = pieces.items[walk->piece];
        if (walk->last_id.len > 0 && slice_compare(buf_slice(&walk->last_id), piece.from) >= 0 &&
            (piece.to.len == 0 || slice_compare(buf_slice(&walk->last_id), piece.to) < 0)) {
            buf_clear(&from);
            err = buf_append_slice(&from, buf_slice(&walk->last_id));
            if (err == HKV_OK) err = buf_append_byte(&from, 0);
            if (err != HKV_OK) goto out;
            piece.from = buf_slice(&from);
        }
        if (piece.to.len == 0 || slice_compare(piece.from, piece.to) < 0) {
            err = replica->ops->scan(replica, piece, walk_entry, &w);
            if (err == HKV_OK) err = w.err;
            if (err != HKV_OK) goto out;
        }
        if (w.is_full) {
            err = cut_walk(rec, buf_slice(&next));
            walk->is_active = false;
            goto out;
        }
        if (rec->units == 0) goto out;
        walk->piece++;
    }
    walk->is_active = false;
    if (rec->reply.item_value_count > 0 || !walk->end_have_local)
        err = docs_reply_item(&rec->reply, walk->range, walk->end_have_local);
out:
    buf_fini(&next);
    buf_fini(&from);
    return err;
}

/* --- Items --- */

static void begin_item(struct docs_reconcile *rec)
{
    docs_set_clear(&rec->received);
    rec->received_sum = (struct docs_summary){0};
    rec->received_is_cut = false;
}

/* The peer has sent all it has in the range and asked for ours (D' of docs.md 4.9). */
static enum hkv_err start_item_answer(struct docs_reconcile *rec, struct docs_replica *replica,
                                      const struct docs_part *part)
{
    struct docs_summary ours;
    spend(rec, DOCS_UNITS_QUERY);
    TRY(docs_range_summarize(replica, part->range, &ours));
    bool is_same = !rec->received_is_cut && ours.count == rec->received_sum.count &&
                   fingerprint_equal(&ours.xored, &rec->received_sum.xored);
    if (ours.count == 0 || is_same) return HKV_OK;
    bool is_putting_off = rec->reply.rests[DOCS_REST_ITEMS].is_set || rec->received_is_cut;
    if (is_putting_off || !docs_reply_has_room(&rec->reply, 1, 1))
        return docs_reply_put_off(&rec->reply, DOCS_REST_ITEMS, part->range);
    walk_start(&rec->walk, part->range, DOCS_REST_ITEMS);
    rec->walk.skip_received = rec->walk.chunk_have_local = rec->walk.end_have_local = true;
    rec->phase = DOCS_PHASE_ITEM_ANSWER;
    return HKV_OK;
}

static enum hkv_err keep_asked(struct docs_reconcile *rec, const struct docs_part *part)
{
    if (rec->asked_count == rec->asked_cap) {
        size_t cap = rec->asked_cap == 0 ? 16 : 2 * rec->asked_cap;
        struct docs_asked *asked = realloc(rec->asked, cap * sizeof *asked);
        if (asked == NULL) return error_set(HKV_E_NOMEM, "no memory for the fingerprints of a message");
        rec->asked = asked;
        rec->asked_cap = cap;
    }
    struct docs_asked *asked = &rec->asked[rec->asked_count];
    *asked = (struct docs_asked){.x_at = rec->asked_bytes.len,
                                 .x_len = part->range.x.len,
                                 .y_at = rec->asked_bytes.len + part->range.x.len,
                                 .y_len = part->range.y.len,
                                 .fingerprint = part->fingerprint};
    TRY(buf_append_slice(&rec->asked_bytes, part->range.x));
    TRY(buf_append_slice(&rec->asked_bytes, part->range.y));
    rec->asked_count++;
    return HKV_OK;
}

/* Takes the batch's parts in order until there is an answer to walk for, the step's time is over, or the batch ends. */
static enum hkv_err take_parts(struct docs_reconcile *rec, struct docs_replica *replica, struct docs_batch *batch)
{
    while (rec->part_at < batch->part_count && rec->units > 0) {
        const struct docs_part *part = &batch->parts[rec->part_at];
        if (part->kind == DOCS_PART_FINGERPRINT) {
            TRY(keep_asked(rec, part));
            rec->part_at++;
            continue;
        }
        if (part->begins && rec->value_at == 0) begin_item(rec);
        while (rec->value_at < part->count && rec->units > 0) {
            TRY(take_value(rec, replica, batch, part, &batch->values[part->first + rec->value_at]));
            enum hkv_err err = check_offences(rec);
            batch->answer.is_offence = err != HKV_OK;
            TRY(err);
            rec->value_at++;
        }
        if (rec->value_at < part->count) return HKV_OK;
        rec->value_at = 0;
        rec->part_at++;
        if (part->ends && !part->have_local) {
            TRY(start_item_answer(rec, replica, part));
            if (rec->phase != DOCS_PHASE_PARTS) return HKV_OK;
        }
    }
    if (rec->part_at == batch->part_count) rec->phase = DOCS_PHASE_FINGERPRINTS;
    return HKV_OK;
}

/* --- Fingerprints --- */

struct own_scan {
    struct docs_reconcile *rec;
    bool is_taking; /* puts what is seen into `own`, else looks for it there */
    bool has_other;
    enum hkv_err err;
};

static bool own_entry(void *arg, const struct entry *e, bool has_content)
{
    struct own_scan *scan = arg;
    struct fingerprint fp;
    bool added;
    (void)has_content;
    entry_fingerprint(e, &fp);
    if (scan->is_taking)
        scan->err = docs_set_add(&scan->rec->own, &fp, &added);
    else
        scan->has_other = !docs_set_has(&scan->rec->own, &fp);
    return scan->err == HKV_OK && !scan->has_other;
}

/* Whether all that we hold in a range was ours when the session began; for ranges of no more than that. */
static enum hkv_err holds_only_own(struct docs_reconcile *rec, struct docs_replica *replica, struct docs_range range,
                                   bool *only)
{
    struct docs_pieces pieces;
    struct own_scan scan = {.rec = rec};
    docs_range_pieces(range, replica->ops->namespace(replica), &pieces);
    for (size_t i = 0; i < pieces.count && !scan.has_other; i++)
        TRY(replica->ops->scan(replica, pieces.items[i], own_entry, &scan));
    *only = !scan.has_other;
    return HKV_OK;
}

static enum hkv_err answer_fingerprint(struct docs_reconcile *rec, struct docs_replica *replica,
                                       struct docs_batch *batch, const struct docs_asked *asked)
{
    struct docs_range range = {slice_of(rec->asked_bytes.data + asked->x_at, asked->x_len),
                               slice_of(rec->asked_bytes.data + asked->y_at, asked->y_len)};
    struct docs_summary ours;
    struct fingerprint fp;
    spend(rec, DOCS_UNITS_QUERY);
    TRY(docs_range_summarize(replica, range, &ours));
    docs_summary_fingerprint(&ours, &fp);
    if (fingerprint_equal(&fp, &asked->fingerprint)) {
        batch->answer.is_equal = !rec->had_frame && rec->asked_count == 1 && docs_range_is_all(range);
        return HKV_OK;
    }
    const struct docs_config *config = &rec->config;
    bool has_nothing = memcmp(asked->fingerprint.bytes, hash_empty.bytes, ID_BYTES) == 0;
    bool is_push = ours.count <= config->split_values || has_nothing;
    if (!is_push && ours.count <= rec->own.count) TRY(holds_only_own(rec, replica, range, &is_push));
    uint32_t parts = is_push ? 1 : config->split_ways, values = is_push ? ours.count > 0 : 0;
    if (rec->reply.rests[DOCS_REST_FINGERPRINTS].is_set || !docs_reply_has_room(&rec->reply, parts, values))
        return docs_reply_put_off(&rec->reply, DOCS_REST_FINGERPRINTS, range);
    if (is_push) {
        walk_start(&rec->walk, range, DOCS_REST_FINGERPRINTS);
        rec->walk.skip_received = rec->walk.end_have_local = false;
        rec->walk.chunk_have_local = has_nothing;
        return HKV_OK;
    }
    spend(rec, 3 * config->split_ways * DOCS_UNITS_QUERY);
    return docs_reply_split(&rec->reply, config, replica, range, ours.count);
}

static enum hkv_err answer_fingerprints(struct docs_reconcile *rec, struct docs_replica *replica,
                                        struct docs_batch *batch)
{
    while (rec->units > 0) {
        if (rec->walk.is_active) {
            TRY(walk_on(rec, replica));
            continue;
        }
        if (rec->asked_at == rec->asked_count || batch->answered_early) {
            rec->phase = DOCS_PHASE_CLOSE;
            return HKV_OK;
        }
        TRY(answer_fingerprint(rec, replica, batch, &rec->asked[rec->asked_at++]));
    }
    return HKV_OK;
}

/* --- The end of a frame --- */

/* Whether there is room or not: a peer that doesn't hear of the parent sends the children again and again. */
static enum hkv_err reply_healers(struct docs_reconcile *rec, struct docs_replica *replica)
{
    for (size_t i = 0; i < rec->healer_count; i++) {
        struct docs_healer *healer = &rec->healers[i];
        if (docs_set_has(&rec->reply.sent, &healer->fingerprint)) continue;
        bool has_content;
        struct buf x = {0};
        TRY(replica->ops->has_content(replica, &healer->entry.record.hash, &has_content));
        TRY(docs_reply_value(&rec->reply, &healer->entry, has_content));
        enum hkv_err err = entry_id_append(&healer->entry, &x);
        if (err == HKV_OK) err = buf_append_byte(&x, 0);
        struct docs_range just_it = {slice_part(buf_slice(&x), 0, x.len - 1), buf_slice(&x)};
        if (err == HKV_OK) err = docs_reply_item(&rec->reply, just_it, true);
        buf_fini(&x);
        if (err != HKV_OK) return err;
    }
    rec->healer_count = 0;
    return HKV_OK;
}

static enum hkv_err reply_rests(struct docs_reconcile *rec, struct docs_replica *replica)
{
    for (size_t i = 0; i < 2; i++) {
        struct docs_rest *rest = &rec->reply.rests[i];
        if (!rest->is_set) continue;
        struct docs_range range = {buf_slice(&rest->x), buf_slice(&rest->y)};
        struct docs_summary sum;
        struct fingerprint fp;
        TRY(docs_range_summarize(replica, range, &sum));
        docs_summary_fingerprint(&sum, &fp);
        TRY(docs_reply_fingerprint(&rec->reply, range, &fp));
        rest->is_set = false;
    }
    return HKV_OK;
}

static uint64_t log2_of(uint64_t n)
{
    uint64_t bits = 0;
    while (n >>= 1) bits++;
    return bits;
}

/* A peer that never comes to an end, or sends and asks for the same again and again (docs.md 10, H21). */
static enum hkv_err check_limits(struct docs_reconcile *rec, struct docs_replica *replica)
{
    if (rec->over_limit_count > DOCS_REPEATED_VALUES_MAX)
        return error_set(HKV_E_LIMIT,
                         "this node has refused %llu entries in one sync: a limit or its disk budget is reached",
                         (unsigned long long)rec->over_limit_count);
    /* Of this frame they don't count yet: our reply may tell the peer why they were in vain. */
    uint64_t in_vain = rec->vain_count;
    rec->vain_count = rec->received_count - rec->inserted_count;
    if (rec->idle_frames <= DOCS_IDLE_FRAMES_MAX && in_vain <= DOCS_REPEATED_VALUES_MAX &&
        rec->sent_count <= DOCS_REPEATED_VALUES_MAX)
        return HKV_OK;
    struct docs_summary all;
    TRY(replica->ops->summarize(replica, (struct docs_piece){0}, &all));
    if (rec->idle_frames > DOCS_IDLE_FRAMES_MAX + 4 * log2_of(all.count + 1))
        return error_set(HKV_E_PEER_PROTOCOL, "%llu messages of the peer in a row brought nothing new",
                         (unsigned long long)rec->idle_frames);
    if (in_vain > 2 * all.count + DOCS_REPEATED_VALUES_MAX)
        return error_set(HKV_E_PEER_PROTOCOL, "the peer sent %llu entries that were not wanted",
                         (unsigned long long)in_vain);
    if (rec->sent_count > 2 * all.count + DOCS_REPEATED_VALUES_MAX)
        return error_set(HKV_E_PEER_PROTOCOL, "the peer asked for %llu entries, more than twice what is here",
                         (unsigned long long)rec->sent_count);
    return HKV_OK;
}

static enum hkv_err close_frame(struct docs_reconcile *rec, struct docs_replica *replica, struct docs_batch *batch)
{
    struct docs_reply *reply = &rec->reply;
    struct docs_answer *answer = &batch->answer;
    TRY(reply_healers(rec, replica));
    if (!batch->answered_early) { /* else what is there waits for the next frame's reply */
        TRY(reply_rests(rec, replica));
        answer->parts = buf_take(&reply->parts);
        answer->part_count = reply->part_count;
        answer->sent = reply->value_count;
        if (reply->pull_count == 1) {
            answer->pull_x = buf_take(&reply->pull_x);
            answer->pull_y = buf_take(&reply->pull_y);
        }
        rec->sent_count += reply->value_count;
        docs_reply_clear(reply);
    }
    bool is_idle = rec->frame_inserted == 0 && answer->sent == 0;
    rec->idle_frames = is_idle ? rec->idle_frames + 1 : 0;
    rec->frame_inserted = 0;
    rec->asked_count = rec->asked_at = 0;
    buf_clear(&rec->asked_bytes);
    rec->had_frame = true;
    return check_limits(rec, replica);
}

/* --- The dialler's first message --- */

/* One fingerprint of everything; its bounds are our smallest id, or zeros (docs.md 4.5). */
static enum hkv_err open_session(struct docs_reconcile *rec, struct docs_replica *replica, struct docs_batch *batch)
{
    static const uint8_t zeros[ENTRY_ID_MIN];
    struct docs_summary all = {0};
    struct fingerprint fp;
    struct buf id = {0};
    struct slice x = slice_of(zeros, sizeof zeros);
    enum hkv_err err = replica->ops->summarize(replica, (struct docs_piece){0}, &all);
    if (err == HKV_OK && all.count > 0) {
        err = replica->ops->select(replica, (struct docs_piece){0}, 0, &id);
        x = buf_slice(&id);
    }
    docs_summary_fingerprint(&all, &fp);
    if (err == HKV_OK) err = docs_reply_fingerprint(&rec->reply, (struct docs_range){x, x}, &fp);
    if (err == HKV_OK) {
        batch->answer.parts = buf_take(&rec->reply.parts);
        batch->answer.part_count = rec->reply.part_count;
        docs_reply_clear(&rec->reply);
        rec->had_frame = true;
    }
    buf_fini(&id);
    return err;
}

/* --- The step --- */

/* Keeps in mind what we have, if that is few. */
static enum hkv_err begin_session(struct docs_reconcile *rec, struct docs_replica *replica)
{
    struct docs_summary all;
    struct own_scan scan = {.rec = rec, .is_taking = true};
    if (rec->has_begun || rec->config.few_values == 0) return HKV_OK;
    TRY(replica->ops->summarize(replica, (struct docs_piece){0}, &all));
    if (all.count <= rec->config.few_values) TRY(replica->ops->scan(replica, (struct docs_piece){0}, own_entry, &scan));
    rec->has_begun = true;
    return scan.err;
}

static enum hkv_err step(struct docs_reconcile *rec, struct docs_replica *replica, struct docs_batch *batch, bool *done)
{
    TRY(begin_session(rec, replica));
    if (batch->is_opening) {
        *done = true;
        return open_session(rec, replica, batch);
    }
    while (rec->units > 0 && !*done) {
        switch (rec->phase) {
        case DOCS_PHASE_PARTS:
            TRY(take_parts(rec, replica, batch));
            break;
        case DOCS_PHASE_ITEM_ANSWER:
            TRY(walk_on(rec, replica));
            if (!rec->walk.is_active) rec->phase = DOCS_PHASE_PARTS;
            break;
        case DOCS_PHASE_FINGERPRINTS:
            if (batch->ends_frame)
                TRY(answer_fingerprints(rec, replica, batch));
            else
                *done = true;
            break;
        case DOCS_PHASE_CLOSE:
            TRY(close_frame(rec, replica, batch));
            *done = true;
            break;
        }
    }
    return HKV_OK;
}

void docs_reconcile_step(struct docs_reconcile *rec, struct docs_replica *replica, struct docs_batch *batch, bool *done)
{
    *done = batch->answer.err != HKV_OK;
    if (*done) return;
    rec->units = DOCS_STEP_UNITS;
    rec->reply.front.namespace = *replica->ops->namespace(replica);
    enum hkv_err err = step(rec, replica, batch, done);
    if (err != HKV_OK) {
        batch->answer.err = err;
        error_save(&batch->answer.why);
        *done = true;
    }
    if (*done) {
        rec->phase = DOCS_PHASE_PARTS;
        rec->part_at = rec->value_at = 0;
        rec->walk.is_active = false;
    }
}
