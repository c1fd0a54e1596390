#include "sim/batch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX      64
#define RUN_SECONDS   600 /* of real time, after which a run counts as failed */
#define SHRINK_ROUNDS 4

/* Above what a seed chooses itself. */
#define NODES_UNSET      10
#define KEYS_UNSET       13
#define OPERATIONS_UNSET 201
#define FAULTS_UNSET     120

struct child {
    pid_t pid; /* 0: none */
    int fd;    /* its result */
    struct sim_options options;
};

static void check_replay(const struct sim_options *options, const struct sim_result *first)
{
    struct sim_result second;
    sim_run(options, &second);
    if (memcmp(first->trace.bytes, second.trace.bytes, ID_BYTES) == 0) return;
    char command[256];
    sim_options_format(options, command, sizeof command);
    printf("seed %llu FAILED: two runs of it differ\n  again: %s --check-replay\n", (unsigned long long)options->seed,
           command);
    (void)fflush(stdout);
    _exit(1);
}

static _Noreturn void child_run(const struct sim_options *options, bool replay, bool quiet, int fd)
{
    struct sim_result result;
    int nowhere = quiet ? open("/dev/null", O_WRONLY) : -1;
    if (nowhere >= 0) {
        (void)dup2(nowhere, 1);
        (void)dup2(nowhere, 2);
    }
    (void)alarm(RUN_SECONDS);
    sim_run(options, &result);
    if (replay) check_replay(options, &result);
    bool told = write(fd, &result, sizeof result) == (ssize_t)sizeof result;
    (void)fflush(stdout);
    exit(told ? 0 : 1); /* so that what looks for leaks can */
}

static void child_start(struct child *child, const struct sim_options *options, bool replay, bool quiet)
{
    int fds[2];
    (void)fflush(stdout);
    if (pipe(fds) != 0) abort();
    child->options = *options;
    child->fd = fds[0];
    child->pid = fork();
    if (child->pid < 0) abort();
    if (child->pid == 0) {
        (void)close(fds[0]);
        child_run(&child->options, replay, quiet, fds[1]);
    }
    (void)close(fds[1]);
}

/* Whether it ended well; its result then. */
static bool child_end(struct child *child, int status, struct sim_result *result)
{
    bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
                read(child->fd, result, sizeof *result) == (ssize_t)sizeof *result;
    (void)close(child->fd);
    child->pid = 0;
    return good;
}

static void tell_signal(const struct child *child, int status)
{
    char command[256];
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1) return; /* it has told */
    sim_options_format(&child->options, command, sizeof command);
    if (WIFSIGNALED(status))
        printf("seed %llu FAILED: %s\n  again: %s --verbose\n", (unsigned long long)child->options.seed,
               WTERMSIG(status) == SIGALRM ? "it takes too long" : strsignal(WTERMSIG(status)), command);
    else
        printf("seed %llu FAILED: exit status %d\n  again: %s --verbose\n", (unsigned long long)child->options.seed,
               WEXITSTATUS(status), command);
}

/* ---- a batch ---- */

struct totals {
    uint64_t passed;
    uint64_t failed;
    uint64_t events;
    uint64_t writes;
    uint64_t faults;
    double virtual_hours;
    struct sim_marks marks;
};

static void add(struct totals *t, const struct sim_result *result)
{
    t->passed++;
    t->events += result->events;
    t->writes += result->writes;
    t->faults += result->faults;
    t->virtual_hours += (double)result->virtual_us / 3.6e9;
    for (int m = 0; m < SIM_MARK_COUNT; m++) t->marks.of[m] += result->marks.of[m] > 0;
}

static bool tell_marks(const struct totals *t)
{
    bool all = true;
    printf("marks: seeds that reached\n");
    for (int m = 0; m < SIM_MARK_COUNT; m++) {
        printf("  %6llu  %s\n", (unsigned long long)t->marks.of[m], sim_mark_name((enum sim_mark)m));
        all = all && t->marks.of[m] > 0;
    }
    return all;
}

static void reap(struct child *children, struct totals *totals)
{
    int status;
    struct sim_result result;
    pid_t pid = wait(&status);
    for (unsigned i = 0; i < JOBS_MAX; i++) {
        if (pid <= 0 || children[i].pid != pid) continue;
        if (child_end(&children[i], status, &result)) {
            add(totals, &result);
        } else {
            totals->failed++;
            tell_signal(&children[i], status);
        }
    }
}

int sim_batch_run(const struct sim_batch *batch)
{
    struct child children[JOBS_MAX] = {0};
    struct totals totals = {0};
    unsigned jobs = batch->jobs < 1 ? 1 : batch->jobs > JOBS_MAX ? JOBS_MAX : batch->jobs;
    uint64_t next = batch->first, running = 0;
    while (next <= batch->last || running > 0) {
        for (unsigned i = 0; i < jobs && next <= batch->last; i++) {
            if (children[i].pid != 0) continue;
            struct sim_options options = batch->options;
            options.seed = next++;
            child_start(&children[i], &options, batch->check_replay, false);
            running++;
        }
        reap(children, &totals);
        running--;
    }
    printf("%llu events, %llu writes, %llu faults in %.1f hours of virtual time\n", (unsigned long long)totals.events,
           (unsigned long long)totals.writes, (unsigned long long)totals.faults, totals.virtual_hours);
    bool all = tell_marks(&totals);
    if (batch->require_marks && !all) {
        printf("FAILED: a mark was not reached by any seed, so this batch has not tested what it is for\n");
        totals.failed++;
    }
    printf("%llu passed, %llu failed\n", (unsigned long long)totals.passed, (unsigned long long)totals.failed);
    return totals.failed == 0 ? 0 : 1;
}

/* ---- smaller ---- */

static bool fails(const struct sim_options *options)
{
    struct child child = {0};
    struct sim_result result;
    int status = 0;
    child_start(&child, options, false, true);
    if (waitpid(child.pid, &status, 0) != child.pid) abort();
    return !child_end(&child, status, &result);
}

static void tell_smaller(const struct sim_options *o)
{
    char command[256];
    sim_options_format(o, command, sizeof command);
    printf("  fails: %s\n", command);
    (void)fflush(stdout);
}

/* Halves the distance to `from` as long as it fails. `unset`: the seed chooses, something below `limit`. */
static bool shrink_knob(struct sim_options *o, uint32_t *value, uint32_t from, uint32_t unset, uint32_t limit)
{
    uint32_t before = *value, end = before == unset ? limit : before, least = end;
    while (from < least) {
        uint32_t middle = from + (least - from) / 2;
        *value = middle;
        if (fails(o)) {
            least = middle;
            tell_smaller(o);
        } else {
            from = middle + 1;
        }
    }
    *value = least < end ? least : before;
    return least < end;
}

static bool shrink_faults(struct sim_options *o)
{
    bool smaller = false;
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        uint32_t before = o->faults;
        o->faults &= ~(1u << i);
        if (o->faults == before) continue;
        if (fails(o)) {
            smaller = true;
            tell_smaller(o);
        } else {
            o->faults = before;
        }
    }
    return smaller;
}

int sim_shrink(const struct sim_options *options)
{
    char command[256];
    struct sim_options o = *options;
    if (!fails(&o)) {
        printf("seed %llu does not fail\n", (unsigned long long)o.seed);
        return 1;
    }
    bool smaller = true;
    for (int round = 0; smaller && round < SHRINK_ROUNDS; round++) {
        smaller = shrink_knob(&o, &o.operations, 1, 0, OPERATIONS_UNSET);
        smaller = shrink_knob(&o, &o.fault_count_max, 0, UINT32_MAX, FAULTS_UNSET) || smaller;
        smaller = shrink_knob(&o, &o.nodes, 2, 0, NODES_UNSET) || smaller;
        smaller = shrink_knob(&o, &o.keys, 1, 0, KEYS_UNSET) || smaller;
        smaller = shrink_faults(&o) || smaller;
    }
    sim_options_format(&o, command, sizeof command);
    struct sim_result result;
    printf("smallest: %s\n", command);
    (void)fflush(stdout);
    sim_run(&o, &result); /* tells what is broken, and ends the process */
    return 1;
}
