// What every benchmark does: checks the variant against the oracle on a small problem, then times its
// steps apart, in turn with a baseline, so that ratios hold on a machine whose speed drifts.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include <elastic/attention.hpp>
#include <elastic/metrics/sparsity.hpp>
#include <support/oracle.hpp>

namespace bench {

template <class F>
double seconds(F&& f) {
  auto const start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The caller's side of the front door: memory, assignment, and the three steps.
template <class Attention, elastic::element T>
class runner {
 public:
  runner(Attention attend, tensors<T>& on, elastic::options o)
      : attend_(std::move(attend)),
        on_(on),
        options_(o),
        shape_(attend_.shape(on.q(), on.k(), o)),
        routes_(static_cast<std::size_t>(on.batch * on.query_heads)),
        memory_(attend_.workspace_bytes(shape_)) {
    elastic::route_inputs<T> const in{.k_pre_rope = on.k(), .q = on.q(), .k = on.k(), .v = on.v()};
    attend_.route(in, assignment(), memory_, options_);
  }

  void select() { attend_.select(on_.q(), on_.k(), assignment(), memory_, options_); }
  void forward() { attend_.forward(on_.q(), on_.k(), on_.v(), on_.out(), on_.lse(), assignment(), memory_, options_); }

  elastic::assignment_view assignment() { return {routes_.data(), {on_.batch, on_.query_heads}}; }
  std::size_t workspace() const { return memory_.size(); }
  elastic::problem const& shape() const { return shape_; }

  auto selected() { return attend_.selected_in(shape_, memory_); }

 private:
  Attention attend_;
  tensors<T>& on_;
  elastic::options options_;
  elastic::problem shape_;
  std::vector<std::int32_t> routes_;
  std::vector<std::byte> memory_;
};

/// What is wrong with a small problem's outputs, or nothing.
template <elastic::element T, class Attention>
std::string small_problem_fault(Attention const& attend, int s, int query_heads, int kv_heads, int head_dim,
                                bool causal) {
  tensors<T> on(1, s, s, query_heads, kv_heads, head_dim, 7);
  elastic::options o;
  o.causal = causal;
  runner<Attention, T> run(attend, on, o);
  std::fill(on.out_data.begin(), on.out_data.end(), T(NAN));
  run.select();
  run.forward();
  return differs_from_oracle(run.selected(), run.shape(), run.assignment(), on.q(),
                             elastic::plain_keys<T>{on.k(), on.v()}, elastic::heads_view<T const>(on.out()));
}

/// Times select and attend of `variant(length)` in turn with `baseline`, which may be empty. Reports
/// milliseconds, FLOP/s of the kept pairs, the attended fraction, bytes, and time against the baseline.
template <class Variant, elastic::element T, class Baseline>
void measure(benchmark::State& state, Variant const& variant, tensors<T>& on, elastic::options const& o,
             Baseline&& baseline) {
  constexpr int small = 333;
  std::string const wrong =
      small_problem_fault<T>(variant(small), small, on.query_heads, on.kv_heads, on.head_dim, o.causal);
  if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  auto const attend = variant(on.q_len);
  runner<std::remove_const_t<decltype(attend)>, T> run(attend, on, o);
  run.select();
  run.forward();
  std::vector<double> selects, attends, ratios;
  for (auto _ : state) {
    selects.push_back(seconds([&] { run.select(); }));
    attends.push_back(seconds([&] { run.forward(); }));
    state.SetIterationTime(selects.back() + attends.back());
    double const base = baseline();
    if (base > 0) ratios.push_back(attends.back() / base);
  }
  elastic::effective_sparsity const part = elastic::count_sparsity(run.selected(), run.shape(), run.assignment());
  double const attend_seconds = median(attends);
  state.counters["select_ms"] = 1e3 * median(selects);
  state.counters["attend_ms"] = 1e3 * attend_seconds;
  state.counters["attended"] = part.density();
  state.counters["tiles"] = part.tile_density();
  state.counters["FLOP/s"] = 4 * static_cast<double>(part.total().kept) * on.head_dim / attend_seconds;
  state.counters["bytes"] =
      static_cast<double>((2 * on.q_data.size() + on.k_data.size() + on.v_data.size()) * sizeof(T));
  state.counters["workspace"] = static_cast<double>(run.workspace());
  if (!ratios.empty()) {
    state.counters["of_dense"] = median(ratios);
    state.counters["efficiency"] = part.density() / median(ratios);  // 1: time in proportion to the kept pairs
    state.counters["per_tile"] = median(ratios) / part.tile_density();
  }
}

}  // namespace bench
