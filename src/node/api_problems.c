/* The values that are not whole, with key, author, and in words why. Finding out whose a value is can take a walk over
 * all entries, so the list is kept, and made anew only when the counts have changed, and not more often than leaves
 * nine tenths of the time for other things. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/node.h"
#include "node/problems.h"

#define KEEP_US    ((uint64_t)30000000) /* while nothing seems to have changed */
#define KEEP_TIMES 10                   /* as long as making the list took */

struct problems {
    pthread_mutex_t lock; /* while the list is made, too: it is made once for all who ask */
    struct kv_problem items[HKV_PROBLEMS_MAX];
    size_t count;
    uint64_t made_us; /* monotonic; 0: never */
    uint64_t took_us;
    struct kv_counts counts;
};

enum hkv_err problems_new(struct problems **out)
{
    struct problems *p = calloc(1, sizeof *p);
    if (p == NULL) return error_set(HKV_E_NOMEM, "no memory to open a store");
    (void)pthread_mutex_init(&p->lock, NULL);
    *out = p;
    return HKV_OK;
}

void problems_free(struct problems *p)
{
    if (p == NULL) return;
    kv_problems_fini(p->items, p->count);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

static bool is_fresh(const struct problems *p, const struct kv_counts *now, uint64_t now_us)
{
    const struct kv_counts *then = &p->counts;
    bool same = then->values_bad == now->values_bad && then->values_too_large == now->values_too_large &&
                then->values_missing == now->values_missing;
    if (p->made_us == 0) return false;
    return now_us - p->made_us < (same ? KEEP_US : 0) || now_us - p->made_us < KEEP_TIMES * p->took_us;
}

/* With the lock held. */
static enum hkv_err refresh(struct hkv_store *store, struct problems *p)
{
    struct env *env = node_env(store);
    struct kv_counts counts;
    uint64_t begun_us = env_mono_us(env);
    kv_counts(store->kv, &counts);
    if (is_fresh(p, &counts, begun_us)) return HKV_OK;
    kv_problems_fini(p->items, p->count);
    p->count = 0;
    p->made_us = 0;
    if (counts.values_bad + counts.values_too_large + counts.values_missing > 0)
        TRY(kv_problems(store->kv, p->items, HKV_PROBLEMS_MAX, &p->count));
    p->counts = counts;
    p->made_us = env_mono_us(env);
    p->took_us = p->made_us - begun_us;
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ in words */

static void say_fetching(struct hkv_store *store, const struct kv_problem *p, bool connected, char *out, size_t len)
{
    uint64_t now_us = kv_steady_us(store->kv);
    uint64_t wait_s = p->next_try_us > now_us ? (p->next_try_us - now_us) / 1000000 + 1 : 0;
    if (!connected)
        (void)snprintf(out, len, "no peer is connected that could send it");
    else if (p->attempts == 0)
        (void)snprintf(out, len, "it is being fetched");
    else
        (void)snprintf(out, len, "no connected peer had it when asked, %u times so far; the next time is in %ju s",
                       p->attempts, (uintmax_t)wait_s);
}

static void say_why(struct hkv_store *store, const struct kv_problem *p, bool connected, char out[PROBLEM_WHY_MAX])
{
    char fetching[PROBLEM_WHY_MAX / 2];
    bool fetched = p->length <= store->max_value_bytes + KV_CONTENT_HEAD_BYTES;
    say_fetching(store, p, connected, fetching, sizeof fetching);
    if (!fetched)
        (void)snprintf(out, PROBLEM_WHY_MAX,
                       "%s%" PRIu64 " bytes are more than max_value_bytes (%" PRIu64
                       "), so it is not fetched; raise the limit to have it",
                       p->kind == KV_PROBLEM_BAD ? "damaged on this node's disk; " : "", p->length,
                       store->max_value_bytes);
    else if (p->kind == KV_PROBLEM_BAD)
        (void)snprintf(out, PROBLEM_WHY_MAX, "damaged on this node's disk; %s", fetching);
    else
        (void)snprintf(out, PROBLEM_WHY_MAX, "has not arrived; %s", fetching);
}

/* ------------------------------------------------------------------------------------------ the public form */

static enum hkv_err problem_out(struct hkv_store *store, const struct kv_problem *p, bool connected,
                                struct hkv_problem *out)
{
    char why[PROBLEM_WHY_MAX];
    struct slice name = buf_slice(&p->key);
    struct buf key = {0};
    if (p->has_owner) out->is_user_key = kv_key_classify(name, &name) == KV_KEY_USER;
    out->kind = (enum hkv_problem_kind)p->kind;
    out->length = p->length;
    out->since_us = p->since_us;
    out->attempts = p->attempts;
    memcpy(out->author, p->author.bytes, ID_BYTES);
    say_why(store, p, connected, why);
    out->why = strdup(why);
    enum hkv_err err = buf_assign(&key, name);
    if (err == HKV_OK) err = buf_append_byte(&key, 0);
    out->key_bytes = key.len > 0 ? key.len - 1 : 0;
    out->key = (const char *)key.data;
    if (err == HKV_OK && out->why == NULL) err = error_set(HKV_E_NOMEM, "no memory to list values");
    return err;
}

static void find_connected(struct hkv_store *store, void *arg)
{
    uint64_t now_us = env_mono_us(node_env(store));
    for (size_t i = 0; i < store->peers.count; i++) {
        const struct peer *peer = store->peers.items[i];
        if (peer_is_selected(peer) && peer_is_connected(peer, now_us, store->anti_entropy_us)) *(bool *)arg = true;
    }
}

static enum hkv_err list(struct hkv_store *store, struct hkv_problems *out)
{
    struct problems *p = store->problems;
    bool connected = false;
    node_on_network(store, find_connected, &connected);
    (void)pthread_mutex_lock(&p->lock);
    enum hkv_err err = refresh(store, p);
    if (err == HKV_OK) out->items = calloc(p->count + 1, sizeof *out->items);
    if (err == HKV_OK && out->items == NULL) err = error_set(HKV_E_NOMEM, "no memory to list values");
    for (size_t i = 0; err == HKV_OK && i < p->count; i++)
        err = problem_out(store, &p->items[i], connected, &out->items[out->count++]);
    (void)pthread_mutex_unlock(&p->lock);
    return err;
}

enum hkv_err hkv_problems(struct hkv_store *store, struct hkv_problems **out)
{
    NEED_ARGUMENT(out);
    *out = NULL;
    TRY(node_call_begin(store));
    struct hkv_problems *problems = calloc(1, sizeof *problems);
    enum hkv_err err = problems == NULL ? error_set(HKV_E_NOMEM, "no memory to list values") : list(store, problems);
    node_call_end(store);
    if (err == HKV_OK)
        *out = problems;
    else
        hkv_problems_free(problems);
    return err;
}

void hkv_problems_free(struct hkv_problems *problems)
{
    if (problems == NULL) return;
    for (size_t i = 0; i < problems->count; i++) {
        free((void *)(uintptr_t)problems->items[i].key);
        free((void *)(uintptr_t)problems->items[i].why);
    }
    free(problems->items);
    free(problems);
}
