// Antidiagonal selection on the CPU. Folding turns stride phases into one product: with the phases of q
// reversed and laid side by side, R = Q'·K'ᵀ has inner dimension stride · head_dim. A tile of folded rows
// walks the keys once; of each (row, key block) only the largest logit and the sum of exponentials stay,
// so that scratch grows with the number of key blocks, not of keys.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include <elastic/cpu/convert.hpp>
#include <elastic/cpu/eigen.hpp>
#include <elastic/cpu/select_lists.hpp>
#include <elastic/cpu/softmax.hpp>
#include <elastic/selectors/antidiagonal.hpp>

namespace elastic {

namespace detail {

/// How many blocks of queries and of keys are multiplied at once: about 128 folded rows of each, and no
/// more than a megabyte.
struct antidiagonal_tiling {
  int per_block;     // folded rows of a block
  int inner;         // stride · head_dim
  int query_blocks;  // of a tile
  int key_blocks;
  int rows;  // folded query rows of a tile, padded to whole lanes
  int columns;

  constexpr antidiagonal_tiling(antidiagonal const& s, problem const& p)
      : per_block(s.block / s.stride), inner(s.stride * p.head_dim) {
    int const fitting = maximum(minimum(128, (1 << 18) / inner) / per_block, 1);
    query_blocks = minimum(fitting, maximum(ceil_div(p.q_end, s.block) - p.q_begin / s.block, 1));
    key_blocks = minimum(fitting, maximum(ceil_div(p.k_len, s.block), 1));
    // A block may be longer than the sequence; what is held is not.
    rows = ceil_div(minimum(query_blocks * per_block, ceil_div(p.q_len, s.stride)), softmax_lanes) * softmax_lanes;
    columns = minimum(key_blocks * per_block, ceil_div(p.k_len, s.stride));
  }

  /// Tiles of one head.
  constexpr int tiles(antidiagonal const& s, problem const& p) const {
    return ceil_div(maximum(ceil_div(p.q_end, s.block) - p.q_begin / s.block, 0), query_blocks);
  }
};

/// What one thread works in.
struct antidiagonal_buffers {
  float* query;         // (rows, inner)
  float* keys;          // (columns, inner)
  float* logits;        // (columns, rows)
  float* highest;       // (key blocks, rows): the largest logit of each block
  float* mass;          // (key blocks, rows): Σ exp(logit − highest), in the end the share of the row's softmax
  float* block_scores;  // (key blocks)

  antidiagonal_buffers(antidiagonal const& s, problem const& p, antidiagonal_tiling const& tiling,
                       workspace_cursor& cursor) {
    std::int64_t const rows = tiling.rows, blocks = ceil_div(p.k_len, s.block);
    query = cursor.take<float>(rows * tiling.inner);
    keys = cursor.take<float>(std::int64_t{tiling.columns} * tiling.inner);
    logits = cursor.take<float>(tiling.columns * rows);
    highest = cursor.take<float>(blocks * rows);
    mass = cursor.take<float>(blocks * rows);
    block_scores = cursor.take<float>(blocks);
  }
};

/// Folded rows [first, first + count) of a head into a matrix of `inner` columns; rows past the end are zero.
template <element T>
void fold(head_rows<T const> from, int length, int first, int count, int stride, int head_dim, bool reversed,
          float scale, float* to) {
  for (int i = 0; i < count; ++i)
    for (int r = 0; r < stride; ++r, to += head_dim) {
      int const at = (first + i) * stride + (reversed ? stride - 1 - r : r);
      if (at >= length) {
        std::fill_n(to, head_dim, 0.f);
        continue;
      }
      to_floats(from[at], to, head_dim);
      for (int d = 0; scale != 1.f && d < head_dim; ++d) to[d] *= scale;
    }
}

/// Of `columns` logits (column, rows): the largest of each row, and the sum of exponentials below it. Rows
/// before `hidden`, whole lanes of them, see none of the columns.
inline void mass_of_block(float const* logits, int rows, int hidden, int columns, float* highest, float* mass) {
  constexpr float none = -std::numeric_limits<float>::infinity();
  std::fill_n(highest, hidden, none);
  std::fill_n(mass, hidden, 0.f);
  for (int first = hidden; first < rows; first += softmax_lanes) {
    float top[softmax_lanes], base[softmax_lanes], sum[softmax_lanes];
    for (int r = 0; r < softmax_lanes; ++r) top[r] = none, sum[r] = 0;
    for (int c = 0; c < columns; ++c) {
      float const* const s = logits + std::int64_t{c} * rows + first;
      for (int r = 0; r < softmax_lanes; ++r) top[r] = top[r] < s[r] ? s[r] : top[r];
    }
    for (int r = 0; r < softmax_lanes; ++r) base[r] = top[r] == none ? 0.f : top[r];
    for (int c = 0; c < columns; ++c) {
      float const* const s = logits + std::int64_t{c} * rows + first;
      for (int r = 0; r < softmax_lanes; ++r) sum[r] += exp_of_negative(s[r] - base[r]);
    }
    for (int r = 0; r < softmax_lanes; ++r) highest[first + r] = top[r], mass[first + r] = sum[r];
  }
}

/// Turns the mass of each (block, row) into its share of the row's softmax.
inline void normalise_masses(int rows, int blocks, float const* highest, float* mass) {
  constexpr float none = -std::numeric_limits<float>::infinity();
  for (int first = 0; first < rows; first += softmax_lanes) {
    float base[softmax_lanes], sum[softmax_lanes];
    for (int r = 0; r < softmax_lanes; ++r) base[r] = none, sum[r] = 0;
    for (int j = 0; j < blocks; ++j) {
      float const* const top = highest + std::int64_t{j} * rows + first;
      for (int r = 0; r < softmax_lanes; ++r) base[r] = base[r] < top[r] ? top[r] : base[r];
    }
    for (int r = 0; r < softmax_lanes; ++r) base[r] = base[r] == none ? 0.f : base[r];
    for (int j = 0; j < blocks; ++j) {
      float const* const top = highest + std::int64_t{j} * rows + first;
      float* const m = mass + std::int64_t{j} * rows + first;
      for (int r = 0; r < softmax_lanes; ++r) sum[r] += m[r] *= exp_of_negative(top[r] - base[r]);
    }
    for (int r = 0; r < softmax_lanes; ++r) sum[r] = sum[r] > 0 ? 1 / sum[r] : 0.f;
    for (int j = 0; j < blocks; ++j) {
      float* const m = mass + std::int64_t{j} * rows + first;
      for (int r = 0; r < softmax_lanes; ++r) m[r] *= sum[r];
    }
  }
}

}  // namespace detail

inline std::size_t scratch_bytes_on(cpu const&, antidiagonal const& s, problem const& p) {
  detail::antidiagonal_tiling const tiling(s, p);
  std::int64_t const items = std::int64_t{p.batch} * p.query_heads * tiling.tiles(s, p);
  workspace_cursor cursor;
  for (int t = 0; t < detail::busy_threads(p, items); ++t) detail::antidiagonal_buffers(s, p, tiling, cursor);
  return cursor.used();
}

/// Block scores A: emit(where, query_block, row, scores[row.visible]) for every list of a routed head, from
/// several threads at once.
template <element T, class Emit>
void block_scores_on(cpu const& backend, antidiagonal const& s, select_inputs<T> const& in, workspace scratch,
                     Emit&& emit) {
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic>;
  using row_major_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  problem const& p = in.shape;
  s.check_lengths(p);
  require(scratch.size() >= scratch_bytes_on(backend, s, p), "scratch", scratch.size(), "scratch_bytes_on bytes");
  detail::antidiagonal_tiling const tiling(s, p);
  std::int64_t const heads = std::int64_t{p.batch} * p.query_heads;
  int const tiles = tiling.tiles(s, p);
  std::vector<detail::antidiagonal_buffers> buffers;
  workspace_cursor cursor(scratch.data());
  for (int t = 0; t < detail::busy_threads(p, heads * tiles); ++t) buffers.emplace_back(s, p, tiling, cursor);

  detail::parallel_for(heads * tiles, p.threads, [&](std::int64_t item, int thread) {
    int const b = static_cast<int>(item % heads / p.query_heads), h = static_cast<int>(item % heads % p.query_heads);
    if (!in.comes(b, h)) return;
    where const w = locate(p, b, h, in.assignment(b, h));
    int const first_block = p.q_begin / s.block + (tiles - 1 - static_cast<int>(item / heads)) * tiling.query_blocks;
    int const end_block = minimum(first_block + tiling.query_blocks, ceil_div(minimum(p.q_end, w.q_len), s.block));
    if (first_block >= end_block) return;
    int const first = first_block * tiling.per_block;
    int const rows = minimum(end_block * tiling.per_block, ceil_div(w.q_len, s.stride)) - first;
    int const lanes = ceil_div(rows, detail::softmax_lanes) * detail::softmax_lanes;
    int const shift = w.causal ? w.shift() / s.stride : 0;
    int const folded_keys = ceil_div(w.k_len, s.stride);
    int const columns = w.causal ? minimum(folded_keys, first + rows + shift) : folded_keys;
    int const blocks = ceil_div(maximum(columns, 0), tiling.per_block);

    auto const& own = buffers[static_cast<std::size_t>(thread)];
    detail::fold<T>(rows_of(in.q, p.cu_seqlens_q, b, h), w.q_len, first, lanes, s.stride, p.head_dim, true,
                    p.softmax_scale / static_cast<float>(s.stride), own.query);
    head_rows<T const> const keys = rows_of(in.k, p.cu_seqlens_k, b, w.kv_head);
    Eigen::Map<row_major_matrix const> const query(own.query, lanes, tiling.inner);
    for (int block = 0; block < blocks; block += tiling.key_blocks) {
      int const begin = block * tiling.per_block;
      int const width = minimum(columns - begin, tiling.columns);
      detail::fold<T>(keys, w.k_len, begin, width, s.stride, p.head_dim, false, 1.f, own.keys);
      // Row r sees column c from r = edge + c on. A tile at the edge is multiplied in pieces, without the
      // rows that see nothing of them.
      int const edge = w.causal ? begin - shift - first : -width;
      int const piece = edge + width > 1 ? ceil_div(32, tiling.per_block) * tiling.per_block : width;
      for (int from = 0; from < width; from += piece) {
        int const count = minimum(piece, width - from);
        int const hidden = maximum(edge + from, 0) / detail::softmax_lanes * detail::softmax_lanes;
        float* const logits = own.logits + std::int64_t{from} * lanes;
        Eigen::Map<row_major_matrix const> const key(own.keys + std::int64_t{from} * tiling.inner, count, tiling.inner);
        Eigen::Map<matrix>(logits, lanes, count).bottomRows(lanes - hidden).noalias() =
            query.bottomRows(lanes - hidden) * key.transpose();
        for (int c = maximum(-edge - from, 0); c < count; ++c)
          std::fill_n(logits + std::int64_t{c} * lanes + hidden, edge + from + c - hidden,
                      -std::numeric_limits<float>::infinity());
        for (int c = 0; c < count; c += tiling.per_block) {
          std::int64_t const at = (std::int64_t{block} + (from + c) / tiling.per_block) * lanes;
          detail::mass_of_block(logits + std::int64_t{c} * lanes, lanes, hidden, minimum(tiling.per_block, count - c),
                                own.highest + at, own.mass + at);
        }
      }
    }
    detail::normalise_masses(lanes, blocks, own.highest, own.mass);

    for (int i = first_block; i < end_block; ++i) {
      antidiagonal::row const row = s.row_of(w, i);
      int const from = (i - first_block) * tiling.per_block, to = minimum(from + tiling.per_block, rows);
      for (int j = 0; j < row.visible; ++j) {
        float const* const share = own.mass + std::int64_t{j} * lanes;
        own.block_scores[j] = 0;
        for (int r = from; r < to; ++r) own.block_scores[j] += share[r];
      }
      emit(w, i, row, static_cast<float const*>(own.block_scores));
    }
  });
}

template <element T>
void select_on(cpu const& backend, antidiagonal const& s, block_lists const& lists, select_inputs<T> const& in,
               workspace scratch) {
  lists.clear();
  block_scores_on(backend, s, in, scratch, [&](where const& w, int query_block, auto const& row, float const* scores) {
    std::int64_t const at = lists.row(w.batch, w.query_head, query_block);
    lists.count[at] = s.keep(row, scores, lists.entries_of(at));
  });
}

}  // namespace elastic
