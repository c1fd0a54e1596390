#include "sim/queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void sim_queue_init(struct sim_queue *q, uint64_t seed)
{
    memset(q, 0, sizeof *q);
    q->random.state = seed * 0x9e3779b97f4a7c15u + 1;
    blake3_init(&q->trace);
}

void sim_queue_fini(struct sim_queue *q)
{
    free(q->heap);
    q->heap = NULL;
    q->count = q->cap = 0;
}

/* ---- heap ---- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->sequence < b->sequence;
}

static void place(struct sim_queue *q, struct sim_event event, size_t slot)
{
    q->heap[slot] = event;
    if (event.slot != NULL) *event.slot = slot;
}

static void sift(struct sim_queue *q, struct sim_event event, size_t slot)
{
    while (slot > 0 && before(&event, &q->heap[(slot - 1) / 2])) {
        place(q, q->heap[(slot - 1) / 2], slot);
        slot = (slot - 1) / 2;
    }
    for (;;) {
        size_t child = slot * 2 + 1;
        if (child >= q->count) break;
        if (child + 1 < q->count && before(&q->heap[child + 1], &q->heap[child])) child++;
        if (!before(&q->heap[child], &event)) break;
        place(q, q->heap[child], slot);
        slot = child;
    }
    place(q, event, slot);
}

void sim_at(struct sim_queue *q, uint64_t due_us, sim_run_fn run, void *owner, void *arg, size_t *slot)
{
    if (q->count == q->cap) {
        q->cap = q->cap == 0 ? 1024 : q->cap * 2;
        q->heap = realloc(q->heap, q->cap * sizeof *q->heap);
        if (q->heap == NULL) abort();
    }
    if (due_us < sim_now(q)) due_us = sim_now(q);
    struct sim_event event = {due_us, q->sequence++, run, owner, arg, slot};
    sift(q, event, q->count++);
}

void sim_cancel(struct sim_queue *q, size_t slot)
{
    assert(slot < q->count);
    if (q->heap[slot].slot != NULL) *q->heap[slot].slot = SIM_NO_SLOT;
    struct sim_event last = q->heap[--q->count];
    if (slot < q->count) sift(q, last, slot);
}

/* ---- running ---- */

bool sim_step(struct sim_queue *q, uint64_t until_us)
{
    if (q->count == 0 || q->heap[0].due_us > until_us) return false;
    struct sim_event event = q->heap[0];
    sim_cancel(q, 0);
    if (event.due_us > q->now_us) q->now_us = event.due_us;
    q->spent_us = 0;
    q->events_run++;
    sim_trace(q, "event", event.due_us, event.sequence);
    event.run(event.owner, event.arg);
    q->spent_us = 0;
    return true;
}

void sim_queue_run(struct sim_queue *q, uint64_t until_us)
{
    uint64_t begun_us = sim_now(q);
    if (until_us < begun_us) until_us = begun_us;
    q->spent_us = 0;
    q->interrupted = false;
    while (!q->interrupted && sim_step(q, until_us)) {
    }
    if (!q->interrupted && until_us > q->now_us) q->now_us = until_us;
}

void sim_queue_interrupt(struct sim_queue *q)
{
    q->interrupted = true;
}

/* ---- chance ---- */

uint64_t sim_random(struct sim_queue *q)
{
    return random_u64(&q->random);
}

uint64_t sim_below(struct sim_queue *q, uint64_t bound)
{
    assert(bound > 0);
    return random_u64(&q->random) % bound;
}

uint64_t sim_between(struct sim_queue *q, uint64_t from, uint64_t to)
{
    assert(from <= to);
    return from + sim_below(q, to - from + 1);
}

bool sim_chance(struct sim_queue *q, uint32_t per_million)
{
    return per_million > 0 && sim_below(q, 1000000) < per_million;
}

uint64_t sim_skewed(struct sim_queue *q, uint64_t max)
{
    uint64_t bits = sim_below(q, 8);
    return sim_below(q, (max >> (7 - bits)) + 1);
}

/* ---- trace ---- */

void sim_trace(struct sim_queue *q, const char *what, uint64_t a, uint64_t b)
{
    uint8_t numbers[16];
    be64_store(numbers, a);
    be64_store(numbers + 8, b);
    blake3_update(&q->trace, slice_of_text(what));
    blake3_update(&q->trace, slice_of(numbers, sizeof numbers));
}

void sim_trace_bytes(struct sim_queue *q, const char *what, struct slice bytes)
{
    sim_trace(q, what, bytes.len, 0);
    blake3_update(&q->trace, bytes);
}

void sim_trace_hash(const struct sim_queue *q, struct hash *out)
{
    blake3_final(&q->trace, out);
}
