#include "sim/mark.h"

const char *sim_mark_name(enum sim_mark mark)
{
    static const char *const names[SIM_MARK_COUNT] = {
        [SIM_MARK_THREE_AUTHORS] = "three authors on one key",
        [SIM_MARK_EQUAL_STAMPS] = "equal stamps of two authors on one key",
        [SIM_MARK_REFUSED_STAMP] = "an entry refused for its stamp",
        [SIM_MARK_SYNC_CUT_BEFORE_INIT] = "a sync cut off before its first message",
        [SIM_MARK_SYNC_CUT_IN_RECONCILE] = "a sync cut off while it reconciles",
        [SIM_MARK_SYNC_CUT_IN_CLOSING] = "a sync cut off while it closes",
        [SIM_MARK_LIAR_CAUGHT] = "a lying provider caught",
        [SIM_MARK_GARBAGE_IN_SYNC] = "garbage in a sync",
        [SIM_MARK_CRASH_BETWEEN_VALUE_AND_ENTRY] = "a crash between value file and entry",
        [SIM_MARK_CRASH_IN_COMMIT] = "a crash in the middle of a commit",
        [SIM_MARK_FULL_DISK_IN_COMMIT] = "a full disk in a group commit",
        [SIM_MARK_IO_ERROR_IN_COMMIT] = "an I/O error in a write",
        [SIM_MARK_PREFIX_BRINGS_BACK] = "a removal by prefix that brings an older author's value back",
        [SIM_MARK_OVERRUN] = "an overrun of a watch",
        [SIM_MARK_BAD_CLOCK_REFUSED] = "a write refused for the clock",
        [SIM_MARK_CONDITION_LOST] = "a condition that no longer held",
        [SIM_MARK_EXPIRED] = "a value that expired",
        [SIM_MARK_UNHEALTHY_WHILE_MISSING] = "unhealthy while a value was missing",
        [SIM_MARK_DAMAGED_VALUE_REFUSED] = "a read of a damaged value file refused",
        [SIM_MARK_DAMAGED_VALUE_FETCHED] = "a damaged value file fetched again",
        [SIM_MARK_DAMAGED_PAGE_REFUSED] = "a damaged page of a database refused",
    };
    return names[mark];
}
