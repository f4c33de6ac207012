// The rule by which every backend is judged, over each output tensor:
//   max|x − oracle| ≤ 2·max|naive − oracle| + 4·ε(dtype)·max|oracle|
// oracle: reference_rows in double; naive: the same with float accumulation and S and P rounded to the
// dtype. LSE is a float whatever the dtype, so its naive rounds to float. A row without keys is 0, and its
// LSE −∞ or the sink logit. Failures are returned as text, empty where the rule holds.
#pragma once

#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include <elastic/attention.hpp>

namespace elastic::testing {

/// Rows (batch, query head, row) of a problem in the order in which reference_rows emits them.
template <class Real>
struct emitted_rows {
  std::vector<Real> out;
  std::vector<Real> lse;
};

template <class Real, class Round, class M, class Source, class T>
emitted_rows<Real> emit_rows(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
                             const_assignment_view const& assignment) {
  emitted_rows<Real> rows;
  reference_rows<Real, Round>(mode, p, q, source, assignment, [&](int, int, int, Real const* out, Real lse) {
    rows.out.insert(rows.out.end(), out, out + p.head_dim);
    rows.lse.push_back(lse);
  });
  return rows;
}

namespace detail {

struct largest_errors {
  double given = 0, naive = 0, oracle = 0;
  void add(double x, double y, double z) {
    given = maximum(given, std::abs(x - z));
    naive = maximum(naive, std::abs(y - z));
    oracle = maximum(oracle, std::abs(z));
  }
  double bound(double epsilon) const { return 2 * naive + 4 * epsilon * oracle; }
  std::string verdict(char const* tensor, double epsilon) const {
    if (given <= bound(epsilon)) return {};
    std::ostringstream text;
    text << tensor << " is off by " << given << ", allowed " << bound(epsilon) << " (naive " << naive << ", largest " << oracle << ")";
    return text.str();
  }
};

}  // namespace detail

/// Judges out and lse (absent: an empty view) of the problem's query rows.
template <element T, class M, class Source>
std::string misjudged(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
                      heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment) {
  auto const oracle = emit_rows<double, elastic::detail::exact>(mode, p, q, source, assignment);
  auto const naive = emit_rows<float, elastic::detail::round_to<T>>(mode, p, q, source, assignment);
  auto const naive_lse = std::is_same_v<T, float> || !lse
                             ? std::vector<float>{}
                             : emit_rows<float, elastic::detail::round_to<float>>(mode, p, q, source, assignment).lse;
  elastic::testing::detail::largest_errors out_errors, lse_errors;
  std::size_t row = 0;
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h)
      for (int i = p.q_begin; i < minimum(p.q_end, locate(p, b, h, 0).q_len); ++i, ++row) {
        auto const at = [&](char const* what) {
          return std::string(what) + " at sequence " + std::to_string(b) + ", head " + std::to_string(h) + ", row " + std::to_string(i);
        };
        T const* const given = rows_of(out, p.cu_seqlens_q, b, h)[i];
        std::size_t const first = row * static_cast<std::size_t>(p.head_dim);
        for (std::size_t d = 0; d < static_cast<std::size_t>(p.head_dim); ++d) {
          double const x = static_cast<float>(given[d]);
          if (!std::isfinite(x)) return at("out is not finite or was not written");
          out_errors.add(x, naive.out[first + d], oracle.out[first + d]);
        }
        if (!lse) continue;
        double const x = *lse_of(lse, p.cu_seqlens_q, b, h)[i], z = oracle.lse[row];
        if (std::isnan(x)) return at("lse is NaN or was not written");
        if (std::isinf(z) || std::isinf(x)) {
          if (x != z) return at("lse is infinite for a row with keys, or finite for one without");
        } else {
          lse_errors.add(x, naive_lse.empty() ? naive.lse[row] : naive_lse[row], z);
        }
      }
  std::string const text = out_errors.verdict("out", epsilon<T>);
  return text.empty() ? lse_errors.verdict("lse", epsilon<float>) : text;
}

}  // namespace elastic::testing
