// expects: elastic: tensors are of float, half or bfloat16
#include <elastic/attention.hpp>

#ifdef ELASTIC_SHOULD_COMPILE
using type = float;
#else
using type = double;
#endif

void attend(elastic::attention<elastic::full> const& attention, elastic::heads_view<type const> const& q,
            elastic::heads_view<type> const& out) {
  attention(q, q, q, out);
}
