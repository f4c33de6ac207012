// How much attention a mode keeps: per head, the mean over its rows of the full softmax's weight on the
// kept keys, Σ_kept exp(s) / Σ exp(s) = exp(lse_kept − lse_full). 1 is everything. Rows that see no key
// count for nothing; a row that keeps none of its keys counts 0. A sink logit counts as kept.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <elastic/attention.hpp>

namespace elastic {

/// Row-major (sequence, query head), from two LSEs (batch, query_heads, seq), packed where offsets are given; rows
/// [begin, end) of every sequence count, −1 being its end. Heads without a row that counts give 1.
inline std::vector<double> kept_mass(lse_view const& kept, lse_view const& full_attention,
                                     std::span<std::int32_t const> cu_seqlens_q = {}, int begin = 0, int end = -1) {
  for (int i = 0; i < 3; ++i)
    require(kept.extents[i] == full_attention.extents[i], "full_attention",
            "extent " + std::to_string(full_attention.extents[i]), std::to_string(kept.extents[i]) + " as in kept");
  detail::check_view("kept", kept);
  detail::check_view("full_attention", full_attention);
  detail::row_ranges const rows("kept", kept.extents[0], kept.extents[2], cu_seqlens_q, begin, end);
  std::vector<double> mass;
  for (int b = 0; b < rows.sequences; ++b)
    for (int h = 0; h < kept.extents[1]; ++h) {
      head_rows<float> const part = lse_of(kept, rows.starts, b, h), all = lse_of(full_attention, rows.starts, b, h);
      double sum = 0;
      std::int64_t seen = 0;
      for (int i = begin; i < rows.end(b); ++i) {
        if (*all[i] == -std::numeric_limits<float>::infinity()) continue;
        sum += std::exp(static_cast<double>(*part[i]) - static_cast<double>(*all[i]));
        ++seen;
      }
      mass.push_back(seen > 0 ? sum / static_cast<double>(seen) : 1);
    }
  return mass;
}

/// The mean over heads.
inline double mean_kept_mass(std::span<double const> heads) {
  double sum = 0;
  for (double const mass : heads) sum += mass;
  return heads.empty() ? 1 : sum / static_cast<double>(heads.size());
}

/// kept_mass for the mode of a front door and given routes: runs it, and full attention with the mode's scores.
template <class Mode, class Router, class Backend, class T>
  requires(Backend::on_host)
std::vector<double> kept_mass(attention<Mode, Router, Backend> const& attend, heads_view<T> const& q,
                              heads_view<T> const& k, const_assignment_view const& assignment, options const& o = {}) {
  using E = std::remove_const_t<T>;
  problem const p = attend.shape(q, k, o);
  auto const everything = map_leaves(attend.mode(), [](auto const& leaf) {
    static_assert(!scoring_mode<std::remove_cvref_t<decltype(leaf)>>,
                  "elastic: kept_mass cannot take the score out of this mode; give it its score with scored<…>");
    return full{};
  });
  std::vector<E> memory(static_cast<std::size_t>(q.size()));
  heads_view<E> const out(memory.data(), {q.extents[0], q.extents[1], q.extents[2], q.extents[3]});
  std::size_t const rows = static_cast<std::size_t>(q.extents[0] * q.extents[1] * q.extents[2]);
  std::vector<float> kept(rows), all(rows);
  lse_view const kept_lse(kept.data(), {q.extents[0], q.extents[2], q.extents[1]});
  lse_view const all_lse(all.data(), {q.extents[0], q.extents[2], q.extents[1]});
  given_router const given{assignment};
  // Outputs are not wanted, so the keys serve as values.
  attention(attend.mode(), given, attend.backend())(q, k, k, out, kept_lse, o);
  attention(everything, given, attend.backend())(q, k, k, out, all_lse, o);
  return kept_mass(kept_lse, all_lse, o.cu_seqlens_q, p.q_begin, p.q_end);
}

}  // namespace elastic
