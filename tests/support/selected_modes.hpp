// What the tests of selectors with a mode of their own share: random problems in every layout, dense masks read from
// keeps, the laws of tiles, and attention through the front door against a plain softmax over such a mask.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <elastic/attention.hpp>

#include <elastic/testing/laws.hpp>
#include <support/dice.hpp>
#include <support/selection.hpp>

namespace elastic::testing {

/// Shapes and options of a random problem; q, k and v in one of several layouts, NaN between their rows.
template <element T>
struct random_problem {
  std::vector<std::int32_t> starts_q, starts_k;
  std::array<std::int64_t, 4> q_shape, k_shape;
  std::unique_ptr<random_heads<T>> q_memory, k_memory, v_memory;
  std::unique_ptr<random_heads<T>> out_memory;
  heads_view<T const> q, k, v;
  options o;
  problem shape;

  random_problem(dice& r, int longest, bool causal = true) {
    int const group = r.between(1, 3), kv_heads = r.between(1, 2), head_dim = r.pick({32, 64, 96, 128});
    int batch = r.between(1, 3);
    bool const packed = r.one_in(2);
    std::int64_t q_rows = 0, k_rows = 0;
    if (packed) {
      starts_q = starts_k = {0};
      for (int b = 0; b < batch; ++b) {
        int const keys = r.between(0, longest), queries = r.one_in(3) ? r.between(0, longest) : keys;
        starts_q.push_back(static_cast<std::int32_t>(q_rows += queries));
        starts_k.push_back(static_cast<std::int32_t>(k_rows += keys));
      }
      batch = 1;
      o.cu_seqlens_q = starts_q;
      o.cu_seqlens_k = starts_k;
    } else {
      k_rows = r.between(1, longest);
      q_rows = r.one_in(2) ? k_rows : r.between(1, longest);
    }
    q_shape = {batch, q_rows, kv_heads * group, head_dim};
    k_shape = {batch, k_rows, kv_heads, head_dim};
    auto const make = [&](auto const& extents) {
      return std::make_unique<random_heads<T>>(extents, static_cast<unsigned>(r.bits()), 1.f, r.pick({0, 0, 3, 8}),
                                               r.one_in(2));
    };
    q_memory = make(q_shape);
    k_memory = make(k_shape);
    v_memory = make(k_shape);
    out_memory = make(q_shape);
    q = q_memory->view();
    k = k_memory->view();
    v = v_memory->view();
    if (r.one_in(4) && k_rows > 0) {  // rows that run backwards
      k.data += (k_rows - 1) * k.strides[1];
      k.strides[1] = -k.strides[1];
    }
    o.causal = causal;
    o.threads = r.between(1, 3);
    if (r.one_in(3)) o.softmax_scale = 0.05f + 0.2f * r.uniform();
    shape = make_problem<T>(q, k, o);
  }

  std::vector<std::int32_t> random_routes(dice& r, int routes) const {
    std::vector<std::int32_t> chosen(static_cast<std::size_t>(shape.batch * shape.query_heads));
    for (auto& route : chosen) route = r.below(routes);
    return chosen;
  }
};

/// f(batch, query head, query, key, admitted) over every pair of the problem's query rows.
template <class F>
void for_each_pair(problem const& p, F&& f) {
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, b, h, 0);
      for (int i = p.q_begin; i < minimum(p.q_end, w.q_len); ++i)
        for (int j = 0; j < w.k_len; ++j) f(w, i, j, w.admits(i, j));
    }
}

/// Which pairs a mode keeps, (batch, query_heads, q_len, k_len).
class pair_mask {
 public:
  explicit pair_mask(problem const& p)
      : extents_{p.query_heads, p.q_len, p.k_len},
        kept_(static_cast<std::size_t>(p.batch) * static_cast<std::size_t>(p.query_heads) *
              static_cast<std::size_t>(p.q_len) * static_cast<std::size_t>(p.k_len)) {}

  template <class M>
  void read(M const& mode, problem const& p) {
    for_each_pair(
        p, [&](where const& w, int i, int j, bool admitted) { (*this)(w, i, j) = admitted && mode.keeps(w, i, j); });
  }

  char& operator()(where const& w, int i, int j) { return kept_[at(w, i, j)]; }
  bool operator()(where const& w, int i, int j) const { return kept_[at(w, i, j)] != 0; }
  bool operator==(pair_mask const&) const = default;

 private:
  std::size_t at(where const& w, int i, int j) const {
    return static_cast<std::size_t>(
        ((std::int64_t{w.batch} * extents_[0] + w.query_head) * extents_[1] + i) * extents_[2] + j);
  }
  std::array<std::int64_t, 3> extents_;
  std::vector<char> kept_;
};

template <class M>
pair_mask mask_of(M const& mode, problem const& p) {
  pair_mask mask(p);
  mask.read(mode, p);
  return mask;
}

/// The mask when the selector is run on chunks of query rows.
template <class Backend, class S, element T>
pair_mask mask_in_chunks(Backend const& backend, S const& s, random_problem<T> const& drawn,
                         std::vector<std::int32_t> const& routes, int route, int rows) {
  pair_mask mask(drawn.shape);
  options o = drawn.o;
  for (o.q_begin = 0; o.q_begin < drawn.shape.q_len; o.q_begin += rows) {
    o.q_end = minimum(o.q_begin + rows, drawn.shape.q_len);
    selected_run const run(backend, s, drawn.q, drawn.k, o, routes, route);
    run.mode().validate(run.shape);
    mask.read(run.mode(), run.shape);
  }
  return mask;
}

/// The laws of tiles, tight where a tile is as large as it may be. Shapes that do not fit are left out.
template <class M>
void check_laws(M const& mode, problem const& p) {
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, b, h, 0);
      for (tile_shape const shape : law_shapes)
        if (fits(mode, shape)) CHECK(broken_law(mode, w, shape) == "");
      if constexpr (list_mode<M>) CHECK(broken_tightness(mode, w, largest_tile_of(mode)) == "");
    }
}

/// Attention through hybrid<full, S> at the front door, routed by `routes` (1: the selector) and in chunks of `rows`
/// query rows, against a softmax over the dense mask. Returns the largest error relative to the largest output.
template <class Backend, class S, element T>
double front_door_error(Backend const& backend, S const& s, random_problem<T> const& drawn,
                        std::vector<std::int32_t> const& routes, int rows) {
  problem const& p = drawn.shape;
  const_assignment_view const assignment(routes.data(), {p.batch, p.query_heads});
  attention attend{hybrid<full, S>{full{}, s}, fixed_router{}, backend};
  options o = drawn.o;
  std::vector<std::byte> memory(attend.workspace_bytes(p), std::byte{0xff});
  auto const out = drawn.out_memory->mutable_view();
  pair_mask mask(p);
  for (o.q_begin = 0; o.q_begin < p.q_len; o.q_begin += rows) {
    o.q_end = minimum(o.q_begin + rows, p.q_len);
    attend.select(drawn.q, drawn.k, assignment, memory, o);
    attend.forward(drawn.q, drawn.k, drawn.v, out, {}, assignment, memory, o);
    selected_run const run(backend, s, drawn.q, drawn.k, o, routes, 1);
    mask.read(run.mode(), run.shape);
  }
  predicate const dense{[&](where const& w, int i, int j) { return w.route == 0 || mask(w, i, j); }};
  double worst = 0, largest = 0;
  reference_rows(dense, p, drawn.q, plain_keys<T>{drawn.k, drawn.v}, assignment,
                 [&](int b, int h, int i, double const* expected, double) {
                   T const* const row = rows_of(heads_view<T const>(out), p.cu_seqlens_q, b, h)[i];
                   for (int d = 0; d < p.head_dim; ++d) {
                     double const difference = std::abs(expected[d] - static_cast<double>(static_cast<float>(row[d])));
                     worst = difference <= worst ? worst : difference;  // NaN stays
                     largest = std::max(largest, std::abs(expected[d]));
                   }
                 });
  return largest == 0 ? worst : worst / largest;
}

}  // namespace elastic::testing
