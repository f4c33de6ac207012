// Vertical-slash selection on the CPU: two passes of the last queries over panels of keys, one for the
// softmax's maximum and sum, one for the sums of columns and diagonals; then the cut, and the lists.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <elastic/cpu/float_rows.hpp>
#include <elastic/cpu/parallel.hpp>
#include <elastic/cpu/select_lists.hpp>
#include <elastic/selectors/vertical_slash.hpp>

namespace elastic {

struct cpu;

namespace detail {

struct vertical_slash_scratch {
  static constexpr int panel = 512;  // keys taken at once

  int threads;
  std::int64_t last;
  float* queries;  // (threads, last, head_dim)
  float* keys;     // (threads, panel, head_dim)
  float* scores;   // (threads, last, panel)
  float* highest;  // (threads, last)
  float* total;    // (threads, last)
  float* columns;  // (threads, k_len)
  float* offsets;  // (threads, k_len)
  float* copy;     // (threads, k_len)

  vertical_slash_scratch(vertical_slash const& s, problem const& p, workspace_cursor& cursor)
      : threads(static_cast<int>(minimum<std::int64_t>(p.threads, std::int64_t{p.batch} * p.query_heads))),
        last(minimum(s.last, p.q_len)) {
    queries = cursor.take<float>(elements_of({threads, last, p.head_dim}));
    keys = cursor.take<float>(elements_of({threads, panel, p.head_dim}));
    scores = cursor.take<float>(elements_of({threads, last, panel}));
    highest = cursor.take<float>(elements_of({threads, last}));
    total = cursor.take<float>(elements_of({threads, last}));
    columns = cursor.take<float>(elements_of({threads, p.k_len}));
    offsets = cursor.take<float>(elements_of({threads, p.k_len}));
    copy = cursor.take<float>(elements_of({threads, p.k_len}));
  }

  /// One thread's share.
  vertical_slash_scratch of(int thread, problem const& p) const {
    vertical_slash_scratch own = *this;
    std::int64_t const t = thread;
    own.queries += t * last * p.head_dim;
    own.keys += t * panel * p.head_dim;
    own.scores += t * last * panel;
    own.highest += t * last;
    own.total += t * last;
    own.columns += t * p.k_len;
    own.offsets += t * p.k_len;
    own.copy += t * p.k_len;
    return own;
  }
};

/// Fills own.columns and own.offsets with the head's sums.
template <element T>
void column_and_offset_sums(vertical_slash const& s, select_inputs<T> const& in, where const& w,
                            vertical_slash_scratch const& own) {
  constexpr int panel = vertical_slash_scratch::panel;
  problem const& p = in.shape;
  int const d = p.head_dim, rows = s.rows_of_estimate(w), first = w.q_len - rows;
  head_rows<T const> const queries = rows_of(in.q, p.cu_seqlens_q, w.batch, w.query_head);
  head_rows<T const> const keys = rows_of(in.k, p.cu_seqlens_k, w.batch, w.kv_head);
  Eigen::Map<float_matrix> query(own.queries, rows, d);
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < d; ++c) query(r, c) = static_cast<float>(queries[first + r][c]) * s.scale_of(p);
  std::fill_n(own.highest, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(own.total, rows, 0.f);
  std::fill_n(own.columns, w.k_len, 0.f);
  std::fill_n(own.offsets, w.k_len, 0.f);

  // body(row, its scores of the panel, first key, how many keys of it the row sees)
  auto const each_panel = [&](auto&& body) {
    for (int begin = 0; begin < w.k_len; begin += panel) {
      int const count = minimum(panel, w.k_len - begin);
      mutable_float_rows scores(own.scores, rows, count, Eigen::OuterStride<>(panel));
      scores.noalias() = query * map_rows<T>(keys, begin, count, d, own.keys).transpose();
      for (int r = 0; r < rows; ++r)
        body(r, own.scores + std::int64_t{r} * panel, begin, minimum(count, w.position(first + r) + 1 - begin));
    }
  };
  each_panel([&](int r, float const* panel_scores, int, int seen) {
    if (seen <= 0) return;
    Eigen::Map<Eigen::ArrayXf const> const scores(panel_scores, seen);
    float const highest = maximum(own.highest[r], scores.maxCoeff());
    own.total[r] = own.total[r] * std::exp(own.highest[r] - highest) + (scores - highest).exp().sum();
    own.highest[r] = highest;
  });
  each_panel([&](int r, float* panel_scores, int begin, int seen) {
    if (seen <= 0) return;
    Eigen::Map<Eigen::ArrayXf> weights(panel_scores, seen);
    weights = (weights - own.highest[r]).exp() / own.total[r];
    float* const columns = own.columns + begin;
    float* const offsets = own.offsets + (w.position(first + r) - begin);
    for (int j = 0; j < seen; ++j) columns[j] += panel_scores[j];
    for (int j = 0; j < seen; ++j) offsets[-j] += panel_scores[j];
  });
}

/// take(index) for the `forced` first and the largest others of n sums, `count` in all.
template <class Take>
void take_top(float* sums, int n, int count, int forced, float* copy, Take&& take) {
  for (int i = 0; i < n; ++i) sums[i] = i < forced ? std::numeric_limits<float>::infinity() : orderable(sums[i]);
  top_cut<float> const cut = cut_of_top(sums, n, count, copy);
  for (int i = 0; i < n; ++i)
    if (cut.keeps(sums[i], i)) take(i);
}

}  // namespace detail

inline std::size_t scratch_bytes_on(cpu const&, vertical_slash const& s, problem const& p) {
  workspace_cursor cursor;
  detail::vertical_slash_scratch(s, p, cursor);
  return cursor.used();
}

template <element T>
void select_on(cpu const&, vertical_slash const& s, vertical_slash::storage const& storage, select_inputs<T> const& in,
               workspace memory) {
  problem const& p = in.shape;
  workspace_cursor cursor(memory.data());
  detail::vertical_slash_scratch const scratch(s, p, cursor);
  storage.lists.clear();
  detail::parallel_for(std::int64_t{p.batch} * p.query_heads, scratch.threads, [&](std::int64_t item, int thread) {
    where const w = locate(p, static_cast<int>(item / p.query_heads), static_cast<int>(item % p.query_heads), 0);
    storage.clear_head(w);
    if (!in.comes(w.batch, w.query_head)) return;
    detail::vertical_slash_scratch const own = scratch.of(thread, p);
    detail::column_and_offset_sums(s, in, w, own);
    detail::take_top(own.columns, w.k_len, s.columns_of(w), s.forced_columns, own.copy,
                     [&](int column) { storage.take_column(w, column); });
    detail::take_top(own.offsets, w.k_len, s.offsets_of(w), s.forced_offsets, own.copy,
                     [&](int offset) { storage.take_offset(w, offset); });
  });
  detail::parallel_lists(in, chunk_alignment, [&](where const& w, int q_tile) { storage.write_list(w, q_tile); });
}

}  // namespace elastic
