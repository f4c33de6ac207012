// Antidiagonal selection by its formula, in double precision.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include <elastic/reference/select_lists.hpp>
#include <elastic/selectors/antidiagonal.hpp>

namespace elastic {

/// Block scores A: emit(where, query_block, row, scores[row.visible]) for every list of a routed head.
template <element T, class Emit>
void block_scores_on(reference const&, antidiagonal const& s, select_inputs<T> const& in, workspace, Emit&& emit) {
  s.check_lengths(in.shape);
  detail::for_each_list(in, s.block, [&](where const& w, int query_block) {
    antidiagonal::row const row = s.row_of(w, query_block);
    head_rows<T const> const q = rows_of(in.q, in.shape.cu_seqlens_q, w.batch, w.query_head);
    head_rows<T const> const k = rows_of(in.k, in.shape.cu_seqlens_k, w.batch, w.kv_head);
    int const per_block = s.block / s.stride;
    int const folded_keys = ceil_div(w.k_len, s.stride);
    double const scale = double(in.shape.softmax_scale) / s.stride;
    std::vector<double> score_memory(static_cast<std::size_t>(row.visible), 0.);
    std::vector<double> weight_memory(static_cast<std::size_t>(folded_keys));
    double *const scores = score_memory.data(), *const weights = weight_memory.data();

    int const end = minimum((query_block + 1) * per_block, ceil_div(w.q_len, s.stride));
    for (int a = query_block * per_block; a < end; ++a) {
      int const columns = w.causal ? minimum(folded_keys, a + w.shift() / s.stride + 1) : folded_keys;
      double highest = -std::numeric_limits<double>::infinity(), total = 0;
      for (int c = 0; c < columns; ++c) {
        double dot = 0;
        for (int r = 0; r < s.stride; ++r) {
          int const query = a * s.stride + s.stride - 1 - r, key = c * s.stride + r;
          if (query >= w.q_len || key >= w.k_len) continue;
          for (int d = 0; d < in.shape.head_dim; ++d)
            dot += double(static_cast<float>(q[query][d])) * double(static_cast<float>(k[key][d]));
        }
        weights[c] = dot * scale;
        highest = maximum(highest, dot * scale);
      }
      for (int c = 0; c < columns; ++c) total += weights[c] = std::exp(weights[c] - highest);
      for (int c = 0; c < columns; ++c) scores[c / per_block] += weights[c] / total;
    }
    emit(w, query_block, row, static_cast<double const*>(scores));
  });
}

template <element T>
void select_on(reference const& backend, antidiagonal const& s, block_lists const& lists, select_inputs<T> const& in,
               workspace scratch) {
  lists.clear();
  block_scores_on(backend, s, in, scratch, [&](where const& w, int query_block, auto const& row, double const* scores) {
    std::int64_t const at = lists.row(w.batch, w.query_head, query_block);
    lists.count[at] = s.keep(row, scores, lists.entries_of(at));
  });
}

}  // namespace elastic
