// Attention forward on the CPU: FlashAttention's online softmax over the tiles that tiles_of yields.
// For a query tile, S = Q·Kᵀ, m' = max(m, rowmax S), P = exp(S − m'), l' = e^(m−m')·l + rowsum P,
// O' = e^(m−m')·O + P·V; at the end O / l and LSE = m + ln l. Products by Eigen, everything in float.
// Buffers hold query rows contiguously, so that softmax works on whole vectors of rows.
#pragma once

#include <cmath>
#include <limits>
#include <memory>
#include <new>

#include <Eigen/Core>

#include <elastic/core/sequence.hpp>
#include <elastic/cpu/convert.hpp>
#include <elastic/cpu/softmax.hpp>
#include <elastic/cpu/parallel.hpp>
#include <elastic/cpu/tuning.hpp>
#include <elastic/modes/tiles.hpp>

namespace elastic::detail {

using rows_by_columns = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic>;                // column-major: rows contiguous
using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using strided_rows = Eigen::Map<row_major const, 0, Eigen::OuterStride<>>;

/// Everything one thread needs, in one allocation.
class tile_buffers {
 public:
  tile_buffers(tile_shape shape, int run, int head_dim)
      : rows_(shape.rows), memory_(new(std::align_val_t{64}) float[floats(shape, run, head_dim)]) {
    float* at = memory_.get();
    auto const take = [&](std::int64_t n) { float* p = at; at += (n + 15) / 16 * 16; return p; };
    query = take(std::int64_t{shape.rows} * head_dim);
    output = take(std::int64_t{shape.rows} * head_dim);
    scores = take(std::int64_t{shape.rows} * run);
    keys = take(std::int64_t{run} * head_dim);
    highest = take(shape.rows);
    total = take(shape.rows);
    scale = take(shape.rows);
  }

  float* query;    // (head_dim, rows)
  float* output;   // (head_dim, rows)
  float* scores;   // (run, rows)
  float* keys;     // (run, head_dim): keys or values, where they are not floats already
  float* highest;  // (rows): the running maximum
  float* total;    // (rows): the running sum
  float* scale;    // (rows)

 private:
  static std::size_t floats(tile_shape shape, int run, int head_dim) {
    auto const round = [](std::int64_t n) { return (n + 15) / 16 * 16; };
    return static_cast<std::size_t>(2 * round(std::int64_t{shape.rows} * head_dim) + round(std::int64_t{shape.rows} * run) +
                                    round(std::int64_t{run} * head_dim) + 3 * round(shape.rows));
  }
  struct free_aligned {
    void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  int rows_;
  std::unique_ptr<float[], free_aligned> memory_;
};

/// A run of keys or values as a float matrix: mapped in place, or converted into `buffer`.
template <class T>
strided_rows as_floats(head_rows<T const> rows, int count, int head_dim, float* buffer) {
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

  for (int r = 0; r < rows; ++r) load_scaled(queries[first + r], buffers.query + r, rows, d, p.softmax_scale);
  Eigen::Map<rows_by_columns const> const query(buffers.query, rows, d);
  Eigen::Map<rows_by_columns> output(buffers.output, rows, d);
  float const sink = sink_logit_of(mode, w);
  for (int r = 0; r < rows; ++r) {
    buffers.highest[r] = sink;
    buffers.total[r] = sink == none ? 0.f : 1.f;
  }
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

    Eigen::Map<rows_by_columns> scores(buffers.scores, rows, columns);
    scores.noalias() = query * as_floats<T>(source.keys(p, w.batch, w.kv_head, begin), columns, d, buffers.keys).transpose();

    bool const asks = has_partial_of<M> && top.kind == tile_kind::partial;
    if (scoring_mode<M> || asks) {
      for (int c = 0; c < columns; ++c)
        for (int r = 0; r < rows; ++r) {
          float& s = buffers.scores[std::int64_t{c} * rows + r];
          bool const kept = w.admits(first + r, begin + c) && (!asks || mode.keeps(w, first + r, begin + c));
          s = kept ? score_of(mode, w, s, first + r, begin + c) : none;
        }
    } else if (top.kind != tile_kind::full && w.causal) {
      for (int c = 0; c < columns; ++c) {  // rows before the key's own position do not see it
        int const hidden = minimum(maximum(begin + c - w.position(first), 0), rows);
        std::fill_n(buffers.scores + std::int64_t{c} * rows, hidden, none);
      }
    }

    if (online_softmax(buffers.scores, rows, columns, buffers.highest, buffers.total, buffers.scale))
      output.array().colwise() *= Eigen::Map<Eigen::ArrayXf const>(buffers.scale, rows);
    output.noalias() += scores * as_floats<T>(source.values(p, w.batch, w.kv_head, begin), columns, d, buffers.keys);
  }

  for (int r = 0; r < rows; ++r) {
    float const total = buffers.total[r];
    store_scaled(buffers.output + r, rows, out[first + r], d, total > 0 ? 1.f / total : 0.f);
    if (lse.data != nullptr) *lse[first + r] = total > 0 ? buffers.highest[r] + std::log(total) : none;
  }
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
