// expects: elastic: planned takes a mode that reads no data, not a selector
#include <elastic/attention.hpp>

using namespace elastic;

#ifdef ELASTIC_SHOULD_COMPILE
attention const attend{planned{union_of{streaming{}, sliding_window{}}}};
#else
attention const attend{planned{union_of{streaming{}, pooled_top_k{}}}};
#endif
