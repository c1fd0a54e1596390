#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/peers_table.h"
#include "cli/print.h"

/* ", clock 1.234 s ahead" of this machine's; nothing while unknown or within a millisecond. */
static void print_skew(const json_t *peer)
{
    const json_t *kind = json_object_get(peer, "clock_skew");
    json_int_t skew_us = json_integer_value(json_object_get(peer, "clock_skew_us"));
    if (skew_us > -1000 && skew_us < 1000) return;
    bool at_least = json_is_string(kind) && strcmp(json_string_value(kind), "at_least") == 0;
    printf(", clock %s%.3f s %s", at_least ? "at least " : "", (double)(skew_us < 0 ? -skew_us : skew_us) / 1e6,
           skew_us < 0 ? "behind" : "ahead");
}

static void print_peer(const json_t *peer)
{
    const json_t *name = json_object_get(peer, "name");
    const json_t *why = json_object_get(peer, "why");
    bool connected = json_is_true(json_object_get(peer, "connected"));
    json_int_t rtt_us = json_integer_value(json_object_get(peer, "rtt_us"));
    json_int_t last_us = json_integer_value(json_object_get(peer, "last_sync_us"));
    printf("%s  %-6s  %s", json_string_value(json_object_get(peer, "endpoint_id")),
           json_string_value(json_object_get(peer, "source")), connected ? "connected" : "not connected since ");
    if (connected)
        printf(", %s", json_string_value(json_object_get(peer, "path")));
    else
        print_time(json_integer_value(json_object_get(peer, "disconnected_us")));
    if (rtt_us) printf(", %.1f ms", (double)rtt_us / 1000);
    print_skew(peer);
    fputs(last_us ? ", last sync " : ", never synced", stdout);
    if (last_us) print_time(last_us);
    if (json_is_true(json_object_get(peer, "last_confirmed"))) fputs(", equal then", stdout);
    if (json_string_length(name)) {
        fputs(", ", stdout);
        print_escaped(json_string_value(name), json_string_length(name), SIZE_MAX);
    }
    putchar('\n');
    if (!json_string_length(why)) return;
    fputs("    ", stdout);
    print_escaped(json_string_value(why), json_string_length(why), SIZE_MAX);
    putchar('\n');
}

void print_peers(const json_t *peers)
{
    for (size_t i = 0; i < json_array_size(peers); i++) print_peer(json_array_get(peers, i));
}

enum exit_code verb_peers(struct cli *cli)
{
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    json_t *result = client_call(&client, "kv.peers", json_object(), NULL);
    const json_t *peers = json_object_get(result, "peers");
    if (result && cli->json)
        print_json(result);
    else if (result && json_array_size(peers) == 0)
        puts("no peers are known; add one with: hero_codescalers peer add PEER");
    else
        print_peers(peers);
    json_decref(result);
    client_close(&client);
    return client.code;
}
