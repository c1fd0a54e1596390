/* The namespace's system records (formats.md 4): which format it has, and who its members are.
 *
 *   open ──▶ writes the format record (once, by whoever has the secret first hand) and this node's member record, if
 *            the clock can be right (clock.h) and nothing of another holder's is lost by it (holders.h)
 *   a session brought entries, a value arrived ──▶ records_refresh() ──▶ a worker reads them, at most once a second
 *                                                   ├─▶ identity: format known
 *                                                   └─▶ network thread: peers, marked as members
 *
 * What could not be written then, and the member record when this node's addresses have changed, is written by a check
 * every RECORDS_CHECK_US.
 *
 * A member record counts only when its signature by the endpoint's key is valid and the entry's author is the one it
 * names. */
#ifndef HKV_NODE_RECORDS_H
#define HKV_NODE_RECORDS_H

#include "node/node.h"

#define RECORDS_REFRESH_US ((uint64_t)1000000)
#define RECORDS_CHECK_US   ((uint64_t)60000000)
struct holder_facts;

#define RECORD_FORMAT "format"
#define RECORD_MEMBER "member/" /* followed by the endpoint id in hex */

HKV_CHECK enum hkv_err records_new(struct hkv_store *store, struct records **out);

/* Start-up thread before the threads run. Nothing of it may be under way: see records_close(). */
void records_free(struct records *records);

/* No refresh begins any more; calls `done(arg)` when none is under way. Network thread. */
void records_close(struct records *records, void (*done)(void *arg), void *arg);

/* Begins to look after the member record. Network thread, once. */
void records_begin(struct records *records);

/* Something may have changed: they are read, at most once in RECORDS_REFRESH_US, or without waiting. Network thread. */
void records_refresh(struct records *records);
void records_refresh_now(struct records *records);

/* This node's member record is not up to date: written now, at the next check. Or what is left to write may be written
 * now. Network thread. */
void records_check_soon(struct records *records);
void records_write_soon(struct records *records);
void records_write_again(struct records *records);

/* Writes this node's records, and waits; does nothing on a read-only store. `with_format`: the format record too. What
 * may not be written yet is left to the checks. The caller's thread of hkv_open() and hkv_join(). Errors: those of a
 * write. */
HKV_CHECK enum hkv_err records_write(struct hkv_store *store, bool with_format);

/* What the stored records say of this node. Start-up thread, worker. */
HKV_CHECK enum hkv_err records_holder_facts(struct hkv_store *store, struct holder_facts *out);

#endif
