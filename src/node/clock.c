#include "node/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/text.h"
#include "node/node.h"

#define US_IN_S      1000000
#define OFFSET_LIMIT (INT64_MAX / 4) /* what shows more is no clock, and is taken for this; sums stay in range */

/* ------------------------------------------------------------------------------------------ our own clock */

static int64_t difference(uint64_t a_us, uint64_t b_us)
{
    uint64_t distance = a_us > b_us ? a_us - b_us : b_us - a_us;
    int64_t limited = distance < (uint64_t)OFFSET_LIMIT ? (int64_t)distance : OFFSET_LIMIT;
    return a_us > b_us ? limited : -limited;
}

/* Our wall clock's distance from the monotonic one. */
static int64_t own_offset_us(struct hkv_store *store)
{
    return difference(env_wall_us(node_env(store)), env_mono_us(node_env(store)));
}

/* By how much two peers say that we are behind, ahead of them; 0 within the limit. */
static int64_t behind_us(struct hkv_store *store)
{
    int64_t bound = atomic_load(&store->clock.behind_offset_us);
    int64_t behind = bound == INT64_MIN ? 0 : bound - own_offset_us(store);
    return behind > CLOCK_WRONG_US ? behind : 0;
}

static int64_t ahead_us(struct hkv_store *store)
{
    int64_t bound = atomic_load(&store->clock.ahead_offset_us);
    int64_t ahead = bound == INT64_MAX ? 0 : own_offset_us(store) - bound;
    return ahead > CLOCK_WRONG_US ? ahead : 0;
}

static bool is_older_than_build(struct hkv_store *store)
{
    return env_wall_us(node_env(store)) < store->world->built_wall_us;
}

static void format_time(uint64_t wall_us, char out[32])
{
    time_t at_s = (time_t)(wall_us / US_IN_S);
    struct tm utc;
    if (gmtime_r(&at_s, &utc) == NULL || strftime(out, 32, "%Y-%m-%d %H:%M:%S UTC", &utc) == 0)
        (void)snprintf(out, 32, "%llu s", (unsigned long long)(wall_us / US_IN_S));
}

static void say_older(struct hkv_store *store, char why[CLOCK_WHY_MAX])
{
    char now[32], built[32];
    format_time(env_wall_us(node_env(store)), now);
    format_time(store->world->built_wall_us, built);
    (void)snprintf(why, CLOCK_WHY_MAX,
                   "this machine's clock shows %s, which is before this program was built (%s); set it", now, built);
}

static void say_behind(int64_t us, char why[CLOCK_WHY_MAX])
{
    (void)snprintf(
        why, CLOCK_WHY_MAX,
        "this machine's clock is %lld s behind those of at least two peers, the limit is %d s; set it from a "
        "time server",
        (long long)(us / US_IN_S), (int)(CLOCK_WRONG_US / US_IN_S));
}

static void say_refusing(struct hkv_store *store, char why[CLOCK_WHY_MAX])
{
    char id[ID_TEXT_MAX];
    (void)pthread_mutex_lock(&store->identity_lock);
    (void)id_format(store->clock.refused_peer.bytes, id);
    (void)pthread_mutex_unlock(&store->identity_lock);
    (void)snprintf(
        why, CLOCK_WHY_MAX,
        "entries of peer %.10s are refused by the hundred because they seem to come from the future; compare "
        "its clock and this machine's with a time server",
        id);
}

bool clock_is_sane(struct hkv_store *store, char why[CLOCK_WHY_MAX])
{
    int64_t behind = behind_us(store), ahead = ahead_us(store);
    why[0] = '\0';
    if (is_older_than_build(store))
        say_older(store, why);
    else if (behind > 0)
        say_behind(behind, why);
    else if (ahead > 0)
        (void)snprintf(
            why, CLOCK_WHY_MAX,
            "this machine's clock is %lld s ahead of those of at least two peers, which refuse what it writes "
            "from 600 s on; set it from a time server",
            (long long)(ahead / US_IN_S));
    else if (atomic_load(&store->clock.is_refusing))
        say_refusing(store, why);
    return why[0] == '\0';
}

enum hkv_err clock_check_write(struct hkv_store *store)
{
    char why[CLOCK_WHY_MAX];
    int64_t behind = behind_us(store);
    if (store->allow_bad_clock) return HKV_OK;
    if (is_older_than_build(store))
        say_older(store, why);
    else if (behind > 0)
        say_behind(behind, why);
    else
        return HKV_OK;
    return error_set(HKV_E_CLOCK, "%s, or open the store with allow_bad_clock; until then nothing is written", why);
}

/* ------------------------------------------------------------------------------------------ peers' clocks */

void clock_init(struct hkv_store *store)
{
    atomic_init(&store->clock.behind_offset_us, INT64_MIN);
    atomic_init(&store->clock.ahead_offset_us, INT64_MAX);
    atomic_init(&store->clock.is_refusing, false);
}

static bool is_fresh(struct hkv_store *store, uint64_t at_us)
{
    uint64_t limit_us = 3 * store->anti_entropy_us;
    if (limit_us < CLOCK_FRESH_US) limit_us = CLOCK_FRESH_US;
    return at_us != 0 && env_mono_us(node_env(store)) - at_us < limit_us;
}

enum hkv_skew clock_skew(struct hkv_store *store, const struct peer *peer, int64_t *skew_us)
{
    *skew_us = 0;
    if (!is_fresh(store, peer->clock.at_us)) return HKV_SKEW_UNKNOWN;
    *skew_us = peer->clock.offset_us - own_offset_us(store);
    if (peer->clock.is_measured) return HKV_SKEW_MEASURED;
    if (*skew_us > 0) return HKV_SKEW_AT_LEAST;
    *skew_us = 0; /* our clock went on: it says nothing any more */
    return HKV_SKEW_UNKNOWN;
}

/* Whether it may help to decide that our clock is wrong. */
static bool counts(struct hkv_store *store, const struct peer *peer)
{
    bool is_known = peer->seed || peer->member || (store->trusted_count > 0 && peer->synced);
    return is_known && !peer->removed && peer->clock.is_measured && is_fresh(store, peer->clock.at_us);
}

/* One line when our clock turns out wrong, one when it is right again. */
static void log_own(struct hkv_store *store)
{
    char why[CLOCK_WHY_MAX];
    bool is_wrong = !clock_is_sane(store, why);
    if (is_wrong == store->clock.was_wrong) return;
    store->clock.was_wrong = is_wrong;
    if (is_wrong)
        node_log(store, HKV_LOG_WARN, "clock", "%s", why);
    else
        node_log(store, HKV_LOG_INFO, "clock", "nothing is wrong with this machine's clock any more");
}

void clock_review(struct hkv_store *store)
{
    int64_t most = INT64_MIN, second_most = INT64_MIN, least = INT64_MAX, second_least = INT64_MAX;
    const struct peer *refused = NULL;
    for (size_t i = 0; i < store->peers.count; i++) {
        const struct peer *peer = store->peers.items[i];
        if (is_fresh(store, peer->clock.future_us)) refused = peer;
        if (!counts(store, peer)) continue;
        int64_t low = peer->clock.offset_us - peer->clock.uncertainty_us;
        int64_t high = peer->clock.offset_us + peer->clock.uncertainty_us;
        if (low > second_most) second_most = low < most ? low : most;
        if (low > most) most = low;
        if (high < second_least) second_least = high > least ? high : least;
        if (high < least) least = high;
    }
    atomic_store(&store->clock.behind_offset_us, second_most);
    atomic_store(&store->clock.ahead_offset_us, second_least);
    if (refused != NULL) {
        (void)pthread_mutex_lock(&store->identity_lock);
        store->clock.refused_peer = refused->id;
        (void)pthread_mutex_unlock(&store->identity_lock);
    }
    atomic_store(&store->clock.is_refusing, refused != NULL);
    log_own(store);
}

/* One line when a peer's clock leaves ours by a second, another when the distance has changed by one, and one when they
 * agree again. */
static void log_skew(struct hkv_store *store, struct peer *peer)
{
    int64_t skew_us;
    char id[ID_TEXT_MAX];
    if (clock_skew(store, peer, &skew_us) == HKV_SKEW_UNKNOWN) return;
    struct peer_clock *c = &peer->clock;
    int64_t distance = llabs(skew_us) - c->uncertainty_us;
    (void)id_format(peer->id.bytes, id);
    if (distance < CLOCK_WARN_US) {
        if (c->is_logged && llabs(skew_us) + c->uncertainty_us < CLOCK_WARN_US) {
            node_log(store, HKV_LOG_INFO, "clock", "the clock of %.10s agrees with this machine's again", id);
            c->is_logged = false;
        }
        return;
    }
    if (c->is_logged && llabs(skew_us - c->logged_us) < CLOCK_WARN_US + c->uncertainty_us) return;
    c->is_logged = true;
    c->logged_us = skew_us;
    node_log(store, HKV_LOG_WARN, "clock",
             "the clock of %.10s is %s%lld.%03lld s %s this machine's; set both from a time server", id,
             c->is_measured ? "" : "at least ", llabs(skew_us) / US_IN_S, llabs(skew_us) % US_IN_S / 1000,
             skew_us > 0 ? "ahead of" : "behind");
}

void clock_measured(struct hkv_store *store, struct peer *peer, const struct clock_moment *moment)
{
    struct peer_clock *c = &peer->clock;
    uint64_t now_us = env_mono_us(node_env(store));
    int64_t offset = difference(moment->wall_us, moment->likely_us);
    int64_t after = (int64_t)(moment->latest_us - moment->likely_us);
    int64_t before = (int64_t)(moment->likely_us - moment->earliest_us);
    int64_t uncertainty = after > before ? after : before;
    bool is_better = !c->is_measured || uncertainty <= c->uncertainty_us ||
                     now_us - c->at_us > 3 * store->anti_entropy_us ||
                     llabs(offset - c->offset_us) > uncertainty + c->uncertainty_us;
    if (!is_better) return;
    c->is_measured = true;
    c->at_us = now_us;
    c->offset_us = offset;
    c->uncertainty_us = uncertainty;
    log_skew(store, peer);
    clock_review(store);
}

void clock_session_ended(struct hkv_store *store, struct peer *peer, uint64_t newest_stamp_us, enum hkv_err err)
{
    struct peer_clock *c = &peer->clock;
    uint64_t now_us = env_mono_us(node_env(store)), wall_us = env_wall_us(node_env(store));
    bool is_known = c->is_measured && is_fresh(store, c->at_us);
    if (!is_known && newest_stamp_us > wall_us) {
        c->is_measured = false;
        c->at_us = now_us;
        c->offset_us = difference(newest_stamp_us, now_us);
        c->uncertainty_us = 0;
        log_skew(store, peer);
    }
    if (err == HKV_OK) c->future_us = 0;
    if (err == HKV_E_CLOCK) {
        char id[ID_TEXT_MAX];
        if (!is_fresh(store, c->future_us))
            node_log(
                store, HKV_LOG_WARN, "clock",
                "the session with %.10s was ended: its entries seem to come from the future, so its clock is ahead "
                "or this machine's is behind; set both from a time server",
                id_format(peer->id.bytes, id));
        c->future_us = now_us;
    }
    clock_review(store);
}
