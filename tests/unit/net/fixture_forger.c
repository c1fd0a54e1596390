#include "fixture_forger.h"

#include <gnutls/crypto.h>

#include "net/quic_conn.h"

#define PACKET_NUMBER_BYTES 4
#define KEY_BYTES           32 /* of AES-256, the cipher that both sides like best */
#define IV_BYTES            12
#define TAG_BYTES           16

static struct {
    uint8_t key[KEY_BYTES], iv[IV_BYTES], header_key[KEY_BYTES];
    struct quic_conn *conn;
} forger;

/* What ngtcp2's own function does, and keeps the keys. */
static int on_secret(gnutls_session_t session, gnutls_record_encryption_level_t gnutls_level, const void *rx,
                     const void *tx, size_t len)
{
    ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(session);
    ngtcp2_conn *ng = ref->get_conn(ref);
    ngtcp2_encryption_level level = ngtcp2_crypto_gnutls_from_gnutls_record_encryption_level(gnutls_level);
    if (rx && ngtcp2_crypto_derive_and_install_rx_key(ng, NULL, NULL, NULL, level, rx, len)) return -1;
    if (!tx) return 0;
    if (level != NGTCP2_ENCRYPTION_LEVEL_1RTT)
        return ngtcp2_crypto_derive_and_install_tx_key(ng, NULL, NULL, NULL, level, tx, len);
    assert_int_equal(gnutls_cipher_get(session), GNUTLS_CIPHER_AES_256_GCM);
    return ngtcp2_crypto_derive_and_install_tx_key(ng, forger.key, forger.iv, forger.header_key, level, tx, len);
}

void rig_forge_begin(struct rig_conn *dialled)
{
    forger.conn = (struct quic_conn *)dialled->conn;
    gnutls_handshake_set_secret_function(forger.conn->tls, on_secret);
}

/* One block of AES, as the first block of CBC from zero. */
static void header_mask(const uint8_t sample[16], uint8_t mask[16])
{
    uint8_t zero[16] = {0};
    gnutls_datum_t key = {forger.header_key, KEY_BYTES}, iv = {zero, sizeof zero};
    gnutls_cipher_hd_t cipher;
    assert_int_equal(gnutls_cipher_init(&cipher, GNUTLS_CIPHER_AES_256_CBC, &key, &iv), 0);
    assert_int_equal(gnutls_cipher_encrypt2(cipher, sample, 16, mask, 16), 0);
    gnutls_cipher_deinit(cipher);
}

static void seal(const uint8_t *header, size_t header_len, const struct rig_packet *packet, uint8_t *out)
{
    uint8_t nonce[IV_BYTES];
    gnutls_datum_t key = {forger.key, KEY_BYTES};
    gnutls_aead_cipher_hd_t cipher;
    size_t len = packet->frames_len + TAG_BYTES;
    memcpy(nonce, forger.iv, IV_BYTES);
    for (size_t i = 0; i < 4; i++) nonce[IV_BYTES - 1 - i] ^= (uint8_t)(packet->number >> (8 * i));
    assert_int_equal(gnutls_aead_cipher_init(&cipher, GNUTLS_CIPHER_AES_256_GCM, &key), 0);
    assert_int_equal(gnutls_aead_cipher_encrypt(cipher, nonce, sizeof nonce, header, header_len, TAG_BYTES,
                                                packet->frames, packet->frames_len, out, &len),
                     0);
    gnutls_aead_cipher_deinit(cipher);
}

void rig_forge_send(struct rig_proxy *proxy, size_t index, const struct rig_packet *packet)
{
    uint8_t bytes[1200], mask[16];
    const ngtcp2_cid *dcid = ngtcp2_conn_get_dcid(forger.conn->ng);
    size_t number_at = 1 + dcid->datalen, header_len = number_at + PACKET_NUMBER_BYTES;
    assert_true(header_len + packet->frames_len + TAG_BYTES <= sizeof bytes);
    bytes[0] = (uint8_t)(0x40 | (packet->other_key_phase ? 0x04 : 0) | (PACKET_NUMBER_BYTES - 1));
    memcpy(bytes + 1, dcid->data, dcid->datalen);
    for (size_t i = 0; i < PACKET_NUMBER_BYTES; i++) bytes[number_at + i] = (uint8_t)(packet->number >> (24 - 8 * i));
    seal(bytes, header_len, packet, bytes + header_len);
    header_mask(bytes + number_at + 4, mask);
    bytes[0] ^= mask[0] & 0x1f;
    for (size_t i = 0; i < PACKET_NUMBER_BYTES; i++) bytes[number_at + i] ^= mask[1 + i];
    rig_proxy_inject(proxy, index, bytes, header_len + packet->frames_len + TAG_BYTES);
}
