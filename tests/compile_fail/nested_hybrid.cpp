// expects: elastic: a head has one route; list all modes in one hybrid
#include <elastic/attention.hpp>

using namespace elastic;

#ifdef ELASTIC_SHOULD_COMPILE
attention<hybrid<full, streaming, sliding_window>> const attend;
#else
attention<hybrid<full, hybrid<streaming, sliding_window>>> const attend;
#endif
