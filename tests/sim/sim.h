/* The simulator: whole nodes, from the public API down to SQLite, in one thread, on one seed. Virtual time, a simulated
 * network, a simulated disk a node; faults of all kinds at once; then the promises of product.md 1.1 are checked.
 *
 *   main.c      command line               batch.c   many seeds, --check-replay, --shrink; knows no node
 *   run.c       one run: workload and faults for a while, then calm, then the checks
 *   workload.c  what clients do            check.c   what must hold          mark.c    rare things reached
 *   fault.c     faults of all kinds        twin.c    a damaged database      watch.c   what a watcher is told
 *   cluster.c   nodes and their lives      model.c   what was written
 *      │
 *      │  src/node by its public functions and node_open_in(), on the world of world.c
 *      ▼
 *   world.c     struct node_world: the seam of src/node
 *   env.c       struct env: clocks, timers, "threads"        net*.c    struct transport: endpoints, links, streams
 *      └────────────────────────────┬───────────────────────────┘
 *   queue.c     the heap of events and one seeded generator: the only source of time and chance
 *
 * Time. An event runs at a virtual time and takes none, except what the simulated disk says that it took; then the
 * "thread" of the node it ran on is busy for that long. Jobs of one thread of a node run in the order they were queued,
 * each after a small delay from the generator, so that the threads of a node interleave differently in each seed.
 *
 * Who may call what. Public functions of a store are called by the driver (run.c and what it calls) alone, never from
 * an event. Where such a function waits, world.c runs events until the wait is over. Everything else, callbacks of the
 * store included, happens in events.
 *
 * A crash. At a moment chosen by the seed, often right after the n-th change of its disk, the node freezes: what it was
 * about to do is held back. The driver then cuts its links without a word to the peers, makes the disk what a power cut
 * leaves of it (memdisk_crash), closes the remains of the store, which can reach neither disk nor network any more, and
 * later opens a new one on the same disk. A write that was not acknowledged before the freeze has an unknown outcome.
 *
 * Repeatable. Nothing asks the system for time, chance or addresses: the same seed and options make the same run. Every
 * event goes into a running BLAKE3, the trace; `--check-replay` runs twice and compares.
 *
 * Marks (mark.h) count rare things that were reached; a batch of seeds that misses one fails, because then the checks
 * have not seen what they are for. */
#ifndef HKV_SIM_SIM_H
#define HKV_SIM_SIM_H

#include "sim/queue.h"

#endif
