/* Watches over a real store in a world of one thread: the test decides when a commit is published, when the callback
 * thread has its turn, and when the clock goes on. */
#include "fixture/kv_store.h"

#include <stdio.h>
#include <stdlib.h>

#include "kv/internal.h"
#include "node/watch.h"
#include "random.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#define KEYS        24
#define EVENTS_MAX  64
#define WATCHERS    5
#define CHANGES_MAX 32768
#define TEXT_MAX    4096
#define PROP_ROUNDS 8
#define PROP_STEPS  1000

/* ------------------------------------------------------------------------------------------ the world */

struct queue {
    struct job *first, **last;
};

static struct {
    struct fixture *f;
    struct watch_hub hub;
    struct queue queues[ENV_CALLBACK + 1];
    struct env_timer *timer;
    uint64_t mono_us;
    const struct env_ops *store_ops;
} world;

static uint64_t world_mono(struct env *env)
{
    (void)env;
    return world.mono_us;
}

static uint64_t world_wall(struct env *env)
{
    return world.store_ops->wall_us(env);
}

static void world_random(struct env *env, void *out, size_t len)
{
    world.store_ops->random(env, out, len);
}

static void world_run_on(struct env *env, enum env_thread thread, struct job *job)
{
    (void)env;
    job->next = NULL;
    *world.queues[thread].last = job;
    world.queues[thread].last = &job->next;
}

static void world_timer_set(struct env *env, struct env_timer *timer, uint64_t due_us)
{
    (void)env;
    timer->due_us = due_us;
    world.timer = timer;
}

static void world_timer_cancel(struct env *env, struct env_timer *timer)
{
    (void)env;
    timer->due_us = 0;
    world.timer = NULL;
}

static const struct env_ops world_ops = {
    .wall_us = world_wall,
    .mono_us = world_mono,
    .random = world_random,
    .timer_set = world_timer_set,
    .timer_cancel = world_timer_cancel,
    .run_on = world_run_on,
};

static bool run_one(enum env_thread thread)
{
    struct queue *q = &world.queues[thread];
    struct job *job = q->first;
    if (job == NULL) return false;
    q->first = job->next;
    if (q->first == NULL) q->last = &q->first;
    job->run(job);
    return true;
}

static void run_all(void)
{
    while (run_one(ENV_NETWORK) || run_one(ENV_CALLBACK)) continue;
}

static void let_time_pass(uint64_t us)
{
    uint64_t end_us = world.mono_us + us;
    run_all();
    while (world.timer != NULL && world.timer->due_us <= end_us) {
        struct env_timer *timer = world.timer;
        world.mono_us = timer->due_us;
        world.timer = NULL;
        timer->due_us = 0;
        timer->fire(timer);
        run_all();
    }
    world.mono_us = end_us;
}

static void hub_open(void)
{
    for (size_t i = 0; i <= ENV_CALLBACK; i++) world.queues[i] = (struct queue){.last = &world.queues[i].first};
    world.timer = NULL;
    watch_hub_init(&world.hub, &world.f->env, world.f->kv);
}

static void hub_shut(void)
{
    watch_hub_end_timer(&world.hub);
    watch_hub_close(&world.hub);
    run_all();
    watch_hub_fini(&world.hub);
}

static int setup(void **state)
{
    if (fixture_setup(state) != 0) return 1;
    world.f = *state;
    if (world.store_ops == NULL || world.f->env.ops != &world_ops) world.store_ops = world.f->env.ops;
    world.f->env.ops = &world_ops;
    world.mono_us = 1;
    hub_open();
    return 0;
}

static int teardown(void **state)
{
    hub_shut();
    return fixture_teardown(state);
}

static void restart(void)
{
    hub_shut();
    fixture_reopen(world.f);
    hub_open();
}

/* As the committer does after a commit. */
static void publish(void)
{
    struct kv_changes changes;
    kv_take_changes(world.f->kv, &changes);
    watch_publish_changes(&world.hub, &changes);
    kv_changes_fini(&changes);
}

static void put(const char *key, const char *value)
{
    OK(fixture_put(world.f, key, value));
    publish();
}

static void put_many(int count)
{
    for (int i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i % 10);
        put(key, "v");
    }
}

static void reset_store(uint8_t name)
{
    struct namespace_id other = {{name}};
    OK(kv_reset(world.f->kv, &other));
    world.f->config.namespace = other;
    watch_publish_epoch(&world.hub);
}

/* ------------------------------------------------------------------------------------------ a watcher that notes */

struct notes {
    struct hkv_watch *watch;
    char text[TEXT_MAX]; /* "TYPE key@number" of each event, joined by ", " */
    size_t count;
    struct hkv_position last;
    struct hkv_position first_available;
    size_t stop_after; /* 0: never */
    bool close_then;   /* else it pauses */
};

static const char *type_name(enum hkv_event_type type)
{
    static const char *const names[] = {[HKV_EVENT_PUT_LOCAL] = "put",
                                        [HKV_EVENT_DELETE_LOCAL] = "delete",
                                        [HKV_EVENT_PUT_REMOTE] = "put-remote",
                                        [HKV_EVENT_EXPIRED] = "expired",
                                        [HKV_EVENT_DELETE_REMOTE] = "delete-remote",
                                        [HKV_EVENT_LISTED] = "listed",
                                        [HKV_EVENT_PROGRESS] = "PROGRESS",
                                        [HKV_EVENT_OVERRUN] = "OVERRUN",
                                        [HKV_EVENT_SYNC_STARTED] = "sync-started",
                                        [HKV_EVENT_SYNC_FINISHED] = "sync-finished"};
    return names[type];
}

static void note(void *arg, const struct hkv_event *event)
{
    struct notes *n = arg;
    size_t used = strlen(n->text);
    assert_true(n->stop_after == 0 || n->count < n->stop_after);
    assert_int_equal(event->position.epoch == 0, event->position.number == 0 && event->position.epoch == 0);
    if (used + 64 < sizeof n->text) {
        used +=
            (size_t)snprintf(n->text + used, sizeof n->text - used, "%s%s", used ? ", " : "", type_name(event->type));
        if (event->reason != NULL)
            used += (size_t)snprintf(n->text + used, sizeof n->text - used, " by-%s", event->reason);
        if (event->key != NULL) used += (size_t)snprintf(n->text + used, sizeof n->text - used, " %s", event->key);
        if (event->position.epoch != 0)
            (void)snprintf(n->text + used, sizeof n->text - used, "@%llu", (unsigned long long)event->position.number);
    }
    if (event->position.epoch != 0) n->last = event->position;
    if (event->type == HKV_EVENT_OVERRUN) n->first_available = event->first_available;
    if (++n->count != n->stop_after) return;
    if (n->close_then)
        watch_close(n->watch);
    else
        watch_pause(n->watch);
}

static void open_with(struct notes *n, struct hkv_watch_options options)
{
    n->text[0] = '\0';
    n->count = 0;
    OK(watch_open(&world.hub, &options, note, n, &n->watch));
}

static void assert_noted(struct notes *n, const char *expected)
{
    run_all();
    assert_string_equal(n->text, expected);
    n->text[0] = '\0';
}

/* ------------------------------------------------------------------------------------------ single properties */

static void a_watch_from_now_says_from_where_and_then_everything(void **state)
{
    struct notes n = {0};
    (void)state;
    put("before", "v");
    open_with(&n, (struct hkv_watch_options){0});
    put("a", "v");
    assert_noted(&n, "put a@2, PROGRESS@2");
    put("a", NULL);
    put("b", "v");
    assert_noted(&n, "delete a@3, put b@4");
    watch_close(n.watch);
    open_with(&n, (struct hkv_watch_options){0});
    assert_noted(&n, "PROGRESS@4");
    watch_close(n.watch);
}

static void a_watch_goes_on_behind_a_position_over_restarts(void **state)
{
    struct notes n = {0};
    (void)state;
    open_with(&n, (struct hkv_watch_options){0});
    put_many(2);
    run_all();
    watch_close(n.watch);
    put_many(1);
    restart();
    put_many(1);
    open_with(&n, (struct hkv_watch_options){.from = &n.last});
    put("new", "v");
    assert_noted(&n, "put k0@3, put k0@4, put new@5, PROGRESS@5");
    watch_close(n.watch);
}

static void only_keys_of_the_prefix_are_told(void **state)
{
    struct notes n = {0};
    struct hkv_position start = {kv_epoch(world.f->kv), 0};
    (void)state;
    put("p/1", "v");
    put("q/1", "v");
    put("p", "v");
    open_with(&n, (struct hkv_watch_options){.prefix = "p/", .prefix_bytes = 2, .from = &start});
    put("q/2", "v");
    put("p/2", "v");
    assert_noted(&n, "put p/1@1, put p/2@5, PROGRESS@5");
    watch_close(n.watch);
}

static void expiry_and_removal_by_prefix_are_told_live_and_from_the_log(void **state)
{
    struct fixture *f = *state;
    struct notes live = {0}, late = {0};
    struct hkv_position start = {kv_epoch(f->kv), 0};
    uint64_t next_due_us;
    uint8_t content[14];
    open_with(&live, (struct hkv_watch_options){0});
    run_all();
    live.text[0] = '\0';
    memcpy(content, "\xf1\x68\x6b\x76\x02", 5);
    be64_store(content + 5, f->wall_us + 1000);
    content[13] = 'v';
    struct kv_write w = {0};
    OK(fixture_write(f, fixture_key("soon"), slice_of(content, sizeof content), &w));
    publish();
    f->wall_us += 2000;
    OK(kv_begin(f->kv));
    OK(kv_expire_due(f->kv, f->wall_us, 10, &next_due_us));
    OK(kv_commit(f->kv));
    publish();
    put("dir/a", "v");
    struct entry e = fixture_entry(f, 's', slice_of_text("dir"), f->wall_us + 5000, slice_of_text("x"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    publish();
    const char *expected = "put soon@1, expired soon@2, put dir/a@3, delete-remote by-prefix dir/a@4";
    assert_noted(&live, expected);
    open_with(&late, (struct hkv_watch_options){.from = &start});
    char with_progress[256];
    snprintf(with_progress, sizeof with_progress, "%s, PROGRESS@4", expected);
    assert_noted(&late, with_progress);
    watch_close(live.watch);
    watch_close(late.watch);
}

static void what_the_log_lost_is_an_overrun_that_says_where_it_goes_on(void **state)
{
    struct fixture *f = *state;
    struct notes n = {0};
    f->config.changes_kept = 3;
    restart();
    put_many(10);
    struct hkv_position old = {kv_epoch(f->kv), 6};
    open_with(&n, (struct hkv_watch_options){.from = &old});
    assert_noted(&n, "OVERRUN@7, put k7@8, put k8@9, put k9@10, PROGRESS@10");
    assert_int_equal(n.first_available.number, 8);
    watch_close(n.watch);
    old.number = 7; /* just not too old */
    open_with(&n, (struct hkv_watch_options){.from = &old});
    assert_noted(&n, "put k7@8, put k8@9, put k9@10, PROGRESS@10");
    watch_close(n.watch);
    old.number = 11; /* of a history that was lost */
    open_with(&n, (struct hkv_watch_options){.from = &old});
    assert_noted(&n, "OVERRUN@7, put k7@8, put k8@9, put k9@10, PROGRESS@10");
    watch_close(n.watch);
    struct hkv_position other = {old.epoch + 2, 9};
    open_with(&n, (struct hkv_watch_options){.from = &other, .list = true, .prefix = "k8", .prefix_bytes = 2});
    assert_noted(&n, "OVERRUN, listed k8, PROGRESS@10");
    assert_int_equal(n.first_available.epoch, old.epoch);
    watch_close(n.watch);
}

static void a_reset_overruns_open_watches_and_mirrors_begin_anew(void **state)
{
    struct notes plain = {0}, mirror = {0};
    (void)state;
    put_many(3);
    open_with(&plain, (struct hkv_watch_options){0});
    open_with(&mirror, (struct hkv_watch_options){.list = true});
    assert_noted(&plain, "PROGRESS@3");
    assert_noted(&mirror, "listed k0, listed k1, listed k2, PROGRESS@3");
    uint64_t epoch = plain.last.epoch;
    put("unseen", "v");
    reset_store(9);
    assert_noted(&plain, "OVERRUN@0, PROGRESS@0");
    assert_noted(&mirror, "OVERRUN, PROGRESS@0");
    assert_true(plain.last.epoch != epoch);
    watch_close(plain.watch);
    watch_close(mirror.watch);
}

static void a_listing_is_followed_by_its_position_and_the_changes(void **state)
{
    struct notes n = {0};
    (void)state;
    put("b", "v");
    put("a", "v");
    put("gone", "v");
    put("gone", NULL);
    open_with(&n, (struct hkv_watch_options){.list = true});
    put("c", "v"); /* before its turn: listed */
    assert_noted(&n, "listed a, listed b, listed c, PROGRESS@5");
    put("a", "w");
    assert_noted(&n, "put a@6");
    watch_close(n.watch);
}

static void a_quiet_watch_tells_its_position_now_and_then(void **state)
{
    struct notes n = {0};
    (void)state;
    open_with(&n, (struct hkv_watch_options){.prefix = "mine/", .prefix_bytes = 5});
    assert_noted(&n, "PROGRESS@0");
    let_time_pass(10 * WATCH_QUIET_US);
    assert_noted(&n, ""); /* nothing went by */
    assert_null(world.timer);
    put_many(3);
    let_time_pass(WATCH_QUIET_US / 2);
    put_many(1);
    let_time_pass(WATCH_QUIET_US);
    assert_noted(&n, "PROGRESS@4");
    let_time_pass(10 * WATCH_QUIET_US);
    assert_noted(&n, "");
    assert_null(world.timer);
    put("mine/1", "v");
    let_time_pass(10 * WATCH_QUIET_US);
    assert_noted(&n, "put mine/1@5"); /* said it all */
    watch_close(n.watch);
}

static void a_slow_watcher_costs_no_memory_and_misses_nothing(void **state)
{
    struct notes slow = {0}, quick = {0};
    (void)state;
    open_with(&slow, (struct hkv_watch_options){0});
    open_with(&quick, (struct hkv_watch_options){0});
    run_all();
    slow.stop_after = slow.count + 1;
    put_many(WATCH_TAIL_BATCHES_MAX + 500); /* more batches than the tail holds, no turn for anybody */
    assert_true(world.hub.tail_end - world.hub.tail_begin <= WATCH_TAIL_BATCHES_MAX);
    assert_true(world.hub.tail_bytes <= WATCH_TAIL_BYTES_MAX);
    run_all();
    assert_int_equal(quick.last.number, WATCH_TAIL_BATCHES_MAX + 500);
    assert_int_equal(slow.last.number, 1);
    slow.stop_after = 0;
    watch_resume(slow.watch);
    run_all();
    assert_int_equal(slow.last.number, WATCH_TAIL_BATCHES_MAX + 500);
    assert_int_equal(slow.count, quick.count);
    watch_close(slow.watch);
    watch_close(quick.watch);
}

static void a_batch_that_is_larger_than_the_tail_comes_from_the_log(void **state)
{
    struct fixture *f = *state;
    struct notes n = {0};
    char key[HKV_KEY_MAX + 1];
    open_with(&n, (struct hkv_watch_options){0});
    OK(kv_begin(f->kv));
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "%01000d", i);
        struct entry e = fixture_entry(f, 'x', fixture_key(key), FIXTURE_NOW_US, slice_of_text("v"));
        struct docs_origin origin = {.peer = {{7}}};
        enum docs_insert out;
        OK(kv_docs(f->kv)->ops->insert(kv_docs(f->kv), &e, &origin, &out, NULL, NULL));
    }
    OK(kv_commit(f->kv));
    fixture_arrive(f, "v"); /* 5,000 keys show it at once */
    publish();
    assert_true(world.hub.tail_begin == world.hub.tail_end);
    put("after", "v");
    run_all();
    assert_int_equal(n.last.number, 5001);
    assert_int_equal(n.count, 5002);
    watch_close(n.watch);
}

static void a_callback_may_close_its_watch_or_stop_it(void **state)
{
    struct hkv_position start = {kv_epoch(world.f->kv), 0};
    (void)state;
    put_many(5);
    for (size_t after = 1; after <= 6; after++) {
        struct notes n = {.stop_after = after, .close_then = true};
        open_with(&n, (struct hkv_watch_options){.from = &start});
        run_all();
        assert_int_equal(n.count, after);
        struct notes p = {.stop_after = after};
        open_with(&p, (struct hkv_watch_options){.from = &start, .list = after % 2});
        run_all();
        assert_int_equal(p.count, after);
        p.stop_after = 0;
        watch_resume(p.watch);
        assert_noted(&p, "put k0@1, put k1@2, put k2@3, put k3@4, put k4@5, PROGRESS@5");
        watch_close(p.watch);
    }
    assert_int_equal(world.hub.count, 0);
}

static void a_watch_waits_while_the_log_cannot_be_read(void **state)
{
    struct fixture *f = *state;
    struct notes n = {0};
    struct hkv_position start = {kv_epoch(f->kv), 0};
    put_many(2);
    OK(db_exec(&f->kv->db, "ALTER TABLE change RENAME TO away"));
    open_with(&n, (struct hkv_watch_options){.from = &start});
    let_time_pass(3 * WATCH_TICK_US);
    assert_noted(&n, "");
    OK(db_exec(&f->kv->db, "ALTER TABLE away RENAME TO change"));
    let_time_pass(WATCH_TICK_US);
    assert_noted(&n, "put k0@1, put k1@2, PROGRESS@2");
    watch_close(n.watch);
}

static void damage_of_the_log_is_an_overrun_to_now(void **state)
{
    struct fixture *f = *state;
    struct notes plain = {0}, mirror = {0};
    struct hkv_position start = {kv_epoch(f->kv), 0};
    put_many(4);
    OK(db_exec(&f->kv->db, "DELETE FROM change WHERE position = 2"));
    open_with(&plain, (struct hkv_watch_options){.from = &start});
    open_with(&mirror, (struct hkv_watch_options){.from = &start, .list = true});
    assert_noted(&plain, "OVERRUN@4, PROGRESS@4");
    assert_int_equal(plain.first_available.number, 5);
    assert_noted(&mirror, "OVERRUN, listed k0, listed k1, listed k2, listed k3, PROGRESS@4");
    put("k0", NULL);
    assert_noted(&plain, "delete k0@5");
    watch_close(plain.watch);
    watch_close(mirror.watch);
}

static void events_about_syncs_are_told_live_without_a_position(void **state)
{
    struct notes n = {0};
    struct hkv_event event = {.type = HKV_EVENT_SYNC_STARTED,
                              .peer = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"};
    (void)state;
    watch_publish_sync(&world.hub, &event); /* nobody watches */
    open_with(&n, (struct hkv_watch_options){0});
    run_all();
    put("a", "v");
    watch_publish_sync(&world.hub, &event);
    event.type = HKV_EVENT_SYNC_FINISHED;
    watch_publish_sync(&world.hub, &event);
    put("b", "v");
    assert_noted(&n, "PROGRESS@0, put a@1, sync-started, sync-finished, put b@2");
    watch_close(n.watch);
}

static void watches_are_limited(void **state)
{
    static struct notes n[HKV_WATCH_MAX + 1];
    struct hkv_watch_options all = {0};
    (void)state;
    for (size_t i = 0; i < HKV_WATCH_MAX; i++) open_with(&n[i], all);
    assert_int_equal(watch_open(&world.hub, &all, note, &n[HKV_WATCH_MAX], &n[HKV_WATCH_MAX].watch), HKV_E_LIMIT);
    watch_close(n[0].watch);
    open_with(&n[0], all);
}

static void positions_are_read_as_they_are_written(void **state)
{
    static const char *const bad[] = {"",
                                      "5",
                                      "0123456789abcdef",
                                      "0123456789abcdef-",
                                      "0123456789abcdef-x",
                                      "0123456789ABCDEF-1",
                                      "123456789abcdef-1",
                                      "0123456789abcdef-18446744073709551616",
                                      "0123456789abcdef-1 ",
                                      "00123456789abcdef-1"};
    struct hkv_position p = {0x0123456789abcdef, UINT64_MAX}, read;
    char text[HKV_POSITION_TEXT_BYTES];
    (void)state;
    hkv_position_format(&p, text);
    assert_string_equal(text, "0123456789abcdef-18446744073709551615");
    OK(hkv_position_parse(text, &read));
    assert_memory_equal(&p, &read, sizeof p);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(hkv_position_parse(bad[i], &read), HKV_E_INVALID);
}

/* ------------------------------------------------------------------------------------------ any interleaving */

/* What each commit said, by epoch and position. */
struct truth {
    uint64_t epoch;
    uint64_t count;
    struct {
        uint8_t key;
        uint8_t kind;
    } changes[CHANGES_MAX];
};

struct watcher {
    struct hkv_watch *watch;
    char prefix[4];
    bool list, listing, lagging;
    struct hkv_position last; /* everything up to here was seen */
    bool present[KEYS];       /* `list` only */
    size_t stop_in;           /* events; 0: it does not stop */
};

static struct {
    struct random r;
    struct truth truth[PROP_ROUNDS + 1];
    size_t epochs;
    struct watcher watchers[WATCHERS];
    size_t overruns, listings, replays, resumes, restarts;
} prop;

static const char *key_name(size_t i)
{
    static char name[8];
    snprintf(name, sizeof name, "%c%02zu", "abc"[i % 3], i);
    return name;
}

static size_t key_number(const char *name)
{
    size_t number = (size_t)strtoul(name + 1, NULL, 10);
    assert_string_equal(name, key_name(number));
    return number;
}

static bool has_prefix(const struct watcher *w, size_t key)
{
    return w->prefix[0] == '\0' || w->prefix[0] == key_name(key)[0];
}

static struct truth *truth_of(uint64_t epoch)
{
    for (size_t i = 0; i < prop.epochs; i++)
        if (prop.truth[i].epoch == epoch) return &prop.truth[i];
    fail_msg("an event of an epoch that never was");
    return NULL;
}

/* No change of the watch's prefix lies between its last event and `to`. */
static void assert_nothing_between(const struct watcher *w, uint64_t to)
{
    const struct truth *t = truth_of(w->last.epoch);
    assert_true(to <= t->count);
    for (uint64_t p = w->last.number + 1; p <= to; p++)
        if (has_prefix(w, t->changes[p - 1].key)) fail_msg("position %llu was passed over", (unsigned long long)p);
}

static void see_change(struct watcher *w, const struct hkv_event *event, size_t key)
{
    bool present = event->type == HKV_EVENT_PUT_LOCAL || event->type == HKV_EVENT_PUT_REMOTE;
    w->present[key] = present;
    if (w->listing) return;
    const struct truth *t = truth_of(event->position.epoch);
    assert_int_equal(event->position.epoch, w->last.epoch);
    assert_true(event->position.number > w->last.number);
    assert_nothing_between(w, event->position.number - 1);
    assert_int_equal(t->changes[event->position.number - 1].key, key);
    assert_int_equal(t->changes[event->position.number - 1].kind, event->type);
    w->last = event->position;
}

static void see_progress(struct watcher *w, const struct hkv_event *event)
{
    if (!w->listing) {
        assert_int_equal(event->position.epoch, w->last.epoch);
        assert_true(event->position.number >= w->last.number);
        assert_nothing_between(w, event->position.number);
    }
    w->last = event->position;
    w->listing = false;
}

static void see(void *arg, const struct hkv_event *event)
{
    struct watcher *w = arg;
    size_t key = event->key != NULL ? key_number(event->key) : 0;
    assert_non_null(w->watch);
    assert_false(w->lagging);
    if (event->key != NULL) assert_true(has_prefix(w, key));
    assert_int_equal(event->position.epoch == 0, (w->listing && event->type != HKV_EVENT_PROGRESS) ||
                                                     event->type == HKV_EVENT_SYNC_STARTED ||
                                                     (event->type == HKV_EVENT_OVERRUN && w->list));
    switch (event->type) {
    case HKV_EVENT_PROGRESS:
        see_progress(w, event);
        break;
    case HKV_EVENT_OVERRUN:
        prop.overruns++;
        memset(w->present, 0, sizeof w->present);
        w->listing = w->list;
        w->last = (struct hkv_position){event->first_available.epoch, event->first_available.number - 1};
        break;
    case HKV_EVENT_LISTED:
        assert_true(w->listing);
        assert_false(w->present[key]);
        w->present[key] = true;
        prop.listings++;
        break;
    case HKV_EVENT_SYNC_STARTED:
        break;
    default:
        see_change(w, event, key);
    }
    if (w->stop_in == 0 || --w->stop_in > 0) return;
    w->lagging = random_below(&prop.r, 2);
    if (w->lagging) {
        watch_pause(w->watch);
    } else {
        watch_close(w->watch);
        w->watch = NULL;
    }
}

static void open_watcher(struct watcher *w)
{
    struct hkv_watch_options options = {.prefix = w->prefix, .prefix_bytes = strlen(w->prefix)};
    bool known = w->last.epoch != 0 && !w->listing;
    if (!known) {
        *w = (struct watcher){.list = random_below(&prop.r, 2)};
        if (random_below(&prop.r, 2)) w->prefix[0] = "abc"[random_below(&prop.r, 3)];
        options.prefix_bytes = strlen(w->prefix);
        w->listing = w->list;
        w->last = (struct hkv_position){world.hub.epoch, world.hub.published};
    } else {
        options.from = &w->last;
        prop.resumes++;
    }
    options.list = w->list;
    w->lagging = false;
    w->stop_in = random_below(&prop.r, 3) ? 1 + random_below(&prop.r, 40) : 0;
    OK(watch_open(&world.hub, &options, see, w, &w->watch));
}

static void write_in_transaction(void)
{
    static const char value[] = "v";
    struct fixture *f = world.f;
    bool put_it = random_below(&prop.r, 4) > 0;
    struct slice content = put_it ? slice_of_text(value) : slice_of(kv_tombstone_content, sizeof kv_tombstone_content);
    struct slice key = fixture_key(key_name(random_below(&prop.r, KEYS)));
    struct kv_write w = {.entry = fixture_entry(f, 's', key, 0, content), .content = content};
    kv_content_parse(content, content.len, &w.parsed);
    OK(kv_propose_stamp(f->kv, key, &w.entry.record.stamp_us));
    OK(entry_sign(&w.entry, &f->self.namespace_secret, &f->self.author_secret));
    OK(kv_write(f->kv, &w, &f->self));
}

/* Commits something, notes what it was, and publishes it, sometimes after others had their turn. */
static void commit_some(void)
{
    struct kv_changes changes;
    struct truth *t = &prop.truth[prop.epochs - 1];
    OK(kv_begin(world.f->kv));
    for (size_t i = 1 + random_below(&prop.r, 5); i > 0; i--) write_in_transaction();
    OK(kv_commit(world.f->kv));
    kv_take_changes(world.f->kv, &changes);
    for (size_t i = 0; i < changes.count; i++) {
        char name[8] = "";
        memcpy(name, changes.items[i].key.data, changes.items[i].key.len);
        assert_int_equal(changes.items[i].position, t->count + 1);
        assert_true(t->count < CHANGES_MAX);
        t->changes[t->count].key = (uint8_t)key_number(name);
        t->changes[t->count++].kind =
            changes.items[i].kind == KV_PUT_LOCAL ? HKV_EVENT_PUT_LOCAL : HKV_EVENT_DELETE_LOCAL;
    }
    while (random_below(&prop.r, 4) == 0 && run_one(ENV_CALLBACK)) continue;
    /* As after a commit of very many: the rest is in the log. */
    if (random_below(&prop.r, 4) == 0)
        while (changes.count > 1) buf_fini(&changes.items[--changes.count].key);
    watch_publish_changes(&world.hub, &changes);
    kv_changes_fini(&changes);
}

static void begin_epoch(void)
{
    prop.truth[prop.epochs++] = (struct truth){.epoch = kv_epoch(world.f->kv)};
}

static void step(void)
{
    static const struct hkv_event sync = {.type = HKV_EVENT_SYNC_STARTED};
    struct watcher *w = &prop.watchers[random_below(&prop.r, WATCHERS)];
    switch (random_below(&prop.r, 12)) {
    case 0:
    case 1:
    case 2:
        (void)run_one(ENV_CALLBACK);
        return;
    case 3:
        let_time_pass(WATCH_QUIET_US / 2);
        return;
    case 4:
        watch_publish_sync(&world.hub, &sync);
        return;
    case 5:
        if (w->watch == NULL) open_watcher(w);
        if (!w->lagging) return;
        w->lagging = false;
        w->stop_in = random_below(&prop.r, 40);
        watch_resume(w->watch);
        return;
    default:
        commit_some();
    }
}

static void drop_watchers(void)
{
    for (size_t i = 0; i < WATCHERS; i++) prop.watchers[i].watch = NULL;
}

/* Lets everybody catch up; then no watcher lacks anything, and mirrors have what the store shows. */
static void assert_all_caught_up(void)
{
    for (size_t i = 0; i < WATCHERS; i++) {
        struct watcher *w = &prop.watchers[i];
        if (w->watch == NULL) open_watcher(w);
        w->stop_in = 0;
        w->lagging = false;
        watch_resume(w->watch);
    }
    let_time_pass(3 * WATCH_QUIET_US);
    for (size_t i = 0; i < WATCHERS; i++) {
        const struct watcher *w = &prop.watchers[i];
        assert_int_equal(w->last.epoch, kv_epoch(world.f->kv));
        assert_int_equal(w->last.number, prop.truth[prop.epochs - 1].count);
        for (size_t key = 0; w->list && key < KEYS; key++)
            if (has_prefix(w, key)) assert_int_equal(w->present[key], fixture_get(world.f, key_name(key)) != NULL);
    }
}

static void no_interleaving_makes_a_gap_or_a_repeat(void **state)
{
    struct fixture *f = *state;
    prop.r = random_start("watches");
    f->config.changes_kept = 60;
    restart();
    begin_epoch();
    for (int round = 0; round < PROP_ROUNDS; round++) {
        world.hub.tail_changes_max = random_below(&prop.r, 2) ? 1 + random_below(&prop.r, 30) : WATCH_TAIL_CHANGES_MAX;
        for (int i = 0; i < PROP_STEPS; i++) step();
        assert_all_caught_up();
        if (random_below(&prop.r, 3) == 0) {
            reset_store((uint8_t)(round + 1));
            begin_epoch();
        } else {
            drop_watchers();
            f->config.changes_kept = round % 2 ? 60 : 5000;
            restart();
        }
    }
    assert_true(prop.overruns > 0 && prop.listings > 0 && prop.resumes > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_watch_from_now_says_from_where_and_then_everything),
        TEST(a_watch_goes_on_behind_a_position_over_restarts),
        TEST(only_keys_of_the_prefix_are_told),
        TEST(expiry_and_removal_by_prefix_are_told_live_and_from_the_log),
        TEST(what_the_log_lost_is_an_overrun_that_says_where_it_goes_on),
        TEST(a_reset_overruns_open_watches_and_mirrors_begin_anew),
        TEST(a_listing_is_followed_by_its_position_and_the_changes),
        TEST(a_quiet_watch_tells_its_position_now_and_then),
        TEST(a_slow_watcher_costs_no_memory_and_misses_nothing),
        TEST(a_batch_that_is_larger_than_the_tail_comes_from_the_log),
        TEST(a_callback_may_close_its_watch_or_stop_it),
        TEST(a_watch_waits_while_the_log_cannot_be_read),
        TEST(damage_of_the_log_is_an_overrun_to_now),
        TEST(events_about_syncs_are_told_live_without_a_position),
        TEST(watches_are_limited),
        TEST(positions_are_read_as_they_are_written),
        TEST(no_interleaving_makes_a_gap_or_a_repeat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
