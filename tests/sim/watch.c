/* The watcher of a node: applies events to a shadow of what the store shows, over all lives of the node, each time from
 * the position of the last event. A gap, a repeat or a wrong order leaves a shadow that differs. Now and then it
 * pauses. */
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

static void check_position(struct sim_node *node, const struct hkv_event *event)
{
    struct sim_watcher *w = &node->watcher;
    uint64_t number = event->position.number, last = w->position.number;
    bool about_key = event->key != NULL;
    if (w->position.epoch == event->position.epoch && about_key && number <= last)
        sim_fail(node->cluster, "node %u: change %llu is told after change %llu", node->index,
                 (unsigned long long)number, (unsigned long long)last);
    if (w->position.epoch == event->position.epoch && number < last)
        sim_fail(node->cluster, "node %u: the position steps back from %llu to %llu", node->index,
                 (unsigned long long)last, (unsigned long long)number);
    if (w->position.epoch == event->position.epoch && about_key && w->right && number != last + 1)
        sim_fail(node->cluster, "node %u: between changes %llu and %llu, some were not told", node->index,
                 (unsigned long long)last, (unsigned long long)number);
    w->position = event->position;
}

/* Lists again from the start, and is right at the next PROGRESS. */
static void on_overrun(struct sim_node *node, const struct hkv_event *event)
{
    struct sim_watcher *w = &node->watcher;
    sim_say(node->cluster, "node %u: its watcher is overrun", node->index);
    if (!node->forgets_changes)
        sim_fail(node->cluster, "node %u: changes behind %llu are lost to its watcher, the first there is is %llu",
                 node->index, (unsigned long long)w->position.number,
                 (unsigned long long)event->first_available.number);
    sim_mark(node->cluster, SIM_MARK_OVERRUN);
    w->count = 0;
    w->right = false;
    w->position = (struct hkv_position){0};
}

static void on_event(void *arg, const struct hkv_event *event)
{
    struct sim_node *node = arg;
    struct sim_watcher *w = &node->watcher;
    struct sim_cluster *c = node->cluster;
    sim_trace(&c->queue, event->key != NULL ? event->key : "", event->position.number, event->version.stamp_us);
    if (event->type == HKV_EVENT_OVERRUN) on_overrun(node, event);
    if (event->type == HKV_EVENT_EXPIRED) sim_mark(c, SIM_MARK_EXPIRED);
    if (event->type == HKV_EVENT_PROGRESS) w->right = true;
    if (event->type == HKV_EVENT_SYNC_STARTED || event->type == HKV_EVENT_SYNC_FINISHED ||
        event->type == HKV_EVENT_OVERRUN)
        return;
    if (event->position.epoch != 0) check_position(node, event);
    if (event->key == NULL) return;
    if (event->type == HKV_EVENT_LISTED && find(w, event->key) != NULL && !w->right)
        sim_fail(c, "node %u: %s is listed twice", node->index, event->key);
    bool put =
        event->type == HKV_EVENT_PUT_LOCAL || event->type == HKV_EVENT_PUT_REMOTE || event->type == HKV_EVENT_LISTED;
    if (put && event->reason != NULL) sim_mark(c, SIM_MARK_PREFIX_BRINGS_BACK);
    static const struct hkv_version unknown; /* with a reason, the event has the version of the entry that removed */
    if (put)
        shadow_put(node, event->key, event->reason == NULL ? &event->version : &unknown);
    else
        shadow_remove(node, event->key);
    if (sim_chance(&c->queue, 20000) && !c->calm) {
        hkv_watch_pause(w->watch); /* until the next restart, or the end */
        w->paused = true;
    }
}

void sim_watch_begin(struct sim_node *node)
{
    struct sim_watcher *w = &node->watcher;
    struct hkv_watch_options options = {.list = true, .from = w->right ? &w->position : NULL};
    if (!w->right) w->count = 0;
    w->paused = false;
    (void)hkv_watch_with(node->store, &options, on_event, node, &w->watch);
}

void sim_watch_resume(struct sim_node *node)
{
    if (node->watcher.paused && node->watcher.watch != NULL) hkv_watch_resume(node->watcher.watch);
    node->watcher.paused = false;
}

void sim_watch_check(struct sim_node *node)
{
    struct sim_watcher *w = &node->watcher;
    struct sim_cluster *c = node->cluster;
    struct hkv_page *page;
    if (w->watch == NULL || !w->right) sim_fail(c, "node %u: its watcher is not at the end of the log", node->index);
    if (hkv_list_keys(node->store, "", 0, 0, NULL, &page) != HKV_OK) return;
    for (size_t i = 0; i < page->count; i++) {
        const struct hkv_list_entry *e = &page->entries[i];
        struct sim_shadow_key *at = find(w, e->key);
        if (at == NULL) sim_fail(c, "node %u shows %s, of which its watcher was not told", node->index, e->key);
        if (at->version.stamp_us != 0 && at->version.stamp_us != e->version.stamp_us)
            sim_fail(c, "node %u shows %s with stamp %llu, its watcher was told of %llu", node->index, e->key,
                     (unsigned long long)e->version.stamp_us, (unsigned long long)at->version.stamp_us);
    }
    if (w->count != page->count)
        sim_fail(c, "node %u shows %zu keys, its watcher was told of %zu", node->index, page->count, w->count);
    hkv_page_free(page);
}
