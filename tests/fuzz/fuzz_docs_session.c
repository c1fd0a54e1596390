/* Any bytes as the peer's stream of a reconciliation session, in either role and encoding, against a small replica.
 * Whatever comes: no crash, bounded work, a session that can be ended. The first byte chooses:
 *
 *   01 dialler   02 small pieces   04 08 10 20 how many entries the replica holds   40 compact   80 small frames */
#define WORLD_TRUSTS_MOST
#include "../fixture/docs_world.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const keys[] = {"", "a", "ab", "abc", "b", "ba", "key-1", "key-2", "key-3", "zz"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    uint8_t choice = data[0];
    struct array_replica replica;
    struct world_peer peer;
    struct docs_config config = docs_config_default(1);
    size_t piece = choice & 2 ? 7 : 4096, rows = (size_t)(choice >> 2 & 15) % 11;
    if (choice & 0x40) docs_config_set_encoding(&config, DOCS_ENCODING_COMPACT);
    config.frame.values = choice & 0x80 ? 3 : 1000;
    array_replica_init(&replica);
    for (size_t i = 0; i < rows; i++) {
        struct entry e = world_entry((uint8_t)(1 + i % 2), slice_of_text(keys[i]), 10 + i, (uint8_t)(i % 3));
        (void)array_replica_put(&replica, &e);
    }
    world_peer_init(&peer, choice & 1 ? DOCS_DIALLER : DOCS_ACCEPTOR, &replica, &config);
    world_peer_settle(&peer);
    for (size_t at = 1; at < size && !peer.ended; at += piece) {
        size_t len = size - at < piece ? size - at : piece;
        world_peer_feed(&peer, slice_of(data + at, len), at + len == size);
        world_peer_settle(&peer);
    }
    docs_session_fail(&peer.session, error_set(HKV_E_PEER_LOST, "the input is over"));
    world_peer_settle(&peer);
    if (!peer.ended) abort();
    world_peer_fini(&peer);
    array_replica_fini(&replica);
    return 0;
}
