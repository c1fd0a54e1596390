/* hero_kvs: an embeddable key-value store that is replicated in full to every node over iroh's peer-to-peer protocols.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   struct hkv_options options;
 *   hkv_options_init(&options);
 *   options.data_dir = "/var/lib/example";
 *   struct hkv_store *store;
 *   if (hkv_open(&options, &store) != HKV_OK) { fputs(hkv_last_error(), stderr); return 1; }
 *   hkv_put(store, HKV_TEXT("greeting"), HKV_TEXT("hello"), NULL, NULL);
 *   hkv_close(store);
 *
 * WHAT IT PROMISES. When a write returns HKV_OK, entry and value survive process death and power loss of this node.
 * When writes stop and the running nodes stay connected, all of them come to the same entries and show the same map.
 * What a key shows is a pure function of the set of entries: greatest (stamp, author id). No entry becomes visible
 * without valid signatures.
 *
 * WHAT IT DOES NOT PROMISE. Order across keys, linearizable reads, reading another node's write at once, the survival
 * of a concurrent losing write as the visible value, secrecy of values from holders of a read ticket. Where those
 * matter, use a consensus store such as etcd.
 *
 * PROCESSES. A store belongs to the process that opened it. A child that was forked must not touch it.
 *
 * THREADS. Every function may be called from any thread, except that hkv_close must be the last call on a store.
 * Blocking functions must not be called from a callback of the same store; the `_async` forms may. Callbacks run one at
 * a time on one thread of the library and must not block. A caller reads its own writes.
 *
 * ERRORS. Every function that can fail returns enum hkv_err (hero_kvs_error.h). hkv_last_error() then has one sentence
 * that says what, which rule, and what to do; it belongs to the calling thread and lasts until that thread's next
 * failing call. Callbacks get the sentence passed in. A function that fails changes nothing, except where
 * HKV_E_OUTCOME_UNKNOWN says that a write may still be stored. Any function may fail with HKV_E_NOMEM or
 * HKV_E_INTERNAL, with HKV_E_INVALID when an argument that must be given is NULL, functions on stored data with
 * HKV_E_DISK, HKV_E_DISK_FULL or HKV_E_CORRUPT; these are not repeated below.
 *
 * LIMITS. Keys are 1 to 1,024 bytes of UTF-8 without NUL (HKV_E_KEY). Values are 0 to `max_value_bytes` bytes
 * (HKV_E_VALUE_TOO_LARGE).
 *
 * MEMORY. What the library hands out in an `out` argument is released with the named `_free` function, before or after
 * hkv_close. Arguments are borrowed for the call only, in `_async` forms as well: they are copied where needed. */
#ifndef HERO_KVS_H
#define HERO_KVS_H

#include <hero_kvs_error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HKV_API __attribute__((visibility("default")))

#define HKV_VERSION_TEXT "0.1.0"

#define HKV_KEY_MAX                 1024                 /* bytes */
#define HKV_VALUE_MAX_DEFAULT       ((uint64_t)64 << 20) /* bytes */
#define HKV_MEMORY_DEFAULT          ((uint64_t)64 << 20) /* bytes */
#define HKV_ANTI_ENTROPY_MS_DEFAULT 30000                /* milliseconds */
#define HKV_FOREVER                 UINT32_MAX           /* as a timeout: no limit */
#define HKV_ID_TEXT_BYTES           65                   /* 64 lower-case hex digits and NUL */
#define HKV_CLOCK_WHY_BYTES         256                  /* of the words about the clock in a status */
#define HKV_IDENTITY_WHY_BYTES      512                  /* of those about the identity */
#define HKV_PORT_LAST               (-1)                 /* as bind port: that of the last run, at first any */
#define HKV_IN_MEMORY_BYTES_DEFAULT ((uint64_t)1 << 30)  /* of a store in memory, when disk_bytes is 0 */
#define HKV_REFUSED_LIST_MAX        100                  /* lines of hkv_refused() */
#define HKV_LIST_KEYS_MAX           1000                 /* entries in a page */
#define HKV_LIST_BYTES_MAX          ((size_t)4 << 20)    /* value bytes in a page */
#define HKV_LIST_VALUE_MAX          ((size_t)1 << 20)    /* longer values are listed by length only */

/* Two arguments from one string literal or char array: bytes and length without the NUL. */
#define HKV_TEXT(literal) (literal), (sizeof(literal) - 1)

/* An open store. */
struct hkv_store;

/* ------------------------------------------------------------------------------------------ open, close */

enum hkv_format {
    HKV_FORMAT_AUTO,    /* native for a namespace created here; after joining, what its format record says */
    HKV_FORMAT_NATIVE,  /* docs: formats.md 1 */
    HKV_FORMAT_HERO_V1, /* of Rust hero_codescalers_kvs clusters; not offered yet (HKV_E_UNSUPPORTED) */
};

enum hkv_durability {
    HKV_DURABILITY_POWER,   /* an acknowledged write survives power loss */
    HKV_DURABILITY_PROCESS, /* it survives the death of the process only */
};

enum hkv_log_level { HKV_LOG_ERROR, HKV_LOG_WARN, HKV_LOG_INFO, HKV_LOG_DEBUG };

/* One event. `module` and `message` are borrowed for the call. May be called from any thread, also during hkv_open. */
typedef void (*hkv_log_fn)(void *arg, enum hkv_log_level level, const char *module, const char *message);

/* How to open a store. hkv_options_init() sets the defaults given here; strings are borrowed until hkv_open returns.
 *
 * Secrets are 64 hex digits or 52 base32 characters (RFC 4648, no padding, either case). One that is not given is read
 * from data_dir/keys/, and created there when absent; one that differs from the stored file is HKV_E_IDENTITY.
 *
 * A store in memory works as one in a directory does, from transactions to large values, and is gone when it is closed:
 * with another namespace and other ids the next time, unless their secrets are given. It holds at most disk_bytes, or
 * HKV_IN_MEMORY_BYTES_DEFAULT when that is 0; beside that its write-ahead log takes up to 192 MiB in heavy writing, and
 * each large value that is being read or served a copy of itself. */
struct hkv_options {
    size_t struct_bytes;          /* set by hkv_options_init; tells versions of this struct apart */
    const char *data_dir;         /* created when absent; NULL: the store is in memory */
    const char *namespace_secret; /* write capability; NULL: keys/namespace.secret, or a namespace made now */
    const char *namespace_id;     /* read capability, 64 hex digits; excludes namespace_secret */
    const char *author_secret;    /* NULL: keys/author.secret */
    const char *endpoint_secret;  /* NULL: keys/node.secret */
    const char *const *seeds;     /* peers to stay connected to: `endpoint…` tickets or `endpointid@host:port` */
    size_t seed_count;
    const char *const *trusted; /* endpoint ids (hex); when any is given, others are refused in the handshake */
    size_t trusted_count;
    const char *bind_ipv4;          /* "0.0.0.0"; "" switches the family off */
    const char *bind_ipv6;          /* "::"; "" switches the family off */
    int bind_port;                  /* HKV_PORT_LAST; 0: any */
    bool bind_port_fallback;        /* false; true: when the port is taken, take another and log a warning */
    const char *name;               /* of this node, at most 255 bytes of UTF-8; NULL: the host's name */
    enum hkv_format format;         /* HKV_FORMAT_AUTO */
    enum hkv_durability durability; /* HKV_DURABILITY_POWER */
    uint32_t anti_entropy_ms;       /* HKV_ANTI_ENTROPY_MS_DEFAULT; at least 100; kept with 10 % jitter */
    uint64_t max_value_bytes;       /* HKV_VALUE_MAX_DEFAULT; larger ones are neither written nor fetched */
    uint64_t memory_bytes;          /* HKV_MEMORY_DEFAULT; at least 8 MiB: page cache and queues together */
    uint64_t disk_bytes;            /* 0: no limit of our own; in memory HKV_IN_MEMORY_BYTES_DEFAULT */
    bool allow_bad_clock;           /* false: writes are refused while the clock is older than this build, or more than
                                     * five minutes behind two peers */
    hkv_log_fn log;                 /* NULL: no log */
    void *log_arg;
};

HKV_API void hkv_options_init(struct hkv_options *options);

/* Opens the store, binds its sockets and begins to sync. Start-up work does not grow with the number of entries beyond
 * reading one row for about every 64 of them. Errors: HKV_E_INVALID (which option and why), HKV_E_LOCKED,
 * HKV_E_PERMISSION (a key file is readable by others), HKV_E_IDENTITY (a secret differs from the stored one,
 * or another endpoint has this node's author), HKV_E_NAMESPACE, HKV_E_VERSION, HKV_E_TICKET (a seed),
 * HKV_E_ADDRESS_IN_USE, HKV_E_NETWORK, HKV_E_UNSUPPORTED. */
HKV_API enum hkv_err hkv_open(const struct hkv_options *options, struct hkv_store **out);

/* Ends all waiting calls with HKV_E_CLOSED, closes connections in order, frees everything. NULL is fine. Must not be
 * called from a callback. After it returns no callback of this store runs any more. A call that is reading from or
 * writing to a descriptor of its caller (hkv_put_fd, hkv_get_fd) ends when that does, and the close waits for it. */
HKV_API void hkv_close(struct hkv_store *store);

/* The sentence about this thread's last failure; "" when none. */
HKV_API const char *hkv_last_error(void);

/* "HKV_E_KEY"; the general sentence of the code. */
HKV_API const char *hkv_error_name(enum hkv_err err);
HKV_API const char *hkv_error_sentence(enum hkv_err err);

/* ------------------------------------------------------------------------------------------ writes */

/* Version of a key: stamp and author of its winning entry. As text: `<stamp_us>-<author hex>`. */
struct hkv_version {
    uint64_t stamp_us; /* microseconds since the Unix epoch */
    uint8_t author[32];
};

#define HKV_VERSION_TEXT_BYTES (20 + 1 + 64 + 1)

HKV_API void hkv_version_format(const struct hkv_version *version, char out[HKV_VERSION_TEXT_BYTES]);

/* Errors: HKV_E_INVALID. */
HKV_API enum hkv_err hkv_version_parse(const char *text, struct hkv_version *out);

enum hkv_expect {
    HKV_EXPECT_ANY,     /* write whatever is there */
    HKV_EXPECT_ABSENT,  /* the key must be absent (an expired key is) */
    HKV_EXPECT_VERSION, /* the key must show `version`, and no newer winner may be known */
};

/* How to write. NULL where one is taken means all zero, that is: any previous state, no expiry, no time limit. The
 * expectation is checked on this node only; another node may write at the same time. */
struct hkv_write_options {
    enum hkv_expect expect;
    struct hkv_version version; /* HKV_EXPECT_VERSION */
    uint64_t ttl_ms;            /* 0: does not expire; puts only */
    uint32_t timeout_ms;        /* 0 or HKV_FOREVER: no limit */
};

struct hkv_write_result {
    struct hkv_version version; /* that the key has now */
};

/* Stores a value. `result` may be NULL. Values above 16 KiB go to a file of their own.
 * Errors: HKV_E_KEY, HKV_E_VALUE_TOO_LARGE, HKV_E_READ_ONLY, HKV_E_FORMAT_UNKNOWN (joined by ticket, format not seen
 * yet), HKV_E_CONFLICT (expectation), HKV_E_STAMP_AHEAD, HKV_E_CLOCK, HKV_E_IDENTITY (another endpoint has this node's
 * author), HKV_E_LIMIT (disk budget), HKV_E_BUSY, HKV_E_OUTCOME_UNKNOWN (time limit), HKV_E_CLOSED. */
HKV_API enum hkv_err hkv_put(struct hkv_store *store, const void *key, size_t key_bytes, const void *value,
                             size_t value_bytes, const struct hkv_write_options *options,
                             struct hkv_write_result *result);

/* Stores what can be read from `fd` up to its end, at most `length` bytes when that is not UINT64_MAX (fewer is
 * HKV_E_INVALID). Memory stays bounded. The fd stays open, its position is moved. Errors: as hkv_put, and HKV_E_INVALID
 * when reading fails. */
HKV_API enum hkv_err hkv_put_fd(struct hkv_store *store, const void *key, size_t key_bytes, int fd, uint64_t length,
                                const struct hkv_write_options *options, struct hkv_write_result *result);

/* Makes the key absent, also when it is absent already. Errors: as hkv_put. */
HKV_API enum hkv_err hkv_delete(struct hkv_store *store, const void *key, size_t key_bytes,
                                const struct hkv_write_options *options, struct hkv_write_result *result);

/* Called once with the outcome, on the library's callback thread. `error` is "" for HKV_OK. */
typedef void (*hkv_write_fn)(void *arg, enum hkv_err err, const char *error, const struct hkv_write_result *result);

/* As hkv_put and hkv_delete, without waiting: HKV_OK means that `done` will be called exactly once (with HKV_E_CLOSED
 * when the store is closed first), any other value that it will not. Errors at once: those about the arguments, and
 * HKV_E_BUSY. */
HKV_API enum hkv_err hkv_put_async(struct hkv_store *store, const void *key, size_t key_bytes, const void *value,
                                   size_t value_bytes, const struct hkv_write_options *options, hkv_write_fn done,
                                   void *arg);
HKV_API enum hkv_err hkv_delete_async(struct hkv_store *store, const void *key, size_t key_bytes,
                                      const struct hkv_write_options *options, hkv_write_fn done, void *arg);

/* ------------------------------------------------------------------------------------------ reads */

/* A value and what is known of it. Released by hkv_value_free(). */
struct hkv_value {
    uint8_t *data; /* NULL for hkv_get_fd, and where hkv_get_upto did not read it */
    uint64_t length;
    struct hkv_version version;
    uint64_t expires_us; /* 0: does not expire */
};

/* Reads what the key shows. Reads never wait for writers.
 * Errors: HKV_E_KEY, HKV_E_NOT_FOUND, HKV_E_FORMAT (the winner's content is in a form this version cannot read),
 * HKV_E_CORRUPT (its bytes were damaged on this node's disk and have not come again from a peer). */
HKV_API enum hkv_err hkv_get(struct hkv_store *store, const void *key, size_t key_bytes, struct hkv_value *out);
HKV_API void hkv_value_free(struct hkv_value *value);

/* As hkv_get, but reads a value only when it has at most `max_bytes`; of a longer one it tells length, version and
 * expiry, with `data` NULL. Errors: as hkv_get. */
HKV_API enum hkv_err hkv_get_upto(struct hkv_store *store, const void *key, size_t key_bytes, uint64_t max_bytes,
                                  struct hkv_value *out);

/* Writes the value to `fd` with bounded memory. `out` gets length, version and expiry; may be NULL. Bytes are checked
 * before they are written: when it fails with HKV_E_CORRUPT, those before the damage were, and they are right.
 * Errors: as hkv_get, and HKV_E_INVALID when writing to the fd fails. */
HKV_API enum hkv_err hkv_get_fd(struct hkv_store *store, const void *key, size_t key_bytes, int fd,
                                struct hkv_value *out);

struct hkv_list_entry {
    const char *key; /* NUL behind it for convenience */
    size_t key_bytes;
    const uint8_t *value; /* NULL: not asked for, longer than HKV_LIST_VALUE_MAX, or unreadable */
    uint64_t length;
    struct hkv_version version;
    uint64_t expires_us;
};

/* A page of keys in byte order. Released by hkv_page_free(). */
struct hkv_page {
    struct hkv_list_entry *entries;
    size_t count;
    char *next; /* cursor for the page behind this one, text; NULL at the end */
};

/* Lists present keys that begin with `prefix`, in byte order. `limit` 0 or above HKV_LIST_KEYS_MAX counts as that.
 * `cursor` is NULL or the `next` of the page before; keys written meanwhile appear where they belong. Each page is a
 * consistent snapshot. Errors: HKV_E_KEY (the prefix has a NUL or is too long), HKV_E_INVALID (the cursor). */
HKV_API enum hkv_err hkv_list(struct hkv_store *store, const void *prefix, size_t prefix_bytes, size_t limit,
                              const char *cursor, struct hkv_page **out);
HKV_API enum hkv_err hkv_list_keys(struct hkv_store *store, const void *prefix, size_t prefix_bytes, size_t limit,
                                   const char *cursor, struct hkv_page **out);
HKV_API void hkv_page_free(struct hkv_page *page);

enum hkv_kind {
    HKV_KIND_VALUE,
    HKV_KIND_TOMBSTONE,
    HKV_KIND_MISSING,    /* the content has not arrived on this node, or is damaged there */
    HKV_KIND_UNREADABLE, /* the content is in no form of this format */
};

struct hkv_history_entry {
    struct hkv_version version;
    uint8_t hash[32]; /* BLAKE3 of the content */
    uint64_t content_length;
    enum hkv_kind kind;
    bool shown; /* what hkv_get answers from */
};

struct hkv_history {
    struct hkv_history_entry *entries;
    size_t count;
};

/* Every author's current entry for a key, winner first. Released by hkv_history_free(). Errors: HKV_E_KEY. */
HKV_API enum hkv_err hkv_history(struct hkv_store *store, const void *key, size_t key_bytes, struct hkv_history **out);
HKV_API void hkv_history_free(struct hkv_history *history);

/* ------------------------------------------------------------------------------------------ watch */

enum hkv_event_type {
    HKV_EVENT_PUT_LOCAL,
    HKV_EVENT_DELETE_LOCAL,
    HKV_EVENT_PUT_REMOTE,
    HKV_EVENT_DELETE_REMOTE,
    HKV_EVENT_EXPIRED,
    HKV_EVENT_LISTED,        /* not a change: the key is present (hkv_watch_options.list) */
    HKV_EVENT_PROGRESS,      /* everything up to `position` was delivered */
    HKV_EVENT_OVERRUN,       /* changes are lost; says where the watch goes on */
    HKV_EVENT_SYNC_STARTED,  /* a session with `peer` */
    HKV_EVENT_SYNC_FINISHED, /* more types come with later versions: pass over those you do not know */
};

/* A point in the change log of one store: the change with this number, and all before it. Numbers begin at 1, have no
 * gaps and survive restarts; each change has one. The epoch, never 0, names the numbering: it is another one when the
 * store was emptied to join another namespace, was restored, or turned out to be a copy. As text:
 * `<epoch, 16 hex digits>-<number>`. */
struct hkv_position {
    uint64_t epoch;
    uint64_t number;
};

#define HKV_POSITION_TEXT_BYTES (16 + 1 + 20 + 1)

HKV_API void hkv_position_format(const struct hkv_position *position, char out[HKV_POSITION_TEXT_BYTES]);

/* Errors: HKV_E_INVALID. */
HKV_API enum hkv_err hkv_position_parse(const char *text, struct hkv_position *out);

struct hkv_event {
    enum hkv_event_type type;
    const char *key; /* NULL for events that are not about a key; NUL behind it */
    size_t key_bytes;
    struct hkv_version version;
    const char *peer;   /* endpoint id, hex; NULL for local events */
    const char *reason; /* NULL: a plain write; "prefix": an entry at a prefix of the key removed the shown one */
    struct hkv_position position;        /* where to go on behind this event (`from`); epoch 0: it has none */
    struct hkv_position first_available; /* OVERRUN: the first change that the log still has, or will have */
    bool sync_ok;                        /* SYNC_FINISHED */
    bool sync_confirmed;
    uint64_t entries_sent;
    uint64_t entries_received;
};

struct hkv_watch;

/* Called for each event, in order; `event` and what it points to are borrowed for the call. */
typedef void (*hkv_event_fn)(void *arg, const struct hkv_event *event);

#define HKV_WATCH_MAX 1024 /* open watches of a store */

/* Watches changes of what keys with this prefix show, from now on: hkv_watch_with() with the prefix alone.
 * Errors: HKV_E_KEY, HKV_E_LIMIT. */
HKV_API enum hkv_err hkv_watch(struct hkv_store *store, const void *prefix, size_t prefix_bytes, hkv_event_fn event,
                               void *arg, struct hkv_watch **out);

/* What to watch. All zero: every key, from now on. */
struct hkv_watch_options {
    const void *prefix; /* of keys; borrowed for the call, as `from` */
    size_t prefix_bytes;
    const struct hkv_position *from; /* behind this position: that of the last event seen; NULL: from now on */
    bool list;                       /* first the keys that are present; with `from`: when the log lost the position */
};

/* Watches changes of what keys show.
 *
 *   from    list    events
 *   NULL    false   PROGRESS (the position of now), then every change
 *   NULL    true    LISTED for each present key, in byte order, PROGRESS, then every change
 *   given   false   every change behind the position; PROGRESS when those of before the call are told
 *   given   true    the same, or as the second line when the log does not reach back to the position
 *
 * NOTHING IS MISSED, NOTHING REPEATED: not between list and changes, nor between those of before and after the call,
 * nor over a restart of store or watcher that goes on from the position of its last event. A key that changes while
 * keys are being listed is listed as it is when its turn comes; when it was listed already, its change is told at once.
 * Until the PROGRESS behind the list no event has a position, since a watcher that went on from there would miss the
 * rest of it.
 *
 * PROGRESS also tells the position when changes went by for some seconds that no event told of (another prefix).
 *
 * A SLOW WATCHER never holds up the store, and loses nothing for being slow: it gets what it has not seen from the
 * change log on disk. The log holds the last changes, bounded by number and age. One who comes later gets OVERRUN, as
 * does one with a position of another epoch or beyond the newest (the disk lost what was acknowledged). The watch then
 * goes on with the first change that the log still has, whose position is in `first_available`; with `list` it lists
 * again from the start: a mirror empties itself at OVERRUN and is right at the next PROGRESS. While a store's disk
 * cannot be read, watches wait; when the log is damaged, they get OVERRUN and go on from now. Events about syncs are
 * not in the log: a watcher that has fallen behind misses them.
 *
 * Events may come before this function returns; *out is set before the first. Errors: HKV_E_KEY (the prefix),
 * HKV_E_LIMIT (HKV_WATCH_MAX watches). */
HKV_API enum hkv_err hkv_watch_with(struct hkv_store *store, const struct hkv_watch_options *options,
                                    hkv_event_fn event, void *arg, struct hkv_watch **out);

/* For a watcher that cannot take more now: no event begins until hkv_watch_resume(). When called in an event's
 * callback, that event is the last; from another thread, one may be on its way. Both do nothing when it is so already,
 * or when `watch` is NULL. */
HKV_API void hkv_watch_pause(struct hkv_watch *watch);
HKV_API void hkv_watch_resume(struct hkv_watch *watch);

/* Ends a watch and frees it. When called outside of callbacks, no event is delivered after it returns. NULL is fine.
 * Watches that are still open when hkv_close() is called are ended by it. */
HKV_API void hkv_watch_close(struct hkv_watch *watch);

/* ------------------------------------------------------------------------------------------ peers and sync */

/* A peer is named by an `endpoint…` ticket, `endpointid@host:port`, or, where it is known already, by its 64 hex
 * digits. */

/* Keeps this peer as a seed: connected to now and after every restart. The same peer again adds addresses.
 * Errors: HKV_E_TICKET, HKV_E_INVALID (our own endpoint id), HKV_E_NOT_FOUND (no address of it is given or known),
 * HKV_E_PEER_UNREACHABLE (the host name cannot be resolved), HKV_E_LIMIT (1,024 peers). */
HKV_API enum hkv_err hkv_peer_add(struct hkv_store *store, const char *peer);

/* Forgets a peer: neither dialled nor waited for until added again. Errors: HKV_E_TICKET, HKV_E_NOT_FOUND. */
HKV_API enum hkv_err hkv_peer_remove(struct hkv_store *store, const char *peer);

enum hkv_peer_source {
    HKV_PEER_SEED,   /* configured, added or from a ticket */
    HKV_PEER_MEMBER, /* has a valid member record in the namespace */
    HKV_PEER_SYNCED, /* completed a sync with us */
};

enum hkv_skew {
    HKV_SKEW_UNKNOWN,
    HKV_SKEW_AT_LEAST, /* only that a stamp it sent lies so far ahead: its clock, or that of the author */
    HKV_SKEW_MEASURED, /* in sessions between two nodes of this library */
};

enum hkv_path {
    HKV_PATH_NONE, /* not connected */
    HKV_PATH_DIRECT,
    HKV_PATH_RELAYED, /* relays are not offered yet */
};

struct hkv_peer {
    char endpoint_id[HKV_ID_TEXT_BYTES];
    enum hkv_peer_source source;
    const char *name;         /* from its member record; "" when unknown */
    const char *addrs;        /* comma separated */
    bool connected;           /* its last session succeeded and is younger than three anti-entropy intervals */
    uint64_t disconnected_us; /* wall clock since when it is not connected; 0 while it is */
    enum hkv_path path;       /* how its packets come, while it is connected */
    uint64_t rtt_us;          /* 0: not measured */
    enum hkv_skew clock_skew;
    int64_t clock_skew_us; /* its clock less this machine's; 0 while unknown */
    uint64_t last_sync_us; /* wall clock of the end of the last good session; 0: never */
    bool last_confirmed;   /* that session found both sides equal */
    uint64_t failures;     /* in a row */
    const char *why;       /* in words why data may be missing; "" when nothing is known against it */
};

struct hkv_peers {
    struct hkv_peer *peers;
    size_t count;
};

HKV_API enum hkv_err hkv_peers(struct hkv_store *store, struct hkv_peers **out);
HKV_API void hkv_peers_free(struct hkv_peers *peers);

struct hkv_sync_peer {
    char endpoint_id[HKV_ID_TEXT_BYTES];
    enum hkv_err err;
    const char *error; /* "" when err is HKV_OK */
    bool confirmed;
    uint64_t entries_sent;
    uint64_t entries_received;
};

struct hkv_sync_result {
    struct hkv_sync_peer *peers;
    size_t count;
};

/* A time limit of 0 is none, as HKV_FOREVER, here and in the waits below.
 *
 * Runs one session with every known peer, all at once, and waits for them. HKV_OK when there was no peer or at least
 * one session ended well; the single outcomes are in `out` (may be NULL), also on error. Released by
 * hkv_sync_result_free(). Errors: HKV_E_TIMEOUT, HKV_E_PEER_UNREACHABLE (none could be reached), HKV_E_CLOSED. */
HKV_API enum hkv_err hkv_sync_once(struct hkv_store *store, uint32_t timeout_ms, struct hkv_sync_result **out);
HKV_API void hkv_sync_result_free(struct hkv_sync_result *result);

/* Starts a session with one peer now, without keeping it as a seed unless it is one, and does not wait.
 * Errors: as hkv_peer_add. */
HKV_API enum hkv_err hkv_start_sync_with(struct hkv_store *store, const char *peer);

/* Waits until for each selected peer (default: seeds, members and synced peers, less removed ones) a session begun
 * after this call was confirmed, or moved entries of which this node refused none, and no value of an entry known then
 * is missing. `peers` may be NULL with `peer_count` 0. Errors: HKV_E_NOT_CONVERGED (names peers and reasons),
 * HKV_E_TICKET, HKV_E_NOT_FOUND (a named peer is not known), HKV_E_CLOSED. */
HKV_API enum hkv_err hkv_wait_converged(struct hkv_store *store, const char *const *peers, size_t peer_count,
                                        uint32_t timeout_ms, uint64_t *waited_ms);

/* As hkv_sync_once and hkv_wait_converged without waiting; `done` is called exactly once after HKV_OK. */
typedef void (*hkv_sync_fn)(void *arg, enum hkv_err err, const char *error, const struct hkv_sync_result *result);
HKV_API enum hkv_err hkv_sync_once_async(struct hkv_store *store, uint32_t timeout_ms, hkv_sync_fn done, void *arg);
typedef void (*hkv_converged_fn)(void *arg, enum hkv_err err, const char *error, uint64_t waited_ms);
HKV_API enum hkv_err hkv_wait_converged_async(struct hkv_store *store, const char *const *peers, size_t peer_count,
                                              uint32_t timeout_ms, hkv_converged_fn done, void *arg);

enum hkv_ticket_mode { HKV_TICKET_READ, HKV_TICKET_WRITE };

/* A `doc…` ticket with this node's addresses. A write ticket holds the namespace secret: whoever has it can write, for
 * ever. Released by hkv_text_free(). Errors: HKV_E_READ_ONLY (a write ticket from a store that cannot write). */
HKV_API enum hkv_err hkv_ticket(struct hkv_store *store, enum hkv_ticket_mode mode, char **out);
HKV_API void hkv_text_free(char *text);

/* Joins the namespace of a `doc…` ticket. The same namespace: merges addresses, upgrades a read capability. Another
 * one: only while this store holds no user keys; afterwards the old entries, values and secret are gone, and of the
 * peers those that nobody named. Nothing is written, not even this node's member record, before the format is known.
 * Errors: HKV_E_TICKET, HKV_E_NAMESPACE (the store has user keys; says what to do), HKV_E_UNSUPPORTED and HKV_E_INVALID
 * (the format), HKV_E_CLOSED. */
HKV_API enum hkv_err hkv_join(struct hkv_store *store, const char *ticket, enum hkv_format format);

/* ------------------------------------------------------------------------------------------ status */

enum hkv_condition {
    HKV_CONDITION_ENDPOINT_BOUND,
    HKV_CONDITION_DOCS_RUNNING,
    HKV_CONDITION_VALUES_ACCESSIBLE,
    HKV_CONDITION_NAMESPACE_OPEN,
    HKV_CONDITION_VALUES_COMPLETE,
    HKV_CONDITION_CLOCK_SANE,
    HKV_CONDITION_IDENTITY_UNIQUE,
    HKV_CONDITION_PEER_IN_SYNC,
    HKV_CONDITION_COUNT,
};

/* "endpoint_bound" and so on. */
HKV_API const char *hkv_condition_name(enum hkv_condition condition);

#define HKV_STATUS_ERROR_BYTES 512

struct hkv_status {
    bool healthy; /* all conditions hold */
    bool conditions[HKV_CONDITION_COUNT];
    uint64_t entries;      /* every stored entry */
    uint64_t visible_keys; /* without system records */
    uint64_t tombstones;   /* keys whose winner is a tombstone */
    uint64_t values_missing;
    uint64_t values_bad;
    uint64_t values_too_large;
    uint64_t entries_refused;                  /* for their stamp, remembered */
    uint64_t foreign_entries;                  /* keys of another shape */
    uint64_t disk_bytes;                       /* database, its log, and value files */
    uint64_t stamp_ahead_us;                   /* how far our newest stamp is ahead of the clock */
    char clock_why[HKV_CLOCK_WHY_BYTES];       /* what is wrong with the clock, in words; "" while clock_sane holds */
    char identity_why[HKV_IDENTITY_WHY_BYTES]; /* who else holds this node's identity; "" while identity_unique holds */
    char fingerprint[HKV_ID_TEXT_BYTES];       /* of the full range */
    bool single_node;                          /* no seed, member or synced peer is known */
    struct hkv_position position;              /* of the newest change */
    uint64_t wal_bytes;
    uint64_t wal_overruns; /* since the opening: how often the log grew beyond 64 MiB */
    uint64_t sessions_ok;
    uint64_t sessions_failed;
    /* Why values_accessible fails, in words: what the disk refused last, or the disk budget. "" while it holds. */
    char values_error[HKV_STATUS_ERROR_BYTES];
};

/* Cheap enough to ask every second. */
HKV_API enum hkv_err hkv_status(struct hkv_store *store, struct hkv_status *out);

/* Entries that this node refused because their stamp was more than ten minutes ahead of its clock, by author and by the
 * peer that sent them. They are kept, and stored when their time has come, also after a restart. At most 10,000 are,
 * and 1,000 of one peer, the first due first; the others come again in later sessions. */
struct hkv_refused_entries {
    char author[HKV_ID_TEXT_BYTES];
    char peer[HKV_ID_TEXT_BYTES];
    uint64_t entries;
    uint64_t ahead_us; /* of the one stamped last, before this machine's clock; 0: due */
    uint64_t due_us;   /* until the first can be stored; 0: now */
};

struct hkv_refused {
    struct hkv_refused_entries *items; /* most entries first, at most HKV_REFUSED_LIST_MAX */
    size_t count;
};

/* Released by hkv_refused_free(). Errors: HKV_E_CLOSED. */
HKV_API enum hkv_err hkv_refused(struct hkv_store *store, struct hkv_refused **out);
HKV_API void hkv_refused_free(struct hkv_refused *refused);

enum hkv_problem_kind {
    HKV_PROBLEM_BAD,       /* its bytes on this node's disk are damaged */
    HKV_PROBLEM_TOO_LARGE, /* longer than max_value_bytes: never fetched, the key shows its previous value */
    HKV_PROBLEM_MISSING,   /* it has not arrived */
};

/* A value that is not whole on this node, with one of the entries that point to it. */
struct hkv_problem {
    enum hkv_problem_kind kind;
    const char *key; /* NUL behind it; not is_user_key: a system record's name or a foreign key; "": not found */
    size_t key_bytes;
    bool is_user_key;
    uint8_t author[32];
    uint64_t length;   /* of the content */
    uint64_t since_us; /* wall clock when it was first not here */
    uint32_t attempts; /* to fetch it */
    const char *why;   /* in words */
};

struct hkv_problems {
    struct hkv_problem *items; /* bad ones first, then too large ones, at most HKV_PROBLEMS_MAX */
    size_t count;
};

/* What values_bad, values_too_large and values_missing count. It may be up to half a minute old. To find the key of a
 * value that no key waits for takes about a second for a million entries. Released by hkv_problems_free(). Errors:
 * HKV_E_CLOSED. */
#define HKV_PROBLEMS_MAX 100
HKV_API enum hkv_err hkv_problems(struct hkv_store *store, struct hkv_problems **out);
HKV_API void hkv_problems_free(struct hkv_problems *problems);

/* What a verification looks at. */
enum hkv_verify_kind {
    HKV_VERIFY_ENTRIES, /* each entry's shape and signatures */
    HKV_VERIFY_SPANS,   /* counts and fingerprints of runs of entries */
    HKV_VERIFY_INDEX,   /* what keys show, references, counters: all that follows from entries and values */
    HKV_VERIFY_VALUES,  /* each value's bytes against its hash */
    HKV_VERIFY_KIND_COUNT,
};

/* "entries", "spans", "index", "values". */
HKV_API const char *hkv_verify_kind_name(enum hkv_verify_kind kind);

struct hkv_verify_counts {
    uint64_t checked;
    uint64_t bad;
    uint64_t repaired; /* of the bad ones. Not among them are values: those are fetched again from peers afterwards */
};

#define HKV_VERIFY_SENTENCE_BYTES 512

struct hkv_verify_result {
    struct hkv_verify_counts kinds[HKV_VERIFY_KIND_COUNT];
    bool sound;      /* nothing bad was found */
    bool unreadable; /* a page of the database is damaged: what lies behind it was not looked at, nor can be mended */
    char first[HKV_VERIFY_SENTENCE_BYTES]; /* in words: the first damaged page, else the first thing that was found bad;
                                            * "" when sound */
    uint64_t took_ms;
};

/* NULL where one is taken means all zero. `progress` gets 0 to 1000 now and then, on a thread of the library (on the
 * caller's for hkv_verify_dir), and must not block. */
struct hkv_verify_options {
    void (*progress)(void *arg, unsigned permille);
    void *progress_arg;
};

/* Re-reads everything that is stored, at once and with every signature, where the store itself does so slowly in the
 * background. A bad value is put into quarantine (values_bad) and fetched again; a bad entry is removed, and peers that
 * have it send it again; what follows from entries and values is made anew. HKV_OK means that the check ran through,
 * whatever it found. About a minute and a half for a million entries. Errors: HKV_E_BUSY (a verification is under way),
 * HKV_E_CLOSED. */
HKV_API enum hkv_err hkv_verify(struct hkv_store *store, const struct hkv_verify_options *options,
                                struct hkv_verify_result *out);

/* As hkv_verify without waiting; `done` is called exactly once after HKV_OK. `result` is NULL on error. */
typedef void (*hkv_verify_fn)(void *arg, enum hkv_err err, const char *error, const struct hkv_verify_result *result);
HKV_API enum hkv_err hkv_verify_async(struct hkv_store *store, const struct hkv_verify_options *options,
                                      hkv_verify_fn done, void *arg);

/* Verifies the stopped store in `data_dir`: takes its lock, reads, and mends nothing. Errors: HKV_E_NOT_FOUND (no store
 * there), HKV_E_LOCKED (a process has it open), HKV_E_VERSION, HKV_E_PERMISSION. */
HKV_API enum hkv_err hkv_verify_dir(const char *data_dir, const struct hkv_verify_options *options,
                                    struct hkv_verify_result *out);

struct hkv_info {
    char namespace_id[HKV_ID_TEXT_BYTES];
    char author_id[HKV_ID_TEXT_BYTES];
    char endpoint_id[HKV_ID_TEXT_BYTES];
    char *endpoint_ticket; /* owned by the struct, as all pointers here */
    char *addrs;           /* comma separated */
    const char *format;    /* "native", or "unknown" after joining by ticket until the format record is seen */
    char *data_dir;        /* "" for a store in memory */
    bool read_only;
    uint16_t port_ipv4; /* 0: family off */
    uint16_t port_ipv6;
};

/* Who this node is and where. Released by hkv_info_fini(). */
HKV_API enum hkv_err hkv_info(struct hkv_store *store, struct hkv_info *out);
HKV_API void hkv_info_fini(struct hkv_info *info);

#ifdef __cplusplus
}
#endif

#endif
