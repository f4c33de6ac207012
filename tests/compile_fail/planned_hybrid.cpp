// expects: elastic: plan the modes inside a hybrid, not the hybrid
#include <elastic/attention.hpp>

using namespace elastic;

#ifdef ELASTIC_SHOULD_COMPILE
attention<hybrid<full, planned<union_of<streaming, sliding_window>>>> const attend;
#else
attention<planned<hybrid<full, streaming>>> const attend;
#endif
