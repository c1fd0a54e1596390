#include <stdlib.h>
#include <string.h>

#include "server/conn.h"
#include "server/feed.h"

struct watch {
    struct conn *conn;
    struct feed *feed;
    unsigned number;
};

static void write_event(const struct watch *watch, struct text *out, json_t *event)
{
    bool ok = json_object_set_new(event, "watch", json_integer(watch->number)) == 0;
    char *text = ok ? json_dumps(event, JSON_COMPACT) : NULL;
    if (text)
        text_printf(out, "{\"jsonrpc\":\"2.0\",\"method\":\"kv.event\",\"params\":%s}\n", text);
    else
        out->failed = true;
    free(text);
}

void watch_flush(struct watch *watch)
{
    struct text out = {0};
    bool failed = false;
    json_t *event;
    while (!failed && conn_out_bytes(watch->conn) + out.len <= CONN_OUT_MAX &&
           (event = feed_take(watch->feed, &failed)) != NULL) {
        write_event(watch, &out, event);
        json_decref(event);
    }
    if (failed || text_failed(&out)) {
        text_fini(&out);
        conn_close(watch->conn); /* events would be missing without a word */
        return;
    }
    conn_send(watch->conn, &out);
}

static void on_ready(void *owner)
{
    watch_flush(owner);
}

void watch_close(struct watch *watch)
{
    feed_close(watch->feed);
    free(watch);
}

enum hkv_err watch_new(struct conn *conn, struct rpc *rpc, unsigned number, const struct hkv_watch_options *options,
                       struct watch **out)
{
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch) return HKV_E_NOMEM;
    *watch = (struct watch){.conn = conn, .number = number};
    enum hkv_err err = feed_open(rpc, options, on_ready, watch, &watch->feed);
    if (err != HKV_OK) {
        free(watch);
        return err;
    }
    *out = watch;
    return HKV_OK;
}
