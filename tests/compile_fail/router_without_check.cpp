// expects: elastic: Router must satisfy the concept router
#include <elastic/attention.hpp>

struct first_head_dense {
  int operator()(elastic::problem const&, int, int query_head, int) const { return query_head > 0; }
#ifdef ELASTIC_SHOULD_COMPILE
  void check(elastic::problem const&, int) const {}
#endif
};

elastic::attention<elastic::hybrid<elastic::full, elastic::streaming>, first_head_dense> const attend;
