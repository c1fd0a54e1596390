/* Names of a simulated disk: a hash map that also keeps them in the order in which they came. */
#include <stdlib.h>

#include "store/memdisk_internal.h"

#define BUCKETS_MIN 64

static size_t bucket_of(const struct disk_names *names, const char *path)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *p = path; *p; p++) h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    return (size_t)(h ^ h >> 32) & (names->bucket_count - 1);
}

struct disk_name *names_find(const struct disk_names *names, const char *path)
{
    if (names->bucket_count == 0) return NULL;
    struct disk_name *n = names->buckets[bucket_of(names, path)];
    while (n && strcmp(n->path, path) != 0) n = n->chain;
    return n;
}

static bool grow(struct disk_names *names)
{
    size_t count = names->bucket_count ? names->bucket_count * 2 : BUCKETS_MIN;
    struct disk_name **buckets = calloc(count, sizeof(struct disk_name *));
    if (!buckets) return names->bucket_count > 0; /* longer chains, then */
    free(names->buckets);
    names->buckets = buckets;
    names->bucket_count = count;
    for (struct disk_name *n = names->first; n; n = n->next) {
        size_t b = bucket_of(names, n->path);
        n->chain = buckets[b];
        buckets[b] = n;
    }
    return true;
}

struct disk_name *names_add(struct disk_names *names, const char *path, struct disk_file *file)
{
    size_t len = strlen(path) + 1;
    struct disk_name *n = calloc(1, sizeof *n + len);
    if (!n) return NULL;
    if (names->count >= names->bucket_count && !grow(names)) {
        free(n);
        return NULL;
    }
    memcpy(n->path, path, len);
    n->file = file;
    n->sequence = ++names->next_sequence;
    n->prev = names->last;
    if (names->last)
        names->last->next = n;
    else
        names->first = n;
    names->last = n;
    size_t b = bucket_of(names, path);
    n->chain = names->buckets[b];
    names->buckets[b] = n;
    names->count++;
    return n;
}

void names_remove(struct disk_names *names, struct disk_name *name)
{
    struct disk_name **at = &names->buckets[bucket_of(names, name->path)];
    while (*at != name) at = &(*at)->chain;
    *at = name->chain;
    if (name->prev)
        name->prev->next = name->next;
    else
        names->first = name->next;
    if (name->next)
        name->next->prev = name->prev;
    else
        names->last = name->prev;
    names->count--;
    free(name);
}

void names_fini(struct disk_names *names)
{
    for (struct disk_name *n = names->first, *next; n; n = next) {
        next = n->next;
        free(n);
    }
    free(names->buckets);
    *names = (struct disk_names){0};
}

bool names_in_folder(const char *path, const char *folder)
{
    size_t len = strlen(folder);
    return strncmp(path, folder, len) == 0 && path[len] == '/' && !strchr(path + len + 1, '/');
}
