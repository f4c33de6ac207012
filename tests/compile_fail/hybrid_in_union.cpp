// expects: elastic: combine the modes inside a hybrid, not hybrids
#include <elastic/attention.hpp>

using namespace elastic;

#ifdef ELASTIC_SHOULD_COMPILE
attention<hybrid<full, union_of<streaming, sliding_window>>> const attend;
#else
attention<union_of<hybrid<full, streaming>, sliding_window>> const attend;
#endif
