#include "node/join.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "crypto/ed25519.h"
#include "node/fetch.h"
#include "node/records.h"
#include "node/sync.h"
#include "wire/ticket.h"

#define JOIN_FILE    "keys/namespace.join"
#define SECRET_FILE  "keys/namespace.secret"
#define WRITE_PREFIX "write "
#define READ_PREFIX  "read "

/* ------------------------------------------------------------------------------------------ the note on disk */

static enum hkv_err note_write(struct hkv_store *store, const struct doc_ticket *ticket)
{
    char id[ID_TEXT_MAX], text[sizeof WRITE_PREFIX + ID_TEXT_MAX];
    (void)snprintf(text, sizeof text, "%s%s\n", ticket->writable ? WRITE_PREFIX : READ_PREFIX,
                   id_format(ticket->writable ? ticket->secret.bytes : ticket->namespace.bytes, id));
    enum hkv_err err = private_file_write(&store->dir, JOIN_FILE, slice_of_text(text));
    secret_wipe(text, sizeof text);
    secret_wipe(id, sizeof id);
    return err;
}

/* Key files as the new namespace wants them; the note goes last. */
static enum hkv_err note_finish(struct hkv_store *store, bool writable, const struct secret_key *secret)
{
    if (writable)
        TRY(key_file_write(&store->dir, SECRET_FILE, secret));
    else
        TRY(private_file_remove(&store->dir, SECRET_FILE));
    return private_file_remove(&store->dir, JOIN_FILE);
}

static bool note_parse(struct slice text, bool *writable, struct secret_key *secret, struct namespace_id *namespace)
{
    while (text.len > 0 && text.data[text.len - 1] == '\n') text.len--;
    *writable = slice_starts_with(text, slice_of_text(WRITE_PREFIX));
    if (!*writable && !slice_starts_with(text, slice_of_text(READ_PREFIX))) return false;
    struct slice hex = slice_part(text, strlen(*writable ? WRITE_PREFIX : READ_PREFIX), text.len);
    if (!hex_decode(hex, HEX_LOWER_ONLY, *writable ? secret->bytes : namespace->bytes, ID_BYTES)) return false;
    if (*writable) ed25519_public_key(secret, namespace->bytes);
    return true;
}

enum hkv_err join_recover(struct hkv_store *store, const struct namespace_id *stored)
{
    struct buf text = {0};
    struct secret_key secret = {{0}};
    struct namespace_id namespace;
    bool writable;
    enum hkv_err err = private_file_read(&store->dir, JOIN_FILE, &text);
    if (err == HKV_E_NOT_FOUND) {
        buf_fini(&text);
        return HKV_OK;
    }
    if (err == HKV_OK) {
        bool done = note_parse(buf_slice(&text), &writable, &secret, &namespace) && stored != NULL &&
                    namespace_id_equal(stored, &namespace);
        err = done ? note_finish(store, writable, &secret) : private_file_remove(&store->dir, JOIN_FILE);
    }
    if (text.data != NULL) secret_wipe(text.data, text.cap);
    buf_fini(&text);
    secret_wipe(&secret, sizeof secret);
    return err;
}

/* ------------------------------------------------------------------------------------------ joining */

struct join_call {
    struct commit_task task; /* first */
    struct hkv_store *store;
    const struct doc_ticket *ticket;
    bool format_known;
    enum hkv_err err;
    struct error_text why;
    struct node_signal done;
};

static void identity_replace(struct hkv_store *store, const struct doc_ticket *ticket, bool format_known)
{
    (void)pthread_mutex_lock(&store->identity_lock);
    store->identity.signer.namespace = ticket->namespace;
    store->identity.signer.namespace_secret = ticket->secret;
    store->identity.can_write = ticket->writable;
    store->identity.format_known = format_known;
    (void)pthread_mutex_unlock(&store->identity_lock);
}

/* Replica thread, no transaction open, no other task of the group running. */
static enum hkv_err reset_apply(struct commit_task *task, struct kv *kv)
{
    struct join_call *call = (struct join_call *)(void *)task;
    bool used;
    TRY(kv_has_user_keys(kv, &used));
    if (used)
        return error_set(HKV_E_NAMESPACE,
                         "this store has keys of its own; export what you need, then join with a new data "
                         "directory and import it there");
    /* First, so that no death in between leaves a joined namespace that counts as one made here. */
    TRY(kv_begin(kv));
    enum hkv_err err = kv_meta_set(kv, META_JOINED, slice_of_text("1"));
    if (err == HKV_OK)
        err = kv_commit(kv);
    else
        kv_rollback(kv);
    if (err == HKV_OK) err = kv_reset(kv, &call->ticket->namespace);
    if (err != HKV_OK) return err;
    identity_replace(call->store, call->ticket, call->format_known);
    watch_publish_epoch(&call->store->watches);
    return HKV_OK;
}

static void reset_complete(struct commit_task *task, enum hkv_err err)
{
    struct join_call *call = (struct join_call *)(void *)task;
    call->err = err;
    if (err != HKV_OK) error_save(&call->why);
    node_signal_set(&call->done);
}

static enum hkv_err reset(struct hkv_store *store, const struct doc_ticket *ticket, bool format_known)
{
    struct join_call call = {.task = {.apply = reset_apply, .complete = reset_complete, .no_transaction = true},
                             .store = store,
                             .ticket = ticket,
                             .format_known = format_known};
    node_signal_init(&call.done);
    committer_submit(&store->committer, &call.task);
    (void)node_signal_wait(store->world, &call.done, HKV_FOREVER);
    node_signal_fini(&call.done);
    if (call.err != HKV_OK) error_restore(&call.why);
    return call.err;
}

/* The store is of the new namespace already; what could not be done is made up for later, and said. */
static void note_left(struct hkv_store *store, enum hkv_err err, const char *what)
{
    if (err != HKV_OK) node_log(store, HKV_LOG_ERROR, "join", "%s: %s", what, error_last());
}

static void write_records(struct hkv_store *store)
{
    note_left(store, records_write(store, false), "this node's member record is written later");
}

static enum hkv_err join_other(struct hkv_store *store, const struct doc_ticket *ticket, enum hkv_format format)
{
    TRY(note_write(store, ticket));
    enum hkv_err err = reset(store, ticket, format == HKV_FORMAT_NATIVE);
    if (err != HKV_OK) {
        struct error_text why;
        error_save(&why);
        enum hkv_err ignored =
            private_file_remove(&store->dir, JOIN_FILE); /* join_recover() does it at the next start */
        (void)ignored;
        error_restore(&why);
        return err;
    }
    note_left(store, note_finish(store, ticket->writable, &ticket->secret), "the next start replaces the key file");
    write_records(store);
    return HKV_OK;
}

/* The same namespace: a read capability may become a write capability. */
static enum hkv_err join_same(struct hkv_store *store, const struct doc_ticket *ticket, const struct node_identity *now,
                              enum hkv_format format)
{
    bool format_known = now->format_known || format == HKV_FORMAT_NATIVE;
    bool upgrade = ticket->writable && !now->can_write;
    if (upgrade) TRY(key_file_write(&store->dir, SECRET_FILE, &ticket->secret));
    (void)pthread_mutex_lock(&store->identity_lock);
    if (upgrade) {
        store->identity.signer.namespace_secret = ticket->secret;
        store->identity.can_write = true;
    }
    if (format_known) store->identity.format_known = true;
    (void)pthread_mutex_unlock(&store->identity_lock);
    if (upgrade || (format_known && !now->format_known)) write_records(store);
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ peers */

struct join_peers {
    const struct doc_ticket *ticket;
    bool is_other;        /* … namespace than before */
    struct kv_peer *rows; /* of the ticket's endpoints */
    size_t row_count;
    enum hkv_err err;
};

static void peers_on_network(struct hkv_store *store, void *arg)
{
    struct join_peers *join = arg;
    if (join->is_other) {
        sync_abort_all(store->sync);
        peers_change_namespace(&store->peers);
        clock_review(store);
    }
    for (size_t i = 0; i < join->ticket->endpoint_count; i++) {
        struct peer_name name = {.endpoint = join->ticket->endpoints[i]};
        if (node_add_seed(store, &name) != HKV_OK)
            node_log(store, HKV_LOG_WARN, "peers", "an endpoint of the ticket is left out: %s", error_last());
        struct peer *peer = peers_find(&store->peers, &name.endpoint.id);
        if (peer == NULL || !peer->seed) continue;
        peer_wake(peer, 0);
        struct kv_peer *row = &join->rows[join->row_count++];
        *row = (struct kv_peer){.id = peer->id, .source = KV_PEER_SEED, .last_sync_us = peer->last_ok_wall_us};
        if (join->err == HKV_OK) join->err = peer_lasting_addrs(peer, &row->addrs);
    }
    records_refresh(store->records);
}

static enum hkv_err peers_on_replica(struct hkv_store *store, void *arg)
{
    const struct join_peers *join = arg;
    for (size_t i = 0; i < join->row_count; i++) TRY(kv_peer_put(store->kv, &join->rows[i]));
    return HKV_OK;
}

static enum hkv_err join_peers(struct hkv_store *store, const struct doc_ticket *ticket, bool is_other)
{
    struct join_peers join = {.ticket = ticket, .is_other = is_other};
    join.rows = calloc(ticket->endpoint_count + 1, sizeof *join.rows);
    if (join.rows == NULL) return error_set(HKV_E_NOMEM, "no memory to join");
    node_on_network(store, peers_on_network, &join);
    if (join.err == HKV_OK) join.err = node_on_replica(store, peers_on_replica, &join);
    for (size_t i = 0; i < join.row_count; i++) address_set_fini(&join.rows[i].addrs);
    free(join.rows);
    return join.err;
}

/* ------------------------------------------------------------------------------------------ the public call */

static enum hkv_err join(struct hkv_store *store, const struct doc_ticket *ticket, enum hkv_format format)
{
    struct node_identity now;
    (void)pthread_mutex_lock(&store->join_lock);
    node_identity_get(store, &now);
    bool same = namespace_id_equal(&now.signer.namespace, &ticket->namespace);
    enum hkv_err err = same ? join_same(store, ticket, &now, format) : join_other(store, ticket, format);
    node_identity_wipe(&now);
    if (err == HKV_OK)
        note_left(store, join_peers(store, ticket, !same), "the ticket's peers may be unknown after a restart");
    (void)pthread_mutex_unlock(&store->join_lock);
    return err;
}

enum hkv_err hkv_join(struct hkv_store *store, const char *text, enum hkv_format format)
{
    struct doc_ticket ticket;
    if (text == NULL) return error_set(HKV_E_TICKET, "the ticket is NULL; give a doc… ticket");
    if (format == HKV_FORMAT_HERO_V1)
        return error_set(HKV_E_UNSUPPORTED, "the format hero-v1 is not offered yet; use native");
    if ((unsigned)format > HKV_FORMAT_HERO_V1)
        return error_set(HKV_E_INVALID, "the format is %d; use one of enum hkv_format", (int)format);
    TRY(node_call_begin(store));
    enum hkv_err err = doc_ticket_decode(slice_of_text(text), &ticket);
    if (err == HKV_OK) {
        err = join(store, &ticket, format);
        doc_ticket_fini(&ticket);
    }
    node_call_end(store);
    return err;
}
