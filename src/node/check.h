/* Runs the check of what is stored (kv/check.h): by itself, slowly, for as long as a store is open, and at once when
 * somebody asks for it.
 *
 *   timer ─▶ step (worker) ─▶ repair, place kept (replica thread, when there is something) ─▶ timer …
 *
 * The first step of a store comes CHECK_START_US after its start. After each one the check rests for CHECK_PAUSE times
 * as long as the step took, at least CHECK_STEP_US: a small store has been read within seconds, a million entries in
 * about two hours, with a five hundredth of one core. The next pass begins CHECK_REST_US after the end of the last.
 * Once a pass has found something that takes a rebuild, the rest of it is hurried along, so that the rebuild comes soon
 * and knows of everything.
 *
 * Network thread, but for new and free. */
#ifndef HKV_NODE_CHECK_H
#define HKV_NODE_CHECK_H

#include "kv/check.h"
#include "node/node.h"

#define CHECK_START_US ((uint64_t)5000000)
#define CHECK_STEP_US  ((uint64_t)20000)
#define CHECK_PAUSE    499
#define CHECK_REST_US  ((uint64_t)6 * 3600 * 1000000)
#define CHECK_RETRY_US ((uint64_t)60000000) /* after a step that failed */
#define CHECK_SAVE_US  ((uint64_t)60000000) /* at most this much work is done again after a restart */

struct checker;

HKV_CHECK enum hkv_err checker_new(struct hkv_store *store, struct checker **out);
void checker_free(struct checker *c);
void checker_begin(struct checker *c);

/* A verification under way ends with HKV_E_CLOSED; `done(arg)` once nothing is left. */
void checker_close(struct checker *c, void (*done)(void *arg), void *arg);

/* A whole pass at once, with every signature and with repairs. The caller keeps it in place until `done`. */
struct check_call {
    void (*done)(struct check_call *call, enum hkv_err err);      /* error_last() has the sentence */
    void (*progress)(struct check_call *call, unsigned permille); /* after each step; may be NULL */
    struct kv_check_report report;                                /* when err is HKV_OK */
};

/* `done` may be called before this returns: HKV_E_BUSY (one is under way), HKV_E_CLOSED, HKV_E_NOMEM. */
void checker_verify(struct checker *c, struct check_call *call);

#endif
