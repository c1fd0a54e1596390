/* Values whose stored bytes are not their own: reported by readers on any thread, put into quarantine by the replica
 * thread (store/values.h has the states).
 *
 *   kv_value_bad(hash) ──▶ suspects ──kv_quarantine()──▶ BAD: counted, wanted, never read
 *
 * Who reported is believed: a report that was wrong costs one fetch, or ends with the next background check, which
 * reads bad values as well. What a key shows stays as it is, since entry and version are sound; only its bytes are out
 * of reach. */
#include <assert.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/text.h"
#include "kv/internal.h"

void kv_suspects_init(struct kv *kv)
{
    (void)pthread_mutex_init(&kv->suspects.lock, NULL);
}

void kv_suspects_fini(struct kv *kv)
{
    (void)pthread_mutex_destroy(&kv->suspects.lock);
}

/* The front of the list was dealt with for good. */
void kv_suspects_committed(struct kv *kv)
{
    struct kv_suspects *s = &kv->suspects;
    if (s->settled == 0) return;
    (void)pthread_mutex_lock(&s->lock);
    s->count -= s->settled;
    memmove(s->items, s->items + s->settled, s->count * sizeof *s->items);
    (void)pthread_mutex_unlock(&s->lock);
    s->settled = 0;
}

void kv_suspects_forget(struct kv *kv)
{
    (void)pthread_mutex_lock(&kv->suspects.lock);
    kv->suspects.count = 0;
    (void)pthread_mutex_unlock(&kv->suspects.lock);
    kv->suspects.settled = 0;
}

void kv_value_bad(struct kv *kv, const struct hash *hash)
{
    struct kv_suspects *s = &kv->suspects;
    (void)pthread_mutex_lock(&s->lock);
    bool known = s->count == KV_SUSPECTS_MAX;
    for (size_t i = 0; i < s->count && !known; i++) known = hash_equal(&s->items[i], hash);
    if (!known) s->items[s->count++] = *hash;
    (void)pthread_mutex_unlock(&s->lock);
}

static bool next_suspect(struct kv *kv, struct hash *out)
{
    struct kv_suspects *s = &kv->suspects;
    (void)pthread_mutex_lock(&s->lock);
    bool found = s->settled < s->count;
    if (found) *out = s->items[s->settled];
    (void)pthread_mutex_unlock(&s->lock);
    return found;
}

/* One that nothing refers to is waiting to be removed anyway: it goes now, before something refers to it again. */
static enum hkv_err drop(struct kv *kv, const struct value_row *v)
{
    if (v->file) {
        kv->counters.file_bytes -= v->length;
        TRY(kv_file_doomed(kv, &v->hash, v->file));
    }
    return values_remove(&kv->db, v->id);
}

static enum hkv_err quarantine(struct kv *kv, const struct hash *hash, size_t *count)
{
    struct value_row v;
    bool found;
    char text[ID_TEXT_MAX];
    TRY(values_find(&kv->db, hash, &v, &found));
    if (!found || v.state != VALUE_PRESENT || value_is_constant(v.id)) return HKV_OK;
    if (v.refs == 0) return drop(kv, &v);
    bool fetched = v.length <= kv->config.max_value_bytes;
    TRY(values_set_bad(&kv->db, v.id, fetched ? kv->steady_us : 0, kv->now_us));
    kv->counters.bad++;
    ++*count;
    if (fetched) kv_wanted_noticed(kv, kv->steady_us);
    log_warn("kv", "the value %s of %" PRIu64 " bytes is damaged on disk; %s", id_format(hash->bytes, text), v.length,
             fetched ? "it is fetched again from peers"
                     : "it is longer than max_value_bytes, so it is not fetched again");
    return HKV_OK;
}

enum hkv_err kv_quarantine(struct kv *kv, size_t *count)
{
    struct hash hash;
    *count = 0;
    assert(kv_in_transaction(kv));
    for (; next_suspect(kv, &hash); kv->suspects.settled++) TRY(quarantine(kv, &hash, count));
    return HKV_OK;
}

enum hkv_err kv_value_good(struct kv *kv, const struct hash *hash)
{
    struct value_row v;
    struct kv_op op = {.kv = kv};
    bool found;
    assert(kv_in_transaction(kv));
    TRY(values_find(&kv->db, hash, &v, &found));
    if (!found || v.state != VALUE_BAD) return HKV_OK;
    TRY(values_set_good(&kv->db, v.id));
    kv->counters.bad--;
    TRY(kv_wanted_forget(kv, v.id));
    v.state = VALUE_PRESENT;
    op.value = v;
    /* Entries that came meanwhile wait for it. */
    enum hkv_err err = kv_shown_arrived(&op);
    if (err == HKV_OK) err = kv_op_finish(&op);
    kv_op_fini(&op);
    return err;
}
