// What the tests of selectors share: random tensors in several layouts, a selector run on its own, and its lists.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include <elastic/attention.hpp>
#include <support/aligned_memory.hpp>

namespace elastic::testing {

/// A tensor (batch, seq, heads, head_dim) of normal numbers. `gap` unused elements, NaN, follow every row.
template <element T>
class random_heads {
 public:
  random_heads(std::array<std::int64_t, 4> shape, unsigned seed, float deviation = 1, std::int64_t gap = 0,
               bool heads_first = false) {
    auto const [batch, seq, heads, head_dim] = shape;
    std::int64_t const row = head_dim + gap;
    values_.assign(static_cast<std::size_t>(batch * seq * heads * row), T(std::numeric_limits<float>::quiet_NaN()));
    view_ = {values_.data(), shape,
             heads_first ? std::array<std::int64_t, 4>{heads * seq * row, row, seq * row, 1}
                         : std::array<std::int64_t, 4>{seq * heads * row, heads * row, row, 1}};
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, deviation);
    for (int b = 0; b < batch; ++b)
      for (int s = 0; s < seq; ++s)
        for (int h = 0; h < heads; ++h)
          for (int d = 0; d < head_dim; ++d) view_(b, s, h, d) = T(normal(random));
  }
  random_heads(random_heads const&) = delete;

  heads_view<T> mutable_view() const { return view_; }
  heads_view<T const> view() const { return view_; }

 private:
  std::vector<T> values_;
  heads_view<T> view_;
};

/// Lists by (sequence, query head, block of query rows); lists of padding are not among them.
using selection = std::map<std::array<int, 3>, std::vector<std::int32_t>>;

inline void add_lists(block_sparse const& lists, problem const& p, selection& to) {
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, b, h, 0);
      for (int i = p.q_begin / lists.block_rows; i < ceil_div(minimum(p.q_end, w.q_len), lists.block_rows); ++i) {
        block_list const list = lists.row(w, i);
        to[{b, h, i}] = {list.entries, list.entries + list.count};
      }
    }
}

/// Every head to one route.
inline std::vector<std::int32_t> all_to(problem const& p, std::int32_t route) {
  return std::vector<std::int32_t>(static_cast<std::size_t>(p.batch * p.query_heads), route);
}

/// A selector bound into memory of its own and run. Views what it selected as long as it lives.
template <class Backend, class Selector, element T>
struct selected_run {
  problem shape;
  std::vector<std::int32_t> routes;
  aligned_memory memory{0};
  typename Selector::storage storage;

  selected_run(Backend const& backend, Selector const& selector, heads_view<T const> const& q,
               heads_view<T const> const& k, options const& o = {}, std::vector<std::int32_t> assignment = {},
               int route = every_route)
      : shape(make_problem<T>(q, k, o)), routes(assignment.empty() ? all_to(shape, 0) : std::move(assignment)) {
    selector.check(shape);
    workspace_cursor sizes;
    selector.bind(shape, sizes);
    std::size_t scratch = 0;
    if constexpr (requires { scratch_bytes_on(backend, selector, shape); })
      scratch = scratch_bytes_on(backend, selector, shape);
    memory = aligned_memory(sizes.used() + scratch);
    workspace_cursor cursor = memory.cursor();
    storage = selector.bind(shape, cursor);
    select_inputs<T> const in{q, k, shape, const_assignment_view(routes.data(), {shape.batch, shape.query_heads}),
                              route};
    select_on(backend, selector, storage, in, memory.all().subspan(cursor.used()));
  }

  auto mode() const { return storage.selected(); }

  selection lists() const {
    selection result;
    auto const lists = mode();
    lists.validate(shape);
    if constexpr (requires { lists.lists; })
      add_lists(lists.lists, shape, result);
    else
      add_lists(lists, shape, result);
    return result;
  }
};

}  // namespace elastic::testing
