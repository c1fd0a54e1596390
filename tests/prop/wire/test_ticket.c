/* Whatever endpoints a ticket names, it reads back the same; and text with one character changed never reads as
 * anything else than what its bytes say: encoding what was read and reading that again gives the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "crypto/ed25519.h"
#include "random.h"
#include "wire/ticket.h"

#define ROUNDS 300

static void add_random_address(struct random *r, struct address_set *set)
{
    char url[64];
    struct socket_address a = {.is_ipv6 = random_below(r, 2) == 1, .port = (uint16_t)random_u64(r)};
    random_fill(r, a.ip, a.is_ipv6 ? 16 : 4);
    (void)snprintf(url, sizeof url, "http%s://r%zu.example:%zu/p", random_below(r, 2) ? "s" : "", random_below(r, 1000),
                   1 + random_below(r, 65535));
    if (random_below(r, 4) == 0) assert_int_equal(address_set_add_relay(set, slice_of_text(url)), HKV_OK);
    assert_int_equal(address_set_add_socket(set, &a), HKV_OK);
}

static void fill_random_endpoint(struct random *r, struct endpoint_address *out)
{
    struct secret_key secret;
    random_fill(r, secret.bytes, ID_BYTES);
    ed25519_public_key(&secret, out->id.bytes);
    for (size_t n = random_below(r, 12); n > 0; n--) add_random_address(r, &out->addrs);
}

static void assert_same_endpoint(const struct endpoint_address *a, const struct endpoint_address *b)
{
    char text_a[ADDRESS_TEXT_MAX], text_b[ADDRESS_TEXT_MAX];
    assert_true(endpoint_id_equal(&a->id, &b->id));
    assert_int_equal(a->addrs.count, b->addrs.count);
    for (size_t i = 0; i < a->addrs.count; i++)
        assert_string_equal(address_format(&a->addrs.items[i], text_a), address_format(&b->addrs.items[i], text_b));
}

static void endpoint_tickets_read_back(void **state)
{
    (void)state;
    struct random r = random_start("endpoint_tickets_read_back");
    for (int i = 0; i < ROUNDS; i++) {
        struct endpoint_address ea = {0}, back;
        struct buf text = {0};
        fill_random_endpoint(&r, &ea);
        assert_int_equal(endpoint_ticket_encode(&ea, &text), HKV_OK);
        assert_int_equal(endpoint_ticket_decode(buf_slice(&text), &back), HKV_OK);
        assert_same_endpoint(&ea, &back);
        endpoint_address_fini(&ea);
        endpoint_address_fini(&back);
        buf_fini(&text);
    }
}

static void fill_random_doc(struct random *r, struct doc_ticket *out)
{
    *out = (struct doc_ticket){.writable = random_below(r, 2) == 1, .endpoint_count = 1 + random_below(r, 4)};
    struct secret_key secret;
    random_fill(r, secret.bytes, ID_BYTES);
    ed25519_public_key(&secret, out->namespace.bytes);
    if (out->writable) out->secret = secret;
    out->endpoints = calloc(out->endpoint_count, sizeof *out->endpoints);
    assert_non_null(out->endpoints);
    for (size_t i = 0; i < out->endpoint_count; i++) fill_random_endpoint(r, &out->endpoints[i]);
}

static void assert_same_doc(const struct doc_ticket *a, const struct doc_ticket *b)
{
    assert_int_equal(a->writable, b->writable);
    assert_true(namespace_id_equal(&a->namespace, &b->namespace));
    assert_memory_equal(a->secret.bytes, b->secret.bytes, ID_BYTES);
    assert_int_equal(a->endpoint_count, b->endpoint_count);
    for (size_t i = 0; i < a->endpoint_count; i++) assert_same_endpoint(&a->endpoints[i], &b->endpoints[i]);
}

static void doc_tickets_read_back(void **state)
{
    (void)state;
    struct random r = random_start("doc_tickets_read_back");
    for (int i = 0; i < ROUNDS; i++) {
        struct doc_ticket ticket, back;
        struct buf text = {0};
        fill_random_doc(&r, &ticket);
        assert_int_equal(doc_ticket_encode(&ticket, &text), HKV_OK);
        assert_int_equal(doc_ticket_decode(buf_slice(&text), &back), HKV_OK);
        assert_same_doc(&ticket, &back);
        doc_ticket_fini(&ticket);
        doc_ticket_fini(&back);
        buf_fini(&text);
    }
}

static void damaged_tickets_are_refused_or_stable(void **state)
{
    (void)state;
    struct random r = random_start("damaged_tickets_are_refused_or_stable");
    size_t read = 0;
    for (int i = 0; i < 20 * ROUNDS; i++) {
        struct doc_ticket ticket, damaged, again;
        struct buf text = {0}, second = {0};
        fill_random_doc(&r, &ticket);
        assert_int_equal(doc_ticket_encode(&ticket, &text), HKV_OK);
        size_t at = 3 + random_below(&r, text.len - 3);
        text.data[at] = (uint8_t) "abcdefghijklmnopqrstuvwxyz234567=1"[random_below(&r, 34)];
        enum hkv_err err = doc_ticket_decode(buf_slice(&text), &damaged);
        if (err == HKV_OK) {
            read++;
            assert_int_equal(doc_ticket_encode(&damaged, &second), HKV_OK);
            assert_int_equal(doc_ticket_decode(buf_slice(&second), &again), HKV_OK);
            assert_same_doc(&damaged, &again);
            doc_ticket_fini(&damaged);
            doc_ticket_fini(&again);
        } else {
            assert_int_equal(err, HKV_E_TICKET);
        }
        doc_ticket_fini(&ticket);
        buf_fini(&text);
        buf_fini(&second);
    }
    assert_true(read > 0);
}

static int ready(void **state)
{
    (void)state;
    return crypto_init() == HKV_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoint_tickets_read_back),
        cmocka_unit_test(doc_tickets_read_back),
        cmocka_unit_test(damaged_tickets_are_refused_or_stable),
    };
    return cmocka_run_group_tests(tests, ready, NULL);
}
