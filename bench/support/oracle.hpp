// What every benchmark checks before it times anything: a small problem's outputs against the oracle.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <elastic/attention.hpp>
#include <support/inputs.hpp>

namespace bench {

inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// The rule of correctness for `out`: an error of at most twice the naive kernel's, and four roundings. Says what is
/// wrong, or nothing.
template <class Mode, class Source, elastic::element T>
std::string differs_from_oracle(Mode const& mode, elastic::problem const& p,
                                elastic::const_assignment_view const& assignment, elastic::heads_view<T const> const& q,
                                Source const& keys, elastic::heads_view<T const> const& out) {
  double error = 0, naive_error = 0, highest = 0;
  std::vector<float> naive;  // in the order in which rows come
  elastic::reference_rows<float, elastic::detail::round_to<T>>(
      mode, p, q, keys, assignment,
      [&](int, int, int, float const* row, float) { naive.insert(naive.end(), row, row + p.head_dim); });
  auto next = naive.begin();
  elastic::reference_rows<double>(mode, p, q, keys, assignment, [&](int b, int h, int i, double const* row, double) {
    for (int d = 0; d < p.head_dim; ++d) {
      double const off = std::abs(static_cast<double>(static_cast<float>(out(b, i, h, d))) - row[d]);
      error = off > error || std::isnan(off) ? off : error;  // a NaN stays
      naive_error = std::max(naive_error, std::abs(static_cast<double>(*next++) - row[d]));
      highest = std::max(highest, std::abs(row[d]));
    }
  });
  if (error <= 2 * naive_error + 4 * elastic::epsilon<T> * highest) return {};
  return "differs from the oracle by " + std::to_string(error);
}

}  // namespace bench
