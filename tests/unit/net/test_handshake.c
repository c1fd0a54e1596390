/* The bytes of the TLS handshake, against what iroh peers demand (wire/endpoint.md 4.2 and pitfalls 11 and 12). */
#include "fixture.h"
#include "net/quic_conn.h"

#define EXTENSIONS_MAX 32

struct extension {
    uint16_t type;
    struct slice body;
};

struct message {
    struct buf bytes;
    struct extension extensions[EXTENSIONS_MAX];
    size_t extension_count;
};

static struct message hello, encrypted_extensions, certificate_request, certificate;

static struct message *message_of(unsigned type)
{
    switch (type) {
    case GNUTLS_HANDSHAKE_CLIENT_HELLO:
        return &hello;
    case GNUTLS_HANDSHAKE_ENCRYPTED_EXTENSIONS:
        return &encrypted_extensions;
    case GNUTLS_HANDSHAKE_CERTIFICATE_REQUEST:
        return &certificate_request;
    case GNUTLS_HANDSHAKE_CERTIFICATE_PKT:
        return &certificate;
    default:
        return NULL;
    }
}

static int on_message(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
                      const gnutls_datum_t *body)
{
    struct message *m = message_of(type);
    (void)session, (void)when, (void)incoming;
    if (m && m->bytes.len == 0) assert_int_equal(buf_append(&m->bytes, body->data, body->size), HKV_OK);
    return 0;
}

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* `at` is where the two length bytes of the extension block are. */
static void read_extensions(struct message *m, size_t at)
{
    assert_true(at + 2 <= m->bytes.len);
    size_t end = at + 2 + be16(m->bytes.data + at);
    assert_int_equal(end, m->bytes.len);
    m->extension_count = 0;
    for (at += 2; at < end;) {
        const uint8_t *p = m->bytes.data + at;
        assert_true(m->extension_count < EXTENSIONS_MAX);
        m->extensions[m->extension_count++] = (struct extension){be16(p), slice_of(p + 4, be16(p + 2))};
        at += 4 + (size_t)be16(p + 2);
    }
}

static bool has_extension(const struct message *m, uint16_t type, struct slice *body)
{
    for (size_t i = 0; i < m->extension_count; i++) {
        if (m->extensions[i].type != type) continue;
        *body = m->extensions[i].body;
        return true;
    }
    return false;
}

#define assert_extension(message, type, ...)                                                                           \
    do {                                                                                                               \
        static const uint8_t want[] = {__VA_ARGS__};                                                                   \
        struct slice found_body;                                                                                       \
        if (!has_extension(&message, type, &found_body)) fail_msg("extension 0x%04x is missing", type);                \
        assert_int_equal(found_body.len, sizeof want);                                                                 \
        assert_memory_equal(found_body.data, want, sizeof want);                                                       \
    } while (0)

/* Dials once and records the messages the client sees. */
static void record(struct rig *rig)
{
    rig_init(rig);
    rig_open(rig, 0);
    rig_open(rig, 1);
    struct rig_conn *a = rig_dial(&rig->nodes[0], &rig->nodes[1], RIG_ALPN_A);
    struct quic_conn *c = (struct quic_conn *)a->conn;
    gnutls_handshake_set_hook_function(c->tls, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_PRE, on_message);
    rig_until(rig, a->opened);
}

static void forget(struct rig *rig)
{
    buf_fini(&hello.bytes);
    buf_fini(&encrypted_extensions.bytes);
    buf_fini(&certificate_request.bytes);
    buf_fini(&certificate.bytes);
    rig_fini(rig);
}

static void encrypted_extensions_name_both_certificate_types(void **state)
{
    (void)state;
    struct rig rig;
    struct slice body;
    record(&rig);
    read_extensions(&encrypted_extensions, 0);
    assert_extension(encrypted_extensions, 0x0013, 2);
    assert_extension(encrypted_extensions, 0x0014, 2);
    assert_extension(encrypted_extensions, 0x0010, 0, 8, 7, '/', 't', 'e', 's', 't', '/', 'a');
    assert_true(has_extension(&encrypted_extensions, 0x0039, &body));
    forget(&rig);
}

static void certificate_request_asks_for_ed25519_only(void **state)
{
    (void)state;
    struct rig rig;
    record(&rig);
    assert_int_equal(certificate_request.bytes.data[0], 0); /* empty context */
    read_extensions(&certificate_request, 1);
    assert_extension(certificate_request, 0x000d, 0, 2, 8, 7);
    forget(&rig);
}

static void certificate_is_the_bare_key(void **state)
{
    (void)state;
    static const uint8_t prefix[] = {0,    0,    0,    0x31, 0,    0,    0x2c, 0x30, 0x2a, 0x30,
                                     0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
    struct rig rig;
    record(&rig);
    assert_int_equal(certificate.bytes.len, sizeof prefix + 32 + 2);
    assert_memory_equal(certificate.bytes.data, prefix, sizeof prefix);
    assert_memory_equal(certificate.bytes.data + sizeof prefix, net_endpoint_id(rig.nodes[1].ep), 32);
    forget(&rig);
}

static void hello_offers_what_iroh_offers_and_no_more(void **state)
{
    (void)state;
    static const uint8_t ciphers[] = {0, 6, 0x13, 0x02, 0x13, 0x01, 0x13, 0x03};
    struct rig rig;
    struct slice body;
    record(&rig);
    /* version 2, random 32, session id 1 + n, cipher suites, compression 2 */
    size_t at = 34 + 1 + (size_t)hello.bytes.data[34];
    assert_memory_equal(hello.bytes.data + at, ciphers, sizeof ciphers);
    read_extensions(&hello, at + sizeof ciphers + 2);
    assert_extension(hello, 0x0013, 1, 2);
    assert_extension(hello, 0x0014, 1, 2);
    assert_extension(hello, 0x002b, 2, 3, 4);
    assert_extension(hello, 0x000a, 0, 6, 0, 0x1d, 0, 0x17, 0, 0x18);
    assert_extension(hello, 0x000d, 0, 2, 8, 7);
    assert_extension(hello, 0x0010, 0, 8, 7, '/', 't', 'e', 's', 't', '/', 'a');
    assert_true(has_extension(&hello, 0x0033, &body));
    assert_int_equal(body.len, 38);                     /* one key share, of x25519 */
    assert_false(has_extension(&hello, 0x0000, &body)); /* server_name */
    assert_false(has_extension(&hello, 0x0029, &body)); /* pre_shared_key */
    assert_false(has_extension(&hello, 0x002d, &body)); /* psk_key_exchange_modes: nothing to resume */
    assert_false(has_extension(&hello, 0x0023, &body)); /* session_ticket */
    assert_false(has_extension(&hello, 0x002a, &body)); /* early_data */
    forget(&rig);
}

/* Minimal lengths, and nothing that we do not implement: multipath, NAT traversal, datagrams, acknowledgement
 * frequency. */
static void transport_parameters_are_the_plain_ones(void **state)
{
    (void)state;
    static const uint64_t known[] = {0x01, 0x03, 0x04, 0x05, 0x06, 0x08, 0x0e, 0x0f, 0x11 /* version_information */};
    struct rig rig;
    struct slice body;
    record(&rig);
    size_t at = 34 + 1 + (size_t)hello.bytes.data[34] + 8 + 2;
    read_extensions(&hello, at);
    assert_true(has_extension(&hello, 0x0039, &body));
    size_t count = 0;
    for (size_t i = 0; i < body.len; count++) {
        uint64_t id = body.data[i];
        assert_true(id < 0x40); /* one-byte ids: no extension has one */
        size_t len = body.data[i + 1];
        assert_true(len < 0x40);
        bool is_known = false;
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) is_known |= known[k] == id;
        if (!is_known) fail_msg("transport parameter 0x%02x is sent", (unsigned)id);
        if (id == 0x01) assert_memory_equal(body.data + i + 2, "\x80\x00\x75\x30", 4); /* 30,000 ms */
        if (id == 0x08) assert_memory_equal(body.data + i + 2, "\x40\x64", 2);         /* 100 streams */
        i += 2 + len;
    }
    assert_true(count >= 7);
    forget(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encrypted_extensions_name_both_certificate_types),
        cmocka_unit_test(certificate_request_asks_for_ed25519_only),
        cmocka_unit_test(certificate_is_the_bare_key),
        cmocka_unit_test(hello_offers_what_iroh_offers_and_no_more),
        cmocka_unit_test(transport_parameters_are_the_plain_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
