/* The daemon's configuration: flags, then environment, then a JSON file, later ones weaker. One table (config.c) has
 * for each setting its flag, its variable, its default and its meaning; --help prints it, the parser walks it, and the
 * file uses the flags' names with '_' for '-'. An empty variable counts as unset. Lists are not merged: the strongest
 * source that gives one wins. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include <hero_kvs.h>
#include <stdio.h>

#include "server/log.h"

#define CONFIG_LIST_MAX     256
#define CONFIG_PORT_DEFAULT 24376
#define CONFIG_ERROR_BYTES  512

struct config_list {
    char *items[CONFIG_LIST_MAX];
    size_t count;
};

struct config {
    char *data_dir;
    char *socket_dir;
    char *socket_group;
    char *namespace_secret;
    char *namespace_id;
    char *author_secret;
    char *bind_ipv4;
    char *bind_ipv6;
    char *name;
    char *log_level;
    char *config_file;
    struct config_list seeds;
    struct config_list trusted;
    uint64_t port; /* UINT64_MAX: not given */
    uint64_t anti_entropy_ms;
    uint64_t max_value_bytes;
    uint64_t memory_bytes;
    uint64_t disk_bytes;  /* 0: no limit */
    bool seeds_are_fixed; /* by a flag or a variable: those of the file do not count */
    bool allow_bad_clock;
    bool log_json;
    bool help;
    bool version;
    struct log_settings log;
};

/* Reads all sources and fills in the defaults. False with a sentence in `error`. config_fini() in any case. */
bool config_read(struct config *config, int argc, char **argv, char error[CONFIG_ERROR_BYTES]);
void config_fini(struct config *config);

/* The seeds that the configuration file names now, in `out`; none without a file. False with a sentence in `error`,
 * also when a stronger source named the seeds. */
bool config_reread_seeds(const struct config *config, struct config_list *out, char error[CONFIG_ERROR_BYTES]);
void config_list_fini(struct config_list *list);

void config_help(FILE *out);

#endif
