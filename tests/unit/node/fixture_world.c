#include "fixture/node_world.c"
