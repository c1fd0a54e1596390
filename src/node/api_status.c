/* Public functions about the node itself: status, identity, tickets, and the last error. */
#include <stdlib.h>

#include "base/text.h"
#include "node/node.h"
#include "node/sync.h"
#include "wire/ticket.h"

/* ------------------------------------------------------------------------------------------ status, identity */

static const char *const condition_names[HKV_CONDITION_COUNT] = {
    [HKV_CONDITION_ENDPOINT_BOUND] = "endpoint_bound",       [HKV_CONDITION_DOCS_RUNNING] = "docs_running",
    [HKV_CONDITION_VALUES_ACCESSIBLE] = "values_accessible", [HKV_CONDITION_NAMESPACE_OPEN] = "namespace_open",
    [HKV_CONDITION_VALUES_COMPLETE] = "values_complete",     [HKV_CONDITION_CLOCK_SANE] = "clock_sane",
    [HKV_CONDITION_IDENTITY_UNIQUE] = "identity_unique",     [HKV_CONDITION_PEER_IN_SYNC] = "peer_in_sync",
};

const char *hkv_condition_name(enum hkv_condition condition)
{
    return (unsigned)condition < HKV_CONDITION_COUNT ? condition_names[condition] : "unknown";
}

static void status_on_network(struct hkv_store *store, void *arg)
{
    struct hkv_status *out = arg;
    struct sync_counters counters;
    uint64_t now_us = env_mono_us(node_env(store));
    bool in_sync = false;
    out->single_node = true;
    for (size_t i = 0; i < store->peers.count; i++) {
        const struct peer *peer = store->peers.items[i];
        if (!peer_is_selected(peer)) continue;
        out->single_node = false;
        in_sync = in_sync ||
                  (peer->last_clean_mono_us != 0 && now_us - peer->last_clean_mono_us < 3 * store->anti_entropy_us);
    }
    sync_counters(store->sync, &counters);
    out->sessions_ok = counters.ok;
    out->sessions_failed = counters.failed;
    out->conditions[HKV_CONDITION_ENDPOINT_BOUND] = store->transport != NULL;
    out->conditions[HKV_CONDITION_DOCS_RUNNING] = true;
    out->conditions[HKV_CONDITION_IDENTITY_UNIQUE] = holders_is_unique(store, out->identity_why);
    out->conditions[HKV_CONDITION_PEER_IN_SYNC] = in_sync || out->single_node;
}

enum hkv_err hkv_status(struct hkv_store *store, struct hkv_status *out)
{
    struct kv_counts counts;
    NEED_ARGUMENT(out);
    *out = (struct hkv_status){0};
    TRY(node_call_begin(store));
    node_on_network(store, status_on_network, out);
    kv_counts(store->kv, &counts);
    out->entries = counts.entries;
    out->visible_keys = counts.visible_keys;
    out->tombstones = counts.tombstones;
    out->values_missing = counts.values_missing;
    out->values_bad = counts.values_bad;
    out->values_too_large = counts.values_too_large;
    out->entries_refused = counts.entries_refused;
    out->foreign_entries = counts.foreign_entries;
    out->disk_bytes = counts.disk_bytes;
    out->wal_bytes = counts.wal_bytes;
    out->wal_overruns = counts.wal_overruns;
    out->position = (struct hkv_position){kv_epoch(store->kv), counts.position};
    uint64_t now_us = env_wall_us(node_env(store));
    out->stamp_ahead_us = counts.newest_stamp_us > now_us ? counts.newest_stamp_us - now_us : 0;
    (void)id_format(counts.fingerprint.bytes, out->fingerprint);
    out->conditions[HKV_CONDITION_VALUES_ACCESSIBLE] =
        node_values_accessible(store, out->values_error, sizeof out->values_error);
    out->conditions[HKV_CONDITION_NAMESPACE_OPEN] = true;
    out->conditions[HKV_CONDITION_VALUES_COMPLETE] =
        counts.values_missing == 0 && counts.values_bad == 0 && counts.values_too_large == 0;
    out->conditions[HKV_CONDITION_CLOCK_SANE] = clock_is_sane(store, out->clock_why);
    out->healthy = true;
    for (int i = 0; i < HKV_CONDITION_COUNT; i++) out->healthy = out->healthy && out->conditions[i];
    node_call_end(store);
    return HKV_OK;
}

static enum hkv_err text_of(struct buf *text, char **out)
{
    enum hkv_err err = buf_append_byte(text, '\0');
    if (err == HKV_OK) *out = (char *)buf_take(text).data;
    return err;
}

static enum hkv_err fill_info(struct hkv_store *store, struct endpoint_address *self, struct hkv_info *out)
{
    struct buf ticket = {0};
    self->id = store->endpoint_id;
    TRY(node_addresses(store, &self->addrs));
    enum hkv_err err = endpoint_ticket_encode(self, &ticket);
    if (err == HKV_OK) err = text_of(&ticket, &out->endpoint_ticket);
    buf_fini(&ticket);
    TRY(err);
    out->addrs = node_addresses_text(&self->addrs);
    out->data_dir = strdup(store->dir.vfs == NULL ? store->dir.path : "");
    if (out->addrs == NULL || out->data_dir == NULL)
        return error_set(HKV_E_NOMEM, "no memory for the node's addresses");
    return HKV_OK;
}

static void ports_on_network(struct hkv_store *store, void *arg)
{
    struct hkv_info *out = arg;
    if (store->transport == NULL) return; /* closing: the addresses that are asked for next say so */
    store->world->ops->endpoint_ports(store->world, &out->port_ipv4, &out->port_ipv6);
}

enum hkv_err hkv_info(struct hkv_store *store, struct hkv_info *out)
{
    struct node_identity identity;
    struct endpoint_address self = {0};
    NEED_ARGUMENT(out);
    *out = (struct hkv_info){0};
    TRY(node_call_begin(store));
    node_identity_get(store, &identity);
    (void)id_format(identity.signer.namespace.bytes, out->namespace_id);
    (void)id_format(identity.signer.author.bytes, out->author_id);
    (void)id_format(store->endpoint_id.bytes, out->endpoint_id);
    out->format = identity.format_known ? "native" : "unknown";
    out->read_only = !identity.can_write;
    node_identity_wipe(&identity);
    node_on_network(store, ports_on_network, out);
    enum hkv_err err = fill_info(store, &self, out);
    address_set_fini(&self.addrs);
    if (err != HKV_OK) hkv_info_fini(out);
    node_call_end(store);
    return err;
}

void hkv_info_fini(struct hkv_info *info)
{
    if (info == NULL) return;
    free(info->endpoint_ticket);
    free(info->addrs);
    free(info->data_dir);
    *info = (struct hkv_info){0};
}

static enum hkv_err make_ticket(struct hkv_store *store, enum hkv_ticket_mode mode, char **out)
{
    struct node_identity identity;
    struct endpoint_address self = {.id = store->endpoint_id};
    struct buf text = {0};
    node_identity_get(store, &identity);
    struct doc_ticket ticket = {.writable = mode == HKV_TICKET_WRITE,
                                .namespace = identity.signer.namespace,
                                .endpoints = &self,
                                .endpoint_count = 1};
    if (ticket.writable) ticket.secret = identity.signer.namespace_secret;
    enum hkv_err err =
        ticket.writable && !identity.can_write
            ? error_set(HKV_E_READ_ONLY, "this store holds a read ticket only and cannot give a write ticket")
            : node_addresses(store, &self.addrs);
    if (err == HKV_OK) err = doc_ticket_encode(&ticket, &text);
    if (err == HKV_OK) err = text_of(&text, out);
    buf_fini(&text);
    address_set_fini(&self.addrs);
    node_identity_wipe(&identity);
    return err;
}

enum hkv_err hkv_ticket(struct hkv_store *store, enum hkv_ticket_mode mode, char **out)
{
    NEED_ARGUMENT(out);
    *out = NULL;
    if (mode != HKV_TICKET_READ && mode != HKV_TICKET_WRITE)
        return error_set(HKV_E_INVALID, "the ticket mode is %d; use one of enum hkv_ticket_mode", (int)mode);
    TRY(node_call_begin(store));
    enum hkv_err err = make_ticket(store, mode, out);
    node_call_end(store);
    return err;
}

void hkv_text_free(char *text)
{
    free(text);
}

/* ------------------------------------------------------------------------------------------ errors */

const char *hkv_last_error(void)
{
    return error_last();
}

const char *hkv_error_name(enum hkv_err err)
{
    return error_name(err);
}

const char *hkv_error_sentence(enum hkv_err err)
{
    return error_sentence(err);
}
