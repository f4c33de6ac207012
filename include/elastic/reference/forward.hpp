// The oracle: direct softmax over the keys that `keeps` admits, in double precision by default. It looks
// at no tile. With Real = float and a rounding of S and P it is also the naive kernel against which
// errors are judged.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include <elastic/core/check.hpp>
#include <elastic/core/sequence.hpp>
#include <elastic/modes/mode.hpp>

namespace elastic {

namespace detail {

/// No rounding: the oracle's own.
struct exact {
  template <class Real>
  Real operator()(Real x) const {
    return x;
  }
};

/// Rounds to a storage type, as a kernel without float intermediates would.
template <element T>
struct round_to {
  template <class Real>
  Real operator()(Real x) const {
    return static_cast<Real>(static_cast<float>(T(static_cast<float>(x))));
  }
};

/// One row: out[d] and its log-sum-exp.
template <class Real, class Round, class M, class Source, class T>
Real reference_row(M const& mode, where const& w, problem const& p, Source const& source, T const* query, int row,
                   std::vector<Real>& logits, Real* out) {
  constexpr Real none = -std::numeric_limits<Real>::infinity();
  Round const round;
  Real highest = static_cast<Real>(sink_logit_of(mode, w));
  int const run = source.run() > 0 ? source.run() : maximum(w.k_len, 1);
  for (int first = 0; first < w.k_len; first += run) {
    head_rows<T const> keys;  // located when a key of the run is first kept
    for (int k = first; k < minimum(first + run, w.k_len); ++k) {
      logits[static_cast<std::size_t>(k)] = none;
      if (!w.admits(row, k) || !mode.keeps(w, row, k)) continue;
      if (keys.data == nullptr) keys = source.keys(p, w.batch, w.kv_head, first);
      Real dot = 0;
      for (int d = 0; d < p.head_dim; ++d)
        dot +=
            static_cast<Real>(static_cast<float>(query[d])) * static_cast<Real>(static_cast<float>(keys[k - first][d]));
      logits[static_cast<std::size_t>(k)] = round(score_of(mode, w, dot * static_cast<Real>(p.softmax_scale), row, k));
      highest = maximum(highest, logits[static_cast<std::size_t>(k)]);
    }
  }
  for (int d = 0; d < p.head_dim; ++d) out[d] = 0;
  if (highest == none) return none;
  Real total = std::exp(static_cast<Real>(sink_logit_of(mode, w)) - highest);
  for (int first = 0; first < w.k_len; first += run) {
    head_rows<T const> values;
    for (int k = first; k < minimum(first + run, w.k_len); ++k) {
      if (logits[static_cast<std::size_t>(k)] == none) continue;
      if (values.data == nullptr) values = source.values(p, w.batch, w.kv_head, first);
      Real const weight = std::exp(logits[static_cast<std::size_t>(k)] - highest);
      total += weight;
      for (int d = 0; d < p.head_dim; ++d)
        out[d] += round(weight) * static_cast<Real>(static_cast<float>(values[k - first][d]));
    }
  }
  for (int d = 0; d < p.head_dim; ++d) out[d] /= total;
  return highest + std::log(total);
}

}  // namespace detail

/// Calls emit(batch, query_head, row, out[head_dim], lse) for every query row of the problem.
template <class Real = double, class Round = detail::exact, class M, class Source, class T, class Emit>
void reference_rows(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
                    const_assignment_view const& assignment, Emit&& emit) {
  std::vector<Real> logits(static_cast<std::size_t>(p.k_len) + 1), out(static_cast<std::size_t>(p.head_dim));
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, b, h, assignment(b, h));
      head_rows<T const> const queries = rows_of(q, p.cu_seqlens_q, b, h);
      for (int i = p.q_begin; i < minimum(p.q_end, w.q_len); ++i) {
        Real const lse = detail::reference_row<Real, Round>(mode, w, p, source, queries[i], i, logits, out.data());
        emit(b, h, i, out.data(), lse);
      }
    }
}

}  // namespace elastic
