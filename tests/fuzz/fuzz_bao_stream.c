/* The getter's decoder against a hostile provider, and encoder and decoder against each other.
 *
 *   byte 0   low bits choose the wanted value (patterns of the vectors), the high bit the game:
 *            0: the rest is what the provider sends     1: the rest is ranges, and the provider is ours
 *   byte 1   bytes fed at once
 *   byte 2   number of boundaries, then that many steps of 2 bytes between them
 *
 * Whatever is handed out must be the pattern itself, and all of it when a fetch of everything says that it is complete;
 * a response of ours must always complete. */
#include "blobs/fetch.h"
#include "blobs_values.h"

#define DATA_BYTES 100000
#define BOUNDS_MAX 16

static const size_t sizes[] = {0, 1, 1024, 1025, 2049, 16384, 16385, 20480, 32769, DATA_BYTES};

#define SIZE_COUNT (sizeof sizes / sizeof sizes[0])

static uint8_t data[DATA_BYTES];

static void prepare(void)
{
    if (value_count > 0) return;
    for (size_t i = 0; i < DATA_BYTES; i++) data[i] = (uint8_t)(i % 251);
    for (size_t i = 0; i < SIZE_COUNT; i++) value_add(data, sizes[i]);
}

static void respond(struct slice request, struct buf *out)
{
    static struct blobs_provide p;
    struct blobs_request r;
    enum blobs_provide_state state = BLOBS_PROVIDE_MORE;
    check(blobs_request_decode(request, &r, NULL) == HKV_OK);
    blobs_provide_init(&p, &r);
    while (state == BLOBS_PROVIDE_MORE) check(blobs_provide_step(&p, &value_source, 5000, out, &state) == HKV_OK);
    check(state == BLOBS_PROVIDE_DONE);
    blobs_provide_fini(&p, &value_source);
    check(value_open == 0);
}

/* True when everything was accepted; `got_bytes` were handed out. */
static bool receive(struct blobs_fetch *f, size_t size, struct slice stream, size_t piece, size_t *got_bytes)
{
    *got_bytes = 0;
    while (stream.len > 0) {
        struct slice in = slice_part(stream, 0, piece);
        struct blobs_fetch_event e;
        stream = slice_part(stream, in.len, SIZE_MAX);
        do {
            size_t consumed;
            if (blobs_fetch_feed(f, in, &consumed, &e) != HKV_OK) return false;
            check(consumed <= in.len);
            in = slice_part(in, consumed, SIZE_MAX);
            if (e.kind == BLOBS_FETCH_BLOB_DONE && e.size_proven) check(e.size_bytes == size);
            if (e.kind != BLOBS_FETCH_LEAF) continue;
            check(e.offset < size && e.data.len <= size - e.offset);
            check(memcmp(e.data.data, data + e.offset, e.data.len) == 0);
            *got_bytes += e.data.len;
        } while (e.kind != BLOBS_FETCH_NEED_MORE);
        check(in.len == 0);
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    static struct blobs_fetch f;
    if (len < 3) return 0;
    prepare();
    size_t which = (input[0] & 0x7f) % SIZE_COUNT, piece = (size_t)input[1] * input[1] + 1,
           count = input[2] % (BOUNDS_MAX + 1);
    uint64_t bounds[BOUNDS_MAX] = {0};
    if (len < 3 + 2 * count) return 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t step = (uint64_t)input[3 + 2 * i] << 8 | input[4 + 2 * i];
        bounds[i] = step + (i > 0 ? bounds[i - 1] + 1 : 0);
    }
    struct bao_ranges ranges = count > 0 ? (struct bao_ranges){bounds, count} : bao_ranges_all;
    struct blobs_want want = {values[which].hash, BLOBS_SIZE_UNKNOWN};
    struct buf stream = {0};
    bool ours = (input[0] & 0x80) != 0;
    check(blobs_fetch_init_one(&f, &want, ranges, UINT64_MAX) == HKV_OK);
    if (ours) respond(buf_slice(&f.request_bytes), &stream);
    struct slice in = ours ? buf_slice(&stream) : slice_of(input + 3 + 2 * count, len - 3 - 2 * count);
    size_t got_bytes;
    bool accepted = receive(&f, sizes[which], in, piece, &got_bytes);
    bool complete = accepted && blobs_fetch_end(&f) == BLOBS_FETCH_COMPLETE;
    if (ours) check(complete);
    if (complete && count == 0) check(got_bytes == sizes[which]);
    buf_fini(&stream);
    blobs_fetch_fini(&f);
    return 0;
}
