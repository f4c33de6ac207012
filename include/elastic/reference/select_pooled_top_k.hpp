// Pooled top-k selection by its formula, in double precision.
#pragma once

#include <vector>

#include <elastic/reference/select_lists.hpp>
#include <elastic/selectors/pooled_top_k.hpp>

namespace elastic {

namespace detail {

/// The mean of rows [first, last].
template <element T>
std::vector<double> mean_row(head_rows<T const> rows, int first, int last, int head_dim) {
  std::vector<double> mean(static_cast<std::size_t>(head_dim), 0.);
  for (int i = first; i <= last; ++i)
    for (int d = 0; d < head_dim; ++d) mean[static_cast<std::size_t>(d)] += double(static_cast<float>(rows[i][d]));
  for (double& x : mean) x /= last - first + 1;
  return mean;
}

}  // namespace detail

template <element T>
void select_on(reference const&, pooled_top_k const& s, block_lists const& lists, select_inputs<T> const& in,
               workspace) {
  lists.clear();
  problem const& p = in.shape;
  detail::for_each_list(in, s.block_rows, [&](where const& w, int query_block) {
    detail::list_extent const extent(w, query_block, s.block_rows, s.block_columns);
    head_rows<T const> const keys = rows_of(in.k, p.cu_seqlens_k, w.batch, w.kv_head);
    auto const query = detail::mean_row<T>(rows_of(in.q, p.cu_seqlens_q, w.batch, w.query_head), extent.first,
                                           extent.last, p.head_dim);
    std::vector<double> scores;
    for (int j = 0; j < extent.visible; ++j) {
      int const first = j * s.block_columns, last = minimum(first + s.block_columns, w.k_len) - 1;
      auto const key = detail::mean_row<T>(keys, first, last, p.head_dim);
      double dot = 0;
      for (std::size_t d = 0; d < key.size(); ++d) dot += query[d] * key[d];
      scores.push_back(dot);
    }
    std::int64_t const at = lists.row(w.batch, w.query_head, query_block);
    lists.count[at] = s.keep(extent.visible, scores.data(), lists.entries_of(at));
  });
}

}  // namespace elastic
