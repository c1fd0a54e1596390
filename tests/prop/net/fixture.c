#include "unit/net/fixture.c"
