/* Rounds: who waits for sessions with some peers or all (sync_once, wait_converged), and for the values that they
 * brought.
 *
 *   begin ─▶ every peer is dialled ─▶ its session ended (once), or was clean (converged); else it is dialled again
 *                                         │ of all peers
 *                                         ▼
 *                  done (once)     the store: newest value now? ─▶ is one up to it missing? ─▶ done
 *                                                                    ▲ yes: again when values came
 *
 * A round is the caller's until `done`. While a task of it is with the store, `over` keeps its result. */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "node/sync_parts.h"

#define CONVERGE_RETRY_US ((uint64_t)200000)

static void round_finish(struct sync_round *round, enum hkv_err err)
{
    struct sync_driver *driver = round->driver;
    struct sync_round **at = &driver->rounds;
    while (*at != round) at = &(*at)->next;
    *at = round->next;
    env_timer_cancel(node_env(driver->store), &round->timer);
    if (!round->task_out) {
        round->done(round, err);
        return;
    }
    round->over = true;
    round->result = err;
    if (err != HKV_OK) error_save(&round->why);
}

static size_t round_pending(const struct sync_round *round)
{
    size_t pending = 0;
    for (size_t i = 0; i < round->peer_count; i++) pending += !round->peers[i].done;
    return pending;
}

static enum hkv_err once_result(const struct sync_round *round)
{
    for (size_t i = 0; i < round->peer_count; i++)
        if (round->peers[i].done && round->peers[i].err == HKV_OK) return HKV_OK;
    if (round->peer_count == 0) return HKV_OK;
    char id[ID_TEXT_MAX];
    return error_set(HKV_E_PEER_UNREACHABLE, "no session with any of %zu peers ended well; %.10s: %s",
                     round->peer_count, id_format(round->peers[0].id.bytes, id), round->peers[0].why);
}

static enum hkv_err not_converged(const struct sync_round *round, uint64_t missing)
{
    char text[ERROR_TEXT_MAX] = "";
    size_t used = 0;
    for (size_t i = 0; i < round->peer_count && used + 1 < sizeof text; i++) {
        const struct sync_round_peer *p = &round->peers[i];
        char id[ID_TEXT_MAX];
        if (p->done) continue;
        int n = snprintf(text + used, sizeof text - used, "%s%.10s: %s", used == 0 ? "" : "; ",
                         id_format(p->id.bytes, id), p->why[0] == '\0' ? "no session ended yet" : p->why);
        used += n > 0 ? (size_t)n : 0;
    }
    if (used == 0 && missing == 0)
        (void)snprintf(text, sizeof text, "the store has not said yet whether a value is missing");
    if (missing > 0 && used + 1 < sizeof text)
        (void)snprintf(text + used, sizeof text - used, "%s%llu values have not arrived", used == 0 ? "" : "; ",
                       (unsigned long long)missing);
    return error_set(HKV_E_NOT_CONVERGED, "not converged in %u ms: %s", round->timeout_ms, text);
}

static void round_task_done(struct job *job);

static enum hkv_err round_task_apply(struct commit_task *task, struct kv *kv)
{
    struct sync_round *round = (struct sync_round *)(void *)((char *)task - offsetof(struct sync_round, task));
    if (!round->mark_known) return kv_value_mark(kv, &round->mark);
    return kv_value_missing(kv, round->mark, &round->missing);
}

static void round_task_complete(struct commit_task *task, enum hkv_err err)
{
    struct sync_round *round = (struct sync_round *)(void *)((char *)task - offsetof(struct sync_round, task));
    round->task.err = err;
    round->job.run = round_task_done;
    env_run_on(node_env(round->driver->store), ENV_NETWORK, &round->job);
}

static void round_ask(struct sync_round *round)
{
    round->task = (struct commit_task){.apply = round_task_apply, .complete = round_task_complete};
    round->task_out = true;
    round->missing = true;
    round->driver->round_tasks++;
    committer_submit(&round->driver->store->committer, &round->task);
}

/* Ends the round when nothing is left to wait for. */
static void round_check(struct sync_round *round)
{
    if (round->task_out) {
        round->look_again = true;
    } else if (round_pending(round) > 0) {
        return;
    } else if (round->kind == SYNC_ROUND_ONCE) {
        round_finish(round, once_result(round));
    } else {
        round_ask(round);
    }
}

static void round_task_done(struct job *job)
{
    struct sync_round *round = (struct sync_round *)(void *)((char *)job - offsetof(struct sync_round, job));
    struct sync_driver *driver = round->driver;
    bool asked_missing = round->mark_known, again = round->look_again;
    driver->round_tasks--;
    round->task_out = false;
    round->look_again = false;
    round->mark_known = round->mark_known || round->task.err == HKV_OK;
    if (round->over) {
        if (round->result != HKV_OK) error_restore(&round->why);
        round->done(round, round->result);
    } else if (asked_missing && round->task.err == HKV_OK && !round->missing) {
        round_finish(round, HKV_OK);
    } else if (!asked_missing || again) {
        round_check(round);
    }
    sync_check_closed(driver);
}

void sync_rounds_check(struct sync_driver *driver)
{
    for (struct sync_round *round = driver->rounds, *next; round != NULL; round = next) {
        next = round->next;
        round_check(round);
    }
}

static void round_timeout(struct env_timer *timer)
{
    struct sync_round *round = (struct sync_round *)(void *)((char *)timer - offsetof(struct sync_round, timer));
    struct kv_counts counts;
    kv_counts(round->driver->store->kv, &counts);
    enum hkv_err err = round->kind == SYNC_ROUND_CONVERGED
                           ? not_converged(round, counts.values_missing + counts.values_bad)
                           : error_set(HKV_E_TIMEOUT, "%zu of %zu peers had no session within %u ms",
                                       round_pending(round), round->peer_count, round->timeout_ms);
    round_finish(round, err);
}

static void round_peer_ended(struct sync_round *round, struct sync_round_peer *p, struct peer *peer,
                             const struct docs_outcome *outcome, bool clean)
{
    p->err = outcome->err;
    p->confirmed = outcome->is_confirmed;
    p->sent += outcome->sent;
    p->received += outcome->received;
    memcpy(p->why, outcome->err == HKV_OK ? peer->why : outcome->why.text, sizeof p->why);
    if (p->why[0] == '\0' && !clean)
        (void)snprintf(p->why, sizeof p->why, "its last session neither moved entries nor found both sides equal");
    if (round->kind == SYNC_ROUND_ONCE || clean)
        p->done = true;
    else
        peer_wake(peer, CONVERGE_RETRY_US);
}

void sync_rounds_session_ended(struct sync_driver *driver, const struct sync_session *s, bool clean)
{
    for (struct sync_round *round = driver->rounds; round != NULL; round = round->next)
        for (size_t i = 0; i < round->peer_count; i++) {
            struct sync_round_peer *p = &round->peers[i];
            if (p->done || !endpoint_id_equal(&p->id, &s->peer_id)) continue;
            bool begun_before = s->number <= round->begun;
            bool aborted = s->docs.outcome.is_aborted && s->docs.outcome.abort_reason == DOCS_ABORT_ALREADY_SYNCING;
            if (begun_before || aborted)
                peer_wake(s->peer, aborted ? SYNC_BACKOFF_FIRST_US : 0);
            else
                round_peer_ended(round, p, s->peer, &s->docs.outcome, clean);
        }
    sync_rounds_check(driver);
}

void sync_rounds_dial_failed(struct sync_driver *driver, struct peer *peer, const struct docs_outcome *outcome)
{
    for (struct sync_round *round = driver->rounds; round != NULL; round = round->next)
        for (size_t i = 0; i < round->peer_count; i++)
            if (!round->peers[i].done && endpoint_id_equal(&round->peers[i].id, &peer->id))
                round_peer_ended(round, &round->peers[i], peer, outcome, false);
    sync_rounds_check(driver);
}

void sync_peer_removed(struct sync_driver *driver, const struct peer *peer)
{
    for (struct sync_round *round = driver->rounds; round != NULL; round = round->next)
        for (size_t i = 0; round->selected == NULL && i < round->peer_count; i++) {
            struct sync_round_peer *p = &round->peers[i];
            if (p->done || !endpoint_id_equal(&p->id, &peer->id)) continue;
            p->done = true;
            p->err = HKV_E_NOT_FOUND;
            (void)snprintf(p->why, sizeof p->why, "the peer was removed");
        }
    sync_rounds_check(driver);
}

void sync_rounds_close(struct sync_driver *driver)
{
    while (driver->rounds != NULL) round_finish(driver->rounds, error_set(HKV_E_CLOSED, "the store is being closed"));
}

static enum hkv_err round_select(struct sync_driver *driver, struct sync_round *round)
{
    struct peers *peers = &driver->store->peers;
    size_t limit = round->selected != NULL ? round->selected_count : peers->count;
    round->peers = calloc(limit + 1, sizeof *round->peers);
    if (round->peers == NULL) return error_set(HKV_E_NOMEM, "no memory to wait for peers");
    for (size_t i = 0; i < limit; i++) {
        struct peer *peer;
        char id[ID_TEXT_MAX];
        peer = round->selected == NULL ? peers->items[i] : peers_find(peers, &round->selected[i]);
        if (peer == NULL)
            return error_set(HKV_E_NOT_FOUND, "no peer %.10s is known; add it first",
                             id_format(round->selected[i].bytes, id));
        if (round->selected == NULL && !peer_is_selected(peer)) continue;
        round->peers[round->peer_count++].id = peer->id;
    }
    return HKV_OK;
}

void sync_round_begin(struct sync_driver *driver, struct sync_round *round)
{
    struct env *env = node_env(driver->store);
    round->driver = driver;
    round->timer = (struct env_timer){.fire = round_timeout};
    round->peers = NULL;
    round->peer_count = 0;
    round->mark_known = round->task_out = round->look_again = round->over = false;
    round->begun = driver->number;
    round->begun_us = env_mono_us(env);
    if (driver->closing) {
        round->done(round, error_set(HKV_E_CLOSED, "the store is being closed"));
        return;
    }
    enum hkv_err err = round_select(driver, round);
    if (err != HKV_OK) {
        round->done(round, err);
        return;
    }
    round->next = driver->rounds;
    driver->rounds = round;
    if (round->timeout_ms != 0 && round->timeout_ms != HKV_FOREVER)
        env_timer_set(env, &round->timer, round->begun_us + (uint64_t)round->timeout_ms * 1000);
    for (size_t i = 0; i < round->peer_count; i++) peer_wake(peers_find(&driver->store->peers, &round->peers[i].id), 0);
    round_check(round);
}

void sync_round_fini(struct sync_round *round)
{
    free(round->peers);
    round->peers = NULL;
}
