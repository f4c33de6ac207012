// expects: elastic: check of a Mode must be void check(problem) const
#include <elastic/attention.hpp>

using namespace elastic;

struct anchored {
  static constexpr bool has_partial = false;
  bool keeps(where const&, int, int) const { return true; }
#ifdef ELASTIC_SHOULD_COMPILE
  void check(problem const&) const {}
#else
  void check(problem const&) {}
#endif
};

attention<hybrid<full, anchored>> const attend;
