// The pipeline in one CUDA graph: route, select and forward of 32 query and 8 KV heads, head dim 128, bfloat16, causal,
// batch 1, by the MLP router with untrained weights. route_ms, select_ms and attend_ms are each step's time inside a
// graph of several of it, steps_ms their sum; the benchmark's time is one replay of the whole pipeline, calls_ms the
// same without a graph; all are timed in turn, so that they meet the same clock. "beyond" is the replay against the
// steps. Argument: length.
#include <support/device.cuh>

namespace {

using namespace bench;

template <class M>
void pipeline(benchmark::State& state, M const& mode, M const& small) {
  int const length = static_cast<int>(state.range(0));
  mlp_router const router{upload(mlp_weights::untrained(head_dim, 5))};
  attention<M, mlp_router, gpu> const attend{mode, router};
  device_tensors const& on = tensors_of(length);
  device_buffer<std::byte> const space(attend.workspace_bytes(attend.shape(on.q(), on.k())));
  workspace const memory(space.data(), space.size());
  work const route = [&](cudaStream_t s) { attend.route(on.k(), on.assignment(), memory, on_stream(s)); };
  work const select = [&](cudaStream_t s) { attend.select(on.q(), on.k(), on.assignment(), memory, on_stream(s)); };
  work const forward = [&](cudaStream_t s) {
    attend.forward(on.q(), on.k(), on.v(), on.out(), {}, on.assignment(), memory, on_stream(s));
  };
  work const all = [&](cudaStream_t s) { route(s), select(s), forward(s); };
  device_clock clock;
  clock.milliseconds(all);
  std::vector<std::int32_t> const routes = on.routes.read();
  if (std::string const wrong = small_problem_fault(attention<M, fixed_router, gpu>{small}, routes); !wrong.empty())
    return state.SkipWithError(wrong.c_str());
  constexpr int routed = 20;
  int const count = length <= 4096 ? 10 : 1;
  replayed const routing(routed, route), selecting(count, select), attending(count, forward), whole(1, all);
  std::array<std::vector<double>, 5> ms;
  auto const time = [&] {
    ms[0].push_back(clock.milliseconds(std::cref(routing)) / routed);
    ms[1].push_back(selects<M> ? clock.milliseconds(std::cref(selecting)) / count : 0);
    ms[2].push_back(clock.milliseconds(std::cref(attending)) / count);
    ms[3].push_back(clock.milliseconds(std::cref(whole)));
    ms[4].push_back(clock.milliseconds(all));
  };
  time();
  for (auto& of : ms) of.clear();
  for (auto _ : state) {
    time();
    state.SetIterationTime(ms[3].back() * 1e-3);
  }
  double const steps = median(ms[0]) + median(ms[1]) + median(ms[2]);
  state.counters["sparse_heads"] = static_cast<double>(std::count(routes.begin(), routes.end(), 1));
  state.counters["route_ms"] = median(ms[0]);
  state.counters["select_ms"] = median(ms[1]);
  state.counters["attend_ms"] = median(ms[2]);
  state.counters["steps_ms"] = steps;
  state.counters["replay_ms"] = median(ms[3]);
  state.counters["calls_ms"] = median(ms[4]);
  state.counters["beyond"] = median(ms[3]) / steps - 1;
}

int const registered = [] {
  auto const add = [](char const* name, auto const& mode, auto const& small) {
    by_events(name, [=](benchmark::State& s) { pipeline(s, mode, small); })
        ->ArgName("S")
        ->Arg(1024)
        ->Arg(4096)
        ->Arg(16384)
        ->Arg(65536);
  };
  add("full_streaming", hybrid{full{}, streaming{.sink = 1, .local = 16}},
      hybrid{full{}, streaming{.sink = 1, .local = 1}});
  add("full_antidiagonal", hybrid{full{}, antidiagonal{}}, hybrid{full{}, antidiagonal{}});
  return 0;
}();

}  // namespace
