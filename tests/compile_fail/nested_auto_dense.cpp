// expects: elastic: auto_dense inside auto_dense
#include <elastic/attention.hpp>

using namespace elastic;

#ifdef ELASTIC_SHOULD_COMPILE
attention<auto_dense<antidiagonal>> const attend;
#else
attention<auto_dense<auto_dense<antidiagonal>>> const attend;
#endif
