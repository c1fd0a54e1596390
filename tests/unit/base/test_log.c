/* The one sink: levels, modules, one line an event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"

static char seen[2 * LOG_TEXT_MAX];

static void remember(const struct log_sink *sink, enum log_level level, const char *module, const char *text)
{
    assert_ptr_equal(sink->user, seen);
    (void)snprintf(seen, sizeof seen, "%s %s %s", log_level_name(level), module, text);
}

static const struct log_module net_at_debug = {"net", LOG_LEVEL_DEBUG};
static const struct log_sink sink = {remember, LOG_LEVEL_INFO, &net_at_debug, 1, seen};

static int with_sink(void **state)
{
    (void)state;
    seen[0] = '\0';
    log_set_sink(&sink);
    return 0;
}

static int without_sink(void **state)
{
    (void)state;
    log_set_sink(NULL);
    return 0;
}

static void an_event_reaches_the_sink_with_level_and_module(void **state)
{
    (void)state;
    log_warn("docs", "%s: %u entries refused", "peer", 3u);
    assert_string_equal(seen, "warn docs peer: 3 entries refused");
}

static void a_module_has_its_own_level(void **state)
{
    (void)state;
    log_debug("docs", "not wanted");
    assert_string_equal(seen, "");
    log_debug("net", "wanted");
    assert_string_equal(seen, "debug net wanted");
    log_error("docs", "always");
    assert_string_equal(seen, "error docs always");
}

static int evaluated;

static int count_evaluation(void)
{
    return ++evaluated;
}

static void without_a_listener_nothing_is_evaluated(void **state)
{
    (void)state;
    log_debug("docs", "%d", count_evaluation());
    log_set_sink(NULL);
    log_error("docs", "%d", count_evaluation());
    assert_int_equal(evaluated, 0);
    assert_string_equal(seen, "");
}

static void foreign_text_cannot_break_the_line(void **state)
{
    (void)state;
    log_info("net", "closed: %s", "a\nerror net forged\r\x1b[2J\x7f");
    assert_string_equal(seen, "info net closed: a?error net forged??[2J?");
}

static void long_text_is_cut(void **state)
{
    (void)state;
    char x[2 * LOG_TEXT_MAX];
    memset(x, 'x', sizeof x);
    x[sizeof x - 1] = '\0';
    log_info("net", "%s", x);
    assert_int_equal(strlen(seen), strlen("info net ") + LOG_TEXT_MAX - 1);
}

static void level_names_read_back(void **state)
{
    (void)state;
    for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
        enum log_level level;
        assert_true(log_level_parse(log_level_name((enum log_level)i), &level));
        assert_int_equal(level, i);
    }
    enum log_level level;
    assert_false(log_level_parse("INFO", &level));
    assert_false(log_level_parse("", &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_event_reaches_the_sink_with_level_and_module, with_sink, without_sink),
        cmocka_unit_test_setup_teardown(a_module_has_its_own_level, with_sink, without_sink),
        cmocka_unit_test_setup_teardown(without_a_listener_nothing_is_evaluated, with_sink, without_sink),
        cmocka_unit_test_setup_teardown(foreign_text_cannot_break_the_line, with_sink, without_sink),
        cmocka_unit_test_setup_teardown(long_text_is_cut, with_sink, without_sink),
        cmocka_unit_test(level_names_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
