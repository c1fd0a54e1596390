/* Completion scripts, made from the table of verbs, so that they cannot fall behind it. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static void print_verb_names(const char *separator)
{
    for (size_t i = 0; i < verb_count; i++) printf("%s%s", i ? separator : "", verbs[i].name);
}

/* "--file --ttl-ms … --json …". */
static void print_flag_names(const struct verb *verb)
{
    for (size_t i = 0; i < CLI_FLAGS_MAX && verb->flags[i].name; i++) printf("--%s ", verb->flags[i].name);
    for (size_t i = 0; common_flags[i].name; i++) printf("%s--%s", i ? " " : "", common_flags[i].name);
}

/* Whether the flag's value is the path of something in the file system. */
static bool takes_path(const struct flag *flag)
{
    return flag->value_name && (strcmp(flag->value_name, "FILE") == 0 || strcmp(flag->value_name, "DIR") == 0);
}

/* "--socket-dir|--file|…". */
static void print_path_flags(void)
{
    const char *separator = "";
    for (size_t i = 0; common_flags[i].name; i++) {
        if (!takes_path(&common_flags[i])) continue;
        printf("%s--%s", separator, common_flags[i].name);
        separator = "|";
    }
    for (size_t i = 0; i < verb_count; i++)
        for (size_t j = 0; j < CLI_FLAGS_MAX && verbs[i].flags[j].name; j++)
            if (takes_path(&verbs[i].flags[j])) printf("|--%s", verbs[i].flags[j].name);
}

static void print_bash(void)
{
    puts("# completion of hero_codescalers for bash");
    puts("_hero_codescalers()\n{");
    puts("    local word=${COMP_WORDS[COMP_CWORD]} verb= i flags words");
    puts("    for ((i = 1; i < COMP_CWORD; i++)); do");
    puts("        case ${COMP_WORDS[i]} in -*) ;; *) verb=${COMP_WORDS[i]}; break ;; esac");
    puts("    done");
    puts("    case ${COMP_WORDS[COMP_CWORD-1]} in");
    fputs("    ", stdout);
    print_path_flags();
    puts(") COMPREPLY=($(compgen -f -- \"$word\")); return ;;");
    puts("    esac");
    puts("    case $verb in");
    for (size_t i = 0; i < verb_count; i++) {
        printf("    %s) flags='", verbs[i].name);
        print_flag_names(&verbs[i]);
        printf("' words='%s' ;;\n", verbs[i].words ? verbs[i].words : "");
    }
    fputs("    *) flags='--json --socket-dir --help --version' words='", stdout);
    print_verb_names(" ");
    puts("' ;;\n    esac");
    puts("    case $word in");
    puts("    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$word\")) ;;");
    puts("    *) COMPREPLY=($(compgen -W \"$words\" -- \"$word\")) ;;");
    puts("    esac\n}");
    puts("complete -F _hero_codescalers hero_codescalers");
}

/* Prints `text` within single quotes of a shell, with characters of `special` behind a backslash. */
static void print_quoted(const char *text, const char *special)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr(special, *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void print_zsh_flag(const struct flag *flag)
{
    printf(" '--%s%s[", flag->name, flag->value_name ? "=" : "");
    print_quoted(flag->meaning, "[]:");
    fputs("]", stdout);
    if (flag->value_name) printf(":%s:%s", flag->value_name, takes_path(flag) ? "_files" : "");
    fputs("'", stdout);
}

static void print_zsh(void)
{
    puts("#compdef hero_codescalers");
    puts("_hero_codescalers() {\n    local -a verbs\n    verbs=(");
    for (size_t i = 0; i < verb_count; i++) {
        printf("        '%s:", verbs[i].name);
        print_quoted(verbs[i].summary, ":");
        puts("'");
    }
    puts("    )");
    puts("    if (( CURRENT == 2 )); then _describe verb verbs; return; fi");
    puts("    case $words[2] in");
    for (size_t i = 0; i < verb_count; i++) {
        printf("    %s) shift words; (( CURRENT-- )); _arguments", verbs[i].name);
        for (size_t j = 0; j < CLI_FLAGS_MAX && verbs[i].flags[j].name; j++) print_zsh_flag(&verbs[i].flags[j]);
        for (size_t j = 0; common_flags[j].name; j++) print_zsh_flag(&common_flags[j]);
        if (verbs[i].words) printf(" '1:word:(%s)'", verbs[i].words);
        puts(" ;;");
    }
    puts("    esac\n}");
    puts("compdef _hero_codescalers hero_codescalers");
}

static void print_fish_flag(const char *verb, const struct flag *flag)
{
    fputs("complete -c hero_codescalers", stdout);
    if (verb) printf(" -n '__fish_seen_subcommand_from %s'", verb);
    printf(" -l %s%s -d '", flag->name, !flag->value_name ? "" : takes_path(flag) ? " -r -F" : " -x");
    print_quoted(flag->meaning, "\\");
    puts("'");
}

static void print_fish(void)
{
    puts("# completion of hero_codescalers for fish");
    puts("complete -c hero_codescalers -f");
    for (size_t i = 0; i < verb_count; i++) {
        printf("complete -c hero_codescalers -n __fish_use_subcommand -a %s -d '", verbs[i].name);
        print_quoted(verbs[i].summary, "\\");
        puts("'");
        if (verbs[i].words)
            printf("complete -c hero_codescalers -n '__fish_seen_subcommand_from %s' -a '%s'\n", verbs[i].name,
                   verbs[i].words);
        for (size_t j = 0; j < CLI_FLAGS_MAX && verbs[i].flags[j].name; j++)
            print_fish_flag(verbs[i].name, &verbs[i].flags[j]);
    }
    for (size_t j = 0; common_flags[j].name; j++) print_fish_flag(NULL, &common_flags[j]);
}

enum exit_code verb_completion(struct cli *cli)
{
    if (strcmp(cli->args[0], "bash") == 0)
        print_bash();
    else if (strcmp(cli->args[0], "zsh") == 0)
        print_zsh();
    else if (strcmp(cli->args[0], "fish") == 0)
        print_fish();
    else
        return cli_fail(cli, CLI_USAGE, "'%s' is none of bash, zsh and fish", cli->args[0]);
    return CLI_OK;
}
