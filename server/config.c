#include "server/config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/socket_dir.h"

#define SECRET_FILE_BYTES_MAX 256
#define SETTINGS_MAX          32

enum kind {
    KIND_TEXT,
    KIND_ADDRESS, /* a text that may be empty */
    KIND_LIST,
    KIND_NUMBER,
    KIND_SWITCH,
    KIND_SECRET_FILE, /* the text is a file's name, its content the value */
};

struct setting {
    const char *flag; /* without the dashes */
    const char *value_name;
    enum kind kind;
    size_t offset;
    const char *variable;
    uint64_t min, max;
    const char *meaning; /* lines */
    bool not_in_file;
};

#define AT(member) offsetof(struct config, member)

static const struct setting settings[] = {
    {"data-dir", "DIR", KIND_TEXT, AT(data_dir), "HERO_CODESCALERS_KVS_DATA_DIR", 0, 0,
     "the store's directory, created when absent\n(default ~/hero/var/codescalers)", false},
    {"socket-dir", "DIR", KIND_TEXT, AT(socket_dir), "HERO_SOCKET_DIR", 0, 0,
     "the socket is DIR/hero_codescalers/rpc.sock, mode 0600\n"
     "(default $XDG_RUNTIME_DIR/hero, without that variable\n~/hero/var/sockets)",
     false},
    {"socket-group", "GROUP", KIND_TEXT, AT(socket_group), NULL, 0, 0,
     "lets the members of GROUP use the socket: mode 0660\n(default: only this user)", false},
    {"seed", "PEER", KIND_LIST, AT(seeds), "HERO_CODESCALERS_KVS_SEEDS", 0, 0,
     "stay connected to PEER, an `endpoint...` ticket or\nendpointid@host:port; may be repeated; comma separated in\n"
     "the variable, a list `seed` in the file (default: none)",
     false},
    {"namespace-secret-file", "FILE", KIND_SECRET_FILE, AT(namespace_secret), NULL, 0, 0,
     "the namespace's secret, 64 hex digits or 52 of base32\n(default: the store's own; a new namespace in an empty\n"
     "data directory)",
     false},
    {"namespace-id", "HEX", KIND_TEXT, AT(namespace_id), NULL, 0, 0,
     "replicate this namespace without being able to write", false},
    {"author-secret-file", "FILE", KIND_SECRET_FILE, AT(author_secret), NULL, 0, 0,
     "the secret of this node's author (default: the store's\nown, made at the first start)", false},
    {"bind-ipv4", "ADDR", KIND_ADDRESS, AT(bind_ipv4), NULL, 0, 0,
     "UDP address; \"\" switches IPv4 off (default 0.0.0.0)", false},
    {"bind-ipv6", "ADDR", KIND_ADDRESS, AT(bind_ipv6), NULL, 0, 0, "UDP address; \"\" switches IPv6 off (default ::)",
     false},
    {"port", "PORT", KIND_NUMBER, AT(port), NULL, 0, 65535,
     "UDP port; 0 takes any (default 24376, and when that is\ntaken another one, with a warning)", false},
    {"anti-entropy-ms", "MS", KIND_NUMBER, AT(anti_entropy_ms), NULL, 100, UINT32_MAX - 1,
     "compare with a peer this often (default 30000)", false},
    {"max-value-bytes", "BYTES", KIND_NUMBER, AT(max_value_bytes), NULL, 1, INT64_MAX,
     "longest value that is written or fetched\n(default 67108864)", false},
    {"memory-bytes", "BYTES", KIND_NUMBER, AT(memory_bytes), NULL, 8 << 20, INT64_MAX,
     "page cache and queues of the store together\n(default 67108864)", false},
    {"disk-bytes", "BYTES", KIND_NUMBER, AT(disk_bytes), NULL, 0, INT64_MAX,
     "what the store may take on disk; the last 5 % are for\noverwrites and deletes (default 0: no limit)", false},
    {"trusted", "ID", KIND_LIST, AT(trusted), NULL, 0, 0,
     "endpoint id of a peer; when any is given, others are\nrefused; may be repeated (default: any peer that knows "
     "the\n"
     "namespace)",
     false},
    {"name", "NAME", KIND_TEXT, AT(name), NULL, 0, 0, "of this node, for people (default: the host's name)", false},
    {"allow-bad-clock", NULL, KIND_SWITCH, AT(allow_bad_clock), NULL, 0, 0,
     "write even when this machine's clock cannot be right", false},
    {"config", "FILE", KIND_TEXT, AT(config_file), NULL, 0, 0,
     "JSON object with the names of these flags, _ for -\n(default: none)", true},
    {"log-level", "LEVEL", KIND_TEXT, AT(log_level), NULL, 0, 0,
     "error, warn, info or debug; for single modules:\ninfo,net=debug (default info)", false},
    {"log-json", NULL, KIND_SWITCH, AT(log_json), NULL, 0, 0, "log lines are JSON objects", false},
    {"help", NULL, KIND_SWITCH, AT(help), NULL, 0, 0, "print this and exit", true},
    {"version", NULL, KIND_SWITCH, AT(version), NULL, 0, 0, "print the version and exit", true},
};

#define SETTING_COUNT (sizeof settings / sizeof *settings)

/* Secrets come from files by flag, and directly from these variables. */
static const struct {
    const char *variable;
    size_t offset;
} secret_variables[] = {
    {"HERO_CODESCALERS_KVS_NAMESPACE_SECRET", AT(namespace_secret)},
    {"HERO_CODESCALERS_KVS_AUTHOR_SECRET", AT(author_secret)},
};

/* Which settings a stronger source has given. */
struct given {
    bool before[SETTINGS_MAX]; /* by a stronger source than the one being read */
    bool now[SETTINGS_MAX];
};

static bool fault(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fault(char *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, CONFIG_ERROR_BYTES, format, args);
    va_end(args);
    return false;
}

/* ------------------------------------------------------------------------------------------ one value */

static bool set_text(char **slot, const char *text, size_t len, char *error)
{
    free(*slot);
    *slot = strndup(text, len);
    return *slot || fault(error, "memory is exhausted");
}

static bool add_to_list(struct config_list *list, const char *source, const char *text, size_t len, char *error)
{
    if (list->count == CONFIG_LIST_MAX) return fault(error, "%s: more than %d values", source, CONFIG_LIST_MAX);
    list->items[list->count] = strndup(text, len);
    if (!list->items[list->count]) return fault(error, "memory is exhausted");
    list->count++;
    return true;
}

static bool set_number(const struct setting *setting, uint64_t *slot, const char *source, const char *text, char *error)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || number < setting->min || number > setting->max)
        return fault(error, "%s: '%s' is not a number from %" PRIu64 " to %" PRIu64, source, text, setting->min,
                     setting->max);
    *slot = number;
    return true;
}

static bool set_from_file(char **slot, const char *source, const char *path, char *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fault(error, "%s: %s: %s", source, path, strerror(errno));
    char content[SECRET_FILE_BYTES_MAX];
    ssize_t count = read(fd, content, sizeof content);
    int why = errno;
    close(fd);
    if (count < 0) return fault(error, "%s: %s: %s", source, path, strerror(why));
    size_t len = (size_t)count;
    while (len > 0 && strchr(" \t\r\n", content[len - 1])) len--;
    bool ok = set_text(slot, content, len, error);
    explicit_bzero(content, sizeof content);
    return ok;
}

static bool set_one(struct config *config, const struct setting *setting, const char *source, const char *text,
                    char *error)
{
    void *slot = (char *)config + setting->offset;
    assert(text || setting->kind == KIND_SWITCH);
    if (text && !*text && setting->kind != KIND_ADDRESS) return fault(error, "%s must not be empty", source);
    switch (setting->kind) {
    case KIND_TEXT:
    case KIND_ADDRESS:
        return set_text(slot, text, strlen(text), error);
    case KIND_LIST:
        return add_to_list(slot, source, text, strlen(text), error);
    case KIND_NUMBER:
        return set_number(setting, slot, source, text, error);
    case KIND_SECRET_FILE:
        return set_from_file(slot, source, text, error);
    case KIND_SWITCH:
        *(bool *)slot = true;
        return true;
    }
    abort();
}

/* ------------------------------------------------------------------------------------------ flags */

static bool read_flag(struct config *config, struct given *given, char **argv, int *at, char *error)
{
    const char *arg = argv[*at];
    if (strncmp(arg, "--", 2) != 0)
        return fault(error, "'%s' is not a flag; hero_codescalers_server --help lists the flags", arg);
    size_t name_bytes = strcspn(arg + 2, "=");
    const char *inline_value = arg[2 + name_bytes] == '=' ? arg + 2 + name_bytes + 1 : NULL;
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings[i];
        if (strlen(setting->flag) != name_bytes || memcmp(setting->flag, arg + 2, name_bytes) != 0) continue;
        const char *value = inline_value;
        if (!setting->value_name && value) return fault(error, "--%s takes no value", setting->flag);
        if (setting->value_name && !value) value = argv[++*at];
        if (setting->value_name && !value)
            return fault(error, "--%s needs a value: %s", setting->flag, setting->value_name);
        if (given->now[i] && setting->kind != KIND_LIST && setting->kind != KIND_SWITCH)
            return fault(error, "--%s is given twice", setting->flag);
        given->now[i] = true;
        char source[64];
        snprintf(source, sizeof source, "--%s", setting->flag);
        return set_one(config, setting, source, value, error);
    }
    return fault(error, "unknown flag '%s'; hero_codescalers_server --help lists the flags", arg);
}

/* ------------------------------------------------------------------------------------------ environment */

static bool read_list(struct config_list *list, const char *source, const char *text, char *error)
{
    while (*text) {
        size_t len = strcspn(text, ",");
        const char *from = text;
        size_t item = len;
        while (item > 0 && from[0] == ' ') from++, item--;
        while (item > 0 && from[item - 1] == ' ') item--;
        if (item > 0 && !add_to_list(list, source, from, item, error)) return false;
        text += len + (text[len] == ',');
    }
    return true;
}

static bool read_environment(struct config *config, struct given *given, char *error)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings[i];
        const char *value = setting->variable ? environment(setting->variable) : NULL;
        if (!value || given->before[i]) continue;
        given->now[i] = true;
        bool ok = setting->kind == KIND_LIST
                      ? read_list((void *)((char *)config + setting->offset), setting->variable, value, error)
                      : set_one(config, setting, setting->variable, value, error);
        if (!ok) return false;
    }
    for (size_t i = 0; i < sizeof secret_variables / sizeof *secret_variables; i++) {
        const char *value = environment(secret_variables[i].variable);
        char **slot = (char **)(void *)((char *)config + secret_variables[i].offset);
        if (!value || *slot) continue;
        if (!set_text(slot, value, strlen(value), error)) return false;
        for (size_t j = 0; j < SETTING_COUNT; j++)
            if (settings[j].offset == secret_variables[i].offset) given->now[j] = true;
    }
    return true;
}

/* ------------------------------------------------------------------------------------------ file */

static json_t *load_file(const char *path, char *error)
{
    json_error_t why;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (!root) {
        if (json_error_code(&why) == json_error_cannot_open_file)
            fault(error, "--config: %s", why.text);
        else
            fault(error, "--config: %s, line %d: %s", path, why.line, why.text);
        return NULL;
    }
    if (json_is_object(root)) return root;
    fault(error, "--config: %s: must hold a JSON object", path);
    json_decref(root);
    return NULL;
}

/* Whether a member's name is the flag with '_' for '-'. */
static bool names_setting(const char *member, const struct setting *setting)
{
    if (setting->not_in_file || strlen(member) != strlen(setting->flag)) return false;
    for (size_t i = 0; member[i]; i++)
        if (member[i] != (setting->flag[i] == '-' ? '_' : setting->flag[i])) return false;
    return true;
}

static bool set_json(struct config *config, const struct setting *setting, const char *source, const json_t *value,
                     char *error)
{
    char number[24];
    switch (setting->kind) {
    case KIND_TEXT:
    case KIND_ADDRESS:
    case KIND_SECRET_FILE:
        if (!json_is_string(value)) return fault(error, "%s must be a string", source);
        return set_one(config, setting, source, json_string_value(value), error);
    case KIND_NUMBER:
        if (!json_is_integer(value)) return fault(error, "%s must be a whole number", source);
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return set_one(config, setting, source, number, error);
    case KIND_SWITCH:
        if (!json_is_boolean(value)) return fault(error, "%s must be true or false", source);
        *(bool *)(void *)((char *)config + setting->offset) = json_is_true(value);
        return true;
    case KIND_LIST:
        if (!json_is_array(value)) return fault(error, "%s must be an array of strings", source);
        for (size_t i = 0; i < json_array_size(value); i++) {
            const char *item = json_string_value(json_array_get(value, i));
            if (!item) return fault(error, "%s must be an array of strings", source);
            if (!set_one(config, setting, source, item, error)) return false;
        }
        return true;
    }
    abort();
}

static bool read_file(struct config *config, struct given *given, char *error)
{
    json_t *root = load_file(config->config_file, error);
    if (!root) return false;
    bool ok = true;
    const char *member;
    json_t *value;
    json_object_foreach(root, member, value)
    {
        char source[CONFIG_ERROR_BYTES / 2];
        snprintf(source, sizeof source, "--config: %s: %s", config->config_file, member);
        size_t i = 0;
        while (i < SETTING_COUNT && !names_setting(member, &settings[i])) i++;
        if (i == SETTING_COUNT)
            ok = fault(error, "%s: there is no such setting; hero_codescalers_server --help lists them", source);
        else if (!given->before[i])
            ok = set_json(config, &settings[i], source, value, error);
        if (!ok) break;
    }
    json_decref(root);
    return ok;
}

bool config_reread_seeds(const struct config *config, struct config_list *out, char error[CONFIG_ERROR_BYTES])
{
    *out = (struct config_list){0};
    if (config->seeds_are_fixed)
        return fault(error, "a flag or variable names the seeds, so those of the file do not count");
    if (!config->config_file) return true;
    json_t *root = load_file(config->config_file, error);
    if (!root) return false;
    const json_t *seeds = json_object_get(root, "seed");
    bool ok =
        !seeds || json_is_array(seeds) || fault(error, "--config: %s: seed must be an array", config->config_file);
    for (size_t i = 0; ok && i < json_array_size(seeds); i++) {
        const char *seed = json_string_value(json_array_get(seeds, i));
        ok = seed ? add_to_list(out, "seed", seed, strlen(seed), error)
                  : fault(error, "--config: %s: seed must be an array of strings", config->config_file);
    }
    json_decref(root);
    return ok;
}

/* ------------------------------------------------------------------------------------------ all together */

/* What was given so far is stronger than what comes next. */
static void next_source(struct given *given)
{
    for (size_t i = 0; i < SETTINGS_MAX; i++) {
        given->before[i] = given->before[i] || given->now[i];
        given->now[i] = false;
    }
}

static bool set_default(char **slot, char *heap_value, char *error)
{
    if (*slot) {
        free(heap_value);
        return true;
    }
    *slot = heap_value;
    return heap_value || fault(error, "memory is exhausted");
}

bool config_read(struct config *config, int argc, char **argv, char error[CONFIG_ERROR_BYTES])
{
    _Static_assert(SETTING_COUNT <= SETTINGS_MAX, "struct given is too small");
    *config = (struct config){
        .port = UINT64_MAX,
        .anti_entropy_ms = HKV_ANTI_ENTROPY_MS_DEFAULT,
        .max_value_bytes = HKV_VALUE_MAX_DEFAULT,
        .memory_bytes = HKV_MEMORY_DEFAULT,
        .log.level = HKV_LOG_INFO,
    };
    struct given given = {0};
    for (int i = 1; i < argc; i++)
        if (!read_flag(config, &given, argv, &i, error)) return false;
    if (config->help || config->version) return true;
    next_source(&given);
    if (!read_environment(config, &given, error)) return false;
    next_source(&given);
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (settings[i].offset == AT(seeds)) config->seeds_are_fixed = given.before[i];
    if (config->config_file && !read_file(config, &given, error)) return false;

    if (config->namespace_secret && config->namespace_id)
        return fault(error, "--namespace-id is for a node that cannot write: give it without a namespace secret");
    if (config->log_level && !log_settings_parse(&config->log, config->log_level))
        return fault(error, "--log-level: '%s' must be error, warn, info or debug, or a list like info,net=debug",
                     config->log_level);
    config->log.as_json = config->log_json;
    if (!set_default(&config->data_dir, home_path("hero/var/codescalers"), error)) return false;
    if (config->socket_dir) return true;
    char *dirs[SOCKET_DIR_CANDIDATES] = {0};
    size_t count = socket_dirs(NULL, dirs);
    for (size_t i = 1; i < count; i++) free(dirs[i]);
    return set_default(&config->socket_dir, dirs[0], error);
}

void config_list_fini(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) free(list->items[i]);
    list->count = 0;
}

static void wipe(char *secret)
{
    if (secret) explicit_bzero(secret, strlen(secret));
}

void config_fini(struct config *config)
{
    wipe(config->namespace_secret);
    wipe(config->author_secret);
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        void *slot = (char *)config + settings[i].offset;
        switch (settings[i].kind) {
        case KIND_TEXT:
        case KIND_ADDRESS:
        case KIND_SECRET_FILE:
            free(*(char **)slot);
            break;
        case KIND_LIST:
            config_list_fini(slot);
            break;
        case KIND_NUMBER:
        case KIND_SWITCH:
            break;
        }
    }
}

void config_help(FILE *out)
{
    fputs(
        "hero_codescalers_server: the daemon of a node. It opens the node's store, keeps it in sync with other nodes,\n"
        "and serves JSON-RPC 2.0 on a Unix socket.\n"
        "\n"
        "usage: hero_codescalers_server [flags]\n"
        "\n"
        "Flags are stronger than environment variables, and these are stronger than the file of --config.\n"
        "\n",
        out);
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        char head[64];
        const struct setting *setting = &settings[i];
        snprintf(head, sizeof head, "--%s%s%s", setting->flag, setting->value_name ? " " : "",
                 setting->value_name ? setting->value_name : "");
        const char *line = setting->meaning;
        for (bool first = true; line; first = false) {
            size_t len = strcspn(line, "\n");
            fprintf(out, "  %-30s  %.*s\n", first ? head : "", (int)len, line);
            line = line[len] ? line + len + 1 : NULL;
        }
    }
    fputs("\n"
          "environment (an empty variable counts as unset):\n"
          "  HERO_CODESCALERS_KVS_NAMESPACE_SECRET  the namespace's secret itself (--namespace-secret-file names a "
          "file)\n"
          "  HERO_CODESCALERS_KVS_AUTHOR_SECRET     the author's secret itself (--author-secret-file names a file)\n"
          "  HERO_CODESCALERS_KVS_SEEDS             as --seed, comma separated\n"
          "  HERO_CODESCALERS_KVS_DATA_DIR          as --data-dir\n"
          "  HERO_SOCKET_DIR                        as --socket-dir\n"
          "  XDG_RUNTIME_DIR, HOME                  where the defaults are\n"
          "  NOTIFY_SOCKET, WATCHDOG_USEC           set by systemd: readiness and watchdog are notified\n"
          "\n"
          "signals: SIGTERM and SIGINT shut down in order; SIGHUP adds the seeds that the file of --config names now\n"
          "(unless a flag or variable names the seeds).\n"
          "exit: 0 after a shutdown, 1 when the node cannot start or fails, 2 for a wrong flag or configuration.\n",
          out);
}
