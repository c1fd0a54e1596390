/* One open store: the struct behind the public handle, and what its parts share.
 *
 *   api_*.c     public functions: check arguments, hand work over, wait
 *   open.c      brings the parts up and down in order            options.c  whether options make sense
 *   world_real.c, runtime.c   threads, clocks, timers, endpoint (another world in tests: world.h)
 *   commit.c    replica thread: group commit
 *   sync*.c     network thread: sessions with peers              watch.c     events for the application
 *   peers.c     who they are and where                           join.c      another namespace, by ticket
 *   serve.c     network thread and workers: contents for peers   fetch.c     contents from peers
 *   records.c   format and member records                        identity.c  data directory, secrets
 *   clock.c     our clock and those of peers                      holders.c   who else has this node's identity
 *   housekeeping.c  what happens as time passes                  check.c     re-reads what is stored
 *
 * Lock order: none of the locks below is held while another is taken, except `join_lock`, which comes first. */
#ifndef HKV_NODE_NODE_H
#define HKV_NODE_NODE_H

#include <hero_kvs.h>
#include <pthread.h>
#include <stdatomic.h>

#include "node/clock.h"
#include "node/commit.h"
#include "node/holders.h"
#include "node/identity.h"
#include "node/peers.h"
#include "node/watch.h"
#include "node/world.h"
#include "wire/transport.h"

#define META_JOINED         "joined"         /* present: the namespace came by ticket */
#define META_FORMAT_WRITTEN "format_written" /* present: this store wrote the format record */

struct checker;
struct housekeeping;
struct local_change;
struct peer_name;
struct problems;
struct records;
struct sync_driver;
struct fetcher;
struct server;

/* How long peers may take: the constants of serve.h, fetch.h and sync.h. Tests shorten them before anything is under
 * way.
 */
struct node_patience {
    uint64_t serve_stall_us;
    uint64_t fetch_progress_us;
    uint64_t fetch_slow_bytes;
    uint64_t fetch_stop_us;
    uint64_t sync_first_byte_us;
    uint64_t sync_progress_us;
    size_t sync_trickle_bytes;
    uint64_t sync_linger_us;
    uint64_t records_check_us;
};

/* How this store may write. Replaced as a whole by join(); readers copy it under `identity_lock`. */
struct node_identity {
    struct kv_signer signer; /* secrets zero on a read-only store */
    bool can_write;          /* holds the namespace secret */
    bool format_known;       /* native: told, created here, or seen in the format record */
};

struct hkv_store {
    struct node_world *world;
    struct data_dir dir;
    struct kv *kv;
    struct committer committer;
    struct watch_hub watches;

    /* fixed after open */
    struct secret_key node_secret;
    struct endpoint_id endpoint_id;
    char name[PEER_NAME_MAX];
    uint8_t incarnation[INCARNATION_BYTES];
    uint64_t anti_entropy_us;
    uint64_t max_value_bytes;
    struct node_patience patience;
    bool allow_bad_clock;
    struct endpoint_id *trusted;
    size_t trusted_count;
    hkv_log_fn log;
    void *log_arg;
    struct hkv_store *log_next; /* list of stores with a log, node.c */

    struct clock_bounds clock;
    struct problems *problems;
    struct holders holders;

    pthread_mutex_t join_lock; /* held over a whole hkv_join(): key files and database must be of one namespace */
    pthread_mutex_t identity_lock;
    struct node_identity identity;

    /* network thread */
    struct transport *transport; /* NULL while the endpoint is not open */
    struct peers peers;
    struct sync_driver *sync;
    struct fetcher *fetcher;
    struct server *server;
    struct records *records;
    struct housekeeping *housekeeping;
    struct checker *checker;
    struct local_change *local_change; /* job that tells the driver of local writes */
    atomic_bool local_change_queued;

    /* open.c: how far the start came */
    bool parts_up;
    bool running;        /* the world was started */
    bool format_written; /* the format record is written, or not ours to write */

    /* calls under way; close waits until they have left */
    pthread_mutex_t calls_lock;
    size_t calls;
    bool closing;
    struct node_signal calls_ended; /* once closing */
};

/* Logs through the application's sink, if there is one. Any thread. */
void node_log(struct hkv_store *store, enum hkv_log_level level, const char *module, const char *format, ...)
    HKV_PRINTF(4, 5);

/* From here on the store's log also gets what the modules below report (base/log.h). They do not know which store they
 * work for, so with several open ones each gets it. End it before the store is freed. Any thread. */
void node_log_begin(struct hkv_store *store);
void node_log_end(struct hkv_store *store);

static inline struct env *node_env(struct hkv_store *store)
{
    return store->world->env;
}

/* A copy of the identity as it is now; wipe it with node_identity_wipe(). Any thread. */
void node_identity_get(struct hkv_store *store, struct node_identity *out);
void node_identity_wipe(struct node_identity *identity);

/* A local write was committed: tells the sync driver within some milliseconds, once for all until then. Any thread. */
void node_local_change(struct hkv_store *store);

/* Makes a named peer a seed; our own name is passed over. Start-up or network thread. Errors: HKV_E_LIMIT, HKV_E_NOMEM.
 */
HKV_CHECK enum hkv_err node_add_seed(struct hkv_store *store, const struct peer_name *name);

/* Whether stored data can be read and written, as far as is known; false: `why` has the sentence. Caller's thread. */
bool node_values_accessible(struct hkv_store *store, char *why, size_t why_bytes);

/* Adds the addresses under which this node may be reached. Not from the network thread. Errors: HKV_E_NETWORK,
 * HKV_E_NOMEM. */
HKV_CHECK enum hkv_err node_addresses(struct hkv_store *store, struct address_set *out);

/* Addresses as text, comma separated; NULL: no memory. The caller frees it. */
char *node_addresses_text(const struct address_set *addrs);

/* Leaves a public function when an argument that must be given is NULL. */
#define NEED_ARGUMENT(argument)                                                                                        \
    do {                                                                                                               \
        if ((argument) == NULL) return error_set(HKV_E_INVALID, "the argument " #argument " is NULL; give one");       \
    } while (0)

/* Whether bytes and length of an argument go together; only no bytes may be NULL. Errors: HKV_E_INVALID. */
HKV_CHECK enum hkv_err node_bytes_check(const char *argument, const void *data, size_t len);

/* Begins and ends a public call. begin: HKV_E_CLOSED once the store is closing, HKV_E_INVALID for NULL. */
HKV_CHECK enum hkv_err node_call_begin(struct hkv_store *store);
void node_call_end(struct hkv_store *store);

/* Runs `run(arg)` on the network thread and waits for it. Not from the network or replica thread. */
void node_on_network(struct hkv_store *store, void (*run)(struct hkv_store *store, void *arg), void *arg);

/* Runs `apply` in a transaction on the replica thread and waits until it is committed. Same rule. */
HKV_CHECK enum hkv_err node_on_replica(struct hkv_store *store,
                                       enum hkv_err (*apply)(struct hkv_store *store, void *arg), void *arg);

/* Stores a system record (formats.md 4) as a local write and waits for the commit; that it is, is noted in the
 * same transaction. `stamp_us`: to be used if it wins; 0: that of now. Not from the library's threads. */
HKV_CHECK enum hkv_err node_write_record(struct hkv_store *store, const char *name, struct slice content,
                                         uint64_t stamp_us);

/* The same without waiting: after HKV_OK `done` is called once, on the replica thread. Worker. */
typedef void (*node_record_fn)(void *arg, enum hkv_err err);
HKV_CHECK enum hkv_err node_write_record_async(struct hkv_store *store, const char *name, struct slice content,
                                               node_record_fn done, void *arg);

/* Checks a prefix of user keys. Errors: HKV_E_KEY. */
HKV_CHECK enum hkv_err node_prefix_check(struct slice prefix);

#endif
