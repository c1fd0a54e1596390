/* Peers as lines, for `status` and `peers`. */
#ifndef CLI_PEERS_TABLE_H
#define CLI_PEERS_TABLE_H

#include <jansson.h>

void print_peers(const json_t *peers);

#endif
