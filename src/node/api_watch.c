/* Public functions about watches and positions. */
#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "node/node.h"

#define EPOCH_DIGITS 16

enum hkv_err hkv_watch(struct hkv_store *store, const void *prefix, size_t prefix_bytes, hkv_event_fn event, void *arg,
                       struct hkv_watch **out)
{
    struct hkv_watch_options options = {.prefix = prefix, .prefix_bytes = prefix_bytes};
    return hkv_watch_with(store, &options, event, arg, out);
}

enum hkv_err hkv_watch_with(struct hkv_store *store, const struct hkv_watch_options *options, hkv_event_fn event,
                            void *arg, struct hkv_watch **out)
{
    NEED_ARGUMENT(out);
    *out = NULL;
    NEED_ARGUMENT(options);
    NEED_ARGUMENT(event);
    TRY(node_bytes_check("prefix", options->prefix, options->prefix_bytes));
    TRY(node_call_begin(store));
    enum hkv_err err = node_prefix_check(slice_of(options->prefix, options->prefix_bytes));
    if (err == HKV_OK) err = watch_open(&store->watches, options, event, arg, out);
    node_call_end(store);
    return err;
}

void hkv_watch_pause(struct hkv_watch *watch)
{
    if (watch != NULL) watch_pause(watch);
}

void hkv_watch_resume(struct hkv_watch *watch)
{
    if (watch != NULL) watch_resume(watch);
}

void hkv_watch_close(struct hkv_watch *watch)
{
    if (watch != NULL) watch_close(watch);
}

void hkv_position_format(const struct hkv_position *position, char out[HKV_POSITION_TEXT_BYTES])
{
    (void)snprintf(out, HKV_POSITION_TEXT_BYTES, "%016" PRIx64 "-%" PRIu64, position->epoch, position->number);
}

static bool parse_number(const char *text, uint64_t *out)
{
    uint64_t number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (number > (UINT64_MAX - digit) / 10) return false;
        number = number * 10 + digit;
    }
    *out = number;
    return at > text && *at == '\0';
}

enum hkv_err hkv_position_parse(const char *text, struct hkv_position *out)
{
    uint8_t epoch[EPOCH_DIGITS / 2];
    uint64_t number;
    NEED_ARGUMENT(text);
    NEED_ARGUMENT(out);
    struct slice all = slice_of_text(text);
    if (all.len <= EPOCH_DIGITS || text[EPOCH_DIGITS] != '-' ||
        !hex_decode(slice_part(all, 0, EPOCH_DIGITS), HEX_LOWER_ONLY, epoch, sizeof epoch) ||
        !parse_number(text + EPOCH_DIGITS + 1, &number))
        return error_set(HKV_E_INVALID,
                         "a position is <16 hex digits of the epoch>-<number>, as an event of a watch gave it");
    *out = (struct hkv_position){be64_load(epoch), number};
    return HKV_OK;
}
