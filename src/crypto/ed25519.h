/* Ed25519 as iroh uses it: RFC 8032 signatures, verified strictly (wire/docs.md 1.2) by libsodium and nothing else.
 * Any thread, after crypto_init() succeeded once in the process. */
#ifndef HKV_CRYPTO_ED25519_H
#define HKV_CRYPTO_ED25519_H

#include "base/bytes.h"
#include "base/ids.h"

/* Readies libsodium; may be called often and from any thread. Errors: HKV_E_INTERNAL. */
HKV_CHECK enum hkv_err crypto_init(void);

/* Public key of a seed. */
void ed25519_public_key(const struct secret_key *secret, uint8_t out[ID_BYTES]);

/* Signs. `public_key` is that of `secret`; passing it saves deriving it (half of the cost). */
void ed25519_sign(const struct secret_key *secret, const uint8_t public_key[ID_BYTES], struct slice message,
                  struct signature *out);

/* True when the signature is valid under the strict rule. About 40 µs. */
bool ed25519_verify(const uint8_t public_key[ID_BYTES], struct slice message, const struct signature *signature);

/* Whether 32 bytes decompress to a point of the curve; what iroh asks of an endpoint id when it parses one
 * (wire/endpoint.md 2.1: small-order and non-canonical points are accepted). */
bool ed25519_is_point(const uint8_t bytes[ID_BYTES]);

/* Overwrites a secret so that the compiler cannot leave it out. */
void secret_wipe(void *secret, size_t len);

#endif
