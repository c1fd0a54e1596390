#include "fixture/kv_store.c"
