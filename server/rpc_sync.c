#include <stdlib.h>
#include <string.h>

#include "server/rpc_methods.h"
#include "server/rpc_params.h"

#define SYNC_TIMEOUT_MS_DEFAULT 30000

/* "a,b" as ["a", "b"]; "" as []. */
static json_t *split_commas(const char *text)
{
    json_t *array = json_array();
    while (text && *text) {
        size_t len = strcspn(text, ",");
        if (json_array_append_new(array, json_stringn(text, len)) != 0) {
            json_decref(array);
            return NULL;
        }
        text += len + (text[len] == ',');
    }
    return array;
}

/* ------------------------------------------------------------------------------------------ who and how */

enum hkv_err rpc_kv_info(struct rpc_call *call)
{
    struct hkv_info info;
    enum hkv_err err = hkv_info(call->request->rpc->store, &info);
    if (err != HKV_OK) return err;
    call->result = json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:b, s:i, s:i}", "namespace_id",
                             info.namespace_id, "author_id", info.author_id, "endpoint_id", info.endpoint_id,
                             "endpoint_ticket", info.endpoint_ticket, "addrs", split_commas(info.addrs), "format",
                             info.format, "data_dir", info.data_dir, "version", HKV_VERSION_TEXT, "read_only",
                             info.read_only, "port_ipv4", info.port_ipv4, "port_ipv6", info.port_ipv6);
    hkv_info_fini(&info);
    return HKV_OK;
}

json_t *rpc_json_conditions(const struct hkv_status *status)
{
    json_t *object = json_object();
    for (int i = 0; i < HKV_CONDITION_COUNT; i++) {
        const char *name = hkv_condition_name((enum hkv_condition)i);
        if (json_object_set_new(object, name, json_boolean(status->conditions[i])) == 0) continue;
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *peer_json(const struct hkv_peer *peer)
{
    static const char *const sources[] = {
        [HKV_PEER_SEED] = "seed",
        [HKV_PEER_MEMBER] = "member",
        [HKV_PEER_SYNCED] = "synced",
    };
    static const char *const skews[] = {
        [HKV_SKEW_UNKNOWN] = "unknown",
        [HKV_SKEW_AT_LEAST] = "at_least",
        [HKV_SKEW_MEASURED] = "measured",
    };
    static const char *const paths[] = {
        [HKV_PATH_NONE] = "none",
        [HKV_PATH_DIRECT] = "direct",
        [HKV_PATH_RELAYED] = "relayed",
    };
    json_t *skew_us = peer->clock_skew == HKV_SKEW_UNKNOWN ? json_null() : json_integer(peer->clock_skew_us);
    return json_pack("{s:s, s:s, s:s, s:o, s:b, s:o, s:s, s:o, s:s, s:o, s:o, s:b, s:o, s:s}", "endpoint_id",
                     peer->endpoint_id, "source", sources[peer->source], "name", peer->name, "addrs",
                     split_commas(peer->addrs), "connected", peer->connected, "disconnected_us",
                     peer->connected ? json_null() : rpc_json_stamp(peer->disconnected_us), "path", paths[peer->path],
                     "rtt_us", rpc_json_stamp(peer->rtt_us), "clock_skew", skews[peer->clock_skew], "clock_skew_us",
                     skew_us, "last_sync_us", rpc_json_stamp(peer->last_sync_us), "last_confirmed",
                     peer->last_confirmed, "failures", rpc_json_stamp(peer->failures), "why", peer->why);
}

/* The peers as an array in `out`. */
static enum hkv_err peers_json(struct hkv_store *store, json_t **out)
{
    struct hkv_peers *peers;
    enum hkv_err err = hkv_peers(store, &peers);
    if (err != HKV_OK) return err;
    json_t *array = json_array();
    for (size_t i = 0; array && i < peers->count; i++) {
        if (json_array_append_new(array, peer_json(&peers->peers[i])) == 0) continue;
        json_decref(array);
        array = NULL;
    }
    hkv_peers_free(peers);
    *out = array;
    return HKV_OK;
}

enum hkv_err rpc_kv_peers(struct rpc_call *call)
{
    json_t *peers;
    enum hkv_err err = peers_json(call->request->rpc->store, &peers);
    if (err == HKV_OK) call->result = json_pack("{s:o}", "peers", peers);
    return err;
}

/* The refused entries as an array in `out`. */
static enum hkv_err refused_json(struct hkv_store *store, json_t **out)
{
    struct hkv_refused *refused;
    enum hkv_err err = hkv_refused(store, &refused);
    if (err != HKV_OK) return err;
    json_t *array = json_array();
    for (size_t i = 0; array && i < refused->count; i++) {
        const struct hkv_refused_entries *of = &refused->items[i];
        json_t *object = json_pack("{s:s, s:s, s:o, s:o, s:o}", "author", of->author, "peer", of->peer, "entries",
                                   rpc_json_stamp(of->entries), "ahead_us", rpc_json_stamp(of->ahead_us), "due_us",
                                   rpc_json_stamp(of->due_us));
        if (json_array_append_new(array, object) == 0) continue;
        json_decref(array);
        array = NULL;
    }
    hkv_refused_free(refused);
    *out = array;
    return HKV_OK;
}

/* Adds counts under their names; false: out of memory. */
static bool set_counts(json_t *object, const struct hkv_status *status)
{
    const struct {
        const char *name;
        uint64_t count;
    } counts[] = {
        {"entries", status->entries},
        {"visible_keys", status->visible_keys},
        {"tombstones", status->tombstones},
        {"values_missing", status->values_missing},
        {"values_bad", status->values_bad},
        {"values_too_large", status->values_too_large},
        {"entries_refused", status->entries_refused},
        {"foreign_entries", status->foreign_entries},
        {"disk_bytes", status->disk_bytes},
        {"wal_bytes", status->wal_bytes},
        {"wal_overruns", status->wal_overruns},
        {"stamp_ahead_us", status->stamp_ahead_us},
        {"sessions_ok", status->sessions_ok},
        {"sessions_failed", status->sessions_failed},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (json_object_set_new(object, counts[i].name, rpc_json_stamp(counts[i].count)) != 0) return false;
    return true;
}

static json_t *problem_json(const struct hkv_problem *problem)
{
    static const char *const kinds[] = {
        [HKV_PROBLEM_BAD] = "bad",
        [HKV_PROBLEM_TOO_LARGE] = "too_large",
        [HKV_PROBLEM_MISSING] = "missing",
    };
    struct hkv_version version = {0};
    memcpy(version.author, problem->author, sizeof version.author);
    /* A key of another shape may be no text. */
    json_t *key = problem->is_user_key ? json_stringn(problem->key, problem->key_bytes) : json_null();
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:i, s:s}", "kind", kinds[problem->kind], "key", key, "author",
                     rpc_json_author(&version), "length", rpc_json_stamp(problem->length), "since_us",
                     rpc_json_stamp(problem->since_us), "attempts", (int)problem->attempts, "why", problem->why);
}

static enum hkv_err problems_json(struct hkv_store *store, json_t **out)
{
    struct hkv_problems *problems;
    enum hkv_err err = hkv_problems(store, &problems);
    if (err != HKV_OK) return err;
    json_t *array = json_array();
    for (size_t i = 0; array && i < problems->count; i++) {
        if (json_array_append_new(array, problem_json(&problems->items[i])) == 0) continue;
        json_decref(array);
        array = NULL;
    }
    hkv_problems_free(problems);
    *out = array;
    return HKV_OK;
}

enum hkv_err rpc_kv_status(struct rpc_call *call)
{
    struct hkv_status status;
    enum hkv_err err = hkv_status(call->request->rpc->store, &status);
    if (err != HKV_OK) return err;
    json_t *peers, *refused, *problems;
    char position[HKV_POSITION_TEXT_BYTES];
    hkv_position_format(&status.position, position);
    err = peers_json(call->request->rpc->store, &peers);
    if (err != HKV_OK) return err;
    err = refused_json(call->request->rpc->store, &refused);
    if (err != HKV_OK) {
        json_decref(peers);
        return err;
    }
    err = problems_json(call->request->rpc->store, &problems);
    if (err != HKV_OK) {
        json_decref(peers);
        json_decref(refused);
        return err;
    }
    json_t *result =
        json_pack("{s:b, s:o, s:s, s:s, s:s, s:b, s:o, s:s, s:s, s:o, s:o}", "healthy", status.healthy, "conditions",
                  rpc_json_conditions(&status), "values_error", status.values_error, "fingerprint", status.fingerprint,
                  "position", position, "single_node", status.single_node, "peers", peers, "clock_why",
                  status.clock_why, "identity_why", status.identity_why, "refused", refused, "problems", problems);
    if (result && !set_counts(result, &status)) {
        json_decref(result);
        result = NULL;
    }
    call->result = result;
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ peers */

static enum hkv_err change_peer(struct rpc_call *call, enum hkv_err (*change)(struct hkv_store *, const char *))
{
    size_t len;
    const char *peer = rpc_param_string(call, "peer", &len);
    if (strlen(peer) != len) peer = ""; /* a text with a NUL is no peer either: the store says what one looks like */
    enum hkv_err err = change(call->request->rpc->store, peer);
    if (err == HKV_OK) call->result = json_pack("{s:b}", "ok", 1);
    return err;
}

enum hkv_err rpc_kv_peer_add(struct rpc_call *call)
{
    return change_peer(call, hkv_peer_add);
}

enum hkv_err rpc_kv_peer_remove(struct rpc_call *call)
{
    return change_peer(call, hkv_peer_remove);
}

/* ------------------------------------------------------------------------------------------ sync */

static struct rpc_call *call_of(struct task *task)
{
    return (struct rpc_call *)(void *)((char *)task - offsetof(struct rpc_call, task));
}

static void keep_error(struct rpc_call *call, enum hkv_err err, const char *error)
{
    call->err = err;
    call->message[0] = '\0';
    if (err != HKV_OK) strncat(call->message, error, sizeof call->message - 1);
}

static json_t *sync_peer_json(const struct hkv_sync_peer *peer)
{
    return json_pack("{s:s, s:b, s:b, s:o, s:o, s:s*}", "endpoint_id", peer->endpoint_id, "ok", peer->err == HKV_OK,
                     "confirmed", peer->confirmed, "entries_sent", rpc_json_stamp(peer->entries_sent),
                     "entries_received", rpc_json_stamp(peer->entries_received), "error",
                     peer->err == HKV_OK ? NULL : peer->error);
}

static void sync_finished(struct task *task)
{
    struct rpc_call *call = call_of(task);
    if (call->err != HKV_OK && call->err != HKV_E_TIMEOUT && call->err != HKV_E_PEER_UNREACHABLE) {
        rpc_call_fail_store(call, call->err, call->message);
        return;
    }
    json_t *peers = call->result;
    call->result = NULL;
    rpc_call_result(call, json_pack("{s:b, s:o, s:s*}", "ok", call->err == HKV_OK, "peers", peers, "error",
                                    call->err == HKV_OK ? NULL : call->message));
}

/* On the store's callback thread. */
static void sync_done(void *arg, enum hkv_err err, const char *error, const struct hkv_sync_result *result)
{
    struct rpc_call *call = arg;
    keep_error(call, err, error);
    json_t *peers = json_array();
    for (size_t i = 0; peers && result && i < result->count; i++) {
        if (json_array_append_new(peers, sync_peer_json(&result->peers[i])) == 0) continue;
        json_decref(peers);
        peers = NULL;
    }
    call->result = peers;
    tasks_post(call->request->rpc->tasks, &call->task);
}

void rpc_kv_sync_once(struct rpc_call *call)
{
    call->task = (struct task){.done = sync_finished};
    uint32_t timeout_ms = (uint32_t)rpc_param_integer(call, "timeout_ms", SYNC_TIMEOUT_MS_DEFAULT);
    enum hkv_err err = hkv_sync_once_async(call->request->rpc->store, timeout_ms, sync_done, call);
    if (err != HKV_OK) rpc_call_fail_store(call, err, hkv_last_error());
}

static void converged_finished(struct task *task)
{
    struct rpc_call *call = call_of(task);
    if (call->err != HKV_OK && call->err != HKV_E_NOT_CONVERGED)
        rpc_call_fail_store(call, call->err, call->message);
    else
        rpc_call_result(call, json_pack("{s:b, s:o, s:s*}", "converged", call->err == HKV_OK, "waited_ms",
                                        rpc_json_stamp(call->waited_ms), "reason",
                                        call->err == HKV_OK ? NULL : call->message));
}

/* On the store's callback thread. */
static void converged_done(void *arg, enum hkv_err err, const char *error, uint64_t waited_ms)
{
    struct rpc_call *call = arg;
    keep_error(call, err, error);
    call->waited_ms = waited_ms;
    tasks_post(call->request->rpc->tasks, &call->task);
}

void rpc_kv_wait_converged(struct rpc_call *call)
{
    const json_t *names = json_object_get(call->params, "peers");
    size_t count = json_array_size(names);
    const char **peers = count ? calloc(count, sizeof *peers) : NULL;
    if (count && !peers) {
        rpc_call_fail_store(call, HKV_E_NOMEM, hkv_error_sentence(HKV_E_NOMEM));
        return;
    }
    for (size_t i = 0; i < count; i++) peers[i] = json_string_value(json_array_get(names, i));

    call->task = (struct task){.done = converged_finished};
    uint32_t timeout_ms = (uint32_t)rpc_param_integer(call, "timeout_ms", 0);
    enum hkv_err err =
        hkv_wait_converged_async(call->request->rpc->store, peers, count, timeout_ms, converged_done, call);
    free(peers);
    if (err != HKV_OK) rpc_call_fail_store(call, err, hkv_last_error());
}

/* ------------------------------------------------------------------------------------------ verification */

static json_t *verify_json(const struct hkv_verify_result *result)
{
    json_t *object = json_pack("{s:b, s:b, s:s, s:o}", "sound", result->sound, "unreadable", result->unreadable,
                               "first", result->first, "took_ms", rpc_json_stamp(result->took_ms));
    for (int i = 0; object && i < HKV_VERIFY_KIND_COUNT; i++) {
        const struct hkv_verify_counts *counts = &result->kinds[i];
        json_t *kind = json_pack("{s:o, s:o, s:o}", "checked", rpc_json_stamp(counts->checked), "bad",
                                 rpc_json_stamp(counts->bad), "repaired", rpc_json_stamp(counts->repaired));
        if (json_object_set_new(object, hkv_verify_kind_name((enum hkv_verify_kind)i), kind) == 0) continue;
        json_decref(object);
        object = NULL;
    }
    return object;
}

static void verify_finished(struct task *task)
{
    struct rpc_call *call = call_of(task);
    json_t *result = call->result;
    call->result = NULL;
    if (call->err != HKV_OK)
        rpc_call_fail_store(call, call->err, call->message);
    else
        rpc_call_result(call, result);
}

/* On the store's callback thread. */
static void verify_done(void *arg, enum hkv_err err, const char *error, const struct hkv_verify_result *result)
{
    struct rpc_call *call = arg;
    keep_error(call, err, error);
    if (err == HKV_OK) call->result = verify_json(result);
    tasks_post(call->request->rpc->tasks, &call->task);
}

void rpc_kv_verify(struct rpc_call *call)
{
    call->task = (struct task){.done = verify_finished};
    enum hkv_err err = hkv_verify_async(call->request->rpc->store, NULL, verify_done, call);
    if (err != HKV_OK) rpc_call_fail_store(call, err, hkv_last_error());
}

/* ------------------------------------------------------------------------------------------ tickets */

enum hkv_err rpc_kv_ticket(struct rpc_call *call)
{
    size_t len;
    const char *mode = rpc_param_string(call, "mode", &len);
    char *ticket;
    enum hkv_err err =
        hkv_ticket(call->request->rpc->store, strcmp(mode, "write") == 0 ? HKV_TICKET_WRITE : HKV_TICKET_READ, &ticket);
    if (err != HKV_OK) return err;
    call->result = json_pack("{s:s}", "ticket", ticket);
    hkv_text_free(ticket);
    return HKV_OK;
}

enum hkv_err rpc_kv_join(struct rpc_call *call)
{
    size_t len, format_len;
    const char *ticket = rpc_param_string(call, "ticket", &len);
    if (strlen(ticket) != len) ticket = "";
    const char *name = rpc_param_string(call, "format", &format_len);
    enum hkv_format format = HKV_FORMAT_AUTO;
    if (strcmp(name, "native") == 0) format = HKV_FORMAT_NATIVE;
    if (strcmp(name, "hero-v1") == 0) format = HKV_FORMAT_HERO_V1;
    enum hkv_err err = hkv_join(call->request->rpc->store, ticket, format);
    if (err != HKV_OK) return err;

    struct hkv_info info;
    err = hkv_info(call->request->rpc->store, &info);
    if (err != HKV_OK) return err;
    call->result =
        json_pack("{s:b, s:s, s:b}", "ok", 1, "namespace_id", info.namespace_id, "read_only", info.read_only);
    hkv_info_fini(&info);
    return HKV_OK;
}
