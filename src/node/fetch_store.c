/* What a fetcher takes from the store and brings back: which values are wanted, small ones that arrived, and those that
 * nobody has. Network thread, but for what runs in the store's transactions (the functions named …_apply). */
#include <stdlib.h>

#include "node/fetch_parts.h"
#include "node/sync.h"

/* Something failed that nobody else would ever begin again: the disk, or memory. */
static void retry_later(struct fetcher *fetcher)
{
    struct env *env = node_env(fetcher->store);
    if (fetcher->retry.due_us == 0) env_timer_set(env, &fetcher->retry, env_mono_us(env) + FETCH_RETRY_US);
}

/* ------------------------------------------------------------------------------------------ nobody has it */

static struct fetch_item *item_of_task(struct commit_task *task)
{
    return (struct fetch_item *)(void *)((char *)task - offsetof(struct fetch_item, task));
}

static enum hkv_err failed_apply(struct commit_task *task, struct kv *kv)
{
    struct fetch_item *item = item_of_task(task);
    return kv_value_failed(kv, &item->wanted.hash, item->failed_us);
}

/* Without its note in the store the value would be fetched again at once, or never. */
static void failed_done(struct job *job)
{
    struct fetch_item *item = (struct fetch_item *)(void *)((char *)job - offsetof(struct fetch_item, job));
    struct fetcher *fetcher = item->fetcher;
    if (item->err != HKV_OK && !fetcher->closing) {
        fetch_items_push(&fetcher->failed, item);
        retry_later(fetcher);
    } else {
        fetch_item_end(item);
        fetcher_kick(fetcher); /* learns when the next is due */
    }
    fetch_task_ended(fetcher);
}

static void failed_complete(struct commit_task *task, enum hkv_err err)
{
    struct fetch_item *item = item_of_task(task);
    item->err = err;
    item->job.run = failed_done;
    env_run_on(node_env(item->fetcher->store), ENV_NETWORK, &item->job);
}

static void failed_submit(struct fetch_item *item)
{
    struct fetcher *fetcher = item->fetcher;
    item->task = (struct commit_task){.apply = failed_apply, .complete = failed_complete};
    item->failed_us = kv_steady_us(fetcher->store->kv);
    fetcher->tasks++;
    committer_submit(&fetcher->store->committer, &item->task);
}

void fetch_item_failed(struct fetch_item *item)
{
    fetch_large_free(item->transfer);
    item->transfer = NULL;
    if (item->fetcher->closing)
        fetch_item_end(item);
    else
        failed_submit(item);
}

/* ------------------------------------------------------------------------------------------ small values */

struct arrived {
    struct hash hash;
    struct buf content;
};

struct values_task {
    struct commit_task task; /* first */
    struct job job;
    struct fetcher *fetcher;
    struct fetch_item *items[FETCH_BATCH_VALUES];
    struct arrived values[FETCH_BATCH_VALUES];
    size_t count;
    size_t bytes;
    enum hkv_err err;
};

static enum hkv_err values_apply(struct commit_task *task, struct kv *kv)
{
    struct values_task *v = (struct values_task *)(void *)task;
    for (size_t i = 0; i < v->count; i++)
        TRY(kv_value_arrived(kv, &v->values[i].hash, buf_slice(&v->values[i].content), NULL));
    return HKV_OK;
}

static void values_done(struct job *job)
{
    struct values_task *v = (struct values_task *)(void *)((char *)job - offsetof(struct values_task, job));
    struct fetcher *fetcher = v->fetcher;
    bool full = fetcher->arriving_bytes > FETCH_ARRIVING_MAX;
    fetcher->arriving_bytes -= v->bytes;
    for (size_t i = 0; i < v->count; i++) {
        buf_fini(&v->values[i].content);
        if (v->err == HKV_OK)
            fetch_item_end(v->items[i]);
        else
            fetch_item_failed(v->items[i]);
    }
    if (v->err == HKV_OK) sync_values_changed(fetcher->store->sync);
    free(v);
    if (full) fetch_requests_resume(fetcher);
    fetch_task_ended(fetcher);
}

static void values_complete(struct commit_task *task, enum hkv_err err)
{
    struct values_task *v = (struct values_task *)(void *)task;
    v->err = err;
    if (err != HKV_OK)
        node_log(v->fetcher->store, HKV_LOG_ERROR, "values", "fetched values cannot be stored: %s", error_last());
    v->job.run = values_done;
    env_run_on(node_env(v->fetcher->store), ENV_NETWORK, &v->job);
}

void fetch_values_store(struct fetch_request *r)
{
    struct values_task *v = r->values;
    if (v == NULL) return;
    r->values = NULL;
    v->task.apply = values_apply;
    v->task.complete = values_complete;
    r->peer->fetcher->arriving_bytes += v->bytes;
    r->peer->fetcher->tasks++;
    committer_submit(&v->fetcher->store->committer, &v->task);
}

enum hkv_err fetch_value_received(struct fetch_request *r)
{
    struct values_task *v = r->values;
    if (v == NULL) {
        v = calloc(1, sizeof *v);
        if (v == NULL) return error_set(HKV_E_NOMEM, "no memory for fetched values");
        v->fetcher = r->peer->fetcher;
        r->values = v;
    }
    v->items[v->count] = r->items[r->ended];
    v->values[v->count].hash = r->items[r->ended]->wanted.hash;
    v->bytes += r->content.len;
    v->values[v->count].content = buf_take(&r->content);
    v->count++;
    r->ended++;
    if (v->count == FETCH_BATCH_VALUES || v->bytes >= FETCH_BATCH_BYTES) fetch_values_store(r);
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ what is wanted */

struct take_task {
    struct commit_task task; /* first */
    struct job job;
    struct fetcher *fetcher;
    bool wake;
    struct endpoint_id waker;
    size_t max;
    uint64_t now_us;
    struct kv_wanted *wanted;
    size_t count;
    size_t begun;           /* of them */
    struct take_task *next; /* of those half begun */
    uint64_t next_due_us;
    enum hkv_err err;
};

static enum hkv_err take_apply(struct commit_task *task, struct kv *kv)
{
    struct take_task *take = (struct take_task *)(void *)task;
    if (take->wake) TRY(kv_wanted_wake(kv, &take->waker));
    return kv_wanted_take(kv, take->now_us, take->max, take->wanted, &take->count, &take->next_due_us);
}

/* More is taken when enough items have ended. */
static bool is_full(const struct fetcher *fetcher)
{
    return fetcher->item_count >= FETCH_QUEUE_MAX;
}

static void ask_later(struct fetcher *fetcher)
{
    struct env *env = node_env(fetcher->store);
    env_timer_set(env, &fetcher->timer, env_mono_us(env) + FETCH_RETRY_US);
}

static void take_free(struct take_task *take)
{
    if (take == NULL) return;
    free(take->wanted);
    free(take);
}

/* False: there was no memory for all of them. */
static bool begin_items(struct take_task *take)
{
    for (; take->begun < take->count; take->begun++)
        if (!fetch_item_begin(take->fetcher, &take->wanted[take->begun])) return false;
    return true;
}

static void take_end(struct take_task *take)
{
    struct fetcher *fetcher = take->fetcher;
    struct env *env = node_env(fetcher->store);
    fetcher->takes--;
    if (take->err != HKV_OK) { /* the disk is failing */
        ask_later(fetcher);
    } else {
        if (take->next_due_us > 0 && !is_full(fetcher)) {
            uint64_t now_us = kv_steady_us(fetcher->store->kv);
            uint64_t wait_us = take->next_due_us > now_us ? take->next_due_us - now_us : 0;
            env_timer_set(env, &fetcher->timer, env_mono_us(env) + wait_us + 1000);
        }
        if (fetcher->again && fetcher->takes == 0) {
            fetcher->again = false;
            fetcher_kick(fetcher);
        }
    }
    take_free(take);
}

/* To the store all of them are taken, so none may be left behind. */
static void take_begin_items(struct take_task *take)
{
    if (take->err == HKV_OK && !begin_items(take)) {
        take->next = take->fetcher->half_begun;
        take->fetcher->half_begun = take;
        retry_later(take->fetcher);
    } else {
        take_end(take);
    }
}

static void take_done(struct job *job)
{
    struct take_task *take = (struct take_task *)(void *)((char *)job - offsetof(struct take_task, job));
    struct fetcher *fetcher = take->fetcher;
    if (fetcher->closing)
        take_free(take);
    else
        take_begin_items(take);
    fetch_task_ended(fetcher);
}

static void take_complete(struct commit_task *task, enum hkv_err err)
{
    struct take_task *take = (struct take_task *)(void *)task;
    take->err = err;
    take->job.run = take_done;
    env_run_on(node_env(take->fetcher->store), ENV_NETWORK, &take->job);
}

void fetch_take(struct fetcher *fetcher, const struct endpoint_id *waker)
{
    size_t room = is_full(fetcher) ? 0 : FETCH_QUEUE_MAX - fetcher->item_count;
    if (fetcher->closing) return;
    struct take_task *take = calloc(1, sizeof *take);
    if (take != NULL) /* a megabyte, of which little is touched */
        take->wanted = malloc((room > 0 ? room : 1) * sizeof *take->wanted);
    if (take == NULL || take->wanted == NULL) {
        take_free(take);
        ask_later(fetcher);
        return;
    }
    take->task.apply = take_apply;
    take->task.complete = take_complete;
    take->fetcher = fetcher;
    take->wake = waker != NULL;
    if (waker != NULL) take->waker = *waker;
    take->max = room;
    take->now_us = kv_steady_us(fetcher->store->kv);
    fetcher->takes++;
    fetcher->tasks++;
    committer_submit(&fetcher->store->committer, &take->task);
}

void fetcher_kick(struct fetcher *fetcher)
{
    if (fetcher->takes > 0) {
        fetcher->again = true;
        return;
    }
    if (!is_full(fetcher)) fetch_take(fetcher, NULL);
}

/* ------------------------------------------------------------------------------------------ timers */

static void due_fired(struct env_timer *timer)
{
    fetcher_kick((struct fetcher *)(void *)((char *)timer - offsetof(struct fetcher, timer)));
}

static void retry_fired(struct env_timer *timer)
{
    struct fetcher *fetcher = (struct fetcher *)(void *)((char *)timer - offsetof(struct fetcher, retry));
    struct take_task *take = fetcher->half_begun, *next;
    fetcher->half_begun = NULL;
    for (size_t left = fetcher->failed.count; left > 0; left--) failed_submit(fetch_items_pop(&fetcher->failed));
    for (; take != NULL; take = next) {
        next = take->next;
        take_begin_items(take);
    }
}

void fetch_store_init(struct fetcher *fetcher)
{
    fetcher->timer.fire = due_fired;
    fetcher->retry.fire = retry_fired;
    fetch_items_init(&fetcher->failed);
}

void fetch_store_close(struct fetcher *fetcher)
{
    env_timer_cancel(node_env(fetcher->store), &fetcher->timer);
    env_timer_cancel(node_env(fetcher->store), &fetcher->retry);
    while (fetcher->failed.first != NULL) fetch_item_end(fetch_items_pop(&fetcher->failed));
    for (struct take_task *take = fetcher->half_begun, *next; take != NULL; take = next) {
        next = take->next;
        take_free(take);
    }
    fetcher->half_begun = NULL;
}
