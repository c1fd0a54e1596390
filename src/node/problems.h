/* The list of values that are not whole, as hkv_problems() gives it. Any thread but those of the library. */
#ifndef HKV_NODE_PROBLEMS_H
#define HKV_NODE_PROBLEMS_H

#include "base/error.h"

#define PROBLEM_WHY_MAX 256 /* bytes of a sentence */

struct problems;

HKV_CHECK enum hkv_err problems_new(struct problems **out);
void problems_free(struct problems *problems);

#endif
