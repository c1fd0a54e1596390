#include "fixture.h"

#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "crypto/blake3.h"
#include "crypto/ed25519.h"

static uint64_t wall_us(struct env *env)
{
    return ((struct fixture *)(void *)env)->wall_us;
}

static void random_bytes(struct env *env, void *out, size_t len)
{
    struct fixture *f = (struct fixture *)(void *)env;
    for (size_t i = 0; i < len; i++) {
        f->seed = f->seed * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(f->seed >> 56);
    }
}

static const struct env_ops env_ops = {.wall_us = wall_us, .mono_us = wall_us, .random = random_bytes};

void assert_ok(enum hkv_err err, const char *call, const char *file, int line)
{
    if (err == HKV_OK) return;
    print_error("%s: %s: %s\n", call, error_name(err), error_last());
    _fail(file, line);
}

struct kv_signer fixture_writer(const struct fixture *f, char letter)
{
    struct kv_signer s = {.namespace_secret = {{0xb2}}, .namespace = f->config.namespace};
    memset(s.namespace_secret.bytes, 0xb2, ID_BYTES);
    memset(s.author_secret.bytes, letter, ID_BYTES);
    ed25519_public_key(&s.author_secret, s.author.bytes);
    return s;
}

void fixture_open(struct fixture *f)
{
    bool created;
    struct namespace_id other;
    OK(kv_open(&f->config, &f->kv, &created, &other));
}

void fixture_reopen(struct fixture *f)
{
    kv_close(f->kv);
    fixture_open(f);
}

int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct secret_key secret;
    OK(crypto_init());
    f->env.ops = &env_ops;
    f->wall_us = FIXTURE_NOW_US;
    snprintf(f->dir, sizeof f->dir, "/tmp/hkv-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->config = (struct kv_config){
        .data_dir = f->dir,
        .cache_bytes = 8 << 20,
        .max_value_bytes = 1 << 20,
        .env = &f->env,
    };
    memset(secret.bytes, 0xb2, ID_BYTES);
    ed25519_public_key(&secret, f->config.namespace.bytes);
    f->self = fixture_writer(f, 's');
    f->config.author = f->self.author;
    fixture_open(f);
    *state = f;
    return 0;
}

static void remove_folder(const char *path)
{
    DIR *d = opendir(path);
    if (!d) return;
    for (const struct dirent *e; (e = readdir(d));) {
        char child[512];
        if (e->d_name[0] == '.') continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        if (unlink(child) != 0) remove_folder(child);
    }
    closedir(d);
    rmdir(path);
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    kv_close(f->kv);
    remove_folder(f->dir);
    free(f);
    return 0;
}

struct slice fixture_key(const char *key)
{
    static uint8_t room[4][2048];
    static size_t next;
    uint8_t *at = room[next++ % 4];
    size_t len = strlen(key);
    assert_true(len + 1 < sizeof room[0]);
    memcpy(at, key, len + 1);
    return slice_of(at, len + 1);
}

struct entry fixture_entry(const struct fixture *f, char letter, struct slice document_key, uint64_t stamp_us,
                           struct slice content)
{
    struct kv_signer s = fixture_writer(f, letter);
    struct entry e = {
        .namespace = s.namespace,
        .author = s.author,
        .key = document_key,
        .record = {.length_bytes = content.len, .stamp_us = stamp_us},
    };
    blake3_hash(content, &e.record.hash);
    return e;
}

enum hkv_err fixture_write(struct fixture *f, struct slice document_key, struct slice content, struct kv_write *w)
{
    w->entry = fixture_entry(f, 's', document_key, 0, content);
    w->content = content;
    kv_content_parse(content, content.len, &w->parsed);
    enum hkv_err err = kv_propose_stamp(f->kv, document_key, &w->entry.record.stamp_us);
    if (err != HKV_OK) return err;
    OK(entry_sign(&w->entry, &f->self.namespace_secret, &f->self.author_secret));
    OK(kv_begin(f->kv));
    err = kv_write(f->kv, w, &f->self);
    if (err == HKV_OK) return kv_commit(f->kv);
    kv_rollback(f->kv);
    return err;
}

enum hkv_err fixture_put(struct fixture *f, const char *key, const char *value)
{
    struct kv_write w = {0};
    struct slice content = value ? slice_of_text(value) : slice_of(kv_tombstone_content, sizeof kv_tombstone_content);
    return fixture_write(f, fixture_key(key), content, &w);
}

enum docs_insert fixture_receive(struct fixture *f, const struct entry *e)
{
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_origin origin = {.peer = {{7}}, .provides_content = true};
    struct entry parent;
    struct buf key = {0};
    enum docs_insert would, out;
    OK(kv_begin(f->kv));
    OK(r->ops->would_insert(r, e, &would));
    OK(r->ops->insert(r, e, &origin, &out, &parent, &key));
    OK(kv_commit(f->kv));
    assert_int_equal(would, out);
    buf_fini(&key);
    return out;
}

void fixture_arrive(struct fixture *f, const char *content)
{
    struct hash hash;
    blake3_hash(slice_of_text(content), &hash);
    OK(kv_begin(f->kv));
    OK(kv_value_arrived(f->kv, &hash, slice_of_text(content), NULL));
    OK(kv_commit(f->kv));
}

const char *fixture_get(struct fixture *f, const char *key)
{
    static char text[1 << 16];
    struct kv_item item;
    enum hkv_err err = kv_get(f->kv, fixture_key(key), KV_WANT_VALUE, &item);
    if (err == HKV_E_NOT_FOUND) return NULL;
    assert_ok(err, "kv_get", __FILE__, __LINE__);
    assert_true(item.value.len < sizeof text);
    if (item.value.len) memcpy(text, item.value.data, item.value.len);
    text[item.value.len] = 0;
    kv_item_fini(&item);
    return text;
}

/* ------------------------------------------------------------------------------------------------------ invariants */

static sqlite3_int64 number_of(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    sqlite3_int64 n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

/* A statement whose first column counts what breaks a rule. */
static void none(sqlite3 *db, const char *rule, const char *sql)
{
    sqlite3_int64 n = number_of(db, sql);
    if (n != 0) {
        print_error("%s: broken %lld times\n", rule, (long long)n);
        fail();
    }
}

static bool add_print(void *arg, const struct entry *e, bool has_content)
{
    struct docs_summary *sum = arg;
    struct fingerprint print;
    (void)has_content;
    entry_fingerprint(e, &print);
    fingerprint_xor(&sum->xored, &print);
    sum->count++;
    return true;
}

static void check_fingerprint(struct fixture *f, const struct kv_counts *counts)
{
    struct docs_replica *r = kv_docs(f->kv);
    struct docs_summary walk = {0};
    struct fingerprint print;
    uint64_t count;
    OK(r->ops->scan(r, (struct docs_piece){0}, add_print, &walk));
    kv_fingerprint(f->kv, &count, &print);
    assert_int_equal(count, walk.count);
    assert_int_equal(counts->entries, walk.count);
    for (int i = 0; i < ID_BYTES; i++) walk.xored.bytes[i] ^= hash_empty.bytes[i];
    assert_memory_equal(print.bytes, walk.xored.bytes, ID_BYTES);
    assert_memory_equal(counts->fingerprint.bytes, walk.xored.bytes, ID_BYTES);
}

void fixture_check(struct fixture *f)
{
    char path[256];
    sqlite3 *db = NULL;
    struct kv_counts c;
    kv_counts(f->kv, &c);
    check_fingerprint(f, &c);
    snprintf(path, sizeof path, "%s/docs/store.db", f->dir);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    none(db, "integrity_check", "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'");
    none(db, "spans count what entries there are",
         "SELECT (SELECT count(*) FROM entry) - (SELECT coalesce(sum(count), 0) FROM span)");
    none(db, "each run's count is that of its entries",
         "WITH r AS (SELECT first, count, lead(first) OVER (ORDER BY first) AS next FROM span) SELECT count(*) FROM r "
         "WHERE count <> (SELECT count(*) FROM entry WHERE id >= first AND (next IS NULL OR id < next))");
    none(db, "no run is too long", "SELECT count(*) FROM span WHERE count > 192");
    none(db, "references are counted",
         "SELECT count(*) FROM value v WHERE id > 2 AND refs <> (SELECT count(*) FROM entry e WHERE e.value = v.id) + "
         "(SELECT count(*) FROM key k WHERE k.shown_value = v.id)");
    none(db, "freed values have a time", "SELECT count(*) FROM value WHERE (refs = 0) <> (freed_us IS NOT NULL)");
    none(db, "missing values are referred to", "SELECT count(*) FROM value WHERE state <> 1 AND refs = 0");
    none(db, "an entry's value is that of its hash",
         "SELECT count(*) FROM entry e LEFT JOIN value v ON v.id = e.value WHERE v.hash IS NOT e.hash");
    none(db, "hashes are unique", "SELECT count(*) - count(DISTINCT hash) FROM value");
    none(db, "keys count their entries",
         "SELECT count(*) FROM key k WHERE entries <> (SELECT count(*) FROM entry WHERE substr(id, 33) = k.key)");
    none(db, "the top is the greatest (stamp, author)",
         "SELECT count(*) FROM key k WHERE (SELECT hex(stamp_us) || hex(substr(id, 1, 32)) || value FROM entry "
         "WHERE substr(id, 33) = k.key ORDER BY stamp_us DESC, substr(id, 1, 32) DESC LIMIT 1) IS NOT "
         "(SELECT hex(k.top_us) || hex(p.id) || k.top_value FROM party p WHERE p.number = k.top_author)");
    none(db, "a key waits exactly when its top's content is missing",
         "SELECT count(*) FROM key k WHERE waiting <> ((SELECT state FROM value WHERE id = k.top_value) <> 1)");
    none(db, "a key that does not wait shows its top",
         "SELECT count(*) FROM key WHERE waiting = 0 AND (shown_us, shown_author, shown_value) IS NOT "
         "(top_us, top_author, top_value)");
    none(db, "the newest stamp is not older than an author's entries",
         "SELECT count(*) FROM entry e JOIN party p ON p.id = substr(e.id, 1, 32) WHERE p.newest_us < e.stamp_us");
    assert_int_equal(c.values_missing, number_of(db, "SELECT count(*) FROM value WHERE state = 0"));
    assert_int_equal(c.values_too_large, number_of(db, "SELECT count(*) FROM value WHERE state = 2"));
    assert_int_equal(c.visible_keys, number_of(db, "SELECT count(*) FROM key WHERE kind = 0 AND expired = 0 AND "
                                                   "shown_us IS NOT NULL AND key >= x'01'"));
    assert_int_equal(c.tombstones, number_of(db, "SELECT count(*) FROM key WHERE kind = 1 AND shown_us IS NOT NULL "
                                                 "AND key >= x'01'"));
    assert_int_equal(c.entries_refused, number_of(db, "SELECT count(*) FROM refused"));
    assert_int_equal(c.position, number_of(db, "SELECT coalesce(max(position), 0) FROM change"));
    assert_int_equal(c.foreign_entries,
                     c.entries - (uint64_t)number_of(db, "SELECT coalesce(sum(entries), 0) FROM key"));
    sqlite3_close(db);
}
