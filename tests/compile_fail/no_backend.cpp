// expects: elastic: Backend must satisfy the concept backend
#include <elastic/attention.hpp>

struct abacus {};

#ifdef ELASTIC_SHOULD_COMPILE
using machine = elastic::reference;
#else
using machine = abacus;
#endif

elastic::attention<elastic::full, elastic::fixed_router, machine> const attend;
