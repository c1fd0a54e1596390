/* The watcher of a node: applies events to a shadow of what the store shows. A gap, a repeat or a wrong order leaves a
 * shadow that differs. */
#include "sim/cluster.h"

#include <stdio.h>

static struct sim_shadow_key *find(struct sim_watcher *w, const char *key)
{
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->keys[i].key, key) == 0) return &w->keys[i];
    return NULL;
}

static void shadow_put(struct sim_node *node, const char *key, const struct hkv_version *version)
{
    struct sim_watcher *w = &node->watcher;
    struct sim_shadow_key *at = find(w, key);
    if (at == NULL) {
        if (w->count == SIM_SHADOW_MAX || strlen(key) >= SIM_KEY_MAX) sim_fail(node->cluster, "too many keys to watch");
        at = &w->keys[w->count++];
        (void)snprintf(at->key, sizeof at->key, "%s", key);
    }
    at->version = *version;
}

static void shadow_remove(struct sim_node *node, const char *key)
{
    struct sim_shadow_key *at = find(&node->watcher, key);
    if (at != NULL) *at = node->watcher.keys[--node->watcher.count];
}

static void on_event(void *arg, const struct hkv_event *event)
{
    struct sim_node *node = arg;
    struct sim_watcher *w = &node->watcher;
    struct sim_cluster *c = node->cluster;
    if (event->type == HKV_EVENT_OVERRUN) sim_mark(c, SIM_MARK_OVERRUN);
    if (event->type == HKV_EVENT_EXPIRED) sim_mark(c, SIM_MARK_EXPIRED);
    if (event->key == NULL) return;
    sim_trace(&c->queue, event->key, event->position, event->version.stamp_us);
    if (event->epoch == w->epoch && event->position <= w->position)
        sim_fail(c, "node %u: event %llu comes after event %llu", node->index, (unsigned long long)event->position,
                 (unsigned long long)w->position);
    w->epoch = event->epoch;
    w->position = event->position;
    bool put = event->type == HKV_EVENT_PUT_LOCAL || event->type == HKV_EVENT_PUT_REMOTE;
    if (put && event->reason != NULL) sim_mark(c, SIM_MARK_PREFIX_BRINGS_BACK);
    if (put)
        shadow_put(node, event->key, &event->version);
    else
        shadow_remove(node, event->key);
}

void sim_watch_begin(struct sim_node *node)
{
    struct sim_watcher *w = &node->watcher;
    struct hkv_page *page;
    if (hkv_list_keys(node->store, "", 0, 0, NULL, &page) != HKV_OK) return;
    w->count = 0;
    w->position = 0;
    for (size_t i = 0; i < page->count; i++) shadow_put(node, page->entries[i].key, &page->entries[i].version);
    hkv_page_free(page);
    w->begun = hkv_watch(node->store, "", 0, on_event, node, &w->watch) == HKV_OK;
}

void sim_watch_check(struct sim_node *node)
{
    struct sim_watcher *w = &node->watcher;
    struct sim_cluster *c = node->cluster;
    struct hkv_page *page;
    if (!w->begun || hkv_list_keys(node->store, "", 0, 0, NULL, &page) != HKV_OK) return;
    for (size_t i = 0; i < page->count; i++) {
        const struct hkv_list_entry *e = &page->entries[i];
        struct sim_shadow_key *at = find(w, e->key);
        if (at == NULL) sim_fail(c, "node %u shows %s, of which its watcher was not told", node->index, e->key);
    }
    if (w->count != page->count)
        sim_fail(c, "node %u shows %zu keys, its watcher was told of %zu", node->index, page->count, w->count);
    hkv_page_free(page);
}
