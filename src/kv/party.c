/* Numbers of authors and peers. A table of 512 slots keeps those in use at hand; others are looked up. The newest stamp
 * of an author is written with the commit, not with each entry. */
#include <assert.h>
#include <stdlib.h>

#include "kv/internal.h"

static struct kv_party *slot_of(struct kv *kv, const uint8_t id[ID_BYTES])
{
    return &kv->parties.slots[be64_load(id) % KV_PARTY_SLOTS];
}

static struct kv_party *cached(struct kv *kv, const uint8_t id[ID_BYTES])
{
    struct kv_party *p = slot_of(kv, id);
    return p->number && memcmp(p->id, id, ID_BYTES) == 0 ? p : NULL;
}

/* Takes the slot unless its party has a stamp that is only there. */
static void keep(struct kv *kv, const uint8_t id[ID_BYTES], uint64_t number, uint64_t newest_us)
{
    struct kv_party *p = slot_of(kv, id);
    if (p->dirty) return;
    *p = (struct kv_party){.number = number, .newest_us = newest_us};
    memcpy(p->id, id, ID_BYTES);
}

static enum hkv_err record_undo(struct kv *kv, uint64_t number, uint64_t newest_us, bool added)
{
    struct kv_parties *all = &kv->parties;
    if (all->undo_count == all->undo_cap) {
        size_t cap = all->undo_cap ? all->undo_cap * 2 : 64;
        struct kv_party_undo *grown = realloc(all->undo, cap * sizeof *grown);
        if (!grown) return error_set(HKV_E_NOMEM, "undo list of authors");
        all->undo = grown;
        all->undo_cap = cap;
    }
    all->undo[all->undo_count++] = (struct kv_party_undo){number, newest_us, added};
    return HKV_OK;
}

static enum hkv_err add_row(struct kv *kv, const uint8_t id[ID_BYTES], uint64_t *number)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, SQL_PARTY_ADD, &s));
    db_bind_id(s, 1, id);
    TRY(db_run(&kv->db, s));
    *number = (uint64_t)sqlite3_last_insert_rowid(kv->db.handle);
    return record_undo(kv, *number, 0, true);
}

enum hkv_err kv_party_number(struct kv *kv, const uint8_t id[ID_BYTES], bool add, uint64_t *number, uint64_t *newest_us)
{
    const struct kv_party *p = cached(kv, id);
    uint64_t newest = p ? p->newest_us : 0;
    *number = p ? p->number : 0;
    if (!p) {
        sqlite3_stmt *s;
        bool found;
        TRY(db_statement(&kv->db, SQL_PARTY_FIND, &s));
        db_bind_id(s, 1, id);
        TRY(db_row(&kv->db, s, &found));
        if (found) {
            *number = db_column_u64(s, 0);
            newest = db_column_u64(s, 1);
            sqlite3_reset(s);
        } else if (add) {
            TRY(add_row(kv, id, number));
        }
        if (*number) keep(kv, id, *number, newest);
    }
    if (newest_us) *newest_us = newest;
    return HKV_OK;
}

enum hkv_err kv_party_id(struct kv *kv, uint64_t number, uint8_t out[ID_BYTES])
{
    sqlite3_stmt *s;
    bool found;
    TRY(db_statement(&kv->db, SQL_PARTY_ID, &s));
    db_bind_u64(s, 1, number);
    TRY(db_row(&kv->db, s, &found));
    if (!found) return error_set(HKV_E_CORRUPT, "%s: no party has the number %ju", kv->db_path, (uintmax_t)number);
    enum hkv_err err = db_column_id(&kv->db, s, 0, out);
    sqlite3_reset(s);
    return err;
}

static enum hkv_err write_newest(struct kv *kv, uint64_t number, uint64_t newest_us)
{
    sqlite3_stmt *s;
    TRY(db_statement(&kv->db, SQL_PARTY_NEWEST, &s));
    db_bind_u64(s, 1, number);
    db_bind_u64(s, 2, newest_us);
    return db_run(&kv->db, s);
}

enum hkv_err kv_party_saw(struct kv *kv, const uint8_t id[ID_BYTES], uint64_t stamp_us)
{
    uint64_t number, newest_us;
    TRY(kv_party_number(kv, id, true, &number, &newest_us));
    if (stamp_us <= newest_us) return HKV_OK;
    struct kv_party *p = cached(kv, id);
    if (!p) return write_newest(kv, number, stamp_us);
    TRY(record_undo(kv, number, p->newest_us, false));
    p->newest_us = stamp_us;
    p->dirty = true;
    return HKV_OK;
}

enum hkv_err kv_parties_flush(struct kv *kv)
{
    if (kv->parties.undo_count == 0) return HKV_OK;
    for (size_t i = 0; i < KV_PARTY_SLOTS; i++) {
        const struct kv_party *p = &kv->parties.slots[i];
        if (p->dirty) TRY(write_newest(kv, p->number, p->newest_us));
    }
    return HKV_OK;
}

void kv_parties_undo(struct kv *kv, size_t mark)
{
    struct kv_parties *all = &kv->parties;
    assert(mark <= all->undo_count);
    while (all->undo_count > mark) {
        const struct kv_party_undo *u = &all->undo[--all->undo_count];
        for (size_t i = 0; i < KV_PARTY_SLOTS; i++) {
            struct kv_party *p = &all->slots[i];
            if (p->number != u->number) continue;
            p->newest_us = u->newest_us;
            if (u->added) *p = (struct kv_party){0};
            break;
        }
    }
}

void kv_parties_committed(struct kv *kv)
{
    if (kv->parties.undo_count == 0) return;
    kv->parties.undo_count = 0;
    for (size_t i = 0; i < KV_PARTY_SLOTS; i++) kv->parties.slots[i].dirty = false;
}

void kv_parties_forget(struct kv *kv)
{
    kv->parties.undo_count = 0;
    memset(kv->parties.slots, 0, sizeof kv->parties.slots);
}
