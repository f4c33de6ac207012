// Attention forward on the CPU: FlashAttention's online softmax over the tiles that tiles_of yields.
// For a query tile, S = Q·Kᵀ, m' = max(m, rowmax S), P = exp(S − m'), l' = e^(m−m')·l + rowsum P,
// O' = e^(m−m')·O + P·V; at the end O / l and LSE = m + ln l. Products by Eigen, everything in float.
// Buffers hold query rows contiguously, so that softmax works on whole vectors of rows.
#pragma once

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include <Eigen/Core>

#include <elastic/core/sequence.hpp>
#include <elastic/cpu/convert.hpp>
#include <elastic/cpu/softmax.hpp>
#include <elastic/cpu/parallel.hpp>
#include <elastic/cpu/tuning.hpp>
#include <elastic/modes/tiles.hpp>

namespace elastic::detail {

using column_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic>;
using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using query_rows = Eigen::Map<column_major, 0, Eigen::OuterStride<>>;    // query rows contiguous
using key_rows = Eigen::Map<row_major const, 0, Eigen::OuterStride<>>;   // one key or value after another

/// Everything one thread needs, in one allocation. `stride` query rows, padded for the softmax.
class tile_buffers {
 public:
  tile_buffers(tile_shape shape, int run, int head_dim) : stride(ceil_div(shape.rows, softmax_lanes) * softmax_lanes) {
    std::int64_t const rows = stride;
    std::int64_t const sizes[] = {rows * head_dim, rows * head_dim, rows * run, std::int64_t{run} * head_dim, rows, rows, rows};
    float** const slices[] = {&query, &output, &scores, &keys, &highest, &total, &scale};
    std::int64_t floats = 0;
    for (std::int64_t size : sizes) floats += size;
    memory_.resize(static_cast<std::size_t>(floats) + 16);
    float* at = Eigen::internal::first_default_aligned(memory_.data(), 16) + memory_.data();
    for (int i = 0; i < 7; ++i, at += sizes[i - 1]) *slices[i] = at;
  }

  int stride;
  float* query;    // (head_dim, stride)
  float* output;   // (head_dim, stride)
  float* scores;   // (run, stride)
  float* keys;     // (run, head_dim): keys or values, where they are not floats already
  float* highest;  // (stride): the running maximum
  float* total;    // (stride): the running sum
  float* scale;    // (stride)

 private:
  std::vector<float> memory_;
};

/// A run of keys or values as a float matrix: mapped in place, or converted into `buffer`.
template <class T>
key_rows as_floats(head_rows<T const> rows, int count, int head_dim, float* buffer) {
  if constexpr (std::is_same_v<T, float>) {
    return {rows.data, count, head_dim, Eigen::OuterStride<>(rows.stride)};
  } else {
    for (int i = 0; i < count; ++i) to_floats(rows[i], buffer + std::int64_t{i} * head_dim, head_dim);
    return {buffer, count, head_dim, Eigen::OuterStride<>(head_dim)};
  }
}

/// One query tile of one head.
template <class M, class Source, class T>
void attend_tile(M const& mode, where const& w, problem const& p, Source const& source, head_rows<T const> queries,
                 int q_tile, tile_shape shape, int run, tile_buffers& buffers, head_rows<T> out, head_rows<float> lse) {
  constexpr float none = -std::numeric_limits<float>::infinity();
  tile_rows const tile_span(w, q_tile, shape);
  int const first = tile_span.first, rows = tile_span.last - tile_span.first + 1;
  int const d = p.head_dim;

  Eigen::OuterStride<> const stride(buffers.stride);
  load_columns(queries, first, rows, d, p.softmax_scale, buffers.query, buffers.stride);
  query_rows const query(buffers.query, rows, d, stride);
  query_rows output(buffers.output, rows, d, stride);
  float const sink = sink_logit_of(mode, w);
  std::fill_n(buffers.highest, buffers.stride, sink);
  std::fill_n(buffers.total, buffers.stride, sink == none ? 0.f : 1.f);
  output.setZero();

  auto const tiles = tiles_of(mode, w, q_tile, shape);
  for (int i = 0; i < tiles.count;) {
    // A run: tiles of one kind that lie next to each other (indices descend).
    tile const top = tiles[i];
    int length = 1;
    if (top.kind == tile_kind::full)
      while ((length + 1) * shape.columns <= run && i + length < tiles.count) {
        tile const next = tiles[i + length];
        if (next.index != top.index - length || next.kind != tile_kind::full) break;
        ++length;
      }
    i += length;
    int const begin = (top.index - length + 1) * shape.columns;
    int const columns = minimum(begin + length * shape.columns, w.k_len) - begin;

    // Leading rows that do not see column c of the run; 0 in full tiles.
    auto const hidden = [&](int c) {
      return w.causal && top.kind != tile_kind::full ? minimum(maximum(begin + c - w.position(first), 0), rows) : 0;
    };
    // Products by strips of columns: where the causal edge cuts the tile, rows above it are left out.
    int const strip = top.kind == tile_kind::full ? columns : clipped_strip;
    key_rows const keys = as_floats<T>(source.keys(p, w.batch, w.kv_head, begin), columns, d, buffers.keys);
    query_rows scores(buffers.scores, rows, columns, stride);
    for (int c = 0; c < columns; c += strip) {
      int const width = minimum(strip, columns - c), below = rows - hidden(c);
      scores.block(rows - below, c, below, width).noalias() = query.bottomRows(below) * keys.middleRows(c, width).transpose();
    }

    bool const asks = has_partial_of<M> && top.kind == tile_kind::partial;
    if (scoring_mode<M> || asks) {
      for (int c = 0; c < columns; ++c)
        for (int r = 0; r < rows; ++r) {
          float& s = buffers.scores[std::int64_t{c} * buffers.stride + r];
          bool const kept = w.admits(first + r, begin + c) && (!asks || mode.keeps(w, first + r, begin + c));
          s = kept ? score_of(mode, w, s, first + r, begin + c) : none;
        }
    } else if (top.kind != tile_kind::full) {
      for (int c = 0; c < columns; ++c) std::fill_n(buffers.scores + std::int64_t{c} * buffers.stride, hidden(c), none);
    }

    if (online_softmax(buffers.scores, buffers.stride, rows, columns, buffers.highest, buffers.total, buffers.scale))
      output.array().colwise() *= Eigen::Map<Eigen::ArrayXf const>(buffers.scale, rows);
    key_rows const values = as_floats<T>(source.values(p, w.batch, w.kv_head, begin), columns, d, buffers.keys);
    for (int c = 0; c < columns; c += strip) {
      int const width = minimum(strip, columns - c), below = rows - hidden(c);
      output.bottomRows(below).noalias() += scores.block(rows - below, c, below, width) * values.middleRows(c, width);
    }
  }

  for (int r = 0; r < rows; ++r) {
    float const total = buffers.total[r];
    buffers.scale[r] = total > 0 ? 1.f / total : 0.f;
    if (lse.data != nullptr) *lse[first + r] = total > 0 ? buffers.highest[r] + std::log(total) : none;
  }
  store_columns(buffers.output, buffers.stride, buffers.scale, out, first, rows, d);
}

/// The whole problem. Arguments are checked by the front door.
template <class M, class Source, class T>
void cpu_forward(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
                 heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment) {
  cpu_tiling const tiling = cpu_tiling_for(largest_tile_of(mode), p, source.run());
  int const first_tile = p.q_begin / tiling.shape.rows;
  int const tiles = ceil_div(p.q_end, tiling.shape.rows) - first_tile;
  std::int64_t const heads = std::int64_t{p.batch} * p.query_heads;
  std::int64_t const items = heads * tiles;
  std::vector<std::unique_ptr<tile_buffers>> buffers(static_cast<std::size_t>(minimum<std::int64_t>(p.threads, maximum<std::int64_t>(items, 1))));

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
    attend_tile<M, Source, T>(mode, w, p, source, rows_of(q, p.cu_seqlens_q, batch, head), q_tile, tiling.shape,
                              tiling.run, *own, rows_of(out, p.cu_seqlens_q, batch, head), lse_rows);
  });
}

}  // namespace elastic::detail
