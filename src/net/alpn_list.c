#include "net/alpn_list.h"

enum hkv_err alpn_list_copy(struct alpn_list *out, const struct slice *alpns, size_t count, const char *who)
{
    if (count == 0 || count > NET_ALPN_MAX)
        return error_set(HKV_E_INVALID, "%s 1 to %d ALPNs, not %zu", who, NET_ALPN_MAX, count);
    for (size_t i = 0; i < count; i++) {
        if (alpns[i].len == 0 || alpns[i].len > NET_ALPN_BYTES_MAX)
            return error_set(HKV_E_INVALID, "an ALPN has 1 to %d bytes, not %zu", NET_ALPN_BYTES_MAX, alpns[i].len);
        TRY(buf_append_slice(&out->bytes, alpns[i]));
    }
    const uint8_t *at = out->bytes.data; /* final only now */
    for (size_t i = 0; i < count; at += alpns[i].len, i++) out->items[i] = slice_of(at, alpns[i].len);
    out->count = count;
    return HKV_OK;
}

void alpn_list_fini(struct alpn_list *list)
{
    buf_fini(&list->bytes);
    list->count = 0;
}
