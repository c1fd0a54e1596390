/* What a run is told: the seed decides everything that is not given here, and what is given replaces what the seed
 * would have decided, so that a failing run can be made smaller one knob at a time (--shrink). */
#ifndef HKV_SIM_OPTIONS_H
#define HKV_SIM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_fault {
    SIM_FAULT_PARTITION, /* paths blocked, in one direction or both */
    SIM_FAULT_LOSE,      /* connections die without a word */
    SIM_FAULT_SLOW_NET,  /* paths with long delays and many repetitions */
    SIM_FAULT_RESTART,   /* a node is closed and opened again */
    SIM_FAULT_CRASH,     /* power cut, often in the middle of a write */
    SIM_FAULT_MOVE,      /* a node comes back at another address */
    SIM_FAULT_IO,        /* reads, writes and syncs that fail now and then */
    SIM_FAULT_FULL,      /* a full disk */
    SIM_FAULT_SLOW_DISK, /* operations that take long */
    SIM_FAULT_CLOCK,     /* steps of minutes, 1970, standing still, drift */
    SIM_FAULT_LIAR,      /* a node whose values and sync messages arrive with flipped bits */
    SIM_FAULT_FLIP,      /* flipped bits at rest: in value files, and in the database of a stopped node's copy */
    SIM_FAULT_COUNT,
};

#define SIM_FAULTS_ALL ((1u << SIM_FAULT_COUNT) - 1)

const char *sim_fault_name(enum sim_fault fault);

struct sim_options {
    uint64_t seed;
    uint32_t nodes;           /* 0: 3 to 9, as the seed says */
    uint32_t keys;            /* 0: 2 to 12 */
    uint32_t operations;      /* 0: 60 to 200 */
    uint32_t faults;          /* bits of enum sim_fault */
    uint32_t fault_count_max; /* faults that happen before it stops; UINT32_MAX: no limit */
    bool real_signatures;     /* Ed25519 on all entries; false: on those of every eighth seed, a keyed hash else */
    bool verbose;
};

/* "all", "none", or names separated by commas. False: unknown name. */
bool sim_faults_parse(const char *text, uint32_t *out);

/* The text of the command that repeats a run. */
void sim_options_format(const struct sim_options *options, char *out, size_t size);

#endif
