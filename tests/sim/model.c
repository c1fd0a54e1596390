#include "sim/model.h"

#include <assert.h>
#include <stdlib.h>

#include "crypto/blake3.h"
#include "random.h"

void sim_model_fini(struct sim_model *model)
{
    for (size_t i = 0; i < model->count; i++) free(model->writes[i]);
    free(model->writes);
    *model = (struct sim_model){0};
}

struct sim_write *sim_model_add(struct sim_model *model)
{
    if (model->count == model->cap) {
        model->cap = model->cap == 0 ? 256 : model->cap * 2;
        model->writes = realloc(model->writes, model->cap * sizeof(struct sim_write *));
        if (model->writes == NULL) abort();
    }
    struct sim_write *write = calloc(1, sizeof *write);
    if (write == NULL) abort();
    write->number = model->count;
    model->writes[model->count++] = write;
    return write;
}

/* Some values are the same for several writes, so that entries share them. */
uint8_t *sim_value(size_t number, size_t length)
{
    uint8_t *bytes = malloc(length + 1);
    if (bytes == NULL) abort();
    struct random r = {number};
    for (size_t i = 0; i < length; i += 8) {
        uint64_t word = random_u64(&r);
        memcpy(bytes + i, &word, length - i < 8 ? length - i : 8);
    }
    return bytes;
}

void sim_write_content_bytes(const struct sim_write *write, struct buf *out)
{
    if (write->empty) return;
    if (write->kind == KV_TOMBSTONE) {
        if (buf_append(out, kv_tombstone_content, sizeof kv_tombstone_content) != HKV_OK) abort();
        return;
    }
    uint8_t *value = sim_value(write->value_number, write->value_length);
    struct slice bytes = slice_of(value, write->value_length);
    if (kv_content_prefix(bytes, bytes.len, write->expires_us, out) != HKV_OK) abort();
    if (buf_append_slice(out, bytes) != HKV_OK) abort();
    free(value);
}

void sim_write_content(struct sim_write *write)
{
    struct buf content = {0};
    sim_write_content_bytes(write, &content);
    blake3_hash(buf_slice(&content), &write->hash);
    write->content_length = content.len;
    buf_fini(&content);
}

static struct slice key_of(const struct sim_write *write)
{
    return slice_of(write->key, write->key_len);
}

const struct sim_write *sim_model_find(const struct sim_model *model, const struct entry *e)
{
    for (size_t i = model->count; i-- > 0;) {
        const struct sim_write *w = model->writes[i];
        if (w->outcome != SIM_FAILED && author_id_equal(&w->author, &e->author) &&
            hash_equal(&w->hash, &e->record.hash) && slice_equal(key_of(w), e->key))
            return w;
    }
    return NULL;
}

static bool explains(const struct sim_write *w, struct slice key, const struct hkv_value *value)
{
    bool known = w->outcome == SIM_ACKED || w->foreign;
    if (w->outcome == SIM_FAILED || w->kind != KV_VALUE || !slice_equal(key_of(w), key)) return false;
    if (memcmp(w->author.bytes, value->version.author, ID_BYTES) != 0) return false;
    if (known && w->stamp_us != value->version.stamp_us) return false;
    if (w->value_length != value->length || w->expires_us != value->expires_us) return false;
    uint8_t *bytes = sim_value(w->value_number, w->value_length);
    bool same = memcmp(bytes, value->data, value->length) == 0;
    free(bytes);
    return same;
}

bool sim_model_explains(const struct sim_model *model, struct slice key, const struct hkv_value *value)
{
    for (size_t i = model->count; i-- > 0;)
        if (explains(model->writes[i], key, value)) return true;
    return false;
}

/* ---- entries ---- */

void sim_entries_fini(struct sim_entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) free((void *)(uintptr_t)entries->items[i].entry.key.data);
    free(entries->items);
    *entries = (struct sim_entries){0};
}

static bool visit(void *arg, const struct entry *e, bool has_content)
{
    struct sim_entries *out = arg;
    if (out->count == out->cap) {
        out->cap = out->cap == 0 ? 64 : out->cap * 2;
        out->items = realloc(out->items, out->cap * sizeof *out->items);
        if (out->items == NULL) abort();
    }
    uint8_t *key = malloc(e->key.len + 1);
    if (key == NULL) abort();
    if (e->key.len > 0) memcpy(key, e->key.data, e->key.len);
    struct sim_entry *item = &out->items[out->count++];
    item->entry = *e;
    item->entry.key = slice_of(key, e->key.len);
    item->has_content = has_content;
    return true;
}

enum hkv_err sim_entries_read(struct kv *kv, struct sim_entries *out)
{
    struct docs_replica *r = kv_docs(kv);
    *out = (struct sim_entries){0};
    TRY(kv_begin(kv));
    enum hkv_err err = r->ops->scan(r, (struct docs_piece){0}, visit, out);
    kv_rollback(kv);
    if (err != HKV_OK) sim_entries_fini(out);
    return err;
}

bool sim_entries_cover_entry(const struct sim_entries *entries, const struct entry *e)
{
    for (size_t i = 0; i < entries->count; i++) {
        const struct entry *other = &entries->items[i].entry;
        if (author_id_equal(&other->author, &e->author) && slice_starts_with(e->key, other->key) &&
            record_compare(&other->record, &e->record) >= 0)
            return true;
    }
    return false;
}

bool sim_entries_cover(const struct sim_entries *entries, const struct sim_write *write)
{
    struct entry e = {
        .author = write->author,
        .key = key_of(write),
        .record = {.stamp_us = write->stamp_us, .hash = write->hash},
    };
    return sim_entries_cover_entry(entries, &e);
}

const struct sim_entry *sim_entries_winner(const struct sim_entries *entries, struct slice key)
{
    const struct sim_entry *best = NULL;
    for (size_t i = 0; i < entries->count; i++) {
        const struct entry *e = &entries->items[i].entry;
        if (!slice_equal(e->key, key)) continue;
        bool wins =
            best == NULL || e->record.stamp_us > best->entry.record.stamp_us ||
            (e->record.stamp_us == best->entry.record.stamp_us && ID_COMPARE(&e->author, &best->entry.author) > 0);
        if (wins) best = &entries->items[i];
    }
    return best;
}
