// Attention forward on the CPU: FlashAttention's online softmax over the tiles that tiles_of yields.
// For a panel of query rows, S = Q·Kᵀ, m' = max(m, rowmax S), P = exp(S − m'), l' = e^(m−m')·l + rowsum P,
// O' = e^(m−m')·O + P·V; at the end O / l and LSE = m + ln l. Everything in float, on Eigen's packets: a row whose
// logits overflow, so that no weight is left, is NaN and not one that sees no key.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include <elastic/core/sequence.hpp>
#include <elastic/cpu/convert.hpp>
#include <elastic/cpu/panel.hpp>
#include <elastic/cpu/parallel.hpp>
#include <elastic/cpu/softmax.hpp>
#include <elastic/cpu/tuning.hpp>
#include <elastic/modes/tiles.hpp>

namespace elastic::detail {

/// Everything one thread needs, in one allocation. A query tile is cut into panels of rows.
class tile_buffers {
 public:
  tile_buffers(tile_shape shape, int run, int head_dim) {
    std::int64_t const rows = ceil_div(shape.rows, panel_rows) * panel_rows;
    std::int64_t const sizes[] = {rows * head_dim,
                                  rows * head_dim,
                                  std::int64_t{run} * panel_rows,
                                  std::int64_t{run} * head_dim,
                                  std::int64_t{run} * head_dim,
                                  rows,
                                  rows,
                                  panel_rows};
    float** const slices[] = {&query, &output, &scores, &keys, &values, &highest, &total, &scale};
    std::int64_t floats = 0;
    for (std::int64_t size : sizes) floats += size;
    memory_.resize(static_cast<std::size_t>(floats) + alignment);
    float* at = memory_.data() + Eigen::internal::first_default_aligned(memory_.data(), alignment);
    for (int i = 0; i < 8; ++i) {
      *slices[i] = at;
      at += sizes[i];
    }
  }

  float* query;    // (panels, head_dim, panel_rows)
  float* output;   // (panels, head_dim, panel_rows)
  float* scores;   // (run, panel_rows)
  float* keys;     // (run, head_dim), where they are not floats already
  float* values;   // (run, head_dim), likewise
  float* highest;  // (panels, panel_rows): the running maximum
  float* total;    // (panels, panel_rows): the running sum
  float* scale;    // (panel_rows)

 private:
  static constexpr int alignment = 16;  // floats: a cache line, and the widest packet
  std::vector<float> memory_;
};

/// Masks and scores the logits (columns, panel_rows) of `rows` query rows from `first` on, keys from `begin` on.
template <class M>
void mask_panel(M const& mode, where const& w, tile_kind kind, int first, int rows, int begin, int columns,
                float* scores) {
  constexpr float none = -std::numeric_limits<float>::infinity();
  bool const asks = has_partial_of<M> && kind == tile_kind::partial;
  auto const seen_by = [&](int r) {  // columns that causality leaves to a row
    return w.causal ? minimum(maximum(w.position(first + r) + 1 - begin, 0), columns) : columns;
  };
  for (int at = 0; at < columns; at += 64) {
    int const here = minimum(64, columns - at);
    std::uint64_t kept[panel_rows] = {};
    for (int r = 0; r < rows; ++r) {
      int const count = minimum(seen_by(r) - at, here);
      if (count <= 0) continue;
      kept[r] = ~std::uint64_t{0} >> (64 - count);
      if (asks) kept[r] &= kept_bits_of(mode, w, first + r, begin + at, count);
    }
    for (int c = 0; c < here; ++c) {
      float* const column = scores + std::int64_t{at + c} * panel_rows;
      for (int r = 0; r < panel_rows; ++r) column[r] = (kept[r] >> c & 1) != 0 ? column[r] : none;
      if constexpr (scoring_mode<M>)
        for (int r = 0; r < rows; ++r)
          if (column[r] != none) column[r] = score_of(mode, w, column[r], first + r, begin + at + c);
    }
  }
}

/// Do the tiles hold a key that row q sees?
template <class M, class Tiles>
bool sees_key(M const& mode, where const& w, Tiles const& tiles, int columns_of_tile, int q) {
  for (int i = 0; i < tiles.count; ++i) {
    tile const t = tiles[i];
    int const begin = t.index * columns_of_tile;
    int const end = minimum(begin + columns_of_tile, w.causal ? minimum(w.position(q) + 1, w.k_len) : w.k_len);
    bool const asks = has_partial_of<M> && t.kind == tile_kind::partial;
    for (int k = begin; k < end; ++k)
      if (!asks || mode.keeps(w, q, k)) return true;
  }
  return false;
}

/// One query tile of one head.
template <class M, class Source, class T>
void attend_tile(M const& mode, where const& w, problem const& p, Source const& source, head_rows<T const> queries,
                 int q_tile, cpu_tiling const& tiling, tile_buffers& buffers, head_rows<T> out, head_rows<float> lse) {
  constexpr float none = -std::numeric_limits<float>::infinity();
  tile_shape const shape = tiling.shape;
  tile_rows const span(w, q_tile, shape);
  int const rows = span.last - span.first + 1, d = p.head_dim;
  int const panels = ceil_div(rows, panel_rows);

  float const sink = sink_logit_of(mode, w);
  std::fill_n(buffers.highest, panels * panel_rows, sink);
  std::fill_n(buffers.total, panels * panel_rows, sink == none ? 0.f : 1.f);
  std::fill_n(buffers.output, std::int64_t{panels} * panel_rows * d, 0.f);
  for (int i = 0; i < panels; ++i)
    load_panel(queries, span.first + i * panel_rows, minimum(panel_rows, rows - i * panel_rows), d,
               buffers.query + std::int64_t{i} * panel_rows * d);

  auto const tiles = tiles_of(mode, w, q_tile, shape);
  for (int i = 0; i < tiles.count;) {
    // A run: full tiles that lie next to each other (indices descend), or one tile.
    tile const top = tiles[i];
    int length = 1;
    if (top.kind == tile_kind::full)
      while ((length + 1) * shape.columns <= tiling.run && i + length < tiles.count) {
        tile const next = tiles[i + length];
        if (next.index != top.index - length || next.kind != tile_kind::full) break;
        ++length;
      }
    i += length;
    int const begin = (top.index - length + 1) * shape.columns;
    int const columns = minimum(begin + length * shape.columns, w.k_len) - begin;
    head_rows<float const> const keys =
        as_floats<T>(source.keys(p, w.batch, w.kv_head, begin), columns, d, buffers.keys);
    head_rows<float const> const values =
        as_floats<T>(source.values(p, w.batch, w.kv_head, begin), columns, d, buffers.values);

    for (int panel = 0; panel < panels; ++panel) {
      int const first = span.first + panel * panel_rows, count = minimum(panel_rows, rows - panel * panel_rows);
      int const seen = w.causal ? minimum(columns, w.position(first + count - 1) + 1 - begin) : columns;
      if (seen <= 0) continue;
      std::int64_t const at = std::int64_t{panel} * panel_rows;
      panel_scores(buffers.query + at * d, keys, seen, d, p.softmax_scale, buffers.scores);
      if (scoring_mode<M> || top.kind != tile_kind::full)
        mask_panel(mode, w, top.kind, first, count, begin, seen, buffers.scores);
      online_softmax(buffers.scores, seen, buffers.highest + at, buffers.total + at, buffers.scale);
      panel_output(buffers.scores, values, seen, d, buffers.scale, buffers.output + at * d);
    }
  }

  for (int panel = 0; panel < panels; ++panel) {
    int const first = span.first + panel * panel_rows, count = minimum(panel_rows, rows - panel * panel_rows);
    std::int64_t const at = std::int64_t{panel} * panel_rows;
    for (int r = 0; r < count; ++r) {
      float const total = buffers.total[at + r], highest = buffers.highest[at + r];
      // Without weight though there is a key: its logit left float. A score hook may mean −∞.
      bool const overflown =
          !(total > 0) && (highest != none || (!scoring_mode<M> && sees_key(mode, w, tiles, shape.columns, first + r)));
      float const no_weight = overflown ? std::numeric_limits<float>::quiet_NaN() : 0.f;
      buffers.scale[r] = total > 0 ? 1.f / total : no_weight;
      if (lse.data != nullptr) *lse[first + r] = total > 0 ? highest + std::log(total) : overflown ? no_weight : none;
    }
    store_panel(buffers.output + at * d, buffers.scale, out, first, count, d);
  }
}

/// The whole problem. Arguments are checked by the front door.
template <class M, class Source, class T>
void cpu_forward(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
                 heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment) {
  cpu_tiling const tiling = cpu_tiling_for(largest_tile_of(mode), source.run());
  int const first_tile = p.q_begin / tiling.shape.rows;
  int const tiles = ceil_div(p.q_end, tiling.shape.rows) - first_tile;
  std::int64_t const heads = std::int64_t{p.batch} * p.query_heads;
  std::int64_t const items = heads * tiles;
  std::vector<std::unique_ptr<tile_buffers>> buffers(static_cast<std::size_t>(p.threads));

  // The last query tiles first: where causal they are the longest. Heads of a group lie together.
  parallel_for(items, p.threads, [&](std::int64_t item, int thread) {
    int const q_tile = first_tile + tiles - 1 - static_cast<int>(item / heads);
    int const batch = static_cast<int>(item % heads / p.query_heads);
    int const head = static_cast<int>(item % heads % p.query_heads);
    where const w = locate(p, batch, head, assignment(batch, head));
    if (q_tile * tiling.shape.rows >= w.q_len) return;
    auto& own = buffers[static_cast<std::size_t>(thread)];
    if (!own) own = std::make_unique<tile_buffers>(tiling.shape, tiling.run, p.head_dim);
    head_rows<float> const lse_rows = lse ? lse_of(lse, p.cu_seqlens_q, batch, head) : head_rows<float>{};
    attend_tile<M, Source, T>(mode, w, p, source, rows_of(q, p.cu_seqlens_q, batch, head), q_tile, tiling, *own,
                              rows_of(out, p.cu_seqlens_q, batch, head), lse_rows);
  });
}

}  // namespace elastic::detail
