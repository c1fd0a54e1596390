/* hkv_sim: simulates clusters of whole nodes with faults, and says what it found (man/hkv_sim.1, docs/simulator.md). */
#include <getopt.h>
#include <hero_kvs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sim/batch.h"

static const char help[] =
    "usage: hkv_sim --seed N [options]\n"
    "       hkv_sim --seeds A..B [options]\n"
    "Runs clusters of whole nodes in virtual time, each on one seed, with faults, and checks what the store promises.\n"
    "\n"
    "  --seed N            one run; tells what it did\n"
    "  --seeds A..B        a batch; tells failing seeds and a table of marks\n"
    "  --nodes N           nodes (2 to 16; the seed chooses 3 to 9)\n"
    "  --keys N            keys (1 to 12; the seed chooses 2 to 12)\n"
    "  --operations N      of clients (the seed chooses 60 to 200)\n"
    "  --faults LIST       all (default), none, or some of: partition,lose,slow-net,restart,crash,move,io,full,\n"
    "                      slow-disk,clock,liar,flip\n"
    "  --fault-count N     no more faults than these\n"
    "  --real-signatures   Ed25519 in every run, not only in every eighth\n"
    "  --check-replay      runs each seed twice; the traces must be equal\n"
    "  --require-marks     a batch that misses a mark fails\n"
    "  --jobs N            runs at a time (1)\n"
    "  --shrink            makes a failing run as small as possible\n"
    "  --verbose           tells everything that happens in a run\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 all passed, 1 something is broken, 2 wrong arguments.\n";

enum option_code {
    OPTION_SEED = 256,
    OPTION_SEEDS,
    OPTION_NODES,
    OPTION_KEYS,
    OPTION_OPERATIONS,
    OPTION_FAULTS,
    OPTION_FAULT_COUNT,
    OPTION_REAL_SIGNATURES,
    OPTION_CHECK_REPLAY,
    OPTION_REQUIRE_MARKS,
    OPTION_JOBS,
    OPTION_SHRINK,
    OPTION_VERBOSE,
    OPTION_HELP,
    OPTION_VERSION,
};

struct arguments {
    struct sim_batch batch;
    bool seed_given;
    bool seeds_given;
    bool shrink;
};

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    if (*text < '0' || *text > '9') return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0' && *out >= min && *out <= max;
}

static bool parse_small(const char *text, uint64_t min, uint64_t max, uint32_t *out)
{
    uint64_t number;
    if (!parse_number(text, min, max, &number)) return false;
    *out = (uint32_t)number;
    return true;
}

static bool parse_seeds(const char *text, uint64_t *first, uint64_t *last)
{
    char from[32];
    const char *dots = strstr(text, "..");
    if (dots == NULL || (size_t)(dots - text) >= sizeof from) return false;
    memcpy(from, text, (size_t)(dots - text));
    from[dots - text] = '\0';
    return parse_number(from, 0, UINT64_MAX, first) && parse_number(dots + 2, *first, UINT64_MAX - 1, last);
}

static bool take_option(struct arguments *a, int code, const char *value)
{
    struct sim_options *o = &a->batch.options;
    uint32_t jobs;
    switch (code) {
    case OPTION_SEED:
        a->seed_given = true;
        return parse_number(value, 0, UINT64_MAX, &o->seed);
    case OPTION_SEEDS:
        a->seeds_given = true;
        return parse_seeds(value, &a->batch.first, &a->batch.last);
    case OPTION_NODES:
        return parse_small(value, 2, 16, &o->nodes);
    case OPTION_KEYS:
        return parse_small(value, 1, 12, &o->keys);
    case OPTION_OPERATIONS:
        return parse_small(value, 1, 1000000, &o->operations);
    case OPTION_FAULTS:
        return sim_faults_parse(value, &o->faults);
    case OPTION_FAULT_COUNT:
        return parse_small(value, 0, 1000000, &o->fault_count_max);
    case OPTION_JOBS:
        if (!parse_small(value, 1, 64, &jobs)) return false;
        a->batch.jobs = jobs;
        return true;
    case OPTION_REAL_SIGNATURES:
        o->real_signatures = true;
        return true;
    case OPTION_CHECK_REPLAY:
        a->batch.check_replay = true;
        return true;
    case OPTION_REQUIRE_MARKS:
        a->batch.require_marks = true;
        return true;
    case OPTION_SHRINK:
        a->shrink = true;
        return true;
    case OPTION_VERBOSE:
        o->verbose = true;
        return true;
    default:
        return false;
    }
}

static const struct option long_options[] = {{"seed", required_argument, NULL, OPTION_SEED},
                                             {"seeds", required_argument, NULL, OPTION_SEEDS},
                                             {"nodes", required_argument, NULL, OPTION_NODES},
                                             {"keys", required_argument, NULL, OPTION_KEYS},
                                             {"operations", required_argument, NULL, OPTION_OPERATIONS},
                                             {"faults", required_argument, NULL, OPTION_FAULTS},
                                             {"fault-count", required_argument, NULL, OPTION_FAULT_COUNT},
                                             {"real-signatures", no_argument, NULL, OPTION_REAL_SIGNATURES},
                                             {"check-replay", no_argument, NULL, OPTION_CHECK_REPLAY},
                                             {"require-marks", no_argument, NULL, OPTION_REQUIRE_MARKS},
                                             {"jobs", required_argument, NULL, OPTION_JOBS},
                                             {"shrink", no_argument, NULL, OPTION_SHRINK},
                                             {"verbose", no_argument, NULL, OPTION_VERBOSE},
                                             {"help", no_argument, NULL, OPTION_HELP},
                                             {"version", no_argument, NULL, OPTION_VERSION},
                                             {NULL, 0, NULL, 0}};

/* One run in this process, where a debugger finds it. */
static int run_one(const struct sim_options *options)
{
    struct sim_result r;
    char trace[ID_TEXT_MAX];
    sim_run(options, &r);
    printf(
        "seed %llu passed: %llu events, %llu writes and %llu faults in %.0f s of virtual time, equal %.0f s after the "
        "last fault, trace %.16s\n",
        (unsigned long long)options->seed, (unsigned long long)r.events, (unsigned long long)r.writes,
        (unsigned long long)r.faults, (double)r.virtual_us / 1e6, (double)r.settled_us / 1e6,
        id_format(r.trace.bytes, trace));
    return 0;
}

int main(int argc, char **argv)
{
    struct arguments a = {.batch = {.options = {.faults = SIM_FAULTS_ALL, .fault_count_max = UINT32_MAX}, .jobs = 1}};
    for (int code; (code = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (code == OPTION_HELP) {
            fputs(help, stdout);
            return 0;
        }
        if (code == OPTION_VERSION) {
            printf("hkv_sim %s\n", HKV_VERSION_TEXT);
            return 0;
        }
        if (!take_option(&a, code, optarg)) {
            if (code != '?') fprintf(stderr, "%s is not possible there; see hkv_sim --help\n", optarg);
            return 2;
        }
    }
    if (optind != argc || a.seed_given == a.seeds_given || (a.shrink && !a.seed_given)) {
        fputs("give one of --seed and --seeds (--shrink needs --seed); see hkv_sim --help\n", stderr);
        return 2;
    }
    if (a.shrink) return sim_shrink(&a.batch.options);
    if (a.seed_given && !a.batch.check_replay) return run_one(&a.batch.options);
    if (a.seed_given) a.batch.first = a.batch.last = a.batch.options.seed;
    return sim_batch_run(&a.batch);
}
