// Forward pass on the CUDA backend, by CUDA events: dense causal attention and hybrids of dense and
// streaming heads at several model sparsities, 32 query and 8 KV heads, head dim 128, bfloat16, batch 1.
// "ideal" is the dense time of the same run × the tiles that the hybrid visits ÷ those that dense visits.
// TFLOP/s count visited tiles, scaled so that dense causal is 2·S²·d·H.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include <elastic/cuda/cuda.cuh>

namespace {

using namespace elastic;

constexpr int query_heads = 32, kv_heads = 8, head_dim = 128;
using gpu = cuda_for<head_dim>;

__global__ void fill(std::uint16_t* values, std::size_t size, unsigned seed) {
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < size;
       i += std::size_t{gridDim.x} * blockDim.x) {
    float sum = 0;  // about N(0, 1)
    unsigned x = static_cast<unsigned>(i) * 2654435761u + seed;
    for (int j = 0; j < 4; ++j) {
      x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
      sum += static_cast<float>(x >> 8) * 0x1p-24f - 0.5f;
    }
    values[i] = bfloat16(sum * 1.7320508f).bits;
  }
}

void call(cudaError_t status) { elastic::detail::cuda_call(status, "a call of the benchmark"); }

struct tensors {
  int length;
  bfloat16 *q, *k, *v, *out;
  float* lse;
  std::int32_t* routes;
  std::byte* space;

  explicit tensors(int n) : length(n) {
    std::size_t const rows = static_cast<std::size_t>(n);
    call(cudaMalloc(&q, rows * query_heads * head_dim * 2));
    call(cudaMalloc(&k, rows * kv_heads * head_dim * 2));
    call(cudaMalloc(&v, rows * kv_heads * head_dim * 2));
    call(cudaMalloc(&out, rows * query_heads * head_dim * 2));
    call(cudaMalloc(&lse, rows * query_heads * 4));
    call(cudaMalloc(&routes, query_heads * 4));
    call(cudaMalloc(&space, 1 << 16));
    fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(q), rows * query_heads * head_dim, 1);
    fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(k), rows * kv_heads * head_dim, 2);
    fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(v), rows * kv_heads * head_dim, 3);
    call(cudaDeviceSynchronize());
  }
  ~tensors() {
    for (void* memory : {static_cast<void*>(q), static_cast<void*>(k), static_cast<void*>(v), static_cast<void*>(out),
                         static_cast<void*>(lse), static_cast<void*>(routes), static_cast<void*>(space)})
      cudaFree(memory);
  }

  template <class M>
  void forward(M const& mode) const {
    attention<M, fixed_router, gpu> const attend{mode};
    attend.forward(heads_view<bfloat16 const>(q, {1, length, query_heads, head_dim}),
                   heads_view<bfloat16 const>(k, {1, length, kv_heads, head_dim}),
                   heads_view<bfloat16 const>(v, {1, length, kv_heads, head_dim}),
                   heads_view<bfloat16>(out, {1, length, query_heads, head_dim}),
                   lse_view(lse, {1, query_heads, length}), const_assignment_view(routes, {1, query_heads}),
                   {space, 1 << 16});
  }
};

/// Median milliseconds of a launch, after a rest and two warm-ups.
template <class M>
double milliseconds(tensors const& x, M const& mode, int repeats) {
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  cudaEvent_t begin, end;
  call(cudaEventCreate(&begin));
  call(cudaEventCreate(&end));
  for (int i = 0; i < 2; ++i) x.forward(mode);
  std::vector<float> times;
  for (int i = 0; i < repeats; ++i) {
    call(cudaEventRecord(begin));
    x.forward(mode);
    call(cudaEventRecord(end));
    call(cudaEventSynchronize(end));
    times.push_back(0);
    call(cudaEventElapsedTime(&times.back(), begin, end));
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[static_cast<std::size_t>(repeats / 2)];
}

/// Visited key tiles of 128 × 64, all heads.
template <class M>
double tiles(tensors const& x, M const& mode, std::vector<std::int32_t> const& routes) {
  problem p;
  p.q_len = p.k_len = x.length;
  p.query_heads = query_heads;
  p.kv_heads = kv_heads;
  p.head_dim = head_dim;
  double sum = 0;
  for (int h = 0; h < query_heads; ++h)
    for (int i = 0; i < ceil_div(x.length, 128); ++i)
      sum += tiles_of(mode, locate(p, 0, h, routes[static_cast<std::size_t>(h)]), i, {128, 64}).count;
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> lengths;
  for (int i = 1; i < argc; ++i) lengths.push_back(std::atoi(argv[i]));
  if (lengths.empty()) lengths = {8192, 16384, 32768};
  cudaDeviceProp device;
  call(cudaGetDeviceProperties(&device, 0));
  int clock = 0;
  call(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, 0));
  std::printf("%s, %d multiprocessors, %d MHz at most; kernel %s\n", device.name, device.multiProcessorCount,
              clock / 1000, name_of(gpu{}.kernel<bfloat16>(problem{})));
  std::printf("| length | heads | ms | TFLOP/s | ideal ms | of ideal |\n|---|---|---|---|---|---|\n");
  for (int const length : lengths) {
    tensors const x(length);
    std::vector<std::int32_t> routes(query_heads, 0);
    call(cudaMemcpy(x.routes, routes.data(), query_heads * 4, cudaMemcpyHostToDevice));
    int const repeats = length <= 16384 ? 9 : 5;
    double const dense_tiles = tiles(x, full{}, routes);
    double const dense_flops = 2.0 * length * length * head_dim * query_heads;
    double const dense = milliseconds(x, full{}, repeats);
    std::printf("| %d | dense | %.3f | %.0f | | |\n", length, dense, dense_flops / dense * 1e-9);
    hybrid<full, streaming> const mode{full{}, streaming{1, 16}};
    for (double const sparsity : {0.0, 0.5, 0.75, 1.0}) {
      problem p;
      p.query_heads = query_heads;
      p.kv_heads = kv_heads;
      for (int h = 0; h < query_heads; ++h) routes[static_cast<std::size_t>(h)] = ratio_router{sparsity}(p, 0, h, 2);
      call(cudaMemcpy(x.routes, routes.data(), query_heads * 4, cudaMemcpyHostToDevice));
      double const share = tiles(x, mode, routes) / dense_tiles;
      double const time = milliseconds(x, mode, repeats);
      std::printf("| %d | hybrid, %.2f sparse | %.3f | %.0f | %.3f | %.1f%% |\n", length, sparsity, time,
                  dense_flops * share / time * 1e-9, dense * share, 100 * dense * share / time);
    }
    double const again = milliseconds(x, full{}, repeats);
    std::printf("| %d | dense, again | %.3f | %.0f | | |\n", length, again, dense_flops / again * 1e-9);
  }
}
