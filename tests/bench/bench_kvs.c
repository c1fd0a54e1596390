/* What tests/bench/run measures of our side, one command a process, so that a peak of memory belongs to one measure.
 *
 *   bench_kvs raw FOLDER COUNT                       4 KiB appended to a file, then fdatasync
 *   bench_kvs fill FOLDER COUNT                      puts that survive the process only, from two threads; then closes
 *   bench_kvs shuffled FOLDER COUNT                  the same with the keys in random order
 *   bench_kvs puts FOLDER COUNT CALLERS              durable puts
 *   bench_kvs gets FOLDER COUNT KEYS                 random ones of the first KEYS keys that `fill` wrote
 *   bench_kvs rpc SOCKET COUNT KEYS                  the same through a daemon's socket, as newline JSON-RPC
 *   bench_kvs start FOLDER KEYS                      from hkv_open to the first value
 *   bench_kvs memory FOLDER COUNT KEYS               what the process takes after COUNT gets, without SQLite's memory
 *   bench_kvs peer FOLDER                            a peer that obeys lines on its standard input:
 *       put PREFIX COUNT               as `fill`
 *       sync PEER ENTRIES DEADLINE_S   a session with PEER, until ENTRIES more entries and all values are here; with 0
 *                                      until the two have found each other equal, that is, know each other's records
 *       forget ENDPOINT                no session with it begins by itself from now on, not even after a restart
 *       quiet                          waits until no connection is left
 *       report                         only the answer that every line gets
 *   bench_kvs watch FOLDER EVENTS WATCHERS           EVENTS to all watchers together, from the log and from memory
 *   bench_kvs watch_rpc SOCKET EVENTS                keys that `fill` wrote, listed by kv.watch of a daemon
 *   bench_kvs blake3 BYTES COUNT                     hashes of that many bytes
 *
 * Keys have 64 bytes, values 248. Stores use the namespace in HKV_BENCH_NAMESPACE. Each answer is a line of JSON on the
 * standard output. Bytes are UDP payload of this process, counted at the system calls: the program is linked with
 * --wrap for them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <hero_kvs.h>
#include <sqlite3.h>

#include "crypto/blake3.h"

#define KEY_BYTES    64
#define VALUE_BYTES  248
#define RAW_BYTES    4096
#define CALLERS_MAX  256
#define WATCHERS_MAX 1000
#define FILL_THREADS 2
#define FILL_AHEAD   2048 /* puts of one thread that wait for their outcome */
#define LINE_BYTES   8192
#define POLL_US      500
#define QUIET_MS     3600000 /* no session by itself during a measure */
#define LIVE_MAX     10000   /* changes that wait for paused watches, in memory */
#define QUIET_S      7       /* longer than any connection of ours is kept unused */

/* ------------------------------------------------------------------------------------------ small helpers */

static void fail(const char *what)
{
    fprintf(stderr, "bench_kvs: %s\n", what);
    exit(1);
}

static void check(enum hkv_err err)
{
    if (err != HKV_OK) fail(hkv_last_error());
}

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void nap(void)
{
    struct timespec t = {.tv_nsec = POLL_US * 1000};
    (void)nanosleep(&t, NULL);
}

static size_t number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *text == '\0' || *end != '\0') fail("a count is no number");
    return (size_t)value;
}

/* A field of /proc/self/status, in kB. */
static long memory_kb(const char *field)
{
    char line[256];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    if (f == NULL) fail("/proc/self/status cannot be read");
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, field, strlen(field)) == 0) kb = strtol(line + strlen(field) + 1, NULL, 10);
    (void)fclose(f);
    return kb;
}

static void make_key(char out[KEY_BYTES + 1], const char *prefix, size_t i)
{
    int n = snprintf(out, KEY_BYTES + 1, "%s%08zu", prefix, i);
    if (n < 0 || n > KEY_BYTES) fail("a prefix is too long");
    memset(out + n, 'k', (size_t)(KEY_BYTES - n));
    out[KEY_BYTES] = '\0';
}

static void make_value(char out[VALUE_BYTES + 1], const char *key)
{
    memset(out, 'v', VALUE_BYTES);
    memcpy(out, key, KEY_BYTES);
    out[VALUE_BYTES] = '\0';
}

/* xorshift: the order of keys must be the same in every run. */
static size_t random_below(uint64_t *state, size_t limit)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (size_t)(*state % limit);
}

/* ------------------------------------------------------------------------------------------ bytes of UDP */

static atomic_uint_fast64_t udp_sent, udp_received;

ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
int __real_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int __real_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout);
int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout);

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    ssize_t n = __real_sendmsg(fd, msg, flags);
    if (n > 0) atomic_fetch_add(&udp_sent, (uint64_t)n);
    return n;
}

int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    int n = __real_sendmmsg(fd, messages, count, flags);
    for (int i = 0; i < n; i++) atomic_fetch_add(&udp_sent, messages[i].msg_len);
    return n;
}

int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    int n = __real_recvmmsg(fd, messages, count, flags, timeout);
    for (int i = 0; i < n; i++) atomic_fetch_add(&udp_received, messages[i].msg_len);
    return n;
}

/* ------------------------------------------------------------------------------------------ stores */

static void log_line(void *arg, enum hkv_log_level level, const char *module, const char *message)
{
    (void)arg;
    if (level == HKV_LOG_ERROR || getenv("HKV_BENCH_LOG") != NULL) fprintf(stderr, "%s: %s\n", module, message);
}

static struct hkv_store *store_open(const char *folder, enum hkv_durability durability)
{
    struct hkv_options options;
    struct hkv_store *store;
    hkv_options_init(&options);
    options.data_dir = folder;
    options.namespace_secret = getenv("HKV_BENCH_NAMESPACE");
    options.bind_ipv4 = "127.0.0.1";
    options.bind_ipv6 = "";
    options.anti_entropy_ms = QUIET_MS;
    options.durability = durability;
    options.log = log_line;
    check(hkv_open(&options, &store));
    return store;
}

static struct hkv_status status_of(struct hkv_store *store)
{
    struct hkv_status status;
    check(hkv_status(store, &status));
    return status;
}

/* ------------------------------------------------------------------------------------------ raw */

static void raw(const char *folder, size_t count)
{
    static const char block[RAW_BYTES];
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/raw", folder);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) fail("the file for raw syncs cannot be created");
    double began = now_s();
    for (size_t i = 0; i < count; i++)
        if (pwrite(fd, block, RAW_BYTES, (off_t)(i * RAW_BYTES)) != RAW_BYTES || fdatasync(fd) != 0)
            fail("a raw write failed");
    printf("{\"per_second\": %.1f}\n", (double)count / (now_s() - began));
    (void)close(fd);
    (void)unlink(path);
}

/* ------------------------------------------------------------------------------------------ puts */

struct writer {
    pthread_t thread;
    struct hkv_store *store;
    const char *prefix;
    const size_t *order; /* of the keys' numbers; NULL: rising */
    size_t first, end, step;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    size_t waiting;
};

static void filled(void *arg, enum hkv_err err, const char *error, const struct hkv_write_result *result)
{
    struct writer *w = arg;
    (void)result;
    if (err != HKV_OK) fail(error);
    (void)pthread_mutex_lock(&w->lock);
    if (--w->waiting == FILL_AHEAD / 2 || w->waiting == 0) (void)pthread_cond_signal(&w->ended);
    (void)pthread_mutex_unlock(&w->lock);
}

static void wait_below(struct writer *w, size_t limit)
{
    (void)pthread_mutex_lock(&w->lock);
    while (w->waiting > limit) (void)pthread_cond_wait(&w->ended, &w->lock);
    (void)pthread_mutex_unlock(&w->lock);
}

static void *fill_thread(void *arg)
{
    struct writer *w = arg;
    char key[KEY_BYTES + 1], value[VALUE_BYTES + 1];
    for (size_t i = w->first; i < w->end; i += w->step) {
        (void)pthread_mutex_lock(&w->lock);
        bool full = ++w->waiting > FILL_AHEAD;
        (void)pthread_mutex_unlock(&w->lock);
        if (full) wait_below(w, FILL_AHEAD / 2);
        make_key(key, w->prefix, w->order ? w->order[i] : i);
        make_value(value, key);
        check(hkv_put_async(w->store, key, KEY_BYTES, value, VALUE_BYTES, NULL, filled, w));
    }
    wait_below(w, 0);
    return NULL;
}

static void *put_thread(void *arg)
{
    struct writer *w = arg;
    char key[KEY_BYTES + 1], value[VALUE_BYTES + 1];
    for (size_t i = w->first; i < w->end; i += w->step) {
        make_key(key, w->prefix, i);
        make_value(value, key);
        check(hkv_put(w->store, key, KEY_BYTES, value, VALUE_BYTES, NULL, NULL));
    }
    return NULL;
}

/* `count` keys from so many threads; returns the seconds. */
static double write_in_order(struct hkv_store *store, const char *prefix, const size_t *order, size_t count,
                             size_t threads, void *(*run)(void *arg))
{
    struct writer writers[CALLERS_MAX];
    if (threads == 0 || threads > CALLERS_MAX) fail("too many callers");
    double began = now_s();
    for (size_t i = 0; i < threads; i++) {
        writers[i] = (struct writer){
            .store = store, .prefix = prefix, .order = order, .first = i, .end = count, .step = threads};
        (void)pthread_mutex_init(&writers[i].lock, NULL);
        (void)pthread_cond_init(&writers[i].ended, NULL);
        if (pthread_create(&writers[i].thread, NULL, run, &writers[i]) != 0) fail("no thread can be started");
    }
    for (size_t i = 0; i < threads; i++) {
        (void)pthread_join(writers[i].thread, NULL);
        (void)pthread_cond_destroy(&writers[i].ended);
        (void)pthread_mutex_destroy(&writers[i].lock);
    }
    return now_s() - began;
}

static double write_all(struct hkv_store *store, const char *prefix, size_t count, size_t threads,
                        void *(*run)(void *arg))
{
    return write_in_order(store, prefix, NULL, count, threads, run);
}

static void shuffled(const char *folder, size_t count)
{
    uint64_t state = 1;
    size_t *order = malloc((count + 1) * sizeof *order);
    if (order == NULL) fail("no memory");
    for (size_t i = 0; i < count; i++) order[i] = i;
    for (size_t i = count; i > 1; i--) {
        size_t j = random_below(&state, i), other = order[i - 1];
        order[i - 1] = order[j];
        order[j] = other;
    }
    struct hkv_store *store = store_open(folder, HKV_DURABILITY_PROCESS);
    double seconds = write_in_order(store, "fill/", order, count, FILL_THREADS, fill_thread);
    hkv_close(store);
    free(order);
    printf("{\"per_second\": %.1f}\n", (double)count / seconds);
}

static void fill(const char *folder, size_t count)
{
    struct hkv_store *store = store_open(folder, HKV_DURABILITY_PROCESS);
    double seconds = write_all(store, "fill/", count, FILL_THREADS, fill_thread);
    hkv_close(store);
    printf("{\"per_second\": %.1f}\n", (double)count / seconds);
}

static void puts_durable(const char *folder, size_t count, size_t callers)
{
    struct hkv_store *store = store_open(folder, HKV_DURABILITY_POWER);
    double seconds = write_all(store, "put/", count, callers, put_thread);
    hkv_close(store);
    printf("{\"per_second\": %.1f}\n", (double)count / seconds);
}

/* ------------------------------------------------------------------------------------------ gets */

static void get_one(struct hkv_store *store, size_t i)
{
    char key[KEY_BYTES + 1];
    struct hkv_value value;
    make_key(key, "fill/", i);
    check(hkv_get(store, key, KEY_BYTES, &value));
    if (value.length != VALUE_BYTES || memcmp(value.data, key, KEY_BYTES) != 0) fail("a key shows another value");
    hkv_value_free(&value);
}

static void gets(const char *folder, size_t count, size_t keys)
{
    struct hkv_store *store = store_open(folder, HKV_DURABILITY_POWER);
    uint64_t state = 1;
    double began = now_s();
    for (size_t i = 0; i < count; i++) get_one(store, random_below(&state, keys));
    double seconds = now_s() - began;
    hkv_close(store);
    printf("{\"per_second\": %.1f}\n", (double)count / seconds);
}

static int connect_daemon(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof name.sun_path) fail("the socket's path is too long");
    memcpy(name.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof name) != 0) fail("the daemon cannot be reached");
    return fd;
}

static void rpc(const char *path, size_t count, size_t keys)
{
    char key[KEY_BYTES + 1], line[LINE_BYTES];
    uint64_t state = 1;
    int fd = connect_daemon(path);
    double began = now_s();
    for (size_t i = 0; i < count; i++) {
        make_key(key, "fill/", random_below(&state, keys));
        int n =
            snprintf(line, sizeof line,
                     "{\"jsonrpc\":\"2.0\",\"id\":%zu,\"method\":\"kv.get\",\"params\":{\"key\":\"%s\"}}\n", i, key);
        if (write(fd, line, (size_t)n) != n) fail("the daemon takes no request");
        size_t used = 0;
        do {
            ssize_t got = read(fd, line + used, sizeof line - 1 - used);
            if (got <= 0) fail("the daemon closed the connection");
            used += (size_t)got;
        } while (line[used - 1] != '\n');
        line[used] = '\0';
        if (strstr(line, "\"value\":") == NULL) fail(line);
    }
    printf("{\"per_second\": %.1f}\n", (double)count / (now_s() - began));
    (void)close(fd);
}

static void start(const char *folder, size_t keys)
{
    double began = now_s();
    struct hkv_store *store = store_open(folder, HKV_DURABILITY_POWER);
    double open_s = now_s() - began;
    get_one(store, keys / 2);
    double get_s = now_s() - began;
    uint64_t entries = status_of(store).entries;
    hkv_close(store);
    printf("{\"open_s\": %.4f, \"first_get_s\": %.4f, \"entries\": %" PRIu64 "}\n", open_s, get_s, entries);
}

/* What SQLite holds is page cache, which has its own budget, and some statements. With no keys: of an idle process. */
static void memory(const char *folder, size_t count, size_t keys)
{
    struct hkv_store *store = store_open(folder, HKV_DURABILITY_POWER);
    uint64_t state = 1;
    for (size_t i = 0; i < count && keys > 0; i++) get_one(store, random_below(&state, keys));
    long rss_kb = memory_kb("VmRSS");
    long sqlite_kb = (long)(sqlite3_memory_used() / 1024);
    hkv_close(store);
    printf("{\"rss_kb\": %ld, \"sqlite_kb\": %ld}\n", rss_kb, sqlite_kb);
}

/* ------------------------------------------------------------------------------------------ two processes */

/* What a line of `peer` measured. */
struct sync_times {
    double entries_s, values_s;
    uint64_t udp_bytes;
};

static uint64_t udp_bytes(void)
{
    return atomic_load(&udp_sent) + atomic_load(&udp_received);
}

static void report(struct hkv_store *store, const struct sync_times *times)
{
    struct hkv_info info;
    check(hkv_info(store, &info));
    printf("{\"peer\": \"%s@127.0.0.1:%u\", \"endpoint\": \"%s\", \"peak_kb\": %ld, \"entries_s\": %.4f, "
           "\"values_s\": %.4f, \"udp_bytes\": %" PRIu64 "}\n",
           info.endpoint_id, info.port_ipv4, info.endpoint_id, memory_kb("VmHWM"), times->entries_s, times->values_s,
           times->udp_bytes);
    (void)fflush(stdout);
    hkv_info_fini(&info);
}

static bool is_equal_to(struct hkv_store *store, const char *peer)
{
    struct hkv_peers *peers;
    bool equal = false;
    check(hkv_peers(store, &peers));
    for (size_t i = 0; i < peers->count; i++)
        if (strncmp(peers->peers[i].endpoint_id, peer, HKV_ID_TEXT_BYTES - 1) == 0)
            equal = peers->peers[i].last_confirmed;
    hkv_peers_free(peers);
    return equal;
}

static void sync_with(struct hkv_store *store, const char *peer, size_t entries, size_t deadline_s,
                      struct sync_times *out)
{
    uint64_t wanted = status_of(store).entries + entries, bytes = udp_bytes();
    double began = now_s();
    *out = (struct sync_times){0};
    check(hkv_start_sync_with(store, peer));
    for (;;) {
        struct hkv_status status = status_of(store);
        out->values_s = now_s() - began;
        bool arrived = entries > 0 ? status.entries >= wanted : is_equal_to(store, peer);
        if (out->entries_s <= 0 && arrived) out->entries_s = out->values_s;
        if (out->entries_s > 0 && status.values_missing == 0) break;
        if (out->values_s > (double)deadline_s) fail("not within the deadline");
        nap();
    }
    out->udp_bytes = udp_bytes() - bytes;
}

static void forget(struct hkv_store *store, const char *peer)
{
    enum hkv_err err = hkv_peer_remove(store, peer);
    if (err != HKV_E_NOT_FOUND) check(err); /* forgotten already */
}

/* Connections are closed some seconds after their last use. */
static void wait_quiet(void)
{
    uint64_t before;
    do {
        before = udp_bytes();
        struct timespec t = {.tv_sec = QUIET_S};
        (void)nanosleep(&t, NULL);
    } while (udp_bytes() != before);
}

static void peer(const char *folder)
{
    char line[LINE_BYTES], argument[LINE_BYTES];
    size_t count, deadline_s;
    struct sync_times times = {0};
    struct hkv_store *store = store_open(folder, HKV_DURABILITY_POWER);
    report(store, &times);
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "put %8191s %zu", argument, &count) == 2)
            (void)write_all(store, argument, count, FILL_THREADS, fill_thread);
        else if (sscanf(line, "sync %8191s %zu %zu", argument, &count, &deadline_s) == 3)
            sync_with(store, argument, count, deadline_s, &times);
        else if (sscanf(line, "forget %8191s", argument) == 1)
            forget(store, argument);
        else if (strcmp(line, "quiet\n") == 0)
            wait_quiet();
        else if (strcmp(line, "report\n") != 0)
            fail("an unknown line on standard input");
        report(store, &times);
    }
    hkv_close(store);
}

/* ------------------------------------------------------------------------------------------ watches */

/* What all watchers together have still to be told; counted on the store's one callback thread. */
struct audience {
    struct hkv_watch *watches[WATCHERS_MAX];
    size_t count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t events_left;
    size_t begun; /* watches that have said from where */
};

static void count_event(void *arg, const struct hkv_event *event)
{
    struct audience *a = arg;
    (void)pthread_mutex_lock(&a->lock);
    if (event->type == HKV_EVENT_OVERRUN) fail("the change log is shorter than the measure");
    if (event->type == HKV_EVENT_PROGRESS) a->begun++;
    if (event->key != NULL) a->events_left--;
    if (a->events_left == 0 || a->begun == a->count) (void)pthread_cond_signal(&a->changed);
    (void)pthread_mutex_unlock(&a->lock);
}

static void open_watches(struct hkv_store *store, struct audience *a, const struct hkv_position *from)
{
    for (size_t i = 0; i < a->count; i++)
        check(hkv_watch_with(store, &(struct hkv_watch_options){.from = from}, count_event, a, &a->watches[i]));
}

/* Until every event is told and every watch has begun. */
static void wait_told(struct audience *a)
{
    (void)pthread_mutex_lock(&a->lock);
    while (a->events_left > 0 || a->begun < a->count) (void)pthread_cond_wait(&a->changed, &a->lock);
    (void)pthread_mutex_unlock(&a->lock);
}

static void close_watches(struct audience *a)
{
    for (size_t i = 0; i < a->count; i++) hkv_watch_close(a->watches[i]);
    a->begun = 0;
}

static double replay(struct hkv_store *store, struct audience *a, size_t events)
{
    struct hkv_position from = status_of(store).position;
    if (from.number < events) fail("fill the store first");
    from.number -= events;
    a->events_left = events * a->count;
    double began = now_s();
    open_watches(store, a, &from);
    wait_told(a);
    double seconds = now_s() - began;
    close_watches(a);
    return seconds;
}

/* The watches are paused while the changes are written: what is measured is how fast they are told, not written. */
static double live(struct hkv_store *store, struct audience *a, size_t events, size_t rounds)
{
    double seconds = 0;
    open_watches(store, a, NULL);
    wait_told(a);
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < a->count; i++) hkv_watch_pause(a->watches[i]);
        a->events_left = events * a->count;
        (void)write_all(store, "live/", events, FILL_THREADS, fill_thread);
        double began = now_s();
        for (size_t i = 0; i < a->count; i++) hkv_watch_resume(a->watches[i]);
        wait_told(a);
        seconds += now_s() - began;
    }
    close_watches(a);
    return seconds;
}

static void watch(const char *folder, size_t events, size_t watchers)
{
    static struct audience a;
    if (watchers == 0 || watchers > WATCHERS_MAX || events < watchers) fail("too few or too many watchers");
    struct hkv_store *store = store_open(folder, HKV_DURABILITY_PROCESS);
    size_t each = events / watchers, some = each < LIVE_MAX ? each : LIVE_MAX;
    (void)pthread_mutex_init(&a.lock, NULL);
    (void)pthread_cond_init(&a.changed, NULL);
    a.count = watchers;
    double replayed_s = replay(store, &a, each);
    double live_s = live(store, &a, some, each / some);
    hkv_close(store);
    printf("{\"replay_per_second\": %.1f, \"live_per_second\": %.1f}\n", (double)(each * watchers) / replayed_s,
           (double)(each / some * some * watchers) / live_s);
}

static void watch_rpc(const char *path, size_t events)
{
    static const char request[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"kv.watch\",\"params\":{\"prefix\":"
                                  "\"fill/\",\"list\":true}}\n";
    static char bytes[1 << 16];
    int fd = connect_daemon(path);
    double began = now_s();
    if (write(fd, request, strlen(request)) != (ssize_t)strlen(request)) fail("the daemon takes no request");
    for (size_t lines = 0; lines < events + 1;) { /* the reply is a line too */
        ssize_t got = read(fd, bytes, sizeof bytes);
        if (got <= 0) fail("the daemon closed the connection");
        for (const char *at = bytes; (at = memchr(at, '\n', (size_t)(bytes + got - at))) != NULL; at++) lines++;
    }
    printf("{\"per_second\": %.1f}\n", (double)events / (now_s() - began));
    (void)close(fd);
}

/* ------------------------------------------------------------------------------------------ hashing */

static void blake3(size_t bytes, size_t count)
{
    struct hash hash;
    uint8_t *data = malloc(bytes);
    if (data == NULL) fail("no memory");
    memset(data, 'b', bytes);
    double began = now_s();
    for (size_t i = 0; i < count; i++) {
        blake3_hash(slice_of(data, bytes), &hash);
        data[0] ^= hash.bytes[0];
    }
    printf("{\"mb_per_second\": %.1f}\n", (double)(bytes * count) / (now_s() - began) / 1e6);
    free(data);
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "raw") == 0 && argc == 4)
        raw(argv[2], number(argv[3]));
    else if (strcmp(command, "fill") == 0 && argc == 4)
        fill(argv[2], number(argv[3]));
    else if (strcmp(command, "shuffled") == 0 && argc == 4)
        shuffled(argv[2], number(argv[3]));
    else if (strcmp(command, "memory") == 0 && argc == 5)
        memory(argv[2], number(argv[3]), number(argv[4]));
    else if (strcmp(command, "puts") == 0 && argc == 5)
        puts_durable(argv[2], number(argv[3]), number(argv[4]));
    else if (strcmp(command, "gets") == 0 && argc == 5)
        gets(argv[2], number(argv[3]), number(argv[4]));
    else if (strcmp(command, "rpc") == 0 && argc == 5)
        rpc(argv[2], number(argv[3]), number(argv[4]));
    else if (strcmp(command, "start") == 0 && argc == 4)
        start(argv[2], number(argv[3]));
    else if (strcmp(command, "peer") == 0 && argc == 3)
        peer(argv[2]);
    else if (strcmp(command, "watch") == 0 && argc == 5)
        watch(argv[2], number(argv[3]), number(argv[4]));
    else if (strcmp(command, "watch_rpc") == 0 && argc == 4)
        watch_rpc(argv[2], number(argv[3]));
    else if (strcmp(command, "blake3") == 0 && argc == 4)
        blake3(number(argv[2]), number(argv[3]));
    else
        fail("unknown command, or another number of arguments; the head of bench_kvs.c lists them");
    return 0;
}
