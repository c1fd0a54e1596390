/* The checksum of pages: the values of its specification, and what it must notice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/page_sum.h"

#define PAGE_BYTES 4088

/* The bytes that xxHash's own tests use. */
static void make_bytes(uint8_t *out, size_t len)
{
    uint64_t state = 2654435761u;
    for (size_t i = 0; i < len; i++, state *= 11400714785074694797u) out[i] = (uint8_t)(state >> 56);
}

static void known_inputs_have_known_sums(void **state)
{
    (void)state;
    static const struct {
        size_t len;
        uint64_t seed, sum;
    } known[] = {
        {0, 0, 0xef46db3751d8e999u},   {1, 0, 0xe934a84adb052768u},           {14, 0, 0x8282dcc4994e35c8u},
        {222, 0, 0xb641ae8cb691c174u}, {1, 2654435761u, 0x5014607643a9b4c3u}, {222, 2654435761u, 0x20cb8ab7ae10c14au},
    };
    uint8_t bytes[222];
    make_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        assert_int_equal(page_sum(slice_of(bytes, known[i].len), known[i].seed), known[i].sum);
    assert_int_equal(page_sum(slice_of("abc", 3), 0), 0x44bc2cf5ad770999u);
}

static void every_flipped_bit_changes_the_sum(void **state)
{
    (void)state;
    uint8_t page[PAGE_BYTES];
    for (unsigned fill = 0; fill < 2; fill++) {
        memset(page, 0, sizeof page);
        if (fill) make_bytes(page, sizeof page);
        uint64_t sum = page_sum(slice_of(page, sizeof page), 7);
        for (size_t bit = 0; bit < 8 * sizeof page; bit++) {
            page[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_not_equal(page_sum(slice_of(page, sizeof page), 7), sum);
            page[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void swap_words(uint8_t a[8], uint8_t b[8])
{
    uint64_t word = le64_load(a);
    memcpy(a, b, 8);
    le64_store(b, word);
}

static void swapped_words_and_other_places_change_the_sum(void **state)
{
    (void)state;
    uint8_t page[PAGE_BYTES];
    make_bytes(page, sizeof page);
    uint64_t sum = page_sum(slice_of(page, sizeof page), 7);
    assert_int_not_equal(page_sum(slice_of(page, sizeof page), 8), sum);
    for (size_t step = 8; step <= 64; step += 8)
        for (size_t at = 0; at + step + 8 <= sizeof page; at += 8) {
            swap_words(page + at, page + at + step);
            assert_int_not_equal(page_sum(slice_of(page, sizeof page), 7), sum);
            swap_words(page + at, page + at + step);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_inputs_have_known_sums),
        cmocka_unit_test(every_flipped_bit_changes_the_sum),
        cmocka_unit_test(swapped_words_and_other_places_change_the_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
