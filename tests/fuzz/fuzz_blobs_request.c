/* Requests from hostile peers: read, written back, and answered from a few small values. What is accepted must survive
 * a second round, and its answer must end, whatever the request asks for. */
#include "blobs_values.h"
#include "crypto/blake3.h"

#define DATA_BYTES   40000
#define ANSWER_BYTES ((size_t)4 * 1024 * 1024)

static uint8_t data[DATA_BYTES];
static uint8_t unknown_hashes[16384];
static uint8_t known_hashes[2 * ID_BYTES];

/* Value 0 is the sequence of values 1 and 2; value 2 is a sequence of hashes that nobody has. */
static void prepare(void)
{
    struct hash hash;
    if (value_count > 0) return;
    for (size_t i = 0; i < DATA_BYTES; i++) data[i] = (uint8_t)(i % 251);
    memset(unknown_hashes, 0x77, sizeof unknown_hashes);
    blake3_hash(slice_of(data, 1025), &hash);
    memcpy(known_hashes, hash.bytes, ID_BYTES);
    blake3_hash(slice_of(unknown_hashes, sizeof unknown_hashes), &hash);
    memcpy(known_hashes + ID_BYTES, hash.bytes, ID_BYTES);
    value_add(known_hashes, sizeof known_hashes);
    value_add(data, 1025);
    value_add(unknown_hashes, sizeof unknown_hashes);
    value_add(data, DATA_BYTES);
}

/* A hash that the fuzzer cannot guess is replaced by one that its first byte chooses; 0xff stays unknown. */
static void make_known(struct blobs_request *r)
{
    for (size_t i = 0; i < r->hash_count; i++)
        if (r->hashes[i].bytes[0] != 0xff) r->hashes[i] = values[r->hashes[i].bytes[0] % value_count].hash;
}

static void answer(struct blobs_request *r)
{
    static struct blobs_provide p;
    struct buf out = {0};
    enum blobs_provide_state state = BLOBS_PROVIDE_MORE;
    blobs_provide_init(&p, r);
    while (state == BLOBS_PROVIDE_MORE && p.sent_bytes < ANSWER_BYTES) {
        buf_clear(&out);
        check(blobs_provide_step(&p, &value_source, 65536, &out, &state) == HKV_OK);
        check(out.len < 65536 + BAO_GROUP_BYTES);
        check(state != BLOBS_PROVIDE_BROKEN || p.cause != HKV_E_CORRUPT);
    }
    blobs_provide_fini(&p, &value_source);
    check(value_open == 0);
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
