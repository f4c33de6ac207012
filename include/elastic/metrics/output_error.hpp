// How far one attention output is from another, over the rows of each (sequence, query head) or of all:
//   relative L2        ‖out − expected‖₂ / ‖expected‖₂
//   maximum            max|out − expected|
//   relative maximum   max|out − expected| / max|expected|
// 0 / 0 counts as 0, anything else over 0 as ∞. A NaN in either output is a NaN here.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <elastic/core/check.hpp>
#include <elastic/core/sequence.hpp>

namespace elastic {

enum class error_measure { relative_l2, maximum, relative_maximum };

struct head_error {
  double relative_l2 = 0;
  double maximum = 0;
  double relative_maximum = 0;

  double by(error_measure measure) const {
    return measure == error_measure::relative_l2 ? relative_l2
           : measure == error_measure::maximum   ? maximum
                                                 : relative_maximum;
  }
};

namespace detail {

inline double quotient(double a, double b) { return a == 0 && b == 0 ? 0 : a / b; }

/// max(a, b) that keeps a NaN.
inline double largest(double a, double b) { return a > b || std::isnan(a) ? a : b; }

struct error_sums {
  double squares = 0, expected_squares = 0, most = 0, expected_most = 0;

  void add(double value, double expected) {
    double const difference = value - expected;
    squares += difference * difference;
    expected_squares += expected * expected;
    most = largest(most, std::abs(difference));
    expected_most = largest(expected_most, std::abs(expected));
  }
  head_error result() const {
    return {quotient(std::sqrt(squares), std::sqrt(expected_squares)), most, quotient(most, expected_most)};
  }
};

/// Calls sums_of(sequence, query head) for the sums that a head's rows are added to.
template <class A, class B, class SumsOf>
void add_errors(heads_view<A> const& out, heads_view<B> const& expected, std::span<std::int32_t const> cu_seqlens_q,
                int begin, int end, SumsOf&& sums_of) {
  for (int i = 0; i < 4; ++i)
    require(out.extents[i] == expected.extents[i], "expected", "extent " + std::to_string(expected.extents[i]),
            std::to_string(out.extents[i]) + " as in out");
  check_heads("out", out);
  check_heads("expected", expected);
  row_ranges const ranges("out", out.extents[0], out.extents[1], cu_seqlens_q, begin, end);
  for (int b = 0; b < ranges.sequences; ++b)
    for (int h = 0; h < out.extents[2]; ++h) {
      auto const rows = rows_of(out, ranges.starts, b, h);
      auto const others = rows_of(expected, ranges.starts, b, h);
      error_sums& sums = sums_of(b, h);
      for (int i = begin; i < ranges.end(b); ++i)
        for (std::int64_t d = 0; d < out.extents[3]; ++d)
          sums.add(static_cast<double>(static_cast<float>(rows[i][d])),
                   static_cast<double>(static_cast<float>(others[i][d])));
    }
}

}  // namespace detail

/// Row-major (sequence, query head). `out` and `expected` are (batch, q_len, query_heads, head_dim), packed
/// where offsets are given; rows [begin, end) of every sequence count, −1 being its end.
template <class A, class B>
std::vector<head_error> output_errors(heads_view<A> const& out, heads_view<B> const& expected,
                                      std::span<std::int32_t const> cu_seqlens_q = {}, int begin = 0, int end = -1) {
  std::vector<detail::error_sums> heads;
  detail::add_errors(out, expected, cu_seqlens_q, begin, end,
                     [&](int, int) -> detail::error_sums& { return heads.emplace_back(); });
  std::vector<head_error> errors;
  for (detail::error_sums const& sums : heads) errors.push_back(sums.result());
  return errors;
}

/// The same over the rows of all sequences and heads together.
template <class A, class B>
head_error output_error(heads_view<A> const& out, heads_view<B> const& expected,
                        std::span<std::int32_t const> cu_seqlens_q = {}, int begin = 0, int end = -1) {
  detail::error_sums all;
  detail::add_errors(out, expected, cu_seqlens_q, begin, end, [&](int, int) -> detail::error_sums& { return all; });
  return all.result();
}

}  // namespace elastic
