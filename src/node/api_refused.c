/* Public list of the entries that wait because they came from the future. */
#include <stdlib.h>

#include "base/text.h"
#include "node/node.h"

struct refused_scan {
    struct hkv_refused *out;
    uint64_t now_us;
};

static bool refused_visit(void *arg, const struct kv_refused *of)
{
    struct refused_scan *scan = arg;
    uint64_t accepted_us = scan->now_us + KV_FUTURE_US;
    scan->out->items[scan->out->count] = (struct hkv_refused_entries){
        .entries = of->count,
        .ahead_us = of->last_stamp_us > accepted_us ? of->last_stamp_us - scan->now_us : 0,
        .due_us = of->first_stamp_us > accepted_us ? of->first_stamp_us - accepted_us : 0,
    };
    struct hkv_refused_entries *entries = &scan->out->items[scan->out->count++];
    (void)id_format(of->author.bytes, entries->author);
    (void)id_format(of->peer.bytes, entries->peer);
    return scan->out->count < HKV_REFUSED_LIST_MAX;
}

enum hkv_err hkv_refused(struct hkv_store *store, struct hkv_refused **out)
{
    NEED_ARGUMENT(out);
    *out = NULL;
    TRY(node_call_begin(store));
    struct refused_scan scan = {.out = calloc(1, sizeof *scan.out), .now_us = env_wall_us(node_env(store))};
    if (scan.out != NULL) scan.out->items = calloc(HKV_REFUSED_LIST_MAX, sizeof *scan.out->items);
    enum hkv_err err = scan.out == NULL || scan.out->items == NULL
                           ? error_set(HKV_E_NOMEM, "no memory for the list of refused entries")
                           : kv_refused_list(store->kv, HKV_REFUSED_LIST_MAX, refused_visit, &scan);
    if (err == HKV_OK)
        *out = scan.out;
    else
        hkv_refused_free(scan.out);
    node_call_end(store);
    return err;
}

void hkv_refused_free(struct hkv_refused *refused)
{
    if (refused == NULL) return;
    free(refused->items);
    free(refused);
}
