#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/peers_table.h"
#include "cli/print.h"

#define TIMEOUT_MS_DEFAULT   30000
#define STAMP_AHEAD_SHOWN_US 1000
#define TIMEOUT_MS_MAX       ((int64_t)UINT32_MAX - 1)

static void print_conditions(const json_t *conditions)
{
    const char *name;
    json_t *holds;
    json_object_foreach((json_t *)(uintptr_t)conditions, name, holds)
    {
        printf("  %-18s %s\n", name, json_is_true(holds) ? "yes" : "NO");
    }
}

static void print_counts(const json_t *status)
{
    static const struct {
        const char *name;
        const char *label;
        bool always;
    } counts[] = {
        {"visible_keys", "keys", true},
        {"entries", "entries", true},
        {"tombstones", "tombstones", true},
        {"values_missing", "values missing", true},
        {"values_bad", "values damaged", false},
        {"values_too_large", "values too large", false},
        {"entries_refused", "entries refused", false},
        {"foreign_entries", "foreign entries", false},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        json_int_t count = json_integer_value(json_object_get(status, counts[i].name));
        if (count || counts[i].always) printf("%-17s %" JSON_INTEGER_FORMAT "\n", counts[i].label, count);
    }
    char size[16];
    printf("%-17s %s\n", "on disk",
           format_bytes((uint64_t)json_integer_value(json_object_get(status, "disk_bytes")), size));
    printf("%-17s %s\n", "fingerprint", json_string_value(json_object_get(status, "fingerprint")));
}

/* What is wrong, in words; nothing while nothing is. */
static void print_why(const json_t *status, const char *name, const char *label)
{
    const char *why = json_string_value(json_object_get(status, name));
    if (why && *why) printf("%-17s %s\n", label, why);
}

static void print_refused(const json_t *refused)
{
    for (size_t i = 0; i < json_array_size(refused); i++) {
        const json_t *of = json_array_get(refused, i);
        printf("  refused         %" JSON_INTEGER_FORMAT " of author %.16s from peer %.16s, up to %.0f s ahead of this "
               "clock, the first due in %.0f s\n",
               json_integer_value(json_object_get(of, "entries")), json_string_value(json_object_get(of, "author")),
               json_string_value(json_object_get(of, "peer")),
               (double)json_integer_value(json_object_get(of, "ahead_us")) / 1e6,
               (double)json_integer_value(json_object_get(of, "due_us")) / 1e6);
    }
}

static void print_ahead(const json_t *status)
{
    json_int_t ahead_us = json_integer_value(json_object_get(status, "stamp_ahead_us"));
    if (ahead_us >= STAMP_AHEAD_SHOWN_US)
        printf("%-17s %.3f s ahead of this clock\n", "newest own stamp", (double)ahead_us / 1e6);
}

/* Values that are not whole: key, author, size, why. */
static void print_problems(const json_t *problems)
{
    for (size_t i = 0; i < json_array_size(problems); i++) {
        const json_t *problem = json_array_get(problems, i);
        const json_t *key = json_object_get(problem, "key");
        char size[16];
        printf("%s  ", i == 0 ? "values          " : "                ");
        if (json_is_string(key))
            print_escaped(json_string_value(key), json_string_length(key), SIZE_MAX);
        else
            fputs("(a key of another shape)", stdout);
        printf(", %s, of author %.10s: %s; since ",
               format_bytes((uint64_t)json_integer_value(json_object_get(problem, "length")), size),
               json_string_value(json_object_get(problem, "author")),
               json_string_value(json_object_get(problem, "why")));
        print_time(json_integer_value(json_object_get(problem, "since_us")));
        putchar('\n');
    }
}

static void print_status(const json_t *status)
{
    printf("%-17s %s\n", "healthy", json_is_true(json_object_get(status, "healthy")) ? "yes" : "NO");
    print_conditions(json_object_get(status, "conditions"));
    print_why(status, "values_error", "the disk");
    print_why(status, "clock_why", "the clock");
    print_why(status, "identity_why", "the identity");
    print_counts(status);
    print_problems(json_object_get(status, "problems"));
    print_refused(json_object_get(status, "refused"));
    print_ahead(status);
    if (json_is_true(json_object_get(status, "single_node")))
        puts("peers             none known: this node is alone");
    else
        puts("peers");
    print_peers(json_object_get(status, "peers"));
}

/* CLI_OK, CLI_NOT_CONVERGED with the reason printed, or another failure. */
static enum exit_code wait_converged(struct cli *cli, struct client *client, int64_t timeout_ms)
{
    client->waiting_for = "waiting for the peers";
    json_t *result =
        client_call(client, "kv.wait_converged", json_pack("{s:I}", "timeout_ms", (json_int_t)timeout_ms), NULL);
    client->waiting_for = NULL;
    if (!result) return client->code;
    bool converged = json_is_true(json_object_get(result, "converged"));
    const char *reason = json_string_value(json_object_get(result, "reason"));
    if (!converged) cli_fail(cli, CLI_NOT_CONVERGED, "%s", reason ? reason : "not converged in time");
    json_decref(result);
    return converged ? CLI_OK : CLI_NOT_CONVERGED;
}

enum exit_code verb_status(struct cli *cli)
{
    int64_t timeout_ms;
    if (!cli_number(cli, "timeout-ms", 0, TIMEOUT_MS_MAX, TIMEOUT_MS_DEFAULT, &timeout_ms)) return CLI_USAGE;
    struct client client;
    if (!client_open(&client, cli)) return client.code;
    enum exit_code waited = CLI_OK;
    if (cli_flag(cli, "wait-converged")) waited = wait_converged(cli, &client, timeout_ms);
    json_t *status =
        waited == CLI_OK || waited == CLI_NOT_CONVERGED ? client_call(&client, "kv.status", json_object(), NULL) : NULL;
    if (status && cli->json)
        print_json(status);
    else if (status)
        print_status(status);
    enum exit_code code = client.code;
    if (status && waited != CLI_OK)
        code = waited;
    else if (status && !json_is_true(json_object_get(status, "healthy")))
        code = CLI_FAILED;
    json_decref(status);
    client_close(&client);
    return code;
}
