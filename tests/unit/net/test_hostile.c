/* What strangers may send: noise, floods, too much of everything. The endpoint stays bounded and goes on serving. */
#include <gnutls/abstract.h>
#include <sodium.h>

#include "fixture_proxy.h"
#include "net/endpoint_impl.h"

static struct net_endpoint_stats stats_of(struct rig_node *node)
{
    struct net_endpoint_stats stats;
    net_endpoint_stats(node->ep, &stats);
    return stats;
}

static void exchange(struct rig *rig, struct rig_conn *a, uint64_t bytes)
{
    struct rig_stream *s = rig_stream(a);
    rig->nodes[1].behaviour.echo = true;
    s->write_goal = bytes;
    s->write_mark = 1 << 20;
    rig_pump(s);
    rig_until(rig, s->closed);
    assert_int_equal(s->received_bytes, bytes);
}

static void noise_is_ignored(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_proxy proxy;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    rig_proxy_open(&proxy, &rig.nodes[1]);
    struct socket_address at = rig_proxy_address(&proxy);
    struct rig_conn *a = rig_dial_at(&rig.nodes[0], net_endpoint_id(rig.nodes[1].ep), &at, 1, RIG_ALPN_A);
    rig_until(&rig, a->opened);

    uint64_t before = stats_of(&rig.nodes[1]).datagrams_ignored, sent = 0;
    uint8_t junk[1400];
    uint32_t x = 1;
    for (size_t len = 0; len < sizeof junk; len += 7) {
        for (size_t i = 0; i < len; i++) junk[i] = (uint8_t)((x = x * 1103515245 + 12345) >> 16);
        rig_proxy_inject(&proxy, len % 3, junk, len);
        sent++;
    }
    exchange(&rig, a, 100000);
    assert_int_equal(stats_of(&rig.nodes[1]).conns, 1);
    assert_true(stats_of(&rig.nodes[1]).datagrams_ignored >= before + sent / 2); /* the kernel may drop some */
    rig_proxy_close(&proxy);
    rig_fini(&rig);
}

static void unknown_quic_version_is_answered(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_proxy proxy;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    rig_proxy_open(&proxy, &rig.nodes[1]);
    struct socket_address at = rig_proxy_address(&proxy);
    struct rig_conn *a = rig_dial_at(&rig.nodes[0], net_endpoint_id(rig.nodes[1].ep), &at, 1, RIG_ALPN_A);
    rig_until(&rig, a->opened);
    uint64_t before = proxy.to_dialler[1];
    uint8_t packet[1200] = {0xc0, 0xff, 0, 0, 0x99, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 7, 6, 5, 4, 3, 2, 1};
    rig_proxy_inject(&proxy, 1, packet, 100); /* too short to be worth an answer */
    rig_proxy_inject(&proxy, 1, packet, sizeof packet);
    rig_until(&rig, proxy.to_dialler[1] == before + 1);
    assert_int_equal(stats_of(&rig.nodes[1]).conns, 1);
    rig_proxy_close(&proxy);
    rig_fini(&rig);
}

/* An Initial that anybody can write, with bytes that nobody can read. */
static void initial_that_nobody_can_read_leaves_nothing_behind(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_proxy proxy;
    rig_init(&rig);
    rig.limits.dial_timeout_ms = 10 * RIG_DEADLINE_MS; /* no handshake ends for that */
    rig_open(&rig, 1);
    rig_proxy_open(&proxy, &rig.nodes[1]);
    uint8_t packet[1200] = {0xc3, 0, 0, 0, 1, 8, [14] = 8, [23] = 0, [24] = 0x44, [25] = 0x96};
    uint64_t bytes = 0;
    for (int i = 0; i < 200; i++, bytes += sizeof packet) {
        randombytes_buf(packet + 6, 8);
        randombytes_buf(packet + 26, sizeof packet - 26);
        rig_proxy_inject(&proxy, 0, packet, sizeof packet);
    }
    rig_until(&rig, stats_of(&rig.nodes[1]).bytes_received == bytes && stats_of(&rig.nodes[1]).conns == 0);
    assert_int_equal(stats_of(&rig.nodes[1]).half_open, 0);
    assert_int_equal(stats_of(&rig.nodes[1]).bytes_sent, 0);
    rig_proxy_close(&proxy);
    rig_fini(&rig);
}

/* Answers the first packet of a dial with a Version Negotiation that lists `version`. */
static struct rig_conn *dial_negotiating(struct rig *rig, struct rig_proxy *proxy, uint32_t version)
{
    rig_open(rig, 0);
    rig_open(rig, 1);
    rig_proxy_open(proxy, &rig->nodes[1]);
    proxy->active = 2;
    proxy->victim[2] = true;
    struct socket_address at = rig_proxy_address(proxy);
    struct rig_conn *a = rig_dial_at(&rig->nodes[0], net_endpoint_id(rig->nodes[1].ep), &at, 1, RIG_ALPN_A);
    rig_until(rig, proxy->to_endpoint == 1);
    const uint8_t *initial = (const uint8_t *)proxy->slot, *dcid = initial + 6, *scid = dcid + dcid[-1] + 1;
    ngtcp2_ssize n;
    uint8_t packet[200];
    n = ngtcp2_pkt_write_version_negotiation(packet, sizeof packet, 0, scid, scid[-1], dcid, dcid[-1], &version, 1);
    assert_true(n > 0);
    rig_proxy_answer(proxy, packet, (size_t)n);
    return a;
}

static void peer_of_other_versions_is_named_at_once(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_proxy proxy;
    rig_init(&rig);
    struct rig_conn *a = dial_negotiating(&rig, &proxy, 0x99);
    rig_until(&rig, a->closed);
    assert_int_equal(a->err, HKV_E_PEER_REFUSED);
    assert_non_null(strstr(a->why, "QUIC version 1"));
    rig_proxy_close(&proxy);
    rig_fini(&rig);
}

/* It lists the very version that we asked for: nobody honest sends that (RFC 9000, 6.2). */
static void version_negotiation_that_makes_no_sense_is_ignored(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_proxy proxy;
    rig_init(&rig);
    struct rig_conn *a = dial_negotiating(&rig, &proxy, NGTCP2_PROTO_VER_V1);
    proxy.victim[2] = false;
    rig_until(&rig, a->opened || a->closed);
    assert_false(a->closed);
    rig_proxy_close(&proxy);
    rig_fini(&rig);
}

static void under_load_addresses_must_prove_themselves(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig.limits.half_open_retry = 0; /* always under load */
    rig_open(&rig, 1);
    struct rig_conn *a = rig_dial(&rig.nodes[0], &rig.nodes[1], RIG_ALPN_A);
    rig_until(&rig, a->opened);
    assert_int_equal(stats_of(&rig.nodes[1]).retries_sent, 1);
    exchange(&rig, a, 100000);
    rig_fini(&rig);
}

static void retry_token_of_another_address_is_worth_nothing(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_proxy proxy;
    rig_init(&rig);
    rig.limits.dial_timeout_ms = 500;
    rig_open(&rig, 0);
    rig.limits.half_open_retry = 0;
    rig_open(&rig, 1);
    rig_proxy_open(&proxy, &rig.nodes[1]);
    struct socket_address at = rig_proxy_address(&proxy);
    struct rig_conn *a = rig_dial_at(&rig.nodes[0], net_endpoint_id(rig.nodes[1].ep), &at, 1, RIG_ALPN_A);
    rig_until(&rig, proxy.to_dialler[0] == 1); /* the Retry */
    proxy.active = 1;                          /* what follows comes from elsewhere */
    rig_until(&rig, a->closed);
    assert_int_equal(a->err, HKV_E_PEER_UNREACHABLE);
    assert_int_equal(stats_of(&rig.nodes[1]).retries_sent, 1);
    assert_int_equal(rig_accepted_count(&rig.nodes[1]), 0);
    rig_proxy_close(&proxy);
    rig_fini(&rig);
}

/* Handshakes that never go on: answers to them are thrown away. */
static void half_open(struct rig *rig, struct rig_proxy *proxy, size_t count)
{
    struct socket_address at = rig_proxy_address(proxy);
    proxy->drop_back = true;
    for (size_t i = 0; i < count; i++)
        rig_dial_at(&rig->nodes[0], net_endpoint_id(rig->nodes[1].ep), &at, 1, RIG_ALPN_A);
    rig_until(rig, proxy->to_endpoint >= count);
}

static void half_open_connections_are_bounded_by_retry(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_proxy proxy;
    rig_init(&rig);
    rig.limits.dial_timeout_ms = 1000;
    rig.limits.half_open_retry = 8;
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    rig_open(&rig, 2);
    rig_proxy_open(&proxy, &rig.nodes[1]);
    half_open(&rig, &proxy, 60);
    rig_until(&rig, stats_of(&rig.nodes[1]).retries_sent >= 40);
    assert_int_equal(stats_of(&rig.nodes[1]).half_open, 8);

    struct rig_conn *honest = rig_dial(&rig.nodes[2], &rig.nodes[1], RIG_ALPN_A); /* has to take a Retry */
    rig_until(&rig, honest->opened);
    rig_until(&rig, stats_of(&rig.nodes[1]).half_open == 0); /* given up in time */
    for (size_t i = 0; i < rig.nodes[0].conn_count; i++) rig_until(&rig, rig.nodes[0].conns[i]->closed);
    assert_false(honest->closed);
    rig_proxy_close(&proxy);
    rig_fini(&rig);
}

static void half_open_connections_have_a_hard_limit(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_proxy proxy;
    rig_init(&rig);
    rig.limits.dial_timeout_ms = 500;
    rig.limits.half_open_max = 16;
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    rig_proxy_open(&proxy, &rig.nodes[1]);
    half_open(&rig, &proxy, 60);
    rig_until(&rig, stats_of(&rig.nodes[1]).refused >= 40);
    assert_int_equal(stats_of(&rig.nodes[1]).half_open, 16);
    rig_proxy_close(&proxy);
    rig_fini(&rig);
}

static void connections_of_one_peer_are_limited(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig.limits.conns_per_peer_max = 3;
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    rig_open(&rig, 2);
    struct rig_conn *a[4];
    for (int i = 0; i < 4; i++) {
        a[i] = rig_dial(&rig.nodes[0], &rig.nodes[1], RIG_ALPN_A);
        rig_until(&rig, a[i]->closed || (a[i]->opened && rig_accepted_count(&rig.nodes[1]) == (size_t)i + 1) ||
                            stats_of(&rig.nodes[1]).refused);
    }
    rig_until(&rig, a[3]->closed);
    assert_int_equal(a[3]->err, HKV_E_PEER_REFUSED);
    assert_int_equal(rig_accepted_count(&rig.nodes[1]), 3);
    struct rig_conn *other = rig_dial(&rig.nodes[2], &rig.nodes[1], RIG_ALPN_A);
    rig_until(&rig, rig_accepted_count(&rig.nodes[1]) == 4);
    transport_conn_close(a[0]->conn, 0, "");
    rig_until(&rig, a[0]->closed && stats_of(&rig.nodes[1]).conns == 3);
    a[0] = rig_dial(&rig.nodes[0], &rig.nodes[1], RIG_ALPN_A);
    rig_until(&rig, rig_accepted_count(&rig.nodes[1]) == 5);
    assert_false(other->closed);
    rig_fini(&rig);
}

static void connections_are_limited_in_all(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig.limits.conns_max = 2;
    rig_open(&rig, 1);
    struct rig_conn *a[3];
    for (int i = 0; i < 2; i++) a[i] = rig_dial(&rig.nodes[0], &rig.nodes[1], RIG_ALPN_A);
    rig_until(&rig, rig_accepted_count(&rig.nodes[1]) == 2);
    a[2] = rig_dial(&rig.nodes[0], &rig.nodes[1], RIG_ALPN_A);
    rig_until(&rig, a[2]->closed);
    assert_int_equal(a[2]->err, HKV_E_PEER_REFUSED);
    assert_int_equal(a[2]->code, 0x02);

    struct address_set set = {0};
    struct socket_address at = rig_address(&rig.nodes[0]);
    static const struct transport_conn_events events;
    struct transport_conn *conn;
    assert_int_equal(address_set_add_socket(&set, &at), HKV_OK);
    assert_int_equal(transport_dial(net_endpoint_transport(rig.nodes[1].ep), net_endpoint_id(rig.nodes[0].ep), &set,
                                    slice_of_text(RIG_ALPN_A), &events, NULL, &conn),
                     HKV_E_LIMIT);
    address_set_fini(&set);
    rig_fini(&rig);
}

/* ---- a key that belongs to nobody ---- */

/* With the neutral point as public key anybody can sign anything: R = S B for any S. GnuTLS accepts that. */
static int forge(gnutls_privkey_t key, gnutls_sign_algorithm_t algo, void *user, unsigned flags,
                 const gnutls_datum_t *data, gnutls_datum_t *signature)
{
    uint8_t s[32] = {5};
    (void)key, (void)algo, (void)user, (void)flags, (void)data;
    signature->data = gnutls_malloc(64);
    signature->size = 64;
    assert_int_equal(crypto_scalarmult_ed25519_base_noclamp(signature->data, s), 0);
    memcpy(signature->data + 32, s, 32);
    return 0;
}

static int forge_info(gnutls_privkey_t key, unsigned flags, void *user)
{
    (void)key, (void)user;
    if (flags & GNUTLS_PRIVKEY_INFO_PK_ALGO) return GNUTLS_PK_EDDSA_ED25519;
    if (flags & GNUTLS_PRIVKEY_INFO_PK_ALGO_BITS) return 256;
    if (flags & GNUTLS_PRIVKEY_INFO_HAVE_SIGN_ALGO) return 1;
    return -1;
}

static void forger_identity(struct net_endpoint *ep)
{
    uint8_t spki[44] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00, 0x01};
    gnutls_datum_t der = {spki, sizeof spki};
    gnutls_certificate_credentials_t credentials;
    gnutls_privkey_t key;
    gnutls_pcert_st cert;
    assert_int_equal(gnutls_certificate_allocate_credentials(&credentials), 0);
    assert_int_equal(gnutls_privkey_init(&key), 0);
    assert_int_equal(gnutls_privkey_import_ext4(key, NULL, forge, NULL, NULL, NULL, forge_info, 0), 0);
    assert_int_equal(gnutls_pcert_import_rawpk_raw(&cert, &der, GNUTLS_X509_FMT_DER, 0, 0), 0);
    assert_true(gnutls_certificate_set_key(credentials, NULL, 0, &cert, 1, key) >= 0);
    gnutls_certificate_free_credentials(ep->tls.credentials);
    ep->tls.credentials = credentials;
}

static void forgeable_key_never_becomes_an_id(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_open(&rig, 0);
    rig_open(&rig, 1);
    forger_identity(rig.nodes[0].ep);
    struct rig_conn *a = rig_dial(&rig.nodes[0], &rig.nodes[1], RIG_ALPN_A);
    rig_until(&rig, a->closed);
    assert_int_equal(a->err, HKV_E_PEER_REFUSED);
    assert_int_equal(a->code, 0x100 + TLS_ALERT_BAD_CERT); /* not a decrypt error: the signature was fine for GnuTLS */
    assert_int_equal(rig.nodes[1].admit_calls, 0);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_is_ignored),
        cmocka_unit_test(unknown_quic_version_is_answered),
        cmocka_unit_test(initial_that_nobody_can_read_leaves_nothing_behind),
        cmocka_unit_test(peer_of_other_versions_is_named_at_once),
        cmocka_unit_test(version_negotiation_that_makes_no_sense_is_ignored),
        cmocka_unit_test(under_load_addresses_must_prove_themselves),
        cmocka_unit_test(retry_token_of_another_address_is_worth_nothing),
        cmocka_unit_test(half_open_connections_are_bounded_by_retry),
        cmocka_unit_test(half_open_connections_have_a_hard_limit),
        cmocka_unit_test(connections_of_one_peer_are_limited),
        cmocka_unit_test(connections_are_limited_in_all),
        cmocka_unit_test(forgeable_key_never_becomes_an_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
