// Per-token top-k by its formula: all scores of a row, sorted.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include <elastic/selectors/top_k.hpp>

namespace elastic {

struct reference;

template <element T>
void select_on(reference const&, top_k const& s, top_k::storage const& storage, select_inputs<T> const& in, workspace) {
  problem const& p = in.shape;
  storage.view(in);
  std::vector<std::pair<double, int>> ranking;  // the negative score first: ascending pairs are the order of rank
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, b, h, 0);
      head_rows<T const> const queries = rows_of(in.q, p.cu_seqlens_q, b, h);
      head_rows<T const> const keys = rows_of(in.k, p.cu_seqlens_k, b, w.kv_head);
      for (int q = p.q_begin; q < minimum(p.q_end, w.q_len); ++q) {
        top_cut<double>& cut = storage.cut(w, q) = {};
        if (!in.comes(b, h)) continue;
        ranking.clear();
        for (int j = 0; j < w.k_len; ++j)
          if (w.admits(q, j)) ranking.emplace_back(-detail::orderable(exact_dot(queries[q], keys[j], p.head_dim)), j);
        if (static_cast<int>(ranking.size()) <= s.k) {
          cut = top_cut<double>::everything();
        } else {
          std::sort(ranking.begin(), ranking.end());
          cut = {-ranking[static_cast<std::size_t>(s.k) - 1].first, ranking[static_cast<std::size_t>(s.k) - 1].second};
        }
      }
    }
}

}  // namespace elastic
