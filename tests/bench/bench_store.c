/* The store alone, in one process: durable puts against raw syncs, groups, sorted bulk load, gets, start. Prints
 * ratios; absolute numbers belong to the machine and the minute.
 *
 *   bench_store [folder] [entries for the start]      64-byte keys, 248-byte values */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crypto/blake3.h"
#include "crypto/ed25519.h"
#include "kv/kv.h"

#define KEY_BYTES   64
#define VALUE_BYTES 248
#define LOAD_COUNT  100000
#define TURNS       50
#define TURN_COUNT  40

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t env_wall(struct env *env)
{
    (void)env;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void env_fill(struct env *env, void *out, size_t len)
{
    (void)env;
    if (getentropy(out, len) != 0) abort();
}

static const struct env_ops ops = {.wall_us = env_wall, .mono_us = env_wall, .random = env_fill};
static struct env env = {&ops};
static struct kv_signer signer;

static void check(enum hkv_err err)
{
    if (err == HKV_OK) return;
    fprintf(stderr, "%s: %s\n", error_name(err), error_last());
    exit(1);
}

static struct kv *open_store(const char *dir)
{
    struct kv_config config = {
        .data_dir = dir,
        .namespace = signer.namespace,
        .author = signer.author,
        .cache_bytes = 64 << 20,
        .max_value_bytes = 64 << 20,
        .sync_every_commit = true,
        .env = &env,
    };
    struct kv *kv;
    bool created;
    struct namespace_id other;
    check(kv_open(&config, &kv, &created, &other));
    return kv;
}

static void make_key(uint64_t n, uint8_t key[KEY_BYTES + 1])
{
    snprintf((char *)key, KEY_BYTES + 1, "bench/%020llu/%037d", (unsigned long long)n, 0);
}

static void make_value(uint64_t n, uint8_t value[VALUE_BYTES])
{
    for (size_t i = 0; i < VALUE_BYTES; i++) value[i] = (uint8_t)(n * 2654435761u >> (i % 24));
    memcpy(value, &n, sizeof n);
    value[0] |= 1;
}

static void write_one(struct kv *kv, uint64_t n)
{
    uint8_t key[KEY_BYTES + 1], value[VALUE_BYTES];
    struct kv_write w = {0};
    make_key(n, key);
    make_value(n, value);
    w.content = slice_of(value, sizeof value);
    w.entry = (struct entry){.namespace = signer.namespace, .author = signer.author, .key = slice_of(key, sizeof key)};
    w.entry.record.length_bytes = sizeof value;
    blake3_hash(w.content, &w.entry.record.hash);
    check(kv_propose_stamp(kv, w.entry.key, &w.entry.record.stamp_us));
    check(entry_sign(&w.entry, &signer.namespace_secret, &signer.author_secret));
    check(kv_savepoint(kv));
    check(kv_write(kv, &w, &signer));
    check(kv_savepoint_release(kv));
}

/* Seconds for `count` syncs of 4 KiB appended at `*offset`. */
static double raw_syncs(int fd, off_t *offset, int count)
{
    static uint8_t page[4096];
    double start = now_s();
    for (int i = 0; i < count; i++, *offset += 4096)
        if (pwrite(fd, page, sizeof page, *offset) != 4096 || fdatasync(fd) != 0) exit(1);
    return now_s() - start;
}

static double puts_in_groups(struct kv *kv, uint64_t from, int groups, int group)
{
    double start = now_s();
    for (int i = 0; i < groups; i++) {
        check(kv_begin(kv));
        for (int j = 0; j < group; j++) write_one(kv, from++);
        check(kv_commit(kv));
        (void)kv_maintain(kv);
    }
    return groups * group / (now_s() - start);
}

/* Entries from a peer in key order, values arriving with them, in transactions of `group`. */
static double load(struct kv *kv, uint64_t from, uint64_t count, uint64_t group, bool with_entries, bool with_values)
{
    struct docs_replica *r = kv_docs(kv);
    struct docs_origin origin = {.peer = {{1}}, .provides_content = true};
    uint64_t base_us = env_wall(&env) - 1000000000;
    double start = now_s();
    for (uint64_t n = from; n < from + count;) {
        check(kv_begin(kv));
        for (uint64_t i = 0; i < group && n < from + count; i++, n++) {
            uint8_t key[KEY_BYTES + 1], value[VALUE_BYTES];
            struct entry e = {.namespace = signer.namespace, .key = slice_of(key, sizeof key)};
            enum docs_insert result;
            make_key(n, key);
            make_value(n, value);
            memset(e.author.bytes, 0x55, ID_BYTES);
            e.record = (struct record){.length_bytes = sizeof value, .stamp_us = base_us + n};
            blake3_hash(slice_of(value, sizeof value), &e.record.hash);
            if (with_entries) check(r->ops->insert(r, &e, &origin, &result, NULL, NULL));
            if (with_values) check(kv_value_arrived(kv, &e.record.hash, slice_of(value, sizeof value), NULL));
        }
        check(kv_commit(kv));
        (void)kv_maintain(kv);
    }
    return (double)count / (now_s() - start);
}

static double gets(struct kv *kv, uint64_t keys, int count)
{
    uint64_t x = 88172645463325252u;
    double start = now_s();
    for (int i = 0; i < count; i++) {
        uint8_t key[KEY_BYTES + 1];
        struct kv_item item;
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        make_key(x % keys, key);
        check(kv_get(kv, slice_of(key, sizeof key), KV_WANT_VALUE, &item));
        if (item.value.len != VALUE_BYTES) exit(1);
        kv_item_fini(&item);
    }
    return count / (now_s() - start);
}

static double seconds_to_first_get(const char *dir, struct kv **kv)
{
    uint8_t key[KEY_BYTES + 1];
    struct kv_item item;
    double start = now_s();
    *kv = open_store(dir);
    make_key(7, key);
    check(kv_get(*kv, slice_of(key, sizeof key), KV_WANT_VALUE, &item));
    kv_item_fini(&item);
    return now_s() - start;
}

int main(int argc, char **argv)
{
    char dir[256];
    struct kv_counts counts;
    uint64_t many = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    check(crypto_init());
    snprintf(dir, sizeof dir, "%s/hkv-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if (!mkdtemp(dir)) return 1;
    memset(signer.namespace_secret.bytes, 1, ID_BYTES);
    memset(signer.author_secret.bytes, 2, ID_BYTES);
    ed25519_public_key(&signer.namespace_secret, signer.namespace.bytes);
    ed25519_public_key(&signer.author_secret, signer.author.bytes);
    struct kv *kv = open_store(dir);

    /* In turns, so that both see the same disk. */
    char path[300];
    snprintf(path, sizeof path, "%s/raw", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    double raw_s = 0, single_s = 0;
    off_t offset = 0;
    for (int i = 0; i < TURNS; i++) {
        raw_s += raw_syncs(fd, &offset, TURN_COUNT);
        single_s += TURN_COUNT / puts_in_groups(kv, 10000000 + (uint64_t)i * TURN_COUNT, TURN_COUNT, 1);
    }
    close(fd);
    unlink(path);
    double raw = TURNS * TURN_COUNT / raw_s;
    double single = TURNS * TURN_COUNT / single_s;
    printf("raw 4 KiB append + fdatasync   %10.0f /s\n", raw);
    printf("durable puts one by one        %10.0f /s   %.2f of raw\n", single, single / raw);
    double groups = puts_in_groups(kv, 20000000, 300, 32);
    printf("durable puts in groups of 32   %10.0f /s   %.2f of raw\n", groups, groups / raw);
    printf("sorted entries, then values    %10.0f /s", load(kv, 0, LOAD_COUNT, 512, true, false));
    printf("  %10.0f /s (groups of 512)\n", load(kv, 0, LOAD_COUNT, 512, false, true));
    printf("gets, %d keys              %10.0f /s\n", LOAD_COUNT, gets(kv, LOAD_COUNT, 300000));
    printf("sorted entries with values     %10.0f /s (groups of 8000)\n",
           load(kv, LOAD_COUNT, LOAD_COUNT, 8000, true, true));
    kv_counts(kv, &counts);
    if (many > counts.entries) {
        uint64_t more = many - counts.entries;
        printf("to %8llu entries            %10.0f /s (groups of 8000)\n", (unsigned long long)many,
               load(kv, 2 * LOAD_COUNT, more, 8000, true, true));
    }
    kv_close(kv);
    double seconds = seconds_to_first_get(dir, &kv);
    kv_counts(kv, &counts);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("start at %8llu entries to first get  %.3f s\n", (unsigned long long)counts.entries, seconds);
    printf("file bytes per entry           %10.0f; peak memory %ld MB\n",
           (double)counts.disk_bytes / (double)counts.entries, usage.ru_maxrss / 1024);
    kv_close(kv);
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) == 0 ? 0 : 1;
}
