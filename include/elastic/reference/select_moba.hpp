// MoBA's selection by its formula, in double precision.
#pragma once

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include <elastic/selectors/moba.hpp>

namespace elastic {

struct reference;

/// The gates of every query row that comes to the selector: emit(where, row, gates[own block + 1]), the
/// last of them +∞. Rows before the first key have none.
template <element T, class Emit>
void gates_on(reference const&, moba const& s, select_inputs<T> const& in, Emit&& emit) {
  problem const& p = in.shape;
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      if (!in.comes(b, h)) continue;
      where const w = locate(p, b, h, 0);
      head_rows<T const> const queries = rows_of(in.q, p.cu_seqlens_q, b, h);
      head_rows<T const> const keys = rows_of(in.k, p.cu_seqlens_k, b, w.kv_head);
      auto const d = static_cast<std::size_t>(p.head_dim);
      std::vector<double> means(static_cast<std::size_t>(ceil_div(w.k_len, s.block)) * d, 0.), gates;
      for (int first = 0; first < w.k_len; first += s.block) {
        int const end = minimum(first + s.block, w.k_len);
        for (std::size_t c = 0; c < d; ++c) {
          double sum = 0;
          for (int j = first; j < end; ++j) sum += static_cast<float>(keys[j][c]);
          means[static_cast<std::size_t>(first / s.block) * d + c] = sum / (end - first);
        }
      }
      for (int q = p.q_begin; q < minimum(p.q_end, w.q_len); ++q) {
        gates.clear();
        for (int j = 0; w.position(q) >= 0 && j <= w.position(q) / s.block; ++j) {
          double gate = 0;
          for (std::size_t c = 0; c < d; ++c)
            gate += static_cast<float>(queries[q][c]) * means[static_cast<std::size_t>(j) * d + c];
          gates.push_back(j == w.position(q) / s.block ? std::numeric_limits<double>::infinity()
                                                       : detail::orderable(gate));
        }
        emit(w, q, gates);
      }
    }
}

template <element T>
void select_on(reference const& backend, moba const& s, moba::storage const& storage, select_inputs<T> const& in,
               workspace) {
  problem const& p = in.shape;
  storage.lists.clear();
  std::fill_n(storage.blocks.words, elements_of({p.batch, p.query_heads, storage.rows, storage.blocks.words_per_row}),
              0u);
  std::vector<int> order;
  gates_on(backend, s, in, [&](where const& w, int q, std::vector<double> const& gates) {
    order.resize(gates.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return gates[static_cast<std::size_t>(a)] > gates[static_cast<std::size_t>(b)];
    });
    if (order.size() > static_cast<std::size_t>(s.k)) order.resize(static_cast<std::size_t>(s.k));
    for (int block : order) storage.blocks.set(storage.selected().row(w, q), block);
    bool const ends_tile = (q + 1) % chunk_alignment == 0 || q + 1 == minimum(p.q_end, w.q_len);
    if (ends_tile) storage.write_list(w, q / chunk_alignment);
  });
}

}  // namespace elastic
