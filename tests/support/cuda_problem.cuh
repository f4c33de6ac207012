// The random problems of random_problem.hpp on the CUDA backend: the same draws in device memory, with
// strides of 16 bytes, judged by the same rule; every problem runs twice and must give the same bits.
#pragma once

#include <cstring>
#include <thread>

#include <elastic/cuda/cuda.cuh>

#include "support/cuda_memory.hpp"
#include "support/random_problem.hpp"

namespace elastic::testing {

/// Each test names the head dims that are always compiled; ELASTIC_CUDA_MATRIX compiles all of them.
#ifdef ELASTIC_CUDA_MATRIX
template <int...>
using cuda_tested = cuda;
#else
template <int... HeadDims>
using cuda_tested = cuda_for<HeadDims...>;
#endif

/// A tensor of a random problem in device memory, poison included.
template <class T, int Rank>
struct device_tensor {
  device_buffer<T> memory;
  strided_view<T, Rank> view;
  explicit device_tensor(strided_tensor<T, Rank> const& host)
      : memory(std::span<T const>(host.memory)), view(host.view) {
    if (host.view) view.data = memory.data() + (host.view.data - host.memory.data());
  }
};

template <class M, element T, class Backend>
std::string fails_cuda_problem(Backend const& backend, std::vector<int> const& head_dims, std::uint64_t seed,
                               std::int64_t number, cudaStream_t stream = nullptr) {
  static pinned_resource pinned;
  dice r(seed, static_cast<std::uint64_t>(number));
  random_problem<T> x(r, routes<M>, {16 / sizeof(T), head_dims});
  arena memory(&pinned);
  M const mode = draw<M>{}(r, x.p, memory);
  try {
    check_mode(mode, x.p);
  } catch (error const&) {
    if (x.p.causal) throw;
    x.be_causal();
  }
  x.poison_unvisited(mode);

  device_tensor<T, 4> const q(x.q), k(x.k), v(x.v), out(x.out);
  device_tensor<float, 3> const lse(x.lse);
  // Routes outside the modes are clamped.
  std::vector<std::int32_t> given = x.routes;
  for (std::int32_t& route : given) {
    if (route == 0 && r.one_in(4)) route = -5;
    if (route == routes<M> - 1 && r.one_in(4)) route = 1 << 30;
  }
  device_buffer<std::int32_t> const route_memory{std::span<std::int32_t const>(given)};
  const_assignment_view assignment(x.assignment);
  assignment.data = route_memory.data();
  device_buffer<std::int32_t> const starts_q{std::span<std::int32_t const>(x.cu_seqlens_q)};
  device_buffer<std::int32_t> const starts_k{std::span<std::int32_t const>(x.cu_seqlens_k)};
  options o = x.o;
  o.stream = stream;
  o.cu_seqlens_q = {starts_q.data(), starts_q.size()};
  o.cu_seqlens_k = {starts_k.data(), starts_k.size()};
  if (!x.cu_seqlens_q.empty()) {
    o.max_q_len = x.p.q_len;
    o.max_k_len = x.p.k_len;
  }

  attention<M, fixed_router, Backend> const attend{mode, {}, backend};
  device_buffer<std::byte> const space(attend.workspace_bytes(attend.shape(q.view, k.view, o)));
  auto const run = [&] {
    attend.forward(q.view, k.view, v.view, out.view, lse.view, assignment, {space.data(), space.size()}, o);
    cuda_call(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    x.out.memory = out.memory.read();
    x.lse.memory = lse.memory.read();
    x.out.view.data = x.out.memory.data() + (out.view.data - out.memory.data());
    if (x.lse.view) x.lse.view.data = x.lse.memory.data() + (lse.view.data - lse.memory.data());
  };
  run();
  auto const first = x.out.memory;
  auto const first_lse = x.lse.memory;
  run();
  std::string failure;
  if (std::memcmp(first.data(), x.out.memory.data(), first.size() * sizeof(T)) != 0 ||
      (!first_lse.empty() && std::memcmp(first_lse.data(), x.lse.memory.data(), first_lse.size() * sizeof(float)) != 0))
    failure = "a second run gave other bits";
  if (failure.empty()) failure = x.touched();
  if (failure.empty())
    failure =
        misjudged<T>(mode, x.p, x.q.view, plain_keys<T>{x.k.view, x.v.view}, x.out.view, x.lse.view, x.assignment);
  return failure.empty() ? failure : failure + "\n  " + name_of_mode<M>() + ", " + x.text();
}

/// Runs fails(seed, number, stream) for `share` of the suite's problems (ELASTIC_RANDOM_PROBLEMS), on threads with a
/// stream each, as many as ELASTIC_RANDOM_THREADS or the machine says.
template <class M, element T, class Fails>
void run_cuda_suite(char const* test, int share, Fails&& fails) {
  if (device_missing(test)) return;
  auto const seed = static_cast<std::uint64_t>(environment("ELASTIC_RANDOM_SEED", 1));
  std::int64_t const total = maximum<std::int64_t>(environment("ELASTIC_RANDOM_PROBLEMS", 20000) / share, 1);
  std::int64_t const only = environment("ELASTIC_RANDOM_NUMBER", -1);
  std::int64_t const threads_given = environment("ELASTIC_RANDOM_THREADS", std::thread::hardware_concurrency());
  auto const workers =
      static_cast<unsigned>(only >= 0 ? 1 : minimum(std::int64_t{16}, maximum(std::int64_t{1}, threads_given)));
  std::vector<std::string> failures(workers);
  std::vector<int> wrong(workers);
  std::vector<std::thread> threads;
  for (unsigned worker = 0; worker < workers; ++worker)
    threads.emplace_back([&, worker] {
      cudaStream_t stream = nullptr;
      cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
      for (std::int64_t number = worker; number < total; number += workers) {
        if (only >= 0 && number != only) continue;
        std::string failure;
        try {
          failure = fails(seed, number, stream);
        } catch (std::exception const& thrown) {
          failure = std::string("threw ") + thrown.what() + "\n  " + name_of_mode<M>();
        }
        if (failure.empty()) continue;
        if (wrong[worker]++ == 0)
          failures[worker] = failure + "\n  again: ELASTIC_RANDOM_SEED=" + std::to_string(seed) +
                             " ELASTIC_RANDOM_NUMBER=" + std::to_string(number);
      }
      cudaStreamDestroy(stream);
    });
  for (auto& thread : threads) thread.join();
  int all = 0;
  for (unsigned worker = 0; worker < workers; ++worker) {
    all += wrong[worker];
    if (!failures[worker].empty()) FAIL_CHECK(failures[worker]);
  }
  MESSAGE((only >= 0 ? 1 : total) << " random problems of " << name_of_mode<M>() << ", " << std::string(dtype_name<T>)
                                  << ": " << all << " wrong");
}

/// The problems with one mode, type and the backend's head dims.
template <class M, element T, int... HeadDims>
void run_cuda_problems(cuda_for<HeadDims...> const& backend, char const* test, int share) {
  run_cuda_suite<M, T>(test, share, [&](std::uint64_t seed, std::int64_t number, cudaStream_t stream) {
    return fails_cuda_problem<M, T>(backend, {HeadDims...}, seed, number, stream);
  });
}

}  // namespace elastic::testing
