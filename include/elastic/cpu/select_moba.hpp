// MoBA's selection on the CPU: block means once per KV head, then products of 128 queries with all means
// and a partial sort per row.
#pragma once

#include <vector>

#include <elastic/cpu/parallel.hpp>
#include <elastic/cpu/row_dots.hpp>
#include <elastic/selectors/moba.hpp>

namespace elastic {

struct cpu;

namespace detail {

struct moba_scratch {
  std::int64_t blocks, heads, tiles;
  int threads;
  float* means;                 // (batch, kv_heads) of mean_panels
  std::vector<row_dots> gates;  // by thread
  float* copy;                  // (threads, blocks)

  moba_scratch(moba const& s, problem const& p, workspace_cursor& cursor)
      : blocks(ceil_div(p.k_len, s.block)),
        heads(std::int64_t{p.batch} * p.query_heads),
        tiles(ceil_div(p.q_end, chunk_alignment) - p.q_begin / chunk_alignment),
        threads(static_cast<int>(minimum<std::int64_t>(p.threads, heads * tiles))) {
    means = cursor.take<float>(elements_of({p.batch, p.kv_heads, mean_panels::size(blocks, p.head_dim)}));
    for (int t = 0; t < threads; ++t) gates.emplace_back(chunk_alignment, blocks, p.head_dim, cursor);
    copy = cursor.take<float>(elements_of({threads, blocks}));
  }
};

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
    std::int64_t const head = std::int64_t{batch} * p.kv_heads + kv_head;
    return detail::mean_panels{scratch.means + head * detail::mean_panels::size(scratch.blocks, d), d};
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
      means_of(batch, kv_head).write(block, rows_of(in.k, p.cu_seqlens_k, batch, kv_head), first, end);
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
    float* const copy = scratch.copy + thread * scratch.blocks;
    head_rows<T const> const queries = rows_of(in.q, p.cu_seqlens_q, batch, head);
    scratch.gates[static_cast<std::size_t>(thread)].each<T>(
        {queries[tile.first], queries.stride}, rows, means_of(batch, w.kv_head), earlier, [&](int r, float* gates) {
          int const q = tile.first + r, own = maximum(w.position(q), 0) / s.block;
          for (int j = 0; j < own; ++j) gates[j] = detail::orderable(gates[j]);
          storage.write_row(w, q, detail::cut_of_top<float>(gates, own, s.k - 1, copy), gates);
        });
    storage.write_list(w, q_tile);
  });
}

}  // namespace elastic
