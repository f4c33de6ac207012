// The walk that block selectors share on the reference backend.
#pragma once

#include <elastic/selectors/selector.hpp>

namespace elastic {

struct reference;

namespace detail {

/// body(where, query_block) for every block of query rows of every head that comes to the selector.
template <element T, class Body>
void for_each_list(select_inputs<T> const& in, int block_rows, Body&& body) {
  problem const& p = in.shape;
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      if (!in.comes(b, h)) continue;
      where const w = locate(p, b, h, in.assignment(b, h));
      for (int i = p.q_begin / block_rows; i < ceil_div(minimum(p.q_end, w.q_len), block_rows); ++i) body(w, i);
    }
}

}  // namespace detail

}  // namespace elastic
