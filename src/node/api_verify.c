/* Public functions that verify what is stored: of an open store, at once and with repairs; of a stopped one, by reading
 * alone. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "node/check.h"
#include "node/node.h"
#include "node/world_real.h"

static const char *const kind_names[HKV_VERIFY_KIND_COUNT] = {
    [HKV_VERIFY_ENTRIES] = "entries",
    [HKV_VERIFY_SPANS] = "spans",
    [HKV_VERIFY_INDEX] = "index",
    [HKV_VERIFY_VALUES] = "values",
};

const char *hkv_verify_kind_name(enum hkv_verify_kind kind)
{
    return (unsigned)kind < HKV_VERIFY_KIND_COUNT ? kind_names[kind] : "unknown";
}

static void result_of(const struct kv_check_report *report, uint64_t took_us, struct hkv_verify_result *out)
{
    static const enum kv_check_kind kinds[HKV_VERIFY_KIND_COUNT] = {
        [HKV_VERIFY_ENTRIES] = KV_CHECK_ENTRY,
        [HKV_VERIFY_SPANS] = KV_CHECK_SPAN,
        [HKV_VERIFY_INDEX] = KV_CHECK_INDEX,
        [HKV_VERIFY_VALUES] = KV_CHECK_VALUE,
    };
    *out = (struct hkv_verify_result){.sound = true, .unreadable = report->unreadable, .took_ms = took_us / 1000};
    for (int i = 0; i < HKV_VERIFY_KIND_COUNT; i++) {
        const struct kv_check_tally *tally = &report->kinds[kinds[i]];
        out->kinds[i] = (struct hkv_verify_counts){tally->checked, tally->bad, tally->repaired};
        out->sound = out->sound && tally->bad == 0;
    }
    _Static_assert(sizeof out->first == sizeof report->first.text, "the sentence fits");
    memcpy(out->first, report->first.text, sizeof out->first);
}

/* ------------------------------------------------------------------------------------------ of an open store */

/* A verification with whoever waits for it: a blocked caller, or a callback. */
struct verify_call {
    struct check_call check; /* first */
    struct job begin;
    struct job callback;
    struct hkv_store *store;
    struct hkv_verify_options options;
    uint64_t begun_us;
    unsigned permille; /* told last */
    enum hkv_err err;
    struct error_text why;
    struct hkv_verify_result result;
    struct node_signal done;
    hkv_verify_fn verify_done; /* NULL: a caller waits */
    void *arg;
};

static void call_free(struct verify_call *call)
{
    node_signal_fini(&call->done);
    free(call);
}

static void run_callback(struct job *job)
{
    struct verify_call *call = (struct verify_call *)(void *)((char *)job - offsetof(struct verify_call, callback));
    struct hkv_store *store = call->store;
    bool ok = call->err == HKV_OK;
    call->verify_done(call->arg, call->err, ok ? "" : call->why.text, ok ? &call->result : NULL);
    call_free(call);
    node_call_end(store);
}

static void check_done(struct check_call *check, enum hkv_err err)
{
    struct verify_call *call = (struct verify_call *)(void *)check;
    struct env *env = node_env(call->store);
    call->err = err;
    if (err != HKV_OK)
        error_save(&call->why);
    else
        result_of(&check->report, env_mono_us(env) - call->begun_us, &call->result);
    if (call->verify_done == NULL) {
        node_signal_set(&call->done);
        return;
    }
    call->callback.run = run_callback;
    env_run_on(env, ENV_CALLBACK, &call->callback);
}

static void check_progress(struct check_call *check, unsigned permille)
{
    struct verify_call *call = (struct verify_call *)(void *)check;
    if (permille == call->permille) return;
    call->permille = permille;
    call->options.progress(call->options.progress_arg, permille);
}

static void call_begin(struct job *job)
{
    struct verify_call *call = (struct verify_call *)(void *)((char *)job - offsetof(struct verify_call, begin));
    call->begun_us = env_mono_us(node_env(call->store));
    checker_verify(call->store->checker, &call->check);
}

static enum hkv_err call_new(struct hkv_store *store, const struct hkv_verify_options *options,
                             struct verify_call **out)
{
    struct verify_call *call = calloc(1, sizeof *call);
    if (call == NULL) return error_set(HKV_E_NOMEM, "no memory to verify the store");
    node_signal_init(&call->done);
    call->store = store;
    call->begin.run = call_begin;
    call->check.done = check_done;
    if (options != NULL) call->options = *options;
    if (call->options.progress != NULL) call->check.progress = check_progress;
    *out = call;
    return HKV_OK;
}

enum hkv_err hkv_verify(struct hkv_store *store, const struct hkv_verify_options *options,
                        struct hkv_verify_result *out)
{
    struct verify_call *call;
    NEED_ARGUMENT(out);
    *out = (struct hkv_verify_result){0};
    TRY(node_call_begin(store));
    enum hkv_err err = call_new(store, options, &call);
    if (err == HKV_OK) {
        env_run_on(node_env(store), ENV_NETWORK, &call->begin);
        (void)node_signal_wait(store->world, &call->done, HKV_FOREVER);
        err = call->err;
        if (err == HKV_OK)
            *out = call->result;
        else
            error_restore(&call->why);
        call_free(call);
    }
    node_call_end(store);
    return err;
}

enum hkv_err hkv_verify_async(struct hkv_store *store, const struct hkv_verify_options *options, hkv_verify_fn done,
                              void *arg)
{
    struct verify_call *call;
    NEED_ARGUMENT(done);
    TRY(node_call_begin(store));
    enum hkv_err err = call_new(store, options, &call);
    if (err != HKV_OK) {
        node_call_end(store);
        return err;
    }
    call->verify_done = done;
    call->arg = arg;
    env_run_on(node_env(store), ENV_NETWORK, &call->begin);
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ of a stopped store */

static enum hkv_err run_check(struct kv_check *check, const struct hkv_verify_options *options)
{
    unsigned told = 0;
    for (bool end = false; !end;) {
        TRY(kv_check_step(check, &end));
        unsigned permille = kv_check_permille(check);
        if (options == NULL || options->progress == NULL || permille == told) continue;
        told = permille;
        options->progress(options->progress_arg, permille);
    }
    return HKV_OK;
}

static enum hkv_err check_kv(struct kv_config *config, const struct hkv_verify_options *options,
                             struct kv_check_report *report)
{
    struct kv *kv;
    struct kv_check *check;
    struct namespace_id other;
    bool created, there;
    TRY(kv_stored_namespace(config, &config->namespace, &there));
    if (!there) return error_set(HKV_E_NOT_FOUND, "%s: there is no store in this folder", config->data_dir);
    TRY(kv_open(config, &kv, &created, &other));
    enum hkv_err err = kv_check_new(kv, true, &check);
    if (err == HKV_OK) {
        err = run_check(check, options);
        kv_check_report(check, report);
        kv_check_free(check);
    }
    kv_close(kv);
    return err;
}

/* Opening a folder makes what is not there. */
static enum hkv_err is_there(const char *data_dir)
{
    char path[PATH_MAX];
    if (data_dir == NULL) return error_set(HKV_E_INVALID, "data_dir is NULL; name the folder of the store");
    int n = snprintf(path, sizeof path, "%s/docs/store.db", data_dir);
    if (n < 0 || (size_t)n >= sizeof path)
        return error_set(HKV_E_INVALID, "data_dir is longer than a path may be; name a directory");
    if (access(path, F_OK) == 0) return HKV_OK;
    return error_set(HKV_E_NOT_FOUND, "%s: not there; name the data directory of a store", path);
}

static enum hkv_err check_dir(const char *data_dir, struct env *env, const struct hkv_verify_options *options,
                              struct hkv_verify_result *out)
{
    struct data_dir dir;
    struct kv_check_report report = {0};
    TRY(data_dir_open(&dir, data_dir));
    struct kv_config config = {
        .data_dir = dir.path,
        .cache_bytes = (uint64_t)32 << 20,
        .read_only = true,
        .env = env,
        .files = dir.values,
    };
    uint64_t begun_us = env_mono_us(env);
    enum hkv_err err = check_kv(&config, options, &report);
    if (err == HKV_OK) result_of(&report, env_mono_us(env) - begun_us, out);
    data_dir_close(&dir);
    return err;
}

enum hkv_err hkv_verify_dir(const char *data_dir, const struct hkv_verify_options *options,
                            struct hkv_verify_result *out)
{
    struct node_world *world;
    NEED_ARGUMENT(out);
    *out = (struct hkv_verify_result){0};
    TRY(is_there(data_dir));
    TRY(node_world_real(&world)); /* for its clocks; it is never started */
    enum hkv_err err = check_dir(data_dir, world->env, options, out);
    world->ops->release(world);
    return err;
}
