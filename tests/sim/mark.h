/* Marks: rare things that a run reached. A batch of seeds that misses one has not tested what it is for. */
#ifndef HKV_SIM_MARK_H
#define HKV_SIM_MARK_H

#include <stdint.h>

enum sim_mark {
    SIM_MARK_THREE_AUTHORS,
    SIM_MARK_EQUAL_STAMPS,
    SIM_MARK_REFUSED_STAMP,
    SIM_MARK_SYNC_CUT_BEFORE_INIT,
    SIM_MARK_SYNC_CUT_IN_RECONCILE,
    SIM_MARK_SYNC_CUT_IN_CLOSING,
    SIM_MARK_LIAR_CAUGHT,
    SIM_MARK_GARBAGE_IN_SYNC,
    SIM_MARK_CRASH_BETWEEN_VALUE_AND_ENTRY,
    SIM_MARK_CRASH_IN_COMMIT,
    SIM_MARK_FULL_DISK_IN_COMMIT,
    SIM_MARK_IO_ERROR_IN_COMMIT,
    SIM_MARK_PREFIX_BRINGS_BACK,
    SIM_MARK_OVERRUN,
    SIM_MARK_BAD_CLOCK_REFUSED,
    SIM_MARK_CONDITION_LOST, /* put_if against a newer version */
    SIM_MARK_EXPIRED,
    SIM_MARK_UNHEALTHY_WHILE_MISSING,
    SIM_MARK_DAMAGED_VALUE_REFUSED,
    SIM_MARK_DAMAGED_VALUE_FETCHED,
    SIM_MARK_DAMAGED_PAGE_REFUSED,
    SIM_MARK_COUNT,
};

struct sim_marks {
    uint64_t of[SIM_MARK_COUNT];
};

const char *sim_mark_name(enum sim_mark mark);

#endif
