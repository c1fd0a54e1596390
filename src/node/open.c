/* Opening and closing a store: brings the parts up in order, and down in the reverse one.
 *
 *   directory, lock, secrets ─▶ kv ─▶ committer, watches ─▶ peers, driver, fetcher, server
 *                            ─▶ threads ─▶ endpoint ─▶ records, first syncs
 *
 * store_stop() undoes as much of it as was done, so that a failed open and a close are the same code. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "crypto/ed25519.h"
#include "node/check.h"
#include "node/fetch.h"
#include "node/housekeeping.h"
#include "node/join.h"
#include "node/node.h"
#include "node/options.h"
#include "node/problems.h"
#include "node/records.h"
#include "node/serve.h"
#include "node/sync.h"
#include "node/world_real.h"
#include "wire/ticket.h"

#define MEMORY_SPARE_BYTES                                                                                             \
    ((uint64_t)192 << 20) /* of a disk in memory: the write-ahead log, and a group that grows the files */

static enum hkv_err copy_options(struct hkv_store *store, const struct hkv_options *o)
{
    store->anti_entropy_us = (uint64_t)o->anti_entropy_ms * 1000;
    store->max_value_bytes = o->max_value_bytes;
    store->patience = (struct node_patience){
        .serve_stall_us = SERVE_STALL_US,
        .fetch_progress_us = FETCH_PROGRESS_US,
        .fetch_slow_bytes = FETCH_SLOW_BYTES,
        .fetch_stop_us = FETCH_STOP_US,
        .sync_first_byte_us = SYNC_FIRST_BYTE_US,
        .sync_progress_us = SYNC_PROGRESS_US,
        .sync_trickle_bytes = SYNC_TRICKLE_BYTES,
        .sync_linger_us = SYNC_LINGER_US,
        .records_check_us = RECORDS_CHECK_US,
    };
    store->allow_bad_clock = o->allow_bad_clock;
    store->log = o->log;
    store->log_arg = o->log_arg;
    if (o->name != NULL) {
        (void)snprintf(store->name, sizeof store->name, "%s", o->name);
    } else if (gethostname(store->name, sizeof store->name - 1) != 0 || !utf8_is_valid(slice_of_text(store->name))) {
        store->name[0] = '\0';
    }
    if (o->trusted_count == 0) return HKV_OK;
    store->trusted = calloc(o->trusted_count, sizeof *store->trusted);
    if (store->trusted == NULL) return error_set(HKV_E_NOMEM, "no memory to open a store");
    for (size_t i = 0; i < o->trusted_count; i++)
        TRY(endpoint_id_parse(slice_of_text(o->trusted[i]), &store->trusted[store->trusted_count++]));
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ secrets, namespace */

static enum hkv_err make_secret(struct hkv_store *store, const char *name, struct secret_key *out)
{
    env_random(node_env(store), out->bytes, sizeof out->bytes);
    return key_file_write(&store->dir, name, out);
}

static enum hkv_err own_secret(struct hkv_store *store, const char *name, const char *option_name, const char *option,
                               struct secret_key *out)
{
    bool found;
    TRY(secret_resolve(&store->dir, name, option_name, option, out, &found));
    return found ? HKV_OK : make_secret(store, name, out);
}

static uint64_t memory_store_bytes(const struct hkv_options *o)
{
    return o->disk_bytes != 0 ? o->disk_bytes : HKV_IN_MEMORY_BYTES_DEFAULT;
}

static void kv_config_fill(struct hkv_store *store, const struct hkv_options *o, const struct namespace_id *namespace,
                           struct kv_config *out)
{
    *out = (struct kv_config){
        .data_dir = store->dir.path,
        .namespace = *namespace,
        .author = store->identity.signer.author,
        .cache_bytes = o->memory_bytes / 2,
        .max_value_bytes = o->max_value_bytes + KV_CONTENT_HEAD_BYTES, /* of contents */
        .disk_bytes = store->dir.memory != NULL ? memory_store_bytes(o) : o->disk_bytes,
        .sync_every_commit = o->durability == HKV_DURABILITY_POWER,
        .env = node_env(store),
        .vfs = store->dir.vfs,
        .files = store->dir.values,
    };
}

/* Who we are and which namespace this is. */
static enum hkv_err resolve_identity(struct hkv_store *store, const struct hkv_options *o)
{
    struct kv_signer *signer = &store->identity.signer;
    const struct namespace_id none = {{0}};
    struct namespace_id stored, wanted;
    struct kv_config config;
    bool found, there;
    TRY(own_secret(store, "keys/node.secret", "endpoint_secret", o->endpoint_secret, &store->node_secret));
    TRY(own_secret(store, "keys/author.secret", "author_secret", o->author_secret, &signer->author_secret));
    ed25519_public_key(&store->node_secret, store->endpoint_id.bytes);
    ed25519_public_key(&signer->author_secret, signer->author.bytes);
    kv_config_fill(store, o, &none, &config);
    TRY(kv_stored_namespace(&config, &stored, &there));
    TRY(join_recover(store, there ? &stored : NULL));
    TRY(secret_resolve(&store->dir, "keys/namespace.secret", "namespace_secret", o->namespace_secret,
                       &signer->namespace_secret, &found));
    if (!found && o->namespace_id == NULL && !there) {
        TRY(make_secret(store, "keys/namespace.secret", &signer->namespace_secret));
        found = true;
    }
    store->identity.can_write = found;
    if (found)
        ed25519_public_key(&signer->namespace_secret, signer->namespace.bytes);
    else if (there)
        signer->namespace = stored;
    if (o->namespace_id == NULL) return HKV_OK;
    bool valid = hex_decode(slice_of_text(o->namespace_id), HEX_ANY_CASE, wanted.bytes, ID_BYTES);
    assert(valid); /* options_check() */
    if ((found || there) && !namespace_id_equal(&wanted, &signer->namespace))
        return error_set(HKV_E_IDENTITY,
                         "the configured namespace_id differs from the namespace in %s; remove the setting, or "
                         "give another data_dir",
                         store->dir.path);
    signer->namespace = wanted;
    return HKV_OK;
}

static enum hkv_err open_kv(struct hkv_store *store, const struct hkv_options *o, bool *created)
{
    struct kv_config config;
    struct namespace_id stored;
    kv_config_fill(store, o, &store->identity.signer.namespace, &config);
    enum hkv_err err = kv_open(&config, &store->kv, created, &stored);
    if (err != HKV_E_NAMESPACE) return err;
    char have[ID_TEXT_MAX], want[ID_TEXT_MAX];
    store->kv = NULL;
    return error_set(HKV_E_NAMESPACE,
                     "%s holds namespace %.16s…, the secret is of %.16s…; give another data_dir, or join by ticket",
                     store->dir.path, id_format(stored.bytes, have), id_format(config.namespace.bytes, want));
}

/* ------------------------------------------------------------------------------------------ facts kept in the store */

static enum hkv_err meta_has(struct hkv_store *store, const char *name, bool *has)
{
    struct buf value = {0};
    enum hkv_err err = kv_meta_get(store->kv, name, &value);
    buf_fini(&value);
    *has = err == HKV_OK;
    return err == HKV_E_NOT_FOUND ? HKV_OK : err;
}

static enum hkv_err find_format(struct hkv_store *store, const struct hkv_options *o)
{
    bool joined;
    struct buf key = {0};
    struct kv_item item = {0};
    TRY(meta_has(store, META_JOINED, &joined));
    TRY(meta_has(store, META_FORMAT_WRITTEN, &store->format_written));
    store->format_written = store->format_written || joined;
    store->identity.format_known = !joined || o->format == HKV_FORMAT_NATIVE;
    if (store->identity.format_known) return HKV_OK;
    enum hkv_err err = kv_system_key_encode(RECORD_FORMAT, &key);
    if (err == HKV_OK) err = kv_get(store->kv, buf_slice(&key), KV_WANT_META, &item);
    store->identity.format_known = err == HKV_OK;
    if (err == HKV_OK) kv_item_fini(&item);
    buf_fini(&key);
    return err == HKV_E_NOT_FOUND ? HKV_OK : err;
}

static enum hkv_err start_facts(struct hkv_store *store, const struct hkv_options *o, bool is_new)
{
    struct holder_facts facts;
    TRY(find_format(store, o));
    TRY(records_holder_facts(store, &facts));
    store->holders.author_is_given = o->author_secret != NULL;
    TRY(holders_check_start(store, &facts));
    TRY(kv_begin(store->kv));
    enum hkv_err err = holders_start(store, is_new);
    if (err == HKV_OK) err = kv_commit(store->kv);
    if (err != HKV_OK) kv_rollback(store->kv);
    return err;
}

/* ------------------------------------------------------------------------------------------ endpoint */

static bool admit(void *user, const struct endpoint_id *peer)
{
    const struct hkv_store *store = user;
    for (size_t i = 0; i < store->trusted_count; i++)
        if (endpoint_id_equal(&store->trusted[i], peer)) return true;
    return store->trusted_count == 0;
}

static bool accepted(void *user, struct transport_conn *conn, struct slice alpn)
{
    struct hkv_store *store = user;
    bool is_sync = slice_equal(alpn, slice_of_text(SYNC_ALPN)) || slice_equal(alpn, slice_of_text(SYNC_COMPACT_ALPN));
    if (is_sync) return sync_accept(store->sync, conn);
    if (slice_equal(alpn, slice_of_text(FETCH_ALPN))) return server_accept(store->server, conn);
    return false;
}

static uint16_t last_port(struct hkv_store *store)
{
    struct buf value = {0};
    uint16_t port = 0;
    if (kv_meta_get(store->kv, "port", &value) == HKV_OK && value.len == 2)
        port = (uint16_t)(value.data[0] << 8 | value.data[1]);
    buf_fini(&value);
    return port;
}

static enum hkv_err remember_port(struct hkv_store *store, void *arg)
{
    uint16_t port = *(const uint16_t *)arg;
    uint8_t bytes[2] = {(uint8_t)(port >> 8), (uint8_t)port};
    return kv_meta_set(store->kv, "port", slice_of(bytes, sizeof bytes));
}

struct endpoint_call {
    const struct hkv_options *options;
    uint16_t port;
    enum hkv_err err;
    struct error_text why;
};

static void open_on_network(struct hkv_store *store, void *arg)
{
    struct endpoint_call *call = arg;
    const struct slice alpns[] = {slice_of_text(SYNC_COMPACT_ALPN), slice_of_text(SYNC_ALPN),
                                  slice_of_text(FETCH_ALPN)};
    const struct node_endpoint_config config = {
        .options = call->options,
        .secret = &store->node_secret,
        .alpns = alpns,
        .alpn_count = sizeof alpns / sizeof alpns[0],
        .last_port = call->port,
        .owner = {.admit = admit, .accepted = accepted, .user = store},
    };
    struct node_world *world = store->world;
    uint16_t ipv4, ipv6;
    call->err = world->ops->endpoint_open(world, &config, &store->transport);
    if (call->err != HKV_OK) {
        error_save(&call->why);
        store->transport = NULL;
        return;
    }
    world->ops->endpoint_ports(world, &ipv4, &ipv6);
    call->port = ipv4 != 0 ? ipv4 : ipv6;
}

static enum hkv_err open_endpoint(struct hkv_store *store, const struct hkv_options *o)
{
    struct endpoint_call call = {.options = o, .port = last_port(store)};
    node_on_network(store, open_on_network, &call);
    if (call.err != HKV_OK) {
        error_restore(&call.why);
        return call.err;
    }
    return node_on_replica(store, remember_port, &call.port);
}

/* ------------------------------------------------------------------------------------------ peers */

static bool load_peer(void *arg, const struct kv_peer *row)
{
    struct hkv_store *store = arg;
    struct peer *peer;
    enum peer_claim claim = row->source == KV_PEER_SEED ? PEER_CLAIM_SEED : PEER_CLAIM_STRANGER;
    if (peers_get(&store->peers, &row->id, claim, &peer) != HKV_OK) return true;
    peer->seed = row->source == KV_PEER_SEED;
    peer->synced = row->source == KV_PEER_SYNCED;
    peer->removed = row->source == KV_PEER_REMOVED;
    peer->last_ok_wall_us = row->last_sync_us;
    if (peer_named_at(peer, &row->addrs) != HKV_OK)
        node_log(store, HKV_LOG_WARN, "peers", "addresses of a remembered peer are left out: %s", error_last());
    return true;
}

enum hkv_err node_add_seed(struct hkv_store *store, const struct peer_name *name)
{
    struct peer *peer;
    if (endpoint_id_equal(&name->endpoint.id, &store->endpoint_id)) return HKV_OK; /* one list of seeds for all nodes */
    TRY(peers_get(&store->peers, &name->endpoint.id, PEER_CLAIM_SEED, &peer));
    TRY(peer_named_at(peer, &name->endpoint.addrs));
    peer->seed = true;
    peer->removed = false;
    if (name->host[0] != '\0') {
        memcpy(peer->host, name->host, sizeof peer->host);
        peer->host_port = name->port;
    }
    return HKV_OK;
}

static enum hkv_err load_peers(struct hkv_store *store, const struct hkv_options *o)
{
    TRY(kv_peer_list(store->kv, load_peer, store));
    for (size_t i = 0; i < o->seed_count; i++) {
        struct peer_name name;
        enum hkv_err err = peer_name_parse(slice_of_text(o->seeds[i]), &name);
        if (err != HKV_OK) return error_wrap(err, "seed %zu", i + 1);
        err = node_add_seed(store, &name);
        peer_name_fini(&name);
        TRY(err);
    }
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ up */

/* Waking the network thread costs as much as a tenth of a write: it is told once of all that is written while it rests. */
#define LOCAL_CHANGE_REST_US 5000

struct local_change {
    struct job job; /* first */
    struct env_timer rest;
    struct hkv_store *store;
    bool closed;
};

static void local_change_rested(struct env_timer *timer)
{
    struct local_change *change = (struct local_change *)(void *)((char *)timer - offsetof(struct local_change, rest));
    atomic_store(&change->store->local_change_queued, false);
    sync_entries_changed(change->store->sync, NULL);
}

static void local_change_run(struct job *job)
{
    struct local_change *change = (struct local_change *)(void *)job;
    struct env *env = node_env(change->store);
    if (!change->closed) env_timer_set(env, &change->rest, env_mono_us(env) + LOCAL_CHANGE_REST_US);
}

static void local_change_close(struct local_change *change)
{
    change->closed = true;
    env_timer_cancel(node_env(change->store), &change->rest);
}

void node_local_change(struct hkv_store *store)
{
    if (!atomic_exchange(&store->local_change_queued, true))
        env_run_on(node_env(store), ENV_NETWORK, &store->local_change->job);
}

static void changed(void *arg, struct kv_changes *changes)
{
    watch_publish_changes(&((struct hkv_store *)arg)->watches, changes);
}

static enum hkv_err open_parts(struct hkv_store *store)
{
    store->local_change = calloc(1, sizeof *store->local_change);
    if (store->local_change == NULL) return error_set(HKV_E_NOMEM, "no memory to open a store");
    *store->local_change =
        (struct local_change){.job.run = local_change_run, .rest.fire = local_change_rested, .store = store};
    TRY(sync_driver_new(store, &store->sync));
    TRY(fetcher_new(store, &store->fetcher));
    TRY(server_new(store, &store->server));
    TRY(records_new(store, &store->records));
    TRY(problems_new(&store->problems));
    TRY(checker_new(store, &store->checker));
    return housekeeping_new(store, &store->housekeeping);
}

static void begin_on_network(struct hkv_store *store, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < store->peers.count; i++)
        if (peer_is_selected(store->peers.items[i])) peer_schedule(store->peers.items[i], 0);
    fetcher_kick(store->fetcher);
    records_refresh(store->records);
    records_begin(store->records);
    housekeeping_begin(store->housekeeping);
    checker_begin(store->checker);
}

static void write_records(struct hkv_store *store)
{
    enum hkv_err err = records_write(store, !store->format_written);
    if (err != HKV_OK)
        node_log(store, HKV_LOG_ERROR, "records",
                 "this node's records cannot be written; other nodes will not know it as a "
                 "member: %s",
                 error_last());
}

static enum hkv_err open_disk(struct hkv_store *store, const struct hkv_options *o)
{
    const struct node_disk *disk = &store->world->disk;
    if (disk->vfs != NULL) return data_dir_open_on(&store->dir, disk);
    if (o->data_dir != NULL) return data_dir_open(&store->dir, o->data_dir);
    return data_dir_open_memory(&store->dir, memory_store_bytes(o) + MEMORY_SPARE_BYTES);
}

static enum hkv_err start(struct hkv_store *store, const struct hkv_options *o)
{
    bool is_new = false;
    TRY(copy_options(store, o));
    node_log_begin(store);
    TRY(open_disk(store, o));
    TRY(resolve_identity(store, o));
    TRY(open_kv(store, o, &is_new));
    TRY(start_facts(store, o, is_new));
    watch_hub_init(&store->watches, node_env(store), store->kv);
    committer_init(&store->committer, node_env(store), store->kv, changed, store, o->memory_bytes / COMMIT_WRITES_PART);
    peers_init(&store->peers, node_env(store), &store->endpoint_id, sync_due, sync_peer_gone, store);
    store->parts_up = true;
    TRY(open_parts(store));
    TRY(load_peers(store, o));
    holders_begin(store);
    TRY(store->world->ops->start(store->world));
    store->running = true;
    return open_endpoint(store, o);
}

/* ------------------------------------------------------------------------------------------ down */

struct shutdown {
    struct hkv_store *store;
    unsigned open; /* parts that have not reported back */
    struct node_signal done;
};

static void endpoint_closed(void *arg)
{
    struct shutdown *down = arg;
    down->store->transport = NULL;
    node_signal_set(&down->done);
}

static void part_closed(void *arg)
{
    struct shutdown *down = arg;
    struct node_world *world = down->store->world;
    if (--down->open != 0) return;
    if (down->store->transport != NULL)
        world->ops->endpoint_close(world, endpoint_closed, down);
    else
        endpoint_closed(down);
}

static void close_on_network(struct hkv_store *store, void *arg)
{
    struct shutdown *down = arg;
    down->open = 7; /* the six parts, and this function */
    watch_hub_end_timer(&store->watches);
    local_change_close(store->local_change);
    housekeeping_close(store->housekeeping, part_closed, down);
    checker_close(store->checker, part_closed, down);
    records_close(store->records, part_closed, down);
    holders_close(store, part_closed, down);
    sync_driver_close(store->sync, part_closed, down);
    fetcher_close(store->fetcher, part_closed, down);
    server_close(store->server, part_closed, down);
    for (size_t i = 0; i < store->peers.count; i++) env_timer_cancel(node_env(store), &store->peers.items[i]->timer);
    part_closed(down);
}

/* Ends the calls under way, the parts, and the threads. */
static void stop_running(struct hkv_store *store)
{
    struct shutdown down = {.store = store};
    node_signal_init(&down.done);
    node_on_network(store, close_on_network, &down);
    (void)node_signal_wait(store->world, &down.done, HKV_FOREVER);
    node_signal_fini(&down.done);
    if (store->closing) (void)node_signal_wait(store->world, &store->calls_ended, HKV_FOREVER);
    watch_hub_close(&store->watches);
    committer_close(&store->committer);
    store->world->ops->stop(store->world);
}

/* Undoes start(), as far as it came. */
static void store_stop(struct hkv_store *store)
{
    if (store->running) stop_running(store);
    housekeeping_free(store->housekeeping);
    checker_free(store->checker);
    problems_free(store->problems);
    records_free(store->records);
    holders_fini(store);
    server_free(store->server);
    fetcher_free(store->fetcher);
    sync_driver_free(store->sync);
    free(store->local_change);
    if (store->parts_up) {
        peers_fini(&store->peers);
        committer_fini(&store->committer);
        watch_hub_fini(&store->watches);
    }
    if (store->kv != NULL) kv_close(store->kv);
    node_log_end(store);
    data_dir_close(&store->dir);
    free(store->trusted);
    secret_wipe(&store->node_secret, sizeof store->node_secret);
    node_identity_wipe(&store->identity);
    (void)pthread_mutex_destroy(&store->identity_lock);
    (void)pthread_mutex_destroy(&store->join_lock);
    (void)pthread_mutex_destroy(&store->calls_lock);
    node_signal_fini(&store->calls_ended);
    store->world->ops->release(store->world);
    free(store);
}

static struct hkv_store *store_new(struct node_world *world)
{
    struct hkv_store *store = calloc(1, sizeof *store);
    if (store == NULL) return NULL;
    store->world = world;
    clock_init(store);
    store->dir.lock_fd = -1;
    (void)pthread_mutex_init(&store->identity_lock, NULL);
    (void)pthread_mutex_init(&store->join_lock, NULL);
    (void)pthread_mutex_init(&store->calls_lock, NULL);
    node_signal_init(&store->calls_ended);
    return store;
}

enum hkv_err node_open_in(const struct hkv_options *options, struct node_world *world, struct hkv_store **out)
{
    *out = NULL;
    enum hkv_err err = options_check(options);
    if (err == HKV_OK) err = crypto_init();
    struct hkv_store *store = err == HKV_OK ? store_new(world) : NULL;
    if (store == NULL) {
        world->ops->release(world);
        return err != HKV_OK ? err : error_set(HKV_E_NOMEM, "no memory to open a store");
    }
    err = start(store, options);
    if (err != HKV_OK) {
        struct error_text why;
        error_save(&why);
        store_stop(store);
        error_restore(&why);
        return err;
    }
    write_records(store);
    node_on_network(store, begin_on_network, NULL);
    *out = store;
    return HKV_OK;
}

enum hkv_err hkv_open(const struct hkv_options *options, struct hkv_store **out)
{
    struct node_world *world;
    NEED_ARGUMENT(out);
    *out = NULL;
    TRY(node_world_real(&world));
    return node_open_in(options, world, out);
}

void hkv_close(struct hkv_store *store)
{
    if (store == NULL) return;
    assert(!store->world->ops->on_callback_thread(store->world));
    (void)pthread_mutex_lock(&store->calls_lock);
    store->closing = true;
    bool idle = store->calls == 0;
    (void)pthread_mutex_unlock(&store->calls_lock);
    if (idle) node_signal_set(&store->calls_ended); /* else the last call does */
    store_stop(store);
}

/* ------------------------------------------------------------------------------------------ small facts */

struct addresses_call {
    struct address_set *out;
    enum hkv_err err;
    struct error_text why;
};

static void addresses_on_network(struct hkv_store *store, void *arg)
{
    struct addresses_call *call = arg;
    call->err = store->transport == NULL ? error_set(HKV_E_CLOSED, "the store is being closed")
                                         : store->world->ops->endpoint_addresses(store->world, call->out);
    if (call->err != HKV_OK) error_save(&call->why);
}

enum hkv_err node_addresses(struct hkv_store *store, struct address_set *out)
{
    struct addresses_call call = {.out = out};
    node_on_network(store, addresses_on_network, &call);
    if (call.err != HKV_OK) error_restore(&call.why);
    return call.err;
}

bool node_values_accessible(struct hkv_store *store, char *why, size_t why_bytes)
{
    struct error_text text;
    if (!kv_writable(store->kv, &text)) {
        (void)snprintf(why, why_bytes, "%s", text.text);
        return false;
    }
    if (data_dir_values_accessible(&store->dir)) return true;
    (void)snprintf(why, why_bytes, "%s/blobs: cannot be read and written; mend its owner and mode", store->dir.path);
    return false;
}
