// expects: constraint
#include <elastic/core/dtype.hpp>

#ifdef ELASTIC_SHOULD_COMPILE
using type = float;
#else
using type = int;
#endif

double const step = elastic::epsilon<type>;
