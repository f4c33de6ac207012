// expects: elastic: this Router has no route_on for this Backend
#include <elastic/attention.hpp>

struct mystery_router {
  void check(elastic::problem const&, int) const {}
#ifdef ELASTIC_SHOULD_COMPILE
  int operator()(elastic::problem const&, int, int, int) const { return 0; }
#endif
};

void decide(elastic::attention<elastic::hybrid<elastic::full, elastic::streaming>, mystery_router> const& attend,
            elastic::heads_view<float> const& keys, elastic::assignment_view const& assignment) {
  attend.route(keys, assignment, {});
}
