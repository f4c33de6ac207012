// expects: elastic: check of a Router must be void check(problem, int modes) const
#include <elastic/attention.hpp>

using namespace elastic;

struct first_heads {
  int operator()(problem const&, int, int head, int) const { return head > 0; }
#ifdef ELASTIC_SHOULD_COMPILE
  void check(problem const&, int) const {}
#else
  void check(problem const&) const {}
#endif
};

attention<hybrid<full, streaming>, first_heads> const attend;
