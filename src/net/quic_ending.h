/* How a connection ended, in the words and codes of each side. Network thread. */
#ifndef HKV_NET_QUIC_ENDING_H
#define HKV_NET_QUIC_ENDING_H

#include "net/quic_conn.h"

struct quic_ending {
    enum hkv_err err;
    uint64_t code;
    char why[NET_REASON_MAX + 128];
    bool silent; /* no CONNECTION_CLOSE */
    ngtcp2_ccerr error;
};

/* What the error in `c->fatal` (0: our owner wanted it) means; `c->ng` is still there. */
void quic_conn_ending(struct quic_conn *c, struct quic_ending *end);

#endif
