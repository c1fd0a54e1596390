/* Any bytes as a SignedEntry: what is accepted is within the limits, reads the same when written again, and is never
 * longer than what it was read from. */
#include <stdlib.h>

#include "wire/entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct postcard_reader r = postcard_reader_of(slice_of(data, size));
    struct entry e, again;
    if (entry_decode(&r, &e) != HKV_OK) return 0;
    if (e.key.len > ENTRY_KEY_MAX) abort();
    struct buf out = {0};
    if (entry_encode(&e, &out) != HKV_OK) return 0;
    if (out.len != entry_encoded_bytes(&e) || out.len > size - r.in.len) abort();
    struct postcard_reader second = postcard_reader_of(buf_slice(&out));
    if (entry_decode(&second, &again) != HKV_OK || second.in.len != 0) abort();
    struct fingerprint a, b;
    entry_fingerprint(&e, &a);
    entry_fingerprint(&again, &b);
    if (!fingerprint_equal(&a, &b) || again.record.length_bytes != e.record.length_bytes) abort();
    buf_fini(&out);
    return 0;
}
