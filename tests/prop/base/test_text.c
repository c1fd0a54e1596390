/* What an encoding wrote reads back the same; what it accepts is exactly what it would write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/text.h"
#include "random.h"

#define ROUNDS 2000

typedef enum hkv_err (*coder)(struct slice in, struct buf *out);

static void assert_round_trip(struct random *r, coder encode, coder decode)
{
    uint8_t bytes[200];
    struct slice in = slice_of(bytes, random_below(r, sizeof bytes));
    random_fill(r, bytes, in.len);
    struct buf text = {0}, back = {0};
    assert_int_equal(encode(in, &text), HKV_OK);
    assert_int_equal(decode(buf_slice(&text), &back), HKV_OK);
    assert_true(slice_equal(buf_slice(&back), in));
    buf_fini(&text);
    buf_fini(&back);
}

/* Random text from the alphabet and a little beyond: when it decodes, encoding gives the same text again. */
static void assert_only_canonical(struct random *r, coder encode, coder decode, const char *alphabet)
{
    char text[41];
    size_t len = random_below(r, sizeof text);
    for (size_t i = 0; i < len; i++) text[i] = alphabet[random_below(r, strlen(alphabet))];
    struct buf bytes = {0}, again = {0};
    if (decode(slice_of(text, len), &bytes) == HKV_OK) {
        assert_int_equal(encode(buf_slice(&bytes), &again), HKV_OK);
        if (!slice_equal(buf_slice(&again), slice_of(text, len)))
            fail_msg("two texts for one value: %.*s", (int)len, text);
    }
    buf_fini(&bytes);
    buf_fini(&again);
}

static void encodings_read_back(void **state)
{
    (void)state;
    struct random r = random_start("encodings_read_back");
    for (int i = 0; i < ROUNDS; i++) {
        assert_round_trip(&r, base32_encode, base32_decode);
        assert_round_trip(&r, base64_encode, base64_decode);
    }
}

static void each_value_has_one_text(void **state)
{
    (void)state;
    struct random r = random_start("each_value_has_one_text");
    for (int i = 0; i < 20 * ROUNDS; i++) {
        assert_only_canonical(&r, base32_encode, base32_decode, "abcdefghijklmnopqrstuvwxyz234567");
        assert_only_canonical(&r, base32_encode, base32_decode, "aq");
        assert_only_canonical(&r, base64_encode, base64_decode, "AQgw=");
    }
}

/* The obvious decoder: reads one code point, or -1. */
static int32_t slow_code_point(struct slice *s)
{
    static const struct {
        uint8_t mask, lead;
        int32_t least;
        size_t len;
    } forms[] = {{0x80, 0x00, 0, 1}, {0xe0, 0xc0, 0x80, 2}, {0xf0, 0xe0, 0x800, 3}, {0xf8, 0xf0, 0x10000, 4}};
    for (size_t i = 0; i < 4; i++) {
        if ((s->data[0] & forms[i].mask) != forms[i].lead) continue;
        if (s->len < forms[i].len) return -1;
        int32_t point = s->data[0] & (uint8_t)~forms[i].mask;
        for (size_t k = 1; k < forms[i].len; k++) {
            if ((s->data[k] & 0xc0) != 0x80) return -1;
            point = point << 6 | (s->data[k] & 0x3f);
        }
        *s = slice_part(*s, forms[i].len, s->len);
        return point < forms[i].least || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff) ? -1 : point;
    }
    return -1;
}

static void utf8_agrees_with_a_slow_decoder(void **state)
{
    (void)state;
    static const uint8_t likely[] = {0x41, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf,
                                     0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff, 0x00};
    struct random r = random_start("utf8_agrees_with_a_slow_decoder");
    for (int i = 0; i < 100 * ROUNDS; i++) {
        uint8_t bytes[6];
        struct slice text = slice_of(bytes, random_below(&r, sizeof bytes + 1)), rest = text;
        for (size_t k = 0; k < text.len; k++) bytes[k] = likely[random_below(&r, sizeof likely)];
        bool slow = true;
        while (slow && rest.len > 0) slow = slow_code_point(&rest) >= 0;
        assert_int_equal(utf8_is_valid(text), slow);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodings_read_back),
        cmocka_unit_test(each_value_has_one_text),
        cmocka_unit_test(utf8_agrees_with_a_slow_decoder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
