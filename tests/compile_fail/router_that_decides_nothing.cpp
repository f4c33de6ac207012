// expects: elastic: Router must satisfy the concept router
#include <elastic/attention.hpp>

struct first_head_dense {
#ifdef ELASTIC_SHOULD_COMPILE
  int operator()(elastic::problem const&, int, int query_head, int) const { return query_head > 0; }
#else
  char const* operator()(elastic::problem const&, int, int, int) const { return "dense"; }
#endif
};

elastic::attention<elastic::hybrid<elastic::full, elastic::streaming>, first_head_dense> const attend;
