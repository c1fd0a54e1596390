/* Tickets and peer names from hostile text. The first byte chooses how the rest is read:
 *   'e', 'd'  as the bytes of an endpoint or doc ticket (base32 is put around them)
 *   'h'       as a relay URL
 *   others    as the text of a peer
 * Whatever is accepted must survive a second round unchanged. */
#include <stdlib.h>

#include "base/text.h"
#include "crypto/ed25519.h"
#include "wire/ticket.h"

static void check(bool holds)
{
    if (!holds) abort();
}

static void endpoint(struct slice text)
{
    struct endpoint_address first, second;
    struct buf once = {0}, twice = {0};
    if (endpoint_ticket_decode(text, &first) != HKV_OK) return;
    check(endpoint_ticket_encode(&first, &once) == HKV_OK);
    check(endpoint_ticket_decode(buf_slice(&once), &second) == HKV_OK);
    check(endpoint_ticket_encode(&second, &twice) == HKV_OK);
    check(slice_equal(buf_slice(&once), buf_slice(&twice)));
    endpoint_address_fini(&first);
    endpoint_address_fini(&second);
    buf_fini(&once);
    buf_fini(&twice);
}

static void doc(struct slice text)
{
    struct doc_ticket first, second;
    struct buf once = {0}, twice = {0};
    if (doc_ticket_decode(text, &first) != HKV_OK) return;
    check(doc_ticket_encode(&first, &once) == HKV_OK);
    check(doc_ticket_decode(buf_slice(&once), &second) == HKV_OK);
    check(doc_ticket_encode(&second, &twice) == HKV_OK);
    check(slice_equal(buf_slice(&once), buf_slice(&twice)));
    doc_ticket_fini(&first);
    doc_ticket_fini(&second);
    buf_fini(&once);
    buf_fini(&twice);
}

static void relay(struct slice text)
{
    struct buf once = {0}, twice = {0};
    if (relay_url_normalise(text, &once) == HKV_OK) {
        check(relay_url_normalise(buf_slice(&once), &twice) == HKV_OK);
        check(slice_equal(buf_slice(&once), buf_slice(&twice)));
    }
    buf_fini(&once);
    buf_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || crypto_init() != HKV_OK) return 0;
    struct slice rest = slice_of(data + 1, size - 1);
    struct buf text = {0};
    struct peer_name peer;
    switch (data[0]) {
    case 'e':
    case 'd':
        check(buf_append_slice(&text, slice_of_text(data[0] == 'e' ? "endpoint" : "doc")) == HKV_OK);
        check(base32_encode(rest, &text) == HKV_OK);
        data[0] == 'e' ? endpoint(buf_slice(&text)) : doc(buf_slice(&text));
        buf_fini(&text);
        break;
    case 'h':
        relay(rest);
        break;
    default:
        if (peer_name_parse(rest, &peer) == HKV_OK) peer_name_fini(&peer);
        break;
    }
    return 0;
}
