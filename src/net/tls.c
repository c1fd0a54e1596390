#include "net/tls.h"

#include <sodium.h>

#define SPKI_PREFIX_BYTES  12
#define SPKI_BYTES         (SPKI_PREFIX_BYTES + ID_BYTES)
#define PKCS8_PREFIX_BYTES 16
#define PKCS8_BYTES        (PKCS8_PREFIX_BYTES + ID_BYTES)

/* SubjectPublicKeyInfo of an Ed25519 key up to the key: what travels in the Certificate message
 * (wire/endpoint.md 10.1). */
static const uint8_t spki_prefix[SPKI_PREFIX_BYTES] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
                                                       0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};

/* PKCS#8 of an Ed25519 seed up to the seed (RFC 8410), the only form GnuTLS takes one in. */
static const uint8_t pkcs8_prefix[PKCS8_PREFIX_BYTES] = {0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                                                         0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20};

static const char tls_priority[] =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM:+AES-128-GCM:+CHACHA20-POLY1305:"
    "-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:"
    "-SIGN-ALL:+SIGN-EDDSA-ED25519:"
    "-CTYPE-ALL:+CTYPE-CLI-RAWPK:+CTYPE-SRV-RAWPK:%DISABLE_TLS13_COMPAT_MODE";

static enum hkv_err tls_error(int rv, const char *what)
{
    if (rv == GNUTLS_E_MEMORY_ERROR) return error_set(HKV_E_NOMEM, "TLS %s: no memory", what);
    return error_set(HKV_E_INTERNAL, "TLS %s: %s; GnuTLS 3.7.9 or newer with raw public keys is needed", what,
                     gnutls_strerror(rv));
}

enum hkv_err tls_identity_init(struct tls_identity *t, const struct secret_key *secret, const struct endpoint_id *id)
{
    uint8_t spki[SPKI_BYTES], pkcs8[PKCS8_BYTES];
    gnutls_datum_t public_key = {spki, sizeof spki}, private_key = {pkcs8, sizeof pkcs8};
    *t = (struct tls_identity){0};

    memcpy(spki, spki_prefix, sizeof spki_prefix);
    memcpy(spki + SPKI_PREFIX_BYTES, id->bytes, ID_BYTES);
    memcpy(pkcs8, pkcs8_prefix, sizeof pkcs8_prefix);
    memcpy(pkcs8 + PKCS8_PREFIX_BYTES, secret->bytes, ID_BYTES);

    int rv = gnutls_certificate_allocate_credentials(&t->credentials);
    if (rv == 0)
        rv = gnutls_certificate_set_rawpk_key_mem(t->credentials, &public_key, &private_key, GNUTLS_X509_FMT_DER, NULL,
                                                  0, NULL, 0, 0);
    if (rv >= 0) rv = gnutls_priority_init(&t->priority, tls_priority, NULL);
    sodium_memzero(pkcs8, sizeof pkcs8);
    if (rv >= 0) return HKV_OK;
    tls_identity_fini(t);
    return tls_error(rv, "identity");
}

void tls_identity_fini(struct tls_identity *t)
{
    if (t->credentials) gnutls_certificate_free_credentials(t->credentials);
    if (t->priority) gnutls_priority_deinit(t->priority);
    *t = (struct tls_identity){0};
}

static int tls_session_configure(gnutls_session_t session, const struct tls_identity *t, bool server,
                                 const struct alpn_list *alpns)
{
    gnutls_datum_t protocols[NET_ALPN_MAX];
    for (size_t i = 0; i < alpns->count; i++) { /* GnuTLS copies; it only lacks a const */
        memcpy(&protocols[i].data, &alpns->items[i].data, sizeof protocols[i].data);
        protocols[i].size = (unsigned)alpns->items[i].len;
    }
    int rv = gnutls_priority_set(session, t->priority);
    if (rv == 0) rv = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, t->credentials);
    if (rv == 0)
        rv = gnutls_alpn_set_protocols(session, protocols, (unsigned)alpns->count,
                                       GNUTLS_ALPN_MANDATORY | GNUTLS_ALPN_SERVER_PRECEDENCE);
    if (rv) return rv;
    if (server) {
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        return ngtcp2_crypto_gnutls_configure_server_session(session) ? GNUTLS_E_INTERNAL_ERROR : 0;
    }
    return ngtcp2_crypto_gnutls_configure_client_session(session) ? GNUTLS_E_INTERNAL_ERROR : 0;
}

enum hkv_err tls_session_new(const struct tls_identity *t, bool server, const struct alpn_list *alpns,
                             ngtcp2_crypto_conn_ref *ref, gnutls_certificate_verify_function *verify,
                             gnutls_session_t *out)
{
    unsigned flags = (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_ENABLE_RAWPK | GNUTLS_NO_TICKETS |
                     GNUTLS_NO_AUTO_SEND_TICKET | GNUTLS_NO_END_OF_EARLY_DATA | GNUTLS_KEY_SHARE_TOP;
    gnutls_session_t session = NULL;
    int rv = gnutls_init(&session, flags);
    if (rv) return tls_error(rv, "session");
    rv = tls_session_configure(session, t, server, alpns);
    if (rv) {
        gnutls_deinit(session);
        return tls_error(rv, "session");
    }
    gnutls_session_set_ptr(session, ref);
    gnutls_session_set_verify_function(session, verify);
    *out = session;
    return HKV_OK;
}

bool tls_session_peer(gnutls_session_t session, struct endpoint_id *out)
{
    unsigned count = 0;
    const gnutls_datum_t *certs = gnutls_certificate_get_peers(session, &count);
    if (gnutls_certificate_type_get2(session, GNUTLS_CTYPE_PEERS) != GNUTLS_CRT_RAWPK) return false;
    if (!certs || count != 1 || certs[0].size != SPKI_BYTES) return false;
    if (memcmp(certs[0].data, spki_prefix, SPKI_PREFIX_BYTES) != 0) return false;
    memcpy(out->bytes, certs[0].data + SPKI_PREFIX_BYTES, ID_BYTES);
    return crypto_core_ed25519_is_valid_point(out->bytes) == 1;
}
