// MoBA's and vertical-slash's selection on the CUDA backend, by CUDA events: 32 query and 8 KV heads, head dim 128,
// bfloat16, causal, batch 1, every head routed to the selector. Median of 5 after two warm-ups.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <elastic/cuda/cuda.cuh>

namespace {

using namespace elastic;

constexpr int query_heads = 32, kv_heads = 8, head_dim = 128;

void call(cudaError_t status) { elastic::detail::cuda_call(status, "a call of the benchmark"); }

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

template <class Selector>
void time(char const* name, Selector const& s, std::int64_t length) {
  bfloat16 *q, *k;
  std::int32_t* routes;
  std::byte* space;
  std::size_t const rows = static_cast<std::size_t>(length);
  call(cudaMalloc(&q, rows * query_heads * head_dim * 2));
  call(cudaMalloc(&k, rows * kv_heads * head_dim * 2));
  call(cudaMalloc(&routes, query_heads * 4));
  call(cudaMemset(routes, 0, query_heads * 4));
  fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(q), rows * query_heads * head_dim, 1);
  fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(k), rows * kv_heads * head_dim, 2);
  attention<Selector, fixed_router, cuda_for<head_dim>> const attend{s};
  heads_view<bfloat16 const> const queries(q, {1, length, query_heads, head_dim}),
      keys(k, {1, length, kv_heads, head_dim});
  problem const p = attend.shape(queries, keys);
  std::size_t const bytes = attend.workspace_bytes(p);
  int const rows_at_once = attend.chunk_rows(p);
  call(cudaMalloc(&space, bytes));
  cudaEvent_t begin, end;
  call(cudaEventCreate(&begin));
  call(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 7; ++i) {
    call(cudaEventRecord(begin));
    options o;
    for (; o.q_begin < length; o.q_begin += rows_at_once) {
      o.q_end = static_cast<int>(std::min<std::int64_t>(o.q_begin + rows_at_once, length));
      attend.select(queries, keys, const_assignment_view(routes, {1, query_heads}), {space, bytes}, o);
    }
    call(cudaEventRecord(end));
    call(cudaEventSynchronize(end));
    float ms = 0;
    call(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 2) times.push_back(ms);
  }
  std::nth_element(times.begin(), times.begin() + 2, times.end());
  std::printf("| %s | %lld | %d | %.3f | %.0f |\n", name, static_cast<long long>(length), rows_at_once, times[2],
              static_cast<double>(bytes) / (1 << 20));
  for (void* memory :
       {static_cast<void*>(q), static_cast<void*>(k), static_cast<void*>(routes), static_cast<void*>(space)})
    call(cudaFree(memory));
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::int64_t> lengths;
  for (int i = 1; i < argc; ++i) lengths.push_back(std::atoll(argv[i]));
  if (lengths.empty()) lengths = {16384, 131072};
  cudaDeviceProp device;
  call(cudaGetDeviceProperties(&device, 0));
  std::printf(
      "%s, %d multiprocessors\n| selector | length | rows at once | ms | workspace MiB |\n|---|---|---|---|---|\n",
      device.name, device.multiProcessorCount);
  for (std::int64_t const length : lengths) {
    time("MoBA, 8 of blocks of 1024", moba{}, length);
    time("vertical-slash, 1000 + 6096", vertical_slash{}, length);
  }
}
