// The rule by which every backend is judged, over each output tensor:
//   max|x − oracle| ≤ 2·max|naive − oracle| + 4·ε(dtype)·max|oracle|
// oracle: reference_rows in double; naive: the same with float accumulation and S and P rounded to the
// dtype. LSE is a float whatever the dtype, so its naive rounds to float. A row without keys is 0, and its
// LSE −∞ or the sink logit. Failures are returned as text, empty where the rule holds.
//
// The naive's error is a draw of rounding luck, and a tensor of few numbers, an LSE of one row say, can draw
// nearly none: where the rule fails, the naive is run again, q scaled first and sums taken in eight other
// orders, and its largest error counts, unless the error is more than 16 times what is allowed.
#pragma once

#include <cmath>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include <elastic/attention.hpp>

#include "support/dice.hpp"

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
    oracle = maximum(oracle, std::abs(z));
    add_naive(y, z);
  }
  void add_naive(double y, double z) { naive = maximum(naive, std::abs(y - z)); }
  double bound(double epsilon) const { return 2 * naive + 4 * epsilon * oracle; }
  std::string verdict(char const* tensor, double epsilon) const {
    if (given <= bound(epsilon)) return {};
    std::ostringstream text;
    text << tensor << " is off by " << given << ", allowed " << bound(epsilon) << " (naive " << naive << ", largest "
         << oracle << ")";
    return text.str();
  }
};

/// Another order of summation: of head_dim by a table, of the keys of a sequence by k → (factor·k + 1) mod length.
struct summation_order {
  std::vector<int> dims;
  int factor = 0;  // 0: keys as they are

  int key(int k, int length) const {
    if (factor == 0) return k;
    int coprime = factor % length;
    while (std::gcd(coprime, length) != 1) ++coprime;
    return static_cast<int>((std::int64_t{coprime} * k + 1) % length);
  }
};

/// The mode that sees the reordered keys as the original saw them, causality included.
template <class M>
struct reordered_mode {
  M original;
  summation_order const* order;
  bool causal;
  static constexpr bool has_partial = true;

  ELASTIC_HOST_DEVICE where before(where w) const {
    w.causal = causal;
    return w;
  }
  bool keeps(where const& w, int q, int k) const {
    int const key = order->key(k, w.k_len);
    return before(w).admits(q, key) && original.keeps(before(w), q, key);
  }
  template <class Real>
    requires scoring_mode<M>
  Real score(where const& w, Real s, int q, int k) const {
    return original.score(before(w), s, q, order->key(k, w.k_len));
  }
  ELASTIC_HOST_DEVICE float sink_logit(where const& w) const { return sink_logit_of(original, before(w)); }
};

/// Reordered keys and values, in float; copied when asked for.
template <class Source>
struct reordered_keys {
  using element_type = float;
  Source const& source;
  summation_order const& order;
  mutable std::vector<float> copy = {};

  head_rows<float const> keys(problem const& p, int batch, int kv_head, int first) const {
    return copied(p, batch, first, source.keys(p, batch, kv_head, first),
                  [&](int d) { return order.dims[static_cast<std::size_t>(d)]; });
  }
  head_rows<float const> values(problem const& p, int batch, int kv_head, int first) const {
    return copied(p, batch, first, source.values(p, batch, kv_head, first), [](int d) { return d; });
  }
  int run() const { return source.run(); }

 private:
  template <class Rows, class Place>
  head_rows<float const> copied(problem const& p, int batch, int first, Rows const& rows, Place&& place) const {
    int const length = locate(p, batch, 0, 0).k_len, d = p.head_dim;
    int const count = run() > 0 ? minimum(run(), length - first) : length;
    copy.resize(static_cast<std::size_t>(count * d));
    for (int i = 0; i < count; ++i)
      for (int j = 0; j < d; ++j)
        copy[static_cast<std::size_t>(i * d + j)] = static_cast<float>(rows[order.key(i, length)][place(j)]);
    return {copy.data(), d};
  }
};

/// The naive once more: q is scaled first, and sums are taken in orders drawn from `seed`.
template <class Round, class M, class Source, class T>
emitted_rows<float> naive_reordered(int seed, M const& mode, problem p, heads_view<T const> const& q,
                                    Source const& source, const_assignment_view const& assignment) {
  dice r(static_cast<std::uint64_t>(seed));
  summation_order order;
  for (int i = 0; i < p.head_dim; ++i) {
    order.dims.push_back(i);
    std::swap(order.dims.back(), order.dims[static_cast<std::size_t>(r.below(i + 1))]);
  }
  if (source.run() == 0) order.factor = r.between(1, 1 << 16);
  std::vector<float> memory;
  for (std::int64_t b = 0; b < q.extents[0]; ++b)
    for (std::int64_t i = 0; i < q.extents[1]; ++i)
      for (std::int64_t h = 0; h < q.extents[2]; ++h)
        for (int d : order.dims) memory.push_back(static_cast<float>(q(b, i, h, d)) * p.softmax_scale);
  reordered_mode<M> const reordered{mode, &order, p.causal};
  p.softmax_scale = 1;
  p.causal = false;
  heads_view<float const> const queries(memory.data(), {q.extents[0], q.extents[1], q.extents[2], q.extents[3]});
  return emit_rows<float, Round>(reordered, p, queries, reordered_keys<Source>{source, order}, assignment);
}

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
          return std::string(what) + " at sequence " + std::to_string(b) + ", head " + std::to_string(h) + ", row " +
                 std::to_string(i);
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
  auto const failure = [&] {
    std::string const text = out_errors.verdict("out", epsilon<T>);
    return text.empty() ? lse_errors.verdict("lse", epsilon<float>) : text;
  };
  // No luck explains an error of many times what is allowed.
  bool const near = out_errors.given <= 16 * out_errors.bound(epsilon<T>) &&
                    lse_errors.given <= 16 * lse_errors.bound(epsilon<float>);
  for (int order = 1; near && order <= 8 && !failure().empty(); ++order) {
    using namespace elastic::testing::detail;
    auto const again = naive_reordered<elastic::detail::round_to<T>>(order, mode, p, q, source, assignment);
    auto const again_lse = naive_reordered<elastic::detail::round_to<float>>(order, mode, p, q, source, assignment).lse;
    for (std::size_t i = 0; i < oracle.out.size(); ++i) out_errors.add_naive(again.out[i], oracle.out[i]);
    for (std::size_t i = 0; lse && i < oracle.lse.size(); ++i)
      if (!std::isinf(oracle.lse[i])) lse_errors.add_naive(again_lse[i], oracle.lse[i]);
  }
  return failure();
}

}  // namespace elastic::testing
