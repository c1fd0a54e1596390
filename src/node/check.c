#include "node/check.h"

#include <stdlib.h>

#include "node/fetch.h"
#include "node/sync.h"

struct checker {
    struct commit_task task; /* first */
    struct job job;
    struct env_timer timer;
    struct hkv_store *store;
    struct kv_check *background;
    struct kv_check *demand; /* of `call` */
    struct kv_check *current;
    struct check_call *call;
    bool running; /* a step or a task is out */
    bool end;     /* the step was the last of its pass */
    enum hkv_err err;
    struct error_text why;
    uint64_t begun_us; /* of the step */
    uint64_t took_us;
    uint64_t saved_us;
    size_t removed;                 /* entries, by a rebuild */
    void (*closed_done)(void *arg); /* set: closing */
    void *closed_arg;
};

static struct checker *of_job(struct job *job)
{
    return (struct checker *)(void *)((char *)job - offsetof(struct checker, job));
}

static void step_begin(struct checker *c);

/* ------------------------------------------------------------------------------------------ the end of a pass */

static void call_end(struct checker *c, enum hkv_err err)
{
    struct check_call *call = c->call;
    if (err == HKV_OK) kv_check_report(c->demand, &call->report);
    kv_check_free(c->demand);
    c->demand = NULL;
    c->call = NULL;
    call->done(call, err);
}

static void close_end(struct checker *c)
{
    if (c->call != NULL) call_end(c, error_set(HKV_E_CLOSED, "the store is being closed"));
    c->closed_done(c->closed_arg);
}

static void pause_for(struct checker *c, uint64_t delay_us)
{
    struct env *env = node_env(c->store);
    env_timer_set(env, &c->timer, env_mono_us(env) + delay_us);
}

/* Everything that the step led to is done. */
static void step_over(struct checker *c)
{
    bool was_demand = c->current == c->demand;
    c->running = false;
    c->current = NULL;
    if (c->closed_done != NULL) {
        close_end(c);
        return;
    }
    if (was_demand && (c->end || c->err != HKV_OK)) {
        if (c->err != HKV_OK) error_restore(&c->why);
        call_end(c, c->err);
    } else if (was_demand && c->call->progress != NULL) {
        c->call->progress(c->call, kv_check_permille(c->demand));
    }
    uint64_t pause_us = CHECK_PAUSE * c->took_us;
    if (c->demand != NULL)
        step_begin(c);
    else if (was_demand || kv_check_wants_rebuild(c->background))
        pause_for(c, c->err != HKV_OK && !was_demand ? CHECK_RETRY_US : CHECK_STEP_US);
    else if (c->err != HKV_OK)
        pause_for(c, CHECK_RETRY_US);
    else if (c->end)
        pause_for(c, CHECK_REST_US);
    else
        pause_for(c, pause_us > CHECK_STEP_US ? pause_us : CHECK_STEP_US);
}

/* ------------------------------------------------------------------------------------------ repairs */

static void note(struct checker *c, enum hkv_err err)
{
    c->err = err;
    if (err != HKV_OK) error_save(&c->why);
}

static void back_to_network(struct checker *c, void (*run)(struct job *job))
{
    c->job.run = run;
    env_run_on(node_env(c->store), ENV_NETWORK, &c->job);
}

static void rebuilt(struct job *job)
{
    struct checker *c = of_job(job);
    if (c->err == HKV_OK && c->closed_done == NULL) {
        fetcher_kick(c->store->fetcher);
        if (c->removed > 0) sync_entries_changed(c->store->sync, NULL);
    }
    step_over(c);
}

static enum hkv_err rebuild_apply(struct commit_task *task, struct kv *kv)
{
    struct checker *c = (struct checker *)(void *)task;
    return kv_rebuild(kv, c->current, &c->removed);
}

static void rebuild_complete(struct commit_task *task, enum hkv_err err)
{
    struct checker *c = (struct checker *)(void *)task;
    note(c, err);
    if (err != HKV_OK)
        node_log(c->store, HKV_LOG_ERROR, "check", "what was found damaged cannot be made anew: %s", error_last());
    back_to_network(c, rebuilt);
}

/* At the end of a pass, when all that is bad is known. */
static void rebuild_if_due(struct checker *c)
{
    if (c->err != HKV_OK || !c->end || !kv_check_wants_rebuild(c->current) || c->closed_done != NULL) {
        step_over(c);
        return;
    }
    c->task = (struct commit_task){.apply = rebuild_apply, .complete = rebuild_complete, .no_transaction = true};
    committer_submit(&c->store->committer, &c->task);
}

static void applied(struct job *job)
{
    struct checker *c = of_job(job);
    if (c->err == HKV_OK) {
        bool found = kv_check_found(c->current);
        kv_check_applied(c->current);
        c->saved_us = env_mono_us(node_env(c->store));
        if (found && c->closed_done == NULL) {
            fetcher_kick(c->store->fetcher);
            sync_values_changed(c->store->sync);
        }
    }
    rebuild_if_due(c);
}

static enum hkv_err apply(struct commit_task *task, struct kv *kv)
{
    struct checker *c = (struct checker *)(void *)task;
    (void)kv;
    TRY(kv_check_apply(c->current));
    return c->current == c->background ? kv_check_save(c->current) : HKV_OK;
}

static void apply_complete(struct commit_task *task, enum hkv_err err)
{
    struct checker *c = (struct checker *)(void *)task;
    note(c, err);
    back_to_network(c, applied);
}

/* ------------------------------------------------------------------------------------------ steps */

static void step_done(struct job *job)
{
    struct checker *c = of_job(job);
    uint64_t now_us = env_mono_us(node_env(c->store));
    c->took_us = now_us - c->begun_us;
    bool save = c->current == c->background && (c->end || now_us - c->saved_us >= CHECK_SAVE_US);
    if (c->err == HKV_OK && c->closed_done == NULL && (save || c->end || kv_check_found(c->current))) {
        c->task = (struct commit_task){.apply = apply, .complete = apply_complete};
        committer_submit(&c->store->committer, &c->task);
    } else {
        rebuild_if_due(c);
    }
}

static void step_run(struct job *job)
{
    struct checker *c = of_job(job);
    note(c, kv_check_step(c->current, &c->end));
    back_to_network(c, step_done);
}

static void step_begin(struct checker *c)
{
    struct env *env = node_env(c->store);
    env_timer_cancel(env, &c->timer);
    c->running = true;
    c->current = c->demand != NULL ? c->demand : c->background;
    c->end = false;
    c->removed = 0;
    c->begun_us = env_mono_us(env);
    c->job.run = step_run;
    env_run_on(env, ENV_WORKER, &c->job);
}

static void timer_fired(struct env_timer *timer)
{
    step_begin((struct checker *)(void *)((char *)timer - offsetof(struct checker, timer)));
}

void checker_verify(struct checker *c, struct check_call *call)
{
    if (c->closed_done != NULL) {
        call->done(call, error_set(HKV_E_CLOSED, "the store is being closed"));
        return;
    }
    if (c->call != NULL) {
        call->done(call, error_set(HKV_E_BUSY, "the store is being verified already; try again when that has ended"));
        return;
    }
    enum hkv_err err = kv_check_new(c->store->kv, true, &c->demand);
    if (err != HKV_OK) {
        call->done(call, err);
        return;
    }
    c->call = call;
    if (!c->running) step_begin(c);
}

/* ------------------------------------------------------------------------------------------ life cycle */

enum hkv_err checker_new(struct hkv_store *store, struct checker **out)
{
    struct checker *c = calloc(1, sizeof *c);
    if (c == NULL) return error_set(HKV_E_NOMEM, "no memory to open a store");
    c->store = store;
    c->timer.fire = timer_fired;
    enum hkv_err err = kv_check_new(store->kv, false, &c->background);
    if (err != HKV_OK) {
        checker_free(c);
        return err;
    }
    *out = c;
    return HKV_OK;
}

void checker_free(struct checker *c)
{
    if (c == NULL) return;
    kv_check_free(c->background);
    kv_check_free(c->demand);
    free(c);
}

void checker_begin(struct checker *c)
{
    c->saved_us = env_mono_us(node_env(c->store));
    if (!c->running) pause_for(c, CHECK_START_US);
}

void checker_close(struct checker *c, void (*done)(void *arg), void *arg)
{
    env_timer_cancel(node_env(c->store), &c->timer);
    c->closed_done = done;
    c->closed_arg = arg;
    if (!c->running) close_end(c);
}
