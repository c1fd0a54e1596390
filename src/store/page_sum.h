/* Checksum of a page: XXH64 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md) with the page's number as seed, so that a
 * page in another's place is noticed too. Pure; any thread. */
#ifndef HKV_STORE_PAGE_SUM_H
#define HKV_STORE_PAGE_SUM_H

#include "base/bytes.h"

/* XXH64 of any bytes; not for bytes that someone may choose to collide. */
uint64_t page_sum(struct slice bytes, uint64_t seed);

#endif
