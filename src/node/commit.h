/* Group commit: what waits to change the store runs in one transaction, which is committed once; then each is told.
 *
 *   any thread ── commit_submit(task) ──▶ two queues (local writes first) ──▶ one drain job on the replica thread:
 *
 *       kv_begin
 *       savepoint, task->apply, release    one task's failure undoes that task alone
 *       …                                  at most COMMIT_TASKS_MAX tasks, about COMMIT_US_MAX
 *       kv_commit
 *       changes → watchers, task->complete nothing leaves before the commit
 *
 * When an SQL error ends the whole transaction (a full disk does), or the commit itself fails, nobody was acknowledged:
 * each task of the group runs again alone once, in a transaction of its own, and the one that fails gets the error.
 * `apply` may therefore run twice and must start from its inputs each time.
 *
 * A task that wants more than about 5 ms sets `again` in apply: it is completed never, but put back behind the others
 * after the commit, and applied again. Invariant: every submitted task has `complete` called exactly once, on the
 * replica thread. */
#ifndef HKV_NODE_COMMIT_H
#define HKV_NODE_COMMIT_H

#include <pthread.h>

#include "base/env.h"
#include "kv/kv.h"

#define COMMIT_TASKS_MAX     512
#define COMMIT_US_MAX        20000
#define COMMIT_WRITES_IN_ROW 16    /* then one of the others has its turn, lest they starve */
#define COMMIT_WRITES_MAX    16384 /* local writes that wait; more are HKV_E_BUSY */
#define COMMIT_WRITES_PART   4     /* of memory_bytes: a part in so many is for writes that wait */

struct commit_task {
    enum hkv_err (*apply)(struct commit_task *task, struct kv *kv);
    void (*complete)(struct commit_task *task, enum hkv_err err); /* error_last() has the sentence; may free the task */
    bool again;                                                   /* set by apply */
    bool retried;        /* set before apply: an earlier run was undone with its whole transaction */
    bool no_transaction; /* applied outside of one and alone (kv_reset) */
    enum hkv_err err;
    struct error_text why;
    size_t bytes; /* of memory that the task holds while it waits; set before it is submitted */
    struct commit_task *next;
};

struct commit_queue {
    struct commit_task *first;
    struct commit_task **last;
    size_t count;
    size_t bytes; /* of the tasks */
};

struct committer {
    struct job drain; /* first */
    struct env *env;
    struct kv *kv;
    void (*changed)(void *arg,
                    struct kv_changes *changes); /* after each commit that changed what keys show; takes them */
    void *changed_arg;
    pthread_mutex_t lock;
    uint64_t writes_bytes_max;
    struct commit_queue writes;
    struct commit_queue others;
    unsigned writes_in_row; /* taken while others waited */
    bool scheduled;
    bool closed;
};

void committer_init(struct committer *c, struct env *env, struct kv *kv,
                    void (*changed)(void *arg, struct kv_changes *changes), void *changed_arg,
                    uint64_t writes_bytes_max);
void committer_fini(struct committer *c);

/* Queues a task. `is_write`: a local write, goes before the others, and is refused with HKV_E_BUSY above
 * COMMIT_WRITES_MAX, or when what waits holds writes_bytes_max bytes (one always fits), and with HKV_E_CLOSED after
 * committer_close(). Others are always taken. Any thread. */
HKV_CHECK enum hkv_err committer_submit_write(struct committer *c, struct commit_task *task);
void committer_submit(struct committer *c, struct commit_task *task);

/* From now on local writes are refused; those that wait still run. Any thread. */
void committer_close(struct committer *c);

#endif
