/* A peer that knows the keys of its connection and does not keep to the rules: it makes 1-RTT packets that no QUIC
 * library would send. Listens to the TLS session of a dialled connection for the keys it sends under. */
#ifndef TESTS_NET_FIXTURE_FORGER_H
#define TESTS_NET_FIXTURE_FORGER_H

#include "fixture_proxy.h"

struct quic_conn;

struct rig_packet {
    uint32_t number;
    bool other_key_phase; /* says that it is under the next keys, which it is not */
    const void *frames;
    size_t frames_len;
};

/* Call right after rig_dial(): the first keys are made when the loop runs. One connection of a process at a time. */
void rig_forge_begin(struct rig_conn *dialled);

/* Sends a packet of the begun connection to the proxy's endpoint, from the proxy's address `index`. */
void rig_forge_send(struct rig_proxy *proxy, size_t index, const struct rig_packet *packet);

#endif
