#include <hero_kvs.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/print.h"

static const struct {
    const char *name;
    const char *label;
} kinds[] = {{"entries", "entries"}, {"spans", "runs of entries"}, {"index", "index"}, {"values", "values"}};

static json_int_t count(const json_t *kind, const char *name)
{
    return json_integer_value(json_object_get(kind, name));
}

/* One line a kind, then what to do. `mended`: the daemon repaired what it could. */
static void print_result(const json_t *result, bool mended)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const json_t *kind = json_object_get(result, kinds[i].name);
        printf("%-16s %10" JSON_INTEGER_FORMAT " checked", kinds[i].label, count(kind, "checked"));
        if (count(kind, "bad")) printf(", %" JSON_INTEGER_FORMAT " bad", count(kind, "bad"));
        if (count(kind, "repaired")) printf(", %" JSON_INTEGER_FORMAT " repaired", count(kind, "repaired"));
        puts("");
    }
    if (json_is_true(json_object_get(result, "sound"))) {
        puts("nothing is damaged");
        return;
    }
    printf("first: %s\n", json_string_value(json_object_get(result, "first")));
    if (json_is_true(json_object_get(result, "unreadable")))
        puts("a page of the database cannot be read: stop the daemon, move the folders docs and blobs of the data "
             "directory away (keys stays), and start it again: it fetches everything from its peers");
    else if (!mended)
        puts("start the daemon: it removes what is bad, fetches it again from its peers, and makes its index anew");
    else if (count(json_object_get(result, "values"), "bad") > count(json_object_get(result, "values"), "repaired"))
        puts("bad values are fetched again from peers; `status` counts those that are still to come");
}

static enum exit_code finish(struct cli *cli, const json_t *result, bool mended)
{
    if (cli->json)
        print_json(result);
    else
        print_result(result, mended);
    return json_is_true(json_object_get(result, "sound")) ? CLI_OK : CLI_FAILED;
}

/* ------------------------------------------------------------------------------------------ a stopped store */

struct progress {
    const struct cli *cli;
    unsigned percent;
};

static void show_progress(void *arg, unsigned permille)
{
    struct progress *progress = arg;
    if (!progress_shown(progress->cli) || permille / 10 == progress->percent) return;
    progress->percent = permille / 10;
    fprintf(stderr, "\rverifying, %u %%\033[K", progress->percent);
    fflush(stderr);
}

static json_t *result_json(const struct hkv_verify_result *result)
{
    json_t *object = json_pack("{s:b, s:b, s:s, s:I}", "sound", result->sound, "unreadable", result->unreadable,
                               "first", result->first, "took_ms", (json_int_t)result->took_ms);
    for (int i = 0; i < HKV_VERIFY_KIND_COUNT; i++) {
        const struct hkv_verify_counts *counts = &result->kinds[i];
        (void)json_object_set_new(object, hkv_verify_kind_name((enum hkv_verify_kind)i),
                                  json_pack("{s:I, s:I, s:I}", "checked", (json_int_t)counts->checked, "bad",
                                            (json_int_t)counts->bad, "repaired", (json_int_t)counts->repaired));
    }
    return object;
}

static enum exit_code verify_stopped(struct cli *cli, const char *data_dir)
{
    struct progress progress = {cli, UINT32_MAX};
    struct hkv_verify_options options = {.progress = show_progress, .progress_arg = &progress};
    struct hkv_verify_result result;
    enum hkv_err err = hkv_verify_dir(data_dir, &options, &result);
    progress_end(cli);
    if (err == HKV_E_LOCKED)
        return cli_fail(cli, CLI_FAILED, "%s; leave out --data-dir to verify a running daemon's store",
                        hkv_last_error());
    if (err != HKV_OK) return cli_fail(cli, CLI_FAILED, "%s", hkv_last_error());
    json_t *object = result_json(&result);
    enum exit_code code = finish(cli, object, false);
    json_decref(object);
    return code;
}

enum exit_code verb_verify(struct cli *cli)
{
    const char *data_dir = cli_flag(cli, "data-dir");
    if (data_dir) return verify_stopped(cli, data_dir);
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    client.waiting_for = "verifying the store";
    json_t *result = client_call(&client, "kv.verify", json_object(), NULL);
    enum exit_code code = result ? finish(cli, result, true) : client.code;
    json_decref(result);
    client_close(&client);
    return code;
}
