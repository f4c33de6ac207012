// expects: elastic: Mode selects per token (top_k): the reference and cpu backends serve it, cuda does not
#include <elastic/cuda/cuda.cuh>

#ifdef ELASTIC_SHOULD_COMPILE
using selector = elastic::moba;
#else
using selector = elastic::top_k;
#endif

using gpu = elastic::attention<elastic::hybrid<elastic::full, selector>, elastic::fixed_router, elastic::cuda_for<64>>;

void attend(gpu const& attend, elastic::heads_view<elastic::half> const& q, elastic::const_assignment_view const& a) {
  attend.select(q, q, a, {});
}
