/* Finds the STOP_SENDING frames in the plain text of a packet. ngtcp2 1.11 resets our side of the stream when one
 * arrives but tells nobody, and the protocols need to know. Pure. */
#ifndef HKV_NET_FRAMES_H
#define HKV_NET_FRAMES_H

#include "base/bytes.h"

#define FRAMES_STOPS_MAX 64 /* of one packet; more are found out when the stream ends */

struct frames_stop {
    int64_t stream_id;
    uint64_t code;
};

struct frames_stops {
    size_t count;
    struct frames_stop items[FRAMES_STOPS_MAX];
};

/* Appends those of `payload` to `out`. What does not parse ends the search: ngtcp2 closes the connection for it. */
void frames_find_stops(struct slice payload, struct frames_stops *out);

#endif
