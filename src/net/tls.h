/* TLS 1.3 as iroh uses it: raw Ed25519 public keys on both sides (RFC 7250), no names, no tickets
 * (wire/endpoint.md 4.2).
 *
 * GnuTLS checks that the peer owns the key it shows (CertificateVerify). Which key that is, whether it is sound, and
 * whether it may come in is decided by the `verify` function of the session, which runs before the peer's Finished is
 * answered. Network thread. */
#ifndef HKV_NET_TLS_H
#define HKV_NET_TLS_H

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

#include "base/ids.h"
#include "net/alpn_list.h"

#define TLS_ALERT_INTERNAL      80
#define TLS_ALERT_UNKNOWN_CA    48
#define TLS_ALERT_ACCESS_DENIED 49
#define TLS_ALERT_NO_PROTOCOL   120
#define TLS_ALERT_BAD_CERT      42

/* Our key pair, ready for sessions; shared by all sessions of an endpoint. */
struct tls_identity {
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
};

/* Errors: HKV_E_NOMEM, HKV_E_INTERNAL (GnuTLS lacks something we need). */
HKV_CHECK enum hkv_err tls_identity_init(struct tls_identity *t, const struct secret_key *secret,
                                         const struct endpoint_id *id);
void tls_identity_fini(struct tls_identity *t);

/* A session for one connection; `ref` must outlive it. Errors: HKV_E_NOMEM, HKV_E_INTERNAL. */
HKV_CHECK enum hkv_err tls_session_new(const struct tls_identity *t, bool server, const struct alpn_list *alpns,
                                       ngtcp2_crypto_conn_ref *ref, gnutls_certificate_verify_function *verify,
                                       gnutls_session_t *out);

/* The peer's key, when it sent exactly one Ed25519 public key that is a point of full order. Keys of small or mixed
 * order belong to nobody: signatures under them can be forged for GnuTLS, so they never become an id. */
bool tls_session_peer(gnutls_session_t session, struct endpoint_id *out);

#endif
