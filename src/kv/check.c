#include "kv/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "kv/check_parts.h"

#define PLACE_BYTES (1 + 8 + 8 + 8 + 1) /* phase, passes, begun, epoch, every signature; the position follows */

/* ------------------------------------------------------------------------------------------ what is found */

void kv_check_note(struct kv_check *c, enum kv_check_kind kind, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    c->report.kinds[kind].bad++;
    if (c->report.first.text[0] == 0) memcpy(c->report.first.text, text, sizeof text);
    log_warn("check", "%s", text);
}

void kv_check_derived(struct kv_check *c, enum kv_check_kind kind, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (c->rebuild)
        c->report.kinds[kind].bad++;
    else
        kv_check_note(c, kind, "%s", text);
    c->rebuild = true;
}

/* ------------------------------------------------------------------------------------------ steps */

static void begin_pass(struct kv_check *c)
{
    kv_check_close_file(c);
    buf_clear(&c->at);
    c->phase = PHASE_RUNS;
    c->inside = false;
    c->every_signature = c->fresh || c->every_signature_next;
    c->every_signature_next = false;
    c->epoch = kv_epoch(c->kv);
    c->report = (struct kv_check_report){.passes = c->report.passes, .pass_begun_us = env_wall_us(c->kv->config.env)};
}

static void next_phase(struct kv_check *c, bool *pass_ended)
{
    buf_clear(&c->at);
    c->inside = false;
    c->phase++;
    *pass_ended = c->phase == PHASE_COUNT;
    if (*pass_ended) c->report.passes++;
}

enum hkv_err kv_check_step(struct kv_check *c, bool *end)
{
    struct kv_reader *reader;
    bool phase_ended = false;
    *end = false;
    if (c->phase == PHASE_COUNT || c->epoch != kv_epoch(c->kv)) begin_pass(c);
    TRY(kv_reader_take(c->kv, &reader));
    enum hkv_err err = db_exec(&reader->db, "BEGIN");
    if (err == HKV_OK) err = kv_check_look(c, &reader->db, &phase_ended);
    if (!sqlite3_get_autocommit(reader->db.handle)) (void)sqlite3_exec(reader->db.handle, "COMMIT", NULL, NULL, NULL);
    kv_reader_give(c->kv, reader);
    if (err == HKV_E_CORRUPT) {
        /* A page that cannot be read: nothing behind it in this phase can be looked at, nor can it be mended. So it is
         * named before what can. */
        if (!c->report.unreadable) c->report.first.text[0] = 0;
        kv_check_note(c,
                      c->phase == PHASE_VALUES ? KV_CHECK_VALUE
                      : c->phase == PHASE_RUNS ? KV_CHECK_ENTRY
                                               : KV_CHECK_INDEX,
                      "%s", error_last());
        c->report.unreadable = true;
        err = HKV_OK;
        phase_ended = true;
    }
    if (err == HKV_OK && phase_ended) next_phase(c, end);
    return err;
}

bool kv_check_found(const struct kv_check *c)
{
    return c->bad_count > 0 || c->good_count > 0 || c->label_count > 0;
}

bool kv_check_wants_rebuild(const struct kv_check *c)
{
    return c->rebuild;
}

/* The row may have gone since, or its number may name another content after a reset. */
static enum hkv_err set_label(struct kv *kv, const struct value_row *label)
{
    struct value_row v;
    bool found;
    TRY(values_get(&kv->db, label->id, &v, &found));
    bool same = found && hash_equal(&v.hash, &label->hash) && v.file == label->file &&
                (v.state == VALUE_PRESENT || v.state == VALUE_BAD);
    if (!same) return HKV_OK;
    if (v.file) kv->counters.file_bytes += label->length - v.length;
    return values_set_label(&kv->db, label);
}

/* The table is what a check reads; what answers peers is the copy in memory. Once a pass. */
static enum hkv_err check_memory(struct kv_check *c)
{
    bool agree;
    TRY(spans_agree(c->kv->spans, &agree));
    if (!agree) kv_check_derived(c, KV_CHECK_SPAN, "the fingerprint tree in memory is not that of the table span");
    return HKV_OK;
}

enum hkv_err kv_check_apply(struct kv_check *c)
{
    struct kv *kv = c->kv;
    size_t count;
    if (c->phase == PHASE_COUNT && !c->rebuild) TRY(check_memory(c));
    for (size_t i = 0; i < c->label_count; i++) TRY(set_label(kv, &c->labels[i]));
    for (size_t i = 0; i < c->good_count; i++) TRY(kv_value_good(kv, &c->good[i]));
    for (size_t i = 0; i < c->bad_count; i++) kv_value_bad(kv, &c->bad[i]);
    return kv_quarantine(kv, &count);
}

void kv_check_applied(struct kv_check *c)
{
    c->report.kinds[KV_CHECK_VALUE].repaired += c->label_count + c->good_count;
    c->bad_count = c->good_count = c->label_count = 0;
}

void kv_check_report(const struct kv_check *c, struct kv_check_report *out)
{
    *out = c->report;
}

unsigned kv_check_permille(const struct kv_check *c)
{
    static const unsigned begins[PHASE_COUNT + 1] = {0, 400, 600, 950, 990, 1000};
    unsigned from = begins[c->phase], to = c->phase < PHASE_COUNT ? begins[c->phase + 1] : 1000;
    unsigned share = c->at.len > 0 ? c->at.data[0] : 0; /* of 256; authors' ids are random, keys are not */
    if (c->phase == PHASE_VALUES) share = (unsigned)(kv_check_number(c) * 256 / (atomic_load(&c->kv->next_value) + 1));
    if (c->phase > PHASE_VALUES) share = 0;
    return from + (to - from) * share / 256;
}

/* ------------------------------------------------------------------------------------------ the place is kept */

enum hkv_err kv_check_save(struct kv_check *c)
{
    uint8_t head[PLACE_BYTES];
    struct buf bytes = {0};
    head[0] = (uint8_t)(c->phase == PHASE_COUNT ? PHASE_RUNS : c->phase);
    be64_store(head + 1, c->report.passes);
    be64_store(head + 9, c->report.pass_begun_us);
    be64_store(head + 17, c->epoch);
    bool ended = c->phase == PHASE_COUNT;
    head[25] = (uint8_t)((ended ? c->every_signature_next : c->every_signature) | c->every_signature_next << 1);
    enum hkv_err err = buf_append(&bytes, head, sizeof head);
    if (err == HKV_OK && c->phase != PHASE_COUNT) err = buf_append_slice(&bytes, buf_slice(&c->at));
    if (err == HKV_OK) err = kv_meta_set(c->kv, KV_META_CHECK, buf_slice(&bytes));
    buf_fini(&bytes);
    return err;
}

enum hkv_err kv_check_forget(struct kv *kv)
{
    struct kv_check from_start = {.kv = kv, .phase = PHASE_RUNS, .every_signature = true, .epoch = kv_epoch(kv)};
    struct buf bytes = {0};
    enum hkv_err err = kv_meta_get(kv, KV_META_CHECK, &bytes);
    if (err == HKV_OK && bytes.len >= PLACE_BYTES) from_start.report.passes = be64_load(bytes.data + 1);
    buf_fini(&bytes);
    return err == HKV_OK || err == HKV_E_NOT_FOUND ? kv_check_save(&from_start) : err;
}

static enum hkv_err load_place(struct kv_check *c)
{
    struct buf bytes = {0};
    enum hkv_err err = kv_meta_get(c->kv, KV_META_CHECK, &bytes);
    if (err == HKV_OK && bytes.len >= PLACE_BYTES && bytes.data[0] < PHASE_COUNT) {
        c->report.passes = be64_load(bytes.data + 1);
        c->every_signature = bytes.data[25] & 1;
        c->every_signature_next = bytes.data[25] >> 1 & 1;
        c->phase = (enum kv_check_phase)bytes.data[0];
        c->report.pass_begun_us = be64_load(bytes.data + 9);
        c->epoch = be64_load(bytes.data + 17);
        err = buf_assign(&c->at, slice_part(buf_slice(&bytes), PLACE_BYTES, bytes.len));
    }
    buf_fini(&bytes);
    return err == HKV_E_NOT_FOUND ? HKV_OK : err;
}

enum hkv_err kv_check_new(struct kv *kv, bool fresh, struct kv_check **out)
{
    struct kv_check *c = calloc(1, sizeof *c);
    if (!c) return error_set(HKV_E_NOMEM, "no memory to check the store");
    c->kv = kv;
    c->fresh = c->every_signature = fresh;
    c->file.fd = -1;
    c->phase = PHASE_COUNT; /* a pass begins with the first step */
    enum hkv_err err = fresh ? HKV_OK : load_place(c);
    if (err != HKV_OK) {
        kv_check_free(c);
        return err;
    }
    *out = c;
    return HKV_OK;
}

void kv_check_free(struct kv_check *c)
{
    if (!c) return;
    kv_check_close_file(c);
    buf_fini(&c->at);
    buf_fini(&c->entries);
    free(c->refs);
    free(c);
}
