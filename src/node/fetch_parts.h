/* What the files of the fetcher share: fetch.c (who is asked for what, connections), fetch_request.c (one stream),
 * fetch_large.c (one large value), fetch_store.c (to and from the store). Network thread only. */
#ifndef HKV_NODE_FETCH_PARTS_H
#define HKV_NODE_FETCH_PARTS_H

#include "blobs/fetch.h"
#include "node/fetch.h"

struct fetch_peer;
struct fetch_request;

#define FETCH_NOBODY SIZE_MAX

/* A wanted value on its way: in exactly one queue, request or task at a time. */
struct fetch_item {
    struct fetcher *fetcher;
    struct kv_wanted wanted;
    size_t candidate;                /* the next one to be asked: providers first, then the known peers */
    size_t passed_over;              /* the first of those shunned when their turn came, or FETCH_NOBODY */
    bool insists;                    /* nobody else had it: those are asked now … */
    uint64_t insists_us;             /* … since then (monotonic) … */
    uint64_t wakes;                  /* … unless the fetcher's have become more since */
    bool is_moved;                   /* the present candidate is asked a second time, at its other address */
    bool resized;                    /* `wanted.length` is what the present candidate says, … */
    uint64_t entry_length;           /* … and this is what the entry said */
    struct fetch_transfer *transfer; /* of a large value, once begun: survives a change of provider */
    struct fetch_item *next;

    /* Nobody has it, which is being noted in the store. */
    struct commit_task task;
    struct job job;
    uint64_t failed_us; /* kv_steady_us() */
    enum hkv_err err;
};

struct fetch_items {
    struct fetch_item *first;
    struct fetch_item **last;
    size_t count;
};

struct fetcher {
    struct hkv_store *store;
    struct fetch_peer *peers;
    size_t peer_count;
    size_t item_count;              /* taken from the store and not yet ended */
    size_t arriving_bytes;          /* of small values, on their way into the store */
    size_t tasks;                   /* jobs and commit tasks under way */
    uint64_t wakes;                 /* how often a peer came that may have what is missing */
    struct env_timer timer;         /* when the store has something due again */
    struct env_timer retry;         /* of the next two */
    struct fetch_items failed;      /* to be noted in the store once it takes writes again */
    struct take_task *half_begun;   /* there was no memory for all that was taken */
    size_t takes;                   /* that are under way or half begun */
    bool again;                     /* … and another is wanted behind them */
    void (*closed_done)(void *arg); /* set: closing */
    void *closed_arg;
    bool closing;
};

/* One connection to one peer. */
struct fetch_peer {
    struct fetcher *fetcher;
    struct fetch_peer *next;
    struct endpoint_id id;
    struct transport_conn *conn; /* NULL: none now */
    bool opened;
    bool at_met;               /* the next dial goes to peer.met alone, once this connection is unused */
    bool useful;               /* this connection has brought something */
    uint64_t dead_until_us;    /* monotonic: not dialled before */
    uint64_t shunned_until_us; /* it stalled, lied, or is slow: not asked before for what another may have */
    uint64_t lacks_until_us;   /* the same: it had nothing of what it was asked for */
    uint64_t lacks;            /* how often in a row */
    struct env_timer idle;     /* of an open connection; of a dialled one, after which what waits goes elsewhere */
    struct env_timer watch;    /* of its pace, while there are requests */
    uint64_t received;         /* bytes */
    uint64_t mark;             /* of them, when `watch` was armed */
    bool was_held;             /* since then it waited for the store: its pace was ours */
    uint64_t pace;             /* bytes between two looks, when it was slow at the last one, or UINT64_MAX */
    struct fetch_items waiting;
    struct fetch_request *requests;
    size_t request_count;
};

/* One stream. Small values: `items` in order of the request. A large value: one item, and its transfer. */
struct fetch_request {
    struct fetch_peer *peer;
    struct fetch_request *next;
    struct transport_stream *stream;
    struct env_timer progress;
    struct blobs_fetch fetch;
    struct fetch_item **items;
    size_t item_count;
    size_t ended;               /* items that are done with, in order */
    struct buf content;         /* of the small value that is being received */
    struct values_task *values; /* small values received and not yet handed to the store */
    uint64_t received;          /* bytes */
    uint64_t mark;              /* of them, when `progress` was armed */
    size_t unconsumed;          /* bytes that the peer may send again once the store has caught up */
    struct fetch_transfer *transfer;
    bool watched;    /* it has brought something before the peer's `mark` */
    bool refused;    /* the peer does not have what comes next */
    bool over;       /* nothing more is taken from the stream */
    bool misbehaved; /* the peer: it stalled, or sent what is wrong */
    bool slow;       /* the peer, and others can be asked */
};

/* ------------------------------------------------------------------------------------------ items */

void fetch_items_init(struct fetch_items *items);
void fetch_items_push(struct fetch_items *items, struct fetch_item *item);
struct fetch_item *fetch_items_pop(struct fetch_items *items);

/* Makes an item, and asks for it. False: no memory. */
HKV_CHECK bool fetch_item_begin(struct fetcher *fetcher, const struct kv_wanted *wanted);

/* Puts the item into the queue of its present candidate, or of the first one behind it that can be tried; back to the
 * store as failed when there is none. Ends it when the fetcher is closing. */
void fetch_item_assign(struct fetch_item *item);

/* The same with the next candidate: it could not be had from the present one. */
void fetch_item_next(struct fetch_item *item);

/* Whether somebody else can be asked for it who may well be faster than `pace` (struct fetch_peer). */
bool fetch_item_has_faster(const struct fetch_item *item, uint64_t pace);

/* The item is stored, or given up: it is freed, with its transfer. */
void fetch_item_end(struct fetch_item *item);

/* A job or task of the fetcher ended. */
void fetch_task_ended(struct fetcher *fetcher);

/* ------------------------------------------------------------------------------------------ large values */

/* Begins a transfer, or goes on with it. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err fetch_large_begin(struct fetch_request *request, struct fetch_item *item);

/* A verified event of its stream. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err fetch_large_event(struct fetch_request *request, const struct blobs_fetch_event *event);

/* Whether the transfer has as much on its way to the file as it may. */
bool fetch_large_is_full(const struct fetch_request *request);

/* Whether everything has been received. */
bool fetch_large_is_complete(const struct fetch_request *request);

/* The request lets go of its transfer. A complete one ends its item by itself; for another the caller goes on. */
void fetch_large_detach(struct fetch_request *request);

/* Frees a transfer at once, or when its worker is done. NULL is fine. */
void fetch_large_free(struct fetch_transfer *transfer);

/* ------------------------------------------------------------------------------------------ peers */

/* What waits for the peer, and what it was asked for, goes to others first. It is not left alone for good: of what only
 * it has, one bad value should not keep the others away. */
void fetch_peer_shun(struct fetch_peer *peer);

/* It did not have what it was asked for. After FETCH_LACKS_MAX times in a row others are asked first for a while, or until
 * it has had a good session: where values go slowly, they should not be asked of everybody one by one. */
void fetch_peer_lacks(struct fetch_peer *peer);

/* Sends requests for what waits. */
void fetch_peer_pump(struct fetch_peer *peer);

/* Whether the last session with the peer was at another address than its connection is. The peer may have moved; or two
 * processes run on copies of one data directory (holders.h), and the values of its entries are with the one that sent
 * them. */
bool fetch_peer_is_elsewhere(const struct fetch_peer *peer);

/* ------------------------------------------------------------------------------------------ requests */

/* Asks for the first of what waits. False: nothing was asked. */
bool fetch_request_begin(struct fetch_peer *peer);

/* The transfer can take more again; all of small values can. */
void fetch_request_resume(struct fetch_request *request);
void fetch_requests_resume(struct fetcher *fetcher);

/* Leaves the peer, which is slow, for those who may be faster. */
void fetch_requests_leave(struct fetch_peer *peer);

/* The transfer of the request is over, and its item taken care of: the end of the stream finds neither. */
void fetch_request_done(struct fetch_request *request);

/* The same before all has arrived: the stream is stopped. */
void fetch_request_drop(struct fetch_request *request);

/* ------------------------------------------------------------------------------------------ the store */

void fetch_store_init(struct fetcher *fetcher);
void fetch_store_close(struct fetcher *fetcher);

/* Asks the store what is due, after the values that `waker` may have were made due; NULL: nobody. */
void fetch_take(struct fetcher *fetcher, const struct endpoint_id *waker);

/* Nobody has the item, or the store cannot take it: that is noted, and the item ends. */
void fetch_item_failed(struct fetch_item *item);

/* The content of the item at `request->ended` is whole; it is stored with others. Errors: HKV_E_NOMEM. */
HKV_CHECK enum hkv_err fetch_value_received(struct fetch_request *request);

/* Stores what was received so far. */
void fetch_values_store(struct fetch_request *request);

#endif
