#include "fixture/docs_world.c"
#include "fixture/upstream_model.c"
