// Decode on the CUDA backend, one new token for each sequence, several launches in one graph: dense heads, and hybrids
// of dense heads and streaming ones of 1 + 16 blocks, 32 query and 8 KV heads, head dim 128, bfloat16, pages of 128
// that lie far apart. bytes/s counts each visited key and value once; of_copy compares with a device-to-device copy
// timed in turn, bytes read and written. The copy leaves nothing in the L2 cache for a graph's first launch; what fits
// in there stays for the others, and may pass a copy's rate. Arguments: context, batch, per cent of KV heads that
// stream.
#include <numeric>
#include <typeinfo>

#include <support/device.cuh>

namespace {

using namespace bench;

constexpr int page = 128, group = query_heads / kv_heads;
constexpr std::size_t copied = std::size_t{1} << 30;

struct device_cache {
  int context, batch, pages;
  std::int64_t slots = std::int64_t{batch} * kv_heads * pages;
  std::vector<std::int32_t> order = far_apart();
  std::vector<std::int32_t> each = std::vector<std::int32_t>(static_cast<std::size_t>(batch), context);
  drawn_buffer<bfloat16> k{slots * page * head_dim, 1}, v{slots * page * head_dim, 2},
      q{std::int64_t{batch} * query_heads * head_dim, 3};
  device_buffer<bfloat16> out{q.size()};
  device_buffer<std::int32_t> table{std::span<std::int32_t const>(order)}, lengths{std::span<std::int32_t const>(each)},
      routes{static_cast<std::size_t>(batch * query_heads)};

  device_cache(int n, int b) : context(n), batch(b), pages(ceil_div(n, page)) {}

  /// As in a cache that has lived: a step through the slots that is prime to their number.
  std::vector<std::int32_t> far_apart() const {
    std::int64_t step = 7919;
    while (std::gcd(step, slots) != 1) ++step;
    std::vector<std::int32_t> order;
    for (std::int64_t i = 0; i < slots; ++i) order.push_back(static_cast<std::int32_t>(i * step % slots));
    return order;
  }

  /// Over these pools, table and lengths.
  paged_cache<bfloat16> view(bfloat16 const* keys, bfloat16 const* values, std::int32_t const* table_at,
                             std::int32_t const* lengths_at) const {
    return {{keys, {slots, page, head_dim}},
            {values, {slots, page, head_dim}},
            {table_at, {batch, kv_heads, pages}},
            {lengths_at, {batch}}};
  }
  paged_cache<bfloat16> view() const { return view(k.data(), v.data(), table.data(), lengths.data()); }

  heads_view<bfloat16 const> queries() const { return {q.data(), {batch, 1, query_heads, head_dim}}; }
  heads_view<bfloat16> outputs() const { return {out.data(), {batch, 1, query_heads, head_dim}}; }
  const_assignment_view assignment() const { return {routes.data(), {batch, query_heads}}; }

  /// Whole KV heads stream, the last ones; the same for every sequence.
  std::vector<std::int32_t> route(std::int64_t per_cent) const {
    std::vector<std::int32_t> by_head;
    for (int b = 0; b < batch; ++b)
      for (int h = 0; h < query_heads; ++h) by_head.push_back(h / group >= kv_heads * (100 - per_cent) / 100);
    routes.write(by_head);
    return by_head;
  }

  template <class Attention>
  void decode(Attention const& attend, workspace memory, cudaStream_t stream) const {
    attend.decode(queries(), view(), outputs(), {}, assignment(), memory, on_stream(stream));
  }
};

template <class Attention>
std::string small_decode_fault(Attention const& attend, std::int64_t per_cent) {
  device_cache const on(3333, 2);
  std::vector<std::int32_t> const routes = on.route(per_cent);
  device_buffer<std::byte> const space(attend.decode_bytes(attend.shape(on.queries(), on.view())));
  on.out.write(std::vector<bfloat16>(on.out.size(), bfloat16(NAN)));
  on.decode(attend, {space.data(), space.size()}, nullptr);
  std::vector<bfloat16> const q = on.q.read(), k = on.k.read(), v = on.v.read(), out = on.out.read();
  paged_cache<bfloat16> const cache = on.view(k.data(), v.data(), on.order.data(), on.each.data());
  heads_view<bfloat16 const> queries = on.queries(), outputs = on.outputs();
  queries.data = q.data();
  outputs.data = out.data();
  return differs_from_oracle(decode_mode(attend.mode()), make_problem<bfloat16>(queries, cache, {}),
                             const_assignment_view(routes.data(), {on.batch, query_heads}), queries, cache, outputs);
}

/// Bytes of the keys and values that some head of a group visits, by tiles of 64.
template <class M>
double visited_bytes(M const& mode, device_cache const& on, std::vector<std::int32_t> const& routes) {
  problem p;
  p.q_len = 1;
  p.k_len = on.context;
  p.query_heads = query_heads;
  p.kv_heads = kv_heads;
  double keys = 0;
  for (int kv = 0; kv < kv_heads; ++kv) {
    int most = 0;
    for (int h = kv * group; h < (kv + 1) * group; ++h)
      most = maximum(most, tiles_of(mode, locate(p, 0, h, routes[static_cast<std::size_t>(h)]), 0, {16, 64}).count);
    keys += minimum(most * 64, on.context);
  }
  return keys * on.batch * head_dim * 2 * sizeof(bfloat16);
}

template <class M>
void decode(benchmark::State& state, M const& mode) {
  attention<M, fixed_router, gpu> const attend{mode};
  std::string const wrong = once(typeid(M).name() + std::to_string(state.range(2)),
                                 [&] { return small_decode_fault(attend, state.range(2)); });
  if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  device_cache const on(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
  std::vector<std::int32_t> const routes = on.route(state.range(2));
  device_buffer<std::byte> const space(attend.decode_bytes(attend.shape(on.queries(), on.view())));
  workspace const memory(space.data(), space.size());
  int const count = state.range(0) * state.range(1) >= 1 << 19 ? 3 : 20;
  replayed const several(count, [&](cudaStream_t s) { on.decode(attend, memory, s); });
  static device_buffer<std::byte> const from(copied), to(copied);
  work const copy = [&](cudaStream_t s) {
    cuda_call(cudaMemcpyAsync(to.data(), from.data(), copied, cudaMemcpyDeviceToDevice, s), "cudaMemcpyAsync");
  };
  times const ms = time_in_turn(state, false, std::cref(several), copy, count);
  double const rate = visited_bytes(mode, on, routes) / ms.run * 1e3, copy_rate = 2. * copied / ms.baseline * 1e3;
  state.counters["ms"] = ms.run;
  state.counters["bytes/s"] = rate;
  state.counters["copy_bytes/s"] = copy_rate;
  state.counters["of_copy"] = rate / copy_rate;
}

int const registered = [] {
  std::vector<std::array<std::int64_t, 2>> const caches{{1024, 8}, {8192, 8}, {32768, 8}, {131072, 1}, {131072, 8}};
  auto const add = [&](char const* name, auto const& body, std::vector<std::int64_t> const& sparse) {
    auto* const b = by_events(name, body)->ArgNames({"context", "batch", "sparse"});
    for (auto const& [context, batch] : caches)
      for (std::int64_t const per_cent : sparse) b->Args({context, batch, per_cent});
  };
  add("dense/bfloat16", [](benchmark::State& s) { decode(s, full{}); }, {0});
  add("hybrid_full_streaming/bfloat16",
      [](benchmark::State& s) { decode(s, hybrid<full, streaming>{full{}, streaming{.sink = 1, .local = 16}}); },
      {0, 50, 75, 100});
  return 0;
}();

}  // namespace
