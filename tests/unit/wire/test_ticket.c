/* Tickets: the strings that iroh prints (iroh-tickets, iroh-docs and captures of 0.35 and 1.0.2), what it accepts and
 * refuses, and the short form endpointid@host:port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/text.h"
#include "crypto/ed25519.h"
#include "wire/ticket.h"

#define ID       "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6"
#define ZEROS_32 "0000000000000000000000000000000000000000000000000000000000000000"
#define ONES_32  "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
#define NO_POINT "0200000000000000000000000000000000000000000000000000000000000000"
#define DERP     "0010687474703a2f2f646572702e6d652e2f"
#define R_RELAY  "68747470733a2f2f72656c61792e6578616d706c652e636f6d2f"

static struct endpoint_address endpoint_at(const char *const *texts, size_t count)
{
    struct endpoint_address ea = {0};
    assert_true(hex_decode(slice_of_text(ID), HEX_LOWER_ONLY, ea.id.bytes, ID_BYTES));
    for (size_t i = 0; i < count; i++)
        assert_int_equal(address_set_add_text(&ea.addrs, slice_of_text(texts[i])), HKV_OK);
    return ea;
}

/* The addresses as one text, a space between them. */
static void assert_addresses(const struct address_set *set, const char *expected)
{
    char all[4096] = "", text[ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < set->count; i++) {
        if (i > 0) strcat(all, " ");
        strcat(all, address_format(&set->items[i], text));
    }
    assert_string_equal(all, expected);
}

/* The text of a ticket with these bytes, to be freed. */
static char *ticket_of_hex(const char *prefix, const char *hex)
{
    uint8_t bytes[4096];
    struct buf text = {0};
    size_t len = strlen(hex) / 2;
    assert_true(len <= sizeof bytes && hex_decode(slice_of_text(hex), HEX_LOWER_ONLY, bytes, len));
    assert_int_equal(buf_append(&text, prefix, strlen(prefix)), HKV_OK);
    assert_int_equal(base32_encode(slice_of(bytes, len), &text), HKV_OK);
    assert_int_equal(buf_append_byte(&text, '\0'), HKV_OK);
    return (char *)text.data;
}

struct endpoint_vector {
    const char *addrs[6];
    const char *text;
    const char *normal;
};

static const struct endpoint_vector endpoint_vectors[] = {
    {{"http://derp.me./", "127.0.0.1:1024"},
     "endpointacxfr74igmsbvsbnn73wcecg5vt3kbzncqwfrdiampuufwnhkublmaqacbuhi5dqhixs6zdfojyc43lffyxqcad7aaaadaai",
     "http://derp.me./ 127.0.0.1:1024"},
    {{NULL}, "endpointacxfr74igmsbvsbnn73wcecg5vt3kbzncqwfrdiampuufwnhkublmaa", ""},
    {{"[::1]:1"},
     "endpointacxfr74igmsbvsbnn73wcecg5vt3kbzncqwfrdiampuufwnhkublmaibaeaaaaaaaaaaaaaaaaaaaaaaaaaqc",
     "[::1]:1"},
    {{"https://use1-1.relay.n0.iroh.link."},
     "endpointacxfr74igmsbvsbnn73wcecg5vt3kbzncqwfrdiampuufwnhkublmaiaenuhi5dqom5c6l3vonstcljrfzzgk3dbpexg4mbonfzg62bon"
     "ruw42zo"
     "f4",
     "https://use1-1.relay.n0.iroh.link./"},
    {{"[2001:db8::1]:4433", "192.168.1.7:65535", "10.0.0.1:443", "[fe80::1]:9", "10.0.0.1:80",
      "https://relay.example.com"},
     "endpointacxfr74igmsbvsbnn73wcecg5vt3kbzncqwfrdiampuufwnhkublmbqadjuhi5dqom5c6l3smvwgc6jomv4gc3lqnrss4y3pnuxqcaaka"
     "aaacuab"
     "aafaaaabxmbqcagavaaqp777amaqciabbw4aaaaaaaaaaaaaaaaaaaoreiaqd7uaaaaaaaaaaaaaaaaaaaaaaaij",
     "https://relay.example.com/ 10.0.0.1:80 10.0.0.1:443 192.168.1.7:65535 [2001:db8::1]:4433 [fe80::1]:9"},
};

#define VECTORS(table) (sizeof(table) / sizeof(table)[0])

static void endpoint_tickets_are_the_strings_of_iroh(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTORS(endpoint_vectors); i++) {
        const struct endpoint_vector *v = &endpoint_vectors[i];
        size_t count = 0;
        while (count < 6 && v->addrs[count] != NULL) count++;
        struct endpoint_address ea = endpoint_at(v->addrs, count), back;
        struct buf text = {0};
        assert_int_equal(endpoint_ticket_encode(&ea, &text), HKV_OK);
        assert_int_equal(buf_append_byte(&text, '\0'), HKV_OK);
        assert_string_equal((char *)text.data, v->text);
        assert_int_equal(endpoint_ticket_decode(slice_of_text(v->text), &back), HKV_OK);
        assert_true(endpoint_id_equal(&back.id, &ea.id));
        assert_addresses(&back.addrs, v->normal);
        endpoint_address_fini(&back);
        endpoint_address_fini(&ea);
        buf_fini(&text);
    }
}

static void endpoint_tickets_are_read_as_tolerantly_as_iroh_does(void **state)
{
    (void)state;
    static const struct {
        const char *hex, *normal;
    } good[] = {
        {"00" ID "03"
         "01007f0000018008" DERP "01007f0000018008",
         "http://derp.me./ 127.0.0.1:1024"},
        {"00" ID "8000", ""},
        {"00" ID "01"
         "01007f0000018008"
         "0000000000",
         "127.0.0.1:1024"},
        {"00" ZEROS_32 "00", ""},
        {"00" ONES_32 "00", ""},
        {"00" ID "01"
         "0101"
         "00000000000000000000ffff7f000001"
         "01",
         "[::ffff:127.0.0.1]:1"},
        /* custom addresses: the layout of iroh 1.4, the inline and the long one of 0.97, id 0x544f52 */
        {"00" ID "02"
         "01007f00000101"
         "020106a1b2c3d4e5f6",
         "127.0.0.1:1"},
        {"00" ID "02"
         "020106a1b2c3d4e5f6"
         "01007f00000101",
         "127.0.0.1:1"},
        {"00" ID "02"
         "02010006a1b2c3d4e5f6"
         "000000000000000000000000000000000000000000000000"
         "01007f00000101",
         "127.0.0.1:1"},
        {"00" ID "02"
         "02d29ed102"
         "01"
         "1f"
         "ababababababababababababababababababababababababababababababab"
         "01007f00000101",
         "127.0.0.1:1"},
        {"00" ID "02"
         "02d29ed102"
         "00"
         "01007f00000101",
         "127.0.0.1:1"},
        {"00" ID "02"
         "000b"
         "7773733a2f2f722e6f7267"
         "01007f00000101",
         "127.0.0.1:1"}, /* relay wss://r.org */
    };
    for (size_t i = 0; i < VECTORS(good); i++) {
        char *text = ticket_of_hex("endpoint", good[i].hex);
        struct endpoint_address ea;
        if (endpoint_ticket_decode(slice_of_text(text), &ea) != HKV_OK) fail_msg("%s: %s", good[i].hex, error_last());
        assert_addresses(&ea.addrs, good[i].normal);
        endpoint_address_fini(&ea);
        free(text);
    }
}

/* wire/docs.md 12.6: the bytes of an address with a relay and an IPv4 socket. */
static void an_address_is_written_as_worked_out(void **state)
{
    (void)state;
    static const char *const addrs[] = {"127.0.0.1:1024", "https://r.example/"};
    char *want = ticket_of_hex("endpoint", "00" ID "02"
                                           "001268747470733a2f2f722e6578616d706c652f"
                                           "01007f0000018008");
    struct endpoint_address ea = endpoint_at(addrs, 2);
    struct buf text = {0};
    assert_int_equal(endpoint_ticket_encode(&ea, &text), HKV_OK);
    assert_true(slice_equal(buf_slice(&text), slice_of_text(want)));
    endpoint_address_fini(&ea);
    buf_fini(&text);
    free(want);
}

/* The lengths of iroh-base's own test (test_custom_addr_serde_roundtrip): we pass over them and read on. */
static void custom_addresses_of_any_length_are_passed_over(void **state)
{
    (void)state;
    static const char *const lengths[] = {"00", "01", "1d", "1e", "1f", "20", "ff01"};
    static const size_t counts[] = {0, 1, 29, 30, 31, 32, 255};
    for (size_t i = 0; i < VECTORS(lengths); i++) {
        char hex[1024];
        size_t len = (size_t)snprintf(hex, sizeof hex, "00" ID "0202d29ed102%s", lengths[i]);
        for (size_t n = 0; n < counts[i]; n++, len += 2) memcpy(hex + len, "ab", 2);
        (void)snprintf(hex + len, sizeof hex - len, "01007f00000101");
        char *text = ticket_of_hex("endpoint", hex);
        struct endpoint_address ea;
        if (endpoint_ticket_decode(slice_of_text(text), &ea) != HKV_OK) fail_msg("%s: %s", hex, error_last());
        assert_addresses(&ea.addrs, "127.0.0.1:1");
        endpoint_address_fini(&ea);
        free(text);
    }
}

static void endpoint_tickets_that_iroh_refuses_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "00",
                                      "01" ID "00",
                                      "00" ID,
                                      "00" ID "01",
                                      "00" ID "010304",
                                      "00" NO_POINT "00",
                                      "00" ID "0101007f000001ffff07",
                                      "00" ID "010003616263",
                                      "00" ID "0101027f00000101",
                                      "00" ID "0200" R_RELAY,
                                      "00" ID "ffffffffffffffffff01"};
    for (size_t i = 0; i < VECTORS(bad); i++) {
        char *text = ticket_of_hex("endpoint", bad[i]);
        struct endpoint_address ea;
        if (endpoint_ticket_decode(slice_of_text(text), &ea) != HKV_E_TICKET) fail_msg("accepted: %s", bad[i]);
        assert_non_null(strstr(error_last(), "endpoint ticket: "));
        free(text);
    }
}

static void the_prefix_is_lower_case_and_the_rest_is_either(void **state)
{
    (void)state;
    const char *plain = endpoint_vectors[1].text;
    char text[128];
    struct endpoint_address ea;
    assert_true(strlen(plain) < sizeof text - 2);
    strcpy(text, plain);
    for (char *c = text + strlen("endpoint"); *c != '\0'; c++)
        if (*c >= 'a' && *c <= 'z') *c = (char)(*c - 32);
    assert_int_equal(endpoint_ticket_decode(slice_of_text(text), &ea), HKV_OK);
    endpoint_address_fini(&ea);

    text[0] = 'E';
    assert_int_equal(endpoint_ticket_decode(slice_of_text(text), &ea), HKV_E_TICKET);
    (void)snprintf(text, sizeof text, " %s", plain);
    assert_int_equal(endpoint_ticket_decode(slice_of_text(text), &ea), HKV_E_TICKET);
    (void)snprintf(text, sizeof text, "%s=", plain);
    assert_int_equal(endpoint_ticket_decode(slice_of_text(text), &ea), HKV_E_TICKET);
    (void)snprintf(text, sizeof text, "blob%s", plain + strlen("endpoint"));
    assert_int_equal(endpoint_ticket_decode(slice_of_text(text), &ea), HKV_E_TICKET);
    assert_string_equal(error_last(), "not an endpoint ticket: it does not begin with \"endpoint\"");
}

static void an_oversized_ticket_is_refused_before_it_is_read(void **state)
{
    (void)state;
    char *text = malloc(TICKET_TEXT_MAX + 1);
    assert_non_null(text);
    memset(text, 'a', TICKET_TEXT_MAX + 1);
    memcpy(text, "endpoint", 8);
    struct endpoint_address ea;
    assert_int_equal(endpoint_ticket_decode(slice_of(text, TICKET_TEXT_MAX + 1), &ea), HKV_E_TICKET);
    assert_non_null(strstr(error_last(), "longer than 65536 bytes"));
    free(text);
}

static void a_ticket_with_more_addresses_than_we_keep_is_still_read(void **state)
{
    (void)state;
    struct buf bytes = {0}, text = {0};
    uint8_t id[ID_BYTES];
    assert_true(hex_decode(slice_of_text(ID), HEX_LOWER_ONLY, id, ID_BYTES));
    assert_int_equal(buf_append(&bytes, "\0", 1), HKV_OK);
    assert_int_equal(buf_append(&bytes, id, ID_BYTES), HKV_OK);
    assert_int_equal(buf_append(&bytes, "\x64", 1), HKV_OK); /* 100 addresses */
    for (uint8_t port = 1; port <= 100; port++) {
        const uint8_t addr[] = {1, 0, 127, 0, 0, 1, port};
        assert_int_equal(buf_append(&bytes, addr, sizeof addr), HKV_OK);
    }
    assert_int_equal(buf_append(&text, "endpoint", 8), HKV_OK);
    assert_int_equal(base32_encode(buf_slice(&bytes), &text), HKV_OK);
    struct endpoint_address ea;
    assert_int_equal(endpoint_ticket_decode(buf_slice(&text), &ea), HKV_OK);
    assert_int_equal(ea.addrs.count, ADDRESS_SET_MAX);
    endpoint_address_fini(&ea);
    buf_fini(&bytes);
    buf_fini(&text);
}

struct doc_vector {
    const char *secret; /* hex, or NULL for a read ticket of namespace ID */
    const char *addrs[2];
    const char *text;
    const char *normal;
};

static const struct doc_vector doc_vectors[] = {
    {NULL,
     {NULL},
     "docaaa24wh7razsigwifvx7oyiqi3wwpnihfukcywenabr6sqwzu5kqfnqbvzmp7cbteqnmqllp65qrarxnm62qoliufrmi2add5fbntj2vak3aa",
     ""},
    {NULL,
     {"https://relay.example.com/", "192.168.1.7:4433"},
     "docaaa24wh7razsigwifvx7oyiqi3wwpnihfukcywenabr6sqwzu5kqfnqbvzmp7cbteqnmqllp65qrarxnm62qoliufrmi2add5fbntj2vak3aea"
     "a2nb2hi4"
     "dthixs64tfnrqxsltfpbqw24dmmuxgg33nf4aqbqfiaed5ciq",
     "https://relay.example.com/ 192.168.1.7:4433"},
    {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
     {"192.168.1.7:4433"},
     "docaaacaaabaibqibiga4eascqlbqgq4dyqcejbgfavcylrqgi2dmob2hq7agxfr74igmsbvsbnn73wcecg5vt3kbzncqwfrdiampuufwnhkublma"
     "ibadakq"
     "aih2era",
     "192.168.1.7:4433"},
    {"b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
     {NULL},
     "docaaacbmvswkzlfmvswkzlfmvswkzlfmvswkzlfmvswkzlfmvswkzlfmvsagxfr74igmsbvsbnn73wcecg5vt3kbzncqwfrdiampuufwnhkublma"
     "a",
     ""},
};

static void doc_tickets_are_the_strings_of_iroh(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTORS(doc_vectors); i++) {
        const struct doc_vector *v = &doc_vectors[i];
        size_t count = 0;
        while (count < 2 && v->addrs[count] != NULL) count++;
        struct endpoint_address ea = endpoint_at(v->addrs, count);
        struct doc_ticket ticket = {.writable = v->secret != NULL, .endpoints = &ea, .endpoint_count = 1}, back;
        memcpy(ticket.namespace.bytes, ea.id.bytes, ID_BYTES);
        if (ticket.writable) {
            assert_true(hex_decode(slice_of_text(v->secret), HEX_LOWER_ONLY, ticket.secret.bytes, ID_BYTES));
            ed25519_public_key(&ticket.secret, ticket.namespace.bytes);
        }
        struct buf text = {0};
        assert_int_equal(doc_ticket_encode(&ticket, &text), HKV_OK);
        assert_int_equal(buf_append_byte(&text, '\0'), HKV_OK);
        assert_string_equal((char *)text.data, v->text);

        assert_int_equal(doc_ticket_decode(slice_of_text(v->text), &back), HKV_OK);
        assert_int_equal(back.writable, ticket.writable);
        assert_true(namespace_id_equal(&back.namespace, &ticket.namespace));
        assert_memory_equal(back.secret.bytes, ticket.secret.bytes, ID_BYTES);
        assert_int_equal(back.endpoint_count, 1);
        assert_true(endpoint_id_equal(&back.endpoints[0].id, &ea.id));
        assert_addresses(&back.endpoints[0].addrs, v->normal);
        doc_ticket_fini(&back);
        endpoint_address_fini(&ea);
        buf_fini(&text);
    }
}

static void doc_tickets_of_older_releases_are_understood(void **state)
{
    (void)state;
    static const struct {
        const char *hex, *normal;
        size_t endpoints;
    } old[] = {
        {"0001" ID "01" ID "0000", "", 1},
        {"0001" ID "01" ID "011a" R_RELAY "00", "https://relay.example.com/", 1},
        {"0001" ID "01" ID "011a" R_RELAY "0100c0a80107d122", "https://relay.example.com/ 192.168.1.7:4433", 1},
        {"0001" ID "01" ID "000100c0a80107d122", "192.168.1.7:4433", 1},
        {"0001" ID "02" ID "000100c0a80107d122" ID "0000", "192.168.1.7:4433", 2},
        /* both layouts leave bytes over: the newer counts */
        {"0001" ID "01" ID "00"
         "01"
         "00c0a80107d122"
         "ff",
         "", 1},
        /* the newer layout with bytes after it, which iroh ignores */
        {"0001" ID "01" ID "010100c0a80107d122"
         "00000000",
         "192.168.1.7:4433", 1},
        {"0001" ID "01" ID "02"
         "02010006a1b2c3d4e5f6"
         "000000000000000000000000000000000000000000000000"
         "0100c0a80107d122",
         "192.168.1.7:4433", 1},
    };
    for (size_t i = 0; i < VECTORS(old); i++) {
        char *text = ticket_of_hex("doc", old[i].hex);
        struct doc_ticket ticket;
        if (doc_ticket_decode(slice_of_text(text), &ticket) != HKV_OK) fail_msg("%s: %s", old[i].hex, error_last());
        assert_false(ticket.writable);
        assert_int_equal(ticket.endpoint_count, old[i].endpoints);
        assert_addresses(&ticket.endpoints[0].addrs, old[i].normal);
        doc_ticket_fini(&ticket);
        free(text);
    }
    static const char from_035[] = "docaaacabsfk5ypnvod4ngtcw3as2gfprvj7ygjb6mgevjlnehxz4bdttywaeb2cb576phbbpq5odorrz2l"
                                   "ycmwpzgwgcn2kdk7dxoimzaskuy3qaaa";
    struct doc_ticket ticket;
    char hex[ID_TEXT_MAX];
    assert_int_equal(doc_ticket_decode(slice_of_text(from_035), &ticket), HKV_OK);
    assert_true(ticket.writable);
    assert_string_equal(id_format(ticket.secret.bytes, hex),
                        "06455770f6d5c3e34d315b60968c57c6a9fe0c90f9862552b690f7cf0239cf16");
    assert_string_equal(id_format(ticket.endpoints[0].id.bytes, hex),
                        "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8");
    doc_ticket_fini(&ticket);
}

static void doc_tickets_that_iroh_refuses_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "0101" ID "01" ID "00",
                                      "0002" ID "01" ID "00",
                                      "0001" ID "00",           /* names no endpoint */
                                      "0000" ID "01" ID "00",   /* a secret without its length */
                                      "00001f" ID "01" ID "00", /* … with another length */
                                      "0001" ID "01" NO_POINT "00",
                                      "0001" ID "02" ID "00",
                                      "0001" ID "01" ID "0103"};
    for (size_t i = 0; i < VECTORS(bad); i++) {
        char *text = ticket_of_hex("doc", bad[i]);
        struct doc_ticket ticket;
        if (doc_ticket_decode(slice_of_text(text), &ticket) != HKV_E_TICKET) fail_msg("accepted: %s", bad[i]);
        free(text);
    }
    struct doc_ticket none = {0};
    struct buf text = {0};
    assert_int_equal(doc_ticket_encode(&none, &text), HKV_E_INVALID);
    assert_int_equal(text.len, 0);
}

static void an_endpoint_id_is_lower_case_hex_or_base32(void **state)
{
    (void)state;
    static const char *const good[] = {ID, "vzmp7cbteqnmqllp65qrarxnm62qoliufrmi2add5fbntj2vak3a",
                                       "VZMP7CBTEQNMQLLP65QRARXNM62QOLIUFRMI2ADD5FBNTJ2VAK3A"};
    static const char *const bad[] = {"",
                                      "foobarbaz",
                                      "AE58FF8833241AC82D6FF7611046ED67B5072D142C588D0063E942D9A75502B6",
                                      "vzmp7cbteqnmqllp65qrarxnm62qoliufrmi2add5fbntj2vak3b",
                                      "i3cx9nburopcommx67otytzpc64oqmewftce4ydd7fbpuj4iyk5y", /* z-base-32 */
                                      NO_POINT};
    for (size_t i = 0; i < VECTORS(good); i++) {
        struct endpoint_id id;
        char hex[ID_TEXT_MAX];
        assert_int_equal(endpoint_id_parse(slice_of_text(good[i]), &id), HKV_OK);
        assert_string_equal(id_format(id.bytes, hex), ID);
    }
    for (size_t i = 0; i < VECTORS(bad); i++) {
        struct endpoint_id id;
        if (endpoint_id_parse(slice_of_text(bad[i]), &id) != HKV_E_TICKET) fail_msg("accepted: %s", bad[i]);
    }
    struct endpoint_id id;
    assert_int_equal(endpoint_id_parse(slice_of_text("vpnk377obfvzlipnsfbqba7ywkkenc4xlpmovt5tsfujoa75zqia"), &id),
                     HKV_OK);
}

static void a_peer_is_a_ticket_or_an_id_at_a_host(void **state)
{
    (void)state;
    static const struct {
        const char *text, *normal, *host;
        uint16_t port;
    } cases[] = {
        {ID "@192.0.2.1:24376", "192.0.2.1:24376", "", 0},
        {ID "@[2001:db8::1]:1", "[2001:db8::1]:1", "", 0},
        {ID "@node-1.example.org:24376", "", "node-1.example.org", 24376},
        {ID "@localhost:65535", "", "localhost", 65535},
        {"vzmp7cbteqnmqllp65qrarxnm62qoliufrmi2add5fbntj2vak3a@a_b:1", "", "a_b", 1},
        {"endpointacxfr74igmsbvsbnn73wcecg5vt3kbzncqwfrdiampuufwnhkublmaibaeaaaaaaaaaaaaaaaaaaaaaaaaaqc", "[::1]:1", "",
         0},
    };
    for (size_t i = 0; i < VECTORS(cases); i++) {
        struct peer_name peer;
        char hex[ID_TEXT_MAX];
        if (peer_name_parse(slice_of_text(cases[i].text), &peer) != HKV_OK)
            fail_msg("%s: %s", cases[i].text, error_last());
        assert_string_equal(id_format(peer.endpoint.id.bytes, hex), ID);
        assert_addresses(&peer.endpoint.addrs, cases[i].normal);
        assert_string_equal(peer.host, cases[i].host);
        assert_int_equal(peer.port, cases[i].port);
        peer_name_fini(&peer);
    }
}

static void other_peers_are_refused_with_the_rule(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "node",
                                      ID,
                                      "@host:1",
                                      ID "@",
                                      ID "@host",
                                      ID "@host:",
                                      ID "@host:0",
                                      ID "@192.0.2.1:0",
                                      ID "@host:65536",
                                      ID "@host:000001",
                                      ID "@host:1x",
                                      ID "@ho st:1",
                                      ID "@ho@st:1",
                                      ID "@1.2.3.256:1",
                                      ID "@1.2.3:1",
                                      ID "@::1:1",
                                      ID "@.host:1",
                                      ID "@-host:1",
                                      NO_POINT "@host:1",
                                      "endpoint",
                                      "endpointacxf"};
    for (size_t i = 0; i < VECTORS(bad); i++) {
        struct peer_name peer;
        if (peer_name_parse(slice_of_text(bad[i]), &peer) != HKV_E_TICKET) fail_msg("accepted: %s", bad[i]);
    }
}

static int ready(void **state)
{
    (void)state;
    return crypto_init() == HKV_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoint_tickets_are_the_strings_of_iroh),
        cmocka_unit_test(endpoint_tickets_are_read_as_tolerantly_as_iroh_does),
        cmocka_unit_test(an_address_is_written_as_worked_out),
        cmocka_unit_test(custom_addresses_of_any_length_are_passed_over),
        cmocka_unit_test(endpoint_tickets_that_iroh_refuses_are_refused),
        cmocka_unit_test(the_prefix_is_lower_case_and_the_rest_is_either),
        cmocka_unit_test(an_oversized_ticket_is_refused_before_it_is_read),
        cmocka_unit_test(a_ticket_with_more_addresses_than_we_keep_is_still_read),
        cmocka_unit_test(doc_tickets_are_the_strings_of_iroh),
        cmocka_unit_test(doc_tickets_of_older_releases_are_understood),
        cmocka_unit_test(doc_tickets_that_iroh_refuses_are_refused),
        cmocka_unit_test(an_endpoint_id_is_lower_case_hex_or_base32),
        cmocka_unit_test(a_peer_is_a_ticket_or_an_id_at_a_host),
        cmocka_unit_test(other_peers_are_refused_with_the_rule),
    };
    return cmocka_run_group_tests(tests, ready, NULL);
}
