// What the tests of antidiagonal selection share: block scores of a backend on the host, and how near a row of them is
// to another choice.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <elastic/attention.hpp>

#include "support/selection.hpp"

namespace elastic::testing {

/// Block scores (batch, query_heads, query blocks, key blocks), zero where there is no candidate.
template <class Backend, class T>
std::vector<double> scores_of(Backend const& backend, antidiagonal const& s, heads_view<T const> const& q,
                              heads_view<T const> const& k, options const& o = {}) {
  problem const p = make_problem<T>(q, k, o);
  s.check(p);
  int const rows = ceil_div(p.q_len, s.block), columns = ceil_div(p.k_len, s.block);
  std::vector<double> all(static_cast<std::size_t>(p.batch * p.query_heads * rows * columns));
  std::size_t bytes = 0;
  if constexpr (requires { scratch_bytes_on(backend, s, p); }) bytes = scratch_bytes_on(backend, s, p);
  std::vector<std::byte> scratch(bytes, std::byte{0xff});
  auto const routes = all_to(p, 0);
  select_inputs<T> const in{q, k, p, const_assignment_view(routes.data(), {p.batch, p.query_heads})};
  block_scores_on(backend, s, in, scratch, [&](where const& w, int i, auto const& row, auto const* scores) {
    for (int j = 0; j < row.visible; ++j)
      all[static_cast<std::size_t>(((w.batch * p.query_heads + w.query_head) * rows + i) * columns + j)] = scores[j];
  });
  return all;
}

/// How near a row is to another choice, relative to its sum: the step between the last block taken and the first one
/// left, and the distance of every running sum from the threshold.
inline double margin_of(antidiagonal const& s, antidiagonal::row const& row, double const* scores) {
  bool const published = row.rule == selection_rule::first_chunk;
  std::vector<double> others;
  double total = 0, held = 0;
  for (int j = 0; j < row.visible; ++j) {
    bool const forced = (j >= row.own_begin && j < row.own_end) || (j == 0 && !published);
    total += scores[j];
    if (forced)
      held += scores[j];
    else
      others.push_back(scores[j]);
  }
  if (others.empty()) return 1;
  std::ranges::sort(others, std::greater<>());
  double const goal = double(s.threshold) * total;
  double margin = std::abs(held - goal);
  std::size_t taken = published;
  for (double const score : others) {
    taken += held < goal;
    held += score;
    margin = std::min(margin, std::abs(held - goal));
  }
  if (taken > 0 && taken < others.size()) margin = std::min(margin, others[taken - 1] - others[taken]);
  return margin / total;
}

}  // namespace elastic::testing
