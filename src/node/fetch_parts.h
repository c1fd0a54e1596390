/* What fetch.c (queue, connections, small values) and fetch_large.c (one large value) share. Network thread only. */
#ifndef HKV_NODE_FETCH_PARTS_H
#define HKV_NODE_FETCH_PARTS_H

#include "blobs/fetch.h"
#include "node/fetch.h"

struct fetch_peer;
struct fetch_request;

#define FETCH_NOBODY SIZE_MAX

/* A wanted value on its way: in exactly one queue or request at a time. */
struct fetch_item {
    struct kv_wanted wanted;
    size_t candidate;                /* the next one to be asked: providers first, then the known peers */
    size_t passed_over;              /* the first of those shunned when their turn came, or FETCH_NOBODY */
    bool insists;                    /* nobody else had it: those are asked now … */
    uint64_t wakes;                  /* … unless the fetcher's have become more since */
    bool is_moved;                   /* the present candidate is asked a second time, at its other address */
    bool resized;                    /* `wanted.length` is what the present candidate says, … */
    uint64_t entry_length;           /* … and this is what the entry said */
    struct fetch_transfer *transfer; /* of a large value, once begun: survives a change of provider */
    struct fetch_item *next;
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
    size_t item_count;          /* taken from the store and not yet ended */
    size_t arriving_bytes;      /* of small values, on their way into the store */
    size_t tasks;               /* jobs and commit tasks under way */
    uint64_t wakes;             /* how often a peer came that may have what is missing */
    struct env_timer timer;     /* when the store has something due again */
    struct failed_task *failed; /* to be noted in the store once it takes writes again */
    struct env_timer retry;
    bool asking;                    /* a take is under way */
    bool again;                     /* … and another is wanted behind it */
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
    uint64_t shunned_until_us; /* it stalled or lied: not asked before for what another may have */
    struct env_timer idle;     /* of an open connection; of a dialled one, after which what waits goes elsewhere */
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
    bool over;       /* nothing more is taken from the stream */
    bool misbehaved; /* the peer: it stalled, or sent what is wrong */
};

void fetch_items_push(struct fetch_items *items, struct fetch_item *item);
struct fetch_item *fetch_items_pop(struct fetch_items *items);

/* The item could not be had from its present candidate: on to the next one, or back to the store as failed. */
void fetch_item_next(struct fetcher *fetcher, struct fetch_item *item);

/* The item is stored, or given up: it is freed, with its transfer. */
void fetch_item_end(struct fetcher *fetcher, struct fetch_item *item);

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

/* ---- in fetch.c ---- */

/* The transfer can take more again. */
void fetch_request_resume(struct fetch_request *request);

/* The transfer of the request is over, and its item taken care of: the end of the stream finds neither. */
void fetch_request_done(struct fetch_request *request);

/* The same before all has arrived: the stream is stopped. */
void fetch_request_drop(struct fetch_request *request);

#endif
