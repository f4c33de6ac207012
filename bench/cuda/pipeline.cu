// The pipeline in one CUDA graph: route, select and forward of 32 query and 8 KV heads, head dim 128, bfloat16,
// causal, batch 1, by the MLP router with untrained weights. "steps" adds up each step's time inside a graph of
// many, one behind the other; "replay" is one replay of the whole pipeline, "calls" the same without a graph.
// "beyond" is replay against steps.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
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
    // Heads lean one way each, so that the router decides otherwise for each.
    unsigned head = static_cast<unsigned>(i % (kv_heads * head_dim)) * 2246822519u + seed;
    head ^= head >> 15, head *= 0x85ebca6bu, head ^= head >> 13;
    values[i] = bfloat16(sum * 1.7320508f + (seed == 2 ? static_cast<float>(head >> 8) * 0x1p-22f - 2.f : 0.f)).bits;
  }
}

void call(cudaError_t status) { elastic::detail::cuda_call(status, "a call of the benchmark"); }

template <class T>
T* allocate(std::size_t size) {
  void* memory = nullptr;
  call(cudaMalloc(&memory, size * sizeof(T)));
  return static_cast<T*>(memory);
}

using enqueue = std::function<void(cudaStream_t)>;

double median_of(int repeats, cudaStream_t stream, enqueue const& run) {
  cudaEvent_t begin, end;
  call(cudaEventCreate(&begin));
  call(cudaEventCreate(&end));
  for (int i = 0; i < 2; ++i) run(stream);
  std::vector<float> times(static_cast<std::size_t>(repeats));
  for (float& time : times) {
    call(cudaStreamSynchronize(stream));
    call(cudaEventRecord(begin, stream));
    run(stream);
    call(cudaEventRecord(end, stream));
    call(cudaEventSynchronize(end));
    call(cudaEventElapsedTime(&time, begin, end));
  }
  call(cudaEventDestroy(begin));
  call(cudaEventDestroy(end));
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[static_cast<std::size_t>(repeats / 2)];
}

/// Milliseconds of one of `count` in a graph.
double in_graph(int count, cudaStream_t stream, enqueue const& run) {
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  call(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  for (int i = 0; i < count; ++i) run(stream);
  call(cudaStreamEndCapture(stream, &graph));
  call(cudaGraphInstantiate(&replay, graph, 0));
  double const time = median_of(9, stream, [&](cudaStream_t on) { call(cudaGraphLaunch(replay, on)); });
  call(cudaGraphExecDestroy(replay));
  call(cudaGraphDestroy(graph));
  return time / count;
}

template <class M>
void measure(int length, char const* name, M const& mode, mlp_router const& router) {
  attention<M, mlp_router, gpu> const attend{mode, router};
  std::size_t const rows = static_cast<std::size_t>(length) * head_dim;
  bfloat16 *const q = allocate<bfloat16>(rows * query_heads), *const k = allocate<bfloat16>(rows * kv_heads),
                  *const v = allocate<bfloat16>(rows * kv_heads), *const out = allocate<bfloat16>(rows * query_heads);
  std::int32_t* const routes = allocate<std::int32_t>(query_heads);
  fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(q), rows * query_heads, 1);
  fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(k), rows * kv_heads, 2);
  fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(v), rows * kv_heads, 3);
  heads_view<bfloat16 const> const Q(q, {1, length, query_heads, head_dim}), K(k, {1, length, kv_heads, head_dim}),
      V(v, {1, length, kv_heads, head_dim});
  heads_view<bfloat16> const O(out, {1, length, query_heads, head_dim});
  assignment_view const assignment(routes, {1, query_heads});
  std::size_t const bytes = attend.workspace_bytes(attend.shape(Q, K));
  std::byte* const space = allocate<std::byte>(bytes);
  workspace const memory(space, bytes);
  cudaStream_t stream;
  call(cudaStreamCreate(&stream));
  auto const on = [](cudaStream_t s) {
    options o;
    o.stream = s;
    return o;
  };
  enqueue const route = [&](cudaStream_t s) { attend.route(K, assignment, memory, on(s)); };
  enqueue const select = [&](cudaStream_t s) { attend.select(Q, K, assignment, memory, on(s)); };
  enqueue const forward = [&](cudaStream_t s) { attend.forward(Q, K, V, O, {}, assignment, memory, on(s)); };
  enqueue const all = [&](cudaStream_t s) { route(s), select(s), forward(s); };
  all(stream);
  call(cudaStreamSynchronize(stream));
  std::vector<std::int32_t> chosen(query_heads);
  call(cudaMemcpy(chosen.data(), routes, query_heads * 4, cudaMemcpyDeviceToHost));
  int const count = length <= 16384 ? 10 : 3;
  double const routing = in_graph(20, stream, route), selecting = selects<M> ? in_graph(count, stream, select) : 0,
               attending = in_graph(count, stream, forward), steps = routing + selecting + attending;
  double const replay = in_graph(1, stream, all), direct = median_of(9, stream, all);
  std::printf("| %d | %s | %d of 32 | %.4f | %.4f | %.4f | %.4f | %.4f | %.4f | %.1f%% |\n", length, name,
              static_cast<int>(std::count(chosen.begin(), chosen.end(), 1)), routing, selecting, attending, steps,
              replay, direct, 100 * (replay / steps - 1));
  call(cudaStreamDestroy(stream));
  for (void* pointer : {static_cast<void*>(q), static_cast<void*>(k), static_cast<void*>(v), static_cast<void*>(out),
                        static_cast<void*>(routes), static_cast<void*>(space)})
    cudaFree(pointer);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> lengths;
  for (int i = 1; i < argc; ++i) lengths.push_back(std::atoi(argv[i]));
  if (lengths.empty()) lengths = {1024, 4096, 16384, 65536};
  mlp_router const router{upload(mlp_weights::untrained(head_dim, 5))};
  std::printf(
      "| length | heads | sparse | route ms | select ms | forward ms | steps ms | replay ms | calls ms | beyond |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n");
  for (int const length : lengths) {
    measure(length, "full, streaming", hybrid<full, streaming>{full{}, streaming{1, 16}}, router);
    measure(length, "full, antidiagonal", hybrid<full, antidiagonal>{full{}, antidiagonal{}}, router);
  }
}
