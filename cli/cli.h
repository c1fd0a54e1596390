/* The command line tool: each verb is a file (put.c, get.c, …), and a row of the table in verbs.c, which also makes
 * --help and the completions. A verb gets its parsed arguments in a struct cli, talks to the daemon through client.h,
 * prints with print.h, and returns its exit code.
 *
 *   0 ok   1 failed   2 wrong usage   3 the key is absent   4 not converged in time   5 no daemon
 *
 * Results go to stdout: for people, or with --json one JSON object a line. Errors go to stderr as one sentence that
 * says what to do; with --json as {"error": {"code", "message", "data"}}. One thread. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum exit_code {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_ABSENT = 3,
    CLI_NOT_CONVERGED = 4,
    CLI_NO_DAEMON = 5,
};

#define CLI_FLAGS_MAX 8
#define CLI_ARGS_MAX  4

struct flag {
    const char *name;       /* without the dashes */
    const char *value_name; /* NULL: a switch */
    const char *meaning;
};

struct cli;

struct verb {
    const char *name;
    const char *arguments; /* as the usage line shows them */
    const char *summary;
    const char *detail; /* lines for --help; may be NULL */
    size_t args_min, args_max;
    const char *words; /* that the first argument can be, separated by blanks, for completions; NULL: anything */
    struct flag flags[CLI_FLAGS_MAX];
    enum exit_code (*run)(struct cli *cli);
};

struct cli {
    const struct verb *verb;
    const char *args[CLI_ARGS_MAX];
    size_t arg_count;
    const char *flag_values[CLI_FLAGS_MAX]; /* by the verb's table; "" for a switch that is on */
    const char *socket_dir;
    bool json;
};

extern const struct verb verbs[];
extern const size_t verb_count;
extern const struct flag common_flags[]; /* up to one without a name */

const struct verb *verb_find(const char *name);

/* The value of a flag of this verb, "" for a switch that is on; NULL when it was not given. */
const char *cli_flag(const struct cli *cli, const char *name);

/* The value of a flag as a number from `min` to `max`, or `absent`. False, with the error printed, when it is none. */
bool cli_number(const struct cli *cli, const char *name, int64_t min, int64_t max, int64_t absent, int64_t *out);

/* Prints an error and returns `code`. */
enum exit_code cli_fail(const struct cli *cli, enum exit_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

enum exit_code verb_put(struct cli *cli);
enum exit_code verb_get(struct cli *cli);
enum exit_code verb_del(struct cli *cli);
enum exit_code verb_ls(struct cli *cli);
enum exit_code verb_keys(struct cli *cli);
enum exit_code verb_watch(struct cli *cli);
enum exit_code verb_history(struct cli *cli);
enum exit_code verb_status(struct cli *cli);
enum exit_code verb_info(struct cli *cli);
enum exit_code verb_peers(struct cli *cli);
enum exit_code verb_peer(struct cli *cli);
enum exit_code verb_sync(struct cli *cli);
enum exit_code verb_verify(struct cli *cli);
enum exit_code verb_ticket(struct cli *cli);
enum exit_code verb_join(struct cli *cli);
enum exit_code verb_call(struct cli *cli);
enum exit_code verb_completion(struct cli *cli);

#endif
