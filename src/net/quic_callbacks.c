/* What ngtcp2 and GnuTLS ask and tell while a packet is read: identities, streams, connection ids. */
#include <sodium.h>

#include "net/quic_stream.h"

static _Thread_local struct quic_conn *quic_reading;

void quic_callbacks_reading(struct quic_conn *c)
{
    quic_reading = c;
}

/* Whether the owner still wants to hear of this connection. */
static bool quic_listening(const struct quic_conn *c)
{
    return !c->close_wanted && !c->fatal;
}

static int quic_refuse(struct quic_conn *c, enum hkv_err verdict, uint8_t alert, const char *why)
{
    c->verdict = verdict;
    c->alert = alert;
    c->verdict_why = why;
    return GNUTLS_E_CERTIFICATE_ERROR;
}

static uint32_t quic_count_accepted(const struct net_endpoint *ep, const struct endpoint_id *peer)
{
    uint32_t count = 0;
    for (const struct quic_conn *c = ep->conns; c; c = c->next)
        if (c->server && c->peer_proven && c->state != QUIC_LINGERING && endpoint_id_equal(&c->peer, peer)) count++;
    return count;
}

int quic_verify_peer(gnutls_session_t session)
{
    ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(session);
    struct quic_conn *c = ref->user_data;
    struct net_endpoint *ep = c->ep;
    struct endpoint_id id;

    if (!tls_session_peer(session, &id))
        return quic_refuse(c, HKV_E_PEER_IDENTITY, TLS_ALERT_BAD_CERT,
                           "the peer's public key is not a sound Ed25519 key");
    if (!c->server) {
        if (!endpoint_id_equal(&id, &c->peer))
            return quic_refuse(c, HKV_E_PEER_IDENTITY, TLS_ALERT_UNKNOWN_CA,
                               "the peer at this address has another endpoint id than the one dialled");
        c->peer_proven = true;
        return 0;
    }
    c->peer = id;
    if (quic_count_accepted(ep, &id) >= ep->limits.conns_per_peer_max) {
        ep->stats.refused++;
        return quic_refuse(c, HKV_E_LIMIT, TLS_ALERT_ACCESS_DENIED, "too many connections of this peer");
    }
    if (!ep->owner.admit(ep->owner.user, &id)) {
        ep->stats.refused++;
        return quic_refuse(c, HKV_E_PEER_REFUSED, TLS_ALERT_ACCESS_DENIED, "the peer is not admitted");
    }
    c->peer_proven = true;
    return 0;
}

static int on_crypto_data(ngtcp2_conn *ng, ngtcp2_encryption_level level, uint64_t offset, const uint8_t *data,
                          size_t len, void *user)
{
    struct quic_conn *c = user;
    (void)offset;
    if (level == NGTCP2_ENCRYPTION_LEVEL_HANDSHAKE) c->handshake_packet_seen = true;
    if (ngtcp2_crypto_read_write_crypto_data(ng, level, data, len) == 0) return 0;
    int rv = ngtcp2_conn_get_tls_error(ng);
    return rv ? rv : NGTCP2_ERR_CRYPTO;
}

static int on_handshake_completed(ngtcp2_conn *ng, void *user)
{
    struct quic_conn *c = user;
    struct net_endpoint *ep = c->ep;
    struct slice alpn;
    if (!c->peer_proven || !quic_conn_alpn(c, &alpn)) {
        c->verdict = HKV_E_PEER_REFUSED;
        c->alert = TLS_ALERT_NO_PROTOCOL;
        c->verdict_why = "the peer chose no protocol";
        return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    c->state = QUIC_OPEN;
    if (c->server) ep->half_open_count--;
    if (ep->limits.keep_alive_ms)
        ngtcp2_conn_set_keep_alive_timeout(ng, ep->limits.keep_alive_ms * NGTCP2_MILLISECONDS);
    if (!quic_listening(c)) return 0;
    if (c->server && (ep->closing || !ep->owner.accepted(ep->owner.user, &c->base, alpn))) {
        c->events = NULL;
        quic_conn_close(c, 0, "");
        return 0;
    }
    if (c->events && quic_listening(c)) c->events->opened(&c->base);
    return 0;
}

static int on_stream_open(ngtcp2_conn *ng, int64_t id, void *user)
{
    struct quic_conn *c = user;
    struct quic_stream *s;
    if (quic_stream_new(c, id, false, &s) != HKV_OK) return NGTCP2_ERR_CALLBACK_FAILURE;
    if (ngtcp2_conn_set_stream_user_data(ng, id, s)) return NGTCP2_ERR_CALLBACK_FAILURE;
    if (c->events && quic_listening(c) && c->events->stream(&c->base, &s->base)) return 0;
    s->events = NULL;
    quic_stream_reset(s, 0);
    quic_stream_stop(s, 0);
    return 0;
}

static int on_stream_data(ngtcp2_conn *ng, uint32_t flags, int64_t id, uint64_t offset, const uint8_t *data, size_t len,
                          void *user, void *stream_user)
{
    struct quic_conn *c = user;
    struct quic_stream *s = stream_user;
    (void)ng, (void)id, (void)offset;
    if (s && quic_listening(c)) quic_stream_data(s, slice_of(data, len), flags & NGTCP2_STREAM_DATA_FLAG_FIN);
    return 0;
}

static int on_stream_acked(ngtcp2_conn *ng, int64_t id, uint64_t offset, uint64_t len, void *user, void *stream_user)
{
    (void)ng, (void)id, (void)offset, (void)user;
    if (stream_user) quic_stream_acked(stream_user, len);
    return 0;
}

/* Both directions are over and acknowledged. */
static int on_stream_close(ngtcp2_conn *ng, uint32_t flags, int64_t id, uint64_t code, void *user, void *stream_user)
{
    struct quic_conn *c = user;
    struct quic_stream *s = stream_user;
    if (!ngtcp2_conn_is_local_stream(ng, id)) ngtcp2_conn_extend_max_streams_bidi(ng, 1);
    if (!s) return 0;
    if (quic_listening(c) && !s->send_over) {
        bool all_acked = s->fin_sent && s->queued == 0;
        if (all_acked)
            quic_stream_finished(s);
        else
            quic_stream_peer_stopped(s, flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET ? code : 0);
    }
    quic_stream_end(s);
    return 0;
}

static int on_stream_reset(ngtcp2_conn *ng, int64_t id, uint64_t final_size, uint64_t code, void *user,
                           void *stream_user)
{
    struct quic_conn *c = user;
    (void)ng, (void)id, (void)final_size;
    if (stream_user && quic_listening(c)) quic_stream_peer_reset(stream_user, code);
    return 0;
}

static int on_more_streams(ngtcp2_conn *ng, uint64_t max, void *user)
{
    struct quic_conn *c = user;
    (void)ng, (void)max;
    if (c->streams_waiting) net_endpoint_mark(c->ep, c);
    return 0;
}

static int on_more_stream_data(ngtcp2_conn *ng, int64_t id, uint64_t max, void *user, void *stream_user)
{
    (void)ng, (void)id, (void)max, (void)user;
    if (stream_user) quic_stream_enqueue(stream_user);
    return 0;
}

static int on_new_cid(ngtcp2_conn *ng, ngtcp2_cid *cid, uint8_t *token, size_t len, void *user)
{
    struct quic_conn *c = user;
    (void)ng;
    cid->datalen = len;
    randombytes_buf(cid->data, len);
    if (quic_reset_token(c->ep, cid, token)) return NGTCP2_ERR_CALLBACK_FAILURE;
    return cid_table_add(&c->ep->cids, &c->cids, c, cid) == HKV_OK ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

static int on_old_cid(ngtcp2_conn *ng, const ngtcp2_cid *cid, void *user)
{
    struct quic_conn *c = user;
    (void)ng;
    cid_table_remove(&c->ep->cids, &c->cids, cid);
    return 0;
}

static int on_stateless_reset(ngtcp2_conn *ng, const ngtcp2_pkt_stateless_reset *reset, void *user)
{
    struct quic_conn *c = user;
    (void)ng, (void)reset;
    c->stateless_reset = true;
    return 0;
}

static int on_update_key(ngtcp2_conn *ng, uint8_t *rx_secret, uint8_t *tx_secret, ngtcp2_crypto_aead_ctx *rx_ctx,
                         uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx_ctx, uint8_t *tx_iv, const uint8_t *rx_now,
                         const uint8_t *tx_now, size_t secret_len, void *user)
{
    struct quic_conn *c = user;
    if (c->keys_ready_ns) c->ep->stats.key_updates++; /* the first ones are only kept ready */
    c->keys_ready_ns = net_now();
    return ngtcp2_crypto_update_key_cb(ng, rx_secret, tx_secret, rx_ctx, rx_iv, tx_ctx, tx_iv, rx_now, tx_now,
                                       secret_len, user);
}

static void on_random(uint8_t *out, size_t len, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    randombytes_buf(out, len);
}

/* Decrypts as ngtcp2's own, and looks for STOP_SENDING in what comes out. */
static int on_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                      const uint8_t *ciphertext, size_t len, const uint8_t *nonce, size_t nonce_len, const uint8_t *aad,
                      size_t aad_len)
{
    int rv = ngtcp2_crypto_decrypt_cb(dest, aead, ctx, ciphertext, len, nonce, nonce_len, aad, aad_len);
    if (rv == 0 && quic_reading && quic_reading->state == QUIC_OPEN && len > aead->max_overhead) {
        quic_reading->heard = true;
        frames_find_stops(slice_of(dest, len - aead->max_overhead), &quic_reading->stops);
    }
    return rv;
}

const ngtcp2_callbacks quic_callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
    .recv_crypto_data = on_crypto_data,
    .handshake_completed = on_handshake_completed,
    .encrypt = ngtcp2_crypto_encrypt_cb,
    .decrypt = on_decrypt,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_stream_data = on_stream_data,
    .acked_stream_data_offset = on_stream_acked,
    .stream_open = on_stream_open,
    .stream_close = on_stream_close,
    .recv_stateless_reset = on_stateless_reset,
    .recv_retry = ngtcp2_crypto_recv_retry_cb,
    .extend_max_local_streams_bidi = on_more_streams,
    .rand = on_random,
    .get_new_connection_id = on_new_cid,
    .remove_connection_id = on_old_cid,
    .update_key = on_update_key,
    .stream_reset = on_stream_reset,
    .extend_max_stream_data = on_more_stream_data,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};
