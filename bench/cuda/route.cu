// The MLP router on the CUDA backend: 100 launches in one graph, divided, by CUDA events, weights warm. 32 query
// and 8 KV heads, head dim 128, bfloat16. Boundary pooling reads 200 tokens of a head; the mean reads them all.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <elastic/cuda/cuda.cuh>

namespace {

using namespace elastic;

constexpr int query_heads = 32, kv_heads = 8, head_dim = 128, launches = 100;

__global__ void fill(std::uint16_t* values, std::size_t size) {
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < size;
       i += std::size_t{gridDim.x} * blockDim.x) {
    unsigned x = static_cast<unsigned>(i) * 2654435761u;
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
    values[i] = bfloat16(static_cast<float>(x >> 8) * 0x1p-22f - 2.f).bits;
  }
}

void call(cudaError_t status) { elastic::detail::cuda_call(status, "a call of the benchmark"); }

/// Median microseconds of a launch over `repeats` replays.
template <class Enqueue>
double microseconds(cudaStream_t stream, int count, int repeats, Enqueue&& enqueue) {
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  call(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  for (int i = 0; i < count; ++i) enqueue();
  call(cudaStreamEndCapture(stream, &graph));
  call(cudaGraphInstantiate(&replay, graph, 0));
  cudaEvent_t begin, end;
  call(cudaEventCreate(&begin));
  call(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < repeats + 2; ++i) {
    call(cudaEventRecord(begin, stream));
    call(cudaGraphLaunch(replay, stream));
    call(cudaEventRecord(end, stream));
    call(cudaEventSynchronize(end));
    float time = 0;
    call(cudaEventElapsedTime(&time, begin, end));
    if (i >= 2) times.push_back(time);
  }
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return 1e3 * times[static_cast<std::size_t>(repeats / 2)] / count;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t const longest = argc > 1 ? static_cast<std::size_t>(std::atol(argv[1])) : std::size_t{1} << 20;
  bfloat16* keys = nullptr;
  std::int32_t* routes = nullptr;
  std::size_t const size = longest * kv_heads * head_dim;
  call(cudaMalloc(&keys, size * 2));
  call(cudaMalloc(&routes, 1024 * query_heads * 4));
  fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(keys), size);
  call(cudaDeviceSynchronize());
  cudaStream_t stream;
  call(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  options o;
  o.stream = stream;
  cudaDeviceProp device;
  call(cudaGetDeviceProperties(&device, 0));
  std::printf("%s, %d multiprocessors\n| pooling | batch | length | µs |\n|---|---|---|---|\n", device.name,
              device.multiProcessorCount);
  auto const time = [&](pooling how, std::size_t batch, std::size_t length) {
    mlp_router router{upload(mlp_weights::untrained(head_dim, 1))};
    router.pooling = how;
    attention<hybrid<full, streaming>, mlp_router, cuda_for<head_dim>> const attend({}, router);
    std::int64_t const b = static_cast<std::int64_t>(batch), n = static_cast<std::int64_t>(length);
    heads_view<bfloat16 const> const view(keys, {b, n, kv_heads, head_dim});
    bool const slow = how == pooling::mean && batch * length > 65536;
    double const each = microseconds(stream, slow ? 10 : launches, slow ? 5 : 21, [&] {
      attend.route(view, assignment_view(routes, {b, query_heads}), {}, o);
    });
    std::printf("| %s | %zu | %zu | %.2f |\n", how == pooling::mean ? "mean" : "boundary", batch, length, each);
  };
  for (std::size_t length = 512; length <= longest; length *= 2) time(pooling::boundary, 1, length);
  for (std::size_t batch : {2, 3, 4, 8, 16, 64}) time(pooling::boundary, batch, 4096);
  for (std::size_t length : {4096, 65536, 1048576})
    if (length <= longest) time(pooling::mean, 1, length);
  attention<hybrid<full, streaming>, ratio_router, cuda_for<head_dim>> const simple;
  heads_view<bfloat16 const> const view(keys, {1, 512, kv_heads, head_dim});
  std::printf("| a head router, for the floor of a launch | 1 | 512 | %.2f |\n",
              microseconds(stream, launches, 21, [&] {
                simple.route(view, assignment_view(routes, {1, query_heads}), {}, o);
              }));
}
