/* Small named values, remembered peers, and starting over for another namespace. */
#include <stdio.h>
#include <stdlib.h>

#include "kv/internal.h"
#include "store/schema.h"

enum hkv_err kv_meta_get(struct kv *kv, const char *name, struct buf *out)
{
    sqlite3_stmt *s;
    bool found;
    TRY(db_statement(&kv->db, SQL_META_GET, &s));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    TRY(db_row(&kv->db, s, &found));
    if (!found) return HKV_E_NOT_FOUND;
    enum hkv_err err = buf_assign(out, db_column_slice(s, 0));
    sqlite3_reset(s);
    return err;
}

enum hkv_err kv_meta_set(struct kv *kv, const char *name, struct slice value)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, SQL_META_SET, &s));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    db_bind_slice(s, 2, value);
    return db_run(&kv->db, s);
}

/* ------------------------------------------------------------------------------------------ peers */

/* Addresses are kept as text, one a line, so that a look at the table tells them. */
static enum hkv_err encode_addresses(const struct address_set *set, struct buf *out)
{
    for (size_t i = 0; i < set->count; i++) {
        char text[ADDRESS_TEXT_MAX];
        const char *line = set->items[i].relay_url;
        if (set->items[i].kind == ADDRESS_IP) {
            socket_address_format(&set->items[i].socket, text);
            line = text;
        }
        TRY(buf_append_slice(out, slice_of_text(line)));
        TRY(buf_append_byte(out, '\n'));
    }
    return HKV_OK;
}

static enum hkv_err decode_addresses(struct slice text, struct address_set *out)
{
    while (text.len > 0) {
        const uint8_t *end = memchr(text.data, '\n', text.len);
        if (!end) return error_set(HKV_E_CORRUPT, "the addresses of a remembered peer do not end with a line end");
        struct slice line = slice_part(text, 0, (size_t)(end - text.data));
        if (slice_starts_with(line, slice_of_text("http"))) {
            TRY(address_set_add_relay(out, line));
        } else {
            struct socket_address socket;
            TRY(socket_address_parse(line, &socket));
            TRY(address_set_add_socket(out, &socket));
        }
        text = slice_part(text, line.len + 1, text.len);
    }
    return HKV_OK;
}

enum hkv_err kv_peer_put(struct kv *kv, const struct kv_peer *peer)
{
    struct buf addrs = {0};
    sqlite3_stmt *s;
    enum hkv_err err = encode_addresses(&peer->addrs, &addrs);
    if (err == HKV_OK) err = db_statement(&kv->db, SQL_PEER_PUT, &s);
    if (err == HKV_OK) {
        db_bind_id(s, 1, peer->id.bytes);
        sqlite3_bind_int(s, 2, (int)peer->source);
        db_bind_u64(s, 3, peer->last_sync_us);
        sqlite3_bind_text64(s, 4, addrs.len ? (const char *)addrs.data : "", addrs.len, SQLITE_STATIC, SQLITE_UTF8);
        err = db_run(&kv->db, s);
    }
    buf_fini(&addrs);
    return err;
}

enum hkv_err kv_peer_delete(struct kv *kv, const struct endpoint_id *id)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, SQL_PEER_DELETE, &s));
    db_bind_id(s, 1, id->bytes);
    return db_run(&kv->db, s);
}

enum hkv_err kv_peer_list(struct kv *kv, bool (*visit)(void *arg, const struct kv_peer *peer), void *arg)
{
    sqlite3_stmt *s;
    enum hkv_err err = HKV_OK;
    bool go_on = true;
    TRY(db_statement(&kv->db, SQL_PEER_LIST, &s));
    for (bool found; go_on && err == HKV_OK;) {
        struct kv_peer peer = {0};
        err = db_row(&kv->db, s, &found);
        if (err != HKV_OK || !found) break;
        err = db_column_id(&kv->db, s, 0, peer.id.bytes);
        peer.source = (enum kv_peer_source)sqlite3_column_int(s, 1);
        peer.last_sync_us = db_column_u64(s, 2);
        if (err == HKV_OK) err = decode_addresses(db_column_slice(s, 3), &peer.addrs);
        if (err == HKV_OK) go_on = visit(arg, &peer);
        address_set_fini(&peer.addrs);
    }
    sqlite3_reset(s);
    return err;
}

/* ------------------------------------------------------------------------------------------ reset */

static enum hkv_err empty_tables(struct kv *kv, const struct namespace_id *namespace, const uint8_t epoch[8])
{
    TRY(schema_empty(&kv->db));
    TRY(kv_meta_set(kv, KV_META_NAMESPACE, slice_of(namespace->bytes, ID_BYTES)));
    TRY(kv_meta_set(kv, KV_META_EPOCH, slice_of(epoch, 8)));
    TRY(kv_meta_set(kv, KV_META_WAKERS, (struct slice){0}));
    TRY(kv_meta_set(kv, KV_META_AGES, (struct slice){0}));
    kv->ages = (struct kv_ages){0};
    kv->counters = (struct kv_counters){0};
    return kv_counters_save(kv);
}

enum hkv_err kv_reset(struct kv *kv, const struct namespace_id *namespace)
{
    uint8_t epoch[8];
    struct spans *old = kv->spans;
    struct spans *fresh;
    kv_epoch_draw(kv, epoch);
    TRY(kv_begin(kv));
    enum hkv_err err = empty_tables(kv, namespace, epoch);
    if (err == HKV_OK) err = spans_open(&kv->db, namespace, &fresh);
    if (err != HKV_OK) {
        kv_rollback(kv);
        return err;
    }
    kv->spans = fresh;
    err = kv_commit(kv);
    if (err != HKV_OK) {
        kv->spans = old;
        spans_free(fresh);
        return err;
    }
    spans_free(old);
    kv->config.namespace = *namespace;
    kv->epoch = be64_load(epoch);
    kv_parties_forget(kv);
    kv_suspects_forget(kv);
    kv_wanted_fini(kv);
    kv->wanted = (struct kv_wanted_state){0};
    /* Every file that has its name by now is an orphan. */
    kv->stale_below = atomic_load(&kv->next_value);
    kv->sweeping = true;
    kv_counts_publish(kv);
    return HKV_OK;
}
