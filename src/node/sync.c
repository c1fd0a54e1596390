#include "node/sync.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "node/fetch.h"
#include "node/records.h"
#include "node/resolve.h"
#include "node/serve.h"
#include "node/sync_parts.h"

#define REPEATS_MAX            3 /* sessions in a row with one peer because entries moved */
#define PERSIST_AFTER_US       ((uint64_t)600000000)
#define RESOLVE_AFTER_FAILURES 4 /* in a row, after which a host name is looked up anew */

static void dial_failed(struct sync_driver *driver, struct peer *peer, enum hkv_err err);

/* A delay with 10 % jitter either way. */
static uint64_t jitter(struct hkv_store *store, uint64_t delay_us)
{
    uint32_t random;
    env_random(node_env(store), &random, sizeof random);
    return delay_us - delay_us / 10 + delay_us / 5 * (uint64_t)random / UINT32_MAX;
}

static uint64_t write_delay_us(const struct peer *peer)
{
    return peer->member ? SYNC_WRITE_DELAY_US : SYNC_FOREIGN_DELAY_US;
}

static uint64_t backoff_us(const struct sync_driver *driver, unsigned failures)
{
    uint64_t limit = driver->store->anti_entropy_us;
    if (limit < SYNC_BACKOFF_FIRST_US * 4) limit = SYNC_BACKOFF_FIRST_US * 4;
    if (limit > SYNC_BACKOFF_MAX_US) limit = SYNC_BACKOFF_MAX_US;
    uint64_t delay = SYNC_BACKOFF_FIRST_US;
    for (unsigned i = 1; i < failures && delay < limit; i++) delay *= 2;
    return delay < limit ? delay : limit;
}

static void publish(struct hkv_store *store, enum hkv_event_type type, const struct endpoint_id *peer,
                    const struct docs_outcome *outcome)
{
    char id[ID_TEXT_MAX];
    struct hkv_event event = {.type = type, .peer = id_format(peer->bytes, id)};
    if (outcome != NULL) {
        event.sync_ok = outcome->err == HKV_OK;
        event.sync_confirmed = outcome->is_confirmed;
        event.entries_sent = outcome->sent;
        event.entries_received = outcome->received;
    }
    watch_publish_sync(&store->watches, &event);
}

/* ------------------------------------------------------------------------------------------ beginning */

static void dial(struct sync_driver *driver, struct peer *peer)
{
    enum hkv_err err = sync_session_dial(driver, peer);
    if (err == HKV_OK) {
        publish(driver->store, HKV_EVENT_SYNC_STARTED, &peer->id, NULL);
        return;
    }
    dial_failed(driver, peer, err);
}

void sync_due(void *arg, struct peer *peer)
{
    struct sync_driver *driver = ((struct hkv_store *)arg)->sync;
    if (driver->closing || peer->session != NULL) return;
    if (peer->host[0] != '\0' && !peer->resolved && resolve_begin(driver->store, peer)) return;
    dial(driver, peer);
}

bool sync_admit(struct sync_session *s, const struct namespace_id *namespace, enum docs_abort_reason *reason)
{
    struct sync_driver *driver = s->driver;
    struct hkv_store *store = driver->store;
    struct peer *peer;
    (void)pthread_mutex_lock(&store->identity_lock);
    bool ours = namespace_id_equal(namespace, &store->identity.signer.namespace);
    (void)pthread_mutex_unlock(&store->identity_lock);
    *reason = DOCS_ABORT_NOT_FOUND;
    if (!ours || driver->closing) return false;
    *reason = DOCS_ABORT_INTERNAL;
    if (peers_get(&store->peers, &s->peer_id, PEER_CLAIM_STRANGER, &peer) != HKV_OK) return false;
    *reason = DOCS_ABORT_ALREADY_SYNCING;
    struct sync_session *running = peer->session;
    /* A node dials a peer once at a time: when it dials again, the session it dialled before is dead (the node was
     * restarted, and nothing tells an acceptor so before the idle time is over). */
    bool is_redial = running != NULL && running->role == DOCS_ACCEPTOR;
    /* Ours that has reached nobody must not keep off a peer that has reached us: its address may be an old one. */
    bool is_unanswered = running != NULL && running->role == DOCS_DIALLER && !running->opened;
    /* Ours that hears nothing any more, for the same reason: the peer may have died and come back. */
    bool is_stale = running != NULL && !docs_session_is_busy(&running->docs) &&
                    env_mono_us(node_env(store)) - running->heard_us > SYNC_STALE_US;
    bool is_dead = is_redial || is_unanswered || is_stale;
    bool theirs_wins = running == NULL || is_dead || ID_COMPARE(&store->endpoint_id, &peer->id) > 0;
    if (!theirs_wins) return false;
    /* Where it comes from is where the values of its entries are fetched. */
    struct transport_path_info path;
    transport_conn_path(s->conn, &path);
    (void)peer_met_at(peer, &path.remote);
    s->peer = peer;
    peer->session = s;
    peer->session_count++;
    if (is_unanswered || is_stale) running->displaced = true;
    if (is_dead && running->conn != NULL) transport_conn_close(running->conn, 0, "");
    env_timer_cancel(node_env(store), &peer->timer);
    publish(store, HKV_EVENT_SYNC_STARTED, &peer->id, NULL);
    return true;
}

void sync_session_progress(struct sync_session *s, uint64_t inserted)
{
    if (inserted == 0 || s->driver->closing) return;
    s->inserted += inserted;
    fetcher_kick(s->driver->store->fetcher);
}

/* ------------------------------------------------------------------------------------------ remembering peers */

struct persist_task {
    struct commit_task task; /* first */
    struct kv_peer row;
};

static enum hkv_err persist_apply(struct commit_task *task, struct kv *kv)
{
    return kv_peer_put(kv, &((struct persist_task *)(void *)task)->row);
}

static enum hkv_err forget_apply(struct commit_task *task, struct kv *kv)
{
    return kv_peer_delete(kv, &((struct persist_task *)(void *)task)->row.id);
}

static void persist_complete(struct commit_task *task, enum hkv_err err)
{
    struct persist_task *persist = (struct persist_task *)(void *)task;
    (void)err; /* tried again after the next session */
    address_set_fini(&persist->row.addrs);
    free(persist);
}

/* Every ten minutes, and when there is something new. */
static void persist(struct hkv_store *store, struct peer *peer, bool news)
{
    uint64_t now_us = env_mono_us(node_env(store));
    if (peer->removed) return; /* its row says so, and must go on saying so */
    if (!news && now_us - peer->persisted_us < PERSIST_AFTER_US) return;
    struct persist_task *task = calloc(1, sizeof *task);
    if (task == NULL) return;
    peer->persisted_us = now_us;
    task->task.apply = persist_apply;
    task->task.complete = persist_complete;
    task->row.id = peer->id;
    task->row.source = peer->seed ? KV_PEER_SEED : KV_PEER_SYNCED;
    task->row.last_sync_us = peer->last_ok_wall_us;
    if (peer_lasting_addrs(peer, &task->row.addrs) != HKV_OK) {
        persist_complete(&task->task, HKV_E_NOMEM);
        return;
    }
    committer_submit(&store->committer, &task->task);
}

void sync_peer_gone(void *arg, const struct peer *peer)
{
    struct hkv_store *store = arg;
    if (!store->running) return; /* its row was read just now; the next start reads it again */
    sync_peer_removed(store->sync, peer);
    struct persist_task *task = calloc(1, sizeof *task);
    if (task == NULL) return;
    task->task.apply = forget_apply;
    task->task.complete = persist_complete;
    task->row.id = peer->id;
    committer_submit(&store->committer, &task->task);
}

/* ------------------------------------------------------------------------------------------ the end of a session */

static bool is_clean(const struct docs_outcome *outcome)
{
    return outcome->err == HKV_OK &&
           (outcome->is_confirmed || (outcome->sent + outcome->inserted > 0 && outcome->refused == 0));
}

static void session_succeeded(struct sync_session *s, struct peer *peer)
{
    struct sync_driver *driver = s->driver;
    struct hkv_store *store = driver->store;
    const struct docs_outcome *outcome = &s->docs.outcome;
    struct transport_path_info path;
    bool news = !peer->synced;
    driver->counters.ok++;
    if (peer->failures > 0 || peer->last_ok_mono_us == 0) {
        char id[ID_TEXT_MAX];
        node_log(store, HKV_LOG_INFO, "sync", "in sync with %.10s", id_format(peer->id.bytes, id));
    }
    peer->failures = 0;
    peer->synced = peer->synced || !peer->removed;
    peer->why[0] = '\0';
    peer->last_ok_mono_us = env_mono_us(node_env(store));
    peer->last_ok_wall_us = env_wall_us(node_env(store));
    peer->down_wall_us = 0;
    if (is_clean(outcome)) peer->last_clean_mono_us = peer->last_ok_mono_us;
    peer->last_confirmed = outcome->is_confirmed;
    struct error_text full;
    bool writable = kv_writable(store->kv, &full);
    if (outcome->refused > 0)
        (void)snprintf(peer->why, sizeof peer->why,
                       "%llu entries of the last session were refused, %llu for their stamp%s%.300s",
                       (unsigned long long)outcome->refused, (unsigned long long)outcome->future, writable ? "" : ": ",
                       writable ? "" : full.text);
    if (outcome->is_confirmed) {
        struct kv_counts counts;
        kv_counts(store->kv, &counts);
        peer->confirmed = counts.fingerprint;
    }
    if (s->conn != NULL) {
        transport_conn_path(s->conn, &path);
        peer->rtt_us = path.rtt_us;
        peer->met = path.remote;
        if (peer_met_at(peer, &path.remote)) news = true;
    }
    persist(store, peer, news);
    holders_synced(store);
    fetcher_wake(store->fetcher, &peer->id);
    server_peer_known(store->server, &peer->id);
}

static void count_failure(struct sync_driver *driver, struct peer *peer, const struct docs_outcome *outcome)
{
    driver->counters.failed++;
    peer->failures++;
    if (peer->down_wall_us == 0) peer->down_wall_us = env_wall_us(node_env(driver->store));
    if (peer->failures == 1) {
        char id[ID_TEXT_MAX];
        node_log(driver->store, HKV_LOG_INFO, "sync", "out of sync with %.10s: %s", id_format(peer->id.bytes, id),
                 outcome->why.text);
    }
    if (peer->failures % RESOLVE_AFTER_FAILURES == 0) peer->resolved = false;
    memcpy(peer->why, outcome->why.text, sizeof peer->why);
}

static void dial_failed(struct sync_driver *driver, struct peer *peer, enum hkv_err err)
{
    struct docs_outcome outcome = {.err = err};
    error_save(&outcome.why);
    count_failure(driver, peer, &outcome);
    if (peer_is_selected(peer)) peer_schedule(peer, jitter(driver->store, backoff_us(driver, peer->failures)));
    sync_rounds_dial_failed(driver, peer, &outcome);
}

/* When the next session with the peer begins. `neutral`: neither success nor failure. */
static void schedule_next(struct sync_session *s, struct peer *peer, bool neutral)
{
    struct sync_driver *driver = s->driver;
    struct hkv_store *store = driver->store;
    const struct docs_outcome *outcome = &s->docs.outcome;
    bool moved = outcome->sent + outcome->inserted > 0;
    if (!peer_is_selected(peer)) return;
    if (neutral) {
        peer_wake(peer, jitter(store, SYNC_BACKOFF_FIRST_US));
    } else if (outcome->err != HKV_OK) {
        peer_schedule(peer, jitter(store, backoff_us(driver, peer->failures)));
    } else if (s->role == DOCS_DIALLER && moved && peer->member && peer->repeats < REPEATS_MAX) {
        peer->repeats++;
        peer_schedule(peer, 0);
    } else {
        peer->repeats = 0;
        peer_schedule(peer, jitter(store, store->anti_entropy_us));
    }
    if (peer->again && outcome->err == HKV_OK) peer_wake(peer, write_delay_us(peer));
    peer->again = false;
}

static void log_end(const struct sync_session *s)
{
    const struct docs_outcome *o = &s->docs.outcome;
    char id[ID_TEXT_MAX];
    node_log(s->driver->store, HKV_LOG_DEBUG, "sync", "session %s %.10s: %s, %llu sent, %llu received, %llu new%s%s",
             s->role == DOCS_DIALLER ? "with" : "from", id_format(s->peer_id.bytes, id),
             o->err != HKV_OK  ? "failed"
             : o->is_confirmed ? "equal"
                               : "moved",
             (unsigned long long)o->sent, (unsigned long long)o->received, (unsigned long long)o->inserted,
             o->err != HKV_OK ? ": " : "", o->err != HKV_OK ? o->why.text : "");
}

void sync_session_ended(struct sync_session *s)
{
    struct sync_driver *driver = s->driver;
    struct peer *peer = s->peer;
    const struct docs_outcome *outcome = &s->docs.outcome;
    log_end(s);
    if (peer == NULL) return; /* it never said what it wanted, or was refused */
    bool occupied = peer->session == s;
    bool neutral = s->displaced || (outcome->is_aborted && outcome->abort_reason == DOCS_ABORT_ALREADY_SYNCING);
    publish(driver->store, HKV_EVENT_SYNC_FINISHED, &peer->id, outcome);
    if (occupied) peer->session = NULL;
    if (driver->closing) return;
    clock_session_ended(driver->store, peer, outcome->newest_stamp_us, outcome->err);
    if (outcome->err == HKV_OK)
        session_succeeded(s, peer);
    else if (!neutral)
        count_failure(driver, peer, outcome);
    if (occupied) schedule_next(s, peer, neutral);
    if (outcome->inserted > 0) {
        sync_entries_changed(driver, peer);
        records_refresh(driver->store->records);
    }
    if (!neutral || peer->session == NULL) sync_rounds_session_ended(driver, s, is_clean(outcome));
}

void sync_session_gone(struct sync_driver *driver, struct sync_session *s)
{
    struct sync_session **at = &driver->sessions;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    if (s->peer != NULL && s->peer->session == s) s->peer->session = NULL;
    if (s->peer != NULL) s->peer->session_count--;
    if (s->role == DOCS_ACCEPTOR && !s->gave_way) driver->accepted_count--;
    sync_check_closed(driver);
}

void sync_entries_changed(struct sync_driver *driver, const struct peer *from)
{
    struct hkv_store *store = driver->store;
    struct kv_counts counts;
    if (driver->closing) return;
    kv_counts(store->kv, &counts);
    for (size_t i = 0; i < store->peers.count; i++) {
        struct peer *peer = store->peers.items[i];
        if (peer == from || !peer_is_selected(peer) || peer->failures > 0) continue;
        if (peer->session == NULL && peer->last_confirmed && fingerprint_equal(&peer->confirmed, &counts.fingerprint))
            continue;
        peer_wake(peer, write_delay_us(peer));
    }
}

void sync_values_changed(struct sync_driver *driver)
{
    if (driver->closing) return;
    records_refresh(driver->store->records);
    sync_rounds_check(driver);
}

void sync_abort_all(struct sync_driver *driver)
{
    for (struct sync_session *s = driver->sessions, *next; s != NULL; s = next) {
        next = s->next;
        if (s->ended) continue;
        (void)error_set(HKV_E_NAMESPACE, "this store joined another namespace");
        sync_session_abort(s, HKV_E_NAMESPACE);
    }
}

void sync_counters(const struct sync_driver *driver, struct sync_counters *out)
{
    *out = driver->counters;
}

/* ------------------------------------------------------------------------------------------ life cycle */

enum hkv_err sync_driver_new(struct hkv_store *store, struct sync_driver **out)
{
    struct sync_driver *driver = calloc(1, sizeof *driver);
    if (driver == NULL) return error_set(HKV_E_NOMEM, "no memory to open a store");
    driver->store = store;
    *out = driver;
    return HKV_OK;
}

void sync_check_closed(struct sync_driver *driver)
{
    if (driver->closed_done == NULL || driver->sessions != NULL || driver->round_tasks != 0) return;
    void (*done)(void *arg) = driver->closed_done;
    driver->closed_done = NULL;
    done(driver->closed_arg);
}

void sync_driver_close(struct sync_driver *driver, void (*done)(void *arg), void *arg)
{
    driver->closing = true;
    sync_rounds_close(driver);
    driver->closed_done = done;
    driver->closed_arg = arg;
    for (struct sync_session *s = driver->sessions; s != NULL; s = s->next)
        if (s->conn != NULL) transport_conn_close(s->conn, 0, "");
    sync_check_closed(driver);
}

void sync_driver_free(struct sync_driver *driver)
{
    if (driver == NULL) return;
    assert(driver->sessions == NULL && driver->rounds == NULL);
    free(driver);
}
