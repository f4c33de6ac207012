// Random attention problems, each a pure function of (seed, number). Tensors lie in drawn layouts: permuted,
// padded, reversed or broadcast dimensions, packed sequences; everything outside the views is NaN.
//
// ELASTIC_RANDOM_PROBLEMS (20000) is how many the whole suite runs, ELASTIC_RANDOM_SEED (1) their seed;
// ELASTIC_RANDOM_NUMBER runs that one alone.
#pragma once

#include <doctest/doctest.h>

#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include <elastic/testing/laws.hpp>
#include "support/judge.hpp"
#include "support/modes.hpp"

namespace elastic::testing {

/// A NaN that no computation gives.
template <class T>
T poison() {
  if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<float>(0x7fc5a5a5u);
  else
    return T::from_bits(std::is_same_v<T, half> ? 0x7e5a : 0x7fda);
}

template <class T>
bool poisoned(T value) {
  T const expected = poison<T>();
  return std::memcmp(&value, &expected, sizeof(T)) == 0;
}

/// Memory full of poison with a view inside it.
template <class T, int Rank>
struct strided_tensor {
  std::vector<T> memory;
  strided_view<T, Rank> view;

  strided_tensor() = default;

  /// Any order of dimensions, with gaps; a contiguous last dimension where `rows`; dimension `broadcast` has stride 0.
  /// The base and the other strides are multiples of `granule` elements.
  strided_tensor(dice& r, std::array<std::int64_t, Rank> const& extents, bool rows, int broadcast = -1,
                 int granule = 1) {
    int order[Rank];
    for (int i = 0; i < Rank; ++i) order[i] = Rank - 1 - i;
    bool const permuted = r.one_in(2);
    for (int i = rows ? 1 : 0; permuted && i < Rank - 1; ++i) std::swap(order[i], order[r.between(i, Rank - 1)]);
    std::int64_t stride = 1, base = r.below(9) * granule;
    for (int dimension : order) {
      std::int64_t const extent = extents[static_cast<std::size_t>(dimension)];
      view.extents[dimension] = extent;
      if (dimension == broadcast) continue;
      bool const contiguous = rows && dimension == Rank - 1;
      bool const reversed = !contiguous && r.one_in(12);
      view.strides[dimension] = reversed ? -stride : stride;
      if (reversed && extent > 0) base += stride * (extent - 1);
      stride *= maximum<std::int64_t>(extent, 1);
      if (r.one_in(3)) stride += r.between(1, 9);
      stride = ceil_div<std::int64_t>(stride, granule) * granule;
    }
    memory.assign(static_cast<std::size_t>(base + stride + r.below(9)), poison<T>());
    view.data = memory.data() + base;
  }

  std::size_t offset(T const* element) const { return static_cast<std::size_t>(element - memory.data()); }
};

/// What a backend asks of the problems that it is given.
struct restrictions {
  int granule = 1;  // base and strides of q, k, v and out are multiples of this many elements
  std::vector<int> head_dims = {32, 32, 64, 64, 96, 128, 192, 256};
};

/// Lengths, heads, options and tensors of one problem. The mode is drawn afterwards, to suit it.
template <element T>
struct random_problem {
  options o;
  problem p;
  std::vector<std::int32_t> cu_seqlens_q, cu_seqlens_k;
  strided_tensor<T, 4> q, k, v, out;
  strided_tensor<float, 3> lse;
  std::vector<std::int32_t> routes;
  assignment_view assignment;

  random_problem(random_problem const&) = delete;

  random_problem(dice& r, int route_count, restrictions const& only = {}) {
    draw_lengths(r, only.head_dims);
    bool const packed = !cu_seqlens_q.empty();
    int const b = packed ? 1 : p.batch;
    int const rows_q = packed ? cu_seqlens_q.back() : p.q_len, rows_k = packed ? cu_seqlens_k.back() : p.k_len;
    auto const keys = [&] {
      return strided_tensor<T, 4>(r, {b, rows_k, p.kv_heads, p.head_dim}, true, r.one_in(8) ? r.pick({0, 2}) : -1,
                                  only.granule);
    };
    q = {r, {b, rows_q, p.query_heads, p.head_dim}, true, -1, only.granule};
    k = keys();
    v = keys();
    out = {r, {b, rows_q, p.query_heads, p.head_dim}, true, -1, only.granule};
    if (!r.one_in(4)) lse = {r, {b, p.query_heads, rows_q}, false};
    float const spread = r.one_in(4) ? 3.f : 1.f, offset = r.one_in(4) ? 2.f : 0.f;
    fill(r, q, spread, 0);
    fill(r, k, 1, 0);
    fill(r, v, 1, offset);

    o.causal = !r.one_in(3);
    o.layer = r.below(3);
    o.threads = r.between(1, 3);
    o.cu_seqlens_q = cu_seqlens_q;
    o.cu_seqlens_k = cu_seqlens_k;
    if (r.one_in(3))
      o.softmax_scale =
          static_cast<float>(r.pick({0, -2, 2})) * r.uniform() / std::sqrt(static_cast<float>(p.head_dim));
    if (p.q_len > chunk_alignment ? r.one_in(2) : r.one_in(40)) {
      int const chunks = ceil_div(p.q_len, chunk_alignment), first = r.between(0, chunks),
                last = r.between(first, chunks);
      o.q_begin = minimum(first * chunk_alignment, p.q_len / chunk_alignment * chunk_alignment);
      o.q_end = last == chunks ? r.one_in(2) ? -1 : p.q_len : maximum(last * chunk_alignment, o.q_begin);
    }
    p = make_problem<T>(q.view, k.view, o);

    for (int i = 0; i < p.batch * p.query_heads; ++i) routes.push_back(r.below(route_count));
    assignment = {routes.data(), {p.batch, p.query_heads}};
    if (r.one_in(2)) {
      assignment.strides[0] = 1;
      assignment.strides[1] = p.batch;
    }
  }

  void be_causal() { p.causal = o.causal = true; }

  /// Poisons what no one may read: queries outside the chunk, keys and values of tiles that no head visits.
  template <class M>
  void poison_unvisited(M const& mode) {
    tile_shape const largest = largest_tile_of(mode);
    tile_shape const shape{gcd(largest.rows, 128), gcd(largest.columns, 128)};
    std::vector<char> keep_q(q.memory.size()), keep_k(k.memory.size()), keep_v(v.memory.size());
    for (int b = 0; b < p.batch; ++b)
      for (int h = 0; h < p.query_heads; ++h) {
        where const w = locate(p, b, h, assignment(b, h));
        for (int i = p.q_begin; i < minimum(p.q_end, w.q_len); ++i)
          keep_q[q.offset(rows_of(q.view, p.cu_seqlens_q, b, h)[i])] = 1;
        for (int q_tile = p.q_begin / shape.rows; q_tile * shape.rows < minimum(p.q_end, w.q_len); ++q_tile) {
          auto const tiles = tiles_of(mode, w, q_tile, shape);
          for (int t = 0; t < tiles.count; ++t)
            for (int j = tiles[t].index * shape.columns; j < minimum((tiles[t].index + 1) * shape.columns, w.k_len);
                 ++j) {
              keep_k[k.offset(rows_of(k.view, p.cu_seqlens_k, b, w.kv_head)[j])] = 1;
              keep_v[v.offset(rows_of(v.view, p.cu_seqlens_k, b, w.kv_head)[j])] = 1;
            }
        }
      }
    poison_rows(q, keep_q);
    poison_rows(k, keep_k);
    poison_rows(v, keep_v);
  }

  /// Everything outside the rows of the problem still holds its poison.
  std::string touched() const {
    std::vector<char> written(out.memory.size()), written_lse(lse.memory.size());
    for (int b = 0; b < p.batch; ++b)
      for (int h = 0; h < p.query_heads; ++h)
        for (int i = p.q_begin; i < minimum(p.q_end, locate(p, b, h, 0).q_len); ++i) {
          std::size_t const at = out.offset(rows_of(out.view, p.cu_seqlens_q, b, h)[i]);
          for (std::size_t d = 0; d < static_cast<std::size_t>(p.head_dim); ++d) written[at + d] = 1;
          if (lse.view) written_lse[lse.offset(lse_of(lse.view, p.cu_seqlens_q, b, h)[i])] = 1;
        }
    for (std::size_t i = 0; i < written.size(); ++i)
      if (!written[i] && !poisoned(out.memory[i])) return "out was written outside the problem's rows";
    for (std::size_t i = 0; i < written_lse.size(); ++i)
      if (!written_lse[i] && !poisoned(lse.memory[i])) return "lse was written outside the problem's rows";
    return {};
  }

  std::string text() const {
    std::string words = std::string(dtype_name<T>) + ", batch " + std::to_string(p.batch) + ", heads " +
                        std::to_string(p.query_heads) + "/" + std::to_string(p.kv_heads) + ", head_dim " +
                        std::to_string(p.head_dim) + ", q_len " + std::to_string(p.q_len) + ", k_len " +
                        std::to_string(p.k_len) + ", rows " + std::to_string(p.q_begin) + " to " +
                        std::to_string(p.q_end) + (p.causal ? ", causal" : ", bidirectional") + ", scale " +
                        std::to_string(p.softmax_scale) + ", threads " + std::to_string(p.threads);
    for (std::size_t i = 1; i < cu_seqlens_q.size(); ++i)
      words += (i == 1 ? ", packed " : " ") + std::to_string(cu_seqlens_q[i] - cu_seqlens_q[i - 1]) + "×" +
               std::to_string(cu_seqlens_k[i] - cu_seqlens_k[i - 1]);
    return words;
  }

 private:
  /// What the oracle has to compute stays small: (pairs of rows) × heads × head_dim is bounded.
  void draw_lengths(dice& r, std::vector<int> const& head_dims) {
    int const size = r.below(100);
    int const most = size < 40 ? 24 : size < 96 ? 200 : 700;
    double const budget = most == 700 ? 12e6 : 2e6;
    p.head_dim = head_dims[static_cast<std::size_t>(r.below(static_cast<int>(head_dims.size())))];
    p.kv_heads = r.pick({1, 1, 2, 3});
    p.query_heads = p.kv_heads * r.pick({1, 2, 3, 4, 8});
    bool const packed = r.one_in(4);
    int const sequences = r.pick({1, 1, 2, 3, 4});
    auto const length = [&] { return r.one_in(16) ? r.below(2) : r.one_in(4) ? r.between(0, 12) : r.between(1, most); };
    std::vector<int> lengths_q, lengths_k;
    for (int b = 0; b < (packed ? sequences : 1); ++b) {
      lengths_q.push_back(length());
      lengths_k.push_back(r.one_in(4) ? lengths_q.back() : length());
    }
    auto const cost = [&] {
      double pairs = 0;
      for (std::size_t i = 0; i < lengths_q.size(); ++i) pairs += double(lengths_q[i] + 1) * (lengths_k[i] + 1);
      return pairs * (packed ? 1 : sequences) * p.query_heads * p.head_dim;
    };
    while (cost() > budget) {
      if (p.kv_heads > 1) {
        p.query_heads /= p.kv_heads;
        p.kv_heads = 1;
      } else if (most == 700 && p.query_heads > 1) {
        p.query_heads = 1;
      } else if (most == 700 && p.head_dim > head_dims.front()) {
        p.head_dim = head_dims.front();
      } else {
        for (std::size_t i = 0; i < lengths_q.size(); ++i) {
          lengths_q[i] = lengths_q[i] * 3 / 4;
          lengths_k[i] = lengths_k[i] * 3 / 4;
        }
      }
    }
    p.batch = sequences;
    p.q_len = lengths_q[0];
    p.k_len = lengths_k[0];
    if (!packed) return;
    cu_seqlens_q.push_back(0);
    cu_seqlens_k.push_back(0);
    for (std::size_t i = 0; i < lengths_q.size(); ++i) {
      cu_seqlens_q.push_back(cu_seqlens_q.back() + lengths_q[i]);
      cu_seqlens_k.push_back(cu_seqlens_k.back() + lengths_k[i]);
      p.q_len = maximum(p.q_len, lengths_q[i]);
      p.k_len = maximum(p.k_len, lengths_k[i]);
    }
  }

  static void fill(dice& r, strided_tensor<T, 4> const& tensor, float spread, float offset) {
    auto const& e = tensor.view.extents;
    for (int b = 0; b < e[0]; ++b)
      for (int s = 0; s < e[1]; ++s)
        for (int h = 0; h < e[2]; ++h)
          for (int d = 0; d < e[3]; ++d) tensor.view(b, s, h, d) = T(r.normal() * spread + offset);
  }

  void poison_rows(strided_tensor<T, 4> const& tensor, std::vector<char> const& keep) const {
    auto const& e = tensor.view.extents;
    for (int b = 0; b < e[0]; ++b)
      for (int s = 0; s < e[1]; ++s)
        for (int h = 0; h < e[2]; ++h)
          if (T* const row = &tensor.view(b, s, h, 0); !keep[tensor.offset(row)])
            for (int d = 0; d < e[3]; ++d) row[d] = poison<T>();
  }
};

/// Draws problem `number`, runs it with the mode that `change` makes of the drawn one, and judges the result
/// by the drawn mode. Returns what went wrong, with a description of the problem.
template <class M, element T, class Change>
std::string fails_random_problem(std::uint64_t seed, std::int64_t number, Change&& change) {
  dice r(seed, static_cast<std::uint64_t>(number));
  random_problem<T> x(r, routes<M>);
  arena memory;
  M const mode = draw<M>{}(r, x.p, memory);
  try {
    check_mode(mode, x.p);
  } catch (error const&) {
    if (x.p.causal) throw;
    x.be_causal();  // the mode is not defined without causality
  }
  auto const run = change(mode);
  attention<std::remove_cvref_t<decltype(run)>, fixed_router, default_backend> const attend{run};

  problem widest = x.p;
  widest.threads = 3;
  std::vector<std::byte> bytes(attend.workspace_bytes(widest) + 64);
  workspace const space(bytes.data() + r.below(64), bytes.size() - 64);
  attend.select(x.q.view, x.k.view, x.assignment, space, x.o);
  auto const truth = attention<M, fixed_router, default_backend>{mode}.selected_in(x.p, space);
  std::string failure;
  if (number % 4 == 0 && x.p.q_len > 0) {
    where const w = locate(x.p, x.p.batch - 1, 0, x.assignment(x.p.batch - 1, 0));
    tile_shape const largest = largest_tile_of(truth);
    if (w.q_len == x.p.q_len && x.p.q_begin == 0 && x.p.q_end == x.p.q_len)
      failure = broken_law(truth, w, {gcd(largest.rows, 32), gcd(largest.columns, 64)});
  }
  x.poison_unvisited(truth);
  attend.forward(x.q.view, x.k.view, x.v.view, x.out.view, x.lse.view, x.assignment, space, x.o);

  if (failure.empty()) failure = x.touched();
  if (failure.empty())
    failure =
        misjudged<T>(truth, x.p, x.q.view, plain_keys<T>{x.k.view, x.v.view}, x.out.view, x.lse.view, x.assignment);
  if (failure.empty()) {
    auto const first = x.out.memory;
    auto const first_lse = x.lse.memory;
    x.o.threads = x.o.threads % 3 + 1;
    attend.forward(x.q.view, x.k.view, x.v.view, x.out.view, x.lse.view, x.assignment, space, x.o);
    bool const same = std::memcmp(first.data(), x.out.memory.data(), first.size() * sizeof(T)) == 0 &&
                      (first_lse.empty() ||
                       std::memcmp(first_lse.data(), x.lse.memory.data(), first_lse.size() * sizeof(float)) == 0);
    if (!same) failure = "another number of threads gave other bits";
  }
  return failure.empty() ? failure : failure + "\n  " + name_of_mode<M>() + ", " + x.text();
}

template <class M>
std::string fails_random_problem(std::uint64_t seed, std::int64_t number) {
  auto const same = [](M const& mode) { return mode; };
  switch (number / every_mode::size % 3) {
    case 0:
      return fails_random_problem<M, float>(seed, number, same);
    case 1:
      return fails_random_problem<M, half>(seed, number, same);
    default:
      return fails_random_problem<M, bfloat16>(seed, number, same);
  }
}

/// Runs the share of the suite's problems that falls to the modes of a list: those whose number, modulo all
/// modes, is theirs. The shares of all lists add up to the whole.
template <class List>
void run_random_problems(List modes) {
  auto const seed = static_cast<std::uint64_t>(environment("ELASTIC_RANDOM_SEED", 1));
  std::int64_t const total = environment("ELASTIC_RANDOM_PROBLEMS", 20000),
                     only = environment("ELASTIC_RANDOM_NUMBER", -1);
  int const first = position_of(every_mode{}, modes);
  std::int64_t ran = 0, expected = 0;
  int failures = 0;
  for_each_type(modes, [&]<class M>(int position) {
    std::int64_t const start = first + position;
    if (only < 0) expected += start < total ? (total - start + every_mode::size - 1) / every_mode::size : 0;
    for (std::int64_t number = start; number < total; number += every_mode::size) {
      if (only >= 0 && number != only) continue;
      std::string failure;
      try {
        failure = fails_random_problem<M>(seed, number);
      } catch (std::exception const& thrown) {
        failure = std::string("threw ") + thrown.what() + "\n  " + name_of_mode<M>();
      }
      ++ran;
      if (!failure.empty() && ++failures <= 10)
        FAIL_CHECK(failure << "\n  again: ELASTIC_RANDOM_SEED=" << seed << " ELASTIC_RANDOM_NUMBER=" << number);
    }
  });
  MESSAGE(ran << " random problems, " << failures << " wrong (of " << total << " in the whole suite, seed " << seed
              << ")");
  CHECK(failures == 0);
  if (only < 0) CHECK(ran == expected);
}

}  // namespace elastic::testing
