// expects: elastic: this Router has no route_on for this Backend
#include <elastic/cuda/cuda.cuh>

#ifdef ELASTIC_SHOULD_COMPILE
using router = elastic::ratio_router;
#else
using router = elastic::oracle_router;
#endif

using gpu = elastic::attention<elastic::hybrid<elastic::full, elastic::streaming>, router, elastic::cuda_for<64>>;

void route(gpu const& attend, elastic::heads_view<elastic::half> const& k, elastic::assignment_view const& a) {
  attend.route(k, a, {});
}
