// The walk that block selectors share on the CPU: one item for each block of query rows of each head.
#pragma once

#include <elastic/cpu/parallel.hpp>
#include <elastic/selectors/selector.hpp>

namespace elastic {

struct cpu;

namespace detail {

/// body(where, query_block) for every block of query rows of every head that comes to the selector. The
/// last blocks first: where causal they have most to look at.
template <element T, class Body>
void parallel_lists(select_inputs<T> const& in, int block_rows, Body&& body) {
  problem const& p = in.shape;
  int const first = p.q_begin / block_rows, end = ceil_div(p.q_end, block_rows);
  std::int64_t const heads = std::int64_t{p.batch} * p.query_heads;
  parallel_for(heads * maximum(end - first, 0), p.threads, [&](std::int64_t item, int) {
    int const query_block = end - 1 - static_cast<int>(item / heads);
    int const b = static_cast<int>(item % heads / p.query_heads), h = static_cast<int>(item % heads % p.query_heads);
    if (!in.comes(b, h)) return;
    where const w = locate(p, b, h, in.assignment(b, h));
    if (query_block * block_rows < w.q_len) body(w, query_block);
  });
}

/// Threads that ever get an item, and so need scratch.
inline int busy_threads(problem const& p, std::int64_t items) {
  return static_cast<int>(minimum<std::int64_t>(p.threads, maximum<std::int64_t>(items, 1)));
}

}  // namespace detail

}  // namespace elastic
