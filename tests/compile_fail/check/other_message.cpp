// expects: a message of its own
#ifndef ELASTIC_SHOULD_COMPILE
static_assert(false, "something else");
#endif
