/* A peer without manners: an endpoint of its own that speaks whatever bytes a test gives it, against whole stores.
 *
 *   store (its own threads)  ◀── real QUIC on loopback ──▶  raw (this thread, only while raw_until() runs)
 *
 * Nothing of a raw peer happens outside of raw_until(): while the test does something else, the peer is silent. What
 * arrives is kept, and consumed unless `hold` is set. */
#ifndef HKV_TESTS_NODE_FIXTURE_RAW_H
#define HKV_TESTS_NODE_FIXTURE_RAW_H

#include "net/endpoint.h"
#include "unit/node/fixture.h"
#include "wire/entry.h"

#define RAW_SYNC  "/iroh-sync/1"
#define RAW_BLOBS "/iroh-bytes/4"

struct raw_stream {
    struct transport_stream *stream; /* NULL once closed */
    struct raw_conn *conn;
    struct raw_stream *next;
    struct buf in;
    uint64_t received;
    bool fin, reset, stopped, closed, finished;
    uint64_t reset_code, stop_code;
    bool hold; /* what arrives is neither kept nor consumed */
    int step;  /* the test's */
};

struct raw_conn {
    struct transport_conn *conn; /* NULL once closed */
    struct raw *raw;
    struct raw_conn *next;
    struct raw_stream *streams;
    char alpn[32];
    bool opened, closed, accepted;
    enum hkv_err err;
    uint64_t code;
};

struct raw {
    uv_loop_t loop;
    uv_timer_t tick;
    struct net_endpoint *ep;
    struct secret_key secret;
    struct raw_conn *conns;
    size_t accepted_count;
    void (*data)(struct raw *raw, struct raw_stream *stream); /* bytes or FIN came on a stream that a store opened */
    void *user;                                               /* the test's */
    bool hold;                                                /* for new streams */
    bool gone;
};

/* Opens with a secret made of `seed`. */
void raw_open(struct raw *raw, uint8_t seed);
void raw_close(struct raw *raw);

/* Makes the store know the raw peer, which it then dials. */
void raw_be_known(struct raw *raw, struct hkv_store *store);

/* Dials a store and waits until the connection is open or closed. */
struct raw_conn *raw_dial(struct raw *raw, struct hkv_store *store, const char *alpn);

struct raw_stream *raw_stream(struct raw_conn *conn);
void raw_send(struct raw_stream *s, const void *data, size_t len);
void raw_send_buf(struct raw_stream *s, struct buf *bytes);
void raw_finish(struct raw_stream *s);

/* Runs the peer until the condition holds; fails the test after a minute. */
void raw_until(struct raw *raw, bool (*condition)(void *arg), void *arg, const char *what);

bool raw_conn_is_closed(void *conn);
bool raw_stream_is_closed(void *stream);
bool raw_stream_is_over(void *stream); /* FIN, reset, or closed */

/* ---- content of the protocols ---- */

/* The keys behind a `namespace_secret` of the fixture. */
struct raw_signer {
    struct secret_key namespace_secret, author_secret;
    struct namespace_id namespace;
    struct author_id author;
};

void raw_signer_init(struct raw_signer *signer, const char *namespace_secret, uint8_t author_seed);

/* Appends a signed entry and its content status as an item's value. `bad`: with a broken signature. */
void raw_value(struct buf *out, const struct raw_signer *signer, const char *key, const struct record *record,
               bool bad);

/* Microseconds of the wall clock. */
uint64_t raw_now_us(void);

/* An item part of everything (x = y), with the values given. */
void raw_item_all(struct buf *out, const struct namespace_id *namespace, size_t value_count, struct slice values,
                  bool have_local);

/* A fingerprint part of everything. */
void raw_fingerprint_all(struct buf *out, const struct namespace_id *namespace, uint8_t fill);

/* One session as dialler: Init with the item's values, then FIN once the store has answered or ended. */
void raw_push_values(struct raw *raw, struct hkv_store *store, const struct raw_signer *signer, size_t value_count,
                     struct slice values);

/* The resident memory of this process in bytes; and that it has grown by `limit` at most since, which sanitizers, with
 * their own books, are not held to. */
size_t raw_resident_bytes(void);
void raw_expect_growth(size_t before, size_t limit);

#endif
