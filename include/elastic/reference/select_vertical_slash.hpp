// Vertical-slash selection by its formula, in double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <elastic/selectors/vertical_slash.hpp>

namespace elastic {

struct reference;

/// The sums that columns and offsets are ranked by: emit(where, column_sums[k_len], offset_sums[k_len])
/// for every head that comes to the selector. The forced ones are not marked yet.
template <element T, class Emit>
void column_and_offset_sums_on(reference const&, vertical_slash const& s, select_inputs<T> const& in, Emit&& emit) {
  problem const& p = in.shape;
  double const scale = static_cast<double>(s.scale_of(p));
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      if (!in.comes(b, h)) continue;
      where const w = locate(p, b, h, 0);
      head_rows<T const> const queries = rows_of(in.q, p.cu_seqlens_q, b, h);
      head_rows<T const> const keys = rows_of(in.k, p.cu_seqlens_k, b, w.kv_head);
      std::vector<double> columns(static_cast<std::size_t>(w.k_len), 0.), offsets = columns, weights = columns;
      for (int q = w.q_len - s.rows_of_estimate(w); q < w.q_len; ++q) {
        int const end = w.position(q) + 1;
        double highest = -std::numeric_limits<double>::infinity(), total = 0;
        for (int j = 0; j < end; ++j) {
          double dot = 0;
          for (int c = 0; c < p.head_dim; ++c)
            dot += static_cast<double>(static_cast<float>(queries[q][c])) *
                   static_cast<double>(static_cast<float>(keys[j][c]));
          weights[static_cast<std::size_t>(j)] = dot * scale;
          highest = maximum(highest, dot * scale);
        }
        for (int j = 0; j < end; ++j) {
          double& weight = weights[static_cast<std::size_t>(j)];
          total += weight = std::exp(weight - highest);
        }
        for (int j = 0; j < end; ++j) {
          columns[static_cast<std::size_t>(j)] += weights[static_cast<std::size_t>(j)] / total;
          offsets[static_cast<std::size_t>(w.position(q) - j)] += weights[static_cast<std::size_t>(j)] / total;
        }
      }
      emit(w, columns, offsets);
    }
}

template <element T>
void select_on(reference const& backend, vertical_slash const& s, vertical_slash::storage const& storage,
               select_inputs<T> const& in, workspace) {
  problem const& p = in.shape;
  storage.lists.clear();
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) storage.clear_head(locate(p, b, h, 0));
  // The `forced` first and the largest others, `count` in all.
  auto const top = [](std::vector<double> sums, int count, int forced) {
    for (std::size_t i = 0; i < sums.size(); ++i)
      sums[i] = static_cast<int>(i) < forced ? std::numeric_limits<double>::infinity() : detail::orderable(sums[i]);
    std::vector<int> order(sums.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int x, int y) {
      return sums[static_cast<std::size_t>(x)] > sums[static_cast<std::size_t>(y)];
    });
    order.resize(static_cast<std::size_t>(count));
    return order;
  };
  column_and_offset_sums_on(backend, s, in, [&](where const& w, auto const& columns, auto const& offsets) {
    for (int column : top(columns, s.columns_of(w), s.forced_columns)) storage.take_column(w, column);
    for (int offset : top(offsets, s.offsets_of(w), s.forced_offsets)) storage.take_offset(w, offset);
    for (int tile = p.q_begin / chunk_alignment; tile < ceil_div(minimum(p.q_end, w.q_len), chunk_alignment); ++tile)
      storage.write_list(w, tile);
  });
}

}  // namespace elastic
