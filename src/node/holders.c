#include "node/holders.h"

#include <stdio.h>

#include "base/text.h"
#include "crypto/ed25519.h"
#include "node/node.h"
#include "node/records.h"

#define META_INCARNATIONS "incarnations"

/* ------------------------------------------------------------------------------------------ incarnations */

enum hkv_err holders_start(struct hkv_store *store, bool is_new)
{
    struct buf *used = &store->holders.used;
    enum hkv_err err = kv_meta_get(store->kv, META_INCARNATIONS, used);
    if (err != HKV_OK && err != HKV_E_NOT_FOUND) return err;
    store->holders.is_new = is_new;
    if (is_new && !store->holders.author_is_given) store->holders.phase = HOLDERS_SETTLED;
    env_random(node_env(store), store->incarnation, INCARNATION_BYTES);
    TRY(buf_append(used, store->incarnation, INCARNATION_BYTES));
    size_t most = (size_t)INCARNATIONS_MAX * INCARNATION_BYTES;
    if (used->len > most) buf_consume(used, used->len - most);
    return kv_meta_set(store->kv, META_INCARNATIONS, buf_slice(used));
}

void holders_fini(struct hkv_store *store)
{
    secret_wipe(&store->holders.author_secret, sizeof store->holders.author_secret);
    buf_fini(&store->holders.used);
}

static bool was_used(const struct holders *h, const uint8_t incarnation[INCARNATION_BYTES])
{
    for (size_t at = 0; at + INCARNATION_BYTES <= h->used.len; at += INCARNATION_BYTES)
        if (memcmp(h->used.data + at, incarnation, INCARNATION_BYTES) == 0) return true;
    return false;
}

/* ------------------------------------------------------------------------------------------ what is said */

/* Names what both hold, the rule and the remedy. */
static void say_shared(struct hkv_store *store, const struct endpoint_id *sharer, char *out, size_t len)
{
    char author[ID_TEXT_MAX], endpoint[ID_TEXT_MAX];
    (void)pthread_mutex_lock(&store->identity_lock);
    (void)id_format(store->identity.signer.author.bytes, author);
    (void)pthread_mutex_unlock(&store->identity_lock);
    (void)snprintf(
        out, len,
        "endpoint %.10s writes as this node's author %.10s, and of two nodes with one author each loses what "
        "the other overwrites: %sremove %.80s/keys/author.secret, and start again with a new author",
        id_format(sharer->bytes, endpoint), author,
        store->holders.author_is_given ? "take author_secret out of the settings, " : "", store->dir.path);
}

static void say_copied(char *out, size_t len)
{
    (void)snprintf(
        out, len,
        "another process runs on a copy of this data directory, under the same endpoint id: stop one of them, "
        "and remove its keys/node.secret and keys/author.secret before it starts again");
}

enum hkv_err holders_check_start(struct hkv_store *store, const struct holder_facts *facts)
{
    char why[HOLDERS_WHY_MAX];
    if (!facts->is_shared || !store->identity.can_write) return HKV_OK;
    say_shared(store, &facts->sharer, why, sizeof why);
    return error_set(HKV_E_IDENTITY, "%s", why);
}

enum hkv_err holders_check_write(struct hkv_store *store)
{
    char why[HOLDERS_WHY_MAX];
    if (!atomic_load(&store->holders.is_stopped)) return HKV_OK;
    (void)pthread_mutex_lock(&store->identity_lock);
    struct endpoint_id sharer = store->holders.sharer;
    (void)pthread_mutex_unlock(&store->identity_lock);
    say_shared(store, &sharer, why, sizeof why);
    return error_set(HKV_E_IDENTITY, "%s", why);
}

bool holders_is_settled(struct hkv_store *store)
{
    return atomic_load(&store->holders.phase) == HOLDERS_SETTLED;
}

bool holders_is_unique(struct hkv_store *store, char why[HOLDERS_WHY_MAX])
{
    const struct holders *h = &store->holders;
    uint64_t limit_us = HOLDERS_CHECKS * store->patience.records_check_us;
    why[0] = '\0';
    if (h->is_shared)
        say_shared(store, &h->sharer, why, HOLDERS_WHY_MAX);
    else if (h->other_us != 0 && env_mono_us(node_env(store)) - h->other_us < limit_us)
        say_copied(why, HOLDERS_WHY_MAX);
    return why[0] == '\0';
}

/* ------------------------------------------------------------------------------------------ a new author */

static void adopted(struct job *job)
{
    struct hkv_store *store =
        (struct hkv_store *)(void *)((char *)job - offsetof(struct holders, job) - offsetof(struct hkv_store, holders));
    struct holders *h = &store->holders;
    atomic_store(&h->phase, HOLDERS_SETTLED);
    if (h->closed_done != NULL) {
        h->closed_done(h->closed_arg);
        return;
    }
    records_write_soon(store->records);
}

static enum hkv_err adopt_apply(struct commit_task *task, struct kv *kv)
{
    struct hkv_store *store = (struct hkv_store *)(void *)((char *)task - offsetof(struct holders, task) -
                                                           offsetof(struct hkv_store, holders));
    struct kv_signer *signer = &store->identity.signer;
    struct author_id author;
    (void)pthread_mutex_lock(&store->identity_lock);
    signer->author_secret = store->holders.author_secret;
    ed25519_public_key(&signer->author_secret, signer->author.bytes);
    author = signer->author;
    (void)pthread_mutex_unlock(&store->identity_lock);
    kv_set_author(kv, &author);
    return kv_epoch_renew(kv);
}

static void adopt_complete(struct commit_task *task, enum hkv_err err)
{
    struct hkv_store *store = (struct hkv_store *)(void *)((char *)task - offsetof(struct holders, task) -
                                                           offsetof(struct hkv_store, holders));
    char author[ID_TEXT_MAX];
    /* The author was replaced before the commit. */
    if (err == HKV_OK)
        watch_publish_epoch(&store->watches);
    else
        node_log(store, HKV_LOG_ERROR, "identity", "watches may take positions of the original for ours: %s",
                 error_last());
    (void)pthread_mutex_lock(&store->identity_lock);
    (void)id_format(store->identity.signer.author.bytes, author);
    (void)pthread_mutex_unlock(&store->identity_lock);
    node_log(store, HKV_LOG_WARN, "identity",
             "this data directory is a copy, or was restored from one: its member record was written by another; this "
             "node writes as a new author from now on, %s",
             author);
    store->holders.job.run = adopted;
    env_run_on(node_env(store), ENV_NETWORK, &store->holders.job);
}

/* Worker: the secret is on the disk before anything is written with it. */
static void adopt_run(struct job *job)
{
    struct hkv_store *store =
        (struct hkv_store *)(void *)((char *)job - offsetof(struct holders, job) - offsetof(struct hkv_store, holders));
    struct holders *h = &store->holders;
    env_random(node_env(store), h->author_secret.bytes, sizeof h->author_secret.bytes);
    enum hkv_err err = key_file_write(&store->dir, "keys/author.secret", &h->author_secret);
    if (err != HKV_OK) {
        node_log(store, HKV_LOG_ERROR, "identity",
                 "this data directory is a copy, and no new author can be made for it: %s", error_last());
        h->job.run = adopted;
        env_run_on(node_env(store), ENV_NETWORK, &h->job);
        return;
    }
    h->task = (struct commit_task){.apply = adopt_apply, .complete = adopt_complete};
    committer_submit(&store->committer, &h->task);
}

static void adopt(struct hkv_store *store)
{
    atomic_store(&store->holders.phase, HOLDERS_ADOPTING);
    store->holders.job.run = adopt_run;
    env_run_on(node_env(store), ENV_WORKER, &store->holders.job);
}

/* ------------------------------------------------------------------------------------------ deciding */

void holders_begin(struct hkv_store *store)
{
    struct holders *h = &store->holders;
    bool has_peers = false;
    for (size_t i = 0; i < store->peers.count; i++) has_peers = has_peers || peer_is_selected(store->peers.items[i]);
    if (!has_peers) h->phase = HOLDERS_SETTLED;
}

void holders_synced(struct hkv_store *store)
{
    struct holders *h = &store->holders;
    if (h->phase != HOLDERS_SETTLING || h->synced_us != 0) return;
    h->synced_us = env_mono_us(node_env(store));
    records_refresh_now(store->records);
}

void holders_written(struct hkv_store *store, uint64_t stamp_us)
{
    (void)pthread_mutex_lock(&store->identity_lock);
    store->holders.written_us = stamp_us;
    (void)pthread_mutex_unlock(&store->identity_lock);
}

static void other_seen(struct hkv_store *store, const struct kv_version *version)
{
    struct holders *h = &store->holders;
    char why[HOLDERS_WHY_MAX];
    bool is_first = h->other_us == 0;
    if (!is_first && h->other.stamp_us == version->stamp_us && author_id_equal(&h->other.author, &version->author))
        return;
    h->other = *version;
    h->other_us = env_mono_us(node_env(store));
    say_copied(why, sizeof why);
    if (is_first) node_log(store, HKV_LOG_ERROR, "identity", "%s", why);
    records_write_again(store->records);
}

/* Whether a record of our endpoint is another's, and which. What this run has written is the newest of our author: an
 * entry above it is somebody else's, whatever it says. */
static bool is_others(struct hkv_store *store, const struct holder_facts *facts, struct kv_version *which)
{
    (void)pthread_mutex_lock(&store->identity_lock);
    uint64_t written_us = store->holders.written_us;
    *which = (struct kv_version){facts->author_stamp_us, store->identity.signer.author};
    (void)pthread_mutex_unlock(&store->identity_lock);
    if (written_us != 0 && facts->author_stamp_us > written_us) return true;
    *which = facts->own;
    return facts->has_own && !was_used(&store->holders, facts->incarnation);
}

static void settle(struct hkv_store *store, const struct holder_facts *facts)
{
    struct holders *h = &store->holders;
    uint64_t now_us = env_mono_us(node_env(store));
    if (h->synced_us == 0) return;
    if (facts->is_awaited && now_us - h->synced_us < HOLDERS_VALUE_WAIT_US) return;
    (void)pthread_mutex_lock(&store->identity_lock);
    struct author_id author = store->identity.signer.author;
    bool can_write = store->identity.can_write, was_written = h->written_us != 0;
    (void)pthread_mutex_unlock(&store->identity_lock);
    struct kv_version which;
    bool others = is_others(store, facts, &which) && can_write && !h->is_new;
    if (others && author_id_equal(&which.author, &author) && !h->author_is_given) {
        adopt(store);
        return;
    }
    h->phase = HOLDERS_SETTLED;
    if (others) other_seen(store, &which);
    /* A record that was kept low gets the clock's stamp with the next check: what comes below it then is older. */
    if (was_written)
        records_write_again(store->records);
    else
        records_check_soon(store->records);
}

/* Another endpoint came to have our author, or has it no more. */
static void look_at_sharer(struct hkv_store *store, const struct holder_facts *facts)
{
    struct holders *h = &store->holders;
    char why[HOLDERS_WHY_MAX];
    if (h->is_shared == facts->is_shared) return;
    (void)pthread_mutex_lock(&store->identity_lock);
    h->sharer = facts->sharer;
    bool can_write = store->identity.can_write;
    (void)pthread_mutex_unlock(&store->identity_lock);
    h->is_shared = facts->is_shared && can_write;
    atomic_store(&h->is_stopped, h->is_shared && h->phase == HOLDERS_SETTLING);
    if (!h->is_shared) return;
    say_shared(store, &h->sharer, why, sizeof why);
    node_log(store, HKV_LOG_ERROR, "identity", "%s", why);
}

void holders_look(struct hkv_store *store, const struct holder_facts *facts)
{
    struct holders *h = &store->holders;
    struct kv_version which;
    look_at_sharer(store, facts);
    if (h->phase == HOLDERS_SETTLING && !h->is_shared)
        settle(store, facts);
    else if (h->phase == HOLDERS_SETTLED && is_others(store, facts, &which))
        other_seen(store, &which);
}

void holders_close(struct hkv_store *store, void (*done)(void *arg), void *arg)
{
    struct holders *h = &store->holders;
    h->closed_done = done;
    h->closed_arg = arg;
    if (h->phase != HOLDERS_ADOPTING) done(arg);
}
