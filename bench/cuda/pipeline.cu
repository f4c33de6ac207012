// The pipeline in one CUDA graph: route, select and forward of 32 query and 8 KV heads, head dim 128, bfloat16, causal,
// batch 1, by the MLP router with untrained weights. steps_ms adds up each step's time inside a graph of many, one
// behind the other; the benchmark's time is one replay of the whole pipeline, calls_ms the same without a graph.
// "beyond" is the replay against the steps. Argument: length.
#include <support/device.cuh>

namespace {

using namespace bench;

/// Milliseconds of one of `count` in a graph.
double in_graph(int count, work const& run) {
  replayed const several(count, run);
  device_clock clock;
  std::vector<double> all;
  for (int i = 0; i < 11; ++i) all.push_back(clock.milliseconds(std::cref(several)) / count);
  return median({all.begin() + 2, all.end()});
}

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
  int const count = length <= 16384 ? 10 : 3;
  double const routing = in_graph(20, route), selecting = selects<M> ? in_graph(count, select) : 0,
               attending = in_graph(count, forward), steps = routing + selecting + attending;
  replayed const whole(1, all);
  times const ms = time_in_turn(state, false, std::cref(whole), all);
  state.counters["sparse_heads"] = static_cast<double>(std::count(routes.begin(), routes.end(), 1));
  state.counters["route_ms"] = routing;
  state.counters["select_ms"] = selecting;
  state.counters["attend_ms"] = attending;
  state.counters["steps_ms"] = steps;
  state.counters["replay_ms"] = ms.run;
  state.counters["calls_ms"] = ms.baseline;
  state.counters["beyond"] = ms.run / steps - 1;
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
