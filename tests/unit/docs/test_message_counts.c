/* The conversations that iroh-docs asserts in its own tests (src/ranger.rs): which messages, with which parts. Ours are
 * the same when we split as upstream does: in two, at existing ids, down to one entry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fixture/docs_world.h"

static const struct conversation {
    const char *name, *dialler, *acceptor; /* keys, separated by spaces; "@n" is the stamp, 1 by default */
    const char *sent, *answered;
} conversations[] = {
    {"paper 1", "ape eel fox gnu", "bee cat doe eel fox hog", "[F] [F F I0-] [I2+]", "[F F] [I3+ I1-]"},
    {"paper 2", "ape bee cat doe eel fox gnu hog", "ape bee cat doe eel gnu hog", "[F] [F F] [I1+]", "[F F] [I1- I1-]"},
    {"paper 3", "ape bee cat doe eel fox gnu hog", "ape cat eel gnu", "[F] [F F F F] [I1+ I1+ I1+ I1+]",
     "[F F] [I1- I1- I1- I1-]"},
    {"limits", "ape bee cat", "ape cat doe", "[F] [I1+ I1-]", "[F I1-] [I1+]"},
    {"prefixes", "/foo/bar /foo/baz /foo/cat", "/foo/bar /alice/bar /alice/baz", "[F] [I2+ I0-]", "[F I1-] [I2+]"},
    {"empty dialler", "", "ape bee cat", "[F]", "[I3-]"},
    {"empty acceptor", "ape bee cat", "", "[F] [I3+]", "[I0-]"},
    {"newer value", "foo@2", "foo@1", "[F] [I1+]", "[I1-]"},
    {"equal", "ape bee cat", "ape bee cat", "[F]", ""},
    {"both empty", "", "", "[F]", ""},
};

static void put_keys(struct array_replica *a, const char *keys)
{
    array_replica_init(a);
    while (*keys != '\0') {
        size_t len = strcspn(keys, " "), name = strcspn(keys, " @");
        uint64_t stamp = name < len ? (uint64_t)(keys[name + 1] - '0') : 1;
        struct entry e = world_entry(1, slice_of(keys, name), stamp, 7);
        assert_int_equal(array_replica_put(a, &e), DOCS_INSERTED);
        keys += len + (keys[len] == ' ');
    }
}

static void conversations_are_upstreams(void **state)
{
    (void)state;
    struct docs_config config = docs_config_default(1);
    config.split_ways = 2;
    config.exact_bounds = true;
    for (size_t i = 0; i < sizeof conversations / sizeof conversations[0]; i++) {
        const struct conversation *c = &conversations[i];
        struct array_replica ours, theirs;
        struct world_peer a, b;
        struct world_trace sent, answered;
        put_keys(&ours, c->dialler);
        put_keys(&theirs, c->acceptor);
        world_peer_init(&a, DOCS_DIALLER, &ours, &config);
        world_peer_init(&b, DOCS_ACCEPTOR, &theirs, &config);
        world_run(&a, &b, &(struct world_options){0});
        world_trace_read(buf_slice(&a.log), &sent);
        world_trace_read(buf_slice(&b.log), &answered);
        print_message("%s\n", c->name);
        assert_string_equal(sent.text, c->sent);
        assert_string_equal(answered.text, c->answered);
        assert_true(a.ended && b.ended && array_replica_equal(&ours, &theirs));
        assert_int_equal(a.session.outcome.err, HKV_OK);
        assert_int_equal(b.session.outcome.err, HKV_OK);
        assert_int_equal(sent.repeated + answered.repeated, 0);
        assert_int_equal(a.session.outcome.sent, b.session.outcome.received);
        assert_int_equal(b.session.outcome.sent, a.session.outcome.received);
        assert_int_equal(a.session.outcome.is_confirmed, answered.frames == 0);
        assert_int_equal(b.session.outcome.is_confirmed, answered.frames == 0);
        world_peer_fini(&a);
        world_peer_fini(&b);
        array_replica_fini(&ours);
        array_replica_fini(&theirs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_are_upstreams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
