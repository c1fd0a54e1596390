/* Ranges at their boundaries: wrapping, "all", bounds outside of the namespace, the last namespace of all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/text.h"
#include "fixture/docs_world.h"

static struct namespace_id middle = {{0x80}};

/* A bound: first byte of the namespace, author byte, key. "M" stands for the namespace itself. */
static struct slice bound(uint8_t out[80], int namespace, uint8_t author, const char *key)
{
    memset(out, 0, 80);
    if (namespace < 0)
        memcpy(out, middle.bytes, ID_BYTES);
    else
        memset(out, namespace, ID_BYTES);
    memset(out + ID_BYTES, author, ID_BYTES);
    memcpy(out + ENTRY_ID_MIN, key, strlen(key));
    return slice_of(out, ENTRY_ID_MIN + strlen(key));
}

#define M -1

static const struct row {
    const char *name;
    struct {
        int namespace;
        uint8_t author;
        const char *key;
    } x, y;
    const char *pieces; /* "xy": from x to y, "." open */
} rows[] = {
    {"plain", {M, 1, "a"}, {M, 1, "b"}, "xy"},
    {"all", {M, 1, "a"}, {M, 1, "a"}, "x. .x"},
    {"wraps", {M, 2, ""}, {M, 1, "b"}, "x. .y"},
    {"all of the empty replica", {0, 0, ""}, {0, 0, ""}, ".."},
    {"all, named from above", {0xff, 0, ""}, {0xff, 0, ""}, ".."},
    {"from below", {0, 0, ""}, {M, 1, "b"}, ".y"},
    {"to above", {M, 1, "a"}, {0xff, 0xff, ""}, "x."},
    {"over the whole namespace", {0, 0, ""}, {0xff, 0xff, "zz"}, ".."},
    {"only below", {0, 0, ""}, {0x7f, 0, ""}, ""},
    {"only above", {0x81, 0, ""}, {0xff, 0, ""}, ""},
    {"wraps around us from above to below", {0xff, 0, ""}, {0x10, 0, ""}, ""},
    {"wraps from above into us", {0xff, 0, ""}, {M, 1, "b"}, ".y"},
    {"wraps from us to below", {M, 1, "a"}, {0x10, 0, ""}, "x."},
    {"wraps below us", {0x20, 0, ""}, {0x10, 0, ""}, ".."},
    {"wraps above us", {0xf0, 0, ""}, {0xe0, 0, ""}, ".."},
};

static void ranges_are_clamped_to_the_namespace(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t xb[80], yb[80];
        struct docs_range range = {bound(xb, rows[i].x.namespace, rows[i].x.author, rows[i].x.key),
                                   bound(yb, rows[i].y.namespace, rows[i].y.author, rows[i].y.key)};
        struct docs_pieces pieces;
        char text[16] = "";
        docs_range_pieces(range, &middle, &pieces);
        for (size_t p = 0; p < pieces.count; p++) {
            struct docs_piece piece = pieces.items[p];
            const char from = piece.from.len == 0 ? '.' : 'x';
            const char to = piece.to.len == 0 ? '.' : slice_equal(piece.to, range.x) ? 'x' : 'y';
            if (piece.from.len > 0) assert_true(slice_equal(piece.from, range.x));
            if (p > 0) strcat(text, " ");
            snprintf(text + strlen(text), 4, "%c%c", from, to);
        }
        print_message("%s\n", rows[i].name);
        assert_string_equal(text, rows[i].pieces);
    }
}

/* Membership says the same as the pieces, for every pair of bounds from a grid and every id on it. */
static void pieces_and_membership_agree(void **state)
{
    (void)state;
    static const int namespaces[] = {0, M, 0xff};
    static const char *const keys[] = {"", "b", "\xff", "\xff\xff"};
    uint8_t bounds[24][80];
    struct slice ids[24];
    size_t count = 0;
    for (size_t n = 0; n < 3; n++) {
        for (uint8_t author = 1; author <= 2; author++) {
            for (size_t k = 0; k < 4; k++, count++)
                ids[count] = bound(bounds[count], namespaces[n], author == 1 ? 1 : 0xff, keys[k]);
        }
    }
    for (size_t x = 0; x < count; x++) {
        for (size_t y = 0; y < count; y++) {
            struct docs_pieces pieces;
            struct docs_range range = {ids[x], ids[y]};
            docs_range_pieces(range, &middle, &pieces);
            for (size_t i = 8; i < 16; i++) { /* the ids of the namespace */
                struct entry e = {.namespace = middle, .key = slice_part(ids[i], ENTRY_ID_MIN, SIZE_MAX)};
                memcpy(e.author.bytes, ids[i].data + ID_BYTES, ID_BYTES);
                size_t hits = 0;
                for (size_t p = 0; p < pieces.count; p++) {
                    struct docs_piece piece = pieces.items[p];
                    hits += slice_compare(ids[i], piece.from) >= 0 &&
                            (piece.to.len == 0 || slice_compare(ids[i], piece.to) < 0);
                }
                assert_int_equal(hits, docs_range_has(range, &e) ? 1 : 0);
            }
        }
    }
}

static void the_last_namespace_has_no_end(void **state)
{
    (void)state;
    struct namespace_id last;
    memset(last.bytes, 0xff, ID_BYTES);
    uint8_t xb[80], yb[80];
    struct docs_range range = {bound(xb, 0xff, 0xff, "b"), bound(yb, 0xff, 0xff, "a")};
    struct docs_pieces pieces;
    docs_range_pieces(range, &last, &pieces);
    assert_int_equal(pieces.count, 2);
    assert_true(slice_equal(pieces.items[0].from, range.x) && pieces.items[0].to.len == 0);
    assert_true(slice_equal(pieces.items[1].to, range.y) && pieces.items[1].from.len == 0);
}

/* u < separator ≤ v, a prefix of v, never shorter than an id, and no shorter prefix would do. */
static void a_separator_is_the_shortest_that_separates(void **state)
{
    (void)state;
    static const struct {
        uint8_t u_author, v_author;
        const char *u, *v;
        size_t bytes;
    } pairs[] = {
        {1, 2, "zzz", "aaa", ENTRY_ID_MIN},
        {1, 1, "", "a", ENTRY_ID_MIN + 1},
        {1, 1, "apple", "banana", ENTRY_ID_MIN + 1},
        {1, 1, "apple", "apples", ENTRY_ID_MIN + 6},
        {1, 1, "key-0001", "key-0002", ENTRY_ID_MIN + 8},
        {1, 1, "key-0009999", "key-0010000", ENTRY_ID_MIN + 7},
        {0, 0xff, "", "", ENTRY_ID_MIN},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        uint8_t ub[80], vb[80];
        struct slice u = bound(ub, M, pairs[i].u_author, pairs[i].u), v = bound(vb, M, pairs[i].v_author, pairs[i].v);
        size_t bytes = docs_separator_bytes(u, v);
        assert_int_equal(bytes, pairs[i].bytes);
        assert_true(slice_compare(u, slice_part(v, 0, bytes)) < 0);
        if (bytes > ENTRY_ID_MIN) assert_true(slice_compare(u, slice_part(v, 0, bytes - 1)) >= 0);
    }
}

/* Ranges that follow each other are put off as one, also over the end of the namespace; what cannot be joined becomes
 * all. */
static void what_is_put_off_is_covered(void **state)
{
    (void)state;
    uint8_t b[6][80];
    struct slice at[6];
    for (int i = 0; i < 6; i++) at[i] = bound(b[i], M, (uint8_t)(i + 1), "");
    static const struct {
        int x1, y1, x2, y2, x, y; /* indexes */
    } joins[] = {
        {0, 1, 1, 2, 0, 2}, {0, 1, 3, 4, 0, 4}, {3, 4, 0, 1, 3, 1}, {1, 2, 4, 0, 1, 0}, {4, 1, 2, 3, 4, 3},
        {2, 0, 0, 2, 2, 2}, {1, 3, 2, 4, 1, 4}, {1, 4, 2, 3, 1, 4}, {4, 2, 1, 5, 4, 4}, {2, 2, 0, 1, 2, 2},
        {0, 1, 3, 3, 3, 3}, {2, 3, 1, 5, 1, 5}, {3, 1, 2, 0, 2, 1},
    };
    struct docs_frame_limits limits = {.parts = 9, .values = 9, .bytes = 999};
    for (size_t i = 0; i < sizeof joins / sizeof joins[0]; i++) {
        struct docs_reply reply;
        docs_reply_init(&reply, &limits, 1);
        struct docs_range one = {at[joins[i].x1], at[joins[i].y1]}, two = {at[joins[i].x2], at[joins[i].y2]};
        assert_int_equal(docs_reply_put_off(&reply, DOCS_REST_ITEMS, one), HKV_OK);
        assert_int_equal(docs_reply_put_off(&reply, DOCS_REST_ITEMS, two), HKV_OK);
        struct docs_range joined = {buf_slice(&reply.rests[0].x), buf_slice(&reply.rests[0].y)};
        for (int k = 0; k < 6; k++) {
            struct entry e = {.namespace = middle};
            memset(e.author.bytes, k + 1, ID_BYTES);
            bool is_inside = docs_range_has(one, &e) || docs_range_has(two, &e);
            if (is_inside) assert_true(docs_range_has(joined, &e));
        }
        if (docs_range_is_all(joined))
            assert_int_equal(joins[i].x, joins[i].y);
        else
            assert_true(slice_equal(joined.x, at[joins[i].x]) && slice_equal(joined.y, at[joins[i].y]));
        docs_reply_fini(&reply);
    }
}

/* The entries of the vectors, "hello" and "wire-format-test", alone and together (wire/docs.md 12.2 and 12.3). */
static void fingerprints_of_ranges_are_upstreams(void **state)
{
    (void)state;
    static const char *const entries[] = {"60faa333002d5442a9dc12012c56539c8114b442f9faeb42a469f2b284101396",
                                          "82633c86fc3982b032c8ca98e8d2be370cd46ecdc130a40397d7c98042587afc"};
    static const char *const ranges[] = {"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
                                         "cfe9ea8af5d4f5e4099c5feb1a8a9ad51adf918b543bf9f568f36178600f21f4",
                                         "2d70753f09c0231692888772de0e777e971f4b046cf1b6b45b4d5a4aa647489e",
                                         "4d8ad60c09ed77543b549573f25824e2160bff46950b5df6ff24a8f822575b08"};
    for (size_t held = 0; held < 4; held++) {
        struct docs_summary sum = {0};
        struct fingerprint fp;
        char text[ID_TEXT_MAX];
        for (size_t i = 0; i < 2; i++) {
            if ((held >> i & 1) == 0) continue;
            assert_true(hex_decode(slice_of_text(entries[i]), HEX_LOWER_ONLY, fp.bytes, ID_BYTES));
            fingerprint_xor(&sum.xored, &fp);
            sum.count++;
        }
        docs_summary_fingerprint(&sum, &fp);
        assert_string_equal(id_format(fp.bytes, text), ranges[held]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_clamped_to_the_namespace),
        cmocka_unit_test(pieces_and_membership_agree),
        cmocka_unit_test(the_last_namespace_has_no_end),
        cmocka_unit_test(a_separator_is_the_shortest_that_separates),
        cmocka_unit_test(what_is_put_off_is_covered),
        cmocka_unit_test(fingerprints_of_ranges_are_upstreams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
