/* What is wrong with the disk: said once and then once a minute, shown in the counts, and tried again every second.
 *
 *   a write fails ──▶ trouble: kv_writable() says why ──kv_maintain() writes a probe──▶ over
 *
 * Reads have no part in this: they work as long as the disk gives them bytes. A store that nobody writes to would never
 * learn that there is room again, hence the probe: a file of PROBE_BYTES and then a transaction. */
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "kv/internal.h"

#define PROBE_BYTES       65536
#define PROBE_PIECE_BYTES 4096

static const char *const what[KV_TROUBLE_COUNT] = {
    [KV_TROUBLE_WRITE] = "writing to the database",
    [KV_TROUBLE_FILES] = "writing value files",
    [KV_TROUBLE_UPKEEP] = "tidying up",
};

/* Trouble that time, or someone who makes room, may end. Under the lock: whether the log should hear of it. */
static bool note(struct kv_trouble *t, enum hkv_err err, uint64_t now_us)
{
    uint64_t silent_us = t->err == err ? KV_TROUBLE_SAID_US : KV_TROUBLE_NEWS_US;
    t->err = err;
    error_save(&t->why);
    t->retry_us = now_us + KV_RETRY_US;
    if (t->said && now_us < t->said_us + silent_us) {
        t->unsaid++;
        return false;
    }
    t->said = true;
    t->said_us = now_us;
    return true;
}

void kv_trouble_note(struct kv *kv, enum kv_trouble_kind kind, enum hkv_err err)
{
    struct kv_trouble *t = &kv->trouble[kind];
    if (err == HKV_OK) {
        kv_trouble_over(kv, kind);
        return;
    }
    if (err != HKV_E_DISK && err != HKV_E_DISK_FULL && kind != KV_TROUBLE_UPKEEP) return;
    uint64_t now_us = env_mono_us(kv->config.env);
    (void)pthread_mutex_lock(&kv->counts_lock);
    bool say = note(t, err, now_us);
    uint64_t unsaid = t->unsaid;
    if (say) t->unsaid = 0;
    (void)pthread_mutex_unlock(&kv->counts_lock);
    atomic_store(&kv->in_trouble, true);
    if (!say) return;
    struct error_text why; /* the sink may lose it */
    error_save(&why);
    log_warn("kv", "%s: %s (%" PRIu64 " times before, unsaid)", what[kind], why.text, unsaid);
    error_restore(&why);
}

void kv_trouble_over(struct kv *kv, enum kv_trouble_kind kind)
{
    bool others = false;
    if (!atomic_load(&kv->in_trouble)) return;
    (void)pthread_mutex_lock(&kv->counts_lock);
    bool was = kv->trouble[kind].err != HKV_OK;
    bool was_said = was && kv->trouble[kind].unsaid == 0;
    kv->trouble[kind].err = HKV_OK;
    for (int i = 0; i < KV_TROUBLE_COUNT; i++) others = others || kv->trouble[i].err != HKV_OK;
    if (!others) atomic_store(&kv->in_trouble, false);
    (void)pthread_mutex_unlock(&kv->counts_lock);
    if (was_said) log_info("kv", "%s: works again", what[kind]);
}

bool kv_trouble_is(struct kv *kv, enum kv_trouble_kind kind)
{
    if (!atomic_load(&kv->in_trouble)) return false;
    (void)pthread_mutex_lock(&kv->counts_lock);
    bool is = kv->trouble[kind].err != HKV_OK;
    (void)pthread_mutex_unlock(&kv->counts_lock);
    return is;
}

bool kv_trouble_is_due(struct kv *kv, enum kv_trouble_kind kind)
{
    if (!atomic_load(&kv->in_trouble)) return true;
    (void)pthread_mutex_lock(&kv->counts_lock);
    const struct kv_trouble *t = &kv->trouble[kind];
    bool due = t->err == HKV_OK || env_mono_us(kv->config.env) >= t->retry_us;
    (void)pthread_mutex_unlock(&kv->counts_lock);
    return due;
}

void kv_write_failed(struct kv *kv, enum hkv_err err)
{
    if (err != HKV_OK) kv_trouble_note(kv, KV_TROUBLE_WRITE, err);
}

bool kv_writable(struct kv *kv, struct error_text *why)
{
    bool good = true;
    why->text[0] = '\0';
    (void)pthread_mutex_lock(&kv->counts_lock);
    for (int i = 0; good && i < KV_TROUBLE_UPKEEP; i++) {
        good = kv->trouble[i].err == HKV_OK;
        if (!good) *why = kv->trouble[i].why;
    }
    (void)pthread_mutex_unlock(&kv->counts_lock);
    return good && kv_budget_has_room(kv, why);
}

/* ------------------------------------------------------------------------------------------ probing */

static enum hkv_err probe_bytes(struct files_handle *handle, const struct files_ops *ops)
{
    static const uint8_t piece[PROBE_PIECE_BYTES] = {1};
    for (uint64_t at = 0; at < PROBE_BYTES; at += sizeof piece)
        TRY(ops->write(handle, at, slice_of(piece, sizeof piece)));
    return ops->sync(handle);
}

static enum hkv_err probe_files(struct kv *kv)
{
    const struct files_ops *ops = kv->files->ops;
    struct files_handle *handle;
    char name[FILES_NAME_MAX];
    snprintf(name, sizeof name, "tmp-%016" PRIx64 "-%" PRIu64, kv->run,
             (uint64_t)atomic_fetch_add(&kv->next_temporary, 1));
    TRY(ops->create(kv->files, name, &handle));
    enum hkv_err err = probe_bytes(handle, ops);
    ops->close(handle);
    enum hkv_err removed = ops->unlink(kv->files, name);
    return err == HKV_OK ? removed : err;
}

static enum hkv_err probe_database(struct kv *kv)
{
    uint8_t now[8];
    TRY(kv_begin(kv));
    be64_store(now, kv->now_us);
    enum hkv_err err = kv_meta_set(kv, KV_META_PROBE, slice_of(now, sizeof now));
    if (err == HKV_OK) return kv_commit(kv);
    kv_rollback(kv);
    return err;
}

void kv_trouble_probe(struct kv *kv)
{
    bool files = kv_trouble_is(kv, KV_TROUBLE_FILES);
    bool write = kv_trouble_is(kv, KV_TROUBLE_WRITE);
    if (!files && !write) return;
    if (!kv_trouble_is_due(kv, KV_TROUBLE_FILES) || !kv_trouble_is_due(kv, KV_TROUBLE_WRITE)) return;
    enum hkv_err err = probe_files(kv);
    if (files || err != HKV_OK) kv_trouble_note(kv, KV_TROUBLE_FILES, err);
    if (err == HKV_OK && write) kv_trouble_note(kv, KV_TROUBLE_WRITE, probe_database(kv));
}
