#include "wire/ticket.h"

#include <stdlib.h>

#include "base/text.h"
#include "crypto/ed25519.h"
#include "wire/postcard.h"

static const char endpoint_prefix[] = "endpoint";
static const char doc_prefix[] = "doc";

/* Variants of TransportAddr. */
enum { ADDR_RELAY, ADDR_IP, ADDR_CUSTOM, ADDR_VARIANTS };

/* Layouts that share the ticket variant 00; each is tried in turn until one takes all of the input. */
enum layout {
    LAYOUT_NEW,        /* TransportAddr set; custom address as id, bytes (iroh 1.4) */
    LAYOUT_OLD_CUSTOM, /* TransportAddr set; custom address as id, enum (iroh 0.97 to 1.0) */
    LAYOUT_NODE_ADDR,  /* id, Option<relay>, set of socket addresses (iroh <= 0.93; doc tickets only) */
};

/* ---- writing ---- */

static enum hkv_err write_socket(const struct socket_address *a, struct buf *out)
{
    TRY(buf_append_byte(out, a->is_ipv6));
    TRY(buf_append(out, a->ip, a->is_ipv6 ? 16 : 4));
    return postcard_write_varint(out, a->port);
}

static enum hkv_err write_endpoint(const struct endpoint_address *endpoint, struct buf *out)
{
    TRY(buf_append(out, endpoint->id.bytes, ID_BYTES));
    TRY(postcard_write_varint(out, endpoint->addrs.count));
    for (size_t i = 0; i < endpoint->addrs.count; i++) {
        const struct address *a = &endpoint->addrs.items[i];
        TRY(buf_append_byte(out, a->kind == ADDRESS_RELAY ? ADDR_RELAY : ADDR_IP));
        TRY(a->kind == ADDRESS_RELAY ? postcard_write_bytes(out, slice_of_text(a->relay_url))
                                     : write_socket(&a->socket, out));
    }
    return HKV_OK;
}

static enum hkv_err write_text(const char *prefix, const struct buf *bytes, struct buf *out)
{
    size_t before = out->len;
    TRY(buf_append(out, prefix, strlen(prefix)));
    enum hkv_err err = base32_encode(buf_slice(bytes), out);
    if (err != HKV_OK) out->len = before;
    return err;
}

enum hkv_err endpoint_ticket_encode(const struct endpoint_address *endpoint, struct buf *out)
{
    struct buf bytes = {0};
    enum hkv_err err = buf_append_byte(&bytes, 0);
    if (err == HKV_OK) err = write_endpoint(endpoint, &bytes);
    if (err == HKV_OK) err = write_text(endpoint_prefix, &bytes, out);
    buf_fini(&bytes);
    return err;
}

static enum hkv_err write_doc(const struct doc_ticket *ticket, struct buf *out)
{
    const uint8_t write_head[] = {0, 0, ID_BYTES}, read_head[] = {0, 1};
    if (ticket->writable) {
        TRY(buf_append(out, write_head, sizeof write_head));
        TRY(buf_append(out, ticket->secret.bytes, ID_BYTES));
    } else {
        TRY(buf_append(out, read_head, sizeof read_head));
        TRY(buf_append(out, ticket->namespace.bytes, ID_BYTES));
    }
    TRY(postcard_write_varint(out, ticket->endpoint_count));
    for (size_t i = 0; i < ticket->endpoint_count; i++) TRY(write_endpoint(&ticket->endpoints[i], out));
    return HKV_OK;
}

/* Frees a buffer that held a secret. */
static void buf_wipe(struct buf *b)
{
    if (b->data != NULL) secret_wipe(b->data, b->cap);
    buf_fini(b);
}

enum hkv_err doc_ticket_encode(const struct doc_ticket *ticket, struct buf *out)
{
    if (ticket->endpoint_count == 0)
        return error_set(HKV_E_INVALID, "a doc ticket names at least one endpoint; this one has none");
    struct buf bytes = {0};
    enum hkv_err err = write_doc(ticket, &bytes);
    if (err == HKV_OK) err = write_text(doc_prefix, &bytes, out);
    buf_wipe(&bytes);
    return err;
}

/* ---- reading ---- */

/* Takes the bytes out of a ticket's text. */
static enum hkv_err read_text(const char *prefix, struct slice text, struct buf *out)
{
    struct slice head = slice_of_text(prefix);
    if (!slice_starts_with(text, head))
        return error_set(HKV_E_TICKET, "not %s ticket: it does not begin with \"%s\"",
                         prefix[0] == 'e' ? "an endpoint" : "a doc", prefix);
    if (text.len > TICKET_TEXT_MAX)
        return error_set(HKV_E_TICKET, "%s ticket: longer than %d bytes", prefix, TICKET_TEXT_MAX);
    enum hkv_err err = base32_decode(slice_part(text, head.len, text.len - head.len), out);
    return err == HKV_E_INVALID ? error_wrap(HKV_E_TICKET, "%s ticket", prefix) : err;
}

static enum hkv_err read_id(struct postcard_reader *r, struct endpoint_id *out)
{
    TRY(postcard_read_raw(r, out->bytes, ID_BYTES));
    if (!ed25519_is_point(out->bytes))
        return error_set(HKV_E_PEER_PROTOCOL, "the endpoint id is no point of the curve");
    return HKV_OK;
}

/* A set that is full keeps what it has; iroh would keep more, we would not dial them. */
static enum hkv_err unless_full(enum hkv_err err)
{
    return err == HKV_E_LIMIT ? HKV_OK : err;
}

static enum hkv_err read_relay(struct postcard_reader *r, struct address_set *set)
{
    struct slice url;
    TRY(postcard_read_bytes(r, TICKET_TEXT_MAX, &url));
    if (!utf8_is_valid(url)) return error_set(HKV_E_PEER_PROTOCOL, "a relay URL is not UTF-8");
    return relay_url_is_foreign(url) ? HKV_OK : unless_full(address_set_add_relay(set, url));
}

static enum hkv_err read_socket(struct postcard_reader *r, struct address_set *set)
{
    struct socket_address a = {0};
    uint32_t family;
    TRY(postcard_read_variant(r, 2, &family));
    a.is_ipv6 = family == 1;
    TRY(postcard_read_raw(r, a.ip, a.is_ipv6 ? 16 : 4));
    TRY(postcard_read_u16(r, &a.port));
    return unless_full(address_set_add_socket(set, &a));
}

static enum hkv_err skip_custom(struct postcard_reader *r, enum layout layout)
{
    uint64_t transport;
    uint32_t form = 1;
    struct slice data;
    TRY(postcard_read_u64(r, &transport));
    if (layout == LAYOUT_OLD_CUSTOM) TRY(postcard_read_variant(r, 2, &form));
    if (form == 0) return postcard_read_part(r, 1 + 30, &data); /* size, then 30 bytes whatever the size */
    return postcard_read_bytes(r, TICKET_TEXT_MAX, &data);
}

static enum hkv_err read_transport_addr(struct postcard_reader *r, enum layout layout, struct address_set *set)
{
    uint32_t kind;
    TRY(postcard_read_variant(r, ADDR_VARIANTS, &kind));
    if (kind == ADDR_RELAY) return read_relay(r, set);
    return kind == ADDR_IP ? read_socket(r, set) : skip_custom(r, layout);
}

/* On failure what was read so far stays in `out`, for its owner to free. */
static enum hkv_err read_endpoint(struct postcard_reader *r, enum layout layout, struct endpoint_address *out)
{
    size_t count;
    bool has_relay = false;
    TRY(read_id(r, &out->id));
    if (layout == LAYOUT_NODE_ADDR) TRY(postcard_read_bool(r, &has_relay));
    if (has_relay) TRY(read_relay(r, &out->addrs));
    TRY(postcard_read_length(r, TICKET_TEXT_MAX, &count));
    for (size_t i = 0; i < count; i++)
        TRY(layout == LAYOUT_NODE_ADDR ? read_socket(r, &out->addrs) : read_transport_addr(r, layout, &out->addrs));
    return HKV_OK;
}

static enum hkv_err read_variant_zero(struct postcard_reader *r)
{
    uint32_t variant;
    return postcard_read_variant(r, 1, &variant);
}

static enum hkv_err read_endpoint_ticket(struct postcard_reader *r, enum layout layout, void *out)
{
    TRY(read_variant_zero(r));
    return read_endpoint(r, layout, out);
}

static enum hkv_err read_capability(struct postcard_reader *r, struct doc_ticket *out)
{
    uint32_t kind;
    size_t len;
    TRY(postcard_read_variant(r, 2, &kind));
    out->writable = kind == 0;
    if (!out->writable) return postcard_read_raw(r, out->namespace.bytes, ID_BYTES);
    TRY(postcard_read_length(r, ID_BYTES, &len));
    if (len != ID_BYTES) return error_set(HKV_E_PEER_PROTOCOL, "the namespace secret has %zu bytes instead of 32", len);
    TRY(postcard_read_raw(r, out->secret.bytes, ID_BYTES));
    ed25519_public_key(&out->secret, out->namespace.bytes);
    return HKV_OK;
}

static enum hkv_err read_doc_ticket(struct postcard_reader *r, enum layout layout, void *user)
{
    struct doc_ticket *out = user;
    size_t count;
    TRY(read_variant_zero(r));
    TRY(read_capability(r, out));
    TRY(postcard_read_length(r, TICKET_TEXT_MAX, &count));
    if (count == 0) return error_set(HKV_E_PEER_PROTOCOL, "it names no endpoint");
    size_t kept = count < TICKET_ENDPOINTS_MAX ? count : TICKET_ENDPOINTS_MAX;
    out->endpoints = calloc(kept, sizeof *out->endpoints);
    if (out->endpoints == NULL) return error_set(HKV_E_NOMEM, "no memory for %zu endpoints", kept);
    for (size_t i = 0; i < count; i++) {
        struct endpoint_address endpoint = {0};
        enum hkv_err err = read_endpoint(r, layout, &endpoint);
        if (err == HKV_OK && i < kept) {
            out->endpoints[out->endpoint_count++] = endpoint;
            continue;
        }
        endpoint_address_fini(&endpoint);
        TRY(err);
    }
    return HKV_OK;
}

static void fini_endpoint(void *endpoint)
{
    endpoint_address_fini(endpoint);
}

static void fini_doc(void *ticket)
{
    doc_ticket_fini(ticket);
}

struct ticket_kind {
    const char *prefix;
    enum hkv_err (*read)(struct postcard_reader *r, enum layout layout, void *out);
    void (*fini)(void *value);
    size_t size;
    enum layout last_layout;
};

/* Reads with one layout. `*complete` tells whether it took all bytes; on failure `out` is empty again. */
static enum hkv_err read_as(const struct ticket_kind *kind, enum layout layout, struct slice bytes, void *out,
                            bool *complete)
{
    struct postcard_reader r = postcard_reader_of(bytes);
    memset(out, 0, kind->size);
    enum hkv_err err = kind->read(&r, layout, out);
    *complete = err == HKV_OK && r.in.len == 0;
    if (err != HKV_OK) kind->fini(out);
    return err;
}

/* The layout that takes all bytes wins; bytes left over are fine only when none does, and then the newest layout
 * counts. The sentence of a failure is that of the newest layout. */
static enum hkv_err read_any_layout(const struct ticket_kind *kind, struct slice bytes, void *out)
{
    bool complete;
    enum layout layout = LAYOUT_NEW, loose = kind->last_layout + 1;
    struct error_text first;
    for (; layout <= kind->last_layout; layout++) {
        enum hkv_err err = read_as(kind, layout, bytes, out, &complete);
        if (err == HKV_E_NOMEM || complete) return err;
        if (layout == LAYOUT_NEW) error_save(&first);
        if (err != HKV_OK) continue;
        kind->fini(out);
        if (loose > layout) loose = layout;
    }
    if (loose <= kind->last_layout) return read_as(kind, loose, bytes, out, &complete);
    error_restore(&first);
    return error_wrap(HKV_E_TICKET, "%s ticket", kind->prefix);
}

static enum hkv_err decode(const struct ticket_kind *kind, struct slice text, void *out)
{
    struct buf bytes = {0};
    enum hkv_err err = read_text(kind->prefix, text, &bytes);
    if (err == HKV_OK) err = read_any_layout(kind, buf_slice(&bytes), out);
    buf_wipe(&bytes);
    return err;
}

enum hkv_err endpoint_ticket_decode(struct slice text, struct endpoint_address *out)
{
    static const struct ticket_kind kind = {endpoint_prefix, read_endpoint_ticket, fini_endpoint, sizeof *out,
                                            LAYOUT_OLD_CUSTOM};
    return decode(&kind, text, out);
}

enum hkv_err doc_ticket_decode(struct slice text, struct doc_ticket *out)
{
    static const struct ticket_kind kind = {doc_prefix, read_doc_ticket, fini_doc, sizeof *out, LAYOUT_NODE_ADDR};
    return decode(&kind, text, out);
}

void doc_ticket_fini(struct doc_ticket *ticket)
{
    if (ticket == NULL) return;
    for (size_t i = 0; i < ticket->endpoint_count; i++) endpoint_address_fini(&ticket->endpoints[i]);
    free(ticket->endpoints);
    secret_wipe(&ticket->secret, sizeof ticket->secret);
    *ticket = (struct doc_ticket){0};
}

/* ---- peers as people write them ---- */

enum hkv_err endpoint_id_parse(struct slice text, struct endpoint_id *out)
{
    struct buf bytes = {0};
    bool good = hex_decode(text, HEX_LOWER_ONLY, out->bytes, ID_BYTES);
    if (text.len == ID_BASE32_CHARS) {
        enum hkv_err err = base32_decode(text, &bytes);
        if (err == HKV_OK) memcpy(out->bytes, bytes.data, ID_BYTES);
        buf_fini(&bytes);
        if (err == HKV_E_NOMEM) return err;
        good = err == HKV_OK;
    }
    if (!good) return error_set(HKV_E_TICKET, "an endpoint id is 64 lower-case hex digits or 52 base32 characters");
    if (!ed25519_is_point(out->bytes))
        return error_set(HKV_E_TICKET, "the endpoint id is not a public key: check it for a typing error");
    return HKV_OK;
}

static bool is_host_name(struct slice host)
{
    bool has_letter = false;
    for (size_t i = 0; i < host.len; i++) {
        uint8_t c = host.data[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (!letter && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_') return false;
        has_letter |= letter;
    }
    return host.len > 0 && host.len <= PEER_HOST_MAX && has_letter && host.data[0] != '.' && host.data[0] != '-';
}

/* `host:port`, the host being a name: everything that is an address went through socket_address_parse() before. */
static enum hkv_err parse_host_name(struct slice text, struct peer_name *out)
{
    size_t colon = 0;
    unsigned port = 0;
    while (colon < text.len && text.data[colon] != ':') colon++;
    struct slice host = slice_part(text, 0, colon);
    bool good = is_host_name(host) && text.len > colon + 1 && text.len <= colon + 6;
    for (size_t i = colon + 1; good && i < text.len; i++) {
        good = text.data[i] >= '0' && text.data[i] <= '9';
        port = port * 10 + text.data[i] - '0';
    }
    if (!good || port == 0 || port > UINT16_MAX)
        return error_set(HKV_E_TICKET,
                         "after the @ of a peer stands host:port: a name, 192.0.2.1 or [2001:db8::1], and a port "
                         "from 1 to 65535");
    memcpy(out->host, host.data, host.len);
    out->port = (uint16_t)port;
    return HKV_OK;
}

enum hkv_err peer_name_parse(struct slice text, struct peer_name *out)
{
    *out = (struct peer_name){0};
    const uint8_t *at = text.len > 0 ? memchr(text.data, '@', text.len) : NULL;
    if (at == NULL) {
        if (slice_starts_with(text, slice_of_text(endpoint_prefix)))
            return endpoint_ticket_decode(text, &out->endpoint);
        return error_set(HKV_E_TICKET, "a peer is an endpoint… ticket or endpointid@host:port");
    }
    size_t id_len = (size_t)(at - text.data);
    struct slice where = slice_part(text, id_len + 1, text.len - id_len - 1);
    struct socket_address socket;
    TRY(endpoint_id_parse(slice_part(text, 0, id_len), &out->endpoint.id));
    enum hkv_err err = socket_address_parse(where, &socket);
    if (err != HKV_OK || socket.port == 0) return parse_host_name(where, out);
    return address_set_add_socket(&out->endpoint.addrs, &socket);
}

void peer_name_fini(struct peer_name *peer)
{
    if (peer != NULL) endpoint_address_fini(&peer->endpoint);
}
