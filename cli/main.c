/* hero_codescalers: reads the command line against the tables of verbs.c and runs a verb. */
#include <errno.h>
#include <hero_kvs.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum exit_code cli_fail(const struct cli *cli, enum exit_code code, const char *format, ...)
{
    char message[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    json_t *error = cli->json ? json_pack("{s:{s:i, s:s}}", "error", "code", (int)code, "message", message) : NULL;
    char *text = error ? json_dumps(error, JSON_COMPACT) : NULL;
    if (text)
        fprintf(stderr, "%s\n", text);
    else
        fprintf(stderr, "hero_codescalers: %s\n", message);
    free(text);
    json_decref(error);
    return code;
}

const char *cli_flag(const struct cli *cli, const char *name)
{
    for (size_t i = 0; i < CLI_FLAGS_MAX && cli->verb->flags[i].name; i++)
        if (strcmp(cli->verb->flags[i].name, name) == 0) return cli->flag_values[i];
    return NULL;
}

bool cli_number(const struct cli *cli, const char *name, int64_t min, int64_t max, int64_t absent, int64_t *out)
{
    const char *text = cli_flag(cli, name);
    *out = absent;
    if (!text) return true;
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (*text && !*end && !errno && *out >= min && *out <= max) return true;
    cli_fail(cli, CLI_USAGE, "--%s: '%s' is not a number from %" PRId64 " to %" PRId64, name, text, min, max);
    return false;
}

/* ------------------------------------------------------------------------------------------ help */

static void print_flags(const struct flag *flags, size_t max)
{
    for (size_t i = 0; i < max && flags[i].name; i++) {
        char head[64];
        snprintf(head, sizeof head, "--%s%s%s", flags[i].name, flags[i].value_name ? " " : "",
                 flags[i].value_name ? flags[i].value_name : "");
        printf("  %-22s  %s\n", head, flags[i].meaning);
    }
}

static void print_verb_help(const struct verb *verb)
{
    printf("hero_codescalers %s: %s\n\nusage: hero_codescalers %s [flags]%s%s\n", verb->name, verb->summary, verb->name,
           *verb->arguments ? " " : "", verb->arguments);
    if (verb->detail) printf("\n%s\n", verb->detail);
    puts("\nflags:");
    print_flags(verb->flags, CLI_FLAGS_MAX);
    print_flags(common_flags, SIZE_MAX);
}

static void print_help(void)
{
    puts("hero_codescalers: talks to the daemon of this node, hero_codescalers_server.\n"
         "\n"
         "usage: hero_codescalers VERB [flags] [arguments]\n"
         "\n"
         "verbs (`hero_codescalers VERB --help` says more):");
    for (size_t i = 0; i < verb_count; i++) {
        char head[64];
        snprintf(head, sizeof head, "%s %s", verbs[i].name, verbs[i].arguments);
        printf("  %-22s  %s\n", head, verbs[i].summary);
    }
    puts("\nflags of every verb:");
    print_flags(common_flags, SIZE_MAX);
    puts("\n"
         "environment (an empty variable counts as unset):\n"
         "  HERO_SOCKET_DIR         as --socket-dir; without both, the socket is looked for in\n"
         "                          $XDG_RUNTIME_DIR/hero, ~/hero/var/sockets and /run/hero\n"
         "\n"
         "exit: 0 ok, 1 failed, 2 wrong usage, 3 the key is absent, 4 not converged in time, 5 no daemon.");
}

/* ------------------------------------------------------------------------------------------ command line */

struct parse {
    struct cli *cli;
    char **argv;
    int at;
    bool help;
    bool version;
    bool flags_ended;
};

static bool bad(struct parse *parse, const char *what, const char *arg)
{
    const char *verb = parse->cli->verb ? parse->cli->verb->name : "";
    cli_fail(parse->cli, CLI_USAGE, "%s '%s'; see hero_codescalers %s%s--help", what, arg, verb, *verb ? " " : "");
    return false;
}

/* The value of a flag: behind '=' or the next argument; a switch has "". NULL when it is missing or too much. */
static const char *flag_value(struct parse *parse, const struct flag *flag, const char *behind)
{
    if (!flag->value_name) return *behind ? NULL : "";
    if (*behind == '=') return behind + 1;
    const char *next = parse->argv[parse->at + 1];
    if (next) parse->at++;
    return next;
}

static const struct flag *find_flag(const struct flag *flags, size_t max, const char *name, size_t len)
{
    for (size_t i = 0; i < max && flags[i].name; i++)
        if (strlen(flags[i].name) == len && memcmp(flags[i].name, name, len) == 0) return &flags[i];
    return NULL;
}

static bool read_flag(struct parse *parse, const char *arg)
{
    struct cli *cli = parse->cli;
    const char *name = arg + 2;
    size_t len = strcspn(name, "=");
    const struct flag *own = cli->verb ? find_flag(cli->verb->flags, CLI_FLAGS_MAX, name, len) : NULL;
    const struct flag *common = find_flag(common_flags, SIZE_MAX, name, len);
    const struct flag *flag = own ? own : common;
    if (!flag) return bad(parse, "unknown flag", arg);
    const char *value = flag_value(parse, flag, name + len);
    if (!value) return bad(parse, flag->value_name ? "a value is missing behind" : "no value belongs to", arg);
    if (own)
        cli->flag_values[own - cli->verb->flags] = value;
    else if (strcmp(flag->name, "json") == 0)
        cli->json = true;
    else if (strcmp(flag->name, "socket-dir") == 0)
        cli->socket_dir = value;
    else if (strcmp(flag->name, "help") == 0)
        parse->help = true;
    else
        parse->version = true;
    return true;
}

static bool read_argument(struct parse *parse, const char *arg)
{
    struct cli *cli = parse->cli;
    if (!cli->verb) {
        cli->verb = verb_find(arg);
        if (cli->verb) return true;
        return bad(parse, "there is no verb", arg);
    }
    if (cli->arg_count == cli->verb->args_max) return bad(parse, "one argument too many:", arg);
    cli->args[cli->arg_count++] = arg;
    return true;
}

static bool read_arguments(struct parse *parse)
{
    for (parse->at = 1; parse->argv[parse->at]; parse->at++) {
        const char *arg = parse->argv[parse->at];
        bool ok = true;
        if (!parse->flags_ended && strcmp(arg, "--") == 0)
            parse->flags_ended = true;
        else if (!parse->flags_ended && strcmp(arg, "-h") == 0)
            parse->help = true;
        else if (!parse->flags_ended && strncmp(arg, "--", 2) == 0)
            ok = read_flag(parse, arg);
        else
            ok = read_argument(parse, arg);
        if (!ok) return false;
    }
    return true;
}

static enum exit_code run(char **argv)
{
    struct cli cli = {0};
    struct parse parse = {.cli = &cli, .argv = argv};
    signal(SIGPIPE, SIG_IGN);
    /* Found first, so that errors about other arguments have the right form. */
    for (int i = 1; argv[i] && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0) cli.json = true;
    if (!read_arguments(&parse)) return CLI_USAGE;
    if (parse.version) {
        puts("hero_codescalers " HKV_VERSION_TEXT);
        return CLI_OK;
    }
    if (parse.help) {
        if (cli.verb)
            print_verb_help(cli.verb);
        else
            print_help();
        return CLI_OK;
    }
    if (!cli.verb) return cli_fail(&cli, CLI_USAGE, "a verb is missing; see hero_codescalers --help");
    if (cli.arg_count < cli.verb->args_min)
        return cli_fail(&cli, CLI_USAGE, "usage: hero_codescalers %s %s; see hero_codescalers %s --help",
                        cli.verb->name, cli.verb->arguments, cli.verb->name);
    enum exit_code code = cli.verb->run(&cli);
    /* Of an error while a verb ran only the mark is left. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == CLI_OK)
        code = cli_fail(&cli, CLI_FAILED, "cannot write the output: %s", strerror(errno));
    return code;
}

int main(int argc, char **argv)
{
    (void)argc;
    return (int)run(argv);
}
