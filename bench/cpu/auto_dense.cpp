// Break-even on the CPU: full attention, a selector, and auto_dense of it in turn, over a grid of lengths and
// densities. "chose_dense" is the decision before selection, given the density that the selector will keep;
// "slower" is what it loses against the better of both, "slower_after" what the decision after selection loses in
// attending alone (where without a density the shape decides too, everything included). The rest is what cost models
// are fitted to. Arguments: sequence length, percent asked for.
#include <support/measure.hpp>

namespace {

using namespace elastic;

constexpr int query_heads = 2, kv_heads = 1, head_dim = 128;

/// time ÷ the better of two others, each pair taken in turn: the larger of the two median ratios, less 1.
double slower(std::vector<double> const& own, std::vector<double> const& a, std::vector<double> const& b) {
  std::vector<double> of_a, of_b;
  for (std::size_t i = 0; i < own.size(); ++i) {
    of_a.push_back(own[i] / a[i]);
    of_b.push_back(own[i] / b[i]);
  }
  return std::max(bench::median(of_a), bench::median(of_b)) - 1;
}

/// `at(length, share)` is the selector that keeps about that share.
template <class At>
void compare(benchmark::State& state, At const& at) {
  int const s = static_cast<int>(state.range(0));
  double const share = static_cast<double>(state.range(1)) / 100;
  bench::tensors<float> on(1, s, s, query_heads, kv_heads, head_dim);
  options o;
  o.threads = 1;
  auto const selector = at(s, share);
  cost_model const costs = costs_on(cpu{}, selector);
  bench::runner<attention<full>, float> dense(attention{full{}}, on, o);
  bench::runner<attention<std::remove_const_t<decltype(selector)>>, float> sparse(attention{selector}, on, o);
  sparse.select();
  auto const visited = count_sparsity(sparse.selected(), sparse.shape(), sparse.assignment());
  bool const asks = has_partial_of<decltype(sparse.selected())>;
  float const density = static_cast<float>(asks ? visited.tile_density() : visited.density());
  auto_dense const before{selector, costs, density}, after{selector, costs};

  for (float const expected : {0.f, 1.f}) {
    auto_dense const either{at(333, share), costs, expected};
    std::string const wrong =
        bench::small_problem_fault<float>(attention{either}, 333, query_heads, kv_heads, head_dim, true);
    if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  }

  bench::runner<attention<std::remove_const_t<decltype(before)>>, float> chosen(attention{before}, on, o);
  bench::runner<attention<std::remove_const_t<decltype(after)>>, float> by_head(attention{after}, on, o);
  for (auto* run : {&chosen, &by_head}) {
    run->select();
    run->forward();
  }
  auto const heads = by_head.selected();
  int heads_dense = 0;
  for (int h = 0; h < query_heads; ++h) heads_dense += heads.is_dense(locate(dense.shape(), 0, h, 0));

  std::vector<double> dense_s, select_s, attend_s, sparse_s, chosen_s, by_head_s;
  for (auto _ : state) {
    dense_s.push_back(bench::seconds([&] { dense.forward(); }));
    select_s.push_back(bench::seconds([&] { sparse.select(); }));
    attend_s.push_back(bench::seconds([&] { sparse.forward(); }));
    sparse_s.push_back(select_s.back() + attend_s.back());
    chosen_s.push_back(bench::seconds([&] {
      chosen.select();
      chosen.forward();
    }));
    by_head_s.push_back(bench::seconds([&] { by_head.forward(); }));
    state.SetIterationTime(chosen_s.back());
  }
  state.counters["density"] = density;
  state.counters["break_even"] = before.break_even(dense.shape());
  state.counters["chose_dense"] = before.goes_dense(dense.shape());
  state.counters["heads_dense"] = heads_dense;
  state.counters["dense_ms"] = 1e3 * bench::median(dense_s);
  state.counters["select_ms"] = 1e3 * bench::median(select_s);
  state.counters["attend_ms"] = 1e3 * bench::median(attend_s);
  state.counters["chosen_ms"] = 1e3 * bench::median(chosen_s);
  state.counters["slower"] = slower(chosen_s, dense_s, sparse_s);
  state.counters["slower_after"] = slower(by_head_s, dense_s, after.goes_dense(dense.shape()) ? sparse_s : attend_s);
}

int const registered = [] {
  auto const add = [](char const* name, auto const& at) {
    for (int s : {512, 1024, 2048, 4096, 8192})
      for (int percent : {10, 30, 50, 70, 85, 95, 100})
        benchmark::RegisterBenchmark(name, [=](benchmark::State& state) { compare(state, at); })
            ->ArgNames({"S", "percent"})
            ->Args({s, percent})
            ->Iterations(s <= 1024   ? 61
                         : s <= 2048 ? 31
                         : s <= 4096 ? 11
                                     : 5)
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond);
  };
  // On independent normal inputs the share of the blocks that antidiagonal keeps is its threshold.
  add("antidiagonal_16",
      [](int, double share) { return antidiagonal{.stride = 16, .threshold = static_cast<float>(share)}; });
  add("antidiagonal_8",
      [](int, double share) { return antidiagonal{.stride = 8, .threshold = static_cast<float>(share)}; });
  add("pooled_top_k", [](int s, double share) {
    // The k of S / 64 blocks that leaves that share of the causal ones: k/n · (2 − k/n).
    double const k = (1 - std::sqrt(1 - share)) * s / 64;
    return pooled_top_k{.k = std::max(1, static_cast<int>(std::lround(k)))};
  });
  // Of these the tiles that all rows of a query tile see together are many more.
  add("moba_128", [](int s, double share) {
    return moba{.block = 128, .k = std::max(1, static_cast<int>(std::lround(share * share * s / 128)))};
  });
  add("vertical_slash", [](int s, double share) {
    int const taken = static_cast<int>(share * share * s / 8);
    return vertical_slash{.columns = taken, .offsets = taken};
  });
  return 0;
}();

}  // namespace
