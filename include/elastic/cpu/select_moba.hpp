// MoBA's selection on the CPU: block means once per KV head, then a product of 128 queries with all means
// and a partial sort per row.
#pragma once

#include <algorithm>

#include <elastic/cpu/float_rows.hpp>
#include <elastic/cpu/parallel.hpp>
#include <elastic/selectors/moba.hpp>

namespace elastic {

struct cpu;

namespace detail {

struct moba_scratch {
  std::int64_t blocks, heads, tiles;
  int threads;
  float* means;    // (batch, kv_heads, blocks, head_dim)
  float* queries;  // (threads, 128, head_dim)
  float* gates;    // (threads, 128, blocks)
  float* copy;     // (threads, blocks)

  moba_scratch(moba const& s, problem const& p, workspace_cursor& cursor)
      : blocks(ceil_div(p.k_len, s.block)),
        heads(std::int64_t{p.batch} * p.query_heads),
        tiles(ceil_div(p.q_end, chunk_alignment) - p.q_begin / chunk_alignment),
        threads(static_cast<int>(minimum<std::int64_t>(p.threads, heads * tiles))) {
    means = cursor.take<float>(elements_of({p.batch, p.kv_heads, blocks, p.head_dim}));
    queries = cursor.take<float>(elements_of({threads, chunk_alignment, p.head_dim}));
    gates = cursor.take<float>(elements_of({threads, chunk_alignment, blocks}));
    copy = cursor.take<float>(elements_of({threads, blocks}));
  }
};

/// mean[head_dim] of keys [first, end). In double, so that long blocks lose nothing.
template <element T>
void mean_of_keys(head_rows<T const> keys, int first, int end, int head_dim, float* mean) {
  constexpr int lanes = 32;  // every head_dim is a multiple
  for (int c = 0; c < head_dim; c += lanes) {
    double sum[lanes] = {};
    for (int j = first; j < end; ++j)
      for (int l = 0; l < lanes; ++l) sum[l] += static_cast<float>(keys[j][c + l]);
    for (int l = 0; l < lanes; ++l) mean[c + l] = static_cast<float>(sum[l] / (end - first));
  }
}

}  // namespace detail

inline std::size_t scratch_bytes_on(cpu const&, moba const& s, problem const& p) {
  workspace_cursor cursor;
  detail::moba_scratch(s, p, cursor);
  return cursor.used();
}

template <element T>
void select_on(cpu const&, moba const& s, moba::storage const& storage, select_inputs<T> const& in, workspace memory) {
  problem const& p = in.shape;
  workspace_cursor cursor(memory.data());
  detail::moba_scratch const scratch(s, p, cursor);
  storage.lists.clear();
  int const d = p.head_dim, group = p.group();
  auto const means_of = [&](int batch, int kv_head) {
    return scratch.means + (std::int64_t{batch} * p.kv_heads + kv_head) * scratch.blocks * d;
  };

  detail::parallel_for(std::int64_t{p.batch} * p.kv_heads * scratch.blocks, p.threads, [&](std::int64_t item, int) {
    int const block = static_cast<int>(item % scratch.blocks);
    int const kv_head = static_cast<int>(item / scratch.blocks % p.kv_heads);
    int const batch = static_cast<int>(item / scratch.blocks / p.kv_heads);
    where const w = locate(p, batch, kv_head * group, 0);
    int const first = block * s.block, end = minimum(first + s.block, w.k_len);
    bool wanted = false;
    for (int h = kv_head * group; h < (kv_head + 1) * group; ++h) wanted = wanted || in.comes(batch, h);
    if (wanted && first < end)
      detail::mean_of_keys(rows_of(in.k, p.cu_seqlens_k, batch, kv_head), first, end, d,
                           means_of(batch, kv_head) + std::int64_t{block} * d);
  });

  detail::parallel_for(scratch.heads * scratch.tiles, scratch.threads, [&](std::int64_t item, int thread) {
    int const q_tile = p.q_begin / chunk_alignment + static_cast<int>(item % scratch.tiles);
    int const head = static_cast<int>(item / scratch.tiles % p.query_heads);
    int const batch = static_cast<int>(item / scratch.tiles / p.query_heads);
    where const w = locate(p, batch, head, 0);
    tile_rows const tile(w, q_tile, {chunk_alignment, s.block});
    int const rows = tile.last - tile.first + 1;
    if (!in.comes(batch, head)) {
      for (int q = tile.first; q <= tile.last; ++q) storage.clear_row(w, q);
      return;
    }
    if (rows <= 0) return;

    // Gates of the blocks before the last row's own; causality cuts them per row below.
    int const earlier = maximum(w.position(tile.last), 0) / s.block;
    float* const gates = scratch.gates + thread * chunk_alignment * scratch.blocks;
    float* const copy = scratch.copy + thread * scratch.blocks;
    if (earlier > 0) {
      detail::float_rows const queries =
          detail::map_rows<T>(rows_of(in.q, p.cu_seqlens_q, batch, head), tile.first, rows, d,
                              scratch.queries + std::int64_t{thread} * chunk_alignment * d);
      detail::float_rows const means(means_of(batch, w.kv_head), earlier, d, Eigen::OuterStride<>(d));
      detail::mutable_float_rows product(gates, rows, earlier, Eigen::OuterStride<>(scratch.blocks));
      product.noalias() = queries * means.transpose();
      product = product.unaryExpr([](float gate) { return detail::orderable(gate); });
    }
    for (int q = tile.first; q <= tile.last; ++q) {
      float const* const row = gates + (q - tile.first) * scratch.blocks;
      int const own = maximum(w.position(q), 0) / s.block;
      storage.write_row(w, q, detail::cut_of_top(row, own, s.k - 1, copy), row);
    }
    storage.write_list(w, q_tile);
  });
}

}  // namespace elastic
