// How far memory grows beyond inputs, outputs and the workspace: the process's peak resident set before
// and during select and forward. Attending needs O(threads × tile), selecting exactly its workspace.
#include <fstream>

#include <support/measure.hpp>

namespace {

using namespace elastic;

/// Bytes; the peak is counted anew from here on.
double reset_peak() {
  std::ofstream("/proc/self/clear_refs") << "5";
  return 0;
}

double status(std::string const& field) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(field + ":")) return 1024 * std::stod(line.substr(field.size() + 1));
  return 0;
}

template <class Mode>
void memory(benchmark::State& state, Mode const& mode) {
  int const s = static_cast<int>(state.range(0));
  bench::tensors<float> on(1, s, s, 2, 1, 128);
  options o;
  o.threads = 2;
  bench::runner<attention<Mode>, float> run(attention{mode}, on, o);  // the workspace is zeroed, so resident
  for (auto _ : state) {
    reset_peak();
    double const before = status("VmRSS");
    run.select();
    double const selected = status("VmHWM");
    reset_peak();
    run.forward();
    state.counters["select_grows"] = selected - before;
    state.counters["attend_grows"] = status("VmHWM") - before;
    state.counters["workspace"] = static_cast<double>(run.workspace());
    state.counters["inputs_outputs"] = static_cast<double>(
        (on.q_data.size() + on.k_data.size() + on.v_data.size() + on.out_data.size()) * sizeof(float));
  }
}

int const registered = [] {
  auto const add = [](char const* name, auto mode) {
    benchmark::RegisterBenchmark(name, [=](benchmark::State& s) { memory(s, mode); })
        ->ArgName("S")
        ->Arg(4096)
        ->Arg(32768)
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond);
  };
  add("full", full{});
  add("streaming", streaming{});
  add("antidiagonal", antidiagonal{});
  add("moba", moba{});
  add("vertical_slash", vertical_slash{});
  add("pooled_top_k", pooled_top_k{});
  return 0;
}();

}  // namespace
