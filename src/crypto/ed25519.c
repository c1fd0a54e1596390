#include "crypto/ed25519.h"

#include <sodium.h>

#if crypto_sign_SEEDBYTES != ID_BYTES || crypto_sign_PUBLICKEYBYTES != ID_BYTES || crypto_sign_BYTES != SIGNATURE_BYTES
#error "libsodium's Ed25519 has other sizes than RFC 8032"
#endif

enum hkv_err crypto_init(void)
{
    if (sodium_init() < 0)
        return error_set(HKV_E_INTERNAL,
                         "libsodium could not be readied: it found no source of random bytes; is /dev/urandom "
                         "readable?");
    return HKV_OK;
}

void ed25519_public_key(const struct secret_key *secret, uint8_t out[ID_BYTES])
{
    uint8_t pair[crypto_sign_SECRETKEYBYTES];
    (void)crypto_sign_seed_keypair(out, pair, secret->bytes);
    sodium_memzero(pair, sizeof pair);
}

/* libsodium's secret key is the seed followed by the public key. */
void ed25519_sign(const struct secret_key *secret, const uint8_t public_key[ID_BYTES], struct slice message,
                  struct signature *out)
{
    uint8_t pair[crypto_sign_SECRETKEYBYTES];
    memcpy(pair, secret->bytes, ID_BYTES);
    memcpy(pair + ID_BYTES, public_key, ID_BYTES);
    (void)crypto_sign_detached(out->bytes, NULL, message.data, message.len, pair);
    sodium_memzero(pair, sizeof pair);
}

/* libsodium checks all four points of the strict rule: A decompresses, S < L, neither A nor R has small order, and the
 * recomputed R must equal the given bytes. Beyond them it refuses a non-canonical A, which cannot differ from upstream
 * in practice: of the 19 values of y that have a second encoding, no one knows a secret. */
bool ed25519_verify(const uint8_t public_key[ID_BYTES], struct slice message, const struct signature *signature)
{
    return crypto_sign_verify_detached(signature->bytes, message.data, message.len, public_key) == 0;
}

/* libsodium offers no bare decompression, and its check of a "valid point" wants more than upstream does. Adding two
 * points decompresses both and checks nothing else: it fails just when `bytes` is no point. */
bool ed25519_is_point(const uint8_t bytes[ID_BYTES])
{
    static const uint8_t neutral[ID_BYTES] = {1};
    uint8_t sum[ID_BYTES];
    return crypto_core_ed25519_add(sum, bytes, neutral) == 0;
}

void secret_wipe(void *secret, size_t len)
{
    if (len > 0) sodium_memzero(secret, len);
}
