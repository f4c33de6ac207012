// CPU selectors: select and attend apart, beside dense attention on the same inputs; on concentrated
// inputs (a best case by design) and on independent normal ones. Arguments: sequence length, threads.
#include <map>

#include <support/measure.hpp>

namespace {

using namespace elastic;

constexpr int query_heads = 8, kv_heads = 2, head_dim = 128;

enum class kind { normal, concentrated };

bench::tensors<float>& inputs(int s, kind of) {
  static std::map<std::pair<int, kind>, bench::tensors<float>> made;
  auto const key = std::pair{s, of};
  if (!made.contains(key)) {
    made.clear();
    made.emplace(key, of == kind::normal ? bench::tensors<float>(1, s, s, query_heads, kv_heads, head_dim)
                                         : bench::concentrated<float>(s, query_heads, kv_heads, head_dim));
  }
  return made.at(key);
}

template <class Selector>
void select(benchmark::State& state, Selector selector, kind of) {
  bench::tensors<float>& on = inputs(static_cast<int>(state.range(0)), of);
  options o;
  o.threads = static_cast<int>(state.range(1));
  bench::runner<attention<full>, float> dense(attention{full{}}, on, o);
  bench::measure(
      state, [&](int) { return attention{selector}; }, on, o, [&] { return bench::seconds([&] { dense.forward(); }); });
}

int const registered = [] {
  auto const add = [](std::string const& name, auto selector) {
    for (kind of : {kind::concentrated, kind::normal})
      benchmark::RegisterBenchmark((name + (of == kind::normal ? "/normal" : "/concentrated")).c_str(),
                                   [=](benchmark::State& s) { select(s, selector, of); })
          ->ArgNames({"S", "threads"})
          ->ArgsProduct({{2048, 8192}, {1, 2}})
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond)
          ->MinTime(1);
  };
  add("antidiagonal", antidiagonal{});
  add("moba", moba{});
  add("vertical_slash", vertical_slash{});
  add("pooled_top_k", pooled_top_k{});
  return 0;
}();

}  // namespace
