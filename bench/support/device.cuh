// What the benchmarks of the CUDA backend share: inputs drawn on the device, the check of a small problem against the
// oracle, and times by CUDA events, in turn with a baseline, warm or with an emptied L2 cache.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <benchmark/benchmark.h>

#include <elastic/cuda/cuda.cuh>
#include <support/device_buffer.hpp>
#include <support/oracle.hpp>

namespace bench {

using namespace elastic;
using elastic::detail::cuda_call;
using elastic::testing::device_buffer;

inline constexpr int query_heads = 32, kv_heads = 8, head_dim = 128;
using gpu = cuda_for<head_dim>;

/// About N(0, 1), by a hash of the index. Where `leaning` > 0, column i % leaning leans one way, within ±2.
template <element T>
__global__ void draw(T* values, std::size_t size, unsigned seed, int leaning) {
  auto const hash = [](unsigned x) {
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
    return x;
  };
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < size;
       i += std::size_t{gridDim.x} * blockDim.x) {
    float sum = 0;
    unsigned x = static_cast<unsigned>(i) * 2654435761u + seed;
    for (int j = 0; j < 4; ++j) sum += static_cast<float>((x = hash(x)) >> 8) * 0x1p-24f - 0.5f;
    float const lean =
        leaning > 0
            ? static_cast<float>(hash(static_cast<unsigned>(i) % static_cast<unsigned>(leaning)) >> 8) * 0x1p-22f - 2
            : 0;
    values[i] = T(sum * 1.7320508f + lean);
  }
}

template <element T>
struct drawn_buffer : device_buffer<T> {
  drawn_buffer(std::int64_t size, unsigned seed, int leaning = 0) : device_buffer<T>(static_cast<std::size_t>(size)) {
    draw<<<1024, 256>>>(this->data(), this->size(), seed, leaning);
    cuda_call(cudaGetLastError(), "draw");
    cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }
};

inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0;
  cuda_call(cudaGetDevice(&device), "cudaGetDevice");
  return elastic::detail::device_attribute(attribute, device);
}

inline int multiprocessors() { return device_attribute(cudaDevAttrMultiProcessorCount); }

struct head_shape {
  int query = query_heads, kv = kv_heads, dim = head_dim;
};

/// Q, K, V, room for the output, and an assignment, batch 1.
template <element T>
struct device_tensors_of {
  int length;
  head_shape heads;
  drawn_buffer<T> q_memory, k_memory, v_memory;
  device_buffer<T> out_memory;
  device_buffer<std::int32_t> routes;

  explicit device_tensors_of(int n, head_shape of = {})
      : length(n),
        heads(of),
        q_memory(std::int64_t{n} * of.query * of.dim, 1),
        k_memory(std::int64_t{n} * of.kv * of.dim, 2, of.kv * of.dim),
        v_memory(std::int64_t{n} * of.kv * of.dim, 3),
        out_memory(q_memory.size()),
        routes(static_cast<std::size_t>(of.query)) {
    routes.write(std::vector<std::int32_t>(routes.size(), 0));
  }

  heads_view<T const> q() const { return {q_memory.data(), {1, length, heads.query, heads.dim}}; }
  heads_view<T const> k() const { return {k_memory.data(), {1, length, heads.kv, heads.dim}}; }
  heads_view<T const> v() const { return {v_memory.data(), {1, length, heads.kv, heads.dim}}; }
  heads_view<T> out() const { return {out_memory.data(), {1, length, heads.query, heads.dim}}; }
  assignment_view assignment() const { return {routes.data(), {1, heads.query}}; }
};
using device_tensors = device_tensors_of<bfloat16>;

/// Those of one length at a time, kept for the benchmarks that follow.
inline device_tensors const& tensors_of(int length) {
  static std::unique_ptr<device_tensors> made;
  if (made == nullptr || made->length != length) {
    made.reset();
    made = std::make_unique<device_tensors>(length);
  }
  return *made;
}

inline options on_stream(cudaStream_t stream) {
  options o;
  o.stream = stream;
  return o;
}

inline constexpr int small_length = 333;

/// Host tensors of a small problem, and what was selected for it, where the host can read it.
template <class Attention, element T = bfloat16>
using inspection = std::function<std::string(tensors<T> const&, typename Attention::selected const&)>;

/// What is wrong with the outputs of a small problem, given what the device selected for it, or nothing. `inspect` may
/// look at that.
template <element T = bfloat16, class Attention>
std::string small_problem_fault(Attention const& attend, std::vector<std::int32_t> const& routes,
                                std::type_identity_t<inspection<Attention, T>> const& inspect = {},
                                head_shape heads = {}, options o = {}) {
  tensors<T> host(1, small_length, small_length, heads.query, heads.kv, heads.dim, 7);
  auto const upload = [](std::vector<T> const& values) { return std::span<T const>(values); };
  device_buffer<T> const q(upload(host.q_data)), k(upload(host.k_data)), v(upload(host.v_data)),
      out(upload(std::vector<T>(host.out_data.size(), T(NAN))));
  device_buffer<std::int32_t> const assigned{std::span<std::int32_t const>(routes)};
  auto const on_device = [](heads_view<T const> view, device_buffer<T> const& memory) {
    view.data = memory.data();
    return view;
  };
  heads_view<T const> const Q = on_device(host.q(), q), K = on_device(host.k(), k), V = on_device(host.v(), v);
  problem const p = attend.shape(Q, K, o);
  device_buffer<std::byte> const space(attend.workspace_bytes(p));
  workspace const memory(space.data(), space.size());
  const_assignment_view const assignment(assigned.data(), {1, heads.query});
  attend.select(Q, K, assignment, memory, o);
  attend.forward(Q, K, V, heads_view<T>(out.data(), {1, small_length, heads.query, heads.dim}), {}, assignment, memory,
                 o);
  host.out_data = out.read();
  readable_workspace const readable(attend.backend(), memory);
  auto const selected = attend.selected_in(p, readable);
  if (inspect)
    if (std::string const wrong = inspect(host, selected); !wrong.empty()) return wrong;
  return differs_from_oracle(selected, p, const_assignment_view(routes.data(), {1, heads.query}), host.q(),
                             plain_keys<T>{host.k(), host.v()}, heads_view<T const>(host.out()));
}

/// The same check is made once, however many lengths are timed.
inline std::string once(std::string const& key, std::function<std::string()> const& check) {
  static std::map<std::string, std::string> known;
  if (!known.contains(key)) known[key] = check();
  return known[key];
}

using work = std::function<void(cudaStream_t)>;

/// A stream of its own and the time that work on it takes.
class device_clock {
 public:
  device_clock() {
    cuda_call(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    cuda_call(cudaEventCreate(&begin_), "cudaEventCreate");
    cuda_call(cudaEventCreate(&end_), "cudaEventCreate");
  }
  ~device_clock() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaStreamDestroy(stream_);
  }
  device_clock(device_clock const&) = delete;

  cudaStream_t stream() const { return stream_; }

  /// Reads nothing that was there, and leaves the L2 cache full of zeros.
  void empty_l2() {
    if (!zeros_) zeros_.emplace(2 * static_cast<std::size_t>(device_attribute(cudaDevAttrL2CacheSize)));
    cuda_call(cudaMemsetAsync(zeros_->data(), 0, zeros_->size(), stream_), "cudaMemsetAsync");
  }

  double milliseconds(work const& run) {
    cuda_call(cudaEventRecord(begin_, stream_), "cudaEventRecord");
    run(stream_);
    cuda_call(cudaEventRecord(end_, stream_), "cudaEventRecord");
    cuda_call(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float time = 0;
    cuda_call(cudaEventElapsedTime(&time, begin_, end_), "cudaEventElapsedTime");
    return time;
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  std::optional<device_buffer<std::byte>> zeros_;
};

/// Of every multiprocessor: cycles, then nanoseconds.
template <class Count>
__global__ void read_clocks(Count* clocks) {
  if (threadIdx.x != 0) return;
  unsigned multiprocessor;
  unsigned long long nanoseconds;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(multiprocessor));
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(nanoseconds));
  clocks[2 * multiprocessor] = static_cast<Count>(clock64());
  clocks[2 * multiprocessor + 1] = nanoseconds;
}

/// The frequency at which the multiprocessors ran between begin and end, which a busy card lowers.
class frequency {
 public:
  void begin(cudaStream_t stream) const { read(before_, stream); }
  void end(cudaStream_t stream) const { read(after_, stream); }

  double megahertz() const {
    auto const from = before_.read(), to = after_.read();
    double cycles = 0, nanoseconds = 0;
    for (std::size_t i = 0; i < from.size(); i += 2) {
      if (from[i + 1] == 0 || to[i + 1] <= from[i + 1]) continue;  // a multiprocessor that no block came to
      cycles += static_cast<double>(to[i] - from[i]);
      nanoseconds += static_cast<double>(to[i + 1] - from[i + 1]);
    }
    return nanoseconds > 0 ? 1e3 * cycles / nanoseconds : 0;
  }

 private:
  static void read(device_buffer<unsigned long long> const& to, cudaStream_t stream) {
    cuda_call(cudaMemsetAsync(to.data(), 0, to.size() * sizeof(unsigned long long), stream), "cudaMemsetAsync");
    read_clocks<<<static_cast<unsigned>(multiprocessors()), 1024, 0, stream>>>(to.data());
    cuda_call(cudaGetLastError(), "read_clocks");
  }

  static constexpr std::size_t most = 1024;  // multiprocessors
  device_buffer<unsigned long long> before_{2 * most}, after_{2 * most};
};

/// Work captured `count` times in one graph: a replay takes no host time between the launches.
class replayed {
 public:
  replayed(int count, work const& run) {
    device_clock on;
    run(on.stream());  // what is prepared on the first call is not captured
    cuda_call(cudaStreamSynchronize(on.stream()), "cudaStreamSynchronize");
    cuda_call(cudaStreamBeginCapture(on.stream(), cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
    try {
      for (int i = 0; i < count; ++i) run(on.stream());
    } catch (...) {  // a capture that goes on would refuse what others allocate
      cudaStreamEndCapture(on.stream(), &graph_);
      cudaGraphDestroy(graph_);
      throw;
    }
    cuda_call(cudaStreamEndCapture(on.stream(), &graph_), "cudaStreamEndCapture");
    cuda_call(cudaGraphInstantiate(&replay_, graph_, 0), "cudaGraphInstantiate");
  }
  ~replayed() {
    cudaGraphExecDestroy(replay_);
    cudaGraphDestroy(graph_);
  }
  replayed(replayed const&) = delete;

  void operator()(cudaStream_t stream) const { cuda_call(cudaGraphLaunch(replay_, stream), "cudaGraphLaunch"); }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t replay_ = nullptr;
};

/// Medians: milliseconds, and the frequency while `run` ran.
struct times {
  double run = 0, baseline = 0, megahertz = 0;
};

/// The benchmark's loop, its argument "cold" choosing the cache: `run` in turn with `baseline`, which may be empty,
/// after a rest and two runs to warm up. `count` is how often `run` holds what is timed.
inline times time_in_turn(benchmark::State& state, bool cold, work const& run, work const& baseline = {},
                          int count = 1) {
  using namespace std::chrono_literals;
  device_clock clock;
  frequency const rate;
  std::vector<double> runs, baselines, rates;
  auto const time = [&](work const& of) {
    if (cold) clock.empty_l2();
    return clock.milliseconds(of);
  };
  std::this_thread::sleep_for(400ms);
  for (int i = 0; i < 2; ++i) {
    time(run);
    if (baseline) time(baseline);
  }
  for (auto _ : state) {
    rate.begin(clock.stream());
    runs.push_back(time(run) / count);
    rate.end(clock.stream());
    cuda_call(cudaStreamSynchronize(clock.stream()), "cudaStreamSynchronize");
    rates.push_back(rate.megahertz());
    state.SetIterationTime(runs.back() * 1e-3);
    if (baseline) baselines.push_back(time(baseline));
  }
  return {median(runs), median(baselines), median(rates)};
}

/// Medians of two kinds of work in turn, so that both meet the same clock, after one of each to warm up.
inline std::array<double, 2> in_turn(work const& run, work const& baseline, int count = 9) {
  device_clock clock;
  std::array<std::vector<double>, 2> all;
  for (int i = 0; i <= count; ++i) {
    all[0].push_back(clock.milliseconds(run));
    all[1].push_back(clock.milliseconds(baseline));
  }
  return {median({all[0].begin() + 1, all[0].end()}), median({all[1].begin() + 1, all[1].end()})};
}

/// Milliseconds of one run of 3 to 50, back to back for about 50 ms: a busy card's clock falls.
inline double busy_milliseconds(work const& run, double about) {
  int const count = static_cast<int>(std::clamp(50 / about, 3., 50.));
  device_clock clock;
  std::vector<double> all;
  for (int i = 0; i < 6; ++i)
    all.push_back(clock.milliseconds([&](cudaStream_t s) {
      for (int j = 0; j < count; ++j) run(s);
    }) / count);
  return median({all.begin() + 1, all.end()});
}

/// Registers a benchmark of this folder, which reports what it throws, such as that there is no device. 9 iterations
/// are a burst: a busy card's clock falls.
inline benchmark::internal::Benchmark* by_events(char const* name, std::function<void(benchmark::State&)> const& body,
                                                 int iterations = 9) {
  auto const guarded = [body](benchmark::State& state) {
    try {
      body(state);
    } catch (std::exception const& wrong) {
      state.SkipWithError(wrong.what());
    }
  };
  return benchmark::RegisterBenchmark(name, guarded)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(iterations);
}

/// Of a multiprocessor's tensor cores, 4096 operations a cycle on Hopper, for a tile of 128 × 64 by 128.
inline constexpr double tile_cycles = 1024;

template <class M>
using attend_with = attention<M, fixed_router, gpu>;

/// Routes of a share of sparse heads.
inline std::vector<std::int32_t> routes_at(double sparsity) {
  problem p;
  p.query_heads = query_heads;
  p.kv_heads = kv_heads;
  std::vector<std::int32_t> routes;
  for (int h = 0; h < query_heads; ++h) routes.push_back(ratio_router{sparsity}(p, 0, h, 2));
  return routes;
}

/// Tiles of 128 × 64 that all heads visit.
template <class M>
double tiles(M const& mode, problem const& p, std::vector<std::int32_t> const& routes) {
  double sum = 0;
  for (int h = 0; h < query_heads; ++h)
    for (int i = 0; i < ceil_div(p.q_len, 128); ++i)
      sum += tiles_of(mode, locate(p, 0, h, routes[static_cast<std::size_t>(h)]), i, {128, 64}).count;
  return sum;
}

}  // namespace bench
