/* Remembered peers, small values, namespaces and starting over. */
#include "fixture/kv_store.h"

#include "kv/internal.h"

#define T          FIXTURE_NOW_US
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static void small_values_are_kept(void **state)
{
    struct fixture *f = *state;
    struct buf value = {0};
    assert_int_equal(kv_meta_get(f->kv, "incarnations", &value), HKV_E_NOT_FOUND);
    OK(kv_begin(f->kv));
    OK(kv_meta_set(f->kv, "incarnations", slice_of_text("one")));
    OK(kv_meta_set(f->kv, "incarnations", slice_of_text("two")));
    OK(kv_commit(f->kv));
    fixture_reopen(f);
    OK(kv_meta_get(f->kv, "incarnations", &value));
    assert_true(slice_equal(buf_slice(&value), slice_of_text("two")));
    buf_fini(&value);
}

struct seen {
    size_t count;
    struct kv_peer last;
    struct address_set addrs;
};

static bool see(void *arg, const struct kv_peer *peer)
{
    struct seen *seen = arg;
    seen->count++;
    seen->last = *peer;
    assert_ok(address_set_merge(&seen->addrs, &peer->addrs), "merge", __FILE__, __LINE__);
    return true;
}

static void peers_are_kept_with_their_addresses(void **state)
{
    struct fixture *f = *state;
    struct kv_peer peer = {.id = {{9}}, .source = KV_PEER_SYNCED, .last_sync_us = T};
    struct socket_address socket;
    struct seen seen = {0};
    OK(socket_address_parse(slice_of_text("192.0.2.1:24376"), &socket));
    OK(address_set_add_socket(&peer.addrs, &socket));
    OK(socket_address_parse(slice_of_text("[2001:db8::1]:24376"), &socket));
    OK(address_set_add_socket(&peer.addrs, &socket));
    OK(address_set_add_relay(&peer.addrs, slice_of_text("https://relay.example/")));
    OK(kv_begin(f->kv));
    OK(kv_peer_put(f->kv, &peer));
    peer.source = KV_PEER_SEED;
    OK(kv_peer_put(f->kv, &peer));
    OK(kv_commit(f->kv));
    fixture_reopen(f);
    OK(kv_peer_list(f->kv, see, &seen));
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.last.source, KV_PEER_SEED);
    assert_int_equal(seen.last.last_sync_us, T);
    assert_int_equal(seen.addrs.count, 3);
    for (size_t i = 0; i < 3; i++) assert_int_equal(seen.addrs.items[i].kind, peer.addrs.items[i].kind);
    assert_string_equal(seen.addrs.items[0].relay_url, peer.addrs.items[0].relay_url);
    OK(kv_begin(f->kv));
    OK(kv_peer_delete(f->kv, &peer.id));
    OK(kv_commit(f->kv));
    seen.count = 0;
    OK(kv_peer_list(f->kv, see, &seen));
    assert_int_equal(seen.count, 0);
    address_set_fini(&peer.addrs);
    address_set_fini(&seen.addrs);
}

static void a_store_of_another_namespace_is_not_opened_and_named(void **state)
{
    struct fixture *f = *state;
    struct kv_config config = f->config;
    struct namespace_id other = {{0}};
    struct kv *kv = NULL;
    bool created;
    kv_close(f->kv);
    config.namespace.bytes[5] ^= 1;
    assert_int_equal(kv_open(&config, &kv, &created, &other), HKV_E_NAMESPACE);
    assert_null(kv);
    assert_memory_equal(&other, &f->config.namespace, sizeof other);
    OK(kv_open(&f->config, &f->kv, &created, &other));
    assert_false(created);
}

static void a_store_of_a_newer_version_is_not_opened(void **state)
{
    struct fixture *f = *state;
    struct namespace_id other;
    struct kv *kv = NULL;
    bool created;
    OK(db_exec(&f->kv->db, "PRAGMA user_version = 9"));
    kv_close(f->kv);
    f->kv = NULL;
    assert_int_equal(kv_open(&f->config, &kv, &created, &other), HKV_E_VERSION);
    assert_null(kv);
}

static void a_reset_leaves_only_peers_and_small_values(void **state)
{
    struct fixture *f = *state;
    struct namespace_id next = {{1, 2, 3}};
    struct kv_peer peer = {.id = {{9}}};
    struct kv_counts counts;
    struct seen seen = {0};
    struct buf value = {0};
    uint64_t epoch = kv_epoch(f->kv);
    for (int i = 0; i < 10; i++) OK(fixture_put(f, (char[]){(char)('a' + i), 0}, "v"));
    struct entry e = fixture_entry(f, 'x', fixture_key("k"), T, slice_of_text("missing"));
    assert_int_equal(fixture_receive(f, &e), DOCS_INSERTED);
    e = fixture_entry(f, 'x', fixture_key("l"), T * 2, slice_of_text("future"));
    assert_int_equal(fixture_receive(f, &e), DOCS_FUTURE);
    OK(kv_begin(f->kv));
    OK(kv_peer_put(f->kv, &peer));
    OK(kv_meta_set(f->kv, "kept", slice_of_text("yes")));
    OK(kv_commit(f->kv));
    OK(kv_reset(f->kv, &next));
    assert_true(kv_epoch(f->kv) != epoch);
    assert_null(fixture_get(f, "a"));
    f->config.namespace = next;
    fixture_check(f);
    OK(fixture_put(f, "new", "v"));
    epoch = kv_epoch(f->kv);
    fixture_reopen(f);
    assert_int_equal(kv_epoch(f->kv), epoch);
    kv_counts(f->kv, &counts);
    assert_int_equal(counts.entries, 1);
    assert_int_equal(counts.position, 1);
    assert_int_equal(counts.values_missing, 0);
    assert_int_equal(counts.entries_refused, 0);
    OK(kv_peer_list(f->kv, see, &seen));
    assert_int_equal(seen.count, 1);
    OK(kv_meta_get(f->kv, "kept", &value));
    buf_fini(&value);
    fixture_check(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(small_values_are_kept),
        TEST(peers_are_kept_with_their_addresses),
        TEST(a_store_of_another_namespace_is_not_opened_and_named),
        TEST(a_store_of_a_newer_version_is_not_opened),
        TEST(a_reset_leaves_only_peers_and_small_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
