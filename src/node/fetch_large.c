/* One large value on its way to its file: verified leaves are gathered in blocks, a worker writes them in order, seals
 * the file at the end, and the replica thread stores it. The network thread owns the transfer; `working` says that a
 * worker has it. */
#include <stdlib.h>

#include "blobs/request.h"
#include "node/fetch_parts.h"
#include "node/sync.h"

struct block {
    struct block *next;
    uint64_t offset;
    struct buf bytes;
};

struct fetch_transfer {
    struct job job; /* first */
    struct commit_task task;
    struct fetcher *fetcher;
    struct fetch_item *item;       /* NULL: abandoned */
    struct fetch_request *request; /* NULL between providers, and after the end */
    struct hash hash;
    uint64_t length;
    struct kv_file *file;
    struct buf outboard;
    uint64_t received; /* verified bytes, from the start */
    struct buf gathered;
    struct block *blocks, **blocks_last; /* for the worker */
    size_t block_count;
    struct block *writing;
    bool complete;
    bool working;
    enum hkv_err err;
    struct error_text why;
};

static void work(struct job *job);
static void work_done(struct job *job);
static void transfer_advance(struct fetch_transfer *t);

static void block_free(struct block *block)
{
    if (block == NULL) return;
    buf_fini(&block->bytes);
    free(block);
}

static void transfer_free(struct fetch_transfer *t)
{
    while (t->blocks != NULL) {
        struct block *block = t->blocks;
        t->blocks = block->next;
        block_free(block);
    }
    block_free(t->writing);
    kv_file_free(t->file);
    buf_fini(&t->outboard);
    buf_fini(&t->gathered);
    free(t);
}

void fetch_large_free(struct fetch_transfer *t)
{
    if (t == NULL) return;
    t->item = NULL;
    t->request = NULL;
    if (!t->working) transfer_free(t);
}

enum hkv_err fetch_large_begin(struct fetch_request *request, struct fetch_item *item)
{
    struct fetch_transfer *t = item->transfer;
    if (t == NULL) {
        t = calloc(1, sizeof *t);
        if (t == NULL) return error_set(HKV_E_NOMEM, "no memory to fetch a value");
        t->fetcher = request->peer->fetcher;
        t->item = item;
        t->hash = item->wanted.hash;
        t->blocks_last = &t->blocks;
        item->transfer = t;
    }
    /* What was gathered of a group that is not whole is asked for again. */
    uint64_t good = t->received / BAO_GROUP_BYTES * BAO_GROUP_BYTES;
    t->gathered.len -= (size_t)(t->received - good);
    t->received = good;
    uint64_t start = good / BLAKE3_CHUNK_BYTES;
    /* The hash proves the length; what the entry says of it may be a lie of its author. */
    struct blobs_want want = {.hash = t->hash, .size_bytes = BLOBS_SIZE_UNKNOWN};
    uint64_t cap = t->fetcher->store->max_value_bytes + KV_CONTENT_HEAD_BYTES;
    TRY(blobs_fetch_init_one(&request->fetch, &want, (struct bao_ranges){&start, 1}, cap));
    t->request = request;
    request->transfer = t;
    return HKV_OK;
}

static enum hkv_err gather(struct fetch_transfer *t, struct slice leaf, bool last)
{
    TRY(buf_append_slice(&t->gathered, leaf));
    t->received += leaf.len;
    if (t->gathered.len < FETCH_FILE_BLOCK && !last) return HKV_OK;
    struct block *block = calloc(1, sizeof *block);
    if (block == NULL) return error_set(HKV_E_NOMEM, "no memory to fetch a value");
    block->offset = t->received - t->gathered.len;
    block->bytes = buf_take(&t->gathered);
    *t->blocks_last = block;
    t->blocks_last = &block->next;
    t->block_count++;
    return HKV_OK;
}

enum hkv_err fetch_large_event(struct fetch_request *request, const struct blobs_fetch_event *event)
{
    struct fetch_transfer *t = request->transfer;
    enum hkv_err err = HKV_OK;
    if (event->kind == BLOBS_FETCH_BLOB) {
        t->length = event->size_bytes;
    } else if (event->kind == BLOBS_FETCH_PAIR) {
        size_t end = (size_t)event->offset + BAO_PAIR_BYTES;
        if (end > t->outboard.len) {
            TRY(buf_reserve(&t->outboard, end - t->outboard.len));
            memset(t->outboard.data + t->outboard.len, 0, end - t->outboard.len);
            t->outboard.len = end;
        }
        memcpy(t->outboard.data + event->offset, event->data.data, BAO_PAIR_BYTES);
    } else if (event->kind == BLOBS_FETCH_LEAF) {
        if (event->offset != t->received)
            return error_set(HKV_E_PEER_PROTOCOL, "a provider sent a part of a value that was not asked for");
        err = gather(t, event->data, false);
    } else if (event->kind == BLOBS_FETCH_BLOB_DONE) {
        err = gather(t, (struct slice){0}, true);
        t->complete = err == HKV_OK;
    }
    if (err == HKV_OK) transfer_advance(t);
    return err;
}

bool fetch_large_is_full(const struct fetch_request *request)
{
    return request->transfer->block_count >= FETCH_FILE_BLOCKS_MAX;
}

bool fetch_large_is_complete(const struct fetch_request *request)
{
    return request->transfer->complete;
}

void fetch_large_detach(struct fetch_request *request)
{
    if (request->transfer == NULL) return;
    request->transfer->request = NULL;
    request->transfer = NULL;
}

/* ------------------------------------------------------------------------------------------ worker, replica */

static enum hkv_err write_block(struct fetch_transfer *t)
{
    if (t->file == NULL) TRY(kv_file_create(t->fetcher->store->kv, &t->file));
    if (t->writing != NULL) return kv_file_write(t->file, t->writing->offset, buf_slice(&t->writing->bytes));
    return kv_file_seal(t->file, &t->hash, t->length, &t->outboard);
}

static void work(struct job *job)
{
    struct fetch_transfer *t = (struct fetch_transfer *)(void *)job;
    t->err = write_block(t);
    if (t->err != HKV_OK) error_save(&t->why);
    t->job.run = work_done;
    env_run_on(node_env(t->fetcher->store), ENV_NETWORK, &t->job);
}

static enum hkv_err store_apply(struct commit_task *task, struct kv *kv)
{
    struct fetch_transfer *t = (struct fetch_transfer *)(void *)((char *)task - offsetof(struct fetch_transfer, task));
    return kv_value_arrived(kv, &t->hash, (struct slice){0}, t->file);
}

static void store_done(struct job *job)
{
    struct fetch_transfer *t = (struct fetch_transfer *)(void *)job;
    struct fetcher *fetcher = t->fetcher;
    struct fetch_item *item = t->item;
    t->working = false;
    if (t->err != HKV_OK)
        node_log(fetcher->store, HKV_LOG_ERROR, "values", "a fetched value cannot be stored: %s", t->why.text);
    if (t->request != NULL) fetch_request_done(t->request); /* its stream may well outlive the transfer and the item */
    if (item == NULL) {
        transfer_free(t);
    } else if (t->err == HKV_OK) {
        fetch_item_end(item);
        sync_values_changed(fetcher->store->sync);
    } else {
        fetch_item_failed(item);
    }
    fetch_task_ended(fetcher);
}

static void store_complete(struct commit_task *task, enum hkv_err err)
{
    struct fetch_transfer *t = (struct fetch_transfer *)(void *)((char *)task - offsetof(struct fetch_transfer, task));
    t->err = err;
    if (err != HKV_OK) error_save(&t->why);
    t->job.run = store_done;
    env_run_on(node_env(t->fetcher->store), ENV_NETWORK, &t->job);
}

static void give_up(struct fetch_transfer *t)
{
    struct fetch_item *item = t->item;
    node_log(t->fetcher->store, HKV_LOG_ERROR, "values", "a value cannot be written: %s", t->why.text);
    if (t->request == NULL && !t->complete) { /* the item waits for its next provider, and begins anew there */
        item->transfer = NULL;
        transfer_free(t);
        return;
    }
    if (t->request != NULL) fetch_request_drop(t->request); /* its end finds no transfer, and the item already gone */
    fetch_item_failed(item);
}

static void work_done(struct job *job)
{
    struct fetch_transfer *t = (struct fetch_transfer *)(void *)job;
    struct fetcher *fetcher = t->fetcher;
    bool sealed = t->writing == NULL;
    t->working = false;
    block_free(t->writing);
    t->writing = NULL;
    if (t->item == NULL) {
        transfer_free(t);
    } else if (t->err != HKV_OK) {
        give_up(t);
    } else if (sealed) {
        t->working = true;
        t->task = (struct commit_task){.apply = store_apply, .complete = store_complete};
        committer_submit(&fetcher->store->committer, &t->task);
        return;
    } else {
        transfer_advance(t);
        if (t->request != NULL) fetch_request_resume(t->request);
    }
    fetch_task_ended(fetcher);
}

static void transfer_advance(struct fetch_transfer *t)
{
    bool seal = t->blocks == NULL && t->complete;
    if (t->working || (t->blocks == NULL && !seal)) return;
    if (!seal) {
        t->writing = t->blocks;
        t->blocks = t->writing->next;
        if (t->blocks == NULL) t->blocks_last = &t->blocks;
        t->block_count--;
        t->writing->next = NULL;
    }
    t->working = true;
    t->fetcher->tasks++;
    t->job.run = work;
    env_run_on(node_env(t->fetcher->store), ENV_WORKER, &t->job);
}
