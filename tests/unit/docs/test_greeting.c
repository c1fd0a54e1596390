/* The greeting of the compact encoding: what each side's wall clock shows, before anything else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fixture/docs_world.h"

#define WALL_US ((uint64_t)1700000000000000)

static const uint8_t greeting[] = {0, 0, 0, 9, 3, 0x80, 0x80, 0xf9, 0xc0, 0xc1, 0xc4, 0x82, 0x03};

struct talk {
    struct array_replica a, b;
    struct world_peer dialler, acceptor;
};

static void talk_init(struct talk *t, enum docs_encoding encoding)
{
    struct docs_config config = docs_config_default(1);
    docs_config_set_encoding(&config, encoding);
    array_replica_init(&t->a);
    array_replica_init(&t->b);
    world_peer_init(&t->dialler, DOCS_DIALLER, &t->a, &config);
    world_peer_init(&t->acceptor, DOCS_ACCEPTOR, &t->b, &config);
}

static void talk_fini(struct talk *t)
{
    world_peer_fini(&t->dialler);
    world_peer_fini(&t->acceptor);
    array_replica_fini(&t->a);
    array_replica_fini(&t->b);
}

static void feed(struct world_peer *p, const void *bytes, size_t len)
{
    world_peer_feed(p, slice_of(bytes, len), false);
    world_peer_settle(p);
}

static void a_greeting_is_written_as_worked_out(void **state)
{
    (void)state;
    struct talk t;
    talk_init(&t, DOCS_ENCODING_COMPACT);
    docs_session_greet(&t.dialler.session, WALL_US);
    world_peer_settle(&t.dialler);
    assert_true(t.dialler.outbox.len > sizeof greeting);
    assert_memory_equal(t.dialler.outbox.data, greeting, sizeof greeting);
    talk_fini(&t);
}

static void a_greeted_session_goes_on_as_without(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct talk t;
        struct world_options options = {.chunk_max = i == 3 ? 1 : 0};
        talk_init(&t, DOCS_ENCODING_COMPACT);
        struct entry e = world_entry(1, slice_of_text("k."), 5, 3);
        if (i == 1) assert_int_equal(array_replica_put(&t.a, &e), DOCS_INSERTED);
        if (i == 2) assert_int_equal(array_replica_put(&t.b, &e), DOCS_INSERTED);
        docs_session_greet(&t.dialler.session, WALL_US);
        docs_session_greet(&t.acceptor.session, WALL_US + 1); /* the world's acceptor does not say it by itself */
        world_run(&t.dialler, &t.acceptor, &options);
        assert_int_equal(t.dialler.session.outcome.err, HKV_OK);
        assert_int_equal(t.acceptor.session.outcome.err, HKV_OK);
        assert_int_equal(t.dialler.session.outcome.is_confirmed, i == 0 || i == 3);
        assert_int_equal(t.acceptor.session.outcome.is_confirmed, i == 0 || i == 3);
        assert_int_equal(t.acceptor.greeted_us, WALL_US);
        assert_int_equal(t.dialler.greeted_us, WALL_US + 1);
        assert_true(array_replica_equal(&t.a, &t.b));
        talk_fini(&t);
    }
}

static void irohs_encoding_has_no_greeting(void **state)
{
    (void)state;
    struct talk t;
    talk_init(&t, DOCS_ENCODING_IROH);
    docs_session_greet(&t.dialler.session, WALL_US);
    assert_int_equal(t.dialler.session.output.len, 0);
    feed(&t.acceptor, greeting, sizeof greeting);
    assert_int_equal(t.acceptor.session.outcome.err, HKV_E_PEER_PROTOCOL);
    assert_int_equal(t.acceptor.greeted_us, 0);
    talk_fini(&t);
}

static void what_later_versions_append_is_passed_over(void **state)
{
    (void)state;
    struct talk t;
    uint8_t longer[sizeof greeting + 100];
    talk_init(&t, DOCS_ENCODING_COMPACT);
    memset(longer, 0xff, sizeof longer);
    memcpy(longer, greeting, sizeof greeting);
    longer[3] += 100;
    feed(&t.acceptor, longer, sizeof longer);
    assert_int_equal(t.acceptor.greeted_us, WALL_US);
    world_run(&t.dialler, &t.acceptor, &(struct world_options){.random = NULL});
    assert_int_equal(t.acceptor.session.outcome.err, HKV_OK);
    talk_fini(&t);
}

static void a_second_a_late_and_a_long_greeting_end_the_session(void **state)
{
    (void)state;
    static const uint8_t too_long[] = {0, 0, 4, 1, 3, 0x01};
    struct talk t;
    talk_init(&t, DOCS_ENCODING_COMPACT);
    feed(&t.acceptor, greeting, sizeof greeting);
    feed(&t.acceptor, greeting, sizeof greeting);
    assert_int_equal(t.acceptor.session.outcome.err, HKV_E_PEER_PROTOCOL);
    talk_fini(&t);
    talk_init(&t, DOCS_ENCODING_COMPACT);
    world_peer_settle(&t.dialler);
    feed(&t.acceptor, t.dialler.outbox.data, t.dialler.outbox.len); /* Init */
    feed(&t.acceptor, greeting, sizeof greeting);
    assert_int_equal(t.acceptor.session.outcome.err, HKV_E_PEER_PROTOCOL);
    assert_int_equal(t.acceptor.greeted_us, 0);
    talk_fini(&t);
    talk_init(&t, DOCS_ENCODING_COMPACT);
    feed(&t.acceptor, too_long, sizeof too_long);
    assert_int_equal(t.acceptor.session.outcome.err, HKV_E_PEER_PROTOCOL);
    talk_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_greeting_is_written_as_worked_out),
        cmocka_unit_test(a_greeted_session_goes_on_as_without),
        cmocka_unit_test(irohs_encoding_has_no_greeting),
        cmocka_unit_test(what_later_versions_append_is_passed_over),
        cmocka_unit_test(a_second_a_late_and_a_long_greeting_end_the_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
