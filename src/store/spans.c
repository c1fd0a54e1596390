#include "store/spans.h"

#include <assert.h>
#include <stdlib.h>

#include "store/entries.h"

struct run {
    struct run *left;
    struct run *right;
    uint32_t priority; /* greater than those below */
    bool linked;       /* part of the tree */
    bool dirty;        /* in `touched` */
    struct span_sum own;
    struct span_sum sum; /* own and all below */
    size_t first_len;
    uint8_t first[];
};

enum undo_kind { UNDO_CHANGE, UNDO_LINK, UNDO_UNLINK };

struct undo {
    enum undo_kind kind;
    struct run *run;
    struct span_sum delta; /* UNDO_CHANGE; the count is added modulo 2^64 */
};

struct spans {
    struct db *db;
    struct namespace_id namespace;
    struct run *root;
    size_t runs;
    uint32_t seed;
    struct undo *undo;
    size_t undo_count, undo_cap;
    size_t marked; /* where the last mark was: records before it stay as they are */
    struct run *
        *touched; /* runs whose row differs from the table's, or that left the tree; freed with the transaction */
    size_t touched_count, touched_cap;
};

static void sum_add(struct span_sum *into, const struct span_sum *other)
{
    into->count += other->count;
    fingerprint_xor(&into->xored, &other->xored);
}

static void sum_subtract(struct span_sum *from, const struct span_sum *other)
{
    from->count -= other->count;
    fingerprint_xor(&from->xored, &other->xored);
}

static struct slice run_first(const struct run *r)
{
    return slice_of(r->first, r->first_len);
}

/* ------------------------------------------------------------------------------------------ the treap */

static void run_update(struct run *r)
{
    r->sum = r->own;
    if (r->left) sum_add(&r->sum, &r->left->sum);
    if (r->right) sum_add(&r->sum, &r->right->sum);
}

/* Cuts a tree in two: runs that begin before `at`, and the others. */
static void treap_split(struct run *t, struct slice at, struct run **before, struct run **rest)
{
    if (!t) {
        *before = *rest = NULL;
    } else if (slice_compare(run_first(t), at) < 0) {
        treap_split(t->right, at, &t->right, rest);
        run_update(t);
        *before = t;
    } else {
        treap_split(t->left, at, before, &t->left);
        run_update(t);
        *rest = t;
    }
}

/* Joins two trees of which all of `a` comes before all of `b`. */
static struct run *treap_join(struct run *a, struct run *b)
{
    if (!a || !b) return a ? a : b;
    struct run *top = a->priority >= b->priority ? a : b;
    if (top == a)
        a->right = treap_join(a->right, b);
    else
        b->left = treap_join(a, b->left);
    run_update(top);
    return top;
}

static void tree_link(struct spans *s, struct run *r)
{
    assert(!r->linked);
    struct run *before, *rest;
    r->left = r->right = NULL;
    run_update(r);
    treap_split(s->root, run_first(r), &before, &rest);
    s->root = treap_join(treap_join(before, r), rest);
    r->linked = true;
    s->runs++;
}

static struct run *treap_without(struct run *t, const struct run *r)
{
    assert(t);
    if (t == r) return treap_join(t->left, t->right);
    if (slice_compare(run_first(r), run_first(t)) < 0)
        t->left = treap_without(t->left, r);
    else
        t->right = treap_without(t->right, r);
    run_update(t);
    return t;
}

static void tree_unlink(struct spans *s, struct run *r)
{
    assert(r->linked);
    s->root = treap_without(s->root, r);
    r->left = r->right = NULL;
    r->linked = false;
    s->runs--;
}

static void tree_change(struct spans *s, struct run *r, const struct span_sum *delta)
{
    assert(r->linked);
    for (struct run *t = s->root;;) {
        sum_add(&t->sum, delta);
        if (t == r) break;
        t = slice_compare(run_first(r), run_first(t)) < 0 ? t->left : t->right;
    }
    sum_add(&r->own, delta);
}

/* The run that `id` falls into, and the sums of all runs before it. */
static struct run *tree_find(const struct spans *s, struct slice id, struct span_sum *before)
{
    struct run *found = NULL;
    struct span_sum sum = {0};
    for (struct run *t = s->root; t;) {
        if (slice_compare(run_first(t), id) <= 0) {
            /* Not only everything left of t lies before the run we look for, but also whatever was found so far. */
            if (found) sum_add(&sum, &found->own);
            if (t->left) sum_add(&sum, &t->left->sum);
            found = t;
            t = t->right;
        } else {
            t = t->left;
        }
    }
    assert(found); /* the first run begins at the empty id */
    if (before) *before = sum;
    return found;
}

static struct run *tree_next(const struct spans *s, const struct run *r)
{
    struct run *found = NULL;
    for (struct run *t = s->root; t;) {
        bool after = slice_compare(run_first(t), run_first(r)) > 0;
        if (after) found = t;
        t = after ? t->left : t->right;
    }
    return found;
}

static struct run *tree_previous(const struct spans *s, const struct run *r)
{
    struct run *found = NULL;
    for (struct run *t = s->root; t;) {
        bool before = slice_compare(run_first(t), run_first(r)) < 0;
        if (before) found = t;
        t = before ? t->right : t->left;
    }
    return found;
}

/* The run that holds rank `*n`, which becomes the rank within the run; NULL past the end. */
static struct run *tree_select(const struct spans *s, uint64_t *n)
{
    struct run *t = s->root;
    if (!t || *n >= t->sum.count) return NULL;
    for (;;) {
        uint64_t left = t->left ? t->left->sum.count : 0;
        if (*n < left) {
            t = t->left;
        } else if (*n - left < t->own.count) {
            *n -= left;
            return t;
        } else {
            *n -= left + t->own.count;
            t = t->right;
        }
        assert(t);
    }
}

static struct run *run_new(struct spans *s, struct slice first, const struct span_sum *own)
{
    struct run *r = calloc(1, sizeof *r + first.len);
    if (!r) return NULL;
    s->seed ^= s->seed << 13;
    s->seed ^= s->seed >> 17;
    s->seed ^= s->seed << 5;
    r->priority = s->seed;
    r->own = *own;
    r->first_len = first.len;
    if (first.len) memcpy(r->first, first.data, first.len);
    return r;
}

/* ------------------------------------------------------------------------------------------ undo, rows */

/* Room for `undos` more records and as many touched runs, so that a change that has begun cannot fail. */
static enum hkv_err room_for(struct spans *s, size_t undos)
{
    if (s->undo_count + undos > s->undo_cap) {
        size_t cap = (s->undo_cap + undos) * 2;
        struct undo *grown = realloc(s->undo, cap * sizeof *grown);
        if (!grown) return error_set(HKV_E_NOMEM, "undo list of the fingerprint tree");
        s->undo = grown;
        s->undo_cap = cap;
    }
    if (s->touched_count + undos > s->touched_cap) {
        size_t cap = (s->touched_cap + undos) * 2;
        struct run **grown = realloc(s->touched, cap * sizeof *grown);
        if (!grown) return error_set(HKV_E_NOMEM, "changed runs of the fingerprint tree");
        s->touched = grown;
        s->touched_cap = cap;
    }
    return HKV_OK;
}

static void record(struct spans *s, enum undo_kind kind, struct run *r, const struct span_sum *delta)
{
    assert(s->undo && s->undo_count < s->undo_cap);
    s->undo[s->undo_count++] = (struct undo){kind, r, delta ? *delta : (struct span_sum){0}};
    if (r->dirty) return;
    assert(s->touched_count < s->touched_cap);
    r->dirty = true;
    s->touched[s->touched_count++] = r;
}

/* Changes of one run in a row are undone together: a removal of very many entries has few records. */
static void change_run(struct spans *s, struct run *r, const struct span_sum *delta)
{
    struct undo *last = s->undo_count > s->marked ? &s->undo[s->undo_count - 1] : NULL;
    if (last && last->kind == UNDO_CHANGE && last->run == r)
        sum_add(&last->delta, delta);
    else
        record(s, UNDO_CHANGE, r, delta);
    tree_change(s, r, delta);
}

size_t spans_mark(struct spans *s)
{
    s->marked = s->undo_count;
    return s->undo_count;
}

void spans_undo(struct spans *s, size_t mark)
{
    assert(mark <= s->undo_count);
    while (s->undo_count > mark) {
        struct undo *u = &s->undo[--s->undo_count];
        if (u->kind == UNDO_LINK) {
            tree_unlink(s, u->run);
        } else if (u->kind == UNDO_UNLINK) {
            tree_link(s, u->run);
        } else {
            u->delta.count = 0 - u->delta.count;
            tree_change(s, u->run, &u->delta);
        }
    }
}

static enum hkv_err row_remove(struct spans *s, const struct run *r)
{
    sqlite3_stmt *q;
    TRY(db_statement(s->db, SQL_SPAN_REMOVE, &q));
    db_bind_slice(q, 1, run_first(r));
    return db_run(s->db, q);
}

static enum hkv_err row_put(struct spans *s, const struct run *r)
{
    sqlite3_stmt *q;
    TRY(db_statement(s->db, SQL_SPAN_PUT, &q));
    db_bind_slice(q, 1, run_first(r));
    db_bind_u64(q, 2, r->own.count);
    db_bind_id(q, 3, r->own.xored.bytes);
    return db_run(s->db, q);
}

enum hkv_err spans_flush(struct spans *s)
{
    /* Removed rows first: a run of the same first id may have come back. */
    for (size_t i = 0; i < s->touched_count; i++)
        if (!s->touched[i]->linked) TRY(row_remove(s, s->touched[i]));
    for (size_t i = 0; i < s->touched_count; i++)
        if (s->touched[i]->linked) TRY(row_put(s, s->touched[i]));
    return HKV_OK;
}

/* Whether the row is that of a run in the tree. */
static bool row_agrees(const struct spans *s, sqlite3_stmt *q)
{
    struct slice first = db_column_slice(q, 0);
    struct slice print = db_column_slice(q, 2);
    const struct run *r = tree_find(s, first, NULL);
    return slice_equal(run_first(r), first) && r->own.count == db_column_u64(q, 1) &&
           slice_equal(slice_of(r->own.xored.bytes, ID_BYTES), print);
}

enum hkv_err spans_agree(struct spans *s, bool *agree)
{
    sqlite3_stmt *q;
    size_t rows = 0;
    *agree = true;
    if (s->touched_count > 0) return HKV_OK;
    TRY(db_statement(s->db, SQL_SPAN_LIST, &q));
    for (bool found; *agree; rows++) {
        TRY(db_row(s->db, q, &found));
        if (!found) break;
        *agree = row_agrees(s, q);
    }
    sqlite3_reset(q);
    /* The run at the empty id has no row before its first change. */
    *agree = *agree && (rows == s->runs || (rows == 0 && s->runs == 1 && s->root->own.count == 0));
    return HKV_OK;
}

void spans_committed(struct spans *s)
{
    for (size_t i = 0; i < s->touched_count; i++) {
        s->touched[i]->dirty = false;
        if (!s->touched[i]->linked) free(s->touched[i]);
    }
    s->touched_count = s->undo_count = s->marked = 0;
}

void spans_rolled_back(struct spans *s)
{
    spans_undo(s, 0);
    spans_committed(s);
}

/* ------------------------------------------------------------------------------------------ open, close, sums */

static void tree_free(struct run *t)
{
    if (!t) return;
    tree_free(t->left);
    tree_free(t->right);
    free(t);
}

void spans_free(struct spans *s)
{
    if (!s) return;
    spans_rolled_back(s);
    tree_free(s->root);
    free(s->undo);
    free(s->touched);
    free(s);
}

static enum hkv_err load_rows(struct spans *s)
{
    sqlite3_stmt *q;
    TRY(db_statement(s->db, SQL_SPAN_LIST, &q));
    for (bool found;;) {
        TRY(db_row(s->db, q, &found));
        if (!found) return HKV_OK;
        struct span_sum own = {.count = db_column_u64(q, 1)};
        enum hkv_err err = db_column_id(s->db, q, 2, own.xored.bytes);
        struct run *r = err == HKV_OK ? run_new(s, db_column_slice(q, 0), &own) : NULL;
        if (!r) {
            sqlite3_reset(q);
            return err != HKV_OK ? err : error_set(HKV_E_NOMEM, "reading the fingerprint tree");
        }
        tree_link(s, r);
    }
}

/* The run at the empty id exists always; its row appears with its first change. */
static enum hkv_err first_run(struct spans *s)
{
    struct run *t = s->root;
    while (t && t->left) t = t->left;
    if (t && t->first_len == 0) return HKV_OK;
    struct run *r = run_new(s, (struct slice){0}, &(struct span_sum){0});
    if (!r) return error_set(HKV_E_NOMEM, "reading the fingerprint tree");
    tree_link(s, r);
    return HKV_OK;
}

enum hkv_err spans_open(struct db *db, const struct namespace_id *namespace, struct spans **out)
{
    struct spans *s = calloc(1, sizeof *s);
    if (!s) return error_set(HKV_E_NOMEM, "opening the fingerprint tree");
    s->db = db;
    s->namespace = *namespace;
    s->seed = 0x9e3779b9;
    enum hkv_err err = load_rows(s);
    if (err == HKV_OK) err = first_run(s);
    if (err != HKV_OK) {
        spans_free(s);
        return err;
    }
    *out = s;
    return HKV_OK;
}

void spans_total(const struct spans *s, struct span_sum *out)
{
    *out = s->root->sum;
}

size_t spans_runs(const struct spans *s)
{
    return s->runs;
}

/* Reads the row of SQL_ENTRY_PRINTS: what an entry's fingerprint is made of. */
static enum hkv_err read_print(struct spans *s, sqlite3_stmt *q, struct entry_row *row, struct fingerprint *print)
{
    TRY(entries_read_id(s->db, q, &row->author, &row->key));
    row->record.stamp_us = db_column_u64(q, 2);
    TRY(db_column_id(s->db, q, 3, row->record.hash.bytes));
    entries_fingerprint(&s->namespace, row, print);
    return HKV_OK;
}

/* Adds up the entries from `from` on, in order, until `to` (when not empty) or until `max` of them; `last` gets the id
 * of the last one and `next` that of the one after them, when asked for. */
static enum hkv_err walk(struct spans *s, struct slice from, struct slice to, uint64_t max, struct span_sum *sum,
                         struct buf *last, struct buf *next)
{
    sqlite3_stmt *q;
    TRY(entries_scan(s->db, SQL_ENTRY_PRINTS, from, &q));
    enum hkv_err err = HKV_OK;
    *sum = (struct span_sum){0};
    for (bool found = true; err == HKV_OK;) {
        struct entry_row row;
        struct fingerprint print;
        err = db_row(s->db, q, &found);
        if (err != HKV_OK || !found) break;
        err = read_print(s, q, &row, &print);
        if (err != HKV_OK || (to.len && entries_id_compare(&row.author, row.key, to) >= 0)) break;
        if (sum->count == max) {
            if (next) err = entries_id(next, &row.author, row.key);
            break;
        }
        fingerprint_xor(&sum->xored, &print);
        sum->count++;
        if (last && sum->count == max) err = entries_id(last, &row.author, row.key);
    }
    sqlite3_reset(q);
    return err;
}

/* The id of rank `n` among those from `from` on; empty when there are fewer. */
static enum hkv_err id_at(struct spans *s, struct slice from, uint64_t n, struct buf *id)
{
    sqlite3_stmt *q;
    TRY(entries_scan(s->db, SQL_PLACE_SCAN, from, &q));
    enum hkv_err err = HKV_OK;
    for (bool found = true; err == HKV_OK; n--) {
        struct author_id author;
        struct slice key;
        err = db_row(s->db, q, &found);
        if (err != HKV_OK || !found) break;
        if (n > 0) continue;
        err = entries_read_id(s->db, q, &author, &key);
        if (err == HKV_OK) err = entries_id(id, &author, key);
        break;
    }
    sqlite3_reset(q);
    return err;
}

/* P(id): the sums of all entries before `id`. */
static enum hkv_err sum_before(struct spans *s, struct slice id, struct span_sum *out)
{
    struct run *r = tree_find(s, id, out);
    if (slice_equal(run_first(r), id) || r->own.count == 0) return HKV_OK;
    struct span_sum part;
    TRY(walk(s, run_first(r), id, UINT64_MAX, &part, NULL, NULL));
    sum_add(out, &part);
    return HKV_OK;
}

enum hkv_err spans_sum(struct spans *s, struct slice from, struct slice to, struct span_sum *out)
{
    *out = s->root->sum;
    if (from.len && to.len && tree_find(s, from, NULL) == tree_find(s, to, NULL))
        return walk(s, from, to, UINT64_MAX, out, NULL, NULL);
    if (to.len) TRY(sum_before(s, to, out));
    if (from.len) {
        struct span_sum before;
        TRY(sum_before(s, from, &before));
        sum_subtract(out, &before);
    }
    return HKV_OK;
}

/* The id of rank `n` among all, which are more. */
static enum hkv_err id_of_rank(struct spans *s, uint64_t n, struct buf *id)
{
    struct run *r = tree_select(s, &n);
    assert(r);
    TRY(id_at(s, run_first(r), n, id));
    if (id->len == 0)
        return error_set(HKV_E_CORRUPT, "%s: the table span counts more entries than there are", s->db->path);
    return HKV_OK;
}

enum hkv_err spans_select(struct spans *s, struct slice from, uint64_t n, struct buf *id)
{
    struct span_sum before = {0};
    struct buf found = {0};
    bool is_near = from.len && n < SPAN_RUN_MAX; /* no farther than a run's start may be */
    if (from.len && !is_near) TRY(sum_before(s, from, &before));
    if (n >= s->root->sum.count - before.count) return HKV_E_NOT_FOUND;
    enum hkv_err err = is_near ? id_at(s, from, n, &found) : id_of_rank(s, before.count + n, &found);
    if (err == HKV_OK && found.len == 0) err = HKV_E_NOT_FOUND;
    if (err == HKV_OK) err = buf_append_slice(id, buf_slice(&found));
    buf_fini(&found);
    return err;
}

/* ------------------------------------------------------------------------------------------ changes */

/* A first id for the run that begins with `right`: its shortest beginning that lies behind `left`. */
static struct slice separator(struct slice left, struct slice right)
{
    size_t n = 0;
    while (n < left.len && n < right.len && left.data[n] == right.data[n]) n++;
    assert(n < right.len);
    return slice_part(right, 0, n + 1);
}

/* Ends run `r` before `first`; what `tail` sums up becomes a new run there. */
static enum hkv_err cut(struct spans *s, struct run *r, struct slice first, const struct span_sum *tail)
{
    struct run *added = run_new(s, first, tail);
    enum hkv_err err = added ? room_for(s, 2) : error_set(HKV_E_NOMEM, "cutting a run of the fingerprint tree");
    if (err != HKV_OK) {
        free(added);
        return err;
    }
    struct span_sum minus = {.count = 0 - tail->count, .xored = tail->xored};
    change_run(s, r, &minus);
    record(s, UNDO_LINK, added, NULL);
    tree_link(s, added);
    return HKV_OK;
}

/* Whether `id` is the last entry of its run; then `previous` is the one before it. */
static enum hkv_err is_last(struct spans *s, struct run *r, struct slice id, struct buf *previous, bool *out)
{
    struct buf after = {0};
    struct run *next = tree_next(s, r);
    bool found = false;
    *out = false;
    enum hkv_err err = entries_id_after(s->db, id, &after, &found);
    bool last = err == HKV_OK && (!found || (next && slice_compare(buf_slice(&after), run_first(next)) >= 0));
    buf_fini(&after);
    return last ? entries_id_before(s->db, id, previous, out) : err;
}

/* Cuts a run that has grown too long: before its newest entry when that is its last, else in the middle. */
static enum hkv_err cut_long(struct spans *s, struct run *r, struct slice id, const struct fingerprint *print)
{
    struct buf left = {0};
    struct buf right = {0};
    struct span_sum tail = {.count = 1, .xored = *print};
    bool last;
    enum hkv_err err = is_last(s, r, id, &left, &last);
    if (err == HKV_OK && last) {
        err = cut(s, r, separator(buf_slice(&left), id), &tail);
    } else if (err == HKV_OK) {
        struct span_sum head = {0};
        err = walk(s, run_first(r), (struct slice){0}, r->own.count / 2, &head, &left, &right);
        if (err == HKV_OK && right.len == 0)
            err = error_set(HKV_E_CORRUPT, "%s: the table span counts more entries than there are", s->db->path);
        tail = r->own;
        sum_subtract(&tail, &head);
        if (err == HKV_OK) err = cut(s, r, separator(buf_slice(&left), buf_slice(&right)), &tail);
    }
    buf_fini(&left);
    buf_fini(&right);
    return err;
}

/* Gives the entries of `r` to `into`, its neighbour on the left, and takes it out of the tree. */
static void join(struct spans *s, struct run *into, struct run *r)
{
    change_run(s, into, &r->own);
    record(s, UNDO_UNLINK, r, NULL);
    tree_unlink(s, r);
}

static enum hkv_err join_short(struct spans *s, struct run *r)
{
    struct run *previous = tree_previous(s, r);
    struct run *next = tree_next(s, r);
    TRY(room_for(s, 2));
    if (previous && previous->own.count + r->own.count <= SPAN_RUN_JOINED)
        join(s, previous, r);
    else if (next && next->own.count + r->own.count <= SPAN_RUN_JOINED)
        join(s, r, next);
    return HKV_OK;
}

enum hkv_err spans_change(struct spans *s, struct slice id, int count, const struct fingerprint *change)
{
    TRY(room_for(s, 1));
    struct run *r = tree_find(s, id, NULL);
    struct span_sum delta = {.count = (uint64_t)(int64_t)count, .xored = *change};
    assert(count >= 0 || r->own.count > 0);
    change_run(s, r, &delta);
    if (r->own.count > SPAN_RUN_MAX) return cut_long(s, r, id, change);
    if (count < 0 && r->own.count < SPAN_RUN_MIN) return join_short(s, r);
    return HKV_OK;
}

/* ------------------------------------------------------------------------------------------ rebuild */

/* The run that is being filled, and the last id that it got. */
struct filling {
    struct run *run;
    struct buf last;
};

static enum hkv_err rebuild_add(struct spans *s, struct filling *f, struct slice id, const struct fingerprint *print)
{
    if (!f->run || f->run->own.count == SPAN_RUN_REBUILT) {
        if (f->run) {
            tree_link(s, f->run);
            TRY(row_put(s, f->run));
        }
        struct slice first = f->run ? separator(buf_slice(&f->last), id) : (struct slice){0};
        f->run = run_new(s, first, &(struct span_sum){0});
        if (!f->run) return error_set(HKV_E_NOMEM, "rebuilding the fingerprint tree");
    }
    f->run->own.count++;
    fingerprint_xor(&f->run->own.xored, print);
    return buf_assign(&f->last, id);
}

static enum hkv_err rebuild_runs(struct spans *s, struct filling *f)
{
    sqlite3_stmt *q;
    struct buf id = {0};
    enum hkv_err err = HKV_OK;
    TRY(entries_scan(s->db, SQL_ENTRY_PRINTS, (struct slice){0}, &q));
    for (bool found; err == HKV_OK;) {
        struct entry_row row;
        struct fingerprint print;
        err = db_row(s->db, q, &found);
        if (err != HKV_OK || !found) break;
        err = read_print(s, q, &row, &print);
        if (err == HKV_OK) err = entries_id(&id, &row.author, row.key);
        if (err == HKV_OK) err = rebuild_add(s, f, buf_slice(&id), &print);
    }
    sqlite3_reset(q);
    buf_fini(&id);
    if (err != HKV_OK || !f->run) return err;
    tree_link(s, f->run);
    return row_put(s, f->run);
}

enum hkv_err spans_rebuild(struct db *db, const struct namespace_id *namespace, struct spans **out)
{
    sqlite3_stmt *q;
    struct filling f = {0};
    TRY(db_statement(db, SQL_SPAN_CLEAR, &q));
    TRY(db_run(db, q));
    struct spans *s = calloc(1, sizeof *s);
    if (!s) return error_set(HKV_E_NOMEM, "rebuilding the fingerprint tree");
    s->db = db;
    s->namespace = *namespace;
    s->seed = 0x9e3779b9;
    enum hkv_err err = rebuild_runs(s, &f);
    if (f.run && !f.run->linked) free(f.run);
    buf_fini(&f.last);
    if (err == HKV_OK) err = first_run(s);
    if (err != HKV_OK) {
        spans_free(s);
        return err;
    }
    *out = s;
    return HKV_OK;
}
