// Forward pass on the CUDA backend: dense attention, hybrids of dense and streaming heads, streaming heads alone and
// random lists of blocks, causal, 32 query and 8 KV heads, head dim 128, bfloat16, batch 1. ms is a burst after a rest,
// the median of 9 launches, at 128K of 3; busy_ms is one launch of those that run back to back for about 50 ms.
// FLOP/s count visited tiles, scaled so that dense causal is 2·S²·d·H. tensor_share is the part of the cycles, at the
// frequency of the multiprocessors meanwhile, in which Hopper's tensor cores work on visited tiles. A sparse launch is
// also timed in turn with dense attention: ideal_ms is the dense time × the tiles of 128 × 64 that the mode visits ÷
// those that dense visits, of_ideal that ÷ its own time. Arguments: length; per cent of heads on the sparse mode, or of
// blocks kept; 1 for an emptied L2 cache.
#include <random>
#include <typeinfo>

#include <support/device.cuh>

namespace {

using namespace bench;

/// `variant(length)` is the attention to time; for a small problem one that leaves keys out there too.
template <class Variant>
void forward(benchmark::State& state, Variant const& variant, std::vector<std::int32_t> const& routes,
             bool against_dense) {
  std::string const wrong = once(typeid(Variant).name() + std::to_string(state.range(1)),
                                 [&] { return small_problem_fault(variant(small_length), routes); });
  if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  int const length = static_cast<int>(state.range(0));
  device_tensors const& on = tensors_of(length);
  on.routes.write(routes);
  auto const attend = variant(length);
  attend_with<full> const dense;
  problem const p = attend.shape(on.q(), on.k());
  device_buffer<std::byte> const space(attend.workspace_bytes(p)), dense_space(dense.workspace_bytes(p));
  workspace const memory(space.data(), space.size());
  attend.select(on.q(), on.k(), on.assignment(), memory);
  cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  replayed const run(1, [&](cudaStream_t s) {
    attend.forward(on.q(), on.k(), on.v(), on.out(), {}, on.assignment(), memory, on_stream(s));
  });
  replayed const baseline(1, [&](cudaStream_t s) {
    dense.forward(on.q(), on.k(), on.v(), on.out(), {}, on.assignment(), {dense_space.data(), dense_space.size()},
                  on_stream(s));
  });
  times const ms = time_in_turn(state, state.range(2) != 0, std::cref(run));
  readable_workspace const readable(attend.backend(), memory);
  double const visited = tiles(attend.selected_in(p, readable), p, routes), share = visited / tiles(full{}, p, routes);
  double const dense_flops = 2. * length * length * head_dim * query_heads;
  state.counters["ms"] = ms.run;
  if (state.range(2) == 0) state.counters["busy_ms"] = busy_milliseconds(std::cref(run), ms.run);
  state.counters["FLOP/s"] = dense_flops * share / ms.run * 1e3;
  state.counters["MHz"] = ms.megahertz;
  state.counters["tensor_share"] = visited * tile_cycles / (multiprocessors() * ms.run * ms.megahertz * 1e3);
  if (against_dense && state.range(2) == 0) {
    auto const [own, of_dense] = in_turn(std::cref(run), std::cref(baseline));
    state.counters["visited"] = share;
    state.counters["in_turn_ms"] = own;
    state.counters["ideal_ms"] = of_dense * share;
    state.counters["of_ideal"] = of_dense * share / own;
  }
  state.SetLabel(name_of(attend.backend().template kernel<bfloat16>(p)));
}

template <class M>
void forward(benchmark::State& state, M const& mode, M const& small, double sparsity) {
  auto const variant = [&](int length) { return attend_with<M>{length == small_length ? small : mode}; };
  forward(state, variant, routes_at(sparsity), !std::is_same_v<M, full>);
}

/// Random causal lists of blocks of 128, the diagonal always kept, the same for every head.
void lists(benchmark::State& state) {
  std::vector<std::unique_ptr<device_buffer<std::uint8_t>>> masks;
  auto const variant = [&](int length) {
    int const blocks = ceil_div(length, 128);
    std::mt19937 random(3);
    std::bernoulli_distribution keep(static_cast<double>(state.range(1)) / 100);
    std::vector<std::uint8_t> mask;
    for (int i = 0; i < blocks; ++i)
      for (int j = 0; j < blocks; ++j) mask.push_back(i == j || keep(random));
    masks.push_back(std::make_unique<device_buffer<std::uint8_t>>(std::span<std::uint8_t const>(mask)));
    return attend_with<block_mask>{block_mask{{masks.back()->data(), {1, 1, blocks, blocks}}, 128, 128}};
  };
  forward(state, variant, std::vector<std::int32_t>(query_heads, 0), true);
}

int const registered = [] {
  auto const add = [](char const* name, auto const& body, char const* second,
                      std::vector<std::int64_t> const& seconds) {
    by_events(name, body)->ArgNames({"S", second, "cold"})->ArgsProduct({{8192, 16384, 32768, 65536}, seconds, {0, 1}});
    by_events(name, body, 3)->ArgNames({"S", second, "cold"})->ArgsProduct({{131072}, seconds, {0, 1}});
  };
  auto const sparsity = [](benchmark::State const& s) { return static_cast<double>(s.range(1)) / 100; };
  streaming const many{.sink = 1, .local = 16}, few{.sink = 1, .local = 1};
  hybrid const pair{full{}, many}, small_pair{full{}, few};
  add("dense/bfloat16", [](benchmark::State& s) { forward(s, full{}, full{}, 0); }, "sparse", {0});
  add("hybrid_full_streaming/bfloat16", [=](benchmark::State& s) { forward(s, pair, small_pair, sparsity(s)); },
      "sparse", {0, 50, 75, 88, 100});
  add("streaming/bfloat16", [=](benchmark::State& s) { forward(s, many, few, 0); }, "sparse", {100});
  add("lists_128/bfloat16", lists, "kept", {10, 30});
  return 0;
}();

}  // namespace
