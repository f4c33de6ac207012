// Random decodes on the CUDA backend: a paged cache in host memory and its copy on the device.
#pragma once

#include "support/cuda_problem.cuh"

namespace elastic::testing {

/// A cache with pages in random order, its own lengths for every sequence, and new queries. Pages that
/// `needed` does not name are absent, poisoned or nonsense; slots without a key are poisoned.
template <element T>
struct random_cache {
  int batch, q_len, kv_heads, query_heads, head_dim, page, pages_each, slots;
  std::vector<std::int32_t> lengths, table, routes;
  std::vector<T> k_memory, v_memory, q_memory;
  paged_cache<T> cache;
  heads_view<T const> q;
  const_assignment_view assignment;
  options o;

  random_cache(random_cache const&) = delete;

  random_cache(dice& r, int route_count, std::vector<int> const& head_dims) {
    batch = r.pick({1, 1, 2, 3, 5});
    q_len = r.one_in(3) ? r.between(1, 16) : 1;
    if (r.one_in(20)) q_len = r.between(17, 40);  // served by the forward kernel
    kv_heads = r.pick({1, 2, 3});
    query_heads = kv_heads * r.pick({1, 2, 4, 5, 8, 20});
    head_dim = head_dims[std::size_t(r.below(int(head_dims.size())))];
    page = std::is_same_v<T, float> || q_len > 16 ? r.pick({64, 128}) : r.pick({16, 32, 48, 64, 128, 128, 256});
    int const most = r.one_in(10) ? 3000 : r.one_in(2) ? 600 : 60;
    while (std::int64_t{batch} * query_heads * q_len * most * head_dim > 6'000'000 && query_heads > kv_heads)
      query_heads -= kv_heads;
    for (int b = 0; b < batch; ++b) lengths.push_back(r.one_in(12) ? r.below(2) : r.between(1, most));
    int longest = 0;
    for (int n : lengths) longest = maximum(longest, n);
    pages_each = ceil_div(longest, page) + r.below(3);
    if (pages_each == 0) pages_each = 1;
    slots = batch * kv_heads * pages_each + r.below(3);
    std::vector<std::int32_t> order(static_cast<std::size_t>(slots));
    for (int i = 0; i < slots; ++i) {
      order[std::size_t(i)] = i;
      std::swap(order[std::size_t(i)], order[std::size_t(r.below(i + 1))]);
    }
    table.assign(order.begin(), order.begin() + batch * kv_heads * pages_each);
    std::size_t const elements = std::size_t(slots) * std::size_t(page) * std::size_t(head_dim);
    k_memory.assign(elements, poison<T>());
    v_memory.assign(elements, poison<T>());
    strided_view<T, 3> const k(k_memory.data(), {slots, page, head_dim}), v(v_memory.data(), {slots, page, head_dim});
    cache = {k, v, {table.data(), {batch, kv_heads, pages_each}}, {lengths.data(), {batch}}};
    for (int b = 0; b < batch; ++b)
      for (int h = 0; h < kv_heads; ++h)
        for (int i = 0; i < lengths[std::size_t(b)]; ++i)
          for (int d = 0; d < head_dim; ++d) {
            int const at = cache.table(b, h, i / page);
            k(at, i % page, d) = T(r.normal());
            v(at, i % page, d) = T(r.normal());
          }
    q_memory.resize(std::size_t(batch) * std::size_t(q_len) * std::size_t(query_heads) * std::size_t(head_dim));
    for (T& x : q_memory) x = T(r.normal());
    q = {q_memory.data(), {batch, q_len, query_heads, head_dim}};
    for (int i = 0; i < batch * query_heads; ++i) routes.push_back(r.below(route_count));
    if (r.one_in(2))  // one route for each KV head
      for (std::size_t i = 0; i < routes.size(); ++i) routes[i] = routes[i - i % std::size_t(query_heads / kv_heads)];
    assignment = {routes.data(), {batch, query_heads}};
    o.causal = !r.one_in(4);
    o.layer = r.below(3);
    if (r.one_in(3))
      o.softmax_scale = static_cast<float>(r.pick({0, -2, 2})) * r.uniform() / std::sqrt(static_cast<float>(head_dim));
  }

  /// Pages that no head visits are taken away.
  template <class M>
  void drop_unvisited(dice& r, M const& mode, problem const& p) {
    std::vector<char> visited(table.size());
    for (int b = 0; b < batch; ++b)
      for (int h = 0; h < query_heads; ++h) {
        where const w = locate(p, b, h, assignment(b, h));
        auto const tiles = tiles_of(mode, w, 0, {w.q_len, page});
        for (int i = 0; i < tiles.count; ++i)
          visited[std::size_t(&cache.table(b, w.kv_head, tiles[i].index) - table.data())] = 1;
      }
    std::size_t const size = std::size_t(page) * std::size_t(head_dim);
    for (std::size_t i = 0; i < table.size(); ++i)
      if (!visited[i]) {
        std::fill_n(k_memory.data() + std::size_t(table[i]) * size, size, poison<T>());
        std::fill_n(v_memory.data() + std::size_t(table[i]) * size, size, poison<T>());
        table[i] = r.pick({table[i], -1, 1 << 30, -77});
      }
  }
};

/// The same cache on the device.
template <element T>
struct device_cache {
  device_buffer<T> k, v;
  device_buffer<std::int32_t> table, lengths;
  paged_cache<T> view;

  explicit device_cache(random_cache<T> const& x)
      : k(std::span<T const>(x.k_memory)),
        v(std::span<T const>(x.v_memory)),
        table(std::span<std::int32_t const>(x.table)),
        lengths(std::span<std::int32_t const>(x.lengths)),
        view(x.cache) {
    view.k_pages.data = k.data();
    view.v_pages.data = v.data();
    view.table.data = table.data();
    view.k_lengths.data = lengths.data();
  }
};

template <class M, element T, class Backend>
std::string fails_cuda_decode(Backend const& backend, std::vector<int> const& head_dims, std::uint64_t seed,
                              std::int64_t number, cudaStream_t stream = nullptr) {
  static pinned_resource pinned;
  dice r(seed, static_cast<std::uint64_t>(number));
  random_cache<T> x(r, routes<M>, head_dims);
  problem p = make_problem<T>(x.q, x.cache, x.o);
  arena memory(&pinned);
  M const mode = draw<M>{}(r, p, memory);
  try {
    check_mode(mode, p);
  } catch (error const&) {
    x.o.causal = p.causal = true;
  }
  if (r.one_in(8)) x.o.dense_decode = true;
  auto const as = [&](auto&& f) { return x.o.dense_decode ? f(dense_mode(mode)) : f(decode_mode(mode)); };
  as([&](auto const& used) { return x.drop_unvisited(r, used, p), 0; });

  device_cache<T> const cache(x);
  device_buffer<T> const q{std::span<T const>(x.q_memory)}, out(x.q_memory.size());
  device_buffer<float> const lse(x.q_memory.size() / std::size_t(x.head_dim));
  std::vector<std::int32_t> given = x.routes;
  for (std::int32_t& route : given) {
    if (route == 0 && r.one_in(4)) route = -5;
    if (route == routes<M> - 1 && r.one_in(4)) route = 1 << 30;
  }
  device_buffer<std::int32_t> const routes{std::span<std::int32_t const>(given)};
  heads_view<T const> q_view = x.q;
  q_view.data = q.data();
  heads_view<T> const out_view(out.data(), {x.batch, x.q_len, x.query_heads, x.head_dim});
  lse_view const lse_rows(lse.data(), {x.batch, x.query_heads, x.q_len});
  const_assignment_view assignment = x.assignment;
  assignment.data = routes.data();
  options o = x.o;
  o.stream = stream;

  attention<M, fixed_router, Backend> const attend{mode, {}, backend};
  device_buffer<std::byte> const space(attend.decode_bytes(attend.shape(q_view, cache.view, o)));
  std::vector<T> first;
  std::vector<float> first_lse;
  for (int run = 0; run < 2; ++run) {
    std::vector<std::byte> const dirt(space.size(), std::byte{run == 0 ? std::uint8_t{0xff} : std::uint8_t{0x55}});
    space.write(dirt);
    attend.decode(q_view, cache.view, out_view, lse_rows, assignment, {space.data(), space.size()}, o);
    cuda_call(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    auto const now = out.read();
    auto const now_lse = lse.read();
    if (run == 1 && (std::memcmp(first.data(), now.data(), now.size() * sizeof(T)) != 0 ||
                     std::memcmp(first_lse.data(), now_lse.data(), now_lse.size() * sizeof(float)) != 0))
      return "a second run gave other bits";
    first = now;
    first_lse = now_lse;
  }
  std::string const failure = as([&](auto const& used) {
    return misjudged<T>(used, p, x.q, x.cache,
                        heads_view<T>(first.data(), {x.batch, x.q_len, x.query_heads, x.head_dim}),
                        lse_view(first_lse.data(), {x.batch, x.query_heads, x.q_len}), x.assignment);
  });
  if (failure.empty()) return failure;
  std::string lengths;
  for (int n : x.lengths) lengths += " " + std::to_string(n);
  return failure + "\n  " + name_of_mode<M>() + ", " + dtype_name<T> + ", heads " + std::to_string(x.query_heads) +
         "/" + std::to_string(x.kv_heads) + ", head_dim " + std::to_string(x.head_dim) + ", q_len " +
         std::to_string(x.q_len) + ", pages of " + std::to_string(x.page) + ", lengths" + lengths +
         (x.o.causal ? ", causal" : ", bidirectional") + (x.o.dense_decode ? ", dense" : "");
}

/// `share` of the suite's problems (ELASTIC_RANDOM_PROBLEMS) as decodes.
template <class M, element T, int... HeadDims>
void run_cuda_decodes(cuda_for<HeadDims...> const& backend, char const* test, int share) {
  run_cuda_suite<M, T>(test, share, [&](std::uint64_t seed, std::int64_t number, cudaStream_t stream) {
    return fails_cuda_decode<M, T>(backend, {HeadDims...}, seed, number, stream);
  });
}

}  // namespace elastic::testing
