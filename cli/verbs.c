#include "cli/cli.h"

#include <string.h>

#define TIMEOUT_FLAG                                                                                                   \
    {                                                                                                                  \
        "timeout-ms", "MS", "give up after this long (default 30000)"                                                  \
    }

const struct verb verbs[] = {
    {.name = "put",
     .arguments = "KEY [VALUE]",
     .summary = "store a value under a key",
     .detail = "Without VALUE it is read from --file, or from standard input. Prints the new version.",
     .args_min = 1,
     .args_max = 2,
     .flags = {{"file", "FILE", "read the value from FILE"},
               {"ttl-ms", "MS", "the key expires after this long"},
               {"if-version", "VERSION", "only while the key is at this version (checked on this node)"},
               {"if-absent", NULL, "only while the key is absent (checked on this node)"}},
     .run = verb_put},
    {.name = "get",
     .arguments = "KEY",
     .summary = "print the value of a key",
     .detail = "Prints the bytes as they are; exit code 3 when the key is absent.",
     .args_min = 1,
     .args_max = 1,
     .flags = {{"output", "FILE", "write the value to FILE, which appears when it is complete"}},
     .run = verb_get},
    {.name = "del",
     .arguments = "KEY",
     .summary = "make a key absent",
     .detail = "Prints the version of the deletion.",
     .args_min = 1,
     .args_max = 1,
     .flags = {{"if-version", "VERSION", "only while the key is at this version (checked on this node)"}},
     .run = verb_del},
    {.name = "ls",
     .arguments = "[PREFIX]",
     .summary = "list keys with size, time and the beginning of the value",
     .detail = "With --json: one object a line for each key, as kv.list gives them.",
     .args_max = 1,
     .flags = {{"limit", "COUNT", "at most this many keys (default: all)"}},
     .run = verb_ls},
    {.name = "keys",
     .arguments = "[PREFIX]",
     .summary = "list keys, one a line",
     .detail = "Control characters are shown as \\xNN; with --json each line is a JSON string.",
     .args_max = 1,
     .flags = {{"limit", "COUNT", "at most this many keys (default: all)"}},
     .run = verb_keys},
    {.name = "watch",
     .arguments = "[PREFIX]",
     .summary = "print changes as they happen",
     .detail =
         "Ends with control-C, or after --count events about keys. Exit code 1 when the daemon goes away.\n"
         "Each change has a position, printed last (with --json: \"position\"). Given to --from, it misses nothing\n"
         "and repeats nothing. PROGRESS: everything up to its position was printed. OVERRUN: changes are lost,\n"
         "because the daemon's log does not reach back to the position.",
     .args_max = 1,
     .flags = {{"from", "POSITION", "go on behind this position (default: from now on)"},
               {"list", NULL, "first print the keys that are present (with --from: when the position is lost)"},
               {"count", "COUNT", "end after this many events about keys (default: never)"}},
     .run = verb_watch},
    {.name = "history",
     .arguments = "KEY",
     .summary = "list every author's current entry for a key, the winner first",
     .args_min = 1,
     .args_max = 1,
     .run = verb_history},
    {.name = "status",
     .arguments = "",
     .summary = "show health, counts and peers",
     .detail = "Exit code 0 when the node is healthy, 1 when it is not, 4 when --wait-converged ran out of time.",
     .flags = {{"wait-converged", NULL, "first wait until this node and its peers hold the same"}, TIMEOUT_FLAG},
     .run = verb_status},
    {.name = "info", .arguments = "", .summary = "show the ids, addresses and ticket of this node", .run = verb_info},
    {.name = "peers", .arguments = "", .summary = "list the known peers and their state", .run = verb_peers},
    {.name = "peer",
     .arguments = "add|rm PEER",
     .summary = "add or remove a peer to stay connected to",
     .detail = "PEER is an `endpoint...` ticket, endpointid@host:port, or for rm also the endpoint id.",
     .args_min = 2,
     .args_max = 2,
     .words = "add rm",
     .run = verb_peer},
    {.name = "sync",
     .arguments = "",
     .summary = "compare with every peer now, and wait for it",
     .flags = {TIMEOUT_FLAG},
     .run = verb_sync},
    {.name = "verify",
     .arguments = "",
     .summary = "re-read everything that is stored, and mend it",
     .detail =
         "Through the daemon: bad values and entries are fetched again from peers. With --data-dir: of a stopped\n"
         "store, reading alone. Exit code 1 when something bad was found.",
     .flags = {{"data-dir", "DIR", "verify the stopped store in DIR, without a daemon and without mending"}},
     .run = verb_verify},
    {.name = "ticket",
     .arguments = "read|write",
     .summary = "print a ticket with which another node can join",
     .detail = "Whoever has a write ticket can write, for ever; there is no way to take it back.",
     .args_min = 1,
     .args_max = 1,
     .words = "read write",
     .run = verb_ticket},
    {.name = "join",
     .arguments = "TICKET",
     .summary = "join the namespace of another node's ticket",
     .detail = "Into another namespace only while this node holds no user keys.",
     .args_min = 1,
     .args_max = 1,
     .flags = {{"format", "FORMAT", "of the namespace: auto, native or hero-v1 (default auto)"}},
     .run = verb_join},
    {.name = "call",
     .arguments = "METHOD [JSON]",
     .summary = "call a JSON-RPC method and print its result",
     .detail = "JSON is the object or array of parameters; `call rpc.discover` lists the methods.",
     .args_min = 1,
     .args_max = 2,
     .run = verb_call},
    {.name = "completion",
     .arguments = "bash|zsh|fish",
     .summary = "print a completion script for a shell",
     .detail = "For example: source <(hero_codescalers completion bash)",
     .args_min = 1,
     .args_max = 1,
     .words = "bash zsh fish",
     .run = verb_completion},
};

const size_t verb_count = sizeof verbs / sizeof *verbs;

const struct flag common_flags[] = {
    {"json", NULL, "print JSON, errors too"},
    {"socket-dir", "DIR", "the daemon's socket is DIR/hero_codescalers/rpc.sock"},
    {"help", NULL, "print help; after a verb, about it"},
    {"version", NULL, "print the version"},
    {0},
};

const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < verb_count; i++)
        if (strcmp(verbs[i].name, name) == 0) return &verbs[i];
    return NULL;
}
