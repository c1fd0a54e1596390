/* For the fuzz targets of the blobs protocol: a provider's source of a few values that are made once. */
#ifndef HKV_FUZZ_BLOBS_VALUES_H
#define HKV_FUZZ_BLOBS_VALUES_H

#include <stdlib.h>

#include "blobs/provide.h"

#define VALUES_MAX 16

struct value {
    const uint8_t *data;
    size_t len;
    struct hash hash;
    struct buf outboard;
};

static struct value values[VALUES_MAX];
static size_t value_count;
static size_t value_open; /* looked up and not released */

static void check(bool holds)
{
    if (!holds) abort();
}

/* Adds a value, whose bytes stay the caller's and must stay as they are. */
static void value_add(const uint8_t *data, size_t len)
{
    static struct bao_builder b;
    check(value_count < VALUES_MAX);
    struct value *v = &values[value_count++];
    v->data = data;
    v->len = len;
    bao_builder_init(&b);
    check(bao_builder_update(&b, slice_of(data, len)) == HKV_OK);
    check(bao_builder_finish(&b, &v->hash, &v->outboard) == HKV_OK);
    bao_builder_fini(&b);
}

static enum hkv_err value_lookup(struct blobs_source *source, const struct hash *hash, struct blobs_value *out)
{
    (void)source;
    for (size_t i = 0; i < value_count; i++) {
        if (!hash_equal(hash, &values[i].hash)) continue;
        out->size_bytes = values[i].len;
        out->outboard = buf_slice(&values[i].outboard);
        out->opaque = &values[i];
        value_open++;
        return HKV_OK;
    }
    return HKV_E_NOT_FOUND;
}

static enum hkv_err value_read_at(struct blobs_source *source, struct blobs_value *value, uint64_t offset, uint8_t *out,
                                  size_t len)
{
    (void)source;
    const struct value *v = value->opaque;
    check(offset <= v->len && len <= v->len - offset);
    memcpy(out, v->data + offset, len);
    return HKV_OK;
}

static void value_release(struct blobs_source *source, struct blobs_value *value)
{
    (void)source;
    check(value->opaque != NULL && value_open > 0);
    value_open--;
}

static struct blobs_source value_source = {
    &(const struct blobs_source_ops){.lookup = value_lookup, .read_at = value_read_at, .release = value_release}};

#endif
