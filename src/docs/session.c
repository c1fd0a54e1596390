#include "docs/session.h"

#include <assert.h>

static bool is_out(const struct docs_batch *b)
{
    return b->stage == DOCS_STAGE_AT_SCREEN || b->stage == DOCS_STAGE_AT_VERIFY || b->stage == DOCS_STAGE_AT_APPLY;
}

static void enqueue(struct docs_session *s, struct docs_batch *batch, enum docs_stage stage)
{
    batch->stage = stage;
    batch->next = NULL;
    if (s->tail == NULL)
        s->head = batch;
    else
        s->tail->next = batch;
    s->tail = batch;
    s->batch_count++;
}

static void drop_batches(struct docs_session *s)
{
    for (struct docs_batch *b = s->head, *next; b != NULL; b = next) {
        next = b->next;
        if (is_out(b))
            b->stage = DOCS_STAGE_DROPPED;
        else
            docs_batch_free(b);
    }
    s->head = s->tail = NULL;
    s->batch_count = 0;
}

enum hkv_err docs_session_init(struct docs_session *s, enum docs_role role, const struct namespace_id *namespace)
{
    *s = (struct docs_session){.role = role, .state = role == DOCS_DIALLER ? DOCS_OPENING : DOCS_WAIT_INIT};
    docs_decoder_init(&s->decoder);
    if (role == DOCS_ACCEPTOR) return HKV_OK;
    struct docs_batch *opening = docs_batch_new();
    if (opening == NULL) return error_set(HKV_E_NOMEM, "no memory for a sync session");
    s->namespace = s->decoder.namespace = *namespace;
    opening->is_opening = true;
    enqueue(s, opening, DOCS_STAGE_READY);
    return HKV_OK;
}

void docs_session_set_encoding(struct docs_session *s, enum docs_encoding encoding)
{
    assert(s->state == DOCS_OPENING || s->state == DOCS_WAIT_INIT);
    assert(!docs_session_is_busy(s) && docs_decoder_is_between_frames(&s->decoder));
    s->decoder.encoding = encoding;
}

void docs_session_greet(struct docs_session *s, uint64_t wall_us)
{
    if (s->decoder.encoding != DOCS_ENCODING_COMPACT || s->state == DOCS_CLOSING || s->state == DOCS_ENDED) return;
    enum hkv_err err = docs_write_greeting(&s->output, wall_us);
    if (err != HKV_OK) docs_session_fail(s, err);
}

void docs_session_fini(struct docs_session *s)
{
    assert(!docs_session_is_busy(s));
    drop_batches(s);
    docs_decoder_fini(&s->decoder);
    buf_fini(&s->output);
    buf_fini(&s->pull_x);
    buf_fini(&s->pull_y);
}

/* --- Ends --- */

static void end(struct docs_session *s)
{
    s->state = DOCS_ENDED;
    s->end_due = true;
    drop_batches(s);
    bool first_was_equal = s->role == DOCS_DIALLER ? s->outcome.frames_received == 0 : s->was_equal;
    s->outcome.is_confirmed = s->outcome.err == HKV_OK && first_was_equal;
}

void docs_session_fail(struct docs_session *s, enum hkv_err err)
{
    if (s->state == DOCS_ENDED || err == HKV_OK) return;
    if (!s->outcome.is_aborted) { /* an Abort says more than what follows it */
        s->outcome.err = err;
        error_save(&s->outcome.why);
    }
    s->finish_due = false;
    buf_clear(&s->output);
    end(s);
}

static void finish(struct docs_session *s)
{
    s->state = DOCS_CLOSING;
    s->finish_due = true;
}

static void aborted(struct docs_session *s, enum docs_abort_reason reason, const char *by)
{
    static const char *const reasons[DOCS_ABORT_REASONS] = {
        "does not sync this namespace", "is busy with another sync of this pair of nodes", "has an internal problem"};
    s->outcome.is_aborted = true;
    s->outcome.abort_reason = reason;
    s->outcome.err = error_set(HKV_E_PEER_REFUSED, "sync refused: %s %s", by, reasons[reason]);
    error_save(&s->outcome.why);
    s->is_draining = true;
    drop_batches(s);
    finish(s);
}

static void more_came(struct docs_session *s)
{
    docs_session_fail(s, error_set(HKV_E_PEER_PROTOCOL, "the peer sent more after the end of the session"));
}

/* All that the peer sent is worked off, and its FIN is here. */
static void stream_ended(struct docs_session *s)
{
    if (!s->is_draining && !docs_decoder_is_between_frames(&s->decoder)) {
        docs_session_fail(s, error_set(HKV_E_PEER_PROTOCOL, "the peer ended the stream inside a message"));
    } else if (s->state == DOCS_WAIT_INIT) {
        docs_session_fail(s, error_set(HKV_E_PEER_PROTOCOL, "the peer ended the stream before its first message"));
    } else if (s->state == DOCS_RECONCILE) {
        finish(s);
    } else if (s->state == DOCS_CLOSING) {
        end(s);
    }
}

/* --- Bytes in --- */

void docs_session_feed(struct docs_session *s, struct slice bytes)
{
    if (s->state == DOCS_ENDED || s->is_draining) {
        s->drained += bytes.len;
        return;
    }
    enum hkv_err err = docs_decoder_feed(&s->decoder, bytes);
    if (err != HKV_OK) docs_session_fail(s, err);
}

void docs_session_feed_end(struct docs_session *s)
{
    s->peer_ended = true;
}

size_t docs_session_consumed(struct docs_session *s)
{
    size_t consumed = docs_decoder_consumed(&s->decoder) + s->drained;
    if (s->state == DOCS_ENDED || s->is_draining) {
        consumed += s->decoder.in.len;
        buf_clear(&s->decoder.in);
    }
    s->drained = 0;
    return consumed;
}

/* Once, and before anything else. */
static void greeted(struct docs_session *s, uint64_t wall_us)
{
    if (s->is_greeted || s->outcome.frames_received > 0) {
        docs_session_fail(s, error_set(HKV_E_PEER_PROTOCOL, "a greeting that is not the peer's first message"));
        return;
    }
    s->is_greeted = s->greeting_due = true;
    s->greeting_wall_us = wall_us;
}

static void message_begins(struct docs_session *s, const struct docs_decoded *decoded)
{
    if (s->state == DOCS_CLOSING) { /* it stood behind the slack of the last one */
        more_came(s);
        return;
    }
    if (decoded->message == DOCS_MESSAGE_GREETING) {
        greeted(s, decoded->wall_us);
        return;
    }
    bool is_init = decoded->message == DOCS_MESSAGE_INIT;
    s->outcome.frames_received++;
    if (is_init != (s->state == DOCS_WAIT_INIT)) {
        docs_session_fail(s, error_set(HKV_E_PEER_PROTOCOL,
                                       is_init ? "the peer began a second time" : "the peer did not begin with Init"));
    } else if (is_init) {
        s->namespace = decoded->namespace;
        s->state = DOCS_WAIT_DECISION;
    } else if (decoded->message == DOCS_MESSAGE_ABORT) {
        if (s->role == DOCS_DIALLER)
            aborted(s, decoded->reason, "the peer");
        else
            docs_session_fail(s, error_set(HKV_E_PEER_PROTOCOL, "an Abort from the side that dialled"));
    }
}

/* The answer to a chunk's fingerprint of the rest, when it is known without the replica (see the header). */
static enum hkv_err pull_early(struct docs_session *s, struct docs_batch *batch)
{
    if (!batch->ends_frame || s->pull_y.len == 0 || s->peer_ended) return HKV_OK;
    if (batch->frame_fingerprints != 1 || batch->frame_pulls != 0 || batch->frame_values == 0) return HKV_OK;
    if (batch->part_count == 0) return HKV_OK;
    const struct docs_part *rest = &batch->parts[batch->part_count - 1];
    if (rest->kind != DOCS_PART_FINGERPRINT) return HKV_OK;
    struct docs_range pulled = {buf_slice(&s->pull_x), buf_slice(&s->pull_y)};
    if (docs_range_is_all(rest->range) || !docs_range_ends_with(pulled, rest->range)) return HKV_OK;
    if (memcmp(rest->fingerprint.bytes, hash_empty.bytes, ID_BYTES) == 0) return HKV_OK;
    struct buf part = {0};
    struct docs_front front = {.namespace = s->namespace};
    bool is_compact = s->decoder.encoding == DOCS_ENCODING_COMPACT;
    enum hkv_err err = docs_write_pull(&part, is_compact ? &front : NULL, rest->range);
    if (err == HKV_OK) err = docs_write_sync(&s->output, 1, buf_slice(&part));
    docs_front_fini(&front);
    buf_fini(&part);
    if (err != HKV_OK) return err;
    s->outcome.frames_sent++;
    batch->answered_early = true;
    return HKV_OK;
}

/* Decodes one more thing. Returns whether anything happened. */
static bool decode(struct docs_session *s)
{
    struct docs_decoded decoded;
    enum hkv_err err = docs_decoder_next(&s->decoder, &decoded);
    if (err != HKV_OK) {
        docs_session_fail(s, err);
        return true;
    }
    switch (decoded.kind) {
    case DOCS_DECODED_NOTHING:
        return false;
    case DOCS_DECODED_MESSAGE:
        message_begins(s, &decoded);
        return true;
    case DOCS_DECODED_BATCH:
        s->outcome.received += decoded.batch->value_count;
        enqueue(s, decoded.batch, decoded.batch->value_count == 0 ? DOCS_STAGE_READY : DOCS_STAGE_DECODED);
        err = pull_early(s, decoded.batch);
        if (err != HKV_OK) docs_session_fail(s, err);
        return true;
    }
    return false;
}

/* --- The owner's reports --- */

void docs_session_allow(struct docs_session *s)
{
    if (s->state == DOCS_WAIT_DECISION) s->state = DOCS_RECONCILE;
}

void docs_session_refuse(struct docs_session *s, enum docs_abort_reason reason)
{
    if (s->state != DOCS_WAIT_DECISION) return;
    enum hkv_err err = docs_write_abort(&s->output, reason);
    if (err != HKV_OK)
        docs_session_fail(s, err);
    else
        aborted(s, reason, "this node");
}

/* Takes a batch back from the owner. False: it was dropped, and is freed. */
static bool take_back(struct docs_session *s, struct docs_batch *batch, enum docs_stage from)
{
    assert(s->out_count > 0);
    s->out_count--;
    if (batch->stage == DOCS_STAGE_DROPPED) {
        docs_batch_free(batch);
        return false;
    }
    assert(batch->stage == from);
    if (batch->answer.err == HKV_OK) return true;
    batch->stage = DOCS_STAGE_READY; /* ours again, so that it is freed with the others */
    error_restore(&batch->answer.why);
    docs_session_fail(s, batch->answer.err);
    return false;
}

void docs_session_screened(struct docs_session *s, struct docs_batch *batch)
{
    if (!take_back(s, batch, DOCS_STAGE_AT_SCREEN)) return;
    size_t known = 0;
    for (size_t i = 0; i < batch->value_count; i++) known += batch->values[i].state == DOCS_VALUE_KNOWN;
    s->should_screen = 2 * known >= batch->value_count;
    batch->stage = DOCS_STAGE_SCREENED;
}

void docs_session_verified(struct docs_session *s, struct docs_batch *batch)
{
    if (take_back(s, batch, DOCS_STAGE_AT_VERIFY)) batch->stage = DOCS_STAGE_READY;
}

/* The reply to a whole frame, or the end when there is none. */
static enum hkv_err reply(struct docs_session *s, struct docs_batch *batch)
{
    struct docs_answer *answer = &batch->answer;
    if (answer->part_count == 0) {
        if (batch->is_opening) return error_set(HKV_E_INTERNAL, "a sync session without a first message");
        s->was_equal = answer->is_equal;
        finish(s);
        return HKV_OK;
    }
    if (s->peer_ended) return error_set(HKV_E_PEER_PROTOCOL, "the peer ended the stream before the answer it is due");
    if (batch->is_opening)
        TRY(docs_write_init(&s->output, &s->namespace, answer->part_count, buf_slice(&answer->parts)));
    else
        TRY(docs_write_sync(&s->output, answer->part_count, buf_slice(&answer->parts)));
    s->outcome.frames_sent++;
    s->outcome.sent += answer->sent;
    buf_fini(&s->pull_x);
    buf_fini(&s->pull_y);
    s->pull_x = buf_take(&answer->pull_x);
    s->pull_y = buf_take(&answer->pull_y);
    if (batch->is_opening) s->state = DOCS_RECONCILE;
    return HKV_OK;
}

void docs_session_applied(struct docs_session *s, struct docs_batch *batch)
{
    struct docs_answer *answer = &batch->answer;
    s->outcome.inserted += answer->inserted; /* true also when the session has ended meanwhile */
    s->outcome.refused += answer->refused;
    s->outcome.future += answer->future;
    if (answer->newest_stamp_us > s->outcome.newest_stamp_us) s->outcome.newest_stamp_us = answer->newest_stamp_us;
    if (!take_back(s, batch, DOCS_STAGE_AT_APPLY)) return;
    assert(batch == s->head);
    s->head = batch->next;
    if (s->head == NULL) s->tail = NULL;
    s->batch_count--;
    /* When most of what was verified is not stored, asking the replica first is cheaper. */
    if (answer->checked > 0 && 2 * answer->inserted < answer->checked) s->should_screen = true;
    enum hkv_err err = HKV_OK;
    if (batch->is_opening || (batch->ends_frame && !batch->answered_early)) err = reply(s, batch);
    docs_batch_free(batch);
    if (err != HKV_OK) docs_session_fail(s, err);
}

/* --- Effects out --- */

static void hand_out(struct docs_session *s, struct docs_effect *effect, enum docs_effect_kind kind,
                     struct docs_batch *batch, enum docs_stage stage)
{
    effect->kind = kind;
    effect->batch = batch;
    batch->stage = stage;
    s->out_count++;
}

/* The next batch that can go somewhere. */
static bool next_batch(struct docs_session *s, struct docs_effect *effect)
{
    bool is_screening = false;
    for (struct docs_batch *b = s->head; b != NULL; b = b->next) {
        if (b->stage == DOCS_STAGE_READY && b == s->head) {
            hand_out(s, effect, DOCS_EFFECT_APPLY, b, DOCS_STAGE_AT_APPLY);
            return true;
        }
        if (b->stage == DOCS_STAGE_AT_SCREEN) is_screening = true;
        bool wants_screen = b->stage == DOCS_STAGE_DECODED && s->should_screen;
        if (wants_screen && is_screening) continue;
        if (wants_screen) {
            hand_out(s, effect, DOCS_EFFECT_SCREEN, b, DOCS_STAGE_AT_SCREEN);
            return true;
        }
        if (b->stage == DOCS_STAGE_DECODED || b->stage == DOCS_STAGE_SCREENED) {
            hand_out(s, effect, DOCS_EFFECT_VERIFY, b, DOCS_STAGE_AT_VERIFY);
            return true;
        }
    }
    return false;
}

/* Whether more of the input may be looked at now. */
static bool can_decode(const struct docs_session *s)
{
    if (s->state == DOCS_CLOSING) return !s->is_draining && docs_decoder_is_in_slack(&s->decoder);
    bool is_open = s->state == DOCS_WAIT_INIT || s->state == DOCS_RECONCILE;
    return is_open && s->batch_count < DOCS_BATCHES_MAX;
}

static bool next_ready(struct docs_session *s, struct docs_effect *effect)
{
    if (s->state == DOCS_WAIT_DECISION && !s->accept_told) {
        s->accept_told = true;
        effect->kind = DOCS_EFFECT_ACCEPT;
        effect->namespace = s->namespace;
        return true;
    }
    if (s->greeting_due) {
        s->greeting_due = false;
        effect->kind = DOCS_EFFECT_GREETED;
        effect->wall_us = s->greeting_wall_us;
        return true;
    }
    if (s->output.len > 0) {
        effect->kind = DOCS_EFFECT_SEND;
        effect->bytes = buf_take(&s->output);
        return true;
    }
    if (s->finish_due) {
        s->finish_due = false;
        effect->kind = DOCS_EFFECT_FINISH;
        return true;
    }
    if (s->end_due) {
        s->end_due = false;
        effect->kind = DOCS_EFFECT_END;
        return true;
    }
    return next_batch(s, effect);
}

void docs_session_next(struct docs_session *s, struct docs_effect *effect)
{
    *effect = (struct docs_effect){.kind = DOCS_EFFECT_NONE};
    while (!next_ready(s, effect)) {
        if (s->state == DOCS_ENDED) return;
        if (can_decode(s) && decode(s)) continue;
        if (s->state == DOCS_CLOSING && !s->is_draining && (s->decoder.in.len > 0 || s->head != NULL)) {
            more_came(s);
            continue;
        }
        bool is_worked_off = s->head == NULL && s->state != DOCS_WAIT_DECISION && s->state != DOCS_OPENING;
        if (!s->peer_ended || !is_worked_off) return;
        stream_ended(s);
    }
}
