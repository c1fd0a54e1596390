/* The bytes of a simulated file, in blocks, and what a power cut makes of a write. */
#include <stdlib.h>

#include "store/memdisk_internal.h"

/* splitmix64: every state is a good one. */
uint64_t disk_roll(uint64_t *dice)
{
    uint64_t z = (*dice += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void content_fini(struct disk_content *c)
{
    for (size_t i = 0; i < c->count; i++) free(c->blocks[i]);
    free(c->blocks);
    *c = (struct disk_content){0};
}

size_t content_read(const struct disk_content *c, uint64_t offset, void *out, size_t len)
{
    if (offset >= c->length) return 0;
    if (len > c->length - offset) len = (size_t)(c->length - offset);
    for (size_t done = 0; done < len;) {
        size_t block = (size_t)((offset + done) / DISK_BLOCK_BYTES);
        size_t at = (size_t)((offset + done) % DISK_BLOCK_BYTES);
        size_t part = len - done < DISK_BLOCK_BYTES - at ? len - done : DISK_BLOCK_BYTES - at;
        if (block < c->count && c->blocks[block])
            memcpy((uint8_t *)out + done, c->blocks[block] + at, part);
        else
            memset((uint8_t *)out + done, 0, part);
        done += part;
    }
    return len;
}

size_t content_missing(const struct disk_content *c, uint64_t offset, size_t len)
{
    size_t missing = 0;
    if (len == 0) return 0;
    for (uint64_t b = offset / DISK_BLOCK_BYTES; b <= (offset + len - 1) / DISK_BLOCK_BYTES; b++)
        if (b >= c->count || !c->blocks[b]) missing++;
    return missing;
}

/* Room for a write; blocks that it adds are zeros. */
static bool content_reserve(struct disk_content *c, uint64_t offset, size_t len)
{
    size_t first = (size_t)(offset / DISK_BLOCK_BYTES);
    size_t end = (size_t)((offset + len - 1) / DISK_BLOCK_BYTES) + 1;
    if (end > c->count) {
        size_t count = c->count < 8 ? 8 : c->count;
        while (count < end) count += count / 2;
        uint8_t **blocks = realloc(c->blocks, count * sizeof *blocks);
        if (!blocks) return false;
        memset(blocks + c->count, 0, (count - c->count) * sizeof *blocks);
        c->blocks = blocks;
        c->count = count;
    }
    for (size_t b = first; b < end; b++) {
        if (c->blocks[b]) continue;
        c->blocks[b] = calloc(1, DISK_BLOCK_BYTES);
        if (!c->blocks[b]) return false;
        c->allocated++;
    }
    return true;
}

bool content_write(struct disk_content *c, uint64_t offset, struct slice bytes)
{
    if (bytes.len == 0) return true;
    if (!content_reserve(c, offset, bytes.len)) return false;
    for (size_t done = 0; done < bytes.len;) {
        size_t at = (size_t)((offset + done) % DISK_BLOCK_BYTES);
        size_t part = bytes.len - done < DISK_BLOCK_BYTES - at ? bytes.len - done : DISK_BLOCK_BYTES - at;
        memcpy(c->blocks[(offset + done) / DISK_BLOCK_BYTES] + at, bytes.data + done, part);
        done += part;
    }
    if (offset + bytes.len > c->length) c->length = offset + bytes.len;
    return true;
}

void content_truncate(struct disk_content *c, uint64_t length)
{
    if (length < c->length) {
        size_t keep = (size_t)((length + DISK_BLOCK_BYTES - 1) / DISK_BLOCK_BYTES);
        size_t tail = (size_t)(length % DISK_BLOCK_BYTES);
        for (size_t b = keep; b < c->count; b++) {
            if (c->blocks[b]) c->allocated--;
            free(c->blocks[b]);
            c->blocks[b] = NULL;
        }
        if (tail && keep <= c->count && c->blocks[keep - 1])
            memset(c->blocks[keep - 1] + tail, 0, DISK_BLOCK_BYTES - tail);
    }
    c->length = length;
}

bool content_copy(const struct disk_content *from, struct disk_content *out)
{
    *out = (struct disk_content){.length = from->length};
    for (size_t b = 0; b < from->count; b++) {
        if (!from->blocks[b]) continue;
        if (!content_reserve(out, (uint64_t)b * DISK_BLOCK_BYTES, DISK_BLOCK_BYTES)) {
            content_fini(out);
            return false;
        }
        memcpy(out->blocks[b], from->blocks[b], DISK_BLOCK_BYTES);
    }
    return true;
}

bool content_flip(struct disk_content *c, uint64_t bit)
{
    if (bit / 8 >= c->length) return false;
    size_t block = (size_t)(bit / 8 / DISK_BLOCK_BYTES);
    if (block >= c->count || !c->blocks[block]) return false; /* a hole takes no space on the disk */
    c->blocks[block][bit / 8 % DISK_BLOCK_BYTES] ^= (uint8_t)(1u << bit % 8);
    return true;
}

/* A torn sector: a part of its bytes, at either end, is new. */
static struct slice torn(struct slice sector, struct disk_fate *fate, size_t *start)
{
    size_t cut = sector.len > 1 ? (size_t)(1 + disk_roll(&fate->dice) % (sector.len - 1)) : 0;
    bool front = disk_roll(&fate->dice) % 2 == 0;
    *start = front ? 0 : cut;
    return front ? slice_part(sector, 0, cut) : slice_part(sector, cut, sector.len);
}

static bool sector_apply(uint64_t offset, struct slice sector, struct disk_content *to, struct disk_fate *fate)
{
    unsigned chance = (unsigned)(disk_roll(&fate->dice) % 100);
    if (chance < fate->keep_percent) return content_write(to, offset, sector);
    if (chance >= fate->keep_percent + fate->tear_percent) return true;
    size_t start;
    struct slice part = torn(sector, fate, &start);
    return content_write(to, offset + start, part);
}

bool change_apply(const struct disk_change *change, struct disk_content *to, struct disk_fate *fate)
{
    if (change->truncates) {
        if (!fate || disk_roll(&fate->dice) % 100 < fate->keep_percent) content_truncate(to, change->offset);
        return true;
    }
    if (!fate) return content_write(to, change->offset, slice_of(change->data, change->len));
    for (size_t done = 0; done < change->len;) {
        uint64_t offset = change->offset + done;
        size_t part = MEMDISK_SECTOR_BYTES - (size_t)(offset % MEMDISK_SECTOR_BYTES);
        struct slice sector = slice_part(slice_of(change->data, change->len), done, part);
        if (!sector_apply(offset, sector, to, fate)) return false;
        done += sector.len;
    }
    return true;
}
