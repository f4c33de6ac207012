// CPU forward: dense attention beside one large Eigen product, and every kind of mode beside dense
// attention, each pair in turn. Arguments: sequence length, threads.
#include <thread>

#include <support/measure.hpp>

namespace {

using namespace elastic;

constexpr int query_heads = 32, kv_heads = 8, head_dim = 128;

options with_threads(benchmark::State const& state, bool causal = true) {
  options o;
  o.causal = causal;
  o.threads = static_cast<int>(state.range(1));
  return o;
}

/// 32 / 8 heads up to 4096 keys; above, half of them, to keep an iteration short: rates do not depend on it, and 75% of
/// the groups are still a whole number.
template <element T>
bench::tensors<T>& inputs(int s) {
  static bench::tensors<T>* made = nullptr;
  if (made == nullptr || made->q_len != s) {
    delete made;
    int const groups = s <= 4096 ? kv_heads : 4;
    made = new bench::tensors<T>(1, s, s, groups * (query_heads / kv_heads), groups, head_dim);
  }
  return *made;
}

template <element T>
void dense(benchmark::State& state, bool causal) {
  bench::tensors<T>& on = inputs<T>(static_cast<int>(state.range(0)));
  // The product runs on as many threads as the attention, one matrix each.
  int const n = 2048, threads = static_cast<int>(state.range(1));
  std::vector<Eigen::MatrixXf> a, b, c;
  for (int t = 0; t < threads; ++t) {
    a.push_back(Eigen::MatrixXf::Random(n, n));
    b.push_back(Eigen::MatrixXf::Random(n, n));
    c.push_back(Eigen::MatrixXf(n, n));
  }
  std::vector<double> products;
  bench::measure(
      state, [](int) { return attention{full{}}; }, on, with_threads(state, causal),
      [&] {
        products.push_back(bench::seconds([&] {
          elastic::detail::parallel_for(threads, threads, [&](std::int64_t t, int) {
            auto const i = static_cast<std::size_t>(t);
            c[i].noalias() = a[i] * b[i];
          });
        }));
        return 0.;
      });
  double const rate = 2. * n * n * n * threads / bench::median(products);
  state.counters["gemm_FLOP/s"] = rate;
  state.counters["of_gemm"] = state.counters["FLOP/s"] / rate;
}

/// Dense attention's time on the same inputs.
template <element T>
auto dense_baseline(bench::tensors<T>& on, options const& o) {
  return [run = std::make_shared<bench::runner<attention<full>, T>>(attention{full{}}, on, o)] {
    return bench::seconds([&] { run->forward(); });
  };
}

/// `variant(length)` is the attention to time.
template <element T, class Variant>
  requires std::invocable<Variant, int>
void sparse(benchmark::State& state, Variant const& variant) {
  bench::tensors<T>& on = inputs<T>(static_cast<int>(state.range(0)));
  options const o = with_threads(state);
  bench::measure(state, variant, on, o, dense_baseline(on, o));
}

template <element T, class Mode>
void sparse(benchmark::State& state, Mode const& mode) {
  sparse<T>(state, [&](int) { return attention{mode}; });
}

/// Random causal lists of the given density, the diagonal always kept, the same for every head.
template <element T>
void lists(benchmark::State& state, double density, int block) {
  std::vector<std::vector<std::uint8_t>> masks;
  sparse<T>(state, [&](int s) {
    int const blocks = ceil_div(s, block);
    std::mt19937 random(3);
    std::bernoulli_distribution keep(density);
    std::vector<std::uint8_t>& mask = masks.emplace_back();
    for (int i = 0; i < blocks; ++i)
      for (int j = 0; j < blocks; ++j) mask.push_back(i == j || keep(random));
    return attention{block_mask{{mask.data(), {1, 1, blocks, blocks}}, block, block}};
  });
}

void every_pair(benchmark::internal::Benchmark* b) {
  b->ArgNames({"S", "threads"})->UseManualTime()->Unit(benchmark::kMillisecond)->MinTime(2);
}

int const registered = [] {
  auto const add = [](char const* name, auto&& body, std::vector<std::int64_t> lengths,
                      std::vector<std::int64_t> threads) {
    auto* const b = benchmark::RegisterBenchmark(name, body);
    every_pair(b);
    for (std::int64_t s : lengths)
      for (std::int64_t t : threads) b->Args({s, t});
  };
  std::vector<std::int64_t> threads{1, 2};
  if (std::thread::hardware_concurrency() > 2) threads.push_back(std::thread::hardware_concurrency());
  add("dense/float", [](benchmark::State& s) { dense<float>(s, true); }, {2048, 4096, 8192}, threads);
  add("dense_bidirectional/float", [](benchmark::State& s) { dense<float>(s, false); }, {4096}, threads);
  add("dense/half", [](benchmark::State& s) { dense<half>(s, true); }, {4096}, threads);
  add("dense/bfloat16", [](benchmark::State& s) { dense<bfloat16>(s, true); }, {4096}, threads);
  std::vector<std::int64_t> const two{2048, 8192}, one{1};
  add("sliding_window_2048/float", [](benchmark::State& s) { sparse<float>(s, sliding_window{2048}); }, two, one);
  add("streaming_block_1_16/float", [](benchmark::State& s) { sparse<float>(s, streaming{}); }, two, one);
  add(
      "streaming_token_128_2048/float",
      [](benchmark::State& s) { sparse<float>(s, streaming{128, 2048, granularity::token}); }, two, one);
  add("lists_128_density_0.1/float", [](benchmark::State& s) { lists<float>(s, 0.1, 128); }, two, one);
  add("lists_128_density_0.3/float", [](benchmark::State& s) { lists<float>(s, 0.3, 128); }, two, one);
  add("lists_64_density_0.1/float", [](benchmark::State& s) { lists<float>(s, 0.1, 64); }, two, one);
  add("triangle/float", [](benchmark::State& s) { sparse<float>(s, triangle{.layer_threshold = 0}); }, two, one);
  add(
      "hybrid_full_streaming_0.75/float",
      [](benchmark::State& s) {
        sparse<float>(s, [](int) { return attention{hybrid{full{}, streaming{}}, ratio_router{0.75}}; });
      },
      two, one);
  add(
      "predicate/float",
      [](benchmark::State& s) {
        sparse<float>(s, predicate{[](where const& w, int q, int k) { return w.position(q) - k < 2048; }});
      },
      {2048}, one);
  add(
      "planned_predicate/float",
      [](benchmark::State& s) {
        sparse<float>(s, planned{predicate{[](where const& w, int q, int k) { return w.position(q) - k < 2048; }}});
      },
      two, one);
  add("soft_cap/float", [](benchmark::State& s) { sparse<float>(s, scored{full{}, soft_cap{}}); }, {2048}, one);
  return 0;
}();

}  // namespace
