#include "base/ids.h"

const struct hash hash_empty = HASH_EMPTY_INIT;
