// The MLP router on the CUDA backend, 100 launches in one graph, divided, weights warm: 32 query and 8 KV heads, head
// dim 128, bfloat16. Boundary pooling reads 200 tokens of a head; the mean reads them all. "ratio" is a router that
// looks at nothing: the floor of a launch. Arguments: length, batch.
#include <support/device.cuh>

namespace {

using namespace bench;

using sparse_or_not = hybrid<full, streaming>;

/// Keys that any length fits into, heads leaning one way each, so that the router decides otherwise for each.
drawn_buffer<bfloat16> const& keys() {
  static drawn_buffer<bfloat16> const made((std::int64_t{1} << 20) * kv_heads * head_dim, 1, kv_heads * head_dim);
  return made;
}

constexpr std::int64_t small = 333;

std::vector<bfloat16> const& small_keys() {
  static std::vector<bfloat16> const made = [] {
    std::vector<bfloat16> some(small * kv_heads * head_dim);
    cuda_call(cudaMemcpy(some.data(), keys().data(), some.size() * sizeof(bfloat16), cudaMemcpyDeviceToHost),
              "cudaMemcpy");
    return some;
  }();
  return made;
}

template <class Router>
std::vector<std::int32_t> oracle_routes(Router const& router) {
  attention<sparse_or_not, Router, reference> const oracle({}, router);
  std::vector<std::byte> memory(1 << 20);
  std::vector<std::int32_t> routes(query_heads);
  oracle.route(heads_view<bfloat16 const>(small_keys().data(), {1, small, kv_heads, head_dim}),
               assignment_view(routes.data(), {1, query_heads}), memory);
  return routes;
}

template <class Router>
void route(benchmark::State& state, Router const& router, Router const& host_router, int count) {
  std::int64_t const length = state.range(0), batch = state.range(1);
  attention<sparse_or_not, Router, gpu> const attend({}, router);
  device_buffer<std::int32_t> const routes(static_cast<std::size_t>(batch * query_heads));
  auto const run = [&](std::int64_t b, std::int64_t n, cudaStream_t s) {
    attend.route(heads_view<bfloat16 const>(keys().data(), {b, n, kv_heads, head_dim}),
                 assignment_view(routes.data(), {b, query_heads}), {}, on_stream(s));
  };
  run(1, small, nullptr);
  std::vector<std::int32_t> const expected = oracle_routes(host_router);
  std::vector<std::int32_t> chosen = routes.read();
  chosen.resize(query_heads);
  if (chosen != expected) return state.SkipWithError("differs from the oracle");
  replayed const several(count, [&](cudaStream_t s) { run(batch, length, s); });
  times const ms = time_in_turn(state, false, std::cref(several), {}, count);
  state.counters["microseconds"] = 1e3 * ms.run;
}

void mlp(benchmark::State& state, pooling how) {
  auto const make = [&](std::uint64_t seed) { return mlp_router{mlp_weights::untrained(head_dim, seed), how}; };
  std::uint64_t seed = 1;  // the first that sends heads both ways, as a check has to
  for (auto routes = oracle_routes(make(seed)); std::ranges::count(routes, routes[0]) == query_heads && seed < 50;
       routes = oracle_routes(make(seed)))
    ++seed;
  mlp_router const host = make(seed);
  mlp_router device = host;
  device.weights = upload(host.weights);
  bool const long_one = how == pooling::mean && state.range(0) * state.range(1) > 65536;
  route(state, device, host, long_one ? 10 : 100);
}

int const registered = [] {
  auto const add = [](char const* name, auto const& body) {
    return by_events(name, body, 21)->ArgNames({"S", "batch"});
  };
  auto* const boundary = add("mlp/boundary", [](benchmark::State& s) { mlp(s, pooling::boundary); });
  for (std::int64_t length = 512; length <= 1 << 20; length *= 2) boundary->Args({length, 1});
  for (std::int64_t batch : {2, 3, 4, 8, 16, 64}) boundary->Args({4096, batch});
  auto* const mean = add("mlp/mean", [](benchmark::State& s) { mlp(s, pooling::mean); });
  for (std::int64_t length : {4096, 65536, 1048576}) mean->Args({length, 1});
  add("ratio", [](benchmark::State& s) { route(s, ratio_router{0.5}, ratio_router{0.5}, 100); })->Args({512, 1});
  return 0;
}();

}  // namespace
