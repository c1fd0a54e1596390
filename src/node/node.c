#include "node/node.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "crypto/ed25519.h"

void node_log(struct hkv_store *store, enum hkv_log_level level, const char *module, const char *format, ...)
{
    char text[1024];
    va_list args;
    if (store->log == NULL) return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    store->log(store->log_arg, level, module, text);
}

static pthread_mutex_t listeners_lock = PTHREAD_MUTEX_INITIALIZER;
static struct hkv_store *listeners;

static void report(const struct log_sink *sink, enum log_level level, const char *module, const char *text)
{
    static const enum hkv_log_level levels[] = {[LOG_LEVEL_ERROR] = HKV_LOG_ERROR,
                                                [LOG_LEVEL_WARN] = HKV_LOG_WARN,
                                                [LOG_LEVEL_INFO] = HKV_LOG_INFO,
                                                [LOG_LEVEL_DEBUG] = HKV_LOG_DEBUG};
    (void)sink;
    (void)pthread_mutex_lock(&listeners_lock);
    for (struct hkv_store *s = listeners; s != NULL; s = s->log_next) s->log(s->log_arg, levels[level], module, text);
    (void)pthread_mutex_unlock(&listeners_lock);
}

void node_log_begin(struct hkv_store *store)
{
    static const struct log_sink sink = {.write = report, .level = LOG_LEVEL_DEBUG};
    if (store->log == NULL) return;
    (void)pthread_mutex_lock(&listeners_lock);
    store->log_next = listeners;
    listeners = store;
    (void)pthread_mutex_unlock(&listeners_lock);
    log_set_sink(&sink);
}

void node_log_end(struct hkv_store *store)
{
    (void)pthread_mutex_lock(&listeners_lock);
    struct hkv_store **at = &listeners;
    while (*at != NULL && *at != store) at = &(*at)->log_next;
    if (*at != NULL) *at = store->log_next;
    (void)pthread_mutex_unlock(&listeners_lock);
}

void node_identity_get(struct hkv_store *store, struct node_identity *out)
{
    (void)pthread_mutex_lock(&store->identity_lock);
    *out = store->identity;
    (void)pthread_mutex_unlock(&store->identity_lock);
}

void node_identity_wipe(struct node_identity *identity)
{
    secret_wipe(identity, sizeof *identity);
}

enum hkv_err node_bytes_check(const char *argument, const void *data, size_t len)
{
    if (data != NULL || len == 0) return HKV_OK;
    return error_set(HKV_E_INVALID, "the argument %s is NULL, its length is %zu; give its bytes", argument, len);
}

enum hkv_err node_call_begin(struct hkv_store *store)
{
    if (store == NULL) return error_set(HKV_E_INVALID, "the store is NULL; open one first");
    (void)pthread_mutex_lock(&store->calls_lock);
    bool closing = store->closing;
    if (!closing) store->calls++;
    (void)pthread_mutex_unlock(&store->calls_lock);
    return closing ? error_set(HKV_E_CLOSED, "the store is being closed") : HKV_OK;
}

void node_call_end(struct hkv_store *store)
{
    (void)pthread_mutex_lock(&store->calls_lock);
    bool last = --store->calls == 0 && store->closing;
    (void)pthread_mutex_unlock(&store->calls_lock);
    if (last) node_signal_set(&store->calls_ended); /* the last use of the store */
}

void node_signal_init(struct node_signal *signal)
{
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&signal->lock, NULL);
    (void)pthread_cond_init(&signal->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    signal->set = false;
}

void node_signal_fini(struct node_signal *signal)
{
    (void)pthread_cond_destroy(&signal->changed);
    (void)pthread_mutex_destroy(&signal->lock);
}

void node_signal_set(struct node_signal *signal)
{
    (void)pthread_mutex_lock(&signal->lock);
    signal->set = true;
    (void)pthread_cond_broadcast(&signal->changed);
    (void)pthread_mutex_unlock(&signal->lock);
}

bool node_signal_is_set(struct node_signal *signal)
{
    (void)pthread_mutex_lock(&signal->lock);
    bool set = signal->set;
    (void)pthread_mutex_unlock(&signal->lock);
    return set;
}

struct network_call {
    struct job job; /* first */
    struct hkv_store *store;
    void (*run)(struct hkv_store *store, void *arg);
    void *arg;
    struct node_signal done;
};

static void network_call_run(struct job *job)
{
    struct network_call *call = (struct network_call *)(void *)job;
    call->run(call->store, call->arg);
    node_signal_set(&call->done);
}

void node_on_network(struct hkv_store *store, void (*run)(struct hkv_store *store, void *arg), void *arg)
{
    struct network_call call = {.job.run = network_call_run, .store = store, .run = run, .arg = arg};
    node_signal_init(&call.done);
    env_run_on(node_env(store), ENV_NETWORK, &call.job);
    (void)node_signal_wait(store->world, &call.done, HKV_FOREVER);
    node_signal_fini(&call.done);
}

struct replica_call {
    struct commit_task task; /* first */
    struct hkv_store *store;
    enum hkv_err (*apply)(struct hkv_store *store, void *arg);
    void *arg;
    enum hkv_err err;
    struct error_text why;
    struct node_signal done;
};

static enum hkv_err replica_call_apply(struct commit_task *task, struct kv *kv)
{
    struct replica_call *call = (struct replica_call *)(void *)task;
    (void)kv;
    return call->apply(call->store, call->arg);
}

static void replica_call_complete(struct commit_task *task, enum hkv_err err)
{
    struct replica_call *call = (struct replica_call *)(void *)task;
    call->err = err;
    if (err != HKV_OK) error_save(&call->why);
    node_signal_set(&call->done);
}

enum hkv_err node_on_replica(struct hkv_store *store, enum hkv_err (*apply)(struct hkv_store *store, void *arg),
                             void *arg)
{
    struct replica_call call = {.task = {.apply = replica_call_apply, .complete = replica_call_complete},
                                .store = store,
                                .apply = apply,
                                .arg = arg};
    node_signal_init(&call.done);
    committer_submit(&store->committer, &call.task);
    (void)node_signal_wait(store->world, &call.done, HKV_FOREVER);
    node_signal_fini(&call.done);
    if (call.err != HKV_OK) error_restore(&call.why);
    return call.err;
}

char *node_addresses_text(const struct address_set *addrs)
{
    struct buf text = {0};
    enum hkv_err err = HKV_OK;
    for (size_t i = 0; err == HKV_OK && i < addrs->count; i++) {
        char socket[ADDRESS_TEXT_MAX];
        const struct address *a = &addrs->items[i];
        if (a->kind == ADDRESS_IP) socket_address_format(&a->socket, socket);
        if (i > 0) err = buf_append_byte(&text, ',');
        if (err == HKV_OK) err = buf_append_slice(&text, slice_of_text(a->kind == ADDRESS_IP ? socket : a->relay_url));
    }
    if (err == HKV_OK) err = buf_append_byte(&text, '\0');
    if (err == HKV_OK) return (char *)text.data;
    buf_fini(&text);
    return NULL;
}
