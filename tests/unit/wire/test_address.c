/* Address sets, the text of socket addresses, and the normal form of relay URLs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/address.h"

static void add(struct address_set *set, const char *text)
{
    if (address_set_add_text(set, slice_of_text(text)) != HKV_OK) fail_msg("%s: %s", text, error_last());
}

static void assert_texts(const struct address_set *set, const char *const *texts, size_t count)
{
    char text[ADDRESS_TEXT_MAX];
    assert_int_equal(set->count, count);
    for (size_t i = 0; i < count; i++) assert_string_equal(address_format(&set->items[i], text), texts[i]);
}

static void a_set_is_sorted_like_iroh_sorts_it(void **state)
{
    (void)state;
    static const char *const sorted[] = {"https://a.example/", "https://b.example/", "10.0.0.1:80",
                                         "10.0.0.1:443",       "192.168.1.7:65535",  "[::1]:1",
                                         "[2001:db8::1]:4433"};
    struct address_set set = {0};
    for (size_t i = 7; i > 0; i--) add(&set, sorted[(i * 3) % 7]);
    for (size_t i = 0; i < 7; i++) add(&set, sorted[i]); /* repeats change nothing */
    assert_texts(&set, sorted, 7);
    address_set_fini(&set);
}

static void a_full_set_refuses_more_and_still_knows_its_own(void **state)
{
    (void)state;
    struct address_set set = {0}, more = {0};
    struct socket_address a = {.ip = {127, 0, 0, 1}};
    for (a.port = 1; a.port <= ADDRESS_SET_MAX; a.port++) assert_int_equal(address_set_add_socket(&set, &a), HKV_OK);
    assert_int_equal(address_set_add_socket(&set, &a), HKV_E_LIMIT);
    assert_int_equal(address_set_add_relay(&set, slice_of_text("https://r.example")), HKV_E_LIMIT);
    add(&set, "127.0.0.1:64");
    add(&more, "127.0.0.1:7");
    assert_int_equal(address_set_merge(&set, &more), HKV_OK);
    add(&more, "127.0.0.1:65");
    assert_int_equal(address_set_merge(&set, &more), HKV_E_LIMIT);
    assert_int_equal(set.count, ADDRESS_SET_MAX);
    address_set_fini(&set);
    address_set_fini(&more);
}

static void merging_adds_what_is_new(void **state)
{
    (void)state;
    static const char *const both[] = {"https://r.example/", "10.0.0.1:1", "10.0.0.2:2"};
    struct address_set into = {0}, from = {0};
    add(&into, both[1]);
    add(&from, both[2]);
    add(&from, both[1]);
    add(&from, both[0]);
    assert_int_equal(address_set_merge(&into, &from), HKV_OK);
    assert_texts(&into, both, 3);
    address_set_fini(&into);
    address_set_fini(&from);
}

static void socket_addresses_read_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"0.0.0.0:0", "192.0.2.1:24376", "[::]:0", "[2001:db8::1]:65535",
                                        "[::ffff:10.0.0.1]:9"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct socket_address a;
        char text[ADDRESS_TEXT_MAX];
        assert_int_equal(socket_address_parse(slice_of_text(texts[i]), &a), HKV_OK);
        socket_address_format(&a, text);
        assert_string_equal(text, texts[i]);
    }
}

static void other_socket_addresses_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",           ":",          "1.2.3.4",        "1.2.3.4:",    "1.2.3.4:65536",
                                      "1.2.3.4:-1", "1.2.3:80",   "1.2.3.256:8",    "[::1]",       "[::1]80",
                                      "::1:80",     "[::1:80",    "[::1%5]:9",      "[1.2.3.4]:5", "host:80",
                                      " 1.2.3.4:5", "1.2.3.4:5 ", "1.2.3.4:000005", "[]:1",        "01.2.3.4.5:6"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct socket_address a;
        if (socket_address_parse(slice_of_text(bad[i]), &a) != HKV_E_TICKET) fail_msg("accepted: %s", bad[i]);
    }
    struct socket_address a;
    assert_int_equal(socket_address_parse(slice_of("1.2.3.4\0:5", 10), &a), HKV_E_TICKET);
}

static void relay_urls_take_their_normal_form(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"HTTPS://Relay.Example.C", "https://relay.example.c/"},
        {"http://derp.me./", "http://derp.me./"},
        {"https://use1-1.relay.n0.iroh.link.", "https://use1-1.relay.n0.iroh.link./"},
        {"https://r.example:443", "https://r.example/"},
        {"https://r.example:80/", "https://r.example:80/"},
        {"http://r.example:80/x", "http://r.example/x"},
        {"http://r.example:/", "http://r.example/"},
        {"http://r.example:00081", "http://r.example:81/"},
        {"  https://r.example \n", "https://r.example/"},
        {"https:r.example", "https://r.example/"},
        {"https:\\\\r.example\\a\\b", "https://r.example/a/b"},
        {"https://r.example/a/./b/../c", "https://r.example/a/c"},
        {"https://r.example/../../x/..", "https://r.example/"},
        {"https://r.example/a/%2E%2e/b/.", "https://r.example/b/"},
        {"https://r.example/a//b/...", "https://r.example/a//b/..."},
        {"https://r.example/\xc3\xa4 {}%zz", "https://r.example/%C3%A4%20%7B%7D%zz"},
        {"https://r.example?q='a b'#f`g", "https://r.example/?q=%27a%20b%27#f%60g"},
        {"https://%52elay.example", "https://relay.example/"},
        {"https://127.0.0.1:3340", "https://127.0.0.1:3340/"},
        {"https://0x7f.1", "https://127.0.0.1/"},
        {"https://0300.0250.257./", "https://192.168.1.1/"},
        {"https://4294967295", "https://255.255.255.255/"},
        {"https://1.2.3.4.r", "https://1.2.3.4.r/"},
        {"https://[2001:DB8:0:0::1]:443/", "https://[2001:db8::1]/"},
        {"https://[::]:1", "https://[::]:1/"},
        {"https://[1:0:0:2:0:0:0:3]", "https://[1:0:0:2::3]/"},
        {"https://[0:1:0:1:0:1:0:1]", "https://[0:1:0:1:0:1:0:1]/"},
        {"https://[1:2:3:4:5:6:0:0]", "https://[1:2:3:4:5:6::]/"},
        {"https://[::ffff:127.0.0.1]", "https://[::ffff:7f00:1]/"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf out = {0};
        if (relay_url_normalise(slice_of_text(cases[i].in), &out) != HKV_OK)
            fail_msg("%s: %s", cases[i].in, error_last());
        assert_int_equal(buf_append_byte(&out, '\0'), HKV_OK);
        assert_string_equal((char *)out.data, cases[i].out);
        buf_fini(&out);
    }
}

static void other_relay_urls_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "abc",
                                      "://r.example",
                                      "ws://r.example",
                                      "https://",
                                      "https:///",
                                      "https://:443",
                                      "https://r.example:65536",
                                      "https://r.example:8a",
                                      "https://user@r.example",
                                      "https://user:pw@r.example",
                                      "https://r exa.mple",
                                      "https://r%.example",
                                      "https://r%00.example",
                                      "https://b\xc3\xbc-cher.example",
                                      "https://1.2.3.4.5",
                                      "https://1.2.3.256",
                                      "https://4294967296",
                                      "https://08",
                                      "https://1..2",
                                      "https://[::1",
                                      "https://[::1]x",
                                      "https://[1.2.3.4]",
                                      "https://r.example/a\tb",
                                      "https://r<x>.example"};
    struct buf out = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (relay_url_normalise(slice_of_text(bad[i]), &out) != HKV_E_TICKET) fail_msg("accepted: %s", bad[i]);
    char url[RELAY_URL_MAX + 2] = "https://r.example/";
    size_t len = strlen(url);
    memset(url + len, 'a', RELAY_URL_MAX - len);
    assert_int_equal(relay_url_normalise(slice_of(url, RELAY_URL_MAX), &out), HKV_OK);
    url[RELAY_URL_MAX] = 'a';
    assert_int_equal(relay_url_normalise(slice_of(url, RELAY_URL_MAX + 1), &out), HKV_E_TICKET);
    url[RELAY_URL_MAX - 1] = ' '; /* grows to %20 */
    assert_int_equal(relay_url_normalise(slice_of(url, RELAY_URL_MAX + 1), &out), HKV_E_TICKET);
    url[RELAY_URL_MAX - 2] = '\xff';
    assert_int_equal(relay_url_normalise(slice_of(url, RELAY_URL_MAX - 1), &out), HKV_E_TICKET);
    buf_fini(&out);
}

static void urls_of_other_schemes_are_told_apart_from_nonsense(void **state)
{
    (void)state;
    assert_true(relay_url_is_foreign(slice_of_text("ws://r.example")));
    assert_true(relay_url_is_foreign(slice_of_text("mailto:x")));
    assert_false(relay_url_is_foreign(slice_of_text("HTTPS://r.example")));
    assert_false(relay_url_is_foreign(slice_of_text("http:")));
    assert_false(relay_url_is_foreign(slice_of_text("abc")));
    assert_false(relay_url_is_foreign(slice_of_text(":x")));
    assert_false(relay_url_is_foreign(slice_of_text("1a:x")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_is_sorted_like_iroh_sorts_it),
        cmocka_unit_test(a_full_set_refuses_more_and_still_knows_its_own),
        cmocka_unit_test(merging_adds_what_is_new),
        cmocka_unit_test(socket_addresses_read_back),
        cmocka_unit_test(other_socket_addresses_are_refused),
        cmocka_unit_test(relay_urls_take_their_normal_form),
        cmocka_unit_test(other_relay_urls_are_refused),
        cmocka_unit_test(urls_of_other_schemes_are_told_apart_from_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
