#include "node/records.h"

#include <jansson.h>
#include <stdlib.h>

#include "base/text.h"
#include "crypto/ed25519.h"
#include "node/sync.h"

#define MEMBER_DOMAIN       "hkv-member-1"
#define MEMBER_DOMAIN_BYTES 12
#define MEMBER_SIGNED_BYTES (MEMBER_DOMAIN_BYTES + ID_BYTES + ID_BYTES + INCARNATION_BYTES)
#define MEMBER_JSON_MAX     16384

struct member {
    struct endpoint_id endpoint;
    uint8_t incarnation[INCARNATION_BYTES];
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
    bool format_due;            /* the format record is still to be written */
    bool member_due;            /* the member record, whatever the addresses */
    bool check_soon;            /* … as soon as the check under way is over */
    bool is_format;             /* the record being written */
    struct address_set now;     /* addresses for the member record being written */
    struct address_set written; /* addresses in the member record; under the store's identity_lock */
    enum hkv_err check_err;
    struct error_text check_why;
    bool closed;
    void (*closed_done)(void *arg);
    void *closed_arg;
    /* of the refresh under way */
    bool is_read;
    bool format_seen;
    struct holder_facts facts;
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
    address_set_fini(&records->now);
    free(records);
}

/* ------------------------------------------------------------------------------------------ one member record */

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
    struct author_id author = {{0}};
    uint8_t signed_bytes[MEMBER_SIGNED_BYTES];
    struct signature signature;
    char id_text[ID_TEXT_MAX];
    json_error_t why;
    json_t *object = json_loadb((const char *)content.data, content.len, JSON_REJECT_DUPLICATES, &why);
    bool valid = json_is_object(object) && json_integer_value(json_object_get(object, "v")) == 1 &&
                 hex_member(object, "endpoint", out->endpoint.bytes, ID_BYTES) &&
                 hex_member(object, "author", author.bytes, ID_BYTES) &&
                 hex_member(object, "incarnation", out->incarnation, sizeof out->incarnation) &&
                 hex_member(object, "sig", signature.bytes, sizeof signature.bytes) &&
                 author_id_equal(&author, &version->author);
    if (valid) {
        struct slice id = slice_part(record_name, strlen(RECORD_MEMBER), record_name.len);
        valid = slice_equal(id, slice_of_text(id_format(out->endpoint.bytes, id_text)));
    }
    if (valid) {
        member_signed_bytes(namespace, &author, out->incarnation, signed_bytes);
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

/* ------------------------------------------------------------------------------------------ reading them */

static void members_clear(struct records *r)
{
    for (size_t i = 0; i < r->member_count; i++) address_set_fini(&r->members[i].addrs);
    free(r->members);
    r->members = NULL;
    r->member_count = 0;
}

struct record_scan {
    struct records *records; /* NULL: only what is said of us is looked for */
    struct namespace_id namespace;
    struct author_id author; /* ours */
    struct endpoint_id endpoint;
    struct holder_facts *facts;
};

static void note_fact(struct record_scan *scan, const struct member *member, const struct kv_item *item)
{
    struct holder_facts *facts = scan->facts;
    if (endpoint_id_equal(&member->endpoint, &scan->endpoint)) {
        facts->has_own = true;
        facts->own = item->version;
        memcpy(facts->incarnation, member->incarnation, INCARNATION_BYTES);
    } else if (author_id_equal(&item->version.author, &scan->author)) {
        facts->is_shared = true;
        facts->sharer = member->endpoint;
    }
}

/* A valid member record is kept in the list; without one, it was looked at. */
static bool member_visit(struct record_scan *scan, struct slice name, const struct kv_item *item)
{
    struct records *r = scan->records;
    struct member member = {0};
    if (!member_parse(&scan->namespace, name, &item->version, buf_slice(&item->value), &member)) {
        address_set_fini(&member.addrs);
        return true;
    }
    note_fact(scan, &member, item);
    if (r == NULL || r->member_count == PEERS_MAX) {
        address_set_fini(&member.addrs);
        return true;
    }
    if (r->members == NULL) r->members = calloc(PEERS_MAX, sizeof *r->members);
    if (r->members == NULL) {
        address_set_fini(&member.addrs);
        return false;
    }
    r->members[r->member_count++] = member;
    return true;
}

static bool record_visit(void *arg, struct kv_item *item)
{
    struct record_scan *scan = arg;
    struct slice name = buf_slice(&item->key);
    char endpoint[ID_TEXT_MAX];
    if (scan->records != NULL && slice_equal(name, slice_of_text(RECORD_FORMAT))) scan->records->format_seen = true;
    if (!slice_starts_with(name, slice_of_text(RECORD_MEMBER)) || item->value.len == 0) return true;
    struct slice id = slice_part(name, strlen(RECORD_MEMBER), name.len);
    bool is_of_us = author_id_equal(&item->version.author, &scan->author) ||
                    slice_equal(id, slice_of_text(id_format(scan->endpoint.bytes, endpoint)));
    return scan->records == NULL && !is_of_us ? true : member_visit(scan, name, item);
}

static bool winner_visit(void *arg, const struct kv_history_item *item)
{
    *(bool *)arg = !item->present;
    return false; /* the winner comes first */
}

/* An entry of our author among the member records, its value here or not: the signatures alone say that somebody with
 * our author's secret wrote it. */
static bool author_visit(void *arg, struct slice document_key, uint64_t stamp_us, bool has_content)
{
    struct record_scan *scan = arg;
    struct slice name;
    char endpoint[ID_TEXT_MAX];
    (void)kv_key_classify(document_key, &name);
    struct slice id = slice_part(name, strlen(RECORD_MEMBER), name.len);
    if (slice_equal(id, slice_of_text(id_format(scan->endpoint.bytes, endpoint))))
        scan->facts->author_stamp_us = stamp_us;
    else if (!has_content)
        scan->facts->is_awaited = true;
    return true;
}

static enum hkv_err member_name(struct hkv_store *store, char out[sizeof RECORD_MEMBER + ID_TEXT_MAX], struct buf *key)
{
    char endpoint[ID_TEXT_MAX];
    (void)snprintf(out, sizeof RECORD_MEMBER + ID_TEXT_MAX, RECORD_MEMBER "%s",
                   id_format(store->endpoint_id.bytes, endpoint));
    return key == NULL ? HKV_OK : kv_system_key_encode(out, key);
}

/* Reads the records into `records` (may be NULL) and `facts`. */
static enum hkv_err read_records(struct hkv_store *store, struct records *records, struct holder_facts *facts)
{
    struct record_scan scan = {.records = records, .endpoint = store->endpoint_id, .facts = facts};
    struct node_identity identity;
    char name[sizeof RECORD_MEMBER + ID_TEXT_MAX];
    struct buf key = {0};
    node_identity_get(store, &identity);
    scan.namespace = identity.signer.namespace;
    scan.author = identity.signer.author;
    node_identity_wipe(&identity);
    *facts = (struct holder_facts){.has_own = false};
    enum hkv_err err = kv_list(store->kv, KV_KEY_SYSTEM, (struct slice){0}, (struct slice){0}, KV_WANT_VALUE,
                               MEMBER_JSON_MAX, record_visit, &scan);
    if (err == HKV_OK) err = member_name(store, name, &key);
    bool is_missing = false;
    if (err == HKV_OK) err = kv_history(store->kv, buf_slice(&key), winner_visit, &is_missing);
    facts->is_awaited = facts->is_awaited || is_missing;
    buf_clear(&key);
    if (err == HKV_OK) err = kv_system_key_encode(RECORD_MEMBER, &key);
    if (err == HKV_OK) key.len--; /* of a record's name, its end */
    if (err == HKV_OK) err = kv_author_entries(store->kv, &scan.author, buf_slice(&key), author_visit, &scan);
    buf_fini(&key);
    return err;
}

enum hkv_err records_holder_facts(struct hkv_store *store, struct holder_facts *out)
{
    return read_records(store, NULL, out);
}

/* Worker. */
static void refresh_read(struct job *job)
{
    struct records *r = (struct records *)(void *)job;
    r->format_seen = false;
    r->is_read = read_records(r->store, r, &r->facts) == HKV_OK;
    if (!r->is_read) node_log(r->store, HKV_LOG_WARN, "records", "system records cannot be read: %s", error_last());
    r->job.run = refresh_apply;
    env_run_on(node_env(r->store), ENV_NETWORK, &r->job);
}

static void member_apply(struct hkv_store *store, const struct member *member)
{
    struct peer *peer;
    if (endpoint_id_equal(&member->endpoint, &store->endpoint_id)) return;
    if (peers_get(&store->peers, &member->endpoint, PEER_CLAIM_MEMBER, &peer) != HKV_OK) return;
    bool is_new = !peer_is_selected(peer) && !peer->removed;
    peer->member = true;
    memcpy(peer->name, member->name, sizeof peer->name);
    if (peer_named_at(peer, &member->addrs) != HKV_OK)
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
        if (news) records_check_soon(r);
    }
    if (!r->closed)
        for (size_t i = 0; i < r->member_count; i++) member_apply(store, &r->members[i]);
    if (!r->closed && r->is_read) holders_look(store, &r->facts);
    members_clear(r);
    r->running = false;
    if (r->closed) {
        check_closed(r);
    } else if (r->again) {
        r->again = false;
        if (!holders_is_settled(store)) r->last_us = 0; /* our own record waits for it */
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

void records_refresh_now(struct records *r)
{
    r->last_us = 0;
    if (r->timer.due_us != 0) env_timer_cancel(node_env(r->store), &r->timer);
    records_refresh(r);
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

/* ------------------------------------------------------------------------------------------ writing ours */

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

static enum hkv_err json_text(json_t *object, const char *name, char **out)
{
    *out = object == NULL ? NULL : json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return *out == NULL ? error_set(HKV_E_NOMEM, "no memory for the record %s", name) : HKV_OK;
}

static enum hkv_err format_text(char **out)
{
    return json_text(json_pack("{s:s, s:i}", "format", "native", "v", 1), RECORD_FORMAT, out);
}

static enum hkv_err member_text(struct hkv_store *store, const struct address_set *addrs, char **out)
{
    char endpoint[ID_TEXT_MAX], author[ID_TEXT_MAX], incarnation[HEX_TEXT_MAX(INCARNATION_BYTES)];
    char signature_text[HEX_TEXT_MAX(SIGNATURE_BYTES)];
    uint8_t signed_bytes[MEMBER_SIGNED_BYTES];
    struct signature signature;
    struct node_identity identity;
    node_identity_get(store, &identity);
    member_signed_bytes(&identity.signer.namespace, &identity.signer.author, store->incarnation, signed_bytes);
    (void)id_format(identity.signer.author.bytes, author);
    node_identity_wipe(&identity);
    ed25519_sign(&store->node_secret, store->endpoint_id.bytes, slice_of(signed_bytes, sizeof signed_bytes),
                 &signature);
    hex_encode(slice_of(signature.bytes, sizeof signature.bytes), signature_text);
    hex_encode(slice_of(store->incarnation, INCARNATION_BYTES), incarnation);
    json_t *object =
        json_pack("{s:i, s:s, s:s, s:o, s:s, s:s, s:s}", "v", 1, "endpoint",
                  id_format(store->endpoint_id.bytes, endpoint), "author", author, "addrs", addresses_json(addrs),
                  "name", store->name, "incarnation", incarnation, "sig", signature_text);
    return json_text(object, RECORD_MEMBER, out);
}

/* The member record is stored: these are its addresses (taken). */
static void member_written(struct records *r, struct address_set *addrs_take)
{
    (void)pthread_mutex_lock(&r->store->identity_lock);
    struct address_set before = r->written;
    r->written = *addrs_take;
    (void)pthread_mutex_unlock(&r->store->identity_lock);
    *addrs_take = before;
}

static enum hkv_err write_format(struct hkv_store *store)
{
    char *text;
    TRY(format_text(&text));
    enum hkv_err err = node_write_record(store, RECORD_FORMAT, slice_of_text(text), 0);
    free(text);
    return err;
}

static enum hkv_err write_member(struct hkv_store *store, uint64_t stamp_us)
{
    char name[sizeof RECORD_MEMBER + ID_TEXT_MAX];
    char *text = NULL;
    struct address_set addrs = {0};
    enum hkv_err err = member_name(store, name, NULL);
    if (err == HKV_OK) err = node_addresses(store, &addrs);
    if (err == HKV_OK) err = member_text(store, &addrs, &text);
    if (err == HKV_OK) err = node_write_record(store, name, slice_of_text(text), stamp_us);
    if (err == HKV_OK) member_written(store->records, &addrs);
    free(text);
    address_set_fini(&addrs);
    return err;
}

struct records_left {
    bool format, member;
};

static void leave_to_checks(struct hkv_store *store, void *arg)
{
    const struct records_left *left = arg;
    store->records->format_due = store->records->format_due || left->format;
    store->records->member_due = store->records->member_due || left->member;
}

/* The stamp for a member record while it is not settled whether the identity is ours alone: just above the one we wrote
 * last, so that it takes the place of that one everywhere, and of nothing that another holder wrote since. 0: there is
 * no such stamp. */
static uint64_t unsettled_stamp(struct hkv_store *store)
{
    struct holder_facts facts;
    if (records_holder_facts(store, &facts) != HKV_OK || facts.author_stamp_us == 0) return 0;
    return facts.author_stamp_us < env_wall_us(node_env(store)) ? facts.author_stamp_us + 1 : 0;
}

/* System records belong to the format native: until a joined namespace is known to have it, none is written. */
static enum hkv_err write_what_may_be(struct hkv_store *store, bool format_known, struct records_left *left)
{
    if (!format_known) return HKV_OK;
    bool settled = holders_is_settled(store);
    uint64_t stamp_us = settled ? 0 : unsettled_stamp(store);
    if (!settled && stamp_us == 0) return HKV_OK;
    if (settled && left->format) {
        TRY(write_format(store));
        left->format = false;
    }
    TRY(write_member(store, stamp_us));
    left->member = false;
    return HKV_OK;
}

enum hkv_err records_write(struct hkv_store *store, bool with_format)
{
    struct node_identity identity;
    struct records_left left = {with_format, true};
    enum hkv_err err = HKV_OK;
    node_identity_get(store, &identity);
    bool can_write = identity.can_write, format_known = identity.format_known;
    node_identity_wipe(&identity);
    if (!can_write) return HKV_OK;
    if (clock_check_write(store) == HKV_OK)
        err = write_what_may_be(store, format_known, &left);
    else
        node_log(store, HKV_LOG_WARN, "records", "this node's records wait: %s", error_last());
    if (left.format || left.member) node_on_network(store, leave_to_checks, &left);
    return err;
}

/* ------------------------------------------------------------------------------------------ keeping ours up to date */

static bool addresses_equal(const struct address_set *a, const struct address_set *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->items[i].kind != ADDRESS_IP || b->items[i].kind != ADDRESS_IP ||
            socket_address_compare(&a->items[i].socket, &b->items[i].socket) != 0)
            return false;
    return true;
}

static void check_next(struct records *r, uint64_t delay_us)
{
    struct env *env = node_env(r->store);
    env_timer_set(env, &r->check_timer, env_mono_us(env) + delay_us);
}

static void check_done(struct job *job)
{
    struct records *r = (struct records *)(void *)((char *)job - offsetof(struct records, check_job));
    r->checking = false;
    if (r->check_err != HKV_OK) {
        r->member_due = r->member_due || !r->is_format;
        node_log(r->store, HKV_LOG_WARN, "records", "this node's records are not up to date: %s", r->check_why.text);
    } else if (r->is_format) {
        r->format_due = false;
        r->check_soon = r->check_soon || r->member_due;
    } else {
        member_written(r, &r->now);
    }
    if (r->closed)
        check_closed(r);
    else
        check_next(r, r->check_soon && r->check_err == HKV_OK ? 0 : r->store->patience.records_check_us);
}

/* Replica thread, or the worker when nothing was submitted. */
static void check_written(void *arg, enum hkv_err err)
{
    struct records *r = arg;
    r->check_err = err;
    if (err != HKV_OK) error_save(&r->check_why);
    r->check_job.run = check_done;
    env_run_on(node_env(r->store), ENV_NETWORK, &r->check_job);
}

/* Worker. */
static void check_run(struct job *job)
{
    struct records *r = (struct records *)(void *)((char *)job - offsetof(struct records, check_job));
    char name[sizeof RECORD_MEMBER + ID_TEXT_MAX] = RECORD_FORMAT;
    char *text = NULL;
    enum hkv_err err = r->is_format ? HKV_OK : member_name(r->store, name, NULL);
    if (err == HKV_OK) err = r->is_format ? format_text(&text) : member_text(r->store, &r->now, &text);
    if (err == HKV_OK) err = node_write_record_async(r->store, name, slice_of_text(text), check_written, r);
    if (err != HKV_OK) check_written(r, err);
    free(text);
}

/* Whether something is to be written, and may be. Reads the addresses of now. */
static bool check_is_due(struct records *r)
{
    struct hkv_store *store = r->store;
    address_set_fini(&r->now);
    r->now = (struct address_set){0};
    if (store->transport == NULL || !holders_is_settled(store)) return false;
    if (store->world->ops->endpoint_addresses(store->world, &r->now) != HKV_OK) return false;
    (void)pthread_mutex_lock(&store->identity_lock);
    bool can_write = store->identity.can_write && store->identity.format_known;
    bool changed = !addresses_equal(&r->now, &r->written);
    (void)pthread_mutex_unlock(&store->identity_lock);
    return can_write && (r->format_due || r->member_due || changed) && clock_check_write(store) == HKV_OK;
}

static void check_begin(struct env_timer *timer)
{
    struct records *r = (struct records *)(void *)((char *)timer - offsetof(struct records, check_timer));
    r->check_soon = false;
    if (!holders_is_settled(r->store)) records_refresh(r); /* a value may be waited for in vain */
    if (!check_is_due(r)) {
        check_next(r, r->store->patience.records_check_us);
        return;
    }
    r->is_format = r->format_due;
    if (!r->is_format) r->member_due = false;
    r->checking = true;
    r->check_job.run = check_run;
    env_run_on(node_env(r->store), ENV_WORKER, &r->check_job);
}

void records_begin(struct records *r)
{
    check_next(r, r->store->patience.records_check_us);
}

void records_write_again(struct records *r)
{
    r->member_due = true;
}

void records_check_soon(struct records *r)
{
    r->check_soon = true;
    if (!r->checking && !r->closed) check_next(r, 0);
}

void records_write_soon(struct records *r)
{
    r->member_due = true;
    records_check_soon(r);
}
