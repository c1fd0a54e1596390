/* Which connection a packet belongs to: from connection ids (ours, and the one a client made up for its first packets)
 * to connections. Chained hash table with a keyed hash, because peers choose some of the ids. Each connection also
 * holds the list of its own entries, so that all of them leave with it. Network thread. */
#ifndef HKV_NET_CID_TABLE_H
#define HKV_NET_CID_TABLE_H

#include <ngtcp2/ngtcp2.h>
#include <sodium.h>

#include "base/error.h"

struct quic_conn;

struct cid_entry {
    struct cid_entry *next;    /* of the bucket */
    struct cid_entry *sibling; /* of the same connection */
    struct quic_conn *conn;
    ngtcp2_cid cid;
};

/* The entries of one connection. */
struct cid_list {
    struct cid_entry *first;
    size_t count;
};

struct cid_table {
    struct cid_entry **buckets;
    size_t bucket_count; /* power of two */
    size_t count;
    uint8_t key[crypto_shorthash_KEYBYTES];
};

HKV_CHECK enum hkv_err cid_table_init(struct cid_table *t);
void cid_table_fini(struct cid_table *t); /* must be empty of entries */

struct quic_conn *cid_table_find(const struct cid_table *t, const uint8_t *data, size_t len);

/* Adds an id; one that is there already stays with its owner. Errors: HKV_E_NOMEM, HKV_E_LIMIT (too many of one
 * connection). */
HKV_CHECK enum hkv_err cid_table_add(struct cid_table *t, struct cid_list *list, struct quic_conn *conn,
                                     const ngtcp2_cid *cid);
void cid_table_remove(struct cid_table *t, struct cid_list *list, const ngtcp2_cid *cid);
void cid_table_remove_all(struct cid_table *t, struct cid_list *list);

#endif
