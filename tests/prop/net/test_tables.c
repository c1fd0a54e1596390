/* The table of connection ids and the heap of deadlines, against models that are too simple to be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/cid_table.h"
#include "net/deadlines.h"
#include "random.h"

#define CONNS  40
#define CIDS   600
#define STEPS  20000
#define TIMERS 50

struct known {
    ngtcp2_cid cid;
    int owner; /* -1: not in the table */
};

static void cids_lead_to_their_owners(void **state)
{
    struct random r = random_start("connection ids");
    struct cid_table table;
    struct cid_list lists[CONNS] = {{0}};
    static struct known known[CIDS];
    static char conns[CONNS]; /* only their addresses matter */
    (void)state;
    assert_int_equal(cid_table_init(&table), HKV_OK);
    for (size_t i = 0; i < CIDS; i++) {
        known[i].owner = -1;
        known[i].cid.datalen = 8 + random_below(&r, 13);
        random_fill(&r, known[i].cid.data, known[i].cid.datalen);
    }
    for (int step = 0; step < STEPS; step++) {
        size_t i = random_below(&r, CIDS);
        size_t o = random_below(&r, CONNS);
        size_t action = random_below(&r, 20);
        struct known *k = &known[i];
        if (action == 0) {
            cid_table_remove_all(&table, &lists[o]);
            for (size_t n = 0; n < CIDS; n++)
                if (known[n].owner == (int)o) known[n].owner = -1;
        } else if (action < 12) {
            enum hkv_err err = cid_table_add(&table, &lists[o], (struct quic_conn *)(void *)&conns[o], &k->cid);
            if (err == HKV_OK && k->owner < 0) k->owner = (int)o;
            assert_true(err == HKV_OK || err == HKV_E_LIMIT);
        } else if (k->owner >= 0) {
            cid_table_remove(&table, &lists[k->owner], &k->cid);
            k->owner = -1;
        }
        struct known *look = &known[random_below(&r, CIDS)];
        void *found = cid_table_find(&table, look->cid.data, look->cid.datalen);
        assert_ptr_equal(found, look->owner < 0 ? NULL : (void *)&conns[look->owner]);
        assert_null(cid_table_find(&table, look->cid.data, look->cid.datalen - 1));
    }
    for (size_t o = 0; o < CONNS; o++) cid_table_remove_all(&table, &lists[o]);
    cid_table_fini(&table);
}

static void earliest_deadline_comes_first(void **state)
{
    struct random r = random_start("deadlines");
    struct deadlines heap = {0};
    struct deadline timers[TIMERS] = {{0}};
    uint64_t model[TIMERS];
    (void)state;
    for (size_t i = 0; i < TIMERS; i++) model[i] = DEADLINE_NONE;
    assert_int_equal(deadlines_reserve(&heap, TIMERS), HKV_OK);
    for (int step = 0; step < STEPS; step++) {
        size_t i = random_below(&r, TIMERS);
        model[i] = random_below(&r, 4) ? random_below(&r, 1000) : DEADLINE_NONE;
        deadlines_set(&heap, &timers[i], model[i]);
        uint64_t least = DEADLINE_NONE;
        for (size_t n = 0; n < TIMERS; n++) least = model[n] < least ? model[n] : least;
        struct deadline *first = deadlines_first(&heap);
        if (least == DEADLINE_NONE)
            assert_null(first);
        else
            assert_int_equal(first->at_ns, least);
    }
    for (size_t i = 0; i < TIMERS; i++) deadlines_set(&heap, &timers[i], DEADLINE_NONE);
    deadlines_fini(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cids_lead_to_their_owners),
        cmocka_unit_test(earliest_deadline_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
