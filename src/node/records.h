/* The namespace's system records (formats.md 4): which format it has, and who its members are.
 *
 *   open ──▶ writes the format record (once, by whoever has the secret first hand) and this node's member record
 *   a session brought entries, a value arrived ──▶ records_refresh() ──▶ a worker reads them, at most once a second
 *                                                   ├─▶ identity: format known
 *                                                   └─▶ network thread: peers, marked as members
 *
 * The member record is written again when this node's addresses have changed, looked at every RECORDS_CHECK_US.
 *
 * A member record counts only when its signature by the endpoint's key is valid and the entry's author is the one it
 * names. */
#ifndef HKV_NODE_RECORDS_H
#define HKV_NODE_RECORDS_H

#include "node/node.h"

#define RECORDS_REFRESH_US ((uint64_t)1000000)
#define RECORDS_CHECK_US   ((uint64_t)60000000)
#define RECORD_FORMAT      "format"
#define RECORD_MEMBER      "member/" /* followed by the endpoint id in hex */

HKV_CHECK enum hkv_err records_new(struct hkv_store *store, struct records **out);

/* Start-up thread before the threads run. Nothing of it may be under way: see records_close(). */
void records_free(struct records *records);

/* No refresh begins any more; calls `done(arg)` when none is under way. Network thread. */
void records_close(struct records *records, void (*done)(void *arg), void *arg);

/* Begins to look after the member record. Network thread, once. */
void records_begin(struct records *records);

/* Something may have changed. Network thread. */
void records_refresh(struct records *records);

/* Writes this node's records; does nothing on a read-only store. `with_format`: the format record too. Start-up thread,
 * after the threads run. Errors: those of a write. */
HKV_CHECK enum hkv_err records_write(struct hkv_store *store, bool with_format);

#endif
