#include "fake_kvs.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAKE_WATCHES_MAX 256
#define FAKE_PEERS_MAX   16
#define FAKE_ID          "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

struct record {
    char *key;
    size_t key_bytes;
    uint8_t *value;
    size_t length;
    struct hkv_version version;
    uint64_t expires_us;
    bool is_tombstone;
};

struct hkv_watch {
    struct hkv_store *store;
    char prefix[HKV_KEY_MAX + 1];
    size_t prefix_bytes;
    hkv_event_fn event;
    void *arg;
    bool list, listing, lost, announce, paused;
    size_t listed; /* records */
    uint64_t seen; /* changes */
};

struct hkv_store {
    pthread_mutex_t lock;
    struct record *records; /* by key */
    size_t count;
    uint64_t stamp_us;
    uint64_t position;
    struct hkv_event *log; /* `position` changes, with keys of their own */
    uint64_t max_value_bytes;
    struct hkv_watch *watches[FAKE_WATCHES_MAX];
    char *peers[FAKE_PEERS_MAX];
    size_t peer_count;
    enum hkv_err fail;
    char fail_sentence[256];
    char *data_dir;
    pthread_t writer; /* the thread of the last write */
};

static _Thread_local char last_error[512];

static enum hkv_err fault(enum hkv_err err, const char *sentence)
{
    snprintf(last_error, sizeof last_error, "%s", sentence);
    return err;
}

const char *hkv_last_error(void)
{
    return last_error;
}

const char *hkv_error_name(enum hkv_err err)
{
    switch (err) {
#define NAME_CASE(code, name, text, class)                                                                             \
    case name:                                                                                                         \
        return #name;
        HKV_ERROR_TABLE(NAME_CASE)
#undef NAME_CASE
    }
    return "HKV_E_INTERNAL";
}

const char *hkv_error_sentence(enum hkv_err err)
{
    switch (err) {
#define TEXT_CASE(code, name, text, class)                                                                             \
    case name:                                                                                                         \
        return text;
        HKV_ERROR_TABLE(TEXT_CASE)
#undef TEXT_CASE
    }
    return "an internal rule was broken";
}

/* ------------------------------------------------------------------------------------------ open, close */

void hkv_options_init(struct hkv_options *options)
{
    *options = (struct hkv_options){.struct_bytes = sizeof *options, .max_value_bytes = HKV_VALUE_MAX_DEFAULT};
}

struct hkv_store *fake_kvs_new(void)
{
    struct hkv_store *store = calloc(1, sizeof *store);
    assert(store);
    pthread_mutex_init(&store->lock, NULL);
    store->stamp_us = FAKE_STAMP_FIRST;
    store->max_value_bytes = HKV_VALUE_MAX_DEFAULT;
    store->data_dir = strdup("/nowhere");
    return store;
}

enum hkv_err hkv_open(const struct hkv_options *options, struct hkv_store **out)
{
    *out = fake_kvs_new();
    (*out)->max_value_bytes = options->max_value_bytes;
    return HKV_OK;
}

static void record_free(struct record *record)
{
    free(record->key);
    free(record->value);
}

void hkv_close(struct hkv_store *store)
{
    if (!store) return;
    for (size_t i = 0; i < store->count; i++) record_free(&store->records[i]);
    for (size_t i = 0; i < store->peer_count; i++) free(store->peers[i]);
    for (uint64_t i = 0; i < store->position; i++) free((char *)(uintptr_t)store->log[i].key);
    free(store->log);
    free(store->records);
    free(store->data_dir);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

void fake_kvs_fail(struct hkv_store *store, enum hkv_err err, const char *sentence)
{
    store->fail = err;
    snprintf(store->fail_sentence, sizeof store->fail_sentence, "%s", sentence);
}

static enum hkv_err injected(struct hkv_store *store)
{
    return store->fail == HKV_OK ? HKV_OK : fault(store->fail, store->fail_sentence);
}

/* ------------------------------------------------------------------------------------------ versions */

void hkv_version_format(const struct hkv_version *version, char out[HKV_VERSION_TEXT_BYTES])
{
    int len = snprintf(out, HKV_VERSION_TEXT_BYTES, "%" PRIu64 "-", version->stamp_us);
    for (size_t i = 0; i < sizeof version->author; i++) snprintf(out + len + 2 * i, 3, "%02x", version->author[i]);
}

enum hkv_err hkv_version_parse(const char *text, struct hkv_version *out)
{
    char *end;
    errno = 0;
    out->stamp_us = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno || *end != '-' || strspn(end + 1, "0123456789abcdef") != 64 || end[65])
        return fault(HKV_E_INVALID, "a version is `<stamp_us>-<author hex>`");
    for (size_t i = 0; i < sizeof out->author; i++) {
        char digits[3] = {end[1 + 2 * i], end[2 + 2 * i], '\0'};
        out->author[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return HKV_OK;
}

static struct hkv_version next_version(struct hkv_store *store)
{
    struct hkv_version version = {.stamp_us = store->stamp_us++};
    memset(version.author, 0xab, sizeof version.author);
    return version;
}

/* ------------------------------------------------------------------------------------------ records */

static int compare(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t common = a_bytes < b_bytes ? a_bytes : b_bytes;
    int order = common ? memcmp(a, b, common) : 0;
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

/* Where the first key not below this one is. */
static size_t lower_bound(const struct hkv_store *store, const char *key, size_t key_bytes)
{
    size_t low = 0, high = store->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (compare(store->records[middle].key, store->records[middle].key_bytes, key, key_bytes) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct record *find(struct hkv_store *store, const char *key, size_t key_bytes)
{
    size_t at = lower_bound(store, key, key_bytes);
    if (at == store->count || compare(store->records[at].key, store->records[at].key_bytes, key, key_bytes) != 0)
        return NULL;
    return &store->records[at];
}

static bool is_utf8(const unsigned char *at, size_t len)
{
    while (len > 0) {
        size_t need = at[0] < 0x80 ? 1 : at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : at[0] >= 0xc2 ? 2 : 0;
        if (need == 0 || need > len || at[0] > 0xf4) return false;
        for (size_t i = 1; i < need; i++)
            if ((at[i] & 0xc0) != 0x80) return false;
        at += need;
        len -= need;
    }
    return true;
}

static enum hkv_err check_key(const char *key, size_t key_bytes)
{
    if (key_bytes == 0 || key_bytes > HKV_KEY_MAX || memchr(key, 0, key_bytes) ||
        !is_utf8((const unsigned char *)key, key_bytes))
        return fault(HKV_E_KEY, "a key has 1 to 1024 bytes and no NUL");
    return HKV_OK;
}

static bool fits(const struct hkv_watch *watch, const char *key, size_t key_bytes);
static void pump(struct hkv_watch *watch);

static bool as_expected(const struct record *record, const struct hkv_write_options *options)
{
    bool present = record && !record->is_tombstone;
    if (!options || options->expect == HKV_EXPECT_ANY) return true;
    if (options->expect == HKV_EXPECT_ABSENT) return !present;
    return present && memcmp(&record->version, &options->version, sizeof options->version) == 0;
}

void fake_kvs_emit(struct hkv_store *store, const struct hkv_event *event)
{
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < FAKE_WATCHES_MAX; i++) {
        struct hkv_watch *watch = store->watches[i];
        if (watch && !watch->paused && (!event->key || fits(watch, event->key, event->key_bytes)))
            watch->event(watch->arg, event);
    }
    pthread_mutex_unlock(&store->lock);
}

static void log_change(struct hkv_store *store, const struct record *record)
{
    store->log = realloc(store->log, (store->position + 1) * sizeof *store->log);
    char *key = malloc(record->key_bytes + 1);
    assert(store->log && key);
    memcpy(key, record->key, record->key_bytes + 1);
    struct hkv_event *event = &store->log[store->position++];
    *event = (struct hkv_event){.type = record->is_tombstone ? HKV_EVENT_DELETE_LOCAL : HKV_EVENT_PUT_LOCAL,
                                .key = key,
                                .key_bytes = record->key_bytes,
                                .version = record->version,
                                .position = {1, store->position}};
    for (size_t i = 0; i < FAKE_WATCHES_MAX; i++)
        if (store->watches[i]) pump(store->watches[i]);
}

/* Under the lock. `value` NULL: a tombstone. */
static enum hkv_err write_record(struct hkv_store *store, const char *key, size_t key_bytes, const void *value,
                                 size_t length, const struct hkv_write_options *options,
                                 struct hkv_write_result *result)
{
    struct record *record = find(store, key, key_bytes);
    if (!as_expected(record, options)) return fault(HKV_E_CONFLICT, "the key is not at the expected version");
    if (!record) {
        size_t at = lower_bound(store, key, key_bytes);
        store->records = realloc(store->records, (store->count + 1) * sizeof *record);
        assert(store->records);
        memmove(&store->records[at + 1], &store->records[at], (store->count - at) * sizeof *record);
        store->count++;
        record = &store->records[at];
        *record = (struct record){.key = malloc(key_bytes + 1), .key_bytes = key_bytes};
        assert(record->key);
        memcpy(record->key, key, key_bytes);
        record->key[key_bytes] = '\0';
    }
    free(record->value);
    record->value = malloc(length + 1);
    assert(record->value);
    store->writer = pthread_self();
    if (length) memcpy(record->value, value, length);
    record->length = length;
    record->is_tombstone = !value;
    record->version = next_version(store);
    record->expires_us = options && options->ttl_ms ? record->version.stamp_us + options->ttl_ms * 1000 : 0;
    if (result) result->version = record->version;
    log_change(store, record);
    return HKV_OK;
}

enum hkv_err hkv_put(struct hkv_store *store, const void *key, size_t key_bytes, const void *value, size_t value_bytes,
                     const struct hkv_write_options *options, struct hkv_write_result *result)
{
    enum hkv_err err = injected(store);
    if (err == HKV_OK) err = check_key(key, key_bytes);
    if (err == HKV_OK && value_bytes > store->max_value_bytes)
        err = fault(HKV_E_VALUE_TOO_LARGE, "the value is larger than max_value_bytes");
    if (err != HKV_OK) return err;
    pthread_mutex_lock(&store->lock);
    err = write_record(store, key, key_bytes, value, value_bytes, options, result);
    pthread_mutex_unlock(&store->lock);
    return err;
}

enum hkv_err hkv_put_fd(struct hkv_store *store, const void *key, size_t key_bytes, int fd, uint64_t length,
                        const struct hkv_write_options *options, struct hkv_write_result *result)
{
    uint8_t *bytes = NULL;
    size_t len = 0, capacity = 0;
    ssize_t count = 0;
    enum hkv_err err = check_key(key, key_bytes);
    while (err == HKV_OK && len < length) {
        if (len == capacity) {
            capacity = capacity ? capacity * 2 : 65536;
            bytes = realloc(bytes, capacity);
            assert(bytes);
        }
        size_t want = capacity - len < length - len ? capacity - len : (size_t)(length - len);
        count = read(fd, bytes + len, want);
        if (count <= 0) break;
        len += (size_t)count;
        if (len > store->max_value_bytes)
            err = fault(HKV_E_VALUE_TOO_LARGE, "the value is larger than max_value_bytes");
    }
    if (count < 0) err = fault(HKV_E_INVALID, "reading the value failed");
    if (err == HKV_OK && length != UINT64_MAX && len < length) err = fault(HKV_E_INVALID, "the value ended early");
    if (err == HKV_OK) err = hkv_put(store, key, key_bytes, bytes ? bytes : (const uint8_t *)"", len, options, result);
    free(bytes);
    return err;
}

enum hkv_err hkv_delete(struct hkv_store *store, const void *key, size_t key_bytes,
                        const struct hkv_write_options *options, struct hkv_write_result *result)
{
    enum hkv_err err = injected(store);
    if (err == HKV_OK) err = check_key(key, key_bytes);
    if (err != HKV_OK) return err;
    pthread_mutex_lock(&store->lock);
    err = write_record(store, key, key_bytes, NULL, 0, options, result);
    pthread_mutex_unlock(&store->lock);
    return err;
}

enum hkv_err hkv_put_async(struct hkv_store *store, const void *key, size_t key_bytes, const void *value,
                           size_t value_bytes, const struct hkv_write_options *options, hkv_write_fn done, void *arg)
{
    struct hkv_write_result result = {0};
    enum hkv_err err = check_key(key, key_bytes);
    if (err != HKV_OK) return err;
    err = hkv_put(store, key, key_bytes, value, value_bytes, options, &result);
    done(arg, err, err == HKV_OK ? "" : last_error, &result);
    return HKV_OK;
}

enum hkv_err hkv_delete_async(struct hkv_store *store, const void *key, size_t key_bytes,
                              const struct hkv_write_options *options, hkv_write_fn done, void *arg)
{
    struct hkv_write_result result = {0};
    enum hkv_err err = check_key(key, key_bytes);
    if (err != HKV_OK) return err;
    err = hkv_delete(store, key, key_bytes, options, &result);
    done(arg, err, err == HKV_OK ? "" : last_error, &result);
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ reads */

enum hkv_err hkv_get_upto(struct hkv_store *store, const void *key, size_t key_bytes, uint64_t max_bytes,
                          struct hkv_value *out)
{
    enum hkv_err err = injected(store);
    if (err == HKV_OK) err = check_key(key, key_bytes);
    if (err != HKV_OK) return err;
    pthread_mutex_lock(&store->lock);
    const struct record *record = find(store, key, key_bytes);
    if (!record || record->is_tombstone) {
        err = fault(HKV_E_NOT_FOUND, "the key is absent");
    } else {
        *out =
            (struct hkv_value){.length = record->length, .version = record->version, .expires_us = record->expires_us};
        if (record->length <= max_bytes) {
            out->data = malloc(record->length + 1);
            assert(out->data);
            memcpy(out->data, record->value, record->length);
        }
    }
    pthread_mutex_unlock(&store->lock);
    return err;
}

void hkv_value_free(struct hkv_value *value)
{
    free(value->data);
    *value = (struct hkv_value){0};
}

enum hkv_err hkv_get_fd(struct hkv_store *store, const void *key, size_t key_bytes, int fd, struct hkv_value *out)
{
    struct hkv_value value;
    enum hkv_err err = hkv_get_upto(store, key, key_bytes, UINT64_MAX, &value);
    if (err != HKV_OK) return err;
    for (size_t sent = 0; sent < value.length;) {
        ssize_t count = write(fd, value.data + sent, (size_t)value.length - sent);
        if (count <= 0) {
            err = fault(HKV_E_INVALID, "writing the value failed");
            break;
        }
        sent += (size_t)count;
    }
    free(value.data);
    value.data = NULL;
    if (out) *out = value;
    return err;
}

static enum hkv_err list(struct hkv_store *store, const char *prefix, size_t prefix_bytes, size_t limit,
                         const char *cursor, bool with_values, struct hkv_page **out)
{
    enum hkv_err err = injected(store);
    if (err == HKV_OK && (prefix_bytes > HKV_KEY_MAX || (prefix_bytes && memchr(prefix, 0, prefix_bytes))))
        err = fault(HKV_E_KEY, "a prefix has at most 1024 bytes and no NUL");
    if (err == HKV_OK && cursor && cursor[0] != '+') err = fault(HKV_E_INVALID, "that is no cursor of a list");
    if (err != HKV_OK) return err;
    if (limit == 0 || limit > HKV_LIST_KEYS_MAX) limit = HKV_LIST_KEYS_MAX;

    struct hkv_page *page = calloc(1, sizeof *page);
    assert(page);
    page->entries = calloc(limit, sizeof *page->entries);
    assert(page->entries);
    pthread_mutex_lock(&store->lock);
    size_t at = lower_bound(store, prefix, prefix_bytes);
    if (cursor) at = lower_bound(store, cursor + 1, strlen(cursor + 1));
    for (; at < store->count; at++) {
        const struct record *record = &store->records[at];
        if (record->key_bytes < prefix_bytes || (prefix_bytes && memcmp(record->key, prefix, prefix_bytes))) break;
        if (record->is_tombstone) continue;
        if (page->count == limit) {
            if (asprintf(&page->next, "+%s", record->key) < 0) abort();
            break;
        }
        struct hkv_list_entry *entry = &page->entries[page->count++];
        char *key = malloc(record->key_bytes + 1);
        assert(key);
        memcpy(key, record->key, record->key_bytes + 1);
        *entry = (struct hkv_list_entry){.key = key,
                                         .key_bytes = record->key_bytes,
                                         .length = record->length,
                                         .version = record->version,
                                         .expires_us = record->expires_us};
        if (!with_values || record->length > HKV_LIST_VALUE_MAX) continue;
        uint8_t *value = malloc(record->length + 1);
        assert(value);
        memcpy(value, record->value, record->length);
        entry->value = value;
    }
    pthread_mutex_unlock(&store->lock);
    *out = page;
    return HKV_OK;
}

enum hkv_err hkv_list(struct hkv_store *store, const void *prefix, size_t prefix_bytes, size_t limit,
                      const char *cursor, struct hkv_page **out)
{
    return list(store, prefix, prefix_bytes, limit, cursor, true, out);
}

enum hkv_err hkv_list_keys(struct hkv_store *store, const void *prefix, size_t prefix_bytes, size_t limit,
                           const char *cursor, struct hkv_page **out)
{
    return list(store, prefix, prefix_bytes, limit, cursor, false, out);
}

void hkv_page_free(struct hkv_page *page)
{
    if (!page) return;
    for (size_t i = 0; i < page->count; i++) {
        free((void *)(uintptr_t)page->entries[i].key);
        free((void *)(uintptr_t)page->entries[i].value);
    }
    free(page->entries);
    free(page->next);
    free(page);
}

enum hkv_err hkv_history(struct hkv_store *store, const void *key, size_t key_bytes, struct hkv_history **out)
{
    enum hkv_err err = injected(store);
    if (err == HKV_OK) err = check_key(key, key_bytes);
    if (err != HKV_OK) return err;
    struct hkv_history *history = calloc(1, sizeof *history);
    assert(history);
    history->entries = calloc(1, sizeof *history->entries);
    assert(history->entries);
    pthread_mutex_lock(&store->lock);
    const struct record *record = find(store, key, key_bytes);
    if (record) {
        history->count = 1;
        history->entries[0] = (struct hkv_history_entry){
            .version = record->version,
            .content_length = record->is_tombstone ? 5 : record->length,
            .kind = record->is_tombstone ? HKV_KIND_TOMBSTONE : HKV_KIND_VALUE,
            .shown = true,
        };
    }
    pthread_mutex_unlock(&store->lock);
    *out = history;
    return HKV_OK;
}

void hkv_history_free(struct hkv_history *history)
{
    if (!history) return;
    free(history->entries);
    free(history);
}

/* ------------------------------------------------------------------------------------------ watch */

void hkv_position_format(const struct hkv_position *position, char out[HKV_POSITION_TEXT_BYTES])
{
    (void)snprintf(out, HKV_POSITION_TEXT_BYTES, "%016llx-%llu", (unsigned long long)position->epoch,
                   (unsigned long long)position->number);
}

enum hkv_err hkv_position_parse(const char *text, struct hkv_position *out)
{
    char *end;
    errno = 0;
    if (strspn(text, "0123456789abcdef") != 16 || text[16] != '-' || text[17] < '0' || text[17] > '9')
        return fault(HKV_E_INVALID, "a position is `<epoch>-<number>`");
    out->epoch = strtoull(text, NULL, 16);
    out->number = strtoull(text + 17, &end, 10);
    return errno || *end ? fault(HKV_E_INVALID, "a position is `<epoch>-<number>`") : HKV_OK;
}

static bool fits(const struct hkv_watch *watch, const char *key, size_t key_bytes)
{
    return key_bytes >= watch->prefix_bytes && memcmp(key, watch->prefix, watch->prefix_bytes) == 0;
}

static void tell_progress(struct hkv_watch *watch)
{
    watch->announce = false;
    watch->event(watch->arg, &(struct hkv_event){.type = HKV_EVENT_PROGRESS, .position = {1, watch->seen}});
}

/* All keys at once: nothing changes meanwhile under the lock. */
static void tell_list(struct hkv_watch *watch)
{
    const struct hkv_store *store = watch->store;
    for (; watch->listed < store->count && !watch->paused; watch->listed++) {
        const struct record *record = &store->records[watch->listed];
        if (record->is_tombstone || !fits(watch, record->key, record->key_bytes)) continue;
        watch->event(watch->arg, &(struct hkv_event){.type = HKV_EVENT_LISTED,
                                                     .key = record->key,
                                                     .key_bytes = record->key_bytes,
                                                     .version = record->version});
    }
    if (watch->listed < store->count) return;
    watch->listing = false;
    watch->seen = store->position;
}

/* Under the lock. */
static void pump(struct hkv_watch *watch)
{
    struct hkv_store *store = watch->store;
    if (watch->lost && !watch->paused) {
        watch->lost = false;
        watch->listing = watch->list;
        watch->event(
            watch->arg,
            &(struct hkv_event){.type = HKV_EVENT_OVERRUN, .position = {!watch->list, 0}, .first_available = {1, 1}});
    }
    if (watch->listing) tell_list(watch);
    if (watch->announce && !watch->listing && watch->seen == store->position && !watch->paused) tell_progress(watch);
    while (watch->seen < store->position && !watch->paused) {
        struct hkv_event event = store->log[watch->seen++];
        if (fits(watch, event.key, event.key_bytes)) watch->event(watch->arg, &event);
        if (watch->announce && watch->seen == store->position && !watch->paused) tell_progress(watch);
    }
}

enum hkv_err hkv_watch(struct hkv_store *store, const void *prefix, size_t prefix_bytes, hkv_event_fn event, void *arg,
                       struct hkv_watch **out)
{
    return hkv_watch_with(store, &(struct hkv_watch_options){.prefix = prefix, .prefix_bytes = prefix_bytes}, event,
                          arg, out);
}

enum hkv_err hkv_watch_with(struct hkv_store *store, const struct hkv_watch_options *options, hkv_event_fn event,
                            void *arg, struct hkv_watch **out)
{
    enum hkv_err err = injected(store);
    if (err == HKV_OK && options->prefix_bytes > HKV_KEY_MAX) err = fault(HKV_E_KEY, "a prefix has at most 1024 bytes");
    if (err != HKV_OK) return err;
    struct hkv_watch *watch = calloc(1, sizeof *watch);
    assert(watch);
    *watch = (struct hkv_watch){.store = store,
                                .prefix_bytes = options->prefix_bytes,
                                .event = event,
                                .arg = arg,
                                .list = options->list,
                                .listing = options->list && !options->from,
                                .announce = true};
    if (options->prefix_bytes) memcpy(watch->prefix, options->prefix, options->prefix_bytes);
    pthread_mutex_lock(&store->lock);
    watch->lost = options->from && (options->from->epoch != 1 || options->from->number > store->position);
    watch->seen = !options->from ? store->position : watch->lost ? 0 : options->from->number;
    size_t at = 0;
    while (at < FAKE_WATCHES_MAX && store->watches[at]) at++;
    if (at < FAKE_WATCHES_MAX) {
        store->watches[at] = watch;
        *out = watch;
        pump(watch);
    }
    pthread_mutex_unlock(&store->lock);
    if (at < FAKE_WATCHES_MAX) return HKV_OK;
    free(watch);
    return fault(HKV_E_LIMIT, "too many watches");
}

void hkv_watch_pause(struct hkv_watch *watch)
{
    watch->paused = true;
}

void hkv_watch_resume(struct hkv_watch *watch)
{
    pthread_mutex_lock(&watch->store->lock);
    watch->paused = false;
    pump(watch);
    pthread_mutex_unlock(&watch->store->lock);
}

void hkv_watch_close(struct hkv_watch *watch)
{
    if (!watch) return;
    struct hkv_store *store = watch->store;
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < FAKE_WATCHES_MAX; i++)
        if (store->watches[i] == watch) store->watches[i] = NULL;
    pthread_mutex_unlock(&store->lock);
    free(watch);
}

bool fake_kvs_written_here(struct hkv_store *store)
{
    pthread_mutex_lock(&store->lock);
    bool here = pthread_equal(store->writer, pthread_self());
    pthread_mutex_unlock(&store->lock);
    return here;
}

size_t fake_kvs_watch_count(struct hkv_store *store)
{
    size_t count = 0;
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < FAKE_WATCHES_MAX; i++) count += store->watches[i] != NULL;
    pthread_mutex_unlock(&store->lock);
    return count;
}

/* ------------------------------------------------------------------------------------------ peers and sync */

static size_t find_peer(const struct hkv_store *store, const char *peer)
{
    size_t at = 0;
    while (at < store->peer_count && strncmp(store->peers[at], peer, 64) != 0) at++;
    return at;
}

enum hkv_err hkv_peer_add(struct hkv_store *store, const char *peer)
{
    enum hkv_err err = injected(store);
    if (err != HKV_OK) return err;
    if (strlen(peer) < 64) return fault(HKV_E_TICKET, "a peer is an `endpoint...` ticket or endpointid@host:port");
    pthread_mutex_lock(&store->lock);
    if (find_peer(store, peer) == store->peer_count && store->peer_count < FAKE_PEERS_MAX)
        store->peers[store->peer_count++] = strdup(peer);
    pthread_mutex_unlock(&store->lock);
    return HKV_OK;
}

enum hkv_err hkv_peer_remove(struct hkv_store *store, const char *peer)
{
    enum hkv_err err = injected(store);
    if (err != HKV_OK) return err;
    pthread_mutex_lock(&store->lock);
    size_t at = find_peer(store, peer);
    bool found = at < store->peer_count;
    if (found) {
        free(store->peers[at]);
        store->peers[at] = store->peers[--store->peer_count];
    }
    pthread_mutex_unlock(&store->lock);
    return found ? HKV_OK : fault(HKV_E_NOT_FOUND, "there is no such peer");
}

enum hkv_err hkv_peers(struct hkv_store *store, struct hkv_peers **out)
{
    enum hkv_err err = injected(store);
    if (err != HKV_OK) return err;
    struct hkv_peers *peers = calloc(1, sizeof *peers);
    assert(peers);
    peers->peers = calloc(FAKE_PEERS_MAX, sizeof *peers->peers);
    assert(peers->peers);
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < store->peer_count; i++) {
        struct hkv_peer *peer = &peers->peers[peers->count++];
        *peer = (struct hkv_peer){.source = HKV_PEER_SEED,
                                  .name = "",
                                  .addrs = "192.0.2.1:1,[2001:db8::1]:1",
                                  .why = "unreachable",
                                  .clock_skew = HKV_SKEW_MEASURED,
                                  .clock_skew_us = -1234567};
        memcpy(peer->endpoint_id, store->peers[i], 64);
    }
    pthread_mutex_unlock(&store->lock);
    *out = peers;
    return HKV_OK;
}

void hkv_peers_free(struct hkv_peers *peers)
{
    if (!peers) return;
    free(peers->peers);
    free(peers);
}

enum hkv_err hkv_refused(struct hkv_store *store, struct hkv_refused **out)
{
    enum hkv_err err = injected(store);
    if (err != HKV_OK) return err;
    struct hkv_refused *refused = calloc(1, sizeof *refused);
    assert(refused);
    refused->items = calloc(1, sizeof *refused->items);
    assert(refused->items);
    refused->items[0] = (struct hkv_refused_entries){.entries = 3, .ahead_us = 1200000000, .due_us = 600000000};
    memset(refused->items[0].author, 'a', 64);
    memset(refused->items[0].peer, 'b', 64);
    refused->count = 1;
    *out = refused;
    return HKV_OK;
}

void hkv_refused_free(struct hkv_refused *refused)
{
    if (!refused) return;
    free(refused->items);
    free(refused);
}

enum hkv_err hkv_sync_once_async(struct hkv_store *store, uint32_t timeout_ms, hkv_sync_fn done, void *arg)
{
    (void)timeout_ms;
    struct hkv_sync_peer peers[FAKE_PEERS_MAX];
    struct hkv_sync_result result = {.peers = peers};
    enum hkv_err err = injected(store);
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < store->peer_count; i++) {
        struct hkv_sync_peer *peer = &peers[result.count++];
        *peer = (struct hkv_sync_peer){.err = err, .error = store->fail_sentence, .confirmed = err == HKV_OK};
        memcpy(peer->endpoint_id, store->peers[i], 64);
    }
    pthread_mutex_unlock(&store->lock);
    done(arg, err, err == HKV_OK ? "" : last_error, &result);
    return HKV_OK;
}

enum hkv_err hkv_wait_converged_async(struct hkv_store *store, const char *const *peers, size_t peer_count,
                                      uint32_t timeout_ms, hkv_converged_fn done, void *arg)
{
    (void)peers;
    (void)peer_count;
    (void)timeout_ms;
    enum hkv_err err = injected(store);
    done(arg, err, err == HKV_OK ? "" : last_error, 7);
    return HKV_OK;
}

enum hkv_err hkv_problems(struct hkv_store *store, struct hkv_problems **out)
{
    (void)store;
    *out = calloc(1, sizeof **out);
    assert(*out);
    (*out)->items = calloc(1, sizeof *(*out)->items);
    (*out)->items[0] = (struct hkv_problem){
        .kind = HKV_PROBLEM_TOO_LARGE, .key = "large", .key_bytes = 5, .is_user_key = true, .why = "too large"};
    (*out)->count = 1;
    return HKV_OK;
}

void hkv_problems_free(struct hkv_problems *problems)
{
    if (!problems) return;
    free(problems->items);
    free(problems);
}

const char *hkv_verify_kind_name(enum hkv_verify_kind kind)
{
    static const char *const names[] = {"entries", "spans", "index", "values"};
    return names[kind];
}

enum hkv_err hkv_verify_async(struct hkv_store *store, const struct hkv_verify_options *options, hkv_verify_fn done,
                              void *arg)
{
    (void)options;
    struct hkv_verify_result result = {.sound = true, .took_ms = 3};
    enum hkv_err err = injected(store);
    done(arg, err, err == HKV_OK ? "" : last_error, err == HKV_OK ? &result : NULL);
    return HKV_OK;
}

enum hkv_err hkv_ticket(struct hkv_store *store, enum hkv_ticket_mode mode, char **out)
{
    enum hkv_err err = injected(store);
    if (err != HKV_OK) return err;
    *out = strdup(mode == HKV_TICKET_WRITE ? "docwrite" : "docread");
    return HKV_OK;
}

void hkv_text_free(char *text)
{
    free(text);
}

enum hkv_err hkv_join(struct hkv_store *store, const char *ticket, enum hkv_format format)
{
    (void)format;
    enum hkv_err err = injected(store);
    if (err != HKV_OK) return err;
    return strncmp(ticket, "doc", 3) == 0 ? HKV_OK : fault(HKV_E_TICKET, "that is no `doc...` ticket");
}

/* ------------------------------------------------------------------------------------------ status */

const char *hkv_condition_name(enum hkv_condition condition)
{
    static const char *const names[] = {"endpoint_bound",  "docs_running", "values_accessible", "namespace_open",
                                        "values_complete", "clock_sane",   "identity_unique",   "peer_in_sync"};
    return names[condition];
}

enum hkv_err hkv_status(struct hkv_store *store, struct hkv_status *out)
{
    enum hkv_err err = injected(store);
    if (err != HKV_OK) return err;
    *out = (struct hkv_status){.healthy = true, .single_node = true};
    for (int i = 0; i < HKV_CONDITION_COUNT; i++) out->conditions[i] = true;
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < store->count; i++) {
        out->visible_keys += !store->records[i].is_tombstone;
        out->tombstones += store->records[i].is_tombstone;
    }
    out->entries = store->count;
    out->position = (struct hkv_position){1, store->position};
    snprintf(out->fingerprint, sizeof out->fingerprint, "%064zx", store->count);
    pthread_mutex_unlock(&store->lock);
    return HKV_OK;
}

enum hkv_err hkv_info(struct hkv_store *store, struct hkv_info *out)
{
    enum hkv_err err = injected(store);
    if (err != HKV_OK) return err;
    *out = (struct hkv_info){.namespace_id = FAKE_ID,
                             .author_id = FAKE_ID,
                             .endpoint_id = FAKE_ID,
                             .format = "native",
                             .port_ipv4 = 24376,
                             .port_ipv6 = 24376};
    out->endpoint_ticket = strdup("endpointfake");
    out->addrs = strdup("192.0.2.7:24376");
    out->data_dir = strdup(store->data_dir);
    return HKV_OK;
}

void hkv_info_fini(struct hkv_info *info)
{
    free(info->endpoint_ticket);
    free(info->addrs);
    free(info->data_dir);
}
