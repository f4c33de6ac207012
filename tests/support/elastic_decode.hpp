// A hybrid's cache before and after pages are handed back: a batch of two, 4 query and 2 KV heads, head dim 32,
// routes per KV head, the newest token decoded. Pages of the longest length that is asked for lie in order.
#pragma once

#include <cstring>
#include <vector>

#include <elastic/attention.hpp>

#include "support/random_problem.hpp"

namespace elastic::testing {

template <element T>
struct elastic_case {
  static constexpr int batch = 2, query_heads = 4, kv_heads = 2, head_dim = 32;
  int page, pages_each;
  std::vector<std::int32_t> lengths, table, routes{0, 0, 1, 1, 1, 1, 1, 1};
  std::vector<T> k, v, q;
  page_table writable;
  paged_cache<T> cache;

  elastic_case(elastic_case const&) = delete;

  elastic_case(int first, int second, int most, int page_size)
      : page(page_size), pages_each(ceil_div(most, page_size)), lengths{first, second} {
    dice r(3, static_cast<std::uint64_t>(first));
    int const slots = batch * kv_heads * pages_each;
    for (int i = 0; i < slots; ++i) table.push_back(i * 7 % slots);
    for (auto* pool : {&k, &v}) {
      pool->resize(static_cast<std::size_t>(slots) * static_cast<std::size_t>(page * head_dim));
      for (T& x : *pool) x = T(r.normal());
    }
    q.resize(batch * query_heads * head_dim);
    for (T& x : q) x = T(r.normal());
    writable = {table.data(), {batch, kv_heads, pages_each}};
    strided_view<T const, 3> const k_pages(k.data(), {slots, page, head_dim}),
        v_pages(v.data(), {slots, page, head_dim});
    cache = {k_pages, v_pages, writable, {lengths.data(), {batch}}};
  }

  const_assignment_view assignment() const { return {routes.data(), {batch, query_heads}}; }
  heads_view<T const> queries() const { return {q.data(), {batch, 1, query_heads, head_dim}}; }

  /// Pages that hold a key of [0, n) or, in KV heads of sparse routes alone, of the sink or the local ones.
  std::size_t pages_by_formula(int sink, int local) const {
    std::size_t pages = 0;
    for (int b = 0; b < batch; ++b)
      for (int kv = 0; kv < kv_heads; ++kv) {
        auto const* const own = &routes[static_cast<std::size_t>(b * query_heads + kv * 2)];
        bool const sparse = own[0] == 1 && own[1] == 1;
        int const n = lengths[static_cast<std::size_t>(b)];
        pages += static_cast<std::size_t>(ceil_div(sparse ? minimum(n, sink + local) : n, page));
      }
    return pages;
  }

  /// Pages of the table that hold keys.
  std::size_t pages_held() const {
    std::size_t pages = 0;
    for (int b = 0; b < batch; ++b)
      for (int kv = 0; kv < kv_heads; ++kv)
        for (int i = 0; i < ceil_div(lengths[static_cast<std::size_t>(b)], page); ++i) pages += writable(b, kv, i) >= 0;
    return pages;
  }

  std::size_t page_bytes() const { return static_cast<std::size_t>(2 * page * head_dim) * sizeof(T); }

  void poison_pages(std::vector<std::int32_t> const& pages) {
    std::size_t const size = static_cast<std::size_t>(page * head_dim);
    for (std::int32_t at : pages)
      for (auto* pool : {&k, &v}) std::fill_n(pool->data() + static_cast<std::size_t>(at) * size, size, poison<T>());
  }

  /// Output, then LSE, as bytes.
  template <class Attention>
  std::vector<char> decode(Attention const& attend, options const& o = {}) const {
    std::vector<T> out(q.size());
    std::vector<float> lse(batch * query_heads);
    attend.decode(queries(), cache, heads_view<T>(out.data(), {batch, 1, query_heads, head_dim}),
                  lse_view(lse.data(), {batch, query_heads, 1}), assignment(), {}, o);
    std::vector<char> bytes(out.size() * sizeof(T) + lse.size() * sizeof(float));
    std::memcpy(bytes.data(), out.data(), out.size() * sizeof(T));
    std::memcpy(bytes.data() + out.size() * sizeof(T), lse.data(), lse.size() * sizeof(float));
    return bytes;
  }
};

}  // namespace elastic::testing
