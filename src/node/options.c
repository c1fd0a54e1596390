#include "node/options.h"

#include <arpa/inet.h>

#include "base/text.h"
#include "crypto/ed25519.h"
#include "node/peers.h"

#define MEMORY_BYTES_MIN    ((uint64_t)8 << 20)
#define BYTES_POWER_MAX     40 /* of memory and values: 1 TiB */
#define DISK_POWER_MAX      60 /* sums with it stay in range */
#define ANTI_ENTROPY_MS_MIN 100

void hkv_options_init(struct hkv_options *options)
{
    if (options == NULL) return;
    *options = (struct hkv_options){
        .struct_bytes = sizeof *options,
        .bind_ipv4 = "0.0.0.0",
        .bind_ipv6 = "::",
        .bind_port = HKV_PORT_LAST,
        .anti_entropy_ms = HKV_ANTI_ENTROPY_MS_DEFAULT,
        .max_value_bytes = HKV_VALUE_MAX_DEFAULT,
        .memory_bytes = HKV_MEMORY_DEFAULT,
    };
}

static enum hkv_err check_bytes(const char *name, uint64_t bytes, uint64_t min, unsigned power_max)
{
    if (bytes >= min && bytes <= (uint64_t)1 << power_max) return HKV_OK;
    return error_set(HKV_E_INVALID, "%s is %ju; give %ju to 2^%u", name, (uintmax_t)bytes, (uintmax_t)min, power_max);
}

static enum hkv_err check_numbers(const struct hkv_options *o)
{
    if (o->anti_entropy_ms < ANTI_ENTROPY_MS_MIN)
        return error_set(HKV_E_INVALID, "anti_entropy_ms is %u; at least %d", o->anti_entropy_ms, ANTI_ENTROPY_MS_MIN);
    if (o->bind_port < HKV_PORT_LAST || o->bind_port > 65535)
        return error_set(HKV_E_INVALID, "bind_port is %d; give 0 to 65535, or HKV_PORT_LAST", o->bind_port);
    TRY(check_bytes("memory_bytes", o->memory_bytes, MEMORY_BYTES_MIN, BYTES_POWER_MAX));
    TRY(check_bytes("max_value_bytes", o->max_value_bytes, 1, BYTES_POWER_MAX));
    return check_bytes("disk_bytes", o->disk_bytes, 0, DISK_POWER_MAX);
}

static enum hkv_err check_secret(const char *name, const char *text)
{
    struct secret_key secret;
    if (text == NULL) return HKV_OK;
    enum hkv_err err = secret_key_parse(name, slice_of_text(text), &secret);
    secret_wipe(&secret, sizeof secret);
    return err;
}

static enum hkv_err check_address(const char *name, const char *text, int family)
{
    uint8_t address[16];
    if (text == NULL || text[0] == '\0' || inet_pton(family, text, address) == 1) return HKV_OK;
    return error_set(HKV_E_INVALID, "%s is %s, which is no IPv%d address", name, text, family == AF_INET ? 4 : 6);
}

static enum hkv_err check_seed(const char *text)
{
    struct peer_name name;
    if (text == NULL) return error_set(HKV_E_TICKET, "it is NULL; give an endpoint ticket or endpointid@host:port");
    TRY(peer_name_parse(slice_of_text(text), &name));
    peer_name_fini(&name);
    return HKV_OK;
}

static enum hkv_err check_trusted(const char *text)
{
    struct endpoint_id id;
    if (text == NULL) return error_set(HKV_E_TICKET, "it is NULL; give an endpoint id");
    return endpoint_id_parse(slice_of_text(text), &id);
}

static enum hkv_err check_list(const char *name, const char *const *list, size_t count,
                               enum hkv_err (*check)(const char *text))
{
    if (list == NULL && count > 0) return error_set(HKV_E_INVALID, "%s is NULL, and its count is %zu", name, count);
    for (size_t i = 0; i < count; i++) {
        enum hkv_err err = check(list[i]);
        if (err != HKV_OK) return error_wrap(err, "%s %zu", name, i + 1);
    }
    return HKV_OK;
}

static enum hkv_err check_texts(const struct hkv_options *o)
{
    struct namespace_id id;
    TRY(check_secret("namespace_secret", o->namespace_secret));
    TRY(check_secret("author_secret", o->author_secret));
    TRY(check_secret("endpoint_secret", o->endpoint_secret));
    if (o->namespace_secret != NULL && o->namespace_id != NULL)
        return error_set(HKV_E_INVALID, "namespace_secret and namespace_id are both given; one says it all");
    if (o->namespace_id != NULL && !hex_decode(slice_of_text(o->namespace_id), HEX_ANY_CASE, id.bytes, ID_BYTES))
        return error_set(HKV_E_INVALID, "namespace_id is not 64 hex digits");
    TRY(check_address("bind_ipv4", o->bind_ipv4, AF_INET));
    TRY(check_address("bind_ipv6", o->bind_ipv6, AF_INET6));
    TRY(check_list("seed", o->seeds, o->seed_count, check_seed));
    TRY(check_list("trusted", o->trusted, o->trusted_count, check_trusted));
    if (o->name != NULL && (strlen(o->name) >= PEER_NAME_MAX || !utf8_is_valid(slice_of_text(o->name))))
        return error_set(HKV_E_INVALID, "name is longer than %d bytes or no UTF-8", PEER_NAME_MAX - 1);
    return HKV_OK;
}

enum hkv_err options_check(const struct hkv_options *o)
{
    if (o == NULL || o->struct_bytes != sizeof *o)
        return error_set(HKV_E_INVALID, "options were not set up by hkv_options_init() of this version");
    if (o->format == HKV_FORMAT_HERO_V1)
        return error_set(HKV_E_UNSUPPORTED, "the format hero-v1 is not offered yet; use native");
    if ((unsigned)o->format > HKV_FORMAT_HERO_V1 || (unsigned)o->durability > HKV_DURABILITY_PROCESS)
        return error_set(HKV_E_INVALID, "format or durability is none of its enum");
    TRY(check_numbers(o));
    return check_texts(o);
}
