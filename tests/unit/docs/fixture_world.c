#include "fixture/docs_world.c"
