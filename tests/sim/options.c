#include "sim/options.h"

#include <stdio.h>
#include <string.h>

static const char *const fault_names[SIM_FAULT_COUNT] = {
    [SIM_FAULT_PARTITION] = "partition",
    [SIM_FAULT_LOSE] = "lose",
    [SIM_FAULT_SLOW_NET] = "slow-net",
    [SIM_FAULT_RESTART] = "restart",
    [SIM_FAULT_CRASH] = "crash",
    [SIM_FAULT_MOVE] = "move",
    [SIM_FAULT_IO] = "io",
    [SIM_FAULT_FULL] = "full",
    [SIM_FAULT_SLOW_DISK] = "slow-disk",
    [SIM_FAULT_CLOCK] = "clock",
    [SIM_FAULT_LIAR] = "liar",
    [SIM_FAULT_FLIP] = "flip",
};

const char *sim_fault_name(enum sim_fault fault)
{
    return fault_names[fault];
}

static bool parse_one(const char *name, size_t len, uint32_t *out)
{
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        if (strlen(fault_names[i]) != len || strncmp(fault_names[i], name, len) != 0) continue;
        *out |= 1u << i;
        return true;
    }
    return false;
}

bool sim_faults_parse(const char *text, uint32_t *out)
{
    *out = 0;
    if (strcmp(text, "none") == 0) return true;
    if (strcmp(text, "all") == 0) {
        *out = SIM_FAULTS_ALL;
        return true;
    }
    for (const char *at = text;;) {
        size_t len = strcspn(at, ",");
        if (!parse_one(at, len, out)) return false;
        if (at[len] == '\0') return true;
        at += len + 1;
    }
}

static size_t append(char *out, size_t size, size_t at, const char *text)
{
    int n = at < size ? snprintf(out + at, size - at, "%s", text) : 0;
    return at + (size_t)(n > 0 ? n : 0);
}

void sim_options_format(const struct sim_options *o, char *out, size_t size)
{
    char number[64];
    size_t at = append(out, size, 0, "hkv_sim");
    (void)snprintf(number, sizeof number, " --seed %llu", (unsigned long long)o->seed);
    at = append(out, size, at, number);
    const struct {
        const char *name;
        uint32_t value;
        uint32_t unset;
    } knobs[] = {{"--nodes", o->nodes, 0},
                 {"--keys", o->keys, 0},
                 {"--operations", o->operations, 0},
                 {"--fault-count", o->fault_count_max, UINT32_MAX}};
    for (size_t i = 0; i < sizeof knobs / sizeof knobs[0]; i++) {
        if (knobs[i].value == knobs[i].unset) continue;
        (void)snprintf(number, sizeof number, " %s %u", knobs[i].name, knobs[i].value);
        at = append(out, size, at, number);
    }
    if (o->real_signatures) at = append(out, size, at, " --real-signatures");
    at = append(out, size, at, " --faults ");
    if (o->faults == 0 || o->faults == SIM_FAULTS_ALL) {
        (void)append(out, size, at, o->faults == 0 ? "none" : "all");
        return;
    }
    bool first = true;
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        if ((o->faults >> i & 1) == 0) continue;
        if (!first) at = append(out, size, at, ",");
        at = append(out, size, at, fault_names[i]);
        first = false;
    }
}
