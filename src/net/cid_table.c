#include "net/cid_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/limits.h"

#define CID_BUCKETS_FIRST 64

enum hkv_err cid_table_init(struct cid_table *t)
{
    *t = (struct cid_table){.bucket_count = CID_BUCKETS_FIRST};
    t->buckets = calloc(t->bucket_count, sizeof *t->buckets);
    if (!t->buckets) return error_set(HKV_E_NOMEM, "table of connection ids: no memory");
    randombytes_buf(t->key, sizeof t->key);
    return HKV_OK;
}

void cid_table_fini(struct cid_table *t)
{
    assert(t->count == 0);
    free(t->buckets);
    t->buckets = NULL;
}

static size_t cid_bucket(const struct cid_table *t, const uint8_t *data, size_t len)
{
    uint8_t digest[crypto_shorthash_BYTES];
    uint64_t value;
    crypto_shorthash(digest, data, len, t->key);
    memcpy(&value, digest, sizeof value);
    return (size_t)value & (t->bucket_count - 1);
}

struct quic_conn *cid_table_find(const struct cid_table *t, const uint8_t *data, size_t len)
{
    for (struct cid_entry *e = t->buckets[cid_bucket(t, data, len)]; e; e = e->next)
        if (e->cid.datalen == len && memcmp(e->cid.data, data, len) == 0) return e->conn;
    return NULL;
}

/* Doubles the table; a failure only makes chains longer. */
static void cid_table_grow(struct cid_table *t)
{
    struct cid_entry **old = t->buckets;
    size_t old_count = t->bucket_count;
    struct cid_entry **buckets = calloc(old_count * 2, sizeof(struct cid_entry *));
    if (!buckets) return;
    t->buckets = buckets;
    t->bucket_count = old_count * 2;
    for (size_t i = 0; i < old_count; i++) {
        for (struct cid_entry *e = old[i], *next; e; e = next) {
            size_t b = cid_bucket(t, e->cid.data, e->cid.datalen);
            next = e->next;
            e->next = buckets[b];
            buckets[b] = e;
        }
    }
    free(old);
}

enum hkv_err cid_table_add(struct cid_table *t, struct cid_list *list, struct quic_conn *conn, const ngtcp2_cid *cid)
{
    if (cid_table_find(t, cid->data, cid->datalen)) return HKV_OK;
    if (list->count >= NET_CIDS_PER_CONN_MAX)
        return error_set(HKV_E_LIMIT, "a connection has %d connection ids, no more are given out",
                         NET_CIDS_PER_CONN_MAX);
    if (t->count >= t->bucket_count) cid_table_grow(t);
    struct cid_entry *e = malloc(sizeof *e);
    if (!e) return error_set(HKV_E_NOMEM, "connection id: no memory");
    size_t b = cid_bucket(t, cid->data, cid->datalen);
    *e = (struct cid_entry){.next = t->buckets[b], .sibling = list->first, .conn = conn, .cid = *cid};
    t->buckets[b] = e;
    list->first = e;
    list->count++;
    t->count++;
    return HKV_OK;
}

static void cid_unchain(struct cid_table *t, struct cid_entry *e)
{
    struct cid_entry **at = &t->buckets[cid_bucket(t, e->cid.data, e->cid.datalen)];
    while (*at != e) at = &(*at)->next;
    *at = e->next;
    t->count--;
}

void cid_table_remove(struct cid_table *t, struct cid_list *list, const ngtcp2_cid *cid)
{
    for (struct cid_entry **at = &list->first; *at; at = &(*at)->sibling) {
        struct cid_entry *e = *at;
        if (!ngtcp2_cid_eq(&e->cid, cid)) continue;
        *at = e->sibling;
        list->count--;
        cid_unchain(t, e);
        free(e);
        return;
    }
}

void cid_table_remove_all(struct cid_table *t, struct cid_list *list)
{
    while (list->first) {
        struct cid_entry *e = list->first;
        list->first = e->sibling;
        cid_unchain(t, e);
        free(e);
    }
    list->count = 0;
}
