#include "node/commit.h"

#include <assert.h>

static void drain(struct job *job);

static void queue_init(struct commit_queue *q)
{
    q->first = NULL;
    q->last = &q->first;
    q->count = 0;
    q->bytes = 0;
}

static void queue_push(struct commit_queue *q, struct commit_task *task)
{
    task->next = NULL;
    *q->last = task;
    q->last = &task->next;
    q->count++;
    q->bytes += task->bytes;
}

static struct commit_task *queue_pop(struct commit_queue *q)
{
    struct commit_task *task = q->first;
    if (task == NULL) return NULL;
    q->first = task->next;
    if (q->first == NULL) q->last = &q->first;
    q->count--;
    q->bytes -= task->bytes;
    return task;
}

void committer_init(struct committer *c, struct env *env, struct kv *kv,
                    void (*changed)(void *arg, struct kv_changes *changes), void *changed_arg,
                    uint64_t writes_bytes_max)
{
    *c = (struct committer){.drain.run = drain,
                            .env = env,
                            .kv = kv,
                            .changed = changed,
                            .changed_arg = changed_arg,
                            .writes_bytes_max = writes_bytes_max};
    (void)pthread_mutex_init(&c->lock, NULL);
    queue_init(&c->writes);
    queue_init(&c->others);
}

void committer_fini(struct committer *c)
{
    assert(c->writes.first == NULL && c->others.first == NULL);
    (void)pthread_mutex_destroy(&c->lock);
}

/* With the lock held: makes sure that a drain is on its way. */
static bool schedule(struct committer *c)
{
    if (c->scheduled) return false;
    c->scheduled = true;
    return true;
}

enum hkv_err committer_submit_write(struct committer *c, struct commit_task *task)
{
    enum hkv_err err = HKV_OK;
    bool start = false;
    (void)pthread_mutex_lock(&c->lock);
    if (c->closed) {
        err = HKV_E_CLOSED;
    } else if (c->writes.count >= COMMIT_WRITES_MAX ||
               (c->writes.count > 0 && c->writes.bytes + task->bytes > c->writes_bytes_max)) {
        err = HKV_E_BUSY;
    } else {
        queue_push(&c->writes, task);
        start = schedule(c);
    }
    (void)pthread_mutex_unlock(&c->lock);
    if (start) env_run_on(c->env, ENV_REPLICA, &c->drain);
    if (err == HKV_E_BUSY)
        return error_set(err,
                         "as many writes wait already as may (%d, with %ju bytes together); try again when some have "
                         "ended",
                         COMMIT_WRITES_MAX, (uintmax_t)c->writes_bytes_max);
    if (err == HKV_E_CLOSED) return error_set(err, "the store is being closed");
    return HKV_OK;
}

void committer_submit(struct committer *c, struct commit_task *task)
{
    (void)pthread_mutex_lock(&c->lock);
    queue_push(&c->others, task);
    bool start = schedule(c);
    (void)pthread_mutex_unlock(&c->lock);
    if (start) env_run_on(c->env, ENV_REPLICA, &c->drain);
}

void committer_close(struct committer *c)
{
    (void)pthread_mutex_lock(&c->lock);
    c->closed = true;
    (void)pthread_mutex_unlock(&c->lock);
}

/* --------------------------------------------------------------------------------------- one group (replica thread) */

static struct commit_task *next_task(struct committer *c)
{
    (void)pthread_mutex_lock(&c->lock);
    bool other = c->writes.first == NULL || (c->others.first != NULL && c->writes_in_row >= COMMIT_WRITES_IN_ROW);
    struct commit_task *task = queue_pop(other ? &c->others : &c->writes);
    c->writes_in_row = other || c->others.first == NULL ? 0 : c->writes_in_row + 1;
    (void)pthread_mutex_unlock(&c->lock);
    return task;
}

static void note(struct commit_task *task, enum hkv_err err)
{
    task->err = err;
    if (err != HKV_OK) error_save(&task->why);
}

/* Applies one task under a savepoint. False: the transaction is gone. */
static bool apply_guarded(struct committer *c, struct commit_task *task)
{
    task->again = false;
    task->retried = false;
    enum hkv_err err = kv_savepoint(c->kv);
    if (err == HKV_OK) {
        err = task->apply(task, c->kv);
        if (!kv_in_transaction(c->kv)) {
            note(task, err);
            return false;
        }
        if (err == HKV_OK) err = kv_savepoint_release(c->kv);
        if (err != HKV_OK) {
            note(task, err);
            kv_savepoint_rollback(c->kv);
            return kv_in_transaction(c->kv);
        }
    }
    note(task, err);
    return kv_in_transaction(c->kv);
}

static void publish(struct committer *c)
{
    struct kv_changes changes;
    kv_take_changes(c->kv, &changes);
    if (changes.count > 0) c->changed(c->changed_arg, &changes);
    kv_changes_fini(&changes);
}

static void finish(struct committer *c, struct commit_task *task)
{
    if (task->again && task->err == HKV_OK) {
        committer_submit(c, task);
        return;
    }
    if (task->err != HKV_OK) {
        error_restore(&task->why);
        kv_write_failed(c->kv, task->err);
    }
    task->complete(task, task->err);
}

/* A transaction for one task. */
static void run_alone(struct committer *c, struct commit_task *task, bool retried)
{
    task->again = false;
    task->retried = retried;
    enum hkv_err err;
    if (task->no_transaction) {
        err = task->apply(task, c->kv);
    } else {
        err = kv_begin(c->kv);
        if (err == HKV_OK) {
            err = task->apply(task, c->kv);
            if (err == HKV_OK)
                err = kv_commit(c->kv);
            else
                kv_rollback(c->kv);
        }
    }
    note(task, err);
    if (err == HKV_OK) publish(c);
    finish(c, task);
}

struct group {
    struct commit_task *tasks[COMMIT_TASKS_MAX];
    size_t count;
};

/* Applies tasks to the open transaction until the group is full. False: the transaction is gone. A task that must run
 * alone ends the group and is left in `*alone`. */
static bool fill_group(struct committer *c, struct group *group, struct commit_task **alone)
{
    uint64_t end_us = env_mono_us(c->env) + COMMIT_US_MAX;
    struct commit_task *task;
    while (group->count < COMMIT_TASKS_MAX && (task = next_task(c)) != NULL) {
        if (task->no_transaction) {
            *alone = task;
            return true;
        }
        group->tasks[group->count++] = task;
        if (!apply_guarded(c, task)) return false;
        if (env_mono_us(c->env) >= end_us) return true;
    }
    return true;
}

static void run_group(struct committer *c)
{
    struct group group;
    struct commit_task *alone = NULL;
    group.count = 0;
    (void)pthread_mutex_lock(&c->lock);
    bool idle = c->writes.first == NULL && c->others.first == NULL;
    (void)pthread_mutex_unlock(&c->lock);
    if (idle) return; /* scheduled for what kv_maintain() left */
    enum hkv_err begin = kv_begin(c->kv);
    bool alive = begin == HKV_OK && fill_group(c, &group, &alone);
    if (alive && kv_commit(c->kv) == HKV_OK) {
        publish(c);
        for (size_t i = 0; i < group.count; i++) finish(c, group.tasks[i]);
    } else {
        kv_rollback(c->kv);
        if (begin != HKV_OK) {
            struct commit_task *task = next_task(c);
            if (task != NULL) group.tasks[group.count++] = task;
        }
        for (size_t i = 0; i < group.count; i++) run_alone(c, group.tasks[i], begin == HKV_OK);
    }
    if (alone != NULL) run_alone(c, alone, false);
}

static void drain(struct job *job)
{
    struct committer *c = (struct committer *)(void *)job;
    run_group(c);
    bool more = kv_maintain(c->kv);
    (void)pthread_mutex_lock(&c->lock);
    more = more || c->writes.first != NULL || c->others.first != NULL;
    c->scheduled = more;
    (void)pthread_mutex_unlock(&c->lock);
    if (more) env_run_on(c->env, ENV_REPLICA, &c->drain);
}
