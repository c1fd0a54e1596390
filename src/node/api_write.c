/* Public writes: the caller's thread makes the content and signs the entry, the replica thread stores it in a group
 * commit.
 *
 *   caller   check ─▶ content, hash ─▶ propose a stamp ─▶ sign ─▶ submit ─▶ wait (or return, for the async forms)
 *   replica                                                     apply ─▶ commit ─▶ complete
 *
 * A write is referenced by its caller and by the committer; whoever lets go last frees it, so a caller that stopped
 * waiting can leave. */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "crypto/blake3.h"
#include "crypto/ed25519.h"
#include "node/import.h"
#include "node/node.h"
#include "node/records.h"

struct write_call {
    struct commit_task task; /* first */
    struct job callback;
    struct hkv_store *store;
    atomic_int references;
    struct node_identity identity; /* as of the signing */
    struct buf document_key;
    struct buf content;
    struct kv_write write;
    enum hkv_err err;
    struct error_text why;
    struct node_signal done;
    hkv_write_fn async; /* NULL: a caller waits for `done` */
    void *async_arg;
    node_record_fn record_done; /* of a record that nobody waits for */
    void *record_arg;
    uint64_t stamp_us; /* of a record that is not to be newer; 0: as the clock says */
    bool is_format_record;
    bool is_member_record;
};

static void write_release(struct write_call *call)
{
    if (atomic_fetch_sub(&call->references, 1) != 1) return;
    node_identity_wipe(&call->identity);
    buf_fini(&call->document_key);
    buf_fini(&call->content);
    kv_file_free(call->write.file);
    node_signal_fini(&call->done);
#ifndef __clang_analyzer__ /* it does not count references */
    free(call);
#endif
}

static void result_of(const struct write_call *call, struct hkv_write_result *out)
{
    out->version.stamp_us = call->write.entry.record.stamp_us;
    memcpy(out->version.author, call->write.entry.author.bytes, ID_BYTES);
}

/* ------------------------------------------------------------------------------------------ replica thread */

static enum hkv_err write_apply(struct commit_task *task, struct kv *kv)
{
    struct write_call *call = (struct write_call *)(void *)task;
    struct hkv_store *store = call->store;
    (void)pthread_mutex_lock(&store->identity_lock);
    bool same = namespace_id_equal(&store->identity.signer.namespace, &call->identity.signer.namespace);
    (void)pthread_mutex_unlock(&store->identity_lock);
    if (!same) return error_set(HKV_E_NAMESPACE, "the store joined another namespace meanwhile; write again");
    TRY(kv_write(kv, &call->write, &call->identity.signer));
    if (call->is_format_record) return kv_meta_set(kv, META_FORMAT_WRITTEN, slice_of_text("1"));
    /* Before the commit, so that nobody finds the record in the store and takes it for another's. */
    if (call->is_member_record) holders_written(store, call->write.entry.record.stamp_us);
    return HKV_OK;
}

static void callback_run(struct job *job)
{
    struct write_call *call = (struct write_call *)(void *)((char *)job - offsetof(struct write_call, callback));
    struct hkv_write_result result = {0};
    if (call->err == HKV_OK) result_of(call, &result);
    call->async(call->async_arg, call->err, call->err == HKV_OK ? "" : call->why.text, &result);
    struct hkv_store *store = call->store;
    write_release(call);
    node_call_end(store);
}

static void write_tell(struct write_call *call, enum hkv_err err)
{
    if (call->record_done != NULL) {
        call->record_done(call->record_arg, err);
        write_release(call);
        return;
    }
    if (call->async != NULL) {
        call->callback.run = callback_run;
        env_run_on(node_env(call->store), ENV_CALLBACK, &call->callback);
        return;
    }
    node_signal_set(&call->done);
    write_release(call);
}

static void write_complete(struct commit_task *task, enum hkv_err err)
{
    struct write_call *call = (struct write_call *)(void *)task;
    struct hkv_store *store = call->store; /* stays until the replica thread has ended */
    call->err = err;
    if (err != HKV_OK) error_save(&call->why);
    write_tell(call, err);
    if (err == HKV_OK) node_local_change(store); /* last: nobody waits for it */
}

/* ------------------------------------------------------------------------------------------ caller's thread */

static enum hkv_err check_may_write(struct hkv_store *store, const struct node_identity *identity)
{
    if (!identity->can_write)
        return error_set(HKV_E_READ_ONLY, "this store holds a read ticket only; join with a write ticket to write");
    if (!identity->format_known)
        return error_set(HKV_E_FORMAT_UNKNOWN,
                         "the format of this namespace is not known yet: sync with a node that has its "
                         "format record first, or name the format when joining");
    TRY(holders_check_write(store));
    return clock_check_write(store);
}

static struct write_call *call_alloc(struct hkv_store *store)
{
    struct write_call *call = calloc(1, sizeof *call);
    if (call == NULL) return NULL;
    call->task.apply = write_apply;
    call->task.complete = write_complete;
    call->store = store;
    atomic_init(&call->references, 1);
    node_signal_init(&call->done);
    node_identity_get(store, &call->identity);
    return call;
}

static enum hkv_err call_new(struct hkv_store *store, struct slice key, const struct hkv_write_options *options,
                             struct write_call **out)
{
    static const enum kv_expect expects[] = {[HKV_EXPECT_ANY] = KV_EXPECT_ANY,
                                             [HKV_EXPECT_ABSENT] = KV_EXPECT_ABSENT,
                                             [HKV_EXPECT_VERSION] = KV_EXPECT_VERSION};
    TRY(kv_key_check(key));
    if (options != NULL && (unsigned)options->expect > HKV_EXPECT_VERSION)
        return error_set(HKV_E_INVALID, "expect is %d; use one of enum hkv_expect", (int)options->expect);
    struct write_call *call = call_alloc(store);
    if (call == NULL) return error_set(HKV_E_NOMEM, "no memory for a write");
    if (options != NULL) {
        call->write.expect = expects[options->expect];
        call->write.version.stamp_us = options->version.stamp_us;
        memcpy(call->write.version.author.bytes, options->version.author, ID_BYTES);
    }
    enum hkv_err err = check_may_write(store, &call->identity);
    if (err == HKV_OK) err = kv_key_encode(key, &call->document_key);
    if (err != HKV_OK) {
        write_release(call);
        return err;
    }
    *out = call;
    return HKV_OK;
}

/* The content is complete: stamps, signs, submits. Takes the caller's reference when it fails. */
static enum hkv_err call_submit(struct write_call *call)
{
    struct entry *e = &call->write.entry;
    e->namespace = call->identity.signer.namespace;
    e->author = call->identity.signer.author;
    e->key = buf_slice(&call->document_key);
    e->record.stamp_us = call->stamp_us;
    enum hkv_err err = call->stamp_us != 0 ? HKV_OK : kv_propose_stamp(call->store->kv, e->key, &e->record.stamp_us);
    if (err == HKV_OK)
        err = entry_sign(e, &call->identity.signer.namespace_secret, &call->identity.signer.author_secret);
    if (err == HKV_OK) {
        atomic_fetch_add(&call->references, 1);
        call->task.bytes = sizeof *call + call->document_key.len + call->content.len;
        err = committer_submit_write(&call->store->committer, &call->task);
        if (err != HKV_OK) atomic_fetch_sub(&call->references, 1);
    }
    if (err != HKV_OK) write_release(call);
    return err;
}

static enum hkv_err call_wait(struct write_call *call, const struct hkv_write_options *options,
                              struct hkv_write_result *result)
{
    uint32_t timeout_ms = options == NULL ? HKV_FOREVER : options->timeout_ms;
    enum hkv_err err;
    if (!node_signal_wait(call->store->world, &call->done, timeout_ms)) {
        err = error_set(HKV_E_OUTCOME_UNKNOWN,
                        "the write was not acknowledged within %u ms; it may or may not be stored", timeout_ms);
    } else {
        err = call->err;
        if (err != HKV_OK) error_restore(&call->why);
        if (err == HKV_OK && result != NULL) result_of(call, result);
    }
    write_release(call);
    return err;
}

static enum hkv_err expiry_of(struct hkv_store *store, const struct hkv_write_options *options, uint64_t *expires_us)
{
    *expires_us = 0;
    if (options == NULL || options->ttl_ms == 0) return HKV_OK;
    uint64_t now_us = env_wall_us(node_env(store));
    if (options->ttl_ms > (UINT64_MAX / 2 - now_us) / 1000)
        return error_set(HKV_E_INVALID, "ttl_ms of %llu lies beyond any calendar; give less",
                         (unsigned long long)options->ttl_ms);
    *expires_us = now_us + options->ttl_ms * 1000;
    return HKV_OK;
}

static enum hkv_err value_too_large(struct hkv_store *store, uint64_t length)
{
    return error_set(HKV_E_VALUE_TOO_LARGE,
                     "the value has %llu bytes, the limit of this store (max_value_bytes) is %llu",
                     (unsigned long long)length, (unsigned long long)store->max_value_bytes);
}

/* Makes the content from bytes in memory. */
static enum hkv_err content_from_memory(struct write_call *call, struct slice value, uint64_t expires_us)
{
    struct record *record = &call->write.entry.record;
    uint8_t head[KV_CONTENT_HEAD_BYTES];
    TRY(kv_content_prefix(value, value.len, expires_us, &call->content));
    record->length_bytes = call->content.len + value.len;
    kv_content_parse(import_head(buf_slice(&call->content), value, head), record->length_bytes, &call->write.parsed);
    if (record->length_bytes > KV_VALUE_INLINE_MAX) {
        struct slice parts[2] = {buf_slice(&call->content), value};
        TRY(import_memory(call->store->kv, parts, 2, &call->write.file, &record->hash));
    } else {
        TRY(buf_append_slice(&call->content, value));
        call->write.content = buf_slice(&call->content);
        blake3_hash(call->write.content, &record->hash);
    }
    return HKV_OK;
}

static enum hkv_err put_begin(struct hkv_store *store, struct slice key, struct slice value,
                              const struct hkv_write_options *options, struct write_call **out)
{
    uint64_t expires_us;
    if (value.len > store->max_value_bytes) return value_too_large(store, value.len);
    TRY(expiry_of(store, options, &expires_us));
    TRY(call_new(store, key, options, out));
    enum hkv_err err = content_from_memory(*out, value, expires_us);
    if (err != HKV_OK) write_release(*out);
    return err;
}

static enum hkv_err delete_begin(struct hkv_store *store, struct slice key, const struct hkv_write_options *options,
                                 struct write_call **out)
{
    if (options != NULL && options->ttl_ms != 0)
        return error_set(HKV_E_INVALID, "ttl_ms is for puts only; leave it 0 in a delete");
    TRY(call_new(store, key, options, out));
    struct write_call *call = *out;
    enum hkv_err err = buf_append(&call->content, kv_tombstone_content, sizeof kv_tombstone_content);
    if (err != HKV_OK) {
        write_release(call);
        return err;
    }
    call->write.content = buf_slice(&call->content);
    call->write.entry.record.length_bytes = call->content.len;
    call->write.entry.record.hash = kv_tombstone_hash;
    kv_content_parse(call->write.content, call->content.len, &call->write.parsed);
    return HKV_OK;
}

static enum hkv_err submit_and_wait(enum hkv_err begun, struct write_call *call,
                                    const struct hkv_write_options *options, struct hkv_write_result *result)
{
    if (begun == HKV_OK) begun = call_submit(call);
    return begun == HKV_OK ? call_wait(call, options, result) : begun;
}

enum hkv_err hkv_put(struct hkv_store *store, const void *key, size_t key_bytes, const void *value, size_t value_bytes,
                     const struct hkv_write_options *options, struct hkv_write_result *result)
{
    struct write_call *call = NULL;
    TRY(node_bytes_check("key", key, key_bytes));
    TRY(node_bytes_check("value", value, value_bytes));
    TRY(node_call_begin(store));
    enum hkv_err err = put_begin(store, slice_of(key, key_bytes), slice_of(value, value_bytes), options, &call);
    err = submit_and_wait(err, call, options, result);
    node_call_end(store);
    return err;
}

enum hkv_err hkv_delete(struct hkv_store *store, const void *key, size_t key_bytes,
                        const struct hkv_write_options *options, struct hkv_write_result *result)
{
    struct write_call *call = NULL;
    TRY(node_bytes_check("key", key, key_bytes));
    TRY(node_call_begin(store));
    enum hkv_err err = delete_begin(store, slice_of(key, key_bytes), options, &call);
    err = submit_and_wait(err, call, options, result);
    node_call_end(store);
    return err;
}

static enum hkv_err put_fd_begin(struct hkv_store *store, struct slice key, int fd, uint64_t length,
                                 const struct hkv_write_options *options, struct write_call **out)
{
    uint64_t expires_us;
    struct import_result imported = {0};
    if (length != UINT64_MAX && length > store->max_value_bytes) return value_too_large(store, length);
    TRY(expiry_of(store, options, &expires_us));
    TRY(call_new(store, key, options, out));
    struct write_call *call = *out;
    enum hkv_err err = import_fd(store->kv, fd, length, store->max_value_bytes, expires_us, &imported);
    if (err != HKV_OK) {
        write_release(call);
        return err;
    }
    call->content = imported.content;
    call->write.content = imported.file == NULL ? buf_slice(&call->content) : (struct slice){0};
    call->write.file = imported.file;
    call->write.parsed = imported.parsed;
    call->write.entry.record.length_bytes = imported.length;
    call->write.entry.record.hash = imported.hash;
    return HKV_OK;
}

enum hkv_err hkv_put_fd(struct hkv_store *store, const void *key, size_t key_bytes, int fd, uint64_t length,
                        const struct hkv_write_options *options, struct hkv_write_result *result)
{
    struct write_call *call = NULL;
    TRY(node_bytes_check("key", key, key_bytes));
    TRY(node_call_begin(store));
    enum hkv_err err = put_fd_begin(store, slice_of(key, key_bytes), fd, length, options, &call);
    err = submit_and_wait(err, call, options, result);
    node_call_end(store);
    return err;
}

static enum hkv_err record_begin(struct hkv_store *store, const char *name, struct slice content,
                                 struct write_call **out)
{
    struct write_call *call = call_alloc(store);
    if (call == NULL) return error_set(HKV_E_NOMEM, "no memory for a write");
    call->is_format_record = strcmp(name, RECORD_FORMAT) == 0;
    call->is_member_record = !call->is_format_record;
    enum hkv_err err = kv_system_key_encode(name, &call->document_key);
    if (err == HKV_OK) err = content_from_memory(call, content, 0);
    if (err != HKV_OK) {
        write_release(call);
        return err;
    }
    *out = call;
    return HKV_OK;
}

enum hkv_err node_write_record(struct hkv_store *store, const char *name, struct slice content, uint64_t stamp_us)
{
    struct write_call *call;
    TRY(record_begin(store, name, content, &call));
    call->stamp_us = stamp_us;
    return submit_and_wait(HKV_OK, call, NULL, NULL);
}

enum hkv_err node_write_record_async(struct hkv_store *store, const char *name, struct slice content,
                                     node_record_fn done, void *arg)
{
    struct write_call *call;
    TRY(record_begin(store, name, content, &call));
    call->record_done = done;
    call->record_arg = arg;
    TRY(call_submit(call));
    write_release(call);
    return HKV_OK;
}

/* The store stays open for a write that was submitted: its call ends in callback_run(). */
static enum hkv_err submit_async(struct hkv_store *store, enum hkv_err begun, struct write_call *call,
                                 hkv_write_fn done, void *arg)
{
    if (begun == HKV_OK) {
        call->async = done;
        call->async_arg = arg;
        begun = call_submit(call);
    }
    if (begun == HKV_OK)
        write_release(call);
    else
        node_call_end(store);
    return begun;
}

enum hkv_err hkv_put_async(struct hkv_store *store, const void *key, size_t key_bytes, const void *value,
                           size_t value_bytes, const struct hkv_write_options *options, hkv_write_fn done, void *arg)
{
    struct write_call *call = NULL;
    TRY(node_bytes_check("key", key, key_bytes));
    TRY(node_bytes_check("value", value, value_bytes));
    NEED_ARGUMENT(done);
    TRY(node_call_begin(store));
    enum hkv_err err = put_begin(store, slice_of(key, key_bytes), slice_of(value, value_bytes), options, &call);
    return submit_async(store, err, call, done, arg);
}

enum hkv_err hkv_delete_async(struct hkv_store *store, const void *key, size_t key_bytes,
                              const struct hkv_write_options *options, hkv_write_fn done, void *arg)
{
    struct write_call *call = NULL;
    TRY(node_bytes_check("key", key, key_bytes));
    NEED_ARGUMENT(done);
    TRY(node_call_begin(store));
    enum hkv_err err = delete_begin(store, slice_of(key, key_bytes), options, &call);
    return submit_async(store, err, call, done, arg);
}

/* ------------------------------------------------------------------------------------------ versions as text */

void hkv_version_format(const struct hkv_version *version, char out[HKV_VERSION_TEXT_BYTES])
{
    char author[ID_TEXT_MAX];
    (void)snprintf(out, HKV_VERSION_TEXT_BYTES, "%llu-%s", (unsigned long long)version->stamp_us,
                   id_format(version->author, author));
}

enum hkv_err hkv_version_parse(const char *text, struct hkv_version *out)
{
    uint64_t stamp = 0;
    const char *at = text;
    NEED_ARGUMENT(text);
    NEED_ARGUMENT(out);
    for (; *at >= '0' && *at <= '9' && at - text < 20; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (stamp > (UINT64_MAX - digit) / 10) break;
        stamp = stamp * 10 + digit;
    }
    bool fits = at > text && *at == '-' && hex_decode(slice_of_text(at + 1), HEX_LOWER_ONLY, out->author, ID_BYTES);
    if (!fits)
        return error_set(HKV_E_INVALID,
                         "a version is <stamp_us>-<64 hex digits of the author>, as a read or a write gave it");
    out->stamp_us = stamp;
    return HKV_OK;
}
