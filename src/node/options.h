/* The options of an open: their defaults, and whether they make sense. Pure functions, any thread. */
#ifndef HKV_NODE_OPTIONS_H
#define HKV_NODE_OPTIONS_H

#include <hero_kvs.h>

#include "base/error.h"

/* Looks at every option before anything is touched: a start that is refused for its options leaves no trace. Errors:
 * HKV_E_INVALID, HKV_E_TICKET and HKV_E_UNSUPPORTED, each naming the option. */
HKV_CHECK enum hkv_err options_check(const struct hkv_options *o);

#endif
