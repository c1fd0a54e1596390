/* Requests from hostile peers: read, written back, and answered from a few small values. What is accepted must survive
 * a second round, and its answer must end, whatever the request asks for. */
#include <stdlib.h>

#include "blobs/provide.h"
#include "crypto/blake3.h"

#define DATA_BYTES   40000
#define VALUE_COUNT  4
#define ANSWER_BYTES ((size_t)4 * 1024 * 1024)

static const size_t sizes[VALUE_COUNT] = {64, 1025, 16384, DATA_BYTES};

static uint8_t data[VALUE_COUNT][DATA_BYTES];
static struct hash hashes[VALUE_COUNT];
static struct buf outboards[VALUE_COUNT];

static void check(bool holds)
{
    if (!holds) abort();
}

/* Value 0 is the sequence of values 1 and 2; value 2 is a sequence of hashes that nobody has. */
static void prepare(void)
{
    static bool ready;
    if (ready) return;
    ready = true;
    for (size_t i = VALUE_COUNT; i-- > 0;) {
        static struct bao_builder b;
        for (size_t j = 0; j < DATA_BYTES; j++) data[i][j] = (uint8_t)(j % 251);
        for (size_t j = 0; i == 2 && j < sizes[2]; j += ID_BYTES) memset(data[2] + j, 0x77, ID_BYTES);
        if (i == 0) memcpy(data[0], hashes + 1, 2 * ID_BYTES);
        bao_builder_init(&b);
        check(bao_builder_update(&b, slice_of(data[i], sizes[i])) == HKV_OK);
        check(bao_builder_finish(&b, &hashes[i], &outboards[i]) == HKV_OK);
        bao_builder_fini(&b);
    }
}

static enum hkv_err find(struct blobs_source *source, const struct hash *hash, struct blobs_value *out)
{
    (void)source;
    for (size_t i = 0; i < VALUE_COUNT; i++) {
        if (!hash_equal(hash, &hashes[i])) continue;
        out->size_bytes = sizes[i];
        out->outboard = buf_slice(&outboards[i]);
        out->opaque = data[i];
        return HKV_OK;
    }
    return HKV_E_NOT_FOUND;
}

static enum hkv_err read_at(struct blobs_source *source, struct blobs_value *value, uint64_t offset, uint8_t *out,
                            size_t len)
{
    (void)source;
    check(offset <= value->size_bytes && len <= value->size_bytes - offset);
    memcpy(out, (const uint8_t *)value->opaque + offset, len);
    return HKV_OK;
}

static void release(struct blobs_source *source, struct blobs_value *value)
{
    (void)source;
    check(value->opaque != NULL);
}

/* A hash that the fuzzer cannot guess is replaced by one that its first byte chooses; 0xff stays unknown. */
static void make_known(struct blobs_request *r)
{
    for (size_t i = 0; i < r->hash_count; i++)
        if (r->hashes[i].bytes[0] != 0xff) r->hashes[i] = hashes[r->hashes[i].bytes[0] % VALUE_COUNT];
}

static void answer(struct blobs_request *r)
{
    static const struct blobs_source_ops ops = {.lookup = find, .read_at = read_at, .release = release};
    static struct blobs_provide p;
    struct blobs_source source = {&ops};
    struct buf out = {0};
    enum blobs_provide_state state = BLOBS_PROVIDE_MORE;
    blobs_provide_init(&p, r);
    while (state == BLOBS_PROVIDE_MORE && p.sent_bytes < ANSWER_BYTES) {
        buf_clear(&out);
        check(blobs_provide_step(&p, &source, 65536, &out, &state) == HKV_OK);
        check(out.len < 65536 + BAO_GROUP_BYTES);
        check(state != BLOBS_PROVIDE_BROKEN || p.cause != HKV_E_CORRUPT);
    }
    blobs_provide_fini(&p, &source);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct blobs_request first, second;
    struct buf once = {0}, twice = {0};
    size_t end;
    prepare();
    if (blobs_request_decode(slice_of(input, len), &first, &end) != HKV_OK) return 0;
    check(end <= len);
    check(blobs_request_encode(&first, &once) == HKV_OK);
    check(blobs_request_decode(buf_slice(&once), &second, &end) == HKV_OK && end == once.len);
    check(blobs_request_encode(&second, &twice) == HKV_OK);
    check(slice_equal(buf_slice(&once), buf_slice(&twice)));
    blobs_request_fini(&second);
    make_known(&first);
    answer(&first);
    blobs_request_fini(&first);
    buf_fini(&once);
    buf_fini(&twice);
    return 0;
}
