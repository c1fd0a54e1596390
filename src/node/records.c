#include "node/records.h"

#include <jansson.h>
#include <stdlib.h>

#include "base/text.h"
#include "crypto/ed25519.h"
#include "node/sync.h"

#define MEMBER_DOMAIN       "hkv-member-1"
#define MEMBER_DOMAIN_BYTES 12
#define INCARNATION_BYTES   8
#define MEMBER_SIGNED_BYTES (MEMBER_DOMAIN_BYTES + ID_BYTES + ID_BYTES + INCARNATION_BYTES)
#define MEMBER_JSON_MAX     16384

struct member {
    struct endpoint_id endpoint;
    struct address_set addrs;
    char name[PEER_NAME_MAX];
};

struct records {
    struct job job;         /* first: worker, then network */
    struct env_timer timer; /* the next refresh */
    struct hkv_store *store;
    uint64_t last_us;
    bool running;
    bool again;
    struct job check_job; /* worker, then network */
    struct env_timer check_timer;
    bool checking;
    struct address_set written; /* addresses in the member record; under the store's identity_lock */
    bool closed;
    void (*closed_done)(void *arg);
    void *closed_arg;
    /* of the refresh under way */
    bool format_seen;
    struct member *members;
    size_t member_count;
};

static void refresh_begin(struct env_timer *timer);
static void refresh_read(struct job *job);
static void refresh_apply(struct job *job);
static void check_begin(struct env_timer *timer);

enum hkv_err records_new(struct hkv_store *store, struct records **out)
{
    struct records *r = calloc(1, sizeof *r);
    if (r == NULL) return error_set(HKV_E_NOMEM, "no memory to open a store");
    r->store = store;
    r->timer.fire = refresh_begin;
    r->check_timer.fire = check_begin;
    *out = r;
    return HKV_OK;
}

void records_free(struct records *records)
{
    if (records == NULL) return;
    address_set_fini(&records->written);
    free(records);
}

/* ------------------------------------------------------------------------------------------------ one member record */

static void member_signed_bytes(const struct namespace_id *namespace, const struct author_id *author,
                                const uint8_t incarnation[INCARNATION_BYTES], uint8_t out[MEMBER_SIGNED_BYTES])
{
    memcpy(out, MEMBER_DOMAIN, MEMBER_DOMAIN_BYTES);
    memcpy(out + MEMBER_DOMAIN_BYTES, namespace->bytes, ID_BYTES);
    memcpy(out + MEMBER_DOMAIN_BYTES + ID_BYTES, author->bytes, ID_BYTES);
    memcpy(out + MEMBER_DOMAIN_BYTES + 2 * ID_BYTES, incarnation, INCARNATION_BYTES);
}

static bool hex_member(const json_t *object, const char *name, uint8_t *out, size_t len)
{
    const json_t *text = json_object_get(object, name);
    return json_is_string(text) &&
           hex_decode(slice_of(json_string_value(text), json_string_length(text)), HEX_LOWER_ONLY, out, len);
}

static bool member_addresses(const json_t *list, struct address_set *out)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        struct socket_address socket;
        if (!json_is_string(item)) return false;
        struct slice text = slice_of(json_string_value(item), json_string_length(item));
        enum hkv_err err = socket_address_parse(text, &socket) == HKV_OK ? address_set_add_socket(out, &socket)
                                                                         : address_set_add_relay(out, text);
        if (err == HKV_E_LIMIT) return true;
        if (err == HKV_E_NOMEM) return false;
    }
    return true;
}

/* Whether the record is valid; fills `out`, whose addresses the caller releases in any case. */
static bool member_parse(const struct namespace_id *namespace, struct slice record_name,
                         const struct kv_version *version, struct slice content, struct member *out)
{
    struct author_id author;
    uint8_t incarnation[INCARNATION_BYTES], signed_bytes[MEMBER_SIGNED_BYTES];
    struct signature signature;
    char id_text[ID_TEXT_MAX];
    json_error_t why;
    json_t *object = json_loadb((const char *)content.data, content.len, JSON_REJECT_DUPLICATES, &why);
    bool valid = json_is_object(object) && json_integer_value(json_object_get(object, "v")) == 1 &&
                 hex_member(object, "endpoint", out->endpoint.bytes, ID_BYTES) &&
                 hex_member(object, "author", author.bytes, ID_BYTES) &&
                 hex_member(object, "incarnation", incarnation, sizeof incarnation) &&
                 hex_member(object, "sig", signature.bytes, sizeof signature.bytes) &&
                 author_id_equal(&author, &version->author);
    if (valid) {
        struct slice id = slice_part(record_name, strlen(RECORD_MEMBER), record_name.len);
        valid = slice_equal(id, slice_of_text(id_format(out->endpoint.bytes, id_text)));
    }
    if (valid) {
        member_signed_bytes(namespace, &author, incarnation, signed_bytes);
        valid = ed25519_verify(out->endpoint.bytes, slice_of(signed_bytes, sizeof signed_bytes), &signature);
    }
    if (valid) valid = member_addresses(json_object_get(object, "addrs"), &out->addrs);
    if (valid) {
        const char *name = json_string_value(json_object_get(object, "name"));
        (void)snprintf(out->name, sizeof out->name, "%s", name == NULL ? "" : name);
    }
    json_decref(object);
    return valid;
}

/* ------------------------------------------------------------------------------------------------ reading them */

static void members_clear(struct records *r)
{
    for (size_t i = 0; i < r->member_count; i++) address_set_fini(&r->members[i].addrs);
    free(r->members);
    r->members = NULL;
    r->member_count = 0;
}

struct record_scan {
    struct records *records;
    struct namespace_id namespace;
};

static bool record_visit(void *arg, struct kv_item *item)
{
    struct record_scan *scan = arg;
    struct records *r = scan->records;
    struct slice name = buf_slice(&item->key);
    if (slice_equal(name, slice_of_text(RECORD_FORMAT))) r->format_seen = true;
    if (!slice_starts_with(name, slice_of_text(RECORD_MEMBER)) || item->value.len == 0) return true;
    if (r->member_count == PEERS_MAX) return false;
    if (r->members == NULL) r->members = calloc(PEERS_MAX, sizeof *r->members);
    if (r->members == NULL) return false;
    struct member *member = &r->members[r->member_count];
    if (member_parse(&scan->namespace, name, &item->version, buf_slice(&item->value), member)) {
        r->member_count++;
    } else {
        address_set_fini(&member->addrs);
        *member = (struct member){0};
    }
    return true;
}

/* Worker. */
static void refresh_read(struct job *job)
{
    struct records *r = (struct records *)(void *)job;
    struct record_scan scan = {.records = r};
    struct node_identity identity;
    node_identity_get(r->store, &identity);
    scan.namespace = identity.signer.namespace;
    node_identity_wipe(&identity);
    r->format_seen = false;
    enum hkv_err err = kv_list(r->store->kv, KV_KEY_SYSTEM, (struct slice){0}, (struct slice){0}, KV_WANT_VALUE,
                               MEMBER_JSON_MAX, record_visit, &scan);
    if (err != HKV_OK) node_log(r->store, HKV_LOG_WARN, "records", "system records cannot be read: %s", error_last());
    r->job.run = refresh_apply;
    env_run_on(node_env(r->store), ENV_NETWORK, &r->job);
}

static void member_apply(struct hkv_store *store, const struct member *member)
{
    struct peer *peer;
    if (endpoint_id_equal(&member->endpoint, &store->endpoint_id)) return;
    if (peers_get(&store->peers, &member->endpoint, &peer) != HKV_OK) return;
    bool is_new = !peer_is_selected(peer) && !peer->removed;
    peer->member = true;
    memcpy(peer->name, member->name, sizeof peer->name);
    if (address_set_merge(&peer->addrs, &member->addrs) != HKV_OK)
        node_log(store, HKV_LOG_DEBUG, "records", "some addresses of member %s are left out: %s", member->name,
                 error_last());
    if (is_new) peer_wake(peer, 0);
}

static void check_closed(struct records *r)
{
    if (r->closed && !r->running && !r->checking) r->closed_done(r->closed_arg);
}

static void refresh_apply(struct job *job)
{
    struct records *r = (struct records *)(void *)job;
    struct hkv_store *store = r->store;
    if (r->format_seen) {
        (void)pthread_mutex_lock(&store->identity_lock);
        bool news = !store->identity.format_known;
        store->identity.format_known = true;
        (void)pthread_mutex_unlock(&store->identity_lock);
        if (news) node_log(store, HKV_LOG_INFO, "records", "the namespace has the format native; writes are open");
    }
    if (!r->closed)
        for (size_t i = 0; i < r->member_count; i++) member_apply(store, &r->members[i]);
    members_clear(r);
    r->running = false;
    if (r->closed) {
        check_closed(r);
    } else if (r->again) {
        r->again = false;
        records_refresh(r);
    }
}

static void refresh_begin(struct env_timer *timer)
{
    struct records *r = (struct records *)(void *)((char *)timer - offsetof(struct records, timer));
    r->running = true;
    r->last_us = env_mono_us(node_env(r->store));
    r->job.run = refresh_read;
    env_run_on(node_env(r->store), ENV_WORKER, &r->job);
}

void records_refresh(struct records *r)
{
    if (r->closed || r->timer.due_us != 0) return;
    if (r->running) {
        r->again = true;
        return;
    }
    uint64_t now_us = env_mono_us(node_env(r->store));
    uint64_t due_us = r->last_us == 0 ? now_us : r->last_us + RECORDS_REFRESH_US;
    env_timer_set(node_env(r->store), &r->timer, due_us > now_us ? due_us : now_us);
}

void records_close(struct records *r, void (*done)(void *arg), void *arg)
{
    r->closed = true;
    r->closed_done = done;
    r->closed_arg = arg;
    env_timer_cancel(node_env(r->store), &r->timer);
    env_timer_cancel(node_env(r->store), &r->check_timer);
    check_closed(r);
}

/* ------------------------------------------------------------------------------------------------ writing ours */

static json_t *addresses_json(const struct address_set *addrs)
{
    json_t *list = json_array();
    for (size_t i = 0; i < addrs->count; i++) {
        char text[ADDRESS_TEXT_MAX];
        const struct address *a = &addrs->items[i];
        if (a->kind == ADDRESS_IP) socket_address_format(&a->socket, text);
        (void)json_array_append_new(list, json_string(a->kind == ADDRESS_IP ? text : a->relay_url));
    }
    return list;
}

static enum hkv_err write_json(struct hkv_store *store, const char *name, json_t *object)
{
    char *text = object == NULL ? NULL : json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL) return error_set(HKV_E_NOMEM, "no memory for the record %s", name);
    enum hkv_err err = node_write_record(store, name, slice_of_text(text));
    free(text);
    return err;
}

static enum hkv_err write_member(struct hkv_store *store, const struct node_identity *identity)
{
    char endpoint[ID_TEXT_MAX], author[ID_TEXT_MAX], incarnation[HEX_TEXT_MAX(INCARNATION_BYTES)];
    char signature_text[HEX_TEXT_MAX(SIGNATURE_BYTES)], name[sizeof RECORD_MEMBER + ID_TEXT_MAX];
    uint8_t signed_bytes[MEMBER_SIGNED_BYTES];
    struct signature signature;
    struct address_set addrs = {0}, *written = &store->records->written;
    member_signed_bytes(&identity->signer.namespace, &identity->signer.author, store->incarnation, signed_bytes);
    ed25519_sign(&store->node_secret, store->endpoint_id.bytes, slice_of(signed_bytes, sizeof signed_bytes),
                 &signature);
    hex_encode(slice_of(signature.bytes, sizeof signature.bytes), signature_text);
    hex_encode(slice_of(store->incarnation, INCARNATION_BYTES), incarnation);
    (void)snprintf(name, sizeof name, RECORD_MEMBER "%s", id_format(store->endpoint_id.bytes, endpoint));
    enum hkv_err err = node_addresses(store, &addrs);
    if (err == HKV_OK) {
        json_t *object = json_pack("{s:i, s:s, s:s, s:o, s:s, s:s, s:s}", "v", 1, "endpoint", endpoint, "author",
                                   id_format(identity->signer.author.bytes, author), "addrs", addresses_json(&addrs),
                                   "name", store->name, "incarnation", incarnation, "sig", signature_text);
        err = write_json(store, name, object);
    }
    if (err == HKV_OK) {
        (void)pthread_mutex_lock(&store->identity_lock);
        struct address_set before = *written;
        *written = addrs;
        (void)pthread_mutex_unlock(&store->identity_lock);
        addrs = before;
    }
    address_set_fini(&addrs);
    return err;
}

enum hkv_err records_write(struct hkv_store *store, bool with_format)
{
    struct node_identity identity;
    node_identity_get(store, &identity);
    enum hkv_err err = HKV_OK;
    if (identity.can_write && with_format)
        err = write_json(store, RECORD_FORMAT, json_pack("{s:s, s:i}", "format", "native", "v", 1));
    if (identity.can_write && err == HKV_OK) err = write_member(store, &identity);
    node_identity_wipe(&identity);
    return err;
}

/* ------------------------------------------------------------------------------------------------ keeping ours up to
 * date */

static bool addresses_equal(const struct address_set *a, const struct address_set *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->items[i].kind != ADDRESS_IP || b->items[i].kind != ADDRESS_IP ||
            socket_address_compare(&a->items[i].socket, &b->items[i].socket) != 0)
            return false;
    return true;
}

static void check_done(struct job *job)
{
    struct records *r = (struct records *)(void *)((char *)job - offsetof(struct records, check_job));
    r->checking = false;
    if (r->closed)
        check_closed(r);
    else
        records_begin(r);
}

/* Worker: waits for the network and the replica thread, neither of which waits for a worker. */
static void check_run(struct job *job)
{
    struct records *r = (struct records *)(void *)((char *)job - offsetof(struct records, check_job));
    struct address_set now = {0};
    enum hkv_err err = node_addresses(r->store, &now);
    (void)pthread_mutex_lock(&r->store->identity_lock);
    bool changed = err == HKV_OK && !addresses_equal(&now, &r->written);
    (void)pthread_mutex_unlock(&r->store->identity_lock);
    if (changed) err = records_write(r->store, false);
    if (err != HKV_OK)
        node_log(r->store, HKV_LOG_WARN, "records", "the member record is not up to date: %s", error_last());
    address_set_fini(&now);
    r->check_job.run = check_done;
    env_run_on(node_env(r->store), ENV_NETWORK, &r->check_job);
}

static void check_begin(struct env_timer *timer)
{
    struct records *r = (struct records *)(void *)((char *)timer - offsetof(struct records, check_timer));
    r->checking = true;
    r->check_job.run = check_run;
    env_run_on(node_env(r->store), ENV_WORKER, &r->check_job);
}

void records_begin(struct records *r)
{
    struct env *env = node_env(r->store);
    env_timer_set(env, &r->check_timer, env_mono_us(env) + RECORDS_CHECK_US);
}
