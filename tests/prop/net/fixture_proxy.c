#include "unit/net/fixture_proxy.c"
