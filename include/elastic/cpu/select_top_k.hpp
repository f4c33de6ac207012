// Per-token top-k on the CPU: scores by a float product rank the keys up to the product's rounding error,
// and only keys that this error leaves undecided at the cut are scored exactly. The cut is therefore the
// reference's, bit for bit. With E ≥ |float score − exact score| for every key and t the k-th float score,
// the exact cut lies within t ± E: keys above t + 2E are in, keys below t − 2E are out.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include <elastic/cpu/float_rows.hpp>
#include <elastic/cpu/parallel.hpp>
#include <elastic/selectors/top_k.hpp>

namespace elastic {

struct cpu;

namespace detail {

struct top_k_scratch {
  static constexpr int rows = 32;    // queries taken at once
  static constexpr int panel = 512;  // keys taken at once

  std::int64_t heads, tiles;
  int threads;
  double* norms;            // (batch, kv_heads): the longest key
  float* queries;           // (threads, rows, head_dim)
  float* keys;              // (threads, panel, head_dim)
  float* scores;            // (threads, rows, k_len)
  float* copy;              // (threads, k_len)
  double* exact;            // (threads, k_len): of the undecided keys
  double* exact_copy;       // (threads, k_len)
  std::int32_t* undecided;  // (threads, k_len)

  top_k_scratch(problem const& p, workspace_cursor& cursor)
      : heads(std::int64_t{p.batch} * p.query_heads),
        tiles(ceil_div(p.q_end - p.q_begin, rows)),
        threads(static_cast<int>(minimum<std::int64_t>(p.threads, heads * tiles))) {
    norms = cursor.take<double>(elements_of({p.batch, p.kv_heads}));
    queries = cursor.take<float>(elements_of({threads, rows, p.head_dim}));
    keys = cursor.take<float>(elements_of({threads, panel, p.head_dim}));
    scores = cursor.take<float>(elements_of({threads, rows, p.k_len}));
    copy = cursor.take<float>(elements_of({threads, p.k_len}));
    exact = cursor.take<double>(elements_of({threads, p.k_len}));
    exact_copy = cursor.take<double>(elements_of({threads, p.k_len}));
    undecided = cursor.take<std::int32_t>(elements_of({threads, p.k_len}));
  }

  /// One thread's share.
  top_k_scratch of(int thread, problem const& p) const {
    top_k_scratch own = *this;
    std::int64_t const t = thread;
    own.queries += t * rows * p.head_dim;
    own.keys += t * panel * p.head_dim;
    own.scores += t * rows * p.k_len;
    own.copy += t * p.k_len;
    own.exact += t * p.k_len;
    own.exact_copy += t * p.k_len;
    own.undecided += t * p.k_len;
    return own;
  }
};

/// The cut of n > k keys whose float scores are within `error` of the exact ones.
template <element T>
top_cut<double> exact_cut(T const* query, head_rows<T const> keys, int head_dim, float const* scores, int n, int k,
                          double error, top_k_scratch const& own) {
  double highest_out = -std::numeric_limits<double>::infinity(), lowest_in = std::numeric_limits<double>::infinity();
  if (error < 1e30) {  // else the products may overflow, and every key is undecided
    for (int j = 0; j < n; ++j) own.copy[j] = orderable(scores[j]);
    std::nth_element(own.copy, own.copy + (k - 1), own.copy + n, std::greater<float>());
    highest_out = static_cast<double>(own.copy[k - 1]) - 2 * error;
    lowest_in = static_cast<double>(own.copy[k - 1]) + 2 * error;
  }
  int undecided = 0, wanted = k;
  for (int j = 0; j < n; ++j) {  // without branches: which way a key falls is a coin toss
    double const score = static_cast<double>(scores[j]);
    bool const in = score > lowest_in, out = score < highest_out;
    own.undecided[undecided] = j;
    undecided += in || out ? 0 : 1;
    wanted -= in ? 1 : 0;
  }
  for (int i = 0; i < undecided; ++i) own.exact[i] = orderable(exact_dot(query, keys[own.undecided[i]], head_dim));
  top_cut<double> cut = cut_of_top(own.exact, undecided, wanted, own.exact_copy);
  if (cut.is_everything()) {  // all of them are wanted: the cut is the lowest, and its last index
    cut = {own.exact[0], 0};
    for (int i = 1; i < undecided; ++i)
      if (own.exact[i] <= cut.threshold) cut = {own.exact[i], i};
  }
  return {cut.threshold, own.undecided[cut.tie]};
}

/// A bound on |float product − exact product|: head_dim roundings of sums of products, twice over, and
/// what may underflow.
inline double product_error(double query_norm, double key_norm, int head_dim) {
  return (head_dim + 16) * 0x1p-23 * query_norm * key_norm + head_dim * 0x1p-120;
}

template <element T>
double norm_of(T const* row, int head_dim) {
  return std::sqrt(exact_dot(row, row, head_dim));
}

}  // namespace detail

inline std::size_t scratch_bytes_on(cpu const&, top_k const&, problem const& p) {
  workspace_cursor cursor;
  detail::top_k_scratch(p, cursor);
  return cursor.used();
}

template <element T>
void select_on(cpu const&, top_k const& s, top_k::storage const& storage, select_inputs<T> const& in,
               workspace memory) {
  constexpr int panel = detail::top_k_scratch::panel, tile_of_rows = detail::top_k_scratch::rows;
  problem const& p = in.shape;
  workspace_cursor cursor(memory.data());
  detail::top_k_scratch const scratch(p, cursor);
  storage.view(in);
  int const d = p.head_dim;

  detail::parallel_for(std::int64_t{p.batch} * p.kv_heads, p.threads, [&](std::int64_t item, int) {
    where const w = locate(p, static_cast<int>(item / p.kv_heads), static_cast<int>(item % p.kv_heads) * p.group(), 0);
    bool wanted = false;
    for (int h = w.query_head; h < w.query_head + p.group(); ++h) wanted = wanted || in.comes(w.batch, h);
    if (!wanted) return;
    head_rows<T const> const keys = rows_of(in.k, p.cu_seqlens_k, w.batch, w.kv_head);
    double longest = 0;
    for (int j = 0; j < w.k_len; ++j) longest = maximum(longest, detail::norm_of(keys[j], d));
    scratch.norms[item] = longest;
  });

  // The last rows first: where causal they are the longest.
  detail::parallel_for(scratch.heads * scratch.tiles, scratch.threads, [&](std::int64_t item, int thread) {
    int const first = p.q_begin + static_cast<int>(scratch.tiles - 1 - item / scratch.heads) * tile_of_rows;
    where const w = locate(p, static_cast<int>(item % scratch.heads / p.query_heads),
                           static_cast<int>(item % scratch.heads % p.query_heads), 0);
    int const rows = minimum(minimum(first + tile_of_rows, p.q_end), w.q_len) - first;
    if (rows <= 0) return;
    auto const seen_by = [&](int q) { return w.causal ? maximum(w.position(q) + 1, 0) : w.k_len; };
    bool const comes = in.comes(w.batch, w.query_head);
    for (int q = first; q < first + rows; ++q)
      storage.cut(w, q) = comes && seen_by(q) <= s.k ? top_cut<double>::everything() : top_cut<double>{};
    int const most = seen_by(first + rows - 1);
    if (!comes || most <= s.k) return;

    detail::top_k_scratch const own = scratch.of(thread, p);
    head_rows<T const> const queries = rows_of(in.q, p.cu_seqlens_q, w.batch, w.query_head);
    head_rows<T const> const keys = rows_of(in.k, p.cu_seqlens_k, w.batch, w.kv_head);
    detail::float_rows const query = detail::map_rows<T>(queries, first, rows, d, own.queries);
    for (int begin = 0; begin < most; begin += panel) {
      int const count = minimum(panel, most - begin);
      detail::mutable_float_rows scores(own.scores + begin, rows, count, Eigen::OuterStride<>(p.k_len));
      scores.noalias() = query * detail::map_rows<T>(keys, begin, count, d, own.keys).transpose();
    }
    for (int q = first; q < first + rows; ++q) {
      if (seen_by(q) <= s.k) continue;
      double const error = detail::product_error(detail::norm_of(queries[q], d),
                                                 scratch.norms[std::int64_t{w.batch} * p.kv_heads + w.kv_head], d);
      storage.cut(w, q) = detail::exact_cut(queries[q], keys, d, own.scores + std::int64_t{q - first} * p.k_len,
                                            seen_by(q), s.k, error, own);
    }
  });
}

}  // namespace elastic
