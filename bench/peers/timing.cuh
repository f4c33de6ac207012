// What the programs that time peers share: inputs about N(0, 1), the same draw as the benchmarks' own, and times as
// those take them, bursts and launches back to back.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace peers {

inline void check(cudaError_t result) {
  if (result == cudaSuccess) return;
  std::fprintf(stderr, "%s\n", cudaGetErrorString(result));
  std::exit(1);
}

template <class T>
T* allocate(std::size_t count) {
  void* memory;
  check(cudaMalloc(&memory, count * sizeof(T)));
  return static_cast<T*>(memory);
}

template <class T>
T* upload(std::vector<T> const& values) {
  T* const memory = allocate<T>(values.size());
  check(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return memory;
}

__global__ void draw(__nv_bfloat16* values, std::size_t size, unsigned seed) {
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < size;
       i += std::size_t{gridDim.x} * blockDim.x) {
    float sum = 0;
    unsigned x = static_cast<unsigned>(i) * 2654435761u + seed;
    for (int j = 0; j < 4; ++j) {
      x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
      sum += static_cast<float>(x >> 8) * 0x1p-24f - 0.5f;
    }
    values[i] = __float2bfloat16(sum * 1.7320508f);
  }
}

/// (seq, heads, head_dim) of one sequence.
struct tensors {
  int s, query_heads, kv_heads, head_dim;
  __nv_bfloat16 *q, *k, *v, *out;
  float* lse;

  tensors(int length, int q_heads, int k_heads, int dim)
      : s(length), query_heads(q_heads), kv_heads(k_heads), head_dim(dim) {
    q = drawn(query_heads, 1), k = drawn(kv_heads, 2), v = drawn(kv_heads, 3);
    out = allocate<__nv_bfloat16>(elements(query_heads));
    lse = allocate<float>(static_cast<std::size_t>(s) * query_heads);
  }
  tensors(tensors const&) = delete;
  ~tensors() {
    for (void* memory : {static_cast<void*>(q), static_cast<void*>(k), static_cast<void*>(v), static_cast<void*>(out),
                         static_cast<void*>(lse)})
      cudaFree(memory);
  }

  std::size_t elements(int heads) const { return static_cast<std::size_t>(s) * heads * head_dim; }
  __nv_bfloat16* drawn(int heads, unsigned seed) const {
    __nv_bfloat16* const values = allocate<__nv_bfloat16>(elements(heads));
    draw<<<1024, 256>>>(values, elements(heads), seed);
    return values;
  }

  /// Of the last query: about √(2/π ÷ the keys it sees), so that a run that computes nothing is seen.
  double mean_of_last_row() const {
    std::vector<__nv_bfloat16> row(static_cast<std::size_t>(query_heads) * head_dim);
    check(cudaMemcpy(row.data(), out + elements(query_heads) - row.size(), row.size() * 2, cudaMemcpyDeviceToHost));
    double sum = 0;
    for (__nv_bfloat16 x : row) sum += std::abs(__bfloat162float(x));
    return sum / static_cast<double>(row.size());
  }
};

template <class Run>
double milliseconds(Run const& run, int count) {
  static cudaEvent_t const begin = [] {
    cudaEvent_t e;
    check(cudaEventCreate(&e));
    return e;
  }();
  static cudaEvent_t const end = [] {
    cudaEvent_t e;
    check(cudaEventCreate(&e));
    return e;
  }();
  check(cudaEventRecord(begin));
  for (int i = 0; i < count; ++i) run();
  check(cudaEventRecord(end));
  check(cudaEventSynchronize(end));
  float ms;
  check(cudaEventElapsedTime(&ms, begin, end));
  return static_cast<double>(ms) / count;
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Prints the median of `launches` after a rest and two warm-ups, and that of five batches back to back.
/// `pairs`: (query, key) pairs of all heads that are attended.
template <class Run>
void report(char const* name, tensors const& on, double pairs, Run const& run, int launches = 9) {
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  std::vector<double> bursts, batches;
  for (int i = -2; i < launches; ++i)
    if (double const ms = milliseconds(run, 1); i >= 0) bursts.push_back(ms);
  double const burst = median(bursts);
  int const count = std::clamp(static_cast<int>(50 / burst), 3, 50);
  for (int i = -1; i < 5; ++i)
    if (double const ms = milliseconds(run, count); i >= 0) batches.push_back(ms);
  double const busy = median(batches), work = 4e-9 * pairs * on.head_dim;
  std::printf("%-12s S %6d  d %3d  burst %9.4f ms %5.0f TFLOP/s  busy %9.4f ms %5.0f TFLOP/s  mean |o| %.5f\n", name,
              on.s, on.head_dim, burst, work / burst, busy, work / busy, on.mean_of_last_row());
  std::fflush(stdout);
}

}  // namespace peers
