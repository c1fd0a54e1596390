/* Public reads: on the caller's thread, from a pooled read connection, never waiting for writers. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "node/node.h"

static void version_out(const struct kv_version *version, struct hkv_version *out)
{
    out->stamp_us = version->stamp_us;
    memcpy(out->author, version->author.bytes, ID_BYTES);
}

static void item_out(const struct kv_item *item, struct hkv_value *out)
{
    out->length = item->length;
    out->expires_us = item->expires_us;
    version_out(&item->version, &out->version);
}

static enum hkv_err absent(struct slice key)
{
    return error_set(HKV_E_NOT_FOUND, "the key %.*s is absent", (int)(key.len < 200 ? key.len : 200),
                     (const char *)key.data);
}

static enum hkv_err find(struct hkv_store *store, struct slice key, enum kv_want want, struct kv_item *out)
{
    struct buf document_key = {0};
    TRY(kv_key_check(key));
    enum hkv_err err = kv_key_encode(key, &document_key);
    if (err == HKV_OK) err = kv_get(store->kv, buf_slice(&document_key), want, out);
    buf_fini(&document_key);
    return err == HKV_E_NOT_FOUND ? absent(key) : err;
}

/* Hands out the value's bytes, which were checked against its hash, piece by piece. */
static enum hkv_err read_pieces(struct hkv_store *store, const struct kv_item *item,
                                enum hkv_err (*put)(void *to, struct slice piece), void *to)
{
    struct kv_blob_reader *reader = malloc(sizeof *reader);
    if (reader == NULL) return error_set(HKV_E_NOMEM, "no memory to read a value");
    kv_blob_reader_init(reader, store->kv, &item->blob);
    size_t skip = item->skip; /* within the first piece */
    struct slice piece;
    enum hkv_err err = kv_blob_reader_next(reader, &piece);
    while (err == HKV_OK && piece.len > 0) {
        err = put(to, slice_part(piece, skip, piece.len));
        skip = 0;
        if (err == HKV_OK) err = kv_blob_reader_next(reader, &piece);
    }
    free(reader);
    return err;
}

static enum hkv_err put_in_memory(void *to, struct slice piece)
{
    uint8_t **at = to;
    memcpy(*at, piece.data, piece.len);
    *at += piece.len;
    return HKV_OK;
}

/* Moves the value's bytes out of `item`. */
static enum hkv_err item_bytes(struct hkv_store *store, struct kv_item *item, struct hkv_value *out)
{
    if (item->blob.fd < 0) {
        TRY(buf_append_byte(&item->value, 0)); /* never NULL, and text has its end */
        out->data = buf_take(&item->value).data;
        return HKV_OK;
    }
    out->data = malloc((size_t)item->length + 1);
    if (out->data == NULL)
        return error_set(HKV_E_NOMEM, "no memory for a value of %llu bytes", (unsigned long long)item->length);
    out->data[item->length] = 0;
    uint8_t *at = out->data;
    enum hkv_err err = read_pieces(store, item, put_in_memory, &at);
    if (err == HKV_OK) return HKV_OK;
    free(out->data);
    out->data = NULL;
    return err;
}

enum hkv_err hkv_get_upto(struct hkv_store *store, const void *key, size_t key_bytes, uint64_t max_bytes,
                          struct hkv_value *out)
{
    struct kv_item item = {0};
    NEED_ARGUMENT(out);
    TRY(node_bytes_check("key", key, key_bytes));
    TRY(node_call_begin(store));
    *out = (struct hkv_value){0};
    enum hkv_err err = find(store, slice_of(key, key_bytes), KV_WANT_VALUE, &item);
    if (err == HKV_OK) {
        item_out(&item, out);
        if (item.length <= max_bytes) err = item_bytes(store, &item, out);
        kv_item_fini(&item);
    }
    node_call_end(store);
    return err;
}

enum hkv_err hkv_get(struct hkv_store *store, const void *key, size_t key_bytes, struct hkv_value *out)
{
    return hkv_get_upto(store, key, key_bytes, UINT64_MAX, out);
}

void hkv_value_free(struct hkv_value *value)
{
    if (value == NULL) return;
    free(value->data);
    *value = (struct hkv_value){0};
}

static enum hkv_err write_out(void *to, struct slice piece)
{
    const int *fd = to;
    const uint8_t *data = piece.data;
    size_t len = piece.len;
    while (len > 0) {
        ssize_t n = write(*fd, data, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return error_set(HKV_E_INVALID, "the value cannot be written to the given descriptor: %s", strerror(errno));
        data += n;
        len -= (size_t)n;
    }
    return HKV_OK;
}

enum hkv_err hkv_get_fd(struct hkv_store *store, const void *key, size_t key_bytes, int fd, struct hkv_value *out)
{
    struct kv_item item = {0};
    TRY(node_bytes_check("key", key, key_bytes));
    TRY(node_call_begin(store));
    enum hkv_err err = find(store, slice_of(key, key_bytes), KV_WANT_VALUE, &item);
    if (err == HKV_OK) {
        err = item.blob.fd < 0 ? write_out(&fd, buf_slice(&item.value)) : read_pieces(store, &item, write_out, &fd);
        if (err == HKV_OK && out != NULL) {
            *out = (struct hkv_value){0};
            item_out(&item, out);
        }
        kv_item_fini(&item);
    }
    node_call_end(store);
    return err;
}

/* ------------------------------------------------------------------------------------------ lists */

/* A cursor is the hex of the last key of the page before it. */
struct listing {
    struct hkv_store *store;
    struct hkv_page *page;
    size_t capacity;
    size_t limit;
    size_t value_bytes;
    bool with_values;
    bool more;
    enum hkv_err err;
};

static enum hkv_err page_add(struct listing *l, struct kv_item *item)
{
    struct hkv_page *page = l->page;
    if (page->count == l->capacity) {
        size_t capacity = l->capacity == 0 ? 16 : l->capacity * 2;
        struct hkv_list_entry *entries = realloc(page->entries, capacity * sizeof *entries);
        if (entries == NULL) return error_set(HKV_E_NOMEM, "no memory for a page of keys");
        page->entries = entries;
        l->capacity = capacity;
    }
    struct hkv_list_entry entry = {.length = item->length, .expires_us = item->expires_us};
    version_out(&item->version, &entry.version);
    if (l->with_values && !item->bad && item->length <= HKV_LIST_VALUE_MAX) {
        struct hkv_value value = {0};
        TRY(item_bytes(l->store, item, &value));
        entry.value = value.data;
        l->value_bytes += (size_t)item->length;
    }
    entry.key_bytes = item->key.len;
    enum hkv_err err = buf_append_byte(&item->key, 0);
    if (err != HKV_OK) {
        free((void *)(uintptr_t)entry.value);
        return err;
    }
    entry.key = (const char *)buf_take(&item->key).data;
    page->entries[page->count++] = entry;
    return HKV_OK;
}

static bool list_visit(void *arg, struct kv_item *item)
{
    struct listing *l = arg;
    bool full =
        l->page->count == l->limit || (l->page->count > 0 && l->with_values && item->length <= HKV_LIST_VALUE_MAX &&
                                       l->value_bytes + item->length > HKV_LIST_BYTES_MAX);
    if (full) {
        l->more = true;
        return false;
    }
    l->err = page_add(l, item);
    return l->err == HKV_OK;
}

static enum hkv_err cursor_decode(const char *cursor, struct buf *after)
{
    size_t length = cursor == NULL ? 0 : strlen(cursor);
    if (length == 0) return HKV_OK;
    bool fits = length % 2 == 0 && length / 2 <= HKV_KEY_MAX;
    if (fits) {
        TRY(buf_reserve(after, length / 2));
        fits = hex_decode(slice_of(cursor, length), HEX_LOWER_ONLY, after->data, length / 2);
        after->len = fits ? length / 2 : 0;
    }
    return fits ? HKV_OK
                : error_set(HKV_E_INVALID, "the cursor is not one that a page gave as its next; start without one");
}

static enum hkv_err cursor_encode(const struct hkv_list_entry *last, char **out)
{
    *out = malloc(HEX_TEXT_MAX(last->key_bytes));
    if (*out == NULL) return error_set(HKV_E_NOMEM, "no memory for a cursor");
    hex_encode(slice_of(last->key, last->key_bytes), *out);
    return HKV_OK;
}

enum hkv_err node_prefix_check(struct slice prefix)
{
    if (prefix.len > HKV_KEY_MAX)
        return error_set(HKV_E_KEY, "the prefix has %zu bytes; a key has at most %d", prefix.len, HKV_KEY_MAX);
    if (prefix.len > 0 && memchr(prefix.data, 0, prefix.len) != NULL)
        return error_set(HKV_E_KEY, "the prefix has a NUL byte; no key has one");
    return HKV_OK;
}

static enum hkv_err list(struct hkv_store *store, struct slice prefix, size_t limit, const char *cursor,
                         bool with_values, struct hkv_page **out)
{
    struct buf after = {0};
    struct listing l = {.store = store,
                        .limit = limit == 0 || limit > HKV_LIST_KEYS_MAX ? HKV_LIST_KEYS_MAX : limit,
                        .with_values = with_values};
    NEED_ARGUMENT(out);
    *out = NULL;
    TRY(node_bytes_check("prefix", prefix.data, prefix.len));
    TRY(node_call_begin(store));
    l.page = calloc(1, sizeof *l.page);
    enum hkv_err err =
        l.page == NULL ? error_set(HKV_E_NOMEM, "no memory for a page of keys") : node_prefix_check(prefix);
    if (err == HKV_OK) err = cursor_decode(cursor, &after);
    if (err == HKV_OK)
        err = kv_list(store->kv, KV_KEY_USER, prefix, buf_slice(&after), with_values ? KV_WANT_VALUE : KV_WANT_META,
                      HKV_LIST_VALUE_MAX, list_visit, &l);
    if (err == HKV_OK) err = l.err;
    if (err == HKV_OK && l.more) err = cursor_encode(&l.page->entries[l.page->count - 1], &l.page->next);
    buf_fini(&after);
    node_call_end(store);
    if (err != HKV_OK) {
        hkv_page_free(l.page);
        l.page = NULL;
    }
    *out = l.page;
    return err;
}

enum hkv_err hkv_list(struct hkv_store *store, const void *prefix, size_t prefix_bytes, size_t limit,
                      const char *cursor, struct hkv_page **out)
{
    return list(store, slice_of(prefix, prefix_bytes), limit, cursor, true, out);
}

enum hkv_err hkv_list_keys(struct hkv_store *store, const void *prefix, size_t prefix_bytes, size_t limit,
                           const char *cursor, struct hkv_page **out)
{
    return list(store, slice_of(prefix, prefix_bytes), limit, cursor, false, out);
}

void hkv_page_free(struct hkv_page *page)
{
    if (page == NULL) return;
    for (size_t i = 0; i < page->count; i++) {
        free((void *)(uintptr_t)page->entries[i].key);
        free((void *)(uintptr_t)page->entries[i].value);
    }
    free(page->entries);
    free(page->next);
    free(page);
}

/* ------------------------------------------------------------------------------------------ history */

struct history_list {
    struct hkv_history *history;
    size_t capacity;
    enum hkv_err err;
};

static bool history_visit(void *arg, const struct kv_history_item *item)
{
    struct history_list *l = arg;
    if (l->history->count == l->capacity) {
        size_t capacity = l->capacity == 0 ? 4 : l->capacity * 2;
        struct hkv_history_entry *entries = realloc(l->history->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            l->err = error_set(HKV_E_NOMEM, "no memory for a key's history");
            return false;
        }
        l->history->entries = entries;
        l->capacity = capacity;
    }
    struct hkv_history_entry *entry = &l->history->entries[l->history->count++];
    *entry = (struct hkv_history_entry){.content_length = item->content_length, .shown = item->shown};
    version_out(&item->version, &entry->version);
    memcpy(entry->hash, item->hash.bytes, ID_BYTES);
    entry->kind = !item->present                ? HKV_KIND_MISSING
                  : item->kind == KV_TOMBSTONE  ? HKV_KIND_TOMBSTONE
                  : item->kind == KV_UNREADABLE ? HKV_KIND_UNREADABLE
                                                : HKV_KIND_VALUE;
    return true;
}

enum hkv_err hkv_history(struct hkv_store *store, const void *key, size_t key_bytes, struct hkv_history **out)
{
    struct buf document_key = {0};
    struct history_list l = {0};
    struct slice name = slice_of(key, key_bytes);
    NEED_ARGUMENT(out);
    *out = NULL;
    TRY(node_bytes_check("key", key, key_bytes));
    TRY(node_call_begin(store));
    l.history = calloc(1, sizeof *l.history);
    enum hkv_err err = l.history == NULL ? error_set(HKV_E_NOMEM, "no memory for a key's history") : kv_key_check(name);
    if (err == HKV_OK) err = kv_key_encode(name, &document_key);
    if (err == HKV_OK) err = kv_history(store->kv, buf_slice(&document_key), history_visit, &l);
    if (err == HKV_OK) err = l.err;
    buf_fini(&document_key);
    node_call_end(store);
    if (err != HKV_OK) {
        hkv_history_free(l.history);
        l.history = NULL;
    }
    *out = l.history;
    return err;
}

void hkv_history_free(struct hkv_history *history)
{
    if (history == NULL) return;
    free(history->entries);
    free(history);
}
