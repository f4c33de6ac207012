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
#include <support/inputs.hpp>

namespace bench {

template <class F>
double seconds(F&& f) {
  auto const start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// The caller's side of the front door: memory, assignment, and the three steps.
template <class Attention, elastic::element T>
class runner {
 public:
  runner(Attention attend, tensors<T>& on, elastic::options o)
      : attend_(std::move(attend)), on_(on), options_(o), shape_(attend_.shape(on.q(), on.k(), o)),
        routes_(static_cast<std::size_t>(on.batch * on.query_heads)), memory_(attend_.workspace_bytes(shape_)) {
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

/// The rule of correctness: an error of at most twice the naive kernel's, and four roundings.
template <elastic::element T, class Attention>
std::string differs_from_oracle(Attention const& attend, int s, int query_heads, int kv_heads, int head_dim, bool causal) {
  tensors<T> on(1, s, s, query_heads, kv_heads, head_dim, 7);
  elastic::options o;
  o.causal = causal;
  runner<Attention, T> run(attend, on, o);
  std::fill(on.out_data.begin(), on.out_data.end(), T(NAN));
  run.select();
  run.forward();
  double error = 0, naive_error = 0, highest = 0;
  std::vector<double> naive(on.out_data.size());
  auto const at = [&](int h, int i) {
    return (static_cast<std::size_t>(i) * static_cast<std::size_t>(query_heads) + static_cast<std::size_t>(h)) * static_cast<std::size_t>(head_dim);
  };
  elastic::plain_keys<T> const source{on.k(), on.v()};
  auto const mode = run.selected();
  elastic::reference_rows<float, elastic::detail::round_to<T>>(
      mode, run.shape(), on.q(), source, run.assignment(), [&](int, int h, int i, float const* row, float) {
        for (int d = 0; d < head_dim; ++d) naive[at(h, i) + static_cast<std::size_t>(d)] = row[d];
      });
  elastic::reference_rows<double>(mode, run.shape(), on.q(), source, run.assignment(),
                                  [&](int, int h, int i, double const* row, double) {
    for (int d = 0; d < head_dim; ++d) {
      std::size_t const n = at(h, i) + static_cast<std::size_t>(d);
      double const off = std::abs(static_cast<double>(static_cast<float>(on.out_data[n])) - row[d]);
      error = off <= error ? error : off;  // keeps a NaN
      naive_error = std::max(naive_error, std::abs(naive[n] - row[d]));
      highest = std::max(highest, std::abs(row[d]));
    }
  });
  if (error <= 2 * naive_error + 4 * elastic::epsilon<T> * highest) return {};
  return "differs from the oracle by " + std::to_string(error);
}

/// Times select and attend of `variant(length)` in turn with `baseline`, which may be empty. Reports
/// milliseconds, FLOP/s of the kept pairs, the attended fraction, bytes, and time against the baseline.
template <class Variant, elastic::element T, class Baseline>
void measure(benchmark::State& state, Variant const& variant, tensors<T>& on, elastic::options const& o,
             Baseline&& baseline) {
  constexpr int small = 333;
  std::string const wrong =
      differs_from_oracle<T>(variant(small), small, on.query_heads, on.kv_heads, on.head_dim, o.causal);
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
  state.counters["bytes"] = static_cast<double>((2 * on.q_data.size() + on.k_data.size() + on.v_data.size()) * sizeof(T));
  state.counters["workspace"] = static_cast<double>(run.workspace());
  if (!ratios.empty()) {
    state.counters["of_dense"] = median(ratios);
    state.counters["efficiency"] = part.density() / median(ratios);  // 1: time in proportion to the kept pairs
    state.counters["per_tile"] = median(ratios) / part.tile_density();
  }
}

}  // namespace bench
