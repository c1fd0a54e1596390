/* hkv_sim: runs simulations and says what they found. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sim/run.h"

int main(int argc, char **argv)
{
    struct sim_options o = {.seed = 1, .faults = SIM_FAULTS_ALL, .fault_count_max = UINT32_MAX};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            o.seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--nodes") == 0 && i + 1 < argc)
            o.nodes = (uint32_t)strtoul(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--operations") == 0 && i + 1 < argc)
            o.operations = (uint32_t)strtoul(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--keys") == 0 && i + 1 < argc)
            o.keys = (uint32_t)strtoul(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--fault-count") == 0 && i + 1 < argc)
            o.fault_count_max = (uint32_t)strtoul(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--faults") == 0 && i + 1 < argc) {
            if (!sim_faults_parse(argv[++i], &o.faults)) return 2;
        } else if (strcmp(argv[i], "--verbose") == 0)
            o.verbose = true;
        else
            return 2;
    }
    struct sim_result r;
    sim_run(&o, &r);
    char trace[ID_TEXT_MAX];
    printf("seed %llu passed: %llu events, %.0f s virtual, settled %.0f s, %llu writes, %llu faults, trace %.16s\n",
           (unsigned long long)o.seed, (unsigned long long)r.events, (double)r.virtual_us / 1e6,
           (double)r.settled_us / 1e6, (unsigned long long)r.writes, (unsigned long long)r.faults,
           id_format(r.trace.bytes, trace));
    for (int m = 0; m < SIM_MARK_COUNT; m++)
        if (o.verbose) printf("%8llu %s\n", (unsigned long long)r.marks.of[m], sim_mark_name((enum sim_mark)m));
    return 0;
}
