// expects: elastic: auto_dense takes a selector
#include <elastic/attention.hpp>

using namespace elastic;

#ifdef ELASTIC_SHOULD_COMPILE
attention<auto_dense<antidiagonal>> const attend;
#else
attention<auto_dense<full>> const attend;
#endif
