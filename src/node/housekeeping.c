#include "node/housekeeping.h"

#include <stdlib.h>

#include "node/fetch.h"
#include "node/sync.h"

struct housekeeping {
    struct commit_task task; /* first */
    struct job job;
    struct env_timer timer;
    struct hkv_store *store;
    uint64_t now_us;
    size_t inserted;
    size_t quarantined;
    bool running;
    void (*closed_done)(void *arg); /* set: closing */
    void *closed_arg;
};

static enum hkv_err round_apply(struct commit_task *task, struct kv *kv)
{
    struct housekeeping *h = (struct housekeeping *)(void *)task;
    uint64_t next_due_us;
    TRY(kv_quarantine(kv, &h->quarantined));
    TRY(kv_refused_retry(kv, HOUSEKEEPING_BATCH, &h->inserted, &next_due_us));
    TRY(kv_expire_due(kv, h->now_us, HOUSEKEEPING_BATCH, &next_due_us));
    return kv_changes_trim(kv, KV_CHANGES_TRIM_MAX);
}

static void round_done(struct job *job)
{
    struct housekeeping *h = (struct housekeeping *)(void *)((char *)job - offsetof(struct housekeeping, job));
    struct env *env = node_env(h->store);
    h->running = false;
    if (h->closed_done != NULL) {
        h->closed_done(h->closed_arg);
        return;
    }
    clock_review(h->store);
    if (h->inserted > 0) sync_entries_changed(h->store->sync, NULL);
    if (h->inserted > 0 || h->quarantined > 0) fetcher_kick(h->store->fetcher);
    env_timer_set(env, &h->timer, env_mono_us(env) + HOUSEKEEPING_US);
}

static void round_complete(struct commit_task *task, enum hkv_err err)
{
    struct housekeeping *h = (struct housekeeping *)(void *)task;
    if (err != HKV_OK) h->inserted = h->quarantined = 0; /* the next round tries again */
    h->job.run = round_done;
    env_run_on(node_env(h->store), ENV_NETWORK, &h->job);
}

static void round_begin(struct env_timer *timer)
{
    struct housekeeping *h = (struct housekeeping *)(void *)((char *)timer - offsetof(struct housekeeping, timer));
    h->running = true;
    h->inserted = h->quarantined = 0;
    h->now_us = env_wall_us(node_env(h->store));
    h->task = (struct commit_task){.apply = round_apply, .complete = round_complete};
    committer_submit(&h->store->committer, &h->task);
}

enum hkv_err housekeeping_new(struct hkv_store *store, struct housekeeping **out)
{
    struct housekeeping *h = calloc(1, sizeof *h);
    if (h == NULL) return error_set(HKV_E_NOMEM, "no memory to open a store");
    h->store = store;
    h->timer.fire = round_begin;
    *out = h;
    return HKV_OK;
}

void housekeeping_free(struct housekeeping *h)
{
    free(h);
}

void housekeeping_begin(struct housekeeping *h)
{
    round_begin(&h->timer);
}

void housekeeping_close(struct housekeeping *h, void (*done)(void *arg), void *arg)
{
    env_timer_cancel(node_env(h->store), &h->timer);
    h->closed_done = done;
    h->closed_arg = arg;
    if (!h->running) done(arg);
}
