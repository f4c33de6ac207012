// expects: elastic: auto_dense compares the lengths of lists
#include <elastic/attention.hpp>

using namespace elastic;

#ifdef ELASTIC_SHOULD_COMPILE
attention<auto_dense<antidiagonal>> const attend;
#else
attention<auto_dense<top_k>> const attend;
#endif
