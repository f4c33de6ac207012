// Pooled top-k selection on the CPU: the keys of every KV head that is asked for are pooled once, then
// tiles of pooled queries are multiplied with them.
#pragma once

#include <vector>

#include <elastic/cpu/row_dots.hpp>
#include <elastic/cpu/select_lists.hpp>
#include <elastic/selectors/pooled_top_k.hpp>

namespace elastic {

namespace detail {

struct pooled_top_k_buffers {
  static constexpr int tile = 64;  // query blocks multiplied at once

  float* keys;                  // (batch, kv_heads) of mean_panels
  std::vector<float*> queries;  // by thread: (tile, head_dim)
  std::vector<row_dots> dots;   // by thread

  static int tiles(pooled_top_k const& s, problem const& p) {
    return ceil_div(maximum(ceil_div(p.q_end, s.block_rows) - p.q_begin / s.block_rows, 0), tile);
  }

  pooled_top_k_buffers(pooled_top_k const& s, problem const& p, workspace_cursor& cursor) {
    std::int64_t const blocks = ceil_div(p.k_len, s.block_columns);
    std::int64_t const pooled = std::int64_t{p.batch} * p.kv_heads * blocks;
    std::int64_t const items = maximum(pooled, std::int64_t{p.batch} * p.query_heads * tiles(s, p));
    keys = cursor.take<float>(elements_of({p.batch, p.kv_heads, mean_panels::size(blocks, p.head_dim)}));
    for (int t = 0; t < busy_threads(p, items); ++t) {
      queries.push_back(cursor.take<float>(std::int64_t{tile} * p.head_dim));
      dots.emplace_back(tile, blocks, p.head_dim, cursor);
    }
  }
};

}  // namespace detail

inline std::size_t scratch_bytes_on(cpu const&, pooled_top_k const& s, problem const& p) {
  workspace_cursor cursor;
  detail::pooled_top_k_buffers(s, p, cursor);
  return cursor.used();
}

template <element T>
void select_on(cpu const& backend, pooled_top_k const& s, block_lists const& lists, select_inputs<T> const& in,
               workspace scratch) {
  problem const& p = in.shape;
  require(scratch.size() >= scratch_bytes_on(backend, s, p), "scratch", scratch.size(), "scratch_bytes_on bytes");
  workspace_cursor cursor(scratch.data());
  detail::pooled_top_k_buffers const buffers(s, p, cursor);
  std::int64_t const key_blocks = ceil_div(p.k_len, s.block_columns);
  int const d = p.head_dim, group = p.group();
  auto const pooled_keys = [&](int b, int kv_head) {
    std::int64_t const head = std::int64_t{b} * p.kv_heads + kv_head;
    return detail::mean_panels{buffers.keys + head * detail::mean_panels::size(key_blocks, d), d};
  };
  lists.clear();

  detail::parallel_for(std::int64_t{p.batch} * p.kv_heads * key_blocks, p.threads, [&](std::int64_t item, int) {
    int const j = static_cast<int>(item % key_blocks), kv_head = static_cast<int>(item / key_blocks % p.kv_heads);
    int const b = static_cast<int>(item / key_blocks / p.kv_heads);
    bool asked = false;
    for (int h = kv_head * group; h < (kv_head + 1) * group; ++h) asked |= in.comes(b, h);
    where const w = locate(p, b, kv_head * group, 0);
    int const first = j * s.block_columns, end = minimum(first + s.block_columns, w.k_len);
    if (asked && first < end) pooled_keys(b, kv_head).write(j, rows_of(in.k, p.cu_seqlens_k, b, kv_head), first, end);
  });

  std::int64_t const heads = std::int64_t{p.batch} * p.query_heads;
  int const tiles = buffers.tiles(s, p);
  detail::parallel_for(heads * tiles, p.threads, [&](std::int64_t item, int thread) {
    int const b = static_cast<int>(item % heads / p.query_heads), h = static_cast<int>(item % heads % p.query_heads);
    if (!in.comes(b, h)) return;
    where const w = locate(p, b, h, in.assignment(b, h));
    int const first = p.q_begin / s.block_rows + (tiles - 1 - static_cast<int>(item / heads)) * buffers.tile;
    int const end = minimum(first + buffers.tile, ceil_div(minimum(p.q_end, w.q_len), s.block_rows));
    if (first >= end) return;
    auto const own = static_cast<std::size_t>(thread);
    for (int i = first; i < end; ++i) {
      detail::list_extent const extent(w, i, s.block_rows, s.block_columns);
      detail::mean_of_rows(rows_of(in.q, p.cu_seqlens_q, b, h), extent.first, extent.last + 1, d,
                           buffers.queries[own] + std::int64_t{i - first} * d);
    }
    buffers.dots[own].each<float>({buffers.queries[own], d}, end - first, pooled_keys(b, w.kv_head),
                                  s.visible(w, end - 1), [&](int i, float* products) {
                                    std::int64_t const at = lists.row(b, h, first + i);
                                    lists.count[at] = s.keep(s.visible(w, first + i), products, lists.entries_of(at));
                                  });
  });
}

}  // namespace elastic
