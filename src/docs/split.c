/* The answer to a fingerprint that differs from ours over many entries: sub-ranges of equal count (docs.md 4.6 step
 * 3, 8.5).
 *
 *   x == y   p0 p1 … pk-1 on the circle, pk-1 at x       (p0,p1) (p1,p2) … (pk-1,p0)     exactly one wraps
 *   other    p0 … pk-2 inside                            (x,p0) (p0,p1) … (pk-2,y)
 *
 * The order is that of going up from x and, at the namespace's end, on from its start. */
#include "docs/reconcile.h"

#include <assert.h>

struct split {
    struct docs_replica *replica;
    struct docs_range range;
    struct docs_pieces pieces;
    uint64_t counts[2];
    uint64_t total;
    uint32_t ways;
    struct buf bounds[DOCS_SPLIT_WAYS_MAX];
};

/* Appends the id of rank `n`, counted from x upwards. */
static enum hkv_err select_id(struct split *s, uint64_t n, struct buf *id)
{
    size_t piece = n < s->counts[0] ? 0 : 1;
    return s->replica->ops->select(s->replica, s->pieces.items[piece], piece == 0 ? n : n - s->counts[0], id);
}

/* The bound just below the entry of rank `n`: a shortest separator, or with `exact_bounds` its id. In the compact
 * encoding what a separator has too much, up to ENTRY_ID_MIN, is zeros, which cost nothing there. */
static enum hkv_err find_bound(struct split *s, uint64_t n, const struct docs_config *config, struct buf *out)
{
    struct buf below = {0};
    enum hkv_err err = select_id(s, n, out);
    if (err != HKV_OK || config->exact_bounds) goto out;
    if (n == 0 || n == s->counts[0]) { /* nothing of ours lies between the start of its piece and it */
        struct slice from = s->pieces.items[n < s->counts[0] ? 0 : 1].from;
        if (from.len > 0)
            err = buf_assign(out, from);
        else
            out->len = ENTRY_ID_MIN;
        goto out;
    }
    err = select_id(s, n - 1, &below);
    if (err != HKV_OK) goto out;
    size_t differ_at = docs_differing_at(buf_slice(&below), buf_slice(out));
    out->len = docs_separator_bytes(buf_slice(&below), buf_slice(out));
    if (config->encoding == DOCS_ENCODING_COMPACT && differ_at + 1 < out->len)
        memset(out->data + differ_at + 1, 0, out->len - (differ_at + 1));
out:
    buf_fini(&below);
    return err;
}

struct collect {
    struct docs_reply *reply;
    bool has_given;
    enum hkv_err err;
};

static bool collect_value(void *arg, const struct entry *e, bool has_content)
{
    struct collect *c = arg;
    c->err = docs_reply_value(c->reply, e, has_content);
    return c->err == HKV_OK;
}

static bool look_for_given(void *arg, const struct entry *e, bool has_content)
{
    struct collect *c = arg;
    struct fingerprint fp;
    (void)has_content;
    entry_fingerprint(e, &fp);
    c->has_given = docs_set_has(&c->reply->given, &fp);
    return !c->has_given;
}

/* Whether values there were sent before: what a frame has no room for is put off as one range, with what lies between. */
static enum hkv_err has_given(struct split *s, const struct docs_pieces *pieces, struct docs_reply *reply, bool *has)
{
    struct collect collect = {.reply = reply};
    for (size_t i = 0; i < pieces->count && reply->given.count > 0 && !collect.has_given; i++)
        TRY(s->replica->ops->scan(s->replica, pieces->items[i], look_for_given, &collect));
    *has = collect.has_given;
    return HKV_OK;
}

static enum hkv_err answer_sub_range(struct docs_reply *reply, const struct docs_config *config, struct split *s,
                                     struct docs_range sub)
{
    struct docs_summary sum;
    struct docs_pieces pieces;
    bool goes_late = config->late_values;
    TRY(docs_range_summarize(s->replica, sub, &sum));
    docs_range_pieces(sub, s->replica->ops->namespace(s->replica), &pieces);
    if (sum.count <= config->split_values && !goes_late) TRY(has_given(s, &pieces, reply, &goes_late));
    if (sum.count > config->split_values || goes_late) {
        struct fingerprint fp;
        docs_summary_fingerprint(&sum, &fp);
        return docs_reply_fingerprint(reply, sub, &fp);
    }
    struct collect collect = {.reply = reply};
    for (size_t i = 0; i < pieces.count; i++) {
        TRY(s->replica->ops->scan(s->replica, pieces.items[i], collect_value, &collect));
        TRY(collect.err);
    }
    return docs_reply_item(reply, sub, false);
}

static enum hkv_err find_bounds(struct split *s, const struct docs_config *config, uint32_t bound_count)
{
    for (uint32_t i = 0; i < bound_count; i++) {
        uint64_t rank = (uint64_t)((unsigned __int128)s->total * (i + 1) / s->ways) % s->total;
        TRY(find_bound(s, rank, config, &s->bounds[i]));
    }
    return HKV_OK;
}

static enum hkv_err answer_all(struct split *s, struct docs_reply *reply, const struct docs_config *config)
{
    bool is_circle = docs_range_is_all(s->range);
    uint32_t bound_count = is_circle ? s->ways : s->ways - 1;
    TRY(find_bounds(s, config, bound_count));
    for (uint32_t i = 0; i < s->ways; i++) {
        struct docs_range sub;
        if (is_circle) {
            sub.x = buf_slice(&s->bounds[i]);
            sub.y = buf_slice(&s->bounds[(i + 1) % s->ways]);
        } else {
            sub.x = i == 0 ? s->range.x : buf_slice(&s->bounds[i - 1]);
            sub.y = i == bound_count ? s->range.y : buf_slice(&s->bounds[i]);
        }
        assert(!docs_range_is_all(sub)); /* that would say "everything" (docs.md 11, pitfall 5) */
        TRY(answer_sub_range(reply, config, s, sub));
    }
    return HKV_OK;
}

enum hkv_err docs_reply_split(struct docs_reply *reply, const struct docs_config *config, struct docs_replica *replica,
                              struct docs_range range, uint64_t count)
{
    assert(count >= 2 && config->split_ways >= 2 && config->split_ways <= DOCS_SPLIT_WAYS_MAX);
    struct split s = {.replica = replica, .range = range, .total = count};
    s.ways = count < config->split_ways ? (uint32_t)count : config->split_ways;
    docs_range_pieces(range, replica->ops->namespace(replica), &s.pieces);
    enum hkv_err err = HKV_OK;
    for (size_t i = 0; i < s.pieces.count && err == HKV_OK; i++) {
        struct docs_summary sum;
        err = replica->ops->summarize(replica, s.pieces.items[i], &sum);
        if (err == HKV_OK) s.counts[i] = sum.count;
    }
    if (err == HKV_OK) err = answer_all(&s, reply, config);
    for (size_t i = 0; i < DOCS_SPLIT_WAYS_MAX; i++) buf_fini(&s.bounds[i]);
    return err;
}
