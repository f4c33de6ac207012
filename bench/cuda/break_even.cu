// Break-even on the CUDA backend: full attention, antidiagonal, and auto_dense of it in turn over a grid of lengths and
// densities, 32 query and 8 KV heads, head dim 128, bfloat16, causal, batch 1, each as one graph. On independent normal
// inputs antidiagonal keeps about its threshold of long sequences' blocks, and more of short ones'. What a choice loses
// against the better of both is the larger of two medians of ratios:
//   slower             the decision before selection, given the density that the selector will keep
//   by_head_slower     the decision after selection, head by head; both begin with the selection, but where the shape
//                      decides by itself ("by_shape")
//   attending_slower   the same without the selection: reading the flags alone
// select_ms and attend_ms are what cost models are fitted to. Arguments: length, threshold in per cent.
#include <support/device.cuh>

namespace {

using namespace bench;

using chosen_mode = auto_dense<antidiagonal>;

/// Select and forward of one attention, in one graph.
template <class M>
class whole {
 public:
  whole(M const& mode, device_tensors const& on)
      : attend_{mode},
        on_(on),
        space_(attend_.workspace_bytes(attend_.shape(on.q(), on.k()))),
        run_(1, [this](cudaStream_t s) { select(s), forward(s); }) {}

  void operator()(cudaStream_t s) const { run_(s); }
  void select(cudaStream_t s) const {
    if constexpr (selects<M>) attend_.select(on_.q(), on_.k(), on_.assignment(), memory(), on_stream(s));
  }
  void forward(cudaStream_t s) const {
    attend_.forward(on_.q(), on_.k(), on_.v(), on_.out(), {}, on_.assignment(), memory(), on_stream(s));
  }
  workspace memory() const { return {space_.data(), space_.size()}; }
  attention<M, fixed_router, gpu> const& attend() const { return attend_; }
  problem shape() const { return attend_.shape(on_.q(), on_.k()); }

 private:
  attention<M, fixed_router, gpu> attend_;
  device_tensors const& on_;
  device_buffer<std::byte> space_;
  replayed run_;
};

double median_ratio(std::vector<double> const& a, std::vector<double> const& b) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  return median(ratios);
}

void compare(benchmark::State& state, int stride) {
  int const length = static_cast<int>(state.range(0));
  antidiagonal const selector{.stride = stride, .threshold = static_cast<float>(state.range(1)) / 100};
  device_tensors const& on = tensors_of(length);
  whole<full> const dense(full{}, on);
  whole<antidiagonal> const sparse(selector, on);
  problem const p = sparse.shape();
  readable_workspace const readable(sparse.attend().backend(), sparse.memory());
  std::vector<std::int32_t> const routes(query_heads, 0);
  double const density = tiles(sparse.attend().selected_in(p, readable), p, routes) / tiles(full{}, p, routes);
  cost_model const costs = costs_on(sparse.attend().backend().kernel<bfloat16>(p), selector);
  chosen_mode const before{selector, costs, static_cast<float>(density)};

  for (std::optional<float> const expected : {std::optional(0.f), std::optional(1.f), std::optional<float>()}) {
    std::string const how = expected ? std::to_string(*expected) : "by head";
    cost_model small = costs;
    if (!expected) small.select = small.select_row = small.select_once = 0;  // else so small a problem goes dense
    std::string const wrong = once("auto_dense " + std::to_string(stride) + how, [&] {
      return small_problem_fault(attention<chosen_mode, fixed_router, gpu>{chosen_mode{selector, small, expected}},
                                 routes);
    });
    if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  }

  whole<chosen_mode> const chosen(before, on), by_head(chosen_mode{selector, costs}, on);
  replayed const select(1, [&](cudaStream_t s) { sparse.select(s); }),
      attend(1, [&](cudaStream_t s) { sparse.forward(s); }),
      select_dense(1, [&](cudaStream_t s) { sparse.select(s), dense.forward(s); }),
      by_head_attend(1, [&](cudaStream_t s) { by_head.forward(s); });
  device_clock clock;
  clock.milliseconds(std::cref(by_head));
  readable_workspace const by_head_memory(by_head.attend().backend(), by_head.memory());
  auto const decided = by_head.attend().selected_in(p, by_head_memory);
  int heads_dense = 0;
  for (int h = 0; h < query_heads; ++h) heads_dense += decided.is_dense(locate(p, 0, h, 0));

  std::map<std::string, std::vector<double>> ms;
  auto const time = [&](char const* name, work const& run) {
    run(clock.stream());  // behind a launch of itself the start is hidden, and the code is warm
    ms[name].push_back(clock.milliseconds(run));
  };
  auto const all = [&] {
    time("dense", std::cref(dense));
    time("chosen", std::cref(chosen));
    time("sparse", std::cref(sparse));
    time("by_head", std::cref(by_head));
    time("select_dense", std::cref(select_dense));
    time("select", std::cref(select));
    time("attend", std::cref(attend));
    time("by_head_attend", std::cref(by_head_attend));
  };
  all();
  ms.clear();
  for (auto _ : state) {
    all();
    state.SetIterationTime(ms["chosen"].back() * 1e-3);
  }
  auto const slower = [&](char const* name, char const* one, char const* other) {
    return std::max(median_ratio(ms[name], ms[one]), median_ratio(ms[name], ms[other])) - 1;
  };
  bool const by_shape = by_head.attend().mode().goes_dense(p);
  for (auto const& [name, times] : ms) state.counters[name + "_ms"] = median(times);
  state.counters["density"] = density;
  state.counters["break_even"] = before.break_even(p);
  state.counters["chose_dense"] = before.goes_dense(p);
  state.counters["by_shape"] = by_shape;
  state.counters["heads_dense"] = heads_dense;
  state.counters["slower"] = slower("chosen", "dense", "sparse");
  state.counters["by_head_slower"] = slower("by_head", by_shape ? "dense" : "select_dense", "sparse");
  if (!by_shape) state.counters["attending_slower"] = slower("by_head_attend", "dense", "attend");
}

int const registered = [] {
  auto const add = [](int stride, std::vector<std::int64_t> const& lengths, int iterations) {
    by_events(("antidiagonal_" + std::to_string(stride)).c_str(), [=](benchmark::State& s) { compare(s, stride); },
              iterations)
        ->ArgNames({"S", "percent"})
        ->ArgsProduct({lengths, {10, 30, 50, 60, 70, 80, 85, 90, 95, 100}});
  };
  for (int const stride : {16, 8}) {
    add(stride, {1024, 2048, 3072, 4096, 8192}, 31);  // microseconds count there
    add(stride, {16384, 32768, 65536}, 9);
  }
  return 0;
}();

}  // namespace
